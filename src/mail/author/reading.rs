//! The result of reading a From header field.

use crate::mail::{domain::Domain, results::words};

/// The most distinct domains that are kept of the From header fields.
///
/// Some bound is needed (RFC 9989 §11.5). Messages of more than two authors' domains are
/// practically always abuse.
pub const MAX_AUTHOR_DOMAINS: usize = 16;

/// Distinct author domains: first those of addresses, then those that only some readers see, each
/// in the order of appearance.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthorDomains {
    pub(super) domains: Vec<Domain>,
    pub(super) truncated: bool,
}

impl AuthorDomains {
    /// The domains: at most [`MAX_AUTHOR_DOMAINS`]; the last one and those that came first, where
    /// there were more.
    pub fn as_slice(&self) -> &[Domain] {
        &self.domains
    }

    /// Whether there were more domains than [`MAX_AUTHOR_DOMAINS`].
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Adds a domain, unless it is there.
    pub(super) fn add(&mut self, domain: &Domain) {
        if self.domains.contains(domain) {
            return;
        }
        // Beyond the limit the last one stays: a domain cannot be hidden by putting others before
        // it.
        if self.domains.len() == MAX_AUTHOR_DOMAINS {
            self.domains.pop();
            self.truncated = true;
        }
        self.domains.push(domain.clone());
    }
}

words! {
    /// Why a From header field is not well-formed, and so is read leniently; the reason that is
    /// recorded if no domain is found then.
    ///
    /// Beyond what RFC 5322 does not allow at all, these forms are refused on purpose, because
    /// clients read them in different ways:
    ///
    /// - routes before the address (`<@a.example:user@b.example>`, obsolete, RFC 5322 §4.4);
    /// - white space or comments inside of a domain or local part (obsolete), or a comment right
    ///   behind the `@`;
    /// - `@`, `<` or `>` in a comment or in a quoted local part: readers that do not know comments
    ///   and quotes find addresses there;
    /// - `@` in a quoted string with a backslash, for the same reason;
    /// - encoded words in a local part (RFC 2047 §5 forbids them; clients that decode them show
    ///   another address);
    /// - characters other than letters, digits and marks beyond ASCII in an address: some look like
    ///   brackets, others are not seen at all;
    /// - control characters, lines of nothing but white space (obsolete) and line breaks that fold
    ///   nothing;
    /// - text that is not UTF-8 and has a backslash after an 8-bit octet: in some encodings that is
    ///   the second half of a character.
    ///
    /// Other obsolete forms are accepted: dots in a display name, and empty elements of a list.
    Malformed {
        /// There is no address: nothing at all, or only a name.
        NoAddress = "no address",
        /// An address is followed or interrupted by something that cannot be there.
        Syntax = "address syntax",
        /// A quoted string, comment, angle bracket or group has no end.
        Unterminated = "something has no end",
        /// A control character, or a line break that does not fold the field.
        ControlCharacter = "control character",
        /// Comments within comments, deeper than any that people write.
        NestedComments = "comments nested too deeply",
        /// A comment holds `@`, `<` or `>`.
        AmbiguousComment = "address in a comment",
        /// A quoted string holds `@` and a backslash.
        AmbiguousQuotes = "address in a quoted string",
        /// A local part holds `@`, `<`, `>` or an encoded word, or is not UTF-8.
        AmbiguousLocalPart = "ambiguous local part",
        /// A local part is empty or has an empty atom, such as `a..b`.
        LocalPart = "bad local part",
        /// The address begins with a route.
        Route = "route in an address",
        /// The domain is an address literal, and so there is no domain.
        AddressLiteral = "address literal",
        /// The text behind the `@` is not a domain name.
        Domain = "bad domain name",
        /// A character beyond ASCII that looks like one of the grammar, or like nothing.
        Lookalike = "misleading character",
        /// A backslash after an 8-bit octet in text that is not UTF-8.
        Encoding = "ambiguous character encoding",
    }
}

impl std::error::Error for Malformed {}

/// The content of a From header field.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// None for a group without members.
    pub(super) domains: AuthorDomains,
    /// An address has characters that reorder or break text.
    pub(super) misleading: bool,
}
