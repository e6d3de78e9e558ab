//! `spf-milter query`: the program as people call it, and its answers against those of the milter
//! protocol.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use proptest::{
    prelude::{Strategy as _, any},
    sample::select,
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use serde_json::Value;
use spf_milter::{
    config::{Overrides, Setting, load_text},
    dns::{Dns, zone::Zone},
    mail::domain::is_unseen,
    query::{self, Outcome, Question},
    runtime::Runtime,
};
use testkit::{
    daemon::program,
    drivers::{
        milter::MilterDriver,
        query::{QueryDriver, questions},
    },
    fields::Field,
    nameserver::{Behaviour, NameServer},
    process::Process,
    scenario::{Driver as _, HOST, Scenario},
    scratch::Scratch,
    signer, wait_for,
};

/// Clients without an address, about whom there is nothing to ask.
const WITHOUT_CLIENT: [&str; 2] = ["client-without-address", "forged-results-nobody-trusted"];

#[test]
fn scenarios_come_out_as_through_the_milter_protocol() {
    let (mut failures, mut played) = (Vec::new(), 0);
    for mut scenario in Scenario::read_all(&testkit::root().join("tests/scenarios")) {
        if !scenario.is_for(QueryDriver.name()) || WITHOUT_CLIENT.contains(&&*scenario.name) {
            continue;
        }
        for step in &mut scenario.steps {
            // There is no queue.
            step.log.iter_mut().for_each(|words| words.retain(|word| word != "queue-id="));
            // What a dry run would do is told in other ways.
            if scenario.config.contains("dry_run = yes") {
                step.log.clear();
            }
        }
        played += 1;
        match QueryDriver.play(&scenario) {
            Ok((seen, log)) => failures.extend(scenario.differences(&seen, &log)),
            Err(problem) => failures.push(problem),
        }
    }
    assert!(failures.is_empty(), "of {played}:\n{}", failures.join("\n"));
    assert!(played > 100, "{played}");
}

#[test]
fn what_only_dns_trouble_lets_through_is_uncertain() {
    let asker = Asker::new();
    let signed = "DKIM-Signature: v=1; a=rsa-sha256; c=simple/relaxed; d=example.org; s=t; h=From;\n \
                  bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\nFrom: amy@soft.example\n\n";
    let plain = "From: amy@soft.example\n\n";
    for (message, ip, change, exit) in [
        (plain, "192.0.2.7", "iprev_fail_action=reject", 69),
        (plain, "192.0.2.7", "iprev_fail_action=none", 0),
        (plain, "192.0.2.8", "iprev_fail_action=tag", 0),
        (signed, "192.0.2.8", "unauthenticated_action=reject", 69),
        (signed, "192.0.2.8", "unauthenticated_action=none", 0),
        (plain, "192.0.2.8", "unauthenticated_action=reject", 1),
    ] {
        let client = ["--ip", ip, "--mail-from", "amy@soft.example"];
        let changes = ["--as", "verify_iprev=yes", "--as", change];
        let answer = asker.ask_about(message, &[&client[..], &changes].concat());
        assert_eq!(answer.exit, exit, "{change}: {answer:?}");
    }
}

#[test]
fn fields_that_were_left_out_are_listed_up_to_a_bound() {
    let asker = Asker::new();
    for (count, last) in [(48, "Authentication-Results (line 51)"), (49, "1 more")] {
        let message = format!(
            "Return-Path: <amy@soft.example>\nReceived: from x (x [192.0.2.8]) by mx.example.net\n with SMTP\n\
             {}From: amy@soft.example\n\n",
            "Authentication-Results: mx.example.net; spf=pass\n".repeat(count)
        );
        let answer = asker.ask_about(message, &[]);
        assert_eq!(answer.exit, 0, "{answer:?}");
        assert!(answer.text.contains(&format!(", {last}: added here\n")), "{}", answer.text);
    }
}

#[test]
fn the_text_of_a_long_field_is_cut() {
    let asker = Asker::new();
    for (length, exit) in [(4090, 0), (4097, 64), (1_000_000, 64)] {
        let message = format!(
            "Return-Path: {}@soft.example\nReceived: from x (x [192.0.2.8]) by mx.example.net\n with SMTP\n\
             From: amy@soft.example\n\n",
            "\u{e9}".repeat((length - 13) / 2)
        );
        let answer = asker.ask_about(message, &["--json"]);
        assert_eq!(answer.exit, exit, "{}", answer.errors);
        if exit == 0 {
            let input = &answer.json()["input"];
            let text = input["envelope-from"]["text"].as_str().unwrap();
            assert_eq!(text.chars().count(), 1003);
            assert!(text.ends_with("\u{e9}..."), "{text}");
            assert_eq!(input["left-out"][0]["text"], text);
        }
    }
}

