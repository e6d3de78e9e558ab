//! Outcomes of DMARC.

use std::{fmt, sync::Arc};

use super::record::{Alignment, Policy, Record};
use crate::{
    dns::{Failure, Name},
    mail::{author::Malformed, domain::Domain, results::words},
};

words! {
    /// A result of DMARC (RFC 9989 §9, IANA registry "Email Authentication Result Names").
    DmarcResult {
        /// No policy applies to the author domain, or there is no author.
        None = "none",
        /// The author domain is authenticated: an aligned identifier passed.
        Pass = "pass",
        /// A policy applies, and no aligned identifier passed.
        Fail = "fail",
        /// DNS trouble that may go away, and could have changed the outcome.
        Temperror = "temperror",
        /// The message has no author domain that can be determined.
        Permerror = "permerror",
    }
}

/// The outcome of DMARC for a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The result.
    pub result: DmarcResult,
    /// The author domain that the result is about; `None` where it cannot be determined.
    pub author_domain: Option<Domain>,
    /// The policy that applies; `None` where there is none, or DNS trouble keeps it unknown. A
    /// policy may be known with a temperror, and must not be carried out then (RFC 9989 §5.3.6),
    /// unless it is violated in any case.
    pub policy: Option<AppliedPolicy>,
    /// With a temperror of a message with several authors, which never passes: the domain and the
    /// policy are those of one that fails, whatever the trouble hides.
    pub is_violated: bool,
    /// The record that applies, which may be known where the policy is not.
    pub record: Option<AppliedRecord>,
    /// The organizational domain of the author domain, where it had to be found out.
    pub organizational_domain: Option<Domain>,
    /// With a pass: the identifiers that authenticate the author domain, as far as they were looked
    /// at: at least one. Otherwise empty.
    pub aligned: Vec<Identifier>,
    /// Where a record applies: of each identifier that SPF and DKIM found, in this order, whether
    /// it is aligned. A message with several From fields has none.
    pub alignments: Vec<IdentifierAlignment>,
    /// Why the result is none, temperror or permerror; with a pass or fail, what was wrong beside.
    pub problem: Option<Problem>,
}

impl Outcome {
    /// An outcome without a record that applies.
    pub fn new(
        result: DmarcResult,
        author_domain: Option<Domain>,
        problem: Option<Problem>,
    ) -> Self {
        Self {
            result,
            author_domain,
            policy: None,
            is_violated: false,
            record: None,
            organizational_domain: None,
            aligned: Vec::new(),
            alignments: Vec::new(),
            problem,
        }
    }
}

/// The record that applies to an author domain, and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppliedRecord {
    /// The record.
    pub record: Arc<Record>,
    /// The domain whose record it is; in DNS it is at `_dmarc` below that.
    pub domain: Domain,
    /// The step that found it.
    pub step: DiscoveryStep,
}

words! {
    /// A step of the discovery (RFC 9989 §4.10.1), by the domain that it takes the record of.
    DiscoveryStep {
        /// The author domain itself.
        Author = "author domain",
        /// The organizational domain of the author domain, by a tree walk.
        Organizational = "organizational domain",
        /// The public suffix domain above that, by the same walk.
        PublicSuffix = "public suffix domain",
    }
}

/// A published policy, as it applies to an author domain (RFC 9989 §4.10.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppliedPolicy {
    /// The policy that is published for the author domain, without regard to test mode.
    pub published: Policy,
    /// The tag that says so.
    pub tag: PolicyTag,
    /// The domain whose record it is.
    pub domain: Domain,
    /// Whether the domain owner is testing (`t=y`).
    pub testing: bool,
}

impl AppliedPolicy {
    /// The policy that the domain owner asks for: the published one, one level lower in test mode.
    pub fn effective(&self) -> Policy {
        if self.testing { self.published.lowered() } else { self.published }
    }
}

words! {
    /// The tag of a record that a policy was taken from.
    PolicyTag {
        /// `p`: for the domain of the record, and for subdomains that nothing else is said about.
        P = "p",
        /// `sp`: for subdomains.
        Sp = "sp",
        /// `np`: for subdomains that do not exist.
        Np = "np",
    }
}

/// How an identifier stands to the author domain (RFC 9989 §4.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentifierAlignment {
    /// The identifier.
    pub identifier: Identifier,
    /// Whether its method authenticated it.
    pub passed: bool,
    /// The mode of its method (`aspf`, `adkim`).
    pub mode: Alignment,
    /// Whether it is aligned; `None` where that is not known, because the outcome does not depend
    /// on it or DNS has no answer.
    pub is_aligned: Option<bool>,
}

/// How the identifiers of a message stand to its author domain in relaxed mode (RFC 9989 §4.4),
/// whatever records say, and also without one: a domain for which the tree walk finds no record is
/// its own organizational domain (§4.10.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelaxedAlignment {
    /// One that passed has the organizational domain of the author domain.
    Aligned,
    /// None has, and none may have had that trouble kept from passing.
    Unaligned,
    /// Trouble that may go away keeps it unknown.
    Unknown,
}

/// An identifier (RFC 9989 §4.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identifier {
    /// The domain of the MAIL FROM identity of SPF.
    Spf(Domain),
    /// The domain that signed.
    Dkim(Domain),
}

impl Identifier {
    /// The domain.
    pub fn domain(&self) -> &Domain {
        match self {
            Self::Spf(domain) | Self::Dkim(domain) => domain,
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spf(domain) => write!(f, "SPF {domain}"),
            Self::Dkim(domain) => write!(f, "DKIM {domain}"),
        }
    }
}

/// Why an outcome is not better, or not certain.
///
/// Names and domains come from strangers; they are valid domain names, and nothing else from the
/// message is in here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// There is no From header field.
    NoFrom,
    /// The From header field cannot be read.
    MalformedFrom(Malformed),
    /// There are several From header fields.
    SeveralFromFields,
    /// From has addresses of several domains, or may be read so.
    SeveralAuthorDomains,
    /// An address in From has characters that make it look like another one.
    MisleadingFrom,
    /// From is a group without members: there is no author.
    NoMembers,
    /// No record applies to the author domain.
    NoRecord,
    /// There are several records at this domain, and none beyond that applies.
    SeveralRecords(Domain),
    /// The record of this domain has no policy that can be used.
    UnusableRecord(Domain),
    /// A name could not be looked up.
    Lookup(Name, Failure),
    /// An aligned identifier could not be verified for trouble that may go away.
    Unverified(Identifier),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrom => f.write_str("no From field"),
            Self::MalformedFrom(reason) => write!(f, "malformed From: {reason}"),
            Self::SeveralFromFields => f.write_str("several From fields"),
            Self::SeveralAuthorDomains => f.write_str("several author domains"),
            Self::MisleadingFrom => f.write_str("misleading characters in From"),
            Self::NoMembers => f.write_str("group without members in From"),
            Self::NoRecord => f.write_str("no DMARC record"),
            Self::SeveralRecords(domain) => write!(f, "several DMARC records of {domain}"),
            Self::UnusableRecord(domain) => write!(f, "unusable DMARC record of {domain}"),
            Self::Lookup(name, failure) => write!(f, "{name}: {failure}"),
            Self::Unverified(identifier) => write!(f, "temporary error of {identifier}"),
        }
    }
}
