//! Finding and reading records, and what is checked before (RFC 7208 §4.3 to §4.6).

use super::*;

/// Records are as large as the bounds, and no larger; the rest of a check does not matter.
#[test]
fn the_largest_records() {
    let result = |record: &str| {
        let outcome = check_record(record, "h.example A 203.0.113.1");
        (outcome.result, problem(&outcome))
    };
    let fits = (Pass, None);
    let too_large = (Permerror, Some(ProblemKind::InvalidRecord));
    for (octets, expected) in
        [(16_383, fits), (16_384, fits), (16_385, too_large), (60_000, too_large)]
    {
        let head = "v=spf1 +all x=";
        assert_eq!(
            result(&format!("{head}{}", "y".repeat(octets - head.len()))),
            expected,
            "{octets}"
        );
        // Blanks are not terms.
        assert_eq!(
            result(&format!("v=spf1 +all{}", " ".repeat(octets - 11))),
            expected,
            "{octets}"
        );
    }
    for (terms, expected) in [(511, fits), (512, fits), (513, too_large), (5000, too_large)] {
        assert_eq!(
            result(&format!("v=spf1{} +all", " ip4:203.0.113.1".repeat(terms - 1))),
            expected,
            "{terms}"
        );
    }
    for (macros, expected) in [(511, fits), (512, fits), (513, too_large), (3000, too_large)] {
        assert_eq!(
            result(&format!("v=spf1 +all x={}", "%{i}.".repeat(macros))),
            expected,
            "{macros}"
        );
    }
    let outcome = check_record(&format!("v=spf1 +all x={}", "y".repeat(20_000)), "");
    assert_eq!(
        outcome.problem.unwrap().detail,
        "more than 16384 octets in the SPF record of example.com"
    );
}

/// Records that include one another are held together; one after the other they may be as large as
/// one.
#[test]
fn records_that_are_held_together() {
    let filler = " ?ip4:203.0.113.1".repeat(180);
    // Records within one another, each with so much filler, and perhaps a small one before the next.
    let nested = |count: usize, filler: &str, before: &str| {
        let mut text = "side.example TXT \"v=spf1 ?all\"\n".to_owned();
        for depth in 0..count {
            let name =
                if depth == 0 { "example.com".to_owned() } else { format!("d{depth}.example") };
            let next = if depth + 1 == count {
                "+all".to_owned()
            } else {
                format!("{before}include:d{}.example", depth + 1)
            };
            text += &format!("{name} TXT \"v=spf1 {next}{filler}\"\n");
        }
        let outcome = check(&text);
        (outcome.result, problem(&outcome), outcome.problem.map(|problem| problem.detail))
    };
    assert_eq!(nested(9, &filler, ""), (Pass, None, None));
    // What was left is not held any more, and all that includes it still is.
    let (twice, before) = (filler.repeat(2), "include:side.example ");
    assert_eq!(nested(4, &twice, before), (Pass, None, None));
    for (result, reason, detail) in [nested(11, &filler, ""), nested(6, &twice, before)] {
        assert_eq!((result, reason), (Permerror, Some(ProblemKind::InvalidRecord)));
        assert!(detail.unwrap().starts_with(
            "too much to evaluate in this record and those that include it in the SPF record of d"
        ));
    }
    let side_by_side: String = (0..9)
        .map(|number| format!("s{number}.example TXT \"v=spf1{}\"\n", filler.repeat(2)))
        .collect();
    let includes: String = (0..9).map(|number| format!("include:s{number}.example ")).collect();
    assert_eq!(check_record(&format!("v=spf1 {includes}+all"), &side_by_side).result, Pass);
}

#[test]
fn one_record_and_no_more() {
    let result = |text: &str| result_and_problem(&check(text));
    assert_eq!(
        result("example.com TXT \"v=spf1 +all\"\nexample.com TXT \"V=SPF1 -all\""),
        (Permerror, Some(ProblemKind::SeveralRecords))
    );
    assert_eq!(
        result("example.com TXT \"v=spf1 +all\"\nexample.com TXT \"v=spf1 +all \""),
        (Permerror, Some(ProblemKind::SeveralRecords))
    );
    // The same record twice is one (RFC 2181 §5).
    assert_eq!(result("example.com TXT \"v=spf1 +all\"\nexample.com TXT \"v=spf1 +all\"").0, Pass);
    assert_eq!(
        result("example.com TXT \"v=spf10 +all\"\nexample.com TXT \"v=spf1\\009+all\"").0,
        NoResult
    );
    assert_eq!(result("example.com TXT \"v=spf10 +all\"\nexample.com TXT \"V=sPf1 +all\"").0, Pass);
    assert_eq!(result("example.com TXT \"\"\nexample.com TXT \"spf2.0/pra -all\"\nexample.com TXT \"v=spf1 ?all\"").0, Neutral);
    assert_eq!(result("example.com TXT \" v=spf1 -all\"").0, NoResult);
    assert_eq!(result("example.com TXT \"v=spf\""), (NoResult, None));
    assert_eq!(result("example.com A 192.0.2.1"), (NoResult, None));
    assert_eq!(result("other.example A 192.0.2.1"), (NoResult, None));
    assert_eq!(result("example.com CNAME real.example\nreal.example TXT \"v=spf1 -all\"").0, Fail);
}

