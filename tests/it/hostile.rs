//! Peers that do not behave: none of them stops the daemon, costs it anything for long, or keeps
//! others waiting.

use std::{
    io::{ErrorKind, Read, Write},
    sync::Mutex,
    thread,
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use spf_milter::dns::{RecordType, zone::Zone};
use testkit::{
    daemon::{Daemon, program},
    fields::Field,
    milter_client::{MilterClient, Reply, Socket, Stream},
    nameserver::{Behaviour, NameServer},
    process::Process,
    scratch::Scratch,
    wait_for,
};

const ZONE: &str = r#"
    example.com TXT "v=spf1 ip4:192.0.2.1 -all"
    mail.example.com TXT "v=spf1 ip4:192.0.2.1 -all"
    silent.example.com TXT "v=spf1 -all"
"#;

const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";

/// Memory and descriptors are those of a whole process: these tests run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

struct Scene {
    nameserver: NameServer,
    daemon: Daemon,
}

impl Scene {
    /// A daemon whose name server never answers queries for `silent.example.com`.
    fn new(config: &str) -> Self {
        let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
        nameserver.behave("silent.example.com", Behaviour { drop: true, ..Behaviour::default() });
        let daemon = Daemon::start(&format!(
            "nameservers = {}\nhostname = mx.example.org\ntimeout_secs = 600\ndns_timeout_secs = 600\n{config}\n",
            nameserver.address()
        ));
        let scene = Self { nameserver, daemon };
        // Threads and sockets that are made when they are first needed.
        scene.serves();
        scene
    }

    fn connect(&self) -> Stream {
        Stream::connect(&self.daemon.sockets[0]).unwrap()
    }

    fn serves(&self) {
        let mut client = self.daemon.client();
        message(&mut client);
        client.quit().unwrap();
    }

    /// Waits until there are not more descriptors open than before.
    fn wait_for_descriptors(&self, before: usize) {
        wait_for("descriptors to be closed", || {
            (self.daemon.descriptors() <= before).then_some(())
        });
    }

    /// The number of descriptors with nobody connected.
    fn descriptors_at_rest(&self) -> usize {
        let mut last = usize::MAX;
        wait_for("the last connection to be closed", || {
            let now = self.daemon.descriptors();
            let steady = now == last;
            last = now;
            steady.then_some(now)
        })
    }
}

fn connect(client: &mut MilterClient) {
    client.connect("mail.example.com", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
    client.helo("mail.example.com").unwrap();
}

fn message(client: &mut MilterClient) {
    connect(client);
    assert_eq!(client.mail("<amy@example.com>").unwrap(), Reply::Continue);
    let finished = client.message(&[Field::new("Subject", " hello")], b"hello\r\n").unwrap();
    assert_eq!(finished.reply, Reply::Continue);
    assert!(!finished.edits.is_empty());
}

fn packet(command: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 1).unwrap();
    [&length.to_be_bytes(), [command].as_slice(), content].concat()
}

/// Everything up to the end; that the other side reset the connection is an end as well.
fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            all
        }
        Err(error) => panic!("no end: {error}"),
    }
}

//--- Not a milter session ---

