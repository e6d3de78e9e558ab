use super::*;
use crate::mail::tokens;
use crate::mail::{header_field::check_lines, lexer::ParseErrorKind};
use proptest::prelude::*;

fn parse(value: &str) -> AuthenticationResults {
    AuthenticationResults::parse(value.as_bytes())
        .unwrap_or_else(|error| panic!("{value:?}: {error}"))
}

fn error(value: &str) -> ParseErrorKind {
    AuthenticationResults::parse(value.as_bytes()).unwrap_err().kind
}

fn spf(value: &str) -> String {
    let mut results = AuthenticationResults::new("mx.example");
    results.results.push(
        MethodResult::new("spf", "pass").with_property(Property::new("smtp", "mailfrom", value)),
    );
    let field = results.write();
    check_lines(&field);
    assert_eq!(parse(&field.value), results);
    field.value.split_once("smtp.mailfrom=").unwrap().1.to_owned()
}

#[test]
fn fields_are_written_by_the_grammar() {
    let mut results = AuthenticationResults::new("mail.receiver.example");
    assert_eq!(results.write().value, "mail.receiver.example; none");
    results.results.push(
        MethodResult::new("spf", "permerror")
            .with_reason("more than one SPF record")
            .with_property(Property::new("smtp", "helo", "client.example")),
    );
    results.results.push(
        MethodResult::new("dkim", "pass")
            .with_comment("2048 bits")
            .with_property(Property::new("header", "d", "example.com"))
            .with_property(Property::new("header", "s", "sel")),
    );
    results.results.push(
        MethodResult::new("iprev", "pass").with_property(
            Property::new("policy", "iprev", "2001:db8::1").with_comment("a.example"),
        ),
    );
    let field = results.write();
    assert_eq!(field.name, "Authentication-Results");
    let expected = concat!(
        "mail.receiver.example;\n",
        " spf=permerror reason=\"more than one SPF record\" smtp.helo=client.example;\n",
        " dkim=pass (2048 bits) header.d=example.com header.s=sel;\n",
        " iprev=pass policy.iprev=\"2001:db8::1\" (a.example)",
    );
    assert_eq!(field.value, expected);
    assert_eq!(parse(&field.value), results);
}

#[test]
fn addresses_stay_bare_where_they_may() {
    for bare in [
        "example.com",
        "foo_bar.example.com",
        "localhost",
        "u@example.com",
        "u+tag=x@example.com",
        "a/b=c@x-y.example.com",
        "@example.com",
        "user",
    ] {
        assert_eq!(spf(bare), bare);
    }
    for (value, written) in [
        ("a b@example.com", "\"a b@example.com\""),
        ("a@b@example.com", "\"a@b@example.com\""),
        ("very..dots@example.com", "\"very..dots@example.com\""),
        ("u@[192.0.2.1]", "\"u@[192.0.2.1]\""),
        ("u;x@example.com", "\"u;x@example.com\""),
        ("a(b)@example.com", "\"a(b)@example.com\""),
        ("(b)a@example.com", "\"\\\\x{28}b)a@example.com\""),
        ("(", "\"\\\\x{28}\""),
        ("example.net(.example.com", "\"example.net(.example.com\""),
        ("\"a b\"@example.com", "\"\\\\x{22}a b\\\\x{22}@example.com\""),
        ("\"a\\\"b\"@example.com", "\"\\\\x{22}a\\\\\\\\x{22}b\\\\x{22}@example.com\""),
        ("\"a\"b\"@example.com", "\"\\\\x{22}a\\\\x{22}b\\\\x{22}@example.com\""),
        ("\"a\\\"@example.com", "\"\\\\x{22}a\\\\\\\\x{22}@example.com\""),
        ("a\nX-Evil: 1@example.com", "\"a\\\\x{A}X-Evil: 1@example.com\""),
        ("ü@example.com", "\"\\\\x{FC}@example.com\""),
        ("=?utf-8?q?x?=@example.com", "\"\\\\x{3D}?utf-8?q?x?=@example.com\""),
        // No domain-name of RFC 6376 §3.1.
        ("a@localhost", "\"a@localhost\""),
        ("a@foo_bar.example", "\"a@foo_bar.example\""),
        ("a@-foo.example", "\"a@-foo.example\""),
        ("a@foo-.example", "\"a@foo-.example\""),
        ("a@example.com.", "\"a@example.com.\""),
        // Readers cut at dots, and take some characters for the end of a value or the beginning of
        // another.
        ("a..b", "\"a..b\""),
        (".a", "\".a\""),
        ("a.", "\"a.\""),
        ("/a@example.com", "\"/a@example.com\""),
        ("=a@example.com", "\"=a@example.com\""),
        ("a==b@example.com", "\"a==b@example.com\""),
        ("a.=b@example.com", "\"a.=b@example.com\""),
        ("", "\"\""),
        ("@", "\"@\""),
    ] {
        assert_eq!(spf(value), written);
    }
}

