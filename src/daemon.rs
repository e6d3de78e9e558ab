//! The daemon: listens, reloads, drains.

mod connections;
mod entrance;
mod nameservers;
mod signals;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime as Tokio,
    sync::watch,
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::timeout,
};

use connections::Connections;
use entrance::{Entrance, Source};
use nameservers::Teller;
use signals::{Signal, Signals};

use crate::{
    config::{Config, Errors, Loaded, LogLevel, Overrides, load},
    dns::{Dns, MAX_QUERIES},
    listen::{Access, ListeningSocket, SocketFile, listen},
    log::{Log, Target},
    milter::Server,
    observe::Observer,
    runtime::{Runtime, Shared},
    systemd,
    workers::{Worker, Workers},
};

/// How long messages under way may take when the daemon is told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long the log may take to be written at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How long the log may take to be written before it goes elsewhere.
const REDIRECT_LIMIT: Duration = Duration::from_millis(500);

/// How long files may take to be read at a reload: one may be a pipe that nobody writes to, or on a
/// disk that does not answer.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// How long sessions that are cut off may take to be told of.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Descriptors for other things than connections and look-ups: the log, files. And for each thread,
/// besides two for each socket, which are the socket and a connection that waits for a place.
const SPARE_DESCRIPTORS: usize = 32;
const DESCRIPTORS_OF_A_THREAD: usize = 4;

/// Descriptors of a question to a name server: one for UDP or for TCP, and one to spare.
const DESCRIPTORS_OF_A_QUERY: usize = 2;

/// A process that takes its signals, and is not yet a daemon.
pub(crate) struct Process {
    /// It was told to stop before it could listen to signals.
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
    /// What keeps it from that.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let stopped = signals::keep_for_now().context("cannot keep signals")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let signals =
            runtime.block_on(async { Signals::take() }).context("cannot listen to signals")?;
        Ok(Self { stopped, runtime, signals })
    }

    /// Gives the signals back: whatever is done instead of running a daemon ends by them.
    ///
    /// # Errors
    ///
    /// What keeps it from that.
    pub(crate) fn leave_signals_alone(self) -> anyhow::Result<()> {
        signals::leave_alone().context("cannot give signals back")
    }

    /// Runs the daemon until it is told to stop.
    ///
    /// # Errors
    ///
    /// What keeps it from starting.
    pub(crate) fn run_daemon(self, path: &Path, overrides: Overrides) -> Result<(), Failure> {
        let Self { stopped, runtime, mut signals } = self;
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = runtime.block_on(async {
            let Some((loaded, again)) = first_load(path, &overrides, &mut signals).await? else {
                return Ok(());
            };
            let daemon = Daemon::start(path.to_owned(), overrides, loaded)?;
            daemon.run(signals, again).await;
            Ok(())
        });
        // A file that cannot be read to its end must not keep the process from ending.
        runtime.shutdown_background();
        result
    }
}

/// Loads the configuration for the first time, and tells whether it is to be loaded again, as it
/// may have changed meanwhile. Nothing comes of it when told to stop.
async fn first_load(
    path: &Path,
    overrides: &Overrides,
    signals: &mut Signals,
) -> Result<Option<(Loaded, bool)>, Failure> {
    let (path, overrides) = (path.to_owned(), overrides.clone());
    let mut task = spawn_blocking(move || load(&path, &overrides));
    let mut again = false;
    loop {
        tokio::select! {
            loaded = &mut task => {
                let loaded = loaded.context("cannot read the configuration")?;
                return loaded.map(|loaded| Some((loaded, again))).map_err(Failure::Configuration);
            }
            signal = signals.next() => match signal {
                Signal::Reload => again = true,
                Signal::Stop => return Ok(None),
            },
        }
    }
}

