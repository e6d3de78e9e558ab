use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn author(value: &str) -> Author {
    Author::from_fields(&[value])
}

/// The domains, joined with commas, or the reason in angle brackets.
fn read(value: impl AsRef<[u8]>) -> String {
    match Author::from_fields(&[value]) {
        Author::Malformed(reason) => format!("<{reason}>"),
        other => other.domains().iter().map(Domain::as_str).collect::<Vec<_>>().join(","),
    }
}

#[test]
fn one_domain() {
    for value in [
        "a@x.example",
        " a@x.example",
        "<a@x.example>",
        "A <a@x.example>",
        "A B. C <a@x.example>\r\n",
        "A\r\n B <a@x.example>\n",
        "A\n\tB <a@x.example>",
        "\r\n a@x.example",
        "\"Acme, Inc.\" <a@x.example>",
        "\"\\\"Acme, Inc.\\\"\" <a@x.example>",
        "\"'X, Y' via Z\" <a@x.example>",
        "\"b@y.example\" <a@x.example>",
        "\"B <b@y.example>\" <a@x.example>",
        "'X' via <a@X.EXAMPLE>",
        "=?utf-8?q?=3Cb=40y.example=3E?= <a@x.example>",
        "=?utf-8?b?PGJAeS5leGFtcGxlPg==?= <a@x.example>",
        "a@x.example (A (the \\) first) of us)",
        "(c) A (c) <a@x.example> (c)",
        "Pete(A nice \\) chap) <pete(his account)@x.example(his host)>",
        "< a @ x.example >",
        "a (c) @ (c) x.example",
        "\"john doe\"@x.example",
        "\"\"@x.example",
        "a@x.example, b@X.example",
        ", a@x.example,,",
        "team: a@x.example, B <b@x.example>;",
        "team: a@x.example,; (c), c@x.example",
        "a+b=c@x.example",
        "jörg@x.example",
        "Jörg \"Jö\" <a@x.example>",
    ] {
        assert_eq!(read(value), "x.example", "{value:?}");
    }
    assert_eq!(read("a@bücher.example"), "xn--bcher-kva.example");
    assert_eq!(read("a@XN--BCHER-KVA.example"), "xn--bcher-kva.example");
    assert_eq!(read("hello@\u{5de}\u{5d9}\u{5d9}\u{5dc}.\u{5e7}\u{5d5}\u{5dd}"), "xn--eebajf.xn--9dbq2a");
    assert_eq!(read(b"M\xfcller \"M\xfcller\" (M\xfcller) <a@x.example>"), "x.example");
    assert_eq!(read("a@localhost"), "localhost");
    assert_eq!(read("a@_x.example"), "_x.example");
}

#[test]
fn several_domains() {
    assert_eq!(read("a@x.example, B <b@y.example>"), "x.example,y.example");
    assert_eq!(read("admin@x.example,<any@y.example>"), "x.example,y.example");
    assert_eq!(read("team: a@x.example, b@y.example;, c@z.example"), "x.example,y.example,z.example");
    let Author::Several(domains) = author("a@1.example, a@2.example, a@3.example, a@4.example, a@1.example") else { panic!() };
    assert_eq!((domains.as_slice().len(), domains.is_truncated()), (4, false));
    let Author::Several(domains) = author("a@1.example, a@2.example, a@3.example, a@4.example, a@5.example") else { panic!() };
    assert_eq!((domains.as_slice().len(), domains.is_truncated()), (4, true));
}

