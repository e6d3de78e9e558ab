//! The daemon: listens, reloads, drains.

mod accept;
mod descriptors;
mod nameservers;
mod panics;
mod reload;
mod report;
mod signals;
mod site;
mod slots;

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use tokio::{
    runtime::Runtime as Tokio,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use accept::{Acceptor, Source};
use descriptors::Descriptors;
use nameservers::NameServerLog;
use panics::log_panics;
use reload::{Files, Reloader, log_target, wait_for};
use report::Reporter;
use signals::{Signal, Signals};
use site::{Loads, Site, UNWRITTEN_INTERVAL};
use slots::Slots;

use crate::{
    config::{Errors, Loaded, Overrides},
    dns::Dns,
    http::{self, Http},
    internal_error::keep_on,
    listen::{Access, Listener, ListeningSocket, SocketFile, Sockets, listen},
    log::{Log, RateLimit},
    milter::{Server, write_gathered},
    observe::{Observer, Reading},
    runtime::{Runtime, Shared},
    workers::{Worker, Workers},
};

/// How long messages under way may take when the daemon is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long the log may take to be written at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How long it may take to record sessions that are cut off.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A process that takes its signals, and is not yet a daemon.
pub(crate) struct Process {
    /// A signal to stop came before it could listen to signals.
    stopped: Arc<AtomicBool>,
    runtime: Tokio,
    signals: Signals,
}

/// Why there is no daemon.
pub(crate) enum Failure {
    /// The configuration cannot be used.
    Configuration(Errors),
    /// Something else keeps it from starting.
    Start(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Start(error)
    }
}

impl Process {
    /// Takes the signals, which comes before anything else: one that comes early must not end the
    /// process.
    ///
    /// # Errors
    ///
    /// The system refuses the signals or a runtime.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let stopped = signals::hold().context("cannot keep signals")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let signals =
            runtime.block_on(async { Signals::take() }).context("cannot listen to signals")?;
        Ok(Self { stopped, runtime, signals })
    }

    /// Gives the signals back: a command that is not a daemon ends by them.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn release_signals(self) -> anyhow::Result<()> {
        signals::release().context("cannot give signals back")
    }

    /// Runs the daemon until a signal stops it.
    ///
    /// # Errors
    ///
    /// The cause why it cannot start.
    pub(crate) fn run_daemon(self, path: &Path, overrides: Overrides) -> Result<(), Failure> {
        let Self { stopped, runtime, mut signals } = self;
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let descriptors = Descriptors::raise_limit();
        let files = Files::new(path, overrides, descriptors.queries());
        let result = runtime.block_on(async {
            let mut opening = spawn_blocking({
                let files = files.clone();
                move || Opened::open(&files)
            });
            let Some((opened, again)) = wait_for(&mut opening, &mut signals).await else {
                // Socket files that were made meanwhile are removed with what is dropped here.
                drop(timeout(CLOSE_LIMIT, opening).await);
                return Ok(());
            };
            let opened = opened.context("cannot read the configuration")??;
            Daemon::start(files, opened, descriptors)?.run(signals, again).await;
            Ok(())
        });
        // A file that cannot be read to its end must not keep the process from ending.
        runtime.shutdown_background();
        result
    }
}

/// All that the start waits for: files, locks, and names of hosts that are looked up.
struct Opened {
    loaded: Loaded,
    sockets: Sockets,
    dns: Dns,
    events: Arc<NameServerLog>,
}

impl Opened {
    /// Reads the configuration, opens the sockets, reads the file of name servers; not for the
    /// thread that waits for signals.
    fn open(files: &Files) -> Result<Self, Failure> {
        let loaded = files.load().map_err(Failure::Configuration)?;
        let config = &loaded.config;
        let access = Access {
            mode: config.socket_mode.as_ref().map(|mode| mode.0),
            group: config.socket_group.clone(),
        };
        let sockets = listen(&config.socket, config.metrics_socket.as_ref(), &access)?;
        let events = NameServerLog::new();
        let listener = Arc::clone(&events);
        let dns =
            Dns::with_listener(&files.dns_settings(config), move |event| listener.record(event));
        Ok(Self { loaded, sockets, dns, events })
    }
}

