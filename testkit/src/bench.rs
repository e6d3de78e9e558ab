//! The parts that the benchmarks share.

pub mod awake;
pub mod floor;
pub mod load;
pub mod mta;
pub mod processes;
pub mod signer;
pub mod zones;