#[test]
fn a_change_has_a_value() {
    let asker = Asker::new();
    for word in ["client", "helo", "mail-from", "author-domain"] {
        let answer = asker.ask(&["--ip", "192.0.2.8", "--as", word]);
        answer.is_refused(64, &format!("--as {word}: there is no value (expected {word}=VALUE)"));
    }
}

/// The value with which a parameter calls for nothing.
fn harmless_value(parameter: &str) -> &'static str {
    match parameter {
        "reject_results" | "reject_helo_results" | "header" => "",
        "delete_incoming_authentication_results" => "no",
        _ => "none",
    }
}

#[test]
fn the_parameter_that_is_named_decides() {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut decided = BTreeSet::new();
    for scenario in Scenario::read_all(&testkit::root().join("tests/scenarios")) {
        let dns = Dns::from_zone(Arc::new(Zone::parse(&scenario.zone).unwrap()));
        let ask_with = |config: &str, question: &Question, settings: Vec<Setting>| {
            let overrides = Overrides { settings, ..Overrides::default() };
            let text = format!("socket = unix:/nowhere\n{config}");
            let loaded = load_text(text.as_bytes(), Path::new("scenario"), &overrides).unwrap();
            let runtime = Runtime::new(loaded.config.clone(), dns.clone(), HOST.into(), 0);
            let finding = executor.block_on(query::ask(question, &runtime)).unwrap();
            let (sentence, parameter) = query::why(&finding, &loaded.config, &loaded.places);
            (finding.outcome(), sentence, parameter)
        };
        for (config, question) in questions(&scenario) {
            let (outcome, sentence, parameter) = ask_with(&config, &question, Vec::new());
            if outcome == Outcome::Accept {
                continue;
            }
            let place = format!("{}: {outcome}: {sentence}", scenario.name);
            let parameter = parameter.unwrap_or_else(|| panic!("{place}: nothing decided"));
            decided.insert(parameter);
            let line = format!("{parameter} = {}", harmless_value(parameter));
            let other = ask_with(&config, &question, vec![Setting { option: "--as", line }]);
            let before = (outcome, sentence, Some(parameter));
            assert_ne!(other, before, "{place}: {parameter} does not decide");
        }
    }
    // All that can be decided by.
    for parameter in [
        "reject_results",
        "reject_helo_results",
        "dmarc_reject_action",
        "dmarc_quarantine_action",
        "dmarc_temperror_action",
        "local_domain_action",
        "malformed_author_action",
        "unauthenticated_action",
        "iprev_fail_action",
        "relay_action",
    ] {
        assert!(decided.contains(parameter), "{parameter} decided nothing: {decided:?}");
    }
}

/// The words of which generated scenarios are made.
const DOMAINS: [&str; 6] = [
    "pass.example",
    "fail.example",
    "soft.example",
    "broken.example",
    "trouble.example",
    "none.example",
];
const GENERATED_ZONE: &str = r#"
pass.example TXT "v=spf1 ip4:192.0.2.0/28 -all"
fail.example TXT "v=spf1 -all"
soft.example TXT "v=spf1 ~all"
broken.example TXT "v=spf1 ipv4:192.0.2.1 -all"
trouble.example TXT !servfail
_dmarc.pass.example TXT "v=DMARC1; p=reject"
_dmarc.fail.example TXT "v=DMARC1; p=reject"
_dmarc.soft.example TXT "v=DMARC1; p=quarantine"
_dmarc.trouble.example TXT !servfail
"#;
const LINES: [&str; 12] = [
    "verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = reject\ndmarc_quarantine_action = quarantine",
    "verify_dkim = yes\nverify_dmarc = yes\ndefer_spf_rejection = yes\ndmarc_reject_action = tag",
    "verify_dkim = yes\nverify_dmarc = yes\ndmarc_temperror_action = defer\nmalformed_author_action = reject",
    "reject_results = fail\nheader = Received-SPF, Authentication-Results",
    "reject_results =\nreject_helo_results = permerror",
    "include_all_results = yes\nheader = Authentication-Results\nreject_helo_results =",
    "definitive_helo_results = pass, fail\nreject_helo_results =",
    "exempt_recipients = bob@rcpt.example",
    "spf_exempt_networks = 192.0.2.8/29",
    "skip_senders = soft.example",
    "verify_iprev = yes\niprev_fail_action = reject",
    "trusted_networks = 198.51.100.0/24\nverify_helo = no",
];

