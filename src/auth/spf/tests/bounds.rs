//! The cost of the worst records.

use std::fmt::Write as _;

use super::{super::limits::MAX_EXPANSION_WORK, *};
use crate::mail::octets::WORK;

/// The most queries of one check with the limits of RFC 7208: the record, ten terms of eleven
/// look-ups (`mx` and ten hosts), the client's names (one look-up and ten addresses), the
/// explanation.
const MOST_QUERIES: usize = 1 + 10 * 11 + 11 + 1;

/// The most with look-ups under way early: one term must be an `include` for them to be in vain,
/// which costs one instead of eleven; then nine terms and ten hosts of exchangers are.
const MOST_QUERIES_WITH_EARLY_ONES: usize = MOST_QUERIES - 10 + 9 + 10;

/// Exchangers m{n} with ten hosts each, and ten names of the client.
fn exchangers() -> String {
    let mut text = String::new();
    for n in 0..30 {
        for host in 0..10 {
            let _ = writeln!(
                text,
                "m{n}.example MX 1 h{host}.m{n}.example\nh{host}.m{n}.example A 203.0.113.{n}"
            );
        }
    }
    for n in 0..12 {
        let _ = writeln!(text, "192.0.2.1 PTR p{n}.example\np{n}.example A 203.0.113.1");
    }
    text + "x.example TXT \"why %{p}\"\n"
}

fn terms(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("mx:m{n}.example ")).collect()
}

#[test]
fn worst_record() {
    // `%{p}` in the first term asks for the client's names, which lead nowhere.
    let mut text = exchangers().replace("m0.example MX", "m0.unknown.example MX");
    let _ = writeln!(
        text,
        "example.com TXT \"v=spf1 mx:m0.%{{p}}.example {}-all exp=x.example\"",
        terms(1, 10)
    );
    let outcome_and_queries = |latency| {
        let mut zone = Zone::parse(&text).unwrap();
        zone.latency = latency;
        let zone = Arc::new(zone);
        (Asked::new("192.0.2.1", "user@example.com").of(&zone), zone.queries())
    };
    let (outcome, queries) = outcome_and_queries(Duration::ZERO);
    assert_eq!(
        (outcome.result, outcome.explanation.as_deref(), outcome.lookups),
        (Fail, Some("why unknown"), 10)
    );
    assert_eq!(queries, MOST_QUERIES);
    assert_eq!(queries, 123);
    assert_eq!(outcome_and_queries(Duration::from_millis(1)), (outcome, queries));
}

#[test]
fn worst_record_with_early_look_ups() {
    let mut text = exchangers().replace("m0.example MX", "m0.unknown.example MX");
    let _ = writeln!(text, "i.example TXT \"v=spf1 mx:m0.%{{p}}.example {}+all\"", terms(1, 9));
    let _ = writeln!(text, "j.example TXT \"v=spf1 {}+all\"", terms(20, 30));
    let _ = writeln!(
        text,
        "example.com TXT \"v=spf1 -include:i.example include:j.example {}exp=x.example\"",
        terms(10, 19)
    );
    let mut zone = Zone::parse(&text).unwrap();
    zone.latency = Duration::from_millis(1);
    let zone = Arc::new(zone);
    let outcome = Asked::new("192.0.2.1", "user@example.com").of(&zone);
    assert_eq!(
        (outcome.result, outcome.explanation.as_deref(), outcome.lookups),
        (Fail, Some("why unknown"), 10)
    );
    assert_eq!(zone.queries(), MOST_QUERIES_WITH_EARLY_ONES);
    assert_eq!(zone.queries(), 132);
}

/// Goes through a check; returns its outcome and how many octets it went through.
fn outcome_and_work(asked: &Asked, zone: Zone) -> (Outcome, usize) {
    let before = WORK.get();
    let outcome = asked.of(&Arc::new(zone));
    (outcome, WORK.get() - before)
}

#[test]
fn large_records() {
    let record_of =
        |term: &str| format!("v=spf1 {}", format!("{term} ").repeat(64_000 / (term.len() + 1)));
    let local_part = "a-".repeat(32_000);
    for term in [
        "a:%{l1r-}.x.example",
        "ip4:203.0.113.1",
        "?ip6:2001:db8::1",
        "x=%{l}",
        "a=b",
        "exists:%{s}.x.example",
        "all",
        "include:%{L}.x.example",
    ] {
        let mut zone = Zone::new();
        zone.add_txt("example.com", record_of(term).as_bytes());
        let asked =
            Asked { sender: &format!("{local_part}@example.com"), ..Asked::new("192.0.2.1", "") };
        let (outcome, work) = outcome_and_work(&asked, zone);
        assert!(matches!(outcome.result, Permerror | Neutral | Pass), "{term} {outcome:?}");
        // A record that is too long is given up before anything is read.
        assert!(work <= 64_100, "{term} {work}");
    }
}