fn access(config: &Config) -> Access {
    Access {
        mode: config.socket_mode.as_ref().map(|mode| mode.0),
        group: config.socket_group.clone(),
    }
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
    workers: Workers,
    room: Room,
    teller: Arc<Teller>,
    /// A reload that did not come to an end in time, and may still be under way.
    hanging: Option<JoinHandle<Result<Loaded, Errors>>>,
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
        let workers = Workers::start().context("cannot start threads")?;
        let (mut sources, mut files, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (listening, unusual) = listen(&config.socket, &access)?;
        for ListeningSocket { listener, name, file } in listening {
            files.extend(file);
            for worker in workers.iter() {
                let source = Source::new(&listener, worker)
                    .with_context(|| format!("cannot accept connections on {name}"))?;
                sources.push((source, name.clone(), worker.clone()));
            }
            names.push(name);
        }
        let log =
            Log::start(log_target(&config), config.log_level).context("cannot start the log")?;
        log_panics(&log);
        let observer = Observer::new(log.clone());
        for warning in warnings.iter().map(ToString::to_string).chain(unusual) {
            log.warn(|| warning);
        }
        let room = Room::new(
            raise_descriptor_limit(),
            workers.iter().count() * (DESCRIPTORS_OF_A_THREAD + 2 * names.len()),
        );
        let connections =
            Arc::new(Connections::new(room.connections(config.max_connections, &log)));
        let teller = Teller::new(log.clone());
        let dns = Dns::with_listener(&nameservers::settings(&config, room.queries), {
            let teller = Arc::clone(&teller);
            move |event| teller.tell(event)
        });
        let shared = Shared::new(Runtime::new(config, dns, system_host_name(), 0));
        let (draining, receiver) = watch::channel(false);
        let server = Arc::new(Server {
            shared: shared.clone(),
            observer: observer.clone(),
            draining: receiver,
        });
        Ok(Self {
            path,
            overrides,
            started: Instant::now(),
            log,
            observer,
            shared,
            connections,
            server,
            workers,
            room,
            teller,
            hanging: None,
            draining,
            sources,
            names,
            files,
        })
    }

    async fn run(mut self, mut signals: Signals, mut again: bool) {
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
        let dry_run = if self.shared.load().config.dry_run { " dry-run=yes" } else { "" };
        self.log.info(|| format!("{} started socket={}{dry_run}", version(), self.names.join(",")));
        self.teller.begin();
        systemd::ready();
        while std::mem::take(&mut again) || signals.next().await == Signal::Reload {
            if self.reload(&mut signals).await.is_break() {
                break;
            }
        }
        systemd::stopping();
        // As long as we listen, nobody else takes our files for stale ones.
        drop(std::mem::take(&mut self.files));
        accepting.shutdown().await;
        self.drain(&mut signals).await;
        // What is cut off is told before the end.
        self.workers.end(CLOSE_LIMIT).await;
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
            () = signals.stop() => self.log.warn(|| "told to stop again, ending at once".into()),
        }
    }

    /// Loads the configuration again, and once more when told so meanwhile. Breaks off when told to
    /// stop.
    async fn reload(&mut self, signals: &mut Signals) -> ControlFlow<()> {
        loop {
            systemd::reloading();
            // Threads that hang are not to gather.
            if self.hanging.as_ref().is_some_and(|hanging| !hanging.is_finished()) {
                self.keep(["the configuration is still being read, from the last reload on"]);
                systemd::ready();
                return ControlFlow::Continue(());
            }
            let (path, overrides) = (self.path.clone(), self.overrides.clone());
            // On a thread of its own: files can be slow.
            let mut task = spawn_blocking(move || load(&path, &overrides));
            let mut loading = Box::pin(timeout(RELOAD_LIMIT, &mut task));
            let mut again = false;
            let loaded = loop {
                tokio::select! {
                    loaded = &mut loading => break loaded,
                    signal = signals.next() => match signal {
                        Signal::Reload => again = true,
                        Signal::Stop => return ControlFlow::Break(()),
                    },
                }
            };
            drop(loading);
            match loaded {
                Ok(Ok(Ok(loaded))) => self.replace(loaded),
                Ok(Ok(Err(errors))) => self.keep(errors.to_string().lines()),
                Ok(Err(error)) => self.keep([error.to_string().as_str()]),
                Err(_) => {
                    self.hanging = Some(task);
                    let seconds = RELOAD_LIMIT.as_secs();
                    self.keep([format!(
                        "the configuration cannot be read within {seconds} seconds"
                    )
                    .as_str()]);
                }
            }
            systemd::ready();
            if !again {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Tells why the configuration in force stays.
    fn keep<'a>(&self, reasons: impl IntoIterator<Item = &'a str>) {
        for reason in reasons {
            self.log.error(|| reason.to_owned());
        }
        self.log.error(|| {
            format!(
                "configuration not reloaded, the former one stays in force: {}",
                self.path.display()
            )
        });
    }

    /// Puts all of a configuration in force.
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
        let (target, level) = (log_target(&config), config.log_level);
        self.connections.set_limit(self.room.connections(config.max_connections, &self.log));
        let dns = running.dns.reconfigured(&nameservers::settings(&config, self.room.queries));
        let generation = running.generation + 1;
        self.shared.replace(Runtime::new(config, dns, running.fallback_host.clone(), generation));
        let changed = if changed.is_empty() { "none".to_owned() } else { changed.join(",") };
        let reloaded = || format!("configuration reloaded changed={changed}");
        let moves = target != log_target(&running.config);
        let falls_silent = level < LogLevel::Info;
        // Who reads the log where it was must learn why it ends there.
        if moves || falls_silent {
            self.log.info(reloaded);
        }
        if moves {
            self.log.flush(REDIRECT_LIMIT);
        }
        self.log.redirect(target, level);
        self.log.info(reloaded);
    }
}

