//! What was counted since midnight: the difference to the counts at that time. So counting a message
//! does not cost more.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{ZonedDateTime, civil::Date};

use super::{
    conclusion::{MessageVerdict, Reason},
    metrics::{Method, Metrics},
    status::{self, Counts, Messages, Shown, spell_zoned},
};
use crate::{mail::results::Words, tally::Distribution};

/// The longest time after which it is looked whether a new day has begun: clocks are set.
const LOOK: Duration = Duration::from_secs(60);

/// Counts of today, by the local clock.
#[derive(Debug)]
pub struct Today {
    metrics: Metrics,
    day: Mutex<Day>,
}

/// A day.
#[derive(Debug)]
struct Day {
    date: Date,
    /// Since when is counted: midnight, or the start.
    since: ZonedDateTime,
    /// The counts at that time.
    before: Totals,
}

/// Counts since the start.
#[derive(Clone, Debug, Default)]
struct Totals {
    verdicts: Vec<u64>,
    refused: Vec<u64>,
    not_enforced: Vec<u64>,
    methods: Vec<Distribution>,
}

impl Today {
    /// Counts from now on.
    pub fn new(metrics: Metrics) -> Self {
        Self::at(metrics, ZonedDateTime::now())
    }

    fn at(metrics: Metrics, now: ZonedDateTime) -> Self {
        let before = Totals::read(&metrics);
        Self { metrics, day: Mutex::new(Day { date: now.date(), since: now, before }) }
    }

    /// Begins a new day, if one has begun, and returns when to look again.
    pub fn turn(&self) -> Duration {
        self.turn_at(&ZonedDateTime::now())
    }

    fn turn_at(&self, now: &ZonedDateTime) -> Duration {
        let mut day = self.lock();
        if day.date != now.date() {
            let since = now.start_of_day().unwrap_or_else(|_| now.clone());
            *day = Day { date: now.date(), since, before: Totals::read(&self.metrics) };
        }
        let next = now.tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
        let left = next.map(|midnight| now.duration_until(&midnight).unsigned_abs());
        left.unwrap_or(LOOK).min(LOOK)
    }

    /// What was counted today.
    pub fn messages(&self) -> Messages {
        self.messages_at(&ZonedDateTime::now())
    }

