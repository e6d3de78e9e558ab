//! What follows from what was found. Pure: configuration and outcomes in, a decision out.

use std::net::IpAddr;

use crate::{
    auth::{
        Identity, Verified, dkim,
        dmarc::{self, DmarcResult, Policy},
        spf::{self, Variables, expand_explain_string},
    },
    config::{Config, EnforcedPolicy, ReplySegment, ReplyText, SpfResults},
    mail::{
        reply::{EnhancedStatusCode, Reply, ReplyCode},
        spf_result::SpfResult,
    },
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
    pub client: IpAddr,
    /// The HELO name.
    pub helo: &'a str,
    /// This host.
    pub receiver: &'a str,
    /// The time, in seconds since 1970.
    pub timestamp: u64,
    /// The client's validated name, where a reply tells it and the identity that it is about does
    /// not have it.
    pub client_name: Option<&'a str>,
}

/// The results of an identity that are refused.
fn refused_results(config: &Config, identity: Identity) -> SpfResults {
    match identity {
        Identity::Helo => config.reject_helo_results,
        Identity::Mailfrom => config.reject_results,
    }
}

/// Whether an outcome will be refused with a reply that tells the client's name, which is then to
/// be found out.
pub fn tells_client_name(config: &Config, identity: Identity, outcome: &spf::Outcome) -> bool {
    !config.dry_run
        && refused_results(config, identity).contains(outcome.result)
        && has_client_name(refusal_text(config, outcome))
}

fn has_client_name(text: &ReplyText) -> bool {
    text.segments().iter().any(|segment| matches!(segment, ReplySegment::Explain(string) if spf::tells_client_name(string)))
}

/// Decides at HELO: refuse, else definitive, else open.
pub fn at_helo(
    config: &Config,
    verified: &Verified,
    circumstances: &Circumstances<'_>,
) -> HeloDecision {
    let result = verified.outcome.result;
    if refused_results(config, Identity::Helo).contains(result) {
        HeloDecision::Refuse(refusal(config, verified, circumstances))
    } else if config.definitive_helo_results.contains(result) {
        HeloDecision::Definitive
    } else {
        HeloDecision::Open
    }
}

/// What is decided of a MAIL FROM identity.
#[derive(Clone, Debug, PartialEq)]
pub enum MailDecision {
    /// The message goes on.
    Accept,
    /// The sender is refused.
    Refuse(Reply),
    /// The sender is refused at the end of the message, unless DMARC passes.
    Defer(Reply),
}

/// Decides at MAIL FROM.
pub fn at_mail(
    config: &Config,
    verified: &Verified,
    circumstances: &Circumstances<'_>,
) -> MailDecision {
    if !refused_results(config, Identity::Mailfrom).contains(verified.outcome.result) {
        MailDecision::Accept
    } else if config.defer_spf_rejection && config.verify_dmarc {
        MailDecision::Defer(refusal(config, verified, circumstances))
    } else {
        MailDecision::Refuse(refusal(config, verified, circumstances))
    }
}

/// What is decided at the end of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum EndDecision {
    /// The message goes on.
    Accept,
    /// The MTA keeps the message back, for the reason given.
    Quarantine(String),
    /// The message is refused.
    Refuse(Reply),
}

/// What was done about a message of which DMARC says something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// Nothing.
    None,
    /// The MTA keeps it back.
    Quarantine,
    /// It was refused, for good or for now.
    Reject,
}

impl Disposition {
    /// The disposition's word, in header fields and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// Why what would follow from DMARC was not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DmarcExemption {
    /// The client is in `dmarc_exempt_networks`.
    Network,
    /// The message has a passing signature, of all of its body, of a domain in
    /// `dmarc_exempt_dkim_domains`.
    DkimDomain,
    /// The message has a List-Id (`dmarc_exempt_mailing_lists`).
    MailingList,
    /// The policy is not in `enforce_dmarc_policies`; nothing else exempts the message.
    NotEnforced,
}

impl DmarcExemption {
    /// The exemption's word, in header fields and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "exempt-network",
            Self::DkimDomain => "exempt-dkim-domain",
            Self::MailingList => "mailing-list",
            Self::NotEnforced => "not-enforced",
        }
    }
}

