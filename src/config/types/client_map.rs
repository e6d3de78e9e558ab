//! Clients that are verified as others.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    listed::Entries as _,
    names::hostname,
    networks::{Network, NetworkSet},
    value::{Parsed, list_with, quote, spell_as_displayed, wrong},
};

/// The value of `client_map`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientMap(Vec<Mapping>);

/// Clients that are verified as another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    network: Network,
    /// The address that the world sees.
    pub address: IpAddr,
    /// The HELO name that goes with it; without one that of the client stays.
    pub helo: Option<Arc<str>>,
}

impl ClientMap {
    /// The first mapping for a client.
    pub fn find(&self, client: IpAddr) -> Option<&Mapping> {
        self.0.iter().find(|mapping| mapping.network.contains(client))
    }
}

/// Reads a list of mappings.
pub(crate) fn client_map(text: &str) -> Parsed<ClientMap> {
    let has = |found: &[Mapping], item: &Mapping| found.iter().any(|it| it.network == item.network);
    list_with(text, mapping, has).map(ClientMap)
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

impl fmt::Display for ClientMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mapping { network, address, helo }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{network}={address}")?;
            helo.iter().try_for_each(|helo| write!(f, " {helo}"))?;
        }
        Ok(())
    }
}

spell_as_displayed!(ClientMap: LIST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mapping_counts() {
        let text = "10.1.0.0/16=192.0.2.1 mail.example.com, 10.0.0.0/8=::ffff:192.0.2.2,loopback=2001:db8::1";
        let map = client_map(text).unwrap();
        assert_eq!(
            map.to_string(),
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
