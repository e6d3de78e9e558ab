//! What the README does with marked messages, in the programs that do it: Postfix and Sieve.

use std::{net::IpAddr, process::Command};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    milter_client::Socket,
    nameserver::NameServer,
    postfix::Postfix,
    scenario::complete_config,
    scratch::{Scratch, target_folder},
};

const DOCUMENT: &str = include_str!("../../README.md");

/// The block of this language.
fn block(language: &str) -> &'static str {
    let rest = DOCUMENT.split(&format!("```{language}\n")).nth(1).unwrap();
    rest.split("```").next().unwrap()
}

const MARKS: [(&str, bool); 5] = [
    ("quarantine; reason=dmarc; domain=author.example", true),
    ("reject;\n reason=dmarc;\n domain=author.example", true),
    ("tag; reason=iprev", false),
    // DNS trouble is no sign of forgery.
    ("tag; reason=dmarc-temperror; domain=author.example", false),
    ("", false),
];

#[test]
#[ignore = "needs Postfix and root: make test"]
fn postfix_redirects_marked_messages() {
    let zone = "_dmarc.author.example TXT \"v=DMARC1; p=quarantine\"";
    let nameserver = NameServer::start(Zone::parse(zone).unwrap());
    let config = "header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\n\
                  dmarc_quarantine_action = tag\n";
    let daemon = Daemon::start(&complete_config(config, nameserver.address()));
    let Socket::Inet(socket) = &daemon.sockets[0] else { panic!("no TCP socket") };
    let folder = Scratch::new("header-checks");
    let checks = folder.join("checks");
    let rules = block("header_checks").replace("junk@example.com", "junk@rcpt.example.org");
    std::fs::write(&checks, rules).unwrap();
    let postfix = Postfix::start(&format!(
        "smtpd_milters = inet:{}:{}\nmilter_header_checks = regexp:{}",
        socket.ip(),
        socket.port(),
        checks.display()
    ));
    for (author, recipient) in [("author.example", "junk"), ("other.example", "bob")] {
        let client: IpAddr = "192.0.2.9".parse().unwrap();
        let mut smtp = postfix.connect(Some(client), Some("mail.client.example"));
        assert_eq!(smtp.command("EHLO mail.client.example").unwrap().code, 250);
        let message = format!("From: a@{author}\nX-Auth-Action: reject; reason=dmarc\n\nHello\n");
        let reply = smtp
            .message("alice@sender.example", &["bob@rcpt.example.org"], message.as_bytes())
            .unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
        let from = format!("From: a@{author}\n");
        let delivered = postfix.wait_for_message(|message| {
            let text = String::from_utf8_lossy(message);
            text.contains(&from)
                && text.contains(&format!("\nDelivered-To: {recipient}@rcpt.example.org\n"))
        });
        let marks = usize::from(recipient == "junk");
        assert_eq!(delivered.values("X-Auth-Action").len(), marks, "{delivered:?}");
    }
}

#[test]
#[ignore = "needs Dovecot's sieve-test and root: make test"]
fn sieve_files_marked_messages() {
    let root = target_folder().join("sieve");
    let program = root.join("usr/bin/sieve-test");
    assert!(program.exists(), "{} is missing; `make test` unpacks it", program.display());
    let libraries = root.join("usr/lib/dovecot");
    let folder = Scratch::new("sieve");
    let script = folder.join("marks.sieve");
    std::fs::write(&script, block("sieve")).unwrap();
    for (mark, is_filed) in MARKS {
        let field =
            if mark.is_empty() { String::new() } else { format!("X-Auth-Action: {mark}\n") };
        let message = folder.join("message");
        std::fs::write(&message, format!("{field}From: a@author.example\n\nHello\n")).unwrap();
        // The settings are in the environment: no file of Dovecot's is read.
        let output = Command::new(&program)
            .env("LD_LIBRARY_PATH", &libraries)
            .envs([("DOVECONF_ENV", "1"), ("MAIL_UID", "65534"), ("MAIL_GID", "65534")])
            .envs([("FIRST_VALID_UID", "1"), ("POSTMASTER_ADDRESS", "a@example.org")])
            .env("MAIL_LOCATION", format!("maildir:{}", folder.join("mail").display()))
            .args([&script, &message])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("final result: success"), "{said}");
        assert_eq!(said.contains("store message in folder: Junk"), is_filed, "{mark}: {said}");
        assert_eq!(said.contains("store message in folder: INBOX"), !is_filed, "{mark}: {said}");
    }
}
