//! Records as operators see them: log lines, and counters.

use std::{
    fmt::Write as _,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    auth::{Identity, dkim::SignatureOutcome, dmarc::Identifier},
    config::LogLevel,
    log::{Log, RateLimit},
    mail::{address::push_address, octets::first_octets},
    policy::Disposition,
    session::{ContentRecord, IdentityRecord, Record},
};

/// How often it is told that clients have addresses of no use.
const CLIENT_INTERVAL: Duration = Duration::from_secs(3600);

/// Tells operators what happens to messages.
#[derive(Clone, Debug)]
pub struct Observer {
    log: Log,
    counters: Arc<Counters>,
    private_client: Arc<RateLimit>,
    no_address: Arc<RateLimit>,
}

/// What was done since the start.
#[derive(Debug, Default)]
struct Counters {
    messages: AtomicU64,
}

impl Observer {
    /// An observer that writes to a log.
    pub fn new(log: Log) -> Self {
        let complaint = || Arc::new(RateLimit::new(CLIENT_INTERVAL));
        Self { log, counters: Arc::default(), private_client: complaint(), no_address: complaint() }
    }

    /// Messages that were received to their end.
    pub fn messages(&self) -> u64 {
        self.counters.messages.load(Ordering::Relaxed)
    }

    /// Tells a record: one line per identity, and more for those who debug.
    pub fn observe(&self, record: &Record) {
        // There is never more than one before another.
        if let Some(unfinished) = &record.unfinished {
            self.observe(unfinished);
        }
        if record.complete {
            self.counters.messages.fetch_add(1, Ordering::Relaxed);
        }
        for identity in &record.identities {
            self.log.write_with(LogLevel::Info, |text| {
                identity_line(&mut Line { text }, record, identity)
            });
        }
        if let Some(content) = &record.content {
            self.log.write_with(LogLevel::Info, |text| {
                content_line(&mut Line { text }, record, content)
            });
        }
        let dry_run = |line: &mut Line<'_>| {
            if record.dry_run {
                line.pair("dry-run", "yes");
            }
        };
        if record.has_too_many_forged {
            self.tell(LogLevel::Info, record, |line| {
                line.pair("action", "reject");
                line.pair("reason", "too-many-authentication-results");
                dry_run(line);
            });
        } else if record.forged_fields > 0 {
            self.tell(LogLevel::Info, record, |line| {
                line.pair("deleted-authentication-results", &record.forged_fields.to_string());
                dry_run(line);
            });
        }
        if record.failed {
            self.tell(LogLevel::Error, record, |line| {
                line.pair("action", "fail");
                line.pair("reason", "message-not-changed");
            });
        }
        if let Some(error) = &record.internal_error {
            self.log.error(|| error.to_string());
            self.tell(LogLevel::Error, record, |line| {
                line.pair("action", "fail");
                line.pair("reason", "internal-error");
            });
        }
        for skipped in &record.skipped {
            self.tell(LogLevel::Debug, record, |line| {
                line.pair("identity", skipped.identity.as_str());
                line.pair("action", "skip");
                line.pair("reason", skipped.reason);
                line.pair(
                    if skipped.identity == Identity::Helo { "helo" } else { "envelope-from" },
                    &skipped.value,
                );
            });
        }
        if let Some(exemption) = record.exemption {
            self.tell(LogLevel::Debug, record, |line| {
                line.pair("action", "exempt");
                line.pair("reason", exemption.as_str());
            });
        }
    }

    /// Writes a line, with the circumstances at its end.
    fn tell(&self, level: LogLevel, record: &Record, write: impl FnOnce(&mut Line<'_>)) {
        self.log.write_with(level, |text| {
            let mut line = Line { text };
            write(&mut line);
            line.circumstances(record);
        });
    }

    /// Tells of a client whose address only this site knows, for it may be that of a proxy: SPF
    /// would then look at the wrong one.
    pub fn private_client(&self, address: IpAddr) {
        if is_private(address) && self.private_client.allow() {
            self.log.warn(|| {
                format!(
                    "client {address} has a private address and is not in trusted_networks: if a proxy or NAT stands before the MTA, \
                     SPF sees the wrong address"
                )
            });
        }
    }

    /// Tells of a client for whose address the MTA gave something else.
    pub fn client_without_address(&self, given: &str) {
        const MAX_SHOWN: usize = 100;
        if self.no_address.allow() {
            let shown: String = given.chars().take(MAX_SHOWN).collect();
            self.log.warn(|| {
                format!("the MTA gave '{shown}' for the address of a client, who is not verified")
            });
        }
    }

    /// Tells a problem of the program or of the MTA, not of mail.
    pub fn problem(&self, problem: &str) {
        self.log.error(|| problem.to_owned());
    }
}

