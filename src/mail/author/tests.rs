mod readers;

use proptest::prelude::*;

use super::*;
use crate::mail::octets::WORK;

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
    assert_eq!(
        read("hello@\u{5de}\u{5d9}\u{5d9}\u{5dc}.\u{5e7}\u{5d5}\u{5dd}"),
        "xn--eebajf.xn--9dbq2a"
    );
    assert_eq!(read(b"M\xfcller \"M\xfcller\" (M\xfcller) <a@x.example>"), "x.example");
    assert_eq!(read("a@localhost"), "localhost");
    assert_eq!(read("a@_x.example"), "_x.example");
}

#[test]
fn several_domains() {
    assert_eq!(read("a@x.example, B <b@y.example>"), "x.example,y.example");
    assert_eq!(read("admin@x.example,<any@y.example>"), "x.example,y.example");
    assert_eq!(
        read("team: a@x.example, b@y.example;, c@z.example"),
        "x.example,y.example,z.example"
    );
    let Author::Several(domains) =
        author("a@1.example, a@2.example, a@3.example, a@4.example, a@1.example")
    else {
        panic!()
    };
    assert_eq!((domains.as_slice().len(), domains.is_truncated()), (4, false));
    for count in [MAX_AUTHOR_DOMAINS - 1, MAX_AUTHOR_DOMAINS, MAX_AUTHOR_DOMAINS + 1] {
        let list = (1..=count).map(|n| format!("a@{n}.example")).collect::<Vec<_>>().join(", ");
        let Author::Several(domains) = author(&list) else { panic!() };
        assert_eq!((domains.as_slice().len(), domains.is_truncated()), (count.min(16), count > 16));
        assert_eq!(domains.as_slice().last().unwrap().as_str(), format!("{count}.example"));
    }
}

/// Why the strict reader refuses a value.
fn strictly(value: impl AsRef<[u8]>) -> String {
    parse::domains(value.as_ref()).unwrap_err().to_string()
}

/// Reasons, and what the strict reader refuses for them.
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
        &[
            "\"A <a@x.example>",
            "(A",
            "<a@x.example",
            "<a",
            "<",
            "team: a@x.example",
            "a@x.example (",
            "\"a\\",
        ],
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
        &[
            "a@x.example (b@y.example)",
            "<a(@y.example>)@x.example>",
            "(\\<b) a@x.example",
            "a@(>)x.example",
        ],
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
    ("address in a quoted string", &["\"\\\" <b@y.example> \\\"\" <a@x.example>"]),
    (
        "misleading character",
        &[
            "\u{2039}a@x.example\u{203a}",
            "a@x.example\u{203a}",
            "\u{200b}a@x.example",
            "a@x\u{ad}.example",
            "a\u{ff20}b@x.example",
        ],
    ),
    ("route in an address", &["<@a.example:b@x.example>", "A <@a.example,@b.example:b@x.example>"]),
    (
        "address literal",
        &["a@[192.0.2.1]", "A <a@[IPv6:2001:db8::1]>", "a@x.example, b@[x.example]"],
    ),
    (
        "bad domain name",
        &[
            "<a@>",
            "a@.x.example",
            "a@x..example",
            "a@x.example.",
            "a@x!y.example",
            "a@",
            "a@=?utf-8?q?x?=",
        ],
    ),
];

#[test]
fn malformed() {
    for (reason, values) in MALFORMED {
        for value in *values {
            assert_eq!(strictly(value), *reason, "{value:?}");
        }
    }
    assert_eq!(
        strictly(b"\"\x95\\\" <b@y.example>\" <a@x.example>"),
        "ambiguous character encoding"
    );
    assert_eq!(strictly(b"\xfc@x.example"), "ambiguous local part");
    assert_eq!(strictly(b"a@\xfc.example"), "bad domain name");
}

