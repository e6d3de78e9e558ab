//! One name server, and whether it answers.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    event::Server,
    exchange,
    message::{Ids, Question},
    reply::Reading,
};

/// A server that was silent or out of reach is asked after the others for so long; then one look-up
/// tries it again.
const HOLD: Duration = Duration::from_secs(30);

/// What is known of a name server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerState {
    /// The server.
    pub server: Server,
    /// How long ago it answered for the last time; `None`: never.
    pub answered: Option<Duration>,
    /// How long ago it did not answer, if it did not answer when it was last asked.
    pub silent: Option<Duration>,
}

/// A name server.
#[derive(Debug)]
pub(super) struct Upstream {
    address: SocketAddr,
    timeout: Duration,
    ids: Ids,
    epoch: Instant,
    /// Milliseconds after `epoch` until which the server comes last; 0: it answers.
    held_until: AtomicU64,
    /// Milliseconds after `epoch` when it said something for the last time, and one more; 0: it
    /// never did.
    heard: AtomicU64,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Self {
        let (held_until, heard) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { address, timeout, ids: Ids::default(), epoch: Instant::now(), held_until, heard }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the server. The caller limits the time.
    pub(super) async fn ask(&self, question: &Question) -> Reading {
        exchange::ask(self.address, question, &self.ids, self.timeout).await
    }

    /// Whether to ask this server before the silent ones. When its hold is over, that is so for one
    /// look-up.
    pub(super) fn is_ready(&self) -> bool {
        let held_until = self.held_until.load(Ordering::Relaxed);
        if held_until == 0 {
            return true;
        }
        let now = self.now();
        now >= held_until
            && self
                .held_until
                .compare_exchange(
                    held_until,
                    now + millis(HOLD),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Notes that the server answered.
    pub(super) fn release(&self) {
        self.heard.store(self.now() + 1, Ordering::Relaxed);
        if self.held_until.load(Ordering::Relaxed) != 0 {
            self.held_until.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the server was silent or out of reach.
    pub(super) fn hold(&self) {
        self.held_until.store(self.now() + millis(HOLD), Ordering::Relaxed);
    }

    /// Whether the server answered when it was asked last, or was never asked.
    pub(super) fn is_up(&self) -> bool {
        self.held_until.load(Ordering::Relaxed) == 0
    }

    /// What is known of it.
    pub(super) fn state(&self) -> ServerState {
        let (now, millis_of) = (self.now(), |time: &AtomicU64| time.load(Ordering::Relaxed));
        let ago = |time: u64| Duration::from_millis(now.saturating_sub(time));
        let (heard, held_until) = (millis_of(&self.heard), millis_of(&self.held_until));
        ServerState {
            server: Server(self.address),
            answered: heard.checked_sub(1).map(ago),
            silent: (held_until != 0).then(|| ago(held_until.saturating_sub(millis(HOLD)))),
        }
    }

    /// Whether the server has said anything since then, be it to another question.
    pub(super) fn was_heard_since(&self, time: Instant) -> bool {
        self.heard.load(Ordering::Relaxed) > millis(time.saturating_duration_since(self.epoch))
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_comes_last_for_a_while() {
        let upstream =
            Upstream::new(SocketAddr::from(([127, 0, 0, 1], 53)), Duration::from_secs(5));
        assert!(upstream.is_ready());
        upstream.hold();
        for _ in 0..2 {
            tokio::time::advance(Duration::from_millis(29_999)).await;
            assert!(!upstream.is_ready());
            tokio::time::advance(Duration::from_millis(1)).await;
            // For one look-up; then the time begins again.
            assert!(upstream.is_ready() && !upstream.is_ready());
        }
        upstream.release();
        assert!(upstream.is_ready() && upstream.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_server() {
        let address = SocketAddr::from(([127, 0, 0, 1], 53));
        let upstream = Upstream::new(address, Duration::from_secs(5));
        let known = |answered: Option<u64>, silent: Option<u64>| ServerState {
            server: Server(address),
            answered: answered.map(Duration::from_secs),
            silent: silent.map(Duration::from_secs),
        };
        assert_eq!(upstream.state(), known(None, None));
        upstream.hold();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(upstream.state(), known(None, Some(7)));
        upstream.release();
        assert_eq!(upstream.state(), known(Some(0), None));
        tokio::time::advance(Duration::from_secs(100)).await;
        upstream.hold();
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(upstream.state(), known(Some(140), Some(40)));
    }
}
