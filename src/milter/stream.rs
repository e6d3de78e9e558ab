//! The MTA's connection, as the milter library reads and writes it.
//!
//! The library does not notice a peer that leaves while it waits for us, nor mind one that stops in the middle of a packet. This
//! layer does.

use std::{
    cell::RefCell,
    future::Future as _,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{macros::Macros, packets::Packets};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::{Sleep, sleep},
};

/// Octets read at once where packets begin; most packets are smaller.
const SMALL_READ: usize = 4096;

thread_local! {
    /// Where packets are read to: a thread reads from one connection at a time.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How long a peer may take no answer.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// How long a TCP connection may be silent before the system asks whether the other host is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(300);

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
    /// A TCP connection, set up for a conversation of small packets.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        // Each packet is an answer that the MTA waits for. Where this fails, the peer has gone.
        let _ = stream.set_nodelay(true);
        // A host that has vanished would keep its place until the longest silence is over.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL));
        Self::Tcp(stream)
    }

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
                Self::Tcp(stream) => stream.ready(Interest::READABLE).await,
                Self::Unix(stream) => stream.ready(Interest::READABLE).await,
            };
            // Its end is seen even behind what it said before.
            if ready.map_or(true, |ready| ready.is_read_closed()) {
                return;
            }
            match self.try_io(|socket| socket.peek(&mut [std::mem::MaybeUninit::uninit()])) {
                Ok(0) => return,
                // What it says now is not to be read before it is answered.
                Ok(_) => sleep(PENDING_INPUT_INTERVAL).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Ends the connection, in one direction or both.
    pub(crate) fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(how),
            Self::Unix(stream) => SockRef::from(stream).shutdown(how),
        }
    }
}

fn too_slow_to_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "peer does not take an answer")
}

/// What the stream and those who serve the connection tell each other past the library.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Told when the library has let go of the stream.
    pub(crate) ended: Notify,
    /// What the peer did wrong.
    fault: Mutex<Option<io::Error>>,
    macros: Mutex<Macros>,
    /// What the MTA gave for the address of the client that it described last, where that is none.
    no_address: Mutex<Option<String>>,
    /// Packets of edits, which go with the reply that follows them: so the MTA is woken once.
    edits: Mutex<Vec<u8>>,
}

impl Exchange {
    /// What the peer did wrong, if anything.
    pub(crate) fn take_fault(&self) -> Option<io::Error> {
        lock(&self.fault).take()
    }

    /// The macros that are defined now.
    pub(super) fn macros(&self) -> MutexGuard<'_, Macros> {
        lock(&self.macros)
    }

    /// What the MTA gave for the address of a client, where that is none; once.
    pub(super) fn take_no_address(&self) -> Option<String> {
        lock(&self.no_address).take()
    }

    /// Lets packets go with the reply that follows.
    pub(super) fn send_with_reply(&self, edits: Vec<u8>) {
        *lock(&self.edits) = edits;
    }

    /// Keeps an error for those who serve the connection; the library gets one like it.
    fn blame(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        *lock(&self.fault) = Some(error);
        kind.into()
    }
}

/// What is behind these locks is whole whatever happened to another who held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the library reads from and writes to.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Arc<Socket>,
    packets: Packets,
    limit: Option<Pin<Box<Sleep>>>,
    write_limit: Option<Pin<Box<Sleep>>>,
    /// The peer has left, or is out of reach.
    at_end: bool,
    exchange: Arc<Exchange>,
}

impl Stream {
    /// A stream over the socket.
    pub(crate) fn new(socket: Arc<Socket>, exchange: Arc<Exchange>) -> Self {
        Self { socket, packets: Packets::default(), limit: None, write_limit: None, at_end: false, exchange }
    }

    /// Gives the library what it can have, of octets that have come and of those that wait; whether it got anything.
    fn pass_on(&mut self, octets: &[u8], buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let room = buf.remaining();
        let ended = self.packets.take(octets, &mut self.exchange.macros(), buf).map_err(|error| self.exchange.blame(error))?;
        // The time runs from the first octet of what is owed, not from the last that came.
        if ended {
            self.limit = None;
        }
        if let Some(client) = self.packets.take_client() {
            *lock(&self.exchange.no_address) = client.no_address;
        }
        Ok(buf.remaining() < room)
    }

