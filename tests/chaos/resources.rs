//! A system that has not enough of something, or whose parts are gone.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::OpenOptionsExt as _,
        net::{UnixDatagram, UnixStream},
    },
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::fcntl::OFlag;
use testkit::{
    fields::Field,
    milter_client::{MilterClient, Reply, Stream},
    nameserver::Behaviour,
    signer, wait_for,
};

use super::{
    mtas::{OPEN, check_log, packet},
    nameservers::{good_server, recovery},
    signals::END_LIMIT,
    stage::{Case, Stage},
    subject::{Subject, Surroundings},
    witness::{Manner, Testimony, Witness, config, warm_up},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "too few descriptors",
            "connections wait and do not take what look-ups need; below that temperror; all is well when there are more",
            few_descriptors,
        )
        .short(),
        Case::new(
            "memory limit",
            "the most that connections may take fits into the limit: the daemon lives, others get right answers",
            little_memory,
        ),
        Case::new(
            "log on a full disk",
            "answers are as ever; lines are lost, and counted in the log when there is room",
            full_disk,
        ),
        Case::new(
            "log that nobody reads",
            "answers are as ever; lines are lost, and counted in the log when it is read; SIGTERM ends it all the same",
            deaf_log,
        ),
        Case::new(
            "syslog missing, stuck, back",
            "answers are as ever; lines go to stderr; when syslog is back they go there",
            no_syslog,
        ),
        Case::new(
            "clock stepped by years, both ways",
            "answers are as ever; only what has a date in it changes: a signature that has expired",
            clock,
        ),
    ]
}

fn prlimit(subject: &Subject, limit: &str) {
    let arguments = ["--pid", &subject.id().to_string(), limit];
    assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
}

fn few_descriptors(stage: &mut Stage) -> String {
    let good = good_server();
    let config = config('a', &[good.address()]);
    let subject = Subject::start_in(Surroundings::after("ulimit -n 100"), &config);
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    // Many more than there are descriptors, each only for a while.
    let mut connections = 0;
    let length = Duration::from_secs(if stage.is_short { 2 } else { 5 });
    let begun = Instant::now();
    while begun.elapsed() < length {
        let crowd: Vec<Stream> =
            (0..150).map(|_| Stream::connect(&subject.socket()).unwrap()).collect();
        connections += crowd.len();
        thread::sleep(Duration::from_millis(100));
    }
    let first = witness.stop();
    // Fewer than are in use.
    let trouble = Manner { trouble: true, ..Manner::default() };
    let witness = Witness::start(&subject.socket(), &mut rng, trouble);
    let few = subject.sample().descriptors + 2;
    prlimit(&subject, &format!("--nofile={few}:100"));
    let crowd: Vec<Stream> = (0..60).map(|_| Stream::connect(&subject.socket()).unwrap()).collect();
    subject.log().find(|line| line.contains("Too many open files")).expect("no word about it");
    thread::sleep(Duration::from_secs(1));
    drop(crowd);
    thread::sleep(Duration::from_millis(500));
    prlimit(&subject, "--nofile=100:100");
    let second = witness.stop();
    let recovery = recovery(&subject, &mut rng);
    stage.after(&subject);
    let log = subject.stop();
    check_log(&log, &first);
    check_log(&log, &second);
    format!(
        "100: {connections} connections, {} messages, slowest {} ms; {few}: {} of {} deferred, right after {} ms",
        first.messages,
        first.slowest.as_millis(),
        second.deferred,
        second.messages,
        recovery.as_millis()
    )
}

fn little_memory(stage: &mut Stage) -> String {
    const LIMIT: usize = 448 * 1024;
    let good = good_server();
    // 100 connections, each with a header of 1 MiB (docs/limits.md), and the cache.
    let config = config('a', &[good.address()]) + "max_connections = 100\n";
    let subject = Subject::start_in(Surroundings::after(format!("ulimit -v {LIMIT}")), &config);
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    for _ in 0..3 {
        let mut crowd: Vec<UnixStream> = Vec::new();
        for _ in 0..90 {
            let Stream::Unix(mut stream) = Stream::connect(&subject.socket()).unwrap() else {
                panic!("not a UNIX socket")
            };
            let sender = format!("<x@{:x}.good.example>\0", rng.next());
            let field =
                packet(b'L', &[b"X-Long\0", vec![b'x'; 250_000].as_slice(), b"\0"].concat());
            let begin = [
                OPEN.to_vec(),
                packet(b'C', b"mail.example\x004\x61\xa8192.0.2.1\0"),
                packet(b'H', b"mail.example\0"),
                packet(b'M', sender.as_bytes()),
                // As much of a header as is kept, and the half of a field more.
                field.repeat(4),
                field[..field.len() / 2].to_vec(),
            ];
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            let _ = stream.write_all(&begin.concat());
            crowd.push(stream);
        }
        witness.wait_for(4);
    }
    let testimony = witness.stop();
    let peak = subject.sample().peak;
    stage.after_growth(&subject, LIMIT / 2);
    check_log(&subject.stop(), &testimony);
    format!(
        "RLIMIT_AS {LIMIT} KiB, peak {peak} KiB; {} messages beside, slowest {} ms",
        testimony.messages,
        testimony.slowest.as_millis()
    )
}

