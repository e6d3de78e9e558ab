//! How the cost of the daemon grows with connections, cached names, signatures, bodies, and the
//! lists of its configuration.
//!
//! `make bench-growth [SECTIONS=...]`, with the sections `connections`, `cache`,
//! `signatures`, `bodies` and `lists`, or the name of the parameter of a list; none means all.
//! `docs/benchmarks.md` says what is measured and how. The curves are in
//! `target/performance/growth-*.svg`. A goal that is not met is reported, and is not an error.

#![allow(clippy::cast_precision_loss, reason = "sizes and figures are small")]
#![allow(clippy::indexing_slicing, reason = "tables of constant length")]

mod answers;
mod lists;
mod report;
mod subject;

use std::{
    env, io,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use answers::Answers;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use report::{Report, Row};
use spf_milter::dns::zone::Zone;
use subject::{Configuration, Milter, Subject, measure, micros};
use testkit::{
    bench::{
        awake,
        growth::Goal,
        load::{self, Mode},
        mta::{Message, Mta, Sender, Socket},
        program,
        signer::{self, FIELDS, Key},
        zones,
    },
    nameserver::{Behaviour, NameServer},
};

/// Connections of one subject, unless they are what is counted.
const CONNECTIONS: usize = 10;

/// Sender domains that are asked for again and again.
const HOT: usize = 100;

/// What a milter needs beside its connections, and this program for those of several milters.
const DESCRIPTORS: u64 = 15_000;

/// The line that bodies are made of; it is in relaxed form.
const LINE: &str =
    "The quick brown fox jumps over the lazy dog, and then another one, and so on.\r\n";

/// The surroundings of all sections.
struct Bench {
    nameserver: NameServer,
    keys: [Key; 2],
    /// How long each figure is measured.
    time: Duration,
    report: Report,
    /// Parameters of lists that are named as sections.
    lists: Vec<String>,
}

fn main() -> ExitCode {
    program::main(run)
}

fn run(sections: &[String]) -> io::Result<()> {
    // The children inherit it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS), hard)?;
    let seconds = env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1));
    let keys = signer::keys();
    let nameserver = NameServer::start(zone(&keys)?);
    nameserver.behave("*", Behaviour { ttl: 86_400, ..Behaviour::default() });
    let _awake = awake::keep_awake()?;
    let start = Instant::now();
    let named = sections.iter().filter(|section| lists::is_list(section)).cloned();
    let lists: Vec<String> = named.collect();
    let some_lists = !lists.is_empty();
    let mut bench = Bench { nameserver, keys, time, report: Report::default(), lists };
    let wanted = |name: &str| {
        sections.is_empty()
            || sections.iter().any(|section| section == name)
            || name == "lists" && some_lists
    };
    type Section = fn(&mut Bench) -> io::Result<()>;
    let all: [(&str, Section); 5] = [
        ("connections", Bench::connections),
        ("cache", Bench::cache),
        ("signatures", Bench::signatures),
        ("bodies", Bench::bodies),
        ("lists", Bench::lists),
    ];
    for (name, section) in all {
        if wanted(name) {
            section(&mut bench)?;
        }
    }
    bench.report.print(start.elapsed());
    Ok(())
}

/// The records of all sections but that of the cache.
fn zone(keys: &[Key]) -> io::Result<Zone> {
    let text = signer::key_records(keys) + &signer::key_records_of(lists::SIGNER, keys);
    let mut zone = Zone::parse(&text).map_err(|error| io::Error::other(format!("{error:?}")))?;
    for sender in zones::senders("hot", HOT).iter().chain([&author()]) {
        zone.add_txt(&sender.domain, b"v=spf1 ip4:192.0.2.0/24 -all");
        zone.add_txt(&sender.helo, b"v=spf1 ip4:192.0.2.0/24 -all");
    }
    zone.add_txt(lists::FAILING, b"v=spf1 -all");
    for domain in ["example.com", lists::UNSIGNED] {
        zone.add_txt(&format!("_dmarc.{domain}"), b"v=DMARC1; p=reject");
    }
    Ok(zone)
}

/// The sender of messages with signatures.
fn author() -> Sender {
    Sender { helo: "mail.example.com".into(), domain: "example.com".into() }
}

/// A message whose body has so many octets, with signatures of the author's domain.
fn signed(key: &Key, size: usize, signatures: usize) -> Message {
    let body = LINE.repeat(size.div_ceil(LINE.len())).into_bytes();
    let signatures =
        (0..signatures).map(|number| ("DKIM-Signature".to_owned(), key.sign(&body, number).value));
    let fields = FIELDS.iter().map(|(name, value)| ((*name).to_owned(), format!(" {value}")));
    Message { fields: signatures.chain(fields).collect(), body }
}

/// How many signatures of a message pass, by the field that the daemon adds.
fn passing(milter: &Milter, sender: &Sender, message: &Message) -> io::Result<usize> {
    let added = load::send(std::slice::from_ref(&milter.socket), sender, message)?;
    Ok(added.iter().map(|(_, text)| text.matches("dkim=pass").count()).sum())
}

