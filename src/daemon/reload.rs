//! Loading: a thread of its own reads files, never the one that waits for signals. A file may be a
//! pipe that no program writes to, or on a disk that does not answer.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    report::Reporter,
    signals::{Signal, Signals},
    site::Loads,
    slots::Slots,
};
use crate::{
    config::{Config, Errors, Loaded, LogLevel, Overrides, load},
    dns::{Dns, Settings},
    internal_error::contained,
    log::{Log, Target},
    observe::Observer,
    runtime::{Runtime, Shared, dns_settings},
};

/// How long files may take to be read at a reload.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// How long the log may take to be written before it goes elsewhere.
const REDIRECT_LIMIT: Duration = Duration::from_millis(500);

/// A resolver's configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The files that a configuration comes from, and the settings that are not in them.
#[derive(Clone, Debug)]
pub(super) struct Files {
    path: PathBuf,
    overrides: Overrides,
    resolv_conf: PathBuf,
    max_queries: usize,
}

impl Files {
    pub(super) fn new(path: &Path, overrides: Overrides, max_queries: usize) -> Self {
        Self { path: path.to_owned(), overrides, resolv_conf: RESOLV_CONF.into(), max_queries }
    }

    /// The configuration file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the configuration; not for a thread that has other things to do.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(super) fn load(&self) -> Result<Loaded, Errors> {
        load(&self.path, &self.overrides)
    }

    /// The settings of the DNS client.
    pub(super) fn dns_settings(&self, config: &Config) -> Settings {
        Settings {
            resolv_conf: self.resolv_conf.clone(),
            max_queries: self.max_queries,
            ..dns_settings(config)
        }
    }

    /// Begins to read all files again, for a client of the name servers that they give.
    fn read_again(&self, dns: Dns) -> Reading {
        let (files, begun) = (self.clone(), Instant::now());
        spawn_blocking(move || {
            let loaded = files.load()?;
            // A reload that is late has failed, and asks for no name servers.
            let dns = match begun.elapsed() < RELOAD_LIMIT {
                true => dns.reconfigured(&files.dns_settings(&loaded.config)),
                false => dns,
            };
            Ok((loaded, dns))
        })
    }
}

/// Files that are being read.
type Reading = JoinHandle<Result<(Loaded, Dns), Errors>>;

/// Waits for a task while signals come. The second value says whether one of them asked for a reload;
/// `None` means that one said to stop.
pub(super) async fn wait_for<T>(
    task: impl Future<Output = T>,
    signals: &mut Signals,
) -> Option<(T, bool)> {
    let mut task = std::pin::pin!(task);
    let mut again = false;
    loop {
        tokio::select! {
            output = &mut task => return Some((output, again)),
            signal = signals.next() => match signal {
                Signal::Reload => again = true,
                Signal::Stop => return None,
            },
        }
    }
}

/// Puts configurations in force, one after the other.
pub(super) struct Reloader {
    files: Files,
    observer: Observer,
    log: Log,
    shared: Shared,
    slots: Arc<Slots>,
    reporter: Arc<Reporter>,
    loads: Arc<Loads>,
    /// A reload that did not come to an end in time, and may still be under way.
    hanging: Option<Reading>,
}

impl Reloader {
    pub(super) fn new(
        files: Files,
        observer: Observer,
        log: Log,
        shared: Shared,
        slots: Arc<Slots>,
        reporter: Arc<Reporter>,
        loads: Arc<Loads>,
    ) -> Self {
        Self { files, observer, log, shared, slots, reporter, loads, hanging: None }
    }

