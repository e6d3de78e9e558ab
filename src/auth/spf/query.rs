//! The question of a check: one identity of one client.

use std::net::IpAddr;

use crate::mail::domain::{Domain, DomainError};

/// The local-part of a sender that has none (RFC 7208 §4.3).
pub const POSTMASTER: &str = "postmaster";

/// The question of a check: one identity of one client.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The SMTP client's address; IPv4-mapped addresses count as IPv4.
    pub client: IpAddr,
    /// The domain of the identity.
    pub domain: QueryDomain<'a>,
    /// The local-part of the identity; an empty one counts as `postmaster`.
    pub local_part: &'a str,
    /// The name that the client gave with HELO or EHLO, for `%{h}`.
    pub helo: &'a str,
    /// The name of this host, for `%{r}`.
    pub receiver: &'a str,
    /// The time for `%{t}`, in seconds since 1970.
    pub timestamp: u64,
}

/// The domain of an identity.
#[derive(Clone, Copy, Debug)]
pub enum QueryDomain<'a> {
    /// As it was given: any text.
    Text(&'a str),
    /// Parsed before.
    Parsed(&'a Domain),
}

impl QueryDomain<'_> {
    /// The domain, parsed now where that was not done before.
    ///
    /// # Errors
    ///
    /// The text is not a domain.
    pub(super) fn parse(self) -> Result<Domain, DomainError> {
        match self {
            Self::Text(text) => Domain::parse(text),
            Self::Parsed(domain) => Ok(domain.clone()),
        }
    }
}

impl<'a> From<&'a str> for QueryDomain<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}
