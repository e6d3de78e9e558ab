//! The public DKIM suites, when the environment variable CORPUS names their directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/corpus.rs"]
mod corpus;

use std::time::Duration;

use corpus::{Case, Message};
use spf_milter::{
    auth::dkim::{DkimResult, Settings, SignatureOutcome, Verifier},
    dns::Dns,
};

/// The clock where a case names no time: 2026-11-18, when all of the messages were there.
const NOW: u64 = 1_795_000_000;

async fn verify(message: &Message, dns: &Dns, now: u64, chunk: usize) -> Vec<SignatureOutcome> {
    let settings = Settings { max_signatures: 10, min_key_bits: 1024, timeout: Duration::from_secs(5), now };
    let mut verifier = Verifier::new(settings);
    for (name, value) in &message.fields {
        verifier.header(name, value);
    }
    let mut verification = verifier.end_of_header(dns);
    for part in message.body.chunks(chunk) {
        verification.body(part);
    }
    verification.finish().await
}

fn describe(outcomes: &[SignatureOutcome]) -> String {
    let describe = |outcome: &SignatureOutcome| match outcome.reason {
        None => format!("pass {}", outcome.domain_text.as_deref().unwrap_or("-")),
        Some(reason) => format!("{} ({reason}) {}", outcome.result(), outcome.domain_text.as_deref().unwrap_or("-")),
    };
    if outcomes.is_empty() { "none".into() } else { outcomes.iter().map(describe).collect::<Vec<_>>().join(", ") }
}

#[tokio::test]
async fn explore() {
    let Some(directory) = corpus::directory() else { return };
    for set in [
        "dkim-exim",
        "dkim-lieser",
        "dkim-maildkim",
        "dkim-misc",
        "dkim-opendkim",
        "dkim-spamassassin",
        "authmilter",
        "realworld",
        "rspamd",
        "arc-real",
        "dmarc-vectors",
        "espoofer",
        "mime",
    ] {
        for case in corpus::cases(&directory, set) {
            let Some(message) = case.message() else { continue };
            let outcomes = verify(&message, &case.dns(), case.time().unwrap_or(NOW), usize::MAX).await;
            let small = verify(&message, &case.dns(), case.time().unwrap_or(NOW), 7).await;
            assert_eq!(outcomes, small);
            let mut expected = case.modern("dkim");
            if expected.is_empty() {
                expected = case.expected("dkim");
            }
            let results: Vec<String> = outcomes.iter().map(|o| o.result().to_string()).collect();
            let ok = if results.is_empty() {
                expected.contains(&"none".into())
            } else if results.contains(&"pass".into()) {
                expected.contains(&"pass".into())
            } else {
                results.iter().any(|r| expected.contains(r))
            };
            if expected.is_empty() {
                if !outcomes.is_empty() {
                    println!("?? {set} {}: {} oracle {}", case.name, describe(&outcomes), case.json["oracle"]["dkimpy"]);
                }
            } else if !ok {
                println!(
                    "DIFF {set} {}: {} expected {expected:?} oracle {} {}",
                    case.name,
                    describe(&outcomes),
                    case.json["oracle"]["dkimpy"],
                    case.json["tags"]
                );
            } else {
                println!("ok {set} {}: {} {}", case.name, describe(&outcomes), case.json["oracle"]["dkimpy"]);
            }
        }
    }
}