#[test]
fn reasons_with_dots_are_quoted() {
    for (reason, written) in
        [("NXDOMAIN", "NXDOMAIN"), ("b.example", "\"b.example\""), ("a b", "\"a b\""), ("", "\"\"")]
    {
        let mut results = AuthenticationResults::new("mx.example");
        results.results.push(MethodResult::new("iprev", "fail").with_reason(reason));
        let field = results.write();
        assert_eq!(field.value, format!("mx.example; iprev=fail reason={written}"));
        assert_eq!(parse(&field.value), results);
    }
}

#[test]
fn comments_end_where_they_end_for_everybody() {
    let mut results = AuthenticationResults::new("mx.example");
    results.results.push(MethodResult::new("spf", "pass").with_comment("a) (b;dmarc=pass \"c\""));
    let field = results.write();
    assert_eq!(field.value, "mx.example;\n spf=pass (a\\\\x{29} \\\\x{28}b;dmarc=pass \"c\")");
    assert_eq!(parse(&field.value), results);
}

#[test]
fn keywords_are_tamed() {
    assert_eq!(Keyword::new("pass"), "pass");
    assert_eq!(Keyword::new("Pa ss;\n"), "pa-ss--");
    assert_eq!(Keyword::new(""), "-");
    assert_eq!(Keyword::parse("DKIM").unwrap(), "dkim");
    assert_eq!(Keyword::parse("a b"), None);
    assert_eq!(Keyword::parse(&"a".repeat(65)), None);
}

#[test]
fn comments_and_folding_may_be_anywhere() {
    let plain = parse("foo.example.net 1; dkim=pass reason=\"good\" header.i=@example.com");
    let odd = parse(
        " (a (b\\)) c)\r\n foo.example.net (d) 1\n (e) ; (f) DKIM (g) / (h) 1 (i) = (j) Pass\n reason (l) = (m) \"good\" (n) header (o) . (p) i (q) = (r) @example.com (s)",
    );
    assert_eq!(odd.results[0].comment.as_deref(), Some("n"));
    assert_eq!(odd.results[0].properties[0].comment.as_deref(), Some("s"));
    let mut bare = odd;
    bare.results[0].comment = None;
    bare.results[0].properties[0].comment = None;
    assert_eq!(bare, plain);
}