/// A From that is not well-formed, and the domains that its readers see.
const LENIENT: &[(&str, &str)] = &[
    ("x@bank.example <x@bank.example>", "bank.example"),
    ("x@bank.example via Acme <y@bank.example>", "bank.example"),
    ("ceo@bank.example <x@evil.example>", "evil.example,bank.example"),
    ("Doe, John <j@bank.example>", "bank.example"),
    ("Acme [Support] <x@bank.example>", "bank.example"),
    ("Acme: x <x@bank.example>", "bank.example"),
    ("=?utf-8?Q?Acme,_Inc=2E?= <x@bank.example>", "bank.example"),
    ("=?utf-8?Q?Acme_(Support)?= <x@bank.example>", "bank.example"),
    ("x@bank.example.", "bank.example"),
    ("Acme <x@bank.example", "bank.example"),
    ("x@bank.example>", "bank.example"),
    ("<x@bank.example> <x@bank.example>", "bank.example"),
    ("<x@bank.example> <x@evil.example>", "evil.example,bank.example"),
    ("Acme <<x@bank.example>>", "bank.example"),
    ("Acme <x..y@bank.example>", "bank.example"),
    ("Acme <x.@bank.example>", "bank.example"),
    ("Acme <john doe@bank.example>", "bank.example"),
    ("@acme <x@bank.example>", "bank.example"),
    ("@acme.example <x@bank.example>", "bank.example,acme.example"),
    ("ceo@bank.example (a@b)", "bank.example"),
    ("ceo@bank.example (x@evil.example)", "evil.example,bank.example"),
    ("x@bank.example (((((((((c)))))))))", "bank.example"),
    ("\"a@b\"@bank.example", "bank.example"),
    ("\"ceo@bank.example\"@evil.example", "evil.example,bank.example"),
    ("Bank, Inc. \u{2039}x@bank.example\u{203a} <y@evil.example>", "evil.example,bank.example"),
    ("\u{2039}x@bank.example\u{203a}", "bank.example"),
    ("Bank \u{27e8}x\u{ff20}bank\u{3002}example\u{27e9}", "bank.example"),
    ("Bank \u{ff1c}ceo\u{ff20}bank.example\u{ff1e} <x@evil.example>", "evil.example,bank.example"),
    ("\u{6771}\u{4eac}\u{ff1a}\u{672c}\u{793e} <x@bank.example>", "bank.example"),
    ("<@bank.example:x@bank.example>", "bank.example"),
    ("<@bank.example:x@evil.example>", "bank.example,evil.example"),
    ("x@[bank.example]", "bank.example"),
    ("\"ceo@bank.example\"", "bank.example"),
    ("\"ceo@bank.example\":;", "bank.example"),
    ("ceo@bank.example:;", "bank.example"),
    ("Acme \\ Co <x@bank.example>", "bank.example"),
    ("Acme \"Support <x@bank.example>", "bank.example"),
    ("Acme (Support <x@bank.example>", "bank.example"),
    ("Acme <x@bank.example>;", "bank.example"),
    (".Acme <x@bank.example>", "bank.example"),
    ("<'x@bank.example'>", "bank.example"),
    ("x@bank.example\u{a0}", "bank.example"),
    ("<x@bank.example\u{200b}>", "bank.example"),
    ("x@bank\u{ad}.example", "bank.example"),
    ("x@bank . example", "bank.example"),
    ("x@bank.co m", "bank.co,bank.com"),
    ("x@bank.co(c)m", "bank.co,bank.com"),
    ("x@(evil.example)bank.example", "evil.example,bank.example"),
    ("x@bank.co\"m\"", "bank.co,bank.com"),
    ("x@bank.co\u{0}.evil.example", "bank.co.evil.example,bank.co"),
    ("\"\\\" <ceo@bank.example> \\\"\" <x@evil.example>", "evil.example,bank.example"),
    ("=?utf-8?Q?Author_=3Cj=40bank.example=3E?=", "bank.example"),
    ("=?utf-8?B?PGpAYmFuay5leGFtcGxlPg==?=", "bank.example"),
    ("=?utf-8*en?Q?j=40bank?= =?utf-8?Q?=2Eexample?=", "bank.example"),
    ("=?utf-7?Q?j+AEA-bank.example?=", "bank.example"),
    ("=?utf-16be?B?AGoAQABiAGEAbgBrAC4AZQB4AGEAbQBwAGwAZQ==?=", "bank.example"),
    ("=?utf-8?q?ceo=40bank.example?=@evil.example", "evil.example,bank.example"),
    ("=?utf-8?q?x<b@bank.example>?= <a@evil.example>", "evil.example,bank.example"),
    ("=?UTF-8?Q?Author <j@bank.example>", "bank.example"),
    ("A\r\nFrom: x@bank.example", "bank.example"),
    ("a@x.example, <b@y.example", "y.example,x.example"),
    // Names that DNS cannot have are below a domain that it can.
    ("ceo@a!b.bank.example", "bank.example"),
    ("ceo@it's.bank.example", "bank.example"),
    ("ceo@*.bank.example", "bank.example"),
    ("ceo@{bank.example}", "bank.example"),
    ("ceo@\u{301}x.bank.example", "bank.example"),
    ("ceo@\u{e000}.bank.example", "bank.example"),
    ("x@evil.example, Bank <ceo@a!b.bank.example>", "bank.example,evil.example"),
    ("ceo@bank.example!x", "bank.example"),
    ("ceo@x!y", "<bad domain name>"),
    ("ceo@x!.example", "<bad domain name>"),
    ("ceo@x!.1.2", "<bad domain name>"),
    // No reader finds a domain of two labels.
    ("", "<no address>"),
    ("Test User", "<no address>"),
    ("a@[192.0.2.1]", "<address literal>"),
    ("(a@b) x", "<address in a comment>"),
    ("<a@b@c>", "<address syntax>"),
    ("a@", "<bad domain name>"),
];

