//! The milters that are compared, each in the configuration of its documents, with the log on
//! standard error, which nobody reads, or off.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use testkit::{
    bench::{
        floor, machine,
        mta::{HOST, Mta, Socket},
        processes,
    },
    daemon::unit_environment,
    process::Process,
    scratch::{Scratch, target_folder},
};

/// How long a milter may take to start. The first start of rspamd compiles its expressions, which
/// are kept.
const START_LIMIT: Duration = Duration::from_secs(600);

/// A milter, or several in a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// The least work that any milter has; it asks for what ours asks for.
    Floor,
    /// Ours.
    Ours,
    /// The earlier program from crates.io.
    SpfMilter07,
    /// pyspf-milter of Debian.
    Pyspf,
    /// OpenDMARC of Debian, with its own SPF.
    OpenDmarc,
    /// OpenDKIM of Debian.
    OpenDkim,
    /// OpenDKIM, and then OpenDMARC with its own SPF.
    Chain,
    /// rspamd of Debian with the modules for SPF, DKIM and DMARC only.
    Rspamd,
}

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ours => "spf-milter",
            Self::SpfMilter07 => "SPF Milter 0.7",
            Self::Pyspf => "pyspf-milter",
            Self::OpenDmarc => "OpenDMARC (SPF)",
            Self::OpenDkim => "OpenDKIM",
            Self::Chain => "OpenDKIM+OpenDMARC",
            Self::Rspamd => "rspamd",
        }
    }
}

/// The versions of all of them.
pub(crate) fn versions() -> Vec<(String, String)> {
    let earlier = installed("spf-milter-0.7/bin/spf-milter");
    let mut versions =
        vec![("SPF Milter 0.7".into(), machine::output(Command::new(earlier).arg("--version")))];
    versions.extend(machine::installed(&[
        "rspamd",
        "opendkim",
        "libopendkim11",
        "libmilter1.0.1",
        "python3-milter",
        "python3-spf",
        "python3-spf-engine",
    ]));
    versions.extend(machine::unpacked(&installed("moving"), &["pyspf-milter"]));
    let opendmarc = ["opendmarc", "libopendmarc2", "libspf2-2"];
    versions.extend(machine::unpacked(&installed("opendmarc"), &opendmarc));
    versions
}

/// Running milters; killed when dropped.
pub(crate) struct Running {
    peer: Peer,
    /// The first process of each.
    processes: Vec<Process>,
    /// The mark of all of their processes.
    mark: String,
    /// Where they listen, in the order in which they see a message.
    pub(crate) sockets: Vec<Socket>,
    _folder: Scratch,
}

/// What a run needs of the milters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The name server, on port 53 of its address.
    pub(crate) nameserver: SocketAddr,
    /// DKIM and DMARC, too, where it can.
    pub(crate) content: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Workers outlive a main process that is killed alone.
        processes::kill(&self.mark, &self.first());
    }
}

impl Running {
    /// Starts a milter.
    pub(crate) fn start(peer: Peer, setting: Setting) -> io::Result<Self> {
        let folder = Scratch::new("peer");
        let socket = |name: &str| folder.join(name);
        let started: Vec<(Command, PathBuf)> = match peer {
            Peer::Ours => vec![ours(&folder, socket("a"), setting)],
            Peer::Floor => {
                let ours = Self::start(Peer::Ours, setting)?;
                let sockets = ours.sockets.first().map(Mta::connect).transpose()?;
                let negotiated = sockets.map(|mta| mta.negotiated).unwrap_or_default();
                let path = socket("a");
                let mut command = Command::new(env::current_exe()?);
                command.arg(floor::ARGUMENT).arg(&path).args([
                    "127.0.0.1:0".to_owned(),
                    negotiated.actions.to_string(),
                    negotiated.steps.to_string(),
                ]);
                vec![(command, path)]
            }
            Peer::SpfMilter07 => vec![earlier(&folder, socket("a"), setting)],
            Peer::Pyspf => vec![pyspf(&folder, socket("a"), setting)],
            Peer::OpenDmarc => vec![opendmarc(&folder, socket("a"), setting)],
            Peer::OpenDkim => vec![opendkim(&folder, socket("a"), setting)],
            Peer::Chain => vec![
                opendkim(&folder, socket("a"), setting),
                opendmarc(&folder, socket("b"), setting),
            ],
            Peer::Rspamd => vec![rspamd(&folder, socket("a"), setting)],
        };
        let mark = folder.path().display().to_string();
        let mut running =
            Self { peer, processes: Vec::new(), mark, sockets: Vec::new(), _folder: folder };
        for (mut command, path) in started {
            processes::mark(&mut command, &running.mark);
            let mut process = Process::start_unheard(&mut command);
            let socket = Socket::Unix(path);
            if let Err(error) = wait_for_answer(&mut process, &socket) {
                drop(process);
                // Once more, to hear why.
                let mut process = Process::start(&mut command);
                let _ = wait_for_answer(&mut process, &socket);
                let log = process.log.lines().join("\n");
                return Err(io::Error::other(format!(
                    "{} did not start: {error}: {command:?}\n{log}",
                    peer.name()
                )));
            }
            running.processes.push(process);
            running.sockets.push(socket);
        }
        Ok(running)
    }