#[test]
fn fields_of_others_are_read() {
    // Without authserv-id and with a property without type, as Exchange Online writes it.
    let results = parse(
        " spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=example.net; dkim=timeout\r\n header.d=example.net;dmarc=pass action=none header.from=example.net;compauth=pass reason=100",
    );
    assert_eq!(results.authserv_id, "");
    assert_eq!(results.results.len(), 4);
    assert_eq!(results.results[0].comment.as_deref(), Some("sender IP is 192.0.2.1"));
    assert_eq!(results.results[2].properties[0].ptype, None);
    assert_eq!(results.results[3].reason.as_deref(), Some("100"));
    assert_eq!(parse("dkim/1=pass").results[0].method, "dkim");
    // A `;` too many, `none` with and without company, no results at all.
    assert_eq!(parse("x; auth=pass (cram-md5) smtp.auth=u@example.com;").results.len(), 1);
    assert_eq!(parse("x; ;; none").results.len(), 0);
    assert_eq!(parse("x; none (not checked)").results.len(), 0);
    assert_eq!(parse("x; none=pass").results.len(), 1);
    assert_eq!(parse("x 1").results.len(), 0);
    assert_eq!(parse(""), AuthenticationResults::new(""));
    assert_eq!(parse("x/1; none").authserv_id, "x");
    assert_eq!(parse("x 2; none").version, 2);
    assert_eq!(parse("\"a/b\"; none").authserv_id, "a/b");
    // Values that want quotes; UTF-8; an unknown method of another version.
    let results = parse(
        "éxample.org; new/3=fine smtp.mailfrom=<é@b.example> a.b=\"c;d\" e.f=2001:db8::1 g.h=\"x y\"@z.example",
    );
    assert_eq!(results.authserv_id, "éxample.org");
    assert_eq!(results.results[0].method_version, 3);
    let values: Vec<_> =
        results.results[0].properties.iter().map(|property| property.value.as_str()).collect();
    assert_eq!(values, ["<é@b.example>", "c;d", "2001:db8::1", "\"x y\"@z.example"]);
}

#[test]
fn unreadable_fields_are_refused() {
    assert_eq!(error("x; spf=pass (oops"), ParseErrorKind::UnterminatedComment);
    assert_eq!(error("x; spf=pass a.b=\"oops"), ParseErrorKind::UnterminatedQuotedString);
    assert_eq!(error("x; spf=pass a.b=\"o\u{0}ps\""), ParseErrorKind::ControlCharacter);
    assert_eq!(error("x;\nspf=pass"), ParseErrorKind::ControlCharacter);
    assert_eq!(error("x; spf"), ParseErrorKind::Unexpected);
    assert_eq!(error("x y; spf=pass"), ParseErrorKind::Unexpected);
    assert_eq!(error("x; =pass"), ParseErrorKind::NoWord);
    assert_eq!(error("x; spf="), ParseErrorKind::NoWord);
    assert_eq!(error("x 99999999999; none"), ParseErrorKind::Unexpected);
}

/// Inputs of a megabyte, each the worst for some part of the reader. Anything but linear time would
/// not end.
#[test]
fn large_and_hostile_values_are_read_in_linear_time() {
    let patterns = ["mail.receiver.example".parse().unwrap(), ".receiver.example".parse().unwrap()];
    let repeat = |text: &str| text.repeat(1_000_000 / text.len());
    for unit in [
        "(",
        "()",
        "\"",
        "\\",
        ";",
        "a",
        ".",
        "=",
        "/",
        "é",
        "\u{0}",
        " ",
        "\n ",
        "(\\",
        "x; a=b c.d=e ",
        "a=b;",
        "\"a\"",
        "mail.receiver.exampl",
        "\u{ad}",
        "xn--bcher-kva.",
    ] {
        for start in ["", "x; a=b ", "mail"] {
            let value = start.to_owned() + &repeat(unit);
            let _ = AuthenticationResults::parse(value.as_bytes());
            let _ = claims_authserv_id(value.as_bytes(), &patterns);
        }
    }
    // These would take a table, which is slow in a test.
    for unit in ["u\u{308}", "\u{5d0}.", "\u{ff58}\u{ff4e}\u{ff0d}\u{ff0d}bcher-kva\u{3002}"] {
        let value = ["x y ", &unit.repeat(100_000 / unit.len())].concat();
        assert!(!claims_authserv_id(value.as_bytes(), &patterns));
    }
    let value = format!("x;{}", repeat(" a=b;"));
    assert_eq!(parse(&value).results.len(), 200_000);
}

fn ours(value: &[u8]) -> bool {
    claims_authserv_id(value, &["mail.receiver.example".parse().unwrap()])
}

