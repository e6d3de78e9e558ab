//! Which session gets a permit when.

mod overload;
mod twin;

use std::pin::Pin;

use futures_util::{FutureExt as _, future::poll_immediate};
use proptest::prelude::*;

use super::*;

/// As in the daemon.
const TOTAL: usize = 512;

type Wait = Pin<Box<dyn Future<Output = Option<Permit>>>>;

/// A session, the permits that it has and the requests with which it waits for more.
struct Session {
    share: Arc<Share>,
    permits: Vec<Permit>,
    waiting: Vec<(Arc<Request>, Wait)>,
    /// Permits that it had so far.
    served: usize,
}

fn wait(request: &Arc<Request>) -> Wait {
    let request = Arc::clone(request);
    // Tokio lets a task look no more than 128 times at a time.
    Box::pin(tokio::task::unconstrained(async move { request.permit().await }))
}

impl Session {
    fn new(permits: &Arc<Permits>) -> Self {
        Self { share: permits.share(), permits: Vec::new(), waiting: Vec::new(), served: 0 }
    }

    /// Asks for permits; returns how many it has got of all that it asked for.
    fn ask(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let request = self.share.request();
            let wait = wait(&request);
            self.waiting.push((request, wait));
        }
        self.look()
    }

    fn look(&mut self) -> usize {
        let mut waiting = Vec::new();
        for (request, mut wait) in self.waiting.drain(..) {
            match wait.as_mut().now_or_never() {
                Some(permit) => {
                    self.served += 1;
                    self.permits.extend(permit);
                }
                None => waiting.push((request, wait)),
            }
        }
        self.waiting = waiting;
        self.permits.len()
    }
}

fn sessions(permits: &Arc<Permits>, count: usize, questions: usize) -> Vec<Session> {
    let ask = |_| {
        let mut session = Session::new(permits);
        session.ask(questions);
        session
    };
    (0..count).map(ask).collect()
}

fn free(permits: &Permits) -> usize {
    permits.lock().free
}

