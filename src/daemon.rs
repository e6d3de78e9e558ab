//! The daemon: listens, reloads, drains.

use std::{
    convert::Infallible,
    io,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{FutureExt as _, StreamExt as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Notify, watch},
    task::{JoinError, JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    config::{Config, Errors, Loaded, Overrides, load},
    dns::{Dns, Settings},
    listen::{Access, Listener, Listening, SocketFile, listen},
    log::{Log, Target},
    milter::{Server, Socket, serve},
    observe::Observer,
    runtime::{Runtime, Shared},
    systemd,
    workers::{Worker, Workers, until},
};

/// How long messages under way may take when the daemon is told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long the log may take to be written at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The pause after a connection that could not be accepted, at first and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Descriptors for other things than connections: sockets, look-ups, the log. And for each thread, besides one for each socket.
const SPARE_DESCRIPTORS: usize = 64;
const DESCRIPTORS_OF_A_THREAD: usize = 4;

/// How often the same trouble with connections is told.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// A resolver's configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// What keeps it from starting.
pub(crate) fn run(path: &Path, overrides: Overrides, loaded: Loaded) -> anyhow::Result<()> {
    // Signals first: one that comes while sockets are being made must not end the process without removing them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
        let daemon = Daemon::start(path.to_owned(), overrides, loaded)?;
        daemon.run(signals).await;
        Ok(())
    });
    // A file that cannot be read to its end must not keep the process from ending.
    runtime.shutdown_background();
    result
}

/// Finds what would keep a daemon of this configuration from starting, as far as that can be seen without starting it.
///
/// # Errors
///
/// What it is.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    access(config).check().context("socket_group")
}

fn access(config: &Config) -> Access {
    Access { mode: config.socket_mode.as_ref().map(|mode| mode.0), group: config.socket_group.clone() }
}

/// The daemon.
struct Daemon {
    path: PathBuf,
    overrides: Overrides,
    started: Instant,
    log: Log,
    observer: Observer,
    shared: Shared,
    connections: Arc<Connections>,
    server: Arc<Server>,
    /// Dropped to end the threads.
    _workers: Workers,
    draining: watch::Sender<bool>,
    /// For each socket and thread something to accept connections from.
    sources: Vec<(Source, String, Worker)>,
    names: Vec<String>,
    files: Vec<SocketFile>,
}

