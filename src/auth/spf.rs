//! SPF: `check_host()` (RFC 7208 §4).
//!
//! A pure function of the client, the identity and what DNS says. DNS trouble and broken records
//! are results (`temperror`, `permerror`), never errors. Every limit of RFC 7208 §4.6.4 holds, and
//! one deadline holds over all of it.
//!
//! The worst record makes a check with these limits ask 132 questions: the record; an `include`;
//! nine `mx` of eleven (ten hosts each); the client's names and ten addresses of them; the
//! explanation; and nine terms and ten hosts asked for early and in vain. Without early look-ups
//! the worst one makes it ask 123: ten `mx` and no `include`. With `n` look-ups allowed these are
//! at most `12n + 12` and `11n + 13`.

mod evaluate;
mod expand;
mod explanation;
mod mechanism;
mod names;
mod prefetch;
mod record;
#[cfg(test)]
mod tests;
pub mod trace;

use std::{net::IpAddr, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    dns::{Dns, Name},
    mail::{domain::Domain, spf_result::SpfResult},
};

pub use expand::{Variables, expand_explain_string};
use names::NAMES_LIMIT;
pub use names::tells_client_name;
use trace::Trace;

/// The local-part of a sender that has none (RFC 7208 §4.3).
pub const POSTMASTER: &str = "postmaster";

/// Why a domain name of one label has no policy.
const SINGLE_LABEL: &str = "domain name of a single label";

/// Longer than any check.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is checked: one identity of one client.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The SMTP client's address; IPv4-mapped addresses count as IPv4.
    pub client: IpAddr,
    /// The domain of the identity, as it was given; any text.
    pub domain: &'a str,
    /// The local-part of the identity; an empty one counts as `postmaster`.
    pub local_part: &'a str,
    /// The name that the client gave with HELO or EHLO, for `%{h}`.
    pub helo: &'a str,
    /// The name of this host, for `%{r}`.
    pub receiver: &'a str,
    /// The time for `%{t}`, in seconds since 1970.
    pub timestamp: u64,
}

/// The limits of one check (RFC 7208 §4.6.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Terms that ask DNS.
    pub max_lookups: usize,
    /// Terms that ask DNS and find nothing at all: no address of any mail exchanger, say.
    pub max_void_lookups: usize,
    /// How long a check may take.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_lookups: 10, max_void_lookups: 2, timeout: Duration::from_secs(20) }
    }
}

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The kind of problem: one of a few texts that stay as they are, for replies and header
    /// fields.
    pub reason: &'static str,
    /// What it was in this case, for the log.
    pub detail: String,
}

impl Problem {
    /// The identity has no domain that could have a policy.
    pub const NO_DOMAIN: &'static str = "no domain to verify";
    /// A record breaks the grammar.
    pub const INVALID_RECORD: &'static str = "invalid SPF record found";
    /// Several records at one name.
    pub const SEVERAL_RECORDS: &'static str = "more than one SPF record found";
    /// An include or redirect leads to no record.
    pub const NO_TARGET: &'static str = "no SPF record found at included domain";
    /// Too many terms ask DNS, or a term asks too much.
    pub const TOO_MANY_LOOKUPS: &'static str = "lookup limit exceeded";
    /// Too many terms ask DNS and find nothing.
    pub const TOO_MANY_VOID_LOOKUPS: &'static str = "void lookup limit exceeded";
    /// DNS answered with an error, or could not be asked.
    pub const LOOKUP_FAILED: &'static str = "DNS lookup failed";
    /// DNS did not answer in time.
    pub const TIMEOUT: &'static str = "DNS lookup timed out";
}

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
    /// The validated name of the client (RFC 7208 §7.3), where a reply tells it: see
    /// [`client_name`].
    pub client_name: Option<String>,
    /// Terms that asked DNS.
    pub lookups: usize,
    /// Terms that asked DNS and found nothing.
    pub void_lookups: usize,
    /// Each step, where that was asked for.
    pub trace: Option<Trace>,
}

