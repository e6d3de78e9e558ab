//! What scenarios are played through.

pub mod milter;
pub mod postfix;
pub mod session;