#[test]
fn our_id_is_found_however_it_is_spelt() {
    let long = format!("({}) mail.receiver.example; none", "c ".repeat(32 * 1024));
    let soft_hyphens = |count| format!("mail.rec{}eiver.example; none", "\u{ad}".repeat(count));
    let long_after = format!("mail.receiver.example; spf=pass ({})", "c ".repeat(32 * 1024));
    for value in [
        "mail.receiver.example; spf=pass",
        "mail.receiver.example;none",
        " MAIL.Receiver.Example ; none",
        "\n mail.receiver.example\n ; none",
        "\r\n\tmail.receiver.example\r\n\t; none",
        "(c (n) \\) (m)) mail.receiver.example; none",
        "(c)(d)\n (e)mail.receiver.example(f); none",
        "\"mail.receiver.example\"; none",
        "\"mail.rec\\eiver.example\"; none",
        "\"mail.receiver.example\" 1; none",
        "\"\\\\x{6D}ail.receiver.example\"; none",
        "mail.receiver.example 1; none",
        "mail.receiver.example 1(c);",
        "mail.receiver.example (c) 1",
        "mail.receiver.example 2; none",
        "mail.receiver.example/1; none",
        "mail.receiver.example / 1; none",
        "mail.receiver.example x; none",
        "mail.receiver.example.; none",
        "mail.receiver.example..; none",
        "mail.receiver.example\u{3002}; none",
        "ｍａｉｌ.receiver.example; none",
        "ma\u{ad}il.receiver.example; none",
        "mail.receiver.example",
        "mail.receiver.example none",
        "mail.receiver.example spf=pass",
        "mail.receiver.example=pass",
        "mail.receiver.example(",
        "mail.receiver.example; spf=pass (",
        &soft_hyphens(1),
        &soft_hyphens(499),
        &soft_hyphens(500),
        &soft_hyphens(50_000),
        "ma\u{200c}il.receiver.example; none",
        "mail.rec\u{200d}eiver.example; none",
        "mail.receiver.exa\u{200e}mple; none",
        "mail.receiver.\u{202e}example\u{feff}; none",
        "\"m\u{fe0f}ail.receiver.example\"; none",
        &long,
        &long_after,
    ] {
        assert!(ours(value.as_bytes()), "{value:?}");
    }
}

#[test]
fn doubtful_fields_are_ours() {
    let values: &[&[u8]] = &[
        b"",
        b" \n ",
        b"(only a comment)",
        b";",
        b";mail.receiver.example",
        b"; spf=pass",
        b"(unterminated mail.receiver.example; none",
        b"(unterminated",
        b"\"mail.receiver.example; none",
        b"\"unterminated\\",
        b"\"\"; none",
        b"mail.receiver.example\x01; none",
        b"mail.rec\x00eiver.example; none",
        b"\x00",
        b"\nmail.receiver.example; none",
        b"\r mail.receiver.example; none",
        b"mail.receiver.example\rx; none",
        b"=?utf-8?q?mail.receiver.example?=; none",
        b"=?utf-8?b?bWFpbC5yZWNlaXZlci5leGFtcGxl?=; none",
        b"\"=?utf-8?b?bWFpbC5yZWNlaXZlci5leGFtcGxl?=\"; none",
        b"mail.receiver.example\xa0; none",
        b"m\xffail.receiver.example; none",
        "mail.receiver.example\u{a0}; none".as_bytes(),
        b"mail . receiver . example; none",
        b"(c)mail.(x)receiver.example;none",
        b"mail.receiver.\"example\"; none",
        b"\" mail.receiver.example \"; none",
        b"\"mail.\n receiver.example\"; none",
        b"\"mail.receiver.example;\" x",
        b"mail.rec\\eiver.example; none",
        b"<mail.receiver.example>; none",
        b"[mail.receiver.example]; none",
        b"foreign.example, mail.receiver.example; none",
        b"foreign.example mail.receiver.example; none",
        b"foreign.example (mail.receiver.example",
        b"i=1; mail.receiver.example; spf=pass",
        // Ours behind another id, or behind results.
        b"foreign.example; spf=none\n mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=none\r\n\tmail.receiver.example; dmarc=pass",
        b"foreign.example; none; mail.receiver.example; dmarc=pass",
        b"spf=pass smtp.mailfrom=a.example; mail.receiver.example; dkim=pass;mail.receiver.example; dmarc=pass",
        b"foreign.example;; mail.receiver.example; dmarc=pass",
        b"foreign.example; mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass, mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass smtp.mailfrom=a,mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass mail.receiver.example=x; dmarc=pass",
        b"foreign.example; spf=pass x=mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass \"mail.receiver.example\"; dmarc=pass",
        b"foreign.example; spf=pass smtp.helo=\"x\"mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass (mail.receiver.example",
        b"foreign.example; spf=pass smtp.helo=\"mail.receiver.example; dmarc=pass",
        b"foreign.example; spf=pass reason=x reason=mail.receiver.example",
        b"foreign.example; spf=pass\x00; mail.receiver.example",
        b"foreign.example; spf=none mail.rec\xffeiver.example; dmarc=pass",
        b"foreign.example; spf=none =?utf-8?b?bWFpbC5yZWNlaXZlci5leGFtcGxl?=; dmarc=pass",
        b"foreign.example (mail.receiver.example)",
        b"foreign.example/1; spf=pass smtp.helo=mail.receiver.example",
        " foo \u{ff4d}\u{ff41}\u{ff49}\u{ff4c}.receiver.example; dmarc=pass".as_bytes(),
        " foo ma\u{ad}il\u{ff0e}receiver\u{3002}\u{ff45}xample; dmarc=pass".as_bytes(),
        " foo \u{1d426}ail.rec\u{200d}eiver.example; dmarc=pass".as_bytes(),
    ];
    for value in values {
        assert!(ours(value), "{:?}", String::from_utf8_lossy(value));
    }
}

