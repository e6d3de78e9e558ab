//! DNS answers that were recorded, and a client that knows nothing else.
//!
//! A [`Recording`] keeps each answer that a client gets; a [`Replay`] gives the same answers again.
//! In between they are lines of text, such as
//!
//! ```text
//! example.com TXT "v=spf1 mx -all"
//! example.com MX 10 mx.example.com
//! mx.example.com A 192.0.2.1
//! 1.2.0.192.in-addr.arpa PTR !NXDOMAIN
//! _dmarc.example.com TXT !timeout (192.0.2.53)
//! ```

mod lines;

use std::{
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    answer::{Answer, Failure, RecordType},
    name::Name,
};

/// The failure of a look-up that the record does not have.
const NOT_RECORDED: &str = "not recorded";

/// A question.
pub type Question = (Name, RecordType);

/// A question, and what came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The name that was asked for.
    pub name: Name,
    /// The type that was asked for.
    pub record_type: RecordType,
    /// The answer; `None` where nothing waited for it until it came.
    pub answer: Option<Result<Answer, Failure>>,
    /// The servers that were asked in vain.
    pub servers: Vec<SocketAddr>,
}

/// Answers in the order of their questions, each question once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entries {
    entries: Vec<Entry>,
    places: HashMap<Question, usize>,
}

impl Entries {
    /// The entries, in the order of the questions.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entry of a question.
    pub fn find(&self, name: &Name, record_type: RecordType) -> Option<&Entry> {
        self.entries.get(*self.places.get(&(name.clone(), record_type))?)
    }

    /// The servers that were asked in vain.
    fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        let entry = self.find(name, record_type);
        entry.map_or_else(Vec::new, |entry| entry.servers.clone())
    }

    /// The place of the entry of a question, which is made where there is none.
    fn place(&mut self, name: &Name, record_type: RecordType) -> usize {
        *self.places.entry((name.clone(), record_type)).or_insert_with(|| {
            self.entries.push(Entry {
                name: name.clone(),
                record_type,
                answer: None,
                servers: Vec::new(),
            });
            self.entries.len() - 1
        })
    }

    /// The entry of a question, made where there is none.
    fn entry(&mut self, name: &Name, record_type: RecordType) -> Option<&mut Entry> {
        let place = self.place(name, record_type);
        self.entries.get_mut(place)
    }
}

/// The answers that a client got so far.
///
/// A question that was answered has that answer from then on, so that the answers kept are all that
/// the methods saw.
#[derive(Debug, Default)]
pub struct Recording {
    kept: Mutex<Kept>,
}

/// What a recording keeps.
#[derive(Debug, Default)]
struct Kept {
    entries: Entries,
    times: HashMap<Question, Duration>,
}

impl Recording {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was recorded so far.
    pub fn entries(&self) -> Entries {
        self.kept().entries.clone()
    }

    /// How long the answer to a question took; `None` where there is none.
    pub fn took(&self, name: &Name, record_type: RecordType) -> Option<Duration> {
        self.kept().times.get(&(name.clone(), record_type)).copied()
    }

    /// Notes that a question is asked; returns its answer where it was answered before.
    pub(super) fn ask(
        &self,
        name: &Name,
        record_type: RecordType,
    ) -> Option<Result<Answer, Failure>> {
        self.kept().entries.entry(name, record_type).and_then(|entry| entry.answer.clone())
    }

    /// Keeps an answer, the servers that were asked in vain, and how long it took; returns the
    /// answer that counts, which may have come before.
    pub(super) fn keep(
        &self,
        name: &Name,
        record_type: RecordType,
        answer: Result<Answer, Failure>,
        servers: Vec<SocketAddr>,
        took: Duration,
    ) -> Result<Answer, Failure> {
        let mut kept = self.kept();
        kept.times.entry((name.clone(), record_type)).or_insert(took);
        match kept.entries.entry(name, record_type) {
            Some(Entry { answer: Some(first), .. }) => first.clone(),
            Some(entry) => {
                entry.servers = servers;
                entry.answer.insert(answer).clone()
            }
            None => answer,
        }
    }

    /// The servers that were asked in vain.
    pub(super) fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        self.kept().entries.asked(name, record_type)
    }
}

/// Recorded answers, in place of name servers.
#[derive(Debug)]
pub struct Replay {
    entries: Entries,
    missing: Mutex<Vec<Question>>,
}

impl Replay {
    /// Knows these answers and no others.
    pub fn new(entries: Entries) -> Self {
        Self { entries, missing: Mutex::default() }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Question>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The questions that were asked and are not recorded, each once, in their order.
    pub fn missing(&self) -> Vec<Question> {
        self.noted().clone()
    }

    /// The recorded answer. Where nothing waited for it when it was recorded, it does not come; a
    /// question that was not recorded fails.
    pub(super) async fn lookup(
        &self,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Answer, Failure> {
        match self.entries.find(name, record_type).map(|entry| &entry.answer) {
            Some(Some(answer)) => answer.clone(),
            Some(None) => pending().await,
            None => {
                let (mut missing, question) = (self.noted(), (name.clone(), record_type));
                if !missing.contains(&question) {
                    missing.push(question);
                }
                Err(Failure::Rcode(NOT_RECORDED))
            }
        }
    }

    pub(super) fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        self.entries.asked(name, record_type)
    }
}

#[cfg(test)]
mod tests;
