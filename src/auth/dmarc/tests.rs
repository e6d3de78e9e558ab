mod reference;
mod relaxed;
mod silence;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    dns::{Answer, Dns, Failure, Name, RecordType, zone::Zone},
    mail::{
        author::{Author, MAX_AUTHOR_DOMAINS},
        domain::Domain,
        results::SpfResult,
    },
};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Reads `spf=pass:x.example dkim=temperror:y.example`.
fn identifiers(text: &str) -> Identifiers {
    let mut identifiers = Identifiers::default();
    for word in text.split_whitespace() {
        let (method, rest) = word.split_once('=').unwrap();
        let (result, name) = rest.split_once(':').unwrap();
        match method {
            "spf" => identifiers.spf = Some((domain(name), SpfResult::parse(result).unwrap())),
            _ => identifiers.dkim.push(DkimIdentifier {
                domain: domain(name),
                status: match result {
                    "pass" => DkimStatus::Pass,
                    "temperror" => DkimStatus::Temperror,
                    _ => DkimStatus::Other,
                },
            }),
        }
    }
    identifiers
}

async fn discover(dns: &Dns, author: &Author) -> Discovery {
    let discovery = Discovery::new(author.clone());
    discovery.advance(dns).await;
    discovery
}

fn run(zone: Zone, fields: &[&str], text: &str) -> (Outcome, usize) {
    let zone = Arc::new(zone);
    let dns = Dns::from_zone(zone.clone());
    let outcome = block_on(async {
        let discovery = discover(&dns, &Author::from_fields(fields)).await;
        evaluate(&dns, &discovery, &identifiers(text)).await
    });
    (outcome, zone.queries())
}

/// The outcome in short, such as `fail sub.x.example p=reject sp@x.example test (reason)`.
fn short(outcome: &Outcome) -> String {
    let mut short = outcome.result.to_string();
    if let Some(author_domain) = &outcome.author_domain {
        short += &format!(" {author_domain}");
    }
    if let Some(policy) = &outcome.policy {
        short += &format!(" {}={} of {}", policy.tag, policy.published, policy.domain);
        if policy.testing {
            short += &format!(", effective {}", policy.effective());
        }
    }
    if let Some(problem) = &outcome.problem {
        short += &format!(" ({problem})");
    }
    short
}

/// The outcome for one From field.
fn dmarc(zone: &str, from: &str, text: &str) -> String {
    let (outcome, _) = run(Zone::parse(zone).unwrap(), &[from], text);
    assert_eq!(outcome.result == DmarcResult::Pass, !outcome.aligned.is_empty());
    short(&outcome)
}

#[test]
fn lists_are_aligned_by_passes_alone() {
    let zone = "_dmarc.x.example TXT v=DMARC1; p=none\n_dmarc.broken.example * !servfail\n\
                _dmarc.a.example TXT v=DMARC1; p=none; psd=y\n";
    let first = |domains: &str, text: &str| {
        let zone = Arc::new(Zone::parse(zone).unwrap());
        let dns = Dns::from_zone(zone.clone());
        let domains: Vec<_> = domains.split(' ').map(domain).collect();
        let found = block_on(async {
            let discovery = discover(&dns, &Author::Missing).await;
            first_aligned(&dns, &discovery, &domains, &identifiers(text)).await
        });
        (found.map(|domain| domain.to_string()), zone.queries())
    };
    let aligned = |domains: &str, text: &str| first(domains, text).0;
    // The same domain costs nothing, nor do messages without a pass, or with passes far away.
    assert_eq!(first("l.x.example", "spf=pass:l.x.example"), (Some("l.x.example".into()), 0));
    assert_eq!(first("l.x.example", "spf=fail:l.x.example dkim=other:x.example"), (None, 0));
    assert_eq!(first("l.x.example", "spf=temperror:l.x.example"), (None, 0));
    assert_eq!(first("l.x.example", "dkim=pass:x.test"), (None, 0));
    // The organizational domain that a record says.
    assert_eq!(
        aligned("l.x.example", "dkim=pass:bounce.x.example").as_deref(),
        Some("l.x.example")
    );
    assert_eq!(aligned("l.x.example", "dkim=pass:x.example").as_deref(), Some("l.x.example"));
    assert_eq!(aligned("l.y.example", "dkim=pass:bounce.y.example"), None);
    assert_eq!(aligned("l.x.example", "dkim=pass:y.example"), None);
    assert_eq!(aligned("b.a.example", "dkim=pass:c.a.example"), None, "a public suffix");
    assert_eq!(aligned("l.broken.example", "dkim=pass:b.broken.example"), None, "trouble");
    let (found, _) = first("l.y.example l.x.example", "spf=pass:evil.example dkim=pass:x.example");
    assert_eq!(found.as_deref(), Some("l.x.example"));
    // Eleven identifiers and three domains, each with a walk of its own.
    let long = |name: &str| format!("a.b.c.d.e.f.{name}.x.example");
    let passes: Vec<_> = (0..10).map(|n| format!("dkim=pass:{}", long(&format!("k{n}")))).collect();
    let domains = ["l", "m", "n"].map(|name| format!("a.b.c.d.e.f.{name}.y.example")).join(" ");
    let text = format!("spf=pass:{} {}", long("s"), passes.join(" "));
    let (found, queries) = first(&domains, &text);
    assert_eq!(found, None);
    assert!(queries <= 3 * 8 + 11 * 7, "{queries}");
}

