//! Measures the daemon beside the milters that people use instead: one load, one run, in turn.
//!
//! `make bench-peers`, or `cargo bench --bench peers [-- SECTION...]` with the sections `hot`, `cold`,
//! `small` and `large` (4 KB and 1 MB with a signature); none means all. `BENCH_SECONDS` says how long
//! each figure is measured in each of the rounds. It needs root, and the programs that
//! `testkit/bench-peers.sh` puts in place. `docs/performance.md` says what is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod chart;
mod peers;

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, ExitCode},
    sync::atomic::AtomicUsize,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peers::{Peer, Running, Setting};
use spf_milter::dns::zone::Zone;
use testkit::{
    bench::{
        awake, floor,
        load::{self, Figures, Mode, Rig},
        mta::{Message, Sender},
        signer::{self, FIELDS},
        zones,
    },
    nameserver::{Behaviour, NameServer},
};

/// Milters take turns, so that what else the machine does slows all of them down.
const ROUNDS: u32 = 3;

/// Sender domains, whose records fit into any cache.
const HOT_SENDERS: usize = 100;

/// Sender domains that are each seen once a run, or nearly.
const COLD_SENDERS: usize = 20_000;

/// The latency of a far name server.
const FAR: Duration = Duration::from_millis(20);

/// Connections at once.
const CONNECTIONS: usize = 10;

/// Messages a second in the open loop, and the connections that it may use.
const OPEN_RATE: f64 = 2000.0;
const OPEN_CONNECTIONS: usize = 100;

/// Where the name server is, in a network of its own: a resolv.conf has no ports, and OpenDKIM asks
/// none on loopback.
const NAMESERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

/// The argument of the program within that network.
const INSIDE: &str = "--inside";

/// The figures of one milter in one section.
struct Line {
    peer: Peer,
    figures: Figures,
    /// Memory after the last round, in KiB.
    memory: u64,
}

struct Bench {
    nameserver: NameServer,
    time: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.split_first() {
        Some((mode, parent)) if mode == awake::ARGUMENT => {
            awake::stay_awake(parent.first().and_then(|id| id.parse().ok()));
            Ok(())
        }
        Some((mode, rest)) if mode == floor::ARGUMENT => floor::main(rest)
            .unwrap_or_else(|| Err(io::Error::other("bad arguments for the floor"))),
        Some((mode, sections)) if mode == INSIDE => measure(sections),
        _ => enter(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again in a network that has only loopback, with the name server's address on it.
fn enter(sections: &[String]) -> io::Result<()> {
    let script =
        format!("ip link set lo up && ip addr add {}/32 dev lo && exec \"$@\"", NAMESERVER.ip());
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", &script, "sh"])
        .arg(env::current_exe()?)
        .arg(INSIDE)
        .args(sections)
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{status}"))) }
}

fn measure(sections: &[String]) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard)?;
    let seconds = env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let nameserver = NameServer::start_on(NAMESERVER, Zone::new())?;
    let bench = Bench { nameserver, time: Duration::from_secs_f64(seconds) };
    let wanted = |name: &str| sections.is_empty() || sections.iter().any(|section| section == name);
    if wanted("hot") {
        bench.hot()?;
    }
    if wanted("cold") {
        bench.cold()?;
    }
    if wanted("small") {
        bench.signed("4 KB", "small", 4 * 1024)?;
    }
    if wanted("large") {
        bench.signed("1 MB", "large", 1024 * 1024)?;
    }
    if wanted("open") {
        bench.open()?;
    }
    Ok(())
}

impl Bench {
    fn serve(&self, zone: Zone, latency: Duration) {
        self.nameserver.set_zone(zone);
        self.nameserver.behave("*", Behaviour { latency, ttl: 86400, ..Behaviour::default() });
    }

