//! The name servers: those of the configuration, or those of a resolv.conf, which is read again
//! when it has changed.
//!
//! A file can hang, as a pipe or on a disk that does not answer. So a thread of its own reads it,
//! one at a time, and look-ups wait for that a moment at most.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::internal_error::contained;

use super::{
    event::{Event, Listener},
    resolv_conf::{self, Contents, LOCAL},
    settings::Settings,
    upstream::Upstream,
};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked at where all servers failed.
const INTERVAL_OF_TROUBLE: Duration = Duration::from_millis(100);

/// How long a look-up waits for the file to be read.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a look-up waits whose servers all failed.
const PATIENCE_IN_TROUBLE: Duration = Duration::from_millis(500);

/// How long the start and a reload wait.
const PATIENCE_OF_START: Duration = Duration::from_secs(2);

/// Why a file could not be read that made its reader panic.
const INTERNAL: &str = "internal error";

/// The listener is notified of reading that takes longer.
const HANGS: Duration = Duration::from_secs(10);

/// Name servers in the order in which they are asked.
#[derive(Debug)]
pub(super) struct List {
    pub(super) upstreams: Vec<Upstream>,
    /// How often the servers changed before.
    pub(super) generation: u64,
}

impl List {
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.upstreams.iter().map(Upstream::address).collect()
    }
}

/// The name servers in force.
#[derive(Debug)]
pub(super) struct Servers {
    list: RwLock<Arc<List>>,
    timeout: Duration,
    listener: Listener,
    file: Option<File>,
}

/// A file that names servers.
#[derive(Debug)]
struct File {
    path: PathBuf,
    state: Mutex<State>,
    /// Changes whenever it was read.
    was_read: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was last looked at.
    looked_at: Option<Instant>,
    /// Whether a thread is reading it.
    is_being_read: bool,
    /// Whether the listener was notified that this takes too long.
    is_notified: bool,
    /// Its content, or why it could not be read.
    contents: Option<Result<Contents, String>>,
}

impl Servers {
    /// The servers that the settings name. Waits for their file, for two seconds at most.
    pub(super) fn new(settings: &Settings, listener: Listener) -> Arc<Self> {
        let configured = settings.nameservers.clone().filter(|servers| !servers.is_empty());
        let file = configured.is_none().then(|| File {
            path: settings.resolv_conf.clone(),
            state: Mutex::default(),
            was_read: watch::Sender::new(()),
        });
        let is_configured = configured.is_some();
        let list = List {
            upstreams: upstreams(configured.unwrap_or(vec![LOCAL]), settings.timeout),
            generation: 0,
        };
        let servers = Arc::new(Self {
            list: RwLock::new(Arc::new(list)),
            timeout: settings.timeout,
            listener,
            file,
        });
        if is_configured {
            servers
                .listener
                .notify(&Event::Servers { file: None, servers: servers.list().addresses() });
        } else {
            servers.read_now();
        }
        servers
    }

    /// The servers of other settings: the same where they come from the same file, which is read
    /// again.
    pub(super) fn reconfigured(self: &Arc<Self>, settings: &Settings) -> Arc<Self> {
        let is_configured =
            settings.nameservers.as_ref().is_some_and(|servers| !servers.is_empty());
        let is_same = match &self.file {
            Some(file) => !is_configured && file.path == settings.resolv_conf,
            None => settings.nameservers.as_ref() == Some(&self.list().addresses()),
        };
        if !is_same || self.timeout != settings.timeout {
            return Self::new(settings, self.listener.clone());
        }
        self.read_now();
        Arc::clone(self)
    }

    /// The servers in force.
    pub(super) fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The servers to ask now: the file is looked at once a second.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<List> {
        self.look(INTERVAL, PATIENCE).await;
        self.list()
    }

    /// Other servers than the ones that all failed; `None` where there are no others.
    pub(super) async fn others(self: &Arc<Self>, failed: &List) -> Option<Arc<List>> {
        self.look(INTERVAL_OF_TROUBLE, PATIENCE_IN_TROUBLE).await;
        let list = self.list();
        (list.generation != failed.generation).then_some(list)
    }

