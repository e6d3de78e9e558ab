//! Sockets to listen on: made, taken over, put in order and removed.

mod passed;

use std::{
    fs, io,
    net::{SocketAddr, ToSocketAddrs},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, Flock, FlockArg, OFlag, open},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, fchmod, umask},
    unistd::{Gid, Group, fchownat, geteuid},
};
use socket2::{Domain, Protocol, SockAddr, Type};

use passed::Passed;

use crate::config::SocketSpec;

/// Connections that wait to be accepted; the system's own limit may be lower.
const BACKLOG: i32 = 1024;

/// How often a port is asked for that all addresses of a name have free.
const PORT_ATTEMPTS: u32 = 20;

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
    fn group_id(&self) -> anyhow::Result<Option<Gid>> {
        let Some(group) = &self.group else { return Ok(None) };
        let found =
            Group::from_name(group)?.with_context(|| format!("there is no group '{group}'"))?;
        Ok(Some(found.gid))
    }
}

/// Opens all sockets, or none. Also what an administrator should know about them.
///
/// # Errors
///
/// What is wrong with the first one that cannot be opened.
pub(crate) fn listen(
    specs: &[SocketSpec],
    access: &Access,
) -> anyhow::Result<(Vec<Listening>, Vec<String>)> {
    let mut passed = None;
    let mut listening = Vec::new();
    let mut unusual = Vec::new();
    let mut addresses = Vec::new();
    for spec in specs {
        let opened = match spec {
            SocketSpec::Inet { host, port } => resolve(host, *port, false)
                .and_then(|wanted| tcp(&wanted, &mut addresses, &mut unusual)),
            SocketSpec::Inet6 { host, port } => resolve(host, *port, true)
                .and_then(|wanted| tcp(&wanted, &mut addresses, &mut unusual)),
            SocketSpec::Unix(path) => unix(path, access).map(|socket| vec![socket]),
            SocketSpec::Fd(name) => {
                let passed = match &mut passed {
                    Some(passed) => passed,
                    None => passed.insert(Passed::from_environment()?),
                };
                passed.take(name.as_deref())
            }
        };
        listening.extend(opened.with_context(|| format!("cannot listen on {spec}"))?);
    }
    Ok((listening, unusual))
}

/// Where to listen for a host, in the order of the system, each once.
struct Addresses {
    addresses: Vec<SocketAddr>,
    only_v6: bool,
}

fn resolve(host: &str, port: u16, only_v6: bool) -> anyhow::Result<Addresses> {
    let found = (host, port).to_socket_addrs()?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.filter(|address| address.is_ipv6() || !only_v6) {
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

/// Listens on every address: MTAs that are given the same name differ in the one that they take. An
/// address that this host does not have does not matter where it has another one; it is told. Where
/// we listen already, as a name and its address may both be given, is enough.
fn tcp(
    wanted: &Addresses,
    taken: &mut Vec<SocketAddr>,
    unusual: &mut Vec<String>,
) -> anyhow::Result<Vec<Listening>> {
    let mut attempt = 1;
    loop {
        let mut notes = Vec::new();
        match tcp_once(wanted, taken, &mut notes) {
            Ok(opened) => {
                for socket in &opened {
                    if let Listener::Tcp(listener) = &socket.listener {
                        taken.push(listener.local_addr()?);
                    }
                }
                unusual.extend(notes);
                return Ok(opened);
            }
            // The port that the kernel chose for the first address may be in use at another one.
            Err(Trouble::PortOfKernel(_)) if attempt < PORT_ATTEMPTS => attempt += 1,
            Err(Trouble::PortOfKernel(error) | Trouble::Other(error)) => return Err(error),
        }
    }
}

/// Why addresses cannot be listened on.
enum Trouble {
    /// The port that the kernel chose for another address is in use.
    PortOfKernel(anyhow::Error),
    Other(anyhow::Error),
}

fn tcp_once(
    wanted: &Addresses,
    taken: &[SocketAddr],
    notes: &mut Vec<String>,
) -> Result<Vec<Listening>, Trouble> {
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
        let bound = bind_tcp(address, wanted.only_v6)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((address, listener)) => {
                port = Some(address.port());
                opened.push(Listening {
                    listener: Listener::Tcp(listener),
                    name: format!("inet:{address}"),
                    file: None,
                });
            }
            Err(error) if is_absent(&error) => {
                notes.push(format!("cannot listen on inet:{address}: {error}; the other addresses of the name are listened on"));
                absent = absent.or(Some(error));
            }
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && wanted.addresses.iter().any(|wanted| wanted.port() == 0) =>
            {
                return Err(Trouble::PortOfKernel(
                    anyhow::Error::from(error).context(format!("inet:{address}")),
                ));
            }
            Err(error) if wanted.addresses.len() > 1 => {
                return Err(Trouble::Other(
                    anyhow::Error::from(error).context(format!("inet:{address}")),
                ));
            }
            Err(error) => return Err(Trouble::Other(error.into())),
        }
    }
    match absent {
        Some(error) if opened.is_empty() && !is_served => Err(Trouble::Other(error.into())),
        _ => Ok(opened),
    }
}

