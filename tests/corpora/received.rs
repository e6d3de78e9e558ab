//! The public suite of Received fields: the client that each message names.
//!
//! Run with `make test CORPUS=DIR`.

use std::{net::IpAddr, path::Path, sync::Arc};

use ipnet::IpNet;
use serde_json::{Value, json};
use spf_milter::{
    config::{Overrides, load_text},
    mail::received::{Outcome, Walk, find_client},
    runtime::Runtime,
    session::{Answer, Client, Granted, Record, Session, Verdict},
};
use testkit::corpus::{self, Case};

fn relays(case: &Case) -> Vec<IpNet> {
    let networks = case.json["trusted_relays"].as_array().unwrap().iter();
    networks.map(|network| network.as_str().unwrap().parse().unwrap()).collect()
}

/// One code point an octet.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("octet")).collect()
}

/// The Received fields from the top: by the index, and by the message.
fn fields(case: &Case) -> Vec<Vec<u8>> {
    let from_index: Vec<Vec<u8>> = case.json["received"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| octets(value.as_str().unwrap()))
        .collect();
    let message = case.message().unwrap();
    let from_message: Vec<Vec<u8>> = message
        .fields
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"Received"))
        .map(|(_, value)| value.strip_prefix(b" ").map_or(value.clone(), <[u8]>::to_vec))
        .collect();
    assert_eq!(from_message, from_index, "{}", case.name);
    from_index
}

/// An answer in the form of the index.
fn answer(case: &Case, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Direct => json!({
            "client": case.text("connecting"), "helo": case.text("helo"), "name": null
        }),
        Outcome::Client(client) => json!({
            "client": client.address.to_string(), "helo": client.helo, "name": client.name
        }),
        _ => json!({ "client": null, "helo": null, "name": null }),
    }
}

/// Whether an answer is one that is accepted: keys that the index leaves out are not compared, and
/// a name may always be missing.
fn is_accepted(answer: &Value, expected: &Value) -> bool {
    ["client", "helo", "name"].iter().all(|&key| match expected.get(key) {
        Some(value) => *value == answer[key] || key == "name" && answer[key].is_null(),
        None => true,
    })
}

#[test]
fn clients_are_found() {
    let Some(directory) = corpus::directory() else { return };
    let (mut wrong, mut best, mut cases) = (Vec::new(), 0, 0);
    for case in corpus::cases(&directory, "received") {
        cases += 1;
        let relays = relays(&case);
        let is_relay = |address: IpAddr| relays.iter().any(|network| network.contains(&address));
        let is_trusted = |address: IpAddr| address.is_loopback();
        let connecting: IpAddr = case.text("connecting").unwrap().parse().unwrap();
        let fields = fields(&case);
        let outcome =
            find_client(connecting, fields.iter().map(Vec::as_slice), is_relay, is_trusted);
        let answer = answer(&case, &outcome);
        let expected = &case.json["expected"];
        let also = expected["also"].as_array().into_iter().flatten();
        let refused = expected["not"].as_array().into_iter().flatten();
        let is_best = is_accepted(&answer, expected);
        best += usize::from(is_best);
        if !is_best && !also.clone().any(|expected| is_accepted(&answer, expected))
            || refused.clone().any(|address| *address == answer["client"])
        {
            wrong.push(format!(
                "{}: {} {answer}, expected {expected}",
                case.name,
                outcome.as_str()
            ));
        }
        println!("{}: {} {}", case.name, outcome.as_str(), if is_best { "" } else { "(also)" });

        // With CR LF, with white space at both ends, and field by field up to the end of the walk.
        let mut walk = Walk::new(is_relay(connecting));
        for value in &fields {
            let folded: Vec<u8> = value
                .split_inclusive(|&octet| octet == b'\n')
                .flat_map(|line| match line.strip_suffix(b"\n") {
                    Some(line) => [line, b"\r\n"].concat(),
                    None => line.to_vec(),
                })
                .collect();
            walk.read(&[b" ", folded.as_slice(), b"\r\n"].concat(), is_relay);
        }
        assert_eq!(walk.finish(), outcome, "{}", case.name);
    }
    println!("{best} of {cases} answers are the best ones");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Plays the message of a case: the answers to MAIL FROM and to the end, and the records.
async fn play(case: &Case) -> (Vec<Verdict>, Vec<Record>) {
    let relays: Vec<String> = relays(case).iter().map(ToString::to_string).collect();
    let text = format!(
        "socket = fd:\nhostname = mx.example.net\nreject_results = fail, softfail, temperror, permerror\n\
         verify_helo = no\ntrusted_relays = {}\n",
        relays.join(", ")
    );
    let config = load_text(text.as_bytes(), Path::new("test"), &Overrides::default());
    let config = config.unwrap_or_else(|errors| panic!("{errors}")).config;
    let runtime = Runtime::new(config, case.dns(), "localhost".into(), 0);
    let client = Client {
        address: Some(case.text("connecting").unwrap().parse().unwrap()),
        port: 25,
        host: "unknown".into(),
    };
    let (mut session, mut answer) = Session::new(Arc::new(runtime), Granted::ALL, &client, None);
    let (mut verdicts, mut records) = (Vec::new(), Vec::new());
    let mut take = |answer: Answer| {
        records.extend(answer.records.iter().cloned());
        verdicts.push(answer.verdict.clone());
        answer.verdict == Verdict::Continue
    };
    let mut goes_on = take(std::mem::replace(&mut answer, Answer::proceed()));
    goes_on = goes_on && take(session.helo(case.text("helo").unwrap_or_default()).await);
    let sender = format!("<{}>", case.text("mailfrom").unwrap_or_default());
    if goes_on && take(session.mail(sender.as_bytes(), false, None).await) {
        for (name, value) in case.message().unwrap().fields {
            session.header(&name, &value);
        }
        take(session.end_of_message(Some("4X")).await);
    }
    take(session.close());
    (verdicts, records)
}

#[tokio::test]
async fn messages_of_relays_have_the_results_of_their_clients() {
    let Some(directory) = corpus::directory() else { return };
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for case in corpus::cases(&directory, "received") {
        cases += 1;
        let relays = relays(&case);
        let connecting: IpAddr = case.text("connecting").unwrap().parse().unwrap();
        let is_relayed = relays.iter().any(|network| network.contains(&connecting));
        let (verdicts, records) = play(&case).await;
        let expected = &case.json["expected"];
        let mut good: Vec<Value> = vec![expected["client"].clone()];
        good.extend(
            expected["also"].as_array().into_iter().flatten().map(|also| also["client"].clone()),
        );
        let client = records.iter().find_map(|record| record.client);
        let client = client.map_or(Value::Null, |client| json!(client.to_string()));
        let spf: Vec<&str> = records
            .iter()
            .flat_map(|record| &record.identities)
            .map(|identity| identity.verified.outcome.result.as_str())
            .collect();
        let is_exempt = records.iter().any(|record| record.exemption.is_some());
        let is_good = good.contains(&client)
            && (is_exempt && client.is_null()
                || spf.len() == 1 && case.expected("spf").iter().any(|result| *result == spf[0]));
        let is_refused = is_relayed && verdicts.iter().any(|verdict| *verdict != Verdict::Continue);
        if !is_good || is_refused {
            wrong
                .push(format!("{}: {client} {spf:?} {verdicts:?}, expected {expected}", case.name));
        }
    }
    println!("{cases} messages");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
