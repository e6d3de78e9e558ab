//! Configuration and outcomes in, decisions out. Pure, and without texts, which
//! [`wording`](crate::wording) makes.

mod admission;
mod facts;
mod failures;
mod message;
mod refusal;
mod relays;
mod spf;

pub use admission::{
    Admitted, Exemption, admit, from_authentication, helo_identity, is_exempt_recipient,
    may_claim_our_ids, sender,
};
pub use facts::MessageFacts;
pub use failures::wants_alignment;
pub use message::{Disposition, MessageDecision, at_end, at_end_of_exempt};
pub use refusal::{Cause, Refusal, Refusals, decisive};
pub use relays::{is_inside, of_exempt_recipients, of_relayed};
pub use spf::{HeloDecision, MailDecision, Recorded, SpfClient, at_helo, at_mail, recorded};