#[test]
fn garbage_ends_its_own_connection_alone() {
    let _alone = ALONE.lock();
    let scene = Scene::new("log_level = debug");
    let before = scene.descriptors_at_rest();
    let mut session = scene.daemon.client();
    connect(&mut session);
    let long = [b"\0\x10\0\x01L".as_slice(), &vec![b'x'; 1 << 20]].concat();
    for (garbage, opened) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), false),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", false),
        (b"EHLO mail.example.com\r\n", false),
        (b"\0\0\0\0O", false),
        (b"\xff\xff\xff\xffO", false),
        (b"\0\0\0\x01Q", false),
        (b"\0\0\0\x09O\0\0\0\x06\0\0\0\0", false),
        (&[0; 5000], false),
        (&[0xff; 5000], false),
        (b"\0\0\0\x0dO\0\0\0\x01\0\0\0\x01\0\0\0\0", false),
        (b"\0\0\0\0H", true),
        (b"\xff\xff\xff\xffB", true),
        (&long, true),
        (b"\0\0\0\x02?x", true),
        (b"\0\0\0\x01H", true),
        (b"\0\0\0\x01C", true),
        (b"\0\0\0\x03Chx", true),
        (b"\0\0\0\x03Ch\0", true),
        (b"\0\0\0\x05Ch\0Z\0", true),
        (
            &[packet(b'C', b"h\0U"), packet(b'M', b"<a>\0"), packet(b'L', b"Subject\0")].concat(),
            true,
        ),
        (&[packet(b'C', b"h\0U"), packet(b'H', b"no end")].concat(), true),
    ] {
        let mut client;
        let mut connection;
        let stream = if opened {
            client = scene.daemon.client();
            client.stream()
        } else {
            connection = scene.connect();
            &mut connection
        };
        // The daemon need not wait for all of it.
        let _ = stream.write_all(garbage);
        let answer = read_to_end(stream);
        assert!(
            answer.is_empty() || garbage[4] == b'C',
            "{:?} {answer:?}",
            &garbage[..garbage.len().min(20)]
        );
    }
    scene.daemon.wait_for_log(&["connection ended: peer does not speak milter"]);
    scene.daemon.wait_for_log(&["connection ended: packet of 0 octets"]);
    scene.daemon.wait_for_log(&["connection ended: unknown command '?'"]);
    scene
        .daemon
        .wait_for_log(&["connection ended: packet without a header field that can be read"]);
    // A session that was there all the time.
    assert_eq!(session.mail("<amy@example.com>").unwrap(), Reply::Continue);
    session.quit().unwrap();
    scene.serves();
    scene.wait_for_descriptors(before);
}

#[test]
fn a_peer_may_leave_at_any_octet() {
    let _alone = ALONE.lock();
    let scene = Scene::new("header = Received-SPF, Authentication-Results");
    let before = scene.descriptors_at_rest();
    let session = [
        OPEN.to_vec(),
        packet(b'D', b"Cj\0mx.example.org\0"),
        packet(b'C', b"mail.example.com\x004\x61\xa8192.0.2.1\0"),
        packet(b'H', b"mail.example.com\0"),
        packet(b'M', b"<amy@example.com>\0"),
        packet(b'L', b"Authentication-Results\0mx.example.org; none\0"),
        packet(b'E', b""),
    ]
    .concat();
    for length in 0..=session.len() {
        scene.connect().write_all(&session[..length]).unwrap();
    }
    scene.serves();
    scene.wait_for_descriptors(before);
}

#[test]
fn macros_can_be_odd() {
    let scene = Scene::new("header = Authentication-Results\ntrusted_networks =");
    let daemon = &scene.daemon;
    for (macros, host) in [
        (b"Cj\0a.example\0".as_slice(), "a.example"),
        (b"C{j}\0b.example\0", "b.example"),
        (b"C{x}\0y\0{j}\0c.example\0odd\0", "c.example"),
        (b"C{j}\0d.example\0cut", "d.example"),
        (b"C{j}\0e.example", ""),
        (b"C", ""),
        (b"?{j}\0x\0", ""),
        (b"C\0\0\0\0", ""),
        (b"", ""),
    ] {
        daemon.reload("header = Received-SPF\ntrusted_networks = 192.0.2.0/24, 198.51.100.1");
        let more = format!("nameservers = {}\nheader = Received-SPF", scene.nameserver.address());
        assert!(daemon.reload(&more));
        let mut client = daemon.client();
        if macros.is_empty() {
            // Nothing that a command must have is missing without a peer that goes.
            client.send(b'D', macros).unwrap();
            assert!(client.receive().is_err());
            continue;
        }
        client.send(b'D', macros).unwrap();
        message(&mut client);
        client.mail("<amy@example.com>").unwrap();
        let finished = client.message(&[], b"").unwrap();
        let field = finished.fields[0].unfolded();
        if host.is_empty() {
            assert!(field.contains("receiver="), "{field}");
        } else {
            assert!(
                field.contains(&format!("receiver={host};"))
                    || field.ends_with(&format!("receiver={host}")),
                "{field}"
            );
        }
    }
}