impl Daemon {
    fn start(path: PathBuf, overrides: Overrides, loaded: Loaded) -> anyhow::Result<Self> {
        let Loaded { config, warnings, .. } = loaded;
        let access = access(&config);
        let descriptors = raise_descriptor_limit();
        let workers = Workers::start().context("cannot start threads")?;
        let (mut sources, mut files, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for Listening { listener, name, file } in listen(&config.socket, &access)? {
            files.extend(file);
            for worker in workers.iter() {
                let source = Source::new(&listener, worker).with_context(|| format!("cannot accept connections on {name}"))?;
                sources.push((source, name.clone(), worker.clone()));
            }
            names.push(name);
        }
        let log = Log::start(log_target(&config), config.log_level).context("cannot start the log")?;
        log_panics(&log);
        let observer = Observer::new(log.clone());
        for warning in &warnings {
            log.warn(|| warning.to_string());
        }
        let spare = SPARE_DESCRIPTORS + workers.iter().count() * (DESCRIPTORS_OF_A_THREAD + names.len());
        if let Some(limit) = descriptors.filter(|limit| *limit < config.max_connections.saturating_add(spare)) {
            let wanted = config.max_connections;
            log.warn(|| format!("only {limit} descriptors may be open (ulimit -n), too few for max_connections={wanted}"));
        }
        let connections = Arc::new(Connections::new(config.max_connections));
        let dns = Dns::new(&dns_settings(&config));
        let shared = Shared::new(Runtime::new(config, dns, system_host_name(), 0));
        let (draining, receiver) = watch::channel(false);
        let server = Arc::new(Server { shared: shared.clone(), observer: observer.clone(), draining: receiver });
        Ok(Self {
            path,
            overrides,
            started: Instant::now(),
            log,
            observer,
            shared,
            connections,
            server,
            _workers: workers,
            draining,
            sources,
            names,
            files,
        })
    }

    async fn run(mut self, mut signals: Signals) {
        let mut accepting = JoinSet::new();
        for (source, name, worker) in std::mem::take(&mut self.sources) {
            let runtime = worker.runtime().clone();
            let entrance = Entrance {
                source,
                name,
                worker,
                connections: Arc::clone(&self.connections),
                server: Arc::clone(&self.server),
                log: self.log.clone(),
            };
            accepting.spawn_on(entrance.accept(), &runtime);
        }
        self.log.info(|| format!("{} started socket={}", version(), self.names.join(",")));
        systemd::ready();
        while signals.next().await == Some(SIGHUP) {
            if self.reload(&mut signals).await.is_break() {
                break;
            }
        }
        systemd::stopping();
        // As long as we listen, nobody else takes our files for stale ones.
        drop(std::mem::take(&mut self.files));
        accepting.shutdown().await;
        self.drain(&mut signals).await;
        let seconds = self.started.elapsed().as_secs();
        let messages = self.observer.messages();
        self.log.info(|| format!("{} stopped uptime={seconds}s messages={messages}", version()));
        self.log.flush(FLUSH_LIMIT);
    }

    /// Lets messages under way finish; ends what is left at the limit, or at another signal.
    async fn drain(&self, signals: &mut Signals) {
        let _ = self.draining.send(true);
        tokio::select! {
            done = timeout(DRAIN_LIMIT, self.connections.wait_for_none()) => if done.is_err() {
                let left = self.connections.count();
                self.log.warn(|| format!("{left} connections were still in use after {} seconds", DRAIN_LIMIT.as_secs()));
            },
            () = stop_signal(signals) => self.log.warn(|| "told to stop again, ending at once".into()),
        }
    }

    /// Loads the configuration again, and once more when told so meanwhile. Breaks off when told to stop.
    async fn reload(&self, signals: &mut Signals) -> ControlFlow<()> {
        loop {
            systemd::reloading();
            let (path, overrides) = (self.path.clone(), self.overrides.clone());
            // On a thread of its own: files can be slow.
            let mut loading = spawn_blocking(move || load(&path, &overrides));
            let mut again = false;
            let loaded = loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    signal = signals.next() => match signal {
                        Some(SIGHUP) => again = true,
                        _ => return ControlFlow::Break(()),
                    },
                }
            };
            self.put_in_force(loaded);
            systemd::ready();
            if !again {
                return ControlFlow::Continue(());
            }
        }
    }

    /// All of a configuration comes into force, or nothing.
    fn put_in_force(&self, loaded: Result<Result<Loaded, Errors>, JoinError>) {
        match loaded {
            Ok(Ok(loaded)) => return self.replace(loaded),
            Ok(Err(errors)) => {
                for error in errors.to_string().lines() {
                    self.log.error(|| error.to_owned());
                }
            }
            Err(error) => self.log.error(|| error.to_string()),
        }
        self.log.error(|| format!("configuration not reloaded, the former one stays in force: {}", self.path.display()));
    }

    fn replace(&self, Loaded { mut config, warnings, .. }: Loaded) {
        let running = self.shared.load();
        let fixed = config.keep_fixed(&running.config);
        let changed = running.config.changed(&config);
        for warning in &warnings {
            self.log.warn(|| warning.to_string());
        }
        for name in fixed {
            self.log.warn(|| format!("parameter {name} is only read at start, the running value stays in force until a restart"));
        }
        self.log.redirect(log_target(&config), config.log_level);
        self.connections.set_limit(config.max_connections);
        let dns = running.dns.reconfigured(&dns_settings(&config));
        let generation = running.generation + 1;
        self.shared.replace(Runtime::new(config, dns, running.fallback_host.clone(), generation));
        let changed = if changed.is_empty() { "none".to_owned() } else { changed.join(",") };
        self.log.info(|| format!("configuration reloaded changed={changed}"));
    }
}

