//! The table of `man/policy-table.in`, and what the program does: every combination of what policy
//! looks at.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use spf_milter::{
    auth::{
        dkim::{BodyCoverage, SignatureOutcome},
        dmarc::{
            AppliedPolicy, DkimIdentifier, DkimStatus, DmarcResult, Identifiers, Outcome, Policy,
            PolicyTag,
        },
        iprev,
    },
    config::{Action, Config, Overrides, load_text},
    dns::{Dns, zone::Zone},
    mail::{author::Author, domain::Domain, envelope::ReversePath, results::SpfResult},
    policy::{
        self, Exemption, HeloDecision, MailDecision, MessageDecision, MessageFacts, Refusal,
        SpfClient,
    },
    runtime::Runtime,
    session::{Answer, Client, Edit, Granted, Session, Verdict},
};
use testkit::{
    fields::Field,
    signer::{ed25519_record, sign},
};

const TABLE: &str = include_str!("../../man/policy-table.in");

/// A row: what it fits, and what follows.
struct Row {
    line: &'static str,
    conditions: [&'static str; 5],
    answer: &'static str,
    disposition: &'static str,
    reason: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').collect();
        assert_eq!(cells.len(), 8, "{line}");
        let conditions = cells[..5].try_into().unwrap();
        Row { line, conditions, answer: cells[5], disposition: cells[6], reason: cells[7] }
    };
    lines.map(read).collect()
}

/// The number of the first row that fits.
fn find(rows: &[Row], situation: [&str; 5]) -> usize {
    let fits = |row: &Row| {
        row.conditions
            .iter()
            .zip(situation)
            .all(|(condition, is)| *condition == "*" || *condition == is)
    };
    rows.iter().position(fits).unwrap_or_else(|| panic!("no row for {situation:?}"))
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn config(lines: &str) -> Config {
    let text = format!(
        "socket = unix:/nowhere\nverify_dkim = yes\nverify_dmarc = yes\nhostname = mx.example.net\n\
         header = Authentication-Results\ndmarc_exempt_mailing_lists = yes\nfail_reply_text = SPF\nsoftfail_reply_text = SPF\ntemperror_reply_text = SPF\n\
         permerror_reply_text = SPF\ndmarc_fail_reply_text = DMARC %{{author_domain}}\n{lines}"
    );
    let loaded = load_text(text.as_bytes(), Path::new("test"), &Overrides::default());
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config
}

/// The settings of SPF and of the actions on DMARC.
#[derive(Clone, Copy)]
struct Settings {
    defers_spf: bool,
    on_quarantine: &'static str,
    on_reject: &'static str,
    on_temperror: &'static str,
}

impl Settings {
    fn lines(self) -> String {
        format!(
            "defer_spf_rejection = {}\ndmarc_quarantine_action = {}\ndmarc_reject_action = {}\n\
             dmarc_temperror_action = {}\n",
            yes_no(self.defers_spf),
            self.on_quarantine,
            self.on_reject,
            self.on_temperror
        )
    }

    /// The action on a result and a policy.
    fn action(self, dmarc: &str, policy: &str) -> &'static str {
        match (dmarc, policy) {
            ("fail", "quarantine") => self.on_quarantine,
            ("fail", "reject") => self.on_reject,
            ("temperror", _) => self.on_temperror,
            _ => "-",
        }
    }
}

const ON_FAILURE: [&str; 4] = ["none", "tag", "quarantine", "reject"];

