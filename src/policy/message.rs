//! Decisions on a message as a whole, at its end.

use std::net::IpAddr;

use super::{
    admission::{self, Exemption},
    refusal::Refusal,
};
use crate::{
    auth::{
        dkim::{DkimResult, SignatureOutcome},
        dmarc::{self, DmarcResult, Policy, Problem},
        iprev::{self, IprevResult},
    },
    config::{Action, Config},
    mail::results::{SpfResult, words},
};

/// A decision on a message: what is called for. The strictest action is carried out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MessageDecision {
    causes: Vec<Cause>,
    /// Why DMARC has no consequence, where it would have one.
    exemption: Option<Exemption>,
}

/// Something about a message that calls for an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cause {
    /// What it is.
    pub refusal: Refusal,
    /// The action, which is not none.
    pub action: Action,
}

impl MessageDecision {
    fn call_for(&mut self, refusal: Refusal, action: Action) {
        if action != Action::None {
            self.causes.push(Cause { refusal, action });
        }
    }

    /// All that calls for an action.
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    /// The cause of the action that is carried out: the first of those with the strictest.
    pub fn decisive(&self) -> Option<Cause> {
        self.causes.iter().rev().max_by_key(|cause| cause.action).copied()
    }

    /// The action that is carried out.
    pub fn action(&self) -> Action {
        self.decisive().map_or(Action::None, |cause| cause.action)
    }

    /// The disposition by SPF or DMARC.
    pub fn disposition(&self) -> Disposition {
        match self.decisive() {
            Some(Cause { refusal: Refusal::ForgedResults, .. }) => Disposition::None,
            Some(Cause { action: Action::Quarantine, .. }) => Disposition::Quarantine,
            Some(Cause { action: Action::Defer | Action::Reject, .. }) => Disposition::Reject,
            _ => Disposition::None,
        }
    }

    /// Why DMARC has no consequence, where it would have one and the message goes on.
    pub fn exemption(&self) -> Option<Exemption> {
        self.exemption.filter(|_| self.action() < Action::Quarantine)
    }
}

words! {
    /// The disposition of a message, in the words of DMARC.
    Disposition {
        /// Nothing.
        None = "none",
        /// The MTA keeps it back.
        Quarantine = "quarantine",
        /// It is refused, for good or for now.
        Reject = "reject",
    }
}

/// The facts that decide on a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The refusal of its sender that was put off.
    pub deferred: Option<Refusal>,
    /// The result of SPF for MAIL FROM, where it was verified.
    pub spf: Option<SpfResult>,
    /// The signatures.
    pub dkim: &'a [SignatureOutcome],
    /// The outcome of DMARC, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
    /// What iprev found, where it was verified.
    pub iprev: Option<&'a iprev::Outcome>,
    /// The message has a List-Id.
    pub is_list: bool,
    /// More fields claim to be ours than are deleted.
    pub has_too_many_forged: bool,
}

/// Decides at the end of a message of which nothing is verified.
pub fn at_end_of_exempt(has_too_many_forged: bool) -> MessageDecision {
    let mut decision = MessageDecision::default();
    if has_too_many_forged {
        decision.call_for(Refusal::ForgedResults, Action::Reject);
    }
    decision
}

