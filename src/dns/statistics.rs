//! The counts of the DNS client.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals of a [`Dns`](super::Dns) since the start, kept over a reload.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts<T> {
    /// Look-ups answered from the cache.
    pub hits: T,
    /// Look-ups that the cache could not answer.
    pub misses: T,
    /// Look-ups that waited for an equal one already under way; part of `misses`.
    pub coalesced: T,
    /// Attempts: questions put to a name server. An attempt counts once, with its
    /// retransmissions, TCP after truncation, and the same without EDNS.
    pub queries: T,
    /// Attempts that brought nothing in time.
    pub timeouts: T,
    /// Attempts that brought an error: an RCODE such as SERVFAIL, a server out of reach, or no DNS
    /// answer.
    pub errors: T,
    /// Look-ups under way at the time of a reading.
    #[cfg(any(test, feature = "testing"))]
    pub in_flight: T,
    /// Answers in the cache at the time of a reading, about; some may have expired.
    #[cfg(any(test, feature = "testing"))]
    pub entries: T,
}

/// The counts as they grow.
pub(super) type Counters = Counts<AtomicU64>;

/// A reading of the counts.
#[cfg(any(test, feature = "testing"))]
pub type Statistics = Counts<u64>;

#[cfg(any(test, feature = "testing"))]
impl Counters {
    pub(super) fn read(&self, in_flight: u64, entries: u64) -> Statistics {
        let [hits, misses, coalesced, queries, timeouts, errors] = [
            &self.hits,
            &self.misses,
            &self.coalesced,
            &self.queries,
            &self.timeouts,
            &self.errors,
        ]
        .map(|count| count.load(Ordering::Relaxed));
        Counts { hits, misses, coalesced, queries, timeouts, errors, in_flight, entries }
    }
}

/// Adds one to a count.
pub(super) fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
