//! DKIM, against dkimpy and Mail::DKIM: messages that dkimpy signs, whole, altered by an octet, and
//! with odd tags and keys.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use spf_milter::{
    auth::dkim::{KeyProblem, Reason, Settings, SignatureOutcome, Verifier},
    dns::{Dns, zone::Zone},
};

use super::{
    bodies::{cut, make_body},
    cases::{Differences, Random, rounds},
    peer,
};
use testkit::models::dkim::split;

const KEYS: [&str; 6] = ["rsa1024", "rsa2048", "rsa4096", "rsa8192", "rsa512", "ed25519"];

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn settings() -> Settings {
    Settings {
        max_signatures: 10,
        min_key_bits: 1024,
        timeout: Duration::from_secs(5),
        now: 1_795_000_000,
    }
}

/// The outcome of a signature with this body hash, and nothing else right.
pub(crate) fn body_reason(
    hash: &str,
    relaxed: bool,
    length: Option<usize>,
    chunks: &[&[u8]],
) -> Option<Reason> {
    let (signature, word) =
        (BASE64_STANDARD.encode([0; 64]), if relaxed { "relaxed" } else { "simple" });
    let length = length.map_or(String::new(), |length| format!(" l={length};"));
    let value = format!(
        " v=1; a=ed25519-sha256; c=relaxed/{word}; d=example.com; s=k; h=from;{length} bh={hash}; b={signature}"
    );
    let zone =
        Zone::parse("k._domainkey.example.com TXT v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
    let mut verifier = Verifier::new(settings());
    verifier.header(b"DKIM-Signature", value.as_bytes());
    verifier.header(b"From", b" a@example.com");
    run(async {
        let mut verification = verifier.end_of_header(&Dns::from_zone(Arc::new(zone)));
        chunks.iter().for_each(|chunk| verification.body(chunk));
        verification.finish().await.unwrap().pop().unwrap().reason
    })
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testkit/keys")
}

/// The value of `p=`.
fn public(key: &str) -> String {
    let output = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(folder().join(format!("{key}.pem")))
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    let start = if key == "ed25519" { output.stdout.len() - 32 } else { 0 };
    BASE64_STANDARD.encode(&output.stdout[start..])
}

/// A message that is to be signed.
struct Unsigned {
    key: &'static str,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    names: Vec<&'static str>,
    /// The signature's field, with places to fill in.
    tags: String,
}

fn field_value(random: &mut Random) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..random.within(1..6) {
        value.extend_from_slice(
            random.pick(&[" ", "  ", "\t", "\r\n ", "\r\n\t", " \r\n  ", ""]).as_bytes(),
        );
        value.extend(std::iter::repeat_n(
            b'a' + u8::try_from(random.below(26)).unwrap(),
            random.within(1..40),
        ));
        if random.once_in(12) {
            value.push(random.octet().max(0x80));
        }
    }
    value.extend_from_slice(random.pick(&["", "", " ", "\t "]).as_bytes());
    value
}

