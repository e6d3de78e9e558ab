//! Mixed traffic for a long time: nothing grows. `make soak`.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    bench::chart::{Chart, Line, Scale},
    fields::Field,
    milter_client::{MilterClient, Reply, Socket},
    nameserver::{Behaviour, NameServer},
    scratch, signer, wait_for,
};

use super::{
    rng::Rng,
    sick::{Illness, SickServer},
    subject::{Sample, Subject, Surroundings},
    witness::{Manner, Witness, ZONE, config, warm_up},
};

/// MTAs with mixed traffic. Each has a connection at a time.
const MTAS: usize = 6;

/// Their pause after each session: some hundred messages a second, which leave the machine to
/// others.
const PAUSE: Duration = Duration::from_millis(15);

/// What the witness sends in a session.
const MESSAGES_OF_A_ROUND: usize = 3;

/// How many of the witness's messages may be put off: a few, and one of so many. On a busy machine the
/// name server, which is here, may answer too late.
const MAX_PUT_OFF: usize = 3;
const MESSAGES_TO_EACH_PUT_OFF: usize = 10_000;

/// Answers that are kept, so few that the cache is full after a while.
const CACHE: usize = 2000;

/// Memory that may come and go, in KiB.
const MEMORY_SLACK: usize = 8 * 1024;

/// Senders of all results, each at many names.
const SENDERS: [(&str, &str); 7] = [
    ("pass", "TXT \"v=spf1 ip4:192.0.2.0/24 -all\""),
    ("fail", "TXT \"v=spf1 -all\""),
    ("softfail", "TXT \"v=spf1 ~all\""),
    ("neutral", "TXT \"v=spf1 ?all\""),
    ("none", "TXT \"no SPF\""),
    ("permerror", "TXT \"v=spf1 nonsense\""),
    (
        "deep",
        "TXT \"v=spf1 a:%{d} mx:%{d} include:x.softfail.mix.example exists:%{i}.x.pass.mix.example -all\"",
    ),
];

#[derive(Debug, Default)]
struct Counts {
    messages: AtomicUsize,
    refused: AtomicUsize,
    left: AtomicUsize,
    reloads: AtomicUsize,
}

/// A line of the table.
struct Row {
    minutes: f64,
    sample: Sample,
    processor_time: u64,
    messages: usize,
    refused: usize,
    left: usize,
    reloads: usize,
    queries: usize,
}