#[test]
fn foreign_fields_are_left_alone() {
    let long = format!("foreign.example; spf=pass ({})", "mail.receiver.example ".repeat(3000));
    for value in [
        "foreign.example; spf=pass",
        "foreign.example 1; spf=pass smtp.mailfrom=u@mail.receiver.example",
        "foreign.example (mail.receiver.example); none",
        "foreign.example; spf=pass (mail.receiver.example);",
        "foreign.example; x-y/2=pass (a) reason = \"mail.receiver.example\" (b)\n smtp . helo = mail.receiver.example ; none=none",
        "foreign.example; iprev=pass policy.iprev=2001:db8::1 (mail.receiver.example)",
        "foreign.example; spf=pass smtp.mailfrom=\"a b\"@mail.receiver.example smtp.helo=\"mail.receiver.example\"; dkim=none",
        "foreign.example; dkim=pass header.i=@mail.receiver.example header.b=a/b+c=",
        "bücher.example 1; spf=pass smtp.mailfrom=ü@mail.receiver.example",
        "(mail.receiver.example) foreign.example; none",
        "\"foreign.example\"; none",
        "receiver.example; none",
        "x.mail.receiver.example; none",
        "mail.receiver.examplex; none",
        "mail.receiver.example.foreign.example; none",
        "xmail.receiver.example; none",
        "none",
        "spf=pass smtp.mailfrom=mail.receiver.example; dkim=none",
        "dkim/1=pass",
        "bücher.example; none",
        "foreign.example x; none",
        &long,
    ] {
        assert!(!ours(value.as_bytes()), "{value:?}");
    }
    assert!(!claims_authserv_id(b"(unterminated", &[]));
}

