//! Slow twins of what the program does: written from the RFCs as plainly as can be, to be held
//! against it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod body;
pub mod dkim;
pub mod dmarc;
pub mod macros;
