//! Records as lines of the log (`spf-milter(8)`, LOGGING).

use std::fmt::Write as _;

use super::{conclusion::Reason, pairs::Pairs};
use crate::{
    auth::{Identity, dkim::SignatureOutcome, dmarc::Identifier},
    config::LogLevel,
    log::Log,
    mail::reply::Reply,
    policy::{Exemption, Refusal},
    session::{ContentRecord, Failure, IdentityRecord, Recipient, Record},
};

/// What to do where a message in the name of this site is one of its own.
const LOCAL_DOMAIN_HINT: &str = "if it is yours: permit the client in the SPF record of the domain, sign with a DKIM key of it, \
                                 or list a host of your own in trusted_networks";

/// Logs a record: one line for each identity, one for the content, and more for rare events and
/// for debugging.
pub(super) fn log_record(log: &Log, record: &Record) {
    if let Some(Failure::NotGranted(missing)) = record.failure {
        log.error(|| format!("cannot change a message: the MTA does not let milters {missing}"));
    }
    for identity in &record.identities {
        log.write_with(LogLevel::Info, |text, format| {
            identity_pairs(&mut Pairs::new(text, format), record, identity)
        });
    }
    if let Some(content) = &record.content {
        log.write_with(LogLevel::Info, |text, format| {
            content_pairs(&mut Pairs::new(text, format), record, content)
        });
    }
    // The circumstances are at the end of all others.
    let log_pairs = |level, write: &dyn Fn(&mut Pairs<'_>)| {
        log.write_with(level, |text, format| {
            let mut pairs = Pairs::new(text, format);
            write(&mut pairs);
            circumstances(&mut pairs, record);
        });
    };
    if record.has_too_many_forged {
        log_pairs(LogLevel::Info, &|pairs| {
            pairs.pair("action", "reject");
            let refusal = match record.has_too_many_tags {
                true => Refusal::ForgedTags,
                false => Refusal::ForgedResults,
            };
            pairs.pair("reason", refusal.as_str());
            dry_run(pairs, record.dry_run);
        });
    } else if record.forged_fields + record.forged_tags > 0 {
        log_pairs(LogLevel::Info, &|pairs| {
            if record.forged_fields > 0 {
                pairs.number("deleted-authentication-results", record.forged_fields);
            }
            if record.forged_tags > 0 {
                pairs.number("deleted-tags", record.forged_tags);
            }
            dry_run(pairs, record.dry_run);
        });
    }
    if let Some(failure) = record.failure {
        if let Failure::Internal(error) = failure {
            log.error(|| error.to_string());
        }
        log_pairs(LogLevel::Error, &|pairs| {
            pairs.pair("action", "fail");
            pairs.pair("reason", failure.as_str());
        });
    }
    for skipped in &record.skipped {
        log_pairs(LogLevel::Debug, &|pairs| {
            pairs.pair("identity", skipped.identity.as_str());
            pairs.pair("action", "skip");
            pairs.pair("reason", skipped.reason.as_str());
            let key = if skipped.identity == Identity::Helo { "helo" } else { "envelope-from" };
            pairs.pair(key, &skipped.value);
        });
    }
    if let Some(exemption) = record.exemption {
        log_pairs(LogLevel::Debug, &|pairs| {
            pairs.pair("action", "exempt");
            pairs.pair("reason", exemption.as_str());
        });
    }
}

