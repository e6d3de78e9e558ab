//! The parts that the benchmarks share.

pub mod awake;
pub mod signer;
