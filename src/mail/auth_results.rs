//! Authentication-Results (RFC 8601) as data: written into a header field, and read back.
//!
//! Whatever the values are made of, the field written reads back to them: text that is not
//! printable ASCII is encoded, and what is too long for a line shortened, as [`super::tokens`]
//! says. Names, methods and results are [`Keyword`]s.

mod authserv_id;
mod field;
mod grammar;
mod reader;
#[cfg(test)]
mod tests;

pub use authserv_id::{
    AuthservIdPattern, AuthservIdPatternError, arc_claims_authserv_id, claims_authserv_id,
};
pub use field::{AuthenticationResults, Keyword, MethodResult, NAME, Property};

/// The name of the header field that an ARC set keeps results in (RFC 8617 §4.1.1).
pub const ARC_NAME: &str = "ARC-Authentication-Results";
