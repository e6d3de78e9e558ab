//! The field as data, and how it is written.

use std::{borrow::Cow, fmt, ops::Deref};

use crate::mail::{
    header_field::{Folding, HeaderField},
    tokens,
};

/// The name of the header field.
pub const NAME: &str = "Authentication-Results";

/// The results of one authentication service for a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthenticationResults {
    /// The service that found them (RFC 8601 §2.5). Empty where a field that was read has none.
    pub authserv_id: String,
    /// The version of the field's format, 1 so far; results of another one mean something else.
    pub version: u32,
    /// The results, in the order of the field; it says `none` when there are none.
    pub results: Vec<MethodResult>,
}

/// The result of one method, for one signature or identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MethodResult {
    /// The method: `spf`, `dkim`.
    pub method: Keyword,
    /// The version of the method, 1 so far; a result of another one means something else.
    pub method_version: u32,
    /// The result: `pass`.
    pub result: Keyword,
    /// A remark for people.
    pub comment: Option<String>,
    /// Why the result is what it is.
    pub reason: Option<String>,
    /// The properties that were verified, in the order of the field.
    pub properties: Vec<Property>,
}

/// A property of the message that a method verified: `smtp.mailfrom=example.com`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Property {
    /// Where it comes from: `smtp`, `header`, `body`, `policy`. `None` where a field that was read
    /// has only the property.
    pub ptype: Option<Keyword>,
    /// Its name there: `mailfrom`.
    pub property: Keyword,
    /// Its value.
    pub value: String,
    /// A remark for people.
    pub comment: Option<String>,
}

/// The name of a method, a result or a property: 1 to 64 letters in lower case, digits, hyphens and
/// underscores.
///
/// RFC 8601 §2.2 has no underscores, but some write them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Keyword(Cow<'static, str>);

/// The most octets of a [`Keyword`].
const MAX_KEYWORD_LENGTH: usize = 64;

impl Keyword {
    /// Makes a keyword of any text: characters that a keyword cannot have become hyphens, and a
    /// long text is cut.
    pub fn new(text: &'static str) -> Self {
        if Self::is_valid(text) {
            Self(Cow::Borrowed(text))
        } else {
            Self(Cow::Owned(Self::fit(text)))
        }
    }

    /// Reads a keyword; `None` if the text is none. Upper case becomes lower case.
    #[cfg(any(test, feature = "testing"))]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::is_valid(&text).then_some(Self(Cow::Owned(text)))
    }

    fn is_valid(text: &str) -> bool {
        (1..=MAX_KEYWORD_LENGTH).contains(&text.len())
            && text.bytes().all(|b| is_keyword_octet(b) && !b.is_ascii_uppercase())
    }

    fn fit(text: &str) -> String {
        let fits = |c: char| {
            if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' }
        };
        let text = text.chars().take(MAX_KEYWORD_LENGTH).map(fits).collect::<String>();
        if text.is_empty() { "-".into() } else { text }
    }
}

/// Whether the octet may be in a [`Keyword`], in any case.
pub(super) fn is_keyword_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}

impl From<&'static str> for Keyword {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

impl Deref for Keyword {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Keyword {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Keyword {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Property {
    /// A property with a value as it is: a domain name (as A-labels), an address without angle
    /// brackets, any text.
    pub fn new(
        ptype: impl Into<Keyword>,
        property: impl Into<Keyword>,
        value: impl Into<String>,
    ) -> Self {
        Self {
            ptype: Some(ptype.into()),
            property: property.into(),
            value: value.into(),
            comment: None,
        }
    }

    /// The same with a comment.
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn write(&self, field: &mut Folding) {
        field.push_with(|chunk| {
            if let Some(ptype) = &self.ptype {
                chunk.push_str(ptype);
                chunk.push('.');
            }
            chunk.push_str(&self.property);
            chunk.push('=');
            push_property_value(chunk, &self.value);
        });
        write_comment(self.comment.as_deref(), field);
    }
}

impl MethodResult {
    /// A result, with nothing more to say.
    pub fn new(method: impl Into<Keyword>, result: impl Into<Keyword>) -> Self {
        Self {
            method: method.into(),
            method_version: 1,
            result: result.into(),
            comment: None,
            reason: None,
            properties: Vec::new(),
        }
    }

