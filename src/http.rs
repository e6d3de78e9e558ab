//! HTTP for monitoring: a thread of its own, so that whoever reads slowly, asks often or sends
//! nonsense costs mail nothing.
//!
//! A connection has one request and one response. `connections` bounds their number, their rate and
//! their time, `respond` makes responses of requests, whose contents a `Site` has, `hosts` keeps pages
//! of strangers out.

mod connections;
mod hosts;
mod respond;
mod site;

use std::{convert::Infallible, io, sync::Arc, thread};

use futures_util::future::join_all;
use tokio::{runtime::Builder, sync::oneshot};

use crate::{internal_error::keep_on, listen::Listener, log::Log};
use connections::{Connections, MAX_CONNECTIONS, Source};
pub(crate) use site::{Health, Page, Site};

/// Descriptors for a connection that is just being accepted, and for the runtime.
const SPARE_DESCRIPTORS: usize = 8;

/// Descriptors that this takes beside the sockets that it listens on.
pub(crate) const DESCRIPTORS: usize = MAX_CONNECTIONS + SPARE_DESCRIPTORS;

/// The thread. It ends when this is dropped, with all connections; nobody waits for that.
#[derive(Debug)]
pub(crate) struct Http {
    _running: oneshot::Sender<Infallible>,
}

impl Http {
    /// Serves a site on these sockets, each with its name for the log.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or its runtime.
    pub(crate) fn start(
        sockets: Vec<(Listener, String)>,
        site: Arc<impl Site>,
        log: Log,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sources = {
            let _context = runtime.enter();
            let source = |(listener, name)| Source::new(listener, name);
            sockets.into_iter().map(source).collect::<io::Result<Vec<_>>>()?
        };
        let (running, to_end) = oneshot::channel();
        thread::Builder::new().name("http".into()).spawn(move || {
            runtime.block_on(async {
                let connections = Arc::new(Connections::new());
                let (connections, site, log) = (&connections, &site, &log);
                let serving = sources
                    .iter()
                    .map(|source| keep_on(move || connections.serve(source, site, log)));
                tokio::select! {
                    // An error, that the other end is gone.
                    _ = to_end => {}
                    _ = join_all(serving) => {}
                }
            });
        })?;
        Ok(Self { _running: running })
    }
}