/// Addresses that mean something within a site alone: RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC
/// 4291 §2.5.6.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || address.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// The line of a verified identity (`spf-milter(8)`, LOGGING).
fn identity_line(line: &mut Line<'_>, record: &Record, identity: &IdentityRecord) {
    let verified = &identity.verified;
    let outcome = &verified.outcome;
    line.pair("identity", verified.identity.as_str());
    line.pair("result", outcome.result.as_str());
    line.pair("action", identity.action.as_str());
    if identity.for_dmarc {
        line.pair("purpose", "dmarc");
    }
    if record.dry_run && identity.reply.is_some() {
        line.pair("dry-run", "yes");
    }
    line.client(record);
    line.pair("domain", &verified.domain);
    if verified.identity == Identity::Mailfrom {
        line.pair("envelope-from", &verified.sender());
    }
    if let Some(helo) = &record.helo {
        line.pair("helo", helo);
    }
    if let Some(domain) = &outcome.policy_domain {
        line.pair("mechanism", outcome.mechanism.as_deref().unwrap_or("default"));
        if !domain.eq_ignore_ascii_case(&verified.domain) {
            line.pair("policy-domain", domain);
        }
    }
    if let Some(problem) = &outcome.problem {
        line.pair("problem", problem.kind.as_str());
        line.pair("detail", &problem.detail);
    }
    if outcome.lookups > 0 {
        line.pair("lookups", &outcome.lookups.to_string());
    }
    if outcome.void_lookups > 0 {
        line.pair("void-lookups", &outcome.void_lookups.to_string());
    }
    if let Some(reply) = &identity.reply {
        line.pair("reply", &format!("{} {}", reply.code(), reply.status()));
    }
    if let Some(queue_id) = &record.queue_id {
        line.pair("queue-id", queue_id);
    }
}

/// The line of a message that DKIM, DMARC or iprev looked at (`spf-milter(8)`, LOGGING).
fn content_line(line: &mut Line<'_>, record: &Record, content: &ContentRecord) {
    if let Some(outcome) = &content.dmarc {
        line.pair("dmarc", outcome.result.as_str());
    }
    if let Some(outcome) = &content.iprev {
        line.pair("iprev", outcome.result.as_str());
        if let Some(name) = &outcome.name {
            line.pair("client-name", name.as_str());
        }
    }
    line.pair("action", content.action());
    if record.dry_run && (content.reply.is_some() || content.disposition != Disposition::None) {
        line.pair("dry-run", "yes");
    }
    if let Some(outcome) = &content.dmarc {
        if let Some(domain) = &outcome.author_domain {
            line.pair("author-domain", domain.as_str());
        }
        if let Some(policy) = &outcome.policy {
            line.pair("policy", policy.effective().as_str());
            line.pair("policy-domain", policy.domain.as_str());
        }
        line.pair("disposition", content.disposition.as_str());
        if let Some(exemption) = content.exemption {
            line.pair("reason", exemption.as_str());
        }
        if let Some(verified) = &content.mailfrom {
            line.pair("spf", verified.outcome.result.as_str());
            line.pair("spf-domain", &verified.domain);
            line.pair("envelope-from", &verified.sender());
        }
        for identifier in &outcome.aligned {
            let (key, domain) = match identifier {
                Identifier::Spf(domain) => ("aligned-spf", domain),
                Identifier::Dkim(domain) => ("aligned-dkim", domain),
            };
            line.pair(key, domain.as_str());
        }
        if let Some(problem) = &outcome.problem {
            line.pair("problem", &problem.to_string());
        }
    }
    if let Some(reply) = &content.reply {
        line.pair("reply", &format!("{} {}", reply.code(), reply.status()));
    }
    line.circumstances(record);
    if let Some(signatures) = &content.dkim {
        // Last, for a sender can make them long; and a pair for each, so that none is lost behind
        // the names of another.
        if signatures.is_empty() {
            line.pair("dkim", "none");
        }
        for signature in signatures {
            line.pair("dkim", &signature_word(signature));
        }
    }
}

/// A signature in a word: `domain/selector:result`, why where it did not pass, and what else is to
/// be said of it; without the names where it has none.
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

/// A log line of `key=value` pairs.
struct Line<'a> {
    text: &'a mut String,
}

impl Line<'_> {
    /// Adds a pair. Values that are not plain words are quoted; quotes and backslashes in them
    /// escaped.
    fn pair(&mut self, key: &str, value: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(key);
        self.text.push('=');
        let plain = !value.is_empty()
            && (value
                .bytes()
                .all(|octet| matches!(octet, b'!' | b'#'..=b'<' | b'>'..=b'[' | b']'..=b'~'))
                || value.chars().all(|c| {
                    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '=')
                }));
        if plain {
            push_limited(self.text, value);
        } else {
            self.text.push('"');
            let escaped = value.chars().fold(String::new(), |mut escaped, c| {
                match c {
                    '"' | '\\' => escaped.extend(['\\', c]),
                    // Writing to a `String` cannot fail.
                    c if c.is_control() => drop(write!(escaped, "\\u{{{:x}}}", u32::from(c))),
                    c => escaped.push(c),
                }
                escaped
            });
            push_limited(self.text, &escaped);
            self.text.push('"');
        }
    }

    fn client(&mut self, record: &Record) {
        if let Some(client) = record.client {
            let mut address = String::with_capacity(40);
            push_address(&mut address, client);
            self.pair("client-ip", &address);
        }
    }

    fn circumstances(&mut self, record: &Record) {
        self.client(record);
        if let Some(queue_id) = &record.queue_id {
            self.pair("queue-id", queue_id);
        }
    }
}

