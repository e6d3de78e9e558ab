//! Events of DNS that operators should know. A listener is notified of them; the daemon logs them.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use super::{
    answer::{Failure, RecordType},
    resolv_conf::PORT,
};

/// A name server as people write it: the port where it is not 53.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server(pub SocketAddr);

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            address if address.port() != PORT => address.fmt(f),
            // An interface is written only by `SocketAddrV6`, between brackets.
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                write!(f, "{}%{}", address.ip(), address.scope_id())
            }
            address => address.ip().fmt(f),
        }
    }
}

impl Server {
    /// Several, with commas between them.
    pub fn list(servers: &[SocketAddr]) -> String {
        servers.iter().map(|server| Self(*server).to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Something that operators should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// These servers are asked from now on.
    Servers {
        /// The file that names them; `None`: the configuration does.
        file: Option<PathBuf>,
        /// The servers.
        servers: Vec<SocketAddr>,
    },
    /// The file names no server.
    NoServers {
        /// The file.
        file: PathBuf,
        /// Why, such as `No such file or directory`.
        reason: String,
        /// The servers that are asked all the same.
        servers: Vec<SocketAddr>,
    },
    /// Lines of the file that name no server although they seem to.
    BadLines {
        /// The file.
        file: PathBuf,
        /// The number of the first such line, from 1.
        number: usize,
        /// The word that it has instead of an address.
        text: String,
    },
    /// The file is being read, and that takes too long.
    Hangs {
        /// The file.
        file: PathBuf,
    },
    /// Servers did not answer a question, nor anything else meanwhile.
    Silent {
        /// The servers.
        servers: Vec<SocketAddr>,
        /// Whether another server answered.
        is_answered: bool,
        /// The outcome of the question.
        failure: Failure,
        /// The type that was asked for.
        record_type: RecordType,
        /// The name that was asked for.
        name: String,
    },
}

/// Is notified of events.
#[derive(Clone)]
pub(super) struct Listener(Arc<dyn Fn(&Event) + Send + Sync>);

impl Listener {
    pub(super) fn new(notify: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(notify))
    }

    pub(super) fn notify(&self, event: &Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_people_write_them() {
        let servers =
            ["127.0.0.1:53", "192.0.2.1:5353", "[2001:db8::1]:53", "[fe80::1%2]:53", "[::1]:54"]
                .map(|text| text.parse().unwrap());
        assert_eq!(
            Server::list(&servers),
            "127.0.0.1, 192.0.2.1:5353, 2001:db8::1, fe80::1%2, [::1]:54"
        );
    }
}
