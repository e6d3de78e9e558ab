//! SPF, against pyspf and Mail::SPF.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use spf_milter::{
    auth::spf::{Limits, Outcome, ProblemKind, Query, check},
    dns::{Dns, Failure, Name, zone::Zone},
};

use super::{
    cases::{Differences, Random, rounds},
    peer,
};

/// Names that terms point to.
const NAMES: [&str; 10] = [
    "example.com",
    "a.example.com",
    "b.example",
    "c.example",
    "d.example",
    "e.example",
    "f.example",
    "mail.example.com",
    "alias.example",
    "gone.example",
];

/// The content of a name.
#[derive(Clone, Debug)]
enum Data {
    A([u8; 4]),
    Aaaa(u16),
    Mx(u16, String),
    Txt(Vec<Vec<u8>>),
    Ptr(String),
    Cname(String),
    Failure,
}

#[derive(Clone, Debug)]
struct Case {
    ip: IpAddr,
    local_part: String,
    helo: String,
    records: Vec<(String, Data)>,
}

/// An octet for each character, and back.
fn latin(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

fn name(random: &mut Random) -> String {
    if random.once_in(9) {
        let macros = [
            "%{d}",
            "%{o}",
            "%{d2}",
            "%{d1}.example",
            "%{i}._i.example",
            "%{ir}.%{v}.example",
            "%{l}.example",
            "%{l-}.example",
            "%{lr-}.example",
            "%{h}",
            "%{s}.example",
            "%{p}",
            "%{p2}.example",
            "%{L}.example",
            "%{S}.example",
            "%{d99}",
            "%%.example",
            "%_.example",
            "%{d0}",
            "%{x}",
            "%{d2r}.example",
            "%{l1r+-}.x.example",
        ];
        return random.pick(&macros).to_owned();
    }
    if random.once_in(40) {
        // Labels and names around their bounds.
        let label = "x".repeat(random.near(&[63]));
        let count = random.within(1..5);
        return format!("{}.example", vec![label; count].join("."));
    }
    let name = random.pick(&NAMES);
    if random.once_in(20) {
        name.to_uppercase()
    } else if random.once_in(20) {
        format!("{name}.")
    } else {
        name.to_owned()
    }
}

fn prefix(random: &mut Random) -> String {
    match random.below(12) {
        0 => format!("/{}", random.near(&[0, 24, 32])),
        1 => format!("//{}", random.near(&[0, 64, 128])),
        2 => format!("/{}//{}", random.near(&[0, 32]), random.near(&[0, 128])),
        3 => random.pick(&["/", "//", "/08", "/24/64", "///64", "/-1", "/024"]).to_owned(),
        _ => String::new(),
    }
}

fn term(random: &mut Random) -> String {
    let qualifier = random.pick(&["", "", "", "", "+", "-", "~", "?"]);
    let term = match random.below(40) {
        0..=7 => format!("include:{}", name(random)),
        8..=12 => format!("a:{}{}", name(random), prefix(random)),
        13 => format!("a{}", prefix(random)),
        14..=17 => format!("mx:{}{}", name(random), prefix(random)),
        18 => format!("mx{}", prefix(random)),
        19..=20 => format!("exists:{}", name(random)),
        21 => format!("ptr:{}", name(random)),
        22 => "ptr".to_owned(),
        23..=26 => {
            let address = random.pick(&[
                "192.0.2.1",
                "192.0.2.0",
                "203.0.113.9",
                "192.0.2.2",
                "0.0.0.0",
                "192.0.2",
                "192.0.2.256",
                "192.0.2.01",
                "",
            ]);
            format!("ip4:{address}{}", prefix(random).replacen("//", "/", 1))
        }
        27..=29 => {
            let address = random.pick(&[
                "2001:db8::1",
                "2001:db8::",
                "::",
                "2001:DB8:0:0:0:0:0:1",
                "::ffff:192.0.2.1",
                "1:2:3:4:5:6:7:8:9",
                "2001:db8::g",
                "",
            ]);
            format!("ip6:{address}{}", prefix(random).replacen("//", "/", 1))
        }
        30..=32 => "all".to_owned(),
        33 => format!("redirect={}", name(random)),
        34 => format!("exp={}", name(random)),
        35 => random
            .pick(&[
                "x=y",
                "a=b",
                "unknown=%{d}",
                "v=spf1",
                "default=neutral",
                "x-y.z_1=%{i}",
                "1x=y",
                "x=%",
            ])
            .to_owned(),
        36 => random
            .pick(&[
                "moo",
                "ip4",
                "include",
                "include:",
                "exists",
                "all:x",
                "all/8",
                "-",
                "a:",
                "mx:/24",
                "a=",
                "redirect:x.example",
                "ptr:",
                "redirect=",
                "exp=",
            ])
            .to_owned(),
        37 => random
            .pick(&["ALL", "Include:b.example", "A", "MX", "IP4:192.0.2.1", "REDIRECT=b.example"])
            .to_owned(),
        38 => {
            let length = random.below(8);
            (0..length).map(|_| char::from(u8::try_from(random.within(33..127)).unwrap())).collect()
        }
        _ => "-all".to_owned(),
    };
    if random.once_in(60) {
        format!("{qualifier}{qualifier}{term}")
    } else {
        format!("{qualifier}{term}")
    }
}

fn record(random: &mut Random) -> Vec<u8> {
    let count = if random.once_in(15) { random.near(&[10]) } else { random.below(6) };
    let mut terms: Vec<String> = if random.once_in(12) {
        // Many of one kind, around the bounds of look-ups and of void look-ups.
        let kind = random.pick(&["include:", "a:", "mx:", "exists:", "ptr:"]);
        let target = random.pick(&["b.example", "gone.example", "mail.example.com", "example.com"]);
        (0..count).map(|_| format!("{kind}{target}")).collect()
    } else {
        (0..count).map(|_| term(random)).collect()
    };
    if random.once_in(3) {
        terms.push(random.pick(&["-all", "~all", "?all", "+all"]).to_owned());
    }
    if random.once_in(25) {
        // The length of the record around those of strings and packets.
        let wanted = random.near(&[255, 450, 512, 1024, 2048]);
        while terms.iter().map(|term| term.len() + 1).sum::<usize>() + 6 < wanted {
            terms.insert(0, "ip4:198.51.100.7".to_owned());
        }
    }
    let space = |random: &mut Random| if random.once_in(30) { "  " } else { " " };
    let odd = ["V=SPF1", "v=spf10", "v=spf1.0", "v=spf2.0/pra", "spf1", "v=SPF1", " v=spf1"];
    let mut text = if random.once_in(15) { random.pick(&odd) } else { "v=spf1" }.to_owned();
    for term in terms {
        text += space(random);
        text += &term;
    }
    if random.once_in(20) {
        text += " ";
    }
    let mut text = text.into_bytes();
    if random.once_in(60) {
        let at = random.below(text.len() + 1);
        text.insert(at, random.octet());
    }
    text
}

/// Character-strings, cut at some place or at none.
fn strings(random: &mut Random, text: &[u8]) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    let mut rest = text;
    while rest.len() > 255 || (random.once_in(6) && !rest.is_empty()) {
        let (string, behind) = rest.split_at(random.within(1..rest.len().min(255) + 1));
        strings.push(string.to_vec());
        rest = behind;
    }
    strings.push(rest.to_vec());
    strings
}

