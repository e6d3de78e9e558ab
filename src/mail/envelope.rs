//! The envelope as the client gives it: the HELO name and the reverse-path.

use std::borrow::Cow;

use super::{domain::Domain, octets::to_text};

/// The empty reverse-path as text.
pub const EMPTY_PATH: &str = "<>";

/// The reverse-path of MAIL FROM (RFC 5321 §4.1.2), split at the `@` that its domain begins behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReversePath<'a> {
    /// `<>`: a notification, which its sender's HELO name answers for (RFC 7208 §2.4).
    Empty,
    /// A mailbox.
    Mailbox {
        /// The text before the last `@`; may be empty, quoted, or not allowed by RFC 5321.
        local_part: Cow<'a, str>,
        /// The text behind it; need not be a domain name.
        domain: Cow<'a, str>,
    },
    /// Text without a domain.
    Other(Cow<'a, str>),
}

impl<'a> ReversePath<'a> {
    /// Reads what an MTA passes on: with or without angle brackets, with a source route or without
    /// (RFC 5321 §4.1.1.3).
    ///
    /// Octets that are not UTF-8 become U+FFFD: no domain name has them, and local-parts that do
    /// match nothing in DNS.
    ///
    /// ```text
    /// Reverse-path   = Path / "<>"
    /// Path           = "<" [ A-d-l ":" ] Mailbox ">"
    /// ```
    pub fn parse(bytes: &'a [u8]) -> Self {
        match to_text(bytes) {
            Cow::Borrowed(text) => Self::parse_text(text),
            Cow::Owned(text) => ReversePath::parse_text(&text).into_owned(),
        }
    }

    fn parse_text(text: &'a str) -> Self {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let path = text.strip_prefix('<').unwrap_or(text);
        let path = path.strip_suffix('>').unwrap_or(path);
        let mailbox = match path.strip_prefix('@').and_then(|route| route.split_once(':')) {
            Some((_, mailbox)) => mailbox,
            None => path,
        };
        if mailbox.is_empty() {
            return Self::Empty;
        }
        // The last one: a domain cannot have an `@`, a quoted local-part can.
        let Some(at) = mailbox.bytes().rposition(|octet| octet == b'@') else {
            return Self::Other(mailbox.into());
        };
        let (local_part, domain) = mailbox.split_at(at);
        // It begins with the `@`.
        let domain = domain.strip_prefix('@').unwrap_or(domain);
        Self::Mailbox { local_part: local_part.into(), domain: domain.into() }
    }

    /// The path with text of its own.
    fn into_owned<'b>(self) -> ReversePath<'b> {
        let into_owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Empty => ReversePath::Empty,
            Self::Mailbox { local_part, domain } => ReversePath::Mailbox {
                local_part: into_owned(local_part),
                domain: into_owned(domain),
            },
            Self::Other(text) => ReversePath::Other(into_owned(text)),
        }
    }
}

/// The path without its angle brackets; an empty one with them.
impl std::fmt::Display for ReversePath<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str(EMPTY_PATH),
            Self::Mailbox { local_part, domain } => write!(f, "{local_part}@{domain}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The domain of a HELO name that can be verified: fully qualified, no address literal (RFC 7208
/// §2.3).
///
/// `None` for all others. A last label of only digits makes an address without brackets, not a
/// name.
pub fn helo_domain(name: &str) -> Option<Domain> {
    let domain = Domain::parse(name).ok().filter(Domain::is_qualified)?;
    // Octets of a short name are compared faster than a dot is searched for.
    let mut last = domain.as_str().bytes().rev().take_while(|&b| b != b'.');
    let has_digits_only = last.all(|b| b.is_ascii_digit());
    (!has_digits_only).then_some(domain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mailbox<'a>(local_part: &'a str, domain: &'a str) -> ReversePath<'a> {
        ReversePath::Mailbox { local_part: local_part.into(), domain: domain.into() }
    }

    #[test]
    fn reverse_paths() {
        fn parse(text: &str) -> ReversePath<'_> {
            ReversePath::parse(text.as_bytes())
        }
        assert_eq!(parse("<>"), ReversePath::Empty);
        assert_eq!(parse(""), ReversePath::Empty);
        assert_eq!(parse("<a@example.com>"), mailbox("a", "example.com"));
        assert_eq!(parse("a@example.com"), mailbox("a", "example.com"));
        assert_eq!(parse("<\"a@b\"@example.com>"), mailbox("\"a@b\"", "example.com"));
        assert_eq!(parse("<a@b@example.com>"), mailbox("a@b", "example.com"));
        assert_eq!(parse("<@x.example,@y.example:a@example.com>"), mailbox("a", "example.com"));
        assert_eq!(parse("<@example.com>"), mailbox("", "example.com"));
        assert_eq!(parse("<a>"), ReversePath::Other("a".into()));
        assert_eq!(parse("<a=b+c@example.com>"), mailbox("a=b+c", "example.com"));
        assert_eq!(parse("<jörg@bücher.example>"), mailbox("jörg", "bücher.example"));
        assert_eq!(ReversePath::parse(b"<\xff@example.com>"), mailbox("\u{fffd}", "example.com"));
        assert_eq!(parse("<a@[192.0.2.1]>"), mailbox("a", "[192.0.2.1]"));
    }

    #[test]
    fn helo_names() {
        assert_eq!(helo_domain("Mail.Example.COM.").unwrap().as_str(), "mail.example.com");
        assert!(helo_domain("foo_bar.example.com").is_some());
        for name in [
            "",
            ".",
            "localhost",
            "[192.0.2.1]",
            "[IPv6:2001:db8::1]",
            "192.0.2.1",
            "a b.example",
            "a..b",
            "a\u{1}.b",
            "::1",
        ] {
            assert_eq!(helo_domain(name), None, "{name}");
        }
        assert_eq!(helo_domain(&"a.".repeat(200)), None);
    }

    proptest! {
        /// The slow twins search for the last `@` and the last dot.
        #[test]
        fn addresses_are_split_as_by_the_slow_twins(text in "[a1@.é]{1,8}") {
            // Not a source route.
            let path = format!("x{text}");
            let expected = match path.rsplit_once('@') {
                Some((local_part, domain)) => mailbox(local_part, domain),
                None => ReversePath::Other(path.as_str().into()),
            };
            prop_assert_eq!(ReversePath::parse(path.as_bytes()), expected);
            let domain = Domain::parse(&text).ok().filter(Domain::is_qualified).filter(|domain| {
                domain.as_str().rsplit_once('.').is_some_and(|(_, last)| !last.bytes().all(|b| b.is_ascii_digit()))
            });
            prop_assert_eq!(helo_domain(&text), domain);
        }
    }
}
