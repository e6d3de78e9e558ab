//! The counts of the DNS client.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread::LocalKey,
    time::Duration,
};

use super::answer::{Answer, Failure, RecordType};
use crate::{
    mail::results::{Words, words},
    tally::{ByThread, Distribution, Histogram, Own, Part, Tally, add_alone},
};

words! {
    /// The outcome of a look-up for which name servers were asked.
    LookupOutcome {
        /// Records.
        Found = "found",
        /// The name does not exist.
        NxDomain = "nxdomain",
        /// The name exists, records of the type do not.
        NoData = "nodata",
        /// No answer in time.
        Timeout = "timeout",
        /// An error of the server, such as SERVFAIL, or an answer that is not to be taken.
        Rcode = "rcode",
        /// The server asks no others.
        NoRecursion = "norecursion",
        /// An answer that cannot be read.
        Malformed = "malformed",
        /// No server could be reached.
        Network = "network",
    }
}

impl LookupOutcome {
    fn of(outcome: &Result<Answer, Failure>) -> Self {
        match outcome {
            Ok(_) => Self::Found,
            Err(Failure::NxDomain) => Self::NxDomain,
            Err(Failure::NoData) => Self::NoData,
            Err(Failure::Timeout) => Self::Timeout,
            Err(Failure::Rcode(_)) => Self::Rcode,
            Err(Failure::NoRecursion) => Self::NoRecursion,
            Err(Failure::Malformed) => Self::Malformed,
            Err(Failure::Network) => Self::Network,
        }
    }
}

/// Counts of each outcome.
type Outcomes<T> = [T; RecordType::ALL.len()];

/// Totals of a [`Dns`](super::Dns) since the start, as they grow, kept over a reload.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Look-ups answered from the cache, which most are.
    pub(super) hits: ByThread<Hits>,
    /// Look-ups that the cache could not answer.
    pub(super) misses: AtomicU64,
    /// Look-ups that waited for an equal one already under way; part of `misses`.
    pub(super) coalesced: AtomicU64,
    /// Attempts: questions put to a name server. An attempt counts once, with its retransmissions,
    /// TCP after truncation, and the same without EDNS.
    pub(super) queries: AtomicU64,
    /// Attempts that brought nothing in time.
    pub(super) timeouts: AtomicU64,
    /// Attempts that brought an error: an RCODE such as SERVFAIL, a server out of reach, or no DNS
    /// answer.
    pub(super) errors: AtomicU64,
    /// Look-ups that came to an end, by type and outcome.
    lookups: Outcomes<Tally<{ LookupOutcome::ALL.len() }>>,
    /// How long these took.
    seconds: Histogram,
    /// Look-ups that were begun before their turn: those whose turn came, and the others.
    prefetches_used: AtomicU64,
    prefetches_unused: AtomicU64,
}

/// The look-ups that a thread answered from the cache.
#[derive(Debug, Default)]
pub(super) struct Hits(AtomicU64);

impl Part for Hits {
    fn own() -> &'static LocalKey<Own<Self>> {
        thread_local! {
            static OWN: Own<Hits> = const { Own::new() };
        }
        &OWN
    }

    fn absorb(&self, other: &Self) {
        add_alone(&self.0, other.0.load(Ordering::Relaxed));
    }
}

/// A reading of the counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Look-ups answered from the cache.
    pub hits: u64,
    /// Look-ups that the cache could not answer.
    pub misses: u64,
    /// Look-ups that waited for an equal one already under way; part of `misses`.
    pub coalesced: u64,
    /// Attempts: questions put to a name server.
    pub queries: u64,
    /// Attempts that brought nothing in time.
    pub timeouts: u64,
    /// Attempts that brought an error.
    pub errors: u64,
    /// Look-ups for which servers were asked, by type and outcome, each in the order of its words.
    pub lookups: Outcomes<[u64; LookupOutcome::ALL.len()]>,
    /// How long these took.
    pub seconds: Distribution,
    /// Look-ups that were begun before their turn, which came.
    pub prefetches_used: u64,
    /// Look-ups that were begun before their turn, which did not come.
    pub prefetches_unused: u64,
    /// Look-ups under way.
    pub in_flight: u64,
    /// Answers in the cache, about; some may have expired.
    pub entries: u64,
}

impl Counters {
    /// Counts a look-up that came to an end.
    pub(super) fn resolved(
        &self,
        record_type: RecordType,
        outcome: &Result<Answer, Failure>,
        took: Duration,
    ) {
        if let Some(outcomes) = self.lookups.get(record_type as usize) {
            outcomes.count(LookupOutcome::of(outcome) as usize);
        }
        self.seconds.observe(took);
    }

    /// Counts a look-up that was answered from the cache.
    pub(super) fn hit(&self) {
        self.hits.with_own(|hits| add_alone(&hits.0, 1));
    }

    /// Counts look-ups that were begun before their turn, when it is known whether that came.
    pub(super) fn prefetched(&self, used: u64, unused: u64) {
        self.prefetches_used.fetch_add(used, Ordering::Relaxed);
        self.prefetches_unused.fetch_add(unused, Ordering::Relaxed);
    }

    pub(super) fn read(&self, in_flight: u64, entries: u64) -> Statistics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Statistics {
            hits: read(&self.hits.total().0),
            misses: read(&self.misses),
            coalesced: read(&self.coalesced),
            queries: read(&self.queries),
            timeouts: read(&self.timeouts),
            errors: read(&self.errors),
            lookups: self.lookups.each_ref().map(Tally::read),
            seconds: self.seconds.read(),
            prefetches_used: read(&self.prefetches_used),
            prefetches_unused: read(&self.prefetches_unused),
            in_flight,
            entries,
        }
    }
}

/// Adds one to a count.
pub(super) fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