impl Bench {
    fn configuration(&self, extra: &str) -> Configuration {
        Configuration::new(self.nameserver.address(), extra, "")
    }

    /// Connections that are kept: all of them busy, or all but ten of them idle.
    fn connections(&mut self) -> io::Result<()> {
        const SIZES: [usize; 5] = [1, 10, 100, 1000, 5000];
        let senders = zones::senders("hot", HOT);
        let message = Message::plain();
        let milters = SIZES
            .map(|_| self.configuration("max_connections = 6000\n").start())
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?;
        let (mut idle, mut memory) = (Vec::new(), Vec::new());
        for (milter, size) in milters.iter().zip(SIZES) {
            // All names once, so that they are in the cache, over one connection.
            warm_up(milter, &senders, &message)?;
            let before = milter.resident()?;
            idle.push(load::idle(&milter.socket, size, &senders, &message)?);
            memory.push((milter.resident()? - before).max(1.0));
        }
        let subject = |(milter, connections)| Subject {
            milter,
            mode: Mode::Kept,
            connections,
            senders: &senders,
            message: &message,
        };
        let beside: Vec<_> = milters.iter().map(|milter| subject((milter, CONNECTIONS))).collect();
        let beside = measure(&beside, self.time)?;
        drop(idle);
        let busy: Vec<_> = milters.iter().zip(SIZES).map(subject).collect();
        let busy = measure(&busy, self.time)?;
        let sizes = SIZES.map(|size| size as f64);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let mut table = self.report.table("Connections that are kept", "connections", &sizes);
        table.row("CPU us/msg, all busy", busy.iter().map(|run| micros(run.cpu)), Goal::Constant);
        let p50 = busy.iter().map(|run| milliseconds(run.percentile(0.5)));
        table.row("p50 ms, all busy", p50, Goal::Linear);
        let p99 = busy.iter().map(|run| milliseconds(run.percentile(0.99)));
        // The slowest messages of several connections wait for a time slice of other threads, which is
        // many times as long as a message takes; those of a single one do not.
        let row = Row { from: 10.0, ..Row::new("p99 ms, all busy", Goal::Linear) };
        table.row_with(row, p99);
        let cpu = beside.iter().map(|run| micros(run.cpu));
        table.row("CPU us/msg, 10 beside so many idle", cpu, Goal::Constant);
        let p50 = beside.iter().map(|run| milliseconds(run.percentile(0.5)));
        table.row("p50 ms, 10 beside so many idle", p50, Goal::Constant);
        let p99 = beside.iter().map(|run| milliseconds(run.percentile(0.99)));
        table.row("p99 ms, 10 beside so many idle", p99, Goal::Constant);
        // The first ones pay for what others share.
        let each = memory.iter().zip(sizes).map(|(memory, size)| memory / size / 1024.0);
        let row = Row { from: 100.0, ..Row::new("KiB per idle connection", Goal::Constant) };
        table.row_with(row, each);
        table.draw("growth-connections")
    }

    /// Names in the cache, of which some are asked for again and again, or all in turn.
    fn cache(&mut self) -> io::Result<()> {
        const SIZES: [usize; 6] = [10, 100, 1000, 10_000, 100_000, 1_000_000];
        /// The most names that are asked for in turn.
        const MOST: usize = 100_000;
        let answers = Answers::start()?;
        let extra = "dns_cache_size = 2000000\n";
        let milter = Configuration::new(answers.address, extra, "").start()?;
        let sender = |number: usize| Sender {
            helo: "out.helo.example".into(),
            domain: format!("n{number}.{}.example", number % 1000),
        };
        let spread = |size: usize, most: usize| -> Vec<Sender> {
            let count = size.min(most);
            // In an order in which neighbours are far from each other.
            (0..count).map(|n| sender((n * 7919) % count * (size / count))).collect()
        };
        let message = Message::plain();
        drop(load::idle(&milter.socket, CONNECTIONS, &spread(1, 1), &message)?);
        let before = milter.resident()?;
        let (mut hot, mut all, mut memory, mut asked) = (vec![], vec![], vec![], 0);
        let mut filled = 0;
        for size in SIZES {
            fill(&milter.socket, filled..size, &sender)?;
            filled = size;
            memory.push((milter.resident()? - before).max(1.0));
            let questions = answers.questions();
            for (senders, figures) in
                [(spread(size, HOT), &mut hot), (spread(size, MOST), &mut all)]
            {
                let subject = Subject {
                    milter: &milter,
                    mode: Mode::Kept,
                    connections: CONNECTIONS,
                    senders: &senders,
                    message: &message,
                };
                figures.extend(measure(&[subject], self.time)?);
            }
            asked += answers.questions() - questions;
        }
        let sizes = SIZES.map(|size| size as f64);
        let mut table = self.report.table("Names in the cache of DNS", "names", &sizes);
        let cpu = hot.iter().map(|run| micros(run.cpu));
        table.row("CPU us/msg, a hundred of them", cpu, Goal::Constant);
        let cpu = all.iter().map(|run| micros(run.cpu));
        table.row("CPU us/msg, 100,000 of them in turn", cpu, Goal::Constant);
        let each = memory.iter().zip(sizes).map(|(memory, size)| memory / size);
        let row = Row { from: 10_000.0, ..Row::new("octets of memory per name", Goal::Constant) };
        table.row_with(row, each);
        table.draw("growth-cache")?;
        println!("{asked} names were asked for that should have been in the cache");
        Ok(())
    }