#[test]
fn strings_are_joined_with_nothing_between() {
    assert_eq!(check("example.com TXT \"\" \"v=sp\" \"f1 ip4:192.0.\" \"2.1 -all\"").result, Pass);
    assert_eq!(
        problem(&check("example.com TXT \"v=spf1 a\" \"mx -all\"")),
        Some(ProblemKind::InvalidRecord)
    );
}

#[test]
fn spaces_and_other_octets() {
    assert_eq!(check_record("v=spf1   ip4:192.0.2.1    -all   ", "").result, Pass);
    for record in [
        "v=spf1 a\\009-all",
        "v=spf1 a\\194\\160-all",
        "v=spf1 a:caf\\195\\169.example -all",
        "v=spf1 -all \\000",
    ] {
        assert_eq!(
            result_and_problem(&check_record(record, "")),
            (Permerror, Some(ProblemKind::InvalidRecord)),
            "{record}"
        );
    }
}

#[test]
fn errors_count_before_anything_is_evaluated() {
    for record in [
        "v=spf1 +all ip4:1.2.3.4~all",
        "v=spf1 +all ipv4:1.2.3.4",
        "v=spf1 +all ip4:1.2.3",
        "v=spf1 +all ip4:1.2.3.4/33",
        "v=spf1 +all ip4:1.2.3.04",
        "v=spf1 +all ip4:1.2.3.4/08",
        "v=spf1 +all ip6:2001:db8::/129",
        "v=spf1 +all ip6:1:2:3:4:5:6:7",
        "v=spf1 +all ip6:1:2:3:4:5:6:7:8:9",
        "v=spf1 +all ip6:1::2::3",
        "v=spf1 +all a/33",
        "v=spf1 +all a//129",
        "v=spf1 +all a:",
        "v=spf1 +all a:com",
        "v=spf1 +all a:example.123",
        "v=spf1 +all a:example.-com",
        "v=spf1 +all all:x",
        "v=spf1 +all all/8",
        "v=spf1 +all ptr/0",
        "v=spf1 +all include",
        "v=spf1 +all include:",
        "v=spf1 +all exists:",
        "v=spf1 +all exists:a.example/24",
        "v=spf1 +all -",
        "v=spf1 +all moo",
        "v=spf1 +all redirect=",
        "v=spf1 +all exp=",
        "v=spf1 +all redirect:a.example",
        "v=spf1 +all -redirect=a.example",
        "v=spf1 +all redirect=a.example redirect=a.example",
        "v=spf1 +all exp=a.example EXP=a.example",
        "v=spf1 +all x=%{q}",
        "v=spf1 +all =x",
        "v=spf1 +all 1x=x",
        "v=spf1 +all exists:%(ir).example",
        "v=spf1 +all exists:%{d0}.example",
        "v=spf1 +all exists:%{d-r}.example",
        "v=spf1 +all exists:%{c}.example",
        "v=spf1 +all exists:%{r}.example",
        "v=spf1 +all exists:%{t}.example",
        "v=spf1 +all exp=%{t}.example",
        "v=spf1 +all exists:%",
        "v=spf1 +all accredit=%{q}",
    ] {
        let outcome = check_record(record, "");
        assert_eq!(
            result_and_problem(&outcome),
            (Permerror, Some(ProblemKind::InvalidRecord)),
            "{record}"
        );
        assert_eq!((outcome.mechanism, outcome.policy_domain), (None, None));
    }
}

#[test]
fn unknown_modifiers_mean_nothing() {
    // The last ones begin as mechanisms do.
    for modifier in [
        "ra=a",
        "rp=100",
        "v=spf1",
        "x=",
        "moo.cow-far_out=man:dog/cat",
        "x=%{d}",
        "default=deny",
        "accredit=x",
        "a=b",
        "A1=/2",
        "mx=mail",
        "mx_hosts=%%",
        "ptr-x=1",
        "all=x",
        "aspf=%{d}",
    ] {
        let outcome = check_record(&format!("v=spf1 {modifier} ip4:192.0.2.1 {modifier} -all"), "");
        assert_eq!(outcome.result, Pass, "{modifier}: {outcome:?}");
    }
    // `=` may be in a domain-spec, and a name has no colon.
    let outcome = check_record("v=spf1 a:x=y.example -all", "x=y.example A 192.0.2.1");
    assert_eq!(outcome.mechanism.as_deref(), Some("a:x=y.example"));
}

