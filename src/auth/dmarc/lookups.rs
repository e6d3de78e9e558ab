//! What was asked for a message, and what is known by now.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};

use super::{
    outcome::Problem,
    published::{Published, exists, query},
};
use crate::{
    dns::{Dns, Failure, Name},
    mail::domain::Domain,
};

/// What is known of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State<T = Published> {
    /// What is there.
    Known(T),
    /// There was no answer, and none is to come.
    Failed(Problem),
    /// There is no answer yet.
    Pending,
}

impl State {
    /// Why it is unknown what is published for a domain; `None` where it is known.
    pub(super) fn trouble(&self, domain: &Domain) -> Option<Problem> {
        match self {
            Self::Known(_) => None,
            Self::Failed(problem) => Some(problem.clone()),
            Self::Pending => Some(late(
                Name::new(&format!("_dmarc.{domain}")).unwrap_or_else(|| Name::from(domain)),
            )),
        }
    }
}

/// The trouble with a name that has not been answered when the time is up.
pub(super) fn late(name: Name) -> Problem {
    Problem::Lookup(name, Failure::Timeout)
}

/// A look-up. Whoever waits for it drives it; it rests while nobody does.
type Lookup<T> = Shared<BoxFuture<'static, Result<T, Problem>>>;

fn state<T: Clone>(lookup: Option<&Lookup<T>>) -> State<T> {
    match lookup.and_then(Shared::peek) {
        Some(Ok(found)) => State::Known(found.clone()),
        Some(Err(problem)) => State::Failed(problem.clone()),
        None => State::Pending,
    }
}

/// What is asked of DNS.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Question {
    /// What is published for a domain.
    Record(Domain),
    /// Whether a domain exists.
    Existence(Domain),
}

/// The look-ups of a message: each is made once, however often it is asked for. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Lookups(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    published: HashMap<Domain, Lookup<Published>>,
    existing: HashMap<Domain, Lookup<bool>>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

impl Lookups {
    /// What is known by now.
    pub(super) fn view(&self) -> View<'_> {
        View { table: self.0.lock().unwrap_or_else(PoisonError::into_inner), wanted: Vec::new() }
    }

    /// Judges by what is known, looks up what that asked for, and judges anew with each answer,
    /// until nothing is asked for any more.
    ///
    /// No answer waits for another one. The future may be dropped at any time: what was found by
    /// then stays, and [`Self::view`] has it.
    pub(super) async fn advance<T>(&self, dns: &Dns, judge: impl Fn(&mut View<'_>) -> T) -> T {
        let mut under_way = FuturesUnordered::new();
        let mut asked = HashSet::new();
        loop {
            let (judgement, wanted) = {
                let mut view = self.view();
                (judge(&mut view), view.wanted)
            };
            if wanted.is_empty() {
                return judgement;
            }
            for question in wanted {
                if asked.insert(question.clone()) {
                    under_way.push(self.look_up(dns, question));
                }
            }
            if under_way.next().await.is_none() {
                return judgement;
            }
            // What else is there by now is taken along.
            while let Some(Some(())) = under_way.next().now_or_never() {}
        }
    }

    fn look_up(&self, dns: &Dns, question: Question) -> BoxFuture<'static, ()> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dns = dns.clone();
        match question {
            Question::Record(domain) => {
                let key = domain.clone();
                let begin = || async move { query(&dns, &domain).await }.boxed().shared();
                let lookup = table.published.entry(key).or_insert_with(begin);
                lookup.clone().map(|_| ()).boxed()
            }
            Question::Existence(domain) => {
                let key = domain.clone();
                let begin = || async move { exists(&dns, &domain).await }.boxed().shared();
                let lookup = table.existing.entry(key).or_insert_with(begin);
                lookup.clone().map(|_| ()).boxed()
            }
        }
    }
}

/// What is known at one moment, and what would have to be known beyond.
pub(super) struct View<'a> {
    table: MutexGuard<'a, Table>,
    wanted: Vec<Question>,
}

impl View<'_> {
    /// What is published for a domain; if that is not known yet, it is looked up.
    pub(super) fn ask(&mut self, domain: &Domain) -> State {
        let state = state(self.table.published.get(domain));
        if state == State::Pending {
            self.wanted.push(Question::Record(domain.clone()));
        }
        state
    }

    /// Whether a domain exists; if that is not known yet, it is looked up.
    pub(super) fn ask_existence(&mut self, domain: &Domain) -> State<bool> {
        let state = state(self.table.existing.get(domain));
        if state == State::Pending {
            self.wanted.push(Question::Existence(domain.clone()));
        }
        state
    }

    /// How much was asked for so far, for [`Self::withdraw`].
    pub(super) fn mark(&self) -> usize {
        self.wanted.len()
    }

    /// What was asked for since a mark turned out to make no difference.
    pub(super) fn withdraw(&mut self, mark: usize) {
        self.wanted.truncate(mark);
    }
}