/// The line of a verified identity (`spf-milter(8)`, LOGGING).
fn identity_pairs(pairs: &mut Pairs<'_>, record: &Record, identity: &IdentityRecord) {
    let verified = &identity.verified;
    let outcome = &verified.outcome;
    pairs.word("identity", verified.identity.as_str());
    pairs.word("result", outcome.result.as_str());
    pairs.word("action", identity.action.as_str());
    if identity.for_dmarc {
        pairs.pair("purpose", "dmarc");
    }
    // A refusal that was put off is in the line of the message, so that it is there once.
    let reply = identity.reply.as_ref().filter(|_| !identity.is_put_off);
    dry_run(pairs, record.dry_run && reply.is_some());
    let refused = reply.map(|_| Reason::of_identity(verified.identity).as_str());
    pairs.optional("reason", identity.why_accepted(record.relay.is_some()).or(refused));
    client(pairs, record);
    pairs.pair("domain", &verified.domain);
    if verified.identity == Identity::Mailfrom {
        pairs.joined("envelope-from", &verified.sender_parts());
    }
    pairs.optional("helo", record.helo.as_deref());
    if let Some(domain) = &outcome.policy_domain {
        pairs.pair("mechanism", outcome.mechanism.as_deref().unwrap_or("default"));
        // Mostly they are equal, which is seen sooner.
        if *domain != verified.domain && !domain.eq_ignore_ascii_case(&verified.domain) {
            pairs.pair("policy-domain", domain);
        }
    }
    if let Some(problem) = &outcome.problem {
        pairs.pair("problem", problem.kind.as_str());
        pairs.pair("detail", &problem.detail);
    }
    if outcome.lookups > 0 {
        pairs.number("lookups", outcome.lookups);
    }
    if outcome.void_lookups > 0 {
        pairs.number("void-lookups", outcome.void_lookups);
    }
    reply_pair(pairs, reply);
    match &identity.recipient {
        Some(Recipient::One(path)) => pairs.pair("recipient", path),
        Some(Recipient::More(count)) => pairs.pair("recipient", &format!("{count} more")),
        None => {}
    }
    pairs.optional("queue-id", record.queue_id.as_deref());
}

/// The line of a message that DKIM, DMARC or iprev looked at, or that has an action for SPF
/// (`spf-milter(8)`, LOGGING).
fn content_pairs(pairs: &mut Pairs<'_>, record: &Record, content: &ContentRecord) {
    if let Some(outcome) = &content.dmarc {
        pairs.pair("dmarc", outcome.result.as_str());
    }
    if let Some(outcome) = &content.iprev {
        pairs.pair("iprev", outcome.result.as_str());
        pairs.optional("client-name", outcome.name.as_ref().map(|name| name.as_str()));
    }
    pairs.pair("action", content.action());
    dry_run(pairs, record.dry_run && content.action() != "accept");
    if let Some(outcome) = &content.dmarc {
        let author_domain = outcome.author_domain.as_ref();
        pairs.optional("author-domain", author_domain.map(|domain| domain.as_str()));
        if let Some(policy) = &outcome.policy {
            pairs.pair("policy", policy.effective().as_str());
            pairs.pair("policy-domain", policy.domain.as_str());
        }
        if let Some(policy) = content.own_policy {
            pairs.pair("override", policy.as_str());
        }
        pairs.pair("disposition", content.disposition.as_str());
    }
    // Of a message that goes on, what exempts it says more than what it is marked for.
    let exemption = content.exemption.filter(|_| content.dmarc.is_some()).map(Exemption::as_str);
    let reason = || Reason::of_content(record, content).map(Reason::as_str);
    pairs.optional("reason", exemption.or_else(reason));
    pairs.optional("list", content.list.as_ref().map(|list| list.as_str()));
    let causes = content.causes.iter();
    pairs.each("cause", causes.map(|cause| format!("{}:{}", cause.refusal.as_str(), cause.action)));
    if content.causes.iter().any(|cause| cause.refusal == Refusal::LocalDomain) {
        pairs.pair("hint", LOCAL_DOMAIN_HINT);
    }
    if let Some(outcome) = &content.dmarc {
        if let Some(verified) = &content.mailfrom {
            pairs.pair("spf", verified.outcome.result.as_str());
            pairs.pair("spf-domain", &verified.domain);
            pairs.joined("envelope-from", &verified.sender_parts());
        }
        let aligned = |is_spf: bool| {
            outcome.aligned.iter().filter_map(move |identifier| match identifier {
                Identifier::Spf(domain) => is_spf.then_some(domain.as_str()),
                Identifier::Dkim(domain) => (!is_spf).then_some(domain.as_str()),
            })
        };
        pairs.each("aligned-spf", aligned(true));
        pairs.each("aligned-dkim", aligned(false));
        if let Some(problem) = &outcome.problem {
            pairs.pair("problem", &problem.to_string());
        }
    }
    reply_pair(pairs, content.reply.as_ref());
    circumstances(pairs, record);
    if let Some(signatures) = &content.dkim {
        // Last, for a sender can make them long; and a pair for each, so that none is lost behind
        // the names of another.
        let none = signatures.is_empty().then(|| "none".to_owned());
        pairs.each("dkim", none.into_iter().chain(signatures.iter().map(signature_word)));
    }
}

