//! The limits of RFC 7208 §4.6.4.

use super::*;

/// A record of `n` terms, one each time `term` is asked for the n-th.
fn record(n: usize, term: impl Fn(usize) -> String) -> String {
    format!("v=spf1 {}", (0..n).map(term).collect::<Vec<_>>().join(" "))
}

#[test]
fn ten_terms_may_ask() {
    let rest = "h.example A 203.0.113.1\nh.example MX 1 h.example\nh.example TXT \"v=spf1 -all\"\n192.0.2.1 PTR h.example";
    for term in
        ["a:h.example", "mx:h.example", "ptr:h.example", "-exists:h.example", "include:h.example"]
    {
        // The exists would match.
        let term = if term.starts_with("-exists") { "a:h.example/32" } else { term };
        let outcome = check_record(&format!("{} -all", record(10, |_| term.into())), rest);
        assert_eq!((outcome.result, outcome.lookups), (Fail, 10), "{term}");
        let outcome = check_record(&format!("{} -all", record(11, |_| term.into())), rest);
        assert_eq!(
            (result_and_problem(&outcome), outcome.lookups),
            ((Permerror, Some(ProblemKind::TooManyLookups)), 10),
            "{term}"
        );
    }
    // A term that does not ask is not counted, nor is one that comes after a match.
    let outcome = check_record(
        &format!("{} -all exp=h.example", record(500, |n| format!("ip4:203.0.113.{}", n % 250))),
        rest,
    );
    assert_eq!((outcome.result, outcome.lookups), (Fail, 0));
    let outcome = check_record(
        &format!("{} ip4:192.0.2.1 a a a", record(10, |_| "a:h.example".into())),
        rest,
    );
    assert_eq!((outcome.result, outcome.lookups), (Pass, 10));
    // The redirect is the eleventh, or the tenth.
    let redirect = |n| {
        check_record(&format!("{} redirect=h.example", record(n, |_| "a:h.example".into())), rest)
    };
    assert_eq!(redirect(9).result, Fail);
    assert_eq!(problem(&redirect(10)), Some(ProblemKind::TooManyLookups));
}

#[test]
fn terms_of_included_records_count() {
    let chain = |n: usize| {
        (0..n)
            .map(|i| format!("i{i}.example TXT \"v=spf1 include:i{}.example\"\n", i + 1))
            .collect::<String>()
            + &format!("i{n}.example TXT \"v=spf1 +all\"")
    };
    assert_eq!(check_record("v=spf1 include:i0.example -all", &chain(9)).result, Pass);
    assert_eq!(
        problem(&check_record("v=spf1 include:i0.example -all", &chain(10))),
        Some(ProblemKind::TooManyLookups)
    );
    let redirects = chain(9).replace("include:", "redirect=");
    assert_eq!(check_record("v=spf1 redirect=i0.example", &redirects).result, Pass);
    let redirects = chain(10).replace("include:", "redirect=");
    assert_eq!(
        problem(&check_record("v=spf1 redirect=i0.example", &redirects)),
        Some(ProblemKind::TooManyLookups)
    );
    let outcome = check_record("v=spf1 include:example.com -all", "");
    assert_eq!(
        (result_and_problem(&outcome), outcome.lookups),
        ((Permerror, Some(ProblemKind::TooManyLookups)), 10)
    );
    assert_eq!(
        problem(&check_record("v=spf1 redirect=example.com", "")),
        Some(ProblemKind::TooManyLookups)
    );
}

#[test]
fn limits_are_what_they_are_set_to() {
    let zone = zone(
        "example.com TXT \"v=spf1 a:h.example a:h.example -all\"\nh.example A 203.0.113.1\nv.example TXT \"v=spf1 a -all\"",
    );
    let with = |max_lookups, max_void_lookups, sender| {
        let limits = Limits { max_lookups, max_void_lookups, ..Limits::default() };
        problem(&Asked { limits, ..Asked::new("192.0.2.1", sender) }.of(&zone))
    };
    assert_eq!(with(2, 0, "u@example.com"), None);
    assert_eq!(with(1, 0, "u@example.com"), Some(ProblemKind::TooManyLookups));
    assert_eq!(with(0, 0, "u@example.com"), Some(ProblemKind::TooManyLookups));
    assert_eq!(with(1, 0, "u@v.example"), Some(ProblemKind::TooManyVoidLookups));
    assert_eq!(with(1, 1, "u@v.example"), None);
}

#[test]
fn ten_mail_exchangers() {
    let zone = |n: usize| {
        (0..n)
            .map(|i| format!("m.example MX {i} h{i}.example\nh{i}.example A 203.0.113.{i}\n"))
            .collect::<String>()
    };
    assert_eq!(check_record("v=spf1 mx:m.example -all", &zone(10)).result, Fail);
    assert_eq!(check_record("v=spf1 mx:m.example/0 -all", &zone(10)).result, Pass);
    // Whether or not one of the first matches.
    let outcome = check_record("v=spf1 mx:m.example/0 -all", &zone(11));
    assert_eq!(result_and_problem(&outcome), (Permerror, Some(ProblemKind::TooManyLookups)));
}

