//! Who gets a place when.

use std::pin::Pin;

use futures_util::{FutureExt as _, future::poll_immediate};
use proptest::prelude::*;

use super::*;

/// As in the daemon.
const TOTAL: usize = 512;

type Wait = Pin<Box<dyn Future<Output = Option<Place>>>>;

/// A session, the places that it has and the requests with which it waits for more.
struct Session {
    asker: Arc<Asker>,
    places: Vec<Place>,
    waiting: Vec<(Arc<Request>, Wait)>,
    /// Places that it had so far.
    served: usize,
}

fn wait(request: &Arc<Request>) -> Wait {
    let request = Arc::clone(request);
    // Tokio lets a task look no more than 128 times at a time.
    Box::pin(tokio::task::unconstrained(async move { request.place().await }))
}

impl Session {
    fn new(places: &Arc<Places>) -> Self {
        Self { asker: places.asker(), places: Vec::new(), waiting: Vec::new(), served: 0 }
    }

    /// Asks for places; tells how many it has got of all that it asked for.
    fn ask(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let request = self.asker.request();
            let wait = wait(&request);
            self.waiting.push((request, wait));
        }
        self.look()
    }

    fn look(&mut self) -> usize {
        let mut waiting = Vec::new();
        for (request, mut wait) in self.waiting.drain(..) {
            match wait.as_mut().now_or_never() {
                Some(place) => {
                    self.served += 1;
                    self.places.extend(place);
                }
                None => waiting.push((request, wait)),
            }
        }
        self.waiting = waiting;
        self.places.len()
    }
}

fn sessions(places: &Arc<Places>, count: usize, questions: usize) -> Vec<Session> {
    let ask = |_| {
        let mut session = Session::new(places);
        session.ask(questions);
        session
    };
    (0..count).map(ask).collect()
}

fn free(places: &Places) -> usize {
    places.lock().free
}

