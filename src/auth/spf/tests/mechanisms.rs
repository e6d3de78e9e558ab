//! Mechanisms and modifiers (RFC 7208 §5, §6).

use super::*;

/// The zone that `include` and `redirect` point into.
const RESULTS: &str = "
pass.example TXT \"v=spf1 +all\"
fail.example TXT \"v=spf1 -all\"
softfail.example TXT \"v=spf1 ~all\"
neutral.example TXT \"v=spf1 ?all\"
empty.example TXT \"v=spf1\"
none.example TXT \"no record\"
several.example TXT \"v=spf1 +all\"
several.example TXT \"v=spf1 -all\"
syntax.example TXT \"v=spf1 moo\"
servfail.example TXT !servfail
refused.example TXT !refused
timeout.example TXT !timeout
loop.example TXT \"v=spf1 include:loop.example +all\"
ring.example TXT \"v=spf1 redirect=gnir.example\"
gnir.example TXT \"v=spf1 redirect=ring.example\"
explained.example TXT \"v=spf1 -all exp=x.explained.example\"
x.explained.example TXT \"no\"
";

#[test]
fn include_maps_results() {
    let result = |target: &str| {
        let outcome = check_record(&format!("v=spf1 ~include:{target} -all"), RESULTS);
        (outcome.result, problem(&outcome))
    };
    assert_eq!(result("pass.example"), (Softfail, None));
    for target in ["fail.example", "softfail.example", "neutral.example", "empty.example"] {
        assert_eq!(result(target), (Fail, None), "{target}");
    }
    assert_eq!(result("none.example"), (Permerror, Some(ProblemKind::NoTarget)));
    assert_eq!(result("missing.example"), (Permerror, Some(ProblemKind::NoTarget)));
    assert_eq!(result("several.example"), (Permerror, Some(ProblemKind::SeveralRecords)));
    assert_eq!(result("syntax.example"), (Permerror, Some(ProblemKind::InvalidRecord)));
    assert_eq!(result("servfail.example"), (Temperror, Some(ProblemKind::LookupFailed)));
    assert_eq!(result("refused.example"), (Temperror, Some(ProblemKind::LookupFailed)));
    assert_eq!(result("timeout.example"), (Temperror, Some(ProblemKind::Timeout)));
    assert_eq!(result("loop.example"), (Permerror, Some(ProblemKind::TooManyLookups)));
    assert_eq!(result("ring.example"), (Permerror, Some(ProblemKind::TooManyLookups)));
    // Names that have no record: a single label, labels that DNS does not have.
    assert_eq!(result("%{d1}"), (Permerror, Some(ProblemKind::NoTarget)));
    assert_eq!(result("a..example"), (Permerror, Some(ProblemKind::NoTarget)));
    let tld = "com TXT \"v=spf1 +all\"";
    assert_eq!(
        problem(&check_record("v=spf1 include:%{d1} -all", tld)),
        Some(ProblemKind::NoTarget)
    );
    assert_eq!(problem(&check_record("v=spf1 redirect=%{d1}", tld)), Some(ProblemKind::NoTarget));
}

#[test]
fn include_names_its_own_term() {
    let outcome = check_record(
        "v=spf1 a:x.example -include:deep.example",
        &format!("{RESULTS}deep.example TXT \"v=spf1 include:pass.example\""),
    );
    assert_eq!(outcome.result, Fail);
    assert_eq!(outcome.mechanism.as_deref(), Some("include:deep.example"));
    assert_eq!(outcome.policy_domain.as_deref(), Some("example.com"));
    assert_eq!((outcome.lookups, outcome.void_lookups), (3, 1));
}

#[test]
fn redirect_takes_the_place_of_the_record() {
    let check = |record: &str| {
        let outcome = check_record(record, RESULTS);
        (outcome.result, outcome.policy_domain, outcome.mechanism)
    };
    let from = |domain: &str| Some(domain.into());
    let all = || Some("all".into());
    assert_eq!(check("v=spf1 redirect=fail.example"), (Fail, from("fail.example"), all()));
    assert_eq!(
        check("v=spf1 redirect=fail.example ip4:192.0.2.1"),
        (Pass, from("example.com"), Some("ip4:192.0.2.1".into()))
    );
    assert_eq!(check("v=spf1 redirect=fail.example ?all"), (Neutral, from("example.com"), all()));
    assert_eq!(check("v=spf1 redirect=empty.example"), (Neutral, from("empty.example"), None));
    assert_eq!(check("v=spf1 include:fail.example redirect=softfail.example").0, Softfail);
    for target in [
        "none.example",
        "missing.example",
        "several.example",
        "syntax.example",
        "ring.example",
        "%{d1}",
    ] {
        assert_eq!(
            check(&format!("v=spf1 redirect={target}")),
            (Permerror, None, None),
            "{target}"
        );
    }
    assert_eq!(check("v=spf1 redirect=timeout.example"), (Temperror, None, None));
    // Inside an include, the result of the target counts.
    let rest = format!(
        "{RESULTS}r.example TXT \"v=spf1 redirect=pass.example\"\ns.example TXT \"v=spf1 redirect=fail.example\""
    );
    assert_eq!(
        check_record("v=spf1 include:s.example ?include:r.example -all", &rest).result,
        Neutral
    );
}

