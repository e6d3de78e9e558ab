//! The drivers that play scenarios.

pub mod milter;
pub mod postfix;
pub mod query;
pub mod session;
