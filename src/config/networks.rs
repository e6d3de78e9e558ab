//! Networks of clients.

use std::{collections::HashSet, fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};

use super::value::{Parsed, list_with, quote, spell_as_displayed, wrong};

/// A set of networks. IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) count as IPv4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Network {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// Without host bits, and IPv4 where it can be.
    Net(IpNet),
}

impl Networks {
    /// Whether the address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| match network {
            Network::Loopback => address.is_loopback(),
            Network::Net(network) => network.contains(&address),
        })
    }

    /// Whether there are no networks.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a set of networks.
pub(super) fn networks(text: &str) -> Parsed<Networks> {
    let mut seen = HashSet::new();
    list_with(text, network, |_, network| !seen.insert(*network)).map(Networks)
}

fn network(text: &str) -> Parsed<Network> {
    if text == "loopback" {
        return Ok(Network::Loopback);
    }
    match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
        Ok(network) => Ok(Network::Net(canonical(network.trunc()))),
        Err(_) => wrong(format!("{} is no network (expected an address, ADDRESS/BITS or loopback)", quote(text))),
    }
}

/// Makes a network of IPv4-mapped addresses an IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    if let IpNet::V6(v6) = network
        && let Some(address) = v6.addr().to_ipv4_mapped()
        && let Some(bits) = v6.prefix_len().checked_sub(MAPPED_BITS)
        && let Ok(v4) = Ipv4Net::new(address, bits)
    {
        return IpNet::V4(v4);
    }
    network
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match network {
                Network::Loopback => f.write_str("loopback")?,
                Network::Net(network) if network.prefix_len() == network.max_prefix_len() => write!(f, "{}", network.addr())?,
                Network::Net(network) => write!(f, "{network}")?,
            }
        }
        Ok(())
    }
}

spell_as_displayed!(Networks);

#[cfg(test)]
mod tests {
    use super::*;

    fn has(networks_text: &str, address: &str) -> bool {
        networks(networks_text).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_found() {
        assert!(has("loopback", "127.0.0.2") && has("loopback", "::1") && has("loopback", "::ffff:127.0.0.1"));
        assert!(!has("loopback", "10.0.0.1") && !has("", "127.0.0.1"));
        assert!(has("10.1.2.3/8", "10.9.9.9") && has("10.0.0.0/08", "10.0.0.1"));
        assert!(
            has("10.0.0.1", "::ffff:10.0.0.1") && has("::ffff:10.0.0.1", "10.0.0.1") && has("::ffff:10.0.0.0/104", "10.9.9.9")
        );
        assert!(has("0.0.0.0/0", "192.0.2.1") && !has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("2001:db8::1/32", "2001:db8:ffff::") && !has("2001:db8::/32", "2001:db9::"));
    }

    #[test]
    fn networks_are_spelt_without_host_bits() {
        let text = "loopback, 10.1.2.3/8, 192.0.2.1/32, ::ffff:0:0/96, 2001:db8::1/32, ::1";
        assert_eq!(networks(text).unwrap().to_string(), "loopback, 10.0.0.0/8, 192.0.2.1, 0.0.0.0/0, 2001:db8::/32, ::1");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in
            ["Loopback", "10.0.0.0/33", "10.0.0/24", "10.0.0.0/255.0.0.0", "010.0.0.1", "[::1]", "fe80::1%eth0", "10.0.0.0 /8"]
        {
            assert!(networks(bad).is_err(), "{bad}");
        }
        assert_eq!(networks("10.0.0.1, 10.0.0.1/32").unwrap_err()[0].offset, 10);
    }
}