    fn hot(&self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let lines = self.compare(
            &[
                Peer::Floor,
                Peer::Ours,
                Peer::SpfMilter07,
                Peer::OpenDmarc,
                Peer::Pyspf,
                Peer::Rspamd,
            ],
            false,
            CONNECTIONS,
            &senders,
            &Message::plain(),
            &[&["spf=pass", "pass ", "Pass "]],
        )?;
        print("SPF, 100 sender domains in turn, name server near, 10 connections", "hot", &lines)
    }

    fn cold(&self) -> io::Result<()> {
        self.serve(zones::zone("cold", COLD_SENDERS), FAR);
        let senders = zones::senders("cold", COLD_SENDERS);
        let lines = self.compare(
            &[Peer::Ours, Peer::SpfMilter07, Peer::OpenDmarc, Peer::Pyspf, Peer::Rspamd],
            false,
            CONNECTIONS,
            &senders,
            &Message::plain(),
            &[&["spf=pass", "pass ", "Pass "]],
        )?;
        print("SPF, each sender domain new, name server 20 ms away, 10 connections", "cold", &lines)
    }

    fn signed(&self, size: &str, name: &str, octets: usize) -> io::Result<()> {
        let keys = signer::keys();
        let zone = signer::key_records(&keys)
            + "example.com TXT v=spf1 ip4:192.0.2.0/24 -all\nmail.example.com TXT v=spf1 ip4:192.0.2.0/24 -all\n\
               _dmarc.example.com TXT v=DMARC1; p=reject\n";
        let zone = Zone::parse(&zone).map_err(io::Error::other)?;
        self.serve(zone, Duration::ZERO);
        let body =
            "A line of text of seventy-six octets and no more, as most lines of mail are.\r\n"
                .repeat(octets / 78)
                .into_bytes();
        let mut fields = vec![("DKIM-Signature".to_owned(), keys[0].sign(&body, 0).value)];
        fields.extend(FIELDS.iter().map(|(name, value)| ((*name).into(), format!(" {value}"))));
        let message = Message { fields, body };
        let sender = Sender { helo: "mail.example.com".into(), domain: "example.com".into() };
        let lines = self.compare(
            &[Peer::Floor, Peer::Ours, Peer::OpenDkim, Peer::Chain, Peer::Rspamd],
            true,
            CONNECTIONS,
            &[sender],
            &message,
            &[&["dkim=pass"]],
        )?;
        print(
            &format!(
                "SPF, DKIM (one RSA-2048 signature) and DMARC, {size}, name server near, 10 connections"
            ),
            name,
            &lines,
        )
    }

    /// Messages at a fixed rate, whatever becomes of them.
    fn open(&self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let message = Message::plain();
        let setting = Setting { nameserver: NAMESERVER, content: false };
        println!("\nSPF, 2000 messages a second (open loop), name server near");
        println!("{:<20}{:>10}{:>10}{:>10}", "", "p50 ms", "p99 ms", "max ms");
        for peer in [Peer::Floor, Peer::Ours] {
            let running = Running::start(peer, setting)?;
            warm(&running, &senders, &message)?;
            let cpu = || running.cpu();
            let rig = Rig { sockets: &running.sockets, cpu: &cpu };
            let figures = load::run_open(
                rig,
                OPEN_CONNECTIONS,
                OPEN_RATE,
                &senders,
                &message,
                self.time * ROUNDS,
            )?;
            println!(
                "{:<20}{:>10.3}{:>10.3}{:>10.3}",
                peer.name(),
                milliseconds(&figures, 0.5),
                milliseconds(&figures, 0.99),
                milliseconds(&figures, 1.0)
            );
        }
        Ok(())
    }

