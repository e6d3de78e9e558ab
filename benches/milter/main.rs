//! Measures the daemon: CPU time per message, messages per second, latency, memory, and round trips
//! to name servers.
//!
//! `make bench BENCHES=milter [SECTIONS=...]`, with the sections `hot`, `cold`, `memory` and
//! `tree`; none means all. `docs/benchmarks.md` says what is measured and how. Slowness is
//! reported, and is not an error.

mod process;
mod report;

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::AtomicUsize,
    time::{Duration, Instant},
};

use process::Milter;
use report::{header, memory, row};
use testkit::{
    bench::{
        awake,
        load::{self, Figures, Mode, Rig},
        mta::{Message, Mta, Sender, Socket},
        program,
        report::Report,
        zones,
    },
    nameserver::NameServer,
};

/// Senders whose records all fit into the cache.
const HOT_SENDERS: usize = 100;

/// Senders whose records do not: when a sender's turn comes again, the cache has long lost what it
/// knew of it.
const COLD_SENDERS: usize = 4000;
const COLD_CACHE: &str = "dns_cache_size = 500\n";

/// Milters that are compared take turns, so that what else the machine does slows all of them down.
const ROUNDS: u32 = 5;

/// The latency of a far name server.
const FAR: Duration = Duration::from_millis(20);

/// The most that CPU time may be, as a multiple of the floor's.
const OVER_FLOOR: f64 = 1.3;

/// Trees of includes to look through.
const TREES: usize = 15;

/// Where the name server is for a milter that reads a resolv.conf, which has no ports.
const RESOLV_CONF_SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 83, 80, 70)), 53);

/// The surroundings of all sections.
struct Bench {
    nameserver: NameServer,
    /// The program of another milter to measure as well.
    peer: Option<PathBuf>,
    /// How long each figure is measured.
    time: Duration,
    report: Report,
}

fn main() -> ExitCode {
    program::main(measure)
}

fn measure(sections: &[String]) -> io::Result<()> {
    program::raise_limits()?;
    let mut peer = env::var_os("SPF_MILTER_PEER").map(PathBuf::from).filter(|path| path.exists());
    let mut nameserver = None;
    if peer.is_some() {
        match NameServer::start_on(RESOLV_CONF_SERVER, zones::zone("hot", 0)) {
            Ok(server) => nameserver = Some(server),
            Err(error) => {
                println!("The peer is left out: no name server at {RESOLV_CONF_SERVER}: {error}");
                peer = None;
            }
        }
    }
    let nameserver = nameserver.unwrap_or_else(|| NameServer::start(zones::zone("hot", 0)));
    let report = Report::start("tables-milter.txt", &[]);
    let mut bench = Bench { nameserver, peer, time: program::time(), report };
    let wanted = |name: &str| program::is_wanted(sections, name);
    if wanted("hot") {
        bench.hot()?;
    }
    if wanted("cold") {
        bench.cold(Duration::ZERO)?;
        bench.cold(FAR)?;
    }
    if wanted("memory") {
        bench.memory()?;
    }
    if wanted("tree") {
        bench.trees()?;
    }
    bench.report.finish()
}

impl Bench {
    fn serve(&self, zone: spf_milter::dns::zone::Zone, latency: Duration) {
        zones::serve(&self.nameserver, zone, latency);
    }

    fn daemon(&self, extra: &str) -> io::Result<Milter> {
        Milter::daemon(self.nameserver.address(), extra)
    }

    /// The other milter, if there is one and it can be started.
    fn peer(&mut self) -> Option<Milter> {
        let program = self.peer.clone()?;
        match Milter::peer(&program, self.nameserver.address()) {
            Ok(peer) => Some(peer),
            Err(error) => {
                println!("The peer is left out: {error}");
                self.peer = None;
                None
            }
        }
    }

