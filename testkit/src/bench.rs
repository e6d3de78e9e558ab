//! The parts that the benchmarks share.

pub mod awake;
pub mod floor;
pub mod load;
pub mod machine;
pub mod mta;
pub mod processes;
pub mod program;
pub mod report;
pub mod signer;
pub mod zones;
