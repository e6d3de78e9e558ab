//! The sockets that hickory asks a name server through. Replies are made readable for it on their way ([`wire`]).

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::Duration,
};

use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime, iocompat::AsyncIoTokioAsStd,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UdpSocket},
};

use super::wire;

/// Octets before a message that tell its length (RFC 1035 §4.2.2).
const LENGTH: usize = 2;

/// Octets read at once.
const PIECE: usize = 4096;

/// Where hickory gets its sockets: connected ones, so that a closed port is known at once and the kernel drops what comes from
/// anyone but the server.
#[derive(Clone)]
pub(super) struct Sockets {
    /// With the scope of a link-local address, which hickory does not know.
    server: SocketAddr,
    timeout: Duration,
    tokio: TokioRuntimeProvider,
}

impl Sockets {
    pub(super) fn new(server: SocketAddr, timeout: Duration) -> Self {
        Self { server, timeout, tokio: TokioRuntimeProvider::new() }
    }
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ConnectedUdp;
    type Tcp = AsyncIoTokioAsStd<Connection>;

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
            Ok(AsyncIoTokioAsStd(Connection { stream: connection.0, message: Vec::new(), given: None }))
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
pub(super) struct ConnectedUdp {
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

/// A TCP connection. Of each message all is read before hickory gets any of it.
pub(super) struct Connection {
    stream: TcpStream,
    /// The message, its length before it, as far as it has come.
    message: Vec<u8>,
    /// How much of it hickory has got; `None` until all of it is there.
    given: Option<usize>,
}

impl Connection {
    /// How many octets the message has, as far as that is known.
    fn wanted(&self) -> usize {
        self.message.first_chunk().map_or(LENGTH, |length| LENGTH + usize::from(u16::from_be_bytes(*length)))
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(given) = &mut this.given {
                let left = this.message.get(*given..).unwrap_or_default();
                let part = left.get(..buf.remaining()).unwrap_or(left);
                buf.put_slice(part);
                *given += part.len();
                if *given == this.message.len() {
                    this.given = None;
                    this.message.clear();
                    this.message.shrink_to(PIECE);
                }
                return Poll::Ready(Ok(()));
            }
            let missing = this.wanted() - this.message.len();
            if missing == 0 {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "message of no octets")));
            }
            let mut room = [0; PIECE];
            let mut piece = ReadBuf::new(room.get_mut(..missing.min(PIECE)).unwrap_or_default());
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                // The end, in the middle of a message perhaps.
                return Poll::Ready(Ok(()));
            }
            this.message.extend_from_slice(piece.filled());
            if this.message.len() > LENGTH && this.message.len() == this.wanted() {
                if let Some(message) = this.message.get_mut(LENGTH..) {
                    let length = message.len();
                    wire::repair(message, length, None);
                }
                this.given = Some(0);
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