#[test]
fn fields_can_be_long() {
    let scene = Scene::new("header = Authentication-Results");
    let mut client = scene.daemon.client();
    connect(&mut client);
    client.mail("<amy@example.com>").unwrap();
    let limit = (1 << 20) - 100;
    let ours = [b" mx.example.org; x=y (".as_slice(), &vec![b'x'; limit], b")"].concat();
    let fields = [
        Field::new("X-Long", vec![b'x'; limit]),
        Field::new("Authentication-Results", ours),
        Field::new(&"N".repeat(limit), " x"),
        Field::new("Authentication-Results", " mx.example.org"),
    ];
    let finished = client.message(&fields, b"").unwrap();
    assert_eq!(finished.reply, Reply::Continue);
    assert_eq!(finished.fields.len(), 3, "our own field, and those that were not forged");
    scene.serves();
}

//--- Events out of order ---

/// A packet that is well-formed as a packet.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let content = prop_oneof![
        8 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
    ];
    (prop::sample::select(b"ABCDEHKLMNORTU".as_slice()), content).prop_map(|(command, odd)| {
        let usual: &[u8] = match command {
            b'B' => b"body\r\n",
            b'C' => b"mail.example.com\x004\x61\xa8192.0.2.1\0",
            b'D' => b"M{auth_authen}\0\0i\x004X\0",
            b'H' => b"mail.example.com\0",
            b'L' => b"Authentication-Results\0mx.example.org; none\0",
            b'M' => b"<amy@example.com>\0",
            b'O' => b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff",
            b'R' => b"<bob@example.org>\0",
            b'U' => b"NOOP\0",
            _ => b"",
        };
        packet(command, odd.as_deref().unwrap_or(usual))
    })
}

#[test]
fn events_in_any_order_are_survived() {
    let _alone = ALONE.lock();
    let scene = Scene::new("header = Received-SPF, Authentication-Results");
    let before = scene.descriptors_at_rest();
    let config = Config { failure_persistence: None, ..Config::with_cases(400) };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let walk = runner.run(&prop::collection::vec(any_packet(), 0..25), |packets| {
        let mut stream = scene.connect();
        // It may end before all is sent.
        let _ = stream.write_all(&[OPEN, &packets.concat(), &packet(b'Q', b"")].concat());
        prop_assert!(!read_to_end(&mut stream).is_empty());
        Ok(())
    });
    walk.unwrap();
    scene.serves();
    scene.wait_for_descriptors(before);
    let log = scene.daemon.stop().1;
    assert!(!log.contains("internal error"), "{log}");
}

#[test]
fn another_session_follows_on_the_same_connection() {
    let scene = Scene::new("");
    let mut client = scene.daemon.client();
    let stages: [fn(&mut MilterClient); 6] = [
        |_| (),
        |client| drop(client.connect("mail.example.com", None)),
        connect,
        |client| {
            connect(client);
            client.mail("<amy@example.com>").unwrap();
        },
        |client| {
            connect(client);
            client.mail("<amy@example.com>").unwrap();
            client.abort().unwrap();
        },
        message,
    ];
    for stage in stages {
        stage(&mut client);
        client.quit_for_next().unwrap();
        message(&mut client);
        client.quit_for_next().unwrap();
    }
    let (_, log) = scene.daemon.stop();
    assert!(!log.contains("internal error"), "{log}");
}

#[test]
fn a_connection_serves_many_messages() {
    let scene = Scene::new("");
    let mut client = scene.daemon.client();
    message(&mut client);
    // HELO comes again after STARTTLS, messages are given up, and others follow.
    for _ in 0..3 {
        client.helo("mail.example.com").unwrap();
        client.mail("<amy@example.com>").unwrap();
        client.abort().unwrap();
        client.abort().unwrap();
        assert_eq!(client.mail("<amy@example.com>").unwrap(), Reply::Continue);
        assert_eq!(client.message(&[], b"x").unwrap().edits.len(), 1);
    }
    assert!(matches!(client.mail("<amy@mail.example.com>").unwrap(), Reply::Continue));
    assert_eq!(client.message(&[], b"x").unwrap().edits.len(), 1);
}

