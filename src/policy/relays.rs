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
