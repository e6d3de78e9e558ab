//! Domain names as mail uses them: in A-label form, lower case, without the last dot.

use super::results::words;
use std::{borrow::Cow, fmt, sync::Arc};

use super::octets::{OctetClasses, count_work, each_place};

/// The most octets of a domain name in text form, without the last dot (RFC 1035 §2.3.4).
pub const MAX_DOMAIN_LENGTH: usize = 253;

/// No text of more octets can become a name.
const MAX_TEXT_LENGTH: usize = 4 * MAX_DOMAIN_LENGTH;

/// In a name: an octet of labels, or the dot between them.
const IN_NAME: u8 = 1;
const DOT: u8 = 2;
const UPPER_CASE: u8 = 4;

static CLASSES: OctetClasses = OctetClasses::new(&[
    (IN_NAME, &[(b'-', b'.'), (b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')]),
    (DOT, &[(b'.', b'.')]),
    (UPPER_CASE, &[(b'A', b'Z')]),
]);

/// The most octets of a label (RFC 1035 §2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// A domain name: A-labels in lower case, without the last dot.
///
/// At most 253 octets in labels of 1 to 63 (RFC 1035 §2.3.4). A label consists of letters, digits,
/// hyphens and underscores: underscores are not host name characters, but names that have them
/// exist, and senders use them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Domain(Arc<str>);

words! {
    /// Why a text is not a domain name.
    DomainError {
        /// There is no text, or nothing but a dot.
        Empty = "empty domain name",
        /// Two dots in a row, or a dot at the beginning.
        EmptyLabel = "empty label in domain name",
        /// A label of more than 63 octets, or more than 253 octets in all.
        TooLong = "domain name too long",
        /// A character that domain names do not have.
        BadCharacter = "character that a domain name cannot have",
        /// An internationalised name that has no A-label form (RFC 5891).
        BadUnicode = "internationalised domain name without an A-label form",
    }
}

impl std::error::Error for DomainError {}

/// The text with A-labels where it is a domain name with U-labels (RFC 8616 §4); any other text as
/// it is.
pub fn with_a_labels(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    Domain::parse(text).map_or(Cow::Borrowed(text), |domain| domain.as_str().to_owned().into())
}

/// Whether the character is not seen where it stands: it has no form of its own, joins or separates
/// others, or turns their direction (the property Default_Ignorable_Code_Point of Unicode).
pub fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether the character means nothing in a domain name (status `ignored` in UTS #46).
fn is_ignored(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{200b}' | '\u{2060}' | '\u{2064}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{e0100}'..='\u{e01ef}')
}

impl Domain {
    /// Reads a domain name; U-labels become A-labels (RFC 8616 §4), one dot at the end is dropped.
    ///
    /// # Errors
    ///
    /// A [`DomainError`]: why the text is not a domain name.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        count_work(text.len());
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.is_ascii() {
            return Self::from_ascii(text);
        }
        // A longer text cannot become a valid name; the bound keeps the conversion's cost in check.
        let mut text = Cow::Borrowed(text);
        if text.len() > MAX_TEXT_LENGTH {
            // Unless it is longer for what the conversion takes away.
            text = text.chars().filter(|&c| !is_ignored(c)).collect::<String>().into();
        }
        if text.len() > MAX_TEXT_LENGTH {
            return Err(DomainError::TooLong);
        }
        let ascii = idna::domain_to_ascii(&text).map_err(|_| DomainError::BadUnicode)?;
        Self::from_ascii(ascii.strip_suffix('.').unwrap_or(&ascii))
    }

    fn from_ascii(text: &str) -> Result<Self, DomainError> {
        if text.len() > MAX_DOMAIN_LENGTH {
            return Err(DomainError::TooLong);
        }
        // As if a dot were before the first label.
        let found = CLASSES.of_all(text, DOT);
        let has_empty_label = (found.in_a_row | found.last) & DOT != 0;
        // No label is longer than the name.
        let is_short = text.len() <= MAX_LABEL_LENGTH;
        if found.all & IN_NAME == 0 || has_empty_label || !(is_short || labels_fit(text)) {
            return Err(first_error(text));
        }
        let mut name: Arc<str> = text.into();
        if found.any & UPPER_CASE != 0
            && let Some(name) = Arc::get_mut(&mut name)
        {
            name.make_ascii_lowercase();
        }
        Ok(Self(name))
    }

    /// The name as shared text.
    pub fn to_shared_text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// As [`Self::to_shared_text`], where the domain itself is no longer needed.
    pub fn into_shared_text(self) -> Arc<str> {
        self.0
    }

    /// The name as text: A-labels, lower case, no last dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels from left to right.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether the name has two labels or more, as a fully-qualified domain name of mail does (RFC
    /// 7208 §4.3).
    pub fn is_qualified(&self) -> bool {
        self.0.contains('.')
    }

    /// The name without its first label; `None` for a name of one label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.into()))
    }

    /// Whether this name lies below the other one; no name lies below itself.
    pub fn is_subdomain_of(&self, other: &Self) -> bool {
        self.0.strip_suffix(other.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// Whether each label has an octet at least, and as many as it may have at most.
fn labels_fit(text: &str) -> bool {
    let (mut begin, mut fit) = (0, true);
    let mut end_label = |end: usize| {
        fit &= (1..=MAX_LABEL_LENGTH).contains(&(end - begin));
        begin = end + 1;
    };
    each_place(text.as_bytes(), b'.', &mut end_label);
    end_label(text.len());
    fit
}

/// The first thing that is wrong with a text that is not a name.
fn first_error(text: &str) -> DomainError {
    let mut length = 0;
    for octet in text.bytes() {
        match (octet, length) {
            (b'.', 0) => return DomainError::EmptyLabel,
            (b'.', 1..=MAX_LABEL_LENGTH) => length = 0,
            (b'.', _) => return DomainError::TooLong,
            (octet, _) if CLASSES.of(octet) & IN_NAME != 0 => length += 1,
            _ => return DomainError::BadCharacter,
        }
    }
    if length == 0 { DomainError::EmptyLabel } else { DomainError::TooLong }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ok(text: &str) -> String {
        Domain::parse(text).unwrap().to_string()
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(ok("Example.COM."), "example.com");
        assert_eq!(ok("foo_bar.example.com"), "foo_bar.example.com");
        assert_eq!(ok("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(ok("com"), "com");
        // Characters that mean nothing, however many of them.
        for ignored in ["\u{ad}", "\u{200b}", "\u{fe0f}", "\u{2060}"] {
            for count in [1, 499, 500, 100_000] {
                assert_eq!(
                    ok(&format!("exam{}ple.com", ignored.repeat(count))),
                    "example.com",
                    "{ignored:?} {count}"
                );
            }
        }
        assert_eq!(Domain::parse(&"\u{ad}".repeat(1000)).unwrap_err(), DomainError::EmptyLabel);
    }

    #[test]
    fn bad_names_are_refused() {
        let err = |text: &str| Domain::parse(text).unwrap_err();
        assert_eq!(err(""), DomainError::Empty);
        assert_eq!(err("."), DomainError::Empty);
        assert_eq!(err(".example.com"), DomainError::EmptyLabel);
        assert_eq!(err("a..b"), DomainError::EmptyLabel);
        assert_eq!(err("a b.example"), DomainError::BadCharacter);
        assert_eq!(err("[192.0.2.1]"), DomainError::BadCharacter);
        assert_eq!(err(&format!("{}.example", "a".repeat(64))), DomainError::TooLong);
        assert_eq!(err(&vec!["abcdefg"; 40].join(".")), DomainError::TooLong);
        assert_eq!(err("a\u{0}b.example"), DomainError::BadCharacter);
    }

    #[test]
    fn subdomains() {
        let d = |s: &str| Domain::parse(s).unwrap();
        assert!(d("a.example.com").is_subdomain_of(&d("example.com")));
        assert!(!d("example.com").is_subdomain_of(&d("example.com")));
        assert!(!d("badexample.com").is_subdomain_of(&d("example.com")));
        assert_eq!(d("a.example.com").parent(), Some(d("example.com")));
        assert_eq!(d("com").parent(), None);
    }

    /// The slow twin of [`Domain::from_ascii`]: one label after the other.
    fn twin(text: &str) -> bool {
        let is_octet = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_octet);
        text.len() <= 253 && text.split('.').all(is_label)
    }

    proptest! {
        #[test]
        fn names_are_those_of_the_slow_twin(
            text in prop_oneof!["[a-zA-Z0-9_.-]{0,10}", "[ -~]{0,4}", "[a-z]{60,66}[.]?([a-z]{60,66}[.]?){0,4}", "([a-z]{1,2}[.]){120,130}[a-z]?"],
        ) {
            let found = Domain::parse(&text).map(|domain| domain.to_string());
            let text = text.strip_suffix('.').unwrap_or(&text);
            prop_assert_eq!(found.is_ok(), twin(text), "{:?}", text);
            prop_assert!(found.is_err() || found == Ok(text.to_ascii_lowercase()));
        }
    }
}