fn unsigned(random: &mut Random) -> Unsigned {
    let key = if random.once_in(25) {
        "rsa8192"
    } else if random.once_in(25) {
        "rsa512"
    } else {
        random.pick(&["rsa1024", "rsa2048", "rsa2048", "rsa4096", "ed25519", "ed25519"])
    };
    let key = KEYS.into_iter().find(|name| *name == key).unwrap();
    let mut fields = vec![("From".to_owned(), b" \"A. B\" <a@example.com>".to_vec())];
    let possible =
        ["Subject", "To", "Date", "Message-ID", "X-A", "X-B", "Received", "x-a", "SUBJECT"];
    for _ in 0..random.below(8) {
        let name = random.pick(&possible).to_owned();
        let value = field_value(random);
        let at = random.below(fields.len() + 1);
        fields.insert(at, (name, value));
    }
    let mut names = vec!["from"];
    for _ in 0..random.below(6) {
        names.insert(
            random.below(names.len() + 1),
            random.pick(&[
                "Subject",
                "to",
                "DATE",
                "X-A",
                "x-b",
                "received",
                "absent",
                "from",
                "message-id",
            ]),
        );
    }
    let algorithm = if key == "ed25519" { "ed25519-sha256" } else { "rsa-sha256" };
    let mut tags = vec![
        "v=1".to_owned(),
        format!("a={algorithm}"),
        "d=example.com".to_owned(),
        format!("s={key}"),
        "h={h}".to_owned(),
        "bh={bh}".to_owned(),
    ];
    let c = random.pick(&[
        "c=relaxed/relaxed",
        "c=simple/simple",
        "c=relaxed/simple",
        "c=simple/relaxed",
        "c=relaxed",
        "c=simple",
        "",
    ]);
    for tag in [
        c,
        random.pick(&["", "", "t=1700000000"]),
        random.pick(&["", "", "x=1999999999"]),
        random.pick(&["", "", "q=dns/txt"]),
        random.pick(&["", "", "i=@example.com", "i=u@sub.example.com"]),
        random.pick(&["", "", "", "l={length}"]),
        random.pick(&["", "", "z=x:y|a=3Bb"]),
    ] {
        if !tag.is_empty() {
            tags.push(tag.to_owned());
        }
    }
    // The version stays first, as some want it.
    for last in (2..tags.len()).rev() {
        tags.swap(last, random.within(1..last + 1));
    }
    let separator = random.pick(&["; ", ";", ";\r\n ", " ; ", ";\r\n\t"]);
    tags.push("b=".to_owned());
    // As MTAs hand it on; what becomes of half a line is the matter of the body hashes.
    let mut body = make_body(random);
    if !body.is_empty() && !body.ends_with(b"\r\n") {
        body.extend_from_slice(b"\r\n");
    }
    Unsigned { key, fields, body, names, tags: tags.join(separator) }
}

impl Unsigned {
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for (name, value) in &self.fields {
            message.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(&self.body);
        message
    }
}

