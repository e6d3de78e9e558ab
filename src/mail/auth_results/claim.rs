//! Whether an incoming Authentication-Results field claims to be ours, and must go (RFC 8601 §5).

use crate::mail::{
    domain::Domain,
    tokens::{self, Cursor},
};
use std::{fmt, str::FromStr};

/// Authserv-ids that are ours: one, or those of all subdomains of a domain.
///
/// Ids compare as the domain names that they mostly are: upper and lower case, U-labels and A-labels and a dot at the end make no
/// difference.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AuthservIdPattern {
    /// The id or domain, normalised.
    id: String,
    /// Whether the names below the domain are meant; the domain itself is not then.
    subdomains: bool,
}

/// Why a text is no pattern of authserv-ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthservIdPatternError {
    /// There is no text, or nothing but dots.
    Empty,
    /// A control character, or white space at an end.
    BadCharacter,
    /// Behind the dot at the beginning stands no domain name.
    BadDomain,
    /// More than a header field can hold.
    TooLong,
}

impl fmt::Display for AuthservIdPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty authserv-id",
            Self::BadCharacter => "control character in authserv-id",
            Self::BadDomain => "no domain name after the dot",
            Self::TooLong => "authserv-id too long",
        })
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
        if id.is_empty() { Err(AuthservIdPatternError::Empty) } else { Ok(Self { id, subdomains: false }) }
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
    pub fn matches(&self, authserv_id: &str) -> bool {
        self.matches_normalised(&normalise(authserv_id))
    }

    fn matches_normalised(&self, id: &str) -> bool {
        if self.subdomains {
            id.strip_suffix(self.id.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            id == self.id
        }
    }

    /// Whether the id, as A-labels or as U-labels, is somewhere in one of the texts.
    fn occurs_in(&self, texts: &[String]) -> bool {
        let unicode = idna::domain_to_unicode(&self.id).0;
        texts.iter().any(|text| text.contains(&self.id) || text.contains(&unicode))
    }
}

/// An id in the form in which ids are compared: as a domain name if it is one, else in lower case.
fn normalise(id: &str) -> String {
    let id = id.trim_end_matches(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    Domain::parse(id).map_or_else(|_| id.to_lowercase(), |domain| domain.to_string())
}

/// What the beginning of a field, where its authserv-id should be, turns out to be.
enum Head {
    /// An authserv-id by the grammar, a version maybe, and the end or `;`.
    Id(String),
    /// No authserv-id, but the method of a result: `spf=pass`.
    Method(String),
    /// An authserv-id, and then something that does not belong there.
    Malformed(String),
    /// Nothing that can be read as an authserv-id.
    Unreadable,
}

/// Whether the value of an incoming Authentication-Results field claims one of these authserv-ids.
///
/// The authserv-id is what remains when comments (nested or not), folding, quotes and quoted-pairs are taken away; a version may
/// follow it (`id 1`, `id/1`), the `;` may be missing. In doubt the field is ours, for somebody might read it so:
///
/// - It has no authserv-id that can be read: it is empty, begins with `;`, a comment or quoted string in front does not end, or
///   there are control characters, octets that are not UTF-8 or an encoded word.
/// - Something that does not belong there stands between the authserv-id and the first `;`, or the id is no token and no domain
///   name, and one of ours occurs anywhere in the field, whatever comments, white space, quotes and backslashes are between its
///   characters.
///
/// A field by the grammar with the authserv-id of somebody else is not ours, whatever its results say. Neither is one that begins
/// with a result, as some large operators write it: it claims no id.
///
/// Takes time in proportion to the length of the value, whatever it is made of.
pub fn claims_authserv_id(value: &[u8], patterns: &[AuthservIdPattern]) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let matches = |id: &str| {
        let id = normalise(id);
        patterns.iter().any(|pattern| pattern.matches_normalised(&id))
    };
    match read_head(value) {
        Head::Id(id) | Head::Method(id) => matches(&id),
        Head::Unreadable => true,
        Head::Malformed(id) => {
            let texts = [reduce(value, true), reduce(value, false)];
            matches(&id) || patterns.iter().any(|pattern| pattern.occurs_in(&texts))
        }
    }
}

fn read_head(value: &[u8]) -> Head {
    let mut cursor = Cursor::new(value);
    if cursor.skip_cfws().is_err() {
        return Head::Unreadable;
    }
    let id = if cursor.peek() == Some(b'"') {
        match cursor.quoted_string() {
            Ok(id) => id,
            Err(_) => return Head::Unreadable,
        }
    } else {
        let octets = cursor.take_while(|b| !b.is_ascii_control() && !b" ;(\"=/".contains(&b));
        String::from_utf8_lossy(octets).into_owned()
    };
    let control = |b: u8| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r');
    if id.is_empty() || id.contains("=?") || id.contains('\u{fffd}') || cursor.peek().is_some_and(|b| control(b) || !b.is_ascii())
    {
        return Head::Unreadable;
    }
    if !tokens::is_token(&id) && Domain::parse(&id).is_err() {
        return Head::Malformed(id);
    }
    let Ok(after) = read_after_id(&mut cursor) else {
        return Head::Malformed(id);
    };
    match after {
        None | Some(b';') => Head::Id(id),
        // `i=1; example.com; ...` is how an ARC-Authentication-Results field begins (RFC 8617 §4.1.1).
        Some(b'=') if !id.contains('.') && !id.eq_ignore_ascii_case("i") => Head::Method(id),
        Some(_) => Head::Malformed(id),
    }
}

/// Steps over a version behind the authserv-id, and tells what comes next.
fn read_after_id(cursor: &mut Cursor<'_>) -> Result<Option<u8>, tokens::ParseError> {
    cursor.skip_cfws()?;
    if cursor.take(b'/') {
        cursor.skip_cfws()?;
    }
    cursor.take_while(|b| b.is_ascii_digit());
    cursor.skip_cfws()?;
    Ok(cursor.peek())
}

/// What is left of a value without white space, control characters, quotes and backslashes, in lower case; without comments too,
/// or only without their parentheses.
fn reduce(value: &[u8], drop_comments: bool) -> String {
    let text = String::from_utf8_lossy(value);
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '"' | '\\' | char::REPLACEMENT_CHARACTER => {}
            c if c.is_whitespace() || c.is_control() || (drop_comments && depth > 0) => {}
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}
