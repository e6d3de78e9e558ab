//! Sessions from their events to their edits.

mod alignment;
mod authors;
mod bounds;
mod recipients;
mod relays;

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    auth::Identity,
    config::{Overrides, load_text},
    dns::{Dns, zone::Zone},
    mail::results::SpfResult,
    runtime::Clock,
    session::forged::MAX_FORGED_FIELDS,
};

const ALL: &str =
    "header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n";

/// A daemon of which sessions are begun.
struct Host {
    runtime: Arc<Runtime>,
    granted: Granted,
    zone: Arc<Zone>,
}

impl Host {
    fn new(zone: &str, config: &str) -> Self {
        Self::with_latency(zone, config, Duration::ZERO)
    }

    fn with_latency(zone: &str, config: &str, latency: Duration) -> Self {
        let mut zone = Zone::parse(zone).unwrap();
        zone.latency = latency;
        let zone = Arc::new(zone);
        let text = format!(
            "socket = unix:/nowhere\nhostname = mx.example.net\ntrusted_networks = 203.0.113.0/24\n{config}"
        );
        let config =
            load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config;
        let mut runtime =
            Runtime::new(config, Dns::from_zone(Arc::clone(&zone)), "localhost".into(), 0);
        runtime.clock = Clock::Fixed(1_800_000_000);
        Self { runtime: Arc::new(runtime), granted: Granted::ALL, zone }
    }

    fn connect_from(&self, address: &str) -> (Session, Answer) {
        let client = Client {
            address: Some(address.parse().unwrap()),
            port: 25,
            host: "client.example".into(),
        };
        Session::new(Arc::clone(&self.runtime), self.granted, &client, None)
    }

    fn connect(&self) -> Session {
        let (session, answer) = self.connect_from("192.0.2.1");
        assert_eq!(answer, Answer::proceed());
        session
    }
}

impl Session {
    /// Takes a message to its end.
    async fn message(&mut self, fields: &[(&str, &str)], body: &str) -> Answer {
        for (name, value) in fields {
            self.header(name.as_bytes(), value.as_bytes());
        }
        self.end_of_header();
        self.body(body.as_bytes());
        self.end_of_message(Some("4X")).await
    }
}

