//! Names of hosts.

use std::fmt::Display;

use nix::unistd::gethostname;

use super::{
    listed::Entries,
    value::{Parsed, quote, refuse, spell_as_displayed},
};
use crate::mail::{
    auth_results::{AuthservIdPattern, AuthservIdSet},
    domain::{Domain, DomainError},
    tokens::is_token_octet,
};

/// The most octets of an authserv-id: a domain name has no more, and a header field must hold it
/// whole.
const MAX_AUTHSERV_ID: usize = 255;

/// The most octets of the name of a header field of our own.
const MAX_FIELD_NAME: usize = 64;

/// Fields that messages have for something else; a hyphen at the end stands for any end.
const OTHER_FIELDS: [&str; 25] = [
    "arc-",
    "authentication-results",
    "bcc",
    "cc",
    "comments",
    "content-",
    "date",
    "delivered-to",
    "dkim-signature",
    "domainkey-signature",
    "from",
    "in-reply-to",
    "keywords",
    "list-",
    "message-id",
    "mime-version",
    "received",
    "received-spf",
    "references",
    "reply-to",
    "resent-",
    "return-path",
    "sender",
    "subject",
    "to",
];

/// Refuses the keywords that stand for the name of the host in the configurations of other programs:
/// here a name is a name.
fn refuse_keyword(text: &str) -> Parsed<()> {
    let is_keyword = text.eq_ignore_ascii_case("hostname") || text.starts_with(['$', '%']);
    if !is_keyword {
        return Ok(());
    }
    let own = gethostname().ok().and_then(|name| name.into_string().ok());
    let own = own.filter(|name| Domain::parse(name).is_ok_and(|name| name.is_qualified()));
    let own = own.unwrap_or_else(|| "mx.example.com".into());
    let expected = format!(
        "the name itself, such as {own}, or nothing: then it is the name that the MTA gives"
    );
    refuse(text, "stands for nothing here", expected)
}

/// Reads the name of this host. ASCII stays as it is written, U-labels become A-labels.
pub(crate) fn hostname(text: &str) -> Parsed<String> {
    refuse_keyword(text)?;
    match Domain::parse(text) {
        Ok(_) if text.is_ascii() => Ok(text.into()),
        Ok(domain) => Ok(domain.to_string()),
        Err(error) => refuse(
            text,
            format_args!("is not a host name: {error}"),
            "one such as mail.example.com",
        ),
    }
}

/// Reads a domain name.
pub(crate) fn domain(text: &str) -> Parsed<Domain> {
    Domain::parse(text).or_else(|error| {
        refuse(text, format_args!("is not a domain: {error}"), "one such as example.com")
    })
}

/// Reads the name of a header field of our own, whose incoming fields may be deleted.
pub(crate) fn field_name(text: &str) -> Parsed<String> {
    let bad = |why: &str| {
        let fault = format_args!("cannot be the name of the field: {why}");
        refuse(text, fault, "a name of its own, such as X-Auth-Action")
    };
    let lower = text.to_ascii_lowercase();
    let is_other = |other: &&str| match other.strip_suffix('-') {
        Some(_) => lower.starts_with(*other),
        None => lower == **other,
    };
    if text.is_empty() || text.len() > MAX_FIELD_NAME {
        bad(&format!("it must have 1 to {MAX_FIELD_NAME} octets"))
    } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        bad("it can have only letters, digits, '-' and '_'")
    } else if OTHER_FIELDS.iter().any(is_other) {
        bad("messages have such fields for something else")
    } else {
        Ok(text.to_owned())
    }
}

/// Reads an authserv-id: a token or a domain name (RFC 8601 §2.2, §2.5). ASCII stays as it is
/// written, U-labels become A-labels.
pub(crate) fn authserv_id(text: &str) -> Parsed<String> {
    refuse_keyword(text)?;
    let bad = |why: &dyn Display| {
        refuse(text, format_args!("is not an authserv-id: {why}"), "a name such as mx.example.com")
    };
    if text.len() > MAX_AUTHSERV_ID && text.is_ascii() {
        return bad(&format!("longer than {MAX_AUTHSERV_ID} octets"));
    }
    // A token could begin so, but no service has that name: all names below a domain are meant.
    if text.starts_with("*.") {
        return bad(&"it cannot begin with '*.'");
    }
    match Domain::parse(text) {
        Ok(_) if text.is_ascii() => Ok(text.into()),
        Ok(domain) => Ok(domain.to_string()),
        Err(error) if !text.is_ascii() => bad(&error),
        Err(_) => match text.chars().find(|c| !is_token_character(*c)) {
            Some(c) => bad(&format!("it cannot have {}", quote(&c.to_string()))),
            None if text.trim_end_matches('.').split('.').any(str::is_empty) => {
                bad(&DomainError::EmptyLabel)
            }
            None => Ok(text.into()),
        },
    }
}

