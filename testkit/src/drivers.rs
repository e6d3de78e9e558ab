//! The drivers that play scenarios.

pub mod milter;
pub mod postfix;
pub mod session;
