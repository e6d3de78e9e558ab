//! The time that the daemon spends on DKIM, beside that of only hash and signature check, and the
//! memory that large messages take.
//!
//! `make bench BENCHES=content [SECTIONS="cpu | memory"]`. Times are in microseconds per message: CPU time
//! of the daemon, all of its threads together, and for the floor that of this program's thread.
//! Each is the least of many rounds, because others use the machine as well. The milter events are
//! measured with the same messages, their signatures under another name, which nobody verifies.
//! Goals that are not met are reported, and are not an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    env, fs, hint::black_box, io, net::SocketAddr, process::ExitCode, sync::Barrier, thread,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use ring::digest::{SHA256, digest};
use spf_milter::dns::zone::Zone;
use testkit::{
    bench::{
        awake, processes, program,
        report::Report,
        signer::{self, FIELDS, Key, Signed},
    },
    daemon::Daemon,
    fields::Field,
    milter_client::{CHUNK, MilterClient, Reply, bits},
    nameserver::NameServer,
    scratch::Scratch,
};

/// The most times that DKIM may cost the floor, milter events left out.
const TIMES: f64 = 1.3;

/// Messages at once, and the most KiB that they may take together over the idle daemon.
const CONCURRENT: usize = 100;
const MEMORY: u64 = 16 * 1024;

const SIZES: [usize; 3] = [4_000, 100_000, 10_000_000];

/// The line that bodies are made of; it is in relaxed form.
const LINE: &str =
    "The quick brown fox jumps over the lazy dog, and then another one, and so on.\r\n";

/// The name of a signature's field, and one of the same length that means nothing.
const SIGNATURE: &str = "DKIM-Signature";
const NO_SIGNATURE: &str = "XXXX-Signature";

/// A daemon on a UNIX socket.
struct Milter {
    daemon: Daemon,
    _folder: Scratch,
}

impl Milter {
    fn start(nameserver: SocketAddr, config: &str) -> Self {
        let folder = Scratch::new("bench");
        let socket = folder.join("socket");
        let daemon = Daemon::start(&format!(
            "socket = unix:{}\nnameservers = {nameserver}\nheader = Authentication-Results\nmax_connections = 500\n{config}",
            socket.display()
        ));
        Self { daemon, _folder: folder }
    }

    /// CPU time so far, of all threads.
    fn cpu(&self) -> Duration {
        processes::precise_cpu(self.daemon.id()).unwrap()
    }

    /// A line of its status, in KiB.
    fn status(&self, name: &str) -> u64 {
        processes::status(self.daemon.id(), name).unwrap()
    }

    /// Begins a session.
    fn session(&self) -> MilterClient {
        let mut client = self.daemon.client();
        client.gathers = true;
        client.macros = [("j", "mx.example.net"), ("i", "4XyZ")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        client.connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 1], 2525)))).unwrap();
        client.helo("mail.example.com").unwrap();
        client
    }
}

/// Sends a message up to the end of its header.
fn begin(client: &mut MilterClient, signatures: &[Signed], name: &str) {
    assert_eq!(client.mail("<a@example.com>").unwrap(), Reply::Continue);
    client.rcpt("<b@example.net>").unwrap();
    client.data().unwrap();
    for signed in signatures {
        client.header(&Field::new(name, signed.value.clone())).unwrap();
    }
    for (name, value) in FIELDS {
        client.header(&Field::new(name, format!(" {value}"))).unwrap();
    }
    client.eoh().unwrap();
}

/// Sends a body as it is, in chunks as large as Postfix's.
fn body(client: &mut MilterClient, body: &[u8]) {
    if client.without(bits::NO_BODY) {
        return;
    }
    for chunk in body.chunks(CHUNK) {
        client.send(b'B', chunk).unwrap();
        if !client.without(bits::NOREPLY_BODY) {
            match client.receive().unwrap().0 {
                b'c' => {}
                b's' => return,
                other => panic!("{:?} to a part of the body", char::from(other)),
            }
        }
    }
}

/// Ends a message; all of its signatures must pass.
fn end(client: &mut MilterClient, signatures: usize) {
    let finished = client.end().unwrap();
    assert_eq!(finished.reply, Reply::Continue);
    let results = finished.fields.first().map(Field::unfolded).unwrap_or_default();
    assert_eq!(results.matches("dkim=pass").count(), signatures, "{results}");
}

/// CPU time of a message, the mean of several.
fn measure(
    milter: &Milter,
    client: &mut MilterClient,
    text: &[u8],
    signatures: &[Signed],
    name: &str,
) -> f64 {
    let messages = repeats(text);
    let start = milter.cpu();
    for _ in 0..messages {
        begin(client, signatures, name);
        body(client, text);
        end(client, if name == SIGNATURE { signatures.len() } else { 0 });
    }
    per_message(milter.cpu() - start, messages)
}

/// Time that the least work takes, the mean of several times.
fn floor(key: &Key, text: &[u8], signatures: &[Signed]) -> f64 {
    let (public, repeats) = (key.public(), repeats(text));
    // The files below /proc are some milliseconds late for a thread that runs.
    let own = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let start = own();
    for _ in 0..repeats {
        black_box(digest(&SHA256, black_box(text)));
        signatures.iter().for_each(|signed| key.check(&public, black_box(signed)));
    }
    per_message(own() - start, repeats)
}

fn repeats(text: &[u8]) -> usize {
    (4_000_000 / text.len()).clamp(1, 200)
}