fn settings() -> Vec<Settings> {
    let mut all = Vec::new();
    for defers_spf in [false, true] {
        for on_quarantine in ON_FAILURE {
            for on_reject in ON_FAILURE {
                for on_temperror in ["none", "tag", "defer"] {
                    all.push(Settings { defers_spf, on_quarantine, on_reject, on_temperror });
                }
            }
        }
    }
    all
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// The outcomes, with all policies that may go with them.
fn dmarc_outcomes() -> Vec<Option<Outcome>> {
    let outcome = |result, policy: Option<(Policy, bool)>| {
        Some(Outcome {
            policy: policy.map(|(published, testing)| AppliedPolicy {
                published,
                tag: PolicyTag::P,
                domain: domain("author.example"),
                testing,
            }),
            ..Outcome::new(result, Some(domain("author.example")), None)
        })
    };
    let mut outcomes = vec![
        None,
        outcome(DmarcResult::None, None),
        outcome(DmarcResult::Permerror, None),
        outcome(DmarcResult::Temperror, None),
    ];
    for result in [DmarcResult::Pass, DmarcResult::Fail, DmarcResult::Temperror] {
        for published in [Policy::None, Policy::Quarantine, Policy::Reject] {
            outcomes
                .extend([false, true].map(|testing| outcome(result, Some((published, testing)))));
        }
    }
    outcomes
}

/// Pure policy: 7 SPF results x 4 settings of SPF x 22 DMARC outcomes x 48 settings of actions x 8.
#[test]
fn every_combination_is_in_the_table() {
    let rows = rows();
    let mut used = BTreeSet::new();
    let mut combinations = 0;
    let spf_results = [
        SpfResult::None,
        SpfResult::Neutral,
        SpfResult::Pass,
        SpfResult::Fail,
        SpfResult::Softfail,
        SpfResult::Temperror,
        SpfResult::Permerror,
    ];
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    let whole = Some(BodyCoverage { covered: 5, total: 5 });
    let dkim = [SignatureOutcome {
        domain: Some(domain("exempt.example")),
        body: whole,
        ..SignatureOutcome::default()
    }];
    let outcomes = dmarc_outcomes();
    let all = "fail, softfail, temperror, permerror";
    let relaying = ON_FAILURE.map(|action| config(&format!("relay_action = {action}\n")));
    for (rejected, spf_exempt) in [("", ""), (all, ""), (all, "192.0.2.0/24")] {
        for settings in settings() {
            for exempt in 0..8 {
                let [network, signature, list] = [1, 2, 4].map(|bit| exempt & bit != 0);
                let lines = format!(
                    "reject_results = {rejected}\nspf_exempt_networks = {spf_exempt}\n{}dmarc_exempt_networks = {}\ndmarc_exempt_dkim_domains = {}",
                    settings.lines(),
                    if network { "192.0.2.0/24" } else { "" },
                    if signature { "exempt.example" } else { "" },
                );
                let config = config(&lines);
                for (result, dmarc) in spf_results
                    .iter()
                    .flat_map(|spf| outcomes.iter().map(move |dmarc| (*spf, dmarc)))
                {
                    let is_rejected = spf_exempt.is_empty()
                        && rejected.split(", ").any(|word| word == result.as_str());
                    let spf = if !is_rejected {
                        "accepted"
                    } else {
                        ["rejected", "deferred"][usize::from(settings.defers_spf)]
                    };
                    let effective = dmarc
                        .as_ref()
                        .and_then(|outcome| outcome.policy.as_ref())
                        .map(AppliedPolicy::effective);
                    let found = dmarc.as_ref().map_or("-", |outcome| outcome.result.as_str());
                    let policy = effective.map_or("-", Policy::as_str);
                    let action = settings.action(found, policy);
                    let row = find(&rows, [spf, found, policy, action, yes_no(exempt != 0)]);
                    used.insert(row);
                    combinations += 1;
                    let row = &rows[row];
                    let spf_client = SpfClient { address: client, is_relayed: false };
                    let mut facts = MessageFacts {
                        client,
                        deferred_helo: None,
                        deferred: None,
                        author: None,
                        identifiers: None,
                        alignment: None,
                        dkim: &dkim,
                        dmarc: dmarc.as_ref(),
                        iprev: None,
                        is_list: list,
                        too_many_forged: None,
                    };
                    let is_deferred = found == "temperror" && action == "defer" && exempt == 0;
                    let may_pass = settings.defers_spf && (found == "pass" || is_deferred);
                    assert_put_off(&config, &facts, result, is_rejected, may_pass);
                    facts.deferred = match policy::at_mail(&config, spf_client, result, false) {
                        MailDecision::Accept { .. } => None,
                        MailDecision::Refuse(refusal) => {
                            assert_eq!(
                                (row.answer, refusal),
                                ("SPF reply at MAIL FROM", Refusal::Spf)
                            );
                            continue;
                        }
                        MailDecision::Defer { cause, .. } => Some(cause),
                    };
                    let decision = policy::at_end(&config, &facts);
                    let exemption = [
                        (network, "exempt-network"),
                        (signature, "exempt-dkim-domain"),
                        (list, "mailing-list"),
                        (true, "-"),
                    ];
                    let exemption = exemption.iter().find(|(applies, _)| *applies).unwrap().1;
                    let reason = if row.reason == "exemption" { exemption } else { row.reason };
                    assert_eq!(
                        in_words(&decision),
                        (row.answer.to_owned(), row.disposition.to_owned(), reason.to_owned()),
                        "{spf} {dmarc:?} with\n{lines}\n{}",
                        row.line
                    );
                    assert_softened(&decision, &relaying);
                }
            }
        }
    }
    println!("{combinations} combinations");
    assert_eq!(
        used.into_iter().collect::<Vec<_>>(),
        (0..rows.len()).collect::<Vec<_>>(),
        "rows without use"
    );
}

/// What SPF refuses of a client of a relay is decided at the end of the message, whatever DMARC says
/// unless `defer_spf_rejection` lets it.
fn assert_put_off(
    config: &Config,
    facts: &MessageFacts<'_>,
    result: SpfResult,
    is_rejected: bool,
    may_pass: bool,
) {
    let is_refused = |facts: &MessageFacts<'_>| {
        let decision = policy::at_end(config, facts);
        // A refusal for now is a deferral.
        let action = if result == SpfResult::Temperror { Action::Defer } else { Action::Reject };
        let spf = (Refusal::Spf, action);
        decision.causes().iter().any(|cause| (cause.refusal, cause.action) == spf)
    };
    let client = SpfClient { address: facts.client, is_relayed: true };
    let (deferred, reason) = match policy::at_mail(config, client, result, false) {
        MailDecision::Refuse(refusal) => panic!("{refusal:?}"),
        MailDecision::Defer { cause, exemption } => (Some(cause), exemption),
        MailDecision::Accept { exemption } => (None, exemption),
    };
    let is_exempt = config.spf_exempt_networks.contains(facts.client);
    let expected = match config.reject_results.contains(&result) {
        true if is_exempt => Some("spf-exempt-network"),
        is_rejected => is_rejected.then_some("relayed"),
    };
    assert_eq!(reason.map(Exemption::as_str), expected);
    assert_eq!(deferred.is_some(), is_rejected);
    assert_eq!(is_refused(&MessageFacts { deferred, ..*facts }), is_rejected && !may_pass);
    let HeloDecision::Accept { deferred: deferred_helo, exemption, .. } =
        policy::at_helo(config, client, result)
    else {
        panic!("HELO of a relay's client is refused");
    };
    assert_eq!(exemption, reason);
    // That of HELO does not depend on DMARC.
    assert_eq!(is_refused(&MessageFacts { deferred_helo, ..*facts }), is_rejected);
}

