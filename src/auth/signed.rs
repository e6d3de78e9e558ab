//! Parts that all verifiers of message signatures share: header, body hashes, canonicalization,
//! tag-lists, keys (RFC 6376 §3, RFC 8301, 8463).
//!
//! The meaning of a signature field, and the result of a bad one, belong to the verifier.

pub(super) mod body;
pub(super) mod canonical;
pub(super) mod crypto;
pub(super) mod header;
pub(super) mod keys;
pub(super) mod tags;
