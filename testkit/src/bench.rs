//! The parts that the benchmarks share.

pub mod awake;
pub mod chart;
pub mod floor;
pub mod growth;
pub mod load;
pub mod machine;
pub mod mta;
pub mod processes;
pub mod program;
pub mod report;
pub mod signer;
pub mod zones;
