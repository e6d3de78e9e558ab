//! Refusals as replies: the texts of the configuration, with the values of their macros.

use std::{net::IpAddr, time::Duration};

use crate::{
    auth::{
        Identity, Verified,
        dmarc::{self, Problem},
        spf::{self, Variables, expand_explain_string},
    },
    config::{Action, Config, ReplySegment, ReplyText},
    dns::Dns,
    mail::{
        reply::{EnhancedStatusCode, Reply, ReplyCode},
        results::SpfResult,
    },
    policy::Refusal,
};

/// The facts that a reply can mention.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The HELO name.
    pub helo: &'a str,
    /// This host.
    pub receiver: &'a str,
    /// The time, in seconds since 1970.
    pub timestamp: u64,
    /// The identity that is refused, or the MAIL FROM identity of the message that is.
    pub identity: Option<&'a Verified>,
    /// What DMARC found, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
}

/// Words a refusal. A text with `%{p}` has the client's name looked up, within `limit` at most,
/// where `dns` is given.
pub async fn word(
    config: &Config,
    refusal: Refusal,
    facts: &Facts<'_>,
    dns: Option<(&Dns, Duration)>,
) -> Reply {
    let (code, status, text) = match refusal {
        Refusal::Spf => spf_reply(config, facts.identity),
        Refusal::Dmarc => {
            let (code, status) = (config.dmarc_fail_reply_code, config.dmarc_fail_status_code);
            (code, status, &config.dmarc_fail_reply_text)
        }
        // There is no code of its own for this; subject and detail are those of a DMARC rejection
        // (RFC 7372 §3.4).
        Refusal::DmarcTemperror => {
            let status = EnhancedStatusCode::DMARC_TEMPERROR;
            return Reply::new(ReplyCode::TRY_AGAIN, status, "DMARC validation error");
        }
        Refusal::LocalDomain => (
            config.local_domain_reply_code,
            config.local_domain_status_code,
            &config.local_domain_reply_text,
        ),
        Refusal::MalformedAuthor => (
            config.malformed_author_reply_code,
            config.malformed_author_status_code,
            &config.malformed_author_reply_text,
        ),
        Refusal::Unauthenticated => for_action(
            config.unauthenticated_action,
            (config.unauthenticated_reply_code, config.unauthenticated_status_code),
            &config.unauthenticated_reply_text,
        ),
        Refusal::Iprev => for_action(
            config.iprev_fail_action,
            (config.iprev_fail_reply_code, config.iprev_fail_status_code),
            &config.iprev_fail_reply_text,
        ),
        Refusal::ForgedTags => {
            let text = format!("Too many {} fields", config.tag_header);
            return Reply::new(ReplyCode::REFUSED, EnhancedStatusCode::NOT_AUTHORIZED, &text);
        }
        Refusal::ForgedResults => {
            let text = "Too many Authentication-Results fields in the name of this host";
            return Reply::new(ReplyCode::REFUSED, EnhancedStatusCode::NOT_AUTHORIZED, text);
        }
    };
    let name = match dns {
        // Boxed, for hardly any reply has it.
        Some((dns, limit)) if has_client_name(text) => {
            let domain = facts.identity.map_or("", |identity| &identity.domain);
            Box::pin(spf::client_name(dns, facts.client, domain, limit)).await
        }
        _ => None,
    };
    Reply::new(code, status, &expand(text, refusal, facts, name.as_deref()))
}

/// Words why a message is kept back.
pub fn quarantine_reason(refusal: Refusal, dmarc: Option<&dmarc::Outcome>) -> String {
    match refusal {
        Refusal::Dmarc => format!("DMARC policy of {}", author_domain(dmarc)),
        Refusal::LocalDomain => "in the name of this site".into(),
        Refusal::MalformedAuthor => problem_of(dmarc),
        Refusal::Spf => "SPF validation failed".into(),
        Refusal::Iprev => "reverse DNS validation failed".into(),
        _ => "neither SPF nor DKIM passes".into(),
    }
}

/// The author domain, or nothing.
fn author_domain(dmarc: Option<&dmarc::Outcome>) -> &str {
    dmarc.and_then(|outcome| outcome.author_domain.as_ref()).map_or("", |domain| domain.as_str())
}

