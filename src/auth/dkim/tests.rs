use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::FutureExt as _;
use proptest::prelude::{any, prop, proptest};
use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use tokio::time::Instant;

use super::{
    super::signed::{
        canonical::Canonicalization,
        crypto::{Algorithm, PublicKey},
    },
    *,
};
use crate::dns::{Failure, zone::Zone};

const NOW: u64 = 1_800_000_000;

/// A key.
enum Key {
    Ed25519,
    /// An RSA key, and its only signature: that of [`rsa_signed`].
    Rsa {
        modulus: Vec<u8>,
        signature: Vec<u8>,
    },
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

impl Key {
    fn rsa(bits: usize) -> Self {
        let line = include_str!("tests/rsa_keys.txt")
            .lines()
            .find(|line| line.starts_with(&format!("{bits} ")))
            .unwrap();
        let mut numbers = line.split(' ').skip(1).map(|text| BASE64_STANDARD.decode(text).unwrap());
        Self::Rsa { modulus: numbers.next().unwrap(), signature: numbers.next().unwrap() }
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519 => {
                let hash = digest::digest(&digest::SHA256, text);
                ed25519().sign(hash.as_ref()).as_ref().to_vec()
            }
            Self::Rsa { signature, .. } => signature.clone(),
        }
    }

    /// `p=`; RSA keys as bare RSAPublicKey.
    fn public(&self) -> String {
        let data = match self {
            Self::Ed25519 => ed25519().public_key().as_ref().to_vec(),
            Self::Rsa { modulus, .. } => {
                let element = |kind: u8, data: &[u8]| {
                    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
                    [&[kind, 0x82], length.as_slice(), data].concat()
                };
                let modulus = element(2, &[&[0], modulus.as_slice()].concat());
                element(0x30, &[modulus, element(2, &[1, 0, 1])].concat())
            }
        };
        BASE64_STANDARD.encode(data)
    }
}