/// Reasons, and what is refused for them.
const MALFORMED: &[(&str, &[&str])] = &[
    (
        "no address",
        &[
            "",
            " ",
            "\r\n",
            ",",
            "(c)",
            "Test User",
            "\"Test User\"",
            "<>",
            "A <>",
            "team:;",
            "team: ;,",
            "root",
            "Acme, Inc. <a@x.example>",
        ],
    ),
    (
        "address syntax",
        &[
            "a@x.example b",
            "a@x.example>",
            "a@b@c",
            "<a@b@c>",
            "<a@x.example> b",
            "<a@x.example>b@y.example",
            "<a@x.example>,<b@y.example>c",
            "b@y.example <a@x.example>",
            "<b@y.example><a@x.example>",
            "<b@y.example>\\,<a@x.example>",
            "[b@y.example], <a@x.example>",
            "[a] <a@x.example>",
            "a b@x.example",
            "a . b@x.example",
            "<a b@x.example>",
            "<a@x.example, b@x.example>",
            "a@x . example",
            "a: b: c@x.example;",
            "team: a@x.example; b@x.example",
            "a@x.example;",
            ": a@x.example;",
            "@x.example",
            ".A <a@x.example>",
            "=?utf-8?q?x<b@y.example>?= <a@x.example>",
            "A <B <a@x.example>>",
            ")a@x.example",
            "a\\@x.example",
        ],
    ),
    (
        "something has no end",
        &["\"A <a@x.example>", "(A", "<a@x.example", "<a", "<", "team: a@x.example", "a@x.example (", "\"a\\"],
    ),
    (
        "control character",
        &[
            "a\u{0}@x.example",
            "\"\u{0}\" <a@x.example>",
            "(\u{0}) a@x.example",
            "A\u{7} <a@x.example>",
            "\"\\\u{0}\" <a@x.example>",
            "a@x.example\r b",
            "A\rB <a@x.example>",
            "\"A\rB\" <a@x.example>",
            "A\nB <a@x.example>",
            "A\r\nFrom: b@y.example",
            "\"A\r\n \r\n B\" <a@x.example>",
            "A\r\n \r\n <a@x.example>",
            "\u{7f}a@x.example",
        ],
    ),
    ("comments nested too deeply", &["((((((((((c)))))))))) a@x.example"]),
    (
        "address in a comment",
        &["a@x.example (b@y.example)", "<a(@y.example>)@x.example>", "(\\<b) a@x.example", "a@(>)x.example"],
    ),
    (
        "ambiguous local part",
        &[
            "\"A <a@x.example>\"@y.example",
            "\"a@x.example\"@y.example",
            "\"a>\"@y.example",
            "=?utf-8?b?YUB4LmV4YW1wbGU=?=@y.example",
            "=?utf-8?b?YUB4LmV4YW1wbGU=?==?utf-8?q?=00?=@y.example",
            "<\"=?utf-8?b?YQ==?=\"@y.example>",
        ],
    ),
    ("bad local part", &["a..b@x.example", "a.@x.example", "<.a@x.example>"]),
    ("route in an address", &["<@a.example:b@x.example>", "A <@a.example,@b.example:b@x.example>"]),
    ("address literal", &["a@[192.0.2.1]", "A <a@[IPv6:2001:db8::1]>", "a@x.example, b@[x.example]"]),
    (
        "bad domain name",
        &[
            "a@",
            "<a@>",
            "a@.x.example",
            "a@x..example",
            "a@x.example.",
            "a@x!y.example",
            "a@\u{200b}",
            "a@x.example\u{a0}",
            "a@=?utf-8?q?x?=",
        ],
    ),
];

#[test]
fn malformed() {
    for (reason, values) in MALFORMED {
        for value in *values {
            assert_eq!(read(value), format!("<{reason}>"), "{value:?}");
        }
    }
    assert_eq!(read(b"\"\x95\\\" <b@y.example>\" <a@x.example>"), "<ambiguous character encoding>");
    assert_eq!(read(b"\xfc@x.example"), "<ambiguous local part>");
    assert_eq!(read(b"a@\xfc.example"), "<bad domain name>");
}

#[test]
fn number_of_fields() {
    assert_eq!(Author::from_fields::<&[u8]>(&[]), Author::Missing);
    let author = Author::from_fields(&["a@x.example", "nonsense", "b@y.example, c@x.example"]);
    assert!(matches!(author, Author::SeveralFields(_)));
    assert_eq!(author.domains(), [Domain::parse("x.example").unwrap(), Domain::parse("y.example").unwrap()]);
    let author = Author::from_fields(&["a@x.example", "a@x.example"]);
    assert!(matches!(author, Author::SeveralFields(_)));
    assert!(matches!(Author::from_fields(&["", ""]), Author::SeveralFields(domains) if domains.as_slice().is_empty()));
}

#[test]
fn names_of_from_fields() {
    for name in ["From", "from", "FROM", "From ", "From\t ", "From\r\n "] {
        assert!(is_from(name.as_bytes()), "{name:?}");
    }
    for name in ["Resent-From", " From", "Fro", "From:", "From\u{0}", "X-From"] {
        assert!(!is_from(name.as_bytes()), "{name:?}");
    }
}

