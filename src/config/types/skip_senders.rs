//! Senders that are not verified with SPF.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    net::IpAddr,
    sync::Arc,
};

use super::{
    domain_map::{DomainEntry, DomainMap},
    listed::{Entries, Listed, listed},
    value::{Parsed, Spell, quote, refuse},
};
use crate::mail::domain::Domain;

/// Senders that are not verified, from `skip_senders` and `skip_senders_file`. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SkipSenders {
    /// From the parameter.
    listed: Listed<SenderSet>,
    /// From `skip_senders_file`.
    file_set: Arc<SenderSet>,
}

/// Entries, each kind in a table of its own, so that a look-up costs the same however many there
/// are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SenderSet {
    domains: DomainMap<()>,
    /// Domains, with local-parts in lower case.
    addresses: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// `example.com` or `.example.com`.
    Domain(DomainEntry),
    /// `user@example.com`; the local-part in lower case.
    Address(Box<str>, Domain),
}

impl SkipSenders {
    /// Whether a sender is in the set.
    ///
    /// A HELO identity has no local-part, and is matched only by domains. Local-parts are compared
    /// as they are written, quotes and all, but for the case of ASCII letters.
    pub fn matches(&self, local_part: Option<&str>, domain: &Domain) -> bool {
        self.listed.matches(local_part, domain) || self.file_set.matches(local_part, domain)
    }

    /// Whether the parameter `skip_senders` is the same in both.
    pub(crate) fn same_list(&self, other: &Self) -> bool {
        self.listed == other.listed
    }

    /// Whether the file had the same entries in both.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        self.file_set == other.file_set
    }

    /// Takes the entries of the file, in place of the former ones.
    pub(crate) fn set_file(&mut self, entries: SenderSet) {
        self.file_set = Arc::new(entries);
    }
}

impl Spell for SkipSenders {
    const LIST: bool = true;
    const FILES: bool = true;

    fn spell(&self) -> String {
        self.listed.spell()
    }

    fn add_line(&mut self, line: &str) -> Parsed<Option<String>> {
        self.listed.add_line(line)
    }
}

impl Entries for SenderSet {
    type Entry = Entry;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<Entry> {
        entry(text)
    }

    fn insert(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Domain(domain) => self.domains.insert(domain, ()).is_none(),
            Entry::Address(local_part, domain) => {
                self.addresses.entry(domain.as_str().into()).or_default().insert(local_part.clone())
            }
        }
    }
}

impl SenderSet {
    /// Whether an identity is in the set; see [`SkipSenders::matches`].
    pub(super) fn matches(&self, local_part: Option<&str>, domain: &Domain) -> bool {
        self.domains.contains(domain)
            || local_part.is_some_and(|local_part| self.has_address(local_part, domain))
    }

    /// Whether an entry is this address.
    pub(super) fn has_address(&self, local_part: &str, domain: &Domain) -> bool {
        let local_parts = self.addresses.get(domain.as_str());
        local_parts.is_some_and(|all| all.contains(local_part.to_ascii_lowercase().as_str()))
    }
}

impl Spell for Entry {
    fn spell(&self) -> String {
        match self {
            Self::Domain(domain) => domain.spell(),
            Self::Address(local_part, domain) => format!("{local_part}@{domain}"),
        }
    }
}

/// Reads the value of `skip_senders`.
pub(crate) fn skip_senders(text: &str) -> Parsed<SkipSenders> {
    Ok(SkipSenders { listed: listed(text)?, file_set: Arc::default() })
}

/// Reads one entry.
pub(crate) fn entry(text: &str) -> Parsed<Entry> {
    const EXPECTED: &str = "example.com, .example.com or user@example.com";
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        let expected = format!("{EXPECTED}; trusted_networks is for hosts");
        return refuse(text, "is an address of a host", expected);
    }
    let bad = |why: &dyn Display| refuse(text, format_args!("is not a sender: {why}"), EXPECTED);
    if let Some((local_part, domain)) = text.rsplit_once('@') {
        return match Domain::parse(domain) {
            Ok(_) if local_part.is_empty() => bad(&"nothing before '@'"),
            Ok(_) if !is_local_part(local_part) => {
                bad(&format!("{} is not a local-part", quote(local_part)))
            }
            Ok(domain) if !domain.is_qualified() => bad(&"domain name of one label"),
            Ok(domain) => Ok(Entry::Address(local_part.to_ascii_lowercase().into(), domain)),
            Err(error) => bad(&error),
        };
    }
    DomainEntry::parse(text).map(Entry::Domain).or_else(|why| bad(&why))
}

