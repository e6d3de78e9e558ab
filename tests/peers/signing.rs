//! `docs/signing.md`, as it is written: Postfix in a chroot, OpenDKIM that signs, and the daemon that
//! verifies.

use std::{fs, net::IpAddr, path::Path, process::Command};

use spf_milter::dns::zone::Zone;
use testkit::{
    nameserver::NameServer,
    postfix::{Delivered, Postfix},
    process::Process,
    scratch::Scratch,
    signers::Key,
    smtp::SmtpClient,
    wait_for,
};

use super::examples::{make_directory, start};

const DOCUMENT: &str = include_str!("../../docs/signing.md");

const CONFIG: &str = "
socket = unix:/var/spool/postfix/spf-milter/spf-milter.sock
socket_mode = 0660
header = Authentication-Results
verify_dkim = yes
verify_dmarc = yes
";

/// Far from `mynetworks`, `InternalHosts` and `trusted_networks`.
const OUTSIDE: &str = "198.51.100.9";

const MESSAGE: &str = "From: amy@example.com\nTo: bob@rcpt.example.org\nSubject: hello\nReceived-SPF: pass\n\
    Authentication-Results: other.example; spf=pass\nX-Auth-Action: tag\nDate: Fri, 27 Nov 2026 09:00:00 +0000\n\nhello\n";

/// The block of this language.
fn block(language: &str) -> &'static str {
    let start = format!("```{language}\n");
    let mut parts = DOCUMENT.split(&start);
    let rest = parts.nth(1).unwrap_or_else(|| panic!("no block of {language}"));
    assert!(parts.next().is_none(), "two blocks of {language}");
    rest.split("```").next().unwrap()
}

fn id(user: &str) -> u32 {
    let output = Command::new("id").args(["-u", user]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| {
        panic!("there is no user '{user}'; `make test` as root installs OpenDKIM")
    })
}

/// OpenDKIM with the file of the document, whose paths are replaced.
fn start_opendkim(queue: &Path, folder: &Scratch) -> Process {
    make_directory(queue, "opendkim", id("opendkim"));
    // The key that `opendkim-genkey` would make.
    let key = folder.join("mail2026.private");
    fs::copy(Key::Rsa(2048).file(), &key).unwrap();
    let chown = Command::new("sh")
        .args(["-c", "chown opendkim:opendkim \"$0\" && chmod 600 \"$0\""])
        .arg(&key)
        .status();
    assert!(chown.unwrap().success());
    let settings = block("opendkim")
        .replace("/var/spool/postfix", &queue.display().to_string())
        .replace("/etc/opendkim/mail2026.private", &key.display().to_string());
    assert!(settings.contains(&format!("local:{}", queue.display())));
    let path = folder.write("opendkim.conf", settings);
    let mut process = Process::start(Command::new("opendkim").args(["-f", "-x"]).arg(path));
    wait_for("OpenDKIM to listen", || {
        assert!(process.ended().is_none(), "{}", process.log.to_end());
        queue.join("opendkim/opendkim.sock").exists().then_some(())
    });
    process
}

/// How often a message was signed, and verified.
fn marks(delivered: &Delivered) -> (usize, usize) {
    let results = delivered.values("Authentication-Results");
    let ours = results.iter().filter(|value| value.starts_with("mta.example.org")).count();
    (delivered.values("DKIM-Signature").len(), ours)
}

fn send(mut smtp: SmtpClient, message: &[u8]) -> testkit::smtp::Reply {
    assert_eq!(smtp.command("EHLO laptop.example.com").unwrap().code, 250);
    smtp.message("amy@example.com", &["bob@rcpt.example.org"], message).unwrap()
}

#[test]
#[ignore = "needs Postfix, OpenDKIM and root: make test"]
fn the_page_on_signing_works() {
    let key = Key::Rsa(2048);
    let zone = format!(
        "mail2026._domainkey.example.com TXT v=DKIM1; k=rsa; p={}\n_dmarc.example.com TXT v=DMARC1; p=reject\n",
        key.public()
    );
    let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
    let master = block("master");
    let (service, options) = master.split_once('\n').unwrap();
    assert_eq!(
        service.split_whitespace().collect::<Vec<_>>(),
        "submission inet n - y - - smtpd".split(' ').collect::<Vec<_>>()
    );
    let postfix = Postfix::in_chroot(block("cf"), Some(options.trim_end()));
    let outside: IpAddr = OUTSIDE.parse().unwrap();
    // Nothing goes out unsigned or comes in unverified while the milters are not there.
    assert_eq!(send(postfix.connect_user(outside, "amy"), MESSAGE.as_bytes()).code, 451);
    assert_eq!(send(postfix.connect(Some(outside), None), MESSAGE.as_bytes()).code, 451);

    let folder = Scratch::new("signing");
    let opendkim = start_opendkim(&postfix.queue(), &folder);
    let daemon = start(CONFIG, &postfix.queue(), &nameserver);

    // A user with a password.
    let of_user =
        postfix.delivered(&send(postfix.connect_user(outside, "amy"), MESSAGE.as_bytes()));
    assert_eq!(
        marks(&of_user),
        (1, 0),
        "{:?}\n{}",
        of_user.fields,
        opendkim.log.lines().join("\n")
    );
    let signature = of_user.values("DKIM-Signature").concat();
    let tag = |name: &str| {
        let tags = signature.split(';').filter_map(|tag| tag.trim().split_once('='));
        let mut values = tags.filter(|(tag, _)| *tag == name).map(|(_, value)| value);
        values.next().unwrap_or_default().replace(char::is_whitespace, "").to_lowercase()
    };
    assert_eq!((tag("d"), tag("s")), ("example.com".into(), "mail2026".into()));
    let fields = tag("h");
    let signed: Vec<&str> = fields.split(':').collect();
    assert!(signed.contains(&"subject") && signed.contains(&"date"), "{signature}");
    assert_eq!(signed.iter().filter(|name| **name == "from").count(), 2, "{signature}");
    for name in ["received", "received-spf", "authentication-results", "x-auth-action"] {
        assert!(!signed.contains(&name), "{signature}");
    }

    // A program on this host.
    let local = MESSAGE.replace("hello\n", "from a program\n");
    assert!(postfix.submit("amy@example.com", "bob@rcpt.example.org", local.as_bytes()).unwrap());
    let of_program = postfix
        .wait_for_message(|message| String::from_utf8_lossy(message).contains("from a program"));
    assert_eq!(marks(&of_program), (1, 0), "{:?}", of_program.fields);

    // From the Internet: the message that was signed, and one that was not.
    let mut octets: Vec<u8> = Vec::new();
    for field in &of_user.fields {
        octets.extend([field.name.as_bytes(), b":", &field.value[..], b"\n"].concat());
    }
    octets.extend([b"\n", &of_user.body[..]].concat());
    for (message, result) in [(&octets[..], "pass"), (MESSAGE.as_bytes(), "none")] {
        let received = postfix.delivered(&send(postfix.connect(Some(outside), None), message));
        let signatures = usize::from(result == "pass");
        assert_eq!(marks(&received), (signatures, 1), "{:?}", received.fields);
        let results = received.values("Authentication-Results")[0].clone();
        let dmarc = if result == "pass" { "pass" } else { "fail" };
        assert!(
            results.contains(&format!("dkim={result}"))
                && results.contains(&format!("dmarc={dmarc} ")),
            "{results}"
        );
    }
    daemon.wait_for_log(&["dkim=example.com/mail2026:pass"]);
}
