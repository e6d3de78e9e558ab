use super::*;
use crate::mail::tokens;
use proptest::prelude::*;

#[test]
fn keywords_are_tamed() {
    assert_eq!(Keyword::new("pass"), "pass");
    assert_eq!(Keyword::new("Pa ss;\n"), "pa-ss--");
    assert_eq!(Keyword::new(""), "-");
    assert_eq!(Keyword::parse("DKIM").unwrap(), "dkim");
    assert_eq!(Keyword::parse("a b"), None);
    assert_eq!(Keyword::parse(&"a".repeat(65)), None);
}

fn ours(value: &[u8]) -> bool {
    claims_authserv_id(value, &["mail.receiver.example".parse().unwrap()].into())
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
        // No domain behind the `@`.
        b"foreign.example; dkim=pass header.i=\"x\"@ header.d=mail.receiver.example",
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
fn foreign_fields_stay() {
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
    assert!(!claims_authserv_id(b"(unterminated", &OwnAuthservIds::default()));
}

#[test]
fn patterns() {
    let pattern = |text: &str| text.parse::<AuthservIdPattern>();
    let one = |text: &str| OwnAuthservIds::from([pattern(text).unwrap()]);
    let below = one(".Example.COM");
    assert!(claims_authserv_id(b"a.b.example.com; none", &below));
    assert!(claims_authserv_id(b"a . example.com; none", &below));
    assert!(!claims_authserv_id(b"example.com; none", &below));
    assert!(!claims_authserv_id(b".example.com; none", &below));
    assert!(!claims_authserv_id(b"badexample.com; none", &below));
    let idn = one("xn--bcher-kva.example");
    for value in [
        "bücher.example; none",
        "BÜCHER.example; none",
        "bu\u{308}cher.example.; none",
        "\"XN--bcher-kva.example\"",
        "bücher . example;",
    ] {
        assert!(claims_authserv_id(value.as_bytes(), &idn), "{value}");
    }
    let odd = [pattern("a/b").unwrap(), pattern("mx1").unwrap()].into();
    assert!(claims_authserv_id(b"\"A/b\"; none", &odd));
    assert!(claims_authserv_id(b"a/b; none", &odd));
    assert!(!claims_authserv_id(b"a; none", &odd));
    assert!(claims_authserv_id(b"MX1; none", &odd));
    assert!(claims_authserv_id(b"mx1=pass", &odd));
    assert_eq!(pattern(".Example.COM").unwrap().to_string(), ".example.com");
    let idn = pattern("xn--bcher-kva.example").unwrap();
    assert_eq!(pattern("Bücher.example.").unwrap(), idn);
    assert!(idn.matches("bücher.example"));
    assert_eq!(pattern(""), Err(AuthservIdPatternError::Empty));
    assert_eq!(pattern("."), Err(AuthservIdPatternError::Empty));
    assert_eq!(pattern("..a"), Err(AuthservIdPatternError::BadDomain));
    assert_eq!(pattern("a b").unwrap().to_string(), "a b");
    assert_eq!(pattern("a\u{7f}b"), Err(AuthservIdPatternError::BadCharacter));
    assert_eq!(pattern(&"a".repeat(1000)), Err(AuthservIdPatternError::TooLong));
}

/// An id that is not a token is not in a field by the grammar, and is found all the same.
#[test]
fn ids_that_are_not_tokens() {
    for (id, value) in [
        ("mx example", " mx example; spf=pass"),
        ("mx example", "foreign.example mxexample; spf=pass"),
        ("a(b)c", "x a(b)c; spf=pass"),
        ("a\"b", "x a\"b; spf=pass"),
    ] {
        assert!(
            claims_authserv_id(value.as_bytes(), &[AuthservIdPattern::exact(id)].into()),
            "{value}"
        );
    }
    assert!(!claims_authserv_id(
        b" mx; spf=pass",
        &[AuthservIdPattern::exact("mx example")].into()
    ));
}

/// The longest id that a field can name is taken, a longer one is not.
#[test]
fn ids_have_a_bound() {
    // Quotes, which another text would need, are included.
    let read = |length: usize| "a".repeat(length - 2).parse::<AuthservIdPattern>();
    for (length, is_taken) in [
        (tokens::MAX_TOKEN_LENGTH - 1, true),
        (tokens::MAX_TOKEN_LENGTH, true),
        (tokens::MAX_TOKEN_LENGTH + 1, false),
    ] {
        assert_eq!(read(length).is_ok(), is_taken, "{length}");
    }
}

#[test]
fn arc_fields() {
    let ours = |value: &str| {
        arc_claims_authserv_id(value.as_bytes(), &["mail.receiver.example".parse().unwrap()].into())
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

fn is_token_character(c: char) -> bool {
    u8::try_from(c).is_ok_and(tokens::is_token_octet)
}

proptest! {
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
}
