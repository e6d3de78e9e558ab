//! Peers on the milter socket that speak something else, stop speaking, or come in crowds.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use spf_milter::dns::{RecordType, zone::Zone};
use support::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Options, Reply, Stream, bits},
    nameserver::{Behaviour, NameServer},
    scenario::complete_config,
    wait_for,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
bad.example TXT "v=spf1 -all"
"#;

/// A bound that nothing here comes near to, unless a slow peer keeps others waiting.
const PROMPT: Duration = Duration::from_secs(5);

fn setting(config: &str) -> (Daemon, NameServer) {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = format!("hostname = mta.example.org\nheader = Authentication-Results\nverify_helo = no\n{config}");
    (Daemon::start(&complete_config(&config, nameserver.address())), nameserver)
}

fn client_address() -> Option<SocketAddr> {
    Some(SocketAddr::from(([192, 0, 2, 9], 40025)))
}

/// A whole message, which must come out right, and in time.
fn serve_one(daemon: &Daemon) {
    let begin = Instant::now();
    let mut client = daemon.client();
    assert_eq!(client.connect("mail.example.com", client_address()).unwrap(), Reply::Continue);
    assert_eq!(client.helo("mail.example.com").unwrap(), Reply::Continue);
    assert!(matches!(client.mail("<a@bad.example>").unwrap(), Reply::Code(_)));
    assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
    assert_eq!(client.rcpt("<b@rcpt.example.org>").unwrap(), Reply::Continue);
    let finished = client.message(&[Field::new("Subject", " hello")], b"Hello\r\n").unwrap();
    assert_eq!(finished.fields[0].unfolded(), "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=good.example");
    client.quit().unwrap();
    assert!(begin.elapsed() < PROMPT, "served after {:?}", begin.elapsed());
}

fn packet(command: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 1).unwrap();
    [&length.to_be_bytes(), &[command][..], content].concat()
}

fn negotiation() -> Vec<u8> {
    packet(b'O', &[6, bits::ALL_ACTIONS, bits::ALL_STEPS].map(u32::to_be_bytes).concat())
}

/// What a peer might send, with and without a proper beginning.
fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let after = |rest: &[Vec<u8>]| [&[negotiation()], rest].concat().concat();
    let connect = packet(b'C', b"mail.example.com\x004\x9c\x59192.0.2.9\0");
    vec![
        ("nothing", Vec::new()),
        ("a packet of no length", vec![0; 4]),
        ("a packet of 4 GiB", vec![0xff; 4]),
        ("a packet over the limit", [&0x0010_0001_u32.to_be_bytes()[..], b"B"].concat()),
        ("half a length", vec![0, 0]),
        ("half a packet", negotiation()[..7].to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("SMTP", b"EHLO mail.example.com\r\nQUIT\r\n".to_vec()),
        ("a short negotiation", packet(b'O', &[0, 0, 0, 6])),
        ("a negotiation of version 0", packet(b'O', &[0; 12])),
        ("two negotiations", after(&[negotiation()])),
        ("an unknown command", after(&[packet(b'z', b"what")])),
        ("no negotiation", connect.clone()),
        ("connect without content", after(&[packet(b'C', b"")])),
        ("connect without an end", after(&[packet(b'C', b"mail.example.com\x004\x9c\x59192.0.2.9")])),
        ("connect with an address that is none", after(&[packet(b'C', b"mail.example.com\x004\x9c\x59999.0.2.9\0")])),
        ("connect of an unknown family", after(&[packet(b'C', b"mail.example.com\0Z\x9c\x59192.0.2.9\0")])),
        ("helo without an end", after(&[connect.clone(), packet(b'H', b"mail.example.com")])),
        ("helo before connect", after(&[packet(b'H', b"mail.example.com\0")])),
        ("mail without content", after(&[connect.clone(), packet(b'M', b"")])),
        ("body before mail", after(&[connect.clone(), packet(b'B', b"Hello")])),
        ("end before mail", after(&[connect.clone(), packet(b'E', b"")])),
        ("header before mail", after(&[connect.clone(), packet(b'L', b"Subject\0x\0")])),
        ("header without a value", after(&[connect.clone(), packet(b'M', b"<a@good.example>\0"), packet(b'L', b"Subject\0")])),
        ("macros that do not pair", after(&[packet(b'D', b"Cj\0"), connect.clone()])),
        ("macros of no stage", after(&[packet(b'D', b""), packet(b'D', b"\xff"), connect.clone()])),
        ("aborts", after(&[connect.clone(), packet(b'A', b""), packet(b'A', b"x")])),
        ("a new connection, twice", after(&[connect.clone(), packet(b'K', b""), packet(b'K', b""), connect.clone(), connect])),
        ("quit with content", after(&[packet(b'Q', b"bye")])),
    ]
}

