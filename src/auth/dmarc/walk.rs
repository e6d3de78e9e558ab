//! The DNS tree walk: from a domain to its organizational domain (RFC 9989 §4.10).

use std::{iter, sync::Arc};

use super::{
    lookups::{State, View},
    outcome::{DiscoveryStep, Problem},
    published::Published,
    record::{Psd, Record},
};
#[cfg(any(test, feature = "testing"))]
use crate::dns::Dns;
use crate::mail::domain::Domain;

/// A domain of this many labels or more is cut to [`LABELS_AFTER_CUT`] labels after the first query
/// (RFC 9989 §4.10, step 4).
const LABELS_OF_LONG_DOMAIN: usize = 8;
/// See [`LABELS_OF_LONG_DOMAIN`].
const LABELS_AFTER_CUT: usize = 7;

/// Finds the organizational domain of a domain (RFC 9989 §4.10.2), with at most 8 queries.
///
/// # Errors
///
/// The [`Problem::Lookup`] that keeps it unknown.
#[cfg(any(test, feature = "testing"))]
pub async fn organizational_domain(dns: &Dns, domain: &Domain) -> Result<Domain, Problem> {
    let lookups = super::lookups::Lookups::default();
    let find = |view: &mut View<'_>| {
        Walk::new(view, domain).climb().map(|climb| climb.organizational_domain)
    };
    lookups.advance(dns, find).await
}

/// The steps of a walk, as far as they are known.
#[derive(Debug)]
pub(super) struct Walk {
    start: Domain,
    /// From the start upwards, to the end of the walk; beyond a name that is not known, to where
    /// the walk may end.
    pub(super) steps: Vec<(Domain, State)>,
}

impl Walk {
    /// Walks up the tree. All names that the walk may come to are asked for at once, so that one
    /// that is silent hides no other.
    pub(super) fn new(view: &mut View<'_>, start: &Domain) -> Self {
        let mut walk = Self { start: start.clone(), steps: Vec::new() };
        let mut ended = walk.step(start, view.ask(start));
        if !ended {
            for target in targets_above(start) {
                ended = ended || walk.step(&target, view.ask(&target));
            }
        }
        walk
    }

    /// Takes the state of a step; returns whether the walk is known to end here.
    fn step(&mut self, domain: &Domain, state: State) -> bool {
        let ended =
            matches!(&state, State::Known(published) if published.psd().is_some_and(ends_walk));
        self.steps.push((domain.clone(), state));
        ended
    }

    /// The steps that are not known.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &(Domain, State)> {
        self.steps.iter().filter(|(_, state)| !matches!(state, State::Known(_)))
    }

    /// Whether an answer is still to come that the walk may depend on.
    pub(super) fn is_pending(&self) -> bool {
        self.steps.iter().any(|(_, state)| *state == State::Pending)
    }

    /// The result of the walk.
    ///
    /// # Errors
    ///
    /// The first trouble on the way.
    pub(super) fn climb(&self) -> Result<Climb, Problem> {
        if let Some(problem) = self.trouble() {
            return Err(problem);
        }
        let mut climb = Climb {
            organizational_domain: self.organizational_domain(|_| None),
            records: Vec::new(),
            several: None,
        };
        for (domain, state) in &self.steps {
            match state {
                State::Known(Published::One(record)) => {
                    climb.records.push((domain.clone(), Arc::clone(record)));
                }
                State::Known(Published::Several) => {
                    climb.several.get_or_insert_with(|| domain.clone());
                }
                _ => {}
            }
        }
        Ok(climb)
    }

    /// The first trouble on the way.
    pub(super) fn trouble(&self) -> Option<Problem> {
        self.steps.iter().find_map(|(domain, state)| state.trouble(domain))
    }

    /// Selects the organizational domain (RFC 9989 §4.10.2). `assumed` gives the `psd` of the
    /// record that each unknown name is supposed to have.
    ///
    /// Only the last record can have `psd=y` or `psd=n`, since either ends the walk.
    pub(super) fn organizational_domain(&self, assumed: impl Fn(&Domain) -> Option<Psd>) -> Domain {
        let mut last = None;
        for (domain, state) in &self.steps {
            let psd = match state {
                State::Known(published) => published.psd(),
                State::Failed(_) | State::Pending => assumed(domain),
            };
            last = psd.map(|psd| (domain, psd)).or(last);
            if psd.is_some_and(ends_walk) {
                break;
            }
        }
        match last {
            Some((domain, Psd::Yes)) if *domain != self.start => ancestors(&self.start)
                .find(|below| below.parent().as_ref() == Some(domain))
                .unwrap_or_else(|| self.start.clone()),
            Some((domain, _)) => domain.clone(),
            None => self.start.clone(),
        }
    }
}

fn ends_walk(psd: Psd) -> bool {
    psd != Psd::Unstated
}

/// The result of a walk.
#[derive(Clone, Debug)]
pub(super) struct Climb {
    /// The organizational domain of the start.
    pub(super) organizational_domain: Domain,
    /// From the longest domain to the shortest.
    records: Vec<(Domain, Arc<Record>)>,
    /// The first domain that had several records.
    pub(super) several: Option<Domain>,
}

impl Climb {
    /// Selects the record that applies to the start, which has none of its own: that of the
    /// organizational domain, else that of the public suffix domain (RFC 9989 §4.10.1).
    pub(super) fn policy_record(&self) -> Option<(&Domain, &Arc<Record>, DiscoveryStep)> {
        let at = |step| move |(domain, record)| (domain, record, step);
        let mut records = self.records.iter().map(|(domain, record)| (domain, record));
        records
            .clone()
            .find(|(domain, _)| **domain == self.organizational_domain)
            .map(at(DiscoveryStep::Organizational))
            .or_else(|| records.next_back().map(at(DiscoveryStep::PublicSuffix)))
    }
}

/// The domain and all above it, up to the top-level domain.
fn ancestors(domain: &Domain) -> impl Iterator<Item = Domain> {
    iter::successors(Some(domain.clone()), Domain::parent)
}

/// The targets of a walk after the start: at most 7.
fn targets_above(start: &Domain) -> Vec<Domain> {
    let labels = start.labels().count();
    let skipped =
        if labels >= LABELS_OF_LONG_DOMAIN { labels.saturating_sub(LABELS_AFTER_CUT) } else { 1 };
    ancestors(start).skip(skipped).collect()
}
