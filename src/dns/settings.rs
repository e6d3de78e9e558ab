//! How DNS is asked.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The most questions to name servers at one time. Each needs a descriptor.
pub const MAX_QUERIES: usize = 512;

/// How DNS is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The name servers; `None` or none: those of `resolv_conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// The file that names the servers of the system. Its `search` and `options` mean nothing here.
    /// It is read again when it has changed, and where all servers failed. Where it is missing or
    /// names no server, the servers before it are asked; at the start one at 127.0.0.1, as
    /// resolv.conf(5) says.
    pub resolv_conf: PathBuf,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Attempts per look-up, at least one; a look-up takes `timeout` times `attempts` at most, and
    /// one `timeout` more where the servers are others afterwards. They go round the servers, so
    /// that attempt k asks server k modulo their number. A server that answers with an error such
    /// as SERVFAIL is not asked again in the same look-up, and its answer is not an attempt; one that
    /// was silent or out of reach comes after the others for 30 seconds.
    pub attempts: usize,
    /// How many answers and failures are kept; 0: none. An answer of more than a KiB, the
    /// record that was parsed from it included, counts as several.
    pub cache_size: usize,
    /// Questions to name servers at one time, from 1 to [`MAX_QUERIES`]; further ones wait, within
    /// their time. A client keeps the number that it began with.
    pub max_queries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nameservers: None,
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            cache_size: 16384,
            max_queries: MAX_QUERIES,
        }
    }
}