/// The memory that the daemon holds, in KiB.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count()
}

#[test]
fn what_is_no_milter_protocol_costs_nothing() {
    let (daemon, _nameserver) = setting("");
    serve_one(&daemon);
    let before = descriptors(&daemon);
    for (what, input) in inputs() {
        let mut stream = Stream::connect(&daemon.sockets[0]).unwrap();
        // The daemon may hang up before it has everything.
        let _ = stream.write_all(&input);
        let _ = stream.finish_writing();
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}: {error}");
        }
        serve_one(&daemon);
    }
    wait_for("all descriptors to be closed", || (descriptors(&daemon) <= before).then_some(()));
    assert!(!daemon.log().lines().join("\n").contains("panicked"));
    let (status, _) = daemon.stop();
    assert!(status.success());
}

#[test]
fn a_flood_of_garbage_leaves_memory_as_it_was() {
    let (daemon, _nameserver) = setting("");
    serve_one(&daemon);
    let before = resident(&daemon);
    for round in 0..300_u32 {
        let mut stream = Stream::connect(&daemon.sockets[0]).unwrap();
        let _ = stream.write_all(&negotiation());
        // A megabyte announced, and a part of it sent.
        let _ = stream.write_all(&[&0x000f_ffff_u32.to_be_bytes()[..], b"B", &round.to_be_bytes().repeat(5000)].concat());
    }
    serve_one(&daemon);
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 16 * 1024, "grown by {grown} KiB");
}

#[test]
fn dawdlers_do_not_keep_others_waiting() {
    let (daemon, _nameserver) = setting("");
    let mut idle = Vec::new();
    for number in 0..500 {
        let mut stream = Stream::connect(&daemon.sockets[0]).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(&negotiation()[..9]).unwrap(),
            _ => stream.write_all(&negotiation()).unwrap(),
        }
        idle.push(stream);
    }
    serve_one(&daemon);
    drop(idle);
    serve_one(&daemon);
}

#[test]
fn a_client_that_leaves_during_a_look_up_frees_its_slot() {
    let (daemon, nameserver) = setting("max_connections = 2\ntimeout_secs = 60\ndns_timeout_secs = 60\n");
    nameserver.behave("slow.example", Behaviour { drop: true, ..Behaviour::default() });
    let mail = packet(b'M', b"<a@slow.example>\0");
    let connect = packet(b'C', b"mail.example.com\x004\x9c\x59192.0.2.9\0");
    let begin = [negotiation(), connect, packet(b'H', b"mail.example.com\0"), mail].concat();
    for _ in 0..6 {
        let mut leaving: Vec<Stream> = (0..2).map(|_| Stream::connect(&daemon.sockets[0]).unwrap()).collect();
        for stream in &mut leaving {
            stream.write_all(&begin).unwrap();
        }
        wait_for("the look-up", || (nameserver.count("slow.example", RecordType::Txt) > 0).then_some(()));
    }
    serve_one(&daemon);
}

#[test]
fn at_the_limit_the_next_one_waits() {
    let (daemon, _nameserver) = setting("max_connections = 2\n");
    let mut first = daemon.client();
    let second = daemon.client();
    let third = std::thread::spawn({
        let socket = daemon.sockets[0].clone();
        move || MilterClient::connect_to(&socket).unwrap()
    });
    // The first ones are served while the third one waits.
    assert_eq!(first.connect("mail.example.com", client_address()).unwrap(), Reply::Continue);
    assert!(!third.is_finished());
    second.quit().unwrap();
    let mut third = third.join().unwrap();
    assert_eq!(third.connect("mail.example.com", client_address()).unwrap(), Reply::Continue);
}

