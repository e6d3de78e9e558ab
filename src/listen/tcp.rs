//! TCP sockets.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use anyhow::bail;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Type};

use super::socket::{BACKLOG, Listener, ListeningSocket};

/// How often a port is asked for that all addresses of a name have free.
const PORT_ATTEMPTS: u32 = 20;

/// How long the addresses of a host may take to be looked up at the start.
const RESOLVE_LIMIT: Duration = Duration::from_secs(60);

/// The addresses of a host, in the order of the system, each once.
struct Addresses {
    addresses: Vec<SocketAddr>,
    only_v6: bool,
}

/// Listens on every address of a host that is not in `taken`, and adds it there. Notes for the
/// administrator go to `notes`.
///
/// # Errors
///
/// The host has no address, or one of them cannot be listened on.
pub(super) fn listen(
    host: &str,
    port: u16,
    only_v6: bool,
    taken: &mut Vec<SocketAddr>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<ListeningSocket>> {
    bind_all(&resolve(host, port, only_v6)?, taken, notes)
}

fn resolve(host: &str, port: u16, only_v6: bool) -> anyhow::Result<Addresses> {
    let name = host.to_owned();
    let found = look_up(RESOLVE_LIMIT, move || {
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.into_iter().filter(|address| address.is_ipv6() || !only_v6) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        bail!("{host} has no {}address", if only_v6 { "IPv6 " } else { "" });
    }
    // Where a name has both, each is a socket of its own, and none takes the place of the other.
    let only_v6 = only_v6 || addresses.len() > 1;
    Ok(Addresses { addresses, only_v6 })
}

/// Looks addresses up, but waits no longer than `limit`: a resolv.conf that cannot be read to its end
/// keeps the C library waiting for ever.
fn look_up(
    limit: Duration,
    resolve: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = sync_channel(1);
    thread::Builder::new().name("resolve".into()).spawn(move || sender.send(resolve()))?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        let seconds = limit.as_secs();
        Err(io::Error::other(format!("its address cannot be looked up within {seconds} seconds")))
    })
}

/// Listens on every address: MTAs that are given the same name differ in the one that they take. An
/// address that this host does not have does not matter where it has another one; a note says so.
/// An address that we listen on already, as a name and its address may both be given, is left out.
fn bind_all(
    wanted: &Addresses,
    taken: &mut Vec<SocketAddr>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<ListeningSocket>> {
    let mut attempt = 1;
    loop {
        let mut absent = Vec::new();
        match bind_once(wanted, taken, &mut absent) {
            Ok(opened) => {
                for socket in &opened {
                    if let Listener::Tcp(listener) = &socket.listener {
                        taken.push(listener.local_addr()?);
                    }
                }
                notes.extend(absent);
                return Ok(opened);
            }
            // The port that the kernel chose for the first address may be in use at another one.
            Err(BindError::PortOfKernel(_)) if attempt < PORT_ATTEMPTS => attempt += 1,
            Err(BindError::PortOfKernel(error) | BindError::Other(error)) => return Err(error),
        }
    }
}

/// Why addresses cannot be listened on.
enum BindError {
    /// The port that the kernel chose for another address is in use.
    PortOfKernel(anyhow::Error),
    Other(anyhow::Error),
}

fn bind_once(
    wanted: &Addresses,
    taken: &[SocketAddr],
    notes: &mut Vec<String>,
) -> Result<Vec<ListeningSocket>, BindError> {
    let mut opened = Vec::new();
    let mut port = None;
    let mut absent = None;
    let mut is_served = false;
    for &address in &wanted.addresses {
        if taken.contains(&address) {
            is_served = true;
            continue;
        }
        // All addresses of a name have the same port, also where the kernel chooses it.
        let mut address = address;
        if let Some(port) = port {
            address.set_port(port);
        }
        let bound = bind(address, wanted.only_v6)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((address, listener)) => {
                port = Some(address.port());
                opened.push(ListeningSocket {
                    listener: Listener::Tcp(listener),
                    name: format!("inet:{address}"),
                    file: None,
                });
            }
            Err(error) if is_absent(&error) => {
                notes.push(format!("cannot listen on inet:{address}: {error}; the other addresses of the name are listened on"));
                absent = absent.or(Some(error));
            }
            Err(error) => {
                let is_port_of_kernel = error.kind() == io::ErrorKind::AddrInUse
                    && wanted.addresses.iter().any(|wanted| wanted.port() == 0);
                let mut error = anyhow::Error::from(error);
                if is_port_of_kernel || wanted.addresses.len() > 1 {
                    error = error.context(format!("inet:{address}"));
                }
                return Err(match is_port_of_kernel {
                    true => BindError::PortOfKernel(error),
                    false => BindError::Other(error),
                });
            }
        }
    }
    match absent {
        Some(error) if opened.is_empty() && !is_served => Err(BindError::Other(error.into())),
        _ => Ok(opened),
    }
}