#[test]
fn patterns() {
    let pattern = |text: &str| text.parse::<AuthservIdPattern>();
    let below = [pattern(".Example.COM").unwrap()];
    assert!(claims_authserv_id(b"a.b.example.com; none", &below));
    assert!(claims_authserv_id(b"a . example.com; none", &below));
    assert!(!claims_authserv_id(b"example.com; none", &below));
    assert!(!claims_authserv_id(b".example.com; none", &below));
    assert!(!claims_authserv_id(b"badexample.com; none", &below));
    let idn = [pattern("xn--bcher-kva.example").unwrap()];
    for value in [
        "bücher.example; none",
        "BÜCHER.example; none",
        "bu\u{308}cher.example.; none",
        "\"XN--bcher-kva.example\"",
        "bücher . example;",
    ] {
        assert!(claims_authserv_id(value.as_bytes(), &idn), "{value}");
    }
    let odd = [pattern("a/b").unwrap(), pattern("mx1").unwrap()];
    assert!(claims_authserv_id(b"\"A/b\"; none", &odd));
    assert!(claims_authserv_id(b"a/b; none", &odd));
    assert!(!claims_authserv_id(b"a; none", &odd));
    assert!(claims_authserv_id(b"MX1; none", &odd));
    assert!(claims_authserv_id(b"mx1=pass", &odd));
    assert_eq!(below[0].to_string(), ".example.com");
    assert_eq!(pattern("Bücher.example.").unwrap(), idn[0]);
    assert!(idn[0].matches("bücher.example"));
    assert_eq!(pattern(""), Err(AuthservIdPatternError::Empty));
    assert_eq!(pattern("."), Err(AuthservIdPatternError::Empty));
    assert_eq!(pattern("..a"), Err(AuthservIdPatternError::BadDomain));
    assert_eq!(pattern("a b").unwrap().to_string(), "a b");
    assert_eq!(pattern("a\u{7f}b"), Err(AuthservIdPatternError::BadCharacter));
    assert_eq!(pattern(&"a".repeat(1000)), Err(AuthservIdPatternError::TooLong));
}

/// An id that is no token is none of a field by the grammar, and is found all the same.
#[test]
fn ids_that_are_no_tokens() {
    for (id, value) in [
        ("mx example", " mx example; spf=pass"),
        ("mx example", "foreign.example mxexample; spf=pass"),
        ("a(b)c", "x a(b)c; spf=pass"),
        ("a\"b", "x a\"b; spf=pass"),
    ] {
        assert!(claims_authserv_id(value.as_bytes(), &[AuthservIdPattern::exact(id)]), "{value}");
    }
    assert!(!claims_authserv_id(b" mx; spf=pass", &[AuthservIdPattern::exact("mx example")]));
}