/// What the end of a message is decided by.
#[derive(Clone, Copy, Debug)]
pub struct EndFacts<'a> {
    /// The client and this host.
    pub circumstances: Circumstances<'a>,
    /// The MAIL FROM identity, where it was verified.
    pub mailfrom: Option<&'a Verified>,
    /// The reply of an SPF rejection that was deferred.
    pub deferred: Option<&'a Reply>,
    /// The signatures.
    pub dkim: &'a [dkim::SignatureOutcome],
    /// What DMARC found, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
    /// The message has a List-Id.
    pub is_list: bool,
    /// More fields claim to be ours than are deleted.
    pub has_too_many_forged: bool,
}

/// What follows at the end of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// The decision.
    pub decision: EndDecision,
    /// What became of it, by SPF or DMARC, in the words of DMARC.
    pub disposition: Disposition,
    /// Why what would follow from DMARC was not carried out.
    pub exemption: Option<DmarcExemption>,
    /// The reply is to be made again with the client's name, which it tells.
    pub wants_client_name: bool,
}

/// Decides at the end of a message of which nothing is verified.
pub fn at_end_of_exempt(has_too_many_forged: bool) -> End {
    let decision = if has_too_many_forged {
        EndDecision::Refuse(forgery_refusal())
    } else {
        EndDecision::Accept
    };
    End { decision, disposition: Disposition::None, exemption: None, wants_client_name: false }
}

/// Decides at the end of the message. `spf-milter(8)` shows the same as a table.
///
/// A message with more forged fields than are deleted is refused, whatever it is: one of them would
/// stay. Else:
///
/// 1. A DMARC temperror is answered with a temporary reply where that is wanted and nothing exempts
///    the message. That comes before what SPF says: the next attempt may bring a pass.
/// 2. An SPF rejection that was deferred is carried out, unless DMARC passes.
/// 3. The policy of the author domain is carried out where DMARC fails, it is to be enforced and
///    nothing exempts the message.
pub fn at_end(config: &Config, facts: &EndFacts<'_>) -> End {
    let result = facts.dmarc.map(|outcome| outcome.result);
    let refuse = |reply: Reply| End {
        decision: EndDecision::Refuse(reply),
        disposition: Disposition::Reject,
        exemption: None,
        wants_client_name: false,
    };
    if facts.has_too_many_forged {
        return at_end_of_exempt(true);
    }
    let may_retry = config.defer_dmarc_temperror && result == Some(DmarcResult::Temperror);
    let exemption = message_exemption(config, facts);
    if may_retry && exemption.is_none() {
        return refuse(temporary_dmarc_refusal());
    }
    if let Some(reply) = facts.deferred
        && result != Some(DmarcResult::Pass)
    {
        return refuse(reply.clone());
    }
    let accept = End {
        decision: EndDecision::Accept,
        disposition: Disposition::None,
        exemption: None,
        wants_client_name: false,
    };
    let Some(outcome) = facts.dmarc else { return accept };
    match outcome.result {
        DmarcResult::Fail => {
            let policy =
                outcome.policy.as_ref().map_or(Policy::None, dmarc::AppliedPolicy::effective);
            if policy == Policy::None {
                return accept;
            }
            // Exemptions are told first: who does not enforce policies yet sees from them what
            // enforcing would do.
            let exemption = exemption
                .or_else(|| (!is_enforced(config, policy)).then_some(DmarcExemption::NotEnforced));
            if exemption.is_some() {
                return End { exemption, ..accept };
            }
            if policy == Policy::Quarantine {
                let reason = format!(
                    "DMARC policy of {}",
                    outcome.author_domain.as_ref().map_or("", |domain| domain.as_str())
                );
                let decision = EndDecision::Quarantine(reason);
                return End { decision, disposition: Disposition::Quarantine, ..accept };
            }
            let has_name = config.dry_run || facts.circumstances.client_name.is_some();
            let wants_client_name = !has_name && has_client_name(&config.dmarc_fail_reply_text);
            End { wants_client_name, ..refuse(dmarc_refusal(config, outcome, facts)) }
        }
        DmarcResult::Temperror if may_retry => End { exemption, ..accept },
        _ => accept,
    }
}

fn is_enforced(config: &Config, policy: Policy) -> bool {
    config.enforce_dmarc_policies.iter().any(|enforced| match enforced {
        EnforcedPolicy::Quarantine => policy == Policy::Quarantine,
        EnforcedPolicy::Reject => policy == Policy::Reject,
    })
}

