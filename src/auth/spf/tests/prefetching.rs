//! Look-ups that are under way early: what they gain, and that they change nothing else.

use super::*;

const LATENCY: Duration = Duration::from_millis(20);

/// Three levels of includes: eight terms ask, at most one leaf matters.
const TREE: &str = "
example.com TXT \"v=spf1 include:a.example include:b.example -all\"
a.example TXT \"v=spf1 include:aa.example include:ab.example ~all\"
b.example TXT \"v=spf1 include:ba.example ~all\"
aa.example TXT \"v=spf1 a:h1.example mx:m1.example ~all\"
ab.example TXT \"v=spf1 a:h2.example ~all\"
ba.example TXT \"v=spf1 mx:m2.example ~all\"
h1.example A 203.0.113.1
h2.example A 203.0.113.2
m1.example MX 10 h3.example
m1.example MX 20 h4.example
h3.example A 203.0.113.3
h4.example A 203.0.113.4
m2.example MX 10 h5.example
h5.example A 203.0.113.5
h5.example A 192.0.2.1
";

/// The outcome and how many round trips it took.
fn timed(text: &str, asked: &Asked<'_>) -> (Outcome, u128, usize) {
    let mut zone = Zone::parse(text).unwrap();
    zone.latency = LATENCY;
    let zone = Arc::new(zone);
    let dns = Dns::from_zone(Arc::clone(&zone));
    let (outcome, elapsed) = run(async {
        let start = tokio::time::Instant::now();
        (check_query(&dns, &asked.query(), &asked.limits, None).await, start.elapsed())
    });
    // The clock of timers counts milliseconds, rounded up.
    (outcome, (elapsed.as_millis() + 5) / LATENCY.as_millis(), zone.queries())
}

#[test]
fn a_tree_costs_its_depth() {
    let asked = Asked::new("192.0.2.1", "user@example.com");
    let (outcome, round_trips, queries) = timed(TREE, &asked);
    // One for each of three levels of records, one for MX records of leaves, one for their hosts.
    assert_eq!((outcome.result, round_trips), (Pass, 5));
    assert_eq!(outcome.mechanism.as_deref(), Some("include:b.example"));
    // Counted one after another: 5 includes, 2 a, 2 mx.
    assert_eq!((outcome.lookups, outcome.void_lookups), (9, 0));
    // Nothing was asked twice: 6 records, 2 hosts, 2 MX, 3 of their hosts.
    assert_eq!(queries, 13);
    // A client with an IPv4-mapped address is not another client.
    let mapped = Asked { client: "::ffff:192.0.2.1", ..asked.clone() };
    assert_eq!(timed(TREE, &mapped), (outcome, round_trips, queries));
    // As many terms without MX take one less.
    let (_, round_trips, _) = timed(
        &TREE.replace("mx:m1.example", "a:h3.example").replace("mx:m2.example", "a:h5.example"),
        &asked,
    );
    assert_eq!(round_trips, 4);
}

#[test]
fn flat_records_take_two_round_trips() {
    let hosts: String = (0..10).map(|n| format!("h{n}.example A 203.0.113.{n}\n")).collect();
    let terms: String = (0..10).map(|n| format!("a:h{n}.example ")).collect();
    let (outcome, round_trips, queries) = timed(
        &format!("example.com TXT \"v=spf1 {terms}-all\"\n{hosts}"),
        &Asked::new("192.0.2.1", "user@example.com"),
    );
    assert_eq!((outcome.result, outcome.lookups, round_trips, queries), (Fail, 10, 2, 11));
}

/// A large answer that came early is not kept for its turn, and changes nothing.
#[test]
fn large_answers_that_come_early() {
    let many: String =
        (0..300).map(|n| format!("h.example A 203.0.{}.{}\n", n / 200, n % 200)).collect();
    let large = format!("i.example TXT \"v=spf1 ~all x={}\"\n", "x".repeat(3000));
    let record = "example.com TXT \"v=spf1 include:n.example include:i.example a:h.example ~all\"
n.example TXT \"v=spf1 a:g.example ~all\"\ng.example A 203.0.113.1\n";
    let (outcome, _, queries) =
        timed(&format!("{record}{large}{many}"), &Asked::new("192.0.2.1", "user@example.com"));
    // The record and two terms; the two large ones twice, for a zone has no cache.
    assert_eq!((outcome.result, outcome.lookups, queries), (Softfail, 4, 7));
}

#[test]
fn redirects_are_followed_early() {
    let text = "example.com TXT \"v=spf1 a:h.example redirect=r.example\"\nh.example A 203.0.113.1
r.example TXT \"v=spf1 mx:h.example -all\"\nh.example MX 1 h.example";
    let (outcome, round_trips, _) = timed(text, &Asked::new("192.0.2.1", "user@example.com"));
    // The record; the target; its MX records, whose host is known from the `a` term by then.
    assert_eq!((outcome.result, round_trips), (Fail, 3));
}

