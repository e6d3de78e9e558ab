//! What a check found.

use crate::mail::spf_result::SpfResult;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The result.
    pub result: SpfResult,
    /// The mechanism that matched, in canonical form and without its qualifier; `None` where none
    /// did.
    pub mechanism: Option<String>,
    /// The domain whose record holds it, or whose record ended the check without a match.
    pub policy_domain: Option<String>,
    /// What went wrong: for temperror and permerror always, for none where the domain cannot have a
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

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What kind of problem it is, for replies and header fields.
    pub kind: ProblemKind,
    /// What it was in this case, for the log.
    pub detail: String,
}

/// A kind of problem; its text stays as it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProblemKind {
    /// The identity has no domain that could have a policy.
    NoDomain,
    /// A record breaks the grammar.
    InvalidRecord,
    /// Several records at one name.
    SeveralRecords,
    /// An include or redirect leads to no record.
    NoTarget,
    /// Too many terms ask DNS, or a term asks too much.
    TooManyLookups,
    /// Too many terms ask DNS and find nothing.
    TooManyVoidLookups,
    /// DNS answered with an error, or could not be asked.
    LookupFailed,
    /// DNS did not answer in time.
    Timeout,
}

impl ProblemKind {
    /// The kind in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoDomain => "no domain to verify",
            Self::InvalidRecord => "invalid SPF record found",
            Self::SeveralRecords => "more than one SPF record found",
            Self::NoTarget => "no SPF record found at included domain",
            Self::TooManyLookups => "lookup limit exceeded",
            Self::TooManyVoidLookups => "void lookup limit exceeded",
            Self::LookupFailed => "DNS lookup failed",
            Self::Timeout => "DNS lookup timed out",
        }
    }

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
