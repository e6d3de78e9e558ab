//! Look-ups under way, each made once however many ask.
//!
//! A task of its own makes a look-up, so that it goes on whichever of those who wait for it leaves:
//! a future that several tasks drive together can lose the news that it may go on with the one that
//! got it. When nobody waits any more, the task ends.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::{
    Answer, Failure,
    cache::Key,
    places::{Asker, Request},
};

type Outcome = Result<Answer, Failure>;

/// The look-ups under way.
#[derive(Clone, Default)]
pub(super) struct Flights {
    table: Arc<Mutex<HashMap<Key, Flight>>>,
}

/// A look-up under way.
struct Flight {
    waiting: usize,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Knows who wait, for whose places it goes on.
    request: Arc<Request>,
    /// Told when nobody waits any more.
    deserted: Arc<Notify>,
}

/// Somebody who waits for a look-up.
struct Waiter {
    flights: Flights,
    key: Key,
    asker: Arc<Asker>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Flights {
    /// How many look-ups somebody waits for.
    pub(super) fn count(&self) -> usize {
        self.lock().values().filter(|flight| flight.waiting > 0).count()
    }

    /// Waits for the look-up of `key` that is under way, or for the one that `begin` makes. Tells
    /// beforehand which.
    pub(super) async fn join<F>(
        &self,
        key: Key,
        asker: &Arc<Asker>,
        begin: impl FnOnce(Arc<Request>) -> F,
        tell: impl FnOnce(Joined),
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut waiter = self.board(key, asker, begin, tell);
        match waiter.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Failure::Network)),
            // The task is gone without an outcome: it did not survive, or the runtime ends.
            Err(_) => Err(Failure::Network),
        }
    }

    fn board<F>(
        &self,
        key: Key,
        asker: &Arc<Asker>,
        begin: impl FnOnce(Arc<Request>) -> F,
        tell: impl FnOnce(Joined),
    ) -> Waiter
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut table = self.lock();
        if let Some(flight) = table.get_mut(&key) {
            flight.waiting += 1;
            flight.request.join(asker);
            tell(Joined::UnderWay);
            let outcome = flight.outcome.clone();
            return Waiter { flights: self.clone(), key, asker: Arc::clone(asker), outcome };
        }
        tell(Joined::New);
        let (sender, outcome) = watch::channel(None);
        let deserted = Arc::new(Notify::new());
        let request = asker.request();
        let flight = Flight {
            waiting: 1,
            outcome: outcome.clone(),
            request: Arc::clone(&request),
            deserted: Arc::clone(&deserted),
        };
        table.insert(key.clone(), flight);
        drop(table);
        tokio::spawn(self.clone().fly(key.clone(), begin(request), sender, deserted));
        Waiter { flights: self.clone(), key, asker: Arc::clone(asker), outcome }
    }

    async fn fly<F>(
        self,
        key: Key,
        lookup: F,
        sender: watch::Sender<Option<Outcome>>,
        deserted: Arc<Notify>,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
        // Whatever ends the task, nobody may join it afterwards.
        let landing = Landing { flights: &self, key: &key, outcome: sender.subscribe() };
        let mut lookup = Some(Box::pin(lookup));
        let outcome = loop {
            let Some(under_way) = &mut lookup else { return };
            tokio::select! {
                biased;
                outcome = under_way => break outcome,
                () = deserted.notified() => {
                    let table = self.lock();
                    // Unless somebody has come since, it ends here; before another one of the key
                    // can begin.
                    if table.get(&key).is_none_or(|flight| flight.waiting == 0) {
                        lookup = None;
                        landing.clear(table);
                    }
                }
            }
        };
        drop(landing);
        // Those who wait hold receivers of their own; that there is none is no matter.
        let _ = sender.send(Some(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How somebody came to wait for a look-up.
pub(super) enum Joined {
    /// It was under way.
    UnderWay,
    /// It is new.
    New,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.flights.lock();
        // There may be another look-up of the same key by now, which is none of ours.
        if let Some(flight) =
            table.get_mut(&self.key).filter(|flight| flight.outcome.same_channel(&self.outcome))
        {
            flight.waiting -= 1;
            flight.request.leave(&self.asker);
            if flight.waiting == 0 {
                flight.deserted.notify_one();
            }
        }
    }
}

/// Takes a look-up out of the table when its task ends.
struct Landing<'a> {
    flights: &'a Flights,
    key: &'a Key,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Landing<'_> {
    fn clear(&self, mut table: MutexGuard<'_, HashMap<Key, Flight>>) {
        // There may be another look-up of the same key by now.
        if table.get(self.key).is_some_and(|flight| flight.outcome.same_channel(&self.outcome)) {
            table.remove(self.key);
        }
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.clear(self.flights.lock());
    }
}