#[test]
fn alignment_in_both_directions() {
    // The mode of both methods, the domain that passes, whether it is aligned to a@x.example and to
    // a@sub.x.example.
    for (mode, passing, at_org, at_sub) in [
        ("r", "x.example", true, true),
        ("r", "sub.x.example", true, true),
        ("r", "other.x.example", true, true),
        ("r", "a.b.c.x.example", true, true),
        ("r", "y.example", false, false),
        ("r", "badx.example", false, false),
        ("r", "example", false, false),
        ("r", "x.test", false, false),
        ("s", "x.example", true, false),
        ("s", "sub.x.example", false, true),
        ("s", "other.x.example", false, false),
        ("s", "X.EXAMPLE.", true, false),
    ] {
        for method in ["spf", "dkim"] {
            let (adkim, aspf) = if method == "spf" { ("r", mode) } else { (mode, "r") };
            let zone =
                format!("_dmarc.x.example TXT \"v=DMARC1; p=reject; adkim={adkim}; aspf={aspf}\"");
            for (from, aligned) in [("a@x.example", at_org), ("a@sub.x.example", at_sub)] {
                let outcome = dmarc(&zone, from, &format!("{method}=pass:{passing}"));
                assert_eq!(
                    outcome.starts_with("pass"),
                    aligned,
                    "{mode} {method} {passing} {from}"
                );
                assert!(outcome.starts_with("pass") || outcome.starts_with("fail"), "{outcome}");
            }
        }
    }
}