#[test]
fn records_of_one_large_term() {
    for part in [
        ".1", ".-", "-", "a-", ".a", "1", "a", "%%", "%{d}", "%{d}.", ":", "=", "/", "::", "1:",
        "%", "%{", "\u{e9}",
    ] {
        let long = part.repeat(60_000 / part.len());
        for term in
            ["", "a:", "exists:", "ip6:", "ip4:", "x=", "a", "mx=", "exp=", "a:%{l", "include:x"]
        {
            let mut zone = Zone::new();
            zone.add_txt(
                "example.com",
                format!("v=spf1 {term}{long} -all exp=x.example").as_bytes(),
            );
            zone.add_txt("x.example", format!("{term}{long}").as_bytes());
            let asked = Asked::new("192.0.2.1", "u@example.com");
            let (outcome, work) = outcome_and_work(&asked, zone);
            assert!(matches!(outcome.result, Permerror | Fail), "{term} {part} {outcome:?}");
            // The record and the explanation, once each.
            assert!(work <= 2 * 60_100, "{term} {part} {work}");
            let detail = outcome.problem.map_or(0, |problem| problem.detail.len());
            assert!(detail < 400, "{term} {part} {detail}");
        }
    }
}

/// A session holds its check's future as long as that takes.
#[test]
fn the_future_is_small() {
    let dns = Dns::from_zone(Arc::new(Zone::new()));
    let asked = Asked::new("192.0.2.1", "u@example.com");
    let query = asked.query();
    let size = std::mem::size_of_val(&check_query(&dns, &query, &asked.limits, None));
    assert!(size < 6 * 1024, "{size}");
}

#[test]
fn records_of_many_macros() {
    let local_part = "a-".repeat(32_000);
    for one in ["%{l}", "%{l1r-}", "%{L}", "%{S255r.-+,/_=}", "%{i}", "%%", "%{h99}"] {
        let mut zone = Zone::new();
        // As many as there may be.
        let long = one.repeat(if one == "%%" { 128 } else { 256 });
        let term = format!("exists:{long}.x.example ");
        zone.add_txt(
            "example.com",
            format!("v=spf1 {term}a:{long}.x.example -all exp=x.example").as_bytes(),
        );
        zone.add_txt("x.example", long.as_bytes());
        zone.latency = Duration::from_millis(1);
        let sender = format!("{local_part}@example.com");
        let asked = Asked { helo: &local_part, ..Asked::new("192.0.2.1", &sender) };
        let (outcome, work) = outcome_and_work(&asked, zone);
        assert_eq!(outcome.result, Fail, "{one}");
        // Three expansions, one of them early and once more.
        assert!(work <= 4 * MAX_EXPANSION_WORK, "{one} {work}");
        assert!(outcome.explanation.is_none_or(|text| !text.contains('a')), "{one}");
    }
}

/// As deep as a careless limit allows, with answers at hand and with answers that take their time:
/// on a stack that a recursion would overflow, and each record is asked for once.
#[test]
fn deep_includes_are_not_a_recursion() {
    let deep = |n: usize, latency| {
        let mut zone = Zone::new();
        zone.add_txt("example.com", b"v=spf1 include:0.deep.example -all");
        for i in 0..n {
            zone.add_txt(
                &format!("{i}.deep.example"),
                format!("v=spf1 include:{}.deep.example", i + 1).as_bytes(),
            );
        }
        zone.add_txt(&format!("{n}.deep.example"), b"v=spf1 +all");
        zone.latency = latency;
        let zone = Arc::new(zone);
        let limits = Limits {
            max_lookups: 100_000,
            timeout: Duration::from_secs(3_600),
            ..Limits::default()
        };
        let outcome = Asked { limits, ..Asked::new("192.0.2.1", "u@example.com") }.of(&zone);
        (outcome.result, outcome.lookups, zone.queries())
    };
    let check = move || {
        assert_eq!(deep(99_999, Duration::ZERO), (Pass, 100_000, 100_001));
        assert_eq!(deep(20_000, Duration::from_millis(1)), (Pass, 20_001, 20_002));
    };
    std::thread::Builder::new().stack_size(512 * 1024).spawn(check).unwrap().join().unwrap();
}
