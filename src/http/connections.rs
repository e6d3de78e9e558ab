//! Connections: accepted, bounded, and ended.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{respond::respond, site::Site};
use crate::{
    listen::Listener,
    log::{Log, RateLimit},
};

/// Connections that are served at the same time. One more ends the oldest: who asks and reads at
/// once has been served long before, and who does not cannot keep the others out.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// How long a connection may last, from its first octet to its last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// The least time from one connection to the next, of a socket; others wait in the backlog. So
/// requests take a small part of one processor, however many there are.
const INTERVAL: Duration = Duration::from_millis(5);

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
}

/// The connections that are served, from the oldest to the newest.
#[derive(Debug, Default)]
pub(super) struct Connections {
    served: Mutex<VecDeque<AbortHandle>>,
}

impl Connections {
    /// Serves a site to whom connects, for ever.
    pub(super) async fn serve(
        self: &Arc<Self>,
        source: &Source,
        site: &Arc<impl Site>,
        log: &Log,
    ) -> Infallible {
        let mut pace = interval(INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let accepted = match &source.listener {
                Accepting::Tcp(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| tokio::spawn(converse(stream, Arc::clone(site)))),
                Accepting::Unix(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| tokio::spawn(converse(stream, Arc::clone(site)))),
            };
            match accepted {
                Ok(task) => self.add(task.abort_handle()),
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

    /// Adds a connection; where that is one too many, the oldest ends.
    fn add(&self, connection: AbortHandle) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.retain(|connection| !connection.is_finished());
        if served.len() >= MAX_CONNECTIONS
            && let Some(oldest) = served.pop_front()
        {
            oldest.abort();
        }
        served.push_back(connection);
    }
}

/// Answers one request. What goes wrong is the peer's concern.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    site: Arc<impl Site>,
) {
    let answer = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(respond(&request, &*site).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), answer);
    let _ = timeout(CONNECTION_LIMIT, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_connection_gives_way() {
        let end_of = |task| timeout(CONNECTION_LIMIT, task);
        for (count, ended) in
            [(MAX_CONNECTIONS - 1, 0), (MAX_CONNECTIONS, 0), (MAX_CONNECTIONS + 1, 1), (40, 24)]
        {
            let connections = Connections::default();
            let mut tasks = Vec::new();
            for _ in 0..count {
                let task = tokio::spawn(std::future::pending::<()>());
                connections.add(task.abort_handle());
                tasks.push(task);
            }
            for task in tasks.drain(..ended) {
                assert!(end_of(task).await.unwrap().unwrap_err().is_cancelled());
            }
            assert!(tasks.iter().all(|task| !task.is_finished()));
            // One that has ended is not one of them any more.
            let newest = tasks.pop().unwrap();
            newest.abort();
            assert!(end_of(newest).await.unwrap().is_err());
            connections.add(tokio::spawn(std::future::pending::<()>()).abort_handle());
            assert!(tasks.iter().all(|task| !task.is_finished()));
        }
    }
}
