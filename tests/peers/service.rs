//! The files for systemd in `etc/`, with systemd and its programs, and the daemon under strace. The
//! host need not run systemd.

mod booted;
mod calls;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::{STARTED, program},
    fields::Field,
    free_address,
    milter_client::{MilterClient, Reply, Socket},
    nameserver::NameServer,
    postfix::Postfix,
    process::Process,
    root,
    scenario::complete_config,
    scratch::Scratch,
    service_manager::ServiceManager,
};

const ZONE: &str = "good.example TXT \"v=spf1 ip4:192.0.2.9 -all\"";

fn nameserver() -> NameServer {
    NameServer::start(Zone::parse(ZONE).unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program of systemd.
fn run(name: &str, arguments: &[&OsStr]) -> Output {
    let output = Command::new(name).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{name}: {error}; `make test` as root installs systemd"))
}

/// A message through the milter at a socket: whether SPF passed.
fn passes(socket: &Socket) -> bool {
    let mut client = MilterClient::connect_to(socket).unwrap();
    client.connect("mail.good.example", Some("192.0.2.9:25000".parse().unwrap())).unwrap();
    client.helo("mail.good.example").unwrap();
    assert_eq!(client.mail("<amy@good.example>").unwrap(), Reply::Continue);
    let finished = client.message(&[Field::new("Subject", " hello")], b"hello\r\n").unwrap();
    finished.fields[0].unfolded().starts_with("Received-SPF: pass ")
}

/// The unit with a program that is here.
fn unit(folder: &Scratch) -> PathBuf {
    let unit = fs::read_to_string(root().join("etc/spf-milter.service")).unwrap();
    let program = program().display().to_string();
    folder.write("spf-milter.service", unit.replace("/usr/sbin/spf-milter", &program))
}

#[test]
#[ignore = "needs systemd's programs: make test"]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = Scratch::new("units");
    let service = unit(&folder);
    let socket = folder.join("spf-milter.socket");
    fs::copy(root().join("etc/spf-milter.socket"), &socket).unwrap();
    for drop_in in [None, Some("names-and-groups.conf")] {
        if let Some(name) = drop_in {
            let path = folder.join("spf-milter.service.d");
            fs::create_dir(&path).unwrap();
            fs::copy(root().join("etc").join(name), path.join(name)).unwrap();
        }
        let arguments =
            [OsStr::new("verify"), OsStr::new("--man=no"), service.as_ref(), socket.as_ref()];
        let output = run("systemd-analyze", &arguments);
        assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
    }
    // What it would say.
    let unit = fs::read_to_string(&service).unwrap();
    fs::write(&service, unit.replace("WatchdogSec=", "WatchdogSecs=")).unwrap();
    let arguments = [OsStr::new("verify"), OsStr::new("--man=no"), service.as_ref()];
    assert!(text(&run("systemd-analyze", &arguments)).contains("WatchdogSecs"));
}

#[test]
#[ignore = "needs systemd's programs: make test"]
fn the_unit_leaves_little_open() {
    let folder = Scratch::new("exposure");
    let service = unit(&folder);
    let output = run(
        "systemd-analyze",
        &[
            OsStr::new("security"),
            OsStr::new("--offline=true"),
            OsStr::new("--threshold=12"),
            service.as_ref(),
        ],
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let page = fs::read_to_string(root().join("docs/service.md")).unwrap();
    let level = said.split("Overall exposure level for spf-milter.service: ").nth(1).unwrap();
    let level = level.split(' ').next().unwrap();
    assert!(page.contains(&format!("gives {level} of 10")), "{level}");
}

#[test]
#[ignore = "needs systemd's programs and root: make test"]
fn the_directory_of_the_socket_comes_only_with_a_queue_directory() {
    const DIRECTORY: &str = "var/spool/postfix/spf-milter";
    let rules = root().join("etc/spf-milter.tmpfiles");
    let host = |groups: &str, directories: &[&str]| {
        let host = Scratch::new("tmpfiles");
        host.write("etc/passwd", "root:x:0:0::/:/bin/sh\nspf-milter:x:901:901::/:/bin/sh\n");
        host.write("etc/group", format!("root:x:0:\nspf-milter:x:901:\n{groups}"));
        directories.iter().for_each(|path| fs::create_dir_all(host.join(path)).unwrap());
        host
    };
    let create = |host: &Scratch| {
        let root = format!("--root={}", host.path().display());
        let arguments = [OsStr::new("--create"), OsStr::new(&root), rules.as_ref()];
        let output = run("systemd-tmpfiles", &arguments);
        assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
    };
    let queue = ["var/spool/postfix/saved", "var/spool/postfix/private"];
    let postfix = "postfix:x:902:\n";
    let with = host(postfix, &queue);
    create(&with);
    let owned = |host: &Scratch| {
        let metadata = fs::metadata(host.join(DIRECTORY)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777)
    };
    assert_eq!(owned(&with), (901, 902, 0o2750));
    assert_eq!(fs::read_dir(with.join(DIRECTORY)).unwrap().count(), 0);
    // A directory that is there keeps what is in it.
    with.write(&format!("{DIRECTORY}/spf-milter.sock"), "");
    fs::set_permissions(with.join(DIRECTORY), fs::Permissions::from_mode(0o755)).unwrap();
    create(&with);
    assert_eq!(owned(&with), (901, 902, 0o2750));
    assert_eq!(fs::read_dir(with.join(DIRECTORY)).unwrap().count(), 1);
    // Without a queue directory, and without Postfix at all.
    for groups in [postfix, ""] {
        let without = host(groups, &["var"]);
        create(&without);
        assert_eq!(fs::read_dir(without.join("var")).unwrap().count(), 0);
    }
}

/// systemd's own program opens the sockets, and starts the daemon when the first client comes.
#[test]
#[ignore = "needs systemd's programs, Postfix and root: make test"]
fn systemd_opens_the_sockets() {
    let nameserver = nameserver();
    let folder = Scratch::new("activation");
    let path = folder.join("s");
    for (names, sockets) in
        [("unix:tcp", "fd:"), ("unix:tcp", "fd:tcp, fd:unix"), ("both:both", "fd:both")]
    {
        let address = free_address();
        let config = format!("log_destination = stderr\nsocket = {sockets}\n");
        let config = folder.write("c", complete_config(&config, nameserver.address()));
        let mut command = Command::new("systemd-socket-activate");
        command.arg("-l").arg(&path).arg("-l").arg(address.to_string());
        command.arg(format!("--fdname={names}")).arg(program()).arg("-c").arg(config);
        let mut activated = Process::start(&mut command);
        activated
            .log
            .find(|line| line.starts_with("Listening on") && line.contains(&address.to_string()))
            .unwrap();
        // The daemon is not there yet, and the client waits for it.
        assert!(!activated.log.lines().iter().any(|line| line.contains(STARTED)));
        assert!(passes(&Socket::Inet(address)));
        let line = activated.log.find(|line| line.contains(STARTED)).unwrap();
        let named: Vec<&str> = line.split_once("socket=").unwrap().1.split(',').collect();
        assert_eq!(named.len(), 2, "{line}");
        assert!(
            named.iter().all(|name| names.split(':').any(|given| *name == format!("fd:{given}")))
        );
        assert!(passes(&Socket::Unix(path.clone())));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let postfix = Postfix::start(&format!(
            "smtpd_milters = {{ unix:{}, default_action=tempfail }}",
            path.display()
        ));
        let mut smtp = postfix.connect(Some("192.0.2.9".parse().unwrap()), None);
        assert_eq!(smtp.command("EHLO mail.good.example").unwrap().code, 250);
        let reply = smtp
            .message("amy@good.example", &["bob@rcpt.example.org"], b"Subject: hello\n\nhello\n")
            .unwrap();
        let delivered = postfix.delivered(&reply);
        assert_eq!(delivered.values("Received-SPF").len(), 1, "{:?}", delivered.fields);
        drop(postfix);
        activated.signal("TERM");
        assert_eq!(activated.wait().code(), Some(0));
        // It is systemd's.
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}

/// The id of a thread of a process, by its name.
fn thread(process: u32, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut paths = tasks.map(|task| task.unwrap().path());
    let is_it = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let path = paths.find(is_it).unwrap_or_else(|| panic!("no thread {name}"));
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A thread is held by strace each time when it is about to wait, so that it serves nothing.
#[test]
#[ignore = "needs strace and root: make test"]
fn a_thread_that_is_stuck_stops_the_keep_alives() {
    // In microseconds.
    const LIMIT: u64 = 600_000;
    let manager = ServiceManager::new();
    let daemon = manager.start("", Some(&LIMIT.to_string()));
    manager.wait_for("WATCHDOG=1");
    let mut strace = Command::new("strace");
    strace.args([
        "-o",
        "/dev/null",
        "-e",
        "inject=epoll_wait,epoll_pwait,epoll_pwait2:delay_enter=600s",
    ]);
    let mut strace = Process::start(strace.arg("-p").arg(thread(daemon.id(), "worker-0")));
    daemon.wait_for_log(&["error: a thread that serves connections has not answered for 200ms"]);
    manager.all();
    // The thread that takes signals is not stuck.
    let begun = Instant::now();
    while begun.elapsed() < 3 * Duration::from_micros(LIMIT) {
        assert!(daemon.reload(""));
        assert!(manager.next().starts_with("RELOADING=1\n"));
        assert!(manager.next().starts_with("READY=1\n"));
    }
    strace.signal("KILL");
    strace.wait();
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
}
