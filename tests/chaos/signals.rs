//! Signals at bad times.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use testkit::{
    daemon::{RELOAD_FAILED, RELOADED},
    wait_for,
};

use super::{
    mtas::check_log,
    nameservers::{good_server, recovery},
    stage::{Case, Stage},
    subject::Subject,
    witness::{Manner, Testimony, Witness, config, session, warm_up},
};

/// The wait for messages under way and for the log, at the end (`docs/limits.md`), and as much for a
/// machine with other work.
pub const END_LIMIT: Duration = Duration::from_secs(2 * (10 + 1 + 2));

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "SIGHUP every 10 ms",
            "every session has one configuration, a broken file changes nothing, no message is lost",
            storm,
        )
        .short(),
        Case::new(
            "SIGTERM amid traffic",
            "messages under way come to their end, all that ended are in the log, exit code 0 in time",
            terminate,
        )
        .short(),
        Case::new(
            "SIGKILL amid traffic",
            "the next daemon takes the socket over; nothing that was to be refused was accepted",
            kill,
        )
        .short(),
    ]
}

/// A shell that sends a signal for each line that it reads: to start one for each signal would take
/// longer than the time between two.
pub struct Sender(Child);

impl Sender {
    pub fn start(subject: &Subject) -> Self {
        let script = "while read -r signal; do kill -\"$signal\" \"$0\"; done";
        let mut command = Command::new("sh");
        command.args(["-c", script, &subject.id().to_string()]).stdin(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub fn send(&mut self, name: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{name}").unwrap();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn storm(stage: &mut Stage) -> String {
    let good = good_server();
    let subject = Subject::start(&config('a', &[good.address()]));
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let witness = Witness::start_some(3, &subject.socket(), &mut rng, Manner::default());
    let mut sender = Sender::start(&subject);
    let begun = Instant::now();
    let length = Duration::from_secs(if stage.is_short { 3 } else { 15 });
    let (mut count, mut most) = (0, 0);
    // Long enough for sessions under each of them.
    while begun.elapsed() < length || witness.rounds() < 60 {
        // A broken file has a good beginning: half of it must not be put in force.
        match rng.below(6) {
            0 | 1 => subject.write_config(&config('a', &[good.address()])),
            2 | 3 => subject.write_config(&config('b', &[good.address()])),
            4 => subject.write_config(
                &(config('b', &[good.address()]) + "hostname = c.example\nno such line"),
            ),
            _ => subject.remove_config(),
        }
        sender.send("HUP");
        count += 1;
        most = most.max(subject.sample().threads);
        let next = Duration::from_millis(10) * count;
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    drop(sender);
    let testimony = witness.stop();
    let seen: BTreeSet<char> = testimony.generations.keys().copied().collect();
    assert!(seen.is_superset(&BTreeSet::from(['a', 'b'])), "{:?}", testimony.generations);
    // The last word counts, whatever is being loaded when it comes.
    subject.write_config(&config('b', &[good.address()]));
    subject.signal("HUP");
    wait_for("the last configuration", || {
        let mut last = Testimony::default();
        session(&subject.socket(), &mut rng, Manner::default(), &mut last);
        assert!(last.faults.is_empty(), "{last:?}");
        last.generations.keys().eq([&'b']).then_some(())
    });
    stage.after(&subject);
    let log = subject.stop();
    check_log(&log, &testimony);
    let logged = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    let (taken, refused) = (logged(RELOADED), logged(RELOAD_FAILED));
    assert!(taken > 1 && refused > 1, "{taken} reloads, {refused} refused");
    format!(
        "{count} signals, {taken} reloads, {refused} refused, {most} threads at most; {} messages {:?}, slowest {} ms",
        testimony.messages,
        testimony.generations,
        testimony.slowest.as_millis()
    )
}

fn terminate(stage: &mut Stage) -> String {
    let good = good_server();
    let (config, mut rng) = (config('a', &[good.address()]), stage.rng.fork());
    let (mut messages, mut broken, mut slowest) = (0, 0, Duration::ZERO);
    let mut subject = Subject::start(&config);
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    stage.after(&subject);
    let rounds = stage.count(8);
    for round in 0..rounds {
        if round > 0 {
            subject.restart(&config);
        }
        let manner = Manner { breaks: true, ..Manner::default() };
        let witness = Witness::start_some(4, &subject.socket(), &mut rng, manner);
        witness.wait_for(5 + rng.below(10));
        let begun = Instant::now();
        subject.signal("TERM");
        let status = subject.wait();
        let took = begun.elapsed();
        slowest = slowest.max(took);
        assert!(status.success() && took < END_LIMIT, "{status} after {took:?}");
        let testimony = witness.stop();
        check_log(&subject.log().to_end(), &testimony);
        messages += testimony.messages;
        broken += testimony.broken;
    }
    format!(
        "{rounds} ends, {messages} messages, {broken} sessions without an answer, slowest end {} ms",
        slowest.as_millis()
    )
}

fn kill(stage: &mut Stage) -> String {
    let good = good_server();
    let (config, mut rng) = (config('a', &[good.address()]), stage.rng.fork());
    let mut subject = Subject::start(&config);
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let manner = Manner { breaks: true, cuts: true, ..Manner::default() };
    let witness = Witness::start_some(4, &subject.socket(), &mut rng, manner);
    let (rounds, mut slowest) = (stage.count(8), Duration::ZERO);
    for _ in 0..rounds {
        witness.wait_for(5 + rng.below(10));
        subject.signal("KILL");
        subject.wait();
        assert!(subject.path("s").exists(), "no socket was left");
        subject.restart(&config);
        slowest = slowest.max(recovery(&subject, &mut rng));
    }
    let testimony = witness.stop();
    assert!(testimony.broken > 0, "nobody noticed");
    stage.after(&subject);
    subject.stop();
    format!(
        "{rounds} kills, {} messages, {} sessions without an answer, right {} ms after the start at most",
        testimony.messages,
        testimony.broken,
        slowest.as_millis()
    )
}