#[test]
fn smallest_records() {
    let result = |record: &str| {
        let outcome = check_record(record, "");
        (outcome.result, outcome.mechanism, outcome.policy_domain.unwrap(), outcome.lookups)
    };
    let all = || Some("all".into());
    let domain = || "example.com".into();
    assert_eq!(result("v=spf1 +all"), (Pass, all(), domain(), 0));
    assert_eq!(result("v=spf1 all"), (Pass, all(), domain(), 0));
    assert_eq!(result("v=spf1 ?all"), (Neutral, all(), domain(), 0));
    assert_eq!(result("v=spf1 ~ALL"), (Softfail, all(), domain(), 0));
    assert_eq!(result("v=spf1 -all"), (Fail, all(), domain(), 0));
    assert_eq!(result("v=spf1"), (Neutral, None, domain(), 0));
    assert_eq!(result("v=spf1 -ip4:192.0.2.2"), (Neutral, None, domain(), 0));
}

#[test]
fn failing_look_up_of_the_record_is_temporary() {
    let result = |failure: &str| result_and_problem(&check(&format!("example.com TXT !{failure}")));
    assert_eq!(result("servfail"), (Temperror, Some(ProblemKind::LookupFailed)));
    assert_eq!(result("refused"), (Temperror, Some(ProblemKind::LookupFailed)));
    assert_eq!(result("timeout"), (Temperror, Some(ProblemKind::Timeout)));
    assert_eq!(result("nodata"), (NoResult, None));
    assert_eq!(result("nxdomain"), (NoResult, None));
}

#[test]
fn domains_that_can_have_no_policy_are_not_asked_for() {
    let zone = zone(
        "example.com TXT \"v=spf1 -all\"\n_x.example.com TXT \"v=spf1 -all\"\nlocalhost TXT \"v=spf1 -all\"\nxn--bcher-kva.example TXT \"v=spf1 a:%{d} exists:%{o}.x.example -all\"\nxn--bcher-kva.example.x.example A 127.0.0.2",
    );
    let long = "a.".repeat(128);
    for domain in [
        "",
        ".",
        "localhost",
        "com",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "a..example.com",
        ".example.com",
        "exa mple.com",
        "example.com..",
        "a\u{0}.example.com",
        "a\u{7f}.example.com",
        &long,
        &format!("{}.com", "a".repeat(64)),
    ] {
        let outcome =
            Asked { sender: &format!("u@{domain}"), ..Asked::new("192.0.2.1", "") }.of(&zone);
        assert_eq!(
            result_and_problem(&outcome),
            (NoResult, Some(ProblemKind::NoDomain)),
            "{domain:?}"
        );
    }
    let query = Query { domain: "user@example.com".into(), ..Asked::new("192.0.2.1", "").query() };
    let outcome =
        run(check_query(&Dns::from_zone(Arc::clone(&zone)), &query, &Limits::default(), None));
    assert_eq!(result_and_problem(&outcome), (NoResult, Some(ProblemKind::NoDomain)));
    assert_eq!(zone.queries(), 0);
    for sender in
        ["u@example.com", "u@Example.COM.", "u@_x.example.com", "@example.com", "example.com"]
    {
        assert_eq!(Asked::new("192.0.2.1", sender).of(&zone).result, Fail, "{sender}");
    }
    // U-labels become A-labels, in macros too (RFC 8616 §4).
    assert_eq!(Asked::new("192.0.2.1", "u@Bücher.example").of(&zone).result, Pass);
}

#[test]
fn a_clock_cannot_overflow() {
    let limits = Limits { timeout: Duration::MAX, ..Limits::default() };
    let outcome = Asked { limits, ..Asked::new("192.0.2.1", "u@example.com") }
        .of(&zone("example.com TXT \"v=spf1 -all\""));
    assert_eq!(outcome.result, Fail);
}

/// A check finds the same whether it parses a record or the answer comes with one.
#[test]
fn records_that_are_kept_change_nothing() {
    let name = Name::new("example.com").unwrap();
    for record in [
        "v=spf1 ip4:192.0.2.0/24 -all",
        "v=spf1 ip4:203.0.113.0/24 x=%{i} ~all",
        "V=SPF1 ?all",
        "v=spf1",
        "v=spf1 moo",
        &format!("v=spf1{} -all", " ip4:203.0.113.1".repeat(200)),
    ] {
        let dns = Dns::knowing(&name, &[record.as_bytes().into()].into());
        let asked = Asked::new("192.0.2.1", "user@example.com");
        let expected = check_record(record, "");
        for _ in 0..3 {
            let outcome = run(check_query(&dns, &asked.query(), &asked.limits, None));
            assert_eq!(outcome, expected, "{record}");
        }
    }
}
