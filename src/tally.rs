//! Counts of atomics: what is counted, others know.
//!
//! To count for all threads costs some nanoseconds, and more where another thread counted last. What only
//! one thread counts (`*_alone`) costs next to nothing, and can be read by all.

mod by_thread;

pub use by_thread::{ByThread, Own, Part};

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counts, one for each of `N` kinds.
#[derive(Debug)]
pub struct Tally<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Tally<N> {
    /// Adds one to the count of a kind; a kind that there is none of counts nowhere.
    pub fn count(&self, kind: usize) {
        self.add(kind, 1);
    }

    /// Adds so many to the count of a kind.
    pub fn add(&self, kind: usize, number: u64) {
        if let Some(count) = self.0.get(kind) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Adds so many to the count of a kind, which no other thread adds to.
    pub fn add_alone(&self, kind: usize, number: u64) {
        if let Some(count) = self.0.get(kind) {
            add_alone(count, number);
        }
    }

    /// Adds what was counted elsewhere; no other thread adds to this.
    pub fn absorb(&self, other: &Self) {
        self.0.iter().zip(other.read()).for_each(|(count, number)| add_alone(count, number));
    }

    /// The counts.
    pub fn read(&self) -> [u64; N] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Adds to a count that no other thread adds to.
pub fn add_alone(count: &AtomicU64, number: u64) {
    // What was counted before is seen by who sees this.
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Release);
}

/// The upper bounds of a histogram's buckets, in microseconds.
const BOUNDS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// How long something took, in buckets from half a millisecond to half a minute, and in total.
///
/// The total, in nanoseconds, comes before the buckets: next to that of most things. There is one
/// bucket more than there are bounds: what took longer is in the last.
#[derive(Debug, Default)]
pub struct Histogram(Tally<{ BOUNDS.len() + 2 }>);

/// A reading of a histogram.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// Upper bounds, each with how many took that long at most.
    pub buckets: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub total: Duration,
}

impl Histogram {
    /// Adds something that took so long.
    pub fn observe(&self, took: Duration) {
        let (bucket, nanos) = Self::place(took);
        self.0.count(bucket);
        if nanos > 0 {
            self.0.add(0, nanos);
        }
    }

    /// Adds something that took so long; no other thread does.
    pub fn observe_alone(&self, took: Duration) {
        let (bucket, nanos) = Self::place(took);
        self.0.add_alone(bucket, 1);
        self.0.add_alone(0, nanos);
    }

    /// Adds what was observed elsewhere; no other thread adds to this.
    pub fn absorb(&self, other: &Self) {
        self.0.absorb(&other.0);
    }

    /// The bucket, and the nanoseconds for the total.
    fn place(took: Duration) -> (usize, u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A bucket has its upper bound in it (as Prometheus has it: `le`).
        let micros = nanos.div_ceil(1000);
        (1 + BOUNDS.iter().take_while(|bound| micros > **bound).count(), nanos)
    }

    /// The counts so far.
    pub fn read(&self) -> Distribution {
        let [total, counts @ ..] = self.0.read();
        let mut count = 0;
        let sums = counts.map(|of_bucket| {
            count += of_bucket;
            count
        });
        let bounds = BOUNDS.into_iter().map(Duration::from_micros);
        let total = Duration::from_nanos(total);
        Distribution { count, buckets: bounds.zip(sums).collect(), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted() {
        let tally = Tally::<3>::default();
        for kind in [0, 2, 2, 3, usize::MAX] {
            tally.count(kind);
        }
        assert_eq!(tally.read(), [1, 0, 2]);
    }

    #[test]
    fn a_bucket_has_its_upper_bound() {
        let histogram = Histogram::default();
        let micros = Duration::from_micros;
        let nano = Duration::from_nanos(1);
        let took = [
            Duration::ZERO,
            micros(500),
            micros(500) + nano,
            micros(30_000_000),
            micros(30_000_001),
        ];
        took.iter().for_each(|took| histogram.observe(*took));
        let alone = Histogram::default();
        took.iter().for_each(|took| alone.observe_alone(*took));
        assert_eq!(alone.read(), histogram.read());
        let Distribution { buckets, count, total } = histogram.read();
        assert_eq!((count, total), (5, took.iter().sum()));
        assert_eq!(buckets[..2], [(micros(500), 2), (micros(1000), 3)]);
        assert_eq!(buckets[13..], [(micros(10_000_000), 3), (micros(30_000_000), 4)]);
        // Against the definition.
        for (bound, below) in buckets {
            assert_eq!(
                u64::try_from(took.iter().filter(|took| **took <= bound).count()),
                Ok(below)
            );
        }
    }
}
