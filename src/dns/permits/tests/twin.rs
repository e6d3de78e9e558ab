//! The same shares by a slow twin, which keeps all that ever happened and looks through all of it.

use super::*;

/// All sessions that are there.
struct Twin {
    total: usize,
    sessions: Vec<TwinSession>,
}

struct TwinSession {
    lot: u64,
    waiting: usize,
    /// When it got the permits that it has, the first one first.
    since: Vec<Instant>,
    /// When it gave permits back, and how long it had had each.
    past: Vec<(Instant, Duration)>,
}

impl TwinSession {
    /// What it held is forgotten at a quarter of the speed, from when it gave it back.
    fn spent(&self, now: Instant) -> Duration {
        let (mut spent, mut time) = (Duration::ZERO, now);
        for &(until, held) in &self.past {
            spent = spent.saturating_sub(until.saturating_duration_since(time)) + 4 * held;
            time = until;
        }
        spent.saturating_sub(now.saturating_duration_since(time))
    }
}

impl Twin {
    fn free(&self) -> usize {
        self.total - self.sessions.iter().map(|session| session.since.len()).sum::<usize>()
    }

    /// Who gets the next permit.
    fn next(&self, now: Instant) -> Option<usize> {
        let (total, free) = (self.total, self.free());
        let may = |&number: &usize| {
            let session = &self.sessions[number];
            let is_sparing = session.spent(now) <= Duration::from_secs(8);
            let left = match session.since.len() {
                0 if is_sparing => 0,
                0 => total / 16,
                permits => {
                    let graded = ((permits - 1) * (total / 128).max(1)).min(total / 8);
                    total / 2 + graded + if is_sparing { 0 } else { total / 8 }
                }
            };
            session.waiting > 0 && free > left
        };
        (0..self.sessions.len()).filter(may).min_by_key(|&number| {
            let session = &self.sessions[number];
            let spent = session.spent(now);
            let spent = if spent <= Duration::from_secs(8) { Duration::ZERO } else { spent };
            (session.since.len(), spent, session.lot)
        })
    }

    fn share_out(&mut self, now: Instant) {
        while let Some(number) = self.next(now) {
            self.sessions[number].waiting -= 1;
            self.sessions[number].since.push(now);
        }
    }

    fn give_back(&mut self, number: usize, now: Instant) {
        let session = &mut self.sessions[number];
        let held = now - session.since.remove(0);
        session.past.push((now, held));
        self.share_out(now);
    }
}

proptest! {
    #[test]
    fn agrees(total in 0usize..300, seed: u64, steps in prop::collection::vec((0u8..9, 0usize..12, any::<usize>()), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let permits = Permits::with_seed(total, seed);
            let mut sessions: Vec<Session> = Vec::new();
            let mut twin = Twin { total, sessions: Vec::new() };
            for (step, number, random) in steps {
                while sessions.len() <= number {
                    sessions.push(Session::new(&permits));
                    let lot = permits.lot(sessions.last().unwrap().share.id);
                    twin.sessions.push(TwinSession { lot, waiting: 0, since: Vec::new(), past: Vec::new() });
                }
                let now = Instant::now();
                match step {
                    0..3 => for _ in 0..1 + random % 20 {
                        sessions[number].ask(1);
                        twin.sessions[number].waiting += 1;
                        twin.share_out(now);
                    },
                    3..6 => for _ in 0..(1 + random % 8).min(sessions[number].permits.len()) {
                        drop(sessions[number].permits.remove(0));
                        twin.give_back(number, now);
                        sessions[number].look();
                    },
                    6 => {
                        sessions[number].waiting.pop();
                        twin.sessions[number].waiting = twin.sessions[number].waiting.saturating_sub(1);
                    },
                    _ => tokio::time::advance(Duration::from_millis(u64::try_from(random % 3000).unwrap())).await,
                }
                // Time alone gives nothing away, in neither.
                for (session, twin) in sessions.iter_mut().zip(&twin.sessions) {
                    assert_eq!((session.look(), session.waiting.len()), (twin.since.len(), twin.waiting));
                }
                check(&permits);
            }
        });
    }
}
