//! Name servers that do not do what they should.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    milter_client::{MilterClient, Reply, Socket},
    nameserver::{Behaviour, NameServer},
    signer,
};

use super::{
    rng::Rng,
    sick::{Illness, SickServer},
    stage::{Case, Stage},
    subject::Subject,
    witness::{ANSWER_LIMIT, Manner, Testimony, Witness, ZONE, config, session, warm_up},
};

/// The names that a sick server of strangers has: SPF would refuse their senders.
pub const SICK: &str = "sick.example";

/// How long an illness lasts.
const ILL: Duration = Duration::from_millis(2500);

/// How long it may take until answers are right after the name servers are: errors are kept for a
/// second, and look-ups that began before end within `timeout_secs`.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);

const PROMISE: &str = "strangers' servers: others get right answers in time, theirs fail, temperror or permerror. \
                       Ours: right or temperror in time, right again soon. One of two of ours: always right";

macro_rules! illnesses {
    ($($name:literal: $illness:expr,)+) => {
        vec![$(Case::new(concat!("name server: ", $name), PROMISE, |stage| {
            treat(stage, $illness)
        })),+]
    };
}

pub fn cases() -> Vec<Case> {
    let mut cases = illnesses! {
        "silent": Illness::Silent,
        "later than any time-out": Illness::Late(Duration::from_secs(5)),
        "truncated, TCP hangs": Illness::TruncatedAndHanging,
        "truncated, TCP is closed": Illness::TruncatedAndClosed,
        "garbage": Illness::Garbage,
        "garbage behind the right question": Illness::GarbageWithin,
        "answers to another question": Illness::OtherQuestion,
        "answers with another id": Illness::OtherId,
        "64 KiB": Illness::Huge,
        "SERVFAIL and right in turn": Illness::EveryOther,
        "SERVFAIL": Illness::Failing,
        "referrals": Illness::Referring,
    };
    cases.push(
        Case::new("name server: each of these by chance", PROMISE, |stage| {
            treat(stage, Illness::Any)
        })
        .short(),
    );
    cases.push(Case::new(
        "name server: disappears and comes back",
        "temperror in time while it is away, right answers soon after it is back",
        disappear,
    ));
    cases
}

/// A good name server whose answers nobody may keep.
pub fn good_server() -> NameServer {
    let zone = format!("{ZONE}\n*.{SICK} TXT \"v=spf1 -all\"");
    let server = NameServer::start(Zone::parse(&signer::fill_in_keys(&zone)).unwrap());
    server.behave("*", Behaviour { ttl: 0, soa: Some((0, 0)), ..Behaviour::default() });
    server
}

/// MTAs whose senders all have domains with sick servers: no answer lets one of them through.
fn patients(socket: &Socket, rng: &mut Rng, over: &AtomicBool, asked: &AtomicUsize) {
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut rng = rng.fork();
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = MilterClient::connect_to(socket).unwrap();
                    client
                        .connect("mail.example", Some("192.0.2.9:25000".parse().unwrap()))
                        .unwrap();
                    client.helo("mail.example").unwrap();
                    let begun = Instant::now();
                    let sender = format!("<x@{:x}.{SICK}>", rng.next());
                    let reply = client.mail(&sender).unwrap();
                    assert!(begun.elapsed() < ANSWER_LIMIT, "{sender}: {:?}", begun.elapsed());
                    let is_refused = match &reply {
                        Reply::Code(text) => ["550 5.7.23 ", "451 4.7.24 ", "550 5.7.24 "]
                            .iter()
                            .any(|code| text.starts_with(code)),
                        _ => false,
                    };
                    assert!(is_refused, "{sender}: {reply:?}");
                    client.quit().unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// Waits until answers are right again: how long that takes.
pub fn recovery(subject: &Subject, rng: &mut Rng) -> Duration {
    let begun = Instant::now();
    loop {
        let mut testimony = Testimony::default();
        session(&subject.socket(), rng, Manner::default(), &mut testimony);
        if testimony.faults.is_empty() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < RECOVERY_LIMIT, "no recovery: {:?}", testimony.faults);
    }
}

fn treat(stage: &mut Stage, illness: Illness) -> String {
    let good = good_server();
    let sick = SickServer::start(good.address(), &mut stage.rng);
    let mut subject = Subject::start(&config('a', &[sick.address()]));
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);

    // The servers of strangers.
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
    sick.catch(illness, SICK);
    let mut patients_rng = rng.fork();
    let socket = subject.socket();
    thread::scope(|scope| {
        scope.spawn(|| patients(&socket, &mut patients_rng, &over, &asked));
        thread::sleep(ILL);
        over.store(true, Ordering::Relaxed);
    });
    let beside = witness.stop();
    let asked = asked.into_inner();
    assert!(asked > 0 && sick.count() > 0, "nobody was ill");

    // Our own. One that is sick may lie where it is believed: 64 KiB that nobody published.
    let mut seen = format!(
        "{asked} to sick names; beside them {} messages, slowest {} ms",
        beside.messages,
        beside.slowest.as_millis()
    );
    if illness != Illness::Huge && illness != Illness::Any {
        let trouble = Manner { trouble: true, ..Manner::default() };
        let witness = Witness::start(&subject.socket(), &mut rng, trouble);
        sick.catch(illness, "");
        thread::sleep(ILL);
        sick.catch(Illness::None, "");
        let ill = witness.stop();
        let recovery = recovery(&subject, &mut rng);
        seen += &format!(
            ". Ours ill: {} deferred of {}, slowest {} ms, right after {} ms",
            ill.deferred,
            ill.messages,
            ill.slowest.as_millis(),
            recovery.as_millis()
        );
        sick.catch(illness, "");
        assert!(subject.reload(&config('b', &[sick.address(), good.address()])));
        let witness = Witness::start(&subject.socket(), &mut rng, Manner::default());
        thread::sleep(ILL);
        let second = witness.stop();
        seen += &format!(
            ". One of two: {} messages, slowest {} ms",
            second.messages,
            second.slowest.as_millis()
        );
    }
    assert!(subject.is_alive());
    stage.after(&subject);
    subject.stop();
    seen
}

fn disappear(stage: &mut Stage) -> String {
    let good = good_server();
    let sick = SickServer::start(good.address(), &mut stage.rng);
    let address = sick.address();
    let subject = Subject::start(&config('a', &[address]));
    let mut rng = stage.rng.fork();
    warm_up(&subject.socket(), &mut rng);
    stage.before(&subject);
    let trouble = Manner { trouble: true, ..Manner::default() };
    let witness = Witness::start(&subject.socket(), &mut rng, trouble);
    let (mut sick, mut slowest) = (Some(sick), Duration::ZERO);
    let rounds = 3;
    for _ in 0..rounds {
        drop(sick.take());
        thread::sleep(ILL);
        sick = Some(SickServer::start_on(address, good.address(), &mut rng));
        slowest = slowest.max(recovery(&subject, &mut rng));
    }
    let testimony = witness.stop();
    assert!(testimony.deferred > 0, "its absence was not noticed");
    stage.after(&subject);
    subject.stop();
    drop(sick);
    format!(
        "away {rounds} times: {} deferred of {} messages, slowest {} ms; right after {} ms at most",
        testimony.deferred,
        testimony.messages,
        testimony.slowest.as_millis(),
        slowest.as_millis()
    )
}
