//! Received-SPF fields that are written read back, and those of others are read.

use std::{borrow::Cow, net::IpAddr};

use proptest::prelude::*;
use spf_milter::mail::{
    received_spf::{Identity, ReceivedSpf, describe},
    results::SpfResult,
    tokens,
};
use testkit::{fields::check_lines, received_spf::read};

fn full() -> ReceivedSpf<'static> {
    let client_ip = Some("192.0.2.1".parse().unwrap());
    let (sender, receiver) = ("u@example.com", "mail.receiver.example");
    ReceivedSpf {
        comment: Some(
            describe(SpfResult::Pass, Identity::Mailfrom, sender, client_ip, receiver).into(),
        ),
        receiver: Some(receiver.into()),
        client_ip,
        helo: Some("[192.0.2.1]".into()),
        envelope_from: Some(sender.into()),
        identity: Some(Identity::Mailfrom),
        mechanism: Some("ip4:192.0.2.1".into()),
        ..ReceivedSpf::new(SpfResult::Pass)
    }
}

#[test]
fn values_that_are_no_dot_atoms_are_quoted() {
    let field = full().write();
    assert_eq!(field.name, "Received-SPF");
    let expected = concat!(
        "pass (mail.receiver.example: domain of u@example.com permits\n",
        " 192.0.2.1) receiver=mail.receiver.example; client-ip=192.0.2.1;\n",
        " helo=\"[192.0.2.1]\"; envelope-from=\"u@example.com\"; identity=mailfrom;\n",
        " mechanism=\"ip4:192.0.2.1\"",
    );
    assert_eq!(field.value, expected);
    assert_eq!(read(field.value.as_bytes()), Ok(full()));
}

#[test]
fn fields_of_others_are_read() {
    let field = read(
        b" Pass (mybox.example.org: domain of\r\n myname@example.com (really) designates 192.0.2.1 as permitted sender)\r\n\treceiver=mybox.example.org;\
          client-ip = 192.0.2.1; x-extra=1; envelope-from=\"myname@example.com\"; helo=foo.example.com; helo=second; identity=pra;",
    )
    .unwrap();
    assert_eq!(field.result, SpfResult::Pass);
    assert_eq!(field.helo.as_deref(), Some("foo.example.com"));
    assert_eq!(field.envelope_from.as_deref(), Some("myname@example.com"));
    assert_eq!(field.identity, None);
    assert!(field.comment.unwrap().contains("(really)"));
    for bad in [
        "",
        "maybe",
        "pass x",
        "pass helo=",
        "pass helo=a b=c",
        "pass client-ip=1",
        "pass (x",
        "pass helo=\"x",
        "pass helo=a\nb",
    ] {
        assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn long_names_stay_within_lines() {
    let (sender, helo) = (format!("{}@example.com", "l".repeat(5000)), "h".repeat(5000));
    let comment = describe(SpfResult::Fail, Identity::Mailfrom, &sender, None, "mx.example");
    let field = ReceivedSpf {
        comment: Some(comment.into()),
        helo: Some(helo.into()),
        envelope_from: Some(sender.into()),
        ..full()
    }
    .write();
    assert!(field.value.split('\n').all(|line| line.len() <= 998));
    assert!(field.value.contains("l...@example.com\""));
    assert!(read(field.value.as_bytes()).is_ok());
}

fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    prop::option::of(prop_oneof![
        ".{0,60}",
        "[ -~]{0,60}",
        "[\\x00-\\x20\\\\\"();=?@.ax{}é]{0,60}",
        "[a-z.@\\\\\"]{0,2000}"
    ])
    .prop_map(|text| text.map(Cow::Owned))
}

proptest! {
    #[test]
    fn fields_read_back(
        comment in text(), receiver in text(), helo in text(), envelope_from in text(), mechanism in text(), problem in text(),
        ip: Option<IpAddr>,
    ) {
        let comment = comment.map(|text| text.split(' ').map(tokens::shorten).collect::<Vec<_>>().join(" ").into());
        let shorten = |text: Option<Cow<'static, str>>| text.map(|text| tokens::shorten(&text).into_owned().into());
        let written = ReceivedSpf {
            result: SpfResult::Fail,
            comment,
            receiver: receiver.clone(),
            client_ip: ip.map(|ip| ip.to_canonical()),
            helo: helo.clone(),
            envelope_from: envelope_from.clone(),
            identity: Some(Identity::Helo),
            mechanism: mechanism.clone(),
            problem: problem.clone(),
        };
        let field = written.write();
        check_lines(&field);
        let expected = ReceivedSpf {
            receiver: shorten(receiver),
            helo: shorten(helo),
            envelope_from: shorten(envelope_from),
            mechanism: shorten(mechanism),
            problem: shorten(problem),
            ..written
        };
        prop_assert_eq!(read(field.value.as_bytes()), Ok(expected));
    }

    #[test]
    fn reading_never_panics(value: Vec<u8>) {
        let _ = read(&value);
    }
}
