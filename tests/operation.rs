//! Starting, reloading and stopping the daemon.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use spf_milter::dns::zone::Zone;
use support::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Reply, Stream},
    nameserver::{Behaviour, NameServer, closed_port},
    scenario::complete_config,
    scratch::Scratch,
    wait_for,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
bad.example TXT "v=spf1 -all"
slow.example TXT "v=spf1 ip4:192.0.2.9 -all"
"#;

fn begin(client: &mut MilterClient) {
    client.connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025)))).unwrap();
    assert_eq!(client.helo("[192.0.2.9]").unwrap(), Reply::Continue);
}

fn finish(client: &mut MilterClient) -> String {
    client.rcpt("<b@rcpt.example.org>").unwrap();
    let finished = client.message(&[Field::new("Subject", " hello")], b"Hello\r\n").unwrap();
    assert!(matches!(finished.reply, Reply::Continue | Reply::Accept), "{finished:?}");
    finished.fields[0].unfolded()
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_storm_of_reloads_loses_and_mixes_nothing() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    // Each configuration signs what it does with its name.
    let config = |name: &str| {
        let lines = format!("hostname = {name}.example.org\nheader = Authentication-Results\nfail_reply_text = {name}\n");
        complete_config(&lines, nameserver.address())
    };
    let daemon = Daemon::start(&config("one"));
    let (done, messages) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut client = daemon.client();
                    begin(&mut client);
                    let Reply::Code(refusal) = client.mail("<a@bad.example>").unwrap() else { panic!("not refused") };
                    let name = refusal.rsplit(' ').next().unwrap().to_owned();
                    assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
                    let expected = format!("Authentication-Results: {name}.example.org; spf=pass smtp.mailfrom=good.example");
                    assert_eq!(finish(&mut client), expected);
                    client.quit().unwrap();
                    messages.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The clients end when this does, also by a panic.
        let _end = SetOnDrop(&done);
        for round in 0..40 {
            match round % 4 {
                0 => assert!(daemon.reload(&config("two"))),
                2 => assert!(daemon.reload(&config("one"))),
                _ => assert!(!daemon.reload("nonsense = yes\n")),
            }
        }
        // From here on nobody waits for an outcome.
        for round in 0..200 {
            daemon.write_config(&["nonsense = yes\n".to_owned(), config("two"), config("one")][round % 3]);
            daemon.signal("HUP");
        }
        let served = messages.load(Ordering::Relaxed);
        wait_for("more messages", || (messages.load(Ordering::Relaxed) > served + 8).then_some(()));
    });
    assert!(daemon.stop().0.success());
}

#[test]
fn a_missing_file_changes_nothing() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = complete_config("hostname = mta.example.org\n", nameserver.address());
    let daemon = Daemon::start(&config);
    fs::remove_file(daemon.folder().join("spf-milter.conf")).unwrap();
    daemon.signal("HUP");
    daemon.wait_for_log(&[support::daemon::RELOAD_FAILED]);
    let mut client = daemon.client();
    begin(&mut client);
    assert!(matches!(client.mail("<a@bad.example>").unwrap(), Reply::Code(_)));
    assert!(daemon.reload(&format!("{config}reject_results =\n")));
}

#[test]
fn a_message_in_flight_is_finished_before_the_end() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let mut daemon = Daemon::start(&complete_config("hostname = mta.example.org\n", nameserver.address()));
    let mut client = daemon.client();
    let idle = daemon.client();
    begin(&mut client);
    assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
    daemon.signal("TERM");
    wait_for("the socket to close", || Stream::connect(&daemon.sockets[0]).is_err().then_some(()));
    assert!(finish(&mut client).starts_with("Received-SPF: pass "));
    let _ = client.quit();
    assert!(daemon.wait().success());
    drop(idle);
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = complete_config("hostname = mta.example.org\n", nameserver.address());
    // A message that never ends is waited for ten seconds, and not at all at a second signal.
    for (signals, at_least, at_most) in [(1, 8, 15), (2, 0, 8)] {
        let mut daemon = Daemon::start(&config);
        let mut client = daemon.client();
        begin(&mut client);
        assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
        let begin = Instant::now();
        daemon.signal("TERM");
        if signals == 2 {
            wait_for("the socket to close", || Stream::connect(&daemon.sockets[0]).is_err().then_some(()));
            daemon.signal("INT");
        }
        daemon.wait();
        let waited = begin.elapsed();
        let bounds = Duration::from_secs(at_least)..Duration::from_secs(at_most);
        assert!(bounds.contains(&waited), "ended after {waited:?} at {signals} signals");
    }
}

