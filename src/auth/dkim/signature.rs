//! The DKIM-Signature field (RFC 6376 §3.5).

use std::str;

use super::outcome::{Reason, SignatureOutcome};
use crate::{
    auth::signed::{
        canonical::Canonicalization,
        crypto::Algorithm,
        header::FieldNames,
        tags::{TagList, decode_base64, items, number, without_fws},
    },
    dns::Name,
    mail::domain::Domain,
};

/// More names in `h=` than this are not taken: signatures have about forty at most.
const MAX_SIGNED_FIELDS: usize = 1000;

/// How far a signer's clock may be off, in seconds.
const CLOCK_SKEW: u64 = 300;

/// Longer `b=` texts belong to no signature that could be verified: 8192 bits are 1368 characters.
const MAX_SIGNATURE_TEXT: usize = 1400;

/// A signature that can be verified.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Signature {
    pub(super) algorithm: Algorithm,
    pub(super) header_canonicalization: Canonicalization,
    pub(super) body_canonicalization: Canonicalization,
    /// How many octets of the body it covers (`l=`).
    pub(super) body_length: Option<u64>,
    pub(super) body_hash: [u8; 32],
    pub(super) signed_fields: FieldNames,
    pub(super) signature: Vec<u8>,
    /// Where the key is: `selector._domainkey.domain`.
    pub(super) key_name: Name,
    /// Whether the domains of `i=` and `d=` are the same.
    pub(super) identity_is_domain: bool,
}

/// Reads the value of a DKIM-Signature field, and makes the checks that need nothing else.
///
/// The outcome gets as much of a bad signature as can be read.
///
/// # Errors
///
/// Why the signature cannot pass.
pub(super) fn parse(
    value: &[u8],
    now: u64,
    outcome: &mut SignatureOutcome,
) -> Result<Signature, Reason> {
    let tags = TagList::parse(value).ok_or(Reason::Syntax)?;
    let selector = identify(&tags, outcome);
    let required = |name| tags.value(name).ok_or(Reason::MissingTag(name));
    if required("v")? != b"1" {
        return Err(Reason::Version);
    }
    let algorithm = match required("a")?.to_ascii_lowercase().as_slice() {
        b"rsa-sha256" => Algorithm::Rsa,
        b"ed25519-sha256" => Algorithm::Ed25519,
        b"rsa-sha1" => return Err(Reason::Sha1),
        _ => return Err(Reason::Algorithm),
    };
    let signature =
        decode_base64(required("b")?).filter(|data| !data.is_empty()).ok_or(Reason::BadTag("b"))?;
    let body_hash = decode_base64(required("bh")?)
        .and_then(|hash| hash.try_into().ok())
        .ok_or(Reason::BadTag("bh"))?;
    required("d")?;
    let domain = outcome.domain.clone().ok_or(Reason::BadTag("d"))?;
    required("s")?;
    let selector = selector.ok_or(Reason::BadTag("s"))?;
    let key_name = [selector.as_str(), "._domainkey.", domain.as_str()].concat();
    let key_name = Name::new(&key_name).ok_or(Reason::BadTag("s"))?;
    let (header_canonicalization, body_canonicalization) = canonicalizations(&tags)?;
    let signed_fields = signed_fields(required("h")?)?;
    let body_length =
        tags.value("l").map(|text| number(text).ok_or(Reason::BadTag("l"))).transpose()?;
    if tags.value("q").is_some_and(|methods| {
        !items(methods).any(|method| method.eq_ignore_ascii_case(b"dns/txt"))
    }) {
        return Err(Reason::QueryMethod);
    }
    let identity_is_domain = match tags.value("i") {
        None => true,
        Some(identity) => {
            let identity = identity_domain(identity).ok_or(Reason::BadTag("i"))?;
            if identity != domain && !identity.is_subdomain_of(&domain) {
                return Err(Reason::Identity);
            }
            identity == domain
        }
    };
    check_times(&tags, now)?;
    Ok(Signature {
        algorithm,
        header_canonicalization,
        body_canonicalization,
        body_length,
        body_hash,
        signed_fields,
        signature,
        key_name,
        identity_is_domain,
    })
}

/// Records by which domain, selector, algorithm, data and identity the signature is known; gives the
/// selector.
fn identify(tags: &TagList<'_>, outcome: &mut SignatureOutcome) -> Option<Domain> {
    if let Some(text) = tags.value("d") {
        outcome.domain = domain_name(text);
        outcome.domain_text =
            outcome.domain.as_ref().and_then(|_| str::from_utf8(text).ok()).map(Into::into);
    }
    let selector = tags.value("s").and_then(|text| Some((text, domain_name(text)?)));
    if let Some((text, _)) = &selector {
        outcome.selector = str::from_utf8(text).ok().map(Into::into);
    }
    if let Some(text) = tags.value("a") {
        let is_word = text.len() <= 32
            && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-');
        outcome.algorithm = str::from_utf8(text)
            .ok()
            .filter(|text| is_word && !text.is_empty())
            .map(|a| a.to_ascii_lowercase().into());
    }
    if let Some(text) = tags.value("b") {
        let mut text = without_fws(text);
        text.truncate(MAX_SIGNATURE_TEXT);
        // Text that is no `base64string` (RFC 6376 §2.10) is not shown.
        let data = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(&text);
        let is_data = |byte: u8| byte.is_ascii_alphanumeric() | (byte == b'+') | (byte == b'/');
        // All of it is looked at, so that many octets are at once.
        if data.iter().fold(true, |all, &byte| all & is_data(byte)) {
            outcome.signature = String::from_utf8(text).unwrap_or_default().into();
        }
    }
    let identity = tags.value("i").and_then(unquote).and_then(|text| String::from_utf8(text).ok());
    outcome.identity = identity.filter(|text| !text.chars().any(char::is_control)).map(Into::into);
    selector.map(|(_, selector)| selector)
}

