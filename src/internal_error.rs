//! Errors of the program itself: something is not as it always is.
//!
//! No message and no answer of DNS can bring one about. Should one occur, the work is given up: a
//! shorter or an emptier result could let forged mail in, or keep good mail out. The MTA is
//! answered as `error_action` says, and the log says where.

use std::{
    convert::Infallible,
    fmt,
    panic::{self, AssertUnwindSafe, Location},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::sleep;

/// The pause after a panic of work that goes on for ever.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// Something that is not as it always is, and where in the program that was noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InternalError {
    what: &'static str,
    place: &'static Location<'static>,
}

impl InternalError {
    /// An error that is noticed where this is called.
    #[track_caller]
    pub fn new(what: &'static str) -> Self {
        Self { what, place: Location::caller() }
    }
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "internal error: {} ({}:{})", self.what, self.place.file(), self.place.line())
    }
}

impl std::error::Error for InternalError {}

/// Does work that must not take more with it than itself. `None`: it panicked, which the log has.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Does endless work, and begins it again after a panic: others count on it to go on.
pub(crate) async fn keep_on<F: Future<Output = Infallible>>(work: impl Fn() -> F) -> Infallible {
    loop {
        let Err(_) = AssertUnwindSafe(work()).catch_unwind().await;
        sleep(PAUSE).await;
    }
}

/// Panics where a test asks for it: the process has the environment variable
/// `SPF_MILTER_PANICS`, and the text has the word `panic-at-` with the event. No release build has
/// this.
#[cfg(all(feature = "testing", debug_assertions))]
#[allow(clippy::panic, reason = "this is what it is for")]
pub(crate) fn panic_where_asked(event: &str, text: &[u8]) {
    static IS_ON: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("SPF_MILTER_PANICS").is_some());
    let word = format!("panic-at-{event}");
    if *IS_ON && text.windows(word.len()).any(|window| window == word.as_bytes()) {
        panic!("provoked at {event}");
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn endless_work_outlives_panics() {
        let attempts = Cell::new(0);
        let work = || async {
            attempts.set(attempts.get() + 1);
            assert!(attempts.get() == 3, "provoked");
            pending().await
        };
        assert!(timeout(PAUSE * 10, keep_on(work)).await.is_err());
        assert_eq!(attempts.get(), 3);
    }

    #[test]
    fn a_panic_is_contained() {
        struct Panics;
        impl Drop for Panics {
            // While another panic is under way, too.
            fn drop(&mut self) {
                assert_eq!(contained(|| panic!("provoked")), None::<()>);
            }
        }
        let outcome = contained(|| {
            let _panics = Panics;
            panic!("provoked")
        });
        assert_eq!(outcome, None::<()>);
        assert_eq!(contained(|| 7), Some(7));
    }
}
