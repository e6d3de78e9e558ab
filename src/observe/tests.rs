use std::sync::Arc;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    auth::{Identity, Verified, spf::Outcome},
    config::{Action as MessageAction, LogLevel},
    mail::{
        reply::{EnhancedStatusCode, Reply, ReplyCode},
        results::{SpfResult, Words},
    },
    policy::{Cause, Disposition, Exemption, Refusal, Refusals},
    session::{Action, ContentRecord, Failure, IdentityRecord, Permission, Told},
};

fn identity(
    identity: Identity,
    reply: Option<&str>,
    exemption: Option<Exemption>,
) -> IdentityRecord {
    let verified = Verified {
        identity,
        local_part: "amy".into(),
        domain: "example.com".into(),
        outcome: Outcome::without_record(SpfResult::Fail, None).into(),
        trace: None,
    };
    let reply = reply.map(self::reply);
    let action = reply.as_ref().map_or(Action::Accept, Action::of);
    IdentityRecord {
        verified: Arc::new(verified),
        action,
        reply,
        exemption,
        is_put_off: false,
        for_dmarc: false,
        recipient: None,
    }
}

fn reply(code: &str) -> Reply {
    Reply::new(code.parse().unwrap(), EnhancedStatusCode::NOT_AUTHORIZED, "no")
}

fn content(causes: &[(Refusal, MessageAction)]) -> Box<ContentRecord> {
    Box::new(ContentRecord {
        dkim: None,
        dmarc: None,
        mailfrom: None,
        iprev: None,
        own_policy: None,
        causes: causes
            .iter()
            .map(|(refusal, action)| Cause { refusal: *refusal, action: *action })
            .collect(),
        disposition: Disposition::None,
        exemption: None,
        list: None,
        reply: None,
    })
}

/// A record in short: verdict, reply with its reason, what was not enforced.
fn conclusion(record: &Record) -> String {
    let Conclusion { verdict, reply, reason, not_enforced } = Conclusion::of(record);
    let mut words = vec![verdict.map_or("-", MessageVerdict::as_str).to_owned()];
    words.extend(reply.map(|code| code.to_string()));
    words.extend(reason.map(|reason| reason.to_string()));
    words.extend(not_enforced.iter().map(|reason| format!("not:{reason}")));
    words.join(" ")
}

#[test]
fn what_records_come_to() {
    use Identity::{Helo, Mailfrom};
    use MessageAction::{Defer, Quarantine, Reject, Tag};
    let code = |code: &str| Told::Reply(code.parse().unwrap());
    let none = Record::default;
    let end = || Record { complete: true, ..none() };
    let refused = |which| vec![identity(which, Some("550"), None)];
    let exempt = |which, why| vec![identity(which, None, Some(why))];
    let mut dmarc = Refusals::default();
    dmarc.insert(Refusal::Dmarc);
    for (record, expected) in [
        (none(), "-"),
        (end(), "accept"),
        // Before a message.
        (
            Record { told: code("550"), identities: refused(Helo).into(), ..none() },
            "- 550 spf_helo",
        ),
        (
            Record { told: code("451"), identities: refused(Mailfrom).into(), ..none() },
            "- 451 spf_mailfrom",
        ),
        // At its end.
        (
            Record {
                told: code("550"),
                content: Some(content(&[(Refusal::Dmarc, Reject)])),
                ..end()
            },
            "reject 550 dmarc",
        ),
        (
            Record {
                told: code("451"),
                content: Some(content(&[(Refusal::Iprev, Tag), (Refusal::DmarcTemperror, Defer)])),
                ..end()
            },
            "defer 451 dmarc_temperror",
        ),
        (
            Record {
                told: code("550"),
                content: Some(content(&[(Refusal::Spf, Reject), (Refusal::Dmarc, Reject)])),
                identities: [exempt(Helo, Exemption::SpfNetwork), refused(Mailfrom)]
                    .concat()
                    .into(),
                ..end()
            },
            "reject 550 spf_mailfrom not:spf_helo",
        ),
        (
            Record { told: code("550"), has_too_many_forged: true, ..end() },
            "reject 550 forged_results",
        ),
        (
            Record {
                told: Told::Quarantine,
                content: Some(content(&[(Refusal::LocalDomain, Quarantine)])),
                ..end()
            },
            "quarantine local_domain",
        ),
        (
            Record {
                content: Some(content(&[(Refusal::MalformedAuthor, Tag)])),
                not_enforced: dmarc,
                ..end()
            },
            "tag malformed_author not:dmarc",
        ),
        (Record { told: Told::Tempfail, ..end() }, "defer 451 internal"),
        (Record { told: Told::Tempfail, ..none() }, "- 451 internal"),
        // A mark that the MTA does not permit is none.
        (
            Record {
                content: Some(content(&[(Refusal::Iprev, Tag)])),
                failure: Some(Failure::NotGranted(Permission::AddFields)),
                ..end()
            },
            "accept",
        ),
        // Of a relay: marked instead of refused.
        (
            Record {
                identities: exempt(Mailfrom, Exemption::Relayed).into(),
                content: Some(content(&[(Refusal::Spf, Tag)])),
                ..end()
            },
            "tag spf_mailfrom not:spf_mailfrom",
        ),
        // A dry run.
        (
            Record {
                dry_run: true,
                identities: [refused(Helo), refused(Mailfrom)].concat().into(),
                content: Some(content(&[
                    (Refusal::Dmarc, Reject),
                    (Refusal::Unauthenticated, Tag),
                ])),
                has_too_many_forged: true,
                ..end()
            },
            "accept not:spf_helo not:spf_mailfrom not:dmarc not:unauthenticated not:forged_results",
        ),
    ] {
        assert_eq!(conclusion(&record), expected, "{record:?}");
    }
}

