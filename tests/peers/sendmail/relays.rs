//! Relays, forwarders and inner clients, behind Sendmail.

use super::*;

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:203.0.113.7 -all"
mail.good.example TXT "v=spf1 ip4:203.0.113.7 -all"
bad.example TXT "v=spf1 -all"
servfail.example TXT !servfail
_dmarc.strict.example TXT "v=DMARC1; p=reject"
"#;

const CONFIG: &str = "trusted_networks =\nheader = Authentication-Results\n\
                      include_all_results = yes\n";

const RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn setting(config: &str) -> Setting {
    setting_with(ZONE, &format!("{CONFIG}{config}"))
}

/// Sends a message that a relay took from 203.0.113.7.
fn hand_over(smtp: &mut SmtpClient, sender: &str, author: &str) -> Reply {
    let message = format!(
        "Received: from mail.good.example (unknown [203.0.113.7])\n\tby relay.example (Postfix) \
         with ESMTP id 4X;\n\tFri, 27 Nov 2026 00:00:00 +0000\n\
         Received: from mail.good.example (unknown [127.0.0.1]) by forged.example\n\
         From: a@{author}\nSubject: hello\n\nHello\n"
    );
    smtp.message(sender, &["bob@rcpt.example.org"], message.as_bytes()).unwrap()
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn relays() {
    let content = "verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = reject\n";
    for (action, mark) in [("", "tag"), ("relay_action = quarantine\n", "quarantine")] {
        let setting = setting(&format!("{content}trusted_relays = {RELAY}\n{action}"));
        let mut smtp = setting.client_from(RELAY, "relay.example");
        for (sender, author, reason, field) in [
            ("good.example", "good.example", None, None),
            (
                "good.example",
                "strict.example",
                Some("DMARC policy of strict.example"),
                Some("reject; reason=dmarc; domain=strict.example"),
            ),
            (
                "bad.example",
                "good.example",
                Some("SPF validation failed"),
                Some("tag; reason=spf; domain=bad.example"),
            ),
        ] {
            let reply = hand_over(&mut smtp, &format!("amy@{sender}"), author);
            let header = setting.sendmail.queued(&reply);
            let results = unfolded(&header, "Authentication-Results");
            assert!(results[0].contains("spf=pass smtp.helo=mail.good.example"), "{results:?}");
            let found = setting.sendmail.quarantine_reason(&reply);
            assert_eq!(found.as_deref(), reason.filter(|_| mark == "quarantine"));
            let marks = unfolded(&header, "X-Auth-Action");
            let field = field.filter(|_| mark == "tag");
            assert_eq!(marks.len(), usize::from(field.is_some()), "{marks:?}");
            assert!(
                marks.iter().all(|mark| field.is_some_and(|field| mark.contains(field))),
                "{marks:?}"
            );
        }
        setting.daemon.wait_for_log(&["client-ip=203.0.113.7", "relay-ip=127.0.0.9"]);
        // Others are verified themselves, whatever their Received fields say.
        let mut smtp = setting.client();
        let reply = hand_over(&mut smtp, "amy@good.example", "good.example");
        let plain = reply.last().replacen("<amy@good.example>... ", "", 1);
        assert_eq!(plain, "550 5.7.23 SPF validation failed");
    }
    // A rejection stays one where the site says so.
    let setting = setting(&format!("{content}trusted_relays = {RELAY}\nrelay_action = reject\n"));
    let mut smtp = setting.client_from(RELAY, "relay.example");
    for (sender, author, expected) in [
        ("bad.example", "good.example", "550 5.7.23 SPF validation failed"),
        ("good.example", "strict.example", "550 5.7.26 DMARC validation failed for strict.example"),
    ] {
        let reply = hand_over(&mut smtp, &format!("amy@{sender}"), author);
        assert_eq!(reply.last(), expected);
    }
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn inner_clients() {
    let setting =
        setting("client_map = 127.0.0.7=203.0.113.7 mail.good.example, 127.0.0.8=203.0.113.8\n");
    let mut smtp = setting.client_from(CLIENT, "bad.example");
    let message = b"Subject: hello\n\nHello\n";
    let reply = smtp.message("amy@good.example", &["bob@rcpt.example.org"], message).unwrap();
    let header = setting.sendmail.queued(&reply);
    assert_eq!(
        unfolded(&header, "Authentication-Results"),
        ["Authentication-Results: mta.example.org; spf=pass smtp.helo=mail.good.example; \
          spf=pass smtp.mailfrom=good.example"]
    );
    setting.daemon.wait_for_log(&["client-ip=203.0.113.7", "inner-ip=127.0.0.7"]);
    let mut other = setting.client_from(Ipv4Addr::new(127, 0, 0, 8), "mail.client.example");
    assert_eq!(other.command("MAIL FROM:<amy@good.example>").unwrap().code, 550);
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn forwarders() {
    let setting = setting("spf_exempt_networks = 127.0.0.7\n");
    let mut smtp = setting.client_from(CLIENT, "bad.example");
    for (sender, result) in [("bad.example", "fail"), ("servfail.example", "temperror")] {
        let reply = smtp
            .message(&format!("amy@{sender}"), &["bob@rcpt.example.org"], b"Subject: 1\n\nHello\n")
            .unwrap();
        let header = setting.sendmail.queued(&reply);
        let results = unfolded(&header, "Authentication-Results");
        let found = format!("spf={result} (reason=spf-exempt-network)");
        assert!(results[0].contains(&found), "{results:?}");
    }
    let mut other = setting.client_from(Ipv4Addr::new(127, 0, 0, 8), "mail.client.example");
    assert_eq!(other.command("MAIL FROM:<amy@bad.example>").unwrap().code, 550);
}