/// A message that is made, signed and then verified.
#[derive(Clone)]
struct Message {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn new() -> Self {
        let fields =
            [("From", " A <a@example.com>"), ("To", " b@example.net"), ("Subject", " one\n\ttwo")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { fields, body: b"Hello,  world \r\n\r\n".to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Puts a signature on top. `tags` lacks `bh=` and `b=`; the field is signed as it then is.
    fn signed(self, tags: &str, key: &Key) -> Self {
        let body = |canonicalization, length| {
            let mut hashes = BodyHashes::default();
            hashes.add(canonicalization, length);
            hashes.write(&self.body);
            BASE64_STANDARD
                .encode(hashes.finish().find(canonicalization, length).unwrap().hash.as_ref())
        };
        let mut outcome = SignatureOutcome::default();
        let probe = format!("{tags}; bh={}; b=AAAA", body(Canonicalization::Simple, None));
        let signature = signature::parse(probe.as_bytes(), NOW, &mut outcome).unwrap();
        let start = format!(
            " {tags}; bh={}; b=",
            body(signature.body_canonicalization, signature.body_length)
        );
        let message = self.with_on_top("DKIM-Signature", &start);
        let mut header = Header::default();
        for (name, value) in &message.fields {
            header.push(name.as_bytes(), value.as_bytes());
        }
        let mut text = Vec::new();
        let own = header.find("DKIM-Signature").next().unwrap();
        header.index().write_signed(
            signature.header_canonicalization,
            &signature.signed_fields,
            own,
            [own.value(), b""],
            &mut text,
        );
        let mut message = message;
        message.fields[0].1.push_str(&BASE64_STANDARD.encode(key.sign(&text)));
        message
    }

    fn with_on_top(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(0, (name.into(), value.into()));
        self
    }

    async fn verify_with(&self, settings: Settings, dns: &Dns) -> Vec<SignatureOutcome> {
        let mut verifier = Verifier::new(settings);
        for (name, value) in &self.fields {
            verifier.header(name.as_bytes(), value.as_bytes());
        }
        let mut verification = verifier.end_of_header(dns);
        verification.body(&self.body);
        verification.finish().await.unwrap()
    }

    async fn verify(&self) -> SignatureOutcome {
        self.verify_with(settings(), &dns("")).await.remove(0)
    }

    async fn reason(&self) -> Option<Reason> {
        self.verify().await.reason
    }
}

fn settings() -> Settings {
    Settings { max_signatures: 10, min_key_bits: 1024, timeout: Duration::from_secs(5), now: NOW }
}

/// The good key at `ed._domainkey.example.com` and what else the zone says; `KEY` stands for the
/// key's `p=`.
fn dns(zone: &str) -> Dns {
    Dns::from_zone(Arc::new(zone_of(zone)))
}

fn zone_of(zone: &str) -> Zone {
    let zone = format!("ed._domainkey.example.com TXT v=DKIM1; k=ed25519; p=KEY\n{zone}");
    Zone::parse(&zone.replace("KEY", &Key::Ed25519.public())).unwrap()
}

const TAGS: &str = "v=1; a=ed25519-sha256; d=example.com; s=ed; h=from:to:subject";

#[tokio::test]
async fn signed_messages_pass() {
    for canonicalization in
        ["", "; c=simple", "; c=relaxed", "; c=simple/relaxed", "; c=Relaxed/Relaxed"]
    {
        let outcome = Message::new()
            .signed(&format!("{TAGS}{canonicalization}"), &Key::Ed25519)
            .verify()
            .await;
        assert_eq!(outcome.reason, None, "{canonicalization}");
        assert_eq!(outcome.result(), DkimResult::Pass);
        assert_eq!(outcome.domain.as_ref().unwrap().as_str(), "example.com");
        assert_eq!(
            (outcome.selector.as_deref(), outcome.algorithm.as_deref()),
            (Some("ed"), Some("ed25519-sha256"))
        );
        assert_eq!(outcome.signature.len(), 88);
        assert!(outcome.covers_message() && !outcome.testing);
    }
    assert_eq!(Message::new().verify_with(settings(), &dns("")).await, []);
}

#[tokio::test]
async fn signatures_that_cannot_pass() {
    let valid = Message::new().signed(TAGS, &Key::Ed25519).fields[0].1.clone();
    let (bad, missing) = (Reason::BadTag, Reason::MissingTag);
    for (from, to, reason) in [
        ("v=1;", "", missing("v")),
        ("v=1", "v=2", Reason::Version),
        ("v=1", "v=1; v=1", Reason::Syntax),
        ("v=1", "v=1;;", Reason::Syntax),
        ("ed25519-sha256", "rsa-sha1", Reason::Sha1),
        ("ed25519-sha256", "rsa-sha512", Reason::Algorithm),
        ("a=ed25519-sha256;", "", missing("a")),
        ("d=example.com;", "", missing("d")),
        ("d=example.com", "d=exam ple.com", bad("d")),
        ("d=example.com", "d=example.com.", bad("d")),
        ("d=example.com", "d=", bad("d")),
        ("d=example.com", "d=example.com'a.example", bad("d")),
        ("s=ed;", "", missing("s")),
        ("s=ed", "s=a..b", bad("s")),
        ("s=ed", "s=none", Reason::Key(KeyProblem::Missing)),
        ("h=from:to:subject;", "", missing("h")),
        ("h=from:", "h=", Reason::FromNotSigned),
        ("h=from:", "h=from::", bad("h")),
        ("h=from:", "h=", Reason::FromNotSigned),
        (" bh=", " bh=A", bad("bh")),
        (" bh=", " q=dns/other; bh=", Reason::QueryMethod),
        (" bh=", " c=nowsp; bh=", Reason::Canonicalization),
        (" bh=", " c=relaxed/; bh=", Reason::Canonicalization),
        (" bh=", " l=-1; bh=", bad("l")),
        (" bh=", " l=; bh=", bad("l")),
        (" bh=", " l=17; bh=", Reason::LengthBeyondBody),
        (" bh=", " i=a; bh=", bad("i")),
        (" bh=", " i=@example.net; bh=", Reason::Identity),
        (" bh=", " i=@badexample.com; bh=", Reason::Identity),
        (" bh=", " i=a@com; bh=", Reason::Identity),
        (" bh=", " t=x; bh=", bad("t")),
        (" bh=", " t=5; x=5; bh=", Reason::Times),
        (" bh=", " t=1800000301; bh=", Reason::Future),
        (" bh=", " x=1799999699; bh=", Reason::Expired),
        // These are well, but were not signed.
        (" bh=", " t=1800000300; x=1800000301; bh=", Reason::Signature),
        (" bh=", " x=1799999700; bh=", Reason::Signature),
        (" bh=", " x=99999999999999999999999; bh=", Reason::Signature),
        (" bh=", " i=a=40b@sub.example.com; bh=", Reason::Signature),
        (" bh=", " q=x : dns/txt; unknown=1; bh=", Reason::Signature),
        (" bh=", " l=14; bh=", Reason::BodyHash),
    ] {
        assert!(valid.contains(from), "{from}");
        let message = Message::new().with("DKIM-Signature", &valid.replacen(from, to, 1));
        assert_eq!(message.reason().await, Some(reason), "{from} -> {to}");
    }
    let cut = async |length: usize| {
        Message::new().with("DKIM-Signature", &valid[..valid.len() - length]).reason().await
    };
    assert_eq!(cut(88).await, Some(Reason::BadTag("b")));
    assert_eq!(cut(84).await, Some(Reason::Signature));
    assert_eq!(cut(90).await, Some(Reason::MissingTag("b")));
}

#[tokio::test]
async fn white_space_and_folds_in_the_signature() {
    let tags = " v = 1 ; a=ed25519-sha256\n\t; d=example.com;s=ed;\n h=From :\n\tTO: Subject ;";
    assert_eq!(
        Message::new().signed(&format!("{tags} c=simple"), &Key::Ed25519).reason().await,
        None
    );
    // White space inside of b= and around it is not a part of what is signed.
    for tags in [TAGS.to_owned(), format!("{TAGS}; c=relaxed/simple")] {
        let mut message = Message::new().signed(&tags, &Key::Ed25519);
        let start = message.fields[0].1.find("; b=").unwrap() + 4;
        message.fields[0].1.insert_str(start + 40, "\n\t ");
        message.fields[0].1.insert_str(start, " \n ");
        message.fields[0].1.push_str(" \t");
        assert_eq!(message.reason().await, None, "{tags}");
    }
}

#[tokio::test]
async fn from_must_be_signed_as_often_as_it_occurs() {
    let two = "v=1; a=ed25519-sha256; d=example.com; s=ed; h=from:FROM:to";
    let other = |message: Message| message.with_on_top("From ", " B <b@example.org>");
    assert_eq!(Message::new().signed(two, &Key::Ed25519).reason().await, None);
    assert_eq!(
        other(Message::new().signed(two, &Key::Ed25519)).reason().await,
        Some(Reason::Signature)
    );
    assert_eq!(other(Message::new()).signed(two, &Key::Ed25519).reason().await, None);
    assert_eq!(
        other(Message::new().signed(TAGS, &Key::Ed25519)).reason().await,
        Some(Reason::FieldNotSignedAsOften("From"))
    );
}

#[tokio::test]
async fn fields_are_taken_from_the_bottom() {
    let tags = "v=1; a=ed25519-sha256; d=example.com; s=ed; h=from:x:x; c=relaxed";
    let signed = Message::new().with("X", "1").with("X", "2").signed(tags, &Key::Ed25519);
    assert_eq!(signed.clone().with_on_top("X", "3").reason().await, None);
    assert_eq!(signed.with("X", "3").reason().await, Some(Reason::Signature));
    // Other signatures can be signed; the signature itself is none of them.
    let tags = "v=1; a=ed25519-sha256; d=example.com; s=ed; h=from:dkim-signature:dkim-signature";
    let message = Message::new().signed(TAGS, &Key::Ed25519).signed(tags, &Key::Ed25519);
    let outcomes = message.verify_with(settings(), &dns("")).await;
    assert!(
        outcomes.len() == 2 && outcomes.iter().all(|outcome| outcome.reason.is_none()),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn keys() {
    let message = Message::new().signed(TAGS, &Key::Ed25519);
    let below = Message::new().signed(&format!("{TAGS}; i=a@sub.example.com"), &Key::Ed25519);
    let zone = |records: &str| {
        let lines: String = records
            .split('|')
            .map(|record| format!("ed._domainkey.example.com TXT {record}\n"))
            .collect();
        Dns::from_zone(Arc::new(
            Zone::parse(&lines.replace("KEY", &Key::Ed25519.public())).unwrap(),
        ))
    };
    let good = "k=ed25519; p=KEY";
    let other = "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    for (records, reason) in [
        (good, None),
        ("!nxdomain", Some(Reason::Key(KeyProblem::Missing))),
        ("!nodata", Some(Reason::Key(KeyProblem::Missing))),
        ("!timeout", Some(Reason::Key(KeyProblem::Unavailable(Failure::Timeout)))),
        ("!servfail", Some(Reason::Key(KeyProblem::Unavailable(Failure::Rcode("SERVFAIL"))))),
        ("v=DKIM1; k=ed25519; p=", Some(Reason::Key(KeyProblem::Revoked))),
        ("v=spf1 -all", Some(Reason::Key(KeyProblem::Syntax))),
        ("p=KEY", Some(Reason::Key(KeyProblem::Algorithm))),
        (other, Some(Reason::Signature)),
        ("k=ed25519; t=y:s; p=KEY", None),
        // Several records, in any order.
        (&format!("v=spf1 -all|{good}"), None),
        (&format!("{good}|{other}"), None),
        (&format!("{other}|{good}"), None),
        (&format!("v=DKIM1; p=|{good}"), None),
        ("v=spf1 -all|v=DKIM1; k=ed25519; p=", Some(Reason::Key(KeyProblem::Revoked))),
        ("k=ed25519; p=|v=spf1 -all", Some(Reason::Key(KeyProblem::Revoked))),
        (&format!("a=1;{other}|b=2;{other}|c=3;{other}|d=4;{good}"), Some(Reason::Signature)),
    ] {
        let outcome = message.verify_with(settings(), &zone(records)).await.remove(0);
        assert_eq!(outcome.reason, reason, "{records}");
        assert_eq!(outcome.testing, records.contains("t=y"), "{records}");
    }
    assert_eq!(below.reason().await, None);
    let outcome = below.verify_with(settings(), &zone("k=ed25519; t=s; p=KEY")).await.remove(0);
    assert_eq!(
        (outcome.reason, outcome.identity.as_deref()),
        (Some(Reason::Key(KeyProblem::Subdomain)), Some("a@sub.example.com"))
    );
}

/// A check of Ed25519 is half of the work after which others get their turn.
#[tokio::test]
async fn others_get_their_turn() {
    let (mut message, dns) = (Message::new(), dns(""));
    for (count, turns) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)] {
        message = message.signed(&format!("{TAGS}; n={count}"), &Key::Ed25519);
        let mut verification = Box::pin(message.verify_with(settings(), &dns));
        let mut waits = 0;
        let outcomes = loop {
            match verification.as_mut().now_or_never() {
                Some(outcomes) => break outcomes,
                None => waits += 1,
            }
        };
        assert!(outcomes.len() == count && outcomes.iter().all(|outcome| outcome.reason.is_none()));
        assert_eq!(waits, turns, "{count}");
    }
}

#[tokio::test]
async fn a_changed_body_fails_with_any_failure_of_dns() {
    let mut message = Message::new().signed(TAGS, &Key::Ed25519);
    message.body[0] = b'h';
    let zone = |failure| {
        Dns::from_zone(Arc::new(
            Zone::parse(&format!("ed._domainkey.example.com TXT !{failure}")).unwrap(),
        ))
    };
    let reason =
        async |failure| message.verify_with(settings(), &zone(failure)).await.remove(0).reason;
    assert_eq!(reason("timeout").await, Some(Reason::BodyHash));
    assert_eq!(reason("nxdomain").await, Some(Reason::Key(KeyProblem::Missing)));
}

/// The message that the RSA keys have signed.
fn rsa_signed(key: &Key) -> Message {
    Message::new().signed("v=1; a=rsa-sha256; d=example.com; s=rsa; h=from", key)
}

/// All of the signatures are good.
#[tokio::test]
async fn rsa_keys_of_every_size() {
    for (bits, min_key_bits, reason) in [
        (512, 0, Some(Reason::Key(KeyProblem::TooShort(512)))),
        (768, 768, Some(Reason::Key(KeyProblem::TooShort(768)))),
        (1023, 0, Some(Reason::Key(KeyProblem::TooShort(1023)))),
        (1023, 1023, Some(Reason::Key(KeyProblem::TooShort(1023)))),
        (1023, 1024, Some(Reason::Key(KeyProblem::TooShort(1023)))),
        (1024, 0, None),
        (1024, 1024, None),
        (1024, 1025, Some(Reason::Key(KeyProblem::TooShort(1024)))),
    ] {
        let key = Key::rsa(bits);
        let dns = dns(&format!("rsa._domainkey.example.com TXT p={}", key.public()));
        let message = rsa_signed(&key);
        let settings = Settings { min_key_bits, ..settings() };
        let outcome = message.verify_with(settings, &dns).await.remove(0);
        assert_eq!(outcome.reason, reason, "{bits} {min_key_bits}");
        if reason.is_none() {
            let mut changed = message.with("From", "x");
            let reason = changed.verify_with(settings, &dns).await.remove(0).reason;
            assert_eq!(reason, Some(Reason::FieldNotSignedAsOften("From")));
            changed.fields.remove(1);
            assert_eq!(
                changed.verify_with(settings, &dns).await.remove(0).reason,
                Some(Reason::Signature),
                "{bits}"
            );
        }
    }
}

#[tokio::test]
async fn internationalised_names() {
    let zone = "xn--schlssel-95a._domainkey.xn--bcher-kva.example TXT k=ed25519; p=KEY\n\
                a_b._domainkey.xn--bcher-kva.example TXT k=ed25519; p=KEY";
    for tags in [
        "d=bücher.example; s=schlüssel",
        "d=xn--bcher-kva.example; s=xn--schlssel-95a",
        "d=bücher.example; s=a_b; i=ü@bücher.example",
    ] {
        let message =
            Message::new().signed(&format!("v=1; a=ed25519-sha256; h=from; {tags}"), &Key::Ed25519);
        let outcome = message.verify_with(settings(), &dns(zone)).await.remove(0);
        assert_eq!(outcome.reason, None, "{tags}");
        assert_eq!(outcome.domain.unwrap().as_str(), "xn--bcher-kva.example");
        assert!(
            tags.contains(&*outcome.domain_text.unwrap())
                && tags.contains(&*outcome.selector.unwrap())
        );
    }
}

#[tokio::test]
async fn lengths() {
    let signed = |length: u64| Message::new().signed(&format!("{TAGS}; l={length}"), &Key::Ed25519);
    for length in [0, 1, 14, 16] {
        let mut message = signed(length);
        let total = 16;
        let outcome = message.verify().await;
        let body = BodyCoverage { covered: length, total };
        let reason = (length < total).then_some(Reason::BodyNotCovered(body));
        assert_eq!((outcome.reason, outcome.body), (reason, Some(body)));
        assert_eq!(outcome.covers_message(), length == total);
        message.body.extend_from_slice(b"more");
        let outcome = message.verify().await;
        // The empty line is text once something follows it.
        let body = BodyCoverage { covered: length, total: 24 };
        assert_eq!(
            (outcome.reason, outcome.body),
            (Some(Reason::BodyNotCovered(body)), Some(body))
        );
        assert!(!outcome.covers_message());
        assert_eq!(outcome.result(), DkimResult::Policy);
        assert_eq!(
            outcome.reason.unwrap().to_string(),
            format!("{length} of 24 body octets signed")
        );
        // Other errors are reported of a partial signature too.
        message.fields[1].1.push('x');
        assert_eq!(message.verify().await.reason, Some(Reason::Signature));
    }
}

/// Fields that may occur once: how often `h=` names one, how often the message has it, whether the
/// signature is acceptable.
#[tokio::test]
async fn fields_that_may_occur_once() {
    for name in SINGLE_FIELDS {
        let is_from = name == "From";
        for (named, present, is_acceptable) in [
            (0, 0, true),
            (0, 2, true),
            (1, 0, true),
            (1, 1, true),
            (1, 2, false),
            (2, 1, true),
            (2, 2, true),
            (2, 3, false),
        ] {
            let mut message = Message::new();
            message.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            // The signed ones are the lowest.
            let signed = present.min(named);
            for number in 0..signed {
                message.fields.push((name.into(), format!(" {number}")));
            }
            let names =
                [vec!["from".to_owned(); usize::from(!is_from)], vec![name.to_lowercase(); named]]
                    .concat()
                    .join(":");
            if names.is_empty() {
                continue;
            }
            let tags = format!("v=1; a=ed25519-sha256; d=example.com; s=ed; h={names}");
            let mut message = message.signed(&tags, &Key::Ed25519);
            for _ in signed..present {
                message.fields.insert(0, (name.to_uppercase() + " ", " added".into()));
            }
            let outcome = message.verify().await;
            let reason = (!is_acceptable).then_some(Reason::FieldNotSignedAsOften(name));
            assert_eq!(outcome.reason, reason, "{name} {named} {present}");
            if let Some(reason) = reason {
                assert_eq!(
                    (reason.result(), reason.to_string()),
                    (DkimResult::Policy, format!("more {name} fields than were signed"))
                );
            }
        }
    }
    // From has to be signed at all.
    for present in [1, 2] {
        let mut message = Message::new();
        message.fields.extend(vec![("From".into(), " x".into()); present - 1]);
        let signature = "v=1; a=ed25519-sha256; d=example.com; s=ed; h=subject; bh=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=; b=AAAA";
        let message = message.with_on_top("DKIM-Signature", signature);
        let reason = message.verify().await.reason.unwrap();
        assert_eq!((reason, reason.result()), (Reason::FromNotSigned, DkimResult::Permerror));
    }
    // Others may occur as often as they like.
    let mut message = Message::new();
    message.fields.push(("Received".into(), " x".into()));
    let mut message = message
        .signed("v=1; a=ed25519-sha256; d=example.com; s=ed; h=from:received", &Key::Ed25519);
    message.fields.insert(0, ("Received".into(), " y".into()));
    assert_eq!(message.verify().await.reason, None);
}

#[tokio::test]
async fn signatures_beyond_the_limit_cost_nothing() {
    let mut message = Message::new();
    for number in 0..40 {
        message = message.signed(&format!("{TAGS}; n={number}"), &Key::Ed25519);
        message.fields[0].1 = message.fields[0].1.replace("s=ed", &format!("s=ed{number}"));
    }
    let zone = Arc::new(Zone::new());
    let reasons = async |max_signatures| {
        let outcomes = message
            .verify_with(Settings { max_signatures, ..settings() }, &Dns::from_zone(zone.clone()))
            .await;
        outcomes.iter().map(|outcome| outcome.reason.unwrap()).collect::<Vec<_>>()
    };
    let few = reasons(3).await;
    assert_eq!(zone.queries(), 3);
    assert_eq!(few.len(), 3 + MAX_RECORDED);
    assert_eq!(few[2..4], [Reason::Key(KeyProblem::Missing), Reason::TooManySignatures(1)]);
    assert_eq!(few[3].result(), DkimResult::Policy);
    assert_eq!(few.last(), Some(&Reason::TooManySignatures(18)));
    assert_eq!(reasons(40).await, [Reason::Key(KeyProblem::Missing); 40]);
    assert_eq!(
        reasons(39).await[38..],
        [Reason::Key(KeyProblem::Missing), Reason::TooManySignatures(1)]
    );
    assert_eq!(reasons(0).await.len(), MAX_RECORDED);
}

#[tokio::test(start_paused = true)]
async fn keys_are_looked_up_side_by_side_and_once() {
    let mut message = Message::new();
    for number in 0..4 {
        message = message.signed(&format!("{TAGS}; n={number}"), &Key::Ed25519);
    }
    let other = message.fields[0].1.replace("s=ed", "s=other");
    let message = message.with("DKIM-Signature", &other);
    let zone = |latency| {
        let mut zone = zone_of("");
        zone.latency = Duration::from_secs(latency);
        Arc::new(zone)
    };
    let quick = zone(2);
    let start = Instant::now();
    let outcomes = message.verify_with(settings(), &Dns::from_zone(quick.clone())).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.reason.is_none()).count(), 4);
    assert_eq!((start.elapsed(), quick.queries()), (Duration::from_secs(2), 2));
    let start = Instant::now();
    let outcomes = message.verify_with(settings(), &Dns::from_zone(zone(20))).await;
    assert!(
        outcomes.iter().all(|outcome| outcome.reason
            == Some(Reason::Key(KeyProblem::Unavailable(Failure::Timeout))))
    );
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn look_ups_end_with_the_verification() {
    let mut zone = zone_of("");
    zone.latency = Duration::from_secs(3600);
    let zone = Arc::new(zone);
    let mut verifier = Verifier::new(Settings { timeout: Duration::from_secs(3600), ..settings() });
    for (name, value) in &Message::new().signed(TAGS, &Key::Ed25519).fields {
        verifier.header(name.as_bytes(), value.as_bytes());
    }
    let verification = verifier.end_of_header(&Dns::from_zone(zone.clone()));
    tokio::task::yield_now().await;
    assert_eq!((zone.queries(), Arc::strong_count(&zone)), (1, 2));
    drop(verification);
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&zone), 1);
}

