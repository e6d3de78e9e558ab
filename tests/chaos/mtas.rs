//! MTAs that do not do what they should.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use testkit::{
    milter_client::{MilterClient, Socket, Stream},
    nameserver::NameServer,
    wait_for,
};

use super::{
    nameservers::{SICK, good_server},
    rng::Rng,
    sick::{Illness, SickServer},
    stage::{Case, Stage},
    subject::{Subject, Surroundings},
    witness::{Manner, Testimony, Witness, config, warm_up},
};

const PROMISE: &str = "its own connection may end, and nothing else: others get right answers in time, all that it cost is given back";

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("MTA: garbage", PROMISE, |stage| attack(stage, 400, garbage)).short(),
        Case::new("MTA: wrong lengths", PROMISE, |stage| attack(stage, 400, wrong_lengths)).short(),
        Case::new("MTA: stops half-way", PROMISE, |stage| attack(stage, 600, half_way)).short(),
        Case::new("MTA: events out of order", PROMISE, |stage| attack(stage, 400, out_of_order))
            .short(),
        Case::new("MTA: never reads", PROMISE, never_reads),
        Case::new("MTA: an octet a second", PROMISE, octet_by_octet),
        Case::new(
            "MTA: leaves during look-ups",
            "the look-ups of MTAs that left end: no more queries are sent for them",
            leaves_during_look_ups,
        )
        .short(),
        Case::new(
            "MTA: thousands of connections",
            "those within max_connections are served at once, the others when others leave",
            thousands,
        ),
    ]
}

pub fn packet(command: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 1).unwrap();
    [&length.to_be_bytes(), [command].as_slice(), content].concat()
}

/// The first packet: version 6, all actions, all steps.
pub const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";

pub const CLIENT: &[u8] = b"mail.example\x004\x61\xa8192.0.2.9\0";

/// The packets of a whole session with a message.
pub fn packets(rng: &mut Rng) -> Vec<Vec<u8>> {
    let sender = format!("<x@{:x}.bad.example>\0", rng.next());
    vec![
        OPEN.to_vec(),
        packet(b'D', b"Cj\0mx.example.org\0"),
        packet(b'C', CLIENT),
        packet(b'H', b"mail.example\0"),
        packet(b'D', b"Mi\x004X\0"),
        packet(b'M', sender.as_bytes()),
        packet(b'R', b"<bob@example.org>\0"),
        packet(b'T', b""),
        packet(b'L', b"From\0amy@strict.example\0"),
        packet(b'L', b"Authentication-Results\0a.example; dmarc=pass\0"),
        packet(b'N', b""),
        packet(b'B', b"hello\r\n"),
        packet(b'E', b""),
        packet(b'A', b""),
        packet(b'K', b""),
        packet(b'Q', b""),
    ]
}

pub fn garbage(rng: &mut Rng) -> Vec<u8> {
    let size = [1, 4, 5, 17, 100, 4096, 65_536][rng.below(7)];
    let octets = rng.octets(size);
    // Half of it as if it were a milter session.
    if rng.once_in(2) { [OPEN, &octets].concat() } else { octets }
}

pub fn wrong_lengths(rng: &mut Rng) -> Vec<u8> {
    let mut packets = packets(rng);
    let at = rng.below(packets.len());
    let right = u32::try_from(packets[at].len() - 4).unwrap();
    let wrong = [
        0,
        right - 1,
        right + 1,
        right + 256,
        1 << 20,
        (1 << 20) + 1,
        u32::MAX,
        u32::MAX - 3,
        1 << 31,
    ][rng.below(9)];
    packets[at][..4].copy_from_slice(&wrong.to_be_bytes());
    packets.concat()
}

pub fn half_way(rng: &mut Rng) -> Vec<u8> {
    let mut octets = packets(rng).concat();
    let end = rng.below(octets.len());
    octets.truncate(end);
    octets
}

pub fn out_of_order(rng: &mut Rng) -> Vec<u8> {
    let packets = packets(rng);
    let count = 1 + rng.below(40);
    let some = (0..count).map(|_| packets[rng.below(packets.len())].clone());
    [OPEN.to_vec()].into_iter().chain(some).collect::<Vec<_>>().concat()
}

