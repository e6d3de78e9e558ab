//! Macro expansion (RFC 7208 §7).

use viaspf::record::ExplainString;

use super::*;
use crate::{
    auth::spf::{Variables, expand::expand_domain, expand_explain_string, record::find},
    mail::domain::MAX_DOMAIN_LENGTH,
};

const CLIENT: &str = "2001:db8::cb01";

fn variables<'a>() -> Variables<'a> {
    Variables {
        client: "192.0.2.3".parse().unwrap(),
        local_part: "strong-bad",
        sender_domain: "email.example.com",
        domain: "spf.example.org",
        helo: "mx.example.org",
        receiver: "receiver.example",
        timestamp: 1_700_000_000,
        validated: None,
    }
}

fn explain(text: &str, variables: &Variables<'_>) -> String {
    expand_explain_string(&text.parse::<ExplainString>().unwrap(), variables)
}

/// The name that the record's `exists` asks for.
fn name(spec: &str, variables: &Variables<'_>) -> Option<String> {
    let record = find(&[format!("v=spf1 exists:{spec}").into_bytes().into()].into()).unwrap();
    let viaspf::record::Term::Directive(directive) = &record.terms[0] else { panic!("{spec}") };
    let viaspf::record::Mechanism::Exists(exists) = &directive.mechanism else { panic!("{spec}") };
    expand_domain(exists.domain_spec.as_ref(), variables).map(|name| name.to_string())
}

#[test]
fn every_macro() {
    let v4 = variables();
    let v6 = Variables { client: CLIENT.parse().unwrap(), ..v4 };
    for (text, expected) in [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "spf.example.org"),
        ("%{d4}", "spf.example.org"),
        ("%{d3}", "spf.example.org"),
        ("%{d2}", "example.org"),
        ("%{d1}", "org"),
        ("%{dr}", "org.example.spf"),
        ("%{d2r}", "example.spf"),
        ("%{D2R}", "example.spf"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{o1r.-+,/_=}", "email"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.org"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.org"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.org"),
        ("%{h}", "mx.example.org"),
        ("%{p}", "unknown"),
        ("%{c}", "192.0.2.3"),
        ("%{r}", "receiver.example"),
        ("%{t}", "1700000000"),
        ("%%%_%-", "% %20"),
        ("%%{d}", "%{d}"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{d255}", "spf.example.org"),
    ] {
        assert_eq!(explain(text, &v4), expected, "{text}");
    }
    assert_eq!(
        explain("%{i}", &v6),
        "2.0.0.1.0.D.B.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.C.B.0.1"
    );
    assert_eq!(
        explain("%{ir}", &v6),
        "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2"
    );
    assert_eq!(explain("%{c} %{v}", &v6), "2001:db8::cb01 ip6");
    assert_eq!(explain("%{r}", &Variables { receiver: "", ..v4 }), "unknown");
    assert_eq!(
        explain("<%{h}> %{p}", &Variables { helo: "", validated: Some("a.example"), ..v4 }),
        "<> a.example"
    );
    assert_eq!(explain("%{h}", &Variables { helo: "[192.0.2.3]", ..v4 }), "[192.0.2.3]");
}

#[test]
fn splitting() {
    let with = |local_part, text| explain(text, &Variables { local_part, ..variables() });
    assert_eq!(with("a+b=c_d/e,f.g-h", "%{l+}"), "a.b=c_d/e,f.g-h");
    assert_eq!(with("a+b=c_d/e,f.g-h", "%{lr.-+,/_=}"), "h.g.f.e.d.c.b.a");
    assert_eq!(with("a+b=c_d/e,f.g-h", "%{l2r.-+,/_=}"), "b.a");
    assert_eq!(with("a..b", "%{lr}"), "b..a");
    assert_eq!(with("-a-", "%{l1r-}|%{l1-}|%{l2-}"), "||a.");
    assert_eq!(with("\"a b\"", "%{l} %{L}"), "\"a b\" %22a%20b%22");
    assert_eq!(with("~._-!*'()", "%{L}"), "~._-%21%2A%27%28%29");
    assert_eq!(with("jörg", "%{L}"), "j%C3%B6rg");
}