#[tokio::test(start_paused = true)]
async fn who_asks_alone_waits_for_nothing() {
    // More than a message asks at any one time; and what it gets after it held as many for long.
    for (total, most, later) in
        [(512, 192, 128), (64, 24, 16), (8, 3, 2), (3, 2, 2), (1, 1, 1), (0, 0, 0)]
    {
        let places = Places::new(total);
        let mut session = Session::new(&places);
        assert_eq!(session.ask(most), most, "{total}");
        assert_eq!(session.ask(total), most, "{total}");
        tokio::time::advance(Duration::from_secs(1)).await;
        session.places.clear();
        assert_eq!(session.look(), later, "{total}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_for_nobody() {
    for count in [1, 2, 10, 50, 100, 200, 250] {
        let places = Places::new(TOTAL);
        let mut silent = sessions(&places, count, 130);
        for round in 0..4 {
            // Good sessions, one after the other: what they ask first goes out at once.
            for _ in 0..100 {
                let mut good = Session::new(&places);
                assert_eq!(good.ask(1), 1, "{count} {round}");
                // What it needs beside that waits for places that silent ones have, until these are
                // known as such.
                assert!(
                    round == 0 || count > 200 || good.ask(1) == 2,
                    "{count} {round} {}",
                    free(&places)
                );
            }
            // And some together.
            assert!(
                sessions(&places, 5, 1).iter().all(|good| good.places.len() == 1),
                "{count} {round}"
            );
            assert!(silent.iter_mut().all(|session| session.look() > 0), "{count} {round}");
            tokio::time::advance(Duration::from_secs(5)).await;
            for session in &mut silent {
                let count = session.places.len();
                session.places.clear();
                session.ask(count);
            }
        }
        // Whoever came first has no more than others in the end.
        let shares: Vec<usize> = silent.iter().map(|session| session.places.len()).collect();
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(*most <= least + 2, "{count} {shares:?}");
    }
}

/// More silent sessions than places: for a time-out they have them all, from then on they leave
/// some to others.
#[tokio::test(start_paused = true)]
async fn more_silent_sessions_than_places() {
    let places = Places::new(TOTAL);
    let mut silent = sessions(&places, 1000, 5);
    assert_eq!(free(&places), 0);
    for round in 0..5 {
        tokio::time::advance(Duration::from_secs(5)).await;
        // Each question is given up, and asked again as all else.
        for session in &mut silent {
            let count = session.places.len();
            session.places.clear();
            session.ask(count);
        }
        for session in &mut silent {
            session.look();
        }
        if round > 1 {
            assert!(free(&places) >= TOTAL / 16, "{round}: {}", free(&places));
            for _ in 0..100 {
                let mut good = Session::new(&places);
                assert_eq!(good.ask(1), 1);
            }
        }
    }
    // Nobody is left out.
    assert!(silent.iter().all(|session| session.served >= 2));
}

#[tokio::test(start_paused = true)]
async fn the_one_with_the_fewest_is_next() {
    let places = Places::new(8);
    let mut all = sessions(&places, 3, 4);
    let shares = |all: &mut [Session]| all.iter_mut().map(Session::look).collect::<Vec<_>>();
    // Half is for those who have none.
    assert_eq!((shares(&mut all), free(&places)), (vec![3, 1, 1], 3));
    all[0].places.clear();
    assert_eq!((shares(&mut all), free(&places)), (vec![1, 2, 1], 4));
    all[1].places.pop();
    // All have one, and the first wants no more: the one who waits the longest.
    assert_eq!((shares(&mut all), free(&places)), (vec![1, 2, 1], 4));
    all[2].places.pop();
    assert_eq!((shares(&mut all), free(&places)), (vec![1, 2, 1], 4));
}

/// The question of one who has his share, or no more time for it, is everybody's who needs the
/// answer.
#[tokio::test]
async fn a_question_of_several_counts_for_one_of_them() {
    let places = Places::new(TOTAL);
    let mut others = sessions(&places, 200, 130);
    let mut silent = others.pop().unwrap();
    silent.look();
    let (request, mut wait) = silent.waiting.pop().unwrap();
    assert!(wait.as_mut().now_or_never().is_none());
    let good = places.asker();
    request.join(&good);
    let place = wait.as_mut().now_or_never().unwrap().unwrap();
    assert_eq!(place.asker, good.id);
    let has = |asker: &Asker| places.lock().askers[&asker.id].places;
    assert_eq!((has(&good), has(&silent.asker)), (1, silent.places.len()));
    drop(place);
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

/// A place that came while nobody looked any more goes to the next.
#[tokio::test]
async fn what_nobody_takes_is_not_lost() {
    let places = Places::new(1);
    let (mut a, mut b, mut c) =
        (Session::new(&places), Session::new(&places), Session::new(&places));
    assert_eq!([a.ask(1), b.ask(1), c.ask(1)], [1, 0, 0]);
    a.places.clear();
    b.waiting.clear();
    assert_eq!(c.look(), 1);
    drop((a, b, c));
    let state = places.lock();
    assert_eq!(
        (state.free, state.askers.len(), state.requests.len(), state.order.len()),
        (1, 0, 0, 0)
    );
}

/// What is known, held against what it follows from.
fn check(places: &Places) {
    let state = places.lock();
    assert_eq!(
        state.free + state.askers.values().map(|account| account.places).sum::<usize>(),
        places.total
    );
    let mut order = Vec::new();
    for (&id, account) in &state.askers {
        let waits =
            |(_, entry): &(&u64, &Entry)| entry.waiting.is_some() && entry.askers.contains(&id);
        let mut queue: Vec<u64> =
            state.requests.iter().filter(waits).map(|(&request, _)| request).collect();
        queue.sort_unstable();
        assert_eq!(account.queue, queue);
        order.extend(
            queue.first().map(|&request| (account.places, account.spent_until, request, id)),
        );
        // Nobody waits who may have a place.
        assert!(queue.is_empty() || state.free <= places.reserve(account.places, false));
    }
    order.sort_unstable();
    assert!(state.order.iter().eq(&order));
}

proptest! {
    #[test]
    fn comings_and_goings(total in 0usize..40, steps in prop::collection::vec((0u8..8, 0usize..6, any::<usize>()), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let places = Places::new(total);
            let mut sessions: Vec<Session> = Vec::new();
            let mut joined: Vec<(Arc<Request>, Arc<Asker>)> = Vec::new();
            for (step, number, random) in steps {
                while sessions.len() <= number {
                    sessions.push(Session::new(&places));
                }
                let count = sessions[number].waiting.len();
                match step {
                    0 | 1 => _ = sessions[number].ask(1 + random % 5),
                    2 => _ = sessions[number].places.pop(),
                    3 if count > 0 => drop(sessions[number].waiting.swap_remove(random % count)),
                    4 => drop(sessions.swap_remove(number)),
                    5 if count > 0 => {
                        let request = Arc::clone(&sessions[number].waiting[random % count].0);
                        let asker = Arc::clone(&sessions[random % sessions.len()].asker);
                        request.join(&asker);
                        joined.push((request, asker));
                    }
                    6 if !joined.is_empty() => {
                        let (request, asker) = joined.swap_remove(random % joined.len());
                        request.leave(&asker);
                    }
                    _ => tokio::time::advance(Duration::from_millis(u64::try_from(random % 3000).unwrap())).await,
                }
                for session in &mut sessions {
                    session.look();
                }
                check(&places);
            }
            for (request, asker) in joined {
                request.leave(&asker);
            }
            drop(sessions);
            let state = places.lock();
            assert_eq!((state.free, state.askers.len(), state.requests.len(), state.order.len()), (total, 0, 0, 0));
        });
    }
}

#[tokio::test]
async fn a_wait_that_is_given_up_gives_its_place_back() {
    let places = Places::new(1);
    let asker = places.asker();
    let (first, second) = (asker.request(), asker.request());
    let place = first.place().await;
    let mut late = wait(&second);
    assert!(poll_immediate(&mut late).await.is_none());
    drop(place);
    assert_eq!(free(&places), 0);
    drop(late);
    assert_eq!(free(&places), 1);
}
