//! Slots: how many connections there are, and may be.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    log::{Log, RateLimit},
    workers::until,
};

/// How often the same trouble with connections is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long it counts that a connection could not be accepted: longer than the pause after that.
const LATELY: Duration = Duration::from_secs(2);

/// How many connections there are, and may be.
#[derive(Debug)]
pub(super) struct Slots {
    count: AtomicUsize,
    /// Connections that are accepted and wait for a slot.
    waiting: AtomicUsize,
    limit: AtomicUsize,
    /// How many there are descriptors for.
    possible: usize,
    changed: Notify,
    /// For the warning that the limit is reached.
    reached: RateLimit,
    /// For the error that connections cannot be accepted.
    failing: RateLimit,
    /// When one could not be accepted for the last time.
    failed: Mutex<Option<Instant>>,
}

/// The slot of a connection.
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// A connection that waits for a slot. No other connection is accepted meanwhile: it would be
/// served before.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots) -> Self {
        slots.waiting.fetch_add(1, Ordering::AcqRel);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl Slots {
    /// Slots without any yet; `possible` is how many there are descriptors for.
    pub(super) fn new(possible: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            possible,
            changed: Notify::new(),
            reached: RateLimit::new(LOG_INTERVAL),
            failing: RateLimit::new(LOG_INTERVAL),
            failed: Mutex::default(),
        }
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many connections there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    /// How many connections are accepted and wait for a slot.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Notes that a connection could not be accepted, and returns whether to log that.
    pub(super) fn fail(&self) -> bool {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.failing.allow()
    }

    /// Whether a connection could not be accepted lately. Until one is, that is tried more often.
    pub(super) fn has_failed_lately(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|time| time.elapsed() <= LATELY)
    }

    /// Sets how many connections there may be, as far as there are descriptors for them.
    pub(super) fn set_limit(&self, wanted: usize, log: &Log) {
        let possible = self.possible;
        if possible < wanted {
            log.warn(|| {
                format!("too few descriptors may be open (ulimit -n) for max_connections={wanted}, {possible} are served")
            });
        }
        self.limit.store(wanted.min(possible), Ordering::Release);
        self.changed.notify_waiters();
    }

    fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.limit.load(Ordering::Acquire);
        let taken = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < limit).then_some(count + 1)
        });
        taken.is_ok().then(|| Slot(Arc::clone(self)))
    }

    /// Takes a slot for a connection that was accepted, as soon as one is free.
    pub(super) async fn take(self: &Arc<Self>, log: &Log) -> Slot {
        if let Some(slot) = self.try_take() {
            return slot;
        }
        let _waiting = Waiting::new(self);
        self.wait_until(log, || self.try_take()).await
    }

    /// Waits until a slot is free that no accepted connection waits for.
    pub(super) async fn wait_for_one(&self, log: &Log) {
        let wanted = || self.count() + self.waiting.load(Ordering::Acquire);
        self.wait_until(log, || (wanted() < self.limit.load(Ordering::Acquire)).then_some(()))
            .await;
    }

    async fn wait_until<T>(&self, log: &Log, attempt: impl Fn() -> Option<T>) -> T {
        until(&self.changed, || {
            let taken = attempt();
            if taken.is_none() && self.reached.allow() {
                let limit = self.limit.load(Ordering::Acquire);
                log.warn(|| format!("max_connections={limit} reached, further connections wait"));
            }
            taken
        })
        .await
    }

    /// Waits until there is no connection.
    pub(super) async fn wait_for_none(&self) {
        until(&self.changed, || (self.count() == 0).then_some(())).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::config::LogLevel;

    #[tokio::test]
    async fn slots_are_given_back() {
        let slots = Arc::new(Slots::new(2));
        let log = Log::keep(LogLevel::Warn);
        slots.set_limit(1, &log);
        let slot = slots.take(&log).await;
        assert!(log.take_kept().is_empty());
        let (waiting, ()) = tokio::join!(slots.take(&log), async {
            tokio::task::yield_now().await;
            drop(slot);
        });
        assert_eq!(log.take_kept(), ["max_connections=1 reached, further connections wait"]);
        assert_eq!(slots.count(), 1);
        assert!(slots.try_take().is_none());
        assert_eq!(slots.waiting.load(Ordering::Acquire), 0);
        slots.set_limit(3, &log);
        assert_eq!(
            log.take_kept(),
            ["too few descriptors may be open (ulimit -n) for max_connections=3, 2 are served"]
        );
        let second = slots.try_take().unwrap();
        slots.set_limit(1, &log);
        assert_eq!(slots.count(), 2);
        drop((waiting, second));
        slots.wait_for_none().await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgotten() {
        let slots = Slots::new(1);
        assert!(!slots.has_failed_lately());
        assert!(slots.fail() && !slots.fail());
        tokio::time::advance(LATELY).await;
        assert!(slots.has_failed_lately());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!slots.has_failed_lately());
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_connection_comes_first() {
        let slots = Arc::new(Slots::new(1));
        let log = Log::keep(LogLevel::Error);
        slots.set_limit(1, &log);
        let slot = slots.take(&log).await;
        let mut accepted = std::pin::pin!(slots.take(&log));
        assert!(timeout(Duration::from_secs(1), &mut accepted).await.is_err());
        drop(slot);
        assert!(timeout(Duration::from_secs(1), slots.wait_for_one(&log)).await.is_err());
        let slot = accepted.await;
        assert!(timeout(Duration::from_secs(1), slots.wait_for_one(&log)).await.is_err());
        drop(slot);
        slots.wait_for_one(&log).await;
    }
}
