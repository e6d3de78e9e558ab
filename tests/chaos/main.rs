//! The daemon under bad treatment: `make chaos`, `make soak`; `docs/testing.md` has more.
//!
//! Each case starts the real program, does to it what its name says, and holds it to a promise, while a
//! well-behaved MTA beside checks every answer. A broken promise is a panic in the case. Without
//! `--chaos` or `--soak` only the short cases run, and only with `--include-ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod mtas;
mod nameservers;
mod overload;
mod resources;
mod rng;
mod sick;
mod signals;
mod soak;
mod stage;
mod subject;
mod together;
mod witness;

use std::{
    process::ExitCode,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::geteuid,
};

use rng::Rng;
use stage::{Case, Stage};

/// How long a case may take: far more than it does, and less than a hang.
const CASE_LIMIT: Duration = Duration::from_secs(150);

fn cases() -> Vec<Case> {
    [
        nameservers::cases(),
        mtas::cases(),
        resources::cases(),
        signals::cases(),
        together::cases(),
        overload::cases(),
    ]
    .concat()
}

#[derive(Debug, Default)]
struct Arguments {
    is_chaos: bool,
    is_soak: bool,
    /// The short cases are wanted.
    is_short: bool,
    seed: Option<u64>,
    minutes: Option<f64>,
    /// Of each case that is wanted a part of its name; none: all.
    names: Vec<String>,
    lists: bool,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments::default();
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match name {
            "--chaos" => arguments.is_chaos = true,
            "--soak" => arguments.is_soak = true,
            "--include-ignored" | "--ignored" => arguments.is_short = true,
            "--list" => arguments.lists = true,
            "--seed" => arguments.seed = value.parse().ok(),
            "--minutes" => arguments.minutes = value.parse().ok(),
            // Options of other test binaries.
            _ if name.starts_with('-') => {}
            _ => arguments.names.push(argument),
        }
    }
    arguments
}

/// As many descriptors as the system lets this process have.
fn raise_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

fn main() -> ExitCode {
    let arguments = arguments();
    let is_named = |case: &Case| {
        arguments.names.is_empty()
            || arguments.names.iter().any(|name| case.name.contains(name.as_str()))
    };
    let wanted: Vec<Case> = cases()
        .into_iter()
        .filter(is_named)
        .filter(|case| arguments.is_chaos || case.is_short && arguments.is_short)
        .collect();
    if arguments.lists {
        cases().iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let seed = arguments.seed.unwrap_or_else(|| {
        if arguments.is_chaos || arguments.is_soak {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
        } else {
            1
        }
    });
    raise_limit();
    if arguments.is_soak {
        return soak::run(seed, arguments.minutes.unwrap_or(2.0));
    }
    if wanted.is_empty() {
        println!("chaos: nothing to do without --chaos, --soak or --include-ignored");
        return ExitCode::SUCCESS;
    }
    if arguments.is_chaos && !geteuid().is_root() {
        eprintln!("chaos: needs root, for mounts and limits of its own");
        return ExitCode::FAILURE;
    }
    println!("chaos: SEED={seed}, {} cases", wanted.len());
    let begun = Instant::now();
    let rows: Vec<Row> =
        wanted.into_iter().map(|case| run(case, seed, !arguments.is_chaos)).collect();
    print_table(&rows);
    let broken: Vec<&str> =
        rows.iter().filter(|row| row.seen.is_none()).map(|row| row.case.name).collect();
    println!("\nchaos: SEED={seed}, {} s", begun.elapsed().as_secs());
    if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("chaos: BROKEN: {}", broken.join("; "));
        ExitCode::FAILURE
    }
}

/// The outcome of a case.
struct Row {
    case: Case,
    /// `None`: the promise was broken.
    seen: Option<String>,
    measured: String,
    seconds: u64,
}

/// Runs a case on a thread of its own, so that one that hangs is noticed.
fn run(case: Case, seed: u64, is_short: bool) -> Row {
    println!("chaos: {} ...", case.name);
    let begun = Instant::now();
    // Whatever cases are wanted, each has the same numbers for a seed.
    let own =
        case.name.bytes().fold(seed, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()));
    let (sender, receiver) = channel();
    let thread = thread::Builder::new().name(case.name.into()).spawn(move || {
        let mut stage = Stage::new(Rng::new(own), is_short);
        let seen = (case.run)(&mut stage);
        let _ = sender.send((seen, stage.measured()));
    });
    let thread = thread.unwrap();
    let (seen, measured) = match receiver.recv_timeout(CASE_LIMIT) {
        Ok((seen, measured)) => {
            let _ = thread.join();
            (Some(seen), measured)
        }
        Err(RecvTimeoutError::Disconnected) => {
            let _ = thread.join();
            (None, String::new())
        }
        Err(RecvTimeoutError::Timeout) => {
            eprintln!("chaos: {} still runs after {CASE_LIMIT:?}", case.name);
            subject::kill_all();
            (None, String::new())
        }
    };
    Row { case, seen, measured, seconds: begun.elapsed().as_secs() }
}

fn print_table(rows: &[Row]) {
    println!(
        "\n| treatment | promised | seen | before -> after: RSS in KiB (peak), descriptors | s |"
    );
    println!("|---|---|---|---|---|");
    for row in rows {
        let seen = row.seen.as_deref().unwrap_or("BROKEN");
        println!(
            "| {} | {} | {seen} | {} | {} |",
            row.case.name, row.case.promise, row.measured, row.seconds
        );
    }
}
