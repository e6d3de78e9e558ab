//! Recipients for whom nothing is refused.

use super::*;

fn host(config: &str) -> Host {
    Host::new(ZONE, &format!("{ALL}exempt_recipients = bob@a.example\n{config}"))
}

async fn begin(host: &Host, helo: &str, sender: &str) -> Session {
    let mut session = host.connect();
    assert_eq!(session.helo(helo).await, Answer::proceed());
    assert_eq!(session.mail(sender.as_bytes(), false, None).await, Answer::proceed());
    session
}

/// The recipients of the refusals in a record.
fn refused(record: Option<&Record>) -> Vec<String> {
    let identities = record.map_or(&[][..], |record| &record.identities);
    let recipient = |identity: &IdentityRecord| match &identity.recipient {
        Some(Recipient::One(path)) => path.clone(),
        Some(Recipient::More(count)) => format!("{count} more"),
        None => "none".to_owned(),
    };
    identities.iter().filter(|it| it.action == Action::Reject).map(recipient).collect()
}

#[tokio::test]
async fn each_refused_recipient_is_recorded() {
    let host = host("");
    let mut session = begin(&host, "mail.example.com", "<a@bad.example.com>").await;
    // It has no record: nothing is refused.
    assert_eq!(session.rcpt(b"<x@a.example>").await, Answer::proceed());
    session.mail(b"<a@bad.example>", false, Some("4X")).await;
    for index in 0..3 {
        let answer = session.rcpt(format!("<x{index}@a.example>").as_bytes()).await;
        assert!(matches!(answer.verdict, Verdict::Reply(_)));
        let record = answer.records.latest();
        assert_eq!(refused(record), [format!("x{index}@a.example")]);
        assert_eq!(record.unwrap().queue_id.as_deref(), Some("4X"));
    }
    assert_eq!(session.rcpt(b"<bob@a.example>").await, Answer::proceed());
    assert_eq!(session.rcpt(b"<BOB@A.example>").await, Answer::proceed());
    let answer = session.message(&[("From", " a@example.org")], "").await;
    assert_eq!(answer.verdict, Verdict::Continue);
    let record = answer.records.latest().unwrap();
    assert_eq!(record.identities.len(), 1);
    assert_eq!(record.identities[0].exemption, Some(Exemption::ExemptRecipient));
}

#[tokio::test]
async fn a_flood_of_recipients_is_counted() {
    for (count, is_exempt, expected) in
        [(20, true, vec![]), (21, true, vec!["1 more"]), (1000, false, vec!["980 more"])]
    {
        let host = host("");
        let mut session = begin(&host, "mail.example.com", "<a@bad.example>").await;
        let mut lines = 0;
        for index in 0..count {
            let answer = session.rcpt(format!("<x{index}@a.example>").as_bytes()).await;
            assert!(matches!(answer.verdict, Verdict::Reply(_)));
            lines += refused(answer.records.latest()).len();
        }
        assert_eq!(lines, 20);
        let last = if is_exempt {
            session.rcpt(b"<bob@a.example>").await;
            session.message(&[("From", " a@example.org")], "").await
        } else {
            session.abort()
        };
        assert_eq!(refused(last.records.latest()), expected);
        assert_eq!(refused(session.close().records.latest()), [""; 0]);
    }
}

/// An MTA that names no recipients, or goes on although all were refused.
#[tokio::test]
async fn a_message_without_recipients_is_refused_at_its_end() {
    let (helo, sender) = ("mail.example.com", "<a@bad.example>");
    for (helo, sender, recipients, recorded) in [
        (helo, sender, 0, vec!["none"]),
        ("bad.example", sender, 0, vec!["none", "none"]),
        ("bad.example", "<a@example.com>", 0, vec!["none"]),
        (helo, sender, 1, vec![]),
        (helo, sender, 25, vec!["5 more"]),
    ] {
        let host = host("");
        let mut session = begin(&host, helo, sender).await;
        for _ in 0..recipients {
            session.rcpt(b"<x@a.example>").await;
        }
        let answer = session.message(&[("From", " a@example.org")], "").await;
        assert!(matches!(answer.verdict, Verdict::Reply(_)), "{helo} {sender}: {answer:?}");
        assert_eq!(answer.edits, []);
        assert_eq!(refused(answer.records.latest()), recorded, "{helo} {sender}");
        assert!(answer.records.latest().unwrap().complete);
    }
    // Nothing is refused of this one.
    let host = host("");
    let mut session = begin(&host, helo, "<a@example.com>").await;
    let answer = session.message(&[("From", " a@example.org")], "").await;
    assert_eq!(answer.verdict, Verdict::Continue);
}

#[tokio::test]
async fn a_dry_run_refuses_no_recipient() {
    let host = host("dry_run = yes\n");
    let mut session = begin(&host, "mail.example.com", "<a@bad.example>").await;
    assert_eq!(session.rcpt(b"<x@a.example>").await, Answer::proceed());
    let answer = session.message(&[("From", " a@example.org")], "").await;
    let results = identities(answer.records.latest());
    assert!(results.contains(&(Identity::Mailfrom, SpfResult::Fail, Action::Reject)));
}

#[tokio::test]
async fn recipients_come_out_of_order_and_after_failures() {
    let host = host("");
    let mut session = host.connect();
    assert_eq!(session.rcpt(b"<x@a.example>").await, Answer::proceed());
    session.mail(b"<a@bad.example>", false, None).await;
    session.fail(Event::Content, false);
    assert_eq!(session.rcpt(b"<x@a.example>").await, Answer::proceed());
    assert_eq!(session.end_of_message(None).await.verdict, Verdict::Tempfail);
}

#[test]
fn recipients_are_asked_for_only_where_some_are_exempt() {
    let needs = |config: &str| Host::new("", config).runtime.needs;
    assert!(!needs("").recipients && needs("").helo_reply && needs("").mail_reply);
    let asked = needs("exempt_recipients = postmaster@\n");
    assert!(asked.recipients && !asked.helo_reply && !asked.mail_reply);
}
