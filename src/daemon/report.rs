//! Reports to the service manager: the state, a line about the work, and that no thread is stuck.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::slots::Slots;
use crate::{
    internal_error::keep_on,
    log::Log,
    observe::Observer,
    runtime::Shared,
    systemd::{self, Delivery},
    workers::Worker,
};

/// How often the line about the work is sent again, where it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// When a notification is sent again that the service manager had no room for.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How many keep-alives the service manager gets in the time after which it takes the daemon for
/// stuck.
const KEEP_ALIVES: u32 = 3;

/// The state of the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Serving,
    Reloading,
    /// It takes no longer than this.
    Stopping(Duration),
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Reloading => "reloading",
            Self::Stopping(_) => "stopping",
        }
    }

    fn notify(self, status: &str) -> Delivery {
        match self {
            Self::Serving => systemd::ready(status),
            Self::Reloading => systemd::reloading(status),
            Self::Stopping(limit) => systemd::stopping(status, limit),
        }
    }
}

/// The last notification.
#[derive(Debug)]
struct Sent {
    state: State,
    status: String,
    delivery: Delivery,
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
    /// A state has not been delivered.
    undelivered: Notify,
}

impl Reporter {
    pub(super) fn new(log: Log, shared: Shared, observer: Observer, slots: Arc<Slots>) -> Self {
        let (state, status) = (State::Serving, String::new());
        let sent = Mutex::new(Sent { state, status, delivery: Delivery::Done });
        let reload_failed = AtomicBool::new(false);
        Self { log, shared, observer, slots, reload_failed, sent, undelivered: Notify::new() }
    }

    /// The daemon serves.
    pub(super) fn ready(&self) {
        self.enter(State::Serving);
    }

    /// The configuration is being loaded again. [`Reporter::reloaded`] or [`Reporter::ready`] follows.
    pub(super) fn reloading(&self) {
        self.enter(State::Reloading);
    }

    /// A reload is over: whether it put a configuration in force.
    pub(super) fn reloaded(&self, success: bool) {
        self.reload_failed.store(!success, Ordering::Relaxed);
        self.ready();
    }

    /// The daemon ends, within `limit`.
    pub(super) fn stopping(&self, limit: Duration) {
        self.enter(State::Stopping(limit));
    }

    /// Reports changes from time to time, and that the threads turn as long as they do.
    pub(super) async fn report(self: Arc<Self>, workers: Vec<Worker>) {
        if systemd::takes_notifications() {
            tokio::join!(keep_on(|| self.report_changes()), async {
                if let Some(limit) = systemd::watchdog() {
                    self.keep_alive(&workers, limit / KEEP_ALIVES).await;
                }
            });
        }
    }

    async fn report_changes(&self) -> Infallible {
        loop {
            let pause = match self.sent().delivery {
                Delivery::Done => STATUS_INTERVAL,
                Delivery::Later => RETRY_INTERVAL,
            };
            tokio::select! {
                () = sleep(pause) => self.renew(),
                () = self.undelivered.notified() => {}
            }
        }
    }

    /// Sends the state again if it was not delivered, otherwise the line about the work if it is
    /// another than the last one.
    fn renew(&self) {
        let state = self.sent().state;
        if self.sent().delivery == Delivery::Later {
            self.enter(state);
        } else {
            let status = self.status(state);
            // The next one has it, too.
            if self.sent().status != status && systemd::status(&status) == Delivery::Done {
                self.sent().status = status;
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
            // Where there is no room for it, the next one will do.
            let _ = systemd::keep_alive();
            sleep(interval).await;
        }
    }

    fn enter(&self, state: State) {
        let status = self.status(state);
        let delivery = state.notify(&status);
        *self.sent() = Sent { state, status, delivery };
        if delivery == Delivery::Later {
            self.undelivered.notify_one();
        }
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
            self.observer.metrics().messages(),
            self.observer.metrics().refusals(),
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
        session::{Record, Told},
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
        reporter.renew();
        assert_eq!(reporter.sent().status, status);
        reporter.observer.observe(&Record { complete: true, ..Record::default() });
        let told = Told::Reply("550".parse().unwrap());
        let refused = Record { has_too_many_forged: true, told, ..Record::default() };
        reporter.observer.observe(&refused);
        reporter.observer.observe(&Record { dry_run: true, told: Told::GoOn, ..refused });
        let changed = "serving: connections 0, messages 1, refusals 1, configuration 3";
        reporter.renew();
        assert_eq!(reporter.sent().status, changed);
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