/// The record that applies, how it was found, and how the identifiers stand to the author domain.
#[test]
fn record_and_alignments_are_kept() {
    let zone =
        "_dmarc.x.example TXT \"v=DMARC1; p=reject; sp=none; aspf=s; fo=d; rua=mailto:r@x.example\"
                _dmarc.psd.example TXT \"v=DMARC1; p=quarantine; psd=y\"
                _dmarc.bad.example TXT \"v=DMARC1\"
                _dmarc.below.x.example TXT \"v=DMARC1; p=none; psd=n\"";
    let identifiers = "spf=fail:x.example dkim=pass:y.test dkim=pass:x.example dkim=fail:a.x.example \
                       dkim=temperror:b.below.x.example dkim=pass:x.other.example";
    for (from, record, alignments) in [
        ("a@x.example", "x.example by author domain", "yes no yes ? ? ?"),
        // SPF is aligned strictly. x.example decides; names below it are not looked up.
        ("a@a.x.example", "x.example by organizational domain", "no no yes yes ? no"),
        ("a@c.x.example", "x.example by organizational domain", "no no yes ? ? no"),
        ("a@psd.example", "psd.example by author domain", "no no no no no no"),
        ("a@a.b.psd.example", "psd.example by public suffix domain", "no no no no no no"),
        ("a@bad.example", "-", ""),
        ("a@z.example", "-", ""),
    ] {
        let (outcome, _) = run(Zone::parse(zone).unwrap(), &[from], identifiers);
        let found = outcome.record.as_ref();
        let found = found.map(|record| format!("{} by {}", record.domain, record.step));
        assert_eq!(found.as_deref().unwrap_or("-"), record, "{from}");
        let words = outcome.alignments.iter().map(|alignment| match alignment.is_aligned {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), alignments, "{from}");
        if let Some(AppliedRecord { record, domain, .. }) = outcome.record
            && domain.as_str() == "x.example"
        {
            let zone = Zone::parse(zone).unwrap();
            let name = Name::new("_dmarc.x.example").unwrap();
            let Ok(Answer::Txt(texts)) = zone.answer(&name, RecordType::Txt) else { panic!() };
            assert_eq!(Record::parse(&texts[0]), Some(Record::clone(&record)));
            assert_eq!((record.fo.dkim, &*record.rua[0]), (true, "mailto:r@x.example"));
            let passed: Vec<_> = outcome.alignments.iter().map(|one| one.passed).collect();
            assert_eq!(passed, [false, true, true, false, false, true]);
            assert_eq!(outcome.alignments[0].mode, Alignment::Strict);
        }
    }
    // The alignment of an identifier that was looked up is known.
    for (identifier, is_aligned) in
        [("dkim=temperror:b.below.x.example", false), ("dkim=pass:a.x.example", true)]
    {
        let (outcome, _) = run(Zone::parse(zone).unwrap(), &["a@c.x.example"], identifier);
        assert_eq!(outcome.alignments[0].is_aligned, Some(is_aligned), "{identifier}");
    }
    let fields = ["a@x.example", "a@x.example"];
    let (outcome, _) = run(Zone::parse(zone).unwrap(), &fields, identifiers);
    assert!(outcome.record.is_some() && outcome.alignments.is_empty());
}

#[test]
fn only_an_aligned_identifier_that_passed_counts() {
    let zone = "_dmarc.x.example TXT \"v=DMARC1; p=reject\"";
    let fail = "fail x.example p=reject of x.example";
    for text in [
        "",
        "spf=fail:x.example",
        "spf=softfail:x.example",
        "spf=neutral:x.example",
        "spf=none:x.example",
        "spf=permerror:x.example",
        "dkim=fail:x.example",
        "dkim=fail:x.example dkim=pass:y.example",
        "spf=fail:x.example dkim=pass:y.example",
        "spf=pass:y.example dkim=fail:x.example",
    ] {
        assert_eq!(dmarc(zone, "a@x.example", text), fail, "{text}");
    }
    for text in [
        "dkim=fail:x.example dkim=pass:x.example",
        "spf=fail:x.example dkim=pass:x.example",
        "spf=pass:x.example dkim=fail:x.example",
    ] {
        assert_eq!(
            dmarc(zone, "a@x.example", text),
            "pass x.example p=reject of x.example",
            "{text}"
        );
    }
}