/// A signature in a word: `domain/selector:result`, in parentheses why it did not pass, and
/// remarks; without the names where it has none.
fn signature_word(signature: &SignatureOutcome) -> String {
    let mut word = String::new();
    if signature.domain.is_some() || signature.selector.is_some() {
        word.push_str(signature.domain.as_ref().map_or("?", |domain| domain.as_str()));
        word.push('/');
        word.push_str(&signature.ascii_selector().unwrap_or("?".into()));
        word.push(':');
    }
    word.push_str(signature.result().as_str());
    let remarks: Vec<String> = signature
        .reason
        .map(|reason| reason.to_string())
        .into_iter()
        .chain(signature.comment())
        .collect();
    if !remarks.is_empty() {
        // Writing to a `String` cannot fail.
        let _ = write!(word, "({})", remarks.join(", "));
    }
    word
}

//--- Pairs that several lines have ---

fn reply_pair(pairs: &mut Pairs<'_>, reply: Option<&Reply>) {
    if let Some(reply) = reply {
        pairs.pair("reply", &format!("{} {}", reply.code(), reply.status()));
    }
}

fn dry_run(pairs: &mut Pairs<'_>, is_dry: bool) {
    if is_dry {
        pairs.pair("dry-run", "yes");
    }
}

fn client(pairs: &mut Pairs<'_>, record: &Record) {
    pairs.address("client-ip", record.client);
    pairs.address("inner-ip", record.inner);
    pairs.address("relay-ip", record.relay);
}