#[test]
fn questions_come_out_as_through_the_milter_protocol() {
    let parts = (
        select(&LINES[..]),
        select(&["192.0.2.1", "192.0.2.9", "203.0.113.1", "198.51.100.7", "2001:db8::1"][..]),
        select(&DOMAINS[..]),
        select(&DOMAINS[..]),
        select(&DOMAINS[..]),
        any::<[bool; 3]>(),
    );
    let scenarios = parts.prop_map(|(config, client, helo, sender, author, [auth, null, from])| {
        let sender = if null { "<>".to_owned() } else { format!("<amy@{sender}>") };
        let mut session = format!("connect {client}\nhelo {helo}\n");
        if auth && config.contains("trusted") {
            session.push_str("auth joe\n");
        }
        session.push_str(&format!("mail {sender}\nrcpt <bob@rcpt.example>\nmessage\n"));
        if from {
            session.push_str(&format!("  | From: amy@{author}\n"));
        }
        session.push_str("  | Authentication-Results: mta.example.org; spf=pass\n  | Subject: x\n");
        format!("[zone]\n{GENERATED_ZONE}\n[config]\n{config}\n[session]\n{session}")
    });
    let mut runner = TestRunner::deterministic();
    for number in 0..60 {
        let text = scenarios.new_tree(&mut runner).unwrap().current();
        let scenario = Scenario::parse(&format!("generated-{number}"), &text).unwrap();
        let refused = |seen: &testkit::scenario::Observed| seen.reply != "ok";
        let (through_milter, _) = MilterDriver::like_postfix().play(&scenario).unwrap();
        let (asked, _) = QueryDriver.play(&scenario).unwrap();
        // What comes behind a refusal makes no sense.
        let end = through_milter.iter().position(refused).map_or(through_milter.len(), |at| at + 1);
        assert_eq!(asked[..end], through_milter[..end], "{text}");
    }
}

const ZONE: &str = r#"
example.org TXT "v=spf1 include:_spf.example.org -all"
_spf.example.org TXT "v=spf1 ip4:192.0.2.0/28 -all"
_dmarc.example.org TXT "v=DMARC1; p=reject"
ed._domainkey.example.org TXT "${ed25519}"
mail.example.com TXT "v=spf1 ip4:203.0.113.9 -all"
soft.example TXT "v=spf1 ~all"
trouble.example TXT !servfail
192.0.2.7 PTR !servfail
t._domainkey.example.org TXT !servfail
"#;

const CONFIG: &str = "socket = unix:/proc/nobody/can/listen/here
hostname = mx.example.net
header = Received-SPF, Authentication-Results
verify_dkim = yes
verify_dmarc = yes
defer_spf_rejection = yes
dmarc_reject_action = reject
";

struct Asker {
    nameserver: NameServer,
    folder: Scratch,
    config: PathBuf,
}

impl Asker {
    fn new() -> Self {
        let zone = signer::fill_in_keys(ZONE);
        let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
        let folder = Scratch::new("query");
        let config = folder.write("a.conf", CONFIG);
        Self { nameserver, folder, config }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("-c").arg(&self.config).arg("query");
        command.args(["--nameserver", &self.nameserver.address().to_string()]);
        command.env_remove("LC_ALL").env("LC_CTYPE", "C.UTF-8").stdin(Stdio::null());
        command
    }

    fn ask(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command().args(arguments).output().unwrap())
    }

    fn ask_about(&self, message: impl AsRef<[u8]>, arguments: &[&str]) -> Answer {
        let path = self.folder.write("message", message);
        let mut command = self.command();
        Answer::of(command.arg("--message").arg(path).args(arguments).output().unwrap())
    }
}

#[derive(Debug)]
struct Answer {
    exit: i32,
    text: String,
    errors: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap(),
            text: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn has(&self, exit: i32, lines: &[&str]) {
        assert_eq!(self.exit, exit, "{self:?}");
        for line in lines {
            assert!(
                self.text.lines().any(|one| one.trim() == *line),
                "{line}\nnot in\n{}",
                self.text
            );
        }
    }