#[test]
fn huge_digits_mean_all_parts() {
    for digits in [
        "256",
        "999",
        "2147483648",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
        "0000000256",
    ] {
        assert_eq!(
            name(&format!("%{{d{digits}}}.x.example"), &variables()).unwrap(),
            "spf.example.org.x.example",
            "{digits}"
        );
    }
    assert_eq!(name("%{d002}.x.example", &variables()).unwrap(), "example.org.x.example");
    let text = "example.com TXT \"v=spf1 exists:%{d2147483648r}.x.example -all\"\ncom.example.x.example A 127.0.0.2";
    assert_eq!(check(text).result, Pass);
}

#[test]
fn long_names_lose_labels_on_the_left() {
    let with = |local_part: &str| name("%{l}.x.example", &Variables { local_part, ..variables() });
    let labels = "abcdefghi.".repeat(24);
    assert_eq!(with(labels.trim_end_matches('.')).unwrap(), format!("{labels}x.example"));
    let long = "abcdefghi.".repeat(25);
    assert_eq!(with(long.trim_end_matches('.')).unwrap(), format!("{labels}x.example"));
    let name = with(&"a.".repeat(200)[..399]).unwrap();
    assert!(
        name.len() <= MAX_DOMAIN_LENGTH
            && name.len() > MAX_DOMAIN_LENGTH - 2
            && name.ends_with(".a.x.example")
    );
    // A label that is too long where it counts: no such name.
    assert_eq!(with(&"a".repeat(64)), None);
    assert_eq!(with(&format!("{}.b", "a".repeat(64))), None);
    assert_eq!(
        with(&format!("{}.{}", "a".repeat(64), "b.".repeat(125).trim_end_matches('.')))
            .map(|name| name.len()),
        Some(253)
    );
}

/// However long a local-part is, it cannot push the domain that follows it out of the name.
#[test]
fn a_long_local_part_cannot_choose_the_domain() {
    for length in [1_000, 20_000, 64_000] {
        let local_part = format!("{}evil.example", "a.".repeat(length / 2));
        let variables = Variables { local_part: &local_part, ..variables() };
        for spec in ["%{l}.x.example", "%{l}.%{l}.x.example", "%{L}.%{d}.x.example"] {
            let name = name(spec, &variables).unwrap();
            assert!(
                name.ends_with(".x.example") && name.len() <= MAX_DOMAIN_LENGTH,
                "{spec} {name}"
            );
        }
    }
}

#[test]
fn names_that_cannot_be_asked_for() {
    let with = |helo: &str, spec: &str| name(spec, &Variables { helo, ..variables() });
    assert_eq!(with("", "%{h}.x.example"), None);
    assert_eq!(with("a..b", "%{h}.x.example"), None);
    assert_eq!(with("b cher\u{fc}", "%{h}.x.example"), None);
    assert_eq!(with("[192.0.2.1]", "%{h}.x.example").unwrap(), "[192.0.2.1].x.example");
    assert_eq!(with("A b", "%{h}.%%.x.example.").unwrap(), "a b.%.x.example");
    // They match nothing, and are neither asked for nor void.
    let zone = zone(
        "example.com TXT \"v=spf1 exists:%{h}.x.example a:%{h}..x.example mx:%{h}.x.example -all\"",
    );
    let outcome = Asked { helo: "", ..Asked::new("192.0.2.1", "u@example.com") }.of(&zone);
    assert_eq!(
        (outcome.result, outcome.lookups, outcome.void_lookups, zone.queries()),
        (Fail, 3, 0, 1)
    );
}

#[test]
fn helo_names_are_written_as_domains_are() {
    let with = |helo: &str| name("%{h}.x.example", &Variables { helo, ..variables() }).unwrap();
    assert_eq!(with("bücher.example"), "xn--bcher-kva.example.x.example");
    assert_eq!(with("mail.example."), "mail.example.x.example");
    let explained = |helo: &str| explain("%{h}", &Variables { helo, ..variables() });
    assert_eq!(
        [explained("Mail.Example."), explained("m\u{fc}ller.example")],
        ["Mail.Example", "xn--mller-kva.example"]
    );
    let zone =
        zone("xn--bcher-kva.example TXT \"v=spf1 a:%{h} -all\"\nxn--bcher-kva.example A 192.0.2.1");
    let asked =
        Asked { helo: "bücher.example", ..Asked::new("192.0.2.1", "postmaster@bücher.example") };
    assert_eq!(asked.of(&zone).result, Pass);
}

