//! One name server, asked through hickory.
//!
//! Below hickory's resolver, at its pool of one server: the resolver above it has a cache, a search list, and answers of its own
//! for `localhost`, `*.invalid`, `*.onion` and loopback addresses. Here every question goes to the server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        xfer::{DnsHandle, FirstAnswer},
    },
    proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
};
use tokio::time::Instant;

use super::{reply::Reply, sockets::Sockets};

/// A server that was silent or out of reach is asked after the others for so long; then one look-up tries it again.
const HOLD: Duration = Duration::from_secs(30);

/// Queries that wait for replies on one TCP connection; more than all look-ups together.
const MAX_TCP_QUERIES: usize = 1024;

/// A name server.
pub(super) struct Upstream {
    address: SocketAddr,
    pool: NameServerPool<Sockets>,
    epoch: Instant,
    /// Milliseconds after `epoch` until which the server comes last; 0: it answers.
    held_until: AtomicU64,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Self {
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.num_concurrent_reqs = 1;
        options.max_active_requests = MAX_TCP_QUERIES;
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .map(|mut connection| {
                connection.port = address.port();
                connection
            })
            .to_vec();
        let server = NameServerConfig::new(address.ip(), true, connections);
        let context = Arc::new(PoolContext::new(options, TlsConfig {}));
        let sockets = Sockets::new(address, timeout);
        Self {
            address,
            pool: NameServerPool::from_config([server], context, sockets),
            epoch: Instant::now(),
            held_until: AtomicU64::new(0),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the server: over UDP; over TCP after a truncated reply; without EDNS where the server does not know it (RFC 6891 §7).
    pub(super) async fn ask(&self, question: &Query) -> Reply {
        let mut result = self.send(question, true).await;
        // The number of BADVERS has two names; hickory reads it as BADSIG, which nobody says to queries without a signature.
        if let Err(NetError::Dns(DnsError::ResponseCode(
            ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS | ResponseCode::BADSIG,
        ))) = result
        {
            result = self.send(question, false).await;
        }
        match result {
            Ok(response) => Reply::from_message(&response, question),
            Err(error) => Reply::from_error(&error, question),
        }
    }

    async fn send(&self, question: &Query, edns: bool) -> Result<DnsResponse, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = edns;
        options.recursion_desired = true;
        self.pool.lookup(question.clone(), options).first_answer().await
    }

    /// Whether to ask this server before those that were silent. When its hold is over, that is so for one look-up.
    pub(super) fn is_ready(&self) -> bool {
        let held_until = self.held_until.load(Ordering::Relaxed);
        if held_until == 0 {
            return true;
        }
        let now = self.now();
        now >= held_until
            && self.held_until.compare_exchange(held_until, now + millis(HOLD), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that the server answered.
    pub(super) fn release(&self) {
        if self.held_until.load(Ordering::Relaxed) != 0 {
            self.held_until.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the server was silent or out of reach.
    pub(super) fn hold(&self) {
        self.held_until.store(self.now() + millis(HOLD), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
