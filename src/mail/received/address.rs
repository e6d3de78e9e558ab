//! Addresses as relays write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mail::octets::{split_before, split_once};

/// No text of more octets is an address: `IPv6:`, eight groups with an IPv4 address, and a zone.
const MAX_ADDRESS_LENGTH: usize = 100;

/// Reads an address. One of IPv4 that is mapped into IPv6 (RFC 4291 §2.5.5.2) is one of IPv4.
///
/// ```text
/// ip   = IPv4 / ["IPv6:"] IPv6 [ "%" zone ]   ; RFC 5321 §4.1.3, RFC 4291 §2.2, RFC 4007 §11
/// zone = 1*( ALPHA / DIGIT / "-" / "." / "_" ) ; link-local addresses only
/// ```
///
/// IPv4 has no leading zeros: others read them as octal. What can be no host's address is none.
pub(super) fn read_ip(text: &[u8]) -> Option<IpAddr> {
    if text.len() > MAX_ADDRESS_LENGTH {
        return None;
    }
    let text = str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return host(address.into());
    }
    let tag = text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let text = text.get(tag.map_or(0, str::len)..)?;
    match text.split_once('%') {
        None => host(text.parse::<Ipv6Addr>().ok()?.to_canonical()),
        Some((text, zone)) => {
            let address: Ipv6Addr = text.parse().ok()?;
            let is_zone = !zone.is_empty()
                && zone.bytes().all(|octet| {
                    matches!(octet, b'-' | b'.' | b'_') || octet.is_ascii_alphanumeric()
                });
            (is_zone && address.is_unicast_link_local()).then_some(address.into())
        }
    }
}

/// The address, if a host can have it.
fn host(address: IpAddr) -> Option<IpAddr> {
    let is_none = match address {
        IpAddr::V4(address) => address.is_broadcast() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    (!is_none && !address.is_multicast()).then_some(address)
}

/// Reads `"[" ip "]" [ ":" port ]`.
pub(super) fn read_literal(word: &[u8]) -> Option<IpAddr> {
    let (text, after) = split_once(word.strip_prefix(b"[")?, b']')?;
    let is_whole = after.is_empty() || after.strip_prefix(b":").is_some_and(is_port);
    read_ip(text).filter(|_| is_whole)
}

/// Reads `ip`, or IPv4 with `":" port`. Behind IPv6 a port would look like a part of it.
pub(super) fn read_bare(word: &[u8]) -> Option<IpAddr> {
    read_ip(word).or_else(|| {
        let (text, port) = split_once(word, b':')?;
        read_ip(text).filter(|address| address.is_ipv4() && is_port(port))
    })
}

/// What the client's ident server said, which stands before an `@`, and what is behind it.
pub(super) fn split_ident(word: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut parts = word.rsplitn(2, |octet| *octet == b'@');
    let last = parts.next().unwrap_or_default();
    (parts.next(), last)
}

/// Whether an address stands in the text, in whichever form.
pub(super) fn mentions_address(text: &[u8]) -> bool {
    let is_part = |octet: u8| {
        octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b':' | b'%' | b'-' | b'_')
    };
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = split_before(rest, |octet| !is_part(octet));
        // With any zone, or none.
        let (word, _) = split_before(word, |octet| octet == b'%');
        let word = word.strip_suffix(b".").unwrap_or(word);
        let (before_colon, _) = split_before(word, |octet| octet == b':');
        if read_ip(word).is_some() || read_ip(before_colon).is_some() {
            return true;
        }
        rest = after.split_first().map_or(after, |(_, rest)| rest);
    }
    false
}

/// Whether it is the number of a port.
pub(super) fn is_port(text: &[u8]) -> bool {
    (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(word: &str) -> Option<String> {
        read_literal(word.as_bytes()).map(|address| address.to_string())
    }

    #[test]
    fn texts_have_a_bound() {
        for (length, is_read) in [(99, true), (100, true), (101, false)] {
            let text = format!("fe80::1%{}", "z".repeat(length - "fe80::1%".len()));
            assert_eq!(read_ip(text.as_bytes()).is_some(), is_read, "{length}");
        }
    }

    #[test]
    fn literals() {
        for (word, address) in [
            ("[198.51.100.7]", "198.51.100.7"),
            ("[198.51.100.7]:25", "198.51.100.7"),
            ("[IPv6:2001:db8:51::7]", "2001:db8:51::7"),
            ("[IPV6:2001:db8:51:0:0:0:0:7]", "2001:db8:51::7"),
            ("[2001:DB8::7]:65535", "2001:db8::7"),
            ("[::ffff:198.51.100.7]", "198.51.100.7"),
            ("[IPv6:::ffff:c633:6407]", "198.51.100.7"),
            ("[64:ff9b::198.51.100.7]", "64:ff9b::c633:6407"),
            ("[fe80::1%eth0.5]", "fe80::1"),
        ] {
            assert_eq!(literal(word).as_deref(), Some(address), "{word}");
        }
        for word in [
            "[]",
            "[198.51.100.07]",
            "[198.51.100]",
            "[198.51.100.666]",
            "[ 198.51.100.7]",
            "[198.51.100.7",
            "198.51.100.7",
            "[198.51.100.7]x",
            "[198.51.100.7]:",
            "[198.51.100.7]:123456",
            "[198.51.100.7]:2x",
            "[198.51.100.7,203.0.113.66]",
            "[IPv6:198.51.100.7]",
            "[2001:db8::51::7]",
            "[2001:db8::7%1]",
            "[fe80::1%]",
            "[fe80::1%a b]",
            "[198.51.100.7%1]",
            "[::]",
            "[0.0.0.0]",
            "[255.255.255.255]",
            "[224.0.0.1]",
            "[ff02::1]",
            "[\u{661}98.51.100.7]",
            "[#.#.#.#]",
        ] {
            assert_eq!(literal(word), None, "{word}");
        }
    }

    #[test]
    fn bare_addresses() {
        let bare = |word: &str| read_bare(word.as_bytes()).map(|address| address.to_string());
        assert_eq!(bare("198.51.100.7").as_deref(), Some("198.51.100.7"));
        assert_eq!(bare("198.51.100.7:40457").as_deref(), Some("198.51.100.7"));
        assert_eq!(bare("2001:db8::7:25").as_deref(), Some("2001:db8::7:25"));
        assert_eq!(bare("[198.51.100.7]"), None);
    }

    #[test]
    fn addresses_are_found_in_any_text() {
        for text in [
            "x [198.51.100.200] y",
            "a (b [198.51.100.200]) c",
            "x@198.51.100.200",
            "[ 198.51.100.200 ]",
            "198.51.100.200.",
            "(198.51.100.200:25)",
            "a, IPv6:2001:db8::1;",
            "[fe80::1%13]",
            "2001:db8::1%%",
            "198.51.100.200:",
        ] {
            assert!(mentions_address(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "using TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits)",
            "TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO",
            "Exim 4.94.2",
            "10:15:01 +0100",
            "a::g ::",
            "AS64500 Example, DE",
            "vM.6.01.04.00 201-2131-118-20041027",
        ] {
            assert!(!mentions_address(text.as_bytes()), "{text}");
        }
    }
}
