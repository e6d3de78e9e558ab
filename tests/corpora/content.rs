//! The public suites with messages, end to end: events into a session as the milter gives them,
//! Authentication-Results out, read back.
//!
//! Run with `make test CORPUS=DIR`. The outcomes of SPF, DKIM, DMARC and iprev each by itself are in other
//! tests; here nothing is taken from the cases but what comes from the client, from DNS and from
//! the clock.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use spf_milter::{
    auth::dmarc::DmarcResult,
    config::{Config, Overrides, load_text},
    dns::{Dns, zone::Zone},
    mail::auth_results::MethodResult,
    runtime::{Clock, Runtime},
    session::{Answer, Client, Edit, Granted, Record, Session, Verdict},
};
use testkit::{
    auth_results,
    corpus::{self, Case, Message},
};

/// The clock where a case names no time: 2026-11-18, when all of the messages were there.
const NOW: u64 = 1_795_000_000;

const SETS: &[&str] = &[
    "arc-real",
    "authmilter",
    "dkim-exim",
    "dkim-lieser",
    "dkim-maildkim",
    "dkim-misc",
    "dkim-opendkim",
    "dkim-spamassassin",
    "dmarc-opendmarc",
    "dmarc-vectors",
    "field-2026-11",
    "realworld",
    "rspamd",
];

/// Results that differ from what a suite expects, on purpose: set, case, method, our result, why.
const DEVIATIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("authmilter", "milter/google_apps_good_map", "spf", "softfail", MAPPED),
    ("authmilter", "milter/google_apps_good_map", "iprev", "permerror", MAPPED),
    ("authmilter", "smtp/google_apps_good_map", "spf", "softfail", MAPPED),
    ("authmilter", "smtp/google_apps_good_map", "iprev", "permerror", MAPPED),
    ("authmilter", "milter/dmarc_multi_2", "spf", "softfail", SENDER),
    ("authmilter", "unit-dmarc/multiple_headers", "dmarc", "permerror", REPEATED_FROM),
    (
        "rspamd",
        "dmarc/dmarc-subdomain-pass-dkim-relaxed-alignment",
        "dmarc",
        "fail",
        NO_PARENT_RECORD,
    ),
    ("authmilter", "milter/dmarc_reject_wl", "dkim", "permerror", SHA1),
    ("authmilter", "smtp/spam_headers_spf_hide_none", "dmarc", "none", OPEN_QUOTE),
    ("authmilter", "smtp/spam_headers_hide_none", "dmarc", "none", OPEN_QUOTE),
    (
        "field-2026-11",
        "D12/two-same-records",
        "dmarc",
        "fail",
        "records that are the same are one (RFC 2181 §5)",
    ),
    ("dkim-opendkim", "milter/verify-double-from", "dkim", "policy", TWO_FROM),
    (
        "dkim-exim",
        "4503-01",
        "dkim",
        "neutral",
        "rsa-sha512 is registered for no signature (RFC 6376 §7.6)",
    ),
    (
        "dkim-exim",
        "4506-06",
        "dkim",
        "permerror policy",
        "Exim gives up all signatures where there are too many; ours are permerror for want of a key",
    ),
    ("dkim-maildkim", "bad_1", "dkim", "permerror", NO_VERSION),
    ("dkim-maildkim", "bad_ietf01_2", "dkim", "permerror", NO_VERSION),
    (
        "dkim-maildkim",
        "badkey_15",
        "dkim",
        "permerror",
        "rsa-sha1: the key, which DNS has no answer for, is not asked for",
    ),
    (
        "dkim-opendkim",
        "lib/test76",
        "dkim",
        "permerror",
        "a signature that cannot be read is there all the same",
    ),
    (
        "dkim-opendkim",
        "milter/verify-revoked",
        "dkim",
        "permerror",
        "a revoked key is permerror, not fail (RFC 8601 §2.7.1)",
    ),
    ("authmilter", "milter/google_apps_good_spf_fail", "iprev", "permerror", NO_NAME),
    ("authmilter", "milter/google_apps_bad_spf_fail", "iprev", "permerror", NO_NAME),
    ("authmilter", "milter/dmarc_reject_case", "iprev", "permerror", NO_NAME),
    ("authmilter", "milter/dmarc_multi_2", "iprev", "permerror", NO_NAME),
    ("authmilter", "milter/dmarc_reject_hard_whitelisted", "iprev", "permerror", NO_NAME),
    ("authmilter", "milter/dmarc_reject_wl", "iprev", "permerror", NO_NAME),
    ("authmilter", "smtp/transparency", "iprev", "permerror", NO_NAME),
    ("authmilter", "smtp/google_apps_nodkim_spf_fail", "iprev", "permerror", NO_NAME),
    ("authmilter", "smtp/dmarc_reject_case", "iprev", "permerror", NO_NAME),
    ("dkim-exim", "4500-06", "dkim", "permerror", SHA1),
    ("dkim-exim", "4502-04", "dkim", "permerror", SHA1),
    ("dkim-exim", "4502-05", "dkim", "permerror", SHA1),
    ("dkim-exim", "4506-01", "dkim", "permerror", SHA1),
    ("dkim-exim", "4506-03", "dkim", "permerror", SHA1),
    ("dkim-exim", "4506-07", "dkim", "permerror", SHA1),
    ("dkim-exim", "4506-09", "dkim", "permerror", SHA1),
    ("dkim-exim", "4509-01", "dkim", "permerror", SHA1),
    ("dkim-maildkim", "bad_1878954", "dkim", "permerror", SHA1),
    ("dkim-opendkim", "lib/test73", "dkim", "permerror", SHA1),
    ("dkim-opendkim", "lib/test94", "dkim", "permerror", SHA1),
];