#[test]
fn networks() {
    let matches = |term: &str, client: &str| {
        check_from(client, &format!("example.com TXT \"v=spf1 {term} -all\"")).result == Pass
    };
    for (term, client, expected) in [
        ("ip4:192.0.2.1", "192.0.2.1", true),
        ("ip4:192.0.2.1", "192.0.2.2", false),
        ("ip4:192.0.2.77/24", "192.0.2.1", true),
        ("ip4:192.0.2.1/31", "192.0.2.2", false),
        ("ip4:192.0.2.1/32", "192.0.2.1", true),
        ("ip4:255.255.255.255/0", "0.0.0.0", true),
        ("ip4:128.0.0.0/1", "127.255.255.255", false),
        ("ip4:0.0.0.0/0", "2001:db8::1", false),
        ("ip4:192.0.2.1", "::ffff:192.0.2.1", true),
        ("ip4:192.0.2.1", "::ffff:192.0.2.2", false),
        ("ip6:::ffff:192.0.2.1", "::ffff:192.0.2.1", false),
        ("ip6:::/0", "192.0.2.1", false),
        ("ip6:::/0", "ffff::1", true),
        ("ip6:ffff::/0", "::1", true),
        ("ip6:2001:db8::1/128", "2001:db8::1", true),
        ("ip6:2001:db8::1/128", "2001:db8::2", false),
        ("ip6:2001:db8::1", "2001:DB8:0:0:0:0:0:1", true),
        ("ip6:2001:db8::dead:beef/32", "2001:db8:ffff::1", true),
        ("ip6:1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", true),
        ("ip6:::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8", true),
        ("ip6:1::3:4:5:6:7:8", "1:0:3:4:5:6:7:8", true),
        ("ip6:1:2::4:5:6:7:8", "1:2:0:4:5:6:7:8", true),
        ("ip6:1:2:3::5:6:7:8", "1:2:3:0:5:6:7:8", true),
        ("ip6:1:2:3:4::6:7:8", "1:2:3:4:0:6:7:8", true),
        ("ip6:1:2:3:4:5::7:8", "1:2:3:4:5:0:7:8", true),
        ("ip6:1:2:3:4:5:6::8", "1:2:3:4:5:6:0:8", true),
        ("ip6:1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0", true),
        ("ip6:1::8", "1::8", true),
        ("ip6:::", "::", true),
        ("ip6:::192.0.2.1", "::192.0.2.1", true),
        ("ip6:64:ff9b::192.0.2.1", "64:ff9b::c000:201", true),
        ("ip6:1:2:3:4:5:6:192.0.2.1", "1:2:3:4:5:6:c000:201", true),
        ("ip6:1:2:3:4::192.0.2.1", "1:2:3:4:0:0:c000:201", true),
        ("IP4:192.0.2.1", "192.0.2.1", true),
        ("?ip4:192.0.2.1", "192.0.2.1", false),
    ] {
        assert_eq!(matches(term, client), expected, "{term} {client}");
    }
}

#[test]
fn prefixes_of_hosts() {
    let rest = "h.example A 192.0.2.128\nh.example AAAA 2001:db8::80\nm.example MX 0 h.example";
    let matches = |term: &str, client: &str| {
        check_from(client, &format!("example.com TXT \"v=spf1 {term} -all\"\n{rest}")).result
            == Pass
    };
    for mechanism in ["a:h.example", "mx:m.example"] {
        for (prefix, client, expected) in [
            ("", "192.0.2.128", true),
            ("", "192.0.2.129", false),
            ("/24", "192.0.2.1", true),
            ("/25", "192.0.2.1", false),
            ("/0", "203.0.113.9", true),
            ("/0", "2001:db8::81", false),
            ("//0", "203.0.113.9", false),
            ("//0", "::1", true),
            ("/32//64", "2001:db8::1", true),
            ("/32//128", "2001:db8::80", true),
            ("/0//128", "2001:db8::81", false),
        ] {
            assert_eq!(
                matches(&format!("{mechanism}{prefix}"), client),
                expected,
                "{mechanism}{prefix} {client}"
            );
        }
    }
}