#[test]
fn trouble_that_matters() {
    let zone = "
        _dmarc.x.example TXT \"v=DMARC1; p=reject; np=none\"
        _dmarc.broken.x.example TXT !servfail
        _dmarc.y.example TXT !timeout
        ghost.x.example A !servfail
        _dmarc.z.test TXT \"v=DMARC1; p=reject\"
        _dmarc.test TXT !refused
        _dmarc.s.test TXT \"v=DMARC1; p=reject; adkim=s; aspf=s\"
        _dmarc.psd.test TXT \"v=DMARC1; p=reject; psd=y\"
    ";
    for (from, text, expected) in [
        (
            "a@x.example",
            "spf=temperror:x.example",
            "temperror x.example p=reject of x.example (temporary error of SPF x.example)",
        ),
        (
            "a@x.example",
            "spf=temperror:m.x.example",
            "temperror x.example p=reject of x.example (temporary error of SPF m.x.example)",
        ),
        (
            "a@x.example",
            "spf=fail:x.example dkim=temperror:x.example",
            "temperror x.example p=reject of x.example (temporary error of DKIM x.example)",
        ),
        (
            "a@x.example",
            "spf=temperror:x.example dkim=pass:x.example",
            "pass x.example p=reject of x.example",
        ),
        (
            "a@x.example",
            "spf=pass:m.x.example dkim=temperror:x.example",
            "pass x.example p=reject of x.example",
        ),
        (
            "a@x.example",
            "spf=temperror:y.test dkim=temperror:y.example",
            "fail x.example p=reject of x.example",
        ),
        (
            "a@x.example",
            "dkim=pass:broken.x.example",
            "temperror x.example p=reject of x.example (_dmarc.broken.x.example: SERVFAIL)",
        ),
        (
            "a@x.example",
            "dkim=temperror:broken.x.example",
            "temperror x.example p=reject of x.example (_dmarc.broken.x.example: SERVFAIL)",
        ),
        (
            "a@x.example",
            "dkim=pass:broken.x.example dkim=pass:x.example",
            "pass x.example p=reject of x.example",
        ),
        (
            "a@x.example",
            "dkim=pass:broken.x.example dkim=pass:m.x.example",
            "pass x.example p=reject of x.example",
        ),
        ("a@x.example", "dkim=fail:broken.x.example", "fail x.example p=reject of x.example"),
        (
            "a@broken.x.example",
            "spf=pass:broken.x.example",
            "temperror broken.x.example (_dmarc.broken.x.example: SERVFAIL)",
        ),
        ("a@y.example", "", "temperror y.example (_dmarc.y.example: timeout)"),
        (
            "a@sub.y.example",
            "spf=pass:sub.y.example",
            "temperror sub.y.example (_dmarc.y.example: timeout)",
        ),
        ("a@ghost.x.example", "", "temperror ghost.x.example (ghost.x.example: SERVFAIL)"),
        (
            "a@ghost.x.example",
            "spf=pass:ghost.x.example",
            "pass ghost.x.example (ghost.x.example: SERVFAIL)",
        ),
        ("a@z.test", "dkim=pass:z.test", "pass z.test p=reject of z.test"),
        ("a@z.test", "", "fail z.test p=reject of z.test"),
        ("a@z.test", "dkim=pass:x.example", "fail z.test p=reject of z.test"),
        (
            "a@z.test",
            "dkim=pass:other.test",
            "temperror z.test p=reject of z.test (_dmarc.test: REFUSED)",
        ),
        ("a@s.test", "dkim=pass:m.s.test spf=temperror:m.s.test", "fail s.test p=reject of s.test"),
        // The walk ends below the trouble.
        ("a@m.psd.test", "dkim=pass:n.psd.test", "fail m.psd.test p=reject of psd.test"),
        ("a@none.test", "", "temperror none.test (_dmarc.test: REFUSED)"),
    ] {
        assert_eq!(dmarc(zone, from, text), expected, "{from} {text}");
    }
}

