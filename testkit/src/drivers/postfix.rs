//! Scenarios through a real Postfix.

use std::io;

use crate::{
    daemon::Daemon,
    nameserver::NameServer,
    postfix::{LOCAL_DOMAIN, Postfix},
    scenario::{Driver, Event, Observed, Scenario, complete_config, finish, message_text},
    scratch::Scratch,
    smtp::{Reply, SmtpClient},
};
use spf_milter::dns::zone::Zone;

/// One Postfix for all scenarios; each has a daemon of its own on the same socket.
#[derive(Debug)]
pub struct PostfixDriver {
    postfix: Postfix,
    folder: Scratch,
}

impl PostfixDriver {
    /// Starts Postfix.
    pub fn start() -> Self {
        let folder = Scratch::new("milter");
        let socket = folder.join("milter.sock");
        let postfix = Postfix::start(&format!(
            "smtpd_milters = unix:{}\nmilter_default_action = tempfail",
            socket.display()
        ));
        Self { postfix, folder }
    }

    fn step(&self, smtp: &mut Option<SmtpClient>, event: &Event) -> io::Result<Observed> {
        if let Event::Connect { client, host } = event {
            if let Some(mut smtp) = smtp.take() {
                smtp.command("QUIT")?;
            }
            let host = (host != "unknown").then_some(host.as_str());
            let client = self.postfix.connect(*client, host);
            let observed = observed(&client.greeting);
            *smtp = Some(client);
            return Ok(observed);
        }
        let Some(smtp) = smtp else { return Err(io::Error::other("not connected")) };
        let reply = match event {
            Event::Helo(name) => {
                let reply = smtp.command([b"EHLO ", name.as_slice()].concat())?;
                // Postfix keeps a milter's refusal of EHLO for the commands that follow.
                if reply.is_ok() {
                    smtp.command(format!("VRFY probe@{LOCAL_DOMAIN}"))?
                } else {
                    reply
                }
            }
            Event::Auth(user) => {
                // After this, Postfix begins its session anew.
                let reply = smtp.command(format!("XCLIENT LOGIN={user}"))?;
                if reply.is_ok() { smtp.command("EHLO [192.0.2.9]")? } else { reply }
            }
            Event::Mail(path) => smtp.command([b"MAIL FROM:", path.as_slice()].concat())?,
            Event::Rcpt(path) => smtp.command([b"RCPT TO:", path.as_slice()].concat())?,
            Event::Rset => smtp.command("RSET")?,
            Event::Message { fields, body } => {
                let reply = smtp.data(&message_text(fields, body))?;
                let mut observed = observed(&reply);
                if reply.is_ok() {
                    let (delivered, is_held) = self.postfix.delivered_or_held(&reply);
                    observed.fields = Some(delivered.fields);
                    if is_held {
                        observed.reply = "quarantine".into();
                    }
                }
                return Ok(observed);
            }
            Event::Connect { .. } | Event::Reload(_) => unreachable!("played elsewhere"),
        };
        Ok(observed(&reply))
    }
}

fn observed(reply: &Reply) -> Observed {
    if reply.is_ok() { Observed::ok() } else { Observed::refused(reply.last()) }
}

impl Driver for PostfixDriver {
    fn name(&self) -> &'static str {
        "postfix"
    }

    fn play(&self, scenario: &Scenario) -> Result<(Vec<Observed>, Vec<String>), String> {
        let nameserver = NameServer::start(Zone::parse(&scenario.zone)?);
        let config = |lines: &str| {
            let socket = format!(
                "socket = unix:{}\nsocket_mode = 0666\n",
                self.folder.join("milter.sock").display()
            );
            socket + &complete_config(lines, nameserver.address())
        };
        let daemon = Daemon::start(&config(&scenario.config));
        let mut smtp = None;
        let play = |event: &Event| match event {
            Event::Reload(lines) => Ok(Observed::reload(daemon.reload(&config(lines)))),
            event => self.step(&mut smtp, event),
        };
        let log = || format!("{}\n{}", daemon.log().lines().join("\n"), self.postfix.log());
        let seen = scenario.play(play, log)?;
        if let Some(mut smtp) = smtp {
            smtp.command("QUIT").map_err(|error| error.to_string())?;
        }
        Ok((seen, finish(daemon)?))
    }
}