/// The decision on a message of a relay, by `relay_action`, or one to exempt recipients.
fn assert_softened(decision: &MessageDecision, relaying: &[Config]) {
    let pairs = |decision: &MessageDecision| -> Vec<(Refusal, Action)> {
        decision.causes().iter().map(|cause| (cause.refusal, cause.action)).collect()
    };
    for config in relaying {
        let becomes = |action| match (action, config.relay_action) {
            (Action::Reject, Action::None) | (Action::Defer, Action::None) => Action::None,
            (Action::Reject, Action::Quarantine) => Action::Quarantine,
            (Action::Reject, Action::Reject) => Action::Reject,
            (Action::Reject | Action::Defer, _) => Action::Tag,
            (other, _) => other,
        };
        let found = policy::of_relayed(config, decision.clone());
        let before = pairs(decision);
        let mut expected = before.clone();
        expected.iter_mut().for_each(|(_, action)| *action = becomes(*action));
        expected.retain(|(_, action)| *action != Action::None);
        assert_eq!(pairs(&found), expected);
        // The reason beside that of SPF.
        let is_changed = |(refusal, action): &(Refusal, Action)| {
            *refusal != Refusal::Spf && becomes(*action) != *action
        };
        let is_shown = before.iter().any(is_changed) && found.action() < Action::Quarantine;
        assert_eq!(found.exemption() == Some(Exemption::Relayed), is_shown);
    }
    let spared = policy::of_exempt_recipients(decision.clone());
    if decision.action() < Action::Quarantine {
        assert_eq!(&spared, decision);
    } else {
        assert!(spared.causes().iter().all(|cause| cause.action < Action::Quarantine));
        assert_eq!(spared.exemption(), Some(Exemption::ExemptRecipient));
    }
}

