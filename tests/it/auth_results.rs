//! Authentication-Results fields that are written read back, and those of others are read.

use proptest::prelude::*;
use spf_milter::mail::{
    auth_results::{
        AuthenticationResults, AuthservIdPattern, Keyword, MethodResult, Property,
        claims_authserv_id,
    },
    lexer::ParseErrorKind,
    tokens,
};
use testkit::{auth_results::read, fields::check_lines};

fn parse(value: &str) -> AuthenticationResults {
    read(value.as_bytes()).unwrap_or_else(|error| panic!("{value:?}: {error}"))
}

fn error(value: &str) -> ParseErrorKind {
    read(value.as_bytes()).unwrap_err().kind
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
    results.results.push(MethodResult {
        reason: Some("more than one SPF record".into()),
        properties: vec![Property::new("smtp", "helo", "client.example")],
        ..MethodResult::new("spf", "permerror")
    });
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
        let reason = Some(reason.to_owned());
        results.results.push(MethodResult { reason, ..MethodResult::new("iprev", "fail") });
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
    let patterns =
        ["mail.receiver.example".parse().unwrap(), ".receiver.example".parse().unwrap()].into();
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
            let _ = read(value.as_bytes());
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
        let patterns = ["a.example".parse().unwrap(), ".x".parse().unwrap()].into();
        for value in [value.as_slice(), text.as_bytes()] {
            let _ = read(value);
            let _ = claims_authserv_id(value, &patterns);
        }
    }

    #[test]
    fn our_own_id_is_found_in_our_fields(authserv_id in text(), version: u32, results in prop::collection::vec(method_result(), 0..3)) {
        if let Ok(pattern) = authserv_id.strip_prefix('.').unwrap_or(&authserv_id).parse::<AuthservIdPattern>() {
            prop_assume!(!authserv_id.starts_with('.'));
            let field = AuthenticationResults { authserv_id, version, results }.write();
            prop_assert!(claims_authserv_id(field.value.as_bytes(), &[pattern].into()), "{}", field.value);
        }
    }

    #[test]
    fn fields_of_others_stay(results in prop::collection::vec(method_result(), 0..3), authserv_id in "[a-z]{1,9}\\.[a-z]{1,9}") {
        let field = AuthenticationResults { authserv_id, version: 1, results }.write();
        prop_assert!(!claims_authserv_id(field.value.as_bytes(), &["mail.receiver.example".parse().unwrap()].into()), "{}", field.value);
    }
}
