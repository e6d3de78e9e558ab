//! What follows from what was found. Pure: configuration and outcomes in, a decision out.

use crate::{
    auth::{
        Identity, Verified,
        spf::{Variables, expand_explain_string},
    },
    config::{Config, ReplySegment, ReplyText},
    mail::{reply::Reply, spf_result::SpfResult},
};

/// What is decided of a HELO identity.
#[derive(Clone, Debug, PartialEq)]
pub enum HeloDecision {
    /// The client is refused.
    Refuse(Reply),
    /// The result holds for MAIL FROM too, which is not verified.
    Definitive,
    /// MAIL FROM decides.
    Open,
}

/// What a reply can tell of the client and of this host.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The client's address.
    pub client: std::net::IpAddr,
    /// The HELO name.
    pub helo: &'a str,
    /// This host.
    pub receiver: &'a str,
    /// The time, in seconds since 1970.
    pub timestamp: u64,
}

/// Decides at HELO: refuse, else definitive, else open.
pub fn at_helo(config: &Config, verified: &Verified, circumstances: &Circumstances<'_>) -> HeloDecision {
    let result = verified.outcome.result;
    if config.reject_helo_results.contains(result) {
        HeloDecision::Refuse(refusal(config, verified, circumstances))
    } else if config.definitive_helo_results.contains(result) {
        HeloDecision::Definitive
    } else {
        HeloDecision::Open
    }
}

/// Decides at MAIL FROM: a reply that refuses the sender, or nothing.
pub fn at_mail(config: &Config, verified: &Verified, circumstances: &Circumstances<'_>) -> Option<Reply> {
    config.reject_results.contains(verified.outcome.result).then(|| refusal(config, verified, circumstances))
}

/// The results that go into the header, in order.
pub fn recorded<'a>(
    config: &Config,
    helo: Option<&'a Verified>,
    definitive: bool,
    mailfrom: Option<&'a Verified>,
) -> impl Iterator<Item = &'a Verified> {
    let helo = helo.filter(|_| definitive || config.include_all_results);
    helo.into_iter().chain(mailfrom)
}

/// The reply that a result is refused with.
fn refusal(config: &Config, verified: &Verified, circumstances: &Circumstances<'_>) -> Reply {
    let (code, status, text) = match verified.outcome.result {
        SpfResult::Softfail => (config.softfail_reply_code, config.softfail_status_code, &config.softfail_reply_text),
        SpfResult::Temperror => (config.temperror_reply_code, config.temperror_status_code, &config.temperror_reply_text),
        SpfResult::Permerror => (config.permerror_reply_code, config.permerror_status_code, &config.permerror_reply_text),
        _ if verified.outcome.explanation.is_some() => {
            (config.fail_reply_code, config.fail_status_code, &config.fail_reply_text_exp)
        }
        _ => (config.fail_reply_code, config.fail_status_code, &config.fail_reply_text),
    };
    Reply::new(code, status, &expand_reply_text(text, verified, circumstances))
}

fn expand_reply_text(text: &ReplyText, verified: &Verified, circumstances: &Circumstances<'_>) -> String {
    let variables = Variables {
        client: circumstances.client,
        local_part: &verified.local_part,
        sender_domain: &verified.domain,
        domain: &verified.domain,
        helo: if verified.identity == Identity::Helo { &verified.domain } else { circumstances.helo },
        receiver: circumstances.receiver,
        timestamp: circumstances.timestamp,
        validated: None,
    };
    let mut expanded = String::new();
    for segment in text.segments() {
        match segment {
            ReplySegment::Explain(string) => expanded.push_str(&expand_explain_string(string, &variables)),
            ReplySegment::Exp => expanded.push_str(verified.outcome.explanation.as_deref().unwrap_or_default()),
            ReplySegment::Reason => {
                expanded.push_str(verified.outcome.problem.as_ref().map_or("unknown", |problem| problem.reason))
            }
            ReplySegment::AuthorDomain => {}
        }
    }
    expanded
}