/// A decision in the words of the table.
fn in_words(decision: &MessageDecision) -> (String, String, String) {
    let answer = match decision.decisive().map(|cause| (cause.action, cause.refusal)) {
        None => "accept",
        Some((Action::Tag, Refusal::Dmarc | Refusal::DmarcTemperror)) => "tag",
        Some((Action::Quarantine, Refusal::Dmarc)) => "quarantine",
        Some((Action::Reject, Refusal::Spf)) => "SPF reply at end",
        Some((Action::Reject, Refusal::Dmarc)) => "DMARC reply",
        Some((Action::Defer, Refusal::DmarcTemperror)) => "451 4.7.26",
        Some(other) => panic!("{other:?}"),
    };
    (
        answer.to_owned(),
        decision.disposition().as_str().to_owned(),
        decision.exemption().map_or("-", Exemption::as_str).to_owned(),
    )
}

fn reply_in_words(reply: &str) -> String {
    match reply {
        "550 5.7.26 DMARC author.example" => "DMARC reply".into(),
        "451 4.7.26 DMARC validation error" => "451 4.7.26".into(),
        _ if reply.ends_with(" SPF") => "SPF reply at end".into(),
        _ => reply.to_owned(),
    }
}

/// A message, and what SPF and DMARC make of it.
struct Sample {
    sender: &'static str,
    spf: &'static str,
    from: &'static str,
    dmarc: &'static str,
    policy: &'static str,
}

const SAMPLES: &[Sample] = &[
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "good.example",
        dmarc: "none",
        policy: "-",
    },
    Sample { sender: "bad.example", spf: "fail", from: "good.example", dmarc: "none", policy: "-" },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "signed.example",
        dmarc: "pass",
        policy: "reject",
    },
    Sample {
        sender: "bad.example",
        spf: "fail",
        from: "signed.example",
        dmarc: "pass",
        policy: "reject",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "reject.example",
        dmarc: "fail",
        policy: "reject",
    },
    Sample {
        sender: "bad.example",
        spf: "fail",
        from: "reject.example",
        dmarc: "fail",
        policy: "reject",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "quarantine.example",
        dmarc: "fail",
        policy: "quarantine",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "testing.example",
        dmarc: "fail",
        policy: "quarantine",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "none.example",
        dmarc: "fail",
        policy: "none",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "broken.example",
        dmarc: "temperror",
        policy: "-",
    },
    Sample {
        sender: "bad.example",
        spf: "fail",
        from: "broken.example",
        dmarc: "temperror",
        policy: "-",
    },
    Sample {
        sender: "good.example",
        spf: "pass",
        from: "[192.0.2.1]",
        dmarc: "permerror",
        policy: "-",
    },
];

const ZONE: &str = "
    good.example TXT v=spf1 +all
    bad.example TXT v=spf1 -all
    _dmarc.signed.example TXT v=DMARC1; p=reject
    _dmarc.reject.example TXT v=DMARC1; p=reject
    _dmarc.quarantine.example TXT v=DMARC1; p=quarantine
    _dmarc.testing.example TXT v=DMARC1; p=reject; t=y
    _dmarc.none.example TXT v=DMARC1; p=none
    _dmarc.broken.example TXT !servfail
";

