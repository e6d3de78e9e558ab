//! Scenarios through the milter protocol, over a socket.

use std::net::{IpAddr, SocketAddr};

use crate::{
    daemon::Daemon,
    milter_client::{Edit, Finished, MilterClient, Options, Reply},
    nameserver::NameServer,
    scenario::{Driver, Event, HOST, Observed, Scenario, complete_config, finish},
};
use spf_milter::dns::zone::Zone;

/// Plays scenarios as an MTA would: what the milter does not want, or does not answer, is not sent
/// or not waited for.
#[derive(Debug)]
pub struct MilterDriver {
    name: &'static str,
    options: Options,
    /// Configuration lines that the MTA needs.
    settings: &'static str,
}

impl MilterDriver {
    /// As Postfix: the last body chunk in the end-of-message packet.
    pub fn like_postfix() -> Self {
        Self { name: "milter", options: Options::default(), settings: "" }
    }

    /// As Sendmail: the body before the end of the message, macros of one letter in braces, IPv6
    /// addresses with a prefix.
    pub fn like_sendmail() -> Self {
        Self {
            name: "milter",
            options: Options {
                body_in_end: false,
                braces: true,
                ipv6_prefix: true,
                unknown_is_inet: false,
                ..Options::default()
            },
            settings: "",
        }
    }

    /// As milter-manager between the MTA and the milter: it offers all no-reply flags, for the MTA
    /// has them, and waits for an answer to each header field and every other packet all the same.
    pub fn like_milter_manager(settings: &'static str) -> Self {
        let options = Options { body_in_end: false, always_waits: true, ..Options::default() };
        Self { name: "milter", options, settings }
    }

    fn config(&self, lines: &str, nameserver: SocketAddr) -> String {
        complete_config(&format!("{lines}{}", self.settings), nameserver)
    }
}

/// The reply to the SMTP client, in the words of Postfix.
pub fn observed(reply: &Reply) -> Observed {
    match reply {
        Reply::Continue | Reply::Accept | Reply::Skip | Reply::Discard => Observed::ok(),
        Reply::Reject => Observed::refused("550 5.7.1 Command rejected"),
        Reply::Tempfail => Observed::refused("451 4.7.1 Service unavailable - try again later"),
        Reply::Code(text) => Observed::refused(text.clone()),
    }
}

impl Driver for MilterDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn play(&self, scenario: &Scenario) -> Result<(Vec<Observed>, Vec<String>), String> {
        let nameserver = NameServer::start(Zone::parse(&scenario.zone)?);
        let daemon = Daemon::start(&self.config(&scenario.config, nameserver.address()));
        let mut conversation = Conversation {
            daemon: &daemon,
            driver: self,
            nameserver: nameserver.address(),
            client: None,
        };
        let log = || daemon.log().lines().join("\n");
        let seen = scenario.play(|event| conversation.play(event), log)?;
        if let Some(client) = conversation.client.take() {
            client.quit().map_err(|error| error.to_string())?;
        }
        Ok((seen, finish(daemon)?))
    }
}

struct Conversation<'a> {
    daemon: &'a Daemon,
    driver: &'a MilterDriver,
    nameserver: SocketAddr,
    client: Option<MilterClient>,
}

impl Conversation<'_> {
    fn play(&mut self, event: &Event) -> std::io::Result<Observed> {
        if let Event::Connect { client: address, host } = event {
            if let Some(client) = self.client.take() {
                client.quit()?;
            }
            let mut client =
                MilterClient::with_options(&self.daemon.sockets[0], self.driver.options.clone())?;
            client.macros.insert("j".into(), HOST.into());
            client.macros.insert("daemon_name".into(), HOST.into());
            let reply = client
                .connect(host, address.map(|address: IpAddr| SocketAddr::new(address, 40025)))?;
            self.client = Some(client);
            return Ok(observed(&reply));
        }
        if let Event::Reload(config) = event {
            let config = self.driver.config(config, self.nameserver);
            return Ok(Observed::reload(self.daemon.reload(&config)));
        }
        let Some(client) = &mut self.client else {
            return Err(std::io::Error::other("not connected"));
        };
        let reply = match event {
            Event::Helo(name) => client.helo(name)?,
            Event::Auth(user) => {
                client.macros.insert("auth_authen".into(), user.clone());
                client.macros.insert("auth_type".into(), "PLAIN".into());
                Reply::Continue
            }
            Event::Mail(path) => client.mail(path)?,
            Event::Rcpt(path) => {
                client.macros.insert("i".into(), "4Q1A2B3C4D".into());
                client.rcpt(path)?
            }
            Event::Message { fields, body } => {
                let Finished { reply, fields, edits } =
                    client.message(fields, body.replace('\n', "\r\n").as_bytes())?;
                let mut observed = observed(&reply);
                if observed.reply == "ok" {
                    observed.fields = Some(fields);
                    if edits.iter().any(|edit| matches!(edit, Edit::Quarantine(_))) {
                        observed.reply = "quarantine".into();
                    }
                }
                client.macros.remove("i");
                return Ok(observed);
            }
            Event::Rset => {
                client.abort()?;
                Reply::Continue
            }
            Event::Connect { .. } | Event::Reload(_) => Reply::Continue,
        };
        Ok(observed(&reply))
    }
}