    /// Reads what is there; `Pending` when there is nothing and the peer owes nothing, or not for too long.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let ready = match &*self.socket {
                Socket::Tcp(stream) => stream.poll_read_ready(cx),
                Socket::Unix(stream) => stream.poll_read_ready(cx),
            };
            if ready.is_pending() {
                let Some(limit) = self.packets.limit_in_force() else { return Poll::Pending };
                let timer = self.limit.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(timer.as_mut().poll(cx));
                let error = io::Error::new(io::ErrorKind::TimedOut, "peer is too slow to send a packet");
                return Poll::Ready(Err(self.exchange.blame(error)));
            }
            match read(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.at_end = !matches!(result, Ok(1..));
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.packets.is_waiting() && this.pass_on(&[], buf)? {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(room) = this.packets.direct_room(buf) {
                let length = ready!(this.poll_socket(cx, |socket| match socket {
                    Socket::Tcp(stream) => stream.try_read(room),
                    Socket::Unix(stream) => stream.try_read(room),
                }))?;
                buf.advance(length);
                if this.packets.passed(length) {
                    this.limit = None;
                }
                return Poll::Ready(Ok(()));
            }
            let passed = ready!(ROOM.with_borrow_mut(|room| {
                room.clear();
                room.reserve(SMALL_READ);
                let length = ready!(this.poll_socket(cx, |socket| match socket {
                    Socket::Tcp(stream) => stream.try_read_buf(room),
                    Socket::Unix(stream) => stream.try_read_buf(room),
                }))?;
                // Nothing is the end.
                Poll::Ready(if length > 0 { this.pass_on(room, buf) } else { Ok(true) })
            }))?;
            if passed {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let ready = match &*this.socket {
                Socket::Tcp(stream) => stream.poll_write_ready(cx),
                Socket::Unix(stream) => stream.poll_write_ready(cx),
            };
            if ready.is_pending() {
                let timer = this.write_limit.get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Err(this.exchange.blame(too_slow_to_read())));
            }
            // The library is between packets when edits are given, and writes nothing before the reply.
            let mut edits = lock(&this.exchange.edits);
            let both = [IoSlice::new(&edits), IoSlice::new(octets)];
            let result = match (&*this.socket, edits.is_empty()) {
                (Socket::Tcp(stream), true) => stream.try_write(octets),
                (Socket::Tcp(stream), false) => stream.try_write_vectored(&both),
                (Socket::Unix(stream), true) => stream.try_write(octets),
                (Socket::Unix(stream), false) => stream.try_write_vectored(&both),
            };
            match result {
                Ok(written) => {
                    this.write_limit = None;
                    let before = written.min(edits.len());
                    if before < edits.len() {
                        edits.drain(..before);
                    } else {
                        // Most connections are idle most of the time, and are to be small then.
                        *edits = Vec::new();
                    }
                    // Nothing of what the library gave would mean that the connection is at its end.
                    if written > before || before == 0 {
                        return Poll::Ready(Ok(written - before));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    this.at_end = true;
                    this.write_limit = None;
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shut_down(Shutdown::Write))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The library tells nobody what it could not read.
        let mut fault = lock(&self.exchange.fault);
        if fault.is_none() && !self.at_end && !self.packets.has_quit() {
            *fault = Some(io::Error::new(io::ErrorKind::InvalidData, "a packet that cannot be read, or too long a silence"));
        }
        drop(fault);
        self.exchange.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;

    const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";

    fn pair() -> (UnixStream, Stream, Arc<Exchange>) {
        let (peer, ours) = UnixStream::pair().unwrap();
        let exchange = Arc::new(Exchange::default());
        (peer, Stream::new(Arc::new(Socket::Unix(ours)), Arc::clone(&exchange)), exchange)
    }

    /// Reads as long as anything comes; how that ended, and after how many seconds.
    async fn read_on(stream: &mut Stream) -> (io::ErrorKind, u64) {
        let begin = Instant::now();
        let mut room = [0; 100];
        loop {
            match stream.read(&mut room).await {
                Ok(0) => return (io::ErrorKind::UnexpectedEof, begin.elapsed().as_secs()),
                Ok(_) => {}
                Err(error) => return (error.kind(), begin.elapsed().as_secs()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_left() {
        let (_peer, mut stream, exchange) = pair();
        assert_eq!(read_on(&mut stream).await, (io::ErrorKind::TimedOut, 30));
        assert!(exchange.take_fault().unwrap().to_string().contains("too slow"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_in_a_packet_is_left() {
        for part in [b"\0".as_slice(), b"\0\0\0\x09B", b"\0\0\0\x09Babc", b"\0\0\0\x09Cabc", b"\0\x0f\xff\xffLabc"] {
            let (mut peer, mut stream, _) = pair();
            peer.write_all(&[OPEN, part].concat()).await.unwrap();
            assert_eq!(read_on(&mut stream).await, (io::ErrorKind::TimedOut, 60), "{part:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_dribbles_gains_no_time() {
        let (mut peer, mut stream, _) = pair();
        peer.write_all(&[OPEN, b"\0\0\x01\0B"].concat()).await.unwrap();
        let dribble = async {
            while peer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(5)).await;
            }
        };
        let (kind, seconds) = tokio::select! { end = read_on(&mut stream) => end, () = dribble => unreachable!() };
        assert_eq!((kind, seconds), (io::ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_between_packets_may_idle() {
        let (mut peer, mut stream, _) = pair();
        peer.write_all(&[OPEN, b"\0\0\0\x03Hx\0"].concat()).await.unwrap();
        let hours = Duration::from_secs(2 * 3600);
        assert!(timeout(hours, read_on(&mut stream)).await.is_err());
        // And it is heard again, with a new limit.
        peer.write_all(b"\0").await.unwrap();
        assert_eq!(read_on(&mut stream).await, (io::ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_answer_is_left() {
        let (_peer, mut stream, exchange) = pair();
        let begin = Instant::now();
        let error = loop {
            if let Err(error) = stream.write_all(&[0; 65536]).await {
                break error;
            }
        };
        assert_eq!((error.kind(), begin.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        assert!(exchange.take_fault().unwrap().to_string().contains("answer"));
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_has_an_end_at_once() {
        let (mut peer, mut stream, exchange) = pair();
        peer.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(read_on(&mut stream).await, (io::ErrorKind::InvalidData, 0));
        assert_eq!(exchange.take_fault().unwrap().to_string(), "peer does not speak milter");
    }

    #[tokio::test]
    async fn a_peer_that_leaves_is_noticed() {
        // Also behind what it said before.
        for said in [b"".as_slice(), b"abc"] {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            let socket = Socket::Unix(ours);
            assert!(timeout(Duration::from_millis(20), socket.closed_by_peer()).await.is_err());
            peer.write_all(said).await.unwrap();
            assert!(timeout(Duration::from_millis(20), socket.closed_by_peer()).await.is_err());
            drop(peer);
            timeout(Duration::from_secs(60), socket.closed_by_peer()).await.unwrap();

            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = Socket::tcp(listener.accept().await.unwrap().0);
            let Socket::Tcp(stream) = &socket else { unreachable!() };
            assert!(stream.nodelay().unwrap() && SockRef::from(stream).keepalive().unwrap());
            peer.write_all(said).await.unwrap();
            drop(peer);
            timeout(Duration::from_secs(60), socket.closed_by_peer()).await.unwrap();
        }
    }

    fn packet(command: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content].concat()
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
        let (mut mta, mut stream, exchange) = pair();
        let changes = [packet(b'm', b"\0\0\0\x01A\0\0"), packet(b'i', b"\0\0\0\0B\0x\0")].concat();
        exchange.send_with_reply(changes.clone());
        assert!(mta.try_read(&mut [0]).is_err());
        let reply = packet(b'c', b"");
        stream.write_all(&reply).await.unwrap();
        let expected = [changes, reply.clone()].concat();
        assert_eq!(got(&mut mta, expected.len()).await, expected);
        // And nothing of it comes again.
        stream.write_all(&reply).await.unwrap();
        assert_eq!(got(&mut mta, reply.len()).await, reply);
    }

    #[tokio::test]
    async fn changes_of_any_length_go_with_the_reply() {
        let (mut mta, mut stream, exchange) = pair();
        let changes = packet(b'i', &[b'x'; 900_000]);
        let reply = packet(b'y', &[b'y'; 900_000]);
        let expected = [changes.as_slice(), &reply].concat();
        exchange.send_with_reply(changes);
        let (written, octets) = tokio::join!(stream.write_all(&reply), got(&mut mta, expected.len()));
        written.unwrap();
        assert!(octets == expected);
    }
}