    /// Measures milters in turn.
    fn compare(
        &self,
        milters: &[(&Milter, &Socket)],
        mode: Mode,
        connections: usize,
        senders: &[Sender],
    ) -> io::Result<Vec<(Figures, f64)>> {
        let message = Message::plain();
        let next: Vec<_> = milters.iter().map(|_| AtomicUsize::new(0)).collect();
        let mut runs: Vec<(Vec<Figures>, usize, usize)> =
            milters.iter().map(|_| (Vec::new(), 0, 0)).collect();
        for _ in 0..ROUNDS {
            for (((milter, socket), next), (figures, queries, messages)) in
                milters.iter().zip(&next).zip(&mut runs)
            {
                self.nameserver.clear();
                let rig = Rig { sockets: std::slice::from_ref(*socket), cpu: &|| milter.cpu() };
                let time = self.time / ROUNDS;
                let run = load::run(rig, mode, connections, senders, &message, next, time)?;
                *queries += self.nameserver.total();
                // Each connection begins with a message that is not measured.
                *messages += run.messages + connections;
                figures.push(run);
            }
        }
        #[allow(clippy::cast_precision_loss)]
        let result = |(figures, queries, messages)| {
            (Figures::merge(figures), queries as f64 / messages as f64)
        };
        Ok(runs.into_iter().map(result).collect())
    }

    fn hot(&mut self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        let daemon = self.daemon("")?;
        let floor = Milter::floor(&daemon)?;
        let peer = self.peer();
        for milter in [Some(&daemon), peer.as_ref()].into_iter().flatten() {
            warm_up(milter, &senders)?;
        }
        for (title, mode, tcp) in [
            ("Hot cache, UNIX socket, connections kept", Mode::Kept, false),
            ("Hot cache, TCP socket, connections kept", Mode::Kept, true),
            ("Hot cache, UNIX socket, a new connection for each message", Mode::New, false),
        ] {
            header(&mut self.report, title);
            for connections in [1, 10, 100] {
                // A connection that waits for each answer lets both sides fall asleep several times
                // a message.
                let _awake = (connections == 1).then(awake::keep_awake).transpose()?;
                let peer = peer.as_ref().filter(|_| !tcp);
                let milters = [Some(&floor), Some(&daemon), peer].into_iter().flatten();
                let milters: Vec<_> = milters
                    .map(|milter| (milter, if tcp { &milter.tcp } else { &milter.unix }))
                    .collect();
                let figures = self.compare(&milters, mode, connections, &senders)?;
                let ratio = print_rows(&mut self.report, connections, &figures);
                match figures.get(1) {
                    Some((ours, _)) if tcp && connections == 1 => {
                        let p50 = ours.percentile(0.5);
                        self.report.goal(
                            "TCP p50 under 1 ms at one connection",
                            format!("{:.3} ms", p50.as_secs_f64() * 1e3),
                            p50 < Duration::from_millis(1),
                        );
                    }
                    _ => {}
                }
                if !tcp {
                    let mode = if mode == Mode::Kept { "kept" } else { "new" };
                    let what = format!("hot CPU over floor, {connections} connections, {mode},");
                    self.report.at_most(what, ratio, OVER_FLOOR);
                }
            }
        }
        drop((daemon, floor, peer));
        self.serve(zones::zone_of_new_clients("hot", HOT_SENDERS), Duration::ZERO);
        header(
            &mut self.report,
            "Hot cache, UNIX socket, connections kept, no outcome of SPF kept",
        );
        let daemon = self.daemon("")?;
        let floor = Milter::floor(&daemon)?;
        warm_up(&daemon, &senders)?;
        let milters = [(&floor, &floor.unix), (&daemon, &daemon.unix)];
        for connections in [10, 100] {
            let figures = self.compare(&milters, Mode::Kept, connections, &senders)?;
            print_rows(&mut self.report, connections, &figures);
        }
        drop((daemon, floor));
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        header(
            &mut self.report,
            "Hot cache, UNIX socket, connections kept, both fields added, forged ones looked for",
        );
        let daemon = self.daemon("header = Received-SPF, Authentication-Results\n")?;
        let floor = Milter::floor(&daemon)?;
        warm_up(&daemon, &senders)?;
        let figures = self.compare(
            &[(&floor, &floor.unix), (&daemon, &daemon.unix)],
            Mode::Kept,
            10,
            &senders,
        )?;
        print_rows(&mut self.report, 10, &figures);
        Ok(())
    }