const SHA1: &str = "rsa-sha1 has permanently failed (RFC 8301 §3.1)";
const NO_VERSION: &str =
    "a signature without v= is none of RFC 6376 §3.5, whether it would verify or not";
const NO_NAME: &str = "an address without a name is permerror (RFC 8601 §2.7.3), not fail";
const MAPPED: &str = "the source's configuration replaces the client's address by another";
const SENDER: &str =
    "a MAIL FROM that no SMTP client can send: its domain is what follows the last @";
const TWO_FROM: &str = "a second From is not acceptable, as that of another field that may occur once (RFC 6376 §8.15)";
const REPEATED_FROM: &str =
    "two From fields are never valid, and no policy does not make them so (RFC 9989 §4.4)";
const NO_PARENT_RECORD: &str = "the parent has no record, so each domain is its own organizational domain (RFC 9989 §4.10.2); RFC 7489 passed";

const OPEN_QUOTE: &str =
    "From has an open quote and one address all the same, of a domain without a policy";

/// The most DNS questions of a session's first message (`spf_milter::session`).
const MAX_QUERIES: usize = 506;

fn config() -> Config {
    let text = "socket = unix:/nowhere\nhostname = receiver.example\ntrusted_networks =\nheader = Authentication-Results\n\
                reject_results =\nverify_helo = no\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n";
    load_text(text.as_bytes(), Path::new("test"), &Overrides::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

/// The results of a session for a message.
struct Seen {
    results: Vec<MethodResult>,
    record: Record,
    queries: usize,
}

impl Seen {
    fn results(&self, method: &'static str) -> Vec<&str> {
        self.results
            .iter()
            .filter(|result| result.method == method)
            .map(|result| &*result.result)
            .collect()
    }

    fn find(&self, method: &str) -> Option<&MethodResult> {
        self.results.iter().find(|result| result.method == *method)
    }
}

fn property<'a>(result: &'a MethodResult, name: &str) -> Option<&'a str> {
    result
        .properties
        .iter()
        .find(|property| property.property == *name)
        .map(|property| &*property.value)
}

/// Plays a message: header fields in the given order, the body in chunks.
async fn play(case: &Case, message: &Message, chunk: usize) -> Seen {
    let zone = Arc::new(case.zone());
    play_in(&zone, case, message, chunk).await
}