/// The same through sessions, where every result comes from DNS and signatures, live and in a dry
/// run.
#[tokio::test]
async fn sessions_follow_the_table() {
    let rows = rows();
    let mut zone = Zone::parse(ZONE).unwrap();
    for name in ["ed._domainkey.exempt.example", "ed._domainkey.signed.example"] {
        zone.add_txt(name, ed25519_record().as_bytes());
    }
    let dns = Dns::from_zone(Arc::new(zone));
    // One action for both policies: what tells them apart is pure.
    for settings in settings().into_iter().filter(|it| it.on_quarantine == it.on_reject) {
        for exempt in ["", "exempt-network", "exempt-dkim-domain", "mailing-list"] {
            for dry_run in [false, true] {
                let lines = format!(
                    "reject_results = fail\n{}dmarc_exempt_networks = {}\ndmarc_exempt_dkim_domains = {}\ndry_run = {}",
                    settings.lines(),
                    if exempt == "exempt-network" { "192.0.2.0/24" } else { "" },
                    if exempt == "exempt-dkim-domain" { "exempt.example" } else { "" },
                    yes_no(dry_run),
                );
                let runtime =
                    Arc::new(Runtime::new(config(&lines), dns.clone(), "localhost".into(), 0));
                for sample in SAMPLES {
                    let spf = if sample.spf == "pass" {
                        "accepted"
                    } else {
                        ["rejected", "deferred"][usize::from(settings.defers_spf)]
                    };
                    let situation = [
                        spf,
                        sample.dmarc,
                        sample.policy,
                        settings.action(sample.dmarc, sample.policy),
                        yes_no(!exempt.is_empty()),
                    ];
                    let row = &rows[find(&rows, situation)];
                    play(&runtime, sample, exempt, row, dry_run).await;
                }
            }
        }
    }
}

async fn play(runtime: &Arc<Runtime>, sample: &Sample, exempt: &str, row: &Row, dry_run: bool) {
    let client = Client {
        address: Some("192.0.2.1".parse().unwrap()),
        port: 25,
        host: "client.example".into(),
    };
    let (mut session, _) = Session::new(Arc::clone(runtime), Granted::ALL, &client, None);
    let context = format!(
        "{} for {} in {}",
        row.line,
        sample.from,
        if dry_run { "a dry run" } else { "earnest" }
    );
    session.helo("[192.0.2.1]").await;
    let reaction = session.mail(format!("<a@{}>", sample.sender).as_bytes(), false, None).await;
    if let Verdict::Reply(reply) = &reaction.verdict {
        assert_eq!(
            (row.answer, reply.text(), dry_run),
            ("SPF reply at MAIL FROM", "SPF", false),
            "{context}"
        );
        assert!(reaction.records.latest().unwrap().identities[0].reply.is_some(), "{context}");
        return;
    }
    let mut fields =
        vec![Field::new("From", format!(" x@{}", sample.from)), Field::new("Subject", " x")];
    if exempt == "mailing-list" {
        fields.push(Field::new("List-Id", " <list.example>"));
    }
    for domain in ["exempt.example", "signed.example"] {
        let wanted = if domain == "exempt.example" {
            exempt == "exempt-dkim-domain"
        } else {
            sample.from == domain
        };
        if wanted {
            fields.insert(
                0,
                Field::new("DKIM-Signature", sign(&format!("d={domain} s=ed"), &fields, b"x\r\n")),
            );
        }
    }
    for field in &fields {
        session.header(field.name.as_bytes(), &field.value);
    }
    session.end_of_header();
    session.body(b"x\r\n");
    let Answer { verdict, edits, records } = session.end_of_message(None).await;
    let record = records.latest().unwrap();
    let content = record.content.clone().unwrap();
    assert_eq!(content.dmarc.as_ref().unwrap().result.as_str(), sample.dmarc, "{context}");
    assert_eq!(record.dry_run, dry_run);
    // A sender that was refused at MAIL FROM, if the run is dry, goes on as if nothing had been.
    if row.answer != "SPF reply at MAIL FROM" {
        let reason = if row.reason == "exemption" { exempt } else { row.reason };
        assert_eq!(content.disposition.as_str(), row.disposition, "{context}");
        assert_eq!(content.exemption.map_or("-", Exemption::as_str), reason, "{context}");
        let answer = match &content.reply {
            Some(reply) => reply_in_words(
                &format!("{} {} {}", reply.code(), reply.status(), reply.text())
                    .replace(sample.from, "author.example"),
            ),
            None => content.action().into(),
        };
        assert_eq!(answer, row.answer, "{context}");
        if !dry_run && content.reply.is_none() {
            let [tags @ .., Edit::Insert { field, .. }] = &*edits else {
                panic!("{context}: {edits:?}")
            };
            let is_tagged = usize::from(row.answer == "tag");
            assert_eq!(tags.len(), is_tagged, "{context}: {edits:?}");
            for tag in tags {
                let Edit::Insert { field, .. } = tag else { panic!("{context}: {tag:?}") };
                let value = match sample.dmarc {
                    "fail" => format!("{}; reason=dmarc; domain={}", sample.policy, sample.from),
                    _ => format!("tag; reason=dmarc-temperror; domain={}", sample.from),
                };
                assert_eq!((&*field.name, &field.value), ("X-Auth-Action", &value), "{context}");
            }
            let unfolded = field.value.split_whitespace().collect::<Vec<_>>().join(" ");
            let disposition = format!("dis={}", row.disposition)
                + &if reason == "-" { String::new() } else { format!(" reason={reason}") };
            assert!(
                unfolded.contains(&disposition) || (sample.policy == "-" && reason == "-"),
                "{context}: {unfolded} lacks {disposition}"
            );
        }
    }
    let seen = match verdict {
        Verdict::Continue => "accept",
        Verdict::Quarantine(reason) => {
            assert_eq!(reason, format!("DMARC policy of {}", sample.from), "{context}");
            "quarantine"
        }
        Verdict::Reply(_) => "reply",
        other => panic!("{context}: {other:?}"),
    };
    let expected = match row.answer {
        _ if dry_run => "accept",
        "accept" | "tag" => "accept",
        "quarantine" => row.answer,
        _ => "reply",
    };
    assert_eq!(seen, expected, "{context}");
    assert!(edits.is_empty() == (dry_run || expected == "reply"), "{context}: {edits:?}");
}