/// The fields that edits insert, unfolded.
fn inserted(edits: &[Edit]) -> Vec<String> {
    let unfold = |edit: &Edit| match edit {
        Edit::Insert { field, .. } => {
            Some(field.value.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Edit::Delete { .. } => None,
    };
    edits.iter().filter_map(unfold).collect()
}

fn identities(record: Option<&Record>) -> Vec<(Identity, SpfResult, Action)> {
    let identities = record.map(|record| record.identities.iter()).into_iter().flatten();
    identities
        .map(|record| (record.verified.identity, record.verified.outcome.result, record.action))
        .collect()
}

const ZONE: &str = "
    mail.example.com TXT v=spf1 +all
    example.com TXT v=spf1 ip4:192.0.2.1 -all
    bad.example TXT v=spf1 -all
    _dmarc.example.com TXT v=DMARC1; p=reject
    192.0.2.1 PTR mail.example.com
    mail.example.com A 192.0.2.1
";

#[tokio::test]
async fn two_messages_of_a_session() {
    let host = Host::new(ZONE, ALL);
    let mut session = host.connect();
    assert_eq!(session.helo("mail.example.com").await, Answer::proceed());
    assert_eq!(session.mail(b"<a@example.com>", false, None).await, Answer::proceed());
    let first = session.message(&[("From", " a@example.com")], "x\r\n").await;
    assert_eq!(
        inserted(&first.edits),
        [
            "mx.example.net; spf=pass smtp.mailfrom=example.com; dkim=none; dmarc=pass (p=reject dis=none) \
          header.from=example.com policy.dmarc=reject; iprev=pass policy.iprev=192.0.2.1 (mail.example.com)"
        ]
    );
    let record = first.records.latest().cloned().unwrap();
    assert_eq!(
        identities(Some(&record)),
        [
            (Identity::Helo, SpfResult::Pass, Action::Accept),
            (Identity::Mailfrom, SpfResult::Pass, Action::Accept)
        ]
    );
    assert_eq!(
        (record.queue_id.as_deref(), record.complete, record.failure),
        (Some("4X"), true, None)
    );
    let queries = host.zone.queries();
    session.mail(b"<a@example.com>", false, None).await;
    let second = session.message(&[("From", " a@example.com")], "x\r\n").await;
    assert_eq!(second.edits, first.edits);
    // HELO is recorded once, and neither it nor the client's name is verified again: MAIL FROM and
    // DMARC are.
    assert_eq!(
        identities(second.records.latest()),
        [(Identity::Mailfrom, SpfResult::Pass, Action::Accept)]
    );
    assert_eq!(host.zone.queries() - queries, 2);
    assert_eq!(session.close().records.latest(), None);
}

#[tokio::test]
async fn helo_is_verified_once_a_name() {
    let host = Host::new(ZONE, "");
    let mut session = host.connect();
    session.helo("mail.example.com").await;
    session.helo("mail.example.com").await;
    assert_eq!(host.zone.queries(), 1);
    // Another name: all of the former one is recorded, under its name.
    for (name, former) in [("example.com", "mail.example.com"), ("mail.example.com", "example.com")]
    {
        let answer = session.helo(name).await;
        let record = answer.records.iter().next().unwrap();
        assert_eq!(record.helo.as_deref(), Some(former));
        assert_eq!(identities(Some(record)).len(), 1);
    }
    assert_eq!(host.zone.queries(), 3);
    assert_eq!(identities(session.close().records.latest()).len(), 1);
    // A refused sender stays refused, and is recorded once.
    let mut session = host.connect();
    let first = session.helo("bad.example").await;
    let second = session.helo("bad.example").await;
    assert!(matches!(first.verdict, Verdict::Reply(_)));
    assert_eq!(second, Answer::from(first.verdict));
    assert_eq!(
        identities(first.records.latest()),
        [(Identity::Helo, SpfResult::Fail, Action::Reject)]
    );
    assert_eq!(session.close().records.latest(), None);
}

#[tokio::test(start_paused = true)]
async fn helo_that_cannot_be_refused_is_verified_beside_mail_from() {
    let host = Host::with_latency(ZONE, "reject_helo_results =\n", Duration::from_secs(8));
    let mut session = host.connect();
    let begin = tokio::time::Instant::now();
    session.helo("mail.example.com").await;
    session.helo("example.com").await;
    assert_eq!(begin.elapsed().as_secs(), 0, "nobody waits for it");
    session.mail(b"<a@example.com>", false, None).await;
    assert_eq!(begin.elapsed().as_secs(), 8, "both at the same time");
    let finished = session.message(&[], "x\r\n").await;
    let record = finished.records.latest();
    let expected = [
        (Identity::Helo, SpfResult::Pass, Action::Accept),
        (Identity::Mailfrom, SpfResult::Pass, Action::Accept),
    ];
    assert_eq!(identities(record), expected);
}

#[tokio::test]
async fn many_helo_names_leave_nothing_behind() {
    let host = Host::new(ZONE, "");
    let mut session = host.connect();
    for number in 0..1000 {
        session.helo(&format!("[{number}{}", "a".repeat(100_000))).await;
        session.helo(&format!("{number}.example.com")).await;
    }
    let last = session.close().records.latest().cloned().unwrap();
    assert!(last.identities.len() + last.skipped.len() <= 2 && last.helo.unwrap().len() <= 1024);
}

#[tokio::test]
async fn unfinished_messages_are_recorded_once() {
    let host = Host::new(ZONE, ALL);
    let mut session = host.connect();
    assert_eq!(session.abort().records.latest(), None);
    session.mail(b"<a@example.com>", false, Some("1")).await;
    let record = session.abort().records.latest().cloned().unwrap();
    assert_eq!((record.queue_id.as_deref(), record.complete), (Some("1"), false));
    assert_eq!(session.abort().records.latest(), None);
    // Without a word between, by another message that goes on.
    session.mail(b"<a@example.com>", false, Some("2")).await;
    let answer = session.mail(b"<b@example.com>", false, Some("3")).await;
    let records: Vec<_> = answer.records.iter().collect();
    assert_eq!((records.len(), records[0].queue_id.as_deref()), (1, Some("2")));
    // And by one that is refused: each under its own queue id.
    let answer = session.mail(b"<b@bad.example>", false, Some("4")).await;
    let record = answer.records.latest().cloned().unwrap();
    let sender = |record: &Record| record.identities[0].verified.sender();
    assert_eq!((record.queue_id.as_deref(), sender(&record)), (Some("4"), "b@bad.example".into()));
    assert_eq!(identities(Some(&record)), [(Identity::Mailfrom, SpfResult::Fail, Action::Reject)]);
    let unfinished = answer.records.iter().next().unwrap();
    assert_eq!(
        (unfinished.queue_id.as_deref(), sender(unfinished)),
        (Some("3"), "b@example.com".into())
    );
    assert_eq!(
        identities(Some(unfinished)),
        [(Identity::Mailfrom, SpfResult::Pass, Action::Accept)]
    );
    // A message that was refused is over.
    assert_eq!(session.message(&[("From", " a@example.com")], "").await.records.latest(), None);
    session.mail(b"<a@example.com>", false, Some("5")).await;
    assert_eq!(session.close().records.latest().cloned().unwrap().queue_id.as_deref(), Some("5"));
}

#[tokio::test]
async fn events_out_of_order_do_nothing() {
    let host = Host::new(ZONE, ALL);
    let nothing = Answer::proceed();
    let mut session = host.connect();
    assert_eq!(session.message(&[("From", " a@example.com")], "x\r\n").await, nothing);
    assert_eq!(session.end_of_message(None).await, nothing);
    session.mail(b"<a@example.com>", false, None).await;
    // The body without an end of the header, and before some of it.
    session.body(b"x\r\n");
    session.header(b"From", b" a@example.com");
    session.end_of_header();
    session.end_of_header();
    session.body(b"");
    let finished = session.end_of_message(None).await;
    assert!(inserted(&finished.edits)[0].contains("; dmarc=pass "), "{finished:?}");
    assert_eq!(session.end_of_message(None).await, nothing);
    // No header at all.
    session.mail(b"<a@example.com>", false, None).await;
    let finished = session.end_of_message(None).await;
    assert!(
        inserted(&finished.edits)[0]
            .contains("; dkim=none; dmarc=permerror reason=\"no From field\"; "),
        "{finished:?}"
    );
    assert_eq!(session.close().records.latest(), None);
}

#[tokio::test]
async fn exempt_clients_are_not_verified() {
    let host = Host::new(ZONE, ALL);
    let (mut session, answer) = host.connect_from("203.0.113.7");
    assert_eq!(answer.verdict, Verdict::Accept);
    assert_eq!(
        answer.records.latest().cloned().unwrap().exemption,
        Some(Exemption::TrustedNetwork)
    );
    session.helo("bad.example").await;
    session.mail(b"<a@bad.example>", false, None).await;
    assert_eq!(session.message(&[("From", " a@example.com")], "").await.records.latest(), None);
    assert_eq!(session.close().records.latest(), None);
    let mut session = host.connect();
    let answer = session.mail(b"<a@bad.example>", true, None).await;
    assert_eq!(
        (answer.verdict, answer.records.latest().cloned().unwrap().exemption),
        (Verdict::Continue, Some(Exemption::Authenticated))
    );
    assert_eq!(session.message(&[("From", " a@example.com")], "").await.edits, []);
    assert_eq!(host.zone.queries(), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// The numbers of the fields that edits delete, by name.
fn deleted(edits: &[Edit]) -> Vec<(&str, i32)> {
    let mut deleted = Vec::new();
    for edit in edits {
        if let Edit::Delete { name, index } = edit {
            deleted.push((&**name, *index));
        }
    }
    deleted
}

const FORGED: [(&str, &str); 6] = [
    ("Authentication-Results", " mx.example.net; dmarc=pass"),
    ("ARC-Authentication-Results", " i=1; foreign.example; dmarc=pass"),
    ("arc-authentication-results ", " i=2; mx.example.net; dmarc=pass"),
    ("Authentication-Results", " foreign.example; dmarc=pass"),
    ("ARC-Authentication-Results", " i=x; mx.example.net; dmarc=pass"),
    ("Authentication-Results", " foreign.example; none; mx.example.net; dmarc=pass"),
];

#[tokio::test]
async fn forged_fields_are_numbered_by_their_names() {
    let (results, arc) = ("Authentication-Results", "ARC-Authentication-Results");
    let mut session = Host::new(ZONE, ALL).connect();
    session.mail(b"<a@example.com>", false, None).await;
    let finished = session.message(&FORGED, "").await;
    assert_eq!(deleted(&finished.edits), [(results, 3), (arc, 3), (arc, 2), (results, 1)]);
    assert_eq!(finished.records.latest().cloned().unwrap().forged_fields, 4);
    // The bound is one for both.
    let half = MAX_FORGED_FIELDS / 2;
    for (more, is_refused) in [(0, false), (1, true)] {
        session.mail(b"<a@example.com>", false, None).await;
        let fields =
            [vec![FORGED[0]; half], vec![FORGED[2]; MAX_FORGED_FIELDS - half + more]].concat();
        let finished = session.message(&fields, "").await;
        assert_eq!(matches!(finished.verdict, Verdict::Reply(_)), is_refused);
        assert_eq!(deleted(&finished.edits).len(), if is_refused { 0 } else { MAX_FORGED_FIELDS });
    }
}

/// Address of the client, whether it authenticates, lines of the configuration; whether its fields
/// are deleted.
#[tokio::test]
async fn fields_of_clients_that_are_not_verified() {
    for (address, authenticated, lines, is_deleted) in [
        ("203.0.113.7", false, "", false),
        ("203.0.113.7", false, "trusted_authentication_results =", true),
        ("203.0.113.7", false, "trusted_authentication_results = 203.0.113.8", true),
        ("203.0.113.7", false, "trusted_authentication_results = 203.0.113.7", false),
        ("203.0.113.7", true, "trusted_authentication_results =", true),
        ("::ffff:203.0.113.7", false, "", false),
        ("192.0.2.1", true, "", true),
        ("192.0.2.1", true, "trusted_authentication_results = 192.0.2.0/24", true),
        (
            "192.0.2.1",
            true,
            "trusted_authentication_results = 192.0.2.0/24\ntrust_authenticated_senders = no",
            true,
        ),
        ("192.0.2.1", true, "delete_incoming_authentication_results = no", false),
        (
            "192.0.2.1",
            true,
            "delete_incoming_authentication_results = no\ndelete_authserv_ids = mx.example.net",
            true,
        ),
        ("192.0.2.1", false, "trusted_authentication_results = 192.0.2.0/24", false),
        ("192.0.2.1", false, "", true),
        ("0.0.0.0", false, "", true),
    ] {
        let host = Host::new(
            ZONE,
            &format!("header = Authentication-Results\nverify_helo = no\n{lines}\n"),
        );
        let (mut session, answer) = host.connect_from(address);
        let is_accepted = matches!(answer.verdict, Verdict::Accept);
        let is_exempt = answer.records.latest().is_some();
        let answer = session.mail(b"<a@example.com>", authenticated, Some("1")).await;
        let is_accepted = is_accepted || matches!(answer.verdict, Verdict::Accept);
        let is_exempt = is_exempt || answer.records.latest().is_some();
        let finished = session.message(&FORGED, "x").await;
        assert_eq!(
            deleted(&finished.edits).len(),
            if is_deleted { 4 } else { 0 },
            "{address} {authenticated} {lines}"
        );
        assert_eq!(
            inserted(&finished.edits).is_empty(),
            is_exempt,
            "{address} {authenticated} {lines}"
        );
        assert_eq!(is_accepted, is_exempt && !is_deleted, "{address} {authenticated} {lines}");
        if is_exempt && is_deleted {
            let record = finished.records.latest().cloned().unwrap();
            assert_eq!(
                (record.queue_id.as_deref(), record.complete, record.forged_fields),
                (Some("4X"), true, 4)
            );
            assert_eq!(
                (record.client.is_some(), record.identities.len(), record.content),
                (true, 0, None)
            );
        }
    }
}

#[tokio::test]
async fn local_submission_counts_as_loopback() {
    for (lines, is_accepted) in [
        ("trusted_networks = loopback, 203.0.113.0/24", true),
        ("trusted_networks = 203.0.113.0/24", false),
        ("trusted_networks = 203.0.113.0/24\ntrusted_authentication_results = loopback", true),
        ("trusted_networks = loopback\ntrusted_authentication_results =", false),
    ] {
        let text = format!(
            "socket = unix:/nowhere\nhostname = mx.example.net\nheader = Authentication-Results\n{lines}"
        );
        let config =
            load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config;
        let runtime = Runtime::new(
            config,
            Dns::from_zone(Arc::new(Zone::parse("").unwrap())),
            "localhost".into(),
            0,
        );
        for address in ["127.0.0.1", "::1"] {
            let client = Client {
                address: Some(address.parse().unwrap()),
                port: 0,
                host: "localhost".into(),
            };
            let (_, answer) = Session::new(
                Arc::new(Runtime::new(
                    (*runtime.config).clone(),
                    runtime.dns.clone(),
                    String::new(),
                    0,
                )),
                Granted::ALL,
                &client,
                None,
            );
            assert_eq!(matches!(answer.verdict, Verdict::Accept), is_accepted, "{lines}");
            assert_eq!(
                answer.records.latest().cloned().unwrap().exemption,
                Some(Exemption::LocalSubmission)
            );
        }
    }
}

#[tokio::test]
async fn dry_runs_go_on_and_are_recorded() {
    let host = Host::new(
        ZONE,
        &format!("{ALL}dry_run = yes\ndmarc_reject_action = reject\nreject_helo_results = fail\n"),
    );
    let mut session = host.connect();
    assert_eq!(session.helo("bad.example").await, Answer::proceed());
    assert_eq!(session.mail(b"<a@bad.example>", false, None).await, Answer::proceed());
    let forged = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let finished = session.message(&[forged, ("From", " a@example.com")], "x\r\n").await;
    assert_eq!((finished.verdict, finished.edits), (Verdict::Continue, Vec::new()));
    let record = finished.records.latest().cloned().unwrap();
    assert!(record.dry_run && record.forged_fields == 1);
    assert_eq!(
        identities(Some(&record)),
        [
            (Identity::Helo, SpfResult::Fail, Action::Reject),
            (Identity::Mailfrom, SpfResult::Fail, Action::Reject)
        ]
    );
    let content = record.content.unwrap();
    assert_eq!((content.action(), content.disposition), ("reject", policy::Disposition::Reject));
}

#[tokio::test]
async fn refused_messages_are_not_changed() {
    let host = Host::new(ZONE, &format!("{ALL}dmarc_reject_action = reject\n"));
    let mut session = host.connect();
    session.mail(b"<a@elsewhere.example>", false, None).await;
    let forged = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let finished = session.message(&[forged, ("From", " a@example.com")], "x\r\n").await;
    assert!(matches!(finished.verdict, Verdict::Reply(_)) && finished.edits.is_empty());
    assert_eq!(finished.records.latest().cloned().unwrap().forged_fields, 0);
}

#[tokio::test]
async fn marks_are_deleted_where_an_action_adds_them() {
    let mark = ("x-auth-action", " tag");
    for (action, count) in [("tag", 2), ("reject", 0)] {
        let host = Host::new(ZONE, &format!("{ALL}dmarc_quarantine_action = {action}\n"));
        let mut session = host.connect();
        session.mail(b"<a@example.com>", false, None).await;
        let Answer { verdict, edits, records } = session.message(&[mark, FROM, mark], "x").await;
        assert_eq!(verdict, Verdict::Continue);
        let expected = [("X-Auth-Action", 2), ("X-Auth-Action", 1)];
        assert_eq!(deleted(&edits), &expected[..count]);
        assert_eq!(records.latest().unwrap().forged_tags, count);
    }
    // There is a bound for them, and one for Authentication-Results in our name.
    let host = Host::new(ZONE, &format!("{ALL}dmarc_quarantine_action = tag\n"));
    let forged = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let results = "Too many Authentication-Results fields in the name of this host";
    for (marks, forgeries, refusal) in [
        (MAX_FORGED_FIELDS, MAX_FORGED_FIELDS, None),
        (MAX_FORGED_FIELDS + 1, 0, Some("Too many X-Auth-Action fields")),
        (0, MAX_FORGED_FIELDS + 1, Some(results)),
        (MAX_FORGED_FIELDS + 1, MAX_FORGED_FIELDS + 1, Some(results)),
    ] {
        let fields = [vec![mark; marks], vec![forged; forgeries], vec![FROM]].concat();
        for client in ["192.0.2.1", "203.0.113.9"] {
            let (mut session, _) = host.connect_from(client);
            session.mail(b"<a@example.com>", client != "192.0.2.1", None).await;
            let Answer { verdict, records, .. } = session.message(&fields, "x").await;
            let text = match verdict {
                Verdict::Reply(reply) => Some(reply.text().to_owned()),
                _ => None,
            };
            assert_eq!(text.as_deref(), refusal);
            let record = records.latest().unwrap();
            assert_eq!(record.has_too_many_forged, refusal.is_some());
            assert_eq!(record.has_too_many_tags, refusal.is_some_and(|text| text != results));
        }
    }
}

#[tokio::test]
async fn too_many_forged_fields_are_refused() {
    let host = Host::new(ZONE, ALL);
    let forged = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let foreign = ("Authentication-Results", " mx.example.com; dmarc=pass");
    let mut session = host.connect();
    for (count, is_refused) in
        [(MAX_FORGED_FIELDS, false), (MAX_FORGED_FIELDS + 1, true), (20_000, true)]
    {
        session.mail(b"<a@example.com>", false, None).await;
        let fields =
            [vec![foreign; 1000], vec![forged; count], vec![("From", " a@example.com")]].concat();
        let Answer { verdict, edits, records } = session.message(&fields, "x\r\n").await;
        let deletions = edits.iter().filter(|edit| matches!(edit, Edit::Delete { .. })).count();
        let record = records.latest().unwrap();
        assert_eq!(record.has_too_many_forged, is_refused);
        match verdict {
            Verdict::Reply(reply) => assert_eq!(
                (is_refused, reply.code().to_string(), deletions),
                (true, "550".to_owned(), 0)
            ),
            verdict => {
                assert_eq!((is_refused, verdict, deletions), (false, Verdict::Continue, count))
            }
        }
    }
    let host = Host::new(ZONE, &format!("{ALL}dry_run = yes\n"));
    let mut session = host.connect();
    session.mail(b"<a@example.com>", false, None).await;
    let finished = session.message(&vec![forged; MAX_FORGED_FIELDS + 1], "").await;
    assert_eq!((finished.verdict, finished.edits), (Verdict::Continue, Vec::new()));
    assert!(finished.records.latest().cloned().unwrap().has_too_many_forged);
}

#[tokio::test]
async fn the_clock_is_that_of_the_runtime() {
    let expired = "v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=; b=AAAA; x=";
    let zone =
        "bad.example TXT \"v=spf1 -all exp=why.bad.example\"\nwhy.bad.example TXT \"at %{t}\"";
    let host = Host::new(zone, &format!("{ALL}fail_reply_text_exp = %{{exp}}\n"));
    let mut session = host.connect();
    let Verdict::Reply(reply) = session.mail(b"<a@bad.example>", false, None).await.verdict else {
        panic!("not refused")
    };
    assert_eq!(reply.text(), "at 1800000000");
    for (time, reason) in
        [(1_799_999_699_u64, "signature expired"), (1_799_999_700, "no key for signature")]
    {
        session.mail(b"<a@example.com>", false, None).await;
        let value = format!("{expired}{time}");
        let finished =
            session.message(&[("DKIM-Signature", &value), ("From", " a@example.com")], "").await;
        assert!(
            inserted(&finished.edits)[0].contains(&format!("reason=\"{reason}\"")),
            "{finished:?}"
        );
    }
}

const FROM: (&str, &str) = ("From", " a@example.com");

/// The MTA grants a part; what is left is done, and `error_action` follows.
#[tokio::test]
async fn nothing_is_done_that_the_mta_does_not_grant() {
    let enforced = "dmarc_quarantine_action = quarantine\ndmarc_reject_action = reject\n";
    let zone = ZONE.replace("p=reject", "p=quarantine");
    let own = ("Authentication-Results", " mx.example.net; dmarc=pass");
    for (add_fields, delete_fields, quarantine, missing) in [
        (true, true, true, None),
        (false, true, true, Some(Permission::AddFields)),
        (true, false, true, Some(Permission::DeleteFields)),
        (true, true, false, Some(Permission::Quarantine)),
        (false, false, false, Some(Permission::DeleteFields)),
    ] {
        for (action, on_failure) in [("tempfail", Verdict::Tempfail), ("accept", Verdict::Accept)] {
            let mut host = Host::new(&zone, &format!("{ALL}{enforced}error_action = {action}\n"));
            host.granted = Granted { add_fields, delete_fields, quarantine, ..Granted::ALL };
            let mut session = host.connect();
            session.mail(b"<a@elsewhere.example>", false, None).await;
            let answer = session.message(&[own, FROM], "x").await;
            let record = answer.records.latest().unwrap();
            assert_eq!(record.failure, missing.map(Failure::NotGranted));
            assert_eq!(record.forged_fields, usize::from(delete_fields));
            assert_eq!(inserted(&answer.edits).len(), usize::from(add_fields));
            assert_eq!(deleted(&answer.edits).len(), usize::from(delete_fields));
            // A message that is kept back goes on all the same.
            let is_kept_back = quarantine && (missing.is_none() || action == "accept");
            let is_quarantined = matches!(answer.verdict, Verdict::Quarantine(_));
            assert_eq!(is_quarantined, is_kept_back, "{:?}", answer.verdict);
            assert!(is_quarantined || answer.verdict == on_failure, "{:?}", answer.verdict);
        }
    }
    // A dry run asks for nothing.
    let mut host = Host::new(&zone, &format!("{ALL}{enforced}dry_run = yes\n"));
    host.granted =
        Granted { add_fields: false, delete_fields: false, quarantine: false, ..Granted::ALL };
    let mut session = host.connect();
    session.mail(b"<a@elsewhere.example>", false, None).await;
    let answer = session.message(&[own, FROM], "x").await;
    assert_eq!((answer.verdict, answer.edits), (Verdict::Continue, Vec::new()));
}

#[tokio::test]
async fn failures_are_answered_where_the_mta_takes_an_answer() {
    let fail = async |config: &str, takes_answers: bool, event| {
        let mut host = Host::new(ZONE, &format!("header = Authentication-Results\n{config}"));
        host.granted =
            Granted { helo_answer: takes_answers, mail_answer: takes_answers, ..Granted::ALL };
        let mut session = host.connect();
        if matches!(event, Event::Content | Event::End) {
            session.mail(b"<a@example.com>", false, None).await;
        }
        let failed = session.fail(event, false).verdict;
        let own = ("Authentication-Results", " mx.example.net; dmarc=pass");
        let answer = session.message(&[own, FROM], "x").await;
        // A message that goes on has fields deleted all the same.
        let goes_on = answer.verdict == Verdict::Accept;
        assert_eq!(deleted(&answer.edits).len(), usize::from(goes_on), "{event:?} {config}");
        // Another message is as good as ever.
        session.mail(b"<a@example.com>", false, None).await;
        assert_eq!(session.message(&[FROM], "x").await.verdict, Verdict::Continue);
        (failed, answer.verdict)
    };
    use Verdict::{Accept, Continue, Tempfail};
    for event in [Event::Helo, Event::Mail, Event::End] {
        assert_eq!(fail("", true, event).await, (Tempfail, Continue), "{event:?}");
        assert_eq!(fail("dry_run = yes", true, event).await.0, Continue, "{event:?}");
    }
    // At the end of the message instead.
    for event in [Event::Mail, Event::Content] {
        assert_eq!(fail("", false, event).await, (Continue, Tempfail), "{event:?}");
        assert_eq!(fail("error_action = accept", false, event).await, (Continue, Accept));
        assert_eq!(fail("dry_run = yes", false, event).await, (Continue, Continue), "{event:?}");
    }
    // One message, not the whole connection.
    assert_eq!(fail("error_action = accept", true, Event::Helo).await, (Continue, Continue));
    assert_eq!(fail("error_action = accept", false, Event::Helo).await, (Continue, Continue));
    assert_eq!(fail("error_action = accept", true, Event::Mail).await, (Accept, Continue));
    assert_eq!(fail("error_action = accept", true, Event::End).await, (Accept, Continue));
}

#[tokio::test(start_paused = true)]
async fn stages_are_timed() {
    let config = format!("{ALL}reject_results =\nreject_helo_results =\n");
    let host = Host::with_latency(ZONE, &config, Duration::from_secs(2));
    let mut session = host.connect();
    session.helo("mail.example.com").await;
    session.mail(b"<a@example.com>", false, None).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let answer = session.message(&[FROM], "x").await;
    let seconds = |record: &Record| {
        let Timings { helo, mail_from, dkim, dmarc, iprev, total } = record.timings;
        [helo, mail_from, iprev, dkim, dmarc, total]
            .map(|took| took.map(|took| took.as_secs_f32().round()))
    };
    // (The name and its address.) The policy was asked for when From came.
    let expected = [Some(2.0), Some(2.0), Some(4.0), Some(0.0), Some(2.0), Some(32.0)];
    assert_eq!(seconds(answer.records.latest().unwrap()), expected);
    // HELO and the client's name are those of the session.
    session.mail(b"<a@example.com>", false, None).await;
    let answer = session.message(&[FROM], "x").await;
    let [helo, mail_from, iprev, ..] = seconds(answer.records.latest().unwrap());
    assert_eq!((helo, mail_from.is_some(), iprev), (None, true, None));
}

#[tokio::test]
async fn the_steps_of_spf_can_be_had() {
    for traces in [false, true] {
        let mut host = Host::new(ZONE, "");
        Arc::get_mut(&mut host.runtime).unwrap().traces = traces;
        let mut session = host.connect();
        session.mail(b"<a@example.com>", false, None).await;
        let answer = session.message(&[], "x").await;
        let trace = &answer.records.latest().unwrap().identities[0].verified.trace;
        assert_eq!(trace.is_some(), traces);
    }
}

/// A HELO name keeps the end where its domain is.
#[tokio::test]
async fn long_helo_names_keep_their_right_end() {
    let zone =
        "example.com TXT \"v=spf1 exists:%{h1}.h.example -all\"\nexample.h.example A 127.0.0.2";
    let host = Host::new(zone, "verify_helo = no\n");
    for (length, first) in
        [(1023, "x"), (1024, "x"), (1025, "."), (60_000, "."), (60_001, "\u{e9}")]
    {
        let end = "host.example";
        let name = first.repeat((length - end.len()) / first.len()) + end;
        let mut session = host.connect();
        session.helo(&name).await;
        let kept = &session.helo.as_ref().unwrap().name;
        let longest = name.len().min(1024);
        assert!(
            name.ends_with(&**kept) && (longest - first.len() + 1..=longest).contains(&kept.len()),
            "{length}"
        );
        assert_eq!(
            session.mail(b"<a@example.com>", false, None).await,
            Answer::proceed(),
            "{length}"
        );
    }
}
