//! Policies of one's own for author domains.

use std::{path::PathBuf, sync::Arc};

use super::{
    domain_map::{DomainEntry, DomainMap, domain_entry},
    file::path,
    keyword::{OwnPolicy, keyword},
    value::{Parsed, Spell, ValueError, optional, quote, wrong},
};
use crate::mail::domain::Domain;

/// The file of `dmarc_override_file`, and what it says. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyOverrides {
    path: Option<PathBuf>,
    policies: Arc<DomainMap<OwnPolicy>>,
}

impl PolicyOverrides {
    /// The policy that holds for an author domain instead of the published one.
    pub fn get(&self, domain: &Domain) -> Option<OwnPolicy> {
        self.policies.get(domain).copied()
    }

    /// The highest domain that has a line of its own: of this domain and those above it.
    pub fn highest<'a>(&self, domain: &'a Domain) -> Option<&'a str> {
        self.policies.highest(domain)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Takes what the file says.
    pub(crate) fn set(&mut self, policies: DomainMap<OwnPolicy>) {
        self.policies = Arc::new(policies);
    }
}

impl Spell for PolicyOverrides {
    fn spell(&self) -> String {
        self.path.spell()
    }
}

/// Reads the path; the file is read later.
pub(crate) fn policy_overrides(text: &str) -> Parsed<PolicyOverrides> {
    Ok(PolicyOverrides { path: optional(text, path)?, policies: Arc::default() })
}

/// Reads a line of the file, `DOMAIN POLICY`.
pub(crate) fn override_line(text: &str) -> Parsed<(DomainEntry, OwnPolicy)> {
    let Some((domain, rest)) = text.split_once(char::is_whitespace) else {
        return wrong(format!("no policy behind {} (expected DOMAIN POLICY)", quote(text)));
    };
    let policy = rest.trim_start();
    let offset = text.len() - policy.len();
    let entry = domain_entry(domain)?;
    let moved = |error: ValueError| ValueError { offset: offset + error.offset, ..error };
    let policy = keyword(policy)
        .map_err(|errors: Vec<ValueError>| errors.into_iter().map(moved).collect::<Vec<_>>())?;
    Ok((entry, policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |text| override_line(text).map(|(entry, policy)| (entry.spell(), policy));
        assert_eq!(read("Example.org none"), Ok(("example.org".into(), OwnPolicy::None)));
        assert_eq!(read(".example.org\t reject"), Ok((".example.org".into(), OwnPolicy::Reject)));
        for (bad, offset) in
            [("example.org", 0), ("a@example.org none", 0), ("example.org  tag", 13)]
        {
            assert_eq!(read(bad).unwrap_err()[0].offset, offset, "{bad}");
        }
    }
}
