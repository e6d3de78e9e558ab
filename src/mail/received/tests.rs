//! Received fields in the forms of many relays, and words of strangers in them.

use proptest::prelude::*;

use super::*;

const TRUE: &str = "203.0.113.66";

fn is_relay(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets().starts_with(&[192, 0, 2]))
}

fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets().starts_with(&[10]))
}

/// The outcome of a message from a relay.
fn walk(fields: &[&str]) -> Outcome {
    let fields = fields.iter().map(|value| value.as_bytes());
    find_client("192.0.2.25".parse().unwrap(), fields, is_relay, is_trusted)
}

/// The outcome as `address helo name`, or its word.
fn shown(fields: &[&str]) -> String {
    match walk(fields) {
        Outcome::Client(Client { address, helo, name }) => {
            let [helo, name] = [helo, name].map(|text| text.unwrap_or_else(|| "-".into()));
            format!("{address} {helo} {name}")
        }
        outcome => outcome.as_str().to_owned(),
    }
}

/// Checks the outcome of fields that stand alone.
fn check(cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        assert_eq!(shown(&[value]), *expected, "{value}");
    }
}

#[test]
fn postfix_sendmail_and_what_is_like_them() {
    check(&[
        // Postfix, Zimbra, Amazon SES, SendGrid, Barracuda, Proofpoint, Mimecast.
        (
            "from h.example (n.example [203.0.113.66])\n\tby gw.example (Postfix) with ESMTP id X\n\tfor <u@example.net>; Tue, 10 Nov 2026 10:15:01 +0100",
            "203.0.113.66 h.example n.example",
        ),
        (
            "from h.example (unknown [IPv6:2001:db8:bad::7])\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n\t key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256)\n\t(Client CN \"n.example\", Issuer \"CA\" (verified OK))\n\tby gw.example (Postfix) with ESMTPS id X; date",
            "2001:db8:bad::7 h.example -",
        ),
        (
            "from h (n [203.0.113.66]) (Authenticated sender: u@example.net) by gw (Postfix) with ESMTP id X; date",
            "authenticated",
        ),
        ("from h (n [203.0.113.66]) by gw (Postfix) with UTF8SMTPSA id X; date", "authenticated"),
        ("from h (n [203.0.113.66]) by gw (Postfix) with UTF8SMTPS id X; date", "203.0.113.66 h n"),
        ("by gw.example (Postfix, from userid 33) id X; date", "no-from"),
        // Sendmail.
        (
            "from h (root@n.example [203.0.113.66])\n\tby gw (8.17.1/8.17.1) with ESMTP id X; date",
            "203.0.113.66 h n.example",
        ),
        (
            "from h ([203.0.113.66] (may be forged)) by gw (8.17.1/8.17.1) with ESMTP id X; date",
            "203.0.113.66 h -",
        ),
        (
            "from h (n [203.0.113.66]) (authenticated bits=0) by gw (8.17.1) with ESMTP id X; date",
            "authenticated",
        ),
        ("(from u@localhost) by gw (8.17.1/8.17.1/Submit) id X; date", "no-from"),
    ]);
}

#[test]
fn exim() {
    check(&[
        (
            "from n.example ([203.0.113.66] helo=h.example) by gw with esmtp (Exim 4.92) id X; date",
            "203.0.113.66 h.example n.example",
        ),
        (
            "from h.example ([203.0.113.66]) by gw with esmtp (Exim 4.92) id X; date",
            "203.0.113.66 h.example -",
        ),
        (
            "from [203.0.113.66] (port=4711 helo=[10.0.0.1] ident=root) by gw with esmtp (Exim 4.92) id X; date",
            "203.0.113.66 [10.0.0.1] -",
        ),
        (
            "from [203.0.113.66]:4711 (helo=h) by gw with esmtp (Exim 4.92) id X; date",
            "203.0.113.66 h -",
        ),
        (
            "from [203.0.113.66] (ident=root) by gw with esmtp (Exim 4.92) id X; date",
            "203.0.113.66 - -",
        ),
        ("from [203.0.113.66] by gw with esmtp (Exim 4.92) id X; date", "203.0.113.66 - -"),
        (
            "from n.example [203.0.113.66] by gw with esmtp (Exim 3.35 #1 (Debian)) id X; date",
            "203.0.113.66 n.example -",
        ),
        ("from n ([203.0.113.66] helo=h) by gw with asmtp (Exim 4.22) id X; date", "authenticated"),
        ("from u by gw with local (Exim 4.96) (envelope-from <u@gw>) id X; date", "other-protocol"),
        (
            "from [127.0.0.1] (helo=h) by gw with local-esmtp (Exim 4.96) id X; date",
            "other-protocol",
        ),
    ]);
}

