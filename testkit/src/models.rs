//! Slow twins of what the program does: written from the RFCs as plainly as can be, to be held
//! against it. `relays` is a twin of others: of what they write.

pub mod body;
pub mod dkim;
pub mod dmarc;
pub mod macros;
pub mod relays;