/// What there are descriptors for. Look-ups have a share that connections cannot take: without any,
/// mail would be told to come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Room {
    connections: usize,
    queries: usize,
}

impl Room {
    /// Shares descriptors out; `taken` are in use for good.
    fn new(descriptors: Option<usize>, taken: usize) -> Self {
        let Some(descriptors) = descriptors else {
            return Self { connections: usize::MAX, queries: MAX_QUERIES };
        };
        let queries = (descriptors / 4 / DESCRIPTORS_OF_A_QUERY).clamp(1, MAX_QUERIES);
        let rest = descriptors
            .saturating_sub(queries * DESCRIPTORS_OF_A_QUERY + SPARE_DESCRIPTORS + taken);
        Self { connections: rest.max(1), queries }
    }

    /// How many connections are served at the same time.
    fn connections(&self, wanted: usize, log: &Log) -> usize {
        let possible = self.connections;
        if possible < wanted {
            log.warn(|| {
                format!("too few descriptors may be open (ulimit -n) for max_connections={wanted}, {possible} are served")
            });
        }
        wanted.min(possible)
    }
}

/// The program's name and version.
fn version() -> String {
    format!("spf-milter {}", env!("CARGO_PKG_VERSION"))
}

fn log_target(config: &Config) -> Target {
    Target::new(config.log_destination, config.syslog_facility)
}

fn system_host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into())
}

/// Opens the way to as many descriptors as the system lets us have; how many that are, where there
/// is a limit.
fn raise_descriptor_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let limit = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        hard
    } else {
        soft
    };
    usize::try_from(limit).ok()
}

/// Lets panics be told in the log, not on stderr: it may be gone, or stuck, and the log waits for
/// nobody.
fn log_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| log.error(|| format!("internal error: {panic}"))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        let room = |descriptors| Room::new(Some(descriptors), 20);
        for descriptors in [0, 3, 40, 100, 256, 1024, 4096, 16384, 1 << 20] {
            let Room { connections, queries } = room(descriptors);
            assert!(connections >= 1 && (1..=MAX_QUERIES).contains(&queries));
            if descriptors >= 100 {
                assert!(
                    connections + queries * DESCRIPTORS_OF_A_QUERY + SPARE_DESCRIPTORS + 20
                        <= descriptors,
                    "{descriptors}"
                );
            }
        }
        assert_eq!(room(1024), Room { connections: 716, queries: 128 });
        assert_eq!(room(16384), Room { connections: 15308, queries: 512 });
        assert_eq!(Room::new(None, 20), Room { connections: usize::MAX, queries: 512 });
    }
}
