//! Input of DMARC (RFC 9989 §4.3).

use crate::mail::{domain::Domain, results::SpfResult};

/// The outcomes of SPF and DKIM, as far as DMARC needs them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identifiers {
    /// The domain and result of the MAIL FROM identity: with a null reverse-path that of
    /// `postmaster` at the HELO name. The HELO identity itself never counts (RFC 9989 §4.4.2).
    /// `None` if there was no domain to verify.
    pub spf: Option<(Domain, SpfResult)>,
    /// The signatures that were verified.
    pub dkim: Vec<DkimIdentifier>,
}

impl Identifiers {
    /// Whether an identifier at a domain or below it passes, or may at the next attempt.
    pub fn may_pass_at_or_below(&self, name: &str) -> bool {
        let is_there = |domain: &Domain| {
            let rest = domain.as_str().strip_suffix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let spf = self.spf.as_ref().is_some_and(|(domain, result)| {
            matches!(result, SpfResult::Pass | SpfResult::Temperror) && is_there(domain)
        });
        spf || self
            .dkim
            .iter()
            .any(|signature| signature.status != DkimStatus::Other && is_there(&signature.domain))
    }
}

/// A DKIM signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DkimIdentifier {
    /// The signing domain (`d=`).
    pub domain: Domain,
    /// Its status.
    pub status: DkimStatus,
}

/// The status of a DKIM signature, as far as DMARC needs it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DkimStatus {
    /// It is valid, and good enough for DMARC.
    Pass,
    /// It could not be verified for trouble that may go away.
    Temperror,
    /// It is not valid, or not good enough.
    Other,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::results::Words;

    /// Labels that end alike, so that the end of a name is not always the end of a label.
    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "ba", "bank", "example"]), 1..4)
            .prop_map(|labels| labels.join("."))
    }

    /// Whether the last labels of a domain are those of a name.
    fn is_at_or_below(domain: &str, name: &str) -> bool {
        let (domain, name): (Vec<_>, Vec<_>) =
            (domain.split('.').collect(), name.split('.').collect());
        domain.ends_with(&name)
    }

    proptest! {
        #[test]
        fn only_domains_at_or_below_a_name_may_pass(domain in name(), name in name()) {
            let parsed = Domain::parse(&domain).unwrap();
            let is_there = is_at_or_below(&domain, &name);
            for &(result, _) in SpfResult::ALL {
                let identifiers = Identifiers { spf: Some((parsed.clone(), result)), dkim: vec![] };
                let may_pass = matches!(result, SpfResult::Pass | SpfResult::Temperror);
                prop_assert_eq!(identifiers.may_pass_at_or_below(&name), may_pass && is_there);
            }
            for status in [DkimStatus::Pass, DkimStatus::Temperror, DkimStatus::Other] {
                let dkim = vec![DkimIdentifier { domain: parsed.clone(), status }];
                let identifiers = Identifiers { spf: None, dkim };
                let may_pass = status != DkimStatus::Other;
                prop_assert_eq!(identifiers.may_pass_at_or_below(&name), may_pass && is_there);
            }
        }
    }
}
