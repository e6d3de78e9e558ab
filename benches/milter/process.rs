//! The milters as child processes, and what they take of the machine.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use testkit::{
    bench::{
        floor,
        mta::{HOST, Mta, Negotiated, Socket},
        processes,
    },
    daemon::{program, unit_environment},
};

/// How long a milter may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running milter; killed when dropped.
pub(crate) struct Milter {
    child: Child,
    folder: PathBuf,
    /// Its UNIX socket.
    pub(crate) unix: Socket,
    /// Its TCP socket, where it listens on both.
    pub(crate) tcp: Socket,
}

impl Drop for Milter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Milter {
    /// The daemon.
    pub(crate) fn daemon(nameserver: SocketAddr, extra: &str) -> io::Result<Self> {
        Self::start(|folder, unix, tcp| {
            let config = format!(
                "socket = unix:{}, inet:{tcp}\nlog_destination = stderr\nlog_level = info\nhostname = {HOST}\n\
                 nameservers = {nameserver}\nmax_connections = 2000\n{extra}",
                unix.display()
            );
            let path = folder.join("spf-milter.conf");
            fs::write(&path, config)?;
            let mut command = Command::new(program());
            command.arg("-c").arg(path).envs(unit_environment());
            Ok(command)
        })
    }

    /// The floor, which asks for what the daemon asked for.
    pub(crate) fn floor(daemon: &Self) -> io::Result<Self> {
        let Negotiated { actions, steps } = Mta::connect(&daemon.unix)?.negotiated;
        Self::start(|_, unix, tcp| {
            let mut command = Command::new(env::current_exe()?);
            command.arg(floor::ARGUMENT).arg(unix).args([
                tcp.to_string(),
                actions.to_string(),
                steps.to_string(),
            ]);
            Ok(command)
        })
    }

    /// Another milter of the same kind, on a UNIX socket; it finds the name server in a resolv.conf
    /// that only it sees.
    pub(crate) fn peer(program: &Path, nameserver: SocketAddr) -> io::Result<Self> {
        Self::start(|folder, unix, _| {
            let path = folder.join("spf-milter.conf");
            fs::write(
                &path,
                format!(
                    "socket = unix:{}\nlog_destination = stderr\nlog_level = info\nhostname = {HOST}\n",
                    unix.display()
                ),
            )?;
            let resolv_conf = folder.join("resolv.conf");
            fs::write(&resolv_conf, format!("nameserver {}\n", nameserver.ip()))?;
            let mut command = Command::new("unshare");
            command.args([
                "--mount",
                "sh",
                "-c",
                "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"",
            ]);
            command.arg(resolv_conf).arg(program).arg("-c").arg(path);
            Ok(command)
        })
    }

    fn start(
        command: impl FnOnce(&Path, &Path, SocketAddr) -> io::Result<Command>,
    ) -> io::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            env::temp_dir().join(format!("spf-milter-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let unix = folder.join("milter");
        let tcp = free_port()?;
        // Lines of the log are formatted and written, to where nobody reads them.
        let child = command(&folder, &unix, tcp)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut milter = Self { child, folder, unix: Socket::Unix(unix), tcp: Socket::Tcp(tcp) };
        let deadline = Instant::now() + START_LIMIT;
        while Mta::connect(&milter.unix).is_err() {
            if Instant::now() > deadline || milter.child.try_wait()?.is_some() {
                return Err(io::Error::other("a milter did not start"));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(milter)
    }

    /// CPU time used so far, that of its user's and that of the kernel's, of all threads.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        processes::precise_cpu(self.child.id())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        processes::status(self.child.id(), "VmRSS")
    }
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