#[test]
fn which_policy_applies() {
    let zone = "
        _dmarc.x.example TXT \"v=DMARC1; p=reject; sp=quarantine; np=none\"
        sub.x.example A 192.0.2.1
        below.mx.x.example MX 0 mx.x.example
        _dmarc.own.x.example TXT \"v=DMARC1; p=none; sp=reject; np=reject\"
        _dmarc.two.x.example TXT \"v=DMARC1; p=none\"
        _dmarc.two.x.example TXT \"v=DMARC1; p=none; rua=mailto:a@x.example\"
        _dmarc.two.x.example TXT \"unrelated\"
        _dmarc.one.x.example TXT \"unrelated\"
        _dmarc.one.x.example TXT \"v=DMARC1; p=none\"
        _dmarc.one.x.example TXT \"v=dmarc1; p=none\"
        _dmarc.bad.x.example TXT \"v=DMARC1; p=bogus\"
        _dmarc.t.example TXT \"v=DMARC1; p=reject; sp=quarantine; t=y\"
        _dmarc.n.example TXT \"v=DMARC1; p=none; t=y\"
        _dmarc.np.example TXT \"v=DMARC1; p=none; np=reject\"
        _dmarc.old.example TXT \"v=DMARC1; p=reject; pct=0; rf=afrf; ri=1\"
        _dmarc.several.example TXT \"v=DMARC1; p=reject\"
        _dmarc.several.example TXT \"v=DMARC1; p=reject;\"
        _dmarc.twice.example TXT \"v=DMARC1; p=reject\"
        _dmarc.twice.example TXT \"v=DMARC1; p=reject\"
        shop.x.example CNAME gone.elsewhere.example
        _dmarc.alias.example CNAME _dmarc.old.example
        _dmarc.split.example TXT \"v=DMARC1; p=rej\" \"ect\"
        _dmarc.xn--bcher-kva.example TXT \"v=DMARC1; p=reject\"
    ";
    for (from, expected) in [
        ("a@x.example", "fail x.example p=reject of x.example"),
        ("a@X.Example", "fail x.example p=reject of x.example"),
        ("a@sub.x.example", "fail sub.x.example sp=quarantine of x.example"),
        // It has records below it, or of any other type: so it exists.
        ("a@mx.x.example", "fail mx.x.example sp=quarantine of x.example"),
        ("a@below.mx.x.example", "fail below.mx.x.example sp=quarantine of x.example"),
        ("a@ghost.x.example", "fail ghost.x.example np=none of x.example"),
        // An alias exists, whether or not its target does.
        ("a@shop.x.example", "fail shop.x.example sp=quarantine of x.example"),
        ("a@ghost.shop.x.example", "fail ghost.shop.x.example np=none of x.example"),
        ("a@twice.example", "fail twice.example p=reject of twice.example"),
        ("a@a.b.c.d.ghost.x.example", "fail a.b.c.d.ghost.x.example np=none of x.example"),
        ("a@own.x.example", "fail own.x.example p=none of own.x.example"),
        // Not the record on the way, but that of the organizational domain.
        ("a@sub.own.x.example", "fail sub.own.x.example np=none of x.example"),
        ("a@two.x.example", "fail two.x.example sp=quarantine of x.example"),
        ("a@one.x.example", "fail one.x.example p=none of one.x.example"),
        ("a@bad.x.example", "none bad.x.example (unusable DMARC record of bad.x.example)"),
        ("a@t.example", "fail t.example p=reject of t.example, effective quarantine"),
        ("a@sub.t.example", "fail sub.t.example sp=quarantine of t.example, effective none"),
        ("a@n.example", "fail n.example p=none of n.example, effective none"),
        ("a@ghost.np.example", "fail ghost.np.example np=reject of np.example"),
        ("a@old.example", "fail old.example p=reject of old.example"),
        ("a@alias.example", "fail alias.example p=reject of alias.example"),
        ("a@split.example", "fail split.example p=reject of split.example"),
        ("a@several.example", "none several.example (several DMARC records of several.example)"),
        ("a@none.example", "none none.example (no DMARC record)"),
        ("a@bücher.example", "fail xn--bcher-kva.example p=reject of xn--bcher-kva.example"),
    ] {
        assert_eq!(dmarc(zone, from, ""), expected, "{from}");
    }
}

#[test]
fn public_suffix_domains() {
    let zone = "
        _dmarc.bank.example TXT \"v=DMARC1; p=quarantine; sp=reject; np=none; psd=y\"
        mega.bank.example A 192.0.2.1
        mail.mega.bank.example A 192.0.2.1
        _dmarc.giant.bank.example TXT \"v=DMARC1; p=none\"
        _dmarc.dept.x.example TXT \"v=DMARC1; p=reject; psd=n\"
        _dmarc.x.example TXT \"v=DMARC1; p=none; psd=maybe\"
    ";
    for (from, text, expected) in [
        ("a@mega.bank.example", "", "fail mega.bank.example sp=reject of bank.example"),
        ("a@ghost.bank.example", "", "fail ghost.bank.example np=none of bank.example"),
        (
            "a@mail.mega.bank.example",
            "dkim=pass:mega.bank.example",
            "pass mail.mega.bank.example sp=reject of bank.example",
        ),
        (
            "a@mega.bank.example",
            "dkim=pass:giant.bank.example",
            "fail mega.bank.example sp=reject of bank.example",
        ),
        (
            "a@mega.bank.example",
            "spf=pass:bank.example",
            "fail mega.bank.example sp=reject of bank.example",
        ),
        (
            "a@sub.giant.bank.example",
            "dkim=pass:giant.bank.example",
            "pass sub.giant.bank.example p=none of giant.bank.example",
        ),
        ("a@bank.example", "", "fail bank.example p=quarantine of bank.example"),
        (
            "a@bank.example",
            "spf=pass:bank.example",
            "pass bank.example p=quarantine of bank.example",
        ),
        (
            "a@bank.example",
            "spf=pass:mega.bank.example",
            "fail bank.example p=quarantine of bank.example",
        ),
        (
            "a@sub.dept.x.example",
            "dkim=pass:other.dept.x.example",
            "pass sub.dept.x.example p=reject of dept.x.example",
        ),
        (
            "a@dept.x.example",
            "dkim=pass:x.example",
            "fail dept.x.example p=reject of dept.x.example",
        ),
        ("a@x.example", "dkim=pass:dept.x.example", "fail x.example p=none of x.example"),
        ("a@other.x.example", "dkim=pass:x.example", "pass other.x.example p=none of x.example"),
    ] {
        assert_eq!(dmarc(zone, from, text), expected, "{from} {text}");
    }
}

