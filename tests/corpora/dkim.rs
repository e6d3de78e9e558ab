//! The public DKIM suites, when the environment variable CORPUS names their directory.

use std::time::Duration;

use spf_milter::{
    auth::dkim::{KeyProblem, Reason, Settings, SignatureOutcome, Verifier},
    dns::Dns,
};
use testkit::corpus::{self, Case, Message};

/// The clock where a case names no time: 2026-11-18, when all of the messages were there.
const NOW: u64 = 1_795_000_000;

async fn verify(message: &Message, dns: &Dns, now: u64, chunk: usize) -> Vec<SignatureOutcome> {
    let settings =
        Settings { max_signatures: 10, min_key_bits: 1024, timeout: Duration::from_secs(5), now };
    let mut verifier = Verifier::new(settings);
    for (name, value) in &message.fields {
        verifier.header(name, value);
    }
    let mut verification = verifier.end_of_header(dns);
    for part in message.body.chunks(chunk) {
        verification.body(part);
    }
    verification.finish().await.unwrap()
}

/// Sets with something about DKIM in them.
const SETS: &[&str] = &[
    "arc-real",
    "authmilter",
    "dkim-exim",
    "dkim-lieser",
    "dkim-maildkim",
    "dkim-misc",
    "dkim-opendkim",
    "dkim-spamassassin",
    "dmarc-vectors",
    "espoofer",
    "mime",
    "realworld",
    "rspamd",
];

/// Cases with another result than the suite expects, on purpose: set, case, our results, why.
const DEVIATIONS: &[(&str, &str, &str, &str)] = &[
    ("authmilter", "milter/dmarc_reject_wl", "permerror", SHA1),
    ("dkim-opendkim", "milter/verify-double-from", "policy", TWO_FROM),
    ("dkim-exim", "4500-06", "permerror", SHA1),
    ("dkim-exim", "4502-04", "permerror", SHA1),
    ("dkim-exim", "4502-05", "permerror", SHA1),
    (
        "dkim-exim",
        "4503-01",
        "neutral",
        "rsa-sha512 is registered for no signature (RFC 6376 §7.6)",
    ),
    ("dkim-exim", "4506-01", "permerror", SHA1),
    ("dkim-exim", "4506-03", "permerror", SHA1),
    (
        "dkim-exim",
        "4506-06",
        "permerror policy",
        "Exim gives up all signatures where there are too many; ours are permerror for want of a key",
    ),
    ("dkim-exim", "4506-07", "permerror", SHA1),
    ("dkim-exim", "4506-09", "permerror", SHA1),
    ("dkim-exim", "4509-01", "permerror", SHA1),
    ("dkim-maildkim", "bad_1", "permerror", NO_VERSION),
    ("dkim-maildkim", "bad_1878954", "permerror", SHA1),
    ("dkim-maildkim", "bad_ietf01_2", "permerror", NO_VERSION),
    (
        "dkim-maildkim",
        "badkey_15",
        "permerror",
        "rsa-sha1: the key, which DNS has no answer for, is not asked for",
    ),
    ("dkim-opendkim", "lib/test73", "permerror", SHA1),
    (
        "dkim-opendkim",
        "lib/test76",
        "permerror",
        "a signature that cannot be read is there all the same",
    ),
    ("dkim-opendkim", "lib/test94", "permerror", SHA1),
    (
        "dkim-opendkim",
        "milter/verify-revoked",
        "permerror",
        "a revoked key is permerror, not fail (RFC 8601 §2.7.1)",
    ),
];

const TWO_FROM: &str = "a second From is not acceptable, as that of another field that may occur once (RFC 6376 §8.15)";
const SHA1: &str = "rsa-sha1 has permanently failed (RFC 8301 §3.1)";
const NO_VERSION: &str =
    "a signature without v= is none of RFC 6376 §3.5, whether it would verify or not";

/// The results, from the top; a row of equal ones as one.
fn distinct_results(outcomes: &[SignatureOutcome]) -> String {
    let mut results = results(outcomes);
    results.dedup();
    results.join(" ")
}

/// The results, from the top.
fn results(outcomes: &[SignatureOutcome]) -> Vec<&'static str> {
    outcomes.iter().map(|outcome| outcome.result().as_str()).collect()
}

