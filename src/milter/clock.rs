//! The time, read once for all that is done without waiting.

use tokio::time::Instant;

/// A clock that stands still while a task waits for nothing.
#[derive(Debug, Default)]
pub(super) struct Clock {
    read: Option<Instant>,
}

impl Clock {
    /// A time that was read after the task last waited.
    pub(super) fn now(&mut self) -> Instant {
        *self.read.get_or_insert_with(Instant::now)
    }

    /// The same; `None` where it was not read yet.
    pub(super) fn known(&self) -> Option<Instant> {
        self.read
    }

    /// The task waits, or has waited, or has new octets.
    pub(super) fn go_on(&mut self) {
        self.read = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_until_it_goes_on() {
        let (mut clock, begin) = (Clock::default(), Instant::now());
        assert_eq!((clock.known(), clock.now(), clock.known()), (None, begin, Some(begin)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), begin);
        clock.go_on();
        assert_eq!((clock.known(), clock.now()), (None, begin + Duration::from_secs(1)));
    }
}