#[test]
fn arc_fields() {
    let ours = |value: &str| {
        arc_claims_authserv_id(value.as_bytes(), &["mail.receiver.example".parse().unwrap()])
    };
    for value in [
        "i=1; mail.receiver.example; dmarc=pass",
        " I = 50 (c);\n mail.receiver.example 1; none",
        "i=0; mail.receiver.example; none",
        "i=99999999999999999999; mail.receiver.example; none",
        "i=; mail.receiver.example; none",
        "i=x; mail.receiver.example; none",
        "mail.receiver.example; none",
        "i=1 mail.receiver.example; none",
        "i=1; i=2; mail.receiver.example; none",
        "i=1; foreign.example; none; mail.receiver.example; none",
        "i=1;",
        "i=1; (",
        "",
    ] {
        assert!(ours(value), "{value:?}");
    }
    for value in [
        "i=1; foreign.example; spf=pass smtp.helo=mail.receiver.example",
        "i=1; mail.receiver.example.foreign.example; none",
        "i=2; foreign.example; none",
        "i=1; foreign.example x; none",
        "foreign.example; none",
    ] {
        assert!(!ours(value), "{value:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        "[ -~]{0,60}",
        "[\\x00-\\x20\\\\\"();=?@./ax{}é\u{fffd}]{0,60}",
        "[a-z\"\\\\ ]{0,20}@[a-z.]{1,20}",
        "[a-z.@\\\\\" ]{0,2000}",
    ]
}

fn property() -> impl Strategy<Value = Property> {
    ("[a-z]{1,9}", "[a-z-]{1,9}", text(), prop::option::of(text()), any::<bool>()).prop_map(
        |(ptype, property, value, comment, with_type)| {
            // Without a type, "reason" would be the reason.
            let property = Keyword::parse(&format!("x{property}")).unwrap();
            Property {
                ptype: Keyword::parse(&ptype).filter(|_| with_type),
                property,
                value,
                comment,
            }
        },
    )
}

fn method_result() -> impl Strategy<Value = MethodResult> {
    let texts = (
        prop::option::of(text()),
        prop::option::of(text()),
        prop::collection::vec(property(), 0..4),
    );
    ("[a-z]{1,9}", 0_u32.., "[a-z]{1,9}", texts).prop_map(
        |(method, method_version, result, (comment, reason, properties))| MethodResult {
            method: Keyword::parse(&method).unwrap(),
            method_version,
            result: Keyword::parse(&result).unwrap(),
            comment,
            reason,
            properties,
        },
    )
}

fn is_token_character(c: char) -> bool {
    u8::try_from(c).is_ok_and(tokens::is_token_octet)
}

fn shortened(text: &str) -> String {
    tokens::shorten(text).into_owned()
}

/// The values as they are cut where they are too long for a line.
fn limited(results: &AuthenticationResults) -> AuthenticationResults {
    let comment = |text: &mut Option<String>| {
        *text =
            text.take().map(|text| text.split(' ').map(shortened).collect::<Vec<_>>().join(" "));
    };
    let mut results = results.clone();
    results.authserv_id = shortened(&results.authserv_id);
    for result in &mut results.results {
        comment(&mut result.comment);
        result.reason = result.reason.take().map(|text| shortened(&text));
        for property in &mut result.properties {
            property.value = shortened(&property.value);
            comment(&mut property.comment);
        }
    }
    results
}

proptest! {
    #[test]
    fn fields_read_back(authserv_id in text(), version: u32, results in prop::collection::vec(method_result(), 0..4)) {
        let results = AuthenticationResults { authserv_id, version, results };
        let field = results.write();
        check_lines(&field);
        prop_assert_eq!(parse(&field.value), limited(&results), "{}", field.value);
    }

    #[test]
    fn nothing_panics(value: Vec<u8>, text in "[\\x00-\\x20\\\\\"();=?@./1ax{}é\n]{0,60}") {
        let patterns = ["a.example".parse().unwrap(), ".x".parse().unwrap()];
        for value in [value.as_slice(), text.as_bytes()] {
            let _ = AuthenticationResults::parse(value);
            let _ = claims_authserv_id(value, &patterns);
        }
    }

    #[test]
    fn our_own_id_is_found_in_our_fields(authserv_id in text(), version: u32, results in prop::collection::vec(method_result(), 0..3)) {
        if let Ok(pattern) = authserv_id.strip_prefix('.').unwrap_or(&authserv_id).parse::<AuthservIdPattern>() {
            prop_assume!(!authserv_id.starts_with('.'));
            let field = AuthenticationResults { authserv_id, version, results }.write();
            prop_assert!(claims_authserv_id(field.value.as_bytes(), &[pattern]), "{}", field.value);
        }
    }

    #[test]
    fn our_own_id_is_found_in_any_disguise(
        before in "( |\n |\r\n\t|\\((a|\\\\\\)|\\(\"?\\)|é)*\\)){0,5}",
        after in "(\\.{0,2}|\"?)( |\n |\\(\\(b\\)\\)|/1| 1|;| x|=|;none|\\(|\"|\\\\|[,<>@:\\[?]){0,5}",
        noise in prop::collection::vec("(|||\\\\)", 21),
        shout: [bool; 21],
        quoted: bool,
    ) {
        let mut id = String::new();
        for ((c, noise), shout) in "mail.receiver.example".chars().zip(noise).zip(shout) {
            id.push_str(if quoted { &noise } else { "" });
            id.push(if shout { c.to_ascii_uppercase() } else { c });
        }
        let id = if quoted { format!("\"{id}\"") } else { id };
        // A letter or digit right behind the id makes it another one.
        prop_assume!(quoted || !after.trim_start_matches('.').starts_with(|c: char| c.is_alphanumeric() || is_token_character(c)));
        let value = before + &id + &after;
        prop_assert!(ours(value.as_bytes()), "{value:?}");
    }

    #[test]
    fn fields_of_others_stay(results in prop::collection::vec(method_result(), 0..3), authserv_id in "[a-z]{1,9}\\.[a-z]{1,9}") {
        let field = AuthenticationResults { authserv_id, version: 1, results }.write();
        prop_assert!(!claims_authserv_id(field.value.as_bytes(), &["mail.receiver.example".parse().unwrap()]), "{}", field.value);
    }
}
