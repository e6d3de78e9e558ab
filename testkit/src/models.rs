//! Slow twins of what the program does: written from the RFCs as plainly as can be, to be held
//! against it.

pub mod body;
pub mod dkim;
pub mod dmarc;
pub mod macros;
