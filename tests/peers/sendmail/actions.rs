//! Actions, as Sendmail carries them out.

use super::*;

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:127.0.0.7 -all"
bad.example TXT "v=spf1 -all"
servfail.example TXT !servfail
_dmarc.strict.example TXT "v=DMARC1; p=reject"
_dmarc.quarantined.example TXT "v=DMARC1; p=quarantine"
_dmarc.broken.example TXT !servfail
127.0.0.7 PTR mail.client.example
mail.client.example A 127.0.0.7
"#;

const CONFIG: &str = "trusted_networks =\nheader = Authentication-Results\nverify_helo = no\n\
                      verify_dkim = yes\nverify_dmarc = yes\n";

fn setting(config: &str) -> Setting {
    setting_with(ZONE, &format!("{CONFIG}{config}"))
}

/// Sends a message of this author; the last reply.
fn send(smtp: &mut SmtpClient, sender: &str, author: &str, more: &str) -> Reply {
    let from = if author.is_empty() { String::new() } else { format!("From: {author}\n") };
    let message = format!("{more}{from}Subject: hello\n\nHello\n");
    smtp.message(sender, &["bob@rcpt.example.org"], message.as_bytes()).unwrap()
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn tag() {
    let setting = setting("dmarc_reject_action = tag\nmalformed_author_action = tag\n");
    let mut smtp = setting.client();
    let forged = "X-Auth-Action: reject; reason=forged\nx-auth-action:none\n";
    for (author, marks) in [
        ("a@strict.example", &["X-Auth-Action: reject; reason=dmarc; domain=strict.example"][..]),
        ("a@good.example", &[]),
        ("a@good.example, nobody", &[]),
        ("nobody", &["X-Auth-Action: tag; reason=malformed-author"]),
    ] {
        let reply = send(&mut smtp, "amy@good.example", author, forged);
        let header = setting.sendmail.queued(&reply);
        assert_eq!(unfolded(&header, "X-Auth-Action"), marks, "{author}");
        assert_eq!(setting.sendmail.quarantine_reason(&reply), None);
    }
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn quarantine() {
    let setting = setting(
        "dmarc_quarantine_action = quarantine\ndmarc_reject_action = quarantine\n\
         unauthenticated_action = quarantine\nreject_results =\n",
    );
    let mut smtp = setting.client();
    for (sender, author, reason) in [
        ("good.example", "strict.example", Some("DMARC policy of strict.example")),
        ("good.example", "quarantined.example", Some("DMARC policy of quarantined.example")),
        ("bad.example", "good.example", Some("neither SPF nor DKIM passes")),
        ("good.example", "good.example", None),
    ] {
        let author = format!("a@{author}");
        let reply = send(&mut smtp, &format!("amy@{sender}"), &author, "");
        assert_eq!(setting.sendmail.quarantine_reason(&reply).as_deref(), reason);
        let header = setting.sendmail.queued(&reply);
        let results = unfolded(&header, "Authentication-Results");
        let is_kept_back = results[0].contains("dis=quarantine");
        assert_eq!(is_kept_back, reason.is_some_and(|why| why.starts_with("DMARC")), "{results:?}");
        assert_eq!(results.len(), 1);
    }
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn defer_and_reject() {
    let setting = setting(
        "reject_results =\ndmarc_reject_action = reject\ndmarc_temperror_action = defer\n\
         malformed_author_action = reject\nunauthenticated_action = defer\n\
         local_domains = ours.example\nlocal_domain_action = reject\n",
    );
    let mut smtp = setting.client();
    for (sender, author, expected) in [
        (
            "good.example",
            "a@strict.example",
            "550 5.7.26 DMARC validation failed for strict.example",
        ),
        ("good.example", "a@broken.example", "451 4.7.26 DMARC validation error"),
        ("good.example", "nobody", "550 5.7.1 message refused: malformed From: "),
        ("bad.example", "a@good.example", "451 4.7.26 neither SPF nor DKIM passes"),
        ("good.example", "a@ours.example", "550 5.7.26 not accepted from outside"),
        ("servfail.example", "a@good.example", "250 2.0.0 "),
        ("good.example", "a@good.example", "250 2.0.0 "),
    ] {
        let reply = send(&mut smtp, &format!("amy@{sender}"), author, "");
        assert!(reply.last().starts_with(expected), "{author}: {reply:?}");
    }
    // Sendmail adds a From field to a message without one; what the milter saw had none.
    let reply = send(&mut smtp, "amy@good.example", "", "");
    assert_eq!(reply.last(), "550 5.7.1 message refused: no From field");
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn own_domains() {
    let setting = setting(
        "local_domains = good.example, .good.example\nlocal_domain_action = tag\n\
         trust_authenticated_senders = yes\n",
    );
    for (client, sender, marks) in [
        (CLIENT, "amy@good.example", 0),
        (CLIENT, "amy@nothing.example", 1),
        // Without a record, nothing but the domain itself is aligned with it.
        (CLIENT, "amy@sub.good.example", 1),
    ] {
        let mut smtp = setting.client_from(client, "mail.client.example");
        let reply = send(&mut smtp, sender, "a@good.example", "");
        let header = setting.sendmail.queued(&reply);
        assert_eq!(unfolded(&header, "X-Auth-Action").len(), marks, "{sender} {header:?}");
    }
    setting.daemon.wait_for_log(&["cause=local-domain:tag", "hint="]);
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn names_of_clients() {
    let setting = setting("verify_iprev = yes\niprev_fail_action = reject\nreject_results =\n");
    let mut named = setting.client();
    assert_eq!(send(&mut named, "amy@good.example", "a@good.example", "").code, 250);
    let nameless = Ipv4Addr::new(127, 0, 0, 8);
    let mut smtp = setting.client_from(nameless, "mail.client.example");
    let reply = send(&mut smtp, "amy@good.example", "a@good.example", "");
    assert_eq!(reply.last(), "550 5.7.25 reverse DNS validation failed for 127.0.0.8");
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn exempt_recipients() {
    let setting = setting_with(
        ZONE,
        "trusted_networks =\nheader = Authentication-Results\n\
         exempt_recipients = postmaster@, free.example\n\
         fail_reply_text = no: %{identity}\n",
    );
    for helo in ["mail.client.example", "bad.example"] {
        let mut smtp = setting.client_from(CLIENT, helo);
        assert_eq!(smtp.command("MAIL FROM:<amy@bad.example>").unwrap().code, 250);
        let refused = smtp.command("RCPT TO:<bob@rcpt.example.org>").unwrap();
        let expected = match helo {
            "bad.example" => "550 5.7.23 no: bad.example (HELO)",
            _ => "550 5.7.23 no: amy@bad.example",
        };
        let plain = refused.last().replacen("<bob@rcpt.example.org>... ", "", 1);
        assert_eq!(plain, expected);
        for exempt in ["Postmaster@rcpt.example.org", "carol@free.example"] {
            assert_eq!(smtp.command(format!("RCPT TO:<{exempt}>")).unwrap().code, 250);
        }
        assert!(!smtp.command("RCPT TO:<ben@rcpt.example.org>").unwrap().is_ok());
        let reply = smtp.data(b"Subject: hello\n\nHello\n").unwrap();
        let header = setting.sendmail.queued(&reply);
        let results = unfolded(&header, "Authentication-Results");
        let expected =
            "mta.example.org; spf=fail (reason=exempt-recipient) smtp.mailfrom=bad.example";
        assert_eq!(results, [format!("Authentication-Results: {expected}")]);
        let mut recipients = setting.sendmail.recipients(&reply);
        recipients.sort();
        assert_eq!(recipients, ["Postmaster@rcpt.example.org", "carol@free.example"]);
        // None is left: there is no message.
        assert_eq!(smtp.command("MAIL FROM:<amy@bad.example>").unwrap().code, 250);
        assert!(!smtp.command("RCPT TO:<bob@rcpt.example.org>").unwrap().is_ok());
        assert_eq!(smtp.command("DATA").unwrap().code, 503);
        // A sender that is not refused, in the same session.
        assert_eq!(smtp.command("RSET").unwrap().code, 250);
        let reply = send(&mut smtp, "amy@good.example", "a@good.example", "");
        assert_eq!(reply.is_ok(), helo != "bad.example", "{reply:?}");
    }
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn texts_for_helo() {
    let setting = setting_with(
        ZONE,
        "trusted_networks =\nfail_reply_text = no sender %{identity}\n\
         helo_fail_reply_text = no host %{identity}\n\
         helo_temperror_reply_text = later, %{identity}: %{reason}\n",
    );
    for (helo, expected) in [
        ("bad.example", "550 5.7.23 no host bad.example (HELO)"),
        ("servfail.example", "451 4.7.24 later, servfail.example (HELO): DNS lookup failed"),
        ("mail.client.example", "550 5.7.23 no sender amy@bad.example"),
    ] {
        // Sendmail greets all the same, and refuses what follows.
        let mut smtp = setting.client_from(CLIENT, helo);
        let reply = smtp.command("MAIL FROM:<amy@bad.example>").unwrap();
        let plain = reply.last().replacen("<amy@bad.example>... ", "", 1);
        assert_eq!(plain, expected);
    }
}
