//! More than the daemon can do: an open loop, which sends at its rate whether there are answers or
//! not.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    milter_client::Socket,
    nameserver::{Behaviour, NameServer},
    signer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{sleep_until, timeout},
};

use super::{
    mtas::{CLIENT, packet},
    nameservers::recovery,
    stage::{Case, Stage},
    subject::{Subject, Surroundings},
    witness::{ANSWER_LIMIT, TIMEOUT, ZONE, config, warm_up},
};

/// How long each query takes. With at most 512 queries at a time (`docs/limits.md`), 569 queries a
/// second are the most.
const LATENCY: Duration = Duration::from_millis(900);
const PLACES: f64 = 512.0;

/// Queries a second that messages would need.
const RATE: u32 = 1200;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "overload, all are connected",
            "an open loop at twice what DNS can do: right answers to 70 % of what DNS can do, or temperror at timeout_secs; memory bounded; right within seconds after",
            |stage| overload(stage, Load { least: 0.7, ..Load::default() }),
        ),
        Case::new(
            "overload, two look-ups one after the other",
            "as before, with half the messages: 30 % although the test itself may be slow, and next to nothing if places are spent in vain",
            |stage| overload(stage, Load { least: 0.3, steps: 2, ..Load::default() }),
        ),
        Case::new(
            "overload, MTAs wait for a connection",
            "as before with max_connections = 500: the others wait for a connection",
            |stage| overload(stage, Load { connections: 500, ..Load::default() }),
        ),
        Case::new(
            "overload, MTAs lose patience",
            "work for MTAs that left is dropped: queries stop with them",
            |stage| {
                let patience = Some(Duration::from_millis(500));
                overload(stage, Load { patience, ..Load::default() })
            },
        ),
    ]
}

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    /// When an MTA gives up; `None`: it waits.
    patience: Option<Duration>,
    /// Look-ups of a message, one after the other.
    steps: u32,
    /// The part of the answers that DNS can give which becomes answers.
    least: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { connections: 8000, patience: None, steps: 1, least: 0.0 }
    }
}

impl Load {
    /// Messages a second.
    fn rate(self) -> u32 {
        RATE / self.steps
    }
}

#[derive(Default)]
struct Seen {
    /// By outcome.
    counts: BTreeMap<&'static str, usize>,
    /// Times to an answer, in milliseconds, by the second in which the message was begun.
    times: BTreeMap<u64, Vec<u128>>,
    faults: Vec<String>,
}

/// A packet that an MTA gets.
async fn receive(stream: &mut UnixStream) -> std::io::Result<(u8, Vec<u8>)> {
    let length = stream.read_u32().await?;
    let mut octets = vec![0; usize::try_from(length).unwrap().min(1 << 20)];
    stream.read_exact(&mut octets).await?;
    let content = octets.split_off(1);
    Ok((octets[0], content))
}

/// Connects as an MTA does, which waits while the backlog is full.
pub async fn connect(path: &PathBuf) -> std::io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connected => return connected,
        }
    }
}

