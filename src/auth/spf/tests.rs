//! Cases of RFC 7208.