/// The value of a metric, added up over all labels that a text stands in.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let values = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && line.contains(label)
    });
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn any_record() -> impl Strategy<Value = Record> {
    let told = select(vec!["go-on", "quarantine", "450", "550", "559", "400", "tempfail"]);
    let causes = prop::collection::vec(
        (
            select(Refusal::ALL.iter().map(|(refusal, _)| *refusal).collect::<Vec<_>>()),
            select(vec![MessageAction::Tag, MessageAction::Quarantine, MessageAction::Reject]),
        ),
        0..3,
    );
    let exemptions: Vec<_> = metrics::EXEMPTIONS
        .into_iter()
        .map(Some)
        .chain([None, Some(Exemption::UnknownClient("no-by"))])
        .collect();
    let identities =
        prop::collection::vec((any::<bool>(), any::<bool>(), select(exemptions.clone())), 0..3);
    (told, causes, identities, select(exemptions), any::<[bool; 3]>()).prop_map(
        |(told, causes, identities, exemption, [complete, dry_run, has_too_many_forged])| Record {
            told: match told {
                _ if dry_run => Told::GoOn,
                "go-on" => Told::GoOn,
                "quarantine" => Told::Quarantine,
                "tempfail" => Told::Tempfail,
                code => Told::Reply(code.parse().unwrap()),
            },
            content: (!causes.is_empty()).then(|| content(&causes)),
            identities: identities
                .into_iter()
                .map(|(is_helo, is_refused, exemption)| {
                    let which = if is_helo { Identity::Helo } else { Identity::Mailfrom };
                    identity(which, is_refused.then_some("550"), exemption)
                })
                .collect(),
            exemption,
            complete,
            dry_run,
            has_too_many_forged,
            ..Record::default()
        },
    )
}

proptest! {
    /// What is refused before the end of a message is the difference of two metrics, and each reply
    /// counts once.
    #[test]
    fn replies_and_messages_agree(records in prop::collection::vec(any_record(), 0..8)) {
        let observer = Observer::new(Log::keep(LogLevel::Error));
        records.iter().for_each(|record| observer.observe(record));
        let text = observer.metrics_text().unwrap();
        let count = |condition: &dyn Fn(&Record) -> bool| records.iter().filter(|record| condition(record)).count() as u64;
        let is_refused = |record: &Record| matches!(record.told, Told::Reply(_) | Told::Tempfail);
        let messages = |verdict: &str| sum(&text, "spf_milter_messages_total", verdict);
        prop_assert_eq!(messages(""), count(&|record| record.complete));
        prop_assert_eq!(
            messages("\"defer\"") + messages("\"reject\""),
            count(&|record| record.complete && is_refused(record))
        );
        prop_assert_eq!(sum(&text, "spf_milter_replies_total", ""), count(&is_refused));
        prop_assert_eq!(
            sum(&text, "spf_milter_replies_total", "code=\"559\""),
            count(&|record| record.told == Told::Reply("559".parse::<ReplyCode>().unwrap()))
        );
        let identities: u64 = records.iter().map(|record| record.identities.len() as u64).sum();
        prop_assert_eq!(sum(&text, "spf_milter_results_total", "result=\"fail\""), identities);
        let exemptions = records.iter().flat_map(|record| {
            record.identities.iter().map(|identity| identity.exemption).chain([record.exemption])
        });
        prop_assert_eq!(sum(&text, "spf_milter_exemptions_total", ""), exemptions.flatten().count() as u64);
    }
}

