//! Ours and other implementations, held against each other on cases that are made up at random,
//! near borders.
//!
//! `make diff` runs many, `make test` some. SEED and ROUNDS say which and how many; the seed is
//! printed. Each difference has its explanation in a list of the test, or it is a fault of ours.

mod bodies;
mod cases;
mod conversations;
mod dkim;
mod dmarc;
mod from;
mod peer;
mod spf;