async fn play_in(zone: &Arc<Zone>, case: &Case, message: &Message, chunk: usize) -> Seen {
    let before = zone.queries();
    let mut runtime =
        Runtime::new(config(), Dns::from_zone(Arc::clone(zone)), "localhost".into(), 0);
    runtime.clock = Clock::Fixed(case.time().unwrap_or(NOW));
    let client = Client { address: case.ip(), port: 25252, host: "client.example".into() };
    let (mut session, reaction) = Session::new(Arc::new(runtime), Granted::ALL, &client, None);
    assert_eq!(reaction.verdict, Verdict::Continue, "{}", case.name);
    session.helo(case.text("helo").unwrap_or_default()).await;
    let path = format!("<{}>", case.text("mailfrom").unwrap_or_default());
    let reaction = session.mail(path.as_bytes(), false, None).await;
    assert_eq!(reaction.verdict, Verdict::Continue, "{}", case.name);
    for (name, value) in &message.fields {
        session.header(name, value);
    }
    session.end_of_header();
    for part in message.body.chunks(chunk) {
        session.body(part);
    }
    let Answer { verdict, edits, records } = session.end_of_message(Some("4Q1A2B3C4D")).await;
    assert_eq!(verdict, Verdict::Continue, "{}", case.name);
    let Some(Edit::Insert { index: 0, field }) = edits.last() else {
        panic!("{}: {edits:?}", case.name)
    };
    let seen = Seen {
        results: read(&case.name, &field.value),
        record: records.latest().unwrap().clone(),
        queries: zone.queries() - before,
    };
    check_form(case, &seen);
    seen
}

/// Reads the field back, as others would.
fn read(name: &str, value: &str) -> Vec<MethodResult> {
    for line in value.split('\n') {
        assert!(
            line.len() < 960 && line.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
            "{name}: {line:?}"
        );
    }
    let field = auth_results::read(value.as_bytes())
        .unwrap_or_else(|error| panic!("{name}: {error}\n{value}"));
    assert_eq!(field.authserv_id, "receiver.example", "{name}");
    field.results
}

/// Checks every field: its order, and that it has the outcomes and nothing else.
fn check_form(case: &Case, seen: &Seen) {
    let name = &case.name;
    let content = seen.record.content.as_ref().unwrap();
    let signatures = content.dkim.as_ref().unwrap();
    let mut expected = vec![("spf", seen.record.identities[0].verified.outcome.result.as_str())];
    expected.extend(signatures.iter().map(|signature| ("dkim", signature.result().as_str())));
    if signatures.is_empty() {
        expected.push(("dkim", "none"));
    }
    let dmarc = content.dmarc.as_ref().unwrap();
    expected.push(("dmarc", dmarc.result.as_str()));
    expected.push(("iprev", content.iprev.as_ref().unwrap().result.as_str()));
    let written: Vec<_> =
        seen.results.iter().map(|result| (&*result.method, &*result.result)).collect();
    assert_eq!(written, expected, "{name}");
    for (signature, result) in
        signatures.iter().zip(seen.results.iter().filter(|result| result.method == "dkim"))
    {
        assert_eq!(
            property(result, "d"),
            signature.domain.as_ref().map(|domain| domain.as_str()),
            "{name}"
        );
        assert_eq!(result.reason, signature.reason.map(|reason| reason.to_string()), "{name}");
        let data = property(result, "b").unwrap_or_default();
        assert!(
            signature.signature.starts_with(data) && data.len() >= signature.signature.len().min(8),
            "{name}: {data}"
        );
        let texts = [result.comment.as_ref(), result.reason.as_ref()];
        assert_eq!(
            texts.into_iter().flatten().any(|text| text.contains("body octets signed")),
            signature.body.is_some_and(|body| body.is_partial()),
            "{name}"
        );
    }
    let result = seen.find("dmarc").unwrap();
    assert_eq!(
        property(result, "from"),
        dmarc.author_domain.as_ref().map(|domain| domain.as_str()),
        "{name}"
    );
    let effective = dmarc.policy.as_ref().map(|policy| policy.effective().as_str());
    assert_eq!(property(result, "dmarc"), effective, "{name}");
    assert!(seen.queries <= MAX_QUERIES, "{name}: {} queries", seen.queries);
}

/// Collects what is not as expected.
#[derive(Default)]
struct Report {
    checked: usize,
    wrong: Vec<String>,
    deviations: Vec<usize>,
}

