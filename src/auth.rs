//! The methods of authentication: each finds an outcome, and none makes a decision.

pub mod dkim;
pub mod dmarc;
pub mod iprev;
mod reverse;
mod signed;
pub mod spf;

use std::{borrow::Cow, sync::Arc};

pub use crate::mail::received_spf::Identity;

/// An identity, and the outcome of SPF for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Which identity.
    pub identity: Identity,
    /// Its local-part, `postmaster` where it has none; without a domain the reverse-path as a
    /// whole, `<>` for an empty one.
    pub local_part: Cow<'static, str>,
    /// Its domain as it came; A-labels where it came as U-labels.
    pub domain: Arc<str>,
    /// The outcome.
    pub outcome: Arc<spf::Outcome>,
    /// Each step of the check, where that was asked for.
    pub trace: Option<spf::Trace>,
}

impl Verified {
    /// The sender that the identity stands for: `local-part@domain`, or the text that came in its
    /// place.
    pub fn sender(&self) -> String {
        self.sender_parts().concat()
    }

    /// The parts of the sender, one behind the other.
    pub fn sender_parts(&self) -> [&str; 3] {
        match (&*self.local_part, &*self.domain) {
            (local_part, "") => [local_part, "", ""],
            (local_part, domain) => [local_part, "@", domain],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::results::SpfResult;

    #[test]
    fn senders() {
        let sender = |local_part: &'static str, domain: &str| {
            let outcome = spf::Outcome::without_record(SpfResult::None, None).into();
            let (local_part, domain) = (local_part.into(), domain.into());
            let identity = Identity::Mailfrom;
            Verified { identity, local_part, domain, outcome, trace: None }.sender()
        };
        assert_eq!(sender("amy", "example.com"), "amy@example.com");
        assert_eq!(sender("<>", ""), "<>");
    }
}