    /// How its processes ended, if they did.
    pub(crate) fn report(&mut self) -> String {
        let mut text = String::new();
        for process in &mut self.processes {
            let _ = writeln!(text, "ended: {:?}", process.ended());
        }
        text
    }

    fn first(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// CPU time of all of their processes and threads so far; to the nanosecond where there is one process, and
    /// the threads that serve go on.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        match (self.peer, self.processes.as_slice()) {
            (Peer::Floor | Peer::Ours, [process]) => processes::precise_cpu(process.id()),
            _ => processes::cpu(&self.mark, &self.first()),
        }
    }

    /// Memory of all of their processes in KiB.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        processes::memory(&self.mark, &self.first())
    }
}

/// Waits until a milter takes a connection.
fn wait_for_answer(process: &mut Process, socket: &Socket) -> io::Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match Mta::connect(socket).and_then(Mta::quit) {
            Err(_) if Instant::now() <= deadline && process.ended().is_none() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// A program that finds the name server in a resolv.conf that only it sees.
fn with_resolv_conf(folder: &Scratch, setting: Setting, program: &Path) -> Command {
    let path = folder.write("resolv.conf", format!("nameserver {}\n", setting.nameserver.ip()));
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(path).arg(program);
    command
}

/// A program of those that `testkit/bench-peers.sh` puts in place.
fn installed(path: &str) -> PathBuf {
    target_folder().join(path)
}

fn ours(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    let content = if setting.content {
        "header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\n"
    } else {
        ""
    };
    let path = folder.write(
        "spf-milter.conf",
        format!(
            "socket = unix:{}\nlog_destination = stderr\nhostname = {HOST}\nnameservers = {}\nmax_connections = 2000\n{content}",
            socket.display(),
            setting.nameserver,
        ),
    );
    let mut command = Command::new(testkit::daemon::program());
    command.arg("-c").arg(path).envs(unit_environment());
    (command, socket)
}

fn earlier(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    let path = folder.write(
        "spf-milter-0.7.conf",
        format!(
            "socket = unix:{}\nlog_destination = stderr\nhostname = {HOST}\n",
            socket.display()
        ),
    );
    let program = installed("spf-milter-0.7/bin/spf-milter");
    let mut command = with_resolv_conf(folder, setting, &program);
    command.arg("-c").arg(path);
    (command, socket)
}

fn pyspf(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    let path = folder.write(
        "pyspf-milter.conf",
        format!(
            "debugLevel = 1\nHELO_reject = Fail\nMail_From_reject = Fail\nPermError_reject = False\nTempError_Defer = False\n\
             Socket = local:{}\nPidFile = {}\nUserID = root\nInternalHosts = 127.0.0.1\n",
            socket.display(),
            folder.join("pyspf-milter.pid").display(),
        ),
    );
    let program = installed("moving/usr/bin/pyspf-milter");
    let mut command = with_resolv_conf(folder, setting, &program);
    command.arg(path);
    (command, socket)
}

fn opendmarc(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    let root = installed("opendmarc");
    let suffixes = folder.write("suffixes", "com\nexample\n");
    let nobody = folder.write("nobody", "192.0.2.255\n");
    let path = folder.write(
        "opendmarc.conf",
        format!(
            "Socket local:{}\nAuthservID {HOST}\nTrustedAuthservIDs {HOST}\nSyslog no\nSPFIgnoreResults yes\n\
             SPFSelfValidate yes\nPublicSuffixList {}\nIgnoreHosts {}\n",
            socket.display(),
            suffixes.display(),
            nobody.display(),
        ),
    );
    let mut command = with_resolv_conf(folder, setting, &root.join("usr/sbin/opendmarc"));
    command.args(["-f", "-c"]).arg(path);
    let libraries = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
    let libraries: Vec<String> =
        ["usr/lib", &libraries].iter().map(|path| root.join(path).display().to_string()).collect();
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    (command, socket)
}

fn opendkim(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    let path = folder.write(
        "opendkim.conf",
        format!(
            "Socket local:{}\nMode v\nSyslog no\nRequireSafeKeys no\nAuthservID {HOST}\nNameservers {}\n\
             AlwaysAddARHeader yes\n",
            socket.display(),
            setting.nameserver.ip(),
        ),
    );
    let mut command = Command::new("opendkim");
    command.args(["-f", "-x"]).arg(path);
    (command, socket)
}

fn rspamd(folder: &Scratch, socket: PathBuf, setting: Setting) -> (Command, PathBuf) {
    // What is not named here is off: no statistics, no Redis, no rules.
    let compiled = installed("rspamd-compiled");
    let _ = fs::create_dir_all(&compiled);
    let modules = if setting.content { "spf, dkim, dmarc" } else { "spf" };
    let path = folder.write(
        "rspamd.conf",
        format!(
            r#"
options {{
    pidfile = "{folder}/rspamd.pid";
    tempdir = "{folder}";
    dns {{ nameserver = ["{address}:{port}:1"]; timeout = 5s; sockets = 16; }}
    local_addrs = [];
    filters = "{filters}";
    control_socket = "{folder}/control mode=0600";
    hs_cache_dir = "{compiled}";
    dynamic_conf = "{folder}/dynamic";
    history_rows = 1;
}}
logging {{ type = "console"; level = "error"; }}
lua = "$SHAREDIR/rules/rspamd.lua";
worker "rspamd_proxy" {{
    milter = yes;
    bind_socket = "{socket} mode=0666";
    timeout = 120s;
    upstream "local" {{ default = yes; self_scan = yes; }}
    count = 2;
    max_retries = 5;
    discard_on_reject = false;
}}
metric {{
    name = "default";
    actions {{ reject = 1000; add_header = 999; greylist = 998; }}
}}
spf {{ spf_cache_size = 2k; spf_cache_expire = 1d; max_dns_nesting = 10; max_dns_requests = 30; }}
dkim {{ dkim_cache_size = 2k; dkim_cache_expire = 1d; time_jitter = 6h; trusted_only = false; }}
dmarc {{ }}
milter_headers {{
    use = ["authentication-results"];
    skip_local = false;
    authenticated_headers = ["authentication-results"];
    routines {{ authentication-results {{ header = "Authentication-Results"; remove = 0; add_smtp_user = false; }} }}
}}
modules {{ path = "$PLUGINSDIR"; fallback_path = "$SHAREDIR/lua"; }}
"#,
            folder = folder.path().display(),
            compiled = compiled.display(),
            address = setting.nameserver.ip(),
            port = setting.nameserver.port(),
            socket = socket.display(),
            filters = if modules == "spf" { "spf" } else { "spf,dkim" },
        ),
    );
    let mut command = Command::new("rspamd");
    command.args(["-f", "-i", "-u", "_rspamd", "-g", "_rspamd", "-c"]).arg(path);
    for folder in [folder.path(), &compiled] {
        let for_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        let _ = fs::set_permissions(folder, for_all);
    }
    (command, socket)
}
