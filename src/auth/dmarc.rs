//! The method DMARC: whether the author domain is authenticated, and what its owner asks for if it
//! is not (RFC 9989).
//!
//! ```text
//! From fields -> Author -> Discovery ----------+
//! MAIL FROM identity of SPF, DKIM signatures --+-> evaluate() -> Outcome
//! ```
//!
//! [`Discovery::advance`] needs only the author and so may run while the rest of the message
//! arrives. Policy decides what follows from an outcome. Neither function has a time limit: the
//! caller sets one and drops the future. A [`Discovery`] keeps all that was found, and [`conclude`]
//! makes an outcome of what is certain by then.
//!
//! The judgement itself (`find`, `align`) is made of what is known at one moment, without waiting.
//! Look-ups run side by side, and with each answer it is made anew, so that a name server that is
//! silent keeps nothing back but what depends on it.
//!
//! # DNS queries
//!
//! No name is asked for twice for one message. Discovery takes one query where the author domain
//! has a record, otherwise at most 8 (RFC 9989 §4.10), and one more where the policy depends on
//! whether the author domain exists. Alignment takes none where the author domain itself is
//! authenticated, or where nothing else may count. Otherwise the tree walk of the author domain is
//! completed (8 in all), and each identifier at or below its organizational domain costs a walk of
//! its own, of at most 7 names not asked for yet. One MAIL FROM and ten distinct signing domains:
//! at most 8 + 1 + 11 × 7 = 86 queries; with several author domains, which are sixteen at most, 16
//! × 9 + 11 × 7 = 221.

mod alignment;
mod discovery;
mod evaluation;
mod identifiers;
mod lookups;
mod outcome;
mod published;
mod record;
#[cfg(test)]
mod tests;
mod walk;

pub use discovery::Discovery;
pub use evaluation::{align_relaxed, conclude, evaluate, first_aligned, relaxed_by_now};
pub use identifiers::{DkimIdentifier, DkimStatus, Identifiers};
pub use outcome::{
    AppliedPolicy, DmarcResult, Identifier, IdentifierAlignment, Outcome, Problem, RelaxedAlignment,
};
pub use record::{Alignment, Policy};
#[cfg(any(test, feature = "testing"))]
pub use {
    outcome::{AppliedRecord, DiscoveryStep, PolicyTag},
    record::{FailureOptions, Policies, Psd, Record},
    walk::organizational_domain,
};
