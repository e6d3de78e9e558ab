//! Records for operators: of a message, or of a session that had none.

use std::{net::IpAddr, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::peer::Permission;
use crate::{
    auth::{Identity, Verified, dkim, dmarc, iprev},
    config::Action as MessageAction,
    internal_error::InternalError,
    mail::{
        domain::Domain,
        reply::{Reply, ReplyCode},
        results::words,
    },
    policy::{Cause, Disposition, Exemption, Refusals},
};

words! {
    /// The action on an identity.
    Action {
        /// Nothing; the message may go on.
        Accept = "accept",
        /// The client was refused for good.
        Reject = "reject",
        /// The client was refused for now, and may try again.
        Tempfail = "tempfail",
    }
}

impl Action {
    /// The action of a reply.
    pub fn of(reply: &Reply) -> Self {
        if reply.code().is_temporary() { Self::Tempfail } else { Self::Reject }
    }
}

/// One verified identity, and the action on it.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityRecord {
    /// The identity and its outcome.
    pub verified: Arc<Verified>,
    /// The action, which a dry run only records. That of a refusal that was put off is to accept: the
    /// message has the other one.
    pub action: Action,
    /// The reply, where there was one, at once or at the end of the message.
    pub reply: Option<Reply>,
    /// Why the result had no consequence, where it would have had one.
    pub exemption: Option<Exemption>,
    /// The refusal was put off until the end of the message.
    pub is_put_off: bool,
    /// Only DMARC asked for it: SPF's own rules would have left it out.
    pub for_dmarc: bool,
    /// Who the reply was about, where it was one to recipients.
    pub recipient: Option<Recipient>,
}

impl IdentityRecord {
    /// Why a result that is refused was not refused at its own event, in a word of the log.
    pub fn why_accepted(&self, is_relayed: bool) -> Option<&'static str> {
        let put_off = || match is_relayed {
            true => Exemption::Relayed.as_str(),
            false => PUT_OFF,
        };
        self.exemption.map(Exemption::as_str).or_else(|| self.is_put_off.then(put_off))
    }
}

/// The word of the log for a refusal that was put off for DMARC (`defer_spf_rejection`).
const PUT_OFF: &str = "put-off";

/// A recipient who was refused, or more than are recorded one by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recipient {
    /// This one, as the MTA gave it.
    One(String),
    /// So many more.
    More(u32),
}

/// The outcomes of DKIM, DMARC and iprev for a message, and the action on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentRecord {
    /// The signatures, from the top of the header; `None` where DKIM is not verified.
    pub dkim: Option<Vec<dkim::SignatureOutcome>>,
    /// The outcome of DMARC, where it was evaluated.
    pub dmarc: Option<dmarc::Outcome>,
    /// The MAIL FROM identity that DMARC saw.
    pub mailfrom: Option<Arc<Verified>>,
    /// The outcome of iprev, where it was verified.
    pub iprev: Option<iprev::Outcome>,
    /// The policy of the site, where it holds instead of the published one.
    pub own_policy: Option<dmarc::Policy>,
    /// All that called for an action; the strictest was carried out.
    pub causes: Vec<Cause>,
    /// The disposition, which a dry run only records.
    pub disposition: Disposition,
    /// Why DMARC had no consequence, where it would have had one.
    pub exemption: Option<Exemption>,
    /// The domain of the mailing list, where that is why.
    pub list: Option<Domain>,
    /// The reply, where there was one.
    pub reply: Option<Reply>,
}

impl ContentRecord {
    /// The action as a word in the log.
    pub fn action(&self) -> &'static str {
        match &self.reply {
            Some(reply) => Action::of(reply).as_str(),
            None if self.disposition == Disposition::Quarantine => self.disposition.as_str(),
            None if !self.causes.is_empty() => MessageAction::Tag.as_str(),
            None => Action::Accept.as_str(),
        }
    }
}

/// The events of one message, or of a session that had none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The MTA's queue id.
    pub queue_id: Option<String>,
    /// The client's address; of a relay's message only where its header names the client.
    pub client: Option<IpAddr>,
    /// The client's own address, where it was verified as another (`client_map`).
    pub inner: Option<IpAddr>,
    /// The relay that handed over the message.
    pub relay: Option<IpAddr>,
    /// The HELO name.
    pub helo: Option<Arc<str>>,
    /// The identities verified since the last record.
    pub identities: SmallVec<[IdentityRecord; 2]>,
    /// The outcomes of DKIM, DMARC and iprev, where one of them is on, and the action on the message.
    pub content: Option<Box<ContentRecord>>,
    /// Why nothing was verified.
    pub exemption: Option<Exemption>,
    /// The identities that were exempt from verification, and why.
    pub skipped: Vec<Skipped>,
    /// How many incoming fields claimed to be ours, of a message that went on.
    pub forged_fields: usize,
    /// How many incoming fields marked the message as ours do, of a message that went on.
    pub forged_tags: usize,
    /// There were more of a kind than are deleted: the message was refused for that.
    pub has_too_many_forged: bool,
    /// That kind is the one that marks messages.
    pub has_too_many_tags: bool,
    /// All of this was only recorded (`dry_run`).
    pub dry_run: bool,
    /// A message was received to its end.
    pub complete: bool,
    /// The failure after which `error_action` was carried out.
    pub failure: Option<Failure>,
    /// What the MTA was told.
    pub told: Told,
    /// The identities with a recipient were recorded before, for another recipient.
    pub repeats: bool,
    /// What would have had an action on the message, or a stricter one, but for the configuration or
    /// an exemption.
    pub not_enforced: Refusals,
    /// How long the stages took.
    pub timings: Timings,
}

/// What the MTA was told at the event that a record ends with. Of a dry run this is to go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Told {
    /// To go on.
    #[default]
    GoOn,
    /// To keep the message back.
    Quarantine,
    /// To answer the client with a reply of this code.
    Reply(ReplyCode),
    /// To answer the client with a temporary reply of the MTA's own, which is 451 with most of them.
    Tempfail,
}

/// A failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The message was not changed, or not in all that it should have been: the MTA does not let
    /// milters do this.
    NotGranted(Permission),
    /// The work on the message was given up.
    Internal(InternalError),
}

impl Failure {
    /// The failure's word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotGranted(_) => "message-not-changed",
            Self::Internal(_) => "internal-error",
        }
    }
}

/// How long the stages of a message took; `None` for those that it did not have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timings {
    /// The check of HELO, of the first message after it.
    pub helo: Option<Duration>,
    /// The check of MAIL FROM.
    pub mail_from: Option<Duration>,
    /// The end of the message waited this long for DKIM.
    pub dkim: Option<Duration>,
    /// The end of the message waited this long for DMARC.
    pub dmarc: Option<Duration>,
    /// The verification of the client's name, of the first message of a session.
    pub iprev: Option<Duration>,
    /// From MAIL FROM until the end of the message is answered, what the client takes included.
    pub total: Option<Duration>,
}

/// An identity that was not verified, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Which identity.
    pub identity: Identity,
    /// Its text.
    pub value: String,
    /// Why.
    pub reason: Exemption,
}
