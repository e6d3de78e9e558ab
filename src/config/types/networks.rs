//! Networks of clients.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    listed::{Entries, Listed, listed},
    value::{Parsed, ValueError, ValueErrors, items, refuse, spell_as_displayed},
};

/// A list of networks.
pub type Networks = Listed<NetworkSet>;

/// Networks in a table. IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) count as IPv4.
///
/// A look-up asks for one network of each length that there is, 33 or 129 at most, however many
/// networks there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkSet {
    has_loopback: bool,
    networks: HashSet<IpNet>,
    /// The lengths of prefixes, of IPv4 and of IPv6.
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

/// A network.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Network {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// Without host bits, and IPv4 where it can be.
    Net(IpNet),
}

#[cfg(test)]
impl Network {
    /// Whether the address lies in the network.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Loopback => address.is_loopback(),
            Self::Net(network) => network.contains(&address),
        }
    }
}

impl NetworkSet {
    /// Whether the address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.around(address).next().is_some()
    }

    /// The networks in which the address lies.
    pub(super) fn around(&self, address: IpAddr) -> impl Iterator<Item = Network> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        let find = move |length: &u8| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            self.networks.contains(&network).then_some(Network::Net(network))
        };
        let is_loopback = self.has_loopback && address.is_loopback();
        is_loopback.then_some(Network::Loopback).into_iter().chain(lengths.iter().filter_map(find))
    }

    /// Whether all addresses of a network lie in one of the networks.
    pub(crate) fn covers(&self, network: Network) -> bool {
        let Network::Net(network) = network else { return self.has_loopback };
        let is_around = |it: Network| match it {
            Network::Loopback => match network {
                IpNet::V4(v4) => v4.prefix_len() >= 8,
                IpNet::V6(v6) => v6.prefix_len() == 128,
            },
            Network::Net(it) => it.prefix_len() <= network.prefix_len(),
        };
        self.around(network.addr()).any(is_around)
    }

    /// Whether there are no networks.
    pub fn is_empty(&self) -> bool {
        !self.has_loopback && self.networks.is_empty()
    }
}

impl Entries for NetworkSet {
    type Entry = Network;

    /// See [`oddities`].
    const REFUSES_OTHER_SPELLINGS: bool = false;

    fn read(text: &str) -> Parsed<Network> {
        network(text)
    }

    fn oddity(text: &str, network: &Network) -> Option<String> {
        host_bits(text).or_else(|| everyone(*network))
    }

    fn insert(&mut self, entry: &Network) -> bool {
        match *entry {
            Network::Loopback => !std::mem::replace(&mut self.has_loopback, true),
            Network::Net(network) => {
                let lengths = match network {
                    IpNet::V4(_) => &mut self.v4_lengths,
                    IpNet::V6(_) => &mut self.v6_lengths,
                };
                lengths.insert(network.prefix_len());
                self.networks.insert(network)
            }
        }
    }
}

/// Reads a list of networks. One that is there in two spellings is there once; see [`oddities`].
pub(crate) fn networks(text: &str) -> Parsed<Networks> {
    listed(text)
}

/// Finds networks that are not an error, but hardly meant, in a text that [`networks`] reads.
pub(crate) fn oddities(text: &str) -> ValueErrors {
    let mut found = ValueErrors::new();
    let mut seen: HashMap<Network, String> = HashMap::new();
    for (offset, spelling) in items(text) {
        // A network that cannot be read is an error already.
        let Ok(network) = network(spelling) else { continue };
        let same = seen.get(&network).map(|other| format!("is the same as {other}"));
        if let Some(message) = same.or_else(|| NetworkSet::oddity(spelling, &network)) {
            found.push(ValueError { offset, message: format!("{spelling} {message}") });
        }
        seen.entry(network).or_insert_with(|| spelling.to_owned());
    }
    found
}

/// A network whose address is that of a host in it, for it might have been meant.
fn host_bits(text: &str) -> Option<String> {
    let network: IpNet = text.parse().ok()?;
    (network.addr() != network.network()).then(|| format!("means all of {}", network.trunc()))
}

