//! A real MTA with the daemon as its verifying milter.

use std::net::{IpAddr, Ipv4Addr};

use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::Socket,
    nameserver::NameServer,
    postfix::Postfix,
    scenario::complete_config,
    sendmail::Sendmail,
    smtp::{Reply, SmtpClient},
};

/// Which MTA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Postfix,
    Sendmail,
}

enum Mta {
    Postfix(Postfix),
    Sendmail(Sendmail),
}

impl Mta {
    fn connect(&self) -> SmtpClient {
        let mut smtp = match self {
            Self::Postfix(postfix) => postfix
                .connect(Some(IpAddr::V4(POSTFIX_CLIENT.parse().unwrap())), Some(CLIENT_NAME)),
            Self::Sendmail(sendmail) => sendmail.connect_from(SENDMAIL_CLIENT),
        };
        assert_eq!(smtp.greeting.code, 220, "{:?}", smtp.greeting);
        assert_eq!(smtp.command(format!("EHLO {CLIENT_NAME}")).unwrap().code, 250);
        smtp
    }
}

/// An MTA and its milter.
pub(crate) struct Hop {
    // Dropped in this order.
    mta: Mta,
    _daemon: Daemon,
    _nameserver: NameServer,
    smtp: SmtpClient,
}

/// The message behind an MTA.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The header, without what the MTA itself puts on top.
    pub fields: Vec<Field>,
    /// The body, line ends as LF.
    pub body: Vec<u8>,
}

/// More lines of the daemon's configuration.
pub(crate) const CONFIG: &str = "trusted_networks =\nheader = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n";

/// The client's address at Postfix, and its name at both.
const POSTFIX_CLIENT: &str = "192.0.2.9";
const SENDMAIL_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const CLIENT_NAME: &str = "mail.client.example";

/// The records of the client, and of the domain of the envelope.
pub(crate) const CLIENT_ZONE: &str = "
192.0.2.9 PTR mail.client.example
127.0.0.7 PTR mail.client.example
mail.client.example A 192.0.2.9
mail.client.example A 127.0.0.7
bounces.example TXT v=spf1 ip4:192.0.2.9 ip4:127.0.0.7 -all
";

impl Hop {
    /// Starts both.
    pub(crate) fn start(kind: Kind, config: &str, nameserver: NameServer) -> Self {
        let daemon = Daemon::start(&complete_config(config, nameserver.address()));
        let mta = match (kind, &daemon.sockets[0]) {
            (Kind::Postfix, Socket::Inet(address)) => {
                // A milter that fails must not go unnoticed.
                Mta::Postfix(Postfix::start(&format!(
                    "smtpd_milters = inet:{}:{}\nmilter_default_action = tempfail\nmessage_size_limit = 50000000",
                    address.ip(),
                    address.port()
                )))
            }
            (Kind::Sendmail, socket) => Mta::Sendmail(Sendmail::start(socket)),
            (Kind::Postfix, socket) => panic!("not on TCP: {socket:?}"),
        };
        let smtp = mta.connect();
        Self { mta, _daemon: daemon, _nameserver: nameserver, smtp }
    }

    /// Begins a new SMTP session.
    pub(crate) fn reconnect(&mut self) {
        self.smtp = self.mta.connect();
    }

    /// Sends octets as they are but for dot-stuffing.
    pub(crate) fn offer(&mut self, message: &[u8]) -> Reply {
        for command in ["MAIL FROM:<a@bounces.example>", "RCPT TO:<bob@rcpt.example.org>"] {
            let reply = self.smtp.command(command).unwrap();
            assert_eq!(reply.code, 250, "{reply:?}");
        }
        assert_eq!(self.smtp.command("DATA").unwrap().code, 354);
        self.smtp.send(&stuffed(message)).unwrap();
        self.smtp.read_reply().unwrap()
    }

    /// Sends a message and waits for what comes out.
    pub(crate) fn pass(&mut self, message: &[u8]) -> Received {
        let reply = self.offer(message);
        self.received(&reply)
    }

    /// The message behind the MTA, where it was taken.
    pub(crate) fn received(&self, reply: &Reply) -> Received {
        match &self.mta {
            Mta::Postfix(postfix) => {
                let delivered = postfix.delivered(reply);
                Received { fields: delivered.fields, body: delivered.body }
            }
            Mta::Sendmail(sendmail) => {
                Received { fields: sendmail.queued(reply), body: sendmail.queued_body(reply) }
            }
        }
    }

    /// The client as the daemon saw it.
    pub(crate) fn client(&self) -> IpAddr {
        match self.mta {
            Mta::Postfix(_) => IpAddr::V4(POSTFIX_CLIENT.parse().unwrap()),
            Mta::Sendmail(_) => IpAddr::V4(SENDMAIL_CLIENT),
        }
    }
}

impl Received {
    /// The values of its Authentication-Results fields, unfolded.
    pub(crate) fn results(&self) -> Vec<String> {
        let fields = self.fields.iter().filter(|field| field.is("Authentication-Results"));
        fields.map(|field| field.unfolded().split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// The message as its next hop gets it.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.body.len() + self.body.len() / 32);
        let mut push = |text: &[u8]| {
            for line in text.split_inclusive(|octet| *octet == b'\n') {
                match line.strip_suffix(b"\n") {
                    Some(line) => octets.extend_from_slice(&[line, b"\r\n"].concat()),
                    None => octets.extend_from_slice(line),
                }
            }
        };
        for field in &self.fields {
            push(&[field.name.as_bytes(), b":", &field.value, b"\n"].concat());
        }
        push(b"\n");
        push(&self.body);
        octets
    }
}

/// A message as it is sent after DATA, with the final dot; nothing else is changed.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(message.len() + message.len() / 16 + 5);
    let mut at_start = true;
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if at_start && line.first() == Some(&b'.') {
            octets.push(b'.');
        }
        octets.extend_from_slice(line);
        at_start = line.ends_with(b"\r\n");
    }
    if !message.is_empty() && !at_start {
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b".\r\n");
    octets
}
