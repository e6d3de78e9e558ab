//! Authentication-Results (RFC 8601): fields of our own are written, those of others that claim to be ours are found.
//!
//! A field that is written reads back to its values, of any text: text that is not printable ASCII
//! is encoded, and what is too long for a line shortened, as [`super::tokens`]
//! says. Names, methods and results are [`Keyword`]s.

mod authserv_id;
mod authserv_ids;
mod claims;
mod field;
mod grammar;
#[cfg(test)]
mod tests;

pub use authserv_id::AuthservIdPattern;
pub use authserv_ids::{AuthservIdSet, OwnAuthservIds};
pub use claims::{arc_claims_authserv_id, claims_authserv_id};
pub use field::{AuthenticationResults, MethodResult, NAME, Property};
#[cfg(any(test, feature = "testing"))]
pub use {authserv_id::AuthservIdPatternError, field::Keyword};

/// The name of the header field that an ARC set keeps results in (RFC 8617 §4.1.1).
pub const ARC_NAME: &str = "ARC-Authentication-Results";
