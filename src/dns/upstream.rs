//! One name server, asked through hickory.
//!
//! Below hickory's resolver, at its pool of one server: the resolver above it has a cache, a search list, and answers of its own
//! for `localhost`, `*.invalid`, `*.onion` and loopback addresses. Here every question goes to the server.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime},
        xfer::{DnsHandle, FirstAnswer},
    },
    proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode},
};
use socket2::SockRef;
use tokio::{
    io::{Interest, ReadBuf},
    net::UdpSocket,
    time::Instant,
};

use super::{reply::Reply, wire};

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
        let sockets = Sockets { server: address, timeout, tokio: TokioRuntimeProvider::new() };
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

/// Where hickory gets its sockets: connected ones, so that a closed port is known at once and the kernel drops what comes from
/// anyone but the server.
#[derive(Clone)]
struct Sockets {
    /// With the scope of a link-local address, which hickory does not know.
    server: SocketAddr,
    timeout: Duration,
    tokio: TokioRuntimeProvider,
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ConnectedUdp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        _: SocketAddr,
        local: Option<SocketAddr>,
        wait_for: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = Result<Self::Tcp, io::Error>>>> {
        let timeout = self.timeout;
        let connection = self.tokio.connect_tcp(self.server, local, wait_for);
        Box::pin(async move {
            let connection = connection.await?;
            // The connection is kept for later look-ups: one that went dead unnoticed must not fail them all.
            SockRef::from(&connection.0).set_tcp_user_timeout(Some(timeout))?;
            Ok(connection)
        })
    }

    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> Pin<Box<dyn Send + Future<Output = Result<Self::Udp, io::Error>>>> {
        let server = self.server;
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(ConnectedUdp { socket, server, question: OnceLock::new() })
        })
    }
}

/// A UDP socket that knows one peer.
struct ConnectedUdp {
    socket: UdpSocket,
    server: SocketAddr,
    /// What was asked: there is a socket for each query.
    question: OnceLock<Vec<u8>>,
}

impl ConnectedUdp {
    /// The length of the reply that was received, once it can be read.
    fn repair(&self, room: &mut [u8], length: usize) -> usize {
        wire::repair(room, length, self.question.get().map(Vec::as_slice))
    }
}

impl DnsUdpSocket for ConnectedUdp {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut received = ReadBuf::new(buffer);
        ready!(self.socket.poll_recv(cx, &mut received))?;
        let length = received.filled().len();
        Poll::Ready(Ok((self.repair(buffer, length), self.server)))
    }

    /// As the provided one, but an ICMP error ends the wait: tokio does not take it for something to receive.
    fn recv_from<'this, 'buffer, 'future>(
        &'this self,
        buffer: &'buffer mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'future>>
    where
        'this: 'future,
        'buffer: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            loop {
                let ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
                if ready.is_error() {
                    if let Some(error) = self.socket.take_error()? {
                        return Err(error);
                    }
                    // The error is gone, the readiness must go as well.
                    let _ = self.socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                }
                match self.socket.try_recv(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => return received.map(|length| (self.repair(buffer, length), self.server)),
                }
            }
        })
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, message: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        if let Some(question) = wire::question(message) {
            self.question.get_or_init(|| question.to_vec());
        }
        self.socket.poll_send(cx, message)
    }
}
