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