#[test]
fn every_reply_code_has_a_place() {
    for code in (400..460).chain(500..560) {
        let place = metrics::place_of(code.to_string().parse().unwrap());
        assert!(place < metrics::CODES);
        assert_eq!(metrics::code_at(place), code);
    }
}

/// Should another exemption come, this does not compile: it needs a place of its own.
#[test]
fn every_exemption_has_a_place() {
    for exemption in metrics::EXEMPTIONS {
        match exemption {
            Exemption::NoAddress
            | Exemption::LocalSubmission
            | Exemption::TrustedNetwork
            | Exemption::Authenticated
            | Exemption::AuthenticatedAtRelay
            | Exemption::NoDomainName
            | Exemption::SkippedSender
            | Exemption::UnknownClient(_)
            | Exemption::Relayed
            | Exemption::SpfNetwork
            | Exemption::ExemptRecipient
            | Exemption::DmarcNetwork
            | Exemption::DmarcDkimDomain
            | Exemption::MailingList
            | Exemption::NotEnforced => {}
        }
    }
    let words: std::collections::BTreeSet<_> =
        metrics::EXEMPTIONS.iter().map(|exemption| exemption.as_str()).collect();
    assert_eq!(words.len(), metrics::EXEMPTIONS.len());
}

#[test]
fn reloads_are_counted() {
    let observer = Observer::new(Log::keep(LogLevel::Error));
    let value = |name: &str| {
        sum(&observer.metrics_text().unwrap(), &format!("spf_milter_config_{name}"), "")
    };
    assert_eq!((value("last_reload_success"), value("reloads_total")), (1, 0));
    observer.metrics().reloaded(false);
    assert_eq!((value("last_reload_success"), value("reloads_total")), (0, 1));
    assert!(value("last_reload_timestamp_seconds") > 1_700_000_000);
    observer.metrics().reloaded(true);
    assert_eq!((value("last_reload_success"), value("reloads_total")), (1, 2));
}

#[test]
fn all_metrics_are_there_from_the_start() {
    let observer = Observer::new(Log::keep(LogLevel::Warn));
    let text = observer.metrics_text().unwrap();
    for sample in [
        "spf_milter_messages_total{verdict=\"quarantine\"} 0",
        "spf_milter_results_total{method=\"dkim\",result=\"policy\"} 0",
        "spf_milter_replies_total{code=\"451\",reason=\"internal\"} 0",
        "spf_milter_dns_lookups_total{type=\"existence\",outcome=\"nxdomain\"} 0",
        "spf_milter_message_seconds_bucket{le=\"0.0005\"} 0",
        "spf_milter_stage_seconds_bucket{stage=\"iprev\",le=\"30\"} 0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
    }
}

#[test]
fn private_clients_are_logged_once_in_a_while() {
    let log = Log::keep(LogLevel::Warn);
    let observer = Observer::new(log.clone());
    for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        observer.private_client(public.parse().unwrap());
    }
    assert!(log.take_kept().is_empty());
    for private in ["172.18.0.1", "10.0.0.1"] {
        observer.private_client(private.parse().unwrap());
    }
    let [line] = log.take_kept().try_into().unwrap();
    assert!(line.starts_with("client 172.18.0.1 has a private address"), "{line}");
    for private in
        ["192.168.1.1", "169.254.1.1", "100.64.0.1", "fd00::1", "fe80::1", "::ffff:10.1.1.1"]
    {
        assert!(is_private(private.parse().unwrap()), "{private}");
    }
}