#[tokio::test]
async fn large_headers() {
    let names = |count: usize| {
        format!("v=1; a=ed25519-sha256; d=example.com; s=ed; h=from{}", ":x".repeat(count))
    };
    let message = |tags: &str| Message::new().signed(tags, &Key::Ed25519);
    assert_eq!(message(&names(999)).reason().await, None);
    let valid = message(&names(999)).fields[0].1.clone();
    let more = Message::new().with("DKIM-Signature", &valid.replace("h=from", "h=from:y"));
    assert_eq!(more.reason().await, Some(Reason::TooManyFields));
    let huge = message(TAGS).with("X", &"x".repeat(1 << 20)).with("From", " late");
    let outcomes = huge.verify_with(settings(), &dns("")).await;
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.reason).collect::<Vec<_>>(),
        [Some(Reason::HeaderTooLarge)]
    );
    // Half of that is not too large, nor are many fields, up to a number.
    let large = message(TAGS).with("X", &"x".repeat(1 << 19)).with("From", " late");
    assert_eq!(large.reason().await, Some(Reason::FieldNotSignedAsOften("From")));
    let mut many = message(TAGS);
    many.fields.extend(vec![("X".into(), " ".into()); 20_000]);
    assert_eq!(many.reason().await, Some(Reason::HeaderTooLarge));
    let unsigned = Message::new().with("X", &"x".repeat(1 << 20));
    assert_eq!(unsigned.verify_with(settings(), &dns("")).await, []);
}

