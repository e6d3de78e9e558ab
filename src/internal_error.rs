//! Errors of the program itself: something is not as it always is.
//!
//! No message and no answer of DNS can bring one about. Should one occur, the work is given up: a
//! shorter or an emptier result could let forged mail in, or keep good mail out. The MTA is
//! answered as `error_action` says, and the log says where.

use std::{fmt, panic::Location};

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
