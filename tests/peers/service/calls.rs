//! The system calls of the daemon, and what the unit lets it do.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    os::unix::fs::chown,
    path::Path,
    process::Command,
};

use testkit::{
    daemon::program,
    fields::Field,
    milter_client::{MilterClient, Reply, Socket},
    nameserver::{Behaviour, NameServer},
    root,
    scenario::complete_config,
    scratch::Scratch,
    service_manager::ServiceManager,
    wait_for,
};

use super::{ZONE, run, text};
use spf_milter::dns::zone::Zone;

/// As whom the daemon runs: the user `nobody`, whose group has the same number.
const USER: u32 = 65534;

/// The file system as the unit shows it (`ProtectSystem=strict`, `ProcSubset=pid`,
/// `ProtectProc=invisible`): only one folder can be written.
const MOUNTS: &str = "set -e
folder=$1
shift
mount --make-rprivate /
mount --bind \"$folder\" \"$folder\"
mount -t proc -o subset=pid,hidepid=invisible proc /proc
mount -o remount,bind,ro /
ulimit -c 0
ulimit -n 16384
exec \"$@\"";

/// The words of all settings of a name in the unit, in order.
fn settings(name: &str) -> Vec<String> {
    let unit = fs::read_to_string(root().join("etc/spf-milter.service")).unwrap();
    let values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

/// The system calls of a set, such as `@file-system`, and of the sets in it.
fn calls_of(set: &str, known: &mut BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let Some(name) = set.strip_prefix('@') else { return [set.to_owned()].into() };
    if let Some(calls) = known.get(name) {
        return calls.clone();
    }
    let output = run("systemd-analyze", &["syscall-filter".as_ref(), set.as_ref()]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    let members: Vec<&str> = said
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(!members.is_empty(), "{said}");
    let calls: BTreeSet<String> =
        members.into_iter().flat_map(|member| calls_of(member, known)).collect();
    known.insert(name.to_owned(), calls.clone());
    calls
}

/// The system calls that the unit allows, as systemd.exec(5) describes the lines of its filter.
fn allowed_calls() -> BTreeSet<String> {
    let mut known = BTreeMap::new();
    let mut allowed = calls_of("@default", &mut known);
    for value in settings("SystemCallFilter") {
        let (denies, value) = value.strip_prefix('~').map_or((false, &*value), |rest| (true, rest));
        for set in value.split(' ') {
            let calls = calls_of(set, &mut known);
            if denies {
                // These are always allowed.
                let always = calls_of("@default", &mut known);
                allowed.retain(|call| !calls.contains(call) || always.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    allowed
}

/// A system call that strace saw: its name, and all behind it.
struct Call<'a> {
    name: &'a str,
    rest: &'a str,
}

impl Call<'_> {
    /// The texts in quotes.
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.rest.split('"').skip(1).step_by(2)
    }
}

/// The calls of a trace; the second half of one that was interrupted is left out.
fn calls(trace: &str) -> Vec<Call<'_>> {
    let lines = trace.lines().filter_map(|line| line.trim_start().split_once(' '));
    lines
        .map(|(_, call)| call.trim_start())
        .filter(|call| !call.starts_with(['<', '+', '-']))
        .map(|call| {
            let (name, rest) = call.split_once('(').unwrap_or_else(|| panic!("no call: {call}"));
            Call { name, rest }
        })
        .collect()
}

/// What is wrong with a trace in the eyes of the unit. Files may be written below `writable`.
fn violations(trace: &str, writable: &Path) -> BTreeSet<String> {
    let allowed = allowed_calls();
    let families = settings("RestrictAddressFamilies").join(" ");
    let families: Vec<&str> = families.split(' ').collect();
    let may_write = |path: &str| Path::new(path).starts_with(writable) || path == "/dev/null";
    let mut wrong = BTreeSet::new();
    for call in calls(trace) {
        let mut complain = |why: &str| {
            wrong.insert(format!("{}({}: {why}", call.name, call.rest));
        };
        if !allowed.contains(call.name) {
            complain("forbidden by SystemCallFilter=");
        }
        let first = call.rest.split([',', ')']).next().unwrap();
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        match call.name {
            "socket" | "socketpair" if !families.contains(&first) => {
                complain("forbidden by RestrictAddressFamilies=");
            }
            "open" | "openat" | "creat"
                if writes.iter().any(|flag| call.rest.contains(flag))
                    && !call.texts().all(may_write) =>
            {
                complain("ProtectSystem=strict");
            }
            "bind" if call.rest.contains("sun_path=\"") && !call.texts().all(may_write) => {
                complain("ProtectSystem=strict");
            }
            "unlink" | "unlinkat" | "mkdir" | "mkdirat" | "rmdir" | "rename" | "renameat"
            | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "chmod" | "fchmodat"
            | "mknod" | "mknodat" | "truncate"
                if !call.texts().all(may_write) =>
            {
                complain("ProtectSystem=strict");
            }
            "mmap" | "mprotect" | "pkey_mprotect"
                if call.rest.contains("PROT_WRITE") && call.rest.contains("PROT_EXEC") =>
            {
                complain("MemoryDenyWriteExecute=");
            }
            "chmod" | "fchmod" | "fchmodat" | "mkdir" | "mknod"
                if ["S_ISUID", "S_ISGID", "0266", "0276", "0477"]
                    .iter()
                    .any(|bits| call.rest.contains(bits)) =>
            {
                complain("RestrictSUIDSGID=");
            }
            _ => {}
        }
    }
    wrong
}

#[test]
#[ignore = "needs systemd's programs: make test"]
fn what_the_unit_forbids_is_seen() {
    let folder = Path::new("/run/spf-milter");
    for (line, fits) in [
        ("7 socket(AF_INET6, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 9", true),
        ("7 socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 9", false),
        ("7 clone3({flags=CLONE_VM|CLONE_FS}, 88) = 9", true),
        ("7 mount(\"a\", \"b\") = -1 EPERM", false),
        ("7 sched_setaffinity(0, 8, [0]) = 0", false),
        ("7 prlimit64(0, RLIMIT_NOFILE, NULL, {rlim_cur=1024}) = 0", true),
        ("7 chown(\"/run/spf-milter/s\", -1, 7) = 0", false),
        ("7 openat(AT_FDCWD, \"/etc/spf-milter.conf\", O_RDONLY|O_CLOEXEC) = 9", true),
        ("7 openat(AT_FDCWD, \"/etc/spf-milter.conf\", O_RDWR|O_CLOEXEC) = 9", false),
        ("7 openat(AT_FDCWD, \"/run/spf-milter/s.lock\", O_RDWR|O_CREAT, 0600) = 9", true),
        ("7 bind(9, {sa_family=AF_UNIX, sun_path=\"/run/spf-milter/s\"}, 110) = 0", true),
        ("7 bind(9, {sa_family=AF_UNIX, sun_path=\"/tmp/s\"}, 110 <unfinished ...>", false),
        ("7 <... bind resumed>) = 0", true),
        ("7 mprotect(0x7f, 4096, PROT_READ|PROT_WRITE) = 0", true),
        ("7 mprotect(0x7f, 4096, PROT_READ|PROT_WRITE|PROT_EXEC) = 0", false),
        ("7 +++ exited with 0 +++", true),
    ] {
        let violations = violations(line, folder);
        assert_eq!(violations.is_empty(), fits, "{line}: {violations:?}");
    }
}

/// A message with everything that is verified, from a client whose answers come over TCP.
fn send(socket: &Socket) {
    let mut client = MilterClient::connect_to(socket).unwrap();
    client.connect("mail.good.example", Some("192.0.2.9:25000".parse().unwrap())).unwrap();
    client.helo("mail.good.example").unwrap();
    assert_eq!(client.mail("<amy@good.example>").unwrap(), Reply::Continue);
    let signature =
        " v=1; a=rsa-sha256; d=good.example; s=sel; h=from; bh=AAAA; b=AAAA; c=relaxed/relaxed";
    let fields = [
        Field::new("DKIM-Signature", signature),
        Field::new("From", " amy@good.example"),
        Field::new("Subject", " hello"),
    ];
    let finished = client.message(&fields, &b"hello world\r\n".repeat(10_000)).unwrap();
    let results = finished.fields[0].unfolded();
    assert!(
        results.starts_with("Authentication-Results: ") && results.contains("spf=pass"),
        "{results}"
    );
    client.quit().unwrap();
}

/// Start, reload, errors, mail, log, keep-alives, stop; with the rights and the files that the unit
/// leaves.
#[test]
#[ignore = "needs systemd's programs, strace and root: make test"]
fn the_daemon_does_nothing_that_the_unit_forbids() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    nameserver.behave("_dmarc.good.example", Behaviour { truncate: true, ..Behaviour::default() });
    let (folder, runtime) = (Scratch::new("calls"), Scratch::new("runtime"));
    // strace writes there, too.
    let trace = runtime.write("trace", "");
    chown(&trace, Some(USER), Some(USER)).unwrap();
    chown(runtime.path(), Some(USER), Some(USER)).unwrap();
    let config = |more: &str| {
        let lines = format!(
            "socket = unix:{}/s, inet:127.0.0.1:0, inet6:0@::1\nsocket_mode = 0660\ntrusted_networks =\n\
             header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n{more}",
            runtime.path().display()
        );
        complete_config(&lines, nameserver.address())
    };
    let manager = ServiceManager::new();
    manager.open_to_all();
    let daemon = manager.launch(&config("log_destination = stderr\n"), |command| {
        let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
        let variables: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        // The daemon as the unit starts it; strace is not between this process and the daemon.
        *command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", MOUNTS, "sh"])
            .arg(runtime.path())
            .arg("setpriv")
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
            .args(["strace", "-D", "-f", "-q", "-s", "200", "-e", "signal=none", "-o"])
            .arg(&trace)
            .arg(program())
            .args(arguments)
            .envs(variables)
            .env("WATCHDOG_USEC", "300000");
    });
    manager.wait_for("WATCHDOG=1");
    daemon.sockets.iter().for_each(send);
    assert!(daemon.reload(&config("log_destination = stderr\nmax_lookups = 7\n")));
    assert!(!daemon.reload(&config("log_destination = stderr\nmax_lookups = many\n")));
    // A file of the configuration, and syslog, whether or not it is there.
    let list = folder.write("list", "partner.example\n");
    let more = format!("skip_senders = file:{}\nlog_destination = syslog\n", list.display());
    let silent = config(&more);
    assert!(daemon.reload(&silent));
    daemon.sockets.iter().for_each(send);
    let id = daemon.id();
    let (status, _) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    let end = format!("{id} +++ exited with 0 +++");
    let trace = wait_for("the end of the trace", || {
        let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
        text.lines().any(|line| line.split_whitespace().eq(end.split(' '))).then_some(text)
    });
    let seen: BTreeSet<&str> = calls(&trace).iter().map(|call| call.name).collect();
    for name in ["execve", "socket", "bind", "accept4", "sendto", "openat", "unlink", "clone3"] {
        assert!(seen.contains(name), "{name} is not in {seen:?}");
    }
    let violations = violations(&trace, runtime.path());
    assert!(violations.is_empty(), "{violations:#?}");
}
