//! Ours and other implementations, held against each other on cases that are made up at random,
//! near borders.
//!
//! `make diff` runs many, `make test` some. SEED and ROUNDS say which and how many; the seed is
//! printed. Each difference has its explanation in a list of the test, or it is a fault of ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "fuzz/mod.rs"]
mod fuzz;

mod diff {
    mod bodies;
    pub(crate) mod cases;
    mod conversations;
    mod dkim;
    mod dmarc;
    mod from;
    pub(crate) mod peer;
    mod spf;
}
