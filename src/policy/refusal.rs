//! What actions are called for.

use crate::config::Action;

/// Why something is refused, or has another action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The SPF result of the identity is one that is rejected.
    Spf,
    /// The DMARC policy of the author domain asks for it.
    Dmarc,
    /// DMARC had DNS trouble: the next attempt may bring a pass.
    DmarcTemperror,
    /// The author domain is ours, and nothing authenticates the message, which is from outside.
    LocalDomain,
    /// There is no From that can be read, or several.
    MalformedAuthor,
    /// Neither SPF of MAIL FROM nor a signature passes.
    Unauthenticated,
    /// The client's name does not lead back to it, or it has none.
    Iprev,
    /// More Authentication-Results claim to be ours than are deleted: one of them would stay.
    ForgedResults,
    /// More fields mark the message as ours do than are deleted.
    ForgedTags,
}

/// Something about a message that calls for an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cause {
    /// What it is.
    pub refusal: Refusal,
    /// The action, which is not none.
    pub action: Action,
}

impl Refusal {
    /// Whether it is about fields that would come in in our name: then it holds in any case.
    pub fn is_of_forged(self) -> bool {
        matches!(self, Self::ForgedResults | Self::ForgedTags)
    }

    /// The word for it, in the log and in the field that marks a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spf => "spf",
            Self::Dmarc => "dmarc",
            Self::DmarcTemperror => "dmarc-temperror",
            Self::LocalDomain => "local-domain",
            Self::MalformedAuthor => "malformed-author",
            Self::Unauthenticated => "unauthenticated",
            Self::Iprev => "iprev",
            Self::ForgedResults => "too-many-authentication-results",
            Self::ForgedTags => "too-many-tags",
        }
    }
}
