//! Decisions on the mail of relays, and to recipients that are exempt.

use std::net::IpAddr;

use super::{admission::Exemption, message::MessageDecision};
use crate::config::{Action, Config};

/// Whether a host that Received fields name is one of the site's own, so that the client is looked
/// for behind it.
pub fn is_inside(config: &Config, address: IpAddr) -> bool {
    config.trusted_relays.contains(address) || config.trusted_networks.contains(address)
}

/// The decision on a message that a relay has accepted already: it is not refused, for that would
/// make the relay send a notice to a sender who is forged, or keep the message in its queue. Only a
/// message that would bring in fields in our name is refused all the same.
pub fn of_relayed(decision: MessageDecision) -> MessageDecision {
    decision.without(Exemption::Relayed, |action| action >= Action::Defer)
}

/// The decision on a message that goes only to exempt recipients: it is not refused, and not kept
/// back.
pub fn of_exempt_recipients(decision: MessageDecision) -> MessageDecision {
    decision.without(Exemption::ExemptRecipient, |action| action >= Action::Quarantine)
}