#[test]
fn authors_that_are_not_one_domain() {
    let zone = "
        _dmarc.x.example TXT \"v=DMARC1; p=reject\"
        _dmarc.y.example TXT \"v=DMARC1; p=quarantine\"
        _dmarc.t.example TXT \"v=DMARC1; p=reject; t=y\"
        _dmarc.broken.example TXT !servfail
    ";
    let run = |fields: &[&str], text: &str| short(&run(Zone::parse(zone).unwrap(), fields, text).0);
    let many = |count| (1..=count).map(|n| format!("a@{n}.test")).collect::<Vec<_>>().join(", ");
    let strict_t =
        "fail t.example p=reject of t.example, effective quarantine (several author domains)";
    let passing = "spf=pass:x.example dkim=pass:y.example dkim=pass:n.example";
    for (fields, expected) in [
        (&[][..], "permerror (no From field)"),
        (&[""], "permerror (malformed From: no address)"),
        (&["nobody"], "permerror (malformed From: no address)"),
        (&["x@x.example@y.example"], "permerror y.example (several author domains)"),
        (&["x@x.example@t.example"], strict_t),
        (&["Doe, x <x@x.example>"], "pass x.example p=reject of x.example"),
        (&["x\u{202e}y@x.example"], "permerror x.example (misleading characters in From)"),
        (
            &["x\u{202e}y@t.example"],
            "fail t.example p=reject of t.example, effective quarantine (misleading characters in From)",
        ),
        (&["a@x.example, b@x.example"], "pass x.example p=reject of x.example"),
        (&["a@x.example, b@y.example"], "permerror x.example (several author domains)"),
        (&["a@n.example, b@x.example"], "permerror n.example (several author domains)"),
        (&["a@n.example, b@m.example"], "none n.example (no DMARC record)"),
        (
            &["a@y.example, b@t.example"],
            "fail t.example p=reject of t.example, effective quarantine (several author domains)",
        ),
        (
            &["a@broken.example, b@x.example"],
            "temperror broken.example (_dmarc.broken.example: SERVFAIL)",
        ),
        (
            // Trouble may have hidden a stricter policy; the milder one is violated.
            &["a@broken.example, b@t.example"],
            "temperror t.example p=reject of t.example, effective quarantine (_dmarc.broken.example: SERVFAIL)",
        ),
        (&["a@1.test, b@2.test, c@3.test, d@4.test"], "none 1.test (no DMARC record)"),
        (&["a@1.test, b@2.test, c@3.test, d@t.example, e@5.test"], strict_t),
        (&[&many(15), "a@x.example"], "fail x.example p=reject of x.example (several From fields)"),
        (&[&many(16)], "none 1.test (no DMARC record)"),
        (&[&many(17)], "permerror 1.test (several author domains)"),
        // Putting others before a domain, or behind it, does not hide it.
        (&[&(many(16) + ", e@t.example")], strict_t),
        (&[&(many(40) + ", e@t.example")], strict_t),
        (&[&(many(14) + ", e@t.example, " + &many(40))], strict_t),
        (
            &["a@x.example", "a@x.example"],
            "fail x.example p=reject of x.example (several From fields)",
        ),
        (
            &["a@y.example", "a@x.example"],
            "fail x.example p=reject of x.example (several From fields)",
        ),
        (
            &["a@x.example", "nonsense"],
            "fail x.example p=reject of x.example (several From fields)",
        ),
        (&["a@n.example", "a@n.example"], "permerror n.example (several From fields)"),
        (&["", ""], "permerror (several From fields)"),
        (&["Automated:;"], "none (group without members in From)"),
        (&["Automated:;", "a@n.example"], "permerror n.example (several From fields)"),
        (
            &["a@broken.example", "a@n.example"],
            "temperror broken.example (_dmarc.broken.example: SERVFAIL)",
        ),
    ] {
        assert_eq!(run(fields, passing), expected, "{fields:?}");
    }
    let unrelated = "dkim=pass:z.example";
    assert!(run(&["a@y.example, b@x.example"], unrelated).starts_with("fail x.example p=reject"));
    assert!(
        run(&["a@t.example, b@y.example"], unrelated).starts_with("fail t.example p=reject"),
        "the first of equals"
    );
}