impl Report {
    fn check(
        &mut self,
        set: &str,
        case: &Case,
        method: &str,
        got: &str,
        is_right: bool,
        expected: &dyn std::fmt::Debug,
    ) {
        self.checked += 1;
        let known = DEVIATIONS
            .iter()
            .position(|row| (row.0, row.1, row.2) == (set, case.name.as_str(), method));
        match known {
            Some(row) if !is_right && DEVIATIONS[row].3 == got => self.deviations.push(row),
            None if is_right => {}
            _ => self.wrong.push(format!(
                "(\"{set}\", \"{}\", \"{method}\", \"{got}\", ), expected {expected:?}",
                case.name
            )),
        }
    }

    fn check_word(&mut self, set: &str, case: &Case, method: &str, got: &str) {
        let expected = case.expected(method);
        if !expected.is_empty() {
            self.check(set, case, method, got, expected.iter().any(|word| word == got), &expected);
        }
    }

    /// The results of a message: of a list for all of it, one signature has to have one; lists by
    /// order and by name are taken at their word.
    fn check_dkim(&mut self, set: &str, case: &Case, seen: &Seen) {
        let results = seen.results("dkim");
        let expected = [case.modern("dkim"), case.expected("dkim")]
            .into_iter()
            .find(|words| !words.is_empty());
        let mut right = expected.as_ref().is_none_or(|expected| {
            let contains = |word: &&str| expected.iter().any(|expected| expected == word);
            if results.contains(&"pass") { contains(&"pass") } else { results.iter().any(contains) }
        });
        let acceptable = |words: &Value, result: &str| {
            words.as_array().unwrap().iter().any(|word| word == result)
        };
        if case.modern("dkim").is_empty()
            && let Some(order) = case.json["expected"]["dkim_by_order"].as_array()
        {
            right &= order.iter().zip(&results).all(|(words, result)| acceptable(words, result));
        }
        for signature in case.json["expected"]["dkim_signatures"].as_array().into_iter().flatten() {
            let names = |result: &&MethodResult| {
                result.method == "dkim"
                    && property(result, "d") == signature["d"].as_str()
                    && property(result, "s") == signature["s"].as_str()
            };
            let mut named = seen.results.iter().filter(names);
            right &= named.any(|result| acceptable(&signature["result"], &result.result));
        }
        let mut distinct = results;
        distinct.dedup();
        self.check(set, case, "dkim", &distinct.join(" "), right, &expected);
    }

    fn finish(self, sets: &[&str]) {
        println!(
            "{} results checked, {} deviations on purpose",
            self.checked,
            self.deviations.len()
        );
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        for (number, row) in DEVIATIONS.iter().enumerate().filter(|(_, row)| sets.contains(&row.0))
        {
            assert!(self.deviations.contains(&number), "{row:?}: no deviation any more");
        }
    }
}

/// Where the source gives no envelope (README), so that its SPF result is nobody's.
fn has_no_envelope(case: &Case) -> bool {
    case.json["tags"]
        .as_array()
        .is_some_and(|tags| tags.iter().any(|tag| tag == "no-envelope-in-source"))
}

#[tokio::test]
async fn results_are_those_of_the_suites() {
    let Some(directory) = corpus::directory() else { return };
    let mut report = Report::default();
    let (mut messages, mut most_queries) = (0, (0, String::new()));
    for set in SETS {
        for case in corpus::cases(&directory, set) {
            let Some(message) = case.message() else { continue };
            let seen = play(&case, &message, 65535).await;
            assert_eq!(
                play(&case, &message, 13).await.results,
                seen.results,
                "{set} {} in small chunks",
                case.name
            );
            messages += 1;
            most_queries = most_queries.max((seen.queries, format!("{set} {}", case.name)));
            if !has_no_envelope(&case) {
                report.check_word(set, &case, "spf", seen.results("spf")[0]);
            }
            report.check_dkim(set, &case, &seen);
            report.check_word(set, &case, "dmarc", seen.results("dmarc")[0]);
            report.check_word(set, &case, "iprev", seen.results("iprev")[0]);
            let dmarc = seen.find("dmarc").unwrap();
            report.check_word(
                set,
                &case,
                "dmarc_effective",
                property(dmarc, "dmarc").unwrap_or("-"),
            );
            let published = dmarc
                .comment
                .as_deref()
                .and_then(|comment| comment.strip_prefix("p=")?.split(' ').next());
            report.check_word(set, &case, "dmarc_policy", published.unwrap_or("-"));
        }
    }
    println!("{messages} messages; {} queries at most, in {}", most_queries.0, most_queries.1);
    let there: Vec<&str> =
        SETS.iter().copied().filter(|set| directory.join(set).exists()).collect();
    report.finish(&there);
}