#[test]
fn failures_of_terms() {
    let rest = "
f.example * !servfail
r.example * !refused
t.example * !timeout
mf.example MX 5 good.example
mf.example MX 1 f.example
m0.example MX 0 .
mv.example MX 1 missing.example
mv.example MX 2 good.example
good.example A 203.0.113.1
";
    let result = |record: &str| result_and_problem(&check_record(record, rest));
    for (name, reason) in [
        ("f", Some(ProblemKind::LookupFailed)),
        ("r", Some(ProblemKind::LookupFailed)),
        ("t", Some(ProblemKind::Timeout)),
    ] {
        for term in ["a", "mx", "exists", "include"] {
            assert_eq!(
                result(&format!("v=spf1 {term}:{name}.example +all")),
                (Temperror, reason),
                "{term} {name}"
            );
        }
        assert_eq!(result(&format!("v=spf1 redirect={name}.example")), (Temperror, reason));
    }
    assert_eq!(result("v=spf1 mx:mf.example -all"), (Temperror, Some(ProblemKind::LookupFailed)));
    // A match at one exchanger counts, whatever the others do.
    assert_eq!(result("v=spf1 mx:mf.example/0 -all"), (Pass, None));
    // A null MX is an exchanger that matches nothing (RFC 7505), and not void.
    let outcome = check_record("v=spf1 mx:m0.example mx:m0.example mx:m0.example -all", rest);
    assert_eq!((outcome.result, outcome.void_lookups), (Fail, 0));
    // No MX record means no match: the domain's addresses do not stand in (RFC 7208 §5.4).
    assert_eq!(check_record("v=spf1 mx -all", "example.com A 192.0.2.1").result, Fail);
    // A term is void when it finds nothing at all.
    let outcome = check_record("v=spf1 mx:mv.example mx:mv.example mx:mv.example -all", rest);
    assert_eq!((outcome.result, outcome.void_lookups), (Fail, 0));
}

#[test]
fn exists_asks_for_addresses_of_version_4() {
    let zone = "example.com TXT \"v=spf1 exists:%{ir}.%{v}.l.example -all\"
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.l.example A 127.0.0.2
2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.l.example AAAA ::1
1.2.0.192.in-addr.l.example A 127.0.0.2";
    assert_eq!(check_from("2001:db8::1", zone).result, Pass);
    assert_eq!(check_from("2001:db8::2", zone).result, Fail);
    assert_eq!(check_from("::ffff:192.0.2.1", zone).result, Pass);
    assert_eq!(check_from("192.0.2.2", zone).result, Fail);
}

/// A client's DNS that is silent is not a match, and costs the check a few seconds; what it says
/// elsewhere counts all the same.
#[test]
fn silent_names_of_a_client() {
    let host =
        "mail.example.com A 192.0.2.1\nunknown.x.example A 127.0.0.2\nx.example TXT \"not %{p}\"\n";
    let silent_host =
        "192.0.2.1 PTR s.example\n192.0.2.1 PTR mail.example.com\ns.example A !silence\n";
    for (record, reverse, expected, explanation) in [
        ("v=spf1 ptr -all", "192.0.2.1 PTR !silence\n", Fail, None),
        ("v=spf1 ptr:example.com a:none.example ptr -all", "192.0.2.1 PTR !silence\n", Fail, None),
        ("v=spf1 ptr -all", "192.0.2.1 PTR s.example\ns.example A !silence\n", Fail, None),
        ("v=spf1 ptr -all exp=x.example", "192.0.2.1 PTR !silence\n", Fail, Some("not unknown")),
        ("v=spf1 -all exp=x.example", "192.0.2.1 PTR !silence\n", Fail, Some("not unknown")),
        (
            "v=spf1 -all exp=%{p}.x.example",
            "192.0.2.1 PTR !silence\nunknown.x.example TXT who\n",
            Fail,
            Some("who"),
        ),
        ("v=spf1 exists:%{p}.x.example -all", "192.0.2.1 PTR !silence\n", Pass, None),
        ("v=spf1 exists:%{p}.y.example -all", "192.0.2.1 PTR !silence\n", Fail, None),
        // The name beside the silent one leads back.
        ("v=spf1 ptr -all", silent_host, Pass, None),
        ("v=spf1 -all exp=x.example", silent_host, Fail, Some("not mail.example.com")),
    ] {
        for seconds in [1, 20] {
            let zone = zone(&format!("example.com TXT \"{record}\"\n{host}{reverse}"));
            let limits = Limits { timeout: Duration::from_secs(seconds), ..Limits::default() };
            let asked = Asked { limits, ..Asked::new("192.0.2.1", "user@example.com") };
            let (outcome, took) = run(async {
                let start = tokio::time::Instant::now();
                let outcome = check_query(
                    &Dns::from_zone(Arc::clone(&zone)),
                    &asked.query(),
                    &asked.limits,
                    None,
                )
                .await;
                (outcome, start.elapsed())
            });
            let found = (outcome.result, outcome.explanation.as_deref());
            assert_eq!(found, (expected, explanation), "{record} {reverse} {seconds}");
            // The names are looked for once, and the clock of timers counts milliseconds, rounded
            // up.
            let limit = Duration::from_secs(5).min(Duration::from_secs(seconds) / 2);
            assert!(
                (limit..limit + Duration::from_millis(5)).contains(&took),
                "{record} {reverse} {took:?}"
            );
        }
    }
}

