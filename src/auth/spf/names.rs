//! The names and addresses that mechanisms compare.

use std::net::IpAddr;

use viaspf::record::{
    DomainSpec, DualCidrLength, ExplainString, ExplainStringSegment, MacroKind, MacroString,
    Mechanism,
};

use super::record::macros;
use crate::dns::{Answer, Name};

/// The prefix lengths of a mechanism.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub(super) len4: u8,
    pub(super) len6: u8,
}

impl Prefix {
    /// All bits where nothing is given.
    pub(super) fn new(length: Option<DualCidrLength>) -> Self {
        Self {
            len4: length.and_then(DualCidrLength::ip4).map_or(32, |length| length.get()),
            len6: length.and_then(DualCidrLength::ip6).map_or(128, |length| length.get()),
        }
    }
}

/// Whether an `ip4` or `ip6` mechanism has the client.
pub(super) fn matches_network(mechanism: &Mechanism, client: IpAddr) -> bool {
    match mechanism {
        Mechanism::Ip4(ip4) => {
            same_network(ip4.addr.into(), client, ip4.prefix_len.map_or(32, |len| len.get()))
        }
        Mechanism::Ip6(ip6) => {
            same_network(ip6.addr.into(), client, ip6.prefix_len.map_or(128, |len| len.get()))
        }
        _ => false,
    }
}

/// Whether two addresses of one family have their first `len` bits in common.
fn same_network(a: IpAddr, b: IpAddr, len: u8) -> bool {
    let len = u32::from(len);
    match (a, b) {
        // A shift by all bits: none of them need be the same.
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - len.min(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - len.min(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Whether one of the addresses is the client's, as far as the prefix goes.
pub(super) fn any_matches(addresses: &Answer, client: IpAddr, prefix: Prefix) -> bool {
    match addresses {
        Answer::A(addresses) => {
            addresses.iter().any(|&address| same_network(address.into(), client, prefix.len4))
        }
        Answer::Aaaa(addresses) => {
            addresses.iter().any(|&address| same_network(address.into(), client, prefix.len6))
        }
        _ => false,
    }
}

/// The name for `%{p}`: the domain itself, else one below it, else any (RFC 7208 §7.3).
pub(super) fn validated_name<'a>(names: Option<&'a [Name]>, domain: &Name) -> Option<&'a str> {
    let names = names?;
    names
        .iter()
        .find(|name| *name == domain)
        .or_else(|| names.iter().find(|name| is_at_or_below(name, domain)))
        .or_else(|| names.first())
        .map(Name::as_str)
}

pub(super) fn is_at_or_below(name: &Name, domain: &Name) -> bool {
    name.as_str()
        .strip_suffix(domain.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a domain-spec needs a local-part that cannot be in a question: its term matches nothing
/// (RFC 8616 §4).
pub(super) fn unusable(spec: &DomainSpec, local_part: &str) -> bool {
    !local_part.is_ascii()
        && macros(spec.as_ref())
            .any(|m| matches!(m.kind(), MacroKind::Sender | MacroKind::LocalPart))
}

/// Whether `%{p}` occurs.
pub(super) fn asks_for_names(string: &MacroString) -> bool {
    macros(string).any(|m| m.kind() == MacroKind::ValidatedDomain)
}

/// Whether `%{p}` occurs in an explanation or a reply text.
pub fn has_client_name(string: &ExplainString) -> bool {
    string.segments.iter().any(|segment| match segment {
        ExplainStringSegment::MacroString(string) => asks_for_names(string),
        ExplainStringSegment::Space => false,
    })
}
