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

#[tokio::test]
async fn a_refusal_is_recorded_once_for_a_message() {
    let host = host("");
    let mut session = begin(&host, "mail.example.com", "<a@bad.example.com>").await;
    // It has no record: nothing is refused.
    assert_eq!(session.rcpt(b"<x@a.example>").await, Answer::proceed());
    session.mail(b"<a@bad.example>", false, None).await;
    for index in 0..3 {
        let answer = session.rcpt(b"<x@a.example>").await;
        assert!(matches!(answer.verdict, Verdict::Reply(_)));
        let results = identities(answer.records.latest());
        let refused = results.contains(&(Identity::Mailfrom, SpfResult::Fail, Action::Reject));
        assert_eq!(refused, index == 0, "{results:?}");
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
    session.fail(Event::Content);
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