fn rounds() -> usize {
    env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[allow(clippy::cast_precision_loss)]
fn per_message(time: Duration, messages: usize) -> f64 {
    time.as_secs_f64() * 1e6 / messages as f64
}

fn text(size: usize) -> Vec<u8> {
    LINE.repeat(size / LINE.len()).into_bytes()
}

fn cpu(report: &mut Report, nameserver: SocketAddr, keys: &[Key]) {
    let spf = Milter::start(nameserver, "");
    let dkim = Milter::start(nameserver, "verify_dkim = yes\n");
    report.line(
        "\nCPU time in microseconds per message (relaxed/relaxed, one connection, UNIX socket)\n\
         SPF alone; with DKIM but signatures that are none (events); with signatures; floor: hash and signature checks alone\n\
         times: what signatures add to the events, over the floor",
    );
    report.line(format!(
        "{:>9} {:>9} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "octets", "key", "sigs", "SPF", "events", "DKIM", "over SPF", "floor", "times"
    ));
    for size in SIZES {
        let text = text(size);
        let cases: Vec<(&Key, Vec<Signed>)> = keys
            .iter()
            .flat_map(|key| {
                [1, 3]
                    .map(|count| (key, (0..count).map(|number| key.sign(&text, number)).collect()))
            })
            .collect();
        let mut figures = vec![[f64::MAX; 4]; cases.len()];
        let (mut spf_client, mut dkim_client) = (spf.session(), dkim.session());
        // In turn, so that what else the machine does meets all of them.
        for _ in 0..rounds() {
            for ((key, signatures), figures) in cases.iter().zip(&mut figures) {
                let round = [
                    measure(&spf, &mut spf_client, &text, signatures, NO_SIGNATURE),
                    measure(&dkim, &mut dkim_client, &text, signatures, NO_SIGNATURE),
                    measure(&dkim, &mut dkim_client, &text, signatures, SIGNATURE),
                    floor(key, &text, signatures),
                ];
                *figures = std::array::from_fn(|index| figures[index].min(round[index]));
            }
        }
        for ((key, signatures), [alone, events, whole, floor]) in cases.iter().zip(figures) {
            let (count, times) = (signatures.len(), (whole - events) / floor);
            report.line(format!(
                "{:>9} {:>9} {count:>5} {alone:>9.1} {events:>9.1} {whole:>9.1} {:>9.1} {floor:>9.1} {times:>6.2}",
                text.len(),
                key.name(),
                whole - alone
            ));
            let what = format!("{count} x {} at {} octets over floor", key.name(), text.len());
            report.at_most(what, times, TIMES);
        }
    }
}

/// The most memory that messages under way at once take, in KiB over the idle daemon.
fn peak(nameserver: SocketAddr, text: &[u8], signatures: &[Signed], concurrent: usize) -> u64 {
    let milter = Milter::start(nameserver, "verify_dkim = yes\n");
    let idle = milter.status("VmRSS");
    // The peak so far is forgotten.
    fs::write(format!("/proc/{}/clear_refs", milter.daemon.id()), "5")
        .expect("memory is measured by root");
    let all_begun = Barrier::new(concurrent);
    thread::scope(|scope| {
        for _ in 0..concurrent {
            scope.spawn(|| {
                let mut client = milter.session();
                begin(&mut client, signatures, SIGNATURE);
                let (first, rest) = text.split_at(text.len().min(CHUNK));
                body(&mut client, first);
                all_begun.wait();
                body(&mut client, rest);
                // None ends before all of the others have sent everything.
                all_begun.wait();
                end(&mut client, signatures.len());
            });
        }
    });
    milter.status("VmHWM").saturating_sub(idle)
}

fn memory(report: &mut Report, nameserver: SocketAddr, key: &Key) {
    report.line("\nPeak of resident memory in KiB over the idle daemon, one signature");
    report.line(format!("{:>9} {:>9} {:>9}", "messages", "octets", "KiB"));
    for (concurrent, size) in
        [(1, SIZES[2]), (CONCURRENT, SIZES[0]), (CONCURRENT, SIZES[1]), (CONCURRENT, SIZES[2])]
    {
        let text = text(size);
        let signatures = [key.sign(&text, 0)];
        let peak = peak(nameserver, &text, &signatures, concurrent);
        report.line(format!("{concurrent:>9} {:>9} {peak:>9}", text.len()));
        if (concurrent, size) == (CONCURRENT, SIZES[2]) {
            let octets = text.len();
            let what = format!("{concurrent} messages of {octets} octets at most {MEMORY} KiB");
            report.goal(what, format!("{peak} KiB"), peak <= MEMORY);
        }
    }
}

fn main() -> ExitCode {
    program::main(run)
}

fn run(sections: &[String]) -> io::Result<()> {
    let _awake = awake::keep_awake()?;
    let keys = signer::keys();
    let spf = "example.com TXT v=spf1 ip4:192.0.2.0/24 -all\nmail.example.com TXT v=spf1 ip4:192.0.2.0/24 -all\n";
    let zone = signer::key_records(&keys) + spf;
    let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
    let mut report = Report::start("tables-content.txt", &[]);
    if program::is_wanted(sections, "cpu") {
        cpu(&mut report, nameserver.address(), &keys);
    }
    if program::is_wanted(sections, "memory") {
        memory(&mut report, nameserver.address(), &keys[0]);
    }
    report.finish()
}