/// Decides at the end of the message. `spf-milter(8)` shows the same as a table.
///
/// A message with more forged fields than are deleted is refused, whatever it is: one of them would
/// stay. Else the strictest action of these is carried out, of equal ones the first:
///
/// 1. An SPF rejection that was deferred, unless DMARC passes, or is to be tried again: the next
///    attempt may bring a pass.
/// 2. The action on the result of DMARC, where nothing exempts the message.
/// 3. The actions on a From that cannot be read, on a message that nothing authenticates, and on the
///    client's name, where the client is not exempt. Trouble that may go away calls for none.
pub fn at_end(config: &Config, facts: &MessageFacts<'_>) -> MessageDecision {
    let mut decision = at_end_of_exempt(facts.has_too_many_forged);
    if facts.has_too_many_forged {
        return decision;
    }
    let (cause, exemption) = from_dmarc(config, facts).unzip();
    if let Some(refusal) = facts.deferred
        && facts.dmarc.is_none_or(|outcome| outcome.result != DmarcResult::Pass)
        && cause.is_none_or(|cause: Cause| cause.action != Action::Defer)
    {
        decision.call_for(refusal, Action::Reject);
    }
    if let Some(Cause { refusal, action }) = cause {
        decision.call_for(refusal, action);
    }
    decision.exemption = exemption.flatten();
    for (refusal, action) in others(config, facts) {
        if action == Action::None {
        } else if config.dmarc_exempt_networks.contains(facts.client) {
            decision.exemption = Some(Exemption::DmarcNetwork);
        } else {
            decision.call_for(refusal, action);
        }
    }
    decision
}

/// What else calls for actions, and for which.
fn others(config: &Config, facts: &MessageFacts<'_>) -> impl Iterator<Item = (Refusal, Action)> {
    let is_failure = |outcome: &iprev::Outcome| {
        matches!(outcome.result, IprevResult::Fail | IprevResult::Permerror)
    };
    [
        (
            facts.dmarc.is_some_and(is_malformed),
            Refusal::MalformedAuthor,
            config.malformed_author_action,
        ),
        (
            facts.dmarc.is_some() && is_unauthenticated(facts),
            Refusal::Unauthenticated,
            config.unauthenticated_action,
        ),
        (facts.iprev.is_some_and(is_failure), Refusal::Iprev, config.iprev_fail_action),
    ]
    .into_iter()
    .filter_map(|(applies, refusal, action)| applies.then_some((refusal, action)))
}

/// Whether there is no From, none that can be read, or several.
fn is_malformed(outcome: &dmarc::Outcome) -> bool {
    let is_about_from = matches!(
        outcome.problem,
        Some(Problem::NoFrom | Problem::MalformedFrom(_) | Problem::SeveralFromFields)
    );
    is_about_from && outcome.result != DmarcResult::Temperror
}

/// Whether neither SPF of MAIL FROM nor a signature over the whole message passes, or may pass at
/// the next attempt.
fn is_unauthenticated(facts: &MessageFacts<'_>) -> bool {
    let may_pass = |signature: &SignatureOutcome| {
        signature.covers_message() || signature.result() == DkimResult::Temperror
    };
    !matches!(facts.spf, Some(SpfResult::Pass | SpfResult::Temperror))
        && !facts.dkim.iter().any(may_pass)
}

/// The action on the result of DMARC, and why it is not that of the policy.
fn from_dmarc(config: &Config, facts: &MessageFacts<'_>) -> Option<(Cause, Option<Exemption>)> {
    let outcome = facts.dmarc?;
    let policy = outcome.policy.as_ref().map_or(Policy::None, dmarc::AppliedPolicy::effective);
    let (refusal, action) = match (outcome.result, policy) {
        (DmarcResult::Fail, Policy::Quarantine) => (Refusal::Dmarc, config.dmarc_quarantine_action),
        (DmarcResult::Fail, Policy::Reject) => (Refusal::Dmarc, config.dmarc_reject_action),
        (DmarcResult::Temperror, _) if config.dmarc_temperror_action != Action::None => {
            (Refusal::DmarcTemperror, config.dmarc_temperror_action)
        }
        _ => return None,
    };
    // Exemptions come first: a site that does not enforce policies yet sees from them what enforcing
    // would do.
    let exemption = admission::from_dmarc(config, facts.client, facts.dkim, facts.is_list);
    if exemption.is_some() {
        return Some((Cause { refusal, action: Action::None }, exemption));
    }
    let is_enforced = refusal == Refusal::DmarcTemperror || action >= Action::Quarantine;
    Some((Cause { refusal, action }, (!is_enforced).then_some(Exemption::NotEnforced)))
}