#[test]
fn queries_are_counted() {
    let deep = "a.b.c.d.e.f.g.h.x.example";
    let zone = "
        _dmarc.x.example TXT \"v=DMARC1; p=reject; np=none\"
        _dmarc.strict.example TXT \"v=DMARC1; p=reject; adkim=s; aspf=s\"
        _dmarc.own.x.example TXT \"v=DMARC1; p=reject\"
    ";
    let many =
        (0..10).map(|n| format!(" dkim=pass:{n}.a.b.c.d{n}.e.f.g.h.y.test")).collect::<String>();
    let related = (0..10).map(|n| format!(" dkim=pass:a.b.c{n}.d.e{n}.f.test")).collect::<String>();
    let top = "_dmarc.test TXT \"v=DMARC1; p=none\"\n".to_owned()
        + &(0..10)
            .map(|n| format!("_dmarc.c{n}.d.e{n}.f.test TXT \"v=DMARC1; p=none; psd=n\"\n"))
            .collect::<String>();
    for (zone, from, text, expected) in [
        (zone, "a@x.example", "", 1),
        (zone, "a@x.example", "spf=pass:x.example dkim=pass:x.example", 1),
        (zone, "a@x.example", "spf=pass:y.test dkim=fail:m.x.example dkim=pass:x.example", 1),
        (zone, "a@strict.example", "spf=pass:m.strict.example dkim=pass:n.strict.example", 1),
        // Another top-level domain: nothing in common.
        (zone, "a@x.example", "spf=pass:y.test", 1),
        // Only the author's walk.
        (zone, "a@x.example", "spf=pass:y.example", 2),
        // And that of the identifier.
        (zone, "a@x.example", "spf=pass:m.x.example", 3),
        (zone, "a@x.example", "spf=pass:m.x.example dkim=pass:n.x.example", 4),
        (zone, &format!("a@{deep}"), "", 9),
        // Each label is a name of the walk, up to eight of them; and whether the domain exists.
        (zone, "a@a.b.c.d.e.x.example", "", 7 + 1),
        (zone, "a@a.b.c.d.e.f.x.example", "", 8 + 1),
        (zone, "a@a.b.c.d.e.f.g.x.example", "", 8 + 1),
        (zone, "a@nothing.example", &many, 2),
        (zone, "a@x.example", &many, 1),
        // The rest of a walk is asked for at once, even if it then ends early.
        (&top, "a@x.test", &related, 2 + 6 + 9 * 5),
        (zone, "nonsense", &many, 0),
    ] {
        let (outcome, queries) = run(Zone::parse(zone).unwrap(), &[from], text);
        assert_eq!(queries, expected, "{from} {text}: {outcome:?}");
    }
}

