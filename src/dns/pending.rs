//! Look-ups under way: look-ups of the same name and type share one.
//!
//! A task of its own makes a look-up, so that it goes on when one of its waiters leaves: a future
//! that several tasks drive together can lose the news that it may go on, with the task that got
//! it. When the last waiter leaves, the task ends.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{
    answer::{Answer, Failure},
    cache::Key,
    permits::{Request, Share},
};

type Outcome = Result<Answer, Failure>;

/// The look-ups under way.
#[derive(Clone, Default)]
pub(super) struct Pending {
    table: Arc<Mutex<HashMap<Key, PendingLookup>>>,
}

/// A look-up under way.
struct PendingLookup {
    waiting: usize,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Has the shares of its waiters, from which its permits come.
    request: Arc<Request>,
    /// Notified when the last waiter leaves.
    deserted: Arc<Notify>,
}

/// A waiter for a look-up.
struct Waiter<'a> {
    pending: &'a Pending,
    key: Key,
    share: &'a Share,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Pending {
    /// How many look-ups have a waiter.
    pub(super) fn count(&self) -> usize {
        self.lock().values().filter(|lookup| lookup.waiting > 0).count()
    }

    /// Waits for the look-up of `key` that is under way, or for the one that `begin` makes.
    /// `on_join` is called beforehand if it is the former.
    pub(super) async fn join<F>(
        &self,
        key: Key,
        share: &Arc<Share>,
        begin: impl FnOnce(Arc<Request>) -> F,
        on_join: impl FnOnce(),
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let outcome = {
            let mut table = self.lock();
            if let Some(lookup) = table.get_mut(&key) {
                lookup.waiting += 1;
                lookup.request.join(share);
                on_join();
                lookup.outcome.clone()
            } else {
                let (sender, outcome) = watch::channel(None);
                let (request, deserted) = (share.request(), Arc::new(Notify::new()));
                let lookup = begin(Arc::clone(&request));
                let driven = self.clone().drive(key.clone(), lookup, sender, Arc::clone(&deserted));
                let lookup =
                    PendingLookup { waiting: 1, outcome: outcome.clone(), request, deserted };
                table.insert(key.clone(), lookup);
                tokio::spawn(driven);
                outcome
            }
        };
        let mut waiter = Waiter { pending: self, key, share, outcome };
        match waiter.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Failure::Network)),
            // The task is gone without an outcome: it did not survive, or the runtime ends.
            Err(_) => Err(Failure::Network),
        }
    }

    async fn drive<F>(
        self,
        key: Key,
        lookup: F,
        sender: watch::Sender<Option<Outcome>>,
        deserted: Arc<Notify>,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
        // However the task ends, it cannot be joined afterwards.
        let registration = Registration { pending: &self, key: &key, outcome: sender.subscribe() };
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("look-up", key.name.as_str().as_bytes());
        let mut lookup = Some(Box::pin(lookup));
        let outcome = loop {
            let Some(under_way) = &mut lookup else { return };
            tokio::select! {
                biased;
                // First, so that nothing is asked where all waiters have left by now.
                () = deserted.notified() => {
                    let table = self.lock();
                    // Unless a waiter has come since, it ends here; before another look-up of the
                    // key can begin.
                    if table.get(&key).is_none_or(|lookup| lookup.waiting == 0) {
                        lookup = None;
                        registration.clear(table);
                    }
                }
                outcome = under_way => break outcome,
            }
        };
        drop(registration);
        // Waiters hold receivers of their own; that there is none is no matter.
        let _ = sender.send(Some(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, PendingLookup>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut table = self.pending.lock();
        // There may be another look-up of the same key by now, which is none of ours.
        if let Some(lookup) =
            table.get_mut(&self.key).filter(|lookup| lookup.outcome.same_channel(&self.outcome))
        {
            lookup.waiting -= 1;
            lookup.request.leave(self.share);
            if lookup.waiting == 0 {
                lookup.deserted.notify_one();
            }
        }
    }
}

/// The entry of a look-up in the table, which is removed when its task ends.
struct Registration<'a> {
    pending: &'a Pending,
    key: &'a Key,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Registration<'_> {
    fn clear(&self, mut table: MutexGuard<'_, HashMap<Key, PendingLookup>>) {
        // There may be another look-up of the same key by now.
        if table.get(self.key).is_some_and(|lookup| lookup.outcome.same_channel(&self.outcome)) {
            table.remove(self.key);
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.clear(self.pending.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use tokio::task::yield_now;

    use super::*;
    use crate::dns::{answer::RecordType, name::Name, permits::Permits};

    #[tokio::test]
    async fn nothing_is_asked_where_the_waiter_has_left() {
        let (pending, share) = (Pending::default(), Permits::new(1).share());
        let key = Key { name: Name::new("a.example").unwrap(), record_type: RecordType::A };
        let asked = Arc::new(AtomicUsize::new(0));
        let join = || {
            let asked = Arc::clone(&asked);
            let ask = async move {
                asked.fetch_add(1, Ordering::Relaxed);
                Err(Failure::NoData)
            };
            pending.join(key.clone(), &share, |_| ask, || ())
        };
        for returns in [false, true] {
            assert!(join().now_or_never().is_none());
            if returns {
                assert_eq!(join().await, Err(Failure::NoData));
            }
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(asked.load(Ordering::Relaxed), usize::from(returns));
            assert!(pending.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_waiting() {
        async fn broken() -> Outcome {
            yield_now().await;
            panic!("provoked")
        }
        let (pending, share) = (Pending::default(), Permits::new(1).share());
        let key = Key { name: Name::new("a.example").unwrap(), record_type: RecordType::A };
        let join = || pending.join(key.clone(), &share, |_| broken(), || ());
        let (first, second) = tokio::join!(join(), join());
        assert_eq!([first, second], [Err(Failure::Network), Err(Failure::Network)]);
        assert!(pending.lock().is_empty());
        // The next one does not wait for what is gone.
        let ask = async { Err(Failure::NoData) };
        assert_eq!(pending.join(key, &share, |_| ask, || ()).await, Err(Failure::NoData));
    }
}
