//! DMARC: records against Mail::DMARC, discovery and alignment against the slow twin.

use serde_json::{Value, json};
use spf_milter::auth::dmarc::{Alignment, Policies, Record};

use super::{
    cases::{Differences, Random, rounds},
    peer,
};
use testkit::fuzz;

fn record(random: &mut Random) -> String {
    let policy = |random: &mut Random| {
        random.pick(&["none", "quarantine", "reject", "reject", "Reject", "bad", ""]).to_owned()
    };
    let mut tags = Vec::new();
    if !random.once_in(12) {
        tags.push(format!("p={}", policy(random)));
    }
    for _ in 0..random.below(6) {
        let tag = match random.below(14) {
            0 => format!("sp={}", policy(random)),
            1 => format!("np={}", policy(random)),
            2 => format!("adkim={}", random.pick(&["s", "r", "S", "x", ""])),
            3 => format!("aspf={}", random.pick(&["s", "r", "R", "strict"])),
            4 => format!("psd={}", random.pick(&["y", "n", "u", "Y", "x"])),
            5 => format!("t={}", random.pick(&["y", "n", "Y", "yes"])),
            6 => format!(
                "rua={}",
                random.pick(&[
                    "mailto:a@example.com",
                    "mailto:a@example.com!10m",
                    "mailto:a@x.example, mailto:b@x.example",
                    "a@example.com",
                    "mailto:a%40b",
                    ":",
                    "mailto:%zz"
                ])
            ),
            7 => "ruf=mailto:b@example.com".to_owned(),
            8 => "fo=1:d".to_owned(),
            9 => format!("pct={}", random.pick(&["0", "50", "100", "x"])),
            10 => random.pick(&["x", "=", "x=", "rf=afrf", "ri=86400", "unknown=1"]).to_owned(),
            11 => format!("p={}", policy(random)),
            12 => "P=none".to_owned(),
            _ => String::new(),
        };
        tags.push(tag);
    }
    if random.once_in(10) {
        let last = tags.len();
        let (a, b) = (random.below(last.max(1)), random.below(last.max(1)));
        if a < last && b < last {
            tags.swap(a, b);
        }
    }
    let separator = random.pick(&["; ", "; ", ";", " ; ", ";\t", ";;"]);
    let version = if random.once_in(12) {
        random.pick(&[
            "v=dmarc1",
            "V=DMARC1",
            "v = DMARC1",
            " v=DMARC1",
            "v=DMARC2",
            "v=DMARC1 x",
            "v=spf1",
        ])
    } else {
        "v=DMARC1"
    };
    let end = random.pick(&["", "", ";", "; ", " "]);
    let mut text =
        [version.to_owned()].into_iter().chain(tags).collect::<Vec<_>>().join(separator) + end;
    if random.once_in(15) {
        text = text.replace('=', " = ");
    }
    text
}

/// A difference that is explained: what it is called, where the RFC speaks of it, and how it is
/// known.
type Explanation = (&'static str, fn(&str, Option<&Record>) -> bool);

/// The tags of a text, as anybody reads them.
fn tags(text: &str) -> Vec<(String, String)> {
    text.split(';')
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase()))
        .collect()
}

fn is_twice(text: &str) -> bool {
    let tags = tags(text);
    tags.iter().any(|(name, _)| tags.iter().filter(|(other, _)| other == name).count() > 1)
}

fn is_bad_policy(text: &str) -> bool {
    let is_policy = |value: &str| ["none", "quarantine", "reject"].contains(&value);
    let tags = tags(text);
    tags.iter().any(|(name, value)| ["p", "sp", "np"].contains(&name.as_str()) && !is_policy(value))
}

