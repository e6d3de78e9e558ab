//! The result (RFC 9989 §5.3).

use super::{
    alignment::{self, Alignments, align},
    discovery::{Discovery, Finding, find},
    identifiers::Identifiers,
    lookups::View,
    outcome::{AppliedPolicy, DmarcResult, Outcome, Problem, RelaxedAlignment},
    record::Policy,
};
use crate::{
    dns::Dns,
    mail::{author::Author, domain::Domain},
};

/// Evaluates DMARC for a message.
///
/// A pass takes an aligned identifier that passed, and then no trouble elsewhere matters. Trouble
/// gives a temperror where some content of the names that have no answer would change the outcome:
/// the result, or with a fail the policy (RFC 9989 §5.3.6). An identifier that could not be
/// verified counts as one that may pass. For authors of several domains and repeated From fields
/// see [`Author`]; their domains are evaluated side by side, and once one fails under the policy
/// `reject`, only those before it are waited for: the first such domain is the one that is named.
///
/// The future may be dropped at any time: [`conclude`] then makes an outcome of what is certain.
pub async fn evaluate(dns: &Dns, discovery: &Discovery, identifiers: &Identifiers) -> Outcome {
    discovery.lookups.advance(dns, |view| judge(view, &discovery.author, identifiers)).await
}

/// Aligns a message with its author domain in relaxed mode, whatever records say: at most 8 queries
/// for the author domain, and 7 for each identifier, less what was asked for already. A message with
/// no author domain or several is not aligned.
///
/// The future may be dropped at any time: [`relaxed_by_now`] has what is certain.
pub async fn align_relaxed(
    dns: &Dns,
    discovery: &Discovery,
    identifiers: &Identifiers,
) -> RelaxedAlignment {
    discovery.lookups.advance(dns, |view| relaxed(view, &discovery.author, identifiers)).await
}

/// The relaxed alignment when time is up.
pub fn relaxed_by_now(discovery: &Discovery, identifiers: &Identifiers) -> RelaxedAlignment {
    relaxed(&mut discovery.lookups.view(), &discovery.author, identifiers)
}

fn relaxed(view: &mut View<'_>, author: &Author, identifiers: &Identifiers) -> RelaxedAlignment {
    match author {
        Author::One(domain) => alignment::align_relaxed(view, domain, identifiers),
        _ => RelaxedAlignment::Unaligned,
    }
}

/// The first of some domains with which an identifier that passed is aligned, in relaxed mode,
/// whatever their records say: at most 8 queries for each of these, and 7 for each identifier.
///
/// The future may be dropped at any time.
pub async fn first_aligned(
    dns: &Dns,
    discovery: &Discovery,
    domains: &[Domain],
    identifiers: &Identifiers,
) -> Option<Domain> {
    discovery
        .lookups
        .advance(dns, |view| alignment::first_aligned(view, domains, identifiers))
        .await
}

/// The outcome when time is up: names that have not been answered by now count as trouble.
pub fn conclude(discovery: &Discovery, identifiers: &Identifiers) -> Outcome {
    judge(&mut discovery.lookups.view(), &discovery.author, identifiers)
}

fn judge(view: &mut View<'_>, author: &Author, identifiers: &Identifiers) -> Outcome {
    let nothing = Identifiers::default();
    let (identifiers, problem) = match author {
        Author::Missing => return permerror(None, Problem::NoFrom),
        Author::Malformed(reason) => return permerror(None, Problem::MalformedFrom(*reason)),
        Author::NoMembers => {
            return Outcome::new(DmarcResult::None, None, Some(Problem::NoMembers));
        }
        Author::One(_) => (identifiers, None),
        Author::Several(_) => (identifiers, Some(Problem::SeveralAuthorDomains)),
        Author::Misleading(_) => (identifiers, Some(Problem::MisleadingFrom)),
        Author::SeveralFields(_) => (&nothing, Some(Problem::SeveralFromFields)),
    };
    let mut outcomes = Vec::new();
    for domain in author.domains() {
        let mark = view.mark();
        let outcome = judge_domain(view, domain, identifiers);
        let settles = outcome.result == DmarcResult::Fail && effective(&outcome) == Policy::Reject;
        outcomes.push(outcome);
        if settles && problem.is_some() {
            // Nothing is stricter. A domain before it may be as strict: then the first is named,
            // whichever answer came first.
            view.withdraw(mark);
            break;
        }
    }
    match problem {
        Some(problem) => combine(author, outcomes, problem),
        None => outcomes.pop().unwrap_or_else(|| permerror(None, Problem::NoFrom)),
    }
}

