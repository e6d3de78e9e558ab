//! What the benchmarks share.

pub mod awake;
pub mod signer;
