//! Decisions on the mail of relays, and to recipients that are exempt.

use std::net::IpAddr;

use super::{admission::Exemption, message::MessageDecision};
use crate::config::{Action, Config};

/// Whether a host that Received fields name is one of the site's own, so that the client is looked
/// for behind it.
pub fn is_inside(config: &Config, address: IpAddr) -> bool {
    config.trusted_relays.contains(address) || config.trusted_networks.contains(address)
}

/// The decision on a message that a relay has accepted already. A refusal would make the relay send
/// a notice to a sender who may be forged, or keep the message in its queue: `relay_action` says what
/// follows instead. Only a message that would bring in fields in our name is refused in any case.
pub fn of_relayed(config: &Config, decision: MessageDecision) -> MessageDecision {
    decision.with(Exemption::Relayed, |action| match (action, config.relay_action) {
        (Action::Reject, for_reject) => for_reject,
        (Action::Defer, Action::None) => Action::None,
        (Action::Defer, _) => Action::Tag,
        (Action::None | Action::Tag | Action::Quarantine, _) => action,
    })
}

/// The decision on a message that goes only to exempt recipients: it is not refused, and not kept
/// back.
pub fn of_exempt_recipients(decision: MessageDecision) -> MessageDecision {
    decision.with(Exemption::ExemptRecipient, |action| match action {
        Action::None | Action::Tag => action,
        Action::Quarantine | Action::Defer | Action::Reject => Action::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mail::results::Words, policy::refusal::Refusal};

    #[test]
    fn messages_to_exempt_recipients_are_neither_refused_nor_kept_back() {
        for &(refusal, _) in Refusal::ALL {
            for action in [Action::Tag, Action::Quarantine, Action::Defer, Action::Reject] {
                let mut decision = MessageDecision::default();
                decision.call_for(refusal, action);
                let goes_on = action == Action::Tag || refusal.is_of_forged();
                let expected = if goes_on { action } else { Action::None };
                let found = of_exempt_recipients(decision);
                assert_eq!(found.action(), expected, "{refusal} {action:?}");
            }
        }
    }
}
