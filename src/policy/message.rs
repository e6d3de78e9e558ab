//! Decisions on a message as a whole, at its end.

use std::net::IpAddr;

use super::{
    admission::{self, Exemption},
    refusal::Refusal,
};
use crate::{
    auth::{
        dkim::SignatureOutcome,
        dmarc::{self, DmarcResult, Policy},
    },
    config::{Config, EnforcedPolicy},
    mail::results::words,
};

/// A decision on a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageDecision {
    /// The message goes on.
    Accept {
        /// Why DMARC has no consequence, where it would have one.
        exemption: Option<Exemption>,
    },
    /// The MTA keeps the message back, as the DMARC policy of the author domain asks for.
    Quarantine,
    /// The message is refused.
    Refuse(Refusal),
}

impl MessageDecision {
    /// The disposition by SPF or DMARC.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Accept { .. } | Self::Refuse(Refusal::ForgedResults) => Disposition::None,
            Self::Quarantine => Disposition::Quarantine,
            Self::Refuse(_) => Disposition::Reject,
        }
    }

    /// Why DMARC has no consequence, where it would have one.
    pub fn exemption(self) -> Option<Exemption> {
        match self {
            Self::Accept { exemption } => exemption,
            Self::Quarantine | Self::Refuse(_) => None,
        }
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
    /// The signatures.
    pub dkim: &'a [SignatureOutcome],
    /// The outcome of DMARC, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
    /// The message has a List-Id.
    pub is_list: bool,
    /// More fields claim to be ours than are deleted.
    pub has_too_many_forged: bool,
}

/// Decides at the end of a message of which nothing is verified.
pub fn at_end_of_exempt(has_too_many_forged: bool) -> MessageDecision {
    if has_too_many_forged {
        MessageDecision::Refuse(Refusal::ForgedResults)
    } else {
        MessageDecision::Accept { exemption: None }
    }
}

/// Decides at the end of the message. `spf-milter(8)` shows the same as a table.
///
/// A message with more forged fields than are deleted is refused, whatever it is: one of them would
/// stay. Else:
///
/// 1. A DMARC temperror is answered with a temporary reply where that is wanted and nothing exempts
///    the message. That comes before the result of SPF: the next attempt may bring a pass.
/// 2. An SPF rejection that was deferred is carried out, unless DMARC passes.
/// 3. The policy of the author domain is carried out where DMARC fails, it is to be enforced and
///    nothing exempts the message.
pub fn at_end(config: &Config, facts: &MessageFacts<'_>) -> MessageDecision {
    let result = facts.dmarc.map(|outcome| outcome.result);
    if facts.has_too_many_forged {
        return MessageDecision::Refuse(Refusal::ForgedResults);
    }
    let may_retry = config.defer_dmarc_temperror && result == Some(DmarcResult::Temperror);
    let exemption = admission::from_dmarc(config, facts.client, facts.dkim, facts.is_list);
    if may_retry && exemption.is_none() {
        return MessageDecision::Refuse(Refusal::DmarcTemperror);
    }
    if let Some(refusal) = facts.deferred
        && result != Some(DmarcResult::Pass)
    {
        return MessageDecision::Refuse(refusal);
    }
    let applied = facts.dmarc.and_then(|outcome| outcome.policy.as_ref());
    match (result, applied.map_or(Policy::None, dmarc::AppliedPolicy::effective)) {
        (Some(DmarcResult::Fail), policy) if policy != Policy::None => {
            // Other exemptions come first: a site that does not enforce policies yet sees from them
            // what enforcing would do.
            let exemption = exemption
                .or_else(|| (!is_enforced(config, policy)).then_some(Exemption::NotEnforced));
            match policy {
                _ if exemption.is_some() => MessageDecision::Accept { exemption },
                Policy::Quarantine => MessageDecision::Quarantine,
                _ => MessageDecision::Refuse(Refusal::Dmarc),
            }
        }
        (Some(DmarcResult::Temperror), _) if may_retry => MessageDecision::Accept { exemption },
        _ => MessageDecision::Accept { exemption: None },
    }
}

fn is_enforced(config: &Config, policy: Policy) -> bool {
    config.enforce_dmarc_policies.iter().any(|enforced| match enforced {
        EnforcedPolicy::Quarantine => policy == Policy::Quarantine,
        EnforcedPolicy::Reject => policy == Policy::Reject,
    })
}
