//! Outcomes that are kept with the record, against checks that evaluate all of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use super::{
    properties::{NAMES, build, line, text},
    *,
};
use crate::dns::{Name, RecordType, recorded::Recording};

const CLIENTS: [&str; 6] =
    ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "203.0.113.1", "2001:db8::1"];

/// A cache in front of a zone.
struct Cached {
    dns: Dns,
}

impl Cached {
    fn new() -> Self {
        Self { dns: Dns::knowing_nothing() }
    }

    /// Fills the cache with the answers that a check may need, where it has them not or no more. Each
    /// question has its own TTL.
    async fn fill(&self, zone: &Arc<Zone>, asked: &Asked<'_>, ttls: &[u64]) {
        // What a check asks the zone alone, and what it may ask where the cache knows other answers.
        let recording = Arc::new(Recording::default());
        let recorded = Dns::from_zone(Arc::clone(zone)).recording(&recording);
        check_query(&recorded, &asked.query(), &asked.limits, None).await;
        let recorded = recording.entries();
        let recorded = recorded.iter().map(|entry| (entry.name.clone(), entry.record_type));
        let names = NAMES.iter().map(|name| Name::new(name).unwrap());
        let types = [RecordType::Txt, RecordType::A, RecordType::Aaaa, RecordType::Mx];
        let questions = names.flat_map(|name| types.map(|kind| (name.clone(), kind)));
        for ((name, kind), ttl) in questions.chain(recorded).zip(ttls.iter().cycle()) {
            if self.dns.known(&name, kind, tokio::time::Instant::now()).is_none() {
                let answer = zone.lookup(&name, kind).now_or_never().unwrap();
                self.dns.learn(&name, kind, &answer, Duration::from_secs(*ttl));
            }
        }
    }

    /// The outcome, and how many answers it took; `None` where the cache does not have all of them.
    fn check(&self, asked: &Asked<'_>, trace: Option<&mut Trace>) -> Option<(Outcome, u64)> {
        let before = self.dns.statistics().hits;
        let outcome =
            check_query(&self.dns, &asked.query(), &asked.limits, trace).now_or_never()?;
        Some((outcome, self.dns.statistics().hits - before))
    }
}

/// One step of a conversation with a cache.
#[derive(Clone, Debug)]
enum Step {
    /// A check: client, sender, HELO name, and which limits.
    Check(usize, usize, usize, usize),
    /// So many seconds go by.
    Wait(u64),
    /// The zone is another one from now on; the cache knows the old one.
    Change,
    /// The cache has another size.
    Resize(usize),
}

const SENDERS: [&str; 4] =
    ["user@example.com", "other@example.com", "bücher@example.com", "user@a.example"];

const HELO_NAMES: [&str; 2] = ["mail.example.org", "a.example"];

/// Look-ups that are allowed, and void ones.
const LIMITS: [(usize, usize); 6] = [(10, 2), (10, 2), (10, 2), (10, 2), (1, 2), (10, 0)];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..2_usize, 0..SENDERS.len(), 0..HELO_NAMES.len(), 0..LIMITS.len())
            .prop_map(|(client, sender, helo, limits)| Step::Check(client, sender, helo, limits)),
        4 => (1_u64..12).prop_map(Step::Wait),
        2 => Just(Step::Change),
        1 => (10_usize..1_000).prop_map(Step::Resize),
    ]
}

/// Records that mostly come to an outcome that can be kept.
fn plain_text() -> impl Strategy<Value = Vec<u8>> {
    let terms = [
        "include:a.example",
        "include:b.example",
        "?include:c.example",
        "redirect=b.example",
        "a",
        "a/24",
        "~a:c.example",
        "mx",
        "mx:d.example",
        "exists:e.example",
        "ip4:192.0.2.1",
        "ip6:2001:db8::/32",
        "?all",
        "~all",
    ];
    prop::collection::vec(prop::sample::select(terms.to_vec()), 0..5)
        .prop_map(|terms| format!("v=spf1 {}", terms.join(" ")).into_bytes())
}