#[test]
fn without_file_descriptors_it_goes_on_later() {
    let (daemon, _nameserver) = setting("");
    serve_one(&daemon);
    let limit = descriptors(&daemon) + 8;
    let status =
        Command::new("prlimit").args(["--pid", &daemon.id().to_string(), &format!("--nofile={limit}")]).status().unwrap();
    assert!(status.success(), "prlimit failed");
    let crowd: Vec<Stream> = (0..64).map(|_| Stream::connect(&daemon.sockets[0]).unwrap()).collect();
    daemon.wait_for_log(&["accept", "Too many open files"]);
    drop(crowd);
    serve_one(&daemon);
    let (status, _) = daemon.stop();
    assert!(status.success());
}

#[test]
fn older_mtas_get_what_they_offer() {
    let (daemon, _nameserver) = setting("");
    for (version, actions, steps) in
        [(2, 0x3f, 0x7f), (3, 0x3f, 0x7f), (4, 0x7f, 0x3ff), (6, bits::ALL_ACTIONS, bits::NO_BODY), (6, 0x11, 0x1ff)]
    {
        let options = Options { version, actions, steps, ..Options::default() };
        // The client itself refuses what it did not offer.
        let mut client = MilterClient::with_options(&daemon.sockets[0], options).unwrap();
        client.connect("mail.example.com", client_address()).unwrap();
        client.helo("mail.example.com").unwrap();
        assert!(matches!(client.mail("<a@bad.example>").unwrap(), Reply::Code(_)), "version {version}");
        client.mail("<a@good.example>").unwrap();
        client.rcpt("<b@rcpt.example.org>").unwrap();
        let forged = Field::new("Authentication-Results", " mta.example.org; spf=pass forged");
        let finished = client.message(&[forged], b"Hello\r\n").unwrap();
        let header: Vec<String> = finished.fields.iter().map(Field::unfolded).collect();
        assert_eq!(header, ["Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=good.example"], "version {version}");
    }
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let (daemon, _nameserver) = setting("reject_results =\n");
    let mut client = daemon.client();
    let never = bits::NO_RCPT | bits::NO_DATA | bits::NO_EOH | bits::NO_BODY | bits::NO_UNKNOWN;
    assert!(client.without(never | bits::NOREPLY_HEADER), "{:x?}", client.negotiation);
    assert!(!client.without(bits::NO_HEADER));
    let wanted = bits::ADD_HEADER | bits::CHANGE_HEADER;
    assert_eq!(client.negotiation.actions & !bits::SET_MACRO_LIST, wanted, "{:x?}", client.negotiation);
    client.connect("mail.example.com", client_address()).unwrap();
    client.helo("mail.example.com").unwrap();
    client.mail("<a@good.example>").unwrap();
    client.rcpt("<b@rcpt.example.org>").unwrap();
    let before = client.round_trips;
    let fields: Vec<Field> = (0..50).map(|number| Field::new("X-Field", format!(" {number}"))).collect();
    client.message(&fields, &b"Hello\r\n".repeat(50_000)).unwrap();
    assert_eq!(client.round_trips, before + 1, "the end of the message is all that is waited for");

    let (daemon, _nameserver) = setting("delete_incoming_authentication_results = no\n");
    let client = daemon.client();
    assert!(client.without(never | bits::NO_HEADER), "{:x?}", client.negotiation);
    assert_eq!(client.negotiation.actions & !bits::SET_MACRO_LIST, bits::ADD_HEADER);
}

#[test]
fn a_connection_is_used_again_for_the_next_client() {
    let (daemon, _nameserver) = setting("include_all_results = yes\n");
    let mut client = daemon.client();
    for (domain, result) in [("good.example", "pass"), ("other.example", "none"), ("good.example", "pass")] {
        assert_eq!(client.connect("mail.example.com", client_address()).unwrap(), Reply::Continue);
        client.helo("mail.example.com").unwrap();
        client.mail(format!("<a@{domain}>")).unwrap();
        client.rcpt("<b@rcpt.example.org>").unwrap();
        let header = client.message(&[], b"Hello\r\n").unwrap().fields;
        assert_eq!(header[0].unfolded(), format!("Authentication-Results: mta.example.org; spf={result} smtp.mailfrom={domain}"));
        client.quit_for_next().unwrap();
    }
}
