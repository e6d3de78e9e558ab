//! SPF: `check_host()` (RFC 7208 §4).
//!
//! A check depends on the client, the identity and the answers of DNS only. DNS trouble and broken
//! records are results (`temperror`, `permerror`), never errors. Every limit of RFC 7208 §4.6.4
//! holds, and a check as a whole has one deadline.
//!
//! The worst record makes a check with these limits ask 132 questions: the record; an `include`;
//! nine `mx` of eleven (ten hosts each); the client's names and ten addresses of them; the
//! explanation; and nine terms and ten hosts asked for early and in vain. Without early look-ups
//! the worst one makes it ask 123: ten `mx` and no `include`. With `n` look-ups allowed these are
//! at most `12n + 12` and `11n + 13`.

mod evaluate;
mod expand;
mod explanation;
mod kept;
mod limits;
mod lookups;
mod mechanism;
mod names;
mod outcome;
mod prefetch;
mod query;
mod recent;
mod record;
#[cfg(test)]
mod tests;
mod trace;

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::reverse;
use crate::{
    dns::{Answer, Dns, Name, RecordType},
    mail::domain::Domain,
};

use evaluate::{Evaluation, Finished};
pub use expand::{Variables, expand_explain_string};
use kept::{KeptOutcomes, can_be_kept};
pub use limits::Limits;
use limits::{FOREVER, MAX_NAMES_TIME};
use lookups::Lookups;
pub use names::has_client_name;
pub use outcome::{Outcome, Problem, ProblemKind};
pub use query::{POSTMASTER, Query, QueryDomain};
use record::ParsedRecord;
pub use trace::{Step, Trace};

/// Why a domain name of one label has no policy.
const SINGLE_LABEL: &str = "domain name of a single label";

/// As [`kept_outcome`] and [`check_since`], beginning now.
#[cfg(any(test, feature = "testing"))]
pub async fn check(
    dns: &Dns,
    query: &Query<'_>,
    limits: &Limits,
    trace: Option<&mut Trace>,
) -> Outcome {
    let now = Instant::now();
    let domain = query.domain.parse().ok().filter(|_| trace.is_none());
    let outcome = match domain.and_then(|it| kept_outcome(now, dns, &it, query.client, limits)) {
        Some(outcome) => outcome,
        None => check_since(now, dns, query, limits, trace).await,
    };
    Arc::unwrap_or_clone(outcome)
}

/// The outcome that [`check_since`] would come to, where it was kept from a check before.
pub fn kept_outcome(
    now: Instant,
    dns: &Dns,
    domain: &Domain,
    client: IpAddr,
    limits: &Limits,
) -> Option<Arc<Outcome>> {
    let (generation, client) = (dns.generation()?, client.to_canonical());
    let asked = recent::Asked { generation, domain, client, limits };
    if let Some(outcome) = recent::find(&asked, now) {
        dns.count_hit();
        return Some(outcome);
    }
    let kept = |record: &ParsedRecord| record.outcomes.find(client, limits, now);
    let (outcome, until) = dns.with_parsed(domain, now, kept)?;
    recent::keep(&asked, &outcome, until);
    Some(outcome)
}

/// Checks whether the domain authorizes the client to use the identity: `check_host()` (RFC 7208
/// §4). The check begins at `now`, from which its time-out counts. Each step is added to the trace,
/// where there is one. The outcome is kept for [`kept_outcome`], if it can be.
pub async fn check_since(
    now: Instant,
    dns: &Dns,
    query: &Query<'_>,
    limits: &Limits,
    mut trace: Option<&mut Trace>,
) -> Arc<Outcome> {
    // RFC 7208 §4.3: a malformed domain, or one of a single label, has no policy.
    let domain = match query.domain.parse() {
        Ok(domain) if domain.is_qualified() => domain,
        Ok(_) => return no_policy(SINGLE_LABEL, trace),
        Err(error) => return no_policy(&error.to_string(), trace),
    };
    let name = Name::from(&domain);
    let known = dns.known(&name, RecordType::Txt, now);
    let texts = known.as_ref().and_then(|known| match &known.outcome {
        Ok(Answer::Txt(texts)) => Some(texts.clone()),
        _ => None,
    });
    let variables = Variables::new(query, &domain);
    // A time-out too long for the clock is none that could run out.
    let deadline = now.checked_add(limits.timeout).unwrap_or_else(|| now + FOREVER);
    let lookups =
        Lookups::new(dns, variables, limits, (now, deadline), known, trace.as_deref_mut());
    let mut evaluation = Evaluation::new(lookups);
    let finished = timeout_at(deadline, evaluation.run(name.clone())).await;
    let Finished { mut outcome, holds, wanted_explanation: wanted } =
        evaluation.finish(finished.ok());
    let Some(wanted) = wanted else {
        let outcome = Arc::new(outcome);
        if let (Some((record, until)), Some(texts)) = (holds, texts)
            && can_be_kept(&outcome)
            // Outcomes count in the cache from the first one on.
            && (!record.outcomes.is_empty()
                || record::keep(dns, &name, &texts, &record, KeptOutcomes::WEIGHT))
        {
            record.outcomes.keep(variables.client, limits, &outcome, until);
        }
        return outcome;
    };
    // The explanation comes after the result, so that trouble with it cannot change the result.
    let policy_domain = wanted.domain.clone();
    let found = timeout_at(deadline, wanted.fetch(dns, &variables, deadline)).await;
    let found = found.unwrap_or_else(|_| Err("the time ran out".to_owned()));
    if let Some(trace) = trace {
        let event = match &found {
            Ok(text) => format!("explanation: {text}"),
            Err(reason) => format!("no explanation: {reason}"),
        };
        trace.add(0, policy_domain.as_str(), &event);
    }
    outcome.explanation = found.ok();
    Arc::new(outcome)
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
    let deadline = Instant::now() + limit.min(MAX_NAMES_TIME);
    let names = reverse::find_names(dns, client.to_canonical(), deadline).await;
    match Name::new(domain) {
        Some(domain) => names::validated_name(Some(&names), &domain).map(str::to_owned),
        None => names.first().map(Name::to_string),
    }
}

fn no_policy(problem: &str, trace: Option<&mut Trace>) -> Arc<Outcome> {
    if let Some(trace) = trace {
        trace.add(0, "", &format!("{problem}: result none"));
    }
    Outcome::without_domain(problem).into()
}
