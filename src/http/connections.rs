//! Connections: accepted, bounded, and ended.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Notify,
    task::{AbortHandle, yield_now},
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};

use super::{respond::respond, site::Site};
use crate::{
    listen::Listener,
    log::{Log, RateLimit},
};

/// Connections that are served at the same time. One more ends another: the oldest of those that
/// have asked nothing yet, else the oldest that has its answer. Who asks and reads at once has been
/// served long before, and who does not cannot keep the others out. Where all wait for their answers,
/// one more waits with them.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// How long a connection may last, from its first octet to its last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// The least time from one answer to the next. So requests take a small part of one processor,
/// however many there are.
const INTERVAL: Duration = Duration::from_millis(5);

/// The most connections of a socket that are accepted in that time; others wait in the backlog. A
/// backlog full of those that ask nothing is gone within half a second.
const ACCEPTED_AT_ONCE: usize = 16;

/// The most octets of a request: the request line and the header.
const MAX_REQUEST: usize = 8192;

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How often it is logged that connections cannot be accepted.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Something to accept connections from.
pub(super) struct Source {
    listener: Accepting,
    name: String,
    failing: RateLimit,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Source {
    /// Within a runtime.
    pub(super) fn new(listener: Listener, name: String) -> io::Result<Self> {
        let listener = match listener {
            Listener::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Accepting::Unix(UnixListener::from_std(listener)?),
        };
        Ok(Self { listener, name, failing: RateLimit::new(LOG_INTERVAL) })
    }

    async fn accept(&self) -> io::Result<Box<dyn Peer>> {
        Ok(match &self.listener {
            Accepting::Tcp(listener) => Box::new(listener.accept().await?.0),
            Accepting::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The other side of a connection.
trait Peer: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Peer for T {}

/// How far a connection has come. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
struct Progress(Arc<AtomicU8>);

impl Progress {
    /// It has a whole request, and waits for the answer.
    const ASKED: u8 = 1;
    /// It has the answer, or what it reads of it.
    const ANSWERED: u8 = 2;

    fn reach(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn has_reached(&self, stage: u8) -> bool {
        self.0.load(Ordering::Relaxed) >= stage
    }
}

/// A connection that is served.
#[derive(Debug)]
struct Served {
    task: AbortHandle,
    progress: Progress,
}

/// The connections that are served, from the oldest to the newest.
#[derive(Debug)]
pub(super) struct Connections {
    served: Mutex<VecDeque<Served>>,
    /// One of them has its answer now.
    answered: Notify,
    /// Whoever is to be answered next has this.
    turn: tokio::sync::Mutex<Interval>,
}

impl Connections {
    /// None yet; within a runtime.
    pub(super) fn new() -> Self {
        Self {
            served: Mutex::default(),
            answered: Notify::new(),
            turn: tokio::sync::Mutex::new(pace()),
        }
    }

    /// Serves a site to whom connects, for ever.
    pub(super) async fn serve(
        self: &Arc<Self>,
        source: &Source,
        site: &Arc<impl Site>,
        log: &Log,
    ) -> Infallible {
        let mut pace = pace();
        loop {
            pace.tick().await;
            for _ in 0..ACCEPTED_AT_ONCE {
                match source.accept().await {
                    Ok(peer) => {
                        let progress = Progress::default();
                        self.add(&progress, || {
                            let connections = Arc::clone(self);
                            let (site, progress) = (Arc::clone(site), progress.clone());
                            tokio::spawn(connections.converse(peer, site, progress)).abort_handle()
                        })
                        .await;
                        // What has come with the connection is read before the next one.
                        yield_now().await;
                    }
                    // The peer gave up while it waited.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if source.failing.allow() {
                            let name = &source.name;
                            log.error(|| format!("cannot accept a connection on {name}: {error}"));
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Adds a connection as soon as there is a place for it.
    async fn add(&self, progress: &Progress, start: impl FnOnce() -> AbortHandle) {
        loop {
            // Before the look: an answer between the look and the waiting counts.
            let answered = self.answered.notified();
            if let Some(mut served) = self.with_place() {
                served.push_back(Served { task: start(), progress: progress.clone() });
                return;
            }
            answered.await;
        }
    }

    /// The connections, where one more has a place among them.
    fn with_place(&self) -> Option<MutexGuard<'_, VecDeque<Served>>> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.retain(|connection| !connection.task.is_finished());
        if served.len() < MAX_CONNECTIONS {
            return Some(served);
        }
        let has_reached = |stage| move |served: &Served| served.progress.has_reached(stage);
        let silent = served.iter().position(|served| !has_reached(Progress::ASKED)(served));
        let goes = silent.or_else(|| served.iter().position(has_reached(Progress::ANSWERED)))?;
        if let Some(connection) = served.remove(goes) {
            connection.task.abort();
        }
        Some(served)
    }

    /// Answers one request. What goes wrong is the peer's concern.
    async fn converse(
        self: Arc<Self>,
        peer: impl Peer + 'static,
        site: Arc<impl Site>,
        progress: Progress,
    ) {
        let answering = Answering { connections: self, progress };
        let answer = service_fn(|request| {
            let (answering, site) = (&answering, &site);
            async move {
                answering.progress.reach(Progress::ASKED);
                answering.connections.turn.lock().await.tick().await;
                let response = respond(&request, &**site).await;
                answering.is_over();
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_REQUEST)
            .serve_connection(TokioIo::new(peer), answer);
        let _ = timeout(CONNECTION_LIMIT, connection).await;
    }
}

fn pace() -> Interval {
    let mut pace = interval(INTERVAL);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// The work on an answer, which is over at the latest with the connection.
struct Answering {
    connections: Arc<Connections>,
    progress: Progress,
}

impl Answering {
    fn is_over(&self) {
        self.progress.reach(Progress::ANSWERED);
        self.connections.answered.notify_waiters();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.is_over();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::Ipv4Addr};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
        time::Instant,
    };

    use super::*;
    use crate::{
        config::LogLevel,
        http::{Health, Page},
    };

    const SILENT: u8 = 0;
    const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n";

    struct Small;

    impl Site for Small {
        const STYLE: &'static str = "sha256-AAAA";

        fn page(&self, _: Page) -> Result<String, String> {
            Ok(String::new())
        }

        fn is_own_name(&self, _: &str) -> bool {
            false
        }

        async fn is_healthy(&self) -> Health {
            Ok(())
        }

        async fn is_ready(&self) -> Health {
            Ok(())
        }
    }

    /// Adds a connection that stays as it is.
    async fn add(connections: &Connections, stage: u8) -> JoinHandle<()> {
        let (progress, task) = (Progress::default(), tokio::spawn(pending::<()>()));
        progress.reach(stage);
        connections.add(&progress, || task.abort_handle()).await;
        task
    }

    /// The numbers of the connections that ended.
    async fn ended(tasks: &[JoinHandle<()>]) -> Vec<usize> {
        yield_now().await;
        let is_ended = |number: &usize| tasks[*number].is_finished();
        (0..tasks.len()).filter(is_ended).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_give_way_first_and_then_the_answered() {
        use Progress as P;
        let mut stages = [P::ASKED; MAX_CONNECTIONS];
        (stages[2], stages[5], stages[7], stages[9]) = (P::ANSWERED, SILENT, P::ANSWERED, SILENT);
        let connections = Connections::new();
        let mut tasks = Vec::new();
        for stage in stages {
            tasks.push(add(&connections, stage).await);
        }
        assert!(ended(&tasks).await.is_empty());
        for expected in [&[5][..], &[5, 9], &[2, 5, 9], &[2, 5, 7, 9]] {
            tasks.push(add(&connections, P::ASKED).await);
            assert_eq!(ended(&tasks).await, expected);
        }
        // All wait for their answers: one more waits with them.
        assert!(timeout(CONNECTION_LIMIT, add(&connections, P::ASKED)).await.is_err());
        assert_eq!(ended(&tasks).await, [2, 5, 7, 9]);
        // One that has ended is not one of them any more.
        tasks[0].abort();
        yield_now().await;
        tasks.push(add(&connections, P::ASKED).await);
        assert_eq!(ended(&tasks).await, [0, 2, 5, 7, 9]);
    }

    async fn connect(to: &std::net::TcpListener, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(to.local_addr().unwrap()).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream
    }

    /// The clock stands still while there is something to do, so that it shows only what is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_probe_behind_a_crowd_is_answered_soon() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut crowd = Vec::new();
        for number in 0..100 {
            let begun: &[u8] = if number % 2 == 0 { b"" } else { b"GET /met" };
            crowd.push(connect(&listener, begun).await);
        }
        let mut probe = connect(&listener, REQUEST).await;
        let source = Source::new(Listener::Tcp(listener), "test".into()).unwrap();
        let (connections, log) = (Arc::new(Connections::new()), Log::keep(LogLevel::Error));
        let site = Arc::new(Small);
        let serving = connections.serve(&source, &site, &log);
        let start = Instant::now();
        let mut answer = String::new();
        tokio::select! {
            read = probe.read_to_string(&mut answer) => read.unwrap(),
            _ = serving => unreachable!(),
        };
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let batches = u32::try_from(crowd.len().div_ceil(ACCEPTED_AT_ONCE)).unwrap();
        assert!(start.elapsed() <= INTERVAL * (batches + 1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_many_who_ask_is_answered() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut asking = Vec::new();
        for _ in 0..MAX_CONNECTIONS * 4 {
            asking.push(connect(&listener, REQUEST).await);
        }
        let source = Source::new(Listener::Tcp(listener), "test".into()).unwrap();
        let (connections, log) = (Arc::new(Connections::new()), Log::keep(LogLevel::Error));
        let site = Arc::new(Small);
        let reading = async {
            for stream in &mut asking {
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        };
        tokio::select! {
            () = reading => {}
            _ = connections.serve(&source, &site, &log) => unreachable!(),
        }
    }
}
