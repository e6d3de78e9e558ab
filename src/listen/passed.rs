//! Sockets from the service manager.

use anyhow::bail;
use listenfd::ListenFd;
use socket2::SockRef;

use super::socket::{Listener, ListeningSocket};

/// The sockets that the service manager passed (`sd_listen_fds(3)`).
pub(super) struct PassedSockets {
    sockets: ListenFd,
    /// The name of each, in their order.
    names: Vec<String>,
}

impl PassedSockets {
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let names = std::env::var_os("LISTEN_FDNAMES");
        let sockets = ListenFd::from_env();
        let names = match names.map(|names| names.into_string()) {
            // Names are optional; without any, all have the empty one.
            None => vec![String::new(); sockets.len()],
            Some(Ok(names)) => names.split(':').map(str::to_owned).collect(),
            Some(Err(_)) => bail!("LISTEN_FDNAMES is not UTF-8"),
        };
        // Variables of another process pass nothing to this one.
        if sockets.len() > 0 && names.len() != sockets.len() {
            bail!("the service manager passed {} sockets and {} names", sockets.len(), names.len());
        }
        Ok(Self { sockets, names })
    }

    pub(super) fn take(&mut self, wanted: Option<&str>) -> anyhow::Result<Vec<ListeningSocket>> {
        let mut taken = Vec::new();
        for (index, name) in self.names.iter().enumerate().take(self.sockets.len()) {
            if wanted.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let listener = match self.sockets.take_tcp_listener(index) {
                Ok(Some(listener)) => Listener::Tcp(listener),
                Ok(None) => continue,
                // Not TCP, and left where it is.
                Err(_) => match self.sockets.take_unix_listener(index)? {
                    Some(listener) => Listener::Unix(listener),
                    None => continue,
                },
            };
            let socket = match &listener {
                Listener::Tcp(listener) => SockRef::from(listener),
                Listener::Unix(listener) => SockRef::from(listener),
            };
            if !socket.is_listener()? {
                bail!(
                    "the service manager passed a connection, not a socket that listens (Accept= must be no)"
                );
            }
            socket.set_nonblocking(true)?;
            taken.push(ListeningSocket { listener, name: format!("fd:{name}"), file: None });
        }
        if taken.is_empty() {
            bail!("the service manager passed no such socket");
        }
        Ok(taken)
    }
}
