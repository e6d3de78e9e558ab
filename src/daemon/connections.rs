//! How many connections there are, and may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    log::{Log, RateLimit},
    workers::until,
};

/// How often the same trouble with connections is told.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// How many connections there are, and may be.
#[derive(Debug)]
pub(super) struct Connections {
    count: AtomicUsize,
    /// Connections that are accepted and wait for a place.
    waiting: AtomicUsize,
    limit: AtomicUsize,
    changed: Notify,
    /// That there is no room.
    crowded: RateLimit,
    /// That connections cannot be accepted.
    pub(super) failing: RateLimit,
}

/// One of the connections.
pub(super) struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// One of those that wait for a place. No other connection is accepted meanwhile: it would be
/// served before.
struct Waiting<'a>(&'a Connections);

impl<'a> Waiting<'a> {
    fn new(connections: &'a Connections) -> Self {
        connections.waiting.fetch_add(1, Ordering::AcqRel);
        Self(connections)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            changed: Notify::new(),
            crowded: RateLimit::new(COMPLAINT_INTERVAL),
            failing: RateLimit::new(COMPLAINT_INTERVAL),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let limit = self.limit.load(Ordering::Acquire);
        let taken = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < limit).then_some(count + 1)
        });
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Waits until there is room for a connection that was accepted, and takes it.
    pub(super) async fn take(self: &Arc<Self>, log: &Log) -> Place {
        if let Some(place) = self.try_take() {
            return place;
        }
        let _waiting = Waiting::new(self);
        self.wait_until(log, || self.try_take()).await
    }

    /// Waits until there is room for a connection besides those that wait for it.
    pub(super) async fn wait_for_room(&self, log: &Log) {
        let wanted = || self.count() + self.waiting.load(Ordering::Acquire);
        self.wait_until(log, || (wanted() < self.limit.load(Ordering::Acquire)).then_some(()))
            .await;
    }

    async fn wait_until<T>(&self, log: &Log, attempt: impl Fn() -> Option<T>) -> T {
        until(&self.changed, || {
            let taken = attempt();
            if taken.is_none() && self.crowded.allow() {
                let limit = self.limit.load(Ordering::Acquire);
                log.warn(|| format!("max_connections={limit} reached, further connections wait"));
            }
            taken
        })
        .await
    }

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
    async fn places_are_given_back() {
        let connections = Arc::new(Connections::new(1));
        let log = Log::keep(LogLevel::Warn);
        let place = connections.take(&log).await;
        assert!(log.take_kept().is_empty());
        let (waiting, ()) = tokio::join!(connections.take(&log), async {
            tokio::task::yield_now().await;
            drop(place);
        });
        assert_eq!(log.take_kept(), ["max_connections=1 reached, further connections wait"]);
        assert_eq!(connections.count(), 1);
        assert!(connections.try_take().is_none());
        assert_eq!(connections.waiting.load(Ordering::Acquire), 0);
        connections.set_limit(2);
        let second = connections.try_take().unwrap();
        connections.set_limit(1);
        assert_eq!(connections.count(), 2);
        drop((waiting, second));
        connections.wait_for_none().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_accepted_comes_first() {
        let connections = Arc::new(Connections::new(1));
        let log = Log::keep(LogLevel::Error);
        let place = connections.take(&log).await;
        let mut accepted = std::pin::pin!(connections.take(&log));
        assert!(timeout(Duration::from_secs(1), &mut accepted).await.is_err());
        drop(place);
        assert!(timeout(Duration::from_secs(1), connections.wait_for_room(&log)).await.is_err());
        let place = accepted.await;
        assert!(timeout(Duration::from_secs(1), connections.wait_for_room(&log)).await.is_err());
        drop(place);
        connections.wait_for_room(&log).await;
    }
}