#[test]
fn qmail_exchange_and_what_is_like_them() {
    check(&[
        (
            "from n.example (HELO h.example) (203.0.113.66)\n  by gw with SMTP; date",
            "203.0.113.66 h.example n.example",
        ),
        (
            "from unknown (HELO [10.0.0.1]) (ident@203.0.113.66) by gw with SMTP; date",
            "203.0.113.66 [10.0.0.1] -",
        ),
        ("from unknown (HELO ) (203.0.113.66) by gw with SMTP; date", "203.0.113.66 - -"),
        (
            "from unknown (HELO h) ([203.0.113.66]) by esa1.iphmx.com with ESMTP/TLS/AES256-SHA; date",
            "203.0.113.66 h -",
        ),
        (
            "from unknown (HELO h) (203.0.113.66) by gw with AES256-SHA encrypted SMTP; date",
            "203.0.113.66 h -",
        ),
        ("from unknown (HELO h) (203.0.113.66) by gw with QMTP; date", "203.0.113.66 h -"),
        // Exchange, Office 365, KumoMTA, Cloudflare, PowerMTA.
        (
            "from h.example (203.0.113.66) by gw (10.1.1.1) with Microsoft SMTP\n Server (version=TLS1_2) id 15; date",
            "203.0.113.66 h.example -",
        ),
        (
            "from h.example ([203.0.113.66]) by gw with Microsoft SMTPSVC(10.0.14393.4169);\n\t date",
            "203.0.113.66 h.example -",
        ),
        (
            "from h (203.0.113.66:4711) by gw (KumoMTA 2025) with ESMTPS id X for <u@example.net>; date",
            "203.0.113.66 h -",
        ),
        (
            "from h.example (203.0.113.66)\n by cloudflare-email.net (cloudflare) id X for <u@example.net>; date",
            "203.0.113.66 h.example -",
        ),
        ("from hub ([fe80::1%13]) by gw ([fe80::2%13]) with mapi id 15; date", "other-protocol"),
        ("from hub (fe80::1) by gw with Microsoft SMTP Server id 15; date", "link-local"),
        ("from hub (169.254.1.1) by gw with Microsoft SMTP Server id 15; date", "link-local"),
    ]);
}

#[test]
fn further_relays() {
    check(&[
        // Words of the client's stand before the mark.
        ("from n (HELO h) ([203.0.113.66]) (authenticated) by gw with ESMTP; date", "unknown-form"),
        (
            "from n (HELO h) ([203.0.113.66]) (authenticated) by gw with ESMTPA; date",
            "authenticated",
        ),
        ("from x (authenticated) (n [203.0.113.66]) by gw with ESMTP; date", "unknown-form"),
        // Courier, maddy, mox, Stalwart, OpenSMTPD, Haraka, Halon, CommuniGate, Kerio, FortiMail.
        (
            "from h (n [::ffff:203.0.113.66]) (AUTH: LOGIN u@example.net) by gw with ESMTP id X; date",
            "authenticated",
        ),
        (
            "from h (n [203.0.113.66]) by gw (envelope-sender <a@x>) with ESMTPSA id X; date",
            "authenticated",
        ),
        (
            "from h (n [203.0.113.66]) by gw ([192.0.2.25]) via tcp with ESMTPS id X; date",
            "203.0.113.66 h n",
        ),
        (
            "from h (n [203.0.113.66] (AS64500 Example, Inc. DE)) (using TLSv1.3 with cipher X) by gw (Stalwart SMTP) with ESMTPS id X; date",
            "203.0.113.66 h n",
        ),
        (
            "from h (<unknown> [203.0.113.66]) by gw (OpenSMTPD) with ESMTP id X; date",
            "203.0.113.66 h -",
        ),
        (
            "from h (NXDOMAIN [203.0.113.66]) by gw (Haraka/3.0.1) with ESMTP id X.1 envelope-from <a@x>; date",
            "203.0.113.66 h -",
        ),
        (
            "from h (n [203.0.113.66]) by gw (Haraka/3.0.1) with ESMTP id X.1 envelope-from <a@x> (authenticated bits=0); date",
            "authenticated",
        ),
        (
            "from [10.0.0.1] (account u@example.net HELO h) by gw (CommuniGate Pro SMTP 6) with ESMTP id 1; date",
            "authenticated",
        ),
        (
            "from [203.0.113.66] (HELO h) by gw (CommuniGate Pro SMTP 6) with ESMTP id 1; date",
            "203.0.113.66 h -",
        ),
        (
            "from h ([203.0.113.66] RDNS failed) by gw (CommuniGate Pro SMTP 6) with ESMTP id 1; date",
            "203.0.113.66 h -",
        ),
        (
            "from h (n [203.0.113.66]) (user=u mech=PLAIN bits=0) by gw with ESMTP id X; date",
            "authenticated",
        ),
        ("from h (n. [203.0.113.66]) by mx.google.com with ESMTPS id X; date", "203.0.113.66 h n"),
        ("from (n [203.0.113.66]) by gw with smtp id X; date", "203.0.113.66 - n"),
        ("FROM h (n [203.0.113.66]) BY gw WITH esmtp ID X; date", "203.0.113.66 h n"),
    ]);
}