impl Outcome {
    /// The outcome for an identity without a domain that could have a policy (RFC 7208 §4.3).
    pub fn without_domain(detail: &str) -> Self {
        Self::without_record(
            SpfResult::None,
            Some(Problem { reason: Problem::NO_DOMAIN, detail: detail.to_owned() }),
        )
    }

    /// An outcome that no record was needed for.
    pub fn without_record(result: SpfResult, problem: Option<Problem>) -> Self {
        Self {
            result,
            mechanism: None,
            policy_domain: None,
            problem,
            explanation: None,
            client_name: None,
            lookups: 0,
            void_lookups: 0,
            trace: None,
        }
    }
}

/// Checks whether the domain authorizes the client to use the identity (RFC 7208 §4).
pub async fn check_host(dns: &Dns, query: &Query<'_>, limits: &Limits) -> Outcome {
    run(dns, query, limits, None).await
}

/// As [`check_host`], where the domain was parsed before; that of the query counts for nothing.
pub async fn check_domain(
    dns: &Dns,
    domain: &Domain,
    query: &Query<'_>,
    limits: &Limits,
) -> Outcome {
    if domain.is_qualified() {
        check(dns, domain, query, limits, None).await
    } else {
        no_policy(SINGLE_LABEL, None)
    }
}

/// As [`check_host`], and tells each step.
pub async fn check_host_with_trace(dns: &Dns, query: &Query<'_>, limits: &Limits) -> Outcome {
    run(dns, query, limits, Some(Trace::default())).await
}

/// Finds the validated name of a client, for `%{p}` in a text about a sender of this domain (RFC
/// 7208 §7.3). `None` where it has none, or where that is not known within `limit`, and 5 seconds
/// at most.
pub async fn client_name(
    dns: &Dns,
    client: IpAddr,
    domain: &str,
    limit: Duration,
) -> Option<String> {
    let mut validated = None;
    let deadline = Instant::now() + limit.min(NAMES_LIMIT);
    names::validate_once(dns, client.to_canonical(), &mut validated, deadline).await;
    match Name::new(domain) {
        Some(domain) => names::validated_name(validated.as_deref(), &domain).map(str::to_owned),
        None => validated?.first().map(Name::to_string),
    }
}

async fn run(dns: &Dns, query: &Query<'_>, limits: &Limits, trace: Option<Trace>) -> Outcome {
    // RFC 7208 §4.3: a malformed domain, or one of a single label, has no policy.
    let domain = match Domain::parse(query.domain) {
        Ok(domain) if domain.is_qualified() => domain,
        Ok(_) => return no_policy(SINGLE_LABEL, trace),
        Err(error) => return no_policy(&error.to_string(), trace),
    };
    check(dns, &domain, query, limits, trace).await
}

async fn check(
    dns: &Dns,
    domain: &Domain,
    query: &Query<'_>,
    limits: &Limits,
    trace: Option<Trace>,
) -> Outcome {
    // A time-out too long for the clock is none that could run out.
    let now = Instant::now();
    let deadline = now.checked_add(limits.timeout).unwrap_or_else(|| now + FOREVER);
    let mut evaluation = evaluate::Evaluation::new(dns, query, domain, limits, deadline, trace);
    let finished = timeout_at(deadline, evaluation.run()).await;
    let (mut outcome, wanted) = evaluation.into_outcome(finished.ok());
    // The explanation comes after the result, so that trouble with it cannot change the result.
    if let Some(wanted) = wanted {
        let policy_domain = wanted.domain.to_string();
        let found = timeout_at(deadline, wanted.fetch(dns, query, domain, deadline)).await;
        let found = found.unwrap_or_else(|_| Err("the time ran out".to_owned()));
        if let Some(trace) = &mut outcome.trace {
            let event = match &found {
                Ok(text) => format!("explanation: {text}"),
                Err(reason) => format!("no explanation: {reason}"),
            };
            trace.add(0, &policy_domain, &event);
        }
        outcome.explanation = found.ok();
    }
    outcome
}

fn no_policy(problem: &str, mut trace: Option<Trace>) -> Outcome {
    if let Some(trace) = &mut trace {
        trace.add(0, "", &format!("{problem}: result none"));
    }
    Outcome { trace, ..Outcome::without_domain(problem) }
}
