//! Authserv-ids that are ours, and the form in which ids compare.

use crate::mail::{
    domain::{Domain, is_unseen},
    results::words,
    tokens,
};
use std::{fmt, str::FromStr};

/// Authserv-ids that are ours: one, or those of all subdomains of a domain.
///
/// Ids compare as the domain names that they mostly are: upper and lower case, U-labels and
/// A-labels and a dot at the end make no difference.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AuthservIdPattern {
    /// The id or domain, normalised.
    id: String,
    /// Whether the names below the domain are meant; the domain itself is not then.
    subdomains: bool,
}

words! {
    /// Why a text is not a pattern of authserv-ids.
    AuthservIdPatternError {
        /// There is no text, or nothing but dots.
        Empty = "empty authserv-id",
        /// A control character, or white space at an end.
        BadCharacter = "control character in authserv-id",
        /// Behind the dot at the beginning stands no domain name.
        BadDomain = "no domain name after the dot",
        /// More than a header field can hold.
        TooLong = "authserv-id too long",
    }
}

impl std::error::Error for AuthservIdPatternError {}

impl FromStr for AuthservIdPattern {
    type Err = AuthservIdPatternError;

    /// Reads `example.com`, or `.example.com` for the subdomains of that.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(char::is_control) || text.trim() != text {
            return Err(AuthservIdPatternError::BadCharacter);
        }
        if tokens::token_length(text) > tokens::MAX_TOKEN_LENGTH {
            return Err(AuthservIdPatternError::TooLong);
        }
        if let Some(domain) = text.strip_prefix('.').filter(|rest| !rest.is_empty()) {
            let domain = Domain::parse(domain).map_err(|_| AuthservIdPatternError::BadDomain)?;
            return Ok(Self { id: domain.to_string(), subdomains: true });
        }
        let id = normalise(text);
        if id.is_empty() {
            Err(AuthservIdPatternError::Empty)
        } else {
            Ok(Self { id, subdomains: false })
        }
    }
}

impl fmt::Display for AuthservIdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.subdomains { "." } else { "" }, self.id)
    }
}

impl AuthservIdPattern {
    /// This id and no other.
    pub fn exact(id: &str) -> Self {
        Self { id: normalise(id), subdomains: false }
    }

    /// Whether the authserv-id is one of these.
    #[cfg(any(test, feature = "testing"))]
    pub fn matches(&self, authserv_id: &str) -> bool {
        self.matches_normalised(&normalise(authserv_id))
    }

    /// The id, or the domain, normalised.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether the names below the domain are meant.
    pub(super) fn has_subdomains(&self) -> bool {
        self.subdomains
    }

    pub(super) fn matches_normalised(&self, id: &str) -> bool {
        if self.subdomains {
            id.strip_suffix(self.id.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            id == self.id
        }
    }

    /// Whether the id, as A-labels or as U-labels, occurs in one of the texts, which are
    /// [`reduce`]d.
    pub(super) fn occurs_in(&self, texts: &[String]) -> bool {
        self.forms().iter().any(|form| texts.iter().any(|text| text.contains(form)))
    }

    /// The id as A-labels and as U-labels, [`reduce`]d. One of only characters that are taken away
    /// is empty: it could be anywhere.
    pub(super) fn forms(&self) -> [String; 2] {
        let forms = [self.id.as_str(), &idna::domain_to_unicode(&self.id).0];
        forms.map(|form| reduce(form.as_bytes(), false))
    }
}

/// An id in the form in which ids are compared: as a domain name if it is one, else in lower case.
pub(super) fn normalise(id: &str) -> String {
    let id = fold(id);
    let id = id.trim_end_matches('.');
    Domain::parse(id).map_or_else(|_| id.to_owned(), |domain| domain.to_string())
}

/// Text as it looks: in lower case, each character in its usual form, without invisible characters.
///
/// The forms are those of domain names (UTS #46), so U+3002 becomes a dot. A-labels stay as they
/// are.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let seen: String = text.chars().filter(|&c| !is_unseen(c)).collect();
    let mut out = String::with_capacity(seen.len());
    // Piece by piece: a combining character belongs to the letter before it, and a name within
    // other text is mapped as one by itself.
    for piece in seen.split_inclusive(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()) {
        if piece.is_ascii() {
            out.push_str(&piece.to_ascii_lowercase());
        } else {
            out.push_str(&idna::domain_to_unicode(piece).0);
        }
    }
    out.retain(|c| c != char::REPLACEMENT_CHARACTER);
    out
}

/// The value without white space, control characters, quotes and backslashes, [`fold`]ed; without
/// comments too, or only without their parentheses.
pub(super) fn reduce(value: &[u8], drop_comments: bool) -> String {
    let text = String::from_utf8_lossy(value);
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '"' | '\\' | char::REPLACEMENT_CHARACTER => {}
            c if c.is_whitespace() || c.is_control() || (drop_comments && depth > 0) => {}
            c => out.push(c),
        }
    }
    fold(&out)
}
