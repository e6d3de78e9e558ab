//! The look-ups of a message, and the answers that are known by now.

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

/// The state of a look-up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State<T = Published> {
    /// The answer.
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

/// A look-up. It runs only while a task waits for it.
type Lookup<T> = Shared<BoxFuture<'static, Result<T, Problem>>>;

fn state<T: Clone>(lookup: Option<&Lookup<T>>) -> State<T> {
    match lookup.and_then(Shared::peek) {
        Some(Ok(found)) => State::Known(found.clone()),
        Some(Err(problem)) => State::Failed(problem.clone()),
        None => State::Pending,
    }
}

/// A question to DNS.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Question {
    /// The record of a domain.
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
    /// The answers that are known by now.
    pub(super) fn view(&self) -> View<'_> {
        View { table: self.0.lock().unwrap_or_else(PoisonError::into_inner), wanted: Vec::new() }
    }

    /// Judges by what is known, looks up what that asked for, and judges anew with each answer,
    /// until nothing is asked for any more.
    ///
    /// No answer waits for another one. The future may be dropped at any time: answers that have
    /// come stay, and [`Self::view`] has them.
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
            // Other answers that have come by now are taken along.
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

/// The answers that are known at one moment, and the questions that are open.
pub(super) struct View<'a> {
    table: MutexGuard<'a, Table>,
    wanted: Vec<Question>,
}

impl View<'_> {
    /// The record of a domain; if it is not known yet, it is looked up.
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

    /// The number of open questions, for [`Self::withdraw`].
    pub(super) fn mark(&self) -> usize {
        self.wanted.len()
    }

    /// Withdraws the questions since a mark, whose answers turned out to make no difference.
    pub(super) fn withdraw(&mut self, mark: usize) {
        self.wanted.truncate(mark);
    }
}