    #[track_caller]
    fn is_refused(&self, exit: i32, error: &str) {
        assert_eq!(self.exit, exit, "{self:?}");
        assert!(self.errors.contains(error), "{error}\nnot in\n{}", self.errors);
        assert_eq!(self.text, "");
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

#[test]
fn what_a_client_says_is_answered_without_a_message() {
    let asker = Asker::new();
    let answer = asker.ask(&["--ip", "192.0.2.1", "--mail-from", "amy@example.org"]);
    let result = "SPF        pass amy@example.org, by include:_spf.example.org of example.org, look-ups 1 of 10, void 0 of 2";
    answer.has(0, &["accept", "when       up to MAIL FROM: no message was given", result]);
    let answer = asker.ask(&[
        "--ip",
        "192.0.2.99",
        "--mail-from",
        "<amy@example.org>",
        "--as",
        "defer_spf_rejection=no",
    ]);
    answer.has(1, &[
        "reject: 550 5.7.23 SPF validation failed",
        "when       the reply to MAIL FROM",
        "decided by reject_results = fail, temperror, permerror (default)",
        "- SPF would pass if 192.0.2.99 were permitted by the record of example.org: no mechanism before it matched, -all decided",
    ]);
    let place = format!("decided by reject_results = softfail ({}:8)", asker.config.display());
    std::fs::write(&asker.config, format!("{CONFIG}reject_results = softfail\n")).unwrap();
    let answer = asker.ask(&[
        "--ip",
        "192.0.2.99",
        "--mail-from",
        "amy@soft.example",
        "--as",
        "defer_spf_rejection=no",
    ]);
    answer.has(1, &["reject: 550 5.7.23 SPF validation failed", &place]);
    let answer = asker.ask(&[
        "--ip",
        "192.0.2.99",
        "--mail-from",
        "amy@example.org",
        "--as",
        "reject_results=",
    ]);
    answer.has(
        0,
        &[
            "accept",
            "why        SPF of the sender amy@example.org is fail, which is not rejected",
            "decided by reject_results = (command line)",
        ],
    );
    std::fs::write(&asker.config, CONFIG).unwrap();
    // DNS trouble: refused for now, or let through without a result.
    let trouble = ["--ip", "192.0.2.1", "--mail-from", "amy@trouble.example", "--as"];
    asker.ask(&[&trouble[..], &["defer_spf_rejection=no"]].concat()).has(75, &[]);
    let answer = asker.ask(&[&trouble[..], &["reject_results="]].concat());
    answer.has(69, &["accept"]);
    // Why a result that is rejected refuses nobody.
    for (changes, why, decided) in [
        (
            &["skip_senders=example.org"][..],
            "the sender is exempt from SPF",
            "skip_senders = example.org",
        ),
        (
            &["definitive_helo_results=softfail", "helo=soft.example"],
            "the result of HELO is definitive",
            "definitive_helo_results = softfail",
        ),
        (
            &["exempt_recipients=bob@rcpt.example", "defer_spf_rejection=no"],
            "nothing is refused for the recipient",
            "exempt_recipients = bob@rcpt.example",
        ),
    ] {
        let changes: Vec<_> = changes.iter().flat_map(|change| ["--as", change]).collect();
        let client = ["--ip", "192.0.2.99", "--mail-from", "amy@example.org"];
        let recipients = ["--rcpt", "bob@rcpt.example", "--rcpt", "x@rcpt.example"];
        let why = format!("why        SPF of the sender amy@example.org is fail, but {why}");
        let decided = format!("decided by {decided} (command line)");
        for end in [&[][..], &["--as", "author-domain=none.example"]] {
            let answer = asker.ask(&[&client[..], &recipients, &changes, end].concat());
            answer.has(0, &[&why, &decided]);
        }
    }
    let answer = asker.ask(&[
        "--ip",
        "192.0.2.99",
        "--mail-from",
        "amy@example.org",
        "--rcpt",
        "x@rcpt.example",
        "--rcpt",
        "bob@rcpt.example",
        "--as",
        "exempt_recipients=bob@rcpt.example",
        "--as",
        "defer_spf_rejection=no",
    ]);
    let refused = "RCPT TO    <x@rcpt.example>: 550 5.7.23 SPF validation failed";
    answer.has(0, &[refused, "RCPT TO    <bob@rcpt.example>"]);
    // Nobody is exempt, whatever else is said.
    let answer = asker.ask(&[
        "--ip",
        "192.0.2.99",
        "--mail-from",
        "amy@example.org",
        "--ignore-exemptions",
        "--as",
        "trusted_networks=192.0.2.0/24",
        "--as",
        "defer_spf_rejection=no",
    ]);
    answer.has(1, &["when       the reply to MAIL FROM"]);
    // A rejection that is put off is none yet, and is no acceptance either.
    let answer = asker.ask(&["--ip", "192.0.2.99", "--mail-from", "amy@example.org"]);
    answer.has(
        0,
        &[
            "why        SPF of the sender amy@example.org is fail, which is rejected at the end of the message unless DMARC passes",
            &format!("decided by defer_spf_rejection = yes ({}:6)", asker.config.display()),
        ],
    );
    // HELO alone.
    asker
        .ask(&["--ip", "192.0.2.1", "--helo", "mail.example.com"])
        .has(1, &["when       the reply to HELO"]);
    asker.ask(&["--as", "client=203.0.113.9", "--as", "helo=mail.example.com"]).has(0, &["accept"]);
    // Whoever is exempt.
    let trusted = ["--ip", "127.0.0.1", "--helo", "mail.example.com"];
    asker.ask(&trusted).has(
        0,
        &["why        the client is trusted", "decided by trusted_networks = loopback (default)"],
    );
    asker.ask(&[&trusted[..], &["--ignore-exemptions"]].concat()).has(1, &[]);
}

/// A message as the client sent it, and what was put above it here.
fn saved(body: &str) -> (String, String) {
    let fields = [
        Field::new("From", " Amy <amy@example.org>"),
        Field::new("Subject", " hello"),
        Field::new("Received", " from a by b; x"),
    ];
    let wire = body.replace('\n', "\r\n");
    let signature = signer::sign(
        "d=example.org s=ed h=from:subject:authentication-results",
        &fields,
        wire.as_bytes(),
    );
    let header: String = fields
        .iter()
        .map(|field| format!("{}:{}\n", field.name, String::from_utf8_lossy(&field.value)))
        .collect();
    let sent = format!("DKIM-Signature:{signature}\n{header}\n{body}");
    let above = "Return-Path: <list@list.example>
Delivered-To: bob@example.net
Received: from mx.example.net by mx.example.net with LMTP id x; Fri, 27 Nov 2026 08:00:00 +0000
Authentication-Results: mx.example.net; spf=fail
Received: from mail.example.com (unknown [203.0.113.9])
\tby mx.example.net (Postfix) with ESMTPS id 4X;
\tFri, 27 Nov 2026 08:00:00 +0000
Authentication-Results: mx.example.net;
\tspf=fail
";
    (above.to_owned(), sent)
}

#[test]
fn saved_messages_are_verified_as_they_came() {
    let asker = Asker::new();
    let (above, sent) = saved("Hi\nFrom here on\n\nbye\n");
    let plain = format!("{above}{sent}");
    let mailbox = format!(
        "From list@list.example Fri Nov 27 08:00:00 2026\n{}\nFrom next@example.com x\nSubject: y\n\n",
        plain.replace("\nFrom here", "\n>From here")
    );
    let forms = [
        (plain.clone(), 0),
        (plain.replace('\n', "\r\n"), 0),
        (mailbox.clone(), 1),
        (mailbox.replace('\n', "\r\n"), 1),
        (plain.trim_end().to_owned(), 0),
    ];
    for (message, shift) in forms {
        let answer = asker.ask_about(&message, &[]);
        let line = format!(
            "client     203.0.113.9 (line {}: Received: from mail.example.com (unknown [203.0.113.9]) by mx.example.net (Postfix) with ESMTPS id 4X; Fri, 27 Nov 2026 08:00:00 +0000)",
            5 + shift
        );
        let path = format!(
            "MAIL FROM  <list@list.example> (line {}: Return-Path: <list@list.example>)",
            1 + shift
        );
        let helo = format!("HELO       mail.example.com (line {})", 5 + shift);
        answer.has(0, &["accept", "why        DMARC of example.org passes", &line, &helo, &path]);
        let json = asker.ask_about(&message, &["--json"]).json();
        assert_eq!(json["content"]["dkim"][0]["result"], "pass", "{json}");
        assert_eq!(json["input"]["client-ip"]["value"], "203.0.113.9");
        assert_eq!(json["input"]["left-out"].as_array().unwrap().len(), 6);
        // Nothing of ours was taken for a field that the client forged.
        assert_eq!(json["deleted"].as_array().unwrap().len(), 0, "{json}");
        let added = json["added"][0]["value"].as_str().unwrap();
        assert!(added.starts_with("mx.example.net; spf=none"), "{added}");
    }
    // With one octet changed.
    let answer = asker.ask_about(plain.replace("bye", "Bye"), &[]);
    answer.has(
        1,
        &[
            "reject: 550 5.7.26 DMARC validation failed for example.org",
            "why        DMARC of example.org fails, and its policy is reject",
            &format!("decided by dmarc_reject_action = reject ({}:7)", asker.config.display()),
            "- DKIM of example.org (selector ed) might pass if the body were as it was signed",
        ],
    );
    // As the client sent it.
    let sent = ["--ip", "192.0.2.1", "--mail-from", "amy@example.org"];
    let answer = asker.ask_about(saved("Hi\n").1, &sent);
    answer.has(0, &["accept"]);
    assert!(answer.text.contains("all fields are taken for the client's"), "{answer:?}");
    // Several authors never pass.
    let answer = asker.ask_about(
        "From: amy@example.org, bob@other.example\n\nHi\n",
        &["--ip", "192.0.2.1", "--mail-from", "<>"],
    );
    let only =
        "- DMARC would pass only if From had one author domain, and an aligned identifier passed";
    answer.has(1, &["reject: 550 5.7.26 DMARC validation failed for example.org", only]);
    // What if.
    let changed = asker.ask_about(
        &plain,
        &["--as", "author-domain=example.org", "--as", "mail-from=amy@example.org"],
    );
    changed.has(1, &["MAIL FROM  <amy@example.org>"]);
    let tagged = asker.ask_about(plain.replace("bye", "Bye"), &["--as", "dmarc_reject_action=tag"]);
    tagged.has(
        0,
        &[
            "tag",
            "X-Auth-Action: reject; reason=dmarc; domain=example.org",
            "decided by dmarc_reject_action = tag (command line)",
        ],
    );
    let dry = asker.ask_about(plain.replace("bye", "Bye"), &["--dry-run"]);
    dry.has(
        1,
        &[
            "reject: 550 5.7.26 DMARC validation failed for example.org",
            "dry run    this would have been done without dry_run; the message goes on unchanged",
        ],
    );
}

#[test]
fn the_field_of_the_host_that_took_the_message_counts() {
    let asker = Asker::new();
    let (above, sent) = saved("Hi\n");
    let further = format!(
        "Received: from mx.example.net (mx.example.net [198.51.100.1]) by store.example.net with ESMTP; x\n{above}{sent}"
    );
    asker.ask_about(&further, &[]).is_refused(
        64,
        "the topmost Received field by store.example.net in line 1 is not by mx.example.net",
    );
    asker.ask_about(&further, &["--received-by", "MX.example.net"]).has(0, &["accept"]);
    let answer = asker.ask_about(&further, &["--received-by", "store.example.net"]);
    answer.is_refused(64, "no Return-Path");
    let returned = ["--received-by", "store.example.net", "--mail-from", "amy@example.org"];
    let answer = asker.ask_about(&further, &returned);
    assert!(answer.text.contains("client     198.51.100.1 (line 1: "), "{answer:?}");
    asker
        .ask_about(&further, &["--received-by", "nobody.example"])
        .is_refused(64, "no Received field by nobody.example");
    let odd = format!("{}{sent}", above.replace("(unknown [203.0.113.9])", "(unknown)"));
    asker.ask_about(odd, &[]).is_refused(64, "line 5 does not say who the client is (no-address)");
    asker.ask_about(&sent, &[]).is_refused(64, "expected --ip ADDRESS");
    let unreturned = format!("{}{sent}", above.replace("Return-Path", "X-Path"));
    asker.ask_about(unreturned, &[]).is_refused(64, "no Return-Path");
    // A client that authenticated, by the word of the field.
    let authenticated = format!("{}{sent}", above.replace("ESMTPS", "ESMTPSA"));
    asker.ask_about(authenticated, &[]).has(0, &["why        the client authenticated"]);
}

#[test]
fn bad_input_is_refused_with_the_place() {
    let asker = Asker::new();
    asker.ask(&[]).is_refused(64, "expected --ip ADDRESS");
    asker.ask(&["--ip", "192.0.2.256"]).is_refused(64, "--ip");
    asker.ask(&["--message", "/nowhere/a.eml"]).is_refused(64, "/nowhere/a.eml: No such file");
    asker.ask(&["--message", "/"]).is_refused(64, "/: Is a directory");
    asker.ask_about("", &[]).is_refused(64, "the message is empty");
    asker.ask_about("\n\n", &[]).is_refused(64, "the message is empty");
    asker
        .ask_about("\u{7f}ELF\u{1}\u{2}", &[])
        .is_refused(64, "line 1 of the message is no header field");
    let garbage: Vec<u8> = (0..100_000_u32)
        .map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    asker.ask_about(garbage, &["--ip", "192.0.2.1"]).is_refused(64, "line 1 of the message");
    let known = ["--ip", "192.0.2.1", "--mail-from", "amy@example.org"];
    // No From, NUL, no body, a header that ends early.
    for message in [
        "Subject: x\n\nx",
        "Subject: a\0b\n\n\0",
        "A: b",
        "From: amy@example.org\nno field\n",
        "\nbody",
    ] {
        let answer = asker.ask_about(message, &known);
        answer.has(0, &["accept"]);
    }
    for (change, error) in [
        ("timeout_sec=3", "--as: 'timeout_sec' is not a parameter (did you mean timeout_secs?)"),
        ("timeout_secs", "--as timeout_secs: no '='"),
        ("timeout_secs=0", "--as timeout_secs: "),
        ("client=x", "--as client: 'x' cannot be used (expected an address"),
        ("author-domain=a b", "--as author-domain: 'a b' cannot be used (expected a domain name)"),
        ("verify_dkim=no", "verify_dmarc: "),
    ] {
        asker
            .ask(&[&known[..], &["--as", change]].concat())
            .is_refused(if change.starts_with("verify") { 78 } else { 64 }, error);
    }
    asker
        .ask(&["--ip", "192.0.2.1", "--nameserver", "nobody"])
        .is_refused(64, "--nameserver nameservers: ");
    std::fs::write(&asker.config, "socket = unix:/x\nverify_dkim = perhaps\n").unwrap();
    asker.ask(&known).is_refused(78, "a.conf:2:15: verify_dkim: ");
    let answer = Answer::of(
        Command::new(program()).args(["-c", "/nowhere/a.conf", "query"]).output().unwrap(),
    );
    answer.is_refused(78, "/nowhere/a.conf: ");
}

#[test]
fn large_messages_are_taken_from_standard_input() {
    let asker = Asker::new();
    let mut child = asker
        .command()
        .args(["--ip", "192.0.2.1", "--mail-from", "amy@example.org", "--message", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"From: amy@example.org\n\n").unwrap();
    let line = [vec![b'x'; 1023], vec![b'\n']].concat();
    let block = line.repeat(1024);
    (0..100).for_each(|_| input.write_all(&block).unwrap());
    drop(input);
    Answer::of(child.wait_with_output().unwrap()).has(0, &["accept"]);
    // One that nobody could send.
    let path = asker.folder.join("huge");
    File::create(&path).unwrap().set_len((1 << 29) + 1).unwrap();
    let answer = asker.ask(&["--message", path.to_str().unwrap()]);
    answer.is_refused(64, "longer than 536870912 octets");
}

#[test]
fn the_words_of_strangers_do_no_harm() {
    let asker = Asker::new();
    let zone = "evil.example TXT \"v=spf1 exists:\\x1b[31m\\x07 \u{202e}x -all\"";
    asker.nameserver.set_zone(Zone::parse(zone).unwrap());
    let hostile = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\r\u{8}";
    let message = format!(
        "Return-Path: <a{hostile}@evil.example>\nFrom: \"{hostile}\" <{hostile}@evil.example>\nX{hostile}: y\n\n"
    );
    let helo = format!("h{hostile}.example");
    let path = format!("a{hostile}@evil.example");
    for arguments in [
        &["--ip", "192.0.2.1", "--helo", &helo][..],
        &["--ip", "192.0.2.1", "--helo", &helo, "--json"],
        &["--ip", "192.0.2.1", "--mail-from", &path, "--as", "reject_results="],
        &["--ip", "192.0.2.1", "--received-by", &helo, "--mail-from", &path, "--json"],
    ] {
        let answer = asker.ask_about(&message, arguments);
        let text = format!("{}{}", answer.text, answer.errors);
        assert!(!text.is_empty());
        let bad = text.chars().find(|c| c.is_control() && *c != '\n' || is_unseen(*c));
        assert_eq!(bad, None, "{text:?}");
        let answer =
            Answer::of(asker.command().env("LC_CTYPE", "C").args(arguments).output().unwrap());
        assert!(arguments.contains(&"--json") || answer.text.is_ascii(), "{answer:?}");
    }
    let answer = asker.ask(&["--as", &format!("client={hostile}")]);
    assert!(!answer.errors.contains('\u{1b}'), "{answer:?}");
    let answer = asker.ask_about(&message, &["--received-by", hostile]);
    assert!(!answer.errors.contains('\u{1b}'), "{answer:?}");
}

#[test]
fn json_has_the_keys_of_the_log() {
    let asker = Asker::new();
    let (above, sent) = saved("Hi\n");
    let message = format!("{above}{}", sent.replace("Hi", "Ho"));
    let json = asker.ask_about(message, &["--json"]).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["verdict"], "reject");
    assert_eq!((&json["reply"], &json["exit"]), (&"550 5.7.26".into(), &1.into()));
    assert_eq!(json["reply-text"], "DMARC validation failed for example.org");
    assert_eq!(json["decided-by"]["parameter"], "dmarc_reject_action");
    let identity = &json["identities"][0];
    assert_eq!((&identity["identity"], &identity["result"]), (&"helo".into(), &"pass".into()));
    assert_eq!((&identity["lookups"], &identity["max-lookups"]), (&0.into(), &10.into()));
    let content = &json["content"];
    assert_eq!((&content["dmarc"], &content["action"]), (&"fail".into(), &"reject".into()));
    assert_eq!(content["cause"][0], "dmarc:reject");
    // Each is a key of the log.
    let manual = std::fs::read_to_string(testkit::root().join("man/spf-milter.8")).unwrap();
    let own = ["max-lookups", "max-void-lookups"];
    for object in [identity, content] {
        for key in object.as_object().unwrap().keys().filter(|key| !own.contains(&key.as_str())) {
            assert!(manual.contains(&format!("It Cm {key}")) || manual.contains(key), "{key}");
        }
    }
}

#[test]
fn the_configuration_is_shown_with_its_places() {
    let asker = Asker::new();
    let show = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("-c").arg(&asker.config).args(["show-config", "--json"]).args(arguments);
        Answer::of(command.output().unwrap()).json()
    };
    let json = show(&[]);
    assert_eq!(json["schema"], 1);
    let parameters = json["parameters"].as_object().unwrap();
    assert_eq!(parameters["header"]["value"], "Received-SPF, Authentication-Results");
    assert_eq!(parameters["header"]["place"], format!("{}:3", asker.config.display()));
    assert_eq!(parameters["header"]["line"], 3);
    assert!(!parameters.contains_key("log_level"));
    let json = show(&["--all", "--log-level", "debug"]);
    assert_eq!(json["parameters"]["log_level"]["place"], "command line");
    assert_eq!(json["parameters"]["max_lookups"]["place"], "default");
    let all = spf_milter::config::parameters().len();
    assert_eq!(json["parameters"].as_object().unwrap().len(), all);
}

#[test]
fn a_signal_ends_it_at_once() {
    let asker = Asker::new();
    let silent = Behaviour { drop: true, ..Behaviour::default() };
    asker.nameserver.behave("example.org", silent);
    let mut command = asker.command();
    command.args(["--ip", "192.0.2.1", "--mail-from", "amy@example.org"]);
    let mut query = Process::start(&mut command);
    wait_for("the query", || (asker.nameserver.total() > 0).then_some(()));
    query.signal("INT");
    let status = query.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{status}");
}

#[test]
fn it_works_beside_the_daemon() {
    let asker = Asker::new();
    let config = CONFIG.lines().filter(|line| !line.starts_with("socket")).collect::<Vec<_>>();
    let address = asker.nameserver.address();
    let config = format!("{}\nnameservers = {address}\n", config.join("\n"));
    let daemon = testkit::daemon::Daemon::start(&config);
    let path = daemon.folder().join("spf-milter.conf");
    let output = Command::new(program())
        .arg("-c")
        .arg(path)
        .args(["query", "--ip", "192.0.2.1", "--mail-from", "amy@example.org"])
        .output()
        .unwrap();
    Answer::of(output).has(0, &["accept"]);
    let (status, _) = daemon.stop();
    assert!(status.success());
}