/// What is wrong with From. DMARC may have had trouble beside, but only with several fields.
fn problem_of(dmarc: Option<&dmarc::Outcome>) -> String {
    let problem = dmarc.and_then(|outcome| outcome.problem.as_ref());
    let is_about_from = |problem: &&Problem| {
        matches!(
            problem,
            Problem::NoFrom
                | Problem::MalformedFrom(_)
                | Problem::NoMembers
                | Problem::SeveralAuthorDomains
                | Problem::MisleadingFrom
        )
    };
    problem.filter(is_about_from).unwrap_or(&Problem::SeveralFromFields).to_string()
}

/// A reply with its own codes; where the action is to defer, with codes for that.
fn for_action(
    action: Action,
    (code, status): (ReplyCode, EnhancedStatusCode),
    text: &ReplyText,
) -> (ReplyCode, EnhancedStatusCode, &ReplyText) {
    match action {
        Action::Defer => (ReplyCode::TRY_AGAIN, status.for_now(), text),
        _ => (code, status, text),
    }
}

/// The reply to a result of SPF. A text of HELO's own comes before all others.
fn spf_reply<'a>(
    c: &'a Config,
    identity: Option<&Verified>,
) -> (ReplyCode, EnhancedStatusCode, &'a ReplyText) {
    use SpfResult::{Permerror, Softfail, Temperror};
    let outcome = identity.map(|identity| &identity.outcome);
    let fail_text = match outcome {
        Some(outcome) if outcome.explanation.is_some() => &c.fail_reply_text_exp,
        _ => &c.fail_reply_text,
    };
    let (code, status, text, for_helo) = match outcome.map_or(SpfResult::Fail, |o| o.result) {
        Softfail => (
            c.softfail_reply_code,
            c.softfail_status_code,
            &c.softfail_reply_text,
            &c.helo_softfail_reply_text,
        ),
        Temperror => (
            c.temperror_reply_code,
            c.temperror_status_code,
            &c.temperror_reply_text,
            &c.helo_temperror_reply_text,
        ),
        Permerror => (
            c.permerror_reply_code,
            c.permerror_status_code,
            &c.permerror_reply_text,
            &c.helo_permerror_reply_text,
        ),
        _ => (c.fail_reply_code, c.fail_status_code, fail_text, &c.helo_fail_reply_text),
    };
    let is_helo = identity.is_some_and(|identity| identity.identity == Identity::Helo);
    (code, status, for_helo.as_ref().filter(|_| is_helo).unwrap_or(text))
}

fn has_client_name(text: &ReplyText) -> bool {
    text.segments().iter().any(
        |segment| matches!(segment, ReplySegment::Explain(string) if spf::has_client_name(string)),
    )
}

/// A reply text with the values of its macros.
fn expand(
    text: &ReplyText,
    refusal: Refusal,
    facts: &Facts<'_>,
    client_name: Option<&str>,
) -> String {
    let identity = facts.identity;
    let domain = identity.map_or("", |identity| &*identity.domain);
    let variables = Variables {
        client: facts.client,
        local_part: identity.map_or("", |identity| &*identity.local_part),
        sender_domain: domain,
        domain,
        helo: match identity {
            Some(identity) if identity.identity == Identity::Helo => domain,
            _ => facts.helo,
        },
        receiver: facts.receiver,
        timestamp: facts.timestamp,
        validated: client_name,
    };
    let outcome = identity.map(|identity| &identity.outcome);
    let mut expanded = String::new();
    for segment in text.segments() {
        match segment {
            ReplySegment::Explain(string) => {
                expanded.push_str(&expand_explain_string(string, &variables));
            }
            ReplySegment::Exp => expanded
                .push_str(outcome.and_then(|outcome| outcome.explanation.as_deref()).unwrap_or("")),
            ReplySegment::Reason if refusal == Refusal::MalformedAuthor => {
                expanded.push_str(&problem_of(facts.dmarc));
            }
            ReplySegment::Reason => expanded.push_str(
                outcome
                    .and_then(|outcome| outcome.problem.as_ref())
                    .map_or("unknown", |problem| problem.kind.as_str()),
            ),
            ReplySegment::Identity => match identity {
                Some(identity) if identity.identity == Identity::Helo => {
                    expanded.extend([domain, " (HELO)"]);
                }
                Some(identity) => expanded.push_str(&identity.sender()),
                None => {}
            },
            ReplySegment::AuthorDomain => {
                expanded.push_str(author_domain(facts.dmarc));
            }
        }
    }
    expanded
}
