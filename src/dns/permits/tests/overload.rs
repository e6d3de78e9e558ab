//! More questions than name servers answer in time, with a clock that only goes on when all wait.

use std::{
    collections::HashMap,
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::*;

/// Fewer than in the daemon, so that fewer sessions are too many.
const PERMITS: usize = 32;

/// The time of a session, and of the simulation.
const LIMIT: Duration = Duration::from_secs(3);
const LENGTH: Duration = Duration::from_secs(14);

/// When the messages that count begin: silent servers are known by then, and it is not over for long.
const COUNTED: Range<Duration> = Duration::from_secs(6)..Duration::from_secs(11);

/// What the messages of sessions ask for.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Look-ups one after the other, and how many at the same time.
    steps: usize,
    width: usize,
    /// Milliseconds until a name server answers.
    latency: u64,
    /// Messages in ten seconds.
    rate: u32,
    /// Sessions that ask as much as they can for twenty seconds, and then come again.
    hostile: u64,
    /// Milliseconds until their name servers answer.
    hostile_latency: u64,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU32,
    /// When each session that is there began, and the time that it has.
    sessions: Mutex<HashMap<u64, (Instant, Duration)>>,
}

/// Look-ups of a session, until its time is over.
async fn session(
    permits: &Arc<Permits>,
    counts: &Counts,
    limit: Duration,
    (steps, width): (usize, usize),
    latency: u64,
) -> bool {
    let share = permits.share();
    counts.sessions.lock().unwrap().insert(share.id, (Instant::now(), limit));
    let share = &share;
    let ask = |_| async move {
        let request = share.request();
        let permit = request.permit().await;
        sleep(Duration::from_millis(latency)).await;
        drop(permit);
    };
    let all = async {
        for _ in 0..steps {
            join_all((0..width).map(ask)).await;
        }
    };
    timeout(limit, all).await.is_ok()
}

/// Nobody waits in vain: neither for a permit that is free, nor longer than the session's time.
fn check_waits(permits: &Permits, counts: &Counts) {
    let (state, sessions) = (permits.lock(), counts.sessions.lock().unwrap());
    if let Some(next) = state.order.first() {
        assert!(state.free <= permits.reserve(next.permits, false), "{next:?} {}", state.free);
    }
    let now = Instant::now();
    for entry in state.requests.values() {
        for session in &entry.sessions {
            let (begun, limit) = sessions[session];
            assert!(now <= begun + limit, "a request of a session that is over");
        }
    }
}

/// The part of the messages that were answered.
async fn simulate(load: Load) -> f64 {
    let Load { steps, width, latency, rate, hostile, hostile_latency } = load;
    let (permits, counts) = (Permits::with_seed(PERMITS, 1), Arc::new(Counts::default()));
    for number in 0..hostile {
        let (permits, counts) = (Arc::clone(&permits), Arc::clone(&counts));
        tokio::spawn(async move {
            sleep(Duration::from_millis(number)).await;
            loop {
                let limit = Duration::from_secs(20);
                session(&permits, &counts, limit, (usize::MAX, 8), hostile_latency).await;
            }
        });
    }
    let begun = Instant::now();
    let (mut count, mut messages) = (0, Vec::new());
    while begun.elapsed() < LENGTH {
        sleep(Duration::from_secs(10) / rate).await;
        let does_count = COUNTED.contains(&begun.elapsed());
        count += u32::from(does_count);
        let (permits, counts) = (Arc::clone(&permits), Arc::clone(&counts));
        messages.push(tokio::spawn(async move {
            let asks = (steps, width);
            let is_answered = session(&permits, &counts, LIMIT, asks, latency).await;
            if is_answered && does_count {
                counts.answered.fetch_add(1, Ordering::Relaxed);
            }
            check_waits(&permits, &counts);
        }));
    }
    join_all(messages).await;
    f64::from(counts.answered.load(Ordering::Relaxed)) / f64::from(count)
}

#[tokio::test(start_paused = true)]
async fn goodput_stays_near_what_name_servers_can_do() {
    for (steps, width, latency, least) in [
        (1, 1, 900, 0.85),
        (2, 1, 900, 0.7),
        (3, 1, 300, 0.85),
        (1, 4, 300, 0.8),
        (4, 2, 300, 0.7),
        (8, 1, 200, 0.8),
        (4, 3, 100, 0.8),
    ] {
        // Twice as much as can be done.
        let rate = 2 * 10 * u32::try_from(PERMITS * 1000 / steps / width).unwrap() / latency;
        let latency = latency.into();
        let load = Load { steps, width, latency, rate, hostile: 0, hostile_latency: 0 };
        let answered = 2.0 * simulate(load).await;
        assert!(answered >= least, "{load:?}: {answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_hostile_do_not_crowd_out_others() {
    for (hostile, hostile_latency, latency) in
        [(30, 900, 20), (75, 900, 20), (75, 100, 20), (50, 5000, 20), (75, 900, 300)]
    {
        let load = Load { steps: 3, width: 1, latency, rate: 50, hostile, hostile_latency };
        let answered = simulate(load).await;
        assert!(answered >= 0.9, "{load:?}: {answered}");
    }
}
