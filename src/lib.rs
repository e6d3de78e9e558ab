//! SPF Milter: verifies mail senders between an MTA and the world.
//!
//! Milter events go into a `session::Session` that knows nothing of milter. It returns values:
//! the verdict for the MTA, the changes to the message, and one record. `milter` applies them; the
//! log line is a rendering of the record. `docs/architecture.md` has the whole
//! picture.
//!
//! The program is [`main`]. Tests, benchmarks and fuzzing see the rest with the feature `testing`;
//! without it the compiler says what nothing in the program uses.

#![forbid(unsafe_code)]
// Without the feature everything but `main` is out of reach.
#![cfg_attr(feature = "testing", warn(unreachable_pub))]

mod cli;
mod daemon;
mod http;
mod listen;
mod status;
mod systemd;
mod workers;

/// The rooms that the feature opens. Their files are beside this one, and within the crate they are
/// named as if they were declared here.
#[path = ""]
mod rooms {
    pub mod auth;
    pub mod config;
    pub mod dns;
    pub mod explain;
    pub mod fields;
    pub mod internal_error;
    pub mod log;
    pub mod mail;
    pub mod milter;
    pub mod observe;
    pub mod policy;
    pub mod query;
    pub mod runtime;
    pub mod session;
    pub mod tally;
    pub mod wording;
}

#[cfg(feature = "testing")]
pub use cli::command;
pub use cli::main;
#[cfg(feature = "testing")]
pub use rooms::*;
#[cfg(not(feature = "testing"))]
#[allow(clippy::wildcard_imports, reason = "as above, but for the crate only")]
use rooms::*;