    /// The same with a comment.
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The same with one more property.
    pub fn with_property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// Writes the result.
    ///
    /// ```text
    /// resinfo    = [CFWS] ";" methodspec [ CFWS reasonspec ] [ CFWS 1*propspec ]
    /// methodspec = [CFWS] method [CFWS] "=" [CFWS] result
    /// reasonspec = "reason" [CFWS] "=" [CFWS] value
    /// ```
    fn write(&self, field: &mut Folding) {
        field.push_with(|chunk| {
            chunk.push_str(&self.method);
            if self.method_version != 1 {
                chunk.push_str(&format!("/{}", self.method_version));
            }
            chunk.push('=');
            chunk.push_str(&self.result);
        });
        write_comment(self.comment.as_deref(), field);
        if let Some(reason) = &self.reason {
            field.push_with(|chunk| {
                chunk.push_str("reason=");
                // Readers that cut at dots put properties together again, but not reasons.
                if reason.contains('.') {
                    tokens::push_quoted(chunk, reason)
                } else {
                    tokens::push_value(chunk, reason)
                }
            });
        }
        for property in &self.properties {
            property.write(field);
        }
    }
}

impl AuthenticationResults {
    /// A field of this authserv-id without results.
    ///
    /// For an internationalised name give the A-label form: others look for that.
    pub fn new(authserv_id: impl Into<String>) -> Self {
        Self { authserv_id: authserv_id.into(), version: 1, results: Vec::new() }
    }

    /// Writes the header field (RFC 8601 §2.2).
    ///
    /// ```text
    /// authres-payload = [CFWS] authserv-id [ CFWS authres-version ] ( no-result / 1*resinfo ) [CFWS] CRLF
    /// no-result       = [CFWS] ";" [CFWS] "none"
    /// ```
    pub fn write(&self) -> HeaderField {
        let mut field = Folding::new(NAME);
        field.push_with(|chunk| tokens::push_value(chunk, &self.authserv_id));
        if self.version != 1 {
            field.push(&self.version.to_string());
        }
        for result in &self.results {
            field.attach(";");
            field.begin_group();
            result.write(&mut field);
        }
        if self.results.is_empty() {
            field.attach(";");
            field.push("none");
        }
        field.finish()
    }
}

fn write_comment(comment: Option<&str>, field: &mut Folding) {
    if let Some(comment) = comment {
        field.push_comment(comment);
    }
}

/// Adds the value of a property.
///
/// ```text
/// pvalue = [CFWS] ( ( value / [ [ local-part ] "@" ] domain-name ) [CFWS] )
/// ```
///
/// A value that is neither a token nor an address is quoted as a whole, so that it reads back as it
/// was. So is an address whose local-part is a quoted string, or has characters that some readers
/// take for the end of the value.
fn push_property_value(chunk: &mut String, value: &str) {
    let value = tokens::shorten(value);
    let bare = value.rsplit_once('@').is_some_and(|(local_part, domain)| {
        is_domain_name(domain) && (local_part.is_empty() || is_plain_local_part(local_part))
    }) && !tokens::may_begin_encoded_word(&value);
    if bare { chunk.push_str(&value) } else { tokens::push_value(chunk, &value) }
}

/// Whether the text is a `domain-name` (RFC 6376 §3.1, RFC 5321 §4.1.2): labels of letters, digits
/// and hyphens inside, two at least.
fn is_domain_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

/// Whether the text is a `dot-atom` that readers without that rule take for one word: between two
/// of `.`, `=` and `/`, and at both ends, there is another character.
fn is_plain_local_part(text: &str) -> bool {
    tokens::is_dot_atom(text) && text.split(['.', '=', '/']).all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_domain_name;

    /// Whether the text has the form of a domain name, by the letter of the grammar.
    fn is_sub_domain_list(text: &str) -> bool {
        let labels: Vec<Vec<char>> = text.split('.').map(|label| label.chars().collect()).collect();
        labels.len() >= 2
            && labels.iter().all(|label| match label.as_slice() {
                [] => false,
                [only] => only.is_ascii_alphanumeric(),
                [first, inner @ .., last] => {
                    first.is_ascii_alphanumeric()
                        && last.is_ascii_alphanumeric()
                        && inner.iter().all(|c| *c == '-' || c.is_ascii_alphanumeric())
                }
            })
    }

    #[test]
    fn domain_names_are_told_from_all_short_texts() {
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            for text in &texts {
                assert_eq!(is_domain_name(text), is_sub_domain_list(text), "{text:?}");
            }
            let longer = |text: &String| ["a", "-", ".", "_"].map(|c| format!("{text}{c}"));
            texts = texts.iter().flat_map(longer).collect();
        }
    }
}