/// Whether the host does not have the address, or none of its family.
fn is_absent(error: &io::Error) -> bool {
    let family = [Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT].map(|errno| errno as i32);
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error().is_some_and(|errno| family.contains(&errno))
}

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec().nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if only_v6 && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    fn opened(host: &str, port: u16, only_v6: bool) -> Vec<String> {
        let wanted = resolve(host, port, only_v6).unwrap();
        bind_all(&wanted, &mut Vec::new(), &mut Vec::new())
            .unwrap()
            .into_iter()
            .map(|socket| socket.name)
            .collect()
    }

    #[test]
    fn names_and_families() {
        let wanted = resolve("::", 0, true).unwrap();
        let v6 = bind_all(&wanted, &mut Vec::new(), &mut Vec::new()).unwrap();
        let Listener::Tcp(listener) = &v6[0].listener else { panic!("not TCP") };
        assert!(SockRef::from(listener).only_v6().unwrap());
        assert!(opened("localhost", 0, false)[0].starts_with("inet:"));
        assert!(resolve("127.0.0.1", 0, true).is_err());
    }

    #[test]
    fn a_resolver_that_hangs_is_given_up() {
        let (release, held) = sync_channel::<()>(0);
        let error = look_up(Duration::ZERO, move || {
            let _ = held.recv();
            Ok(Vec::new())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "its address cannot be looked up within 0 seconds");
        drop(release);
    }

    fn addresses(texts: &[&str]) -> Addresses {
        let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses { only_v6: addresses.len() > 1, addresses }
    }

    #[test]
    fn every_address_of_a_name_is_listened_on() {
        let (mut taken, mut notes) = (Vec::new(), Vec::new());
        let sockets = bind_all(
            &addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]),
            &mut taken,
            &mut notes,
        )
        .unwrap();
        let ports: Vec<u16> = taken.iter().map(SocketAddr::port).collect();
        assert_eq!((sockets.len(), taken.len()), (3, 3));
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0) && notes.is_empty());
        for (socket, address) in sockets.iter().zip(&taken) {
            assert_eq!(socket.name, format!("inet:{address}"));
            std::net::TcpStream::connect(address).unwrap();
        }
        // The address itself, given beside the name, is one that we listen on.
        let port = ports[0];
        let again =
            bind_all(&addresses(&[&format!("127.0.0.2:{port}")]), &mut taken, &mut notes).unwrap();
        assert!(again.is_empty() && taken.len() == 3);
        // The address of another process is an error, which names it.
        let other = std::net::TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
        let _other = std::net::TcpListener::bind(other).unwrap();
        let both = addresses(&[&format!("127.0.0.4:{}", other.port()), &other.to_string()]);
        let error = format!("{:#}", bind_all(&both, &mut taken, &mut notes).unwrap_err());
        assert!(error.starts_with(&format!("inet:{other}: Address already in use")), "{error}");
    }

    #[test]
    fn an_address_that_the_host_lacks_is_noted() {
        // 2001:db8::/32 is for documentation (RFC 3849): no host has it, and some have no IPv6 at
        // all.
        for texts in [["127.0.0.1:0", "[2001:db8::1]:0"], ["[2001:db8::1]:0", "127.0.0.1:0"]] {
            let mut notes = Vec::new();
            let sockets = bind_all(&addresses(&texts), &mut Vec::new(), &mut notes).unwrap();
            assert!(sockets.len() == 1 && sockets[0].name.starts_with("inet:127.0.0.1:"));
            assert!(
                notes.len() == 1 && notes[0].starts_with("cannot listen on inet:[2001:db8::1]:"),
                "{notes:?}"
            );
        }
        let mut notes = Vec::new();
        let error = bind_all(
            &addresses(&["[2001:db8::1]:0", "[2001:db8::2]:0"]),
            &mut Vec::new(),
            &mut notes,
        )
        .unwrap_err();
        assert!(is_absent(error.downcast_ref().unwrap()) && notes.is_empty(), "{error}");
    }
}
