//! Reports to the service manager: the state, a line about the work, and that no thread is stuck.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::slots::Slots;
use crate::{log::Log, observe::Observer, runtime::Shared, systemd, workers::Worker};

/// How often the line about the work is sent again, where it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// How many keep-alives the service manager gets in the time after which it takes the daemon for
/// stuck.
const KEEP_ALIVES: u32 = 3;

/// The state of the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Serving,
    Reloading,
    Stopping,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Reloading => "reloading",
            Self::Stopping => "stopping",
        }
    }
}

/// What the service manager was sent last.
#[derive(Debug)]
struct Sent {
    state: State,
    status: String,
}

/// Reports to the service manager.
#[derive(Debug)]
pub(super) struct Reporter {
    log: Log,
    shared: Shared,
    observer: Observer,
    slots: Arc<Slots>,
    reload_failed: AtomicBool,
    sent: Mutex<Sent>,
}

impl Reporter {
    pub(super) fn new(log: Log, shared: Shared, observer: Observer, slots: Arc<Slots>) -> Self {
        let sent = Mutex::new(Sent { state: State::Serving, status: String::new() });
        Self { log, shared, observer, slots, reload_failed: AtomicBool::new(false), sent }
    }

    /// The daemon serves.
    pub(super) fn ready(&self) {
        systemd::ready(&self.enter(State::Serving).status);
    }

    /// The configuration is being loaded again. [`Reporter::reloaded`] or [`Reporter::ready`] follows.
    pub(super) fn reloading(&self) {
        systemd::reloading(&self.enter(State::Reloading).status);
    }

    /// A reload is over: whether it put a configuration in force.
    pub(super) fn reloaded(&self, success: bool) {
        self.reload_failed.store(!success, Ordering::Relaxed);
        self.ready();
    }

    /// The daemon ends, within `limit`.
    pub(super) fn stopping(&self, limit: Duration) {
        systemd::stopping(&self.enter(State::Stopping).status, limit);
    }

    /// Reports changes from time to time, and that the threads turn as long as they do.
    pub(super) async fn report(self: Arc<Self>, workers: Vec<Worker>) {
        if systemd::takes_notifications() {
            tokio::join!(self.report_changes(), async {
                if let Some(limit) = systemd::watchdog() {
                    self.keep_alive(&workers, limit / KEEP_ALIVES).await;
                }
            });
        }
    }

    async fn report_changes(&self) {
        loop {
            sleep(STATUS_INTERVAL).await;
            if let Some(status) = self.change() {
                systemd::status(&status);
            }
        }
    }

    /// Sends keep-alives while each thread answers. The thread that runs this is watched as well: a
    /// service manager that hears nothing takes the daemon for stuck.
    async fn keep_alive(&self, workers: &[Worker], interval: Duration) {
        loop {
            let mut answers = std::pin::pin!(join_all(workers.iter().map(Worker::answers)));
            let answered = match timeout(interval, &mut answers).await {
                Ok(answered) => answered,
                Err(_) => {
                    self.log.error(|| {
                        format!("a thread that serves connections has not answered for {interval:?}, the service manager gets no keep-alive until it does")
                    });
                    answers.await
                }
            };
            if answered.contains(&false) {
                self.log.error(|| {
                    "a thread that serves connections has ended, the service manager gets no more keep-alives".into()
                });
                return;
            }
            systemd::keep_alive();
            sleep(interval).await;
        }
    }

    /// The line about the work, where it is another than the last one.
    fn change(&self) -> Option<String> {
        let mut sent = self.sent();
        let status = self.status(sent.state);
        (status != sent.status).then(|| {
            sent.status.clone_from(&status);
            status
        })
    }

    /// Enters a state; what is to be sent.
    fn enter(&self, state: State) -> MutexGuard<'_, Sent> {
        let mut sent = self.sent();
        *sent = Sent { state, status: self.status(state) };
        sent
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, state: State) -> String {
        let failed = if self.reload_failed.load(Ordering::Relaxed) {
            " (a reload failed, see the log)"
        } else {
            ""
        };
        format!(
            "{}: connections {}, messages {}, refusals {}, configuration {}{failed}",
            state.as_str(),
            self.slots.count(),
            self.observer.messages(),
            self.observer.refusals(),
            self.shared.load().generation,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{LogLevel, Overrides, load_text},
        dns::{Dns, zone::Zone},
        runtime::Runtime,
        session::Record,
    };

    fn reporter() -> Reporter {
        let log = Log::keep(LogLevel::Error);
        let text = b"socket = fd:\n";
        let loaded = load_text(text, "c".as_ref(), &Overrides::default()).unwrap();
        let dns = Dns::from_zone(Arc::new(Zone::parse("").unwrap()));
        let shared = Shared::new(Runtime::new(loaded.config, dns, "h".into(), 3));
        Reporter::new(log.clone(), shared, Observer::new(log), Arc::new(Slots::new(9)))
    }

    #[test]
    fn the_status_has_the_work_and_a_reload_that_failed() {
        let reporter = reporter();
        reporter.ready();
        let status = "serving: connections 0, messages 0, refusals 0, configuration 3";
        assert_eq!(reporter.sent().status, status);
        assert_eq!(reporter.change(), None);
        reporter.observer.observe(&Record { complete: true, ..Record::default() });
        let refused = Record { has_too_many_forged: true, ..Record::default() };
        reporter.observer.observe(&refused);
        reporter.observer.observe(&Record { dry_run: true, ..refused });
        let changed = "serving: connections 0, messages 1, refusals 1, configuration 3";
        assert_eq!(reporter.change().as_deref(), Some(changed));
        assert_eq!(reporter.change(), None);
        reporter.reloading();
        assert!(reporter.sent().status.starts_with("reloading: "));
        reporter.reloaded(false);
        let failed = format!("{changed} (a reload failed, see the log)");
        assert_eq!(reporter.sent().status, failed);
        reporter.reloading();
        // One that was broken off has not succeeded.
        reporter.ready();
        assert_eq!(reporter.sent().status, failed);
        reporter.reloaded(true);
        assert_eq!(reporter.sent().status, changed);
        reporter.stopping(Duration::ZERO);
        assert!(reporter.sent().status.starts_with("stopping: "));
    }
}
