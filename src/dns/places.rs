//! Places for questions to name servers, shared out among those who ask.
//!
//! A question under way holds descriptors, and so there are so many places and no more. Somebody
//! whose name servers are silent would hold them all, each for seconds, while others wait.
//! Therefore:
//!
//! - Half of the places is for those who have none. Of the other half one gets the more the less
//!   others have: for each place that one has some more must be free, an eighth of all at most.
//!   With 512 places, who asks alone gets 192, more than a message can make use of; and beside two
//!   hundred who take what they get, everybody's first question goes out at once.
//! - Some of both halves is for those who held next to nothing lately: more sessions than there are
//!   places, all of them with silent name servers, hold them all once, and then leave a sixteenth
//!   to others.
//!
//! A place that comes free goes to the one with the fewest; of those with equally many, to the one
//! who held the least lately.
//!
//! A look-up that several wait for is in the queues of all of them, and counts for the one who gets
//! the place.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// Who held places for longer than this lately does not get the last ones.
const SPARING: Duration = Duration::from_secs(1);

/// So many places.
pub(super) struct Places {
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: usize,
    last_id: u64,
    askers: HashMap<u64, Account>,
    requests: HashMap<u64, Entry>,
    /// The askers that wait, the next first.
    order: BTreeSet<Rank>,
}

/// What is known of an asker.
struct Account {
    /// Places that it has.
    places: usize,
    /// What it held is forgotten by then: a second of a place takes a second.
    spent_until: Instant,
    /// Its requests that wait, the oldest first.
    queue: VecDeque<u64>,
    /// Where it is in the order.
    rank: Option<Rank>,
    /// Nobody asks in its name any more.
    is_gone: bool,
}

/// What is known of a request.
struct Entry {
    /// Who wait for it; some more than once.
    askers: Vec<u64>,
    /// Gets the asker that the place counts for; `None` while it does not wait for one.
    waiting: Option<oneshot::Sender<u64>>,
}

/// Places, time spent, the oldest request, and the asker.
type Rank = (usize, Instant, u64, u64);

