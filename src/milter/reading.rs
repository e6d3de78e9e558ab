//! The content of packets as the session wants it.

use std::{borrow::Cow, net::IpAddr};

use indymilter::ProtoOpts;

use super::packets::split_text;
use crate::session::Client;

/// The value of a header field with the white space after the colon.
pub(super) fn value_as_sent(opts: ProtoOpts, value: &[u8]) -> Cow<'_, [u8]> {
    if opts.contains(ProtoOpts::LEADING_SPACE)
        || value.starts_with(b"\n")
        || value.starts_with(b"\r\n")
    {
        return value.into();
    }
    // The MTA has taken the space after the colon away; nearly always it was one. Before a fold
    // there was none.
    [b" ", value].concat().into()
}

/// The client as the MTA describes it; and the text in the place of its address, where that is no
/// address.
///
/// MTAs write IPv6 addresses with `IPv6:` before them, and `unknown` where there is no address.
/// Zones (RFC 4007 §11) mean nothing to others.
///
/// ```text
/// content = hostname NUL family [ port address NUL ]
/// family  = "U" / "L" / "4" / "6"     ; unknown, UNIX, IPv4, IPv6
/// port    = 2 octets, big-endian
/// ```
pub(super) fn read_client(content: &[u8]) -> Option<(Client, Option<String>)> {
    let (host, rest) = split_text(content)?;
    let client =
        |address, port| Client { address, port, host: String::from_utf8_lossy(host).into_owned() };
    let (port, rest) = match rest {
        [b'U', ..] => return Some((client(None, 0), None)),
        [b'L', _, _, path @ ..] => return split_text(path).map(|_| (client(None, 0), None)),
        [b'4' | b'6', p0, p1, rest @ ..] => (u16::from_be_bytes([*p0, *p1]), rest),
        _ => return None,
    };
    let (given, _) = split_text(rest)?;
    let text = given.split(|&octet| octet == b'%').next().unwrap_or(given).trim_ascii();
    let text = match text.split_first_chunk::<5>() {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"IPv6:") => rest,
        _ => text,
    };
    let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let says_nothing = text.is_empty() || text.eq_ignore_ascii_case(b"unknown");
    let no_address =
        (address.is_none() && !says_nothing).then(|| String::from_utf8_lossy(given).into_owned());
    Some((client(address, if address.is_some() { port } else { 0 }), no_address))
}