fn permerror(author_domain: Option<Domain>, problem: Problem) -> Outcome {
    Outcome::new(DmarcResult::Permerror, author_domain, Some(problem))
}

fn effective(outcome: &Outcome) -> Policy {
    outcome.policy.as_ref().map_or(Policy::None, AppliedPolicy::effective)
}

/// Makes one outcome of those of several author domains, as [`Author`] says.
fn combine(author: &Author, outcomes: Vec<Outcome>, problem: Problem) -> Outcome {
    let strictness = |outcome: &Outcome| match outcome.result {
        DmarcResult::Fail => Some(match effective(outcome) {
            Policy::None => 0,
            Policy::Quarantine => 1,
            Policy::Reject => 3,
        }),
        // Trouble may have hidden the strictest policy.
        DmarcResult::Temperror => Some(2),
        _ => None,
    };
    let complete = matches!(author, Author::Several(domains) if !domains.is_truncated());
    let none = complete && outcomes.iter().all(|outcome| outcome.result == DmarcResult::None);
    let first = outcomes.first().and_then(|outcome| outcome.author_domain.clone());
    // Of equals, the last maximum is taken: so from the last to the first.
    let (failed, others): (Vec<Outcome>, Vec<Outcome>) =
        outcomes.into_iter().rev().partition(|outcome| outcome.result == DmarcResult::Fail);
    let failed = failed.into_iter().max_by_key(strictness);
    let other = others.into_iter().rfind(|outcome| strictness(outcome).is_some());
    let strictest = match (failed, other) {
        (Some(failed), Some(trouble)) if strictness(&failed) < strictness(&trouble) => {
            // No trouble takes away that a message which never passes violates a policy.
            let is_violated = effective(&failed) != Policy::None;
            let (result, problem) = (trouble.result, trouble.problem.clone());
            let named = if is_violated { failed } else { trouble };
            Some(Outcome { result, problem, is_violated, ..named })
        }
        (failed, other) => failed.or(other),
    };
    match strictest {
        // What is wrong with From itself is not hidden by trouble with one of so many domains.
        Some(outcome) => {
            let shown = outcome.problem.filter(|_| !author.has_more_domains());
            Outcome { problem: shown.or(Some(problem)), ..outcome }
        }
        None if none => Outcome::new(DmarcResult::None, first, Some(Problem::NoRecord)),
        None => permerror(first, problem),
    }
}

fn judge_domain(view: &mut View<'_>, author_domain: &Domain, identifiers: &Identifiers) -> Outcome {
    let outcome = |result, problem| Outcome::new(result, Some(author_domain.clone()), problem);
    let applicable = match find(view, author_domain) {
        Finding::Nothing(problem) => return outcome(DmarcResult::None, Some(problem)),
        Finding::Unknown(problem) => return outcome(DmarcResult::Temperror, Some(problem)),
        Finding::Record(applicable) => applicable,
    };
    let Alignments { result, aligned, problem, organizational_domain, all } =
        align(view, author_domain, &applicable, identifiers);
    let (result, policy, problem) = match applicable.policy {
        Ok(policy) => (result, Some(policy), problem),
        // Without the policy there is nothing to fail.
        Err(trouble) if result == DmarcResult::Fail => {
            (DmarcResult::Temperror, None, Some(trouble))
        }
        Err(trouble) => (result, None, problem.or(Some(trouble))),
    };
    Outcome {
        policy,
        record: Some(applicable.record),
        organizational_domain,
        aligned,
        alignments: all,
        ..outcome(result, problem)
    }
}