    /// Loads the configuration again, and once more where a signal asked for that meanwhile. Breaks
    /// off where a signal says to stop.
    pub(super) async fn reload(&mut self, signals: &mut Signals) -> ControlFlow<()> {
        loop {
            self.reporter.reloading();
            // Threads that hang are not to gather.
            if self.hanging.as_ref().is_some_and(|hanging| !hanging.is_finished()) {
                let kept =
                    self.keep(["the configuration is still being read, from the last reload on"]);
                self.reporter.reloaded(kept);
                return ControlFlow::Continue(());
            }
            let mut reading = self.files.read_again(self.shared.load().dns.clone());
            let ended = wait_for(timeout(RELOAD_LIMIT, &mut reading), signals).await;
            let Some((read, again)) = ended else {
                // The service manager must not wait for the end of a reload that was broken off.
                self.reporter.ready();
                return ControlFlow::Break(());
            };
            let success = match read {
                // The thread that waits for signals is the process.
                Ok(read) => contained(|| self.end(read)).unwrap_or_else(|| {
                    self.keep(["internal error while the configuration was put in force"])
                }),
                Err(_) => {
                    self.hanging = Some(reading);
                    let seconds = RELOAD_LIMIT.as_secs();
                    let reason =
                        format!("the configuration cannot be read within {seconds} seconds");
                    self.keep([reason.as_str()])
                }
            };
            self.reporter.reloaded(success);
            if !again {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Puts in force the files that were read, unless they have an error: whether it did.
    fn end(&self, read: Result<Result<(Loaded, Dns), Errors>, JoinError>) -> bool {
        match read {
            Ok(Ok((loaded, dns))) => {
                self.replace(loaded, dns);
                true
            }
            Ok(Err(errors)) => self.keep(errors.to_string().lines()),
            Err(error) => self.keep([error.to_string().as_str()]),
        }
    }

    /// Logs why the configuration in force stays; false, for it was not replaced.
    fn keep<'a>(&self, reasons: impl IntoIterator<Item = &'a str>) -> bool {
        self.observer.metrics().reloaded(false);
        let mut is_noted = false;
        for reason in reasons {
            if !std::mem::replace(&mut is_noted, true) {
                self.loads.failed(reason);
            }
            self.log.error(|| reason.to_owned());
        }
        self.log.error(|| {
            format!(
                "configuration not reloaded, the former one stays in force: {}",
                self.files.path.display()
            )
        });
        false
    }

    /// Puts all of a configuration in force.
    fn replace(&self, Loaded { mut config, warnings, .. }: Loaded, dns: Dns) {
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
        self.slots.set_limit(config.max_connections, &self.log);
        let (generation, refusals) = (running.generation + 1, config.status_refusals);
        self.shared.replace(Runtime::new(config, dns, running.fallback_host.clone(), generation));
        self.observer.metrics().reloaded(true);
        self.observer.keep_refusals(refusals);
        self.loads.succeeded();
        let changed = if changed.is_empty() { "none".to_owned() } else { changed.join(",") };
        let reloaded = || format!("configuration reloaded changed={changed}");
        let moves = target != log_target(&running.config);
        let falls_silent = level < LogLevel::Info;
        // Readers of the former log must learn why it ends.
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

/// Where a configuration has the log written to.
pub(super) fn log_target(config: &Config) -> Target {
    Target::new(config.log_destination, config.syslog_facility, config.log_format)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex, thread};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;
    use crate::dns::Event;

    /// One thread, as that which waits for signals: a read there would hold it up.
    #[tokio::test]
    async fn a_resolv_conf_that_hangs_is_read_elsewhere() {
        let folder = std::env::current_exe()
            .unwrap()
            .with_file_name(format!("reload-test-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let conf = folder.join("spf-milter.conf");
        fs::write(&conf, "socket = fd:\n").unwrap();
        let mut files = Files::new(&conf, Overrides::default(), 1);
        files.resolv_conf = folder.join("resolv.conf");
        // No program writes to it.
        mkfifo(&files.resolv_conf, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let readers = Arc::new(Mutex::new(Vec::new()));
        let settings = files.dns_settings(&files.load().unwrap().config);
        let dns = spawn_blocking({
            let readers = Arc::clone(&readers);
            move || {
                Dns::with_listener(&settings, move |event| {
                    let is_unread = matches!(event, Event::NoServers { .. });
                    readers.lock().unwrap().push((is_unread, thread::current().id()));
                })
            }
        });
        let dns = dns.await.unwrap();
        // Other settings have the file read from the beginning.
        fs::write(&conf, "socket = fd:\ndns_timeout_secs = 7\n").unwrap();
        let (loaded, _dns) = files.read_again(dns).await.unwrap().unwrap();
        assert_eq!(loaded.config.dns_timeout_secs, 7);
        let readers = readers.lock().unwrap();
        assert_eq!(readers.len(), 2);
        for (is_unread, reader) in &*readers {
            assert!(*is_unread && *reader != thread::current().id());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
