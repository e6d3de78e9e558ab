//! The outcome of a check.

use std::sync::Arc;

use crate::mail::results::{SpfResult, words};

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The result.
    pub result: SpfResult,
    /// The mechanism that matched, in canonical form and without its qualifier; `None` where none
    /// did.
    pub mechanism: Option<Arc<str>>,
    /// The domain whose record holds it, or whose record ended the check without a match.
    pub policy_domain: Option<Arc<str>>,
    /// The problem: for temperror and permerror always, for none where the domain cannot have a
    /// policy.
    pub problem: Option<Problem>,
    /// The explanation that the domain published for its fail (RFC 7208 §6.2): ASCII, expanded, not
    /// yet safe for a reply.
    pub explanation: Option<String>,
    /// Terms that asked DNS.
    pub lookups: usize,
    /// Terms that asked DNS and found nothing.
    pub void_lookups: usize,
}

impl Outcome {
    /// The outcome for an identity without a domain that could have a policy (RFC 7208 §4.3).
    pub fn without_domain(detail: &str) -> Self {
        Self::with_problem(Problem { kind: ProblemKind::NoDomain, detail: detail.to_owned() })
    }

    /// An outcome without a record.
    pub fn without_record(result: SpfResult, problem: Option<Problem>) -> Self {
        Self {
            result,
            mechanism: None,
            policy_domain: None,
            problem,
            explanation: None,
            lookups: 0,
            void_lookups: 0,
        }
    }

    /// The outcome where a problem ended the check.
    pub(super) fn with_problem(problem: Problem) -> Self {
        Self::without_record(problem.kind.result(), Some(problem))
    }
}

/// A problem of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Its kind, for replies and header fields.
    pub kind: ProblemKind,
    /// Its details in this case, for the log.
    pub detail: String,
}

words! {
    /// A kind of problem; its text stays as it is.
    ProblemKind {
        /// The identity has no domain that could have a policy.
        NoDomain = "no domain to verify",
        /// A record breaks the grammar.
        InvalidRecord = "invalid SPF record found",
        /// Several records at one name.
        SeveralRecords = "more than one SPF record found",
        /// An include or redirect leads to no record.
        NoTarget = "no SPF record found at included domain",
        /// Too many terms ask DNS, or a term asks too much.
        TooManyLookups = "lookup limit exceeded",
        /// Too many terms ask DNS and find nothing.
        TooManyVoidLookups = "void lookup limit exceeded",
        /// DNS answered with an error, or could not be asked.
        LookupFailed = "DNS lookup failed",
        /// DNS did not answer in time.
        Timeout = "DNS lookup timed out",
    }
}

impl ProblemKind {
    /// The result of a check that such a problem ended.
    pub fn result(self) -> SpfResult {
        match self {
            Self::NoDomain => SpfResult::None,
            Self::LookupFailed | Self::Timeout => SpfResult::Temperror,
            Self::InvalidRecord
            | Self::SeveralRecords
            | Self::NoTarget
            | Self::TooManyLookups
            | Self::TooManyVoidLookups => SpfResult::Permerror,
        }
    }
}
