//! Tables.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use testkit::bench::{
    load::{self, Figures},
    mta::{Message, Sender},
    report::Report,
};

use crate::process::Milter;

/// How long a milter may take to settle, and how long its memory must stay the same then.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_millis(200);

/// Prints the head of a table of loads.
pub(crate) fn header(report: &mut Report, title: &str) {
    report.line(format!(
        "\n{title}\n{:<16}{:>6}{:>12}{:>11}{:>10}{:>10}{:>10}{:>11}{:>9}",
        "", "conns", "CPU us/msg", "msg/s", "p50 ms", "p99 ms", "max ms", "DNS q/msg", "x floor"
    ));
}

/// Prints a line of a table of loads; the CPU time as a multiple of the floor's.
pub(crate) fn row(
    report: &mut Report,
    name: &str,
    connections: usize,
    figures: &Figures,
    queries: Option<f64>,
    floor: Option<&Figures>,
) -> f64 {
    let ratio = floor.map_or(f64::NAN, |floor| figures.cpu.as_secs_f64() / floor.cpu.as_secs_f64());
    let milliseconds = |part| figures.percentile(part).as_secs_f64() * 1e3;
    report.line(format!(
        "{name:<16}{connections:>6}{:>12.1}{:>11.0}{:>10.3}{:>10.3}{:>10.3}{:>11}{:>9}",
        figures.cpu.as_secs_f64() * 1e6,
        figures.rate,
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(1.0),
        queries.map_or_else(|| "-".to_owned(), |queries| format!("{queries:.2}")),
        if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") },
    ));
    ratio
}

/// Prints the resident memory in KiB without connections, and at each number of idle ones.
pub(crate) fn memory(
    report: &mut Report,
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
    report.line(format!("{name:<16}{columns}"));
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
pub(crate) fn trips(report: &mut Report, name: &str, one: Duration, tree: Duration) -> f64 {
    let trips = tree.as_secs_f64() / one.as_secs_f64();
    report.line(format!(
        "{name:<16}{:>11.1} ms{:>11.1} ms{trips:>14.1}",
        one.as_secs_f64() * 1e3,
        tree.as_secs_f64() * 1e3
    ));
    trips
}