#[tokio::test(start_paused = true)]
async fn the_only_session_waits_for_nothing() {
    // More than a message asks at any one time; and what it gets after it held as many for long.
    for (total, most, later) in
        [(512, 192, 128), (64, 24, 16), (8, 3, 2), (3, 2, 2), (1, 1, 1), (0, 0, 0)]
    {
        let permits = Permits::new(total);
        let mut session = Session::new(&permits);
        assert_eq!(session.ask(most), most, "{total}");
        assert_eq!(session.ask(total), most, "{total}");
        tokio::time::advance(Duration::from_secs(1)).await;
        session.permits.clear();
        assert_eq!(session.look(), later, "{total}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_for_nobody() {
    for count in [1, 2, 10, 50, 100, 200, 250] {
        let permits = Permits::new(TOTAL);
        let mut silent = sessions(&permits, count, 130);
        for round in 0..4 {
            // Good sessions, one after the other: what they ask first goes out at once.
            for _ in 0..100 {
                let mut good = Session::new(&permits);
                assert_eq!(good.ask(1), 1, "{count} {round}");
                // Its further look-ups wait for permits that silent ones have, until these
                // are known as such.
                assert!(
                    round == 0 || count > 200 || good.ask(1) == 2,
                    "{count} {round} {}",
                    free(&permits)
                );
            }
            // And some together.
            assert!(
                sessions(&permits, 5, 1).iter().all(|good| good.permits.len() == 1),
                "{count} {round}"
            );
            assert!(silent.iter_mut().all(|session| session.look() > 0), "{count} {round}");
            tokio::time::advance(Duration::from_secs(5)).await;
            for session in &mut silent {
                let count = session.permits.len();
                session.permits.clear();
                session.ask(count);
            }
        }
        // The sessions that came first have no more than others in the end.
        let shares: Vec<usize> = silent.iter().map(|session| session.permits.len()).collect();
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(*most <= least + 2, "{count} {shares:?}");
    }
}

/// More silent sessions than permits: for a time-out they have them all, from then on they leave
/// some to others.
#[tokio::test(start_paused = true)]
async fn more_silent_sessions_than_permits() {
    let permits = Permits::new(TOTAL);
    let mut silent = sessions(&permits, 1000, 5);
    assert_eq!(free(&permits), 0);
    for round in 0..5 {
        tokio::time::advance(Duration::from_secs(5)).await;
        // Each question is given up, and asked again as all else.
        for session in &mut silent {
            let count = session.permits.len();
            session.permits.clear();
            session.ask(count);
        }
        for session in &mut silent {
            session.look();
        }
        if round > 1 {
            assert!(free(&permits) >= TOTAL / 16, "{round}: {}", free(&permits));
            for _ in 0..100 {
                let mut good = Session::new(&permits);
                assert_eq!(good.ask(1), 1);
            }
        }
    }
    // Nobody is left out.
    assert!(silent.iter().all(|session| session.served >= 2));
}

#[tokio::test(start_paused = true)]
async fn the_one_with_the_fewest_is_next() {
    let permits = Permits::new(8);
    let mut all = sessions(&permits, 3, 4);
    let shares = |all: &mut [Session]| all.iter_mut().map(Session::look).collect::<Vec<_>>();
    // Half is for those who have none.
    assert_eq!((shares(&mut all), free(&permits)), (vec![3, 1, 1], 3));
    all[0].permits.clear();
    // The first wants no more, and of the others the lot decides: nobody spent anything.
    let has = shares(&mut all);
    assert!(has == [1, 2, 1] || has == [1, 1, 2], "{has:?}");
    let (second, third) = (has[1] - 1, has[2] - 1);
    // It decides the same each time.
    for _ in 0..2 {
        all[1 + third].permits.pop();
        assert_eq!((shares(&mut all), free(&permits)), (vec![1, 1 + second, 1 + third], 4));
    }
}

/// Of those with equally many, who spent much has to wait; and no longer than that counts.
#[tokio::test(start_paused = true)]
async fn the_sparing_come_first() {
    let permits = Permits::with_seed(1, 1);
    let (mut spender, mut holder) = (Session::new(&permits), Session::new(&permits));
    for (held, is_sparing) in [(2000, true), (2001, false)] {
        let mut firsts = 0;
        for _ in 0..40 {
            spender.ask(1);
            tokio::time::advance(Duration::from_millis(held)).await;
            spender.permits.clear();
            assert_eq!(holder.ask(1), 1);
            // The same lot would be the same order each time: others come.
            let mut other = Session::new(&permits);
            other.ask(1);
            spender.ask(1);
            holder.permits.clear();
            firsts += spender.look();
            assert_eq!(spender.permits.len() + other.look(), 1);
            spender.permits.clear();
            other.permits.clear();
            assert_eq!(spender.look() + other.look(), 1);
            spender.permits.clear();
            other.permits.clear();
            // A second counts for four.
            tokio::time::advance(Duration::from_millis(4 * held)).await;
        }
        assert_eq!(firsts > 0, is_sparing);
    }
}

/// The question of one who has his share, or no more time for it, is everybody's who needs the
/// answer.
#[tokio::test]
async fn a_question_of_several_counts_for_one_of_them() {
    let permits = Permits::new(TOTAL);
    let mut others = sessions(&permits, 200, 130);
    let mut silent = others.pop().unwrap();
    silent.look();
    let (request, mut wait) = silent.waiting.pop().unwrap();
    assert!(wait.as_mut().now_or_never().is_none());
    let good = permits.share();
    request.join(&good);
    let permit = wait.as_mut().now_or_never().unwrap().unwrap();
    assert_eq!(permit.session, good.id);
    let has = |share: &Share| permits.lock().accounts[&share.id].permits;
    assert_eq!((has(&good), has(&silent.share)), (1, silent.permits.len()));
    drop(permit);
    // One that has left has no say.
    request.leave(&good);
    let mut wait = self::wait(&request);
    assert!(wait.as_mut().now_or_never().is_none());
    // Twice there, once gone.
    request.join(&good);
    request.join(&good);
    request.leave(&good);
    assert!(wait.as_mut().now_or_never().is_some());
}

/// A permit that came while nobody looked any more goes to the next.
#[tokio::test]
async fn permits_that_nobody_takes_are_not_lost() {
    let permits = Permits::new(1);
    let (mut a, mut b, mut c) =
        (Session::new(&permits), Session::new(&permits), Session::new(&permits));
    assert_eq!([a.ask(1), b.ask(1), c.ask(1)], [1, 0, 0]);
    a.permits.clear();
    b.waiting.clear();
    assert_eq!(c.look(), 1);
    drop((a, b, c));
    let state = permits.lock();
    assert_eq!(
        (state.free, state.accounts.len(), state.requests.len(), state.order.len()),
        (1, 0, 0, 0)
    );
}

/// The state, held against the facts that it follows from.
fn check(permits: &Permits) {
    let state = permits.lock();
    assert_eq!(
        state.free + state.accounts.values().map(|account| account.permits).sum::<usize>(),
        permits.total
    );
    let now = Instant::now();
    let (mut order, mut spenders) = (Vec::new(), Vec::new());
    for (&id, account) in &state.accounts {
        let waits =
            |(_, entry): &(&u64, &Entry)| entry.waiting.is_some() && entry.sessions.contains(&id);
        let mut queue: Vec<u64> =
            state.requests.iter().filter(waits).map(|(&request, _)| request).collect();
        queue.sort_unstable();
        assert_eq!(account.queue, queue);
        assert_eq!(account.rank.is_some(), !queue.is_empty());
        let Some(rank) = account.rank else { continue };
        assert_eq!((rank.permits, rank.session, rank.lot), (account.permits, id, permits.lot(id)));
        match rank.spent_until {
            None => assert!(is_sparing(account.spent_until, now)),
            Some(spent_until) => {
                assert_eq!(spent_until, account.spent_until);
                spenders.push((spent_until, id));
            }
        }
        order.push(rank);
        // Nobody waits who may have a permit. That time has passed is seen at the next change.
        assert!(state.free <= permits.reserve(account.permits, false), "{rank:?} {}", state.free);
    }
    order.sort_unstable();
    assert!(state.order.iter().eq(&order));
    spenders.sort_unstable();
    assert!(state.spenders.iter().eq(&spenders));
}

proptest! {
    #[test]
    fn comings_and_goings(total in 0usize..40, steps in prop::collection::vec((0u8..8, 0usize..6, any::<usize>()), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let permits = Permits::new(total);
            let mut sessions: Vec<Session> = Vec::new();
            let mut joined: Vec<(Arc<Request>, Arc<Share>)> = Vec::new();
            for (step, number, random) in steps {
                while sessions.len() <= number {
                    sessions.push(Session::new(&permits));
                }
                let count = sessions[number].waiting.len();
                match step {
                    0 | 1 => _ = sessions[number].ask(1 + random % 5),
                    2 => _ = sessions[number].permits.pop(),
                    3 if count > 0 => drop(sessions[number].waiting.swap_remove(random % count)),
                    4 => drop(sessions.swap_remove(number)),
                    5 if count > 0 => {
                        let request = Arc::clone(&sessions[number].waiting[random % count].0);
                        let share = Arc::clone(&sessions[random % sessions.len()].share);
                        request.join(&share);
                        joined.push((request, share));
                    }
                    6 if !joined.is_empty() => {
                        let (request, share) = joined.swap_remove(random % joined.len());
                        request.leave(&share);
                    }
                    _ => tokio::time::advance(Duration::from_millis(u64::try_from(random % 3000).unwrap())).await,
                }
                for session in &mut sessions {
                    session.look();
                }
                check(&permits);
            }
            for (request, share) in joined {
                request.leave(&share);
            }
            drop(sessions);
            let state = permits.lock();
            assert_eq!((state.free, state.accounts.len(), state.requests.len(), state.order.len(), state.spenders.len()), (total, 0, 0, 0, 0));
        });
    }
}

#[tokio::test]
async fn a_wait_that_is_given_up_gives_its_place_back() {
    let permits = Permits::new(1);
    let share = permits.share();
    let (first, second) = (share.request(), share.request());
    let permit = first.permit().await;
    let mut late = wait(&second);
    assert!(poll_immediate(&mut late).await.is_none());
    drop(permit);
    assert_eq!(free(&permits), 0);
    drop(late);
    assert_eq!(free(&permits), 1);
}
