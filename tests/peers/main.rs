//! The daemon with other programs: MTAs, a name server, signers, and other implementations.
//!
//! `make test` puts them in place, as root; `make diff` runs the differential tests for long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod differential;
mod examples;
mod marks;
mod monitoring;
mod moving;
mod nameservers;
mod postfix;
mod query;
mod readers;
mod restarts;
mod scenarios;
mod sendmail;
mod service;
mod signed;
mod signing;
mod status_page;
mod unbound;
