//! What happened since the start, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::session::Record;

/// Counters of the whole daemon.
#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: AtomicU64,
}

impl Counters {
    /// Counts what a record has.
    pub(super) fn count(&self, record: &Record) {
        if record.complete {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages that were received to their end.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}