/// A character of a token (RFC 2045 §5.1), but for `#`, with which comments begin.
fn is_token_character(c: char) -> bool {
    c != '#' && u8::try_from(c).is_ok_and(is_token_octet)
}

impl Entries for AuthservIdSet {
    type Entry = AuthservIdPattern;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<AuthservIdPattern> {
        authserv_id_pattern(text)
    }

    fn insert(&mut self, entry: &AuthservIdPattern) -> bool {
        self.insert(entry)
    }
}

/// Reads an entry of `delete_authserv_ids`.
fn authserv_id_pattern(text: &str) -> Parsed<AuthservIdPattern> {
    let pattern = text.parse::<AuthservIdPattern>().or_else(|error| {
        let expected = "mail.example.com, or .example.com for subdomains";
        refuse(text, format_args!("is not an authserv-id: {error}"), expected)
    })?;
    if !text.starts_with('.') {
        authserv_id(text)?;
    }
    Ok(pattern)
}

spell_as_displayed!(AuthservIdPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        assert_eq!(hostname("Mail.Example.COM."), Ok("Mail.Example.COM.".into()));
        assert_eq!(hostname("bücher.example"), Ok("xn--bcher-kva.example".into()));
        assert_eq!(hostname("localhost"), Ok("localhost".into()));
        for bad in [
            "[192.0.2.1]",
            "mail example",
            "a..b",
            ".example.com",
            "HOSTNAME",
            "hostname",
            "$myhostname",
        ] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn authserv_ids() {
        for good in [
            "mx.example.com",
            "MX.Example.com.",
            "us",
            "mx_1+a!b",
            "a.b.c~d",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(authserv_id(good), Ok(good.into()));
        }
        assert_eq!(authserv_id("bücher.example"), Ok("xn--bcher-kva.example".into()));
        for bad in [
            ".",
            "..",
            "...",
            ".example.com",
            "a..b",
            "mx example",
            "\"mx\"",
            "mx;",
            "mx,",
            "mx=1",
            "mx/1",
            "mx#1",
            "mx (us)",
            "mx\tx",
            "ü ö",
            "HOSTNAME",
            "$j",
            "%{j}",
            "<mx>",
            "mx:25",
            "mx@x",
            "mx\\",
            "*.example.com",
        ] {
            assert!(authserv_id(bad).is_err(), "{bad}");
            assert!(bad == ".example.com" || authserv_id_pattern(bad).is_err(), "{bad}");
        }
        // A token at the bound, which is not a domain name; a domain name never comes so far.
        for (length, is_good) in [(254, true), (255, true), (256, false), (899, false)] {
            assert_eq!(authserv_id(&"x".repeat(length)).is_ok(), is_good, "{length}");
        }
        assert!(
            authserv_id("HOSTNAME").unwrap_err()[0]
                .message
                .contains("expected the name itself, such as ")
        );
    }

    #[test]
    fn names_of_fields() {
        for good in ["X-Auth-Action", "x_1", "Content", "X-From"] {
            assert_eq!(field_name(good), Ok(good.into()));
        }
        for bad in ["", "From", "SUBJECT", "received-spf", "ARC-Seal", "List-Id", "X-A:", "X A"] {
            assert!(field_name(bad).is_err(), "{bad}");
        }
        for (length, is_good) in [(63, true), (64, true), (65, false)] {
            assert_eq!(field_name(&"x".repeat(length)).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn patterns_match() {
        let matches = |pattern: &str, id: &str| authserv_id_pattern(pattern).unwrap().matches(id);
        assert!(
            matches("mail.example.com", "MAIL.example.com.")
                && !matches("example.com", "mail.example.com")
        );
        assert!(
            matches(".example.com", "a.mail.Example.com")
                && !matches(".example.com", "example.com")
        );
        assert!(matches("xn--bcher-kva.example", "bücher.example"));
        assert!(matches("My_Server+1", "my_server+1"));
        assert!(authserv_id_pattern("..").is_err());
    }
}