fn connect(socket: &Socket) -> UnixStream {
    match Stream::connect(socket).unwrap() {
        Stream::Unix(stream) => stream,
        Stream::Inet(_) => unreachable!("the sockets here are UNIX sockets"),
    }
}

struct Scene {
    _good: NameServer,
    sick: SickServer,
    subject: Subject,
    rng: Rng,
}

impl Scene {
    fn new(stage: &mut Stage, more: &str) -> Self {
        Self::start_in(stage, Surroundings::default(), more)
    }

    fn start_in(stage: &mut Stage, surroundings: Surroundings, more: &str) -> Self {
        let good = good_server();
        let sick = SickServer::start(good.address(), &mut stage.rng);
        let subject =
            Subject::start_in(surroundings, &(config('a', &[sick.address()]) + more + "\n"));
        let mut rng = stage.rng.fork();
        warm_up(&subject.socket(), &mut rng);
        stage.before(&subject);
        Self { _good: good, sick, subject, rng }
    }

    fn witness(&mut self) -> Witness {
        Witness::start(&self.subject.socket(), &mut self.rng, Manner::default())
    }

    /// The end: the witness was content, nothing is left.
    fn end(self, stage: &mut Stage, witness: Witness) -> Testimony {
        let testimony = witness.stop();
        stage.after(&self.subject);
        check_log(&self.subject.stop(), &testimony);
        testimony
    }
}

/// Every message that came to its end is in the log.
pub fn check_log(log: &str, testimony: &Testimony) {
    assert!(!log.contains("log lines dropped"), "the log was not quick enough");
    let logged: HashSet<&str> =
        log.split_ascii_whitespace().filter_map(|word| word.strip_prefix("queue-id=")).collect();
    let missing: Vec<&String> =
        testimony.ids.iter().filter(|id| !logged.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "not in the log: {missing:?}");
}

fn beside(testimony: &Testimony) -> String {
    format!("{} messages beside, slowest {} ms", testimony.messages, testimony.slowest.as_millis())
}