/// The slow twin is a check that is traced: it takes nothing that was kept.
#[test]
fn outcomes_are_those_of_the_slow_twin() {
    let record = || prop_oneof![3 => plain_text(), 1 => text()];
    let zone = || {
        (prop::collection::vec(record(), 6), prop::collection::vec((0..NAMES.len(), line()), 0..24))
    };
    let cases = (
        [zone(), zone()],
        prop::collection::vec(prop_oneof![Just(3_u64), Just(10), Just(100)], 38),
        prop::collection::vec(step(), 1..40),
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7208),
        ..ProptestConfig::default()
    });
    // Checks, those that took an outcome that was kept, and those that found no answer.
    let counts = [const { AtomicUsize::new(0) }; 3];
    let count = |number: usize| counts[number].fetch_add(1, Ordering::Relaxed);
    let result = runner.run(&cases, |(zones, ttls, steps)| {
        let mut zones = zones.map(|(records, lines)| Arc::new(build(&lines, &records)));
        let differences = run(async {
            let (mut cached, mut differences, mut is_small) = (Cached::new(), Vec::new(), false);
            for step in &steps {
                match *step {
                    Step::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                    Step::Change => zones.reverse(),
                    Step::Resize(size) => {
                        cached.dns = cached.dns.resized(size);
                        is_small = size < 200;
                    }
                    Step::Check(client, sender, helo, limits) => {
                        let mut asked = Asked::new(CLIENTS[client], SENDERS[sender]);
                        asked.helo = HELO_NAMES[helo];
                        (asked.limits.max_lookups, asked.limits.max_void_lookups) = LIMITS[limits];
                        cached.fill(&zones[0], &asked, &ttls).await;
                        // What it has lost and was given anew may be another record, while this thread
                        // remembers what the one before it came to.
                        if is_small {
                            crate::auth::spf::recent::forget();
                        }
                        let found = cached.check(&asked, None);
                        let twin = cached.check(&asked, Some(&mut Trace::default()));
                        count(0);
                        if let (Some((_, 1)), Some((_, 2..))) = (&found, &twin) {
                            count(1);
                        }
                        if twin.is_none() {
                            count(2);
                        }
                        let [found, twin] =
                            [found, twin].map(|found| found.map(|(outcome, _)| outcome));
                        // A small cache may have lost an answer that the outcome rests on, which
                        // holds all the same; the twin then has none.
                        if found != twin && twin.is_some() {
                            differences.push((step, found, twin));
                        }
                    }
                }
            }
            format!("{differences:?}")
        });
        prop_assert_eq!(differences, "[]");
        Ok(())
    });
    result.unwrap();
    let [all, kept, without] = counts.map(AtomicUsize::into_inner);
    assert!(kept * 20 > all && without * 20 < all, "{all} checks, {kept} kept, {without} without");
}

/// How many answers of the cache the first check takes, and the second.
fn answers(zone_text: &str, first: &Asked<'_>, second: &Asked<'_>, wait: u64) -> [u64; 2] {
    let zone = zone(zone_text);
    run(async {
        let cached = Cached::new();
        cached.fill(&zone, first, &[100]).await;
        let (_, at_first) = cached.check(first, None).unwrap();
        tokio::time::advance(Duration::from_secs(wait)).await;
        cached.fill(&zone, second, &[100]).await;
        [at_first, cached.check(second, None).unwrap().1]
    })
}

#[test]
fn a_check_is_not_made_twice() {
    let user = Asked::new("192.0.2.1", "user@example.com");
    let list = Asked { helo: "list.example", ..Asked::new("192.0.2.1", "list@example.com") };
    let mapped = Asked::new("::ffff:192.0.2.1", "user@example.com");
    let plain = "example.com TXT \"v=spf1 include:a.example -all\"\na.example TXT \"v=spf1 mx ~all\"\n\
        a.example MX 10 b.example\nb.example A 192.0.2.1\n";
    for again in [&user, &list, &mapped] {
        assert_eq!(answers(plain, &user, again, 99), [4, 1]);
    }
    // Not where anything is different that may count.
    let few = Limits { max_lookups: 9, ..Limits::default() };
    let few_void = Limits { max_void_lookups: 1, ..Limits::default() };
    for (other, wait) in [
        (&Asked::new("192.0.2.2", "user@example.com"), 0),
        (&Asked { limits: few, ..user.clone() }, 0),
        (&Asked { limits: few_void, ..user.clone() }, 0),
        (&user, 100),
    ] {
        assert_eq!(answers(plain, &user, other, wait), [4, 4]);
    }
    // Results of all kinds, but for problems and explanations.
    for (record, taken) in [
        ("v=spf1 a -all", [2, 1]),
        ("v=spf1 a ~all", [2, 1]),
        ("v=spf1 a ?all", [2, 1]),
        ("v=spf1 a", [2, 1]),
        ("v=spf1 redirect=d.example", [2, 2]),
        ("v=spf1 a a:a.example a:b.example -all", [4, 4]),
        ("v=spf1 moo", [1, 1]),
        ("v=spf1 a -all exp=c.example", [3, 3]),
        ("v=spf1 a a:%{o} -all", [3, 3]),
        ("v=spf1 include:c.example -all", [3, 3]),
        ("v=spf1 ptr ?all", [2, 2]),
    ] {
        let text =
            format!("example.com TXT \"{record}\"\nc.example TXT \"v=spf1 a:%{{d}} -all\"\n");
        assert_eq!(answers(&text, &user, &user, 0), taken, "{record}");
    }
}

