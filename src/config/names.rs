//! Names of hosts, ours and those of others.

use super::value::{Parsed, quote, spell_as_displayed, wrong};
use crate::mail::{auth_results::AuthservIdPattern, domain::Domain};

/// Reads the name of this host. What is ASCII stays as it is written, U-labels become A-labels.
pub(super) fn hostname(text: &str) -> Parsed<String> {
    match Domain::parse(text) {
        Ok(_) if text.is_ascii() => Ok(text.into()),
        Ok(domain) => Ok(domain.to_string()),
        Err(error) => wrong(format!("{} is no host name: {error} (expected one such as mail.example.com)", quote(text))),
    }
}

/// Reads a domain name.
pub(super) fn domain(text: &str) -> Parsed<Domain> {
    Domain::parse(text)
        .or_else(|error| wrong(format!("{} is no domain: {error} (expected one such as example.com)", quote(text))))
}

/// Reads an authserv-id (RFC 8601 §2.5). Whatever is no token there can still be written as a quoted-string.
pub(super) fn authserv_id(text: &str) -> Parsed<String> {
    Ok(text.into())
}

/// Reads an entry of `delete_authserv_ids`.
pub(super) fn authserv_id_pattern(text: &str) -> Parsed<AuthservIdPattern> {
    text.parse().or_else(|error| {
        wrong(format!("{} is no authserv-id: {error} (expected mail.example.com, or .example.com for subdomains)", quote(text)))
    })
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
        for bad in ["[192.0.2.1]", "mail example", "a..b", ".example.com"] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match() {
        let matches = |pattern: &str, id: &str| authserv_id_pattern(pattern).unwrap().matches(id);
        assert!(matches("mail.example.com", "MAIL.example.com.") && !matches("example.com", "mail.example.com"));
        assert!(matches(".example.com", "a.mail.Example.com") && !matches(".example.com", "example.com"));
        assert!(matches("xn--bcher-kva.example", "bücher.example"));
        assert!(matches("My Server", "my server"));
        assert!(authserv_id_pattern("..").is_err());
    }
}