    /// Signatures of one message.
    fn signatures(&mut self) -> io::Result<()> {
        const SIZES: [usize; 6] = [1, 2, 5, 10, 15, 20];
        let base = "header = Authentication-Results\nverify_dkim = yes\n";
        let lifted = self.configuration(&format!("{base}max_dkim_signatures = 20\n")).start()?;
        let default = self.configuration(base).start()?;
        let senders = [author()];
        let messages = SIZES.map(|size| signed(&self.keys[0], 4000, size));
        let mut figures = Vec::new();
        for (milter, most) in [(&lifted, 20), (&default, 10)] {
            for (message, size) in messages.iter().zip(SIZES) {
                let passing = passing(milter, &senders[0], message)?;
                if passing != size.min(most) {
                    return Err(io::Error::other(format!("{passing} of {size} signatures pass")));
                }
            }
            let subject = |message| Subject {
                milter,
                mode: Mode::Kept,
                connections: CONNECTIONS,
                senders: &senders,
                message,
            };
            let subjects: Vec<_> = messages.iter().map(subject).collect();
            let runs = measure(&subjects, self.time)?;
            figures.push(runs.into_iter().map(|run| micros(run.cpu)).collect::<Vec<_>>());
        }
        let sizes = SIZES.map(|size| size as f64);
        let title = "DKIM signatures of RSA-2048 in a message of 4 KB";
        let mut table = self.report.table(title, "signatures", &sizes);
        let names = ["CPU us/msg, max_dkim_signatures = 20", "CPU us/msg, by default (10)"];
        for (name, figures) in names.into_iter().zip(figures) {
            table.row(name, figures.into_iter(), Goal::Linear);
        }
        table.draw("growth-signatures")
    }

    /// Octets of a body that is signed.
    fn bodies(&mut self) -> io::Result<()> {
        const SIZES: [usize; 6] = [1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
        let config = "header = Authentication-Results\nverify_dkim = yes\n";
        let senders = [author()];
        let (mut cpu, mut peaks) = (Vec::new(), Vec::new());
        for size in SIZES {
            // The peak is that of a daemon that has seen no other body.
            let milter = self.configuration(config).start()?;
            let message = signed(&self.keys[0], size, 1);
            if passing(&milter, &senders[0], &message)? != 1 {
                return Err(io::Error::other("the signature does not pass"));
            }
            let subject = Subject {
                milter: &milter,
                mode: Mode::Kept,
                connections: 1,
                senders: &senders,
                message: &message,
            };
            cpu.extend(measure(&[subject], self.time)?.iter().map(|run| micros(run.cpu)));
            peaks.push(milter.status("VmHWM")? / 1024.0);
        }
        let sizes = SIZES.map(|size| size as f64);
        let title = "Octets of a body, with one signature of RSA-2048";
        let mut table = self.report.table(title, "octets", &sizes);
        let each: Vec<f64> = cpu.iter().zip(sizes).map(|(cpu, size)| cpu * 1e3 / size).collect();
        table.row("CPU us/msg", cpu.into_iter(), Goal::Linear);
        table.row("ns/octet", each.into_iter(), Goal::Constant);
        table.row("peak of the daemon's memory, KiB", peaks.into_iter(), Goal::Constant);
        table.draw("growth-bodies")
    }
}

/// Sends a message of each sender, one after the other.
pub(crate) fn warm_up(milter: &Milter, senders: &[Sender], message: &Message) -> io::Result<()> {
    let mut mta = Mta::connect(&milter.socket)?;
    for (number, sender) in senders.iter().enumerate() {
        if number == 0 {
            mta.begin(sender)?;
        }
        mta.message(sender, message)?;
    }
    mta.quit()
}

/// Has the daemon ask for the records of these senders, over several connections.
fn fill(
    socket: &Socket,
    numbers: std::ops::Range<usize>,
    sender: &(impl Fn(usize) -> Sender + Sync),
) -> io::Result<()> {
    const FILLERS: usize = 16;
    let numbers = &numbers;
    thread::scope(|scope| {
        let fill = move |filler: usize| -> io::Result<()> {
            let mut mta = Mta::connect(socket)?;
            let first = sender(0);
            mta.begin(&first)?;
            mta.helo(&first)?;
            for number in numbers.clone().skip(filler).step_by(FILLERS) {
                mta.mail_alone(&sender(number))?;
            }
            mta.quit()
        };
        let threads: Vec<_> =
            (0..FILLERS).map(|filler| scope.spawn(move || fill(filler))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| io::Error::other("a thread panicked"))?
        })
    })
}
