//! The memory that strangers can make the daemon take: it is measured, not reckoned.

use std::{fs, io::Write as _, net::SocketAddr};

use spf_milter::dns::{RecordType, zone::Zone};
use testkit::{
    daemon::{Daemon, unit_environment},
    milter_client::{MilterClient, Reply},
    nameserver::{Behaviour, NameServer},
    wait_for,
};

/// Connections at the same time.
const CONNECTIONS: usize = 40;

/// The most memory of each of them, in KiB.
const SHARE: usize = 1024;

/// The memory that the allocator may leave unused beside that, in KiB.
const WASTE: usize = 8 * 1024;

/// The most memory that the daemon took so far, in KiB.
fn peak(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Records at `{prefix}{connection}.example` and below.
fn zone(add: impl Fn(&mut Zone, &str)) -> Zone {
    let mut zone = Zone::new();
    zone.add_txt("good.example", b"v=spf1 +all");
    for connection in 0..CONNECTIONS {
        add(&mut zone, &format!("c{connection}.example"));
    }
    zone
}

/// A record that includes another one, and has as much more as `filler` times `count` says.
fn nested(zone: &mut Zone, base: &str, filler: &str, count: usize) {
    for depth in 0..9 {
        let name = if depth == 0 { base.to_owned() } else { format!("d{depth}.{base}") };
        let next =
            if depth == 8 { format!("silent.{base}") } else { format!("d{}.{base}", depth + 1) };
        zone.add_txt(&name, format!("v=spf1 include:{next} {}", filler.repeat(count)).as_bytes());
    }
}

/// Has all connections hold what they can at the same time, twice.
fn measure(what: &str, zone: Zone, is_held: bool) {
    let nameserver = NameServer::start(zone);
    for connection in 0..CONNECTIONS {
        nameserver.behave(
            &format!("silent.c{connection}.example"),
            Behaviour { drop: true, ..Behaviour::default() },
        );
    }
    // One time-out ends all.
    let daemon = Daemon::start(&format!(
        "hostname = mx.example.org\nnameservers = {}\nreject_helo_results =\nheader = Authentication-Results\n\
         timeout_secs = 3\ndns_timeout_secs = 2\ndns_cache_size = 0\n",
        nameserver.address()
    ));
    let begin = |client: &mut MilterClient, helo: &str| {
        client
            .connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025))))
            .unwrap();
        client.helo(helo).unwrap();
    };
    // Made once: threads, arenas, connections to the name server.
    let mut clients: Vec<MilterClient> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        begin(client, "good.example");
        assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
    }
    drop(clients);
    let before = daemon.memory();
    let mut peaks = Vec::new();
    for wave in 0..2 {
        let mut clients: Vec<MilterClient> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
        for (connection, client) in clients.iter_mut().enumerate() {
            // Both checks of a session, at the same time.
            begin(client, &format!("c{connection}.example"));
            client.send(b'M', format!("<a@c{connection}.example>\0").as_bytes()).unwrap();
        }
        for client in &mut clients {
            client.receive().unwrap();
        }
        drop(clients);
        peaks.push(peak(&daemon));
        eprintln!(
            "{what}: wave {wave}: from {before} to {} KiB, now {}",
            peak(&daemon),
            daemon.memory()
        );
    }
    let most = peaks[0];
    assert!(most <= before + CONNECTIONS * SHARE + WASTE, "{what}: from {before} to {most} KiB");
    assert!(peaks.iter().all(|peak| *peak <= most + WASTE), "{what}: {peaks:?} KiB");
    // Where records are held until the end, that is because something at the end is asked for.
    let asked = (0..CONNECTIONS).filter(|connection| {
        nameserver.count(&format!("silent.c{connection}.example"), RecordType::Txt) > 0
    });
    assert!(!is_held || asked.count() == CONNECTIONS, "{what}");
    wait_for("the daemon to serve", || {
        (daemon.client().mail("<a@good.example>").is_ok()).then_some(())
    });
}

#[test]
fn nested_records() {
    // Too large for a record; as large as one may be; as large as all together may be.
    for (what, filler, count, is_held) in [
        ("64 KB of terms", "a ", 31_000, false),
        ("64 KB of one term", "x", 62_000, false),
        ("as large as a record may be", "ip4:203.0.113.111/32 ", 500, false),
        ("terms", "?ip4:203.0.113.1 ", 190, true),
        ("macros", "x=%{i}.%{i} ", 70, true),
        ("escapes", "x=%%%%%%%% ", 20, true),
    ] {
        measure(what, zone(|zone, base| nested(zone, base, filler, count)), is_held);
    }
}