fn case(random: &mut Random) -> Case {
    let ip = match random.below(5) {
        0 => IpAddr::from([192, 0, 2, 2]),
        1 => "2001:db8::1".parse().unwrap(),
        _ => IpAddr::from([192, 0, 2, 1]),
    };
    let local_part = match random.below(8) {
        0 => "a-b.c+d=e_f".to_owned(),
        1 => "x".repeat(random.near(&[63, 64, 250])),
        _ => "user".to_owned(),
    };
    let helo = random
        .pick(&["mail.example.com", "mail.example.com", "b.example", "gone.example"])
        .to_owned();
    let mut records = Vec::new();
    for name in NAMES.iter().filter(|name| **name != "gone.example") {
        if *name == "alias.example" {
            let target = random.pick(&[
                "b.example",
                "example.com",
                "gone.example",
                "alias.example",
                "mail.example.com",
            ]);
            records.push(((*name).to_owned(), Data::Cname(target.to_owned())));
            continue;
        }
        if random.once_in(50) && *name != "example.com" {
            records.push(((*name).to_owned(), Data::Failure));
            continue;
        }
        if *name == "example.com" || !random.once_in(4) {
            let text = record(random);
            let text = strings(random, &text);
            records.push(((*name).to_owned(), Data::Txt(text)));
        }
        if random.once_in(30) {
            let text = if random.once_in(2) { record(random) } else { b"some other text".to_vec() };
            records
                .push(((*name).to_owned(), Data::Txt(vec![text.into_iter().take(255).collect()])));
        }
        for _ in 0..random.below(3) {
            records.push((
                (*name).to_owned(),
                Data::A([192, 0, 2, u8::try_from(random.below(4)).unwrap()]),
            ));
        }
        if random.once_in(3) {
            records.push(((*name).to_owned(), Data::Aaaa(u16::try_from(random.below(3)).unwrap())));
        }
        let exchangers = if random.once_in(20) { random.near(&[10]) } else { random.below(3) };
        for number in 0..exchangers {
            let host = if random.once_in(3) {
                format!("h{number}.example")
            } else {
                random.pick(&NAMES).to_owned()
            };
            records.push(((*name).to_owned(), Data::Mx(u16::try_from(number).unwrap(), host)));
        }
    }
    let names = if random.once_in(10) { random.near(&[10]) } else { random.below(3) };
    for _ in 0..names {
        let host = random.pick(&NAMES).to_owned();
        records.push((Name::reverse(ip).as_str().to_owned(), Data::Ptr(host)));
    }
    // Explanations.
    for name in ["b.example", "c.example"] {
        let fails =
            records.iter().any(|(owner, data)| owner == name && matches!(data, Data::Failure));
        if !fails && random.once_in(3) {
            records.retain(|(owner, data)| owner != name || !matches!(data, Data::Txt(_)));
            let text = random.pick(&[
                "%{s} may not use %{i}",
                "see http://%{d}/%{S}?%{c}%_%-%%",
                "%",
                "%{x}",
                "%{l1r-} %{h} %{r} %{v} %{dr}",
                "",
            ]);
            records.push((name.to_owned(), Data::Txt(vec![text.as_bytes().to_vec()])));
        }
    }
    Case { ip, local_part, helo, records }
}

