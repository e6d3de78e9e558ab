//! Outcomes that are kept with the record, against checks that evaluate all of it.

use futures_util::FutureExt as _;
use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    properties::{NAMES, build, line, text},
    *,
};
use crate::dns::{Name, RecordType};

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

    /// Fills the cache with the answers that it has not, or that it has no more. Each question has
    /// its own TTL.
    fn fill(&self, zone: &Zone, ttls: &[u64]) {
        let reverse = CLIENTS.map(|client| Name::reverse(client.parse().unwrap()));
        let names = NAMES.iter().map(|name| Name::new(name).unwrap());
        let types = [RecordType::Txt, RecordType::A, RecordType::Aaaa, RecordType::Mx];
        let questions = names
            .flat_map(|name| types.map(|kind| (name.clone(), kind)))
            .chain(reverse.map(|name| (name, RecordType::Ptr)));
        for ((name, kind), ttl) in questions.zip(ttls.iter().cycle()) {
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
    /// A check: client, sender, whether it is allowed few look-ups.
    Check(usize, usize, bool),
    /// So many seconds go by.
    Wait(u64),
    /// The zone is another one from now on; the cache knows the old one.
    Change,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..CLIENTS.len(), 0..SENDERS.len(), prop::bool::weighted(0.2)).prop_map(|(client, sender, few)| Step::Check(client, sender, few)),
        2 => (1_u64..12).prop_map(Step::Wait),
        1 => Just(Step::Change),
    ]
}

const SENDERS: [&str; 4] =
    ["user@example.com", "other@example.com", "bücher@example.com", "user@a.example"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, rng_seed: RngSeed::Fixed(7208), ..ProptestConfig::default() })]

    /// The slow twin is a check that is traced: it takes nothing that was kept.
    #[test]
    fn outcomes_are_those_of_the_slow_twin(
        zones in prop::array::uniform2((prop::collection::vec(text(), 6), prop::collection::vec((0..NAMES.len(), line()), 0..24))),
        ttls in prop::collection::vec(prop_oneof![Just(3_u64), Just(10), Just(100)], 38),
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut zones = zones.map(|(records, lines)| build(&lines, &records));
        let differences = run(async {
            let (cached, mut differences) = (Cached::new(), Vec::new());
            for step in &steps {
                match *step {
                    Step::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                    Step::Change => zones.reverse(),
                    Step::Check(client, sender, is_allowed_few) => {
                        cached.fill(&zones[0], &ttls);
                        let mut asked = Asked::new(CLIENTS[client], SENDERS[sender]);
                        if is_allowed_few {
                            (asked.limits.max_lookups, asked.limits.max_void_lookups) = (2, 0);
                        }
                        let found = cached.check(&asked, None).map(|(outcome, _)| outcome);
                        let twin = cached.check(&asked, Some(&mut Trace::default()));
                        let twin = twin.map(|(outcome, _)| outcome);
                        if found != twin {
                            differences.push((step, found, twin));
                        }
                    }
                }
            }
            format!("{differences:?}")
        });
        prop_assert_eq!(differences, "[]");
    }
}

/// How many answers of the cache the first check takes, and the second.
fn answers(zone_text: &str, first: &Asked<'_>, second: &Asked<'_>, wait: u64) -> [u64; 2] {
    let zone = zone(zone_text);
    run(async {
        let cached = Cached::new();
        cached.fill(&zone, &[100]);
        let (_, at_first) = cached.check(first, None).unwrap();
        tokio::time::advance(Duration::from_secs(wait)).await;
        cached.fill(&zone, &[100]);
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
        cached.fill(&zone, &[100]);
        let clients = [0, 1, 2, 3, 0, 4, 1, 2, 0];
        let taken = clients.map(|client| {
            cached.check(&Asked::new(CLIENTS[client], "user@example.com"), None).unwrap().1
        });
        assert_eq!(taken, [2, 2, 2, 2, 1, 2, 1, 1, 2]);
        assert_eq!(cached.check(&Asked::new(CLIENTS[5], "user@example.com"), None).unwrap().1, 2);
    });
}