/// Every cell of the table of exemptions.
#[test]
fn every_exemption_holds_for_what_the_table_says() {
    let section = document("docs/policy.md");
    let table = section.split("## Which exemption holds for what").nth(1).unwrap();
    let rows = markdown_rows(table);
    let page = document("man/spf-milter.8");
    let shown = page.split(".\\\" exemption table\n.Bd -literal\n").nth(1).unwrap();
    let shown: Vec<String> = shown
        .split(".Ed\n")
        .next()
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join("|"))
        .collect();
    assert_eq!(rows.iter().map(|row| row.replace('`', "")).collect::<Vec<_>>(), shown);
    for row in &shown {
        let (exemption, cells) = row.split_once('|').unwrap();
        let found = exempt_from(exemption.trim_end_matches('*'), exemption.ends_with('*'));
        assert_eq!(found.join("|"), cells, "{exemption}");
    }
    assert!(shown.len() >= 9, "{shown:?}");
}

/// For each column, whether an exemption is one from that.
fn exempt_from(exemption: &str, with_local: bool) -> Vec<&'static str> {
    let value = match exemption {
        "trusted_networks" | "spf_exempt_networks" | "dmarc_exempt_networks" => "192.0.2.1",
        "dmarc_exempt_dkim_domains" => "exempt.example",
        "skip_senders" => "bad.example",
        "exempt_recipients" => "postmaster@",
        _ => "yes",
    };
    // That of lists is another for domains of our own.
    let is_list = exemption == "dmarc_exempt_mailing_lists";
    let local = if is_list && !with_local { "" } else { "local_domains = author.example\n" };
    // That is set in any case.
    let setting = if is_list { String::new() } else { format!("{exemption} = {value}\n") };
    let config = config(&format!(
        "{setting}verify_iprev = yes\ndefer_spf_rejection = yes\n\
         dmarc_reject_action = reject\nmalformed_author_action = reject\n\
         unauthenticated_action = reject\niprev_fail_action = reject\n\
         local_domain_action = reject\n{local}"
    ));
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    let is_verified = policy::admit(&config, Some(client), 25, "client.example").is_ok()
        && !(exemption == "trust_authenticated_senders"
            && policy::from_authentication(&config, true).is_some());
    let skipped = policy::sender(&config, "a", &domain("bad.example")).is_some();
    let spf_client = SpfClient { address: client, is_relayed: false };
    let deferred = match policy::at_mail(&config, spf_client, SpfResult::Fail, skipped) {
        MailDecision::Defer { cause, .. } => Some(cause),
        _ => None,
    };
    let is_reject = |outcome: &Outcome| {
        let policy = outcome.policy.as_ref().map(AppliedPolicy::effective);
        outcome.result == DmarcResult::Fail && policy == Some(Policy::Reject)
    };
    let dmarc = dmarc_outcomes().into_iter().flatten().find(is_reject).unwrap();
    let dkim = [SignatureOutcome {
        domain: Some(domain("exempt.example")),
        body: Some(BodyCoverage { covered: 5, total: 5 }),
        ..SignatureOutcome::default()
    }];
    let is_signed = exemption == "dmarc_exempt_dkim_domains";
    let dkim: &[SignatureOutcome] = if is_signed { &dkim } else { &[] };
    let signature = DkimIdentifier { domain: domain("exempt.example"), status: DkimStatus::Pass };
    let identifiers = Identifiers {
        spf: Some((domain("bad.example"), SpfResult::Fail)),
        dkim: dkim.iter().map(|_| signature.clone()).collect(),
    };
    let iprev = iprev::Outcome {
        result: iprev::IprevResult::Fail,
        failure: None,
        ..iprev::Outcome::out_of_time(client)
    };
    let decision = policy::at_end(
        &config,
        &MessageFacts {
            client,
            deferred_helo: None,
            deferred,
            author: Some(&Author::from_fields(&["a@author.example", "b@author.example"])),
            identifiers: Some(&identifiers),
            alignment: None,
            dkim,
            dmarc: Some(&dmarc),
            iprev: Some(&iprev),
            is_list,
            too_many_forged: None,
        },
    );
    let recipient = ReversePath::parse(b"<postmaster@rcpt.example>");
    let decision = match policy::is_exempt_recipient(&config, &recipient) {
        true => policy::of_exempt_recipients(decision),
        false => decision,
    };
    let causes: Vec<Refusal> = decision.causes().iter().map(|cause| cause.refusal).collect();
    let columns = [
        Refusal::Spf,
        Refusal::Dmarc,
        Refusal::LocalDomain,
        Refusal::MalformedAuthor,
        Refusal::Unauthenticated,
        Refusal::Iprev,
    ];
    let cell = |refusal| if is_verified && causes.contains(&refusal) { "holds" } else { "exempt" };
    columns.map(cell).to_vec()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The rows of the first table of a Markdown text, in the form of `man/policy-table.in`.
