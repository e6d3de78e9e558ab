//! A DKIM signature that claims to pass, verified once more (RFC 6376 §6.1.3), without any care for
//! time.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey},
};

use super::body;

/// A header field: name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// Splits a message into fields and body, line ends made CRLF.
pub fn split(octets: &[u8]) -> (Vec<Field>, Vec<u8>) {
    let mut message = Vec::with_capacity(octets.len() + 64);
    for (at, octet) in octets.iter().enumerate() {
        if *octet == b'\n' && (at == 0 || octets[at - 1] != b'\r') {
            message.push(b'\r');
        }
        message.push(*octet);
    }
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        match (line[0], fields.last_mut()) {
            (b' ' | b'\t', Some((_, value))) => {
                value.extend_from_slice(b"\r\n");
                value.extend_from_slice(line);
            }
            _ => {
                let colon = line.iter().position(|octet| *octet == b':').unwrap_or(line.len());
                fields.push((
                    line[..colon].to_vec(),
                    line.get(colon + 1..).unwrap_or_default().to_vec(),
                ));
            }
        }
    }
    (fields, rest.to_vec())
}

fn is_fws(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|octet| !is_fws(*octet)).unwrap_or(text.len());
    let end = text.iter().rposition(|octet| !is_fws(*octet)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// The tags of a tag-list (RFC 6376 §3.2).
pub fn tags(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    text.split(|octet| *octet == b';')
        .filter_map(|part| {
            let equals = part.iter().position(|octet| *octet == b'=')?;
            Some((trim(&part[..equals]).to_vec(), trim(&part[equals + 1..]).to_vec()))
        })
        .collect()
}

pub fn tag(tags: &[(Vec<u8>, Vec<u8>)], name: &str) -> Option<Vec<u8>> {
    tags.iter().find(|(tag, _)| tag == name.as_bytes()).map(|(_, value)| value.clone())
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|octet| !is_fws(*octet)).collect();
    BASE64_STANDARD.decode(text).ok()
}

/// A header field as it is signed (§3.4.1, §3.4.2), without the CRLF at its end.
pub fn canonical_field((name, value): &Field, relaxed: bool) -> Vec<u8> {
    if !relaxed {
        return [name, b":".as_slice(), value].concat();
    }
    // Unfold, make one space of all white space, none at the ends.
    let mut text = Vec::new();
    let mut rest = value.as_slice();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'\r' if after.first() == Some(&b'\n') => rest = &after[1..],
            b' ' | b'\t' if text.last() == Some(&b' ') => {}
            b' ' | b'\t' => text.push(b' '),
            other => text.push(*other),
        }
    }
    while text.last() == Some(&b' ') {
        text.pop();
    }
    while text.first() == Some(&b' ') {
        text.remove(0);
    }
    [trim(name).to_ascii_lowercase(), b":".to_vec(), text].concat()
}

/// The value of the signature field without that of `b=`.
fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut parts = Vec::new();
    for part in value.split(|octet| *octet == b';') {
        let equals = part.iter().position(|octet| *octet == b'=').unwrap_or(part.len());
        let kept =
            if trim(&part[..equals]) == b"b" { &part[..part.len().min(equals + 1)] } else { part };
        parts.push(kept.to_vec());
    }
    parts.join(&b';')
}

/// The part of a header that is signed (§3.7), the signature's own field at its place `own`.
pub fn signed_text(fields: &[Field], own: usize, names: &[u8], relaxed: bool) -> Vec<u8> {
    let mut used = vec![false; fields.len()];
    let mut text = Vec::new();
    for name in names.split(|octet| *octet == b':').map(trim) {
        // From the bottom up; a name that there is no field for adds nothing.
        let found = (0..fields.len())
            .rev()
            .find(|&at| !used[at] && trim(&fields[at].0).eq_ignore_ascii_case(name));
        if let Some(at) = found {
            used[at] = true;
            text.extend(canonical_field(&fields[at], relaxed));
            text.extend_from_slice(b"\r\n");
        }
    }
    let (name, value) = &fields[own];
    text.extend(canonical_field(&(name.clone(), without_signature(value)), relaxed));
    text
}

/// Whether the signature in the field at `own` is that of this message and this key record.
pub fn verifies(fields: &[Field], own: usize, message_body: &[u8], key_record: &[u8]) -> bool {
    verify(fields, own, message_body, key_record).unwrap_or(false)
}

/// The contents of a DER value (X.690 §8.1), and the octets behind it.
fn der(text: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
    };
    rest.split_at_checked(length)
}

/// The RSAPublicKey of a key that may be a SubjectPublicKeyInfo.
fn rsa_key(key: &[u8]) -> Option<&[u8]> {
    let (content, _) = der(key, 0x30)?;
    match der(content, 0x30) {
        None => Some(key),
        Some((_, bits)) => der(bits, 0x03)?.0.strip_prefix(&[0]),
    }
}

fn verify(fields: &[Field], own: usize, message_body: &[u8], key_record: &[u8]) -> Option<bool> {
    let tags_of_field = tags(&fields[own].1);
    let value = |name| tag(&tags_of_field, name);
    let c = value("c").unwrap_or_else(|| b"simple".to_vec()).to_ascii_lowercase();
    let mut parts = c.split(|octet| *octet == b'/');
    let (header, body) = (parts.next()? == b"relaxed", parts.next() == Some(b"relaxed"));
    let length = match value("l") {
        Some(text) => Some(std::str::from_utf8(&text).ok()?.parse().ok()?),
        None => None,
    };
    if body::hash(message_body, body, length)?.to_vec() != base64(&value("bh")?)? {
        return Some(false);
    }
    let text = signed_text(fields, own, &value("h")?, header);
    let signature = base64(&value("b")?)?;
    let key = base64(&tag(&tags(key_record), "p")?)?;
    Some(match value("a")?.to_ascii_lowercase().as_slice() {
        b"ed25519-sha256" => UnparsedPublicKey::new(&ED25519, key)
            .verify(digest(&SHA256, &text).as_ref(), &signature)
            .is_ok(),
        b"rsa-sha256" => {
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, rsa_key(&key)?)
                .verify(&text, &signature)
                .is_ok()
        }
        _ => false,
    })
}