#[test]
fn large_answers() {
    let terms: String = (0..9).map(|number| format!("TERM:t{number}.BASE ")).collect();
    let record = |kind: &str, base: &str| {
        format!("v=spf1 {} -all", terms.replace("TERM", kind).replace("BASE", base))
    };
    let exchangers = zone(|zone, base| {
        zone.add_txt(base, record("mx", base).as_bytes());
        for number in 0..9 {
            for host in 0..2000 {
                zone.add_mx(&format!("t{number}.{base}"), 10, &format!("{host}.silent.{base}"));
            }
        }
    });
    measure("exchangers", exchangers, false);
    let texts = zone(|zone, base| {
        zone.add_txt(
            base,
            format!("{} include:silent.{base}", record("include", base).replace(" -all", ""))
                .as_bytes(),
        );
        for number in 0..9 {
            zone.add_txt(&format!("t{number}.{base}"), b"v=spf1 ~all");
            for _ in 0..1200 {
                zone.add_txt(&format!("t{number}.{base}"), b"x");
            }
        }
    });
    measure("texts", texts, false);
    let addresses = zone(|zone, base| {
        zone.add_txt(base, format!("v=spf1 mx a:silent.{base} -all").as_bytes());
        for host in 0..10 {
            zone.add_mx(base, 10, &format!("h{host}.{base}"));
            for number in 0..3000_u32 {
                zone.add_a(&format!("h{host}.{base}"), (0xcb00_0000 + number).into());
            }
        }
    });
    measure("addresses", addresses, false);
}

/// The look-ups of messages that are given up end while more such messages come.
#[test]
fn messages_given_up() {
    let nameserver = NameServer::start(Zone::new());
    nameserver.behave("*", Behaviour { drop: true, ..Behaviour::default() });
    let daemon = Daemon::start(&format!(
        "nameservers = {}\nverify_helo = no\nreject_results =\n",
        nameserver.address()
    ));
    let mut client = daemon.client();
    let address = SocketAddr::from(([192, 0, 2, 9], 40025));
    client.connect("mail.example.com", Some(address)).unwrap();
    let before = daemon.memory();
    let packet = |command: u8, content: &str| {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content.as_bytes()].concat()
    };
    for number in 0..20_000 {
        let mail = packet(b'M', &format!("<a@{number}.example>\0"));
        client.stream().write_all(&[mail, packet(b'A', "")].concat()).unwrap();
    }
    client.send(b'E', b"").unwrap();
    client.receive().unwrap();
    let most = peak(&daemon);
    assert!(most <= before + WASTE, "from {before} to {most} KiB");
}

/// Messages with the largest header, and then all but the end of the largest packet.
#[test]
fn memory_of_large_messages_goes_back() {
    const CONNECTIONS: usize = 60;
    // The header, and the packet.
    const HELD: usize = CONNECTIONS * (1024 + 1024);
    let environment = unit_environment();
    assert!(environment.iter().any(|(name, _)| name == "GLIBC_TUNABLES"), "{environment:?}");
    let nameserver = NameServer::start(Zone::new());
    let daemon = Daemon::launch(
        &format!(
            "nameservers = {}\nverify_dkim = yes\nverify_dmarc = yes\nreject_results =\n",
            nameserver.address()
        ),
        |command| _ = command.envs(environment),
    );
    let daemon = daemon.unwrap_or_else(|failure| panic!("{failure:?}"));
    let field = [b"X\0".as_slice(), &[b'x'; 64_000], b"\0"].concat();
    let before = daemon.memory();
    for round in 0..3 {
        let mut clients: Vec<MilterClient> = (0..CONNECTIONS).map(|_| daemon.client()).collect();
        for client in &mut clients {
            let address = SocketAddr::from(([192, 0, 2, 9], 40025));
            client.connect("mail.example.com", Some(address)).unwrap();
            client.helo("mail.example.com").unwrap();
            assert_eq!(client.mail("<a@example.com>").unwrap(), Reply::Continue);
            for _ in 0..16 {
                client.send(b'L', &field).unwrap();
            }
            let packet = [&(1_u32 << 20).to_be_bytes(), b"L".as_slice(), &[b'x'; (1 << 20) - 2]];
            client.stream().write_all(&packet.concat()).unwrap();
        }
        // It has read as much as it was sent: no more comes.
        wait_for("the memory of the messages", || {
            (daemon.memory() > before + HELD * 9 / 10).then_some(())
        });
        drop(clients);
        wait_for("the memory to go back", || (daemon.memory() < before + WASTE).then_some(()));
        let most = peak(&daemon);
        eprintln!("round {round}: from {before} to {most} KiB");
        assert!(most <= before + HELD * 3 / 2 + WASTE, "round {round}: {most} KiB");
    }
}
