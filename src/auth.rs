//! The methods of mail authentication: each finds an outcome, and decides nothing.

pub mod dmarc;
pub mod iprev;