pub fn run(seed: u64, minutes: f64) -> ExitCode {
    println!("soak: SEED={seed} MINUTES={minutes}");
    let mut rng = Rng::new(seed);
    let mut zone = signer::fill_in_keys(ZONE);
    for (name, record) in SENDERS {
        writeln!(zone, "*.{name}.mix.example {record}").unwrap();
    }
    zone +=
        "*.sick.example TXT \"v=spf1 -all\"\n_dmarc.mix.example TXT \"v=DMARC1; p=quarantine\"\n";
    let good = NameServer::start(Zone::parse(&zone).unwrap());
    good.behave("*", Behaviour { ttl: 60, soa: Some((60, 60)), ..Behaviour::default() });
    let sick = SickServer::start(good.address(), &mut rng);
    sick.catch(Illness::Any, "sick.example");
    let cache = format!("dns_cache_size = {CACHE}\nlog_level = debug\n");
    let config = |name| config(name, &[sick.address()]) + &cache;
    let subject = Subject::start_in(Surroundings::after("exec 2>>FOLDER/log"), &config('a'));
    warm_up(&subject.socket(), &mut rng);
    let begin = wait_for("the daemon to be at rest", || Some(subject.sample()));

    let (over, counts) = (AtomicBool::new(false), Counts::default());
    let manner = Manner { trouble: true, ..Manner::default() };
    let witness = Witness::start(&subject.socket(), &mut rng, manner);
    let length = Duration::from_secs_f64(minutes * 60.0);
    let interval = (length / 600).max(Duration::from_secs(1));
    let mut rows = Vec::new();
    println!("{HEAD}");
    thread::scope(|scope| {
        for _ in 0..MTAS {
            let (mut rng, socket, over, counts) = (rng.fork(), subject.socket(), &over, &counts);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // The end of a session that the daemon ends is no fault here.
                    let _ = session(&socket, &mut rng, counts);
                    thread::sleep(PAUSE);
                }
            });
        }
        let begun = Instant::now();
        let (mut number, mut queries) = (0, 0);
        while begun.elapsed() < length {
            number += 1;
            thread::sleep((interval * number).saturating_sub(begun.elapsed()));
            // What it remembers of queries would grow.
            queries += good.total();
            good.clear();
            let row = Row {
                minutes: begun.elapsed().as_secs_f64() / 60.0,
                sample: subject.sample(),
                processor_time: subject.processor_time(),
                messages: counts.messages.load(Ordering::Relaxed)
                    + witness.rounds() * MESSAGES_OF_A_ROUND,
                refused: counts.refused.load(Ordering::Relaxed),
                left: counts.left.load(Ordering::Relaxed),
                reloads: counts.reloads.load(Ordering::Relaxed),
                queries,
            };
            println!("{}", row.csv());
            read_log(&subject);
            rows.push(row);
            if number % 3 == 0 {
                let name = ['a', 'b'][rng.below(2)];
                let broken = if rng.once_in(4) { "no such line\n" } else { "" };
                subject.write_config(&(config(name) + broken));
                subject.signal("HUP");
                counts.reloads.fetch_add(1, Ordering::Relaxed);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    write_files(&rows);
    let testimony = witness.stop();
    let end = wait_for("descriptors to be closed", || {
        let now = subject.sample();
        (now.descriptors <= begin.descriptors + 2).then_some(now)
    });
    read_log(&subject);
    subject.stop();
    println!(
        "soak: SEED={seed}: at the begin {begin:?}, at the end {end:?}; the witness: {} messages, {} of them put off, slowest {} ms",
        testimony.messages,
        testimony.deferred,
        testimony.slowest.as_millis()
    );
    let mut broken = growth(&rows, begin);
    if testimony.deferred > MAX_PUT_OFF + testimony.messages / MESSAGES_TO_EACH_PUT_OFF {
        broken.push(format!("messages of the witness that were put off: {}", testimony.deferred));
    }
    broken.iter().for_each(|broken| println!("soak: BROKEN: {broken}"));
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the log so far, in which there must be no fault of the program, and empties it: it would be
/// large after an hour.
fn read_log(subject: &Subject) {
    let path = subject.path("log");
    let log = fs::read_to_string(&path).unwrap_or_default();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let fault = log.lines().find(|line| line.contains("internal error"));
    assert!(fault.is_none(), "{fault:?}");
}

const HEAD: &str = "minutes,rss_kib,peak_kib,descriptors,threads,processor_ms,messages,refused,left,reloads,queries";

impl Row {
    fn csv(&self) -> String {
        let Sample { memory, descriptors, threads, peak } = self.sample;
        format!(
            "{:.3},{memory},{peak},{descriptors},{threads},{},{},{},{},{},{}",
            self.minutes,
            self.processor_time,
            self.messages,
            self.refused,
            self.left,
            self.reloads,
            self.queries
        )
    }
}

/// What grew past its bound.
fn growth(rows: &[Row], begin: Sample) -> Vec<String> {
    let mut broken = Vec::new();
    let quarter = rows.len() / 4;
    let mean =
        |rows: &[Row]| rows.iter().map(|row| row.sample.memory).sum::<usize>() / rows.len().max(1);
    // The first quarter fills the cache.
    let (early, late) = (mean(&rows[quarter..2 * quarter]), mean(&rows[3 * quarter..]));
    let slack = MEMORY_SLACK.max(early / 10);
    if quarter > 0 && late > early + slack {
        broken.push(format!("memory grows: {early} KiB in the second quarter, {late} in the last"));
    }
    // Each of the places of the cache is 1 KiB (docs/limits.md), and as much for keeping it; each
    // connection needs at most 1 MiB, and its header as much.
    let bound = begin.memory + 2 * CACHE + (MTAS + 2) * 2048 + 2 * MEMORY_SLACK;
    let most =
        |of: fn(&Sample) -> usize| rows.iter().map(|row| of(&row.sample)).max().unwrap_or_default();
    let memory = most(|sample| sample.memory);
    if memory > bound {
        broken.push(format!("memory: {memory} KiB, bound {bound}"));
    }
    // A connection of each MTA and some that end, and as many questions at a time as each may ask.
    let (descriptors, bound) =
        (most(|sample| sample.descriptors), begin.descriptors + 4 * MTAS + 250);
    if descriptors > bound {
        broken.push(format!("descriptors: {descriptors}, bound {bound}"));
    }
    let (threads, bound) = (most(|sample| sample.threads), begin.threads + 2);
    if threads > bound {
        broken.push(format!("threads: {threads}, bound {bound}"));
    }
    broken
}

fn write_files(rows: &[Row]) {
    let folder = scratch::target_folder().join("soak");
    fs::create_dir_all(&folder).unwrap();
    let lines: Vec<String> =
        [HEAD.to_owned()].into_iter().chain(rows.iter().map(Row::csv)).collect();
    fs::write(folder.join("soak.csv"), lines.join("\n") + "\n").unwrap();
    let rates: Vec<f64> = rows
        .windows(2)
        .map(|pair| {
            (pair[1].messages - pair[0].messages) as f64
                / ((pair[1].minutes - pair[0].minutes) * 60.0)
        })
        .collect();
    let rate = |number: usize| rates.get(number.saturating_sub(1)).copied().unwrap_or_default();
    type Value<'a> = Box<dyn Fn(usize, &Row) -> f64 + 'a>;
    let curves: [(&str, &str, &str, Value<'_>); 4] = [
        ("memory", "Resident memory", "MiB", Box::new(|_, row| row.sample.memory as f64 / 1024.0)),
        ("descriptors", "Open descriptors", "", Box::new(|_, row| row.sample.descriptors as f64)),
        ("threads", "Threads", "", Box::new(|_, row| row.sample.threads as f64)),
        ("messages", "Messages", "per second", Box::new(|number, _| rate(number))),
    ];
    for (name, title, unit, value) in curves {
        let points = rows.iter().enumerate();
        let points = points.map(|(number, row)| (row.minutes, value(number, row))).collect();
        let lines = [Line { name: name.to_owned(), points }];
        let chart = Chart { title, below: "minutes", unit, scale: Scale::Linear, lines: &lines };
        let path = folder.join(format!("soak-{name}.svg"));
        fs::write(&path, chart.svg()).unwrap();
        println!("soak: {}", path.display());
    }
    println!("soak: {}", folder.join("soak.csv").display());
}

/// A session of some messages, which ends somewhere.
fn session(socket: &Socket, rng: &mut Rng, counts: &Counts) -> std::io::Result<()> {
    let mut client = MilterClient::connect_to(socket)?;
    client.gathers = rng.once_in(2);
    if rng.once_in(30) {
        let octets = rng.octets(500);
        client.stream().write_all(&octets)?;
        return Ok(());
    }
    let host = format!("h{}.pass.mix.example", rng.below(5000));
    client.connect(&host, Some("192.0.2.77:25000".parse().unwrap()))?;
    client.helo(&host)?;
    for _ in 0..=rng.below(4) {
        if rng.once_in(12) {
            counts.left.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        message(&mut client, rng, counts)?;
    }
    client.quit()
}

fn message(client: &mut MilterClient, rng: &mut Rng, counts: &Counts) -> std::io::Result<()> {
    let domain = match rng.below(10) {
        0 => format!("s{:x}.sick.example", rng.next()),
        _ => format!("d{}.{}.mix.example", rng.below(5000), SENDERS[rng.below(7)].0),
    };
    let reply = client.mail(format!("<amy@{domain}>"))?;
    if rng.once_in(25) {
        // It leaves amid a message, or gives it up.
        client.abort()?;
        counts.left.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    counts.messages.fetch_add(1, Ordering::Relaxed);
    if reply != Reply::Continue {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return client.abort();
    }
    let lines = match rng.below(100) {
        0 => 40_000,
        1..10 => 6000,
        10..40 => 400,
        _ => 20,
    };
    let body =
        b"All of it is said in some words, which are said again.\r\n".repeat(1 + rng.below(lines));
    let mut fields =
        vec![Field::new("From", format!(" Amy <amy@{domain}>")), Field::new("Subject", " hello")];
    let signatures = [0, 1, 1, 2, 12][rng.below(5)];
    for number in 0..signatures {
        let mut signature = signer::sign("d=good.example s=ed", &fields, &body);
        if number % 2 == 1 {
            signature = signature.replace("bh=", "bh=x");
        }
        fields.insert(0, Field::new("DKIM-Signature", signature));
    }
    for number in 0..rng.below(30) {
        fields.push(Field::new("X-Field", format!(" {number}")));
    }
    if rng.once_in(3) {
        fields.push(Field::new("Authentication-Results", " a.example; spf=pass"));
    }
    let end = client.message(&fields, &body)?;
    if end.reply != Reply::Continue {
        counts.refused.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
