//! Measures the daemon beside the milters that people use instead: one load, one run, in turn.
//!
//! `make bench-peers [SECTIONS=...]`, with the sections `hot`, `busy`
//! (a hundred connections on one processor), `cold`, `small` and `large` (4 KB and 1 MB with a
//! signature) and `open`; none means all. `BENCH_SECONDS` says how long each figure is measured in each
//! of the rounds. It needs root, and the programs that `testkit/bench-peers.sh` puts in place.
//! `docs/performance.md` says what is measured. Goals that are not met are reported, and are not an
//! error.

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

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use peers::{Peer, Running, Setting};
use spf_milter::dns::zone::Zone;
use testkit::{
    bench::{
        load::{self, Figures, Mode, Rig},
        mta::{Message, Sender},
        program,
        report::Report,
        signer::{self, FIELDS},
        zones,
    },
    nameserver::NameServer,
};

/// Milters take turns, so that what else the machine does slows all of them down.
const ROUNDS: u32 = 3;

/// Each turn is cut into so many where two are compared closely: what slows one of them down for some
/// seconds would be taken for a difference.
const CUTS: u32 = 8;

/// Sender domains, whose records fit into any cache.
const HOT_SENDERS: usize = 100;

/// Sender domains that are each seen once a run, or nearly.
const COLD_SENDERS: usize = 20_000;

/// The latency of a far name server.
const FAR: Duration = Duration::from_millis(20);

/// Connections at once, and on a busy processor.
const CONNECTIONS: usize = 10;
const MANY_CONNECTIONS: usize = 100;

/// Messages a second in the open loop, and the connections that it may use.
const OPEN_RATE: f64 = 2000.0;
const OPEN_CONNECTIONS: usize = 100;

/// The most that CPU time and latency may be, as multiples of the floor's.
const OVER_FLOOR: f64 = 1.3;

/// How many times as much CPU time another milter should need at least.
const LESS: f64 = 10.0;

/// What must be in a field that a milter adds, one of these words.
const SPF_PASSES: &[&[&str]] = &[&["spf=pass", "pass ", "Pass "]];

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

impl Line {
    /// CPU time of a message, in seconds.
    fn cpu(&self) -> f64 {
        self.figures.cpu.as_secs_f64()
    }
}

struct Bench {
    nameserver: NameServer,
    time: Duration,
    report: Report,
}

fn main() -> ExitCode {
    program::main(|arguments| match arguments.split_first() {
        Some((mode, sections)) if mode == INSIDE => measure(sections),
        _ => enter(arguments),
    })
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
    program::raise_limits()?;
    let nameserver = NameServer::start_on(NAMESERVER, Zone::new())?;
    let report = Report::start("tables.txt", &peers::versions());
    let mut bench = Bench { nameserver, time: program::time(), report };
    let wanted = |name: &str| program::is_wanted(sections, name);
    if wanted("hot") {
        bench.hot()?;
    }
    if wanted("busy") {
        bench.busy()?;
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
    bench.report.finish()
}

/// Does something on one processor, together with all threads and processes that it starts.
fn on_one_processor<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    // The system does more of its own work on the first.
    let last = (0..CpuSet::count()).rfind(|number| all.is_set(*number).unwrap_or(false));
    one.set(last.unwrap_or_default())?;
    sched_setaffinity(this, &one)?;
    let result = work();
    sched_setaffinity(this, &all)?;
    result
}

impl Bench {
    fn serve(&self, zone: Zone, latency: Duration) {
        zones::serve(&self.nameserver, zone, latency);
    }

    fn hot(&mut self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let peers = [
            Peer::Floor,
            Peer::Ours,
            Peer::SpfMilter07,
            Peer::OpenDmarc,
            Peer::Pyspf,
            Peer::Rspamd,
        ];
        let message = Message::plain();
        let lines = self.compare(&peers, false, CONNECTIONS, &senders, &message, SPF_PASSES)?;
        self.table(
            "SPF, 100 sender domains in turn, name server near, 10 connections",
            "hot",
            &lines,
        )?;
        for peer in &peers[2..] {
            self.less(&lines, *peer, "SPF hot");
        }
        Ok(())
    }

    /// Where the processor is all that counts: packets find it busy, and nobody has to be woken.
    fn busy(&mut self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let (peers, message) = ([Peer::Floor, Peer::Ours], Message::plain());
        let lines = on_one_processor(|| {
            self.compare(&peers, false, MANY_CONNECTIONS, &senders, &message, SPF_PASSES)
        })?;
        self.table(
            "SPF, 100 sender domains in turn, name server near, 100 connections, one processor for all",
            "busy",
            &lines,
        )?;
        let what = "SPF hot CPU over floor, 100 connections, one processor,";
        self.report.at_most(what, ratio(&lines, Peer::Ours, Peer::Floor), OVER_FLOOR);
        Ok(())
    }

    fn cold(&mut self) -> io::Result<()> {
        self.serve(zones::zone("cold", COLD_SENDERS), FAR);
        let senders = zones::senders("cold", COLD_SENDERS);
        let peers = [Peer::Ours, Peer::SpfMilter07, Peer::OpenDmarc, Peer::Pyspf, Peer::Rspamd];
        let message = Message::plain();
        let lines = self.compare(&peers, false, CONNECTIONS, &senders, &message, SPF_PASSES)?;
        self.table(
            "SPF, each sender domain new, name server 20 ms away, 10 connections",
            "cold",
            &lines,
        )
    }

