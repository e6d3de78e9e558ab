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

#[cfg(not(feature = "testing"))]
mod auth;
#[cfg(feature = "testing")]
pub mod auth;
mod cli;
#[cfg(not(feature = "testing"))]
mod config;
#[cfg(feature = "testing")]
pub mod config;
mod daemon;
#[cfg(not(feature = "testing"))]
mod dns;
#[cfg(feature = "testing")]
pub mod dns;
#[cfg(not(feature = "testing"))]
mod fields;
#[cfg(feature = "testing")]
pub mod fields;
#[cfg(not(feature = "testing"))]
mod internal_error;
#[cfg(feature = "testing")]
pub mod internal_error;
mod listen;
#[cfg(not(feature = "testing"))]
mod log;
#[cfg(feature = "testing")]
pub mod log;
#[cfg(not(feature = "testing"))]
mod mail;
#[cfg(feature = "testing")]
pub mod mail;
#[cfg(not(feature = "testing"))]
mod milter;
#[cfg(feature = "testing")]
pub mod milter;
#[cfg(not(feature = "testing"))]
mod observe;
#[cfg(feature = "testing")]
pub mod observe;
#[cfg(not(feature = "testing"))]
mod policy;
#[cfg(feature = "testing")]
pub mod policy;
#[cfg(not(feature = "testing"))]
mod runtime;
#[cfg(feature = "testing")]
pub mod runtime;
#[cfg(not(feature = "testing"))]
mod session;
#[cfg(feature = "testing")]
pub mod session;
mod systemd;
#[cfg(not(feature = "testing"))]
mod wording;
#[cfg(feature = "testing")]
pub mod wording;
mod workers;

pub use cli::main;
