//! The daemon with name servers that are down or slow.

use std::{net::SocketAddr, thread};

use spf_milter::dns::{RecordType, zone::Zone};
use testkit::{
    daemon::Daemon,
    milter_client::{MilterClient, Reply},
    nameserver::{Behaviour, NameServer, closed_port},
    scenario::complete_config,
    wait_for,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
bad.example TXT "v=spf1 -all"
slow.example TXT "v=spf1 ip4:192.0.2.9 -all"
"#;

fn begin(client: &mut MilterClient) {
    client.connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025)))).unwrap();
    assert_eq!(client.helo("[192.0.2.9]").unwrap(), Reply::Continue);
}

#[test]
fn a_name_server_that_is_down_at_the_start_may_come_later() {
    let address = closed_port();
    let daemon = Daemon::start(&complete_config("hostname = mta.example.org\n", address));
    let mut client = daemon.client();
    begin(&mut client);
    let Reply::Code(refusal) = client.mail("<a@good.example>").unwrap() else {
        panic!("not refused")
    };
    assert!(refusal.starts_with("451 4.7.24 "), "{refusal}");
    let Ok(nameserver) = NameServer::start_on(address, Zone::parse(ZONE).unwrap()) else { return };
    wait_for("the name server to be asked again", || {
        (client.mail("<a@good.example>").unwrap() == Reply::Continue).then_some(())
    });
    assert!(nameserver.total() > 0);
}

#[test]
fn name_servers_that_do_not_answer_are_told() {
    let address = closed_port();
    let daemon = Daemon::start(&complete_config("hostname = mta.example.org\n", address));
    daemon.wait_for_log(&[&format!("name server {address} is asked, by nameservers")]);
    let mut client = daemon.client();
    begin(&mut client);
    for domain in ["good.example", "bad.example"] {
        assert!(matches!(client.mail(format!("<a@{domain}>")).unwrap(), Reply::Code(_)));
        client.abort().unwrap();
    }
    daemon.wait_for_log(&[
        "result=temperror",
        &format!("detail=\"TXT bad.example: network error ({address})\""),
    ]);
    let (_, log) = daemon.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("does not answer")).collect();
    // Once a minute, however many look-ups fail.
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(&format!(
            "name server {address} does not answer: TXT good.example: network error"
        )),
        "{log}"
    );
}

#[test]
fn a_server_that_does_not_recurse_is_named() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    nameserver.behave("*", Behaviour { lame: true, ..Behaviour::default() });
    let daemon =
        Daemon::start(&complete_config("hostname = mta.example.org\n", nameserver.address()));
    let mut client = daemon.client();
    begin(&mut client);
    let Reply::Code(refusal) = client.mail("<a@bad.example>").unwrap() else {
        panic!("not refused")
    };
    assert!(refusal.starts_with("451 4.7.24 "), "{refusal}");
    client.abort().unwrap();
    let server = nameserver.address();
    daemon.wait_for_log(&[&format!(
        "detail=\"TXT bad.example: server does not recurse ({server})\""
    )]);
    let (_, log) = daemon.stop();
    assert!(!log.contains("does not answer"), "{log}");
}

#[test]
fn slow_name_servers_hold_up_only_who_needs_them() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    nameserver.behave("slow.example", Behaviour { drop: true, ..Behaviour::default() });
    let config = format!(
        "hostname = mta.example.org\nnameservers = {}\ndns_timeout_secs = 30\n",
        nameserver.address()
    );
    let daemon = Daemon::start(&config);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut client = daemon.client();
            begin(&mut client);
            client.mail("<a@slow.example>").unwrap()
        });
        let mut client = daemon.client();
        begin(&mut client);
        for _ in 0..20 {
            assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
        }
        assert!(!waiting.is_finished());
        // The other one gets its answer as soon as the name server recovers, or at the end of its
        // patience.
        nameserver.behave("slow.example", Behaviour::default());
        assert!(matches!(waiting.join().unwrap(), Reply::Continue | Reply::Code(_)));
    });
}

/// How many sessions with silent name servers there are beside a good one.
const SILENT_SESSIONS: usize = 200;

/// Two hundred sessions ask for as much as they can, of name servers that never answer: the
/// questions of others go out all the same. Nothing here runs into a time-out.
#[test]
fn silent_sessions_hold_up_nobody_else() {
    let mut zone = String::from(ZONE);
    for number in 0..SILENT_SESSIONS {
        let terms: String =
            (0..10).map(|term| format!("a:silent.t{term}.s{number}.example ")).collect();
        zone += &format!("s{number}.example TXT \"v=spf1 {terms}-all\"\n");
    }
    let nameserver = NameServer::start(Zone::parse(&zone).unwrap());
    for number in 0..SILENT_SESSIONS {
        for term in 0..10 {
            nameserver.behave(
                &format!("silent.t{term}.s{number}.example"),
                Behaviour { drop: true, ..Behaviour::default() },
            );
        }
    }
    let config = format!(
        "hostname = mta.example.org\nnameservers = {}\ntimeout_secs = 3600\ndns_timeout_secs = 3000\ndns_attempts = 1\n",
        nameserver.address()
    );
    let daemon = Daemon::start(&config);
    let mut silent: Vec<MilterClient> = (0..SILENT_SESSIONS).map(|_| daemon.client()).collect();
    for (number, client) in silent.iter_mut().enumerate() {
        begin(client);
        client.send(b'M', format!("<a@s{number}.example>\0").as_bytes()).unwrap();
        // Its first question is answered, and another one of it is under way.
        wait_for("the questions of a session", || {
            let mut names = (0..10).map(|term| format!("silent.t{term}.s{number}.example"));
            names.any(|name| nameserver.count(&name, RecordType::A) > 0).then_some(())
        });
    }
    for number in 0..20 {
        let mut client = daemon.client();
        begin(&mut client);
        assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
        assert!(matches!(
            client.mail(format!("<a@none{number}.example>")).unwrap(),
            Reply::Continue
        ));
    }
}
