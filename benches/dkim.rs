//! What it costs to verify a signature, beside what its hash and its signature check alone cost.
//!
//! `cargo bench --bench dkim`. Times are the best of several rounds, in microseconds per message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256,
        UnparsedPublicKey,
    },
};
use spf_milter::{
    auth::dkim::{Settings, Verifier},
    dns::{Dns, zone::Zone},
};

/// The header without the signature, in relaxed form but for the space after the colon.
const FIELDS: &[(&str, &str)] = &[
    (
        "received",
        "from mail.example.com (mail.example.com [192.0.2.1]) by mx.example.net with ESMTPS; Sat, 14 Nov 2026 12:00:00 +0000",
    ),
    ("from", "\"A. Sender\" <a@example.com>"),
    ("to", "b@example.net"),
    ("subject", "a subject as long as subjects are"),
    ("date", "Sat, 14 Nov 2026 12:00:00 +0000"),
    ("message-id", "<20261114120000.12345@mail.example.com>"),
    ("mime-version", "1.0"),
    ("content-type", "text/html; charset=utf-8"),
];

/// A line as sent and in relaxed form.
type Line = (&'static str, &'static str);

const PLAIN: &[Line] = &[(
    "The quick brown fox jumps over the lazy dog, and then another one, and so on.\r\n",
    "The quick brown fox jumps over the lazy dog, and then another one, and so on.\r\n",
)];

/// Indented text with white space at the end of some lines.
const INDENTED: &[Line] = &[
    ("        <td class=\"a\">\r\n", " <td class=\"a\">\r\n"),
    ("\t\tsome words  in it, \r\n", " some words in it,\r\n"),
    ("    </td>\r\n", " </td>\r\n"),
    ("\r\n", "\r\n"),
];

struct Signed {
    signature_field: String,
    header_text: Vec<u8>,
    signature: Vec<u8>,
}

enum Key {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa",
            Self::Ed25519(_) => "ed25519",
        }
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
                signature
            }
            Self::Ed25519(key) => key.sign(digest(&SHA256, text).as_ref()).as_ref().to_vec(),
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// The least work: the signature check and the hash that it is over.
    fn check(&self, public: &[u8], text: &[u8], signature: &[u8]) {
        match self {
            Self::Rsa(_) => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public).verify(text, signature).unwrap();
            }
            Self::Ed25519(_) => {
                UnparsedPublicKey::new(&ED25519, public).verify(digest(&SHA256, text).as_ref(), signature).unwrap();
            }
        }
    }
}

fn sign(key: &Key, canonical_body: &[u8], number: usize) -> Signed {
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let field = format!(
        "v=1; a={}-sha256; c=relaxed/relaxed; d=example.com; s={}; n={number}; h={}; bh={}; b=",
        key.algorithm(),
        key.algorithm(),
        names.join(":"),
        BASE64_STANDARD.encode(digest(&SHA256, canonical_body)),
    );
    let fields: String = FIELDS.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
    let header_text = format!("{fields}dkim-signature:{field}").into_bytes();
    let signature = key.sign(&header_text);
    Signed { signature_field: format!(" {field}{}", BASE64_STANDARD.encode(&signature)), header_text, signature }
}

/// Microseconds that it takes, the best of some rounds.
fn time(mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(700) {
        let round = Instant::now();
        work();
        best = best.min(round.elapsed());
    }
    best.as_secs_f64() * 1e6
}

fn main() {
    let keys = [
        Key::Rsa(RsaKeyPair::from_der(include_bytes!("rsa2048.der")).unwrap()),
        Key::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()),
    ];
    let zone: String = keys
        .iter()
        .map(|key| {
            let name = key.algorithm();
            format!("{name}._domainkey.example.com TXT v=DKIM1; k={name}; p={}\n", BASE64_STANDARD.encode(key.public()))
        })
        .collect();
    let dns = Dns::from_zone(Arc::new(Zone::parse(&zone).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    println!("{:>9} {:>8} {:>9} {:>4} {:>10} {:>10} {:>6}", "key", "body", "octets", "sigs", "floor us", "us", "times");
    for key in &keys {
        let public = key.public();
        for (kind, lines) in [("plain", PLAIN), ("indented", INDENTED)] {
            for size in [4_000, 100_000, 10_000_000] {
                let line = |number: usize| lines[number % lines.len()];
                let period: usize = lines.iter().map(|line| line.0.len()).sum();
                let count = size * lines.len() / period;
                let body: String = (0..count).map(|number| line(number).0).collect();
                let mut canonical: String = (0..count).map(|number| line(number).1).collect();
                canonical.truncate(canonical.trim_end_matches("\r\n").len() + 2);
                for signatures in [1, 3] {
                    let signed: Vec<Signed> = (0..signatures).map(|number| sign(key, canonical.as_bytes(), number)).collect();
                    let floor = time(|| {
                        black_box(digest(&SHA256, black_box(body.as_bytes())));
                        signed.iter().for_each(|signed| key.check(&public, &signed.header_text, &signed.signature));
                    });
                    let ours = time(|| {
                        runtime.block_on(async {
                            let timeout = Duration::from_secs(5);
                            let settings = Settings { max_signatures: 10, min_key_bits: 1024, timeout, now: 1_795_400_000 };
                            let mut verifier = Verifier::new(settings);
                            signed
                                .iter()
                                .for_each(|signed| verifier.header(b"DKIM-Signature", signed.signature_field.as_bytes()));
                            for (name, value) in FIELDS {
                                verifier.header(name.as_bytes(), format!(" {value}").as_bytes());
                            }
                            let mut verification = verifier.end_of_header(&dns);
                            body.as_bytes().chunks(65535).for_each(|chunk| verification.body(chunk));
                            assert!(verification.finish().await.iter().all(|outcome| outcome.reason.is_none()));
                        });
                    });
                    println!(
                        "{:>9} {kind:>8} {:>9} {signatures:>4} {floor:>10.1} {ours:>10.1} {:>6.2}",
                        key.algorithm(),
                        body.len(),
                        ours / floor
                    );
                }
            }
        }
    }
}