async fn stop_signal(signals: &mut Signals) {
    while signals.next().await == Some(SIGHUP) {}
}

/// The program's name and version.
fn version() -> String {
    format!("spf-milter {}", env!("CARGO_PKG_VERSION"))
}

fn log_target(config: &Config) -> Target {
    Target::new(config.log_destination, config.syslog_facility)
}

fn dns_settings(config: &Config) -> Settings {
    Settings {
        nameservers: config.nameservers.clone(),
        resolv_conf: RESOLV_CONF.into(),
        timeout: Duration::from_secs(config.dns_timeout_secs),
        attempts: config.dns_attempts,
        cache_size: config.dns_cache_size,
    }
}

fn system_host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

/// Opens the way to as many descriptors as the system lets us have; how many that are, where there is a limit.
fn raise_descriptor_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit).ok()
}

/// Lets panics be told in the log, not on stderr: it may be gone, or stuck, and the log waits for nobody.
fn log_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| log.error(|| format!("internal error: {panic}"))));
}

//--- Connections ---

/// How many connections there are, and may be.
#[derive(Debug)]
struct Connections {
    count: AtomicUsize,
    /// Connections that are accepted and wait for a place.
    waiting: AtomicUsize,
    limit: AtomicUsize,
    changed: Notify,
    /// That there is no room.
    crowded: Complaint,
    /// That connections cannot be accepted.
    failing: Complaint,
}

/// Trouble that lasts, and is told again only after a while.
#[derive(Debug, Default)]
struct Complaint {
    told: Mutex<Option<Instant>>,
}

/// One of the connections.
struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// One of those that wait for a place. No other connection is accepted meanwhile: it would be served before.
struct Waiting<'a>(&'a Connections);

impl<'a> Waiting<'a> {
    fn new(connections: &'a Connections) -> Self {
        connections.waiting.fetch_add(1, Ordering::AcqRel);
        Self(connections)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl Connections {
    fn new(limit: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            changed: Notify::new(),
            crowded: Complaint::default(),
            failing: Complaint::default(),
        }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let limit = self.limit.load(Ordering::Acquire);
        let taken = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < limit).then_some(count + 1));
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Waits until there is room for a connection that was accepted, and takes it.
    async fn take(self: &Arc<Self>, log: &Log) -> Place {
        if let Some(place) = self.try_take() {
            return place;
        }
        let _waiting = Waiting::new(self);
        self.wait_until(log, || self.try_take()).await
    }

    /// Waits until there is room for a connection besides those that wait for it.
    async fn wait_for_room(&self, log: &Log) {
        let wanted = || self.count() + self.waiting.load(Ordering::Acquire);
        self.wait_until(log, || (wanted() < self.limit.load(Ordering::Acquire)).then_some(())).await;
    }

    async fn wait_until<T>(&self, log: &Log, attempt: impl Fn() -> Option<T>) -> T {
        until(&self.changed, || {
            let taken = attempt();
            if taken.is_none() && self.crowded.may_tell() {
                let limit = self.limit.load(Ordering::Acquire);
                log.warn(|| format!("max_connections={limit} reached, further connections wait"));
            }
            taken
        })
        .await
    }

    async fn wait_for_none(&self) {
        until(&self.changed, || (self.count() == 0).then_some(())).await;
    }
}

impl Complaint {
    /// Whether trouble may be told; not more than once in the interval.
    fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| told.elapsed() >= COMPLAINT_INTERVAL);
        if may {
            *told = Some(Instant::now());
        }
        may
    }
}

/// Something to accept connections from.
enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Source {
    /// A source for one of the threads; each has one of the same socket.
    fn new(listener: &Listener, worker: &Worker) -> io::Result<Self> {
        let _context = worker.runtime().enter();
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener.try_clone()?)?),
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::tcp(listener.accept().await?.0),
            Self::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }
}

/// Does work that does not end, and does it again where it fails: the other threads count on this one to accept its part.
async fn keep_on<F: Future<Output = Infallible>>(log: &Log, work: impl Fn() -> F) -> Infallible {
    loop {
        let Err(_) = AssertUnwindSafe(work()).catch_unwind().await;
        log.error(|| "internal error while accepting connections".into());
        sleep(MAX_ACCEPT_PAUSE).await;
    }
}

