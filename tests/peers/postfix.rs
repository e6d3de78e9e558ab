//! The daemon in front of a real Postfix.

use std::{
    io::Write,
    net::IpAddr,
    process::{Command, Stdio},
    time::Duration,
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::Socket,
    nameserver::{Behaviour, NameServer},
    opendkim::OpenDkim,
    postfix::{Delivered, Postfix},
    scenario::complete_config,
    scratch::Scratch,
    signers::{Key, Manner, Tool},
    smtp::{Reply, SmtpClient},
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
soft.example TXT "v=spf1 ~all"
bad.example TXT "v=spf1 -all"
explained.example TXT "v=spf1 -all exp=why.explained.example"
why.explained.example TXT "%{i} is none of ours, 100%% sure"
servfail.example TXT !servfail
broken.example TXT "v=spf1 nonsense"
localhost.example TXT "v=spf1 -all"
mta.example.org TXT "v=spf1 -all"
"#;

const CONFIG: &str = "header = Authentication-Results\n";
const CLIENT: &str = "192.0.2.9";
const MESSAGE: &[u8] = b"Subject: hello\n\nHello\n";

struct Setting {
    // Dropped in this order.
    postfix: Postfix,
    daemon: Daemon,
    nameserver: NameServer,
}

fn inet(daemon: &Daemon) -> String {
    match &daemon.sockets[0] {
        Socket::Inet(address) => format!("inet:{}:{}", address.ip(), address.port()),
        Socket::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// `main_cf` has MILTER where the daemon's socket belongs.
fn setting(config: &str, main_cf: &str) -> Setting {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let daemon = Daemon::start(&complete_config(config, nameserver.address()));
    let postfix = Postfix::start(&main_cf.replace("MILTER", &inet(&daemon)));
    Setting { postfix, daemon, nameserver }
}

impl Setting {
    fn client(&self) -> SmtpClient {
        let client: IpAddr = CLIENT.parse().unwrap();
        let mut smtp = self.postfix.connect(Some(client), Some("mail.client.example"));
        assert_eq!(smtp.greeting.code, 220, "{:?}", smtp.greeting);
        assert_eq!(smtp.command("EHLO mail.client.example").unwrap().code, 250);
        smtp
    }

    fn send(&self, domain: &str) -> Reply {
        self.client()
            .message(&format!("alice@{domain}"), &["bob@rcpt.example.org"], MESSAGE)
            .unwrap()
    }
}

fn ours(result: &str, domain: &str) -> String {
    format!("mta.example.org; spf={result} smtp.mailfrom={domain}")
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn replies_and_header_fields() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER");
    let mut smtp = setting.client();
    for (domain, reply) in [
        ("bad.example", "550 5.7.23 SPF validation failed"),
        (
            "explained.example",
            "550 5.7.23 SPF validation failed: explained.example explains: 192.0.2.9 is none of ours, 100% sure",
        ),
        ("servfail.example", "451 4.7.24 SPF validation error: "),
        ("broken.example", "550 5.7.24 SPF validation error: "),
    ] {
        let seen = smtp.command(format!("MAIL FROM:<alice@{domain}>")).unwrap();
        assert!(seen.last().starts_with(reply), "{seen:?}");
    }
    for (domain, result) in
        [("good.example", "pass"), ("soft.example", "softfail"), ("nothing.example", "none")]
    {
        let reply =
            smtp.message(&format!("alice@{domain}"), &["bob@rcpt.example.org"], MESSAGE).unwrap();
        let delivered = setting.postfix.delivered(&reply);
        assert_eq!(
            delivered.fields[0].unfolded(),
            format!("Authentication-Results: {}", ours(result, domain))
        );
        assert_eq!(delivered.values("Authentication-Results").len(), 1);
        assert_eq!(delivered.body, b"Hello\n");
    }
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn forged_results_go_and_foreign_ones_stay() {
    let setting =
        setting("header = Received-SPF, Authentication-Results\n", "smtpd_milters = MILTER");
    let mut message = String::new();
    for place in 1..=8 {
        let name = if [1, 2, 5, 8].contains(&place) { "mta.example.org" } else { "other.example" };
        message += &format!("Authentication-Results: {name}; spf=pass n={place}\n");
        if place == 4 {
            message += "Received: from a by b; Sat, 21 Nov 2026 00:00:00 +0000\n";
        }
    }
    message += "Authentication-Results:\n\t\"MTA.example.org\"\n\t1; dkim=pass\nMIME-Version: 1.0\n\
                Content-Type: multipart/mixed; boundary=b\n\n--b\n\
                Authentication-Results: mta.example.org; spf=pass inside\n\nHello\n--b--\n";
    let recipients = ["bob@rcpt.example.org", "ben@rcpt.example.org", "eve@rcpt.example.org"];
    let reply =
        setting.client().message("alice@good.example", &recipients, message.as_bytes()).unwrap();
    let delivered = setting.postfix.delivered(&reply);
    let foreign = [3, 4, 6, 7].map(|place| format!("other.example; spf=pass n={place}"));
    assert_eq!(
        delivered.values("Authentication-Results"),
        [&[ours("pass", "good.example")][..], &foreign[..]].concat()
    );
    assert!(delivered.fields[1].is("Received-SPF"), "{:?}", delivered.fields);
    assert!(
        String::from_utf8_lossy(&delivered.body)
            .contains("Authentication-Results: mta.example.org; spf=pass inside")
    );
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn more_forged_fields_than_postfix_survives_are_refused() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER\nheader_size_limit = 10000000");
    let message = |count: usize| {
        let forged = "Authentication-Results: mta.example.org; spf=pass\n".repeat(count);
        [forged.as_bytes(), b"Authentication-Results: other.example; spf=pass\n", MESSAGE].concat()
    };
    let mut smtp = setting.client();
    let reply =
        smtp.message("alice@good.example", &["bob@rcpt.example.org"], &message(100)).unwrap();
    let results = setting.postfix.delivered(&reply).values("Authentication-Results");
    assert_eq!(results, [ours("pass", "good.example"), "other.example; spf=pass".to_owned()]);
    for count in [101, 12_000] {
        let reply =
            smtp.message("alice@good.example", &["bob@rcpt.example.org"], &message(count)).unwrap();
        assert!(
            reply.last().starts_with("550 5.7.1 Too many Authentication-Results fields"),
            "{reply:?}"
        );
    }
    setting.daemon.wait_for_log(&[
        "action=reject reason=too-many-authentication-results client-ip=192.0.2.9 queue-id=",
    ]);
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn a_field_prepended_by_postfix_does_not_shift_deletions() {
    let prepend = "smtpd_milters = MILTER\nsmtpd_sender_restrictions = check_sender_access static:{PREPEND X-Policy: seen}";
    let setting = setting(CONFIG, prepend);
    let message = b"Authentication-Results: mta.example.org; a=1\nAuthentication-Results: other.example; a=2\n\
                    Authentication-Results: mta.example.org; a=3\nSubject: hello\n\nHello\n";
    let reply =
        setting.client().message("alice@good.example", &["bob@rcpt.example.org"], message).unwrap();
    let delivered = setting.postfix.delivered(&reply);
    assert_eq!(delivered.values("X-Policy"), ["seen"]);
    assert_eq!(
        delivered.values("Authentication-Results"),
        [ours("pass", "good.example"), "other.example; a=2".to_owned()]
    );
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn submissions_on_the_host_are_never_rejected() {
    // Without any trusted network, and with a sender whose domain forbids every client.
    for config in [
        "header = Authentication-Results\n",
        "header = Authentication-Results\ntrusted_networks =\n",
    ] {
        let setting =
            setting(config, "non_smtpd_milters = MILTER\nmilter_default_action = tempfail");
        let message = b"Subject: from a program\n\nHello\n";
        assert!(
            setting.postfix.submit("alice@bad.example", "bob@rcpt.example.org", message).unwrap()
        );
        let delivered = setting.postfix.wait_for_message(|message| {
            String::from_utf8_lossy(message).contains("from a program")
        });
        assert_eq!(delivered.values("Subject"), ["from a program"]);
        assert!(
            setting
                .postfix
                .submit("", "bob@rcpt.example.org", b"Subject: a bounce\n\nHello\n")
                .unwrap()
        );
        setting
            .postfix
            .wait_for_message(|message| String::from_utf8_lossy(message).contains("a bounce"));
        assert!(!setting.postfix.log().contains("milter-reject"), "{}", setting.postfix.log());
    }
}

/// An OpenDKIM that signs is configured as `docs/postfix.md` and `docs/moving.md` say.
#[test]
#[ignore = "needs Postfix and root: make test"]
fn an_opendkim_that_signs_stays() {
    const LOCAL: &str = "non_smtpd_milters = unix:opendkim/opendkim.sock";
    const SUBMISSION: &str = "-o smtpd_milters=unix:opendkim/opendkim.sock";
    for document in [include_str!("../../docs/postfix.md"), include_str!("../../docs/moving.md")] {
        assert!(document.contains(LOCAL) && document.contains(SUBMISSION));
    }
    let manner = Manner::new(Tool::OpenDkim, Key::Rsa(2048), "relaxed/simple", "good.example");
    let opendkim = OpenDkim::signer(&manner, &["From", "Subject"]);
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let daemon = Daemon::start(&complete_config(CONFIG, nameserver.address()));
    let here = |line: &str| {
        line.replace("opendkim/opendkim.sock", &opendkim.open_socket().display().to_string())
    };
    let main_cf = format!(
        "smtpd_milters = {}\nmilter_default_action = tempfail\n{}",
        inet(&daemon),
        here(LOCAL)
    );
    let postfix = Postfix::with_submission(&main_cf, &format!("  {}", here(SUBMISSION)));
    let setting = Setting { postfix, daemon, nameserver };
    let signatures = |delivered: &Delivered| delivered.values("DKIM-Signature").len();

    let mut user = SmtpClient::connect(setting.postfix.submission()).unwrap();
    assert_eq!(user.command("EHLO laptop.good.example").unwrap().code, 250);
    let message = b"From: alice@good.example\nSubject: from a user\n\nHello\n";
    let reply = user.message("alice@good.example", &["bob@rcpt.example.org"], message).unwrap();
    let delivered = setting.postfix.delivered(&reply);
    assert_eq!(
        (signatures(&delivered), delivered.values("Authentication-Results").len()),
        (1, 0),
        "{:?}",
        delivered.fields
    );

    let message = b"From: alice@good.example\nSubject: from a program\n\nHello\n";
    assert!(setting.postfix.submit("alice@good.example", "bob@rcpt.example.org", message).unwrap());
    let delivered = setting
        .postfix
        .wait_for_message(|message| String::from_utf8_lossy(message).contains("from a program"));
    assert_eq!(signatures(&delivered), 1, "{:?}", delivered.fields);

    let delivered = setting.postfix.delivered(&setting.send("good.example"));
    assert_eq!(
        (signatures(&delivered), delivered.values("Authentication-Results").len()),
        (0, 1),
        "{:?}",
        delivered.fields
    );
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn a_new_configuration_between_two_messages() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER");
    let config = |lines: &str| complete_config(lines, setting.nameserver.address());
    let mut early = setting.client();
    assert_eq!(setting.send("bad.example").code, 550);
    assert!(setting.daemon.reload(&config("header = Authentication-Results\nreject_results =\n")));
    let delivered = setting.postfix.delivered(&setting.send("bad.example"));
    assert_eq!(delivered.values("Authentication-Results"), [ours("fail", "bad.example")]);
    // A file with an error changes nothing, a session that began earlier keeps what it had.
    assert!(!setting.daemon.reload(&config("reject_results = never\n")));
    setting.postfix.delivered(&setting.send("bad.example"));
    assert_eq!(early.command("MAIL FROM:<alice@bad.example>").unwrap().code, 550);
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn several_messages_and_resets_in_one_connection() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER");
    let mut smtp = setting.client();
    for round in 0..5 {
        let (domain, result) =
            if round % 2 == 0 { ("good.example", "pass") } else { ("soft.example", "softfail") };
        assert_eq!(smtp.command("MAIL FROM:<alice@soft.example>").unwrap().code, 250);
        assert_eq!(smtp.command("RSET").unwrap().code, 250);
        assert_eq!(smtp.command("MAIL FROM:<alice@bad.example>").unwrap().code, 550);
        assert_eq!(smtp.command("EHLO mail.client.example").unwrap().code, 250);
        let reply =
            smtp.message(&format!("alice@{domain}"), &["bob@rcpt.example.org"], MESSAGE).unwrap();
        assert_eq!(
            setting.postfix.delivered(&reply).values("Authentication-Results"),
            [ours(result, domain)]
        );
    }
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn starttls_and_a_second_ehlo() {
    let folder = Scratch::new("tls");
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=mta.example.org",
    ]);
    let output = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let main_cf = format!(
        "smtpd_milters = MILTER\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}",
        certificate.display(),
        key.display()
    );
    // The TLS client cannot pretend to be another host: loopback is not trusted here.
    let config = "header = Authentication-Results\ntrusted_networks =\ninclude_all_results = yes\n";
    let setting = setting(config, &main_cf);
    let mut client = Command::new("openssl");
    client.args([
        "s_client",
        "-quiet",
        "-crlf",
        "-starttls",
        "smtp",
        "-name",
        "soft.example",
        "-connect",
    ]);
    client
        .arg(setting.postfix.address().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let commands = "EHLO second.soft.example\nMAIL FROM:<alice@soft.example>\nRCPT TO:<bob@rcpt.example.org>\nDATA\nSubject: over TLS\n\nHello\n.\nQUIT\n";
    client.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let delivered = setting
        .postfix
        .wait_for_message(|message| String::from_utf8_lossy(message).contains("over TLS"));
    assert_eq!(
        delivered.values("Authentication-Results"),
        [
            "mta.example.org; spf=none smtp.helo=second.soft.example; spf=softfail smtp.mailfrom=soft.example"
        ]
    );
    client.wait().unwrap();
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn stop_while_a_message_is_in_flight() {
    let mut setting = setting(CONFIG, "smtpd_milters = MILTER\nmilter_default_action = tempfail");
    let mut smtp = setting.client();
    assert_eq!(smtp.command("MAIL FROM:<alice@good.example>").unwrap().code, 250);
    assert_eq!(smtp.command("RCPT TO:<bob@rcpt.example.org>").unwrap().code, 250);
    setting.daemon.signal("TERM");
    // While this message is brought to its end, no new one is begun.
    let socket = setting.daemon.sockets[0].clone();
    testkit::wait_for("the socket to close", || {
        testkit::milter_client::Stream::connect(&socket).is_err().then_some(())
    });
    let reply = smtp.data(MESSAGE).unwrap();
    assert_eq!(
        setting.postfix.delivered(&reply).values("Authentication-Results"),
        [ours("pass", "good.example")]
    );
    smtp.command("QUIT").unwrap();
    assert!(setting.daemon.wait().success());
    let mut late = setting.postfix.connect_local();
    late.command("EHLO mail.client.example").unwrap();
    let reply = late.command("MAIL FROM:<alice@good.example>").unwrap();
    assert_eq!(reply.code, 451, "{reply:?}");
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn without_the_milter_the_default_action_holds() {
    let mut setting = setting(CONFIG, "smtpd_milters = { MILTER, default_action=accept }");
    assert_eq!(setting.send("bad.example").code, 550);
    setting.daemon.signal("TERM");
    assert!(setting.daemon.wait().success());
    let delivered = setting.postfix.delivered(&setting.send("bad.example"));
    assert!(delivered.values("Authentication-Results").is_empty());
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn a_unix_socket_and_a_long_message() {
    let folder = Scratch::new("milter");
    let socket = folder.join("milter.sock");
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = format!(
        "socket = unix:{}\nsocket_mode = 0666\nheader = Authentication-Results\n",
        socket.display()
    );
    let daemon = Daemon::start(&complete_config(&config, nameserver.address()));
    let postfix = Postfix::start(&format!(
        "smtpd_milters = unix:{}\nmessage_size_limit = 20000000",
        socket.display()
    ));
    let setting = Setting { postfix, daemon, nameserver };
    let mut message = b"Subject: long\nReferences:".to_vec();
    for number in 0..300 {
        write!(message, "\n <{number}.{}@references.example>", "x".repeat(40)).unwrap();
    }
    message.extend_from_slice(b"\n\n.begins with a dot\n");
    for _ in 0..40_000 {
        message.extend_from_slice(b"A line of a long message that goes through the milter in many chunks, or not at all.\n");
    }
    let reply = setting
        .client()
        .message("alice@good.example", &["bob@rcpt.example.org"], &message)
        .unwrap();
    let delivered = setting.postfix.delivered(&reply);
    assert_eq!(
        delivered.fields[0].unfolded(),
        format!("Authentication-Results: {}", ours("pass", "good.example"))
    );
    assert!(message.ends_with(&delivered.body));
    assert!(delivered.body.starts_with(b".begins with a dot\n"));
    let (status, _) = setting.daemon.stop();
    assert!(status.success());
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn clients_without_an_address_or_with_ipv6() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER\nmilter_default_action = tempfail");
    let mut smtp = setting.postfix.connect(None, None);
    assert_eq!(smtp.greeting.code, 220, "{:?}", smtp.greeting);
    assert_eq!(smtp.command("EHLO bad.example").unwrap().code, 250);
    let reply = smtp.message("alice@bad.example", &["bob@rcpt.example.org"], MESSAGE).unwrap();
    assert!(setting.postfix.delivered(&reply).values("Authentication-Results").is_empty());
    let mut smtp = setting.postfix.connect(Some("2001:db8::9".parse().unwrap()), None);
    assert_eq!(smtp.command("EHLO [IPv6:2001:db8::9]").unwrap().code, 250);
    let reply = smtp.message("alice@soft.example", &["bob@rcpt.example.org"], MESSAGE).unwrap();
    assert_eq!(
        setting.postfix.delivered(&reply).values("Authentication-Results"),
        [ours("softfail", "soft.example")]
    );
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn many_clients_at_once() {
    let setting = setting(CONFIG, "smtpd_milters = MILTER\ndefault_process_limit = 50");
    setting
        .nameserver
        .behave("*", Behaviour { latency: Duration::from_millis(20), ..Behaviour::default() });
    std::thread::scope(|scope| {
        for client in 0..20 {
            let setting = &setting;
            scope.spawn(move || {
                let mut smtp = setting.client();
                for _ in 0..3 {
                    let (domain, result) = if client % 2 == 0 {
                        ("good.example", "pass")
                    } else {
                        ("soft.example", "softfail")
                    };
                    let message: Vec<u8> = [Field::new("X-Client", format!(" {client}"))]
                        .iter()
                        .flat_map(|field| format!("{field:?}\n\nHello\n").into_bytes())
                        .collect();
                    let reply = smtp
                        .message(&format!("alice@{domain}"), &["bob@rcpt.example.org"], &message)
                        .unwrap();
                    let delivered = setting.postfix.delivered(&reply);
                    assert_eq!(delivered.values("Authentication-Results"), [ours(result, domain)]);
                    assert_eq!(delivered.values("X-Client"), [client.to_string()]);
                }
            });
        }
    });
}
