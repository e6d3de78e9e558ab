//! Sockets to listen on: made, taken over, put in order and removed.

use std::{
    fs, io,
    net::{SocketAddr, ToSocketAddrs},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use nix::unistd::Group;
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::config::SocketSpec;

/// Connections that wait to be accepted; the system's own limit may be lower.
const BACKLOG: i32 = 1024;

/// Something to listen on.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A UNIX socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A listening socket, with what it is called in the log. A socket file of ours is removed with it.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The socket.
    pub(crate) listener: Listener,
    /// Its spelling, with the address and port that it really has.
    pub(crate) name: String,
    /// The file to remove.
    pub(crate) file: Option<SocketFile>,
}

/// A socket file of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another daemon may have put its own socket there in the meantime.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Mode and group of UNIX sockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The mode; `None` leaves it to the umask.
    pub(crate) mode: Option<u32>,
    /// The name of the group.
    pub(crate) group: Option<String>,
}

/// Opens all sockets, or none.
///
/// # Errors
///
/// What is wrong with the first one that cannot be opened.
pub(crate) fn listen(specs: &[SocketSpec], access: &Access) -> anyhow::Result<Vec<Listening>> {
    let mut passed = Passed::from_environment();
    let mut listening = Vec::new();
    for spec in specs {
        match spec {
            SocketSpec::Inet { host, port } => {
                listening.push(tcp(host, *port, false).with_context(|| format!("cannot listen on {spec}"))?)
            }
            SocketSpec::Inet6 { host, port } => {
                listening.push(tcp(host, *port, true).with_context(|| format!("cannot listen on {spec}"))?)
            }
            SocketSpec::Unix(path) => listening.push(unix(path, access).with_context(|| format!("cannot listen on {spec}"))?),
            SocketSpec::Fd(name) => {
                listening.extend(passed.take(name.as_deref()).with_context(|| format!("cannot listen on {spec}"))?)
            }
        }
    }
    Ok(listening)
}

fn tcp(host: &str, port: u16, only_v6: bool) -> anyhow::Result<Listening> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.filter(|address| address.is_ipv6() || !only_v6).collect();
    let mut failure = None;
    // A name may have addresses that this host does not.
    for address in addresses {
        match bind_tcp(address) {
            Ok(listener) => {
                let name = format!("inet:{}", listener.local_addr()?);
                return Ok(Listening { listener: Listener::Tcp(listener), name, file: None });
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => bail!("{host} has no address"),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unix(path: &Path, access: &Access) -> anyhow::Result<Listening> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    // Before `listen`, so that nobody can connect whom mode or group keep out.
    if let Some(group) = &access.group {
        let found = Group::from_name(group)?.with_context(|| format!("there is no group '{group}'"))?;
        std::os::unix::fs::chown(path, None, Some(found.gid.as_raw()))
            .with_context(|| format!("cannot give the socket to group '{group}'"))?;
    }
    if let Some(mode) = access.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(Listening { listener: Listener::Unix(socket.into()), name: format!("unix:{}", path.display()), file: Some(file) })
}

/// Removes a socket that nobody listens on any more; anything else in the way stays, and is an error.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        bail!("the file that is there is no socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("another process listens on it"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error).context("cannot find out whether another process listens on it"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The sockets that the service manager passed (`sd_listen_fds(3)`).
struct Passed {
    sockets: ListenFd,
    /// The name of each, as far as they have names.
    names: Vec<String>,
}

impl Passed {
    fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self { sockets: ListenFd::from_env(), names: names.split(':').map(str::to_owned).collect() }
    }

    fn take(&mut self, wanted: Option<&str>) -> anyhow::Result<Vec<Listening>> {
        let mut taken = Vec::new();
        for index in 0..self.sockets.len() {
            let name = self.names.get(index).map_or("", String::as_str);
            if wanted.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let listener = match self.sockets.take_tcp_listener(index) {
                Ok(Some(listener)) => Listener::Tcp(listener),
                Ok(None) => continue,
                // Not TCP, and left where it is.
                Err(_) => match self.sockets.take_unix_listener(index)? {
                    Some(listener) => Listener::Unix(listener),
                    None => continue,
                },
            };
            match &listener {
                Listener::Tcp(listener) => listener.set_nonblocking(true)?,
                Listener::Unix(listener) => listener.set_nonblocking(true)?,
            }
            taken.push(Listening { listener, name: format!("fd:{name}"), file: None });
        }
        if taken.is_empty() {
            bail!("the service manager passed no such socket");
        }
        Ok(taken)
    }
}
