//! Sets of domains.

use std::collections::HashSet;

use super::{
    listed::{Entries, Listed},
    names::domain,
    value::Parsed,
};
use crate::mail::domain::Domain;

/// A list of domains, each without its subdomains.
pub type Domains = Listed<DomainSet>;

/// Domains in a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainSet(HashSet<Box<str>>);

impl DomainSet {
    /// Whether the domain itself is in the set.
    pub fn contains(&self, domain: &Domain) -> bool {
        self.0.contains(domain.as_str())
    }
}

impl Entries for DomainSet {
    type Entry = Domain;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<Domain> {
        domain(text)
    }

    fn insert(&mut self, entry: &Domain) -> bool {
        self.0.insert(entry.as_str().into())
    }
}