/// A path as the daemon sees it in its own mounts.
fn within(subject: &Subject, path: &str) -> PathBuf {
    format!("/proc/{}/root{path}", subject.id()).into()
}

fn full_disk(stage: &mut Stage) -> String {
    let good = good_server();
    let mut rng = stage.rng.fork();
    let surroundings = Surroundings::within(
        &["unshare", "--mount", "--propagation", "private"],
        "mkdir FOLDER/full; mount -t tmpfs -o size=64k chaos FOLDER/full; exec 2>>FOLDER/full/log",
    );
    let subject =
        Subject::start_in(surroundings, &(config('a', &[good.address()]) + "log_level = debug\n"));
    let log = within(&subject, &subject.path("full/log").display().to_string());
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    let size = || fs::metadata(&log).unwrap().len();
    wait_for("a full disk", || (size() >= 64 * 1024).then_some(()));
    witness.wait_for(30);
    // Room again.
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    let line = wait_for("the log to go on", || {
        let text = fs::read_to_string(&log).unwrap();
        text.lines().find(|line| line.contains("log lines dropped")).map(str::to_owned)
    });
    let testimony = witness.stop();
    stage.after(&subject);
    subject.stop();
    format!(
        "64 KiB full; '{line}'; {} messages, slowest {} ms",
        testimony.messages,
        testimony.slowest.as_millis()
    )
}

