//! Why a question came out as it did: in a sentence, and the parameter that decided.

use super::finding::{Finding, Stage};
use crate::{
    auth::{
        Identity, Verified,
        dmarc::{self, DmarcResult, Policy},
        iprev::IprevResult,
    },
    config::{Config, Place, Places},
    mail::results::SpfResult,
    policy::{Cause, Exemption, Refusal, decisive},
    session::{ContentRecord, IdentityRecord, Record, Verdict},
};

/// Why it came out so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Why {
    /// A sentence, without a full stop.
    pub(super) sentence: String,
    /// The parameter that decided, where one did.
    pub(super) parameter: Option<&'static str>,
}

impl Why {
    fn new(sentence: impl Into<String>, parameter: Option<&'static str>) -> Self {
        Self { sentence: sentence.into(), parameter }
    }

    /// Finds why, with a configuration that is set in these places. Where a value follows from that
    /// of another parameter, that one decided.
    pub(super) fn find(finding: &Finding, config: &Config, places: &Places) -> Self {
        let mut why = Self::search(finding, config);
        why.parameter = why.parameter.map(|parameter| match (parameter, places.find(parameter)) {
            ("reject_helo_results", Place::Derived(_)) => "reject_results",
            ("delete_incoming_authentication_results", Place::Derived(_)) => "header",
            _ => parameter,
        });
        why
    }

    fn search(finding: &Finding, config: &Config) -> Self {
        let records: Vec<&Record> = finding.records().collect();
        if let Some(failure) = records.iter().find_map(|record| record.failure) {
            let sentence = format!("the work on the message failed ({})", failure.as_str());
            return Self::new(sentence, Some("error_action"));
        }
        let content = records.iter().rev().find_map(|record| record.content.as_deref());
        if let Some(record) = records.iter().find(|record| record.has_too_many_forged) {
            let parameter = match record.has_too_many_tags {
                true => "tag_header",
                false => "delete_incoming_authentication_results",
            };
            return Self::new(
                "more fields claim to be of this host than it deletes",
                Some(parameter),
            );
        }
        let deciding = finding.deciding();
        let mut identities = records.iter().rev().flat_map(|record| record.identities.iter().rev());
        let is_at_end = deciding.is_some_and(|step| step.stage == Stage::End);
        if !is_at_end && deciding.is_some_and(|step| matches!(step.verdict, Verdict::Reply(_))) {
            let refused = identities.find(|identity| identity.reply.is_some());
            return refused.map_or_else(nothing, |identity| of_spf(&identity.verified));
        }
        let last = match identities.next() {
            // Others of the recipients are refused.
            Some(last) if last.reply.is_some() => {
                let mut spared = identities;
                let is_spared =
                    |other: &&IdentityRecord| other.exemption == Some(Exemption::ExemptRecipient);
                spared.find(is_spared).or(Some(last))
            }
            last => last,
        };
        if let Some(why) = content.and_then(|content| of_content(content, last)) {
            return why;
        }
        if let Some(exemption) = records.iter().rev().find_map(|record| record.exemption) {
            return of_exemption(exemption);
        }
        let skipped = records.iter().flat_map(|record| &record.skipped).next();
        let dmarc = content.and_then(|content| content.dmarc.as_ref());
        let passes = dmarc.is_some_and(|outcome| outcome.result == DmarcResult::Pass);
        if let Some(last) = last.filter(|last| last.for_dmarc && !passes)
            && config.reject_results.contains(&last.verified.outcome.result)
        {
            return of_spared(last, &records);
        }
        if let Some(why) = last.and_then(|last| of_accepted(last, !is_at_end, config)) {
            return why;
        }
        if let Some(skipped) = skipped.filter(|_| last.is_none() && content.is_none()) {
            return of_exemption(skipped.reason);
        }
        if let Some(outcome) = content.and_then(|content| content.dmarc.as_ref())
            && outcome.result == DmarcResult::Pass
        {
            return Self::new(format!("DMARC of {} passes", author(Some(outcome))), None);
        }
        last.map_or_else(nothing, |last| {
            Self::new(format!("{}, and nothing calls for an action", spf_is(&last.verified)), None)
        })
    }
}

/// Why it came out so, with a configuration that is set in these places: a sentence, and the
/// parameter that decided.
#[cfg(feature = "testing")]
pub fn why(finding: &Finding, config: &Config, places: &Places) -> (String, Option<&'static str>) {
    let why = Why::find(finding, config, places);
    (why.sentence, why.parameter)
}

