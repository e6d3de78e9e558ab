//! Configuration and outcomes in, decisions out. Pure, and without texts, which
//! [`wording`](crate::wording) makes.

mod admission;
mod facts;
mod failures;
mod message;
mod refusal;
mod spf;

pub use admission::{
    Exemption, admit, from_authentication, helo_identity, may_claim_our_ids, sender,
};
pub use facts::MessageFacts;
pub use message::{Cause, Disposition, MessageDecision, at_end, at_end_of_exempt};
pub use refusal::Refusal;
pub use spf::{HeloDecision, MailDecision, Recorded, at_helo, at_mail, recorded};