#[test]
fn domains_in_nested_records() {
    let rest = "i.example TXT \"v=spf1 exists:%{d}.%{o}.%{l}.%{h}.x.example redirect=r.example\"
r.example TXT \"v=spf1 exists:%{d}.y.example\"";
    let result = |name: &str| {
        check_record("v=spf1 include:i.example -all", &format!("{rest}\n{name} A 127.0.0.2")).result
    };
    assert_eq!(result("i.example.example.com.user.mail.example.org.x.example"), Pass);
    assert_eq!(result("r.example.y.example"), Pass);
    assert_eq!(result("example.com.y.example"), Fail);
    let zone = zone(
        "example.com TXT \"v=spf1 exists:%{l}.%{s}.x.example -all\"\npostmaster.postmaster@example.com.x.example A 127.0.0.2",
    );
    assert_eq!(Asked::new("192.0.2.1", "@example.com").of(&zone).result, Pass);
}

#[test]
fn validated_names() {
    let names = "192.0.2.1 PTR other.example\n192.0.2.1 PTR sub.example.com\nother.example A 192.0.2.1\nsub.example.com A 192.0.2.1\n";
    let result = |record: &str, rest: &str| check_record(record, &format!("{names}{rest}"));
    let own = "192.0.2.1 PTR example.com\nexample.com A 192.0.2.1\n";
    assert_eq!(
        result("v=spf1 exists:%{p}.x.example -all", "sub.example.com.x.example A 127.0.0.2").result,
        Pass
    );
    assert_eq!(
        result(
            "v=spf1 exists:%{p}.x.example -all",
            &format!("{own}example.com.x.example A 127.0.0.2")
        )
        .result,
        Pass
    );
    // In an include and a redirect too, and for the domain of that record.
    let target = "sub.example.com.x.example TXT \"v=spf1 +all\"";
    assert_eq!(result("v=spf1 include:%{p}.x.example -all", target).result, Pass);
    assert_eq!(result("v=spf1 redirect=%{p}.x.example", target).result, Pass);
    let nested =
        "i.other.example TXT \"v=spf1 exists:%{p}.x.example\"\nother.example.x.example A 127.0.0.2";
    assert_eq!(result("v=spf1 include:i.other.example -all", nested).result, Pass);
    // Not validated, not there, not to be had: unknown.
    let unknown = "unknown.x.example A 127.0.0.2\n";
    for rest in [
        "",
        "192.0.2.1 PTR a.example",
        "192.0.2.1 PTR !timeout",
        "192.0.2.1 PTR a.example\na.example A !servfail",
    ] {
        let outcome =
            check_record("v=spf1 exists:%{p}.x.example -all", &format!("{unknown}{rest}"));
        assert_eq!((outcome.result, outcome.lookups, outcome.void_lookups), (Pass, 1, 0), "{rest}");
    }
}

#[test]
fn names_are_as_long_as_the_bound() {
    let labels = format!("{}a.x.example", "a.".repeat(119));
    for (first, length) in [(2, 252), (3, 253), (4, 249)] {
        let local_part =
            format!("{}.{}", "b".repeat(first), labels.strip_suffix(".x.example").unwrap());
        let name =
            name("%{l}.x.example", &Variables { local_part: &local_part, ..variables() }).unwrap();
        assert_eq!((name.len(), name.starts_with('b')), (length, length > 249), "{first}");
    }
}

/// Work is the octets of the values that are put in.
#[test]
fn work_is_bounded() {
    let most = 256 * 1024;
    for (length, is_done) in [(most - 1, true), (most, true), (most + 1, false)] {
        // Its last label is never empty.
        let local_part = ".a".repeat(length)[length..].to_owned();
        let of = |spec: &str| name(spec, &Variables { local_part: &local_part, ..variables() });
        assert_eq!(of("%{l1}.x.example").is_some(), is_done, "{length}");
    }
}
