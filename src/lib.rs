//! SPF Milter: verifies mail senders between an MTA and the world.
//!
//! Milter events go into a [`session::Session`] that knows nothing of milter. It returns values:
//! what the MTA is to be told, the changes to the message, and one record of what happened.
//! [`milter`] applies them; the log line is a rendering of the record. `docs/architecture.md` has
//! the whole picture.

#![forbid(unsafe_code)]

pub mod auth;
mod cli;
pub mod config;
mod daemon;
pub mod dns;
pub mod fields;
pub mod internal_error;
mod listen;
pub mod log;
pub mod mail;
pub mod milter;
pub mod observe;
pub mod policy;
pub mod runtime;
pub mod session;
mod systemd;
pub mod wording;
mod workers;

pub use cli::main;
