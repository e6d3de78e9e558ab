//! The ground of all methods that verify signatures over a message: what they sign of header and
//! body, canonicalization, tag-lists, keys (RFC 6376 §3, RFC 8301, 8463).
//!
//! Nothing here knows what a signature field means, or what follows from a bad one.

pub(super) mod body;
pub(super) mod canonical;
pub(super) mod crypto;
pub(super) mod header;
pub(super) mod keys;
pub(super) mod tags;
