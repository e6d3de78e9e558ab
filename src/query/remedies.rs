//! Under which condition a method would have passed.

use std::net::IpAddr;

use crate::{
    auth::{
        Identity, Verified,
        dkim::{KeyProblem, Reason, SignatureOutcome},
        dmarc::{self, DmarcResult, Identifier, Problem},
        iprev::{self, IprevResult},
    },
    mail::results::SpfResult,
    session::{ContentRecord, Record},
};

/// The conditions for all that did not pass, one in a sentence without a full stop.
pub(super) fn remedies<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<String> {
    let mut remedies = Vec::new();
    for record in records {
        let verified = record.identities.iter().map(|identity| &identity.verified);
        for verified in verified {
            remedies.extend(of_spf(verified, record.client));
        }
        if let Some(content) = &record.content {
            remedies.extend(content.dkim.iter().flatten().filter_map(of_signature));
            remedies.extend(of_dmarc(content));
            remedies.extend(content.iprev.as_ref().and_then(of_iprev));
        }
    }
    remedies.dedup();
    remedies
}

fn of_spf(verified: &Verified, client: Option<IpAddr>) -> Option<String> {
    let outcome = &verified.outcome;
    let client = client.map_or_else(|| "the client".to_owned(), |client| client.to_string());
    let method = match verified.identity {
        Identity::Helo => "SPF of HELO",
        Identity::Mailfrom => "SPF",
    };
    let domain = outcome.policy_domain.as_deref().unwrap_or(&verified.domain);
    let permitted =
        format!("{method} would pass if {client} were permitted by the record of {domain}");
    let detail = outcome.problem.as_ref();
    let qualifier = match outcome.result {
        SpfResult::Pass => return None,
        SpfResult::Fail => "-",
        SpfResult::Softfail => "~",
        SpfResult::Neutral => "?",
        SpfResult::None if verified.domain.is_empty() => return None,
        SpfResult::None => {
            let reason = detail.map_or("it has no SPF record", |problem| &problem.detail);
            return Some(format!(
                "{method} would pass if {domain} had an SPF record that permits {client}: {reason}"
            ));
        }
        SpfResult::Temperror => {
            let reason = detail.map_or("no answer", |problem| &problem.detail);
            return Some(format!("{method} might pass if DNS answered: {reason}"));
        }
        SpfResult::Permerror => {
            let kind = detail.map_or("", |problem| problem.kind.as_str());
            let reason = detail.map_or("", |problem| &problem.detail);
            return Some(format!(
                "{method} might pass if the records of {} could be evaluated: {kind}: {reason}",
                verified.domain
            ));
        }
    };
    Some(match outcome.mechanism.as_deref() {
        Some("all") => {
            format!("{permitted}: no mechanism before it matched, {qualifier}all decided")
        }
        Some(mechanism) => format!("{permitted}: {qualifier}{mechanism} decided"),
        None => format!("{permitted}: no mechanism matched"),
    })
}

fn of_signature(signature: &SignatureOutcome) -> Option<String> {
    let reason = signature.reason?;
    let domain = signature.domain.as_ref().map_or("?", |domain| domain.as_str());
    let selector = signature.ascii_selector().unwrap_or("?".into());
    let key = format!("{selector}._domainkey.{domain}");
    let condition = match reason {
        Reason::BodyHash => "the body were as it was signed".to_owned(),
        Reason::Signature => {
            format!(
                "the signed header fields were as they were signed, and {key} were the key that signed them"
            )
        }
        Reason::Key(KeyProblem::Missing) => format!("there were a key at {key}"),
        Reason::Key(KeyProblem::Unavailable(failure)) => {
            format!("DNS answered for {key}: {failure}")
        }
        Reason::Key(KeyProblem::Revoked) => format!("the key at {key} were not revoked"),
        Reason::Key(KeyProblem::TooShort(bits)) => {
            format!("the key at {key} had more than its {bits} bits (min_dkim_key_bits)")
        }
        Reason::Key(problem) => format!("the key at {key} could be used: {problem}"),
        Reason::Expired => "it had not expired".to_owned(),
        Reason::Future => "it were not made in the future: compare the clocks".to_owned(),
        Reason::BodyNotCovered(body) => format!("it covered all of the body: {body}"),
        Reason::TooManySignatures(_) => "fewer stood above it (max_dkim_signatures)".to_owned(),
        other => format!("this were not so: {other}"),
    };
    // What comes behind the first thing that is wrong was not verified.
    Some(format!("DKIM of {domain} (selector {selector}) might pass if {condition}"))
}

fn of_dmarc(content: &ContentRecord) -> Option<String> {
    let outcome = content.dmarc.as_ref()?;
    let domain = outcome.author_domain.as_ref().map_or("the author", |domain| domain.as_str());
    // Nothing else helps such a message.
    let of_several = [Problem::SeveralFromFields, Problem::SeveralAuthorDomains];
    if outcome.is_violated || outcome.problem.as_ref().is_some_and(|it| of_several.contains(it)) {
        return Some(
            "DMARC would pass only if From had one author domain, and an aligned identifier passed"
                .to_owned(),
        );
    }
    match outcome.result {
        DmarcResult::Pass => None,
        DmarcResult::None => Some(match &outcome.problem {
            Some(Problem::NoRecord) | None => format!(
                "DMARC would pass if {domain} or the domains above it had a DMARC record, and an aligned identifier passed"
            ),
            Some(problem) => format!("DMARC might pass if this were not so: {problem}"),
        }),
        DmarcResult::Permerror | DmarcResult::Temperror => {
            let problem = outcome.problem.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(format!("DMARC might pass if this were not so: {problem}"))
        }
        DmarcResult::Fail => Some(format!(
            "DMARC would pass if SPF or a signature passed for an identifier that is aligned with {domain}: {}",
            identifiers(outcome)
        )),
    }
}

/// How the identifiers of a message stand to its author.
fn identifiers(outcome: &dmarc::Outcome) -> String {
    let all: Vec<String> = outcome
        .alignments
        .iter()
        .map(|alignment| {
            let name = match &alignment.identifier {
                Identifier::Spf(domain) => format!("{domain} of SPF"),
                Identifier::Dkim(domain) => format!("{domain} of DKIM"),
            };
            let passes = if alignment.passed { "passes" } else { "does not pass" };
            match (alignment.passed, alignment.is_aligned) {
                (_, None) => format!("{name} {passes}"),
                (true, Some(true)) | (false, Some(false)) => {
                    let aligned = if alignment.passed { "is aligned" } else { "is not aligned" };
                    format!("{name} {passes} and {aligned}")
                }
                (false, Some(true)) => format!("{name} is aligned and {passes}"),
                (true, Some(false)) => format!("{name} {passes} and is not aligned"),
            }
        })
        .collect();
    if all.is_empty() { "there is none".to_owned() } else { all.join(", ") }
}

fn of_iprev(outcome: &iprev::Outcome) -> Option<String> {
    let address = outcome.address;
    match outcome.result {
        IprevResult::Pass => None,
        IprevResult::Fail => {
            Some(format!("iprev would pass if a name of {address} had this address"))
        }
        IprevResult::Permerror => {
            Some(format!("iprev would pass if {address} had a name that has this address"))
        }
        IprevResult::Temperror => {
            let failure = outcome.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(format!("iprev might pass if DNS answered: {failure}"))
        }
    }
}
