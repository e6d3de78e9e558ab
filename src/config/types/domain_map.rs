//! Domains, and values for them.

use std::collections::HashMap;

use super::{
    listed::{Entries, Listed},
    value::{Parsed, Spell, refuse},
};
use crate::mail::domain::Domain;

/// Values for domains, each kind of entry in a table of its own, so that a look-up costs the same
/// however many there are.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainMap<T> {
    domains: HashMap<Box<str>, T>,
    /// Values for the subdomains of domains.
    parents: HashMap<Box<str>, T>,
}

/// `example.com`, the domain itself, or `.example.com`, its subdomains.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DomainEntry {
    Domain(Domain),
    Subdomains(Domain),
}

impl<T> Default for DomainMap<T> {
    fn default() -> Self {
        Self { domains: HashMap::new(), parents: HashMap::new() }
    }
}

impl<T> DomainMap<T> {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.parents.is_empty()
    }

    /// Adds a value, in place of the one that is there: then that is returned.
    pub(crate) fn insert(&mut self, entry: &DomainEntry, value: T) -> Option<T> {
        match entry {
            DomainEntry::Domain(domain) => self.domains.insert(domain.as_str().into(), value),
            DomainEntry::Subdomains(domain) => self.parents.insert(domain.as_str().into(), value),
        }
    }

    /// The highest domain that has an entry of its own, not one for subdomains: of this domain and
    /// those above it.
    pub(crate) fn highest<'a>(&self, domain: &'a Domain) -> Option<&'a str> {
        if self.domains.is_empty() {
            return None;
        }
        let above = |name: &&'a str| name.split_once('.').map(|(_, parent)| parent);
        std::iter::successors(Some(domain.as_str()), above)
            .filter(|name| self.domains.contains_key(*name))
            .last()
    }

    /// The value for a domain: its own, else that of the nearest domain above.
    pub(crate) fn get(&self, domain: &Domain) -> Option<&T> {
        let mut rest = domain.as_str();
        let own = self.domains.get(rest);
        if own.is_some() || self.parents.is_empty() {
            return own;
        }
        while let Some((_, parent)) = rest.split_once('.') {
            let value = self.parents.get(parent);
            if value.is_some() {
                return value;
            }
            rest = parent;
        }
        None
    }
}

impl DomainEntry {
    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let found = match text.strip_prefix('.') {
            Some(parent) => Domain::parse(parent).map(Self::Subdomains),
            None => match Domain::parse(text) {
                Ok(domain) if !domain.is_qualified() => {
                    return Err("domain name of one label".into());
                }
                domain => domain.map(Self::Domain),
            },
        };
        found.map_err(|error| error.to_string())
    }
}

impl Spell for DomainEntry {
    fn spell(&self) -> String {
        match self {
            Self::Domain(domain) => domain.to_string(),
            Self::Subdomains(domain) => format!(".{domain}"),
        }
    }
}

/// A list of domains, and of domains whose subdomains are meant.
pub(crate) type DomainList = Listed<DomainMap<()>>;

impl DomainMap<()> {
    /// Whether the domain is in it, by itself or as a subdomain.
    pub fn contains(&self, domain: &Domain) -> bool {
        self.get(domain).is_some()
    }
}

impl Entries for DomainMap<()> {
    type Entry = DomainEntry;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<DomainEntry> {
        domain_entry(text)
    }

    fn insert(&mut self, entry: &DomainEntry) -> bool {
        self.insert(entry, ()).is_none()
    }
}

