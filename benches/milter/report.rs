//! Tables, and the goals with their figures.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use testkit::bench::{
    load::{self, Figures, Mode},
    mta::{Message, Sender},
};

use crate::process::Milter;

/// How long a milter may take to settle, and how long its memory must stay the same then.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_millis(200);

/// Prints the head of a table of loads.
pub(crate) fn header(title: &str) {
    println!("\n{title}");
    println!(
        "{:<16}{:>6}{:>12}{:>11}{:>10}{:>10}{:>10}{:>11}{:>9}",
        "", "conns", "CPU us/msg", "msg/s", "p50 ms", "p99 ms", "max ms", "DNS q/msg", "x floor"
    );
}

/// Prints a line of a table of loads; the CPU time as a multiple of the floor's.
pub(crate) fn row(
    name: &str,
    connections: usize,
    figures: &Figures,
    queries: Option<f64>,
    floor: Option<&Figures>,
) -> f64 {
    let ratio = floor.map_or(f64::NAN, |floor| figures.cpu.as_secs_f64() / floor.cpu.as_secs_f64());
    let milliseconds = |part| figures.percentile(part).as_secs_f64() * 1e3;
    println!(
        "{name:<16}{connections:>6}{:>12.1}{:>11.0}{:>10.3}{:>10.3}{:>10.3}{:>11}{:>9}",
        figures.cpu.as_secs_f64() * 1e6,
        figures.rate,
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(1.0),
        queries.map_or_else(|| "-".to_owned(), |queries| format!("{queries:.2}")),
        if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") },
    );
    ratio
}

/// Prints the resident memory in KiB without connections, and at each number of idle ones.
pub(crate) fn memory(
    name: &str,
    milter: &Milter,
    senders: &[Sender],
    numbers: &[usize],
) -> io::Result<Vec<u64>> {
    let message = Message::plain();
    let mut figures = vec![settled(milter)?];
    for &connections in numbers {
        let idle = load::idle(&milter.unix, connections, senders, &message)?;
        figures.push(settled(milter)?);
        for mta in idle {
            mta.quit()?;
        }
    }
    let columns: String = figures.iter().map(|figure| format!("{figure:>10}")).collect();
    println!("{name:<16}{columns}");
    Ok(figures)
}

/// Resident memory once it no longer changes.
fn settled(milter: &Milter) -> io::Result<u64> {
    let begin = Instant::now();
    let mut figure = milter.resident()?;
    let mut since = begin;
    while since.elapsed() < SETTLED && begin.elapsed() < SETTLE_LIMIT {
        sleep(SETTLED / 10);
        let now = milter.resident()?;
        if now != figure {
            figure = now;
            since = Instant::now();
        }
    }
    Ok(figure)
}

/// Prints how many round trips a tree took.
pub(crate) fn trips(name: &str, one: Duration, tree: Duration) -> f64 {
    let trips = tree.as_secs_f64() / one.as_secs_f64();
    println!(
        "{name:<16}{:>11.1} ms{:>11.1} ms{trips:>14.1}",
        one.as_secs_f64() * 1e3,
        tree.as_secs_f64() * 1e3
    );
    trips
}

/// A goal, and whether it was met.
#[derive(Default)]
pub(crate) struct Goals(Vec<(String, String, bool)>);

impl Goals {
    fn note(&mut self, goal: String, figure: String, met: bool) {
        self.0.push((goal, figure, met));
    }

    /// CPU time as a multiple of the floor's.
    pub(crate) fn ratio(&mut self, mode: Mode, connections: usize, ratio: f64) {
        let mode = if mode == Mode::Kept { "kept" } else { "new" };
        self.note(
            format!("hot CPU per message at most 1.5 x floor, {connections} connections, {mode}"),
            format!("{ratio:.2} x"),
            ratio <= 1.5,
        );
    }

    /// The middle latency over TCP.
    pub(crate) fn tcp_latency(&mut self, p50: Duration) {
        let figure = format!("{:.3} ms", p50.as_secs_f64() * 1e3);
        self.note(
            "TCP p50 under 1 ms at one connection".to_owned(),
            figure,
            p50 < Duration::from_millis(1),
        );
    }

    /// KiB that a thousand connections take.
    pub(crate) fn memory(&mut self, kib: u64) {
        let figure = format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
        self.note("1000 idle connections at most 8 MiB".to_owned(), figure, kib <= 8 * 1024);
    }

    /// Round trips of a tree.
    pub(crate) fn trips(&mut self, trips: f64) {
        // The work in between is not a round trip.
        self.note(
            "cold three-level include tree in at most 5 round trips".to_owned(),
            format!("{trips:.1}"),
            trips.round() <= 5.0,
        );
    }

    /// Prints them.
    pub(crate) fn print(&self) {
        println!("\nGoals");
        for (goal, figure, met) in &self.0 {
            println!("{goal:<64}{figure:>10}  {}", if *met { "met" } else { "not met" });
        }
    }
}
