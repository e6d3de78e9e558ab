//! Clients that are verified as others.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::{
    listed::{Entries, Listed},
    names::hostname,
    networks::{Network, NetworkSet},
    value::{Parsed, Spell, quote, wrong},
};

/// The value of `client_map`.
pub type ClientMap = Listed<MappingTable>;

/// Mappings in a table, by their networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MappingTable {
    networks: NetworkSet,
    /// With their places: the first counts.
    mappings: HashMap<Network, (usize, Mapping)>,
}

/// Clients that are verified as another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    network: Network,
    /// The address that the world sees.
    pub address: IpAddr,
    /// The HELO name that goes with it; without one that of the client stays.
    pub helo: Option<Arc<str>>,
}

impl MappingTable {
    /// The first mapping for a client.
    pub fn find(&self, client: IpAddr) -> Option<&Mapping> {
        let mappings = self.networks.around(client).filter_map(|it| self.mappings.get(&it));
        mappings.min_by_key(|(place, _)| *place).map(|(_, mapping)| mapping)
    }

    /// The networks of all mappings, in their order.
    pub(crate) fn networks(&self) -> impl Iterator<Item = Network> {
        let mut networks: Vec<_> = self.mappings.iter().collect();
        networks.sort_by_key(|(_, (place, _))| *place);
        networks.into_iter().map(|(network, _)| *network)
    }
}

impl Mapping {
    /// The clients.
    pub(crate) fn network(&self) -> Network {
        self.network
    }
}

impl Entries for MappingTable {
    type Entry = Mapping;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    const REPEATED: Option<&'static str> = Some("is for a network that is in the list already");

    fn read(text: &str) -> Parsed<Mapping> {
        mapping(text)
    }

    fn key(entry: &Mapping) -> String {
        entry.network.to_string()
    }

    fn insert(&mut self, entry: &Mapping) -> bool {
        let is_new = self.networks.insert(&entry.network);
        if is_new {
            self.mappings.insert(entry.network, (self.mappings.len(), entry.clone()));
        }
        is_new
    }

    fn oddity(text: &str, entry: &Mapping) -> Option<String> {
        NetworkSet::oddity(text.split_once('=')?.0, &entry.network)
    }
}

fn mapping(text: &str) -> Parsed<Mapping> {
    const EXPECTED: &str = "expected NETWORK=ADDRESS or NETWORK=ADDRESS HELO";
    let Some((network, client)) = text.split_once('=') else {
        return wrong(format!("{} is not a mapping ({EXPECTED})", quote(text)));
    };
    let (address, helo) = match client.split_once(' ') {
        Some((address, helo)) => (address, Some(helo)),
        None => (client, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return wrong(format!("{} is not an address ({EXPECTED})", quote(address)));
    };
    let network = NetworkSet::read(network)?;
    let helo = helo.map(hostname).transpose()?.map(Arc::from);
    Ok(Mapping { network, address: address.to_canonical(), helo })
}

impl Spell for Mapping {
    fn spell(&self) -> String {
        let helo = self.helo.as_ref().map_or(String::new(), |helo| format!(" {helo}"));
        format!("{}={}{helo}", self.network, self.address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::listed::listed, *};

    fn client_map(text: &str) -> Parsed<ClientMap> {
        listed(text)
    }

    proptest! {
        /// The first network of all that the client lies in, in files too.
        #[test]
        fn the_table_agrees_with_the_list(
            nets in vec((any::<u8>(), 0_u8..=32), 0..8),
            in_list in 0_usize..8,
            clients in vec(any::<u8>(), 8),
        ) {
            let address = |last: u8| IpAddr::from([127, 0, 0, last % 8]);
            let mut seen = Vec::new();
            for (last, length) in nets {
                let network = NetworkSet::read(&format!("{}/{length}", address(last))).unwrap();
                if !seen.contains(&network) {
                    seen.push(network);
                }
            }
            let line = |place: usize, network: &Network| format!("{network}=192.0.2.{place}");
            let lines: Vec<String> = seen.iter().enumerate().map(|(i, it)| line(i, it)).collect();
            let (listed, in_file) = lines.split_at(in_list.min(lines.len()));
            let mut map = client_map(&listed.join(", ")).unwrap();
            for line in in_file {
                map.add_line(line).unwrap();
            }
            for client in clients.into_iter().map(address) {
                let first = seen.iter().position(|network| network.contains(client));
                let found = map.find(client).map(|mapping| mapping.address.to_string());
                prop_assert_eq!(found, first.map(|place| format!("192.0.2.{place}")));
            }
        }
    }

    #[test]
    fn the_first_mapping_counts() {
        let text = "10.1.0.0/16=192.0.2.1 mail.example.com, 10.0.0.0/8=::ffff:192.0.2.2,loopback=2001:db8::1";
        let map = client_map(text).unwrap();
        assert_eq!(
            map.spell(),
            "10.1.0.0/16=192.0.2.1 mail.example.com, 10.0.0.0/8=192.0.2.2, loopback=2001:db8::1"
        );
        let find = |client: &str| {
            let mapping = map.find(client.parse().unwrap())?;
            Some((mapping.address.to_string(), mapping.helo.as_deref()))
        };
        assert_eq!(find("10.1.2.3"), Some(("192.0.2.1".into(), Some("mail.example.com"))));
        assert_eq!(find("::ffff:10.2.2.3"), Some(("192.0.2.2".into(), None)));
        assert_eq!(find("::1"), Some(("2001:db8::1".into(), None)));
        assert_eq!(find("192.0.2.1"), None);
    }

    #[test]
    fn bad_mappings_are_refused() {
        for bad in [
            "10.0.0.1",
            "10.0.0.1=",
            "=10.0.0.1",
            "10.0.0.1 = 192.0.2.1",
            "10.0.0.1=192.0.2.0/24",
            "10.0.0.1=mail.example.com",
            "10.0.0.1=192.0.2.1 ",
            "10.0.0.1=192.0.2.1  a.example",
            "10.0.0.1=192.0.2.1 a.example b.example",
            "10.0.0.1=192.0.2.1 [192.0.2.1]",
            "file:/etc/map=192.0.2.1",
        ] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
        let twice = client_map("10.0.0.1=192.0.2.1, 10.0.0.1/32=192.0.2.2").unwrap_err();
        assert_eq!((twice.len(), twice[0].offset), (1, 20));
    }
}
