use std::{path::Path, pin::pin, time::Duration};

use indymilter::ProtoOpts;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    clock::Clock,
    connected::{Unfinished, while_connected},
    *,
};
use crate::{
    config::{LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
    observe::Observer,
    runtime::{Runtime, Shared},
    session::Answer,
};

const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";

fn packet(command: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 1).unwrap();
    [&length.to_be_bytes(), [command].as_slice(), content].concat()
}

/// A server of this configuration, what it logs, and what makes it drain.
fn server(config: &str) -> (Arc<Server>, Log, watch::Sender<bool>) {
    server_with_zone(config, "")
}

fn server_with_zone(config: &str, zone: &str) -> (Arc<Server>, Log, watch::Sender<bool>) {
    let text = format!("socket = fd:\nhostname = mx.example.org\n{config}");
    let loaded = load_text(text.as_bytes(), Path::new("test.conf"), &Overrides::default()).unwrap();
    let dns = Dns::from_zone(Arc::new(Zone::parse(zone).unwrap()));
    let log = Log::keep(LogLevel::Debug);
    let (drain, draining) = watch::channel(false);
    let shared = Shared::new(Runtime::new(loaded.config, dns, "mx.example.org".into(), 0));
    (Arc::new(Server { shared, observer: Observer::new(log.clone()), draining }), log, drain)
}

/// Serves a connection as the daemon does: the thread has a task that writes.
async fn serve(socket: Socket, server: Arc<Server>) -> io::Result<()> {
    if !outbox::has_writer() {
        tokio::spawn(write_gathered());
        tokio::task::yield_now().await;
        assert!(outbox::has_writer());
    }
    super::serve(socket, server).await
}

/// Serves a peer that says something and then stays silent; how that ended, and after how many
/// seconds.
async fn serve_one(said: &[u8]) -> (Result<(), String>, u64) {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    peer.write_all(said).await.unwrap();
    let begin = Instant::now();
    let (server, _log, _drain) = server("");
    let result = serve(Socket::Unix(ours), server).await;
    (result.map_err(|error| error.to_string()), begin.elapsed().as_secs())
}