#[test]
fn ptr_names_are_validated() {
    let result = |record: &str, rest: &str| check_record(record, rest).result;
    let names = "192.0.2.1 PTR Mail.Example.COM.\nmail.example.com A 192.0.2.1";
    assert_eq!(result("v=spf1 ptr -all", names), Pass);
    assert_eq!(result("v=spf1 ptr:COM.example.com -all", names), Fail);
    assert_eq!(result("v=spf1 ptr:Example.Com -all", names), Pass);
    assert_eq!(result("v=spf1 ptr:mail.example.com -all", names), Pass);
    assert_eq!(result("v=spf1 ptr:xample.com -all", names), Fail);
    assert_eq!(
        result("v=spf1 ptr -all", "192.0.2.1 PTR mail.example.com\nmail.example.com A 192.0.2.2"),
        Fail
    );
    // One that fails is passed over; an error of the first look-up is not a match (RFC 7208 §5.5).
    let two = format!("192.0.2.1 PTR broken.example.com\nbroken.example.com A !servfail\n{names}");
    assert_eq!(result("v=spf1 ptr -all", &two), Pass);
    for failure in ["timeout", "servfail"] {
        assert_eq!(result("v=spf1 ptr -all", &format!("192.0.2.1 PTR !{failure}")), Fail);
    }
    assert_eq!(
        result("v=spf1 ptr -all", "192.0.2.1 PTR x.example.com\nx.example.com CNAME x.example.com"),
        Fail
    );
    // Ten names are looked at, the others are not.
    let many = |position: usize| {
        (0..12).map(|n| format!("192.0.2.1 PTR h{n}.example.com\n")).collect::<String>()
            + &format!("h{position}.example.com A 192.0.2.1")
    };
    assert_eq!(result("v=spf1 ptr -all", &many(8)), Pass);
    assert_eq!(result("v=spf1 ptr -all", &many(9)), Pass);
    assert_eq!(result("v=spf1 ptr -all", &many(10)), Fail);
    // No names at all is void, once: they are asked for once.
    let outcome = check_record("v=spf1 ptr ptr:a.example ptr:b.example -all", "");
    assert_eq!((outcome.result, outcome.lookups, outcome.void_lookups), (Fail, 3, 1));
    let failing = check_record("v=spf1 ptr ptr ptr ptr -all", "192.0.2.1 PTR !servfail");
    assert_eq!((failing.result, failing.void_lookups), (Fail, 0));
}

#[test]
fn non_ascii_local_parts_match_nothing_in_dns() {
    let text = "example.com TXT \"v=spf1 exists:%{l}.x.example include:%{s}.x.example -all\"
other.example TXT \"v=spf1 redirect=%{l}.x.example\"
*.x.example A 127.0.0.2
*.x.example TXT \"v=spf1 +all\"";
    assert_eq!(Asked::new("192.0.2.1", "jörg@example.com").of(&zone(text)).result, Fail);
    let outcome = Asked::new("192.0.2.1", "jörg@other.example").of(&zone(text));
    assert_eq!((outcome.result, outcome.mechanism), (Neutral, None));
    assert_eq!(Asked::new("192.0.2.1", "joerg@example.com").of(&zone(text)).result, Pass);
}
