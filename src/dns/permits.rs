//! Permits for questions to name servers, shared out among sessions.
//!
//! A question under way holds descriptors, and so there are only so many permits. A session whose
//! name servers are silent would hold them all, each for seconds, while others wait. Therefore:
//!
//! - Half of the permits is for sessions that have none. Of the other half a session gets the more
//!   the less others have: for each permit that it has some more must be free, an eighth of all at
//!   most. With 512 permits the only session gets 192, more than a message can make use of;
//!   and beside two hundred that take what they get, the first question of each goes out at once.
//! - A part of both halves is for sessions that held next to nothing lately: more sessions than
//!   there are permits, all of them with silent name servers, hold them all once, and then leave a
//!   sixteenth to others.
//!
//! A permit that comes free goes to the session with the fewest. Of those with equally many the
//! ones that held little lately come first, by lot, and then the others, the one that held the least
//! first.
//!
//! The lot is what keeps answers coming when more is asked than name servers can answer. By age, all
//! would wait until they have no time left for the answer. And each session draws one lot for all
//! its look-ups: sessions that are lucky get all that they need, where with a lot for each look-up
//! most sessions would get a part of it, in vain. The unlucky ones run out of time, in which they
//! cost nothing.
//!
//! A look-up that several sessions wait for is in the queues of all of them, and counts for the one
//! that gets the permit.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// A session that held permits for longer than this lately, all together, does not get the last ones.
/// More than a message takes where name servers answer, and less than one silent server.
const SPARING: Duration = Duration::from_secs(2);

/// A second of a permit is forgotten after so many: who always holds one is not sparing.
const MEMORY: u32 = 4;

/// The permits of all sessions.
pub(super) struct Permits {
    total: usize,
    /// The lots come from it.
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: usize,
    last_id: u64,
    accounts: HashMap<u64, Account>,
    requests: HashMap<u64, Entry>,
    /// The sessions that wait, the next one first.
    order: BTreeSet<Rank>,
    /// Those of them that are not sparing, by the time until which what they held counts.
    spenders: BTreeSet<(Instant, u64)>,
}

/// The account of a session.
struct Account {
    /// Permits that it has.
    permits: usize,
    /// Until when the permits that it held count: a second of a permit takes [`MEMORY`] seconds.
    spent_until: Instant,
    /// Its lot; the lowest is the best.
    lot: u64,
    /// Its requests that wait, the oldest first.
    queue: VecDeque<u64>,
    /// Where it is in the order.
    rank: Option<Rank>,
    /// Whether it asks no more.
    is_gone: bool,
}

/// The entry of a request.
struct Entry {
    /// The sessions that wait for it; some more than once.
    sessions: Vec<u64>,
    /// Gets the session that the permit counts for; `None` while it does not wait for one.
    waiting: Option<oneshot::Sender<u64>>,
}

/// The place of a session in the order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rank {
    permits: usize,
    /// Until when what it held counts; `None`: it is sparing.
    spent_until: Option<Instant>,
    lot: u64,
    session: u64,
}

impl Permits {
    /// `total` permits, all free.
    pub(super) fn new(total: usize) -> Arc<Self> {
        Self::with_seed(total, RandomState::new().hash_one(total))
    }

    fn with_seed(total: usize, seed: u64) -> Arc<Self> {
        let state = Mutex::new(State { free: total, ..State::default() });
        Arc::new(Self { total, seed, state })
    }

    /// The share of another session.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        let mut state = self.lock();
        let id = state.next_id();
        let account = Account {
            permits: 0,
            spent_until: Instant::now(),
            lot: self.lot(id),
            queue: VecDeque::new(),
            rank: None,
            is_gone: false,
        };
        state.accounts.insert(id, account);
        Arc::new(Share { id, permits: Arc::clone(self) })
    }

    fn lot(&self, session: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, session).hash(&mut hasher);
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many permits must be free for a session that has so many to take one more.
    fn reserve(&self, permits: usize, is_sparing: bool) -> usize {
        let total = self.total;
        match permits.checked_sub(1) {
            None if is_sparing => 0,
            None => total / 16,
            Some(more) => {
                let graded = more.saturating_mul((total / 128).max(1)).min(total / 8);
                total / 2 + graded + if is_sparing { 0 } else { total / 8 }
            }
        }
    }

    /// Gives permits to the sessions that may have them.
    fn share_out(&self, state: &mut State) {
        state.forgive();
        let mut next = state.order.first().copied();
        while let Some(rank) = next {
            if state.free > self.reserve(rank.permits, rank.spent_until.is_none()) {
                state.grant(rank.session);
                next = state.order.first().copied();
            } else if rank.spent_until.is_some() {
                // Nor may others who have as many, and are behind it.
                next = state.order.range(Rank::first_with(rank.permits + 1)..).next().copied();
            } else {
                return;
            }
        }
    }
}