/// Connections that each write some octets, read what comes, and leave.
fn attack(stage: &mut Stage, count: usize, make: fn(&mut Rng) -> Vec<u8>) -> String {
    let mut scene = Scene::new(stage, "");
    let witness = scene.witness();
    let (count, answered) = (stage.count(count), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let (mut rng, socket) = (scene.rng.fork(), scene.subject.socket());
            let answered = &answered;
            scope.spawn(move || {
                for _ in 0..count / 4 {
                    let octets = make(&mut rng);
                    let mut stream = connect(&socket);
                    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                    // In pieces that end anywhere; it may have ended before all is sent.
                    let cut = rng.below(octets.len() + 1);
                    let _ = stream.write_all(&octets[..cut]);
                    let _ = stream.write_all(&octets[cut..]);
                    if rng.once_in(2) {
                        let mut buffer = [0; 4096];
                        if stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    witness.wait_for(4);
    let testimony = scene.end(stage, witness);
    format!("{count} connections, {} with an answer; {}", answered.into_inner(), beside(&testimony))
}

fn never_reads(stage: &mut Stage) -> String {
    let mut scene = Scene::new(stage, "");
    let witness = scene.witness();
    let socket = scene.subject.socket();
    let mut deaf: Vec<UnixStream> = (0..20).map(|_| connect(&socket)).collect();
    let mut octets = 0;
    for stream in &mut deaf {
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.write_all(&[OPEN, &packet(b'C', CLIENT)].concat()).unwrap();
        // The end of a message always has an answer.
        let more = packet(b'E', b"").repeat(2000);
        // Until nothing more is taken either: the answers have filled what holds them.
        wait_for("the daemon to take no more", || {
            let is_taken = stream.write_all(&more).is_ok();
            octets += if is_taken { more.len() } else { 0 };
            (!is_taken).then_some(())
        });
    }
    witness.wait_for(20);
    drop(deaf);
    let testimony = scene.end(stage, witness);
    format!("20 connections took {} KiB and read nothing; {}", octets / 1024, beside(&testimony))
}

fn octet_by_octet(stage: &mut Stage) -> String {
    let mut scene = Scene::new(stage, "");
    let witness = scene.witness();
    let socket = scene.subject.socket();
    let mut slow: Vec<(UnixStream, Vec<u8>)> = (0..200)
        .map(|_| {
            let packets = packets(&mut scene.rng);
            // Some have negotiated, some are amid a message.
            let whole = scene.rng.below(packets.len() - 1);
            let mut stream = connect(&socket);
            stream.write_all(&packets[..whole].concat()).unwrap();
            (stream, packets[whole..].concat())
        })
        .collect();
    let mut octets = 0;
    for second in 0..8 {
        let begun = Instant::now();
        for (stream, rest) in &mut slow {
            if let Some(octet) = rest.get(second)
                && stream.write_all(&[*octet]).is_ok()
            {
                octets += 1;
            }
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    drop(slow);
    let testimony = scene.end(stage, witness);
    format!("200 connections with {octets} octets in 8 s; {}", beside(&testimony))
}

fn leaves_during_look_ups(stage: &mut Stage) -> String {
    let good = good_server();
    let sick = SickServer::start(good.address(), &mut stage.rng);
    // A look-up takes 20 seconds, in which a question is sent six times, if nobody ends it.
    let config = config('a', &[sick.address()])
        .replace("timeout_secs = 3\ndns_timeout_secs = 1\n", "dns_timeout_secs = 10\n");
    assert!(config.contains("dns_timeout_secs = 10\n"), "{config}");
    let subject = Subject::start(&config);
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let mut scene = Scene { _good: good, sick, subject, rng };
    let witness = scene.witness();
    scene.sick.catch(Illness::Silent, SICK);
    let (count, socket) = (stage.count(400), scene.subject.socket());
    for _ in 0..count {
        let mut stream = connect(&socket);
        let sender = format!("<x@{:x}.{SICK}>\0", scene.rng.next());
        let begin = [
            OPEN,
            &packet(b'C', CLIENT),
            &packet(b'H', b"mail.example\0"),
            &packet(b'M', sender.as_bytes()),
        ];
        stream.write_all(&begin.concat()).unwrap();
        if scene.rng.once_in(2) {
            // Until its look-up is under way.
            let before = scene.sick.count();
            let begun = Instant::now();
            while scene.sick.count() == before && begun.elapsed() < Duration::from_millis(200) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    // Nobody is left who asked. What waited to be accepted is noticed to be gone first.
    let last = scene.sick.count();
    thread::sleep(Duration::from_secs(1));
    let ended = scene.sick.count();
    // A question would be sent again after 1, 2.5, 10, 11 and 12.5 seconds.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(scene.sick.count(), ended, "queries go on");
    witness.wait_for(4);
    let testimony = scene.end(stage, witness);
    format!(
        "{count} left after {last} queries; {} more in the next second, none after; {}",
        ended - last,
        beside(&testimony)
    )
}

fn thousands(stage: &mut Stage) -> String {
    let surroundings = Surroundings::after("ulimit -n 16000");
    let mut scene = Scene::start_in(stage, surroundings, "max_connections = 5000");
    let witness = scene.witness();
    let socket = scene.subject.socket();
    let crowd: Vec<UnixStream> = (0..4000)
        .map(|number| {
            let mut stream = connect(&socket);
            match number % 3 {
                0 => {}
                1 => stream.write_all(OPEN).unwrap(),
                _ => stream.write_all(&[OPEN, &packet(b'C', CLIENT)].concat()).unwrap(),
            }
            stream
        })
        .collect();
    wait_for("the connections", || (scene.subject.sample().descriptors > 4000).then_some(()));
    witness.wait_for(10);
    let most = scene.subject.sample().memory;
    drop(crowd);
    // More than are served: the others wait, and have their turn.
    let reloaded = config('a', &[scene.sick.address()]) + "max_connections = 20\n";
    assert!(scene.subject.reload(&reloaded));
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..100 {
            let (socket, over, served) = (&socket, &over, &served);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = MilterClient::connect_to(socket).unwrap();
                    client
                        .connect("mail.example", Some("192.0.2.9:25000".parse().unwrap()))
                        .unwrap();
                    client.helo("mail.example").unwrap();
                    client.quit().unwrap();
                    served.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
        thread::sleep(Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
    });
    let testimony = scene.end(stage, witness);
    format!(
        "4000 at a time: {most} KiB; then 100 for 20 places: {} served; {}",
        served.into_inner(),
        beside(&testimony)
    )
}