    fn cold(&mut self, latency: Duration) -> io::Result<()> {
        self.serve(zones::zone("cold", COLD_SENDERS), latency);
        let senders = zones::senders("cold", COLD_SENDERS);
        let title = format!(
            "Cold cache, name server {} ms away, UNIX socket, connections kept",
            latency.as_millis()
        );
        header(&mut self.report, &title);
        for connections in [1, 10, 100] {
            let daemon = self.daemon(COLD_CACHE)?;
            let peer = self.peer();
            let milters: Vec<_> = [Some(&daemon), peer.as_ref()]
                .into_iter()
                .flatten()
                .map(|milter| (milter, &milter.unix))
                .collect();
            let figures = self.compare(&milters, Mode::Kept, connections, &senders)?;
            for (name, (figures, queries)) in
                ["spf-milter", "SPF Milter 0.7"].into_iter().zip(&figures)
            {
                row(&mut self.report, name, connections, figures, Some(*queries), None);
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> io::Result<()> {
        self.serve(zones::zone("hot", HOT_SENDERS), Duration::ZERO);
        let senders = zones::senders("hot", HOT_SENDERS);
        self.report.line(format!(
            "\nResident memory in KiB, connections idle after one message each\n\
             {:<16}{:>10}{:>10}{:>10}{:>10}",
            "connections", 0, 1, 100, 1000
        ));
        let daemon = self.daemon("")?;
        let floor = Milter::floor(&daemon)?;
        let peer = self.peer();
        memory(&mut self.report, "floor", &floor, &senders, &[1, 100, 1000])?;
        let figures = memory(&mut self.report, "spf-milter", &daemon, &senders, &[1, 100, 1000])?;
        if let (Some(none), Some(many)) = (figures.first(), figures.last()) {
            let kib = many.saturating_sub(*none);
            let figure = format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
            self.report.goal("1000 idle connections at most 8 MiB", figure, kib <= 8 * 1024);
        }
        if let Some(peer) = peer {
            // It serves a hundred at a time.
            memory(&mut self.report, "SPF Milter 0.7", &peer, &senders, &[1, 100])?;
        }
        Ok(())
    }

    /// Round trips: how often as long as a check of one look-up a check of a tree takes.
    fn trees(&mut self) -> io::Result<()> {
        self.serve(zones::trees(TREES), FAR);
        self.report.line(format!(
            "\nA cold three-level include tree, ten terms that ask DNS, name server {} ms away\n\
             {:<16}{:>14}{:>14}{:>14}",
            FAR.as_millis(),
            "",
            "one look-up",
            "tree",
            "round trips"
        ));
        let daemon = self.daemon("")?;
        let (flat, tree) = (times(&daemon, "flat")?, times(&daemon, "tree")?);
        let trips = report::trips(&mut self.report, "spf-milter", flat, tree);
        // The work in between is not a round trip.
        self.report.goal(
            "cold three-level include tree in at most 4 round trips",
            format!("{trips:.1}"),
            trips.round() <= 4.0,
        );
        if let Some(peer) = self.peer() {
            let (flat, tree) = (times(&peer, "flat")?, times(&peer, "tree")?);
            report::trips(&mut self.report, "SPF Milter 0.7", flat, tree);
        }
        Ok(())
    }
}

/// Prints floor, daemon and peer; the daemon's CPU time as a multiple of the floor's.
fn print_rows(report: &mut Report, connections: usize, figures: &[(Figures, f64)]) -> f64 {
    let base = figures.first().map(|(base, _)| base);
    let mut ratios = Vec::new();
    for (name, (figures, queries)) in
        ["floor", "spf-milter", "SPF Milter 0.7"].into_iter().zip(figures)
    {
        ratios.push(row(report, name, connections, figures, Some(*queries), base));
    }
    ratios.get(1).copied().unwrap_or(f64::NAN)
}

/// Lets a milter ask for everything once.
fn warm_up(milter: &Milter, senders: &[Sender]) -> io::Result<()> {
    let message = Message::plain();
    let mut mta = Mta::connect(&milter.unix)?;
    for (n, sender) in senders.iter().enumerate() {
        if n == 0 {
            mta.begin(sender)?;
        }
        mta.message(sender, &message)?;
    }
    mta.quit()
}

/// How long MAIL FROM takes for domains of this label, the middle one.
fn times(milter: &Milter, label: &str) -> io::Result<Duration> {
    let mut times = Vec::new();
    for n in 0..TREES {
        // The HELO name is the same, so that DNS is asked for it once.
        let sender =
            Sender { helo: "out.helo.example".into(), domain: format!("{label}{n}.example") };
        let mut mta = Mta::connect(&milter.unix)?;
        mta.begin(&sender)?;
        mta.helo(&sender)?;
        let start = Instant::now();
        mta.mail(&sender)?;
        times.push(start.elapsed());
        mta.rest(&[], &Message::plain())?;
        mta.quit()?;
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