/// The daemon.
struct Daemon {
    started: Instant,
    log: Log,
    observer: Observer,
    slots: Arc<Slots>,
    server: Arc<Server>,
    workers: Workers,
    reloader: Reloader,
    reporter: Arc<Reporter>,
    events: Arc<NameServerLog>,
    draining: watch::Sender<bool>,
    /// For each socket and thread something to accept connections from.
    sources: Vec<(Source, String, Worker)>,
    names: Vec<String>,
    /// The names of the sockets of monitoring, and the thread that serves them, if there are any.
    metrics_names: Vec<String>,
    http: Option<Http>,
    socket_files: Vec<SocketFile>,
}

impl Daemon {
    fn start(files: Files, opened: Opened, descriptors: Descriptors) -> anyhow::Result<Self> {
        let Opened { loaded: Loaded { config, warnings, .. }, sockets, dns, events } = opened;
        let Sockets { milter, metrics, notes } = sockets;
        let workers = Workers::start().context("cannot start threads")?;
        for worker in workers.iter() {
            worker.runtime().spawn(write_gathered());
        }
        let (mut sources, mut socket_files, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for ListeningSocket { listener, name, file } in milter {
            socket_files.extend(file);
            for worker in workers.iter() {
                let source = Source::new(&listener, worker)
                    .with_context(|| format!("cannot accept connections on {name}"))?;
                sources.push((source, name.clone(), worker.clone()));
            }
            names.push(name);
        }
        let (mut metrics_sockets, mut metrics_names) = (Vec::new(), Vec::new());
        for ListeningSocket { listener, name, file } in metrics {
            socket_files.extend(file);
            metrics_sockets.push((listener, name.clone()));
            metrics_names.push(name);
        }
        let log =
            Log::start(log_target(&config), config.log_level).context("cannot start the log")?;
        let observer = Observer::new(log.clone());
        log_panics(&log, observer.metrics());
        for warning in warnings.iter().map(ToString::to_string).chain(notes) {
            log.warn(|| warning);
        }
        let monitoring = match metrics_names.len() {
            0 => 0,
            sockets => http::DESCRIPTORS + sockets,
        };
        let possible = descriptors.connections(workers.iter().count(), names.len(), monitoring);
        let slots = Arc::new(Slots::new(possible));
        slots.set_limit(config.max_connections, &log);
        let config_refusals = config.status_refusals;
        let shared = Shared::new(Runtime::new(config, dns, system_host_name(), 0));
        let (draining, receiver) = watch::channel(false);
        let server = Arc::new(Server {
            shared: shared.clone(),
            observer: observer.clone(),
            draining: receiver,
        });
        let reporter = Arc::new(Reporter::new(
            log.clone(),
            shared.clone(),
            observer.clone(),
            Arc::clone(&slots),
        ));
        observer.metrics().read_from({
            let (shared, slots, log) = (shared.clone(), Arc::clone(&slots), log.clone());
            move || read(&shared, &slots, &log)
        });
        observer.keep_refusals(config_refusals);
        let (loads, slots_of_site) = (Arc::new(Loads::new()), Arc::clone(&slots));
        let site = Site {
            begun: Instant::now(),
            started: SystemTime::now(),
            file: files.path().to_owned(),
            sockets: names.clone(),
            observer: observer.clone(),
            shared: shared.clone(),
            slots: slots_of_site,
            loads: Arc::clone(&loads),
            workers: workers.iter().cloned().collect(),
            unwritten: RateLimit::new(UNWRITTEN_INTERVAL),
        };
        let http = serve(metrics_sockets, site, &log)?;
        let reloader = Reloader::new(
            files,
            observer.clone(),
            log.clone(),
            shared,
            Arc::clone(&slots),
            Arc::clone(&reporter),
            loads,
        );
        Ok(Self {
            started: Instant::now(),
            log,
            observer,
            slots,
            server,
            workers,
            reloader,
            reporter,
            events,
            draining,
            sources,
            names,
            metrics_names,
            http,
            socket_files,
        })
    }

    async fn run(mut self, mut signals: Signals, mut again: bool) {
        let mut accepting = JoinSet::new();
        for (source, name, worker) in std::mem::take(&mut self.sources) {
            let runtime = worker.runtime().clone();
            let acceptor = Acceptor {
                source,
                name,
                worker,
                slots: Arc::clone(&self.slots),
                server: Arc::clone(&self.server),
                log: self.log.clone(),
            };
            accepting.spawn_on(acceptor.accept(), &runtime);
        }
        let dry_run = if self.server.shared.load().config.dry_run { " dry-run=yes" } else { "" };
        let metrics = match self.metrics_names.as_slice() {
            [] => String::new(),
            names => format!(" metrics-socket={}", names.join(",")),
        };
        let sockets = self.names.join(",");
        self.log.info(|| format!("{} started socket={sockets}{metrics}{dry_run}", version()));
        self.events.open(self.log.clone());
        self.reporter.ready();
        let workers: Vec<Worker> = self.workers.iter().cloned().collect();
        let mut reporting = JoinSet::new();
        reporting.spawn(Arc::clone(&self.reporter).report(workers));
        let (mut days, observer) = (JoinSet::new(), self.observer.clone());
        days.spawn(async move { keep_on(|| turn_days(&observer)).await });
        while std::mem::take(&mut again) || signals.next().await == Signal::Reload {
            if self.reloader.reload(&mut signals).await.is_break() {
                break;
            }
        }
        self.reporter.stopping(DRAIN_LIMIT + CLOSE_LIMIT + FLUSH_LIMIT);
        // As long as we listen, no other daemon takes our files for stale ones.
        drop(std::mem::take(&mut self.socket_files));
        drop(self.http.take());
        accepting.shutdown().await;
        self.drain(&mut signals).await;
        reporting.shutdown().await;
        // Sessions that are cut off are recorded before the end.
        self.workers.end(CLOSE_LIMIT).await;
        let seconds = self.started.elapsed().as_secs();
        let messages = self.observer.metrics().messages();
        self.log.info(|| format!("{} stopped uptime={seconds}s messages={messages}", version()));
        self.log.flush(FLUSH_LIMIT);
    }

    /// Lets messages under way finish; ends what is left at the limit, or at another signal.
    async fn drain(&self, signals: &mut Signals) {
        let _ = self.draining.send(true);
        tokio::select! {
            done = timeout(DRAIN_LIMIT, self.slots.wait_for_none()) => if done.is_err() {
                let left = self.slots.count();
                self.log.warn(|| format!("{left} connections were still in use after {} seconds", DRAIN_LIMIT.as_secs()));
            },
            () = signals.stop() => self.log.warn(|| "told to stop again, ending at once".into()),
        }
    }
}

/// Serves what there is to monitor, if there is a socket for that.
fn serve(sockets: Vec<(Listener, String)>, site: Site, log: &Log) -> anyhow::Result<Option<Http>> {
    if sockets.is_empty() {
        return Ok(None);
    }
    Http::start(sockets, Arc::new(site), log.clone())
        .map(Some)
        .context("cannot serve metrics_socket")
}

/// Begins the counts of each day anew.
async fn turn_days(observer: &Observer) -> Infallible {
    loop {
        sleep(observer.today().turn()).await;
    }
}

/// The figures that metrics do not count themselves.
fn read(shared: &Shared, slots: &Slots, log: &Log) -> Reading {
    let runtime = shared.load();
    Reading {
        generation: runtime.generation,
        dns: runtime.dns.statistics(),
        servers: runtime.dns.servers(),
        config: Some(Arc::clone(&runtime.config)),
        connections: slots.count(),
        connections_limit: slots.limit(),
        connections_waiting: slots.waiting(),
        log_lines_dropped: log.lost(),
    }
}

/// The program's name and version.
fn version() -> String {
    format!("spf-milter {}", env!("CARGO_PKG_VERSION"))
}

/// The system's name of this host.
pub(crate) fn system_host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into())
}