/// A megabyte of anything takes no longer than a megabyte of one address, give or take: a quadratic reader would need hours.
#[test]
fn a_megabyte_is_read_in_one_pass() {
    let million = |text: &str| text.repeat(1_000_000 / text.len());
    let start = Instant::now();
    for value in [
        million("a@x.example,"),
        (0..80_000).map(|n| format!("a@x{n}.example,")).collect(),
        million("("),
        million("()"),
        format!("{}@x.example", million("a")),
        format!("{}@x.example", million("a.")),
        format!("a@{}", million("x.")),
        format!("a@{}", million("\u{fc}.")),
        million("a@\u{fc}.example,"),
        million("\""),
        million("\"\" "),
        million("\\"),
        million("<"),
        million("a:;,"),
        million("\r\n a"),
        million("=?"),
        million("\u{fc}"),
    ] {
        let author = author(&value);
        assert!(author.domains().len() <= MAX_AUTHOR_DOMAINS);
    }
    assert!(start.elapsed().as_secs() < 120);
}

/// What is left of a value without its quoted strings and comments: a second, much simpler reader.
fn bare(value: &str) -> String {
    let mut bare = String::new();
    let (mut quoted, mut depth, mut escaped) = (false, 0_u32, false);
    for c in value.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => {
                quoted = !quoted;
                bare.push('q');
            }
            _ if quoted => {}
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            _ => bare.push(c),
        }
    }
    bare
}

/// The domain after each `@`, in what is left.
fn bare_domains(value: &str) -> Vec<Domain> {
    let bare = bare(value);
    let mut domains = Vec::new();
    for after in bare.split('@').skip(1) {
        let text = after.trim_start().split([',', '>', ';', ' ', '\t', '\r', '\n']).next().unwrap_or_default();
        let domain = Domain::parse(text).unwrap();
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains.truncate(MAX_AUTHOR_DOMAINS);
    domains
}

fn display_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[A-Za-z=?_.'-]{0,4}[A-Za-z] ?".prop_map(|s| format!("A{s}")),
        "([ -!#-\\[\\]-~]|\\\\[ -~]){0,12}".prop_map(|s| format!("\"{s}\" ")),
    ]
}

fn cfws() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => Just(" ".into()), 1 => Just("\r\n ".into()), 1 => Just("\n\t".into()), 1 => "\\([a-z,;:\"]{0,4}\\)"]
}

fn mailbox() -> impl Strategy<Value = (String, String)> {
    let local = prop_oneof!["[a-z+/]{1,4}(\\.[a-z]{1,3})?", "\"[a-z ,;:()\\[\\]]{0,5}\""];
    (display_name(), cfws(), local, cfws(), cfws(), "[a-d]\\.example", cfws(), any::<bool>()).prop_map(
        |(name, c1, local, c2, c3, domain, c4, bare)| {
            let address = format!("{c1}{local}{c2}@{c3}{domain}{c4}");
            (if bare { address } else { format!("{name}<{address}>") }, domain)
        },
    )
}

proptest! {
    /// What the grammar makes is read, and the domains are the ones that were put in.
    #[test]
    fn made_by_the_grammar(mailboxes in prop::collection::vec(mailbox(), 1..5), group in any::<bool>()) {
        let list = mailboxes.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
        let value = if group { format!("\"a@b\" team: {list};") } else { list };
        let mut domains: Vec<Domain> = Vec::new();
        for (_, text) in &mailboxes {
            let domain = Domain::parse(text).unwrap();
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        // A fold at the very end folds nothing.
        let author = author(value.trim_end());
        prop_assert_eq!(author.domains(), domains.as_slice(), "{:?}", value);
    }

    /// Whatever comes: no panic, and where domains come out, the second reader sees the same ones and no others.
    #[test]
    fn agrees_with_a_second_reader(value in "[ab.,:;<>@()\"\\\\\\[\\] \r\n\t\u{0}=?é]{0,24}") {
        let author = author(&value);
        if !author.domains().is_empty() {
            prop_assert_eq!(author.domains().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    #[test]
    fn likely_attacks_agree_too(
        value in "(a|b|@|<|>|\"|\\(|\\)|,|;|:| |\\\\|a@b|<a@b>|\"a@b\"|\\(c\\)|\r\n |=\\?b\\?YQ\\?=){0,10}"
    ) {
        let author = author(&value);
        if !author.domains().is_empty() {
            prop_assert_eq!(author.domains().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    /// One character of a good field is replaced: what can still be read is read alike.
    #[test]
    fn mutations_agree_too(
        mailboxes in prop::collection::vec(mailbox(), 1..4), place in any::<prop::sample::Index>(), with in "[@<>\"\\\\(),;: a\r\n]"
    ) {
        let list = mailboxes.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
        let place = place.index(list.len());
        let value = format!("{}{with}{}", &list[..place], &list[place + 1..]);
        let author = author(&value);
        if !author.domains().is_empty() {
            prop_assert_eq!(author.domains().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    #[test]
    fn octets_never_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Author::from_fields(&[&value]);
    }
}