    /// Looks at the file unless that was done within the interval, and waits for that a while.
    async fn look(self: &Arc<Self>, interval: Duration, patience: Duration) {
        let Some(file) = &self.file else { return };
        let mut was_read = file.was_read.subscribe();
        let is_in_trouble = interval < INTERVAL;
        if self.begin(file, interval, None) || is_in_trouble && file.lock().is_being_read {
            let _ = timeout(patience, was_read.changed()).await;
        }
    }

    /// Reads the file, without asynchrony.
    fn read_now(self: &Arc<Self>) {
        let Some(file) = &self.file else { return };
        let (sender, receiver) = sync_channel(1);
        if !self.begin(file, Duration::ZERO, Some(sender))
            || receiver.recv_timeout(PATIENCE_OF_START).is_err()
        {
            let mut state = file.lock();
            if state.contents.is_none() {
                self.take(file, &mut state, Err("it cannot be read at once".into()));
            }
        }
    }

    /// Begins to read the file unless it was read within the interval; returns whether it does.
    fn begin(
        self: &Arc<Self>,
        file: &File,
        interval: Duration,
        done: Option<SyncSender<()>>,
    ) -> bool {
        let mut state = file.lock();
        let since = state.looked_at.map_or(Duration::MAX, |time| time.elapsed());
        if state.is_being_read {
            if since >= HANGS && !state.is_notified {
                state.is_notified = true;
                self.listener.notify(&Event::Hangs { file: file.path.clone() });
            }
            return false;
        }
        if since < interval {
            return false;
        }
        state.looked_at = Some(Instant::now());
        let (servers, path) = (Arc::clone(self), file.path.clone());
        let read = move || {
            let contents = contained(|| read_file(&path)).unwrap_or_else(|| Err(INTERNAL.into()));
            if let Some(file) = &servers.file {
                let mut state = file.lock();
                (state.is_being_read, state.is_notified) = (false, false);
                servers.take(file, &mut state, contents);
                drop(state);
                file.was_read.send_replace(());
            }
            // The waiter may have left.
            done.map(|done| done.send(()));
        };
        state.is_being_read = thread::Builder::new().name("resolv.conf".into()).spawn(read).is_ok();
        state.is_being_read
    }

    /// Puts the content of the file in force, if that is new. Where it names no server, the former
    /// servers stay.
    fn take(&self, file: &File, state: &mut State, contents: Result<Contents, String>) {
        if state.contents.as_ref() == Some(&contents) {
            return;
        }
        let path = || file.path.clone();
        if let Ok(Contents { bad: Some((number, text)), .. }) = &contents {
            self.listener.notify(&Event::BadLines {
                file: path(),
                number: *number,
                text: text.clone(),
            });
        }
        let before = self.list();
        match &contents {
            Ok(Contents { servers, .. }) if !servers.is_empty() => {
                let is_first = state.contents.is_none();
                if before.addresses() != *servers {
                    let generation = before.generation + 1;
                    let list =
                        List { upstreams: upstreams(servers.clone(), self.timeout), generation };
                    *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
                } else if !is_first
                    && matches!(&state.contents, Some(Ok(contents)) if !contents.servers.is_empty())
                {
                    // Another comment, or another line that means nothing here.
                    state.contents = Some(contents);
                    return;
                }
                self.listener
                    .notify(&Event::Servers { file: Some(path()), servers: servers.clone() });
            }
            nothing => {
                let reason = nothing
                    .as_ref()
                    .err()
                    .map_or("it has no nameserver line", String::as_str)
                    .into();
                self.listener.notify(&Event::NoServers {
                    file: path(),
                    reason,
                    servers: before.addresses(),
                });
            }
        }
        state.contents = Some(contents);
    }
}

impl File {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn upstreams(addresses: Vec<SocketAddr>, timeout: Duration) -> Vec<Upstream> {
    addresses.into_iter().map(|address| Upstream::new(address, timeout)).collect()
}

/// Reads a file that names servers.
fn read_file(path: &Path) -> Result<Contents, String> {
    #[cfg(test)]
    assert!(!path.ends_with("panics"), "provoked");
    resolv_conf::read(path).map_err(|error| reason(&error))
}

/// The error in words, without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).into()
}

#[cfg(test)]
mod tests;
