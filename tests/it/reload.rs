//! New configurations in a running daemon.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use spf_milter::dns::zone::Zone;
use testkit::{
    PATIENCE,
    daemon::{Daemon, RELOAD_FAILED, RELOADED},
    fields::Field,
    milter_client::{MilterClient, Reply, Socket},
    nameserver::NameServer,
    scratch::Scratch,
    service_manager::ServiceManager,
    wait_for,
};

const ZONE: &str = r#"
    good.example TXT "v=spf1 ip4:192.0.2.1 -all"
    bad.example TXT "v=spf1 -all"
"#;

fn nameserver() -> NameServer {
    NameServer::start(Zone::parse(ZONE).unwrap())
}

/// A configuration that every answer of the daemon identifies.
fn generation(nameserver: &NameServer, name: char) -> String {
    let (code, status, header) = match name {
        'a' => (550, "5.7.23", "Received-SPF, Authentication-Results"),
        _ => (553, "5.7.1", "Authentication-Results"),
    };
    format!(
        "nameservers = {}\nverify_helo = no\nhostname = {name}.example\nfail_reply_code = {code}\nfail_status_code = {status}\n\
         fail_reply_text = generation {name}\nheader = {header}\n",
        nameserver.address()
    )
}

fn connect(socket: &Socket) -> MilterClient {
    let mut client = MilterClient::connect_to(socket).unwrap();
    client.connect("mail.example", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
    client.helo("mail.example").unwrap();
    client
}

/// Sends a message that is refused and one that is not: which generation answered both, and all of
/// both.
fn generation_of(client: &mut MilterClient) -> char {
    let by_reply = match client.mail("<amy@bad.example>").unwrap() {
        Reply::Code(text) if text == "550 5.7.23 generation a" => 'a',
        Reply::Code(text) if text == "553 5.7.1 generation b" => 'b',
        other => panic!("an answer of no generation: {other:?}"),
    };
    client.abort().unwrap();
    assert_eq!(client.mail("<amy@good.example>").unwrap(), Reply::Continue);
    let forged = ["a.example", "b.example"]
        .map(|host| Field::new("Authentication-Results", format!(" {host}; none")));
    let finished = client.message(&forged, b"hello\r\n").unwrap();
    assert_eq!(finished.reply, Reply::Continue);
    let fields: Vec<String> = finished.fields.iter().map(Field::unfolded).collect();
    let expected = match by_reply {
        'a' => [
            "Authentication-Results: a.example;",
            "Received-SPF: pass (a.example:",
            "Authentication-Results: b.example; none",
        ]
        .as_slice(),
        _ => &["Authentication-Results: b.example;", "Authentication-Results: a.example; none"],
    };
    assert_eq!(fields.len(), expected.len(), "{fields:?}");
    for (field, beginning) in fields.iter().zip(expected) {
        assert!(field.starts_with(beginning), "{fields:?}");
    }
    by_reply
}

#[test]
fn a_session_keeps_its_configuration() {
    let nameserver = nameserver();
    let daemon = Daemon::start(&generation(&nameserver, 'a'));
    let mut first = connect(&daemon.sockets[0]);
    assert!(daemon.reload(&generation(&nameserver, 'b')));
    let mut second = connect(&daemon.sockets[0]);
    assert_eq!(generation_of(&mut second), 'b');
    assert_eq!(generation_of(&mut first), 'a');
    // Also another SMTP session on the same connection: what was negotiated holds.
    first.quit_for_next().unwrap();
    first.connect("mail.example", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
    first.helo("mail.example").unwrap();
    assert_eq!(generation_of(&mut first), 'a');
}

#[test]
fn what_changed_is_told() {
    let daemon = Daemon::start("max_lookups = 10\n");
    for (config, changed) in [
        ("max_lookups = 9\ntimeout_secs = 7", "changed=max_lookups,timeout_secs"),
        ("max_lookups = 9\ntimeout_secs = 7", "changed=none"),
        ("timeout_secs = 7\nskip_senders = example.com", "changed=skip_senders,max_lookups"),
    ] {
        let mark = daemon.log().mark();
        assert!(daemon.reload(config));
        let line = daemon.log().find_after(mark, |line| line.contains(RELOADED)).unwrap();
        let names = |text: &str| {
            let mut names: Vec<String> =
                text.split_once("changed=").unwrap().1.split(',').map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(names(&line), names(changed), "{line}");
    }
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let nameserver = nameserver();
    let daemon = Daemon::start(&generation(&nameserver, 'a'));
    let path = daemon.folder().join("spf-milter.conf");
    let mark = daemon.log().mark();
    assert!(!daemon.reload(&(generation(&nameserver, 'b') + "max_lookups = many\nsokcet = x\n")));
    let lines = daemon.log().lines().split_off(mark);
    // Two lines are added before those of the test.
    for (line, word) in [(10, "max_lookups"), (11, "sokcet")] {
        let place = format!("{}:{line}:", path.display());
        assert!(
            lines.iter().any(|line| line.contains(&place) && line.contains(word)),
            "{place} {lines:?}"
        );
    }
    assert_eq!(generation_of(&mut connect(&daemon.sockets[0])), 'a');
    fs::remove_file(&path).unwrap();
    let mark = daemon.log().mark();
    daemon.signal("HUP");
    let line = daemon.log().find_after(mark, |line| line.contains(RELOAD_FAILED)).unwrap();
    assert!(line.ends_with(&path.display().to_string()));
    assert!(daemon.log().lines()[mark..].iter().any(|line| line.contains("No such file")));
    assert_eq!(generation_of(&mut connect(&daemon.sockets[0])), 'a');
    assert!(daemon.reload(&generation(&nameserver, 'b')));
    assert_eq!(generation_of(&mut connect(&daemon.sockets[0])), 'b');
}

#[test]
fn fixed_parameters_are_warned_of_as_long_as_they_differ() {
    let daemon = Daemon::start("");
    let warned = |config: &str| {
        let mark = daemon.log().mark();
        assert!(daemon.reload(config));
        daemon
            .log()
            .lines()
            .split_off(mark)
            .iter()
            .filter(|line| line.contains("socket_mode is only read at start"))
            .count()
    };
    assert_eq!(warned("socket_mode = 0600"), 1);
    assert_eq!(warned("socket_mode = 0600\nmax_lookups = 9"), 1);
    assert_eq!(warned("max_lookups = 9"), 0);
    assert!(
        !daemon
            .log()
            .lines()
            .iter()
            .any(|line| line.contains("changed=") && line.contains("socket_mode"))
    );
}

#[test]
fn options_stay_in_force() {
    let nameserver = nameserver();
    let socket = Scratch::new("options").join("elsewhere");
    let config = format!("log_destination = syslog\nsocket = unix:{}\n", socket.display());
    let options = ["--dry-run", "-l", "stderr", "-p", "inet:127.0.0.1:0", "-L", "info"];
    let daemon = Daemon::launch(&(generation(&nameserver, 'a') + &config), |command| {
        command.args(options);
    })
    .unwrap();
    let check = || {
        let mut client = connect(&daemon.sockets[0]);
        assert_eq!(client.mail("<amy@bad.example>").unwrap(), Reply::Continue);
        assert!(client.message(&[], b"").unwrap().edits.is_empty());
    };
    check();
    let mark = daemon.log().mark();
    assert!(
        daemon.reload(
            &(generation(&nameserver, 'b') + "dry_run = no\nlog_level = error\n" + &config)
        )
    );
    assert!(!daemon.log().lines()[mark..].iter().any(|line| line.contains("only read at start")));
    check();
    daemon.wait_for_log(&["result=fail", "dry-run=yes", "553"]);
}

#[test]
fn the_log_level_is_reloaded() {
    let daemon = Daemon::start("log_level = info");
    let client = || connect(&daemon.sockets[0]);
    let with_debug = |daemon: &Daemon| {
        daemon.log().lines().iter().filter(|line| line.contains("no-domain-name")).count()
    };
    let hello = || {
        let mut client = client();
        client.helo("localhost").unwrap();
        client.send(b'Q', b"").unwrap();
        // The daemon records a session before it ends the connection.
        assert_eq!(client.stream().read(&mut [0]).unwrap(), 0);
    };
    hello();
    assert!(daemon.reload("log_level = debug"));
    assert_eq!(with_debug(&daemon), 0);
    hello();
    daemon.wait_for_log(&["no-domain-name"]);
}

#[test]
fn files_that_are_named_are_read_again() {
    let nameserver = nameserver();
    for (line, changed) in
        [("skip_senders_file = ", "skip_senders_file"), ("skip_senders = file:", "skip_senders")]
    {
        let folder = Scratch::new("senders");
        let senders = folder.write("senders", "other.example\n");
        let config = generation(&nameserver, 'a') + &format!("{line}{}\n", senders.display());
        let daemon = Daemon::start(&config);
        assert!(matches!(
            connect(&daemon.sockets[0]).mail("<amy@bad.example>").unwrap(),
            Reply::Code(_)
        ));
        folder.write("senders", "bad.example\n");
        assert!(daemon.reload(&config));
        daemon.wait_for_log(&[&format!("changed={changed}")]);
        assert_eq!(connect(&daemon.sockets[0]).mail("<amy@bad.example>").unwrap(), Reply::Continue);
        folder.write("senders", "not a sender\n");
        assert!(!daemon.reload(&config));
        daemon.wait_for_log(&[&format!("{}:1:", senders.display())]);
    }
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_hinders_nothing() {
    let (nameserver, manager) = (nameserver(), ServiceManager::new());
    let mut daemon = manager.start(&generation(&nameserver, 'a'), None);
    let path = daemon.folder().join("spf-milter.conf");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    daemon.signal("HUP");
    manager.wait_for("RELOADING=1");
    assert_eq!(generation_of(&mut connect(&daemon.sockets[0])), 'a');
    daemon.wait_for_log(&["cannot be read within 10 seconds"]);
    daemon.wait_for_log(&[RELOAD_FAILED]);
    manager.wait_for("READY=1");
    // Nothing more is read as long as that hangs, which it does no longer once somebody has
    // written.
    let mark = daemon.log().mark();
    daemon.signal("HUP");
    daemon.log().find_after(mark, |line| line.contains("still being read")).unwrap();
    fs::write(&path, "").unwrap();
    fs::remove_file(&path).unwrap();
    testkit::wait_for("a reload", || daemon.reload(&generation(&nameserver, 'b')).then_some(()));
    assert_eq!(generation_of(&mut connect(&daemon.sockets[0])), 'b');
    // And while it hangs.
    manager.all();
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    daemon.signal("HUP");
    manager.wait_for("RELOADING=1");
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    // A reload that is broken off is over, too.
    let mut before = manager.wait_for("STOPPING=1");
    before.retain(|notification| !notification.starts_with("STATUS="));
    assert!(before.len() == 1 && before[0].starts_with("READY=1"), "{before:?}");
}

#[test]
fn a_storm_of_reloads_mixes_and_loses_nothing() {
    const RELOADS: usize = 150;
    const MESSAGES: usize = 600;
    let nameserver = nameserver();
    let daemon = Daemon::start(&generation(&nameserver, 'a'));
    let (seen, messages, over) =
        (Mutex::new(HashMap::new()), AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while !over.load(Ordering::Relaxed) {
            let mut client = connect(&daemon.sockets[0]);
            let first = generation_of(&mut client);
            for _ in 0..4 {
                assert_eq!(generation_of(&mut client), first, "a session of two configurations");
            }
            client.quit().unwrap();
            messages.fetch_add(5, Ordering::Relaxed);
            *seen.lock().unwrap().entry(first).or_insert(0_usize) += 1;
        }
    };
    let storm = || {
        let deadline = Instant::now() + PATIENCE;
        let path = daemon.folder().join("spf-milter.conf");
        let broken = generation(&nameserver, 'b') + "hostname = c.example\n";
        let mut count = 0;
        while count < RELOADS
            || messages.load(Ordering::Relaxed) < MESSAGES
            || seen.lock().unwrap().len() < 2
        {
            assert!(Instant::now() < deadline, "{count} reloads, {seen:?}");
            match count % 4 {
                0 => daemon.write_config(&generation(&nameserver, 'b')),
                1 => daemon.write_config(&broken),
                2 => daemon.write_config(&generation(&nameserver, 'a')),
                _ => fs::remove_file(&path).unwrap(),
            }
            daemon.signal("HUP");
            count += 1;
        }
        count
    };
    let count = thread::scope(|scope| {
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        let storm = scope.spawn(storm).join();
        over.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        storm.unwrap()
    });
    // The last word counts, whatever was being loaded when it came.
    daemon.write_config(&generation(&nameserver, 'b'));
    daemon.signal("HUP");
    wait_for("the last configuration", || {
        (generation_of(&mut connect(&daemon.sockets[0])) == 'b').then_some(())
    });
    let lines = daemon.log().lines();
    let logged = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert!(logged(RELOADED) > 1 && logged(RELOAD_FAILED) > 1);
    let messages = messages.load(Ordering::Relaxed);
    println!(
        "{count} signals, {} reloads, {} refused, {messages} messages: {:?}",
        logged(RELOADED),
        logged(RELOAD_FAILED),
        seen.lock()
    );
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0));
    let counted = log
        .lines()
        .rfind(|line| line.contains(" stopped "))
        .unwrap()
        .split_once("messages=")
        .unwrap()
        .1;
    let last = counted.parse::<usize>().unwrap() - messages;
    assert!((1..100).contains(&last), "{messages} messages sent, {counted} counted");
    assert!(!log.contains("internal error"), "{log}");
}