/// Whether the results name the victim in any way that a reader could take as authenticated.
fn names_victim(results: &[MethodResult], victim: &str) -> Option<String> {
    let is_victim = |value: &str| {
        let domain =
            value.rsplit('@').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        domain == victim || domain.ends_with(&format!(".{victim}"))
    };
    let passed =
        results.iter().filter(|result| result.result == "pass" && result.method != "iprev");
    let mut bad = passed.filter(|result| {
        let names = |property: &spf_milter::mail::auth_results::Property| {
            matches!(&*property.property, "from" | "d" | "i" | "mailfrom" | "helo")
                && is_victim(&property.value)
        };
        // The attacker's From may pass for the attacker; nothing of the victim's may stand beside
        // it.
        result.properties.iter().any(names)
            || result.comment.as_ref().is_some_and(|comment| comment.contains(victim))
    });
    bad.next().map(|result| format!("{result:?}"))
}

/// The header as events, one for each line: what a careless MTA, or none, would make of it.
fn line_by_line(raw: &[u8]) -> Message {
    let mut message = Message::default();
    let mut lines =
        raw.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        message
            .fields
            .push((line[..colon].to_vec(), line.get(colon + 1..).unwrap_or_default().to_vec()));
    }
    message.body = lines.collect::<Vec<_>>().join(b"\r\n".as_slice());
    message
}

#[tokio::test]
async fn nobody_is_spoofed() {
    let Some(directory) = corpus::directory() else { return };
    let mut played = 0;
    for case in corpus::cases(&directory, "espoofer") {
        let victim = case.text("victim_domain").unwrap();
        let raw = case.raw_message().unwrap();
        let message = case.message().unwrap();
        let mut upside_down = message.clone();
        upside_down.fields.reverse();
        let mut without_space = message.clone();
        without_space
            .fields
            .iter_mut()
            .for_each(|(_, value)| *value = value.trim_ascii_start().to_vec());
        for message in [message, line_by_line(&raw), upside_down, without_space] {
            let seen = play(&case, &message, 65535).await;
            assert_eq!(names_victim(&seen.results, victim), None, "{}", case.name);
            let dmarc = seen.record.content.unwrap().dmarc.unwrap();
            // The client attack comes from a customer of the author domain itself, which SPF cannot
            // distinguish from others.
            let is_customer = case.json["expected"]["not"].is_null();
            assert_eq!(dmarc.result == DmarcResult::Pass, is_customer, "{}: {dmarc:?}", case.name);
            played += 1;
        }
    }
    println!("{played} attacks");
}

/// The attacks of the collection put together: each header with the envelopes, signatures and first
/// lines of all others.
#[tokio::test]
async fn nobody_is_spoofed_by_a_combination() {
    let Some(directory) = corpus::directory() else { return };
    let cases = corpus::cases(&directory, "espoofer");
    let mut played = 0;
    for one in &cases {
        let zone = Arc::new(one.zone());
        let victim = one.text("victim_domain").unwrap();
        for other in cases.iter().filter(|other| other.text("victim_domain") == Some(victim)) {
            let (head, tail) = (other.message().unwrap(), one.message().unwrap());
            let fields = [head.fields, tail.fields].concat();
            let message = Message { fields, body: tail.body };
            let seen = play_in(&zone, other, &message, 65535).await;
            assert_eq!(names_victim(&seen.results, victim), None, "{} on {}", other.name, one.name);
            played += 1;
        }
    }
    println!("{played} combinations");
}

/// Mail of all kinds, good and broken: a field comes of each, with one result of every method.
#[tokio::test]
async fn any_message_gets_its_results() {
    let Some(directory) = corpus::directory() else { return };
    let mut played = 0;
    for set in ["mime", "authres", "arc-suite", "dkim2", "dkim-canon"] {
        for case in corpus::cases(&directory, set) {
            let Some(message) = case.message() else { continue };
            if case.ip().is_none() {
                continue;
            }
            play(&case, &message, 65535).await;
            play(&case, &line_by_line(&case.raw_message().unwrap()), 1021).await;
            played += 1;
        }
    }
    println!("{played} messages");
}
