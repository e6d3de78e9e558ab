//! The daemon with name servers that are down or slow.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::{net::SocketAddr, thread};

use spf_milter::dns::zone::Zone;
use support::{
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
    let Reply::Code(refusal) = client.mail("<a@good.example>").unwrap() else { panic!("not refused") };
    assert!(refusal.starts_with("451 4.7.24 "), "{refusal}");
    let Ok(nameserver) = NameServer::start_on(address, Zone::parse(ZONE).unwrap()) else { return };
    wait_for("the name server to be asked again", || (client.mail("<a@good.example>").unwrap() == Reply::Continue).then_some(()));
    assert!(nameserver.total() > 0);
}

#[test]
fn slow_name_servers_hold_up_only_who_needs_them() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    nameserver.behave("slow.example", Behaviour { drop: true, ..Behaviour::default() });
    let config = format!("hostname = mta.example.org\nnameservers = {}\ndns_timeout_secs = 30\n", nameserver.address());
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
        // The other one gets its answer as soon as the name server recovers, or at the end of its patience.
        nameserver.behave("slow.example", Behaviour::default());
        assert!(matches!(waiting.join().unwrap(), Reply::Continue | Reply::Code(_)));
    });
}