/// Whether the host does not have the address, or none of its family.
fn is_absent(error: &io::Error) -> bool {
    let family = [Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT].map(|errno| errno as i32);
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error().is_some_and(|errno| family.contains(&errno))
}

fn bind_tcp(address: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
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

fn unix(path: &Path, access: &Access) -> anyhow::Result<Listening> {
    let group = access.group_id()?;
    look_at_folder(path)?;
    let _lock = lock_folder(path);
    remove_stale(path)?;
    let address = SockAddr::unix(path)
        .with_context(|| format!("a path of {} octets is too long", path.as_os_str().len()))?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    match access.mode {
        Some(mode) => bind_with_mode(&socket, &address, mode, own_umask),
        None => socket.bind(&address),
    }
    .map_err(|error| explain_bind(path, error))?;
    // Before `listen`, so that nobody can connect whom the group keeps out. From here on the file
    // is held, not its name, which others may give to something else where they can write to the
    // folder.
    let held = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let file = fs::File::from(held);
    let metadata = file.metadata()?;
    // An access control list of the folder, or a umask that could not be changed, left another
    // mode.
    let mode = access.mode.filter(|mode| metadata.mode() & 0o7777 != *mode);
    let changes_hands = group.is_some() || mode.is_some();
    if !metadata.file_type().is_socket() || changes_hands && metadata.uid() != geteuid().as_raw() {
        bail!("somebody else put another file in its place");
    }
    let socket_file =
        SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
    if let Some(group) = group {
        fchownat(&file, Path::new(""), None, Some(group), AtFlags::AT_EMPTY_PATH)
            .context("cannot give the socket to its group (in a unit of systemd this wants names-and-groups.conf)")?;
    }
    if let Some(mode) = mode {
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(held, fs::Permissions::from_mode(mode))
            .context("cannot set the mode of the socket")?;
    }
    socket.listen(BACKLOG)?;
    Ok(Listening {
        listener: Listener::Unix(socket.into()),
        name: format!("unix:{}", path.display()),
        file: Some(socket_file),
    })
}

/// Gives the thread a umask of its own: otherwise it is that of the process.
fn own_umask() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FS)
}

/// Binds a socket whose file has this mode from its first moment on: a mode that is set later is
/// one that others see before, and one that is set by name may become that of another file. The
/// umask of a thread of its own decides; where it cannot have one, the file has no more than this
/// mode and what the umask leaves.
fn bind_with_mode(
    socket: &socket2::Socket,
    address: &SockAddr,
    mode: u32,
    own_umask: fn() -> nix::Result<()>,
) -> io::Result<()> {
    thread::scope(|scope| {
        let bound = scope.spawn(|| {
            match own_umask() {
                Ok(()) => drop(umask(Mode::from_bits_truncate(!mode & 0o777))),
                // The mode of a socket's descriptor is that of the file that it gets (Linux).
                Err(_) => fchmod(socket, Mode::from_bits_truncate(mode))?,
            }
            socket.bind(address)
        });
        bound.join().unwrap_or_else(|_| Err(io::Error::other("internal error while binding")))
    })
}