impl Case {
    fn json(&self) -> Value {
        let mut zone: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (owner, data) in &self.records {
            let data = match data {
                Data::A(address) => json!(["A", IpAddr::from(*address).to_string()]),
                Data::Aaaa(low) => json!(["AAAA", aaaa(*low).to_string()]),
                Data::Mx(preference, host) => json!(["MX", [json!(preference), json!(host)]]),
                Data::Txt(strings) => {
                    json!(["TXT", strings.iter().map(|text| latin(text)).collect::<Vec<_>>()])
                }
                Data::Ptr(host) => json!(["PTR", host]),
                Data::Cname(target) => json!(["CNAME", target]),
                Data::Failure => json!(["!", ""]),
            };
            zone.entry(owner).or_default().push(data);
        }
        let sender = format!("{}@example.com", self.local_part);
        json!({"ip": self.ip.to_string(), "sender": sender, "helo": self.helo, "zone": zone})
    }

    fn zone(&self) -> Zone {
        let mut zone = Zone::new();
        for (owner, data) in &self.records {
            match data {
                Data::A(address) => zone.add_a(owner, (*address).into()),
                Data::Aaaa(low) => zone.add_aaaa(owner, aaaa(*low)),
                Data::Mx(preference, host) => zone.add_mx(owner, *preference, host),
                Data::Txt(strings) => zone.add_txt(owner, &strings.concat()),
                Data::Ptr(host) => zone.add_ptr(owner, host),
                Data::Cname(target) => zone.add_cname(owner, target),
                Data::Failure => zone.add_failure(owner, None, Failure::Rcode("SERVFAIL")),
            }
        }
        zone
    }

    fn check(&self) -> Outcome {
        let query = Query {
            client: self.ip,
            domain: "example.com".into(),
            local_part: &self.local_part,
            helo: &self.helo,
            receiver: "mx.example",
            timestamp: 1_700_000_000,
        };
        let limits = Limits { timeout: Duration::from_secs(3600), ..Limits::default() };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(check(&Dns::from_zone(Arc::new(self.zone())), &query, &limits, None))
    }
}

fn aaaa(low: u16) -> std::net::Ipv6Addr {
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, low].into()
}

