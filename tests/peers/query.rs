//! `spf-milter query` about messages that a real Postfix has saved.

use std::{net::IpAddr, process::Command};

use serde_json::Value;
use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::{Daemon, program},
    fields::Field,
    milter_client::Socket,
    nameserver::NameServer,
    postfix::Postfix,
    scenario::{HOST, complete_config},
    scratch::Scratch,
    signer,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
soft.example TXT "v=spf1 ~all"
mail.client.example TXT "v=spf1 ip4:192.0.2.9 -all"
_dmarc.good.example TXT "v=DMARC1; p=reject"
_dmarc.soft.example TXT "v=DMARC1; p=reject"
ed._domainkey.good.example TXT "${ed25519}"
"#;

const CONFIG: &str = "header = Received-SPF, Authentication-Results
include_all_results = yes
verify_dkim = yes
verify_dmarc = yes
reject_results =
dmarc_reject_action = tag
";

/// The fields that the milter adds to what comes from a client are those that a query would add to
/// the message with which Postfix and the milter are done.
#[test]
#[ignore = "needs Postfix and root: make test"]
fn saved_messages_are_answered_as_when_they_came() {
    let zone = signer::fill_in_keys(ZONE);
    let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
    let daemon = Daemon::start(&complete_config(CONFIG, nameserver.address()));
    let Socket::Inet(socket) = &daemon.sockets[0] else { panic!("{:?}", daemon.sockets) };
    let postfix =
        Postfix::start(&format!("smtpd_milters = inet:{}:{}", socket.ip(), socket.port()));
    let folder = Scratch::new("saved");
    let client: IpAddr = "192.0.2.9".parse().unwrap();
    let body = "Hello\n\nFrom here on\n.\n";
    for (sender, author, is_signed, verdict) in [
        ("amy@good.example", "amy@good.example", true, "accept"),
        ("amy@soft.example", "amy@good.example", true, "accept"),
        ("amy@soft.example", "amy@good.example", false, "tag"),
        ("amy@soft.example", "amy@soft.example", false, "tag"),
        ("", "amy@nobody.example", false, "accept"),
    ] {
        let forged = format!(" {HOST}; spf=pass smtp.mailfrom=forged.example");
        let mut fields = vec![
            Field::new("From", format!(" {author}")),
            Field::new("Subject", " hello"),
            Field::new("Date", " Fri, 27 Nov 2026 08:00:00 +0000"),
            Field::new("Message-Id", " <1@client.example>"),
            Field::new("Authentication-Results", " other.example; spf=pass"),
        ];
        if is_signed {
            let tags = "d=good.example s=ed h=from:subject:authentication-results:received-spf";
            let wire = body.replace('\n', "\r\n");
            let signature = signer::sign(tags, &fields, wire.as_bytes());
            fields.insert(0, Field::new("DKIM-Signature", signature));
        } else {
            fields.insert(0, Field::new("Authentication-Results", forged));
        }
        let mut message = Vec::new();
        for field in &fields {
            message.extend_from_slice(format!("{}:", field.name).as_bytes());
            message.extend_from_slice(&[&field.value, &b"\n"[..]].concat());
        }
        message.extend_from_slice(format!("\n{body}").as_bytes());
        let mut smtp = postfix.connect(Some(client), Some("mail.client.example"));
        assert_eq!(smtp.command("EHLO mail.client.example").unwrap().code, 250);
        let reply = smtp.message(sender, &["bob@rcpt.example.org"], &message);
        let delivered = postfix.delivered(&reply.unwrap());
        let path = folder.write("message", &delivered.file);
        let output = Command::new(program())
            .arg("-c")
            .arg(daemon.folder().join("spf-milter.conf"))
            .args(["query", "--json", "--received-by", HOST, "--message"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let place = format!(
            "{text}\n{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&delivered.file)
        );
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{place}"));
        assert_eq!(json["verdict"], verdict, "{place}");
        assert_eq!(json["input"]["client-ip"]["value"], "192.0.2.9", "{place}");
        assert_eq!(json["input"]["helo"]["value"], "mail.client.example", "{place}");
        assert_eq!(json["input"]["envelope-from"]["value"], format!("<{sender}>"), "{place}");
        assert_eq!(json["deleted"].as_array().unwrap().len(), 0, "{place}");
        let added: Vec<String> = json["added"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                let text = |key: &str| field[key].as_str().unwrap().to_owned();
                Field::new(&text("name"), text("value")).unfolded()
            })
            .collect();
        let were_added: Vec<String> =
            delivered.fields.iter().take(added.len()).map(Field::unfolded).collect();
        assert_eq!(added, were_added, "{place}");
        // And these were all.
        let sent = fields.len() - usize::from(!is_signed);
        assert_eq!(delivered.fields.len(), added.len() + sent, "{place}");
    }
}
