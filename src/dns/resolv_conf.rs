//! The name servers of the system, resolv.conf(5).

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::Path,
};

/// The port of DNS (RFC 1035 §4.2).
pub(super) const PORT: u16 = 53;

/// How many `nameserver` lines count; the C library ignores the rest as well.
const MAX_SERVERS: usize = 3;

/// Octets of the file that are read; servers stand in its first lines.
const MAX_SIZE: u64 = 64 * 1024;

/// The server on this machine, which is asked where none is named.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// The content of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Contents {
    pub(super) servers: Vec<SocketAddr>,
    /// The number of the first `nameserver` line that names none, and the word that it has instead
    /// of an address.
    pub(super) bad: Option<(usize, String)>,
}

/// Reads the file.
///
/// # Errors
///
/// The file cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut octets)?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > MAX_SIZE) {
        // The last line goes on behind that: half of an address may be another address.
        let whole = octets.iter().rposition(|&octet| octet == b'\n').unwrap_or(0);
        octets.truncate(whole);
    }
    Ok(parse(&String::from_utf8_lossy(&octets)))
}

/// The addresses after `nameserver`; everything else, `search`, `domain` and `options` too, means
/// nothing to a mail filter.
fn parse(text: &str) -> Contents {
    let mut contents = Contents::default();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        // The keyword stands at the very beginning of the line.
        if !line.starts_with("nameserver") || words.next() != Some("nameserver") {
            continue;
        }
        let word = words.next().unwrap_or_default();
        match address(word) {
            Some(server)
                if contents.servers.len() < MAX_SERVERS && !contents.servers.contains(&server) =>
            {
                contents.servers.push(server);
            }
            Some(_) => {}
            None => {
                contents.bad =
                    contents.bad.or_else(|| Some((index + 1, word.chars().take(64).collect())))
            }
        }
    }
    contents
}

/// An IPv4 address, or an IPv6 address with or without `%` and the interface it is on (RFC 4007
/// §11.2).
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
    fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(SocketAddr::to_string).collect()
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
        assert!(servers("nameserver fe80::1%no-such-interface").is_empty());
    }

    #[test]
    fn three_at_most() {
        let text = "nameserver 192.0.2.1\r\nnameserver 192.0.2.2\r\nnameserver 192.0.2.3\r\nnameserver 192.0.2.4\r\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]);
    }

    #[test]
    fn none() {
        let of = |text| parse(text).bad.map(|(number, text)| format!("{number} {text}"));
        for (text, bad) in [
            ("", None),
            ("options edns0", None),
            ("\0\u{fffd}", None),
            ("nameserver", Some("1 ")),
            ("search x\nnameserver example.com\nnameserver foo", Some("2 example.com")),
            ("nameserver 192.0.2.1:53", Some("1 192.0.2.1:53")),
        ] {
            assert!(servers(text).is_empty(), "{text}");
            assert_eq!(of(text).as_deref(), bad, "{text}");
        }
        assert_eq!(
            of(&format!("nameserver {}", "x".repeat(1000))),
            Some(format!("1 {}", "x".repeat(64)))
        );
        assert_eq!(
            read(Path::new("/nonexistent/resolv.conf")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(read(Path::new("/")).is_err());
    }

    #[test]
    fn lines_within_the_bound() {
        let path =
            std::env::temp_dir().join(format!("spf-milter-{}-resolv.conf", std::process::id()));
        let line = "nameserver 192.0.2.10";
        // The last octet of the address is the last that is read, or the one behind.
        for (length, end, expected) in [
            (65_535, "", Some("192.0.2.10:53")),
            (65_536, "", Some("192.0.2.10:53")),
            (65_536, "\nnameserver 192.0.2.2", Some("192.0.2.10:53")),
            (65_537, "", None),
            (65_537, "\n", None),
        ] {
            std::fs::write(&path, format!("{}\n{line}{end}", "#".repeat(length - line.len() - 1)))
                .unwrap();
            let found = read(&path).unwrap();
            assert_eq!(
                found.servers.first().map(ToString::to_string).as_deref(),
                expected,
                "{length} {end:?}"
            );
            assert!(found.servers.len() <= 1 && found.bad.is_none());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