#[test]
fn lenient_readings() {
    for (value, expected) in LENIENT {
        assert_eq!(read(value), *expected, "{value:?}");
    }
    assert_eq!(read(b"\x95\\\x8e\xa6 <j@bank.example>"), "bank.example");
    assert_eq!(read(b"J\xfc, X <j@ba\xffnk.example>"), "bank.example");
}

/// A name that is too long for DNS is shown as one below the author's domain all the same.
#[test]
fn names_too_long_for_dns() {
    for (length, expected) in
        [(63, format!("{}.bank.example", "x".repeat(63))), (64, "bank.example".to_owned())]
    {
        let name = format!("{}.bank.example", "x".repeat(length));
        assert_eq!(read(format!("ceo@{name}")), expected);
        assert_eq!(
            read(format!("Bank <ceo@{name}>, x@evil.example"))
                .split(',')
                .find(|domain| *domain == expected),
            Some(&*expected)
        );
    }
    // As much of the right end as a name can have: 253 octets.
    for count in [120, 121, 400, 5000] {
        let domain = read(format!("ceo@{}bank.example", "x.".repeat(count)));
        assert_eq!(domain, format!("{}bank.example", "x.".repeat(count.min(120))));
    }
}

/// Texts that are not looked at may be other domains.
#[test]
fn the_bound_on_texts_that_are_looked_at() {
    for (count, is_one) in [(998, true), (999, true), (1000, false)] {
        let handles = (0..count).map(|n| format!("@a{n} ")).collect::<String>();
        let author = author(&format!("{handles}<x@bank.example>"));
        assert_eq!(author.domains(), [Domain::parse("bank.example").unwrap()]);
        assert_eq!(matches!(author, Author::One(_)), is_one, "{count}");
    }
}

/// Readers that take white space away only around dots end a domain where two words meet (RFC 5322
/// §4.4).
#[test]
fn white_space_around_dots() {
    for (value, domains) in [
        ("x@bank. example x.evil.test", "bank.examplex.evil.test,bank.example"),
        ("x@bank .example <x@evil.test>", "evil.test,bank.example"),
        ("x@bank\r\n .\t example x.evil.test", "bank.examplex.evil.test,bank.example"),
        ("x@bank. example", "bank.example"),
    ] {
        let author = Author::from_fields(&[value]);
        let mut found: Vec<&str> = author.domains().iter().map(Domain::as_str).collect();
        let mut expected: Vec<&str> = domains.split(',').collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{value:?}");
        assert_eq!(matches!(author, Author::One(_)), expected.len() == 1, "{value:?}");
    }
}