const TOO_SLOW: &str = "peer is too slow to send a packet";

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_left() {
    for said in [b"".as_slice(), b"\0", b"\0\0\0\x0dO\0"] {
        assert_eq!(serve_one(said).await, (Err(TOO_SLOW.into()), 30), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_in_a_packet_is_left() {
    for part in [
        b"\0".as_slice(),
        b"\0\0\0\x09B",
        b"\0\0\0\x09Babc",
        b"\0\0\0\x09Cabc",
        b"\0\x0f\xff\xffLabc",
    ] {
        assert_eq!(serve_one(&[OPEN, part].concat()).await, (Err(TOO_SLOW.into()), 60), "{part:?}");
    }
}

/// One tick before a limit is over the peer may still speak, and has the limit of what follows; one
/// after it has been left.
#[tokio::test(start_paused = true)]
async fn limits_to_the_tick() {
    let (begun, connected) =
        ([OPEN, b"\0\0\0\x05B"].concat(), [OPEN, &packet(b'C', b"h\0U")].concat());
    for (said, limit, further) in
        [(b"".as_slice(), 30, OPEN), (&begun, 60, b"abcd"), (&connected, 7210, b"\0\0\0\x01A")]
    {
        for (pause, is_heard) in [(limit * 1000 - 1, true), (limit * 1000 + 1, false)] {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            peer.write_all(said).await.unwrap();
            let talk = async {
                sleep(Duration::from_millis(pause)).await;
                let _ = peer.write_all(further).await;
                std::future::pending::<()>().await;
            };
            let start = Instant::now();
            let (server, _log, _drain) = server("");
            let serve = serve(Socket::Unix(ours), server);
            let result = tokio::select! { result = serve => result, () = talk => unreachable!() };
            assert_eq!(result.unwrap_err().to_string(), TOO_SLOW);
            let took = start.elapsed().as_millis();
            let expected =
                if is_heard { u128::from(pause) + 7_210_000 } else { u128::from(limit) * 1000 };
            // The wheel of timers turns in milliseconds.
            assert!((expected..=expected + 2).contains(&took), "{limit} {pause}: {took}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dribbles_gains_no_time() {
    for begin in [b"\0\0\x01\0B".as_slice(), b"\0\0\x01\0H"] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        peer.write_all(&[OPEN, begin].concat()).await.unwrap();
        let dribble = async {
            while peer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(5)).await;
            }
        };
        let start = Instant::now();
        let (server, _log, _drain) = server("");
        let serve = serve(Socket::Unix(ours), server);
        let result = tokio::select! { result = serve => result, () = dribble => unreachable!() };
        assert_eq!(
            (result.unwrap_err().kind(), start.elapsed().as_secs()),
            (io::ErrorKind::TimedOut, 60)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_between_packets_may_idle() {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    peer.write_all(&[OPEN, &packet(b'C', b"h\0U"), &packet(b'H', b"x\0")].concat()).await.unwrap();
    let start = Instant::now();
    let (server, _log, _drain) = server("");
    let mut serve = pin!(serve(Socket::Unix(ours), server));
    assert!(timeout(Duration::from_secs(7200), serve.as_mut()).await.is_err());
    // It is heard again, with a new limit.
    peer.write_all(b"\0").await.unwrap();
    assert_eq!(serve.await.unwrap_err().to_string(), TOO_SLOW);
    assert_eq!(start.elapsed().as_secs(), 7260);
    assert_eq!(
        serve_one(&[OPEN, &packet(b'C', b"h\0U")].concat()).await,
        (Err(TOO_SLOW.into()), 7210)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answer_is_left() {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let unknown = packet(b'U', b"NOOP\0").repeat(1000);
    let talk = async {
        peer.write_all(&OPEN.replace_steps()).await.unwrap();
        while peer.write_all(&unknown).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let start = Instant::now();
    let (server, _log, _drain) = server("");
    let serve = serve(Socket::Unix(ours), server);
    let result = tokio::select! { result = serve => result, () = talk => unreachable!() };
    assert_eq!(result.unwrap_err().to_string(), "peer does not take an answer");
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_until_the_tick() {
    for (pause, is_taken) in [(59_999, true), (60_001, false)] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(ours);
        // More than the system keeps for the peer.
        let answer = vec![b'x'; 1 << 22];
        let take = async {
            sleep(Duration::from_millis(pause)).await;
            let mut taken = vec![0; answer.len()];
            let _ = peer.read_exact(&mut taken).await;
        };
        let (result, ()) = tokio::join!(
            async {
                let result = socket.write(&answer).await;
                socket.shut_down();
                result
            },
            take
        );
        assert_eq!(result.is_ok(), is_taken, "{pause}");
    }
}

trait ReplaceSteps {
    /// The same negotiation by an MTA that leaves no step out, and waits for each answer.
    fn replace_steps(&self) -> Vec<u8>;
}

impl ReplaceSteps for [u8] {
    fn replace_steps(&self) -> Vec<u8> {
        let (start, _) = self.split_at(self.len() - 4);
        [start, b"\0\0\0\x01"].concat()
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_has_an_end_at_once() {
    for (said, expected) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "peer does not speak milter"),
        ([OPEN, b"\0\0\0\x01X"].concat(), "unknown command 'X'"),
        ([OPEN, b"\0\0\0\0"].concat(), "packet of 0 octets"),
        ([OPEN, &packet(b'H', b"x")].concat(), "packet without a HELO name that can be read"),
        ([OPEN, &packet(b'M', b"")].concat(), "packet without a reverse-path that can be read"),
        (
            [OPEN, &packet(b'L', b"\0x\0")].concat(),
            "packet without a header field that can be read",
        ),
        ([OPEN, &packet(b'L', b"x\0x")].concat(), "packet without a header field that can be read"),
        ([OPEN, &packet(b'C', b"x\0X")].concat(), "packet without a client that can be read"),
        ([OPEN, &packet(b'D', b"")].concat(), "packet without a stage of macros that can be read"),
        (packet(b'O', &[0; 12]), "milter protocol of version 0"),
    ] {
        assert_eq!(serve_one(&said).await, (Err(expected.into()), 0), "{said:?}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_is_noticed() {
    // Also behind what it said before.
    for said in [b"".as_slice(), b"abc"] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(ours);
        assert!(timeout(Duration::from_millis(20), socket.closed_by_peer()).await.is_err());
        peer.write_all(said).await.unwrap();
        assert!(timeout(Duration::from_millis(20), socket.closed_by_peer()).await.is_err());
        drop(peer);
        timeout(Duration::from_secs(60), socket.closed_by_peer()).await.unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket::tcp(listener.accept().await.unwrap().0);
        let Socket::Tcp(stream) = &socket else { unreachable!() };
        assert!(stream.nodelay().unwrap() && socket2::SockRef::from(stream).keepalive().unwrap());
        peer.write_all(said).await.unwrap();
        drop(peer);
        timeout(Duration::from_secs(60), socket.closed_by_peer()).await.unwrap();
    }
}

/// All that is written for a peer that says something and leaves nothing out, the answer to its
/// negotiation apart.
async fn answers(config: &str, open: &[u8], said: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    peer.write_all(&[open, said, &packet(b'Q', b"")].concat()).await.unwrap();
    let (server, log, _drain) = server(config);
    serve(Socket::Unix(ours), server).await.unwrap();
    let mut written = Vec::new();
    peer.read_to_end(&mut written).await.unwrap();
    let (length, rest) = written.split_first_chunk::<4>().unwrap();
    let (_, answers) = rest.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
    (answers.to_vec(), log.take_kept())
}

#[tokio::test]
async fn edits_go_with_the_answer() {
    let said = [
        packet(b'D', b"Cj\0mx2.example.org\0"),
        packet(b'C', b"mail.example.com\x004\x30\x39192.0.2.1\0"),
        packet(b'H', b"mail.example.com\0"),
        packet(b'D', b"Mi\x004X\0"),
        packet(b'M', b"<a@example.com>\0SIZE=1\0"),
        packet(b'L', b"Subject\0 x\0"),
        packet(b'B', b"Hello\r\n"),
        packet(b'E', b"more"),
    ];
    let (answers, log) = answers("verify_helo = no", OPEN, &said.concat()).await;
    let answers = String::from_utf8_lossy(&answers);
    let inserted = answers.strip_prefix("\0\0\0\x01c").unwrap();
    assert!(
        inserted.contains("i\0\0\0\0Received-SPF\0none ") && inserted.ends_with("\0\0\0\0\x01c"),
        "{answers:?}"
    );
    assert!(log.iter().any(|line| line.contains("queue-id=4X")), "{log:?}");
}

#[tokio::test]
async fn each_event_has_an_answer_where_the_mta_waits_for_one() {
    let steps = OPEN.replace_steps();
    let all = b"CHMRTLNBEU";
    let content = |command: u8| match command {
        b'C' => b"h\x004\0\x01192.0.2.1\0".as_slice(),
        b'H' | b'U' => b"x\0",
        b'M' | b'R' => b"<>\0",
        b'L' => b"X\0y\0",
        _ => b"",
    };
    let said: Vec<u8> = all.iter().flat_map(|&command| packet(command, content(command))).collect();
    let (answered, _) = answers("header =", &steps, &said).await;
    assert_eq!(answered, b"\0\0\0\x01c".repeat(all.len()));
    // In any order: nobody is left without an answer.
    for &command in all {
        let (answered, _) = answers("header =", &steps, &packet(command, content(command))).await;
        assert_eq!(answered, b"\0\0\0\x01c", "{}", char::from(command));
    }
    // Nothing is said to what has no answer.
    let said =
        [packet(b'A', b""), packet(b'K', b""), packet(b'D', b"M"), packet(b'A', b"")].concat();
    assert!(answers("", &steps, &said).await.0.is_empty());
}

#[tokio::test]
async fn another_session_has_no_macros_of_the_former() {
    for between in [packet(b'K', b""), OPEN.to_vec()] {
        let client = packet(b'C', b"h\x004\0\x01192.0.2.1\0");
        let message = [
            packet(b'H', b"a.example.com\0"),
            packet(b'M', b"<a@example.com>\0"),
            packet(b'E', b""),
        ]
        .concat();
        let first = [packet(b'D', b"Ci\x00first\0"), client.clone(), message.clone()].concat();
        let said = [first.as_slice(), &between, &client, &message].concat();
        let (_, log) = answers("verify_helo = no", OPEN, &said).await;
        let ids: Vec<bool> = log
            .iter()
            .filter(|line| line.contains("mailfrom"))
            .map(|line| line.contains("first"))
            .collect();
        assert_eq!(ids, [true, false], "{log:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_cut_off_is_recorded() {
    let said = [
        packet(b'C', b"h\x004\0\x01192.0.2.1\0"),
        packet(b'H', b"x\0"),
        packet(b'M', b"<a@example.com>\0"),
    ]
    .concat();
    let (_, log) = answers("", OPEN, &said).await;
    assert!(log.iter().any(|line| line.contains("envelope-from=a@example.com")), "{log:?}");
}

/// An MTA whose octets are always there, beside one that comes after it and has a single message:
/// one thread serves both.
#[tokio::test]
async fn a_quick_peer_keeps_nobody_waiting() {
    let client = [packet(b'C', b"h\x004\0\x01192.0.2.1\0"), packet(b'H', b"x\0")].concat();
    let mail = |sender: &str| packet(b'M', format!("<{sender}@[192.0.2.1]>\0").as_bytes());
    let message = |sender: &str| [mail(sender), packet(b'E', b"")].concat();
    let fields = packet(b'L', b"Subject\0 some text that is not short\0").repeat(2500);
    // Messages, and a single one of many fields: more than is read in a row.
    for said in [message("quick").repeat(100), [mail("quick"), fields, packet(b'E', b"")].concat()]
    {
        let (server, log, _drain) = server("verify_helo = no\nheader = Authentication-Results");
        let mut tasks = Vec::new();
        let mut peers = Vec::new();
        for said in [said, message("other")] {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            // All of it fits into the buffers of the system, and so do the answers.
            peer.write_all(&[OPEN, &client, &said, &packet(b'Q', b"")].concat()).await.unwrap();
            tasks.push(tokio::spawn(serve(Socket::Unix(ours), Arc::clone(&server))));
            peers.push(peer);
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let place = log.take_kept().iter().position(|line| line.contains("other@")).unwrap();
        assert!(place <= 1, "{place}");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_a_log_line() {
    let (peer, ours) = UnixStream::pair().unwrap();
    let (socket, (server, log, _drain)) = (Socket::Unix(ours), server(""));
    let answer = while_connected(
        &socket,
        &server,
        &mut Clock::default(),
        pin!(async { panic!("provoked") }),
    )
    .await;
    assert_eq!(answer, Err::<Answer, _>(Unfinished::Panicked));
    assert_eq!(log.take_kept(), ["internal error in the work on a message"]);
    // The connection is as good as before.
    assert_eq!(
        while_connected(&socket, &server, &mut Clock::default(), pin!(async { Answer::proceed() }))
            .await,
        Ok(Answer::proceed())
    );
    drop(peer);
}

#[tokio::test]
async fn work_ends_when_the_peer_leaves() {
    let (peer, ours) = UnixStream::pair().unwrap();
    let (socket, (server, log, _drain)) = (Socket::Unix(ours), server(""));
    let work = async || {
        while_connected(
            &socket,
            &server,
            &mut Clock::default(),
            pin!(std::future::pending::<Answer>()),
        )
        .await
    };
    assert!(timeout(Duration::from_millis(20), work()).await.is_err());
    drop(peer);
    assert_eq!(timeout(Duration::from_secs(60), work()).await.unwrap(), Err(Unfinished::PeerGone));
    assert!(log.take_kept().is_empty());
}

/// The peer sends without waiting for answers, and reads them late. Where one was lost, or nobody
/// learned that it could not be written, the clock would go on to a limit.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_late_gets_all_answers() {
    for seed in 1..40_u64 {
        let mut state = seed;
        let mut random = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let (peer, ours) = UnixStream::pair().unwrap();
        socket2::SockRef::from(&ours).set_send_buffer_size(1).unwrap();
        let (mut reader, mut writer) = peer.into_split();
        let batches: Vec<(usize, u64)> =
            (0..20).map(|_| (usize::try_from(random(2000)).unwrap(), random(3))).collect();
        let expected: usize = batches.iter().map(|(count, _)| 5 * count).sum();
        let (server, _log, _drain) = server("");
        let served = tokio::spawn(serve(Socket::Unix(ours), server));
        writer.write_all(&OPEN.replace_steps()).await.unwrap();
        let mut negotiated = [0; 4];
        reader.read_exact(&mut negotiated).await.unwrap();
        let length = usize::try_from(u32::from_be_bytes(negotiated)).unwrap();
        reader.read_exact(&mut vec![0; length]).await.unwrap();
        let written = tokio::spawn(async move {
            for (count, pause) in batches {
                writer.write_all(&packet(b'U', b"NOOP\0").repeat(count)).await.unwrap();
                sleep(Duration::from_millis(pause)).await;
            }
            writer
        });
        let start = Instant::now();
        let mut answers = Vec::new();
        while answers.len() < expected {
            let mut octets = vec![0; usize::try_from(1 + random(5000)).unwrap()];
            let count = reader.read(&mut octets).await.unwrap();
            assert!(count > 0, "{seed}: {} of {expected}", answers.len());
            answers.extend_from_slice(octets.get(..count).unwrap());
            sleep(Duration::from_millis(random(3))).await;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{seed}");
        assert!(answers.chunks(5).all(|answer| answer == b"\0\0\0\x01c"), "{seed}");
        drop((written.await.unwrap(), reader));
        let _ = served.await.unwrap();
    }
}

#[tokio::test]
async fn answers_of_any_length_are_written() {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let socket = Socket::Unix(ours);
    let octets: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut read = vec![0; octets.len()];
    let (written, result) = tokio::join!(socket.write(&octets), peer.read_exact(&mut read));
    written.unwrap();
    result.unwrap();
    assert!(read == octets);
}

/// Daemons drain: a message whose sender was answered goes on to its end, nothing else goes on.
#[tokio::test]
async fn a_message_under_way_ends_before_the_connection() {
    let steps = OPEN.replace_steps();
    let client = [packet(b'C', b"h\x004\0\x01192.0.2.1\0"), packet(b'H', b"x\0")].concat();
    let mail = packet(b'M', b"<a@example.com>\0");
    let answer = |length: usize| vec![0; length];
    for (said, events, then, is_answered) in [
        (steps.clone(), 0, client.clone(), false),
        ([steps.clone(), client.clone()].concat(), 2, mail.clone(), false),
        ([steps.clone(), client.clone(), mail.clone()].concat(), 3, packet(b'E', b""), true),
        ([steps, client, mail].concat(), 3, packet(b'L', b"x\0y\0"), true),
    ] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let (server, _log, drain) = server("verify_helo = no\nheader =");
        let task = tokio::spawn(serve(Socket::Unix(ours), server));
        peer.write_all(&said).await.unwrap();
        let mut negotiated = answer(4);
        peer.read_exact(&mut negotiated).await.unwrap();
        let length = u32::from_be_bytes(negotiated.try_into().unwrap());
        peer.read_exact(&mut answer(usize::try_from(length).unwrap())).await.unwrap();
        peer.read_exact(&mut answer(5 * events)).await.unwrap();
        drain.send(true).unwrap();
        let _ = peer.write_all(&then).await;
        let mut answered = Vec::new();
        if is_answered {
            peer.read_exact(&mut answer(5)).await.unwrap();
            let _ = peer.write_all(&packet(b'A', b"")).await;
        }
        let _ = peer.read_to_end(&mut answered).await;
        assert!(answered.is_empty());
        task.await.unwrap().unwrap();
    }
}

/// Clients, and how they are read.
#[test]
fn clients() {
    use reading::read_client;
    let read = |content: &[u8]| {
        read_client(content)
            .map(|(client, given)| (client.address.map(|a| a.to_string()), client.port, given))
    };
    let address = |address: &str, port| Some((Some(address.to_owned()), port, None));
    let none = |given: Option<&str>| Some((None, 0, given.map(str::to_owned)));
    assert_eq!(read(b"h\x006\x01\x02IPv6:2001:db8::1\0"), address("2001:db8::1", 258));
    assert_eq!(read(b"h\x004\x01\x02192.0.2.1\0"), address("192.0.2.1", 258));
    assert_eq!(read(b"h\x004\0\0IPv6:::ffff:192.0.2.1\0"), address("::ffff:192.0.2.1", 0));
    assert_eq!(read(b"h\x006\0\0ipv6:fe80::1%eth0\0"), address("fe80::1", 0));
    assert_eq!(read(b"h\x004\0\0 192.0.2.7 \0"), address("192.0.2.7", 0));
    for (content, given) in [
        (b"h\x004\0\x00192.000.002.007\0".as_slice(), Some("192.000.002.007")),
        (b"h\x006\0\0[::1]\0", Some("[::1]")),
        (b"h\x004\0\0x%y\0", Some("x%y")),
        (b"h\x004\0\0unknown\0", None),
        (b"h\x006\0\0IPv6:\0", None),
        (b"h\0U", None),
        (b"h\0L\0\0/x\0", None),
    ] {
        assert_eq!(read(content), none(given), "{content:?}");
    }
    for odd in [
        b"h".as_slice(),
        b"",
        b"h\0",
        b"h\x004",
        b"h\x004\0",
        b"h\x004\0\0",
        b"h\x004\0\x00192.0.2.1",
        b"h\0X",
        b"h\0L\0",
    ] {
        assert_eq!(read(odd), None, "{odd:?}");
    }
}

#[test]
fn white_space_after_the_colon() {
    use reading::value_as_sent;
    let sent = |opts, value: &str| {
        String::from_utf8(value_as_sent(opts, value.as_bytes()).into_owned()).unwrap()
    };
    for value in ["x", " x", "", "\n x", "\r\n\tx"] {
        assert_eq!(sent(ProtoOpts::LEADING_SPACE, value), value);
    }
    let taken = |value| sent(ProtoOpts::empty(), value);
    assert_eq!(
        [taken("x"), taken(""), taken("\n x"), taken("\r\n\tx")],
        [" x", " ", "\n x", "\r\n\tx"]
    );
}

/// An MTA that waits for no answer begins message after message: the end of the last one is answered
/// within twice the time-out, whatever DNS does.
#[tokio::test(start_paused = true)]
async fn messages_that_are_pipelined_and_given_up_take_no_time() {
    let config = "reject_results =\nheader = Authentication-Results\nverify_helo = no\ntimeout_secs = 3\ndns_timeout_secs = 10";
    let (server, log, _drain) = server_with_zone(config, "bad.example * !silence");
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let task = tokio::spawn(serve(Socket::Unix(ours), server));
    let client = [packet(b'C', b"h\x004\0\x01192.0.2.1\0"), packet(b'H', b"x\0")].concat();
    let mail = packet(b'M', b"<a@bad.example>\0");
    let given_up = [mail.clone(), packet(b'A', b"")].concat().repeat(5);
    let start = Instant::now();
    peer.write_all(&[OPEN, &client, &given_up, &mail, &packet(b'E', b"")].concat()).await.unwrap();
    let mut answered = Vec::new();
    // The client is answered, and the end of the message.
    while answered.windows(5).filter(|answer| answer == b"\0\0\0\x01c").count() < 2 {
        assert_ne!(peer.read_buf(&mut answered).await.unwrap(), 0);
    }
    assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(String::from_utf8_lossy(&answered).contains("spf=temperror"), "{answered:?}");
    drop(peer);
    task.await.unwrap().unwrap();
    assert_eq!(log.take_kept().iter().filter(|line| line.contains("mailfrom")).count(), 1);
}

/// A daemon that is told to drain while a packet is worked on does not take the message behind it,
/// though that is here already.
#[tokio::test(start_paused = true)]
async fn a_message_behind_work_is_the_next_daemons() {
    for (is_told, continues) in [(false, 3), (true, 2)] {
        let config = "reject_helo_results = fail\nreject_results = fail\ntimeout_secs = 3\ndns_timeout_secs = 10";
        let (server, _log, drain) = server_with_zone(config, "bad.example * !silence");
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let served = tokio::spawn(serve(Socket::Unix(ours), server));
        let helo = packet(b'H', b"bad.example\0");
        let client = [packet(b'C', b"h\x004\0\x01192.0.2.1\0"), helo].concat();
        let mail = packet(b'M', b"<>\0");
        peer.write_all(&[OPEN, &client, &mail].concat()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!served.is_finished());
        drain.send(is_told).unwrap();
        let mut answered = Vec::new();
        let read = timeout(Duration::from_secs(60), peer.read_to_end(&mut answered)).await;
        assert_eq!(read.is_ok(), is_told);
        let count = answered.windows(5).filter(|answer| answer == b"\0\0\0\x01c").count();
        assert_eq!(count, continues, "{answered:?}");
        assert_eq!(served.is_finished(), is_told);
    }
}

/// The time of a check is its own, also where the packets of two came together, and the first has taken
/// all of its time.
#[tokio::test(start_paused = true)]
async fn a_check_behind_another_has_a_time_of_its_own() {
    let config = "reject_helo_results = fail\nreject_results = fail\ntimeout_secs = 3\ndns_timeout_secs = 10";
    let (server, _log, _drain) = server_with_zone(config, "bad.example * !silence");
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let _served = tokio::spawn(serve(Socket::Unix(ours), server));
    let client = packet(b'C', b"h\x004\0\x01192.0.2.1\0");
    let (helo, mail) = (packet(b'H', b"bad.example\0"), packet(b'M', b"<>\0"));
    let begun = Instant::now();
    peer.write_all(&[OPEN, &client, &helo, &mail].concat()).await.unwrap();
    let (mut answered, mut came) = (Vec::new(), Vec::new());
    while came.len() < 3 {
        assert_ne!(peer.read_buf(&mut answered).await.unwrap(), 0);
        let count = answered.windows(5).filter(|answer| answer == b"\0\0\0\x01c").count();
        came.resize(count, begun.elapsed().as_secs());
    }
    assert_eq!(came, [0, 3, 6]);
}

/// A connection that waits has lent its buffers to the thread, and loses nothing by that, wherever
/// in a packet it waits.
#[tokio::test]
async fn buffers_are_given_back() {
    let (mut peer, ours) = UnixStream::pair().unwrap();
    let (server, log, _drain) = server("");
    let served = tokio::spawn(serve(Socket::Unix(ours), server));
    let client = [b"mail.example.org\0".as_slice(), b"4\0\x19", b"192.0.2.1\0"].concat();
    let conversation = [
        OPEN,
        &packet(b'C', &client),
        &packet(b'H', b"mail.example.org\0"),
        &packet(b'M', b"<amy@example.org>\0"),
        &packet(b'L', b"Subject\0x\0"),
        &packet(b'N', b""),
        &packet(b'B', b"Hello\r\n"),
        &packet(b'E', b""),
    ];
    for octet in conversation.concat() {
        peer.write_all(&[octet]).await.unwrap();
        // The other task has its turn, so that it mostly reads the octets one by one.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    // The last answer has come: to continue, behind the field.
    let mut answers = Vec::new();
    while !answers.ends_with(b"\0\0\0\0\x01c")
        || !answers.windows(12).any(|part| part == b"Received-SPF")
    {
        assert_ne!(peer.read_buf(&mut answers).await.unwrap(), 0);
    }
    // A large buffer, in which parts of the body were read, is not for others; the next one is. It
    // has some turns until it waits.
    peer.write_all(&packet(b'A', b"")).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for kind in [buffers::Kind::Input, buffers::Kind::Output] {
        assert!(buffers::spare(kind) > 0, "{kind:?}");
    }
    drop(peer);
    served.await.unwrap().unwrap();
    let lines = log.take_kept();
    assert_eq!(
        lines.iter().filter(|line| line.contains("identity=mailfrom result=none")).count(),
        1,
        "{lines:?}"
    );
}