/// A difference that is explained: what it is called, where the RFC speaks of it, and how it is
/// known.
type Explanation = (&'static str, fn(&Case, &Outcome, &str, &str) -> bool);

fn reason(outcome: &Outcome) -> &str {
    outcome.problem.as_ref().map_or("", |problem| problem.kind.as_str())
}

fn compare(program: &str, explanations: &[Explanation]) {
    let mut random = Random::new("spf");
    let cases: Vec<Case> = (0..rounds(100, 1_500)).map(|_| case(&mut random)).collect();
    let asked: Vec<Value> = cases.iter().map(Case::json).collect();
    let answers = peer::ask(program, &asked);
    let mut differences = Differences::default();
    for (case, answer) in cases.iter().zip(&answers) {
        let ours = case.check();
        let (theirs, why) =
            (answer["result"].as_str().unwrap(), answer["reason"].as_str().unwrap());
        let explanation = ours.explanation.as_deref().unwrap_or("DEFAULT");
        let same_text = theirs != "fail" || answer["explanation"] == *explanation;
        if ours.result.as_str() == theirs && same_text {
            differences.equal();
        } else if let Some((name, _)) =
            explanations.iter().find(|(_, is_it)| is_it(case, &ours, theirs, why))
        {
            differences.explained(name);
        } else {
            let problem = ours.problem.as_ref().map(|problem| &problem.detail);
            let text = &answer["explanation"];
            differences.unexplained(format!(
                "ours {} {problem:?} {:?}, {program} {theirs} {why:?} {text}\n  {}\n",
                ours.result,
                ours.explanation,
                case.json()
            ));
        }
    }
    differences.finish(program);
}

#[test]
#[ignore = "needs pyspf: make peers"]
fn pyspf() {
    compare("check_spf.py", PYSPF);
}

#[test]
#[ignore = "needs Mail::SPF: make peers"]
fn mail_spf() {
    compare("check_spf.pl", MAIL_SPF);
}

/// The records of a case, in words.
fn any_text(case: &Case, is_it: impl Fn(&str) -> bool) -> bool {
    case.records
        .iter()
        .any(|(_, data)| matches!(data, Data::Txt(strings) if is_it(&latin(&strings.concat()))))
}

/// Whether the names of the client can fail to be looked up: then they are none (§5.5), where the
/// peers give up.
fn names_fail(case: &Case) -> bool {
    let is_bad = |host: &str| {
        let alias = |name: &str| {
            case.records.iter().any(|(owner, data)| {
                owner == name && matches!(data, Data::Cname(target) if target == name)
            })
        };
        host == "alias.example" && alias(host)
            || case
                .records
                .iter()
                .any(|(owner, data)| owner == host && matches!(data, Data::Failure))
    };
    any_text(case, |text| text.to_ascii_lowercase().contains("ptr") || text.contains("%{p"))
        && case.records.iter().any(|(_, data)| matches!(data, Data::Ptr(host) if is_bad(host)))
}

/// Whether the addresses of some exchanger cannot be had.
fn exchanger_fails(case: &Case) -> bool {
    let fails = |host: &str| {
        case.records.iter().any(|(owner, data)| {
            owner == host
                && (matches!(data, Data::Failure)
                    || matches!(data, Data::Cname(target) if target == host))
        })
    };
    case.records.iter().any(|(_, data)| matches!(data, Data::Mx(_, host) if fails(host)))
        && any_text(case, |text| text.to_ascii_lowercase().contains("mx"))
}

/// The term that ours finds a syntax error in, without its qualifier.
fn wrong_term(ours: &Outcome) -> Option<&str> {
    let detail = &ours.problem.as_ref()?.detail;
    let term = detail.strip_prefix("syntax error in '")?.split('\'').next()?;
    Some(term.trim_start_matches(['+', '-', '~', '?']))
}

const VOID: Explanation = (
    "void look-ups: counted by query, here by term, and the client's names once (RFC 7208 §4.6.4)",
    |_, ours, theirs, why| {
        let ours_counts = reason(ours) == ProblemKind::TooManyVoidLookups.as_str();
        let theirs_counts = theirs == "permerror"
            && (why.contains("Void lookup limit") || why.contains("void DNS look-ups"));
        ours_counts != theirs_counts
    },
);

const NAMES_FAIL: Explanation = (
    "an error of DNS about a name of the client is no match, not temperror (RFC 7208 §5.5)",
    |case, ours, theirs, _| {
        theirs == "temperror" && ours.result.as_str() != "temperror" && names_fail(case)
    },
);

const ANY_EXCHANGER: Explanation = (
    "an mx of which one exchanger matches does match, in any order (RFC 7208 §5.4)",
    |case, ours, theirs, _| {
        theirs == "temperror" && ours.result.as_str() != "temperror" && exchanger_fails(case)
    },
);

const ZERO_DIGIT: Explanation =
    ("the number of a macro must not be zero (RFC 7208 §7.3)", |_, ours, _, _| {
        wrong_term(ours).is_some_and(|term| term.contains("0}"))
    });

const ODD_OCTETS: Explanation = (
    "octets beyond printable ASCII are none of the grammar (RFC 7208 §4.6.1, §7.1)",
    |_, ours, _, _| {
        ours.problem
            .as_ref()
            .is_some_and(|problem| problem.detail.starts_with("octets that are not ASCII"))
            || wrong_term(ours).is_some_and(|term| term.chars().any(char::is_control))
    },
);

const SAME_TWICE: Explanation =
    ("the same record twice in an answer is one record (RFC 2181 §5)", |case, _, _, why| {
        let texts: Vec<(&String, Vec<u8>)> = case
            .records
            .iter()
            .filter_map(|(owner, data)| {
                if let Data::Txt(strings) = data { Some((owner, strings.concat())) } else { None }
            })
            .collect();
        let is_twice =
            texts.iter().any(|text| texts.iter().filter(|other| *other == text).count() > 1);
        is_twice && (why.contains("Two or more") || why.contains("Redundant"))
    });

const PYSPF: &[Explanation] = &[
    VOID,
    NAMES_FAIL,
    ANY_EXCHANGER,
    ZERO_DIGIT,
    ODD_OCTETS,
    SAME_TWICE,
    ("names of modifiers are in any case, here and in RFC 7208 §4.6.1", |case, _, _, _| {
        any_text(case, |text| text.contains("REDIRECT="))
    }),
    (
        "exists and include without a domain are syntax errors (RFC 7208 §5.2, §5.7)",
        |_, ours, _, _| wrong_term(ours).is_some_and(|term| ["exists", "include"].contains(&term)),
    ),
    (
        "of an explanation in several strings all count (RFC 7208 §3.3, §6.2)",
        |case, ours, theirs, _| {
            theirs == "fail"
                && ours.result.as_str() == "fail"
                && ours.explanation.is_some()
                && case
                    .records
                    .iter()
                    .any(|(_, data)| matches!(data, Data::Txt(strings) if strings.len() > 1))
        },
    ),
    (
        "an include of a domain by itself ends at the limit of look-ups, or at a match before (RFC 7208 §5.2)",
        |_, _, _, why| why.contains("trivial recursion"),
    ),
];

const MAIL_SPF: &[Explanation] = &[
    ("a macro of no known letter is a syntax error (RFC 7208 §7.2)", |_, ours, _, _| {
        wrong_term(ours).is_some_and(|term| term.contains("%{x}"))
    }),
    VOID,
    ANY_EXCHANGER,
    ZERO_DIGIT,
    ODD_OCTETS,
    SAME_TWICE,
    ("a domain of no octets is a syntax error (RFC 7208 §7.1)", |_, ours, _, _| {
        wrong_term(ours).is_some_and(|term| term.contains(":/") || term.ends_with(':'))
    }),
    ("an explanation with an error of syntax is none (RFC 7208 §6.2)", |_, ours, theirs, _| {
        theirs == "fail" && ours.result.as_str() == "fail" && ours.explanation.is_none()
    }),
    (
        "more than ten exchangers are permerror, whichever of them matches (RFC 7208 §4.6.4)",
        |_, ours, _, _| {
            ours.problem
                .as_ref()
                .is_some_and(|problem| problem.detail.starts_with("more than 10 MX records"))
        },
    ),
    ("ip6 matches no client of IPv4, mapped or not (RFC 7208 §5.6)", |case, _, _, _| {
        case.ip.is_ipv4() && any_text(case, |text| text.contains("ip6:"))
    }),
];