    /// Measures milters in turn. Each must add a field with one word of each set first.
    fn compare(
        &self,
        peers: &[Peer],
        content: bool,
        connections: usize,
        senders: &[Sender],
        message: &Message,
        passes: &[&[&str]],
    ) -> io::Result<Vec<Line>> {
        let setting = Setting { nameserver: NAMESERVER, content };
        let mut milters = Vec::new();
        for peer in peers {
            let mut running = Running::start(*peer, setting)?;
            if *peer != Peer::Floor {
                check(*peer, &mut running, senders, message, passes)?;
            }
            if senders.len() <= HOT_SENDERS {
                warm(&running, senders, message)
                    .map_err(|error| named(*peer, &error, &mut running))?;
            }
            milters.push((*peer, running, AtomicUsize::new(0), Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (peer, running, next, runs) in &mut milters {
                let cpu = || running.cpu();
                let rig = Rig { sockets: &running.sockets, cpu: &cpu };
                // pyspf-milter 3.0.4 fails after some hundred messages of one connection: it gives each
                // a number at random, and takes one that comes again for a copy.
                let mode = if *peer == Peer::Pyspf { Mode::New } else { Mode::Kept };
                let run = load::run(rig, mode, connections, senders, message, next, self.time);
                runs.push(run.map_err(|error| named(*peer, &error, running))?);
            }
        }
        let line = |(peer, running, _, runs): (Peer, Running, _, _)| {
            Ok(Line { peer, figures: Figures::merge(runs), memory: running.memory()? })
        };
        milters.into_iter().map(line).collect()
    }
}

/// A message must pass, or what is measured is something else.
fn check(
    peer: Peer,
    running: &mut Running,
    senders: &[Sender],
    message: &Message,
    passes: &[&[&str]],
) -> io::Result<()> {
    // The fourth kind of sender domain has a record that needs nothing else.
    let sender = senders.get(3).or(senders.first()).expect("there is a sender");
    let added = load::send(&running.sockets, sender, message)
        .map_err(|error| named(peer, &error, running))?;
    for words in passes {
        let is_there = |word: &&str| added.iter().any(|(_, text)| text.contains(*word));
        if !words.iter().any(is_there) {
            return Err(io::Error::other(format!(
                "{} added none of {words:?} but {added:?}",
                peer.name()
            )));
        }
    }
    Ok(())
}

/// An error of a milter, with how it ended.
fn named(peer: Peer, error: &io::Error, running: &mut Running) -> io::Error {
    io::Error::other(format!("{}: {error}\n{}", peer.name(), running.report()))
}

/// Lets a milter ask for everything once.
fn warm(running: &Running, senders: &[Sender], message: &Message) -> io::Result<()> {
    senders.iter().try_for_each(|sender| load::send(&running.sockets, sender, message).map(drop))
}

fn milliseconds(figures: &Figures, part: f64) -> f64 {
    figures.percentile(part).as_secs_f64() * 1e3
}

/// Prints a table and draws its CPU times.
fn print(title: &str, name: &str, lines: &[Line]) -> io::Result<()> {
    println!("\n{title}");
    println!(
        "{:<20}{:>12}{:>8}{:>10}{:>10}{:>10}{:>10}{:>12}",
        "", "CPU ms/msg", "x ours", "msg/s", "p50 ms", "p99 ms", "max ms", "memory MiB"
    );
    let ours = lines
        .iter()
        .find(|line| line.peer == Peer::Ours)
        .map_or(f64::NAN, |line| line.figures.cpu.as_secs_f64());
    let mut bars = Vec::new();
    for Line { peer, figures, memory } in lines {
        let cpu = figures.cpu.as_secs_f64();
        #[allow(clippy::cast_precision_loss)]
        let memory = *memory as f64 / 1024.0;
        println!(
            "{:<20}{:>12.4}{:>8.1}{:>10.0}{:>10.2}{:>10.2}{:>10.2}{memory:>12.1}",
            peer.name(),
            cpu * 1e3,
            cpu / ours,
            figures.rate,
            milliseconds(figures, 0.5),
            milliseconds(figures, 0.99),
            milliseconds(figures, 1.0),
        );
        bars.push((peer.name(), cpu * 1e3));
    }
    chart::write(&format!("cpu-{name}"), title, "CPU time in ms per message", &bars)
}
