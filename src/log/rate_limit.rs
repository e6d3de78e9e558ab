//! Log lines that would repeat themselves.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lets something be logged once in an interval.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    allowed: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit of one line in the interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, allowed: Mutex::new(None) }
    }

    /// Whether a line may be logged now; if so, the interval begins.
    pub fn allow(&self) -> bool {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> bool {
        let mut last = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_an_interval() {
        let (interval, tick, start) =
            (Duration::from_secs(60), Duration::from_nanos(1), Instant::now());
        let limit = RateLimit::new(interval);
        for (time, is_allowed) in [
            (Duration::ZERO, true),
            (interval - tick, false),
            (interval, true),
            (interval * 2 - tick, false),
        ] {
            assert_eq!(limit.allow_at(start + time), is_allowed, "{time:?}");
        }
        assert!(limit.allow_at(start + interval * 2 + tick));
    }
}
