//! What the metrics socket shows: the facts that the parts of the daemon have.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::slots::Slots;
use crate::{
    config::SocketSpec,
    dns::ServerState,
    http::{self, Health, Page},
    log::RateLimit,
    observe::{
        Observer,
        status::{
            Configuration, Connections, Dns, FailedReload, NameServer, STYLE_HASH, Shown, Status,
            spell_time,
        },
    },
    runtime::Shared,
    workers::Worker,
};

/// How long a thread that serves connections may take to turn to something new.
const TURN_LIMIT: Duration = Duration::from_secs(1);

/// Name servers that were silent lately answer no look-up; before that, it is not known whether they
/// would.
const LATELY: Duration = Duration::from_secs(60);

/// How often it is logged that a page cannot be written.
pub(super) const UNWRITTEN_INTERVAL: Duration = Duration::from_secs(60);

/// The outcome of loading configurations.
#[derive(Debug)]
pub(super) struct Loads(Mutex<LastLoads>);

#[derive(Clone, Debug)]
struct LastLoads {
    /// When the configuration in force was loaded.
    loaded: SystemTime,
    /// When a later one failed, and why.
    failed: Option<(SystemTime, String)>,
}

impl Loads {
    /// The configuration in force was loaded now.
    pub(super) fn new() -> Self {
        Self(Mutex::new(LastLoads { loaded: SystemTime::now(), failed: None }))
    }

    /// Notes that one was put in force.
    pub(super) fn succeeded(&self) {
        *self.lock() = LastLoads { loaded: SystemTime::now(), failed: None };
    }

    /// Notes that the one in force stays, with the first reason.
    pub(super) fn failed(&self, reason: &str) {
        self.lock().failed = Some((SystemTime::now(), reason.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, LastLoads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of the daemon that have something to show.
pub(super) struct Site {
    pub(super) begun: Instant,
    pub(super) started: SystemTime,
    pub(super) file: PathBuf,
    pub(super) sockets: Vec<String>,
    pub(super) observer: Observer,
    pub(super) shared: Shared,
    pub(super) slots: Arc<Slots>,
    pub(super) loads: Arc<Loads>,
    pub(super) workers: Vec<Worker>,
    /// Limits how often it is logged that a page cannot be written.
    pub(super) unwritten: RateLimit,
}

impl http::Site for Site {
    const STYLE: &'static str = STYLE_HASH;

    fn page(&self, page: Page) -> Result<String, String> {
        let written = match page {
            Page::Metrics => self.observer.metrics_text(),
            Page::Status => Ok(self.status().to_html()),
            Page::StatusJson => self.status().to_json(),
        };
        written.inspect_err(|problem| {
            if self.unwritten.allow() {
                self.observer.problem(problem);
            }
        })
    }

    fn is_own_name(&self, name: &str) -> bool {
        let runtime = self.shared.load();
        let listens = match &runtime.config.metrics_socket {
            Some(SocketSpec::Inet { host, .. } | SocketSpec::Inet6 { host, .. }) => Some(host),
            _ => None,
        };
        [runtime.host_name(None), &runtime.fallback_host]
            .into_iter()
            .chain(listens.map(String::as_str))
            .any(|own| own.eq_ignore_ascii_case(name))
    }

    async fn is_healthy(&self) -> Health {
        if self.slots.has_failed_lately() {
            return Err("connections cannot be accepted".into());
        }
        let answers = join_all(self.workers.iter().map(Worker::answers));
        match timeout(TURN_LIMIT, answers).await {
            Ok(answers) if answers.iter().all(|answers| *answers) => Ok(()),
            Ok(_) => Err("a thread has ended".into()),
            Err(_) => Err("a thread is stuck".into()),
        }
    }

    async fn is_ready(&self) -> Health {
        self.is_healthy().await?;
        let servers = self.shared.load().dns.server_states();
        if !servers.is_empty() && servers.iter().all(is_silent) {
            return Err("no name server answers".into());
        }
        Ok(())
    }
}

/// Whether a server was asked lately and did not answer, to that or to anything else.
fn is_silent(state: &ServerState) -> bool {
    state.silent.is_some_and(|ago| ago <= LATELY) && state.answered.is_none_or(|ago| ago > LATELY)
}

impl Site {
    fn status(&self) -> Status {
        let runtime = self.shared.load();
        let loads = self.loads.lock().clone();
        let statistics = runtime.dns.statistics();
        let (status_refusals, refusals) = self.observer.refusals();
        let servers = runtime.dns.server_states();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            time: spell_time(SystemTime::now()),
            started: spell_time(self.started),
            uptime_secs: self.begun.elapsed().as_secs(),
            warnings: Vec::new(),
            configuration: Configuration {
                file: self.file.display().to_string().into(),
                generation: runtime.generation,
                loaded: spell_time(loads.loaded),
                dry_run: runtime.config.dry_run,
                failed: loads.failed.map(|(time, error)| FailedReload {
                    time: spell_time(time),
                    error: error.into(),
                }),
            },
            sockets: self.sockets.iter().map(|name| Shown::from(name.as_str())).collect(),
            connections: Connections { served: self.slots.count(), limit: self.slots.limit() },
            dns: Dns {
                servers: servers.into_iter().map(name_server).collect(),
                hits: statistics.hits,
                misses: statistics.misses,
                queries: statistics.queries,
                timeouts: statistics.timeouts,
                errors: statistics.errors,
            },
            messages: self.observer.today().messages(),
            status_refusals,
            refusals,
        }
        .with_warnings()
    }
}

fn name_server(state: ServerState) -> NameServer {
    let ServerState { server, answered, silent } = state;
    NameServer {
        address: server.to_string().into(),
        answers: if silent.is_some() { Some(false) } else { answered.map(|_| true) },
        answered_secs: answered.map(|ago| ago.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Server;

    #[test]
    fn servers_are_silent_if_nothing_was_heard_lately() {
        let of = |answered: Option<u64>, silent: Option<u64>| ServerState {
            server: Server(([127, 0, 0, 1], 53).into()),
            answered: answered.map(Duration::from_secs),
            silent: silent.map(Duration::from_secs),
        };
        for (answered, silent, expected) in [
            (None, None, false),
            (Some(0), None, false),
            (Some(1000), None, false),
            (None, Some(60), true),
            (None, Some(61), false),
            (Some(60), Some(0), false),
            (Some(61), Some(0), true),
            (Some(1000), Some(61), false),
        ] {
            assert_eq!(is_silent(&of(answered, silent)), expected, "{answered:?} {silent:?}");
        }
    }
}
