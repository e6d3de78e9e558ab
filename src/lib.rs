//! SPF Milter: verifies mail senders between an MTA and the world.

#![forbid(unsafe_code)]

pub mod auth;
pub mod dns;
pub mod mail;