/// Reads one entry.
pub(crate) fn domain_entry(text: &str) -> Parsed<DomainEntry> {
    DomainEntry::parse(text).or_else(|why| {
        let expected = "example.com, or .example.com for subdomains";
        refuse(text, format_args!("is not a domain: {why}"), expected)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::listed::listed, *};

    /// One entry after the other: how many labels of the domain an entry has, if it has it.
    fn labels_of(entry: &DomainEntry, domain: &Domain) -> Option<usize> {
        let labels = |domain: &Domain| domain.as_str().split('.').count();
        match entry {
            DomainEntry::Domain(it) => (it == domain).then(|| labels(it)),
            DomainEntry::Subdomains(it) => {
                domain.as_str().ends_with(&format!(".{it}")).then(|| labels(it))
            }
        }
    }

    proptest! {
        /// Domains of few labels, so that they often meet.
        #[test]
        fn look_ups_are_those_of_the_slow_twin(
            entries in vec("\\.?(a|b|aa)(\\.(a|b|aa)){1,3}", 0..10),
            domains in vec("(a|b|aa)(\\.(a|b|aa)){0,4}", 8),
        ) {
            let entries: Vec<DomainEntry> =
                entries.iter().map(|text| domain_entry(text).unwrap()).collect();
            let mut map = DomainMap::default();
            for (number, entry) in entries.iter().enumerate() {
                map.insert(entry, number);
            }
            for text in domains {
                let domain = Domain::parse(&text).unwrap();
                // The last of those that are the nearest, for a later value replaces an earlier.
                let nearest = (0..entries.len())
                    .filter_map(|number| Some((labels_of(&entries[number], &domain)?, number)))
                    .max();
                prop_assert_eq!(map.get(&domain).copied(), nearest.map(|it| it.1), "{}", &text);
                let is_own = |name: &str| {
                    entries.iter().any(|entry| {
                        matches!(entry, DomainEntry::Domain(it) if it.as_str() == name)
                    })
                };
                let dots = text.match_indices('.').map(|(dot, _)| dot + 1);
                let mut names = [0].into_iter().chain(dots).map(|start| &text[start..]);
                let highest = names.rfind(|name| is_own(name));
                prop_assert_eq!(map.highest(&domain), highest, "{}", &text);
            }
        }
    }

    #[test]
    fn domains_and_subdomains() {
        let has = |list: &str, domain: &str| {
            listed::<DomainMap<()>>(list).unwrap().contains(&Domain::parse(domain).unwrap())
        };
        assert!(has("Example.COM", "example.com") && !has("example.com", "a.example.com"));
        assert!(has(".example.com", "a.b.example.com") && !has(".example.com", "example.com"));
        assert!(!has(".example.com", "badexample.com") && !has("", "example.com"));
        assert!(has("b\u{fc}cher.example", "xn--bcher-kva.example"));
        for bad in ["com", "a..b", "amy@example.com", "*.example.com", "example.com, EXAMPLE.com"] {
            assert!(listed::<DomainMap<()>>(bad).is_err(), "{bad}");
        }
        assert_eq!(
            listed::<DomainMap<()>>(".a.example, B.example").unwrap().spell(),
            ".a.example, b.example"
        );
    }

    #[test]
    fn the_highest_entry_is_not_one_for_subdomains() {
        let list =
            listed::<DomainMap<()>>(".example, a.b.c.example, c.example, .x.c.example").unwrap();
        for (domain, highest) in [
            ("c.example", Some("c.example")),
            ("z.a.b.c.example", Some("c.example")),
            ("x.c.example", Some("c.example")),
            ("cc.example", None),
            ("example", None),
        ] {
            assert_eq!(list.highest(&Domain::parse(domain).unwrap()), highest, "{domain}");
        }
        assert_eq!(DomainMap::<()>::default().highest(&Domain::parse("a.b").unwrap()), None);
    }

    #[test]
    fn the_nearest_entry_counts() {
        let mut map = DomainMap::default();
        for (entry, value) in [("example.com", 1), (".example.com", 2), (".a.example.com", 3)] {
            map.insert(&domain_entry(entry).unwrap(), value);
        }
        for (domain, value) in [
            ("example.com", Some(1)),
            ("a.example.com", Some(2)),
            ("b.a.example.com", Some(3)),
            ("example.org", None),
        ] {
            assert_eq!(map.get(&Domain::parse(domain).unwrap()).copied(), value, "{domain}");
        }
    }
}
