//! The methods of authentication: each finds an outcome, none decides anything.

pub mod spf;

use std::fmt;

/// An identity that SPF verifies (RFC 7208 §2.3, §2.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Identity {
    /// The name given with HELO or EHLO.
    Helo,
    /// The reverse-path of MAIL FROM, or `postmaster` at the HELO name where that is empty.
    Mailfrom,
}

impl Identity {
    /// The identity's word in Received-SPF (RFC 7208 §9.1) and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Helo => "helo",
            Self::Mailfrom => "mailfrom",
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An identity and what SPF found of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Which identity.
    pub identity: Identity,
    /// Its local-part; `postmaster` where it has none.
    pub local_part: String,
    /// Its domain: A-labels in lower case where it is a domain name, else as it came.
    pub domain: String,
    /// What was found.
    pub outcome: spf::Outcome,
}

impl Verified {
    /// The sender that the identity stands for: `local-part@domain`, or what came instead of one.
    pub fn sender(&self) -> String {
        match (self.local_part.as_str(), self.domain.as_str()) {
            (local_part, "") => local_part.to_owned(),
            (local_part, domain) => format!("{local_part}@{domain}"),
        }
    }
}