#[test]
fn nothing_is_asked_behind_a_certain_match_or_the_limit() {
    let asked = Asked::new("192.0.2.1", "user@example.com");
    let rest = "a.example A 203.0.113.1";
    let queries = |record: &str| timed(&format!("example.com TXT \"{record}\"\n{rest}"), &asked).2;
    assert_eq!(queries("v=spf1 a:a.example ip4:192.0.2.1 a:b.example a:c.example"), 2);
    assert_eq!(queries("v=spf1 a:a.example all redirect=b.example"), 2);
    let terms: String = (0..30).map(|n| format!("a:h{n}.example ")).collect();
    let limits = Limits { max_void_lookups: 100, ..Limits::default() };
    let (outcome, _, queries) =
        timed(&format!("example.com TXT \"v=spf1 {terms}\""), &Asked { limits, ..asked });
    assert_eq!((problem(&outcome), queries), (Some(ProblemKind::TooManyLookups), 11));
}

#[test]
fn fifty_terms_are_asked_for_early() {
    for (further, early) in [(49, 49), (50, 50), (51, 50), (80, 50)] {
        let terms: String = (0..further).map(|n| format!("a:h{n}.example ")).collect();
        let text = format!(
            "example.com TXT \"v=spf1 a:first.example {terms}-all\"\nfirst.example A 192.0.2.1\n"
        );
        let limits = Limits { max_lookups: 1000, max_void_lookups: 1000, ..Limits::default() };
        let (outcome, _, queries) =
            timed(&text, &Asked { limits, ..Asked::new("192.0.2.1", "user@example.com") });
        // The record and the first term, which matches, are not early.
        assert_eq!((outcome.result, queries), (Pass, 2 + early), "{further}");
    }
}

/// Terms that were evaluated before count for what may be asked early.
#[test]
fn limits_hold_deep_down() {
    let chain: String = (0..5)
        .map(|n| format!("i{n}.example TXT \"v=spf1 include:i{}.example\"\n", n + 1))
        .collect();
    let terms: String = (0..9).map(|n| format!("a:h{n}.example ")).collect();
    let hosts: String = (0..9).map(|n| format!("h{n}.example A 203.0.113.{n}\n")).collect();
    let text = format!(
        "example.com TXT \"v=spf1 include:i0.example\"\n{chain}i5.example TXT \"v=spf1 {terms}\"\n{hosts}"
    );
    let (outcome, _, queries) = timed(&text, &Asked::new("192.0.2.1", "user@example.com"));
    assert_eq!(
        (problem(&outcome), outcome.lookups, queries),
        (Some(ProblemKind::TooManyLookups), 10, 11)
    );
}

/// An answer that comes early and is never evaluated has no say.
#[test]
fn early_trouble_changes_nothing() {
    let rest = "a.example A 192.0.2.1\nbad.example * !servfail\nlate.example * !timeout\nbroken.example TXT \"v=spf1 moo\"\nmany.example MX 1 x.example\n";
    let terms = "include:bad.example include:broken.example a:void.example exists:void2.example mx:void3.example mx:many.example";
    let (outcome, round_trips, _) = timed(
        &format!("example.com TXT \"v=spf1 a:a.example {terms} redirect=late.example\"\n{rest}"),
        &Asked::new("192.0.2.1", "user@example.com"),
    );
    assert_eq!(
        (outcome.result, outcome.lookups, outcome.void_lookups, round_trips),
        (Pass, 1, 0, 2)
    );
    assert_eq!(outcome.problem, None);
}

#[test]
fn a_check_that_is_dropped_asks_no_more() {
    let mut zone = Zone::parse(TREE).unwrap();
    zone.latency = LATENCY;
    let zone = Arc::new(zone);
    let dns = Dns::from_zone(Arc::clone(&zone));
    let asked = Asked::new("192.0.2.1", "user@example.com");
    run(async {
        let limits = Limits { timeout: LATENCY * 5 / 2, ..Limits::default() };
        let outcome = check_query(&dns, &asked.query(), &limits, None).await;
        assert_eq!(result_and_problem(&outcome), (Temperror, Some(ProblemKind::Timeout)));
        let asked_by_then = zone.queries();
        assert!(asked_by_then < 13);
        let weak = Arc::downgrade(&zone);
        let before = weak.strong_count();
        {
            let query = asked.query();
            let check = check_query(&dns, &query, &asked.limits, None);
            assert!(tokio::time::timeout(LATENCY * 5 / 2, check).await.is_err());
        }
        // All that was under way held the zone.
        assert_eq!(weak.strong_count(), before);
        let asked_by_then = zone.queries();
        tokio::time::sleep(LATENCY * 100).await;
        assert_eq!(zone.queries(), asked_by_then);
    });
}
