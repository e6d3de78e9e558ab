//! Sockets to listen on: made, taken over, put in order and removed.

use std::{
    fs, io,
    net::{SocketAddr, ToSocketAddrs},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Group,
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use crate::config::SocketSpec;

/// Connections that wait to be accepted; the system's own limit may be lower.
const BACKLOG: i32 = 1024;

/// How often, and at which interval, a folder is tried that another daemon makes its socket in.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

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

impl Access {
    /// Looks whether there is such a group.
    ///
    /// # Errors
    ///
    /// There is none, or that cannot be found out.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.group_id().map(drop)
    }

    fn group_id(&self) -> anyhow::Result<Option<u32>> {
        let Some(group) = &self.group else { return Ok(None) };
        let found = Group::from_name(group)?.with_context(|| format!("there is no group '{group}'"))?;
        Ok(Some(found.gid.as_raw()))
    }
}

/// Opens all sockets, or none.
///
/// # Errors
///
/// What is wrong with the first one that cannot be opened.
pub(crate) fn listen(specs: &[SocketSpec], access: &Access) -> anyhow::Result<Vec<Listening>> {
    let mut passed = None;
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
                let passed = passed.get_or_insert_with(Passed::from_environment);
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
        match bind_tcp(address, only_v6) {
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

fn bind_tcp(address: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unix(path: &Path, access: &Access) -> anyhow::Result<Listening> {
    let _lock = lock_folder(path);
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    // Before `listen`, so that nobody can connect whom mode or group keep out.
    if let Some(group) = access.group_id()? {
        std::os::unix::fs::chown(path, None, Some(group)).context("cannot give the socket to its group")?;
    }
    if let Some(mode) = access.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(Listening { listener: Listener::Unix(socket.into()), name: format!("unix:{}", path.display()), file: Some(file) })
}

/// Keeps other daemons that start now from taking for stale what is about to be listened on. Whoever may not lock the folder, or finds
/// it locked for long, goes on without.
fn lock_folder(path: &Path) -> Option<Flock<fs::File>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = fs::File::open(folder).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((unlocked, _)) => file = unlocked,
        }
        sleep(LOCK_INTERVAL);
    }
    None
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
    // Not waiting: another process that accepts nothing is there all the same.
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => bail!("another process listens on it"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!("another process listens on it"),
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
            let socket = match &listener {
                Listener::Tcp(listener) => SockRef::from(listener),
                Listener::Unix(listener) => SockRef::from(listener),
            };
            if !socket.is_listener()? {
                bail!("the service manager passed a connection, not a socket that listens (Accept= must be no)");
            }
            socket.set_nonblocking(true)?;
            taken.push(Listening { listener, name: format!("fd:{name}"), file: None });
        }
        if taken.is_empty() {
            bail!("the service manager passed no such socket");
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::current_exe().unwrap().with_file_name(format!("listen-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn failure(path: &Path) -> String {
        format!("{:#}", unix(path, &Access::default()).unwrap_err())
    }

    #[test]
    fn mode_and_group_are_set() {
        let folder = folder("mode");
        let path = folder.join("s");
        let access = Access { mode: Some(0o620), group: None };
        let listening = unix(&path, &access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        drop(listening);
        assert!(!path.exists());
        let access = Access { mode: None, group: Some("no such group".into()) };
        assert!(format!("{:#}", unix(&path, &access).unwrap_err()).contains("there is no group 'no such group'"));
        assert!(!path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_judged() {
        let folder = folder("way");
        let path = folder.join("s");
        fs::write(&path, "kept").unwrap();
        assert_eq!(failure(&path), "the file that is there is no socket");
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        fs::remove_file(&path).unwrap();

        // A daemon that accepts nothing any more lives all the same.
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _filling = UnixStream::connect(&path).unwrap();
        assert_eq!(failure(&path), "another process listens on it");
        assert!(path.exists());

        drop(socket);
        let listening = unix(&path, &Access::default()).unwrap();
        // Somebody else's socket is not removed.
        fs::rename(&path, folder.join("moved")).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listening);
        assert!(path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn names_and_families() {
        let v6 = tcp("::", 0, true).unwrap();
        let Listener::Tcp(listener) = &v6.listener else { panic!("not TCP") };
        assert!(SockRef::from(listener).only_v6().unwrap());
        assert!(tcp("localhost", 0, false).unwrap().name.starts_with("inet:"));
        assert!(tcp("127.0.0.1", 0, true).is_err());
    }
}
