//! The daemon in front of a real Sendmail.

mod actions;
mod relays;

use std::net::Ipv4Addr;

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    fields::Field,
    nameserver::NameServer,
    scenario::complete_config,
    sendmail::Sendmail,
    smtp::{Reply, SmtpClient},
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:127.0.0.7 -all"
soft.example TXT "v=spf1 ~all"
bad.example TXT "v=spf1 -all"
explained.example TXT "v=spf1 -all exp=why.explained.example"
why.explained.example TXT "%{i} is none of ours, 100%% sure"
servfail.example TXT !servfail
broken.example TXT "v=spf1 nonsense"
"#;

/// Clients come from loopback, which must not be trusted here.
const CONFIG: &str = "trusted_networks =\nheader = Authentication-Results\n";

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

struct Setting {
    // Dropped in this order.
    sendmail: Sendmail,
    daemon: Daemon,
    nameserver: NameServer,
}

fn setting(config: &str) -> Setting {
    setting_with(ZONE, config)
}

fn setting_with(zone: &str, config: &str) -> Setting {
    let nameserver = NameServer::start(Zone::parse(zone).unwrap());
    let daemon = Daemon::start(&complete_config(config, nameserver.address()));
    let sendmail = Sendmail::start(&daemon.sockets[0]);
    Setting { sendmail, daemon, nameserver }
}

impl Setting {
    fn client(&self) -> SmtpClient {
        self.client_from(CLIENT, "mail.client.example")
    }

    fn client_from(&self, client: Ipv4Addr, helo: &str) -> SmtpClient {
        let mut smtp = self.sendmail.connect_from(client);
        assert_eq!(smtp.command(format!("EHLO {helo}")).unwrap().code, 250);
        smtp
    }
}

fn unfolded(fields: &[Field], name: &str) -> Vec<String> {
    fields.iter().filter(|field| field.is(name)).map(Field::unfolded).collect()
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn replies_and_header_fields() {
    let setting = setting(CONFIG);
    let mut smtp = setting.client();
    for (domain, code, text) in [
        ("bad.example", "550 5.7.23", "SPF validation failed"),
        (
            "explained.example",
            "550 5.7.23",
            "SPF validation failed: explained.example explains: 127.0.0.7 is none of ours, 100% sure",
        ),
        ("servfail.example", "451 4.7.24", "SPF validation error: "),
        ("broken.example", "550 5.7.24", "SPF validation error: "),
    ] {
        let seen = smtp.command(format!("MAIL FROM:<alice@{domain}>")).unwrap();
        // Sendmail puts the address before the text of a lasting refusal.
        let plain = seen.last().replacen(&format!("<alice@{domain}>... "), "", 1);
        assert!(plain.starts_with(&format!("{code} {text}")), "{seen:?}");
    }
    for (domain, result) in
        [("good.example", "pass"), ("soft.example", "softfail"), ("nothing.example", "none")]
    {
        let reply = smtp
            .message(
                &format!("alice@{domain}"),
                &["bob@rcpt.example.org"],
                b"Subject: hello\n\nHello\n",
            )
            .unwrap();
        let header = setting.sendmail.queued(&reply);
        assert_eq!(
            header[0].unfolded(),
            format!("Authentication-Results: mta.example.org; spf={result} smtp.mailfrom={domain}"),
            "{header:?}"
        );
        assert_eq!(unfolded(&header, "Authentication-Results").len(), 1);
    }
    assert!(setting.nameserver.total() > 0);
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn forged_results_go_and_foreign_ones_stay() {
    let setting = setting(CONFIG);
    let mut smtp = setting.client();
    let mut message = String::new();
    for place in 1..=8 {
        let name = if [1, 2, 5, 8].contains(&place) { "mta.example.org" } else { "other.example" };
        message += &format!("Authentication-Results: {name}; spf=pass n={place}\n");
        if place == 4 {
            message += "Received: from a by b; Sat, 21 Nov 2026 00:00:00 +0000\n";
        }
    }
    message +=
        "Authentication-Results:\n\t\"MTA.example.org\"\n\t1; dkim=pass\nSubject: hello\n\nHello\n";
    let reply = smtp
        .message(
            "alice@good.example",
            &["bob@rcpt.example.org", "ben@rcpt.example.org"],
            message.as_bytes(),
        )
        .unwrap();
    let header = setting.sendmail.queued(&reply);
    let foreign = [3, 4, 6, 7]
        .map(|place| format!("Authentication-Results: other.example; spf=pass n={place}"));
    let ours =
        "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=good.example".to_owned();
    assert_eq!(unfolded(&header, "Authentication-Results"), [&[ours][..], &foreign[..]].concat());
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn a_new_configuration_between_two_messages() {
    let setting = setting(CONFIG);
    let reject = |code: u16| {
        let mut smtp = setting.client();
        let reply = smtp
            .message("alice@bad.example", &["bob@rcpt.example.org"], b"Subject: hello\n\nHello\n")
            .unwrap();
        assert_eq!(reply.code, code, "{reply:?}");
        reply
    };
    reject(550);
    let lenient =
        complete_config("trusted_networks =\nreject_results =\n", setting.nameserver.address());
    assert!(setting.daemon.reload(&lenient));
    let header = setting.sendmail.queued(&reject(250));
    assert!(
        header[0].unfolded().starts_with("Received-SPF: fail (mta.example.org: "),
        "{header:?}"
    );
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn trusted_clients_are_not_verified() {
    let setting = setting("header = Authentication-Results\n");
    let mut smtp = setting.client();
    let reply = smtp
        .message("alice@bad.example", &["bob@rcpt.example.org"], b"Subject: hello\n\nHello\n")
        .unwrap();
    let header = setting.sendmail.queued(&reply);
    assert!(unfolded(&header, "Authentication-Results").is_empty(), "{header:?}");
    assert_eq!(setting.nameserver.total(), 0);
}