#[test]
fn nested_comments() {
    for depth in 1..20 {
        let value = format!("{}c{} a@x.example", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(read(&value), "x.example");
        assert_eq!(parse::domains(value.as_bytes()).is_ok(), depth <= 8, "{depth}");
    }
}

#[test]
fn groups_without_members() {
    for value in ["Automated:;", "team: ;,", " \"a b\" (c) : (c) ; ", "a:;, b:;"] {
        assert_eq!(author(value), Author::NoMembers, "{value}");
    }
    assert_eq!(read("a:;, b@x.example"), "x.example");
}

#[test]
fn characters_that_reorder_or_break_never_pass() {
    for c in [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        '\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\0',
    ] {
        for value in [
            format!("x{c}y@bank.example"),
            format!("{c}x@bank.example"),
            format!("Bank <x{c}@bank.example>"),
            format!("\"x{c}y\"@bank.example"),
            format!("x@{c}bank.example"),
            format!("Bank <x@bank.example{c}>"),
            format!("x@ba{c}nk.example"),
            format!("Bank, <x@bank.example> {c}x@bank.example"),
        ] {
            let Author::Misleading(domains) = author(&value) else {
                panic!("{value:?}: {:?}", author(&value))
            };
            assert!(
                domains.as_slice().contains(&Domain::parse("bank.example").unwrap()),
                "{value:?}"
            );
        }
        // In a name they are usual, in scripts that are written from right to left.
        if !c.is_ascii() {
            assert_eq!(read(format!("\"{c}x\" <x@bank.example>")), "bank.example");
            assert!(
                matches!(author(&format!("{c}x, y <x@bank.example>")), Author::One(_)),
                "{c:?}"
            );
        }
    }
}

#[test]
fn number_of_fields() {
    assert_eq!(Author::from_fields::<&[u8]>(&[]), Author::Missing);
    let author = Author::from_fields(&["a@x.example", "nonsense", "b@y.example, c@x.example"]);
    assert!(matches!(author, Author::SeveralFields(_)));
    assert_eq!(
        author.domains(),
        [Domain::parse("x.example").unwrap(), Domain::parse("y.example").unwrap()]
    );
    let author = Author::from_fields(&["a@x.example", "a@x.example"]);
    assert!(matches!(author, Author::SeveralFields(_)));
    assert!(
        matches!(Author::from_fields(&["", ""]), Author::SeveralFields(domains) if domains.as_slice().is_empty())
    );
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

/// Of a megabyte of any content each octet is stepped over a few times: a quadratic reader would
/// do so a hundred thousand times.
/// The first and the last are also looked at for themselves.
#[test]
fn places_are_bounded() {
    for (count, has_more) in [(15_997, false), (15_998, false), (15_999, true)] {
        let author = author(&"b@x.example ".repeat(count));
        assert_eq!(author.has_more_domains(), has_more, "{count}");
        assert_eq!(author.domains()[0].as_str(), "x.example");
    }
}

#[test]
fn a_megabyte_is_read_in_one_pass() {
    let million = |text: &str| text.repeat(1_000_000 / text.len());
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
        format!("a@!{}", million("x.")),
        format!("a@!.{}", million("\u{fc}.")),
        (0..4000).map(|n| format!("a@{n}!.{},", "x.".repeat(120))).collect(),
        (0..2000).map(|n| format!("a@{n}!.{},", "\u{fc}.".repeat(120))).collect(),
        million("\""),
        million("\"\" "),
        million("\\"),
        million("<"),
        million("a:;,"),
        million("\r\n a"),
        million("=?"),
        million("\u{fc}"),
        million("@"),
        million("\"@"),
        million("a@x.example "),
        million("=?utf-8?q?=40=40=40=40=40=40?= "),
    ] {
        let before = WORK.get();
        let author = author(&value);
        let times = (WORK.get() - before).div_ceil(value.len());
        assert!(times <= 16, "{times} times: {:?}", value.chars().take(20).collect::<String>());
        assert!(author.domains().len() <= MAX_AUTHOR_DOMAINS);
    }
}

/// The value without its quoted strings and comments: a second, much simpler reader.
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
        let text = after
            .trim_start()
            .split([',', '>', ';', ' ', '\t', '\r', '\n'])
            .next()
            .unwrap_or_default();
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
    (display_name(), cfws(), local, cfws(), cfws(), "[a-d]\\.example", cfws(), any::<bool>())
        .prop_map(|(name, c1, local, c2, c3, domain, c4, bare)| {
            let address = format!("{c1}{local}{c2}@{c3}{domain}{c4}");
            (if bare { address } else { format!("{name}<{address}>") }, domain)
        })
}