/// A network that has every client in it.
fn everyone(network: Network) -> Option<String> {
    let Network::Net(network) = network else { return None };
    let version = if network.addr().is_ipv4() { 4 } else { 6 };
    (network.prefix_len() == 0).then(|| format!("has every IPv{version} client in it"))
}

fn network(text: &str) -> Parsed<Network> {
    if text == "loopback" {
        return Ok(Network::Loopback);
    }
    match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
        Ok(network) => Ok(Network::Net(canonical(network.trunc()))),
        Err(_) => {
            let expected = format!("an address, ADDRESS/BITS or loopback{}", with_bits(text));
            refuse(text, "is not a network", expected)
        }
    }
}

/// The right form of a network with a netmask, or of a range of addresses.
fn with_bits(text: &str) -> String {
    let masked = text.split_once('/').and_then(|(address, mask)| {
        let (address, mask) = (address.parse().ok()?, mask.parse().ok()?);
        Ipv4Net::with_netmask(address, mask).ok()
    });
    match masked {
        Some(network) => format!("; did you mean {}?", network.trunc()),
        None if text.split_once('-').is_some_and(|(from, to)| {
            [from, to].iter().all(|end| end.trim().parse::<IpAddr>().is_ok())
        }) =>
        {
            "; a range is written as networks".into()
        }
        None => String::new(),
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

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Net(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Net(network) => write!(f, "{network}"),
        }
    }
}

