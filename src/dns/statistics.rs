//! The counts of the DNS client.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the counters of a [`Dns`](super::Dns): totals since the start, kept over a reload.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Look-ups answered from the cache.
    pub hits: u64,
    /// Look-ups that the cache could not answer.
    pub misses: u64,
    /// Look-ups that waited for an equal one already under way; part of `misses`.
    pub coalesced: u64,
    /// Attempts: questions put to a name server. An attempt counts once, with its
    /// retransmissions, TCP after truncation, and the same without EDNS.
    pub queries: u64,
    /// Attempts that brought nothing in time.
    pub timeouts: u64,
    /// Attempts that brought an error: an RCODE such as SERVFAIL, a server out of reach, or no DNS
    /// answer.
    pub errors: u64,
    /// Look-ups under way now.
    pub in_flight: u64,
    /// Answers in the cache now, about; some may have expired.
    pub entries: u64,
}

/// The counters behind [`Statistics`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) coalesced: Counter,
    pub(super) queries: Counter,
    pub(super) timeouts: Counter,
    pub(super) errors: Counter,
}

#[cfg(any(test, feature = "testing"))]
impl Counters {
    pub(super) fn read(&self) -> Statistics {
        Statistics {
            hits: self.hits.read(),
            misses: self.misses.read(),
            coalesced: self.coalesced.read(),
            queries: self.queries.read(),
            timeouts: self.timeouts.read(),
            errors: self.errors.read(),
            in_flight: 0,
            entries: 0,
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(any(test, feature = "testing"))]
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
