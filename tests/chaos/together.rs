//! Several kinds of bad treatment at once.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream as BlockingStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use testkit::{milter_client::Socket, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    mtas::{
        CLIENT, OPEN, check_log, garbage, half_way, out_of_order, packet, packets, wrong_lengths,
    },
    nameservers::{SICK, good_server, recovery},
    overload::connect,
    rng::Rng,
    sick::{Illness, SickServer},
    signals::Sender,
    stage::{Case, Stage},
    subject::{Subject, Surroundings},
    witness::{Manner, Witness, config, warm_up},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "MTA: all of these at once",
            "2500 hostile connections at a time of all kinds, which leave and come again: others get right answers in time, \
             64 KiB for each at most, all is given back",
            crowd,
        ),
        Case::new(
            "hostile MTAs, silent name servers, SIGHUP and metrics at once",
            "every session has one configuration and right answers in time, no message is lost, metrics are there afterwards",
            everything,
        ),
    ]
}

/// Clients on a thread of their own, which go on until they are stopped.
struct Crowd {
    over: watch::Sender<bool>,
    /// Those that have come, and those of them that had an answer.
    came: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Crowd {
    /// `visit` has one connection, as long as it likes; true: there was an answer.
    fn start<F>(
        count: usize,
        path: &Path,
        rng: &mut Rng,
        visit: impl Fn(UnixStream, Rng) -> F + Copy + Send + 'static,
    ) -> Self
    where
        F: Future<Output = std::io::Result<bool>> + Send + 'static,
    {
        let (over, is_over) = watch::channel(false);
        let (came, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let rngs: Vec<Rng> = (0..count).map(|_| rng.fork()).collect();
        let (path, counts) = (path.to_owned(), (Arc::clone(&came), Arc::clone(&answered)));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for mut rng in rngs {
                    let (path, (came, answered)) = (path.clone(), counts.clone());
                    tokio::spawn(async move {
                        loop {
                            let stream = connect(&path).await.unwrap();
                            came.fetch_add(1, Ordering::Relaxed);
                            if visit(stream, rng.fork()).await.is_ok_and(|answer| answer) {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
                let mut is_over = is_over;
                let _ = is_over.wait_for(|over| *over).await;
            });
        });
        Self { over, came, answered, thread }
    }

    /// All leave. How many had come, and had an answer.
    fn stop(self) -> (usize, usize) {
        self.over.send_replace(true);
        self.thread.join().unwrap();
        (self.came.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }
}

/// A hostile MTA of one of all kinds, for some seconds at most.
async fn mta(mut stream: UnixStream, mut rng: Rng) -> std::io::Result<bool> {
    let hold = Duration::from_millis(500 + u64::try_from(rng.below(2500)).unwrap());
    let patience = Duration::from_millis(300);
    let sender = format!("<x@{:x}.{SICK}>\0", rng.next());
    let begin = [
        OPEN,
        &packet(b'C', CLIENT),
        &packet(b'H', b"mail.example\0"),
        &packet(b'M', sender.as_bytes()),
    ]
    .concat();
    let (octets, reads) = match rng.below(16) {
        0 | 1 => (garbage(&mut rng), true),
        2 | 3 => (wrong_lengths(&mut rng), true),
        4 | 5 => (half_way(&mut rng), true),
        6 | 7 => (out_of_order(&mut rng), true),
        8 => ([OPEN, &packet(b'C', CLIENT), &packet(b'E', b"").repeat(2000)].concat(), false),
        9 | 10 => {
            // An octet a second.
            let packets = packets(&mut rng);
            let whole = rng.below(packets.len() - 1);
            stream.write_all(&packets[..whole].concat()).await?;
            for octet in packets[whole..].concat().iter().take(4) {
                stream.write_all(&[*octet]).await?;
                sleep(Duration::from_secs(1)).await;
            }
            return Ok(true);
        }
        11 | 12 => {
            // Leaves during its look-up.
            stream.write_all(&begin).await?;
            sleep(hold / 10).await;
            return Ok(false);
        }
        // Waits for its look-up, or says nothing.
        13 | 14 => (begin, true),
        _ => (Vec::new(), false),
    };
    let _ = timeout(patience, stream.write_all(&octets)).await;
    let begun = tokio::time::Instant::now();
    let mut is_answered = false;
    let mut buffer = [0; 4096];
    while reads
        && let Ok(Ok(length)) =
            timeout(hold.saturating_sub(begun.elapsed()), stream.read(&mut buffer)).await
        && length > 0
    {
        is_answered = true;
    }
    // It stays although nothing comes any more.
    sleep(hold.saturating_sub(begun.elapsed())).await;
    Ok(is_answered)
}

/// Somebody who asks for metrics, or does something else there.
async fn asker(mut stream: UnixStream, mut rng: Rng) -> std::io::Result<bool> {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let octets = match rng.below(4) {
        0 => rng.octets(2000),
        1 => request[..rng.below(request.len())].to_vec(),
        2 => Vec::new(),
        _ => request.to_vec(),
    };
    stream.write_all(&octets).await?;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

fn socket_path(subject: &Subject) -> PathBuf {
    let Socket::Unix(path) = subject.socket() else { panic!("not a UNIX socket") };
    path
}

fn crowd(stage: &mut Stage) -> String {
    const COUNT: usize = 2500;
    let good = good_server();
    let sick = SickServer::start(good.address(), &mut stage.rng);
    sick.catch(Illness::Silent, SICK);
    let config = config('a', &[sick.address()]) + "max_connections = 5000\n";
    let subject = Subject::start_in(Surroundings::after("ulimit -n 16000"), &config);
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let before = subject.sample().memory;
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    let crowd = Crowd::start(COUNT, &socket_path(&subject), &mut rng, mta);
    wait_for("the connections", || (subject.sample().descriptors > 2000).then_some(()));
    let (begun, mut most, mut descriptors) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < Duration::from_secs(10) {
        let sample = subject.sample();
        descriptors = descriptors.max(sample.descriptors);
        most.push(sample.memory);
        thread::sleep(Duration::from_millis(50));
    }
    witness.wait_for(4);
    let (came, answered) = crowd.stop();
    let testimony = witness.stop();
    let peak = most.iter().max().copied().unwrap();
    let bound = before + 64 * COUNT + 32 * 1024;
    assert!(peak <= bound, "{peak} KiB with {COUNT} connections, {before} before");
    // Nor does it grow with the number of those that have come and gone.
    let (first, last) = (most[most.len() / 2], most[most.len() - 1]);
    assert!(last <= first + 16 * 1024, "memory grows: {first} KiB, then {last} KiB");
    stage.after_growth(&subject, 64 * COUNT);
    check_log(&subject.stop(), &testimony);
    format!(
        "{came} came, {answered} with an answer, {descriptors} descriptors at a time; memory {before} KiB before, {peak} KiB at most; \
         {} messages beside, slowest {} ms",
        testimony.messages,
        testimony.slowest.as_millis()
    )
}

fn everything(stage: &mut Stage) -> String {
    let good = good_server();
    let sick = SickServer::start(good.address(), &mut stage.rng);
    let config_of = |name| {
        config(name, &[sick.address()]) + "metrics_socket = unix:FOLDER/m\nmax_connections = 3000\n"
    };
    let subject = Subject::start_in(Surroundings::after("ulimit -n 8000"), &config_of('a'));
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    sick.catch(Illness::Silent, SICK);
    let witness = Witness::start_some(3, &subject.socket(), &mut rng, Manner::default());
    let mtas = Crowd::start(600, &socket_path(&subject), &mut rng, mta);
    let askers = Crowd::start(200, &subject.path("m"), &mut rng, asker);
    let mut sender = Sender::start(&subject);
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(10) || witness.rounds() < 60 {
        match rng.below(6) {
            0 | 1 => subject.write_config(&config_of('a')),
            2 | 3 => subject.write_config(&config_of('b')),
            4 => subject.write_config(&(config_of('b') + "hostname = c.example\nno such line")),
            _ => subject.remove_config(),
        }
        sender.send("HUP");
        count += 1;
        let next = Duration::from_millis(10) * count;
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    drop(sender);
    let testimony = witness.stop();
    let (askers, metrics) = askers.stop();
    let (mtas, _) = mtas.stop();
    let seen: BTreeSet<char> = testimony.generations.keys().copied().collect();
    assert!(seen.is_superset(&BTreeSet::from(['a', 'b'])), "{:?}", testimony.generations);
    assert!(metrics > 0, "no metrics in the flood");
    // The next one who asks is answered.
    let mut stream = BlockingStream::connect(subject.path("m")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("spf_milter_"), "{answer}");
    let recovery = recovery(&subject, &mut rng);
    let peak = subject.sample().peak;
    stage.after_growth(&subject, 64 * 600 + 32 * 1024);
    check_log(&subject.stop(), &testimony);
    format!(
        "{mtas} hostile connections, {askers} for metrics ({metrics} got them), {count} signals; peak {peak} KiB; \
         {} messages {:?}, slowest {} ms; right after {} ms",
        testimony.messages,
        testimony.generations,
        testimony.slowest.as_millis(),
        recovery.as_millis()
    )
}
