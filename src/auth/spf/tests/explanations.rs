//! Explanations (RFC 7208 §6.2).

use super::{
    super::expand::{Variables, expand_explain_string},
    *,
};
use crate::mail::domain::Domain;

/// The explanation of a fail whose text is at x.example.
fn explanation(text: &str) -> Option<String> {
    let outcome = check(&format!("example.com TXT \"v=spf1 -all exp=x.example\"\n{text}"));
    assert_eq!((outcome.result, outcome.problem), (Fail, None));
    outcome.explanation
}

#[test]
fn one_text_is_expanded() {
    let of = |text: &str| explanation(&format!("x.example TXT {text}"));
    assert_eq!(
        of("\"See http://%{d}/why?s=%{S}&i=%{i}  %{c} %{h} %{r} %{t} %%\"").unwrap(),
        "See http://example.com/why?s=user%40example.com&i=192.0.2.1  192.0.2.1 mail.example.org receiver.example 1700000000 %"
    );
    assert_eq!(of("\"two \" \"strings\"").unwrap(), "two strings");
    assert_eq!(of("\"%{d99999999999}\"").unwrap(), "example.com");
    assert_eq!(of("\"%{p}\"").unwrap(), "unknown");
    assert_eq!(explanation("x.example CNAME y.example\ny.example TXT \"alias\"").unwrap(), "alias");
}

#[test]
fn any_trouble_means_none() {
    for text in [
        "x.example TXT \"one\"\nx.example TXT \"two\"",
        "",
        "x.example A 192.0.2.1",
        "x.example TXT !servfail",
        "x.example TXT !timeout",
        "x.example TXT \"\"",
        "x.example TXT \"caf\\233\"",
        "x.example TXT \"caf\\195\\169\"",
        "x.example TXT \"100% sure\"",
        "x.example TXT \"%{q}\"",
        "x.example TXT \"%{d0}\"",
        "x.example TXT \"%{d\"",
        "x.example TXT \"line\\010break\"",
        "x.example TXT \"tab\\009\"",
    ] {
        assert_eq!(explanation(text), None, "{text}");
    }
    let long = format!("x.example TXT \"{}\"", "%{s}".repeat(2_000));
    assert_eq!(explanation(&long), None);
}

#[test]
fn explanations_are_as_long_as_the_bound() {
    let limit = 4 * 1024;
    for (text, length) in [(" ", 1), ("x", 1), ("%_", 2), ("x ", 2), ("%{v}", 4)] {
        let whole = text.repeat(limit / length);
        let is_told = |text: &str| explanation(&format!("x.example TXT \"{text}\"")).is_some();
        assert_eq!(whole.len(), limit);
        assert!(is_told(&whole) && is_told(&whole.replacen(text, "", 1)), "{text}");
        assert!(!is_told(&format!("{whole}.")) && !is_told(&format!("{whole} ")), "{text}");
    }
    assert_eq!(explanation(&format!("x.example TXT \"{}\"", " ".repeat(60_000))), None);
}

/// The whole text or none, however it comes to its length: blanks are octets as others are.
#[test]
fn expanded_explanations_are_as_long_as_the_bound() {
    let limit = 16 * 1024;
    let zone = zone("example.com TXT \"v=spf1 -all exp=x.example\"\nx.example TXT \"%{l}%{l} .\"");
    for (length, explained) in
        [(limit / 2 - 2, Some(limit - 2)), (limit / 2 - 1, Some(limit)), (limit / 2, None)]
    {
        let sender = format!("{}@example.com", "l".repeat(length));
        let outcome = Asked::new("192.0.2.1", &sender).of(&zone);
        assert_eq!(outcome.explanation.map(|text| text.len()), explained, "{length}");
    }
    let asked = Asked::new("192.0.2.1", "user@example.com");
    let query = asked.query();
    let domain = Domain::parse("example.com").unwrap();
    let variables = Variables::new(&query, &domain);
    for text in [" ", "x", "%_", "x ", "%%"] {
        for length in [limit - 1, limit, limit + 1, 60_000] {
            let octets = text.len() / (1 + usize::from(text.starts_with('%')));
            let string = format!("{}{}", text.repeat(length / octets), "y".repeat(length % octets))
                .parse()
                .unwrap();
            assert_eq!(
                expand_explain_string(&string, &variables).len(),
                length.min(limit),
                "{text}"
            );
        }
    }
}

#[test]
fn whose_explanation_counts() {
    let rest = "f.example TXT \"v=spf1 -all exp=x.f.example\"\nx.f.example TXT \"from %{d}\"\nx.example.com TXT \"from %{d}\"
p.example TXT \"v=spf1 +all exp=x.f.example\"";
    let of = |record: &str| check_record(record, rest).explanation;
    assert_eq!(of("v=spf1 -all exp=x.%{d}").unwrap(), "from example.com");
    assert_eq!(of("v=spf1 exp=x.%{d} redirect=f.example").unwrap(), "from f.example");
    assert_eq!(of("v=spf1 include:f.example -all exp=x.%{d}").unwrap(), "from example.com");
    assert_eq!(of("v=spf1 include:f.example -all"), None);
    assert_eq!(of("v=spf1 -include:p.example exp=x.%{d}").unwrap(), "from example.com");
    // Only a fail is explained.
    for record in [
        "v=spf1 ~all exp=x.%{d}",
        "v=spf1 ?all exp=x.%{d}",
        "v=spf1 +all exp=x.%{d}",
        "v=spf1 exp=x.%{d}",
    ] {
        assert_eq!(of(record), None);
    }
}

#[test]
fn explanations_are_not_counted() {
    let terms = "a:h.example ".repeat(10);
    let outcome = check_record(
        &format!("v=spf1 {terms}-all exp=x.example"),
        "h.example A 203.0.113.1\nx.example TXT \"why\"",
    );
    assert_eq!(
        (outcome.result, outcome.lookups, outcome.explanation.as_deref()),
        (Fail, 10, Some("why"))
    );
}

#[test]
fn names_of_explanations() {
    let rest =
        "192.0.2.1 PTR m.example\nm.example A 192.0.2.1\nm.example.x.example TXT \"you are %{p}\"";
    assert_eq!(
        check_record("v=spf1 -all exp=%{p}.x.example", rest).explanation.unwrap(),
        "you are m.example"
    );
    let zone = zone(
        "example.com TXT \"v=spf1 -all exp=%{l}.x.example\"\n*.x.example TXT \"hello %{l}\"\nb.example TXT \"v=spf1 -all exp=a.x.example\"",
    );
    assert_eq!(
        Asked::new("192.0.2.1", "joe@example.com").of(&zone).explanation.unwrap(),
        "hello joe"
    );
    assert_eq!(
        Asked::new("192.0.2.1", "joe@b.example").of(&zone).explanation.unwrap(),
        "hello joe"
    );
    // A local-part that is not ASCII can be neither in a question nor in a reply.
    assert_eq!(Asked::new("192.0.2.1", "jörg@example.com").of(&zone).explanation, None);
    assert_eq!(Asked::new("192.0.2.1", "jörg@b.example").of(&zone).explanation, None);
}