const EXPLANATIONS: &[Explanation] = &[
    ("a tag that is there twice has no value (RFC 6376 §3.2)", |text, _| is_twice(text)),
    (
        "the version is v=DMARC1 to the letter, with nothing before it (RFC 9989 §4.8)",
        |text, ours| {
            ours.is_none()
                && !text.starts_with("v=DMARC1")
                && text.to_ascii_lowercase().replace([' ', '\t'], "").starts_with("v=dmarc1")
        },
    ),
    ("a version with more behind it is none (RFC 9989 §4.8)", |text, ours| {
        ours.is_none() && text.starts_with("v=DMARC1 x")
    }),
    (
        "a bad p, sp or np is p=none with a report address, else no policy (RFC 9989 §4.10.1)",
        |text, _| is_bad_policy(text),
    ),
    ("a bad value of adkim or aspf is that of the default (RFC 9989 §4.8)", |text, _| {
        tags(text).iter().any(|(name, value)| {
            ["adkim", "aspf"].contains(&name.as_str()) && !["r", "s"].contains(&value.as_str())
        })
    }),
    ("without p, a report address must be a URI of RFC 3986 (RFC 9989 §4.7)", |text, _| {
        !tags(text).iter().any(|(name, _)| name == "p")
            && tags(text).iter().any(|(name, _)| name == "rua")
    }),
];

#[test]
#[ignore = "needs Mail::DMARC: make peers"]
fn records() {
    let mut random = Random::new("dmarc records");
    let texts: Vec<String> = (0..rounds(100, 3_000)).map(|_| record(&mut random)).collect();
    let asked: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    let mut differences = Differences::default();
    for (text, theirs) in texts.iter().zip(peer::ask("parse_dmarc.pl", &asked)) {
        fuzz::run("dmarc_record", text.as_bytes());
        let ours = Record::parse(text.as_bytes());
        let same = match &ours {
            Some(Record { policies: Some(Policies { p, sp, .. }), adkim, aspf, .. }) => {
                let alignment = |ours: &Alignment, theirs: &Value| {
                    theirs.as_str().unwrap_or("r")
                        == if *ours == Alignment::Strict { "s" } else { "r" }
                };
                theirs["p"] == p.as_str()
                    && theirs["sp"].as_str() == sp.map(|sp| sp.as_str())
                    && alignment(adkim, &theirs["adkim"])
                    && alignment(aspf, &theirs["aspf"])
            }
            _ => theirs.get("error").is_some(),
        };
        if same {
            differences.equal();
        } else if let Some((name, _)) =
            EXPLANATIONS.iter().find(|(_, is_it)| is_it(text, ours.as_ref()))
        {
            differences.explained(name);
        } else {
            differences.unexplained(format!("{text:?}: ours {ours:?}, Mail::DMARC {theirs}"));
        }
    }
    differences.finish("DMARC records");
}

/// A domain of a few labels, so that two are often related.
fn domain(random: &mut Random) -> String {
    let labels = if random.once_in(6) { random.near(&[7, 8]) } else { random.within(1..5) };
    let mut name = random.pick(&["example", "example", "com"]).to_owned();
    for _ in 1..labels {
        name = format!("{}.{name}", random.pick(&["a", "a", "b"]));
    }
    name
}

/// Discovery, walk, alignment and policy, for worlds made up at random.
#[test]
fn evaluation() {
    let mut random = Random::new("dmarc");
    let count = rounds(100, 2_000);
    for _ in 0..count {
        let mut line = domain(&mut random);
        for _ in 0..random.below(4) {
            let kind = random.pick(&["spf=", "dkim=", "dkim=", "dkim?", "dkim!"]);
            line += &format!(" {kind}{}", domain(&mut random));
        }
        let mut zone = String::new();
        for _ in 0..random.below(7) {
            let name = domain(&mut random);
            zone += &match random.below(12) {
                0 => format!("_dmarc.{name} TXT !servfail\n"),
                1 => format!("{name} A 192.0.2.1\n"),
                2 => format!("{name} A !timeout\n"),
                3 => format!("_dmarc.{name} TXT {}\n", record(&mut random).trim()),
                4 => format!("_dmarc.{name} CNAME _dmarc.{}\n", domain(&mut random)),
                _ => {
                    let psd = random.pick(&["", "", "; psd=y", "; psd=n"]);
                    let rest = random.pick(&[
                        "",
                        "; adkim=s",
                        "; aspf=s",
                        "; t=y",
                        "; sp=none; np=quarantine",
                        "; np=reject",
                    ]);
                    format!(
                        "_dmarc.{name} TXT v=DMARC1; p={}{psd}{rest}\n",
                        random.pick(&["none", "quarantine", "reject"])
                    )
                }
            };
        }
        fuzz::run("dmarc", format!("{line}\n{zone}").as_bytes());
    }
    println!("DMARC: {count} worlds, as the slow twin has them");
}