#[test]
fn what_is_not_read() {
    check(&[
        ("", "no-from"),
        ("from", "no-by"),
        ("from by gw; date", "no-address"),
        ("from h by gw with ESMTP; date", "no-address"),
        ("from [203.0.113.66] by gw (MDaemon PRO v23.0.2d) with ESMTPS id X; date", "unknown-form"),
        ("from h [203.0.113.66] by gw with ESMTP; date", "unknown-form"),
        ("from h (n [203.0.113.66]) by gw with ESMTP by other; date", "two-by"),
        ("from h; (n [203.0.113.66]) by gw; date", "words"),
        ("from h x (n [203.0.113.66]) by gw; date", "words"),
        ("from h(n [203.0.113.66]) by gw; date", "words"),
        ("from h (n [203.0.113.66])(x) by gw; date", "words"),
        ("from h (n [203.0.113.66])by gw; date", "words"),
        ("from h (n [203.0.113.66]) \"x\" by gw; date", "words"),
        ("from h (n [203.0.113.66]) ([198.51.100.200]) by gw; date", "two-addresses"),
        ("from h (n [203.0.113.66]) (see 198.51.100.200) by gw; date", "unknown-form"),
        ("from h (n [203.0.113.66] (x [198.51.100.200])) by gw; date", "two-addresses"),
        ("from h (Not Verified[203.0.113.66]) by gw; date", "unknown-form"),
        ("from h (n[203.0.113.66]) by gw; date", "unknown-form"),
        ("from h (n ([203.0.113.66])) by gw; date", "unknown-form"),
        // A recipient may have the words of a protocol.
        ("from h (n [203.0.113.66]) by gw with ESMTP for u with ESMTPA; date", "203.0.113.66 h n"),
        ("from h (n [203.0.113.66]) by gw for u with ESMTPA; date", "203.0.113.66 h n"),
        ("from h (n [203.0.113.66]) by gw with HTTP; date", "other-protocol"),
        ("from h (n [203.0.113.66]) by gw with id X; date", "other-protocol"),
    ]);
}

#[test]
fn the_walk() {
    let inside = "from gw2 (gw2 [192.0.2.26]) by gw with ESMTP; date";
    let client = "from h (n [203.0.113.66]) by gw2 with ESMTP; date";
    assert_eq!(shown(&[]), "chain-ends");
    assert_eq!(shown(&[inside]), "chain-ends");
    for hop in [
        inside,
        "from l (l [127.0.0.1]) by gw with ESMTP; date",
        "from l (l [IPv6:::1]) by gw with ESMTP; date",
        "from l ([::ffff:127.9.9.9]) by gw with ESMTP; date",
        "from t (t [10.1.2.3]) by gw with LMTP; date",
        "from gw ([::ffff:192.0.2.26]) by gw with LMTPA; date",
        "from gw by imap (Dovecot) with LMTP id X; date",
        "from gw (gw [unix socket]) by imap (Cyrus 3) with LMTPA; date",
        "(qmail 23998 invoked from network); date",
        "by mail-x.google.com with SMTP id X for <u@example.net>; date",
    ] {
        assert_eq!(shown(&[hop]), "chain-ends", "{hop}");
        assert_eq!(shown(&[hop, client]), "203.0.113.66 h n", "{hop}");
    }
    for end in [
        "(qmail 23998 invoked by uid 89); date",
        "(qmail 2399x invoked from network); date",
        "(qmail 23998 invoked from network) x; date",
        "(Haraka outbound); date",
        "by gw.example (OpenSMTPD) with ESMTPS id X; date",
        "by google.com with SMTP id X; date",
        "by x.google.com with ESMTPS id X; date",
        "by x.google.com (google.com) with SMTP id X; date",
        "from [198.51.100.7] by gw with LMTP; date",
        "from h (x [#.#.#.#]) by gw with ESMTP; date",
    ] {
        assert!(matches!(walk(&[end, client]), Outcome::Unreadable(_)), "{end}");
    }

    let direct = |connecting: &str| {
        find_client(connecting.parse().unwrap(), [client.as_bytes()], is_relay, is_trusted)
    };
    assert_eq!(direct("203.0.113.66"), Outcome::Direct);
    assert_eq!(direct("10.1.1.1"), Outcome::Direct);
    assert!(matches!(direct("::ffff:192.0.2.25"), Outcome::Client(_)));

    let mut many = vec![inside; MAX_FIELDS - 1];
    assert_eq!(shown(&many), "chain-ends");
    many.push(client);
    assert_eq!(shown(&many), "203.0.113.66 h n");
    many.insert(0, inside);
    assert_eq!(shown(&many), "too-many-fields");
}