#[test]
fn where_nothing_can_be_said_nobody_waits() {
    let scene = Scene::new("trusted_networks =\nreject_results =\nheader = Authentication-Results");
    let mut client = scene.daemon.client();
    let fields: Vec<Field> =
        (0..50).map(|number| Field::new("X-Field", format!(" {number}"))).collect();
    for message in 1..=3 {
        connect(&mut client);
        client.mail("<amy@example.com>").unwrap();
        client.rcpt("<bob@example.org>").unwrap();
        assert_eq!(client.message(&fields, &b"hello\r\n".repeat(20_000)).unwrap().edits.len(), 1);
        client.quit_for_next().unwrap();
        assert_eq!(client.round_trips, message, "the end of the message is all that is waited for");
    }
}

//--- Many ---

#[test]
fn a_flood_of_garbage_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    let scene = Scene::new("max_connections = 200");
    let flood = |rounds: usize| {
        thread::scope(|scope| {
            for lane in 0..8 {
                let scene = &scene;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let mut stream = scene.connect();
                        let garbage = match (lane + round) % 4 {
                            0 => vec![0xa5; 60_000],
                            1 => [OPEN, b"\0\x10\0\0L", &vec![b'x'; 500_000]].concat(),
                            2 => {
                                [OPEN, &packet(b'D', &vec![b'y'; 100_000]), b"\0\0\0\x01?"].concat()
                            }
                            _ => [
                                OPEN,
                                &packet(b'C', &[b'z'; 8000]),
                                &packet(b'L', &vec![b'z'; 900_000]),
                            ]
                            .concat(),
                        };
                        let _ = stream.write_all(&garbage);
                    }
                });
            }
        });
    };
    // The memory that an allocator keeps after the first flood does not grow.
    flood(25);
    scene.serves();
    let descriptors = scene.descriptors_at_rest();
    let before = scene.daemon.memory();
    flood(250);
    scene.serves();
    scene.wait_for_descriptors(descriptors);
    let after = scene.daemon.memory();
    println!(
        "2000 connections with garbage: {before} KiB before, {after} KiB after; {descriptors} descriptors"
    );
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn idle_connections_cost_little_and_hinder_nobody() {
    let _alone = ALONE.lock();
    let scene = Scene::new("max_connections = 1100");
    let descriptors = scene.descriptors_at_rest();
    let before = scene.daemon.memory();
    let idle: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = scene.daemon.client();
            connect(&mut client);
            client
        })
        .collect();
    let during = scene.daemon.memory();
    scene.serves();
    assert!(scene.daemon.descriptors() >= descriptors + 1000);
    println!("1000 idle connections: {before} KiB before, {during} KiB with them");
    assert!(during < before + 64 * 1024, "{before} KiB, then {during} KiB");
    drop(idle);
    scene.wait_for_descriptors(descriptors);
}

#[test]
fn the_dawdling_keep_nobody_waiting() {
    let _alone = ALONE.lock();
    let scene = Scene::new("");
    let before = scene.descriptors_at_rest();
    let mut dawdling = Vec::new();
    for number in 0..500_usize {
        let mut stream = scene.connect();
        match number % 4 {
            0 => {}
            1 => stream.write_all(&OPEN[..number % OPEN.len()]).unwrap(),
            2 => stream.write_all(&[OPEN, b"\0\x0f\0\0L"].concat()).unwrap(),
            _ => {
                let helo = packet(b'H', b"silent.example.com\0");
                let client = packet(b'C', b"mail.example.com\x004\x61\xa8192.0.2.1\0");
                stream.write_all(&[OPEN, &client, &helo].concat()).unwrap();
            }
        }
        dawdling.push(stream);
    }
    // The look-up of all is under way.
    wait_for("a query", || {
        (scene.nameserver.count("silent.example.com", RecordType::Txt) > 0).then_some(())
    });
    // The look-ups of those who dawdle take ten minutes, the client waits a minute for an answer.
    scene.serves();
    drop(dawdling);
    scene.wait_for_descriptors(before);
}

