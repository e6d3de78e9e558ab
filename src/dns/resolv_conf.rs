//! The name servers of the system, resolv.conf(5).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::Path,
};

/// The port of DNS (RFC 1035 §4.2).
pub(super) const PORT: u16 = 53;

/// How many `nameserver` lines count; the C library ignores the rest as well.
const MAX_SERVERS: usize = 3;

/// Reads the name servers from a file; a server on this machine where the file cannot be read or names none.
pub(super) fn read(path: &Path) -> Vec<SocketAddr> {
    parse(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()))
}

/// The addresses after `nameserver`; everything else, `search`, `domain` and `options` too, means nothing to a mail filter.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        // The keyword stands at the very beginning of the line.
        if line.starts_with("nameserver")
            && words.next() == Some("nameserver")
            && let Some(server) = words.next().and_then(address)
            && !servers.contains(&server)
            && servers.len() < MAX_SERVERS
        {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

/// An IPv4 address, or an IPv6 address with or without `%` and the interface it is on (RFC 4007 §11.2).
fn address(text: &str) -> Option<SocketAddr> {
    if let Some((address, zone)) = text.split_once('%') {
        let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
        return Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, PORT, 0, scope).into());
    }
    Some((text.parse::<IpAddr>().ok()?, PORT).into())
}

fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') {
        return None;
    }
    fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        parse(text).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn addresses() {
        let text = "# made by hand\n; old style\ndomain example.com\nsearch a.example b.example\noptions ndots:5 timeout:1 rotate\n\
                    nameserver 192.0.2.1\nnameserver\t2001:db8::1 # near\n nameserver 192.0.2.9\n#nameserver 192.0.2.8\n\
                    nameserver 192.0.2.1\nnameservers 192.0.2.7\nnameserver fe80::1%3\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
    }

    #[test]
    fn interface_names() {
        // Loopback is the first interface of every network namespace.
        assert_eq!(servers("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(servers("nameserver fe80::1%no-such-interface"), ["127.0.0.1:53"]);
    }

    #[test]
    fn three_at_most() {
        let text = "nameserver 192.0.2.1\r\nnameserver 192.0.2.2\r\nnameserver 192.0.2.3\r\nnameserver 192.0.2.4\r\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]);
    }

    #[test]
    fn none_means_this_machine() {
        for text in ["", "nameserver", "nameserver example.com", "nameserver 192.0.2.1:53", "options edns0", "\0\u{fffd}"] {
            assert_eq!(servers(text), ["127.0.0.1:53"], "{text}");
        }
        assert_eq!(read(Path::new("/nonexistent/resolv.conf")), parse(""));
        assert_eq!(read(Path::new("/")), parse(""));
    }
}