/// Whether the results of a message are what the case says. Where it names a result for all of the
/// message, one signature has to have it.
fn is_expected(case: &Case, outcomes: &[SignatureOutcome]) -> bool {
    let results = results(outcomes);
    let expected = [case.modern("dkim"), case.expected("dkim")]
        .into_iter()
        .find(|words| !words.is_empty())
        .unwrap_or_default();
    let contains = |word: &str| expected.iter().any(|expected| expected == word);
    let message = match results.as_slice() {
        _ if expected.is_empty() => true,
        [] => contains("none"),
        results if results.contains(&"pass") => contains("pass"),
        results => results.iter().any(|result| contains(result)),
    };
    let acceptable = |words: &serde_json::Value, result: &str| {
        words.as_array().unwrap().iter().any(|word| word == result)
    };
    // Neither list is there where RFC 8301 changes the result.
    let expected = &case.json["expected"];
    let by_order = expected["dkim_by_order"].as_array().filter(|_| case.modern("dkim").is_empty());
    let in_order = by_order.is_none_or(|order| {
        order.iter().zip(&results).all(|(words, result)| acceptable(words, result))
    });
    let named = expected["dkim_signatures"].as_array().is_none_or(|signatures| {
        signatures.iter().all(|signature| {
            let wanted = |outcome: &&SignatureOutcome| {
                signature["d"] == *outcome.domain_text.as_deref().unwrap_or_default()
                    && signature["s"] == *outcome.selector.as_deref().unwrap_or_default()
            };
            outcomes.iter().any(|outcome| {
                wanted(&outcome) && acceptable(&signature["result"], outcome.result().as_str())
            })
        })
    });
    message && in_order && named
}

/// Whether a signature passes here as it does with dkimpy, or does not for a reason that dkimpy
/// does not know.
fn agrees_with_oracle(case: &Case, outcomes: &[SignatureOutcome]) -> bool {
    let oracle = case.json["oracle"]["dkimpy"].as_array();
    let agrees = |outcome: &SignatureOutcome, oracle: &serde_json::Value| match outcome.reason {
        None => oracle == "pass",
        Some(
            Reason::Signature
            | Reason::BodyHash
            | Reason::Key(KeyProblem::Missing)
            | Reason::Key(KeyProblem::Syntax)
            | Reason::Key(KeyProblem::Revoked),
        ) => oracle != "pass",
        Some(_) => true,
    };
    oracle.is_none_or(|oracle| {
        outcomes.iter().zip(oracle).all(|(outcome, oracle)| agrees(outcome, oracle))
    })
}

#[tokio::test]
async fn results_are_those_of_the_suites() {
    let Some(directory) = corpus::directory() else { return };
    let mut deviations = Vec::new();
    let mut checked = 0;
    for set in SETS {
        for case in corpus::cases(&directory, set) {
            let Some(message) = case.message() else { continue };
            let now = case.time().unwrap_or(NOW);
            let outcomes = verify(&message, &case.dns(), now, usize::MAX).await;
            checked += 1;
            for chunk in [1, 7, 4096] {
                assert_eq!(
                    verify(&message, &case.dns(), now, chunk).await,
                    outcomes,
                    "{set} {} in chunks of {chunk}",
                    case.name
                );
            }
            if !is_expected(&case, &outcomes) || !agrees_with_oracle(&case, &outcomes) {
                deviations.push((
                    (*set).to_owned(),
                    case.name.clone(),
                    distinct_results(&outcomes),
                    outcomes,
                ));
            }
        }
    }
    println!("{checked} messages, {} deviations on purpose", DEVIATIONS.len());
    for (set, name, results, outcomes) in &deviations {
        let known =
            DEVIATIONS.iter().any(|known| (known.0, known.1, known.2) == (set, name, results));
        assert!(known, "{set} {name}: {results}\n{outcomes:#?}");
    }
    for (set, name, ..) in DEVIATIONS.iter().filter(|known| directory.join(known.0).exists()) {
        assert!(
            deviations.iter().any(|(s, n, ..)| (s.as_str(), n.as_str()) == (*set, *name)),
            "{set} {name}: no deviation any more"
        );
    }
}

#[tokio::test]
async fn spoofed_domains_never_pass() {
    let Some(directory) = corpus::directory() else { return };
    for case in corpus::cases(&directory, "espoofer") {
        let victim = case.text("victim_domain").unwrap().to_owned();
        for outcome in verify(&case.message().unwrap(), &case.dns(), NOW, usize::MAX).await {
            let domain = outcome.domain.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(
                outcome.reason.is_some() || !domain.ends_with(&victim),
                "{}: {outcome:?}",
                case.name
            );
        }
    }
}
