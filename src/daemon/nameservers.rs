//! The name servers in the log.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    dns::{Event, Server},
    log::{Log, RateLimit},
};

/// How often it is logged that servers do not answer.
const SILENCE_INTERVAL: Duration = Duration::from_secs(60);

/// Events that are kept until the daemon has started; the start makes three at most.
const MAX_HELD: usize = 16;

/// Logs events, from the moment on at which the log has the start of the daemon.
#[derive(Debug)]
pub(super) struct NameServerLog {
    state: Mutex<State>,
    /// Silence of some servers and silence of all, each limited by itself.
    some_silent: RateLimit,
    all_silent: RateLimit,
}

#[derive(Debug)]
enum State {
    /// Events from before the start was logged.
    Held(Vec<Event>),
    Open(Log),
}

impl NameServerLog {
    pub(super) fn new() -> Arc<Self> {
        let limit = || RateLimit::new(SILENCE_INTERVAL);
        Arc::new(Self {
            state: Mutex::new(State::Held(Vec::new())),
            some_silent: limit(),
            all_silent: limit(),
        })
    }

    /// Logs an event, or holds it until there is a log.
    pub(super) fn record(&self, event: &Event) {
        match &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Held(held) if held.len() < MAX_HELD => held.push(event.clone()),
            State::Held(_) => {}
            State::Open(log) => self.write(event, log),
        }
    }

    /// Logs the events held, and from now on each as it comes.
    pub(super) fn open(&self, log: Log) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Held(held) = &*state {
            held.iter().for_each(|event| self.write(event, &log));
        }
        *state = State::Open(log);
    }

    fn write(&self, event: &Event, log: &Log) {
        match event {
            Event::Servers { file, servers } => {
                let file = file.as_ref().map(|file| file.display().to_string());
                let source = file.as_deref().unwrap_or("nameservers");
                log.info(|| format!("{} asked, by {source}", are(servers)));
            }
            Event::NoServers { file, reason, servers } => {
                let (file, are) = (file.display(), are(servers));
                log.warn(|| format!("{file} names no name server ({reason}), {are} asked"));
            }
            Event::BadLines { file, number, text } => {
                let (file, text) = (file.display(), text.escape_debug());
                log.warn(|| {
                    format!("{file}:{number}: '{text}' is not an address of a name server")
                });
            }
            Event::Hangs { file } => {
                let file = file.display();
                log.warn(|| {
                    format!("{file} cannot be read, changes of the name servers are not seen")
                });
            }
            Event::Silent { servers, is_answered, failure, record_type, name } => {
                let limit = if *is_answered { &self.some_silent } else { &self.all_silent };
                if limit.allow() {
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
        let events = NameServerLog::new();
        let record = |event: &Event| events.record(event);
        let file = || "/etc/resolv.conf".into();
        record(&Event::Servers { file: None, servers: servers(1) });
        record(&Event::Servers { file: Some(file()), servers: servers(2) });
        record(&Event::NoServers {
            file: file(),
            reason: "No such file or directory".into(),
            servers: servers(1),
        });
        record(&Event::BadLines { file: file(), number: 3, text: "foo\n".into() });
        assert!(log.take_kept().is_empty());
        events.open(log.clone());
        record(&Event::Hangs { file: file() });
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
    fn silence_is_logged_once_a_minute() {
        let log = Log::keep(LogLevel::Warn);
        let events = NameServerLog::new();
        events.open(log.clone());
        let record = |event: &Event| events.record(event);
        let silent = |count, is_answered, name: &str| Event::Silent {
            servers: servers(count),
            is_answered,
            failure: Failure::Timeout,
            record_type: RecordType::Txt,
            name: name.into(),
        };
        for _ in 0..3 {
            record(&silent(1, true, "a.example"));
            record(&silent(2, false, "b\n.example"));
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