#[test]
fn fields_that_decide_are_counted() {
    let mut walk = Walk::new(true);
    for (value, fields, is_over) in [
        ("from gw2 ([192.0.2.26]) by gw; date", 1, false),
        ("from h ([203.0.113.66]) by gw2; date", 2, true),
        ("from h ([203.0.113.67]) by h; date", 2, true),
    ] {
        walk.read(value.as_bytes(), is_relay);
        assert_eq!((walk.fields(), walk.is_over()), (fields, is_over));
    }
    assert!(matches!(walk.finish(), Outcome::Client(_)));
    assert!(Walk::new(false).is_over());
}

#[test]
fn names_keep_their_bounds() {
    let long = "h".repeat(255);
    assert_eq!(
        shown(&[&format!("from {long} ([203.0.113.66]) by gw; date")]),
        format!("203.0.113.66 {long} -")
    );
    assert_eq!(shown(&[&format!("from {long}h ([203.0.113.66]) by gw; date")]), "203.0.113.66 - -");
    assert_eq!(
        shown(&["from \u{fc}.example ([203.0.113.66]) by gw; date"]),
        "203.0.113.66 \u{fc}.example -"
    );
    assert_eq!(shown(&["from \u{85} ([203.0.113.66]) by gw; date"]), "203.0.113.66 - -");
    let latin_1 = b"from m\xfcller ([203.0.113.66]) by gw; date".as_slice();
    let found = find_client("192.0.2.25".parse().unwrap(), [latin_1], is_relay, is_trusted);
    assert!(matches!(found, Outcome::Client(Client { helo: None, .. })));
}

proptest! {
    #[test]
    fn octets_never_panic(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
        let fields = fields.iter().map(Vec::as_slice);
        let _ = find_client("192.0.2.25".parse().unwrap(), fields, is_relay, is_trusted);
    }

    /// A client that is found stands in the field that decided, and is outside.
    #[test]
    fn clients_are_outside(fields in prop::collection::vec(
        "(from |by |with |\\(|\\)|\\[|\\]|10.0.0.1|192.0.2.26|203.0.113.66|127.0.0.1|x | |helo=|HELO |LMTP |SMTP ){0,20}",
        0..4,
    )) {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        if let Outcome::Client(client) = walk(&fields) {
            prop_assert_eq!(client.address.to_string(), TRUE);
            prop_assert!(fields.iter().any(|field| field.contains(TRUE)));
        }
    }
}

#[test]
fn a_field_by_itself_names_its_host_and_its_client() {
    let read = |value: &str| Handover::read(value.as_bytes());
    let client = |value: &str| {
        let handover = read(value).unwrap();
        let client = handover.client.map(|client| (client.address.to_string(), client.helo));
        (handover.by.unwrap_or_default(), client, handover.is_authenticated)
    };
    let known = Some(("192.0.2.1".to_owned(), Some("helo.example".to_owned())));
    let field = " from helo.example (name.example [192.0.2.1])\n\tby mx.example.net (Postfix) with";
    assert_eq!(
        client(&format!("{field} ESMTPS id 4; x")),
        ("mx.example.net".into(), known.clone(), false)
    );
    assert_eq!(client(&format!("{field} ESMTPSA id 4; x")), ("mx.example.net".into(), known, true));
    // Steps within the site.
    for inside in [
        format!("{field} LMTP id 4; x"),
        format!("{field} HTTP id 4; x"),
        field.replace("192.0.2.1", "127.0.0.1") + " SMTP id 4; x",
        " from mx.example.net by mx.example.net with LMTP id 4; x".into(),
    ] {
        assert_eq!(client(&inside), ("mx.example.net".into(), None, false), "{inside}");
    }
    for (odd, reason, by) in [
        (
            " by mx.example.net. (Postfix, from userid 0) id 4; x",
            Unreadable::NoFrom,
            Some("mx.example.net"),
        ),
        (
            " from helo.example (unknown) by mx.example.net; x",
            Unreadable::NoAddress,
            Some("mx.example.net"),
        ),
        (" from helo.example (unknown [192.0.2.1]) id 4; x", Unreadable::NoBy, None),
        (" from helo.example (unknown [192.0.2.1]) by a by b; x", Unreadable::TwoBy, Some("a")),
    ] {
        assert_eq!(read(odd), Err((reason, by.map(str::to_owned))), "{odd}");
    }
}