    fn messages_at(&self, now: &ZonedDateTime) -> Messages {
        self.turn_at(now);
        let day = self.lock();
        let totals = Totals::read(&self.metrics).since(&day.before);
        let since = spell_zoned(&day.since);
        drop(day);
        Messages {
            since,
            total: totals.verdicts.iter().sum(),
            verdicts: named::<MessageVerdict>(&totals.verdicts),
            refused: named::<Reason>(&totals.refused),
            not_enforced: named::<Reason>(&totals.not_enforced),
            methods: Method::ALL
                .iter()
                .zip(&totals.methods)
                .filter(|(_, took)| took.count > 0)
                .map(|((_, name), took)| status::Method {
                    method: Shown::from(*name),
                    count: took.count,
                    p50_ms: within(took, 50),
                    p99_ms: within(took, 99),
                })
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Day> {
        self.day.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn read(metrics: &Metrics) -> Self {
        let counts = metrics.mail();
        Self {
            verdicts: counts.verdicts.read().into(),
            refused: counts.replies.iter().map(|codes| codes.read().iter().sum()).collect(),
            not_enforced: counts.not_enforced.read().into(),
            methods: counts.stages.iter().map(|stage| stage.read()).collect(),
        }
    }

    /// What was counted since former totals.
    fn since(&self, before: &Self) -> Self {
        fn less(now: &[u64], before: &[u64]) -> Vec<u64> {
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
        }
        let methods = self.methods.iter().zip(&before.methods).map(|(now, before)| {
            let buckets = now.buckets.iter().zip(&before.buckets);
            let less_in = |((bound, now), (_, before)): (&(Duration, u64), &(Duration, u64))| {
                (*bound, now.saturating_sub(*before))
            };
            Distribution {
                buckets: buckets.map(less_in).collect(),
                count: now.count.saturating_sub(before.count),
                total: now.total.saturating_sub(before.total),
            }
        });
        Self {
            verdicts: less(&self.verdicts, &before.verdicts),
            refused: less(&self.refused, &before.refused),
            not_enforced: less(&self.not_enforced, &before.not_enforced),
            methods: methods.collect(),
        }
    }
}

/// Counts with the names of their kinds.
fn named<T: Words>(counts: &[u64]) -> Counts {
    Counts(
        T::ALL.iter().zip(counts).map(|((_, name), count)| (Shown::from(*name), *count)).collect(),
    )
}

/// The milliseconds within which so many of 100 were done, as far as the buckets say; `None` where
/// they took longer than any of them.
fn within(took: &Distribution, percent: u64) -> Option<f64> {
    let wanted = took.count.saturating_mul(percent).div_ceil(100);
    let (bound, _) = took.buckets.iter().find(|(_, count)| *count >= wanted)?;
    Some(bound.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        observe::Conclusion,
        session::{Record, Timings},
        tally::Histogram,
    };

    fn at(time: &str) -> ZonedDateTime {
        format!("{time}+01:00[+01:00]").parse().unwrap()
    }

    fn count(metrics: &Metrics, verdict: MessageVerdict, reason: Option<Reason>) {
        let reply = reason.map(|_| "550".parse().unwrap());
        let timings = Timings { helo: Some(Duration::from_millis(3)), ..Timings::default() };
        let record = Record { timings, ..Record::default() };
        let conclusion =
            Conclusion { verdict: Some(verdict), reply, reason, ..Conclusion::default() };
        metrics.count(&record, &conclusion);
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let metrics = Metrics::new();
        count(&metrics, MessageVerdict::Accept, None);
        let start = at("2026-11-27T23:58:30");
        let today = Today::at(metrics.clone(), start.clone());
        count(&metrics, MessageVerdict::Accept, None);
        count(&metrics, MessageVerdict::Reject, Some(Reason::Dmarc));
        let messages = today.messages_at(&start);
        assert_eq!((messages.total, messages.since.as_str()), (2, "2026-11-27T23:58:30+01:00"));
        let some = |counts: &Counts| -> Vec<(String, u64)> {
            counts.some().map(|(name, count)| (name.to_string(), count)).collect()
        };
        assert_eq!(some(&messages.verdicts), [("accept".into(), 1), ("reject".into(), 1)]);
        assert_eq!(some(&messages.refused), [("dmarc".into(), 1)]);
        let [method] = messages.methods.try_into().unwrap();
        assert_eq!((method.method.as_str(), method.count), ("spf_helo", 2));
        assert_eq!((method.p50_ms, method.p99_ms), (Some(5.0), Some(5.0)));
        for (now, left, total) in [
            ("2026-11-27T23:58:59", 60, 2),
            ("2026-11-27T23:59:00", 60, 2),
            ("2026-11-27T23:59:01", 59, 2),
            ("2026-11-27T23:59:59", 1, 2),
            ("2026-11-28T00:00:00", 60, 0),
        ] {
            let now = at(now);
            assert_eq!(today.turn_at(&now), Duration::from_secs(left), "{now}");
            assert_eq!(today.messages_at(&now).total, total, "{now}");
        }
        count(&metrics, MessageVerdict::Tag, None);
        // Also where nobody looked at midnight, or the clock was set.
        for (now, total, since) in [
            ("2026-11-28T08:00:00", 1, "2026-11-28T00:00:00+01:00"),
            ("2026-11-30T08:00:00", 0, "2026-11-30T00:00:00+01:00"),
            ("2026-11-27T08:00:00", 0, "2026-11-27T00:00:00+01:00"),
        ] {
            let messages = today.messages_at(&at(now));
            assert_eq!((messages.total, messages.since.as_str()), (total, since));
        }
        assert!(today.messages_at(&at("2026-11-27T08:00:00")).methods.is_empty());
    }

    proptest! {
        /// Against the definition: the bucket of the sample that so many of 100 do not exceed.
        #[test]
        fn shares_are_those_of_the_samples(mut micros in prop::collection::vec(1_u64..60_000_000, 1..300)) {
            let histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.observe(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let took = histogram.read();
            for percent in [1, 50, 99, 100] {
                let rank = (micros.len() * percent).div_ceil(100);
                let sample = Duration::from_micros(micros[rank - 1]);
                let bucket = took.buckets.iter().map(|(bound, _)| *bound).find(|bound| *bound >= sample);
                let expected = bucket.map(|bound| bound.as_secs_f64() * 1000.0);
                prop_assert_eq!(within(&took, percent as u64), expected);
            }
        }
    }
}
