//! The name servers: how they are asked, and what the log has of them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    config::Config,
    dns::{Event, Server, Settings},
    log::{Log, RateLimit},
};

/// A resolver's configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How often it is told that servers do not answer.
const SILENCE_INTERVAL: Duration = Duration::from_secs(60);

/// What a configuration says of DNS.
pub(super) fn settings(config: &Config, max_queries: usize) -> Settings {
    Settings {
        nameservers: config.nameservers.clone(),
        resolv_conf: RESOLV_CONF.into(),
        timeout: Duration::from_secs(config.dns_timeout_secs),
        attempts: config.dns_attempts,
        cache_size: config.dns_cache_size,
        max_queries,
    }
}

/// Events that are kept until the daemon has started; the start makes three at most.
const MAX_HELD: usize = 16;

/// Writes events to the log, once the daemon has told that it started.
#[derive(Debug)]
pub(super) struct Teller {
    log: Log,
    /// Those from before the start was told.
    held: Mutex<Option<Vec<Event>>>,
    /// Silence of some servers and silence of all, each told by itself.
    some_silent: RateLimit,
    all_silent: RateLimit,
}

impl Teller {
    pub(super) fn new(log: Log) -> Arc<Self> {
        let complaint = || RateLimit::new(SILENCE_INTERVAL);
        Arc::new(Self {
            log,
            held: Mutex::new(Some(Vec::new())),
            some_silent: complaint(),
            all_silent: complaint(),
        })
    }

    /// Takes an event.
    pub(super) fn tell(&self, event: &Event) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) if held.len() < MAX_HELD => held.push(event.clone()),
            Some(_) => {}
            None => self.write(event),
        }
    }

    /// Writes what there is, and what comes from now on at once.
    pub(super) fn begin(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        for event in held.iter().flatten() {
            self.write(event);
        }
    }

    fn write(&self, event: &Event) {
        let log = &self.log;
        match event {
            Event::Servers { file: None, servers } => {
                log.info(|| format!("{} asked, by nameservers", are(servers)))
            }
            Event::Servers { file: Some(file), servers } => {
                log.info(|| format!("{} asked, by {}", are(servers), file.display()));
            }
            Event::NoServers { file, reason, servers } => {
                log.warn(|| {
                    format!(
                        "{} names no name server ({reason}), {} asked",
                        file.display(),
                        are(servers)
                    )
                });
            }
            Event::BadLines { file, number, text } => {
                log.warn(|| {
                    format!(
                        "{}:{number}: '{}' is not an address of a name server",
                        file.display(),
                        text.escape_debug()
                    )
                });
            }
            Event::Hangs { file } => {
                log.warn(|| {
                    format!(
                        "{} cannot be read, changes of the name servers are not seen",
                        file.display()
                    )
                });
            }
            Event::Silent { servers, is_answered, failure, record_type, name } => {
                let complaint = if *is_answered { &self.some_silent } else { &self.all_silent };
                if complaint.allow() {
                    let what = if servers.len() == 1 { "does not answer" } else { "do not answer" };
                    let question = format!("{record_type} {}: {failure}", name.escape_debug());
                    log.warn(|| format!("{} {what}: {question}", named(servers)));
                }
            }
        }
    }
}

/// `name server 192.0.2.1` or `name servers 192.0.2.1, 192.0.2.2`.
fn named(servers: &[SocketAddr]) -> String {
    format!("name server{} {}", if servers.len() == 1 { "" } else { "s" }, Server::list(servers))
}

/// The same with the verb behind it.
fn are(servers: &[SocketAddr]) -> String {
    format!("{} {}", named(servers), if servers.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::LogLevel,
        dns::{Failure, RecordType},
    };

    fn servers(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|number| SocketAddr::from(([192, 0, 2, number], 53))).collect()
    }

    #[test]
    fn events_in_words() {
        let log = Log::keep(LogLevel::Info);
        let teller = Teller::new(log.clone());
        let tell = |event: &Event| teller.tell(event);
        let file = || "/etc/resolv.conf".into();
        tell(&Event::Servers { file: None, servers: servers(1) });
        tell(&Event::Servers { file: Some(file()), servers: servers(2) });
        tell(&Event::NoServers {
            file: file(),
            reason: "No such file or directory".into(),
            servers: servers(1),
        });
        tell(&Event::BadLines { file: file(), number: 3, text: "foo\n".into() });
        assert!(log.take_kept().is_empty());
        teller.begin();
        tell(&Event::Hangs { file: file() });
        assert_eq!(
            log.take_kept(),
            [
                "name server 192.0.2.1 is asked, by nameservers",
                "name servers 192.0.2.1, 192.0.2.2 are asked, by /etc/resolv.conf",
                "/etc/resolv.conf names no name server (No such file or directory), name server 192.0.2.1 is asked",
                "/etc/resolv.conf:3: 'foo\\n' is not an address of a name server",
                "/etc/resolv.conf cannot be read, changes of the name servers are not seen",
            ]
        );
    }

    #[test]
    fn silence_is_told_once_a_minute() {
        let log = Log::keep(LogLevel::Warn);
        let teller = Teller::new(log.clone());
        teller.begin();
        let tell = |event: &Event| teller.tell(event);
        let silent = |count, is_answered, name: &str| Event::Silent {
            servers: servers(count),
            is_answered,
            failure: Failure::Timeout,
            record_type: RecordType::Txt,
            name: name.into(),
        };
        for _ in 0..3 {
            tell(&silent(1, true, "a.example"));
            tell(&silent(2, false, "b\n.example"));
        }
        assert_eq!(
            log.take_kept(),
            [
                "name server 192.0.2.1 does not answer: TXT a.example: timeout",
                "name servers 192.0.2.1, 192.0.2.2 do not answer: TXT b\\n.example: timeout",
            ]
        );
    }
}
