//! The set-ups in `examples/`, as they are: only paths, ports, addresses of the tests' clients and the
//! name server are replaced.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use spf_milter::{
    config::{Overrides, load_text},
    dns::zone::Zone,
};
use testkit::{
    daemon::{Daemon, program},
    fields::Field,
    milter_client::{MilterClient, Options, Reply, Socket},
    nameserver::NameServer,
    postfix::{Delivered, Postfix},
    root,
    sendmail::Sendmail,
    signers::{Key, Manner, Message, Tool, sign_one},
    smtp::{self, SmtpClient},
};

/// As whom the daemon runs, like the service without rights: the user `nobody`.
const USER: u32 = 65534;

/// Where a chrooted Postfix has its queue.
const QUEUE: &str = "/var/spool/postfix";

const CLIENT: &str = "198.51.100.9";

const ZONE: &str = "
good.example TXT \"v=spf1 ip4:198.51.100.9 ip4:127.0.0.7 -all\"
bad.example TXT \"v=spf1 -all\"
_dmarc.bad.example TXT \"v=DMARC1; p=reject\"
_dmarc.signed.example TXT \"v=DMARC1; p=reject\"
9.100.51.198.in-addr.arpa PTR mail.good.example
mail.good.example A 198.51.100.9
";

fn read(path: &str) -> String {
    let path = root().join("examples").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replaces a part that must be there.
fn replaced(text: &str, part: &str, by: &str) -> String {
    assert!(text.contains(part), "no {part} in:\n{text}");
    text.replace(part, by)
}

/// The group of Postfix's processes.
pub(crate) fn postfix_group() -> u32 {
    let output = Command::new("id").args(["-g", "postfix"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("there is no user 'postfix'")
}

/// Makes the directory of a socket in the chroot, as `etc/spf-milter.tmpfiles` does.
pub(crate) fn make_directory(queue: &Path, name: &str, user: u32) {
    let path = queue.join(name);
    fs::create_dir(&path).unwrap();
    chown(&path, Some(user), Some(postfix_group())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2750)).unwrap();
}

/// Starts the daemon as a user who may do nothing, with a configuration for a Postfix in this chroot.
pub(crate) fn start(config: &str, queue: &Path, nameserver: &NameServer) -> Daemon {
    make_directory(queue, "spf-milter", USER);
    let config = replaced(config, QUEUE, &queue.display().to_string());
    let config = format!("{config}nameservers = {}\n", nameserver.address());
    let daemon = Daemon::launch(&config, |command| {
        let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
        *command = Command::new("setpriv");
        command
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
            .arg(program())
            .args(arguments);
    });
    daemon.unwrap_or_else(|failure| panic!("the daemon did not start: {failure:?}"))
}

fn send(smtp: &mut SmtpClient, domain: &str, message: &[u8]) -> smtp::Reply {
    smtp.message(&format!("amy@{domain}"), &["bob@rcpt.example.org"], message).unwrap()
}

fn connect(postfix: &Postfix) -> SmtpClient {
    let client: IpAddr = CLIENT.parse().unwrap();
    let mut smtp = postfix.connect(Some(client), Some("mail.good.example"));
    assert_eq!(smtp.command("EHLO mail.good.example").unwrap().code, 250);
    smtp
}

fn only(delivered: &Delivered, name: &str) -> String {
    let values = delivered.values(name);
    assert_eq!(values.len(), 1, "{:?}", delivered.fields);
    values.concat()
}

const MESSAGE: &[u8] = b"From: amy@good.example\nSubject: hello\n\nhello\n";

#[test]
#[ignore = "needs Postfix and root: make test"]
fn postfix_with_spf() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let postfix = Postfix::in_chroot(&read("postfix/spf/main.cf"), None);
    // As long as the milter is not there, clients must try again later.
    assert_eq!(send(&mut connect(&postfix), "good.example", MESSAGE).code, 451);
    let _daemon = start(&read("postfix/spf/spf-milter.conf"), &postfix.queue(), &nameserver);
    let mut smtp = connect(&postfix);
    let reply = send(&mut smtp, "bad.example", MESSAGE);
    assert!(reply.last().starts_with("550 5.7.23 SPF validation failed"), "{reply:?}");
    let delivered = postfix.delivered(&send(&mut connect(&postfix), "good.example", MESSAGE));
    let field = only(&delivered, "Received-SPF");
    assert!(field.starts_with("pass ") && field.contains("receiver=mx.example.com"), "{field}");
}

#[test]
#[ignore = "needs Postfix, dkimpy and root: make test"]
fn postfix_with_spf_dkim_and_dmarc() {
    let zone = format!("{ZONE}{}", Key::Rsa(2048).record("signed.example"));
    let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
    let postfix = Postfix::in_chroot(&read("postfix/dmarc/main.cf"), None);
    let _daemon = start(&read("postfix/dmarc/spf-milter.conf"), &postfix.queue(), &nameserver);
    let mut signed = Message {
        fields: vec![
            Field::new("From", " amy@signed.example"),
            Field::new("X-Auth-Action", " reject; reason=dmarc"),
        ],
        body: Some(b"hello\r\n".to_vec()),
    };
    let manner = Manner::new(Tool::Dkimpy, Key::Rsa(2048), "relaxed/simple", "signed.example");
    sign_one(&manner, &mut signed);
    let octets = signed.octets();
    // Forwarded: SPF fails for the sender, and the signature passes for the author.
    let forwarded = postfix.delivered(&send(&mut connect(&postfix), "bad.example", &octets));
    let results = only(&forwarded, "Authentication-Results");
    for part in [
        "mx.example.com; spf=fail ",
        "; dkim=pass header.d=signed.example ",
        "; dmarc=pass ",
        &format!("; iprev=pass policy.iprev={CLIENT}"),
    ] {
        assert!(results.contains(part), "{results}");
    }
    assert!(forwarded.values("X-Auth-Action").is_empty(), "{:?}", forwarded.fields);
    // Changed, from a sender that passes: marked.
    let changed = String::from_utf8(octets).unwrap().replace("hello", "jello");
    let reply = send(&mut connect(&postfix), "good.example", changed.as_bytes());
    let marked = postfix.delivered(&reply);
    assert!(only(&marked, "Authentication-Results").contains("; dmarc=fail "));
    assert_eq!(only(&marked, "X-Auth-Action"), "reject; reason=dmarc; domain=signed.example");
    // SPF fails, and so does DMARC.
    let reply = send(&mut connect(&postfix), "bad.example", b"From: a@bad.example\n\nhello\n");
    assert_eq!(reply.code, 550, "{reply:?}");
}

#[test]
#[ignore = "needs Sendmail and root: make test"]
fn sendmail() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let unix = "unix:/run/spf-milter/spf-milter.sock";
    let config = replaced(&read("sendmail/spf-milter.conf"), unix, "inet:127.0.0.1:0");
    // The tests' clients are on loopback.
    let config = replaced(&config, "loopback,", "127.0.0.1,");
    let daemon = Daemon::start(&format!("{config}nameservers = {}\n", nameserver.address()));
    let Socket::Inet(address) = &daemon.sockets[0] else { panic!("no TCP socket") };
    let local = format!("inet:{}@{}", address.port(), address.ip());
    let filter = read("sendmail/spf-milter.mc");
    let filter = replaced(&filter, "local:/run/spf-milter/spf-milter.sock", &local);
    let sendmail = Sendmail::with_filter(filter.trim_end());
    let connect = || {
        let mut smtp = sendmail.connect_from(Ipv4Addr::new(127, 0, 0, 7));
        assert_eq!(smtp.command("EHLO mail.good.example").unwrap().code, 250);
        smtp
    };
    let reply = send(&mut connect(), "bad.example", MESSAGE);
    assert!(reply.last().starts_with("550 5.7.23 "), "{reply:?}");
    assert!(reply.last().ends_with(" SPF validation failed"), "{reply:?}");
    let queued = sendmail.queued(&send(&mut connect(), "good.example", MESSAGE));
    let fields: Vec<_> = queued.iter().filter(|field| field.is("Received-SPF")).collect();
    assert_eq!(fields.len(), 1, "{queued:?}");
    assert!(fields[0].unfolded().starts_with("Received-SPF: pass "), "{queued:?}");
    // While the milter is down, clients must try again later.
    drop(daemon);
    let mut smtp = sendmail.connect_from(Ipv4Addr::new(127, 0, 0, 7));
    let _ = smtp.command("EHLO mail.good.example");
    assert_eq!(send(&mut smtp, "good.example", MESSAGE).code / 100, 4);
}

