//! The daemon as a process: sockets, signals, exit codes, notifications, log, and what it asks of
//! MTAs.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::{Daemon, NotStarted, program},
    fields::Field,
    milter_client::{Finished, MilterClient, Options, Reply, Socket, Stream, bits},
    nameserver::{Behaviour, NameServer},
    process::Process,
    scratch::Scratch,
    service_manager::ServiceManager,
    wait_for,
};

const ZONE: &str = "example.com TXT \"v=spf1 ip4:192.0.2.1 -all\"\nmail.example.com TXT \"v=spf1 ip4:192.0.2.1 -all\"";

const CLIENT: &str = "192.0.2.1:25000";

fn nameserver() -> NameServer {
    NameServer::start(Zone::parse(ZONE).unwrap())
}

/// A configuration that asks this name server.
fn config(nameserver: &NameServer, more: &str) -> String {
    format!("nameservers = {}\nhostname = mx.example.org\n{more}\n", nameserver.address())
}

/// Up to MAIL FROM, which must be accepted.
fn begin(client: &mut MilterClient) {
    client.connect("mail.example.com", Some(CLIENT.parse().unwrap())).unwrap();
    client.helo("mail.example.com").unwrap();
    assert_eq!(client.mail("<amy@example.com>").unwrap(), Reply::Continue);
}

fn finish(client: &mut MilterClient) -> Finished {
    client.message(&[Field::new("Subject", " hello")], b"hello\r\n").unwrap()
}

fn serves(socket: &Socket) {
    let mut client = MilterClient::connect_to(socket).unwrap();
    begin(&mut client);
    let finished = finish(&mut client);
    assert_eq!(finished.reply, Reply::Continue);
    assert!(
        finished.fields[0].unfolded().starts_with("Received-SPF: pass "),
        "{:?}",
        finished.fields
    );
}

fn not_started(config: &str) -> NotStarted {
    Daemon::try_start(config).expect_err("the daemon started")
}

//--- Sockets ---

#[test]
fn several_sockets_are_served_and_removed() {
    let (nameserver, folder) = (nameserver(), Scratch::new("sockets"));
    let path = folder.join("s");
    let sockets = format!(
        "socket = inet:127.0.0.1:0, inet6:0@::1, inet:localhost:0, unix:{}",
        path.display()
    );
    let daemon = Daemon::start(&config(&nameserver, &sockets));
    assert_eq!(daemon.sockets.len(), 4);
    for socket in &daemon.sockets {
        if let Socket::Inet(address) = socket {
            assert_ne!(address.port(), 0);
        }
        serves(socket);
    }
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains(" stopped uptime=") && log.contains("s messages=4"), "{log}");
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let (nameserver, folder) = (nameserver(), Scratch::new("stale"));
    let path = folder.join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let mut daemon =
        Daemon::start(&config(&nameserver, &format!("socket = unix:{}", path.display())));
    serves(&daemon.sockets[0]);
    // One that was killed leaves such a socket.
    daemon.signal("KILL");
    daemon.wait();
    assert!(path.exists());
    let next = Daemon::start(&config(&nameserver, &format!("socket = unix:{}", path.display())));
    serves(&next.sockets[0]);
}

#[test]
fn files_that_are_not_stale_sockets_stay() {
    let folder = Scratch::new("in-the-way");
    let path = folder.write("s", "kept");
    let failure = not_started(&format!("socket = unix:{}", path.display()));
    assert_eq!(failure.status.code(), Some(71));
    assert!(failure.output.contains(&format!(
        "cannot listen on unix:{}: the file that is there is not a socket",
        path.display()
    )));
    assert_eq!(fs::read(&path).unwrap(), b"kept");

    let path = folder.join("live");
    let first = Daemon::start(&format!("socket = unix:{}", path.display()));
    let inode = fs::metadata(&path).unwrap().ino();
    let failure = not_started(&format!("socket = unix:{}", path.display()));
    assert_eq!(failure.status.code(), Some(71));
    assert!(failure.output.contains("another process listens on it"), "{}", failure.output);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    MilterClient::connect_to(&first.sockets[0]).unwrap();

    let Socket::Inet(address) = Daemon::start("").sockets[0].clone() else { panic!("not TCP") };
    let occupied = TcpListener::bind(address).unwrap();
    let failure = not_started(&format!(
        "socket = unix:{}, inet:{}",
        folder.join("new").display(),
        occupied.local_addr().unwrap()
    ));
    assert_eq!(failure.status.code(), Some(71));
    assert!(failure.output.contains("cannot listen on inet:127.0.0.1:"), "{}", failure.output);
    assert!(!folder.join("new").exists());
}

