//! The methods of authentication: each finds an outcome, none decides anything.

pub mod dkim;