/// One message, up to the answer to its sender: what it was, and how long it took from the connection on.
async fn message(
    path: &PathBuf,
    number: u64,
    steps: u32,
) -> std::io::Result<(&'static str, Duration)> {
    let mut stream = connect(path).await?;
    let begun = Instant::now();
    // An MTA that wants an answer to everything.
    stream.write_all(b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\0\x07\xff").await?;
    receive(&mut stream).await?;
    stream.write_all(&[packet(b'C', CLIENT), packet(b'H', b"mail.example\0")].concat()).await?;
    receive(&mut stream).await?;
    receive(&mut stream).await?;
    let is_good = number.is_multiple_of(2);
    let domain = if is_good { "all.example" } else { "bad.example" };
    let detour = if steps == 2 { "to." } else { "" };
    let sender = format!("<amy@n{number}.{detour}{domain}>\0");
    stream.write_all(&packet(b'M', sender.as_bytes())).await?;
    let (command, content) = receive(&mut stream).await?;
    let text = String::from_utf8_lossy(&content).into_owned();
    let outcome = match (command, is_good) {
        (b'c', true) => "pass",
        (b'y', false) if text.starts_with("550 5.7.23 ") => "fail",
        (b'y', _) if text.starts_with("451 4.7.24 ") => "temperror",
        _ => "WRONG",
    };
    Ok((outcome, begun.elapsed()))
}

/// Begins a message at each tick, and lets each take as long as it takes, or as long as an MTA is
/// patient.
async fn open_loop(path: PathBuf, length: Duration, load: Load) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let begun = tokio::time::Instant::now();
    let count = u64::from(load.rate()) * length.as_secs();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        sleep_until(begun + Duration::from_secs(number) / load.rate()).await;
        let (path, seen) = (path.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            let second = begun.elapsed().as_secs();
            let limit = load.patience.unwrap_or(3 * ANSWER_LIMIT);
            let outcome = timeout(limit, message(&path, number, load.steps)).await;
            let mut seen = seen.lock().unwrap();
            let outcome = match outcome {
                Ok(Ok((outcome, took))) => {
                    seen.times.entry(second).or_default().push(took.as_millis());
                    outcome
                }
                Ok(Err(error)) => {
                    seen.faults.push(error.to_string());
                    "lost"
                }
                Err(_) => "given up",
            };
            *seen.counts.entry(outcome).or_default() += 1;
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    std::mem::take(&mut *seen.lock().unwrap())
}

fn median(times: &[u128]) -> u128 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn overload(stage: &mut Stage, load: Load) -> String {
    let Load { connections, patience, .. } = load;
    let zone = format!(
        r#"{ZONE}
        *.all.example TXT "v=spf1 +all"
        *.to.all.example TXT "v=spf1 redirect=%{{d}}.all.example"
        *.to.bad.example TXT "v=spf1 redirect=%{{d}}.bad.example""#
    );
    let nameserver = NameServer::start(Zone::parse(&signer::fill_in_keys(&zone)).unwrap());
    let behave = |latency| {
        nameserver.behave("*", Behaviour { ttl: 0, latency, ..Behaviour::default() });
    };
    behave(Duration::ZERO);
    // Queries take long, do not time out, and are not sent again. Those who leave early would leave much to do, if it were
    // done.
    let seconds = if patience.is_some() { 60 } else { TIMEOUT.as_secs() };
    let times = format!("timeout_secs = {seconds}\ndns_timeout_secs = 4\n");
    let config = config('a', &[nameserver.address()])
        .replace("timeout_secs = 3\ndns_timeout_secs = 1\n", &times)
        + &format!("max_connections = {connections}\n");
    assert!(config.contains(&times), "{config}");
    let subject = Subject::start_in(Surroundings::after("ulimit -n 16000"), &config);
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    behave(LATENCY);
    let Socket::Unix(path) = subject.socket() else { panic!("not a UNIX socket") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let length = Duration::from_secs(8);
    let seen = runtime.block_on(open_loop(path, length, load));
    drop(runtime);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults.iter().take(5).collect::<Vec<_>>());
    assert!(!seen.counts.contains_key("WRONG"), "{:?}", seen.counts);
    // It was more than could be done.
    let medians: Vec<u128> = seen.times.values().map(|times| median(times)).collect();
    let waits = seen.counts.contains_key("temperror") || seen.counts.contains_key("given up");
    let slower = medians.iter().max() > medians.iter().min().map(|least| least * 2).as_ref();
    assert!(waits || slower, "no overload: {:?}, {medians:?}", seen.counts);
    let real: usize = ["pass", "fail"].iter().filter_map(|outcome| seen.counts.get(outcome)).sum();
    let possible = PLACES / LATENCY.as_secs_f64() / f64::from(load.steps) * length.as_secs_f64();
    let part = real as f64 / possible;
    assert!(part >= load.least, "{real} of {possible:.0}: {:?}", seen.counts);
    let slowest = seen.times.values().flatten().max().copied().unwrap_or_default();
    if connections > 1000 {
        // Nobody waits for a place: the limit of a check is the limit of all.
        let limit = TIMEOUT + Duration::from_secs(10);
        assert!(slowest < limit.as_millis(), "an answer after {slowest} ms");
    }
    // Nobody is there any more: queries stop once those under way are over.
    let begun = Instant::now();
    let (mut last, mut quiet) = (nameserver.total(), Instant::now());
    while quiet.elapsed() < Duration::from_millis(1500) {
        std::thread::sleep(Duration::from_millis(20));
        let now = nameserver.total();
        if now != last {
            (last, quiet) = (now, Instant::now());
        }
        assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(5), "queries go on");
    }
    let stopped = begun.elapsed() - quiet.elapsed();
    behave(Duration::ZERO);
    let recovery = recovery(&subject, &mut rng);
    let peak = subject.sample().peak;
    // All that may be connected, at 64 KiB each at most.
    stage.after_growth(&subject, 64 * connections.min(4000) + 32 * 1024);
    subject.stop();
    format!(
        "{}/s for {} s: {:?}, of answers that DNS can give {:.0} %; median ms by second {}; slowest {slowest} ms; peak {peak} KiB; queries stopped {} ms after the last answer; right after {} ms",
        load.rate(),
        length.as_secs(),
        seen.counts,
        100.0 * part,
        medians.iter().map(u128::to_string).collect::<Vec<_>>().join(" "),
        stopped.as_millis(),
        recovery.as_millis()
    )
}
