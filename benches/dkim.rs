//! The time to verify a signature, beside that of only its hash and its signature check.
//!
//! `make bench BENCHES=dkim`. Times are the best of several rounds, in microseconds per message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use ring::digest::{SHA256, digest};
use spf_milter::{
    auth::dkim::{Settings, Verifier},
    dns::{Dns, zone::Zone},
};
use testkit::bench::signer::{self, FIELDS, Signed};

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
    let keys = signer::keys();
    let zone = signer::key_records(&keys);
    let dns = Dns::from_zone(Arc::new(Zone::parse(&zone).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    println!(
        "{:>9} {:>8} {:>9} {:>4} {:>10} {:>10} {:>6}",
        "key", "body", "octets", "sigs", "floor us", "us", "times"
    );
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
                    let signed: Vec<Signed> = (0..signatures)
                        .map(|number| key.sign(canonical.as_bytes(), number))
                        .collect();
                    let floor = time(|| {
                        black_box(digest(&SHA256, black_box(body.as_bytes())));
                        signed.iter().for_each(|signed| key.check(&public, signed));
                    });
                    let ours = time(|| {
                        runtime.block_on(async {
                            let timeout = Duration::from_secs(5);
                            let settings = Settings {
                                max_signatures: 10,
                                min_key_bits: 1024,
                                timeout,
                                now: 1_795_400_000,
                            };
                            let mut verifier = Verifier::new(settings);
                            signed.iter().for_each(|signed| {
                                verifier.header(b"DKIM-Signature", signed.value.as_bytes())
                            });
                            for (name, value) in FIELDS {
                                verifier.header(name.as_bytes(), format!(" {value}").as_bytes());
                            }
                            let mut verification = verifier.end_of_header(&dns);
                            body.as_bytes()
                                .chunks(65535)
                                .for_each(|chunk| verification.body(chunk));
                            assert!(
                                verification
                                    .finish()
                                    .await
                                    .unwrap()
                                    .iter()
                                    .all(|outcome| outcome.reason.is_none())
                            );
                        });
                    });
                    println!(
                        "{:>9} {kind:>8} {:>9} {signatures:>4} {floor:>10.1} {ours:>10.1} {:>6.2}",
                        key.name(),
                        body.len(),
                        ours / floor
                    );
                }
            }
        }
    }
}