/// A domain name without a dot at its end: `domain-name` and `selector` (RFC 6376 §3.1, §3.5).
///
/// A single label is taken as a domain too, unlike in the ABNF: top-level domains can send mail,
/// and have their own keys.
fn domain_name(text: &[u8]) -> Option<Domain> {
    str::from_utf8(text)
        .ok()
        .filter(|text| !text.ends_with('.'))
        .and_then(|text| Domain::parse(text).ok())
}

/// `sig-c-tag-alg = ("simple" / "relaxed") ["/" ("simple" / "relaxed")]`, and simple where a part
/// is absent.
fn canonicalizations(tags: &TagList<'_>) -> Result<(Canonicalization, Canonicalization), Reason> {
    let Some(text) = tags.value("c") else {
        return Ok((Canonicalization::Simple, Canonicalization::Simple));
    };
    let mut parts = text.splitn(2, |&byte| byte == b'/');
    let mut part = || match parts.next() {
        None => Ok(Canonicalization::Simple),
        Some(word) if word.eq_ignore_ascii_case(b"simple") => Ok(Canonicalization::Simple),
        Some(word) if word.eq_ignore_ascii_case(b"relaxed") => Ok(Canonicalization::Relaxed),
        Some(_) => Err(Reason::Canonicalization),
    };
    Ok((part()?, part()?))
}

/// `sig-h-tag = %x68 [FWS] "=" [FWS] hdr-name *( [FWS] ":" [FWS] hdr-name )`.
fn signed_fields(text: &[u8]) -> Result<FieldNames, Reason> {
    if text.iter().filter(|&&byte| byte == b':').count() >= MAX_SIGNED_FIELDS {
        return Err(Reason::TooManyFields);
    }
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    if !items(text).all(is_name) {
        return Err(Reason::BadTag("h"));
    }
    if !items(text).any(|name| name.eq_ignore_ascii_case(b"from")) {
        return Err(Reason::FromNotSigned);
    }
    Ok(FieldNames::new(text))
}

/// The domain of an identity: `[ Local-part ] "@" domain-name` in DKIM-Quoted-Printable (RFC 6376
/// §3.5).
fn identity_domain(text: &[u8]) -> Option<Domain> {
    let text = unquote(text)?;
    let mut parts = text.rsplitn(2, |&byte| byte == b'@');
    // The domain, and the local-part, which may be empty but not absent.
    let (domain, _) = (parts.next()?, parts.next()?);
    domain_name(domain)
}

/// Decodes DKIM-Quoted-Printable: white space falls away, `=` and two upper case hexadecimal digits
/// stand for an octet (RFC 6376 §2.11).
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = without_fws(text).into_iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'=' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(decoded)
}

/// Judges `t=` and `x=` (RFC 6376 §3.5), with tolerance for clocks that differ.
fn check_times(tags: &TagList<'_>, now: u64) -> Result<(), Reason> {
    let time =
        |name| tags.value(name).map(|text| number(text).ok_or(Reason::BadTag(name))).transpose();
    let (made, expires) = (time("t")?, time("x")?);
    if made.zip(expires).is_some_and(|(made, expires)| expires <= made) {
        return Err(Reason::Times);
    }
    if made.is_some_and(|made| made > now.saturating_add(CLOCK_SKEW)) {
        return Err(Reason::Future);
    }
    if expires.is_some_and(|expires| expires < now.saturating_sub(CLOCK_SKEW)) {
        return Err(Reason::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each octet is written as it is or as two digits, white space between.
        #[test]
        fn quoted_text_is_what_was_quoted(text in prop::collection::vec((any::<u8>(), any::<bool>()), 0..40)) {
            let mut quoted = String::new();
            for (octet, is_plain) in &text {
                match octet {
                    b'!'..=b'<' | b'>'..=b'~' if *is_plain => quoted.push(char::from(*octet)),
                    _ => write!(quoted, "={octet:02X} \r\n\t").unwrap(),
                }
            }
            let octets: Vec<u8> = text.into_iter().map(|(octet, _)| octet).collect();
            prop_assert_eq!(unquote(quoted.as_bytes()), Some(octets));
        }

        #[test]
        fn only_two_upper_case_digits_stand_for_an_octet(first in any::<u8>(), second in any::<u8>()) {
            prop_assume!(!b" \t\r\n".contains(&first) && !b" \t\r\n".contains(&second));
            let digits = [first, second];
            let text = str::from_utf8(&digits).ok().filter(|text| {
                text.bytes().all(|octet| octet.is_ascii_digit() || (b'A'..=b'F').contains(&octet))
            });
            let expected = text.map(|text| vec![u8::from_str_radix(text, 16).unwrap()]);
            prop_assert_eq!(unquote(&[b'=', first, second]), expected);
        }
    }
}