/// What exempts a message from whatever follows from DMARC.
fn message_exemption(config: &Config, facts: &EndFacts<'_>) -> Option<DmarcExemption> {
    let is_exempt = |signature: &dkim::SignatureOutcome| {
        signature.covers_message()
            && signature
                .domain
                .as_ref()
                .is_some_and(|domain| config.dmarc_exempt_dkim_domains.contains(domain))
    };
    if config.dmarc_exempt_networks.contains(facts.circumstances.client) {
        Some(DmarcExemption::Network)
    } else if facts.dkim.iter().any(is_exempt) {
        Some(DmarcExemption::DkimDomain)
    } else if config.dmarc_exempt_mailing_lists && facts.is_list {
        Some(DmarcExemption::MailingList)
    } else {
        None
    }
}

fn dmarc_refusal(config: &Config, outcome: &dmarc::Outcome, facts: &EndFacts<'_>) -> Reply {
    let author_domain = outcome.author_domain.as_ref().map_or("", |domain| domain.as_str());
    let values = Values { author_domain, ..Values::of(facts.mailfrom, &facts.circumstances) };
    Reply::new(
        config.dmarc_fail_reply_code,
        config.dmarc_fail_status_code,
        &values.expand(&config.dmarc_fail_reply_text),
    )
}

fn forgery_refusal() -> Reply {
    let text = "Too many Authentication-Results fields in the name of this host";
    Reply::new(ReplyCode::REFUSED, EnhancedStatusCode::NOT_AUTHORIZED, text)
}

/// There is no code of its own for this; subject and detail are those of a DMARC rejection (RFC
/// 7372 §3.4).
fn temporary_dmarc_refusal() -> Reply {
    Reply::new(ReplyCode::TRY_AGAIN, EnhancedStatusCode::DMARC_TEMPERROR, "DMARC validation error")
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
    let (code, status) = match verified.outcome.result {
        SpfResult::Softfail => (config.softfail_reply_code, config.softfail_status_code),
        SpfResult::Temperror => (config.temperror_reply_code, config.temperror_status_code),
        SpfResult::Permerror => (config.permerror_reply_code, config.permerror_status_code),
        _ => (config.fail_reply_code, config.fail_status_code),
    };
    Reply::new(
        code,
        status,
        &Values::of(Some(verified), circumstances).expand(refusal_text(config, &verified.outcome)),
    )
}

fn refusal_text<'a>(config: &'a Config, outcome: &spf::Outcome) -> &'a ReplyText {
    match outcome.result {
        SpfResult::Softfail => &config.softfail_reply_text,
        SpfResult::Temperror => &config.temperror_reply_text,
        SpfResult::Permerror => &config.permerror_reply_text,
        _ if outcome.explanation.is_some() => &config.fail_reply_text_exp,
        _ => &config.fail_reply_text,
    }
}

/// What the macros of a reply text stand for.
struct Values<'a> {
    variables: Variables<'a>,
    explanation: &'a str,
    reason: &'a str,
    author_domain: &'a str,
}

impl<'a> Values<'a> {
    fn of(verified: Option<&'a Verified>, circumstances: &Circumstances<'a>) -> Self {
        let domain = verified.map_or("", |verified| verified.domain.as_str());
        let variables = Variables {
            client: circumstances.client,
            local_part: verified.map_or("", |verified| verified.local_part.as_str()),
            sender_domain: domain,
            domain,
            helo: match verified {
                Some(verified) if verified.identity == Identity::Helo => domain,
                _ => circumstances.helo,
            },
            receiver: circumstances.receiver,
            timestamp: circumstances.timestamp,
            validated: verified
                .and_then(|verified| verified.outcome.client_name.as_deref())
                .or(circumstances.client_name),
        };
        let outcome = verified.map(|verified| &verified.outcome);
        Self {
            variables,
            explanation: outcome
                .and_then(|outcome| outcome.explanation.as_deref())
                .unwrap_or_default(),
            reason: outcome
                .and_then(|outcome| outcome.problem.as_ref())
                .map_or("unknown", |problem| problem.kind.as_str()),
            author_domain: "",
        }
    }

    fn expand(&self, text: &ReplyText) -> String {
        let mut expanded = String::new();
        for segment in text.segments() {
            match segment {
                ReplySegment::Explain(string) => {
                    expanded.push_str(&expand_explain_string(string, &self.variables))
                }
                ReplySegment::Exp => expanded.push_str(self.explanation),
                ReplySegment::Reason => expanded.push_str(self.reason),
                ReplySegment::AuthorDomain => expanded.push_str(self.author_domain),
            }
        }
        expanded
    }
}