/// Octets that wait in a pipe, up to when there are none.
fn drain(pipe: &mut fs::File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 65_536]);
    while let Ok(length) = pipe.read(&mut buffer)
        && length > 0
    {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn deaf_log(stage: &mut Stage) -> String {
    let good = good_server();
    let mut rng = stage.rng.fork();
    // Opened for both, so that this does not wait for a reader.
    let surroundings = Surroundings::after("mkfifo FOLDER/pipe; exec 2<>FOLDER/pipe");
    let config = config('a', &[good.address()]) + "log_level = debug\n";
    let subject = Subject::start_in(surroundings, &config);
    let mut pipe = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(subject.path("pipe"))
        .unwrap();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    // More lines than the pipe holds, and than may wait: 4096, and as many that are being written.
    good.behave("same.bad.example", Behaviour::default());
    let write_lines = |count: usize| {
        let mut client = MilterClient::connect_to(&subject.socket()).unwrap();
        client.connect("mail.example", Some("192.0.2.9:25000".parse().unwrap())).unwrap();
        client.helo("mail.example").unwrap();
        for _ in 0..count {
            let reply = client.mail("<x@same.bad.example>").unwrap();
            assert!(matches!(&reply, Reply::Code(text) if text.starts_with("550 ")), "{reply:?}");
            client.abort().unwrap();
        }
        client.quit().unwrap();
    };
    write_lines(12_000);
    witness.wait_for(20);
    let testimony = witness.stop();
    let mut log = String::new();
    wait_for("the log to go on", || {
        log += &drain(&mut pipe);
        log.contains("log lines dropped").then_some(())
    });
    let line = log.lines().find(|line| line.contains("log lines dropped")).unwrap().to_owned();
    stage.after(&subject);
    // Full again, at the end.
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    write_lines(1000);
    let second = witness.stop();
    let begun = Instant::now();
    subject.stop();
    let end = begun.elapsed();
    assert!(end < END_LIMIT, "the end took {end:?}");
    format!(
        "'{line}'; {} messages, slowest {} ms; ended in {} ms",
        testimony.messages + second.messages,
        testimony.slowest.max(second.slowest).as_millis(),
        end.as_millis()
    )
}

fn no_syslog(stage: &mut Stage) -> String {
    let good = good_server();
    let mut rng = stage.rng.fork();
    let surroundings = Surroundings::within(
        &["unshare", "--mount", "--propagation", "private"],
        "mount -t tmpfs chaos /dev; mknod -m 666 /dev/null c 1 3",
    );
    let subject = Subject::start_in(
        surroundings,
        &(config('a', &[good.address()]) + "log_destination = syslog\n"),
    );
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    // Missing.
    subject.log().find(|line| line.contains("cannot write to syslog")).expect("no word about it");
    witness.wait_for(20);
    let missing = subject.log().mark();
    // There, and nobody reads.
    let syslog = UnixDatagram::bind(within(&subject, "/dev/log")).unwrap();
    fs::set_permissions(
        within(&subject, "/dev/log"),
        std::os::unix::fs::PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    witness.wait_for(200);
    // Read again.
    syslog.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut buffer, mut read) = ([0; 8192], 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let length = syslog.recv(&mut buffer).expect("nothing comes to syslog");
        assert!(buffer[..length].starts_with(b"<"), "not a line of syslog");
        read += 1;
    }
    let first = witness.stop();
    // Gone, with its socket; another one comes.
    drop(syslog);
    fs::remove_file(within(&subject, "/dev/log")).unwrap();
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    witness.wait_for(20);
    let syslog = UnixDatagram::bind(within(&subject, "/dev/log")).unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    syslog.recv(&mut buffer).expect("nothing comes to the new syslog");
    let second = witness.stop();
    stage.after(&subject);
    let stderr = subject.log().mark();
    drop(syslog);
    subject.stop();
    format!(
        "{missing} lines on stderr while it was missing, {read} lines read later, {stderr} on stderr in all; {} messages, slowest {} ms",
        first.messages + second.messages,
        first.slowest.max(second.slowest).as_millis()
    )
}

/// The library that lies about the time: a process cannot have a time of day of its own otherwise (a time
/// namespace has only the clocks that count from the start).
fn faketime() -> String {
    let found = fs::read_dir("/usr/lib").unwrap().flatten().find_map(|entry| {
        let path = entry.path().join("faketime/libfaketime.so.1");
        path.exists().then(|| path.display().to_string())
    });
    found.expect("libfaketime is missing: apt-get install libfaketime, or make peers")
}

fn clock(stage: &mut Stage) -> String {
    let good = good_server();
    let mut rng = stage.rng.fork();
    let before = format!(
        "echo +0 >FOLDER/offset; export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE=FOLDER/offset FAKETIME_CACHE_DURATION=1 \
         FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1",
        faketime()
    );
    let subject = Subject::start_in(Surroundings::after(before), &config('a', &[good.address()]));
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expires = format!("d=good.example s=ed t={} x={}", now - 1000, now + 100_000);
    let dkim = || {
        let mut client = MilterClient::connect_to(&subject.socket()).unwrap();
        client.connect("mail.good.example", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
        client.helo("mail.good.example").unwrap();
        assert_eq!(client.mail("<amy@x.good.example>").unwrap(), Reply::Continue);
        let body = b"hello\r\n";
        let mut fields =
            vec![Field::new("From", " amy@x.good.example"), Field::new("Subject", " x")];
        fields.insert(0, Field::new("DKIM-Signature", signer::sign(&expires, &fields, body)));
        let end = client.message(&fields, body).unwrap();
        let field = end.fields.iter().find(|field| field.is("Authentication-Results")).unwrap();
        let field = field.unfolded();
        let result = field.split_once(" dkim=").unwrap().1.split([' ', ';']).next().unwrap();
        result.to_owned()
    };
    assert_eq!(dkim(), "pass");
    let mut seen = Vec::new();
    // A year ahead, and back; ten years back, when the signature is one of the future; and forth in
    // many small steps.
    for (offset, is_valid) in [("+365d", false), ("+0", true), ("-3650d", false), ("+0", true)] {
        fs::write(subject.path("offset"), format!("{offset}\n")).unwrap();
        let result = wait_for("the clock to be seen", || {
            let result = dkim();
            ((result == "pass") == is_valid).then_some(result)
        });
        witness.wait_for(10);
        seen.push(format!("{offset}: dkim={result}"));
    }
    for step in 0..20 {
        let offset = (rng.below(2_000_000) as i64 - 1_000_000) * (step % 3);
        fs::write(subject.path("offset"), format!("{offset:+}\n")).unwrap();
        thread::sleep(Duration::from_millis(150));
    }
    fs::write(subject.path("offset"), "+0\n").unwrap();
    let testimony: Testimony = witness.stop();
    stage.after(&subject);
    check_log(&subject.stop(), &testimony);
    format!(
        "{}; 20 steps at random; {} messages, slowest {} ms",
        seen.join(", "),
        testimony.messages,
        testimony.slowest.as_millis()
    )
}
