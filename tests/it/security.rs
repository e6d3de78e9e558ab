//! Faults that other programs had, where no other test has them: see `docs/security.md`.

use std::fs;

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Reply, bits},
    nameserver::NameServer,
    scratch::Scratch,
};

/// All that can be verified and done.
const EVERYTHING: &str = "header = Received-SPF, Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\n\
    verify_iprev = yes\ndelete_incoming_authentication_results = yes\ndmarc_quarantine_action = quarantine\n\
    dmarc_reject_action = reject\nunauthenticated_action = tag\nreject_results =\nreject_helo_results =\n";

fn config(nameserver: &NameServer) -> String {
    format!("nameservers = {}\nhostname = mx.example.org\n{EVERYTHING}", nameserver.address())
}

fn message(client: &mut MilterClient, helo: &str, sender: &str) {
    client.connect("mail.example.com", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
    client.helo(helo).unwrap();
    assert_eq!(client.mail(sender).unwrap(), Reply::Continue, "{helo} {sender}");
    let from = Field::new("From", " amy@example.com");
    assert_eq!(client.message(&[from], b"hello\r\n").unwrap().reply, Reply::Continue);
    client.quit_for_next().unwrap();
}

#[test]
fn names_with_empty_labels_are_asked_for_by_nobody() {
    let nameserver = NameServer::start(Zone::new());
    let daemon = Daemon::start(&config(&nameserver));
    let mut client = daemon.client();
    let long = format!("{}.bad.example", "x".repeat(64));
    let longest = format!("{}bad.example", "x.".repeat(130));
    for name in [
        ".bad.example",
        "..bad.example",
        "a..bad.example",
        ".",
        "..",
        "bad.example..",
        &long,
        &longest,
    ] {
        message(&mut client, name, &format!("<amy@{name}>"));
        message(&mut client, name, "<>");
    }
    let asked = nameserver.log();
    assert!(!asked.iter().any(|query| query.name.contains("bad.example")), "{asked:?}");
    // The same names without what is wrong with them are asked for.
    message(&mut client, "bad.example", "<>");
    assert!(nameserver.log().iter().any(|query| query.name == "bad.example"));
    let (status, log) = daemon.stop();
    assert!(status.success() && !log.contains("internal error"), "{log}");
}

#[test]
fn no_file_is_made_but_the_socket() {
    let nameserver = NameServer::start(Zone::new());
    let (here, temporary, sockets) =
        (Scratch::new("here"), Scratch::new("temporary"), Scratch::new("sockets"));
    let more = format!("socket = unix:{}\nlog_level = debug\n", sockets.join("s").display());
    let config = config(&nameserver) + &more;
    let daemon = Daemon::launch(&config, |command| {
        command.current_dir(here.path());
        for name in ["TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(name, temporary.path());
        }
    })
    .unwrap();
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut client = daemon.client();
    let check = |time: &str| {
        assert_eq!(names(here.path()), Vec::<String>::new(), "{time}");
        assert_eq!(names(temporary.path()), Vec::<String>::new(), "{time}");
        assert_eq!(names(daemon.folder()), ["spf-milter.conf"], "{time}");
        assert_eq!(names(sockets.path()), ["s"], "{time}");
        // Nor is one open that has no name any more.
        let descriptors = format!("/proc/{}/fd", daemon.id());
        for descriptor in fs::read_dir(descriptors).unwrap() {
            let Ok(target) = fs::read_link(descriptor.unwrap().path()) else { continue };
            let target = target.display().to_string();
            let is_known = ["socket:", "pipe:", "anon_inode:", "/dev/null"]
                .iter()
                .any(|kind| target.starts_with(kind));
            assert!(is_known, "{time}: {target}");
        }
    };
    check("started");
    for number in 0..20 {
        message(&mut client, "mail.example.com", &format!("<amy@{number}.example>"));
    }
    check("after messages");
    assert!(daemon.reload(&config));
    assert!(!daemon.reload("no such line"));
    daemon.write_config(&config);
    check("after reloads");
}

#[test]
fn the_mta_is_asked_for_no_more_than_fields_and_quarantine() {
    let nameserver = NameServer::start(Zone::new());
    let daemon = Daemon::start(&config(&nameserver));
    let client = daemon.client();
    let wanted = bits::ADD_HEADER | bits::CHANGE_HEADER | bits::QUARANTINE;
    assert_eq!(client.negotiation.actions & !(wanted | bits::SET_MACRO_LIST), 0);
    // It asks for all of these: the test would see more.
    assert_eq!(client.negotiation.actions & wanted, wanted);
}
