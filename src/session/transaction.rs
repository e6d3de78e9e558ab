//! The message under way in a session.

use tokio::time::Instant;

use super::{
    content::Content, forged::Forged, recipients::Recipients, relayed::Relayed, senders::Sender,
};

/// The message under way.
#[derive(Debug, Default)]
pub(super) enum Transaction {
    /// No message.
    #[default]
    None,
    /// A message of which nothing is verified: it is there to have fields deleted that claim to be
    /// ours.
    Exempt(Option<Forged>),
    /// A message that is verified.
    Verified(Box<Message>),
    /// A message on which the work was given up where the MTA takes no answer: its end has that
    /// answer. Fields that claim to be ours are deleted all the same.
    Failed(Option<Forged>),
}

/// A message that is verified.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) begun: Instant,
    /// Of a relay, while its client is not known.
    pub(super) relayed: Option<Box<Relayed>>,
    pub(super) sender: Sender,
    pub(super) recipients: Recipients,
    /// `None` where nothing of the content is looked at.
    pub(super) content: Option<Box<Content>>,
    /// Fields that claim to be ours; `None` where they are kept.
    pub(super) forged: Option<Forged>,
}
