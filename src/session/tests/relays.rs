//! Messages that relays hand over.

use super::*;

const RELAY: &str = "192.0.2.9";

fn host(config: &str) -> Host {
    Host::new(
        "client.example TXT \"v=spf1 ip4:198.51.100.1 -all\"
         198.51.100.1 PTR client.example
         client.example A 198.51.100.1",
        &format!("{ALL}include_all_results = yes\ntrusted_relays = {RELAY}\n{config}"),
    )
}

/// A Received field as Postfix writes it.
fn received(client: &str, protocol: &str) -> String {
    format!(
        " from client.example (client.example [{client}])\n by mx.example.org (Postfix) with {protocol} id 1; date"
    )
}

async fn begin(host: &Host) -> Session {
    let (mut session, answer) = host.connect_from(RELAY);
    assert_eq!(answer, Answer::proceed());
    assert_eq!(session.verified_client(), None);
    assert_eq!(session.helo("relay.example").await, Answer::proceed());
    assert_eq!(session.mail(b"<amy@client.example>", false, None).await, Answer::proceed());
    session
}

/// The addresses of client and relay in a record, and the results.
fn recorded(answer: &Answer) -> (Option<String>, Option<String>, Vec<SpfResult>) {
    let record = answer.records.latest().unwrap();
    let results = identities(Some(record)).into_iter().map(|(_, result, _)| result).collect();
    let [client, relay] =
        [record.client, record.relay].map(|address| address.map(|address| address.to_string()));
    (client, relay, results)
}

#[tokio::test]
async fn each_message_has_a_client_of_its_own() {
    use SpfResult::{Fail, None as NoResult, Pass};
    let host = host("");
    let mut session = begin(&host).await;
    let relay = Some(RELAY.to_owned());
    let [good, bad] = ["198.51.100.1", "198.51.100.2"].map(|client| received(client, "ESMTP"));
    let answer = session.message(&[("Received", &good), ("Received", &bad)], "").await;
    assert_eq!(recorded(&answer), (Some("198.51.100.1".into()), relay.clone(), vec![Pass, Pass]));
    assert!(inserted(&answer.edits)[0].contains("iprev=pass policy.iprev=198.51.100.1"));

    // That the relay authenticates does not matter.
    session.mail(b"<amy@client.example>", true, None).await;
    let answer = session.message(&[("Received", &bad), ("Received", &good)], "").await;
    assert_eq!(answer.verdict, Verdict::Continue);
    assert_eq!(recorded(&answer), (Some("198.51.100.2".into()), relay.clone(), vec![Fail, Fail]));
    let [mark, results] = inserted(&answer.edits).try_into().unwrap();
    assert!(mark.contains("tag; reason=spf"), "{mark}");
    assert!(results.contains("iprev=permerror"), "{results}");

    // The client of the message before is forgotten, its HELO and name too.
    session.mail(b"<amy@client.example>", false, None).await;
    let answer = session.message(&[("Subject", " x")], "").await;
    assert_eq!(recorded(&answer), (None, relay, vec![NoResult]));
    let fields = inserted(&answer.edits);
    assert!(fields[0].contains("spf=none (reason=chain-ends) smtp.mailfrom=client.example"));
    assert!(!fields[0].contains("iprev"), "{fields:?}");
}

#[tokio::test]
async fn the_client_is_known_as_soon_as_its_field_is() {
    let host = host("");
    let mut session = begin(&host).await;
    assert_eq!(host.zone.queries(), 0);
    session.header(b"Received", received(RELAY, "ESMTP").as_bytes());
    assert_eq!(session.context.known_client(), None);
    session.header(b"RECEIVED ", received("198.51.100.1", "ESMTP").as_bytes());
    assert_eq!(session.context.known_client(), Some("198.51.100.1".parse().unwrap()));
    // What is below does not change it.
    session.header(b"Received", received("198.51.100.2", "ESMTPSA").as_bytes());
    let answer = session.message(&[], "").await;
    assert_eq!(recorded(&answer).0.as_deref(), Some("198.51.100.1"));
}

#[tokio::test]
async fn clients_that_authenticated_at_a_relay_are_exempt() {
    for (keeps, deleted) in [("", 1), ("trusted_authentication_results = 192.0.2.9\n", 0)] {
        let host = host(keeps);
        let mut session = begin(&host).await;
        let field = received("198.51.100.2", "ESMTPSA");
        let forged = ("Authentication-Results", " mx.example.net; spf=pass");
        let answer = session.message(&[("Received", &field), forged], "").await;
        assert_eq!(answer.verdict, Verdict::Continue);
        assert_eq!(answer.edits.len(), deleted, "{:?}", answer.edits);
        assert!(inserted(&answer.edits).is_empty());
        let record = answer.records.latest().unwrap();
        assert_eq!(record.exemption, Some(Exemption::AuthenticatedAtRelay));
        assert!(record.complete && record.identities.is_empty() && record.content.is_none());
    }
}

#[tokio::test]
async fn a_relay_in_trusted_networks_brings_in_nothing_in_our_name() {
    for (config, deleted) in [
        ("trusted_relays = 203.0.113.9\n", 2),
        ("trusted_relays = 203.0.113.9\ntrusted_authentication_results = 203.0.113.9\n", 0),
        ("trusted_relays =\n", 0),
    ] {
        let host = Host::new(
            ZONE,
            &format!("{ALL}reject_results = fail\niprev_fail_action = tag\n{config}"),
        );
        let (mut session, _) = host.connect_from("203.0.113.9");
        session.mail(b"<amy@client.example>", false, None).await;
        let field = received("198.51.100.2", "ESMTP");
        let forged = [
            ("Received", field.as_str()),
            ("Authentication-Results", " mx.example.net; spf=pass"),
            ("X-Auth-Action", " tag"),
        ];
        let edits = session.message(&forged, "").await.edits;
        let count = edits.iter().filter(|edit| matches!(edit, Edit::Delete { .. })).count();
        assert_eq!(count, deleted, "{config}");
    }
}

#[tokio::test]
async fn messages_that_are_given_up_leave_nothing() {
    let host = host("");
    let mut session = begin(&host).await;
    assert_eq!(session.abort(), Answer::proceed());
    session.mail(b"<amy@client.example>", false, None).await;
    session.header(b"Received", received("198.51.100.1", "ESMTP").as_bytes());
    // Its checks were done at once, with DNS in memory.
    let answer = session.abort();
    assert_eq!(recorded(&answer).2, [SpfResult::Pass, SpfResult::Pass]);
    session.mail(b"<amy@client.example>", false, None).await;
    assert_eq!(session.close(), Answer::proceed());
}

#[tokio::test]
async fn too_many_forged_fields_are_refused_all_the_same() {
    let host = host("");
    let mut session = begin(&host).await;
    let forged = ("Authentication-Results", " mx.example.net; spf=pass");
    let answer = session.message(&vec![forged; MAX_FORGED_FIELDS + 1], "").await;
    assert!(matches!(answer.verdict, Verdict::Reply(_)), "{answer:?}");
}

#[test]
fn header_fields_are_asked_for() {
    let needs = |config: &str| Host::new("", config).runtime.needs.header_fields;
    assert!(needs("trusted_relays = 192.0.2.9\n") && !needs("header =\n"));
}
