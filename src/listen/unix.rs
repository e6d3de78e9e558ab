//! UNIX sockets: their files are made, put in order and removed.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt as _},
    },
    path::Path,
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    fcntl::{AtFlags, Flock, FlockArg, OFlag, open},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, fchmod, umask},
    unistd::{Gid, Group, fchownat, geteuid},
};
use socket2::{Domain, SockAddr, Type};

use super::socket::{BACKLOG, Listener, ListeningSocket, SocketFile};

/// How often, and at which interval, a folder is tried that another daemon makes its socket in.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

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

/// Listens on a UNIX socket whose file has its mode and group from the first moment on.
///
/// # Errors
///
/// The cause, with the folder where that is to blame.
pub(super) fn listen(path: &Path, access: &Access) -> anyhow::Result<ListeningSocket> {
    let group = access.group_id()?;
    check_folder(path)?;
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
    // Before `listen`, so that no user can connect whom the group keeps out. From here on the file
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
    let socket_file = SocketFile::new(path, &metadata);
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
    Ok(ListeningSocket {
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

/// Checks that the folder of a socket is there.
fn check_folder(path: &Path) -> anyhow::Result<()> {
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

/// Names the folder of a socket where it is the cause of a failure.
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

/// Keeps other daemons that start now from removing the socket before it listens. Where the folder
/// cannot be locked, or is locked for long, the start goes on without the lock.
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

/// Removes a socket that no process listens on any more; any other file in its place stays, and is an
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

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, path::PathBuf};

    use nix::errno::Errno;

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
        format!("{:#}", listen(path, &Access::default()).unwrap_err())
    }

    #[test]
    fn mode_and_group_are_set() {
        let folder = folder_for("mode");
        let path = folder.join("s");
        let access = Access { mode: Some(0o620), group: None };
        let listening = listen(&path, &access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        drop(listening);
        assert!(!path.exists());
        let access = Access { mode: None, group: Some("no such group".into()) };
        assert!(
            format!("{:#}", listen(&path, &access).unwrap_err())
                .contains("there is no group 'no such group'")
        );
        assert!(!path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn files_in_the_way() {
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
        let listening = listen(&path, &Access::default()).unwrap();
        // The socket of another process is not removed.
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
            // Only the bind is done.
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
            let listening = listen(&path, &Access { mode: Some(mode), group: None }).unwrap();
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
    fn the_directory_is_named() {
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
}