impl Places {
    /// `total` places, all free.
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::new(State { free: total, ..State::default() }) })
    }

    /// Somebody new who asks.
    pub(super) fn asker(self: &Arc<Self>) -> Arc<Asker> {
        let mut state = self.lock();
        let id = state.next_id();
        let (queue, spent_until) = (VecDeque::new(), Instant::now());
        state
            .askers
            .insert(id, Account { places: 0, spent_until, queue, rank: None, is_gone: false });
        Arc::new(Asker { id, places: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many places must be free when someone who has so many takes one more.
    fn reserve(&self, places: usize, is_sparing: bool) -> usize {
        let total = self.total;
        match places.checked_sub(1) {
            None => {
                if is_sparing {
                    0
                } else {
                    total / 16
                }
            }
            Some(more) => {
                let graded = more.saturating_mul((total / 128).max(1)).min(total / 8);
                total / 2 + graded + if is_sparing { 0 } else { total / 8 }
            }
        }
    }

    /// Gives places to those who may have them.
    fn share_out(&self, state: &mut State) {
        if state.order.is_empty() {
            return;
        }
        let now = Instant::now();
        loop {
            let free = state.free;
            let mut possible =
                state.order.iter().take_while(|(places, ..)| free > self.reserve(*places, true));
            let next = possible.find(|(places, spent_until, ..)| {
                let is_sparing = spent_until.saturating_duration_since(now) <= SPARING;
                free > self.reserve(*places, is_sparing)
            });
            let Some(&(.., request, asker)) = next else { return };
            state.grant(request, asker);
        }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn grant(&mut self, request: u64, asker: u64) {
        if let Some(sender) = self.withdraw(request) {
            self.update(asker, |account| account.places += 1);
            self.free -= 1;
            // Who waits for it takes itself out before it is gone.
            let _ = sender.send(asker);
        }
    }

    fn release(&mut self, asker: u64, held: Duration) {
        self.free += 1;
        self.update(asker, |account| {
            account.places -= 1;
            account.spent_until = account.spent_until.max(Instant::now()) + held;
        });
    }

    /// Lets a request wait for a place.
    fn enqueue(&mut self, request: u64, sender: oneshot::Sender<u64>) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.waiting = Some(sender);
        for asker in entry.askers.clone() {
            self.enqueue_for(request, asker);
        }
    }

    fn enqueue_for(&mut self, request: u64, asker: u64) {
        self.update(asker, |account| {
            if let Err(place) = account.queue.binary_search(&request) {
                account.queue.insert(place, request);
            }
        });
    }

    /// Lets a request wait no longer.
    fn withdraw(&mut self, request: u64) -> Option<oneshot::Sender<u64>> {
        let entry = self.requests.get_mut(&request)?;
        let sender = entry.waiting.take();
        for asker in entry.askers.clone() {
            self.dequeue_for(request, asker);
        }
        sender
    }

    fn dequeue_for(&mut self, request: u64, asker: u64) {
        self.update(asker, |account| account.queue.retain(|&other| other != request));
    }

    /// Changes what is known of an asker, and its place in the order. One that is gone, and has no
    /// place and no request, is not known.
    fn update(&mut self, id: u64, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.askers.get_mut(&id) else { return };
        change(account);
        let rank = account
            .queue
            .front()
            .map(|&request| (account.places, account.spent_until, request, id));
        if account.rank != rank {
            if let Some(rank) = account.rank {
                self.order.remove(&rank);
            }
            self.order.extend(rank);
            account.rank = rank;
        }
        if account.is_gone && account.places == 0 && account.queue.is_empty() {
            self.askers.remove(&id);
        }
    }
}

/// One who asks: a share of the places.
pub(super) struct Asker {
    id: u64,
    places: Arc<Places>,
}

impl Asker {
    /// A look-up that it begins.
    pub(super) fn request(&self) -> Arc<Request> {
        let mut state = self.places.lock();
        let id = state.next_id();
        state.requests.insert(id, Entry { askers: vec![self.id], waiting: None });
        Arc::new(Request { id, places: Arc::clone(&self.places) })
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.places.lock().update(self.id, |account| account.is_gone = true);
    }
}

/// A look-up, which may need a place several times, one after the other.
pub(super) struct Request {
    id: u64,
    places: Arc<Places>,
}

impl Request {
    /// Somebody more waits for it.
    pub(super) fn join(&self, asker: &Asker) {
        let mut state = self.places.lock();
        let Some(entry) = state.requests.get_mut(&self.id) else { return };
        entry.askers.push(asker.id);
        if entry.waiting.is_some() {
            state.enqueue_for(self.id, asker.id);
            self.places.share_out(&mut state);
        }
    }

    /// Somebody waits for it no more.
    pub(super) fn leave(&self, asker: &Asker) {
        let mut state = self.places.lock();
        let Some(entry) = state.requests.get_mut(&self.id) else { return };
        if let Some(place) = entry.askers.iter().position(|&id| id == asker.id) {
            entry.askers.swap_remove(place);
        }
        if !entry.askers.contains(&asker.id) {
            state.dequeue_for(self.id, asker.id);
        }
    }

    /// Waits for a place. `None`: there is none to wait for, which only a fault of the program
    /// could bring about.
    pub(super) async fn place(&self) -> Option<Place> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = Waiting { request: self, receiver };
        {
            let mut state = self.places.lock();
            state.enqueue(self.id, sender);
            self.places.share_out(&mut state);
        }
        let asker = (&mut waiting.receiver).await.ok()?;
        Some(Place { asker, since: Instant::now(), places: Arc::clone(&self.places) })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.withdraw(self.id);
        state.requests.remove(&self.id);
    }
}

/// The wait of a request for a place.
struct Waiting<'a> {
    request: &'a Request,
    receiver: oneshot::Receiver<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let places = &self.request.places;
        let mut state = places.lock();
        state.withdraw(self.request.id);
        // It may have got a place that it does not know of yet.
        if let Ok(asker) = self.receiver.try_recv() {
            state.release(asker, Duration::ZERO);
            places.share_out(&mut state);
        }
    }
}

/// A place; free again when dropped.
pub(super) struct Place {
    asker: u64,
    since: Instant,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.release(self.asker, self.since.elapsed());
        self.places.share_out(&mut state);
    }
}

#[cfg(test)]
mod tests;