/// One less than each bound, as many, and one more.
#[tokio::test]
async fn bounds() {
    for (octets, is_kept) in [((1 << 20) - 1, true), (1 << 20, true), ((1 << 20) + 1, false)] {
        let mut header = Header::default();
        // The colon, and the CR before the LF of the fold, are octets as well.
        header.push(b"X", &[b"\n ".as_slice(), &vec![b'x'; octets - 5]].concat());
        assert_eq!(!header.is_cut(), is_kept, "{octets}");
    }
    for (fields, is_kept) in [(19_999, true), (20_000, true), (20_001, false)] {
        let mut header = Header::default();
        (0..fields).for_each(|_| header.push(b"X", b" "));
        assert_eq!(!header.is_cut(), is_kept, "{fields}");
    }
    let zone = Dns::from_zone(Arc::new(Zone::new()));
    for (further, last) in [(19, 1), (20, 1), (21, 2), (22, 3)] {
        let mut message = Message::new().signed(TAGS, &Key::Ed25519);
        message.fields.splice(0..0, vec![message.fields[0].clone(); further]);
        let outcomes =
            message.verify_with(Settings { max_signatures: 1, ..settings() }, &zone).await;
        assert_eq!(outcomes.len(), 1 + further.min(MAX_RECORDED), "{further}");
        assert_eq!(
            outcomes.last().unwrap().reason,
            Some(Reason::TooManySignatures(last)),
            "{further}"
        );
    }
    for (names, reason) in [(999, None), (1000, None), (1001, Some(Reason::TooManyFields))] {
        let mut outcome = SignatureOutcome::default();
        let tags = format!("{TAGS}{}; bh={}=; b=AAAA", ":x".repeat(names - 3), "A".repeat(43));
        assert_eq!(signature::parse(tags.as_bytes(), NOW, &mut outcome).err(), reason, "{names}");
    }
    for (octets, compared) in [(1399, 1399), (1400, 1400), (1401, 1400)] {
        let mut outcome = SignatureOutcome::default();
        let _ = signature::parse(
            format!("{TAGS}; b={}", "A".repeat(octets)).as_bytes(),
            NOW,
            &mut outcome,
        );
        assert_eq!(outcome.signature.len(), compared, "{octets}");
    }
}