#[test]
fn two_terms_may_find_nothing() {
    let rest = "here.example TXT \"NODATA for addresses\"\nv4.example A 203.0.113.1\nv4.example MX 1 v4.example\nf.example A !servfail";
    for term in ["a:gone.example", "a:here.example", "mx:gone.example", "exists:here.example"] {
        let outcome = check_record(&format!("{} -all", record(2, |_| term.into())), rest);
        assert_eq!((outcome.result, outcome.void_lookups), (Fail, 2), "{term}");
        let outcome = check_record(&format!("{} +all", record(3, |_| term.into())), rest);
        assert_eq!(
            result_and_problem(&outcome),
            (Permerror, Some(ProblemKind::TooManyVoidLookups)),
            "{term}"
        );
    }
    // Each kind counts to the same sum; NXDOMAIN of the domain itself does not.
    let outcome = check_record("v=spf1 a:gone.example mx:gone.example ptr:gone.example +all", rest);
    assert_eq!(result_and_problem(&outcome), (Permerror, Some(ProblemKind::TooManyVoidLookups)));
    assert_eq!(check("").void_lookups, 0);
    // Hosts without addresses of the client's family are void: the names exist, what was asked for
    // does not.
    for term in ["a:v4.example", "mx:v4.example"] {
        let zone = |n| format!("example.com TXT \"{} -all\"\n{rest}", record(n, |_| term.into()));
        assert_eq!(check_from("2001:db8::1", &zone(2)).result, Fail);
        assert_eq!(
            problem(&check_from("2001:db8::1", &zone(3))),
            Some(ProblemKind::TooManyVoidLookups)
        );
        assert_eq!(check_from("192.0.2.1", &zone(3)).void_lookups, 0);
    }
    // An error is not a void look-up.
    let outcome = check_record("v=spf1 a:f.example", rest);
    assert_eq!((outcome.result, outcome.void_lookups), (Temperror, 0));
    // A target without a record is void, and a permerror of its own.
    let outcome = check_record("v=spf1 include:gone.example", rest);
    assert_eq!((problem(&outcome), outcome.void_lookups), (Some(ProblemKind::NoTarget), 1));
}

/// The clock cannot count so far.
#[test]
fn no_timeout_is_too_long() {
    for timeout in [Duration::from_secs(3_600), Duration::MAX] {
        let asked = Asked {
            limits: Limits { timeout, ..Limits::default() },
            ..Asked::new("192.0.2.1", "u@example.com")
        };
        let mut zone =
            Zone::parse("example.com TXT \"v=spf1 a -all\"\nexample.com A 192.0.2.1").unwrap();
        zone.latency = Duration::from_secs(1);
        assert_eq!(asked.of(&Arc::new(zone)).result, Pass, "{timeout:?}");
    }
}

#[test]
fn one_deadline_for_all() {
    let mut zone = Zone::parse(
        "example.com TXT \"v=spf1 a:a.example a:b.example a:c.example include:d.example -all exp=x.example\"
a.example A 203.0.113.1\nb.example A 203.0.113.1\nc.example A 203.0.113.1\nd.example TXT \"v=spf1 a:e.example -all\"\ne.example A 203.0.113.1
x.example TXT \"explained\"",
    )
    .unwrap();
    zone.latency = Duration::from_secs(6);
    let zone = Arc::new(zone);
    let took = |seconds| {
        let limits = Limits { timeout: Duration::from_secs(seconds), ..Limits::default() };
        let asked = Asked { limits, ..Asked::new("192.0.2.1", "u@example.com") };
        let dns = Dns::from_zone(Arc::clone(&zone));
        run(async {
            let start = tokio::time::Instant::now();
            (check_query(&dns, &asked.query(), &limits, None).await, start.elapsed().as_secs())
        })
    };
    // The record, its terms and the include, the term of the included record, the explanation: four
    // round trips.
    let (outcome, seconds) = took(25);
    assert_eq!(
        (outcome.result, outcome.explanation.as_deref(), seconds),
        (Fail, Some("explained"), 24)
    );
    // No time for the explanation: still a fail.
    let (outcome, seconds) = took(20);
    assert_eq!((outcome.result, outcome.explanation, seconds), (Fail, None, 20));
    let (outcome, seconds) = took(17);
    assert_eq!(
        (result_and_problem(&outcome), seconds),
        ((Temperror, Some(ProblemKind::Timeout)), 17)
    );
    assert_eq!((outcome.mechanism, outcome.policy_domain, outcome.lookups), (None, None, 5));
    assert_eq!(
        outcome.problem.unwrap().detail,
        "no result within 17 seconds in the SPF record of d.example"
    );
}
