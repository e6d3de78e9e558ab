//! The MTA's connection, as the milter library reads and writes it.
//!
//! The library does not notice a peer that leaves while it waits for us, nor mind one that stops in the middle of a packet. This
//! layer does.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::packets::Packets;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::{Sleep, sleep},
};

/// Octets read at once where packets begin; most packets are smaller.
const SMALL_READ: usize = 4096;

/// How often a peer that has sent more than was asked of it is looked at again.
const PENDING_INPUT_INTERVAL: Duration = Duration::from_millis(250);

/// The commands of packets that change a message. A reply follows them, without which they mean nothing.
const CHANGES: &[u8] = b"+-2behimq";

/// Octets of changes that wait for the reply at most.
const MAX_WAITING: usize = 16 * 1024;

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
    packets: Packets,
    limit: Option<Pin<Box<Sleep>>>,
    /// Changes that go with the reply that follows them: the MTA is woken once, not once a packet.
    waiting: Vec<u8>,
    /// Octets of a packet of the library that are still to come.
    unwritten: usize,
    ended: Arc<Notify>,
}

impl Stream {
    /// A stream that tells `ended` when the library has let go of it.
    pub(crate) fn new(socket: Arc<Socket>, ended: Arc<Notify>) -> Self {
        Self { socket, packets: Packets::default(), limit: None, waiting: Vec::new(), unwritten: 0, ended }
    }

    /// Reads what is there; `Pending` when there is nothing and the peer owes nothing, or not for too long.
    fn poll_socket(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let ready = match &*self.socket {
                Socket::Tcp(stream) => stream.poll_read_ready(cx),
                Socket::Unix(stream) => stream.poll_read_ready(cx),
            };
            if ready.is_pending() {
                let Some(limit) = self.packets.limit_in_force() else { return Poll::Pending };
                let timer = self.limit.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let result = match &*self.socket {
                Socket::Tcp(stream) => stream.try_read(room),
                Socket::Unix(stream) => stream.try_read(room),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.packets.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(room) = this.packets.direct_room(buf) {
                let length = ready!(this.poll_socket(cx, room))?;
                buf.advance(length);
                if this.packets.passed(length) {
                    this.limit = None;
                }
                return Poll::Ready(Ok(()));
            }
            let mut room = [0; SMALL_READ];
            let length = ready!(this.poll_socket(cx, &mut room))?;
            if length == 0 {
                return Poll::Ready(Ok(()));
            }
            // The time runs from the first octet of what is owed, not from the last that came.
            if this.packets.take(room.get(..length).unwrap_or_default())? {
                this.limit = None;
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.unwritten == 0
            && let Some((&[a, b, c, d, command], content)) = octets.split_first_chunk::<5>()
        {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let whole = length == content.len() + 1;
            if whole && CHANGES.contains(&command) && this.waiting.len() + octets.len() <= MAX_WAITING {
                this.waiting.extend_from_slice(octets);
                return Poll::Ready(Ok(octets.len()));
            }
            this.unwritten = length.saturating_add(4);
        }
        loop {
            ready!(match &*this.socket {
                Socket::Tcp(stream) => stream.poll_write_ready(cx),
                Socket::Unix(stream) => stream.poll_write_ready(cx),
            })?;
            let both = [IoSlice::new(&this.waiting), IoSlice::new(octets)];
            let result = match (&*this.socket, this.waiting.is_empty()) {
                (Socket::Tcp(stream), true) => stream.try_write(octets),
                (Socket::Tcp(stream), false) => stream.try_write_vectored(&both),
                (Socket::Unix(stream), true) => stream.try_write(octets),
                (Socket::Unix(stream), false) => stream.try_write_vectored(&both),
            };
            match result {
                Ok(written) => {
                    let waited = written.min(this.waiting.len());
                    if waited < this.waiting.len() {
                        this.waiting.drain(..waited);
                    } else {
                        // Most connections are idle most of the time, and are to be small then.
                        this.waiting = Vec::new();
                    }
                    // Nothing of what the library gave would mean that the connection is at its end.
                    if written > waited || waited == 0 {
                        this.unwritten = this.unwritten.saturating_sub(written - waited);
                        return Poll::Ready(Ok(written - waited));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn packet(command: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content].concat()
    }

    fn connection() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(Arc::new(Socket::Unix(ours)), Arc::default()), theirs)
    }

    /// What the MTA has got so far.
    async fn got(mta: &mut UnixStream, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length];
        mta.read_exact(&mut octets).await.unwrap();
        assert!(mta.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        octets
    }

    #[tokio::test]
    async fn changes_go_with_the_reply() {
        let (mut stream, mut mta) = connection();
        let changes = [packet(b'm', b"\0\0\0\x01A\0\0"), packet(b'i', b"\0\0\0\0B\0x\0")];
        for change in &changes {
            stream.write_all(change).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert!(mta.try_read(&mut [0]).is_err());
        let reply = packet(b'c', b"");
        stream.write_all(&reply).await.unwrap();
        let expected = [changes.concat(), reply.clone()].concat();
        assert_eq!(got(&mut mta, expected.len()).await, expected);
        // And nothing of it comes again.
        stream.write_all(&reply).await.unwrap();
        assert_eq!(got(&mut mta, reply.len()).await, reply);
    }

    #[tokio::test]
    async fn what_comes_in_pieces_does_not_wait() {
        let (mut stream, mut mta) = connection();
        // What looks like a change lies within a packet.
        let content = [packet(b'i', b"x"), packet(b'i', b"y")].concat();
        let reply = packet(b'y', &content);
        let mut sent = 0;
        for piece in reply.split_inclusive(|octet| matches!(octet, b'y' | b'x')) {
            stream.write_all(piece).await.unwrap();
            sent += piece.len();
        }
        assert_eq!(got(&mut mta, sent).await, reply);
    }

    #[tokio::test]
    async fn many_changes_do_not_wait_for_ever() {
        let (mut stream, mut mta) = connection();
        let change = packet(b'i', &[b'x'; 1000]);
        let count = MAX_WAITING / change.len() + 1;
        for _ in 0..count {
            stream.write_all(&change).await.unwrap();
        }
        assert_eq!(got(&mut mta, change.len() * count).await, change.repeat(count));
    }
}