#[tokio::test]
async fn keys_up_to_the_bounds() {
    let message = Message::new().signed(TAGS, &Key::Ed25519);
    let other = "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    for (before, reason) in [(1, None), (2, None), (3, Some(Reason::Signature))] {
        // Keys are taken in the order of their texts.
        let records = (0..before)
            .map(|n| format!("ed._domainkey.example.com TXT a={n};{other}\n"))
            .collect::<String>();
        let zone = format!(
            "{records}ed._domainkey.example.com TXT b=1;k=ed25519; p={}\n",
            Key::Ed25519.public()
        );
        let dns = Dns::from_zone(Arc::new(Zone::parse(&zone).unwrap()));
        assert_eq!(
            message.verify_with(settings(), &dns).await.remove(0).reason,
            reason,
            "{before}"
        );
    }
    // The signatures are wrong: keys that are refused are refused before.
    let signed = rsa_signed(&Key::rsa(512));
    for (bits, reason) in [
        (1023_usize, Reason::Key(KeyProblem::TooShort(1023))),
        (1024, Reason::Signature),
        (1025, Reason::Signature),
        (8191, Reason::Signature),
        (8192, Reason::Signature),
        (8193, Reason::Key(KeyProblem::TooLong(8193))),
    ] {
        let mut modulus = vec![0; bits.div_ceil(8)];
        modulus[0] = 1 << ((bits - 1) % 8);
        modulus[bits.div_ceil(8) - 1] = 1;
        let key = Key::Rsa { modulus, signature: Vec::new() };
        // Longer than a character-string may be.
        let mut zone = Zone::new();
        zone.add_txt("rsa._domainkey.example.com", format!("p={}", key.public()).as_bytes());
        let dns = Dns::from_zone(Arc::new(zone));
        let outcome =
            signed.verify_with(Settings { min_key_bits: 0, ..settings() }, &dns).await.remove(0);
        assert_eq!(outcome.reason, Some(reason), "{bits}");
    }
}