fn nothing() -> Why {
    Why::new("nothing calls for an action", None)
}

/// `SPF of the sender amy@example.com is fail`.
fn spf_is(verified: &Verified) -> String {
    let result = verified.outcome.result;
    match verified.identity {
        Identity::Helo => format!("SPF of the HELO name {} is {result}", verified.domain),
        Identity::Mailfrom => format!("SPF of the sender {} is {result}", verified.sender()),
    }
}

/// A refusal for SPF.
fn of_spf(verified: &Verified) -> Why {
    let parameter = match verified.identity {
        Identity::Helo => "reject_helo_results",
        Identity::Mailfrom => "reject_results",
    };
    Why::new(format!("{}, which is rejected", spf_is(verified)), Some(parameter))
}

/// What the end of the message was decided by; `None` where it called for nothing.
fn of_content(content: &ContentRecord, last: Option<&IdentityRecord>) -> Option<Why> {
    let dmarc = content.dmarc.as_ref();
    let Some(cause) = decisive(&content.causes) else {
        return of_exempt_content(content);
    };
    let Cause { refusal, .. } = cause;
    let mut why = match refusal {
        Refusal::Spf => last.map_or_else(nothing, |last| of_spf(&last.verified)),
        Refusal::Dmarc => of_policy(content, policy_of(content)),
        Refusal::DmarcTemperror => Why::new(
            format!("DMARC of {} could not be evaluated", author(dmarc)),
            Some("dmarc_temperror_action"),
        ),
        Refusal::LocalDomain => Why::new(
            format!(
                "the author domain {} is one of ours, the message comes from outside, and nothing authenticates it",
                author(dmarc)
            ),
            Some("local_domain_action"),
        ),
        Refusal::MalformedAuthor => {
            let problem = dmarc.and_then(|outcome| outcome.problem.as_ref());
            let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
            Why::new(
                format!("the author cannot be determined{problem}"),
                Some("malformed_author_action"),
            )
        }
        Refusal::Unauthenticated => {
            Why::new("neither SPF nor a signature passes", Some("unauthenticated_action"))
        }
        Refusal::Iprev => {
            let result = content.iprev.as_ref().map(|outcome| outcome.result);
            let sentence = match result {
                Some(IprevResult::Permerror) => "the client's address has no name",
                _ => "no name of the client's address leads back to it",
            };
            Why::new(sentence, Some("iprev_fail_action"))
        }
        Refusal::ForgedResults | Refusal::ForgedTags => Why::new(
            "more fields claim to be of this host than it deletes",
            Some("delete_incoming_authentication_results"),
        ),
    };
    let is_put_off = last.is_some_and(|last| last.exemption == Some(Exemption::Relayed));
    if content.exemption == Some(Exemption::Relayed) || refusal == Refusal::Spf && is_put_off {
        why.sentence.push_str("; a relay has accepted the message already");
        why.parameter = Some("relay_action");
    }
    Some(why)
}

/// A failure of DMARC, and the policy that holds.
fn of_policy(content: &ContentRecord, policy: Policy) -> Why {
    let domain = author(content.dmarc.as_ref());
    let whose =
        if content.own_policy.is_some() { "the policy of this site for it" } else { "its policy" };
    let parameter = match policy {
        Policy::Reject => "dmarc_reject_action",
        Policy::Quarantine | Policy::None => "dmarc_quarantine_action",
    };
    Why::new(format!("DMARC of {domain} fails, and {whose} is {policy}"), Some(parameter))
}

/// The policy that holds.
fn policy_of(content: &ContentRecord) -> Policy {
    let published = content.dmarc.as_ref().and_then(|outcome| outcome.policy.as_ref());
    content
        .own_policy
        .or_else(|| published.map(dmarc::AppliedPolicy::effective))
        .unwrap_or(Policy::None)
}

/// Why a message goes on although something would call for an action.
fn of_exempt_content(content: &ContentRecord) -> Option<Why> {
    let exemption = content.exemption?;
    let mut why = of_policy(content, policy_of(content));
    match exemption {
        Exemption::NotEnforced => {
            why.sentence.push_str(", which is not enforced");
        }
        Exemption::MailingList => {
            let list = content.list.as_ref().map_or_else(String::new, |list| format!(" {list}"));
            why = Why::new(
                format!(
                    "the message comes from the mailing list{list}, which is exempt from DMARC"
                ),
                Some("dmarc_exempt_mailing_lists"),
            );
        }
        _ => why = of_exemption(exemption),
    }
    Some(why)
}

