//! The public suite of Received fields: the client that each message names.
//!
//! Run with `make test CORPUS=DIR`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use spf_milter::mail::received::{Outcome, Walk, find_client};
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