/// Whether a text can be a local-part (RFC 5321 §4.1.2): of any characters in quotes, else without
/// those that end it, and those that only a list or a display name has. Dots may stand anywhere,
/// for they do in addresses that are in use.
pub(super) fn is_local_part(text: &str) -> bool {
    match text.strip_prefix('"') {
        None => {
            text != "*"
                && !text.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || "()<>[]:;\\,\"".contains(c)
                })
        }
        Some(rest) => {
            let mut escaped = false;
            let mut chars = rest.chars();
            while let Some(c) = chars.next() {
                match c {
                    '"' if !escaped => return chars.as_str().is_empty(),
                    _ => escaped = c == '\\' && !escaped,
                }
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(senders: &str, sender: &str) -> bool {
        let (local_part, domain) = match sender.rsplit_once('@') {
            Some((local_part, domain)) => (Some(local_part), domain),
            None => (None, sender),
        };
        skip_senders(senders).unwrap().matches(local_part, &Domain::parse(domain).unwrap())
    }

    #[test]
    fn domains_match() {
        assert!(
            matches("Example.COM.", "user@example.com") && matches("example.com", "example.com")
        );
        assert!(
            !matches("example.com", "a.example.com") && !matches("example.com", "badexample.com")
        );
        assert!(
            matches(".example.com", "user@a.b.example.com")
                && matches(".example.com", "a.example.com")
        );
        assert!(
            !matches(".example.com", "example.com") && !matches(".example.com", "badexample.com")
        );
        assert!(matches("BÜcher.example", "user@xn--bcher-kva.example"));
        assert!(
            matches(".internal", "host.internal") && matches("a_b.example.com", "a_b.example.com")
        );
    }

    #[test]
    fn addresses_match() {
        assert!(matches("User@Example.com", "useR@example.com"));
        assert!(!matches("user@example.com", "example.com"), "HELO has no local-part");
        assert!(
            !matches("user@example.com", "user@a.example.com")
                && !matches("user@example.com", "other@example.com")
        );
        assert!(
            matches("\"us er\"@example.com", "\"us er\"@example.com")
                && !matches("\"user\"@example.com", "user@example.com")
        );
        assert!(
            matches("Üser@example.com", "Üser@example.com")
                && !matches("Üser@example.com", "üser@example.com")
        );
        assert!(matches("a@b@example.com", "a@b@example.com"));
    }

    #[test]
    fn bad_senders_are_refused() {
        for bad in [
            "com",
            "user@localhost",
            "user@.example.com",
            "<user@example.com>",
            "*.example.com",
            "@",
            ".",
            "..a",
            "user@[192.0.2.1]",
            "@example.com",
            "a@x.example b@x.example",
            "a@x.example; b@x.example",
            "Amy <amy@example.com>",
            "mailto:amy@example.com",
            "\"amy@example.com",
            "\"amy\"x@example.com",
            "\"a\\\"@example.com",
        ] {
            assert!(skip_senders(bad).is_err(), "{bad}");
        }
        assert!(entry("192.0.2.1").unwrap_err()[0].message.contains("trusted_networks"));
        assert_eq!(skip_senders("example.com, EXAMPLE.com").unwrap_err()[0].offset, 13);
    }

    #[test]
    fn the_right_form_is_suggested() {
        for (text, meant) in [
            ("@example.com", "did you mean example.com?"),
            ("*@example.com", "did you mean example.com?"),
            ("*.example.com", "did you mean .example.com?"),
            ("<amy@example.com>", "did you mean amy@example.com?"),
            ("a@x.example b@x.example", "did you mean a@x.example, b@x.example?"),
            ("\"example.com\"", "did you mean example.com?"),
        ] {
            let errors = skip_senders(text).unwrap_err();
            assert!(errors.len() == 1 && errors[0].message.contains(meant), "{errors:?}");
        }
    }

    #[test]
    fn many_entries_cost_no_time() {
        let text: Vec<_> =
            (0..100_000).map(|n| format!("user{n}@d{}.example.com", n % 1000)).collect();
        let senders = skip_senders(&text.join(",")).unwrap();
        let domain = Domain::parse("d999.example.com").unwrap();
        assert!(
            senders.matches(Some("user99999"), &domain)
                && !senders.matches(Some("user99998"), &domain)
        );
    }
}