#[test]
fn who_leaves_during_a_look_up_frees_the_place_at_once() {
    for (results, pending) in [("reject_results =", false), ("reject_results =", true), ("", false)]
    {
        let scene = Scene::new(&format!(
            "max_connections = 1\ntrusted_networks =\nlog_level = debug\n{results}"
        ));
        let mut leaving = scene.daemon.client();
        leaving.connect("mail.example.com", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
        // Where the name can be refused, the session waits for its look-ups.
        leaving.send(b'H', b"silent.example.com\0").unwrap();
        if pending {
            // Said ahead, as an MTA does where no answer is given.
            leaving.mail("<amy@example.com>").unwrap();
        }
        wait_for("the query", || {
            (scene.nameserver.count("silent.example.com", RecordType::Txt) > 0).then_some(())
        });
        drop(leaving);
        // The look-up itself takes ten minutes, the client waits a minute for an answer.
        scene.serves();
        // Nothing was wrong with its packets.
        let (_, log) = scene.daemon.stop();
        assert!(!log.contains("cannot be read") && !log.contains("internal error"), "{log}");
    }
}

/// After any wait of the session in which the MTA went, it is as good as before if more is read
/// that was sent ahead.
#[test]
fn an_mta_that_leaves_while_a_name_is_looked_up_does_no_harm() {
    let zone = Zone::parse("bad.example TXT \"v=spf1 -all\"").unwrap();
    let nameserver = NameServer::start(zone);
    let ptr = "1.2.0.192.in-addr.arpa";
    nameserver.behave(ptr, Behaviour { drop: true, ..Behaviour::default() });
    let daemon = Daemon::start(&format!(
        "nameservers = {}\nhostname = mx.example.org\nlog_level = debug\nfail_reply_text = no %{{p}}\n",
        nameserver.address()
    ));
    let mut stream = Stream::connect(&daemon.sockets[0]).unwrap();
    let connect = packet(b'C', b"mail.example.com\x004\x61\xa8192.0.2.1\0");
    stream
        .write_all(
            &[OPEN, &connect, &packet(b'H', b"bad.example\0"), &packet(b'M', b"<a@bad.example>\0")]
                .concat(),
        )
        .unwrap();
    wait_for("the query", || (nameserver.count(ptr, RecordType::Ptr) > 0).then_some(()));
    match &stream {
        Stream::Inet(stream) => stream.shutdown(std::net::Shutdown::Write).unwrap(),
        Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write).unwrap(),
    }
    let _ = read_to_end(&mut stream);
    let (_, log) = daemon.stop();
    assert!(!log.contains("internal error"), "{log}");
}

#[test]
fn more_connections_than_allowed_wait() {
    let folder = Scratch::new("waiting");
    let path = folder.join("s");
    // With two sockets, none keeps the place for itself.
    let scene = Scene::new(&format!(
        "max_connections = 1\nsocket = inet:127.0.0.1:0, unix:{}",
        path.display()
    ));
    for round in 0..3 {
        let mut first = MilterClient::connect_to(&scene.daemon.sockets[round % 2]).unwrap();
        connect(&mut first);
        let sockets = scene.daemon.sockets.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || {
            for socket in sockets.iter().cycle().take(4) {
                let mut stream = Stream::connect(socket).unwrap();
                stream.write_all(OPEN).unwrap();
                sender.send(()).unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
            }
        });
        receiver.recv().unwrap();
        scene.daemon.wait_for_log(&["max_connections=1 reached"]);
        // The one that has the place goes on, the other gets nothing.
        first.mail("<amy@example.com>").unwrap();
        assert!(!waiting.is_finished());
        first.quit().unwrap();
        waiting.join().unwrap();
    }
    // It can be raised in a running daemon.
    let mut first = scene.daemon.client();
    connect(&mut first);
    let sockets = format!("socket = inet:127.0.0.1:0, unix:{}", path.display());
    assert!(scene.daemon.reload(&format!(
        "nameservers = {}\nmax_connections = 2\n{sockets}",
        scene.nameserver.address()
    )));
    scene.serves();
}