/// Signs with dkimpy: the whole messages.
fn sign(messages: &[Unsigned]) -> Vec<Vec<u8>> {
    let jobs: Vec<Value> = messages
        .iter()
        .map(|message| {
            json!({
                "message": BASE64_STANDARD.encode(message.message()),
                "key": folder().join(format!("{}.pem", message.key)),
                "algorithm": if message.key == "ed25519" { "ed25519-sha256" } else { "rsa-sha256" },
                "headers": message.names,
                "tags": message.tags,
            })
        })
        .collect();
    let mut child = Command::new("/usr/bin/python3")
        .arg(testkit::root().join("testkit/peers/sign.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(Value::from(jobs).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "sign.py: {}", output.status);
    let values: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    messages
        .iter()
        .zip(values)
        .map(|(message, value)| {
            let value = BASE64_STANDARD.decode(value).unwrap();
            [b"DKIM-Signature:".as_slice(), &value, b"\r\n", &message.message()].concat()
        })
        .collect()
}

/// A message to be verified.
struct Case {
    kind: &'static str,
    message: Vec<u8>,
    keys: BTreeMap<String, String>,
}

/// Alters a message somewhere, its lines left as they are.
fn alter(random: &mut Random, message: &mut Vec<u8>) {
    let at = random.below(message.len());
    let is_end = |octet: u8| matches!(octet, b'\r' | b'\n');
    if is_end(message[at]) {
        return;
    }
    match random.below(3) {
        0 => {
            let octet = message[at] ^ (1 << random.below(8));
            // A NUL ends the text in the milter protocol, a colon the name of a field.
            if !is_end(octet) && octet != 0 && octet != b':' && message[at] != b':' {
                message[at] = octet;
            }
        }
        1 if matches!(message[at], b' ' | b'\t') => {
            message.insert(at, *random.pick(&[b" ", b"\t"]).first().unwrap())
        }
        2 if matches!(message[at], b' ' | b'\t')
            && at > 0
            && matches!(message[at - 1], b' ' | b'\t') =>
        {
            _ = message.remove(at)
        }
        _ => message.insert(at, b'x'),
    }
}

fn cases(random: &mut Random, count: u64) -> Vec<Case> {
    let records: BTreeMap<&str, String> = KEYS.into_iter().map(|key| (key, public(key))).collect();
    let unsigned: Vec<Unsigned> = (0..count).map(|_| unsigned(random)).collect();
    let mut cases = Vec::new();
    for (source, message) in unsigned.iter().zip(sign(&unsigned)) {
        let name = format!("{}._domainkey.example.com", source.key);
        let kind = if source.key == "ed25519" { "ed25519" } else { "rsa" };
        let data = &records[source.key];
        let usual = format!("v=DKIM1; k={kind}; p={data}");
        let mut add = |kind, message, record: Option<String>| {
            cases.push(Case {
                kind,
                message,
                keys: record.map(|record| (name.clone(), record)).into_iter().collect(),
            });
        };
        add("valid", message.clone(), Some(usual.clone()));
        for _ in 0..3 {
            let mut altered = message.clone();
            alter(random, &mut altered);
            add("altered", altered, Some(usual.clone()));
        }
        let odd = match random.below(16) {
            0 => format!("p={data}"),
            1 => format!("k={kind}; p={data};"),
            2 => format!("v=DKIM1;k={kind};t=y;p={data}"),
            3 => format!("v=DKIM1; k={kind}; t=s; p={data}"),
            4 => format!("v=DKIM1; k={kind}; h=sha256; s=email; p={data}"),
            5 => format!("v=DKIM1; k={kind}; h=sha1; p={data}"),
            6 => format!("v=DKIM1; k={kind}; s=tlsrpt; p={data}"),
            7 => format!("v=DKIM1; k={kind}; p="),
            8 => format!("v=DKIM1; k={}; p={data}", if kind == "rsa" { "ed25519" } else { "rsa" }),
            9 => format!("k={kind}; p={data}; v=DKIM1"),
            10 => format!("v=DKIM2; k={kind}; p={data}"),
            11 => format!("v=DKIM1; k={kind}; p={} {}", &data[..9], &data[9..]),
            12 => format!("v=DKIM1; k={kind}; p={}", data.trim_end_matches('=')),
            13 => format!("v=DKIM1; k={kind}; n=a note; x=y; p={data}"),
            14 => format!("v=DKIM1 ; k = {kind} ; p = {data} ; "),
            _ => format!("v=DKIM1; k={kind}; p={}", &data[..data.len() / 2]),
        };
        add("odd key", message.clone(), Some(odd));
        if random.once_in(10) {
            add("no key", message.clone(), None);
        }
    }
    cases
}

/// The outcomes here, the body in chunks of some kind.
fn verify(random: &mut Random, case: &Case) -> Vec<SignatureOutcome> {
    let (fields, body) = split(&case.message);
    let mut zone = Zone::new();
    for (name, text) in &case.keys {
        zone.add_txt(name, text.as_bytes());
    }
    let mut verifier = Verifier::new(settings());
    fields.iter().for_each(|(name, value)| verifier.header(name, value));
    let chunks = cut(random, &body);
    run(async {
        let mut verification = verifier.end_of_header(&Dns::from_zone(Arc::new(zone)));
        chunks.iter().for_each(|chunk| verification.body(chunk));
        verification.finish().await.unwrap()
    })
}

/// A difference that is explained: what it is called, where the RFC speaks of it, and how it is
/// known.
type Explanation = (&'static str, fn(&Case, &SignatureOutcome, &str) -> bool);

fn compare(program: &str, skip: Option<&str>, explanations: &[Explanation]) {
    let mut random = Random::new("dkim");
    let cases: Vec<Case> = cases(&mut random, rounds(4, 60))
        .into_iter()
        .filter(|case| skip.is_none_or(|skip| !case.keys.keys().any(|name| name.starts_with(skip))))
        .collect();
    let ours: Vec<Vec<SignatureOutcome>> =
        cases.iter().map(|case| verify(&mut random, case)).collect();
    let asked: Vec<Value> = cases
        .iter()
        .zip(&ours)
        .map(
            |(case, ours)| json!({"message": BASE64_STANDARD.encode(&case.message), "signatures": ours.len(), "keys": case.keys}),
        )
        .collect();
    let mut differences = Differences::default();
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(peer::ask(program, &asked)) {
        for (number, ours) in ours.iter().enumerate() {
            let theirs = theirs[number].as_str().unwrap_or("none");
            if ours.reason.is_none() == (theirs == "pass") {
                differences.equal();
            } else if let Some((name, _)) =
                explanations.iter().find(|(_, is_it)| is_it(case, ours, theirs))
            {
                differences.explained(name);
            } else {
                let text = String::from_utf8_lossy(&case.message);
                differences.unexplained(format!(
                    "{}: ours {:?}, {program} {theirs}: {:?}\n{text}",
                    case.kind, ours.reason, case.keys
                ));
            }
        }
    }
    differences.finish(program);
}

#[test]
#[ignore = "needs dkimpy: make peers"]
fn dkimpy() {
    compare("verify_dkim.py", None, DKIMPY);
}

/// Mail::DKIM does not know Ed25519 in Debian 12.
#[test]
#[ignore = "needs Mail::DKIM: make peers"]
fn mail_dkim() {
    compare("verify_dkim.pl", Some("ed25519"), MAIL_DKIM);
}

const VERSION_FIRST: Explanation =
    ("the version of a key record comes first (RFC 6376 §3.6.1)", |case, ours, _| {
        ours.reason == Some(Reason::Key(KeyProblem::Syntax))
            && case.keys.values().any(|record| record.ends_with("; v=DKIM1"))
    });

const PADDING: Explanation = ("base64 may lack its padding (RFC 6376 §2.10)", |case, ours, _| {
    let lacks_padding = |record: &String| {
        record.split_once("p=").is_some_and(|(_, data)| data.trim().len() % 4 != 0)
    };
    ours.reason.is_none() && case.keys.values().any(lacks_padding)
});

const AS_OFTEN: Explanation = (
    "a field that may occur once is signed as often as it occurs (RFC 6376 §8.15)",
    |_, ours, _| matches!(ours.reason, Some(Reason::FieldNotSignedAsOften(_))),
);

const DKIMPY: &[Explanation] = &[
    VERSION_FIRST,
    PADDING,
    AS_OFTEN,
    ("a key for other hashes is none for this signature (RFC 6376 §3.6.1, h=)", |_, ours, _| {
        ours.reason == Some(Reason::Key(KeyProblem::Hash))
    }),
    ("a key for other services is none for mail (RFC 6376 §3.6.1, s=)", |_, ours, _| {
        ours.reason == Some(Reason::Key(KeyProblem::Service))
    }),
    (
        "a line that is no header field is not looked at where it is not signed",
        |case, _, theirs| case.kind == "altered" && theirs.starts_with("MessageFormatError"),
    ),
    ("with t=s the domain of i= is that of d= (RFC 6376 §3.6.1)", |case, ours, _| {
        ours.reason == Some(Reason::Identity)
            && case.keys.values().any(|record| record.contains("t=s"))
    }),
];

const MAIL_DKIM: &[Explanation] = &[
    VERSION_FIRST,
    PADDING,
    AS_OFTEN,
    ("nothing follows the padding of base64 (RFC 6376 §2.10)", |case, ours, _| {
        case.kind == "altered" && ours.reason == Some(Reason::BadTag("b"))
    }),
    ("RSA keys of less than 1024 bits are not taken (RFC 8301 §3.2)", |_, ours, _| {
        matches!(ours.reason, Some(Reason::Key(KeyProblem::TooShort(512))))
    }),
];