#[test]
fn rsa_keys_that_are_none() {
    let rsa = |data: &[u8]| PublicKey::parse(data, Algorithm::Rsa);
    let good = BASE64_STANDARD.decode(Key::rsa(1024).public()).unwrap();
    assert_eq!(rsa(&good).unwrap().bits(), 1024);
    let bytes = good.len();
    for (place, byte) in
        [(0, 0x31), (3, 0), (4, 3), (bytes - 1, 0), (bytes - 1, 2), (bytes - 3, 0x81)]
    {
        let mut bad = good.clone();
        bad[place] = byte;
        assert!(rsa(&bad).is_none(), "{place} {byte}");
    }
    for length in 0..bytes {
        assert!(rsa(&good[..length]).is_none());
    }
    assert!(rsa(&[good.as_slice(), &[0]].concat()).is_none());
}

proptest! {
    #[test]
    fn any_message_is_verified_without_a_panic(
        tags in prop::collection::vec("[vabdhilqstx]{1,2}=[ -~]{0,12}", 0..12),
        fields in prop::collection::vec(("[ -9;-~]{0,8}", prop::collection::vec(any::<u8>(), 0..30)), 0..6),
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut verifier = Verifier::new(settings());
            verifier.header(b"DKIM-Signature", tags.join(";").as_bytes());
            verifier.header(b"dkim-signature ", format!("{TAGS}; bh={}=; b=AAAA", "A".repeat(43)).as_bytes());
            for (name, value) in &fields {
                verifier.header(name.as_bytes(), value);
            }
            let mut verification = verifier.end_of_header(&dns(""));
            verification.body(&body);
            let outcomes = verification.finish().await.unwrap();
            assert!(outcomes.len() >= 2 && outcomes.iter().all(|outcome| outcome.reason.is_some()));
        });
    }
}