/// Pieces of addresses, put together without regard to any grammar.
fn confusing() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-c]{1,2}\\.(com|co|m)",
        3 => Just("a@b.com".to_owned()),
        2 => Just("<x@c.co>".to_owned()),
        6 => "[@<>()\",;: .\\\\\\[\\]'x]",
        1 => Just("\r\n ".to_owned()),
        1 => Just("=?utf-8?q?x=40a.com?=".to_owned()),
        1 => Just("=?utf-8?b?eEBiLmNv?= ".to_owned()),
        1 => Just("\u{2039}x@a.co\u{203a}".to_owned()),
        1 => Just("Acme ".to_owned()),
    ];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Fields by the grammar are read, and the domains are the ones that were put in.
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
        // A lookalike at the very end folds nothing.
        let value = value.trim_end();
        match parse::domains(value.as_bytes()) {
            Ok(reading) => prop_assert_eq!(reading.domains.as_slice(), domains.as_slice(), "{:?}", value),
            Err(reason) => prop_assert_eq!(reason, Malformed::AmbiguousQuotes, "{:?}", value),
        }
        let author = author(value);
        prop_assert!(domains.iter().all(|domain| author.domains().contains(domain)), "{:?}", value);
    }

    /// For any input: no panic, and where domains come out, the second reader sees the same ones
    /// and no others.
    #[test]
    fn agrees_with_a_second_reader(value in "[ab.,:;<>@()\"\\\\\\[\\] \r\n\t\u{0}=?é]{0,24}") {
        if let Ok(reading) = parse::domains(value.as_bytes()) {
            prop_assert_eq!(reading.domains.as_slice().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    #[test]
    fn likely_attacks_agree_too(
        value in "(a|b|@|<|>|\"|\\(|\\)|,|;|:| |\\\\|a@b|<a@b>|\"a@b\"|\\(c\\)|\r\n |=\\?b\\?YQ\\?=){0,10}"
    ) {
        if let Ok(reading) = parse::domains(value.as_bytes()) {
            prop_assert_eq!(reading.domains.as_slice().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    /// One character of a good field is replaced: a field that can still be read is read alike.
    #[test]
    fn mutations_agree_too(
        mailboxes in prop::collection::vec(mailbox(), 1..4), place in any::<prop::sample::Index>(), with in "[@<>\"\\\\(),;: a\r\n]"
    ) {
        let list = mailboxes.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
        let place = place.index(list.len());
        let value = format!("{}{with}{}", &list[..place], &list[place + 1..]);
        if let Ok(reading) = parse::domains(value.as_bytes()) {
            prop_assert_eq!(reading.domains.as_slice().to_vec(), bare_domains(&value), "{:?}", value);
        }
    }

    /// The domains found include those that any of the simple readers finds in a field that is not
    /// well-formed.
    #[test]
    fn no_reader_sees_another_domain(value in confusing()) {
        if parse::domains(value.as_bytes()).is_ok() {
            return Ok(());
        }
        let author = author(&value);
        for (name, reader) in readers::ALL {
            for found in reader(&value) {
                prop_assert!(author.domains().contains(&found), "{} reads {} in {:?}, we {:?}", name, found, value, author);
            }
        }
    }

    /// The same for what is well-formed, but for what is in quotes: display names are not looked
    /// at.
    #[test]
    fn no_reader_sees_another_domain_outside_of_quotes(value in confusing()) {
        let author = author(&value);
        if value.contains(['"', '=']) || author.domains().len() == MAX_AUTHOR_DOMAINS {
            return Ok(());
        }
        for (name, reader) in readers::ALL {
            for found in reader(&value) {
                prop_assert!(author.domains().contains(&found), "{} reads {} in {:?}, we {:?}", name, found, value, author);
            }
        }
    }

    #[test]
    fn octets_never_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Author::from_fields(&[&value]);
    }
}
