//! A Postfix under load while its milter is reloaded and restarted: no message is lost, none arrives
//! twice, none is unverified.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon, free_address, nameserver::NameServer, postfix::Postfix,
    scenario::complete_config, smtp::SmtpClient, wait_for,
};

const CLIENTS: usize = 4;
const MESSAGES: usize = 75;
const TOTAL: usize = CLIENTS * MESSAGES;

/// A client that has a message until the server has taken it. It keeps its session as long as it can.
struct Sender<'a> {
    postfix: &'a Postfix,
    smtp: Option<SmtpClient>,
}

impl Sender<'_> {
    fn connect(&self) -> Option<SmtpClient> {
        let client: IpAddr = "192.0.2.9".parse().unwrap();
        let mut smtp = self.postfix.connect(Some(client), None);
        let is_greeted = smtp.greeting.code == 220
            && smtp.command("EHLO mail.good.example").is_ok_and(|reply| reply.code == 250);
        is_greeted.then_some(smtp)
    }

    /// Sends a message; whether the server took it.
    fn try_send(&mut self, name: &str) -> bool {
        let Some(mut smtp) = self.smtp.take().or_else(|| self.connect()) else { return false };
        let message =
            format!("From: amy@good.example\nMessage-ID: <{name}@good.example>\n\nhello\n");
        let reply = smtp
            .message("amy@good.example", &["bob@rcpt.example.org"], message.as_bytes())
            .unwrap();
        assert!([2, 4].contains(&(reply.code / 100)), "{reply:?}");
        if reply.code == 250 {
            self.smtp = Some(smtp);
        }
        reply.code == 250
    }
}

fn start(socket: SocketAddr, nameserver: &NameServer) -> Daemon {
    let config = format!("socket = inet:{socket}\n");
    Daemon::start(&complete_config(&config, nameserver.address()))
}

#[test]
#[ignore = "needs Postfix and root: make test"]
fn no_message_is_lost_while_the_milter_is_reloaded_and_restarted() {
    let zone = "good.example TXT \"v=spf1 ip4:192.0.2.9 -all\"";
    let nameserver = NameServer::start(Zone::parse(zone).unwrap());
    let socket = free_address();
    let postfix = Postfix::start(&format!(
        "smtpd_milters = inet:{}:{}\nmilter_default_action = tempfail",
        socket.ip(),
        socket.port()
    ));
    let (taken, put_off) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wait_until = |count: usize| {
        wait_for("messages to be taken", || (taken.load(Ordering::SeqCst) >= count).then_some(()));
    };
    let mut daemon = start(socket, &nameserver);
    let mut stopped = 0;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (postfix, taken, put_off) = (&postfix, &taken, &put_off);
            scope.spawn(move || {
                let mut sender = Sender { postfix, smtp: None };
                for number in 0..MESSAGES {
                    let name = format!("{client}-{number}");
                    // As SMTP clients do, without their patience.
                    wait_for("a message to be taken", || {
                        let success = sender.try_send(&name);
                        if !success {
                            put_off.fetch_add(1, Ordering::SeqCst);
                        }
                        success.then_some(())
                    });
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for restart in 1..=2 {
            for reload in 0..3 {
                wait_until((restart - 1) * 100 + reload * 30);
                let config = format!("socket = inet:{socket}\nmax_lookups = {}\n", 5 + reload);
                assert!(daemon.reload(&complete_config(&config, nameserver.address())));
            }
            wait_until(restart * 100);
            daemon.signal("TERM");
            assert_eq!(daemon.wait().code(), Some(0));
            let log = daemon.log().to_end();
            assert!(!log.contains("connections were still in use"), "{log}");
            stopped += count_of(&log);
            // Clients are put off as long as the milter is not there.
            let before = put_off.load(Ordering::SeqCst);
            wait_for("a client to be put off", || {
                (put_off.load(Ordering::SeqCst) > before).then_some(())
            });
            daemon = start(socket, &nameserver);
        }
    });
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for delivered in postfix.all_delivered() {
        *arrived.entry(delivered.values("Message-ID").concat()).or_default() += 1;
        assert_eq!(delivered.values("Received-SPF").len(), 1, "{:?}", delivered.fields);
    }
    assert_eq!(arrived.len(), TOTAL);
    assert!(arrived.values().all(|count| *count == 1), "{arrived:?}");
    let (status, log) = daemon.stop();
    assert!(status.success());
    // The milter has seen each of them to its end; one that Postfix did not take after that would be
    // counted again.
    assert!(stopped + count_of(&log) >= TOTAL);
}

/// The number of messages in the last line of a log.
fn count_of(log: &str) -> usize {
    log.trim_end().rsplit("messages=").next().unwrap().parse().unwrap()
}