#[test]
fn of_two_daemons_that_start_at_once_one_serves() {
    for _ in 0..4 {
        let folder = Scratch::new("race");
        let path = folder.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let config = format!("socket = unix:{}", path.display());
        let started = thread::scope(|scope| {
            let starts: Vec<_> =
                (0..3).map(|_| scope.spawn(|| Daemon::try_start(&config))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        let (serving, failed): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        assert_eq!(serving.len(), 1, "{failed:?}");
        for failure in failed {
            assert_eq!(failure.unwrap_err().status.code(), Some(71));
        }
        MilterClient::connect_to(&Socket::Unix(path)).unwrap();
    }
}

#[test]
fn mode_and_group_of_a_socket() {
    let folder = Scratch::new("mode");
    let group = String::from_utf8(Command::new("id").arg("-gn").output().unwrap().stdout).unwrap();
    let path = folder.join("s");
    let socket = format!("socket = unix:{}", path.display());
    let daemon = Daemon::start(&format!("{socket}\nsocket_mode = 0620\nsocket_group = {group}"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o620);
    drop(daemon);
    fs::remove_file(&path).unwrap();
    let failure = not_started(&format!("{socket}\nsocket_group = no-such-group"));
    assert_eq!(failure.status.code(), Some(78));
    assert!(failure.output.contains("there is no group 'no-such-group'"), "{}", failure.output);
    assert!(!path.exists());
}

#[test]
fn the_socket_of_another_is_left() {
    let folder = Scratch::new("another");
    let path = folder.join("s");
    let daemon = Daemon::start(&format!("socket = unix:{}", path.display()));
    fs::rename(&path, folder.join("moved")).unwrap();
    let _another = UnixListener::bind(&path).unwrap();
    assert_eq!(daemon.stop().0.code(), Some(0));
    assert!(path.exists());
}

/// A daemon that gets two sockets from a service manager; all that it says goes to its stderr.
struct Activated {
    child: Child,
    lines: io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Activated {
    fn start(config: &Path, first: OwnedFd, second: OwnedFd) -> Self {
        let script = "exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=one:two exec \"$0\" -c \"$1\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(program())
            .arg(config)
            .stdin(first)
            .stdout(second)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    fn first_line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sockets_come_from_the_service_manager() {
    let (nameserver, folder) = (nameserver(), Scratch::new("activation"));
    let config = |sockets: &str| {
        folder.write(
            "c",
            config(&nameserver, &format!("log_destination = stderr\nsocket = {sockets}")),
        )
    };
    let pair = || {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let path = folder.join("s");
        let _ = fs::remove_file(&path);
        (
            OwnedFd::from(tcp),
            OwnedFd::from(UnixListener::bind(&path).unwrap()),
            Socket::Inet(address),
            Socket::Unix(path),
        )
    };
    for sockets in ["fd:", "fd:two, fd:one"] {
        let (first, second, tcp, unix) = pair();
        let mut daemon = Activated::start(&config(sockets), first, second);
        let line = daemon.first_line();
        assert!(line.contains("fd:one") && line.contains("fd:two"), "{line}");
        serves(&tcp);
        serves(&unix);
        testkit::process::send_signal(daemon.child.id(), "TERM");
        assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
        // Not ours to remove.
        assert!(folder.join("s").exists());
    }
    let (first, second, ..) = pair();
    let mut daemon = Activated::start(&config("fd:three"), first, second);
    assert!(
        daemon
            .first_line()
            .contains("cannot listen on fd:three: the service manager passed no such socket")
    );
    assert_eq!(daemon.child.wait().unwrap().code(), Some(71));
    // A connection is not a listener.
    let (one, two) = UnixStream::pair().unwrap();
    let mut daemon = Activated::start(&config("fd:"), one.into(), two.into());
    assert!(daemon.first_line().contains("Accept= must be no"));
    assert_eq!(daemon.child.wait().unwrap().code(), Some(71));
    assert_eq!(not_started("socket = fd:").status.code(), Some(71));
}

#[test]
fn a_name_and_its_address_are_one_socket() {
    let first = Daemon::start("");
    let Socket::Inet(address) = first.sockets[0].clone() else { panic!("not TCP") };
    first.stop();
    // The port was free a moment ago; another process that has taken it since makes the start fail, and the test
    // try again.
    let port = address.port();
    let Ok(daemon) =
        Daemon::try_start(&format!("socket = inet:{port}@localhost, inet:127.0.0.1:{port}"))
    else {
        return;
    };
    let at = daemon.sockets.iter().filter(|socket| **socket == Socket::Inet(address)).count();
    assert_eq!(at, 1, "{:?}", daemon.sockets);
    MilterClient::connect_to(&Socket::Inet(address)).unwrap();
}

#[test]
fn a_directory_that_is_missing_is_reported() {
    let folder = Scratch::new("no-directory");
    let failure = not_started(&format!("socket = unix:{}", folder.join("a/s").display()));
    assert_eq!(failure.status.code(), Some(71));
    let expected = format!(
        "cannot listen on unix:{0}/s: the directory {0} does not exist",
        folder.join("a").display()
    );
    assert!(failure.output.contains(&expected), "{}", failure.output);
}

//--- Signals ---

/// A daemon that reads its configuration from a pipe: as long as nothing is written there, it is
/// about to start.
struct Starting {
    process: Process,
    pipe: fs::File,
    _folder: Scratch,
}

impl Starting {
    fn new(command: &[&str]) -> Self {
        let folder = Scratch::new("starting");
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let process = Process::start(Command::new(program()).arg("-c").arg(&path).args(command));
        // Opened as soon as the other end is.
        let pipe = fs::File::options().write(true).open(&path).unwrap();
        Self { process, pipe, _folder: folder }
    }
}

#[test]
fn signals_that_come_before_the_start_do_no_harm() {
    for signals in [["HUP"].as_slice(), &["USR1"], &["USR2"], &["PIPE"], &["HUP", "USR1", "HUP"]] {
        let mut starting = Starting::new(&[]);
        for signal in signals {
            starting.process.signal(signal);
        }
        starting.pipe.write_all(b"socket = inet:127.0.0.1:0\nlog_destination = stderr\n").unwrap();
        drop(starting.pipe);
        assert!(
            starting.process.log.find(|line| line.contains(" started ")).is_some(),
            "{signals:?}"
        );
        starting.process.signal("TERM");
        assert_eq!(starting.process.wait().code(), Some(0));
    }
}

#[test]
fn a_process_that_reads_the_configuration_can_be_stopped() {
    for signal in ["TERM", "INT"] {
        let mut starting = Starting::new(&[]);
        starting.process.signal(signal);
        assert_eq!(starting.process.wait().code(), Some(0));
    }
    // Commands end as programs do that know nothing of signals.
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut starting = Starting::new(&["check-config"]);
        starting.process.signal(signal);
        assert_eq!(starting.process.wait().signal(), Some(number));
    }
}

#[test]
fn other_milters_signal_for_a_reload_works_too() {
    let daemon = Daemon::start("");
    for (signal, lookups) in [("USR1", "5"), ("HUP", "6"), ("USR1", "7")] {
        daemon.write_config(&format!("max_lookups = {lookups}"));
        let mark = daemon.log().mark();
        daemon.signal(signal);
        let line =
            daemon.log().find_after(mark, |line| line.contains("configuration reloaded")).unwrap();
        assert!(line.ends_with("changed=max_lookups"), "{line}");
    }
    for signal in ["USR2", "PIPE"] {
        daemon.signal(signal);
        assert!(daemon.reload("max_lookups = 8") && daemon.reload(""));
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn a_dry_run_is_told() {
    let daemon = Daemon::start("dry_run = yes");
    daemon.wait_for_log(&["started", " dry-run=yes"]);
    daemon.wait_for_log(&["warning: ", ": dry_run: nothing is refused"]);
    let folder = Scratch::new("dry");
    let config = folder.write("c", "socket = inet:127.0.0.1:0\ndry_run = yes\n");
    let output = run(&["-c", config.to_str().unwrap(), "check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("c:2:11: dry_run: nothing is refused"), "{output:?}");
}

#[test]
fn the_log_says_where_it_goes_on() {
    let folder = Scratch::new("moving");
    let daemon = Daemon::start("log_level = info");
    let sure = |config: &str| {
        daemon.write_config(config);
        let mark = daemon.log().mark();
        daemon.signal("HUP");
        daemon.log().find_after(mark, |line| line.contains("configuration reloaded")).unwrap()
    };
    // With a higher level nothing more would come: the last line is written before.
    assert!(sure("log_level = error").ends_with("changed=log_level"));
    assert!(sure("log_level = info").ends_with("changed=log_level"));
    drop(folder);
}

//--- The end ---

fn wait_until_refused(socket: &Socket) {
    wait_for("the end of accepting", || Stream::connect(socket).is_err().then_some(()));
}

#[test]
fn a_message_under_way_is_finished() {
    let (nameserver, folder) = (nameserver(), Scratch::new("drain"));
    let path = folder.join("s");
    for signal in ["TERM", "INT"] {
        let mut daemon =
            Daemon::start(&config(&nameserver, &format!("socket = unix:{}", path.display())));
        let (mut busy, mut idle) = (daemon.client(), daemon.client());
        idle.connect("mail.example.com", Some(CLIENT.parse().unwrap())).unwrap();
        begin(&mut busy);
        daemon.signal(signal);
        wait_until_refused(&daemon.sockets[0]);
        assert!(!path.exists());
        // Between messages, there is nothing to wait for.
        assert_eq!(idle.stream().read(&mut [0]).unwrap(), 0);
        // A reload changes nothing any more.
        daemon.signal("HUP");
        let finished = finish(&mut busy);
        assert_eq!(finished.reply, Reply::Continue);
        assert_eq!(finished.edits.len(), 1);
        assert_eq!(daemon.wait().code(), Some(0));
        let log = daemon.log().to_end();
        assert!(log.contains(" messages=1"), "{log}");
        assert!(!log.contains("reloaded"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let nameserver = nameserver();
    // On a machine that takes ten seconds from one signal to the next, the daemon has ended by itself.
    let log = (0..10).find_map(|_| {
        let mut daemon = Daemon::start(&config(&nameserver, ""));
        let mut busy = daemon.client();
        begin(&mut busy);
        daemon.signal("TERM");
        wait_until_refused(&daemon.sockets[0]);
        daemon.signal("TERM");
        assert_eq!(daemon.wait().code(), Some(0));
        let log = daemon.log().to_end();
        (!log.contains("connections were still in use after")).then_some(log)
    });
    let log = log.expect("a second signal changes nothing");
    assert!(log.contains("ending at once"));
    // The sender was verified, and that is logged.
    assert_eq!(log.matches("identity=mailfrom result=pass action=accept").count(), 1, "{log}");
}

#[test]
fn a_message_that_does_not_end_is_waited_for_in_vain() {
    let nameserver = nameserver();
    let mut daemon = Daemon::start(&config(&nameserver, ""));
    let mut busy = daemon.client();
    begin(&mut busy);
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.log().to_end().contains("1 connections were still in use after 10 seconds"));
}

//--- Exit codes ---

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn exit_codes() {
    let folder = Scratch::new("exit");
    let good = folder.write(
        "good.conf",
        "socket = inet:127.0.0.1:0\nlog_destination = stderr\nmax_lookups = 7\n",
    );
    let bad = folder.write("bad.conf", "sokcet = x\nmax_lookups = many\n");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--no-such-option"]).status.code(), Some(64));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(64));
    for arguments in
        [["-c", bad].as_slice(), &["-c", bad, "check-config"], &["-c", bad, "show-config"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(78));
        let errors = text(&output.stderr);
        assert!(
            errors.contains("bad.conf:1:1")
                && errors.contains("bad.conf:2:15")
                && errors.contains("socket"),
            "{errors}"
        );
        assert!(!errors.contains('^') && output.stdout.is_empty());
    }
    assert_eq!(run(&["-c", "/nowhere/at/all"]).status.code(), Some(78));
    // A value on the command line is part of it.
    let output = run(&["-c", good, "-L", "loud"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).starts_with("--log-level: "));
    assert_eq!(run(&["-c", bad, "-L", "loud"]).status.code(), Some(78));
    // Of an option that is there twice the last counts.
    let twice = [
        "-c",
        bad,
        "-L",
        "loud",
        "-n",
        "-p",
        "x",
        "-c",
        good,
        "-n",
        "-L",
        "debug",
        "-p",
        "fd:",
        "show-config",
    ];
    let output = run(&twice);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("log_level = debug\n")
            && text(&output.stdout).contains("socket = fd:\n")
    );
    for arguments in [["-c", good, "show-config"].as_slice(), &["--help"], &["--version"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(program()).args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{arguments:?}");
        assert!(text(&output.stderr).contains("standard output"));
    }
    let group =
        folder.write("group.conf", "socket = unix:/nowhere/x\nsocket_group = no-such-group\n");
    let output = run(&["-c", group.to_str().unwrap(), "check-config"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains(
            "group.conf:2:16: socket_group: there is no group 'no-such-group' on this host"
        )
    );
    // Without a UNIX socket it does not matter.
    let group =
        folder.write("group.conf", "socket = inet:127.0.0.1:0\nsocket_group = no-such-group\n");
    let output = run(&["-c", group.to_str().unwrap(), "check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("socket_group: has no effect"));
    let output = run(&["-c", good, "check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("valid"));
    for all in [[].as_slice(), &["--all"]] {
        let shown = run(&[["-c", good, "show-config"].as_slice(), all].concat());
        assert_eq!(shown.status.code(), Some(0));
        assert!(text(&shown.stdout).contains("max_lookups = 7\n"));
        let again = folder.write("again.conf", &shown.stdout);
        let again = run(&[["-c", again.to_str().unwrap(), "show-config"].as_slice(), all].concat());
        assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), text(&shown.stdout)));
    }
}

#[test]
fn files_are_looked_at_as_the_service_does() {
    if !is_root() {
        return;
    }
    let folder = Scratch::new("as-user");
    let senders = folder.write("senders", "example.com\n");
    let text_of_config =
        format!("socket = inet:127.0.0.1:0\nskip_senders_file = {}\n", senders.display());
    let config = folder.write("c", text_of_config);
    let check = |user: &str| run(&["-c", config.to_str().unwrap(), "check-config", "--user", user]);
    assert_eq!(check("nobody").status.code(), Some(0));
    fs::set_permissions(&senders, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check("root").status.code(), Some(0));
    let output = check("nobody");
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    assert!(
        said.contains("c:2:21: skip_senders_file: ") && said.contains("Permission denied"),
        "{said}"
    );
    assert!(
        said.contains("the user nobody, as whom the service runs, cannot use the configuration"),
        "{said}"
    );
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check("nobody").status.code(), Some(78));
    assert_eq!(check("no-such-user").status.code(), Some(71));
}

fn is_root() -> bool {
    text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0"
}

#[test]
fn nobody_reads() {
    let folder = Scratch::new("closed");
    let good = folder.write("good.conf", "socket = inet:127.0.0.1:0\n");
    let bad = folder.write("bad.conf", "x\n");
    let closed = || io::pipe().unwrap().1;
    let status = |config: &Path, arguments: &[&str]| -> ExitStatus {
        Command::new(program())
            .arg("-c")
            .arg(config)
            .args(arguments)
            .stdout(closed())
            .stderr(closed())
            .status()
            .unwrap()
    };
    assert_eq!(status(&good, &["show-config", "--all"]).code(), Some(0));
    assert_eq!(status(&good, &["check-config"]).code(), Some(0));
    assert_eq!(status(&bad, &["check-config"]).code(), Some(78));
    assert_eq!(status(&bad, &[]).code(), Some(78));
    assert_eq!(status(&good, &["-p", "unix:/nowhere/at/all"]).code(), Some(71));
}

#[test]
fn on_a_terminal_errors_show_the_line() {
    let folder = Scratch::new("terminal");
    let bad = folder.write("bad.conf", "socket = inet:127.0.0.1:0\nmax_lookups = many\n");
    let line = format!("{} -c {} check-config", program().display(), bad.display());
    let output =
        Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let output = output.expect("script(1) is missing: it is in the package bsdutils");
    assert_eq!(output.status.code(), Some(78));
    let shown = text(&output.stdout).replace("\r\n", "\n");
    assert!(shown.contains("\n    max_lookups = many\n                  ^\n"), "{shown}");
}

//--- Service manager and log ---

#[test]
fn the_service_manager_is_told() {
    let manager = ServiceManager::new();
    let daemon = manager.start("", None);
    let status = |state, generation, failed| {
        format!(
            "STATUS={state}: connections 0, messages 0, refusals 0, configuration {generation}{failed}\n"
        )
    };
    let failed = " (a reload failed, see the log)";
    assert_eq!(manager.next(), format!("READY=1\n{}", status("serving", 0, "")));
    for (config, generation, before, after) in [
        ("max_lookups = 5", 1, "", ""),
        ("max_lookups = many", 1, "", failed),
        ("max_lookups = 6", 2, failed, ""),
        ("max_lookups = some", 2, "", failed),
    ] {
        daemon.reload(config);
        let reloading = manager.next();
        let rest = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let (time, rest) = rest.split_once('\n').unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
        let former = if after.is_empty() { generation - 1 } else { generation };
        assert_eq!(rest, status("reloading", former, before));
        assert_eq!(manager.next(), format!("READY=1\n{}", status("serving", generation, after)));
    }
    daemon.stop();
    let status = status("stopping", 2, failed);
    assert_eq!(manager.next(), format!("STOPPING=1\nEXTEND_TIMEOUT_USEC=13000000\n{status}"));
}

/// A service manager without room for more does not stay with the belief that the daemon reloads.
#[test]
fn the_state_is_sent_until_it_is_delivered() {
    let manager = ServiceManager::new();
    let daemon = manager.start("", None);
    // A socket for datagrams has room for ten, or as many as net.unix.max_dgram_qlen says.
    let limit = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    let reloads = limit.trim().parse::<usize>().unwrap() / 2 + 2;
    for _ in 0..reloads {
        assert!(daemon.reload(""));
    }
    let last = format!(
        "READY=1\nSTATUS=serving: connections 0, messages 0, refusals 0, configuration {reloads}\n"
    );
    let before = manager.wait_for(&last);
    assert!(before.len() < 2 * reloads, "{before:?}");
}

#[test]
fn the_status_follows_the_mail() {
    let (nameserver, manager) = (nameserver(), ServiceManager::new());
    let daemon = manager.start(&config(&nameserver, ""), None);
    serves(&daemon.sockets[0]);
    let mut client = daemon.client();
    client.connect("mail.example.com", Some("192.0.2.99:25".parse().unwrap())).unwrap();
    client.helo("mail.example.com").unwrap();
    assert!(matches!(client.mail("<amy@example.com>").unwrap(), Reply::Code(_)));
    // Before the session ends there is no record of it: the refusal is counted at its end.
    client.quit().unwrap();
    manager.wait_for("STATUS=serving: connections 0, messages 1, refusals 1, configuration 0\n");
}

/// Keep-alives go on while name servers are silent and a reload hangs, and there are none without a
/// request.
#[test]
fn keep_alives_depend_on_neither_dns_nor_files() {
    let (nameserver, manager) = (nameserver(), ServiceManager::new());
    nameserver.behave("*", Behaviour { drop: true, ..Behaviour::default() });
    let daemon = manager.start(&config(&nameserver, "verify_helo = no"), Some("300000"));
    manager.wait_for("WATCHDOG=1\n");
    let mut client = daemon.client();
    client.connect("mail.example.com", Some(CLIENT.parse().unwrap())).unwrap();
    client.helo("mail.example.com").unwrap();
    client.send(b'M', b"<amy@example.com>\0").unwrap();
    let path = daemon.folder().join("spf-milter.conf");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    daemon.signal("HUP");
    manager.wait_for("RELOADING=1\n");
    for _ in 0..5 {
        manager.wait_for("WATCHDOG=1\n");
    }
    fs::write(&path, "").unwrap();
    for (limit, pid) in [(None, None), (Some("0"), None), (Some("300000"), Some("1"))] {
        let manager = ServiceManager::new();
        let daemon = manager.launch("", |command| {
            command.envs(limit.map(|limit| ("WATCHDOG_USEC", limit)));
            command.envs(pid.map(|pid| ("WATCHDOG_PID", pid)));
        });
        assert!(manager.next().starts_with("READY=1\n"));
        for _ in 0..10 {
            daemon.reload("");
            assert!(manager.next().starts_with("RELOADING=1\n"));
            assert!(manager.next().starts_with("READY=1\n"));
        }
    }
}

#[test]
fn severities_are_for_the_journal_alone() {
    let plain = Daemon::launch("", |command| {
        command.env("JOURNAL_STREAM", "8:1");
    })
    .unwrap();
    assert!(plain.wait_for_log(&["started"]).starts_with("spf-milter "));
    let folder = Scratch::new("journal");
    let log = folder.write("log", "");
    let config = folder.write("c", "socket = inet:127.0.0.1:0\nlog_destination = stderr\n");
    let metadata = fs::metadata(&log).unwrap();
    let mut command = Command::new(program());
    command
        .arg("-c")
        .arg(config)
        .env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()));
    let mut child =
        command.stderr(fs::File::options().append(true).open(&log).unwrap()).spawn().unwrap();
    wait_for("the first line", || fs::read_to_string(&log).unwrap().ends_with('\n').then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fs::read_to_string(&log).unwrap().starts_with("<6>spf-milter "));
}

#[test]
fn a_log_that_nobody_reads_delays_no_mail() {
    let nameserver = nameserver();
    let folder = Scratch::new("unread");
    let more = "socket = inet:127.0.0.1:0\nlog_destination = stderr\nlog_level = debug";
    let config = folder.write("c", config(&nameserver, more));
    let (reader, writer) = io::pipe().unwrap();
    let mut child = Command::new(program()).arg("-c").arg(config).stderr(writer).spawn().unwrap();
    let mut reader = BufReader::with_capacity(1, reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let socket = Socket::parse(line.trim_end().split_once("socket=").unwrap().1).unwrap();
    let mut client = MilterClient::connect_to(&socket).unwrap();
    let mut messages = |count: usize| {
        for _ in 0..count {
            begin_again(&mut client);
            assert_eq!(finish(&mut client).reply, Reply::Continue);
        }
    };
    // A pipe holds 64 KiB, the queue 4096 lines.
    messages(6000);
    // Now nobody can read it.
    drop(reader);
    messages(100);
    testkit::process::send_signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Another message on a connection, the first one included.
fn begin_again(client: &mut MilterClient) {
    if client.round_trips == 0 {
        client.connect("mail.example.com", Some(CLIENT.parse().unwrap())).unwrap();
        client.helo("mail.example.com").unwrap();
    }
    assert_eq!(client.mail("<amy@example.com>").unwrap(), Reply::Continue);
}

#[test]
fn descriptors_are_raised_to_what_is_allowed() {
    let folder = Scratch::new("limit");
    let config = folder.write("c", "socket = inet:127.0.0.1:0\nlog_destination = stderr\n");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 100; ulimit -Hn 500; exec \"$0\" -c \"$1\""])
        .arg(program())
        .arg(config);
    let process = testkit::process::Process::start(&mut command);
    let warning = process.log.find(|line| line.contains("ulimit -n")).unwrap();
    assert!(warning.contains("for max_connections=1000, 3"), "{warning}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_ascii_whitespace().nth(3), Some("500"));
}

//--- Negotiation ---

const NEVER: u32 = bits::NO_RCPT | bits::NO_DATA | bits::NO_EOH | bits::NO_BODY | bits::NO_UNKNOWN;

#[test]
fn mtas_are_asked_for_what_is_needed() {
    let add = bits::ADD_HEADER | bits::SET_MACRO_LIST;
    let change = add | bits::CHANGE_HEADER;
    let macros = |wanted: &[(u32, &str)]| -> BTreeMap<u32, Vec<String>> {
        wanted
            .iter()
            .map(|(stage, names)| (*stage, names.split(' ').map(str::to_owned).collect()))
            .collect()
    };
    let usual = [(0, "j"), (2, "i auth_authen"), (5, "i")];
    let cases = [
        ("", add, NEVER | bits::NO_HEADER, usual.as_slice()),
        (
            "hostname = mx.example.org\ntrust_authenticated_senders = no",
            add,
            NEVER | bits::NO_HEADER,
            &[(2, "i"), (5, "i")],
        ),
        ("header = Authentication-Results", change, NEVER | bits::NOREPLY_HEADER, &usual),
        (
            "header = Authentication-Results\ndelete_incoming_authentication_results = no",
            add,
            NEVER | bits::NO_HEADER,
            &usual,
        ),
        ("header =", bits::SET_MACRO_LIST, NEVER | bits::NO_HEADER, &usual),
        ("reject_helo_results =", add, NEVER | bits::NO_HEADER | bits::NOREPLY_HELO, &usual),
        ("verify_helo = no", add, NEVER | bits::NO_HEADER | bits::NOREPLY_HELO, &usual),
        (
            "reject_results =",
            add,
            NEVER | bits::NO_HEADER | bits::NOREPLY_HELO | bits::NOREPLY_MAIL,
            &usual,
        ),
        ("trusted_networks =", add, NEVER | bits::NO_HEADER | bits::NOREPLY_CONNECT, &usual),
        (
            "dry_run = yes\nheader = Authentication-Results",
            bits::SET_MACRO_LIST,
            NEVER | bits::NOREPLY_HEADER | bits::NOREPLY_HELO | bits::NOREPLY_MAIL,
            &usual,
        ),
    ];
    let daemon = Daemon::start("");
    for (config, actions, steps, wanted) in cases {
        assert!(daemon.reload(config), "{config}");
        let asked = daemon.client().negotiation;
        assert_eq!((asked.version, asked.actions), (6, actions), "{config}");
        assert_eq!(asked.steps, steps, "{config}: {:x} is not {steps:x}", asked.steps);
        assert_eq!(asked.macros, macros(wanted), "{config}");
    }
}

#[test]
fn old_mtas_are_served() {
    let nameserver = nameserver();
    let daemon =
        Daemon::start(&config(&nameserver, "header = Received-SPF, Authentication-Results"));
    for (version, actions, steps) in
        [(2, 0x3f, 0x7f), (3, 0x3f, 0x1ff), (4, 0x3f, 0x3ff), (6, 0x1ff, 0x1), (2, 0x3f, 0x1)]
    {
        let options = Options { version, actions, steps, ..Options::default() };
        let mut client = MilterClient::with_options(&daemon.sockets[0], options).unwrap();
        assert_eq!(client.negotiation.version, version);
        assert_eq!(client.negotiation.macros.is_empty(), actions & bits::SET_MACRO_LIST == 0);
        begin(&mut client);
        client.rcpt("<bob@example.org>").unwrap();
        let finished = finish(&mut client);
        assert_eq!(finished.reply, Reply::Continue);
        assert_eq!(finished.fields.len(), 3, "{:?}", finished.fields);
    }
    // Where fields cannot be written, that is logged, and error_action decides.
    let options = Options { version: 2, actions: 0x4, steps: 0x7f, ..Options::default() };
    let mut client = MilterClient::with_options(&daemon.sockets[0], options).unwrap();
    begin(&mut client);
    assert_eq!(finish(&mut client).reply, Reply::Tempfail);
    daemon.wait_for_log(&["does not let milters change messages"]);
}

#[test]
fn what_an_mta_allows_is_done_where_the_rest_cannot_be() {
    let nameserver = nameserver();
    let daemon = Daemon::start(&config(
        &nameserver,
        "header = Received-SPF, Authentication-Results\nerror_action = accept\nauthserv_id = us",
    ));
    for missing in [bits::ADD_HEADER, bits::CHANGE_HEADER] {
        let options = Options { actions: bits::ALL_ACTIONS & !missing, ..Options::default() };
        let mut client = MilterClient::with_options(&daemon.sockets[0], options).unwrap();
        begin(&mut client);
        let fields = ["us; spf=pass", "them; spf=pass"]
            .map(|value| Field::new("Authentication-Results", format!(" {value}")));
        let finished = client.message(&fields, b"hello\r\n").unwrap();
        assert_eq!(finished.reply, Reply::Accept);
        let forged = finished
            .fields
            .iter()
            .filter(|field| field.unfolded() == "Authentication-Results: us; spf=pass")
            .count();
        let expected = if missing == bits::ADD_HEADER { (0, 1) } else { (1, 4) };
        assert_eq!((forged, finished.fields.len()), expected, "{:?}", finished.fields);
        client.quit().unwrap();
    }
    let (_, log) = daemon.stop();
    assert_eq!(log.matches("action=fail reason=message-not-changed").count(), 2);
    // Deletions that were made are logged.
    assert_eq!(log.matches("deleted-authentication-results=1").count(), 1, "{log}");
    assert!(
        log.contains("does not let milters add header fields")
            && log.contains("does not let milters delete header fields")
    );
}

#[test]
fn a_connection_carries_many_messages() {
    let nameserver = nameserver();
    let daemon = Daemon::start(&config(&nameserver, "header = Received-SPF"));
    let mut client = daemon.client();
    for _ in 0..300 {
        begin_again(&mut client);
        finish(&mut client);
    }
    let (_, log) = daemon.stop();
    assert!(log.contains(" messages=300"), "{log}");
}

/// Connections that send message after message, without a pause: each message whose sender was
/// answered comes to its end.
#[test]
fn no_message_under_way_is_cut_off() {
    for _ in 0..10 {
        let daemon =
            Daemon::start("hostname = mx.example.org\nverify_helo = no\nnameservers = 127.0.0.1:9");
        let (sent, cut_off, ready) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(31));
        thread::scope(|scope| {
            for _ in 0..30 {
                scope.spawn(|| {
                    let mut client = daemon.client();
                    client
                        .connect("mail.example.com", Some("192.0.2.1:25".parse().unwrap()))
                        .unwrap();
                    client.helo("mail.example.com").unwrap();
                    ready.wait();
                    // A domain that needs no look-up. It ends when the daemon does.
                    while client.mail("<amy@[192.0.2.1]>").is_ok() {
                        match client.message(&[Field::new("Subject", " hello")], b"hello\r\n") {
                            Ok(_) => sent.fetch_add(1, Ordering::Relaxed),
                            Err(_) => cut_off.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                });
            }
            ready.wait();
            wait_for("messages", || (sent.load(Ordering::Relaxed) > 60).then_some(()));
            daemon.signal("TERM");
        });
        assert_eq!(cut_off.load(Ordering::Relaxed), 0);
        let (status, log) = daemon.stop();
        assert!(status.success(), "{log}");
    }
}