fn circumstances(pairs: &mut Pairs<'_>, record: &Record) {
    client(pairs, record);
    pairs.optional("queue-id", record.queue_id.as_deref());
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::*;
    use crate::{
        auth::{
            Verified,
            dkim::{BodyCoverage, KeyProblem, Reason},
            dmarc::{self, AppliedPolicy, DmarcResult, Policy, PolicyTag},
            iprev,
            spf::Outcome,
        },
        mail::{domain::Domain, results::SpfResult},
        policy::Disposition,
        session::{Action, Permission},
    };

    fn line(domain: &str, local_part: &str) -> String {
        let mut outcome = Outcome::without_record(SpfResult::Fail, None);
        outcome.mechanism = Some("all".into());
        outcome.policy_domain = Some(domain.into());
        let verified = Verified {
            identity: Identity::Mailfrom,
            local_part: local_part.to_owned().into(),
            domain: domain.into(),
            outcome: outcome.into(),
            trace: None,
        };
        let identity = IdentityRecord {
            verified: verified.into(),
            action: Action::Reject,
            reply: None,
            exemption: None,
            is_put_off: false,
            for_dmarc: false,
            recipient: None,
        };
        let record = Record {
            client: Some(IpAddr::from([192, 0, 2, 1])),
            queue_id: Some("4X".into()),
            identities: vec![identity].into(),
            ..Record::default()
        };
        let log = Log::keep(LogLevel::Info);
        log_record(&log, &record);
        log.take_kept().pop().unwrap()
    }

    #[test]
    fn identities_are_logged_in_pairs() {
        assert_eq!(
            line("example.com", "amy"),
            "identity=mailfrom result=fail action=reject client-ip=192.0.2.1 domain=example.com \
             envelope-from=amy@example.com mechanism=all queue-id=4X"
        );
    }

    fn content_line_of(content: ContentRecord, dry_run: bool) -> String {
        let record = Record {
            client: Some(IpAddr::from([192, 0, 2, 1])),
            queue_id: Some("4X".into()),
            content: Some(Box::new(content)),
            dry_run,
            ..Record::default()
        };
        let log = Log::keep(LogLevel::Info);
        log_record(&log, &record);
        log.take_kept().pop().unwrap()
    }

    fn signature(domain: &str, reason: Option<Reason>) -> SignatureOutcome {
        let (domain, selector) = (Domain::parse(domain).ok(), Some("s1".into()));
        SignatureOutcome { domain, selector, reason, ..SignatureOutcome::default() }
    }

    #[test]
    fn content_is_logged_in_one_line() {
        let domain = Domain::parse("example.com").unwrap();
        let dmarc = dmarc::Outcome {
            policy: Some(AppliedPolicy {
                published: Policy::Reject,
                tag: PolicyTag::P,
                domain: domain.clone(),
                testing: true,
            }),
            ..dmarc::Outcome::new(DmarcResult::Fail, Some(domain.clone()), None)
        };
        let content = ContentRecord {
            dkim: Some(vec![
                signature("a.example", None),
                signature("b.example", Some(Reason::BodyHash)),
                SignatureOutcome {
                    body: Some(BodyCoverage { covered: 35, total: 41 }),
                    ..signature("c.example", None)
                },
                SignatureOutcome {
                    testing: true,
                    ..signature("d.example", Some(Reason::Signature))
                },
            ]),
            dmarc: Some(dmarc),
            mailfrom: Some(Arc::new(Verified {
                identity: Identity::Mailfrom,
                local_part: "bounce".into(),
                domain: "list.example".into(),
                outcome: Outcome::without_record(SpfResult::Softfail, None).into(),
                trace: None,
            })),
            iprev: Some(iprev::Outcome::out_of_time(IpAddr::from([192, 0, 2, 1]))),
            disposition: Disposition::Quarantine,
            own_policy: None,
            causes: Vec::new(),
            exemption: None,
            list: None,
            reply: None,
        };
        assert_eq!(
            content_line_of(content.clone(), true),
            "dmarc=fail iprev=temperror action=quarantine dry-run=yes author-domain=example.com policy=quarantine \
             policy-domain=example.com disposition=quarantine spf=softfail spf-domain=list.example \
             envelope-from=bounce@list.example client-ip=192.0.2.1 queue-id=4X dkim=a.example/s1:pass \
             dkim=\"b.example/s1:fail(body hash did not verify)\" \
             dkim=\"c.example/s1:pass(35 of 41 body octets signed)\" \
             dkim=\"d.example/s1:fail(signature did not verify, testing)\""
        );
        let content = ContentRecord {
            dkim: Some(Vec::new()),
            dmarc: None,
            iprev: None,
            disposition: Disposition::None,
            exemption: Some(Exemption::MailingList),
            ..content
        };
        assert_eq!(
            content_line_of(content, false),
            "action=accept client-ip=192.0.2.1 queue-id=4X dkim=none"
        );
    }

    #[test]
    fn many_signatures_leave_what_counts() {
        let long = format!("{0}.{0}.{0}.example", "x".repeat(63));
        let content = ContentRecord {
            dkim: Some(vec![signature(&long, Some(Reason::Key(KeyProblem::Missing))); 10]),
            dmarc: None,
            mailfrom: None,
            iprev: None,
            disposition: Disposition::None,
            own_policy: None,
            causes: Vec::new(),
            exemption: None,
            list: None,
            reply: None,
        };
        let line = content_line_of(content, false);
        assert!(line.starts_with("action=accept client-ip=192.0.2.1 queue-id=4X dkim="), "{line}");
        assert_eq!(line.matches("no key for signature").count(), 10);
    }

    #[test]
    fn failures_are_not_logged_as_done() {
        let log = Log::keep(LogLevel::Info);
        let mut record = Record {
            complete: true,
            failure: Some(Failure::NotGranted(Permission::AddFields)),
            ..Record::default()
        };
        log_record(&log, &record);
        assert_eq!(
            log.take_kept(),
            [
                "cannot change a message: the MTA does not let milters add header fields",
                "action=fail reason=message-not-changed"
            ]
        );
        record = Record { complete: true, forged_fields: 2, ..Record::default() };
        log_record(&log, &record);
        assert_eq!(log.take_kept(), ["deleted-authentication-results=2"]);
        record.forged_tags = 1;
        log_record(&log, &record);
        assert_eq!(log.take_kept(), ["deleted-authentication-results=2 deleted-tags=1"]);
        record.has_too_many_forged = true;
        log_record(&log, &record);
        assert_eq!(log.take_kept(), ["action=reject reason=too-many-authentication-results"]);
        record.has_too_many_tags = true;
        log_record(&log, &record);
        assert_eq!(log.take_kept(), ["action=reject reason=too-many-tags"]);
    }

    #[test]
    fn values_cannot_break_out() {
        let line = line("example.com", "a\" result=pass\r\n\\");
        assert!(
            line.contains(r#"envelope-from="a\" result=pass\u{d}\u{a}\\@example.com""#),
            "{line}"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let line = line("example.com", &"\"".repeat(5000));
        assert!(line.len() < 1000);
        assert!(line.ends_with("queue-id=4X"), "{line}");
        // A value that is cut is still a pair, and not all of it is gone.
        for local_part in ["\\".repeat(600), format!("a{}", "\\".repeat(600))] {
            let line = self::line("example.com", &local_part);
            assert!(line.contains("\\\\\\\\...\" mechanism=all queue-id=4X"), "{line}");
        }
    }
}