/// Where connections of a socket come in to a thread.
struct Entrance {
    source: Source,
    /// The socket's name.
    name: String,
    worker: Worker,
    connections: Arc<Connections>,
    server: Arc<Server>,
    log: Log,
}

impl Entrance {
    /// Accepts connections for ever. What goes wrong with one does not keep the next one waiting for long.
    ///
    /// At the limit connections wait in the backlog; those that came at the same time as the last wait here, one for each thread and
    /// socket at most. (Taking the place first would let each socket that nobody connects to keep one.)
    async fn accept(self) -> Infallible {
        let (log, entrance) = (self.log.clone(), Arc::new(self));
        keep_on(&log, || {
            let entrance = Arc::clone(&entrance);
            async move { entrance.accept_until_trouble().await }
        })
        .await
    }

    async fn accept_until_trouble(&self) -> Infallible {
        let mut pause = ACCEPT_PAUSE;
        loop {
            self.connections.wait_for_room(&self.log).await;
            self.worker.turn().await;
            match self.source.accept().await {
                Ok(socket) => {
                    pause = ACCEPT_PAUSE;
                    let load = self.worker.load();
                    let place = self.connections.take(&self.log).await;
                    let (server, log) = (Arc::clone(&self.server), self.log.clone());
                    tokio::spawn(async move {
                        if let Err(error) = serve(socket, server).await {
                            log.debug(|| format!("connection ended: {error}"));
                        }
                        drop((place, load));
                    });
                }
                // The peer gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if self.connections.failing.may_tell() {
                        self.log.error(|| format!("cannot accept a connection on {}: {error}", self.name));
                    }
                    // Out of descriptors, say: trying again at once would be no use.
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    #[tokio::test]
    async fn places_are_given_back() {
        let connections = Arc::new(Connections::new(1));
        let log = Log::keep(LogLevel::Warn);
        let place = connections.take(&log).await;
        assert!(log.take_kept().is_empty());
        let (waiting, ()) = tokio::join!(connections.take(&log), async {
            tokio::task::yield_now().await;
            drop(place);
        });
        assert_eq!(log.take_kept(), ["max_connections=1 reached, further connections wait"]);
        assert_eq!(connections.count(), 1);
        assert!(connections.try_take().is_none());
        assert_eq!(connections.waiting.load(Ordering::Acquire), 0);
        connections.set_limit(2);
        let second = connections.try_take().unwrap();
        connections.set_limit(1);
        assert_eq!(connections.count(), 2);
        drop((waiting, second));
        connections.wait_for_none().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_accepted_comes_first() {
        let connections = Arc::new(Connections::new(1));
        let log = Log::keep(LogLevel::Error);
        let place = connections.take(&log).await;
        let mut accepted = std::pin::pin!(connections.take(&log));
        assert!(timeout(Duration::from_secs(1), &mut accepted).await.is_err());
        drop(place);
        assert!(timeout(Duration::from_secs(1), connections.wait_for_room(&log)).await.is_err());
        let place = accepted.await;
        assert!(timeout(Duration::from_secs(1), connections.wait_for_room(&log)).await.is_err());
        drop(place);
        connections.wait_for_room(&log).await;
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_outlives_a_panic() {
        let log = Log::keep(LogLevel::Error);
        let attempts = std::cell::Cell::new(0);
        let work = || async {
            attempts.set(attempts.get() + 1);
            assert!(attempts.get() == 3, "provoked");
            std::future::pending().await
        };
        assert!(timeout(MAX_ACCEPT_PAUSE * 10, keep_on(&log, work)).await.is_err());
        assert_eq!(attempts.get(), 3);
        assert_eq!(log.take_kept().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_complaint_hides_no_other() {
        let connections = Connections::new(1);
        assert!(connections.crowded.may_tell());
        assert!(!connections.crowded.may_tell());
        assert!(connections.failing.may_tell());
    }
}