/// The client of the tests behaves like milter-manager; see `testkit/src/milter_client.rs`.
#[test]
#[ignore = "one of the examples: make test"]
fn milter_manager() {
    let config = read("milter-manager/spf-milter.conf");
    let manager = read("milter-manager/milter-manager.local.conf");
    let value = |name: &str| {
        let line = manager.lines().find_map(|line| {
            line.trim().strip_prefix("milter.")?.strip_prefix(name)?.strip_prefix(" = ")
        });
        line.unwrap_or_else(|| panic!("no {name}")).trim_matches('"').to_owned()
    };
    let loaded = load_text(config.as_bytes(), Path::new("example"), &Overrides::default());
    let loaded = loaded.unwrap().config;
    let socket = config.lines().find_map(|line| line.strip_prefix("socket = inet:")).unwrap();
    let (host, port) = socket.split_once(':').unwrap();
    assert_eq!(value("connection_spec"), format!("inet:{port}@{host}"));
    assert!(value("reading_timeout").parse::<u64>().unwrap() > loaded.timeout_secs);
    assert_eq!(value("fallback_status"), "temporary-failure");
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = replaced(&config, "inet:127.0.0.1:8890", "inet:127.0.0.1:0");
    for (config, is_verified) in
        [(config.clone(), true), (replaced(&config, "milter_no_reply = no", ""), false)]
    {
        let daemon = Daemon::start(&format!("{config}nameservers = {}\n", nameserver.address()));
        let options = Options { body_in_end: false, always_waits: true, ..Options::default() };
        let verified = |domain: &str| {
            let mut client =
                MilterClient::with_options(&daemon.sockets[0], options.clone()).unwrap();
            client
                .connect("mail.good.example", Some((CLIENT.parse::<IpAddr>().unwrap(), 25).into()))
                .unwrap();
            client.helo("mail.good.example").unwrap();
            if let Reply::Code(text) = client.mail(format!("<amy@{domain}>")).unwrap() {
                return text.starts_with("550 5.7.23");
            }
            client.rcpt("<bob@rcpt.example.org>").unwrap();
            let finished =
                client.message(&[Field::new("Subject", " hello")], b"hello\r\n").unwrap();
            let field = finished.fields[0].unfolded();
            field.starts_with("Authentication-Results: mx.example.com; spf=pass ")
        };
        assert_eq!(verified("good.example"), is_verified);
        assert!(verified("bad.example"));
    }
}