/// Values that the network made long are cut, so that the pairs behind them are not lost.
fn push_limited(text: &mut String, value: &str) {
    const LIMIT: usize = 512;
    if value.len() <= LIMIT {
        text.push_str(value);
    } else {
        let kept = first_octets(value, LIMIT);
        // Half of an escape at the cut would escape what follows.
        let backslashes = kept.len() - kept.trim_end_matches('\\').len();
        text.push_str(if backslashes % 2 == 1 {
            kept.strip_suffix('\\').unwrap_or(kept)
        } else {
            kept
        });
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{
            Verified,
            dkim::{BodyCoverage, KeyProblem, Reason},
            dmarc::{self, AppliedPolicy, DmarcResult, Policy, PolicyTag},
            iprev,
            spf::Outcome,
        },
        mail::{domain::Domain, spf_result::SpfResult},
        policy::DmarcExemption,
        session::Action,
    };

    fn line(domain: &str, local_part: &str) -> String {
        let mut outcome = Outcome::without_record(SpfResult::Fail, None);
        outcome.mechanism = Some("all".into());
        outcome.policy_domain = Some(domain.into());
        let verified = Verified {
            identity: Identity::Mailfrom,
            local_part: local_part.into(),
            domain: domain.into(),
            outcome,
        };
        let identity = IdentityRecord {
            verified: verified.into(),
            action: Action::Reject,
            reply: None,
            for_dmarc: false,
        };
        let record = Record {
            client: Some(IpAddr::from([192, 0, 2, 1])),
            queue_id: Some("4X".into()),
            identities: vec![identity],
            ..Record::default()
        };
        let log = Log::keep(LogLevel::Info);
        Observer::new(log.clone()).observe(&record);
        log.take_kept().pop().unwrap()
    }

    #[test]
    fn identities_are_told_in_pairs() {
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
            content: Some(content),
            dry_run,
            ..Record::default()
        };
        let log = Log::keep(LogLevel::Info);
        Observer::new(log.clone()).observe(&record);
        log.take_kept().pop().unwrap()
    }

    fn signature(domain: &str, reason: Option<Reason>) -> SignatureOutcome {
        let (domain, selector) = (Domain::parse(domain).ok(), Some("s1".into()));
        SignatureOutcome { domain, selector, reason, ..SignatureOutcome::default() }
    }

    #[test]
    fn content_is_told_in_one_line() {
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
                outcome: Outcome::without_record(SpfResult::Softfail, None),
            })),
            iprev: Some(iprev::Outcome::out_of_time(IpAddr::from([192, 0, 2, 1]))),
            disposition: Disposition::Quarantine,
            exemption: None,
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
            exemption: Some(DmarcExemption::MailingList),
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
            exemption: None,
            reply: None,
        };
        let line = content_line_of(content, false);
        assert!(line.starts_with("action=accept client-ip=192.0.2.1 queue-id=4X dkim="), "{line}");
        assert_eq!(line.matches("no key for signature").count(), 10);
    }

    #[test]
    fn what_was_not_done_is_not_told_as_done() {
        let log = Log::keep(LogLevel::Info);
        let observer = Observer::new(log.clone());
        let mut record = Record { complete: true, failed: true, ..Record::default() };
        observer.observe(&record);
        assert_eq!(log.take_kept(), ["action=fail reason=message-not-changed"]);
        record = Record { complete: true, forged_fields: 2, ..Record::default() };
        observer.observe(&record);
        assert_eq!(log.take_kept(), ["deleted-authentication-results=2"]);
        record.has_too_many_forged = true;
        observer.observe(&record);
        assert_eq!(log.take_kept(), ["action=reject reason=too-many-authentication-results"]);
    }

    #[test]
    fn private_clients_are_told_once_in_a_while() {
        let log = Log::keep(LogLevel::Warn);
        let observer = Observer::new(log.clone());
        for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"]
        {
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
        // What is cut is still a pair, and not all of it is gone.
        for local_part in ["\\".repeat(600), format!("a{}", "\\".repeat(600))] {
            let line = self::line("example.com", &local_part);
            assert!(line.contains("\\\\\\\\...\" mechanism=all queue-id=4X"), "{line}");
        }
    }

    #[test]
    fn values_are_shown_up_to_the_bound() {
        for (length, shown) in [(511, 511), (512, 512), (513, 512)] {
            let mut text = String::new();
            push_limited(&mut text, &"x".repeat(length));
            assert_eq!(
                text,
                "x".repeat(shown) + if shown < length { "..." } else { "" },
                "{length}"
            );
        }
    }
}