fn markdown_rows(text: &str) -> Vec<String> {
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    table
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect()
}

#[test]
fn the_documents_show_the_same() {
    let rows: Vec<&str> = rows().iter().map(|row| row.line).collect();
    assert_eq!(markdown_rows(&document("docs/policy.md")), rows);
    assert_eq!(manual_rows(), rows);
}

/// The rows of the table in the manual page, in the form of `man/policy-table.in`. There the reason
/// follows the answer, and the disposition follows from it.
fn manual_rows() -> Vec<String> {
    let page = document("man/spf-milter.8");
    let section = page.split(".Sh DMARC POLICY\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let table = section.split(".\\\" policy table\n.Bd -literal\n").nth(1).unwrap();
    let lines: Vec<&str> = table.split(".Ed\n").next().unwrap().lines().collect();
    // Columns of a terminal, beside the indentation of a manual page.
    assert!(lines.iter().all(|line| line.len() <= 73), "{lines:#?}");
    let starts: BTreeSet<Vec<usize>> = lines.iter().map(|line| columns(line)).collect();
    assert_eq!(starts.len(), 1, "columns are not aligned: {starts:?}");
    let row = |line: &&str| {
        let cells: Vec<&str> =
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let (answer, reason) = cells[5].split_once(", ").unwrap_or((cells[5], "-"));
        let disposition = match answer {
            "SPF reply at MAIL FROM" => "-",
            "accept" | "tag" => "none",
            "quarantine" => "quarantine",
            _ => "reject",
        };
        [&cells[..5], &[answer, disposition, reason]].concat().join("|")
    };
    lines[1..].iter().map(row).collect()
}

/// Where the columns of a line begin.
fn columns(line: &str) -> Vec<usize> {
    let is_start = |at: &usize| {
        let before = line[..*at].ends_with("  ") || *at == 0;
        before && !line[*at..].starts_with(' ')
    };
    (0..line.len()).filter(is_start).collect()
}