impl Rank {
    fn first_with(permits: usize) -> Self {
        Self { permits, spent_until: None, lot: 0, session: 0 }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Lets sessions be sparing again whose time has come.
    fn forgive(&mut self) {
        let now = Instant::now();
        while let Some(&(spent_until, session)) = self.spenders.first()
            && is_sparing(spent_until, now)
        {
            self.update_at(now, session, |_| {});
        }
    }

    /// Gives a session a permit for its oldest request.
    fn grant(&mut self, session: u64) {
        let account = self.accounts.get(&session);
        let Some(&request) = account.and_then(|account| account.queue.front()) else { return };
        if let Some(sender) = self.withdraw(request) {
            self.update(session, |account| account.permits += 1);
            self.free -= 1;
            // A look-up that is dropped takes itself out before.
            let _ = sender.send(session);
        }
    }

    fn release(&mut self, session: u64, held: Duration) {
        self.free += 1;
        self.update(session, |account| {
            account.permits -= 1;
            account.spent_until = account.spent_until.max(Instant::now()) + held * MEMORY;
        });
    }

    /// Lets a request wait for a permit.
    fn enqueue(&mut self, request: u64, sender: oneshot::Sender<u64>) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.waiting = Some(sender);
        for session in entry.sessions.clone() {
            self.enqueue_for(request, session);
        }
    }

    fn enqueue_for(&mut self, request: u64, session: u64) {
        self.update(session, |account| {
            if let Err(position) = account.queue.binary_search(&request) {
                account.queue.insert(position, request);
            }
        });
    }

    /// Lets a request wait no longer.
    fn withdraw(&mut self, request: u64) -> Option<oneshot::Sender<u64>> {
        let entry = self.requests.get_mut(&request)?;
        let sender = entry.waiting.take();
        for session in entry.sessions.clone() {
            self.dequeue_for(request, session);
        }
        sender
    }

    fn dequeue_for(&mut self, request: u64, session: u64) {
        self.update(session, |account| account.queue.retain(|&other| other != request));
    }

    /// Changes what is known of a session, and its rank in the order. One that is gone, and has no
    /// permit and no request, is forgotten.
    fn update(&mut self, id: u64, change: impl FnOnce(&mut Account)) {
        self.update_at(Instant::now(), id, change);
    }

    fn update_at(&mut self, now: Instant, id: u64, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        change(account);
        let &mut Account { permits, spent_until, lot, .. } = account;
        let rank = (!account.queue.is_empty()).then(|| Rank {
            permits,
            spent_until: (!is_sparing(spent_until, now)).then_some(spent_until),
            lot,
            session: id,
        });
        if account.rank != rank {
            let spender = |rank: &Rank| rank.spent_until.map(|spent_until| (spent_until, id));
            if let Some(rank) = account.rank {
                self.order.remove(&rank);
                if let Some(spender) = spender(&rank) {
                    self.spenders.remove(&spender);
                }
            }
            self.order.extend(rank);
            self.spenders.extend(rank.as_ref().and_then(spender));
            account.rank = rank;
        }
        if account.is_gone && account.permits == 0 && account.queue.is_empty() {
            self.accounts.remove(&id);
        }
    }
}

fn is_sparing(spent_until: Instant, now: Instant) -> bool {
    spent_until.saturating_duration_since(now) <= SPARING * MEMORY
}

/// The share of a session.
pub(super) struct Share {
    id: u64,
    permits: Arc<Permits>,
}

impl Share {
    /// A look-up that it begins.
    pub(super) fn request(&self) -> Arc<Request> {
        let mut state = self.permits.lock();
        let id = state.next_id();
        state.requests.insert(id, Entry { sessions: vec![self.id], waiting: None });
        Arc::new(Request { id, permits: Arc::clone(&self.permits) })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permits.lock().update(self.id, |account| account.is_gone = true);
    }
}

/// A look-up, which may need a permit several times, one after the other.
pub(super) struct Request {
    id: u64,
    permits: Arc<Permits>,
}

impl Request {
    /// Another session waits for it, or the same once more.
    pub(super) fn join(&self, share: &Share) {
        let mut state = self.permits.lock();
        let Some(entry) = state.requests.get_mut(&self.id) else { return };
        entry.sessions.push(share.id);
        if entry.waiting.is_some() {
            state.enqueue_for(self.id, share.id);
            self.permits.share_out(&mut state);
        }
    }

    /// A session waits for it no more.
    pub(super) fn leave(&self, share: &Share) {
        let mut state = self.permits.lock();
        let Some(entry) = state.requests.get_mut(&self.id) else { return };
        if let Some(position) = entry.sessions.iter().position(|&id| id == share.id) {
            entry.sessions.swap_remove(position);
        }
        if !entry.sessions.contains(&share.id) {
            state.dequeue_for(self.id, share.id);
        }
    }

    /// Waits for a permit. `None`: there is none to wait for, which only a fault of the program
    /// could bring about.
    pub(super) async fn permit(&self) -> Option<Permit> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = Waiting { request: self, receiver };
        {
            let mut state = self.permits.lock();
            state.enqueue(self.id, sender);
            self.permits.share_out(&mut state);
        }
        let session = (&mut waiting.receiver).await.ok()?;
        Some(Permit { session, since: Instant::now(), permits: Arc::clone(&self.permits) })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.permits.lock();
        state.withdraw(self.id);
        state.requests.remove(&self.id);
    }
}

/// The wait of a request for a permit.
struct Waiting<'a> {
    request: &'a Request,
    receiver: oneshot::Receiver<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let permits = &self.request.permits;
        let mut state = permits.lock();
        state.withdraw(self.request.id);
        // It may have got a permit that it does not know of yet.
        if let Ok(session) = self.receiver.try_recv() {
            state.release(session, Duration::ZERO);
            permits.share_out(&mut state);
        }
    }
}

/// A permit for one question; free again when dropped.
pub(super) struct Permit {
    session: u64,
    since: Instant,
    permits: Arc<Permits>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.lock();
        state.release(self.session, self.since.elapsed());
        self.permits.share_out(&mut state);
    }
}

#[cfg(test)]
mod tests;
