//! Recipients for whom nothing is refused.

use std::collections::HashSet;

use super::{
    listed::{Entries, Listed},
    skip_senders::{self, SenderSet, entry, is_local_part},
    value::{Parsed, Spell, quote, wrong},
};
use crate::mail::domain::Domain;

/// A list of recipients.
pub type Recipients = Listed<RecipientSet>;

/// Recipients in tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecipientSet {
    addresses: SenderSet,
    /// In lower case.
    local_parts: HashSet<Box<str>>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// `user@`: in each domain.
    LocalPart(Box<str>),
    /// A domain, its subdomains, or an address.
    Address(skip_senders::Entry),
}

impl RecipientSet {
    /// Whether there are no recipients.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a recipient is in the set; the domain may be missing, and need not be a name.
    ///
    /// Entries of domains do not have a local-part that an MTA may take for a route to another
    /// address: `user%other.example@example.com`.
    pub fn contains(&self, local_part: &str, domain: Option<&Domain>) -> bool {
        let is_address = |domain| match local_part.contains(['@', '%', '!']) {
            true => self.addresses.has_address(local_part, domain),
            false => self.addresses.matches(Some(local_part), domain),
        };
        self.local_parts.contains(local_part.to_ascii_lowercase().as_str())
            || domain.is_some_and(is_address)
    }
}

impl Entries for RecipientSet {
    type Entry = Entry;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<Entry> {
        match text.strip_suffix('@') {
            Some(local_part)
                if !local_part.is_empty()
                    && is_local_part(local_part)
                    && (local_part.starts_with('"') || !local_part.contains('@')) =>
            {
                Ok(Entry::LocalPart(local_part.to_ascii_lowercase().into()))
            }
            Some(_) => wrong(format!(
                "{} is not a recipient (expected user@, example.com, .example.com or user@example.com)",
                quote(text)
            )),
            None => entry(text).map(Entry::Address).map_err(|mut errors| {
                for error in &mut errors {
                    let message = error.message.replace("is not a sender", "is not a recipient");
                    error.message = message.replace("(expected ", "(expected user@, ");
                }
                errors
            }),
        }
    }

    fn insert(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::LocalPart(local_part) => self.local_parts.insert(local_part.clone()),
            Entry::Address(entry) => self.addresses.insert(entry),
        }
    }
}

impl Spell for Entry {
    fn spell(&self) -> String {
        match self {
            Self::LocalPart(local_part) => format!("{local_part}@"),
            Self::Address(entry) => entry.spell(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{domain_map::DomainEntry, listed::listed},
        *,
    };

    /// One entry of a sender after the other.
    fn has_sender(
        all: &[Entry],
        local_part: Option<&str>,
        domain: &Domain,
        is_routed: bool,
    ) -> bool {
        all.iter().any(|entry| match entry {
            Entry::LocalPart(_) => false,
            Entry::Address(skip_senders::Entry::Address(it, of)) => {
                of == domain && local_part.is_some_and(|text| text.eq_ignore_ascii_case(it))
            }
            Entry::Address(skip_senders::Entry::Domain(DomainEntry::Domain(it))) => {
                !is_routed && it == domain
            }
            Entry::Address(skip_senders::Entry::Domain(DomainEntry::Subdomains(it))) => {
                !is_routed && domain.as_str().ends_with(&format!(".{it}"))
            }
        })
    }

    proptest! {
        /// Recipients, and senders, of few names, so that they often meet.
        #[test]
        fn look_ups_are_those_of_the_slow_twin(
            entries in vec("(a|B|x%y)@|(\\.|a@|B@|x%y@)?(a|b)(\\.(a|b)){1,2}", 0..10),
            local_parts in vec("a|A|b|x%y|a!b", 8),
            domains in vec("(a|b)(\\.(a|b)){0,3}", 8),
        ) {
            let entries: Vec<Entry> =
                entries.iter().map(|text| RecipientSet::read(text).unwrap()).collect();
            let (mut recipients, mut senders) = (RecipientSet::default(), SenderSet::default());
            for entry in &entries {
                recipients.insert(entry);
                if let Entry::Address(entry) = entry {
                    senders.insert(entry);
                }
            }
            for (local_part, domain) in local_parts.iter().zip(&domains) {
                let domain = Domain::parse(domain).unwrap();
                let is_everywhere = entries.iter().any(|entry| {
                    matches!(entry, Entry::LocalPart(it) if it.eq_ignore_ascii_case(local_part))
                });
                let is_routed = local_part.contains(['%', '!']);
                let has = |local_part, is_routed| has_sender(&entries, local_part, &domain, is_routed);
                prop_assert_eq!(
                    recipients.contains(local_part, Some(&domain)),
                    is_everywhere || has(Some(local_part.as_str()), is_routed)
                );
                prop_assert_eq!(recipients.contains(local_part, None), is_everywhere);
                for local_part in [Some(local_part.as_str()), None] {
                    prop_assert_eq!(senders.matches(local_part, &domain), has(local_part, false));
                }
            }
        }
    }

    #[test]
    fn recipients_are_found() {
        let text = "Postmaster@, Abuse@example.com, b.example, .c.example";
        let list: Recipients = listed(text).unwrap();
        assert_eq!(list.spell(), "postmaster@, abuse@example.com, b.example, .c.example");
        let has = |local_part: &str, domain: &str| {
            list.contains(local_part, Domain::parse(domain).ok().as_ref())
        };
        assert!(
            has("postmaster", "x.example") && has("POSTMASTER", "") && has("Abuse", "example.com")
        );
        assert!(has("x", "b.example") && has("x", "a.c.example"));
        for routed in
            ["y%other.example", "y@other.example", "\"y@other.example\"", "other.example!y"]
        {
            assert!(!has(routed, "b.example") && !has(routed, "a.c.example"), "{routed}");
        }
        let odd: Recipients = listed("y%z@b.example").unwrap();
        assert!(odd.contains("Y%z", Domain::parse("b.example").ok().as_ref()));
        assert!(!has("abuse", "x.example") && !has("x", "c.example") && !has("x", ""));
        for bad in ["@", "x@@", "x@b.example@", "a b@", "user@localhost", "postmaster", "x@, X@"] {
            assert!(listed::<RecipientSet>(bad).is_err(), "{bad}");
        }
        assert!(listed::<RecipientSet>("").unwrap().is_empty() && !list.is_empty());
    }
}
