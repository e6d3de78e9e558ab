//! Where to listen, and which name servers to ask.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    file::path,
    listed::Entries,
    value::{Parsed, Spell, quote, refuse, spell_as_displayed},
};
use crate::mail::domain::Domain;

/// A socket to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SocketSpec {
    /// TCP: `inet:HOST:PORT` or `inet:PORT@HOST`.
    Inet {
        /// An address, without brackets, or a name.
        host: String,
        /// The port; 0 lets the kernel choose.
        port: u16,
    },
    /// TCP over IPv6 only: `inet6:HOST:PORT` or `inet6:PORT@HOST`.
    Inet6 {
        /// An IPv6 address, without brackets, or a name.
        host: String,
        /// The port; 0 lets the kernel choose.
        port: u16,
    },
    /// A UNIX socket: `unix:PATH` or `local:PATH`.
    Unix(PathBuf),
    /// Sockets from the service manager: `fd:NAME` for the sockets of a name, `fd:` for all.
    Fd(Option<String>),
}

/// The forms of a socket.
const EXPECTED: &str =
    "inet:HOST:PORT, inet:PORT@HOST, inet6:..., unix:PATH, local:PATH or fd:NAME";

/// Reads a socket.
pub(crate) fn socket(text: &str) -> Parsed<SocketSpec> {
    let Some((kind, rest)) = text.split_once(':') else {
        return refuse(text, "is not a socket", EXPECTED);
    };
    match kind {
        "inet" => host_and_port(text, rest).map(|(host, port)| SocketSpec::Inet { host, port }),
        "inet6" => match host_and_port(text, rest)? {
            (host, _) if matches!(host.parse(), Ok(IpAddr::V4(_))) => {
                refuse(text, "has an IPv4 address", "an IPv6 address or a name")
            }
            (host, port) => Ok(SocketSpec::Inet6 { host, port }),
        },
        "unix" | "local" if rest.is_empty() => {
            refuse(text, "has no path", format_args!("{kind}:PATH"))
        }
        "unix" | "local" => path(rest).map(SocketSpec::Unix).or_else(|_| {
            let fault = format!("does not have the path of one file behind {kind}:");
            refuse(text, fault, EXPECTED)
        }),
        "fd" if rest.contains(|c: char| {
            c.is_whitespace() || matches!(c, ':' | ';' | '#' | '"' | '\'' | '\\')
        }) =>
        {
            refuse(text, "has no usable name", "fd:NAME, or fd: for all")
        }
        "fd" => Ok(SocketSpec::Fd(Some(rest.into()).filter(|name: &String| !name.is_empty()))),
        _ => refuse(text, "is of an unknown kind", EXPECTED),
    }
}

/// Reads a socket that has an address of its own: not all that the service manager passes.
pub(crate) fn single_socket(text: &str) -> Parsed<SocketSpec> {
    match socket(text)? {
        SocketSpec::Fd(None) => refuse(text, "stands for all sockets", "fd:NAME"),
        _ if text.contains(',') => refuse(text, "is not one socket", EXPECTED),
        socket => Ok(socket),
    }
}

fn host_and_port(text: &str, rest: &str) -> Parsed<(String, u16)> {
    let parts = match rest.split_once('@') {
        Some((port, host)) => Some((host, port)),
        None => rest.rsplit_once(':'),
    };
    let Some((host, port)) = parts else {
        return refuse(text, "lacks a host or a port", EXPECTED);
    };
    let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bare) if bare.parse::<Ipv6Addr>().is_ok() => bare,
        _ => host,
    };
    if bare.parse::<IpAddr>().is_err() && Domain::parse(bare).is_err() {
        return refuse(
            host,
            "is not a host",
            format_args!("an address or a name in {}", quote(text)),
        );
    }
    match port.parse() {
        Ok(port) => Ok((bare.into(), port)),
        Err(_) => refuse(
            port,
            "is not a port",
            format_args!("a number from 0 to 65535 in {}", quote(text)),
        ),
    }
}

impl SocketSpec {
    /// Whether other hosts may reach it. Of a name that is not `localhost` that is not known here.
    pub(crate) fn may_be_reached(&self) -> bool {
        match self {
            Self::Inet { host, .. } | Self::Inet6 { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => !address.to_canonical().is_loopback(),
                Err(_) => !host.eq_ignore_ascii_case("localhost"),
            },
            Self::Unix(_) | Self::Fd(_) => false,
        }
    }
}

impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, host, port) = match self {
            Self::Inet { host, port } => ("inet", host, port),
            Self::Inet6 { host, port } => ("inet6", host, port),
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Fd(name) => return write!(f, "fd:{}", name.as_deref().unwrap_or_default()),
        };
        if host.contains(':') {
            write!(f, "{kind}:[{host}]:{port}")
        } else {
            write!(f, "{kind}:{host}:{port}")
        }
    }
}

spell_as_displayed!(SocketSpec);

/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Reads the address of a name server.
fn nameserver(text: &str) -> Parsed<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>()
        && (address.is_ipv6() || bare == text)
    {
        return Ok(SocketAddr::new(address, DNS_PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => refuse(text, "is not a name server", "IP, IP:PORT or [IPv6]:PORT"),
    }
}

impl Entries for Vec<SocketAddr> {
    type Entry = SocketAddr;

    const REFUSES_OTHER_SPELLINGS: bool = true;

    fn read(text: &str) -> Parsed<SocketAddr> {
        nameserver(text)
    }

    fn insert(&mut self, entry: &SocketAddr) -> bool {
        let is_new = !self.contains(entry);
        if is_new {
            self.push(*entry);
        }
        is_new
    }

    /// Finds an IPv6 address without brackets, behind which a port seems to stand: the last digits
    /// belong to the address.
    fn oddity(text: &str, _: &SocketAddr) -> Option<String> {
        let (before, port @ ("53" | "5353")) = text.rsplit_once(':')? else { return None };
        before.parse::<Ipv6Addr>().ok()?;
        Some(format!("is an address without a port (for port {port}, write [{before}]:{port})"))
    }
}

impl Spell for SocketAddr {
    fn spell(&self) -> String {
        match self {
            Self::V6(address) if address.scope_id() != 0 => address.to_string(),
            _ if self.port() == DNS_PORT => self.ip().to_string(),
            _ => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_spelt_in_many_ways() {
        for (text, spelt) in [
            ("inet:127.0.0.1:8890", "inet:127.0.0.1:8890"),
            ("inet:localhost:08890", "inet:localhost:8890"),
            ("inet:[::1]:8890", "inet:[::1]:8890"),
            ("inet:::1:8890", "inet:[::1]:8890"),
            ("inet:8890@127.0.0.1", "inet:127.0.0.1:8890"),
            ("inet:8890@[::1]", "inet:[::1]:8890"),
            ("inet6:8890@::1", "inet6:[::1]:8890"),
            ("inet6:localhost:8890", "inet6:localhost:8890"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("local:a.sock", "unix:a.sock"),
            ("fd:", "fd:"),
            ("fd:milter", "fd:milter"),
        ] {
            let read = socket(text).unwrap();
            assert_eq!(read.to_string(), spelt);
            assert_eq!(socket(spelt), Ok(read));
        }
    }

    #[test]
    fn bad_sockets_are_refused() {
        for bad in [
            "",
            "8890",
            "/run/a.sock",
            "unix:",
            "UNIX:/a",
            "tcp:a:1",
            "inet:8890",
            "inet:127.0.0.1",
            "inet:127.0.0.1:99999",
            "inet:127.0.0.1:smtp",
            "inet::8890",
            "inet: 127.0.0.1:8890",
            "inet:[127.0.0.1]:1",
            "inet6:1@127.0.0.1",
            "fd:a b",
        ] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sockets_within_the_reach_of_others() {
        for (text, may_be_reached) in [
            ("inet:127.0.0.1:9", false),
            ("inet:127.9.9.9:9", false),
            ("inet:[::1]:9", false),
            ("inet6:[::ffff:127.0.0.1]:9", false),
            ("inet:LocalHost:9", false),
            ("unix:/run/m", false),
            ("fd:metrics", false),
            ("inet:0.0.0.0:9", true),
            ("inet:[::]:9", true),
            ("inet:192.0.2.1:9", true),
            ("inet6:[2001:db8::1]:9", true),
            ("inet:mx.example.com:9", true),
        ] {
            assert_eq!(single_socket(text).unwrap().may_be_reached(), may_be_reached, "{text}");
        }
        assert!(single_socket("fd:").is_err() && single_socket("/run/m").is_err());
    }

    #[test]
    fn name_servers() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("[fe80::1%2]:53", "[fe80::1%2]:53"),
        ] {
            let read = nameserver(text).unwrap();
            assert_eq!(read.to_string(), address);
            assert_eq!(nameserver(&read.spell()), Ok(read));
        }
        for bad in
            ["", "localhost", "192.0.2.1:0", "192.0.2.1:", "[192.0.2.1]", "2001:db8::1:99999"]
        {
            assert!(nameserver(bad).is_err(), "{bad}");
        }
    }
}
