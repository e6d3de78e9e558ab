//! The daemon with a real name server, unbound, in between.

use std::net::SocketAddr;

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    milter_client::{MilterClient, Reply},
    nameserver::NameServer,
    unbound::Unbound,
};

fn config(nameserver: SocketAddr) -> String {
    format!(
        "hostname = mta.example.org\nverify_helo = no\nheader = Authentication-Results\nnameservers = {nameserver}\n\
         dns_timeout_secs = 1\ndns_attempts = 1\ntimeout_secs = 10\n"
    )
}

fn client(daemon: &Daemon) -> MilterClient {
    let mut client = daemon.client();
    assert_eq!(
        client
            .connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025))))
            .unwrap(),
        Reply::Continue
    );
    assert_eq!(client.helo("mail.example.com").unwrap(), Reply::Continue);
    client
}

fn result_of(client: &mut MilterClient, domain: &str) -> String {
    match client.mail(format!("<alice@{domain}>")).unwrap() {
        Reply::Continue => {
            client.rcpt("<bob@rcpt.example.org>").unwrap();
            client.message(&[], b"Hello\r\n").unwrap().fields[0].unfolded()
        }
        Reply::Code(text) => text,
        other => panic!("{other:?}"),
    }
}

/// A text of so many octets that no UDP answer holds it, in strings of a zone file.
fn long_record() -> String {
    let terms: String = (0..200).map(|number| format!("ip4:198.51.100.{number} ")).collect();
    let record = format!("v=spf1 {terms}ip4:192.0.2.9 -all");
    let strings: Vec<String> = record
        .as_bytes()
        .chunks(200)
        .map(|chunk| format!("\"{}\"", String::from_utf8_lossy(chunk)))
        .collect();
    strings.join(" ")
}

#[test]
#[ignore = "needs unbound: make test"]
fn truncated_answers_are_fetched_over_tcp() {
    let unbound = Unbound::start(
        &format!(
            "  max-udp-size: 512\n  local-zone: \"long.example.\" static\n  local-data: 'long.example. TXT {}'\n",
            long_record()
        ),
        "",
    );
    let daemon = Daemon::start(&config(unbound.address()));
    let result = result_of(&mut client(&daemon), "long.example");
    assert_eq!(
        result,
        "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=long.example"
    );
}

#[test]
#[ignore = "needs unbound: make test"]
fn answers_of_all_kinds() {
    let zone = r#"
        good.example TXT "v=spf1 include:inner.good.example -all"
        inner.good.example TXT "v=spf1 a:host.good.example mx:good.example -all"
        host.good.example A 192.0.2.1
        good.example MX 10 mx.good.example
        mx.good.example A 192.0.2.9
        alias.good.example CNAME good.example
        void.good.example TXT "v=spf1 a:no1.good.example a:no2.good.example a:no3.good.example -all"
        fails.good.example TXT !servfail
    "#;
    let upstream = NameServer::start(Zone::parse(zone).unwrap());
    let forward = format!(
        "forward-zone:\n  name: \"good.example.\"\n  forward-addr: 127.0.0.1@{}\n",
        upstream.address().port()
    );
    let server = "  local-zone: \"silent.example.\" deny\n  local-zone: \"refused.example.\" refuse\n\
                  \x20 local-zone: \"missing.example.\" always_nxdomain\n  domain-insecure: \"example.\"\n";
    let unbound = Unbound::start(server, &forward);
    let daemon = Daemon::start(&config(unbound.address()));
    let mut client = client(&daemon);
    for (domain, expected) in [
        (
            "good.example",
            "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=good.example",
        ),
        (
            "alias.good.example",
            "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=alias.good.example",
        ),
        (
            "inner.good.example",
            "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=inner.good.example",
        ),
        (
            "missing.example",
            "Authentication-Results: mta.example.org; spf=none smtp.mailfrom=missing.example",
        ),
        (
            "mx.good.example",
            "Authentication-Results: mta.example.org; spf=none smtp.mailfrom=mx.good.example",
        ),
        ("void.good.example", "550 5.7.24 SPF validation error: "),
        ("fails.good.example", "451 4.7.24 SPF validation error: "),
        ("refused.example", "451 4.7.24 SPF validation error: "),
        ("silent.example", "451 4.7.24 SPF validation error: "),
    ] {
        let result = result_of(&mut client, domain);
        assert!(result.starts_with(expected), "{domain}: {result}");
    }
}

/// For an alias among its local data unbound answers with only the CNAME record, although it would
/// find the target.
#[test]
#[ignore = "needs unbound: make test"]
fn aliases_without_their_targets() {
    let zone = "target.good.example TXT \"v=spf1 -all\"\nbare.good.example A 192.0.2.1\n";
    let upstream = NameServer::start(Zone::parse(zone).unwrap());
    let forward = format!(
        "forward-zone:\n  name: \"good.example.\"\n  forward-addr: 127.0.0.1@{}\n",
        upstream.address().port()
    );
    let server = "  local-zone: \"local.example.\" static\n  domain-insecure: \"example.\"\n\
                  \x20 local-data: 'alias.local.example. CNAME target.good.example.'\n\
                  \x20 local-data: 'bare.local.example. CNAME bare.good.example.'\n\
                  \x20 local-data: 'gone.local.example. CNAME gone.good.example.'\n";
    let unbound = Unbound::start(server, &forward);
    let daemon = Daemon::start(&config(unbound.address()));
    let mut client = client(&daemon);
    for (domain, expected) in [
        ("alias.local.example", "550 5.7.23 SPF validation failed"),
        (
            "bare.local.example",
            "Authentication-Results: mta.example.org; spf=none smtp.mailfrom=bare.local.example",
        ),
        (
            "gone.local.example",
            "Authentication-Results: mta.example.org; spf=none smtp.mailfrom=gone.local.example",
        ),
    ] {
        let result = result_of(&mut client, domain);
        assert!(result.starts_with(expected), "{domain}: {result}");
    }
    assert!(
        upstream.count("target.good.example", spf_milter::dns::RecordType::Txt) > 0,
        "nobody asked for the target"
    );
}

#[test]
#[ignore = "needs unbound: make test"]
fn bogus_answers_are_temporary_errors() {
    let zone = "signed.example TXT \"v=spf1 +all\"\nplain.example TXT \"v=spf1 +all\"\n";
    let upstream = NameServer::start(Zone::parse(zone).unwrap());
    // A trust anchor says that the zone is signed; its answers are not.
    let anchor = "signed.example. DS 12345 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF";
    let forward = format!(
        "forward-zone:\n  name: \"example.\"\n  forward-addr: 127.0.0.1@{}\n",
        upstream.address().port()
    );
    let unbound = Unbound::start(&format!("  trust-anchor: \"{anchor}\"\n"), &forward);
    let daemon = Daemon::start(&config(unbound.address()));
    let mut client = client(&daemon);
    let result = result_of(&mut client, "signed.example");
    assert!(result.starts_with("451 4.7.24 SPF validation error: "), "{result}");
    let result = result_of(&mut client, "plain.example");
    assert_eq!(
        result,
        "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=plain.example"
    );
    assert!(
        upstream.count("signed.example", spf_milter::dns::RecordType::Txt) > 0,
        "unbound did not ask for the record"
    );
}