#[test]
fn the_bound_on_queries_is_reached_and_not_passed() {
    let mut zone = Zone::new();
    zone.add_txt("_dmarc.test", b"v=DMARC1; p=reject; np=none");
    zone.add_txt("_dmarc.example", b"v=DMARC1; p=reject; np=none; psd=u");
    let author = "1.2.3.4.5.6.7.8.9.test";
    let signatures = (0..11)
        .map(|n| format!("dkim=temperror:z.y.a{n}.b{n}.c{n}.d{n}.e{n}.f{n}.test "))
        .collect::<String>();
    // Each of these is an organizational domain of its own, so that nothing is ever aligned.
    for n in 0..11 {
        zone.add_txt(&format!("_dmarc.f{n}.test"), b"v=DMARC1; p=none; psd=n");
    }
    let (outcome, queries) = run(zone, &[&format!("a@{author}")], &signatures);
    assert_eq!(outcome.result, DmarcResult::Fail);
    assert_eq!(queries, 8 + 1 + 11 * 7);
}

/// Sixteen authors without a record of their own, whose organizational domains have one, and eleven
/// identifiers.
#[test]
fn the_bound_on_queries_of_several_authors_is_not_passed() {
    let mut zone = Zone::new();
    for top in 0..MAX_AUTHOR_DOMAINS {
        zone.add_txt(&format!("_dmarc.t{top}"), b"v=DMARC1; p=quarantine; np=none");
    }
    for n in 0..11 {
        zone.add_txt(&format!("_dmarc.f{n}.t0"), b"v=DMARC1; p=none; psd=n");
    }
    let from = (0..MAX_AUTHOR_DOMAINS)
        .map(|top| format!("a@1.2.3.4.5.6.7.8.9.t{top}"))
        .collect::<Vec<_>>()
        .join(", ");
    let signatures = (0..11)
        .map(|n| format!("dkim=temperror:z.y.a{n}.b{n}.c{n}.d{n}.e{n}.f{n}.t0 "))
        .collect::<String>();
    let (outcome, queries) = run(zone, &[&from], &signatures);
    assert_eq!(outcome.result, DmarcResult::Fail);
    assert_eq!(queries, 16 * 9 + 11 * 7);
}

#[tokio::test(start_paused = true)]
async fn a_walk_takes_the_time_of_two_queries() {
    let mut zone = Zone::parse("_dmarc.example TXT \"v=DMARC1; p=none\"").unwrap();
    zone.latency = std::time::Duration::from_secs(1);
    let dns = Dns::from_zone(Arc::new(zone));
    let start = tokio::time::Instant::now();
    discover(&dns, &Author::One(domain("a.b.c.d.e.f.example"))).await;
    assert_eq!(start.elapsed().as_secs(), 2);
}

/// The milter runs sessions on several threads.
#[test]
fn futures_can_change_threads() {
    fn send<T: Send>(_: T) {}
    let dns = Dns::from_zone(Arc::new(Zone::new()));
    let author = Author::Missing;
    let discovery = block_on(discover(&dns, &author));
    let nothing = Identifiers::default();
    send(discover(&dns, &author));
    send(evaluate(&dns, &discovery, &nothing));
    send(crate::auth::iprev::verify(&dns, [192, 0, 2, 1].into()));
}

#[test]
fn long_names_do_not_exist() {
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{}.example", "b".repeat(53));
    assert_eq!(long.len(), 253);
    assert_eq!(
        dmarc("_dmarc.example TXT \"v=DMARC1; p=reject\"", &format!("a@{long}"), ""),
        format!("fail {long} p=reject of example")
    );
}

#[test]
fn organizational_domains() {
    let zone = Zone::parse(
        "
        _dmarc.x.example TXT \"v=DMARC1; p=reject\"
        _dmarc.mail.x.example TXT \"v=DMARC1; p=reject\"
        _dmarc.psd.test TXT \"v=DMARC1; p=reject; psd=y\"
        ",
    )
    .unwrap();
    let dns = Dns::from_zone(Arc::new(zone));
    for (start, expected) in [
        ("a.mail.x.example", "x.example"),
        ("x.example", "x.example"),
        ("y.example", "y.example"),
        ("a.b.y.example", "a.b.y.example"),
        ("a.b.psd.test", "b.psd.test"),
        ("psd.test", "psd.test"),
        ("1.2.3.4.5.6.7.8.9.psd.test", "9.psd.test"),
    ] {
        assert_eq!(
            block_on(organizational_domain(&dns, &domain(start))),
            Ok(domain(expected)),
            "{start}"
        );
    }
}