/// Says which folder is missing, where that is what is wrong.
fn look_at_folder(path: &Path) -> anyhow::Result<()> {
    let folder = folder(path);
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => bail!("{} is not a directory", folder.display()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("the directory {} does not exist", folder.display())
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot look at the directory {}", folder.display()))
        }
    }
}

/// Says what a socket's folder has to do with a failure.
fn explain_bind(path: &Path, error: io::Error) -> anyhow::Error {
    let folder = folder(path).display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow!("{error}: the user {} may not write to the directory {folder}", geteuid())
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            anyhow!(
                "{error}: so is the directory {folder} (in a unit of systemd it must be in ReadWritePaths=)"
            )
        }
        _ => error.into(),
    }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Keeps other daemons that start now from taking for stale what is about to be listened on.
/// Whoever may not lock the folder, or finds it locked for long, goes on without.
fn lock_folder(path: &Path) -> Option<Flock<fs::File>> {
    let mut file = fs::File::open(folder(path)).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((unlocked, _)) => file = unlocked,
        }
        sleep(LOCK_INTERVAL);
    }
    None
}

/// Removes a socket that nobody listens on any more; anything else in the way stays, and is an
/// error.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        bail!("the file that is there is not a socket");
    }
    // Not waiting: another process that accepts nothing is there all the same.
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => bail!("another process listens on it"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            bail!("another process listens on it")
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(fs::remove_file(path)?)
        }
        Err(error) => Err(error).context("cannot find out whether another process listens on it"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use socket2::SockRef;

    use super::*;

    fn folder_for(name: &str) -> PathBuf {
        let folder = std::env::current_exe()
            .unwrap()
            .with_file_name(format!("listen-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn failure(path: &Path) -> String {
        format!("{:#}", unix(path, &Access::default()).unwrap_err())
    }

    #[test]
    fn mode_and_group_are_set() {
        let folder = folder_for("mode");
        let path = folder.join("s");
        let access = Access { mode: Some(0o620), group: None };
        let listening = unix(&path, &access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        drop(listening);
        assert!(!path.exists());
        let access = Access { mode: None, group: Some("no such group".into()) };
        assert!(
            format!("{:#}", unix(&path, &access).unwrap_err())
                .contains("there is no group 'no such group'")
        );
        assert!(!path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_judged() {
        let folder = folder_for("way");
        let path = folder.join("s");
        fs::write(&path, "kept").unwrap();
        assert_eq!(failure(&path), "the file that is there is not a socket");
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
    fn a_mode_is_there_from_the_first_moment() {
        let folder = folder_for("modes");
        let path = folder.join("s");
        let mode_of =
            |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        for mode in [0o000, 0o600, 0o666, 0o777, 0o622] {
            // Nothing but the bind is done.
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            bind_with_mode(&socket, &SockAddr::unix(&path).unwrap(), mode, own_umask).unwrap();
            assert_eq!(mode_of(&path), mode);
            fs::remove_file(&path).unwrap();
            // Where the umask is that of the process, the mode is never wider.
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            bind_with_mode(&socket, &SockAddr::unix(&path).unwrap(), mode, || Err(Errno::EPERM))
                .unwrap();
            assert_eq!(mode_of(&path) & !mode, 0);
            fs::remove_file(&path).unwrap();
            // In the end it is what it should be, and the umask of the process what it was.
            let before = fs::read_to_string("/proc/self/status").unwrap();
            let umask_of = |status: &str| {
                status.lines().find(|line| line.starts_with("Umask:")).unwrap().to_owned()
            };
            let listening = unix(&path, &Access { mode: Some(mode), group: None }).unwrap();
            assert_eq!(mode_of(&path), mode);
            assert_eq!(
                umask_of(&fs::read_to_string("/proc/self/status").unwrap()),
                umask_of(&before)
            );
            drop(listening);
        }
        // Another file in the socket's place is not touched.
        let victim = folder.join("victim");
        fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert_eq!(failure(&path), "the file that is there is not a socket");
        assert!(mode_of(&victim) != 0o777);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_directory_is_told() {
        let folder = folder_for("missing");
        let missing = folder.join("a/b");
        assert_eq!(
            failure(&missing.join("s")),
            format!("the directory {} does not exist", missing.display())
        );
        fs::write(folder.join("f"), "").unwrap();
        assert_eq!(
            failure(&folder.join("f/s")),
            format!("{} is not a directory", folder.join("f").display())
        );
        let long = folder.join("x".repeat(200));
        assert!(failure(&long).contains("octets is too long"), "{}", failure(&long));
        fs::remove_dir_all(&folder).unwrap();
    }

    fn opened(host: &str, port: u16, only_v6: bool) -> Vec<String> {
        let wanted = resolve(host, port, only_v6).unwrap();
        tcp(&wanted, &mut Vec::new(), &mut Vec::new())
            .unwrap()
            .into_iter()
            .map(|socket| socket.name)
            .collect()
    }

    #[test]
    fn names_and_families() {
        let wanted = resolve("::", 0, true).unwrap();
        let v6 = tcp(&wanted, &mut Vec::new(), &mut Vec::new()).unwrap();
        let Listener::Tcp(listener) = &v6[0].listener else { panic!("not TCP") };
        assert!(SockRef::from(listener).only_v6().unwrap());
        assert!(opened("localhost", 0, false)[0].starts_with("inet:"));
        assert!(resolve("127.0.0.1", 0, true).is_err());
    }

    fn addresses(texts: &[&str]) -> Addresses {
        let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses { only_v6: addresses.len() > 1, addresses }
    }

    #[test]
    fn every_address_of_a_name_is_listened_on() {
        let (mut taken, mut unusual) = (Vec::new(), Vec::new());
        let sockets = tcp(
            &addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]),
            &mut taken,
            &mut unusual,
        )
        .unwrap();
        let ports: Vec<u16> = taken.iter().map(SocketAddr::port).collect();
        assert_eq!((sockets.len(), taken.len()), (3, 3));
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0) && unusual.is_empty());
        for (socket, address) in sockets.iter().zip(&taken) {
            assert_eq!(socket.name, format!("inet:{address}"));
            std::net::TcpStream::connect(address).unwrap();
        }
        // The address itself, given beside the name, is one that we listen on.
        let port = ports[0];
        let again =
            tcp(&addresses(&[&format!("127.0.0.2:{port}")]), &mut taken, &mut unusual).unwrap();
        assert!(again.is_empty() && taken.len() == 3);
        // Somebody else's is an error, which names it.
        let other = std::net::TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
        let _other = std::net::TcpListener::bind(other).unwrap();
        let both = addresses(&[&format!("127.0.0.4:{}", other.port()), &other.to_string()]);
        let error = format!("{:#}", tcp(&both, &mut taken, &mut unusual).unwrap_err());
        assert!(error.starts_with(&format!("inet:{other}: Address already in use")), "{error}");
    }

    #[test]
    fn an_address_that_the_host_lacks_is_told() {
        // 2001:db8::/32 is for documentation (RFC 3849): no host has it, and some have no IPv6 at
        // all.
        for texts in [["127.0.0.1:0", "[2001:db8::1]:0"], ["[2001:db8::1]:0", "127.0.0.1:0"]] {
            let mut unusual = Vec::new();
            let sockets = tcp(&addresses(&texts), &mut Vec::new(), &mut unusual).unwrap();
            assert!(sockets.len() == 1 && sockets[0].name.starts_with("inet:127.0.0.1:"));
            assert!(
                unusual.len() == 1
                    && unusual[0].starts_with("cannot listen on inet:[2001:db8::1]:"),
                "{unusual:?}"
            );
        }
        let mut unusual = Vec::new();
        let error =
            tcp(&addresses(&["[2001:db8::1]:0", "[2001:db8::2]:0"]), &mut Vec::new(), &mut unusual)
                .unwrap_err();
        assert!(is_absent(error.downcast_ref().unwrap()) && unusual.is_empty(), "{error}");
    }
}