#[test]
fn too_few_descriptors_are_survived() {
    let folder = Scratch::new("emfile");
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = format!(
        "nameservers = {}\nhostname = mx.example.org\nsocket = inet:127.0.0.1:0\nlog_destination = stderr\n",
        nameserver.address()
    );
    let config = folder.write("c", config);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" -c \"$1\""]).arg(program()).arg(config);
    let process = Process::start(&mut command);
    let line = process.log.find(|line| line.contains("started")).unwrap();
    let socket = Socket::parse(line.split_once("socket=").unwrap().1).unwrap();
    let mut early = MilterClient::connect_to(&socket).unwrap();
    // Connections do not take what look-ups need.
    let crowd: Vec<_> = (0..150).map(|_| Stream::connect(&socket).unwrap()).collect();
    process.log.find(|line| line.contains("reached, further connections wait")).unwrap();
    message(&mut early);
    assert!(
        !process
            .log
            .lines()
            .iter()
            .any(|line| line.contains("cannot accept") || line.contains("result=temperror"))
    );
    drop(crowd);
    early.quit().unwrap();
    // Nor do look-ups take what others need: they wait for each other.
    nameserver
        .behave("*", Behaviour { latency: Duration::from_millis(100), ..Behaviour::default() });
    let mut busy: Vec<_> = (0..30).map(|_| MilterClient::connect_to(&socket).unwrap()).collect();
    thread::scope(|scope| {
        for (n, client) in busy.iter_mut().enumerate() {
            scope.spawn(move || {
                client
                    .connect("mail.example.com", Some("192.0.2.1:25000".parse().unwrap()))
                    .unwrap();
                client.helo(format!("h{n}.example.com")).unwrap();
                assert_eq!(
                    client.mail(format!("<amy@m{n}.example.com>")).unwrap(),
                    Reply::Continue
                );
                client.abort().unwrap();
            });
        }
    });
    nameserver.behave("*", Behaviour::default());
    assert!(
        !process
            .log
            .lines()
            .iter()
            .any(|line| line.contains("cannot accept") || line.contains("result=temperror"))
    );
    drop(busy);
    // Fewer than there were at the start.
    let fewer = ["--pid", &process.id().to_string(), "--nofile=40"];
    assert!(std::process::Command::new("prlimit").args(fewer).status().unwrap().success());
    let crowd: Vec<_> = (0..60).map(|_| Stream::connect(&socket).unwrap()).collect();
    let trouble = process.log.find(|line| line.contains("cannot accept a connection")).unwrap();
    assert!(trouble.contains("Too many open files"), "{trouble}");
    drop(crowd);
    let mut client = MilterClient::connect_to(&socket).unwrap();
    message(&mut client);
    assert_eq!(process.log.lines().iter().filter(|line| line.contains("cannot accept")).count(), 1);
}

#[test]
fn who_takes_no_answers_hinders_nobody() {
    let _alone = ALONE.lock();
    let folder = Scratch::new("deaf");
    let scene = Scene::new(&format!("socket = unix:{}", folder.join("s").display()));
    let before = scene.descriptors_at_rest();
    let mut deaf = scene.connect();
    deaf.write_all(&[OPEN, &packet(b'C', b"mail.example.com\x004\x61\xa8192.0.2.1\0")].concat())
        .unwrap();
    // Until nothing more is taken either: the answers have filled what holds them.
    if let Stream::Unix(stream) = &deaf {
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    let helo = packet(b'H', b"mail.example.com\0").repeat(1000);
    while deaf.write_all(&helo).is_ok() {}
    scene.serves();
    drop(deaf);
    scene.wait_for_descriptors(before);
}
