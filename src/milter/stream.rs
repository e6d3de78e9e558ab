//! The MTA's connection, as the milter library reads and writes it.
//!
//! The library knows nothing of a peer that is gone while it waits for us, nor of one that speaks something else or stops in the
//! middle of a packet. This layer does.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::{Sleep, sleep},
};

/// How long a new connection may take until its first packet is there.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(30);

/// How long a packet may take from its first octet to its last.
const PACKET_LIMIT: Duration = Duration::from_secs(60);

/// The command that opens a milter session, and the lengths that its packet has: version, actions, steps and no more.
const NEGOTIATE: u8 = b'O';
const NEGOTIATE_LENGTHS: std::ops::RangeInclusive<u32> = 13..=1024;

/// How often a peer that has sent more than was asked of it is looked at again.
const PENDING_INPUT_INTERVAL: Duration = Duration::from_millis(250);

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a UNIX socket.
    Unix(UnixStream),
}

impl Socket {
    fn try_io<T>(&self, f: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || f(SockRef::from(stream))),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || f(SockRef::from(stream))),
        }
    }

    /// Returns when the peer has closed the connection.
    pub(crate) async fn closed_by_peer(&self) {
        loop {
            let ready = match self {
                Self::Tcp(stream) => stream.readable().await,
                Self::Unix(stream) => stream.readable().await,
            };
            if ready.is_err() {
                return;
            }
            match self.try_io(|socket| socket.peek(&mut [std::mem::MaybeUninit::uninit()])) {
                Ok(0) => return,
                // It has something to say, and so is there; behind that, its end cannot be seen.
                Ok(_) => sleep(PENDING_INPUT_INTERVAL).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// What the library reads from and writes to.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Arc<Socket>,
    position: Position,
    /// The octets of a packet's length and command that have come.
    head: Vec<u8>,
    negotiated: bool,
    limit: Option<Pin<Box<Sleep>>>,
    ended: Arc<Notify>,
}

/// Where in a packet the next octet belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Position {
    /// To the length or the command.
    Head,
    /// To the rest, of so many octets.
    Rest(usize),
}

impl Stream {
    /// A stream that tells `ended` when the library has let go of it.
    pub(crate) fn new(socket: Arc<Socket>, ended: Arc<Notify>) -> Self {
        Self { socket, position: Position::Head, head: Vec::new(), negotiated: false, limit: None, ended }
    }

    /// Follows the packets. The first one must open a session: whoever speaks something else is not listened to.
    ///
    /// Returns whether a packet was completed.
    fn follow(&mut self, mut octets: &[u8]) -> io::Result<bool> {
        let mut completed = false;
        while let Some((&first, rest)) = octets.split_first() {
            match self.position {
                Position::Rest(length) => {
                    let taken = length.min(octets.len());
                    octets = octets.get(taken..).unwrap_or_default();
                    completed |= taken == length;
                    self.position = if taken == length { Position::Head } else { Position::Rest(length - taken) };
                }
                Position::Head => {
                    self.head.push(first);
                    octets = rest;
                    if let [a, b, c, d, command] = *self.head.as_slice() {
                        let length = u32::from_be_bytes([a, b, c, d]);
                        if !self.negotiated && !(command == NEGOTIATE && NEGOTIATE_LENGTHS.contains(&length)) {
                            return Err(io::Error::new(io::ErrorKind::InvalidData, "peer does not speak milter"));
                        }
                        self.negotiated = true;
                        self.head.clear();
                        let rest = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(1);
                        completed |= rest == 0;
                        self.position = if rest == 0 { Position::Head } else { Position::Rest(rest) };
                    }
                }
            }
        }
        Ok(completed)
    }

    /// Whether the peer owes something now: the first packet, or the rest of one.
    fn limit_in_force(&self) -> Option<Duration> {
        if self.position != Position::Head || !self.head.is_empty() {
            Some(PACKET_LIMIT)
        } else if !self.negotiated {
            Some(NEGOTIATION_LIMIT)
        } else {
            None
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let ready = match &*this.socket {
                Socket::Tcp(stream) => stream.poll_read_ready(cx),
                Socket::Unix(stream) => stream.poll_read_ready(cx),
            };
            if ready.is_pending() {
                let Some(limit) = this.limit_in_force() else { return Poll::Pending };
                let timer = this.limit.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let room = buf.initialize_unfilled();
            let result = match &*this.socket {
                Socket::Tcp(stream) => stream.try_read(room),
                Socket::Unix(stream) => stream.try_read(room),
            };
            match result {
                Ok(length) => {
                    let started = this.negotiated || !this.head.is_empty();
                    // The time runs from the first octet of what is owed, not from the last that came.
                    if this.follow(room.get(..length).unwrap_or_default())? || !started {
                        this.limit = None;
                    }
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let result = match &*self.socket {
                Socket::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write(octets)
                }
                Socket::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write(octets)
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = match &*self.socket {
            Socket::Tcp(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Write),
        };
        Poll::Ready(result)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}