/// The clients that came last are remembered.
#[test]
fn few_clients_are_remembered() {
    let zone = zone("example.com TXT \"v=spf1 a -all\"\n");
    run(async {
        let cached = Cached::new();
        cached.fill(&zone, &Asked::new(CLIENTS[0], "user@example.com"), &[100]).await;
        let clients = [0, 1, 2, 3, 0, 4, 1, 2, 0];
        let taken = clients.map(|client| {
            // This thread remembers more of them.
            crate::auth::spf::recent::forget();
            cached.check(&Asked::new(CLIENTS[client], "user@example.com"), None).unwrap().1
        });
        assert_eq!(taken, [2, 2, 2, 2, 1, 2, 1, 1, 2]);
        assert_eq!(cached.check(&Asked::new(CLIENTS[5], "user@example.com"), None).unwrap().1, 2);
        // A thread that took each of them twice knows them all.
        let check =
            |client: &str| cached.check(&Asked::new(client, "user@example.com"), None).unwrap().1;
        CLIENTS.iter().for_each(|client| assert!(check(client) <= 2 && check(client) == 1));
        assert_eq!(CLIENTS.map(check), [1; 6]);
    });
}

/// A check that is traced takes nothing that was kept, what is kept anew after its time takes the
/// place of the old, and a cache of another size has none of it.
#[test]
fn kept_outcomes_and_others() {
    let zone = zone("example.com TXT \"v=spf1 a mx -all\"\nexample.com MX 1 a.example\n");
    // The record holds longer than the other answers.
    let ttls: Vec<u64> = [100].into_iter().chain([10; 37]).collect();
    run(async {
        let (mut cached, asked) = (Cached::new(), Asked::new(CLIENTS[0], "user@example.com"));
        let mut taken = Vec::new();
        for is_resized in [false, false, true] {
            if is_resized {
                cached.dns = cached.dns.resized(1_000);
            }
            cached.fill(&zone, &asked, &ttls).await;
            for _ in 0..2 {
                taken.push(cached.check(&asked, None).unwrap().1);
                taken.push(cached.check(&asked, Some(&mut Trace::default())).unwrap().1);
            }
            if !is_resized && taken.len() == 4 {
                tokio::time::advance(Duration::from_secs(10)).await;
            }
        }
        assert_eq!(taken, [4, 4, 1, 4, 4, 4, 1, 4, 4, 4, 1, 4]);
    });
}

/// The octets of all that is kept count in the cache, and nothing long is kept.
#[test]
fn what_is_kept_counts() {
    let long = |count: usize| "x.".repeat(count);
    for (record, more, is_kept) in [
        ("v=spf1 ip4:192.0.2.0/24 a -all".to_owned(), String::new(), true),
        // The texts of an outcome are a mechanism and a name: 128 octets at most.
        (format!("v=spf1 ?a:{}a.example/0 -all", long(52)), String::new(), true),
        (format!("v=spf1 ?a:{}a.example/0 -all", long(53)), String::new(), false),
        (format!("v=spf1 ?a:{}a.example/0 -all", long(2_000)), String::new(), false),
        (
            "v=spf1 redirect=b.example".to_owned(),
            format!("v=spf1 ?a:{}a.example/0", long(4_000)),
            false,
        ),
        // A record that is too large to be kept itself.
        (format!("v=spf1 a:a.example/0{}", " a".repeat(61)), String::new(), true),
        (format!("v=spf1 a:a.example/0{}", " a".repeat(62)), String::new(), false),
    ] {
        let mut zone = Zone::new();
        zone.add_txt("example.com", record.as_bytes());
        zone.add_txt("b.example", more.as_bytes());
        for name in ["example.com", "*.a.example", "a.example"] {
            zone.add_a(name, [192, 0, 2, 1].into());
        }
        let zone = Arc::new(zone);
        run(async {
            let (cached, name) = (Cached::new(), Name::new("example.com").unwrap());
            let places = || cached.dns.places(&name, RecordType::Txt).unwrap();
            let (mut taken, mut grown) = (Vec::new(), Vec::new());
            for client in CLIENTS.iter().take(4) {
                let asked = Asked::new(client, "user@example.com");
                cached.fill(&zone, &asked, &[100]).await;
                let before = places();
                let answers = [(); 2].map(|()| cached.check(&asked, None).unwrap().1);
                taken.push(answers[1] == 1);
                grown.push(places() > before);
            }
            assert_eq!(taken, [is_kept; 4], "{record:.60}");
            // The first outcome takes room for all.
            if is_kept {
                assert_eq!(grown, [true, false, false, false], "{record:.60}");
            }
        });
    }
}