spell_as_displayed!(Network);

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::value::Spell as _, *};

    fn has(networks_text: &str, address: &str) -> bool {
        networks(networks_text).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_found() {
        assert!(
            has("loopback", "127.0.0.2")
                && has("loopback", "::1")
                && has("loopback", "::ffff:127.0.0.1")
        );
        assert!(!has("loopback", "10.0.0.1") && !has("", "127.0.0.1"));
        assert!(has("10.1.2.3/8", "10.9.9.9") && has("10.0.0.0/08", "10.0.0.1"));
        assert!(
            has("10.0.0.1", "::ffff:10.0.0.1")
                && has("::ffff:10.0.0.1", "10.0.0.1")
                && has("::ffff:10.0.0.0/104", "10.9.9.9")
        );
        assert!(has("0.0.0.0/0", "192.0.2.1") && !has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("2001:db8::1/32", "2001:db8:ffff::") && !has("2001:db8::/32", "2001:db9::"));
    }

    #[test]
    fn networks_are_spelt_without_host_bits() {
        let text = "loopback, 10.1.2.3/8, 192.0.2.1/32, ::ffff:0:0/96, 2001:db8::1/32, ::1";
        assert_eq!(
            networks(text).unwrap().spell(),
            "loopback, 10.0.0.0/8, 192.0.2.1, 0.0.0.0/0, 2001:db8::/32, ::1"
        );
    }

    #[test]
    fn bad_networks_are_refused() {
        for bad in [
            "Loopback",
            "10.0.0.0/33",
            "10.0.0/24",
            "10.0.0.0/255.0.0.0",
            "010.0.0.1",
            "[::1]",
            "fe80::1%eth0",
            "10.0.0.0 /8",
        ] {
            assert!(networks(bad).is_err(), "{bad}");
        }
        assert_eq!(networks("10.0.0.1, 10.0.0.1").unwrap_err()[0].offset, 10);
        for (text, meant) in [
            ("Loopback", "did you mean loopback?"),
            ("localhost", "did you mean loopback?"),
            ("[::1]", "did you mean ::1?"),
            ("10.0.0.0/255.255.0.0", "did you mean 10.0.0.0/16?"),
            (
                "10.0.0.0/8; 192.168.0.0/16",
                "separate with commas; did you mean 10.0.0.0/8, 192.168.0.0/16?",
            ),
            ("10.0.0.1 - 10.0.0.9", "a range is written as networks"),
        ] {
            assert!(
                networks(text).unwrap_err()[0].message.contains(meant),
                "{text}: {:?}",
                networks(text)
            );
        }
    }

    #[test]
    fn a_network_in_two_spellings_is_one() {
        let text = "127.0.0.0/8,::ffff:127.0.0.0/104,::1, 10.0.0.1, 10.0.0.1/32, 192.0.2.7/24";
        assert_eq!(networks(text).unwrap().spell(), "127.0.0.0/8, ::1, 10.0.0.1, 192.0.2.0/24");
        let found: Vec<_> =
            oddities(text).into_iter().map(|oddity| (oddity.offset, oddity.message)).collect();
        assert_eq!(
            found,
            [
                (12, "::ffff:127.0.0.0/104 is the same as 127.0.0.0/8".to_owned()),
                (48, "10.0.0.1/32 is the same as 10.0.0.1".to_owned()),
                (61, "192.0.2.7/24 means all of 192.0.2.0/24".to_owned()),
            ]
        );
        assert_eq!(oddities("loopback, 127.0.0.0/8, ::1, 10.0.0.0/8"), []);
    }

    /// One network after the other.
    fn contains_slowly(all: &[Network], address: IpAddr) -> bool {
        all.iter().any(|network| network.contains(address))
    }

    proptest! {
        /// Addresses and networks of few bits, so that they often meet.
        #[test]
        fn look_ups_are_those_of_the_slow_twin(
            nets in vec((any::<bool>(), any::<[u8; 2]>(), 0_u8..=128), 0..8),
            loopback in any::<bool>(),
            addresses in vec((any::<bool>(), any::<[u8; 2]>()), 16),
        ) {
            let address = |is_v4: bool, [first, last]: [u8; 2]| {
                let (first, last) = (first % 4 + 126, last % 4);
                if is_v4 {
                    IpAddr::from([first, 0, 0, last])
                } else {
                    IpAddr::from([u16::from(first % 2), 0, 0, 0, 0, 0, 0, u16::from(last)])
                }
            };
            let mut all: Vec<Network> = nets
                .into_iter()
                .map(|(is_v4, octets, length)| {
                    let length = if is_v4 { length % 33 } else { length };
                    Network::Net(IpNet::new(address(is_v4, octets), length).unwrap().trunc())
                })
                .collect();
            all.extend(loopback.then_some(Network::Loopback));
            let mut set = NetworkSet::default();
            for network in &all {
                set.insert(network);
            }
            prop_assert_eq!(set.is_empty(), all.is_empty());
            for (is_v4, octets) in addresses {
                let address = address(is_v4, octets);
                prop_assert_eq!(set.contains(address), contains_slowly(&all, address), "{}", address);
            }
        }
    }

    #[test]
    fn networks_cover_others() {
        let covers =
            |list: &str, text: &str| networks(list).unwrap().covers(network(text).unwrap());
        for (list, inner) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8, 10.1.0.0/16", "10.1.2.0/24"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("loopback", "127.0.0.9"),
            ("loopback", "127.0.0.0/8"),
            ("loopback", "::1"),
            ("loopback", "loopback"),
            ("::/0", "2001:db8::/32"),
        ] {
            assert!(covers(list, inner), "{list} {inner}");
        }
        for (list, other) in [
            ("10.0.0.0/8", "10.0.0.0/7"),
            ("10.1.0.0/16", "10.0.0.0/8"),
            ("loopback", "127.0.0.0/7"),
            ("loopback", "::/127"),
            ("127.0.0.0/8", "loopback"),
            ("0.0.0.0/0", "::1"),
            ("", "10.0.0.1"),
        ] {
            assert!(!covers(list, other), "{list} {other}");
        }
    }

    #[test]
    fn many_networks_are_no_burden() {
        let mut networks = Networks::default();
        for n in 0..100_000_u32 {
            networks
                .add_line(&format!("{}/{}", std::net::Ipv4Addr::from(n << 12), 20 + n % 13))
                .unwrap();
        }
        // In a list that is gone through a million look-ups would take minutes.
        let hits = (0..1_000_000_u32)
            .filter(|n| networks.contains(std::net::Ipv4Addr::from(n << 12).into()))
            .count();
        assert_eq!(hits, 100_000);
    }
}