/// Reads `compose.yaml` as Python does, and runs its Postfix settings with its configuration.
#[test]
#[ignore = "needs Postfix, python3-yaml and root: make test"]
fn containers() {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let path = root().join("examples/compose.yaml");
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(fs::File::open(&path).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["postfix", "spf-milter"]);
    for service in services.values() {
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_there = match source.strip_prefix("./") {
                Some(name) => root().join("examples").join(name).is_file(),
                None => file["volumes"].as_object().unwrap().contains_key(source),
            };
            assert!(is_there, "{volume}");
        }
        // Postfix sees the clients' addresses, and both are on the same loopback.
        assert_eq!(service["network_mode"], "host");
    }
    assert_eq!(services["postfix"]["depends_on"][0], "spf-milter");
    let arguments = services["spf-milter"]["command"].as_array().unwrap();
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config =
        replaced(&read("compose/spf-milter.conf"), "inet:127.0.0.1:8890", "inet:127.0.0.1:0");
    let config = format!("{config}nameservers = {}\n", nameserver.address());
    let daemon = Daemon::launch(&config, |command| {
        command.args(arguments.iter().map(|argument| argument.as_str().unwrap()));
    })
    .unwrap();
    let Socket::Inet(address) = &daemon.sockets[0] else { panic!("no TCP socket") };
    let main_cf = read("compose/main.cf");
    let milters: Vec<&str> = main_cf.lines().filter(|line| line.contains("milter")).collect();
    let milters = replaced(&milters.join("\n"), "127.0.0.1:8890", &address.to_string());
    let postfix = Postfix::start(&milters);
    let delivered = postfix.delivered(&send(&mut connect(&postfix), "good.example", MESSAGE));
    assert!(only(&delivered, "Received-SPF").starts_with("pass "));
}