#[test]
fn sockets_left_behind_taken_and_given_back() {
    let folder = Scratch::new("sockets");
    let path = folder.join("milter.sock");
    let config = format!("socket = unix:{}\n", path.display());
    // Left behind by a process that is gone.
    drop(UnixListener::bind(&path).unwrap());
    let daemon = Daemon::start(&config);
    // In use.
    let failure = Daemon::try_start(&config).expect_err("two daemons on one socket");
    assert!(!failure.status.success() && failure.output.contains("milter.sock"), "{failure:?}");
    let mut client = daemon.client();
    client.connect("mail.example.com", None).unwrap();
    client.quit().unwrap();
    assert!(daemon.stop().0.success());
    assert!(!path.exists(), "the socket is left behind");
    // No socket at all.
    fs::write(&path, "precious").unwrap();
    let failure = Daemon::try_start(&config).expect_err("a file where the socket belongs");
    assert!(!failure.status.success() && failure.output.contains("milter.sock"), "{failure:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let failure = Daemon::try_start("socket = inet:127.0.0.1:0\nnonsense = yes\n").expect_err("an error in the file");
    assert_eq!(failure.status.code(), Some(78), "{failure:?}");
}

#[test]
fn several_sockets_at_once() {
    let folder = Scratch::new("sockets");
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let path = folder.join("milter.sock");
    let config = format!("hostname = mta.example.org\nsocket = inet:127.0.0.1:0, unix:{}\n", path.display());
    let daemon = Daemon::start(&complete_config(&config, nameserver.address()));
    assert_eq!(daemon.sockets.len(), 2);
    for socket in &daemon.sockets {
        let mut client = MilterClient::connect_to(socket).unwrap();
        begin(&mut client);
        assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
        assert!(finish(&mut client).starts_with("Received-SPF: pass "));
    }
}

#[test]
fn a_name_server_that_is_down_at_the_start_may_come_later() {
    let address = closed_port();
    let daemon = Daemon::start(&complete_config("hostname = mta.example.org\n", address));
    let mut client = daemon.client();
    begin(&mut client);
    let Reply::Code(refusal) = client.mail("<a@good.example>").unwrap() else { panic!("not refused") };
    assert!(refusal.starts_with("451 4.7.24 "), "{refusal}");
    let Ok(nameserver) = NameServer::start_on(address, Zone::parse(ZONE).unwrap()) else { return };
    wait_for("the name server to be asked again", || (client.mail("<a@good.example>").unwrap() == Reply::Continue).then_some(()));
    assert!(nameserver.total() > 0);
}

#[test]
fn slow_name_servers_hold_up_only_who_needs_them() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    nameserver.behave("slow.example", Behaviour { drop: true, ..Behaviour::default() });
    let config = format!("hostname = mta.example.org\nnameservers = {}\ndns_timeout_secs = 30\n", nameserver.address());
    let daemon = Daemon::start(&config);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut client = daemon.client();
            begin(&mut client);
            client.mail("<a@slow.example>").unwrap()
        });
        let mut client = daemon.client();
        begin(&mut client);
        for _ in 0..20 {
            assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
        }
        assert!(!waiting.is_finished());
        // The other one gets its answer as soon as the name server recovers, or at the end of its patience.
        nameserver.behave("slow.example", Behaviour::default());
        assert!(matches!(waiting.join().unwrap(), Reply::Continue | Reply::Code(_)));
    });
}
