//! Accepting connections.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    time::sleep,
};

use super::slots::Slots;
use crate::{
    internal_error::keep_on,
    listen::Listener,
    log::Log,
    milter::{Server, Socket, serve},
    workers::Worker,
};

/// The pause after a connection that could not be accepted, at first and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Something to accept connections from.
pub(super) enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Source {
    /// A source for one of the threads; each has one of the same socket.
    pub(super) fn new(listener: &Listener, worker: &Worker) -> io::Result<Self> {
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

/// Accepts connections of a socket for a thread.
pub(super) struct Acceptor {
    pub(super) source: Source,
    /// The socket's name.
    pub(super) name: String,
    pub(super) worker: Worker,
    pub(super) slots: Arc<Slots>,
    pub(super) server: Arc<Server>,
    pub(super) log: Log,
}

impl Acceptor {
    /// Accepts connections for ever. Trouble with one does not keep the next one waiting for long, nor
    /// does a panic: the other threads count on this one to accept its part.
    ///
    /// At the limit connections wait in the backlog; connections that came at the same time as the last
    /// wait here, one for each thread and socket at most. (Taking the slot first would let each
    /// socket that nobody connects to keep one.)
    pub(super) async fn accept(self) -> Infallible {
        keep_on(|| self.accept_each()).await
    }

    async fn accept_each(&self) -> Infallible {
        let mut pause = ACCEPT_PAUSE;
        loop {
            self.slots.wait_for_one(&self.log).await;
            self.worker.turn().await;
            match self.source.accept().await {
                Ok(socket) => {
                    pause = ACCEPT_PAUSE;
                    let load = self.worker.load();
                    let slot = self.slots.take(&self.log).await;
                    let (server, log) = (Arc::clone(&self.server), self.log.clone());
                    tokio::spawn(async move {
                        if let Err(error) = serve(socket, server).await {
                            log.debug(|| format!("connection ended: {error}"));
                        }
                        drop((slot, load));
                    });
                }
                // The peer gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if self.slots.fail() {
                        self.log.error(|| {
                            format!("cannot accept a connection on {}: {error}", self.name)
                        });
                    }
                    // Out of descriptors, say: trying again at once would be of no use.
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
    }
}
