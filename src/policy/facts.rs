//! The facts about a message that decisions need.

use std::net::IpAddr;

use super::refusal::{Cause, Refusal};
use crate::{
    auth::{
        dkim::SignatureOutcome,
        dmarc::{self, Identifiers, RelaxedAlignment},
        iprev,
    },
    mail::author::Author,
};

/// The facts that decide on a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The refusal of its client's HELO name that was put off: a relay had accepted the message.
    pub deferred_helo: Option<Cause>,
    /// The refusal of its sender that was put off.
    pub deferred: Option<Cause>,
    /// The author, where DMARC was evaluated.
    pub author: Option<&'a Author>,
    /// What SPF and DKIM found of identifiers, where DMARC was evaluated.
    pub identifiers: Option<&'a Identifiers>,
    /// How they are aligned in relaxed mode, where [`wants_alignment`](super::wants_alignment).
    pub alignment: Option<RelaxedAlignment>,
    /// The signatures.
    pub dkim: &'a [SignatureOutcome],
    /// What DMARC found, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
    /// What iprev found, where it was verified.
    pub iprev: Option<&'a iprev::Outcome>,
    /// The message is of a mailing list that may be exempt.
    pub is_list: bool,
    /// The refusal for more fields that claim to be ours than are deleted.
    pub too_many_forged: Option<Refusal>,
}

impl MessageFacts<'_> {
    /// The facts about a message of which nothing but its client is known.
    pub fn of(client: IpAddr) -> Self {
        Self {
            client,
            deferred_helo: None,
            deferred: None,
            author: None,
            identifiers: None,
            alignment: None,
            dkim: &[],
            dmarc: None,
            iprev: None,
            is_list: false,
            too_many_forged: None,
        }
    }

    /// Whether there is nothing that could call for an action.
    pub(super) fn say_nothing(&self) -> bool {
        let Self {
            deferred_helo,
            deferred,
            author,
            identifiers,
            dmarc,
            iprev,
            too_many_forged,
            // These say something only with others.
            client: _,
            alignment: _,
            dkim: _,
            is_list: _,
        } = self;
        deferred_helo.is_none()
            && deferred.is_none()
            && author.is_none()
            && identifiers.is_none()
            && dmarc.is_none()
            && iprev.is_none()
            && too_many_forged.is_none()
    }
}