    fn signed(&mut self, size: &str, name: &str, octets: usize) -> io::Result<()> {
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
        let peers = [Peer::Floor, Peer::Ours, Peer::OpenDkim, Peer::Chain, Peer::Rspamd];
        let lines =
            self.compare(&peers, true, CONNECTIONS, &[sender], &message, &[&["dkim=pass"]])?;
        self.table(
            &format!(
                "SPF, DKIM (one RSA-2048 signature) and DMARC, {size}, name server near, 10 connections"
            ),
            name,
            &lines,
        )?;
        match octets {
            ..1_000_000 => self.less(&lines, Peer::OpenDkim, &format!("DKIM {size}")),
            _ => {
                let times = format!("{:.1} x", ratio(&lines, Peer::OpenDkim, Peer::Ours));
                self.report.figure(format!("DKIM {size}: OpenDKIM over our CPU"), times);
            }
        }
        Ok(())
    }

    /// Messages at a fixed rate, whatever becomes of them.
    fn open(&mut self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let message = Message::plain();
        let setting = Setting { nameserver: NAMESERVER, content: false };
        let mut milters = Vec::new();
        for peer in [Peer::Floor, Peer::Ours] {
            let running = Running::start(peer, setting)?;
            warm(&running, &senders, &message)?;
            milters.push((peer, running, Vec::new()));
        }
        let time = self.time / CUTS;
        for _ in 0..ROUNDS * CUTS {
            for (_, running, runs) in &mut milters {
                let cpu = || running.cpu();
                let rig = Rig { sockets: &running.sockets, cpu: &cpu };
                let (connections, rate) = (OPEN_CONNECTIONS, OPEN_RATE);
                runs.push(load::run_open(rig, connections, rate, &senders, &message, time)?);
            }
        }
        let title = "SPF, 2000 messages a second (open loop), name server near";
        self.report.line(format!("\n{title}"));
        self.report.line(format!("{:<20}{:>10}{:>10}{:>10}", "", "p50 ms", "p99 ms", "max ms"));
        let mut bars = Vec::new();
        for (peer, _, runs) in milters {
            let figures = Figures::merge(runs);
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| milliseconds(&figures, part));
            self.report.line(format!("{:<20}{p50:>10.3}{p99:>10.3}{max:>10.3}", peer.name()));
            bars.push((peer.name(), p99));
        }
        if let [(_, floor), (_, ours)] = bars.as_slice() {
            let what = "p99 over floor at 2000 messages a second";
            self.report.at_most(what, ours / floor, OVER_FLOOR);
        }
        chart::write("p99-open", title, "99 % of messages within, ms", &bars)
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
        let cuts = if milters.len() == 2 { CUTS } else { 1 };
        let time = self.time / cuts;
        for _ in 0..ROUNDS * cuts {
            for (peer, running, next, runs) in &mut milters {
                let cpu = || running.cpu();
                let rig = Rig { sockets: &running.sockets, cpu: &cpu };
                // pyspf-milter 3.0.4 fails after some hundred messages of one connection: it gives each
                // a number at random, and takes one that comes again for a copy.
                let mode = if *peer == Peer::Pyspf { Mode::New } else { Mode::Kept };
                let run = load::run(rig, mode, connections, senders, message, next, time);
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

/// CPU time of a milter as a multiple of that of another.
fn ratio(lines: &[Line], of: Peer, over: Peer) -> f64 {
    let cpu = |peer| lines.iter().find(|line| line.peer == peer).map_or(f64::NAN, Line::cpu);
    cpu(of) / cpu(over)
}

impl Bench {
    /// Notes the goal that ours needs much less CPU time than this one.
    fn less(&mut self, lines: &[Line], than: Peer, what: &str) {
        let times = ratio(lines, than, Peer::Ours);
        let what = format!("{what}: {} needs at least {LESS} x our CPU", than.name());
        self.report.goal(what, format!("{times:.1} x"), times >= LESS);
    }

    /// Prints a table, and draws its CPU times and memory.
    fn table(&mut self, title: &str, name: &str, lines: &[Line]) -> io::Result<()> {
        self.report.line(format!(
            "\n{title}\n{:<20}{:>12}{:>8}{:>10}{:>10}{:>10}{:>10}{:>12}",
            "", "CPU ms/msg", "x ours", "msg/s", "p50 ms", "p99 ms", "max ms", "memory MiB"
        ));
        let (mut cpus, mut memories) = (Vec::new(), Vec::new());
        for line @ Line { peer, figures, memory } in lines {
            #[allow(clippy::cast_precision_loss)]
            let memory = *memory as f64 / 1024.0;
            self.report.line(format!(
                "{:<20}{:>12.4}{:>8.1}{:>10.0}{:>10.2}{:>10.2}{:>10.2}{memory:>12.1}",
                peer.name(),
                line.cpu() * 1e3,
                ratio(lines, *peer, Peer::Ours),
                figures.rate,
                milliseconds(figures, 0.5),
                milliseconds(figures, 0.99),
                milliseconds(figures, 1.0),
            ));
            cpus.push((peer.name(), line.cpu() * 1e3));
            memories.push((peer.name(), memory));
        }
        chart::write(&format!("cpu-{name}"), title, "CPU time of a message, ms", &cpus)?;
        chart::write(&format!("memory-{name}"), title, "Memory, MiB", &memories)
    }
}