/// Why something has no consequence, or is not verified.
fn of_exemption(exemption: Exemption) -> Why {
    let (sentence, parameter) = match exemption {
        Exemption::NoAddress => ("the client has no address", None),
        Exemption::LocalSubmission => ("the message is of this host itself", None),
        Exemption::TrustedNetwork => ("the client is trusted", Some("trusted_networks")),
        Exemption::Authenticated => {
            ("the client authenticated", Some("trust_authenticated_senders"))
        }
        Exemption::AuthenticatedAtRelay => {
            ("the client authenticated at a relay", Some("trusted_relays"))
        }
        Exemption::NoDomainName => ("the HELO name is no domain name", None),
        Exemption::SkippedSender => ("the sender is exempt from SPF", Some("skip_senders")),
        Exemption::UnknownClient(reason) => {
            let sentence = format!(
                "the Received fields of the relay's message do not name a client ({reason})"
            );
            return Why::new(sentence, Some("trusted_relays"));
        }
        Exemption::Relayed => ("a relay has accepted the message already", Some("relay_action")),
        Exemption::SpfNetwork => ("the client is not refused for SPF", Some("spf_exempt_networks")),
        Exemption::ExemptRecipient => {
            ("nothing is refused for the recipient", Some("exempt_recipients"))
        }
        Exemption::DmarcNetwork => {
            ("the client is exempt from DMARC", Some("dmarc_exempt_networks"))
        }
        Exemption::DmarcDkimDomain => (
            "a domain whose signature passes is exempt from DMARC",
            Some("dmarc_exempt_dkim_domains"),
        ),
        Exemption::MailingList => {
            ("the mailing list is exempt from DMARC", Some("dmarc_exempt_mailing_lists"))
        }
        Exemption::NotEnforced => ("the policy is not enforced", None),
    };
    Why::new(sentence, parameter)
}

/// Why SPF of a sender that was verified for DMARC alone refuses nobody.
fn of_spared(identity: &IdentityRecord, records: &[&Record]) -> Why {
    let mut skipped = records.iter().flat_map(|record| &record.skipped);
    let is_skipped = skipped.any(|skipped| skipped.identity == Identity::Mailfrom);
    let (reason, parameter) = match is_skipped {
        true => ("the sender is exempt from SPF", "skip_senders"),
        false => ("the result of HELO is definitive", "definitive_helo_results"),
    };
    Why::new(format!("{}, but {reason}", spf_is(&identity.verified)), Some(parameter))
}

/// Why an identity that does not pass is not refused.
fn of_accepted(identity: &IdentityRecord, is_before_end: bool, config: &Config) -> Option<Why> {
    if let Some(exemption) = identity.exemption {
        let mut why = of_exemption(exemption);
        why.sentence = format!("{}, but {}", spf_is(&identity.verified), why.sentence);
        return Some(why);
    }
    let verified = &identity.verified;
    let (results, parameter) = match verified.identity {
        Identity::Helo => (&config.reject_helo_results, "reject_helo_results"),
        Identity::Mailfrom => (&config.reject_results, "reject_results"),
    };
    let is_rejected = results.contains(&verified.outcome.result);
    let is_sender = verified.identity == Identity::Mailfrom && !identity.for_dmarc;
    if is_before_end && is_rejected && is_sender && config.defer_spf_rejection {
        let sentence = format!(
            "{}, which is rejected at the end of the message unless DMARC passes",
            spf_is(verified)
        );
        return Some(Why::new(sentence, Some("defer_spf_rejection")));
    }
    let is_bad = !matches!(verified.outcome.result, SpfResult::Pass | SpfResult::None);
    (is_bad && !is_rejected)
        .then(|| Why::new(format!("{}, which is not rejected", spf_is(verified)), Some(parameter)))
}

/// The author domain, or that there is none.
fn author(outcome: Option<&dmarc::Outcome>) -> String {
    let domain = outcome.and_then(|outcome| outcome.author_domain.as_ref());
    domain.map_or_else(|| "the author".to_owned(), ToString::to_string)
}
