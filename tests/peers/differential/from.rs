//! From: no address that another reader finds goes unnoticed.

use serde_json::{Value, json};
use spf_milter::mail::{
    author::{Author, MAX_AUTHOR_DOMAINS},
    domain::Domain,
};

use super::{
    cases::{Differences, Random, rounds},
    peer,
};
use testkit::fuzz;

fn domain(random: &mut Random) -> String {
    random
        .pick(&[
            "a.example",
            "b.example",
            "mail.a.example",
            "A.EXAMPLE",
            "xn--bcher-kva.example",
            "b-c.example",
        ])
        .to_owned()
}

fn local_part(random: &mut Random) -> String {
    random
        .pick(&[
            "x",
            "first.last",
            "x+y",
            "\"a b\"",
            "\"a\\\"b\"",
            "x_y-z",
            "\"a@b\"",
            "a..b",
            "=?utf-8?q?x?=",
        ])
        .to_owned()
}

fn phrase(random: &mut Random) -> String {
    random
        .pick(&[
            "Bank",
            "\"Bank, Inc.\"",
            "A. Sender",
            "\"a \\\"b\\\" c\"",
            "=?utf-8?q?J=C3=B6rg?=",
            "",
            "Doe, John",
            "Bank (x)",
            "\"x@y.example\"",
            "=?utf-8?Q?Acme,_Inc=2E?=",
        ])
        .to_owned()
}

fn mailbox(random: &mut Random) -> String {
    let address = format!("{}@{}", local_part(random), domain(random));
    let space = random.pick(&["", "", "", " ", "\r\n ", "\t"]);
    match random.below(12) {
        0..=4 => format!("{} <{address}>", phrase(random)),
        5..=7 => address,
        8 => format!("{address} ({})", phrase(random).replace('"', "")),
        9 => format!("{}{space}<{space}{address}{space}>", phrase(random)),
        10 => {
            format!("({}){space}{address}", random.pick(&["c", "a (b) c", "a\\)b", "x@c.example"]))
        }
        _ => format!("<@r.example:{address}>"),
    }
}

fn field(random: &mut Random) -> String {
    let count = if random.once_in(4) { random.within(2..6) } else { 1 };
    let mailboxes: Vec<String> = (0..count).map(|_| mailbox(random)).collect();
    let mut text = mailboxes.join(random.pick(&[", ", ",", " , ", ",\r\n "]));
    if random.once_in(12) {
        text = format!("Group: {text};");
    }
    // One character too many, or three.
    let odd = if random.once_in(3) { random.within(1..4) } else { 0 };
    for _ in 0..odd {
        let at = random.below(text.len() + 1);
        text.insert_str(
            at,
            random.pick(&[
                "<", ">", "(", ")", "\"", ",", ";", "@", "\\", ":", " ", ".", "[", "]", "\r\n ",
                "=?", "?=", "\t", "x",
            ]),
        );
    }
    format!(" {text}")
}

/// The domains of addresses, as domains of two labels or more.
fn domains(addresses: &Value) -> Vec<Domain> {
    let addresses = addresses.as_array().unwrap().iter().filter_map(Value::as_str);
    let mut domains: Vec<Domain> = addresses
        .filter_map(|address| Domain::parse(address.rsplit_once('@')?.1).ok())
        .filter(Domain::is_qualified)
        .collect();
    domains.dedup();
    domains
}

#[test]
#[ignore = "needs Python: make peers"]
fn python() {
    let mut random = Random::new("from");
    let fields: Vec<String> = (0..rounds(100, 3_000)).map(|_| field(&mut random)).collect();
    let asked: Vec<Value> = fields.iter().map(|field| json!(field)).collect();
    let mut differences = Differences::default();
    for (field, theirs) in fields.iter().zip(peer::ask("read_from.py", &asked)) {
        fuzz::run("from", field.as_bytes());
        let author = Author::from_fields(&[field.as_bytes()]);
        let missed: Vec<Domain> = [domains(&theirs["plain"]), domains(&theirs["strict"])]
            .concat()
            .into_iter()
            .filter(|domain| !author.domains().contains(domain))
            .collect();
        match &author {
            _ if missed.is_empty() => differences.equal(),
            Author::One(_) | Author::Several(_) if is_quoted(field, &missed) => {
                differences.explained(
                    "an address in a comment or a quoted string is none (RFC 5322 §3.2.2, §3.2.4)",
                );
            }
            _ if is_split(field, &missed) => {
                differences.explained("white space in a word in front of a bracket is that of a display name (RFC 5322 §3.4)");
            }
            Author::Several(_) if field.contains('\\') => {
                differences
                    .explained("a domain with a backslash may end in several places: some are found, and so it is never a pass");
            }
            author if author.domains().len() >= MAX_AUTHOR_DOMAINS => {
                differences.explained("authors beyond the bound (docs/limits.md)")
            }
            author => {
                differences.unexplained(format!("{field:?}: ours {author:?}, Python {theirs}"))
            }
        }
    }
    differences.finish("From");
}

/// Whether the domains stand only in quotes or a comment.
fn is_quoted(field: &str, missed: &[Domain]) -> bool {
    let quoted = ["\"x@y.example\"", "(x@c.example)", "x@y.example)"];
    missed.iter().all(|domain| {
        quoted.iter().any(|text| field.contains(text) && text.contains(domain.as_str()))
    })
}

/// Whether the domains come only of white space within words, in front of a bracket.
fn is_split(field: &str, missed: &[Domain]) -> bool {
    let lower = field.to_ascii_lowercase();
    let squeezed: String = lower.chars().filter(|c| !c.is_whitespace()).collect();
    missed
        .iter()
        .all(|domain| !lower.contains(domain.as_str()) && squeezed.contains(&format!("{domain}<")))
}
