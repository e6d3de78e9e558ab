//! Packets for MTAs, written for all connections of a thread together.
//!
//! An MTA that is answered goes on at once, and on a busy processor takes it from the thread that
//! answers. So packets are put aside until the connections that have work have had their turn, and
//! then are written one after the other.
//!
//! Each thread that serves connections has a task that writes ([`write_gathered`]). On other
//! threads, packets are not put aside.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::socket::Socket;
use crate::internal_error::contained;

/// The most answers that wait for others; together they are written at once.
const MAX_GATHERED: usize = 128;

/// The octets of answers that stay allocated.
const KEPT_CAPACITY: usize = 64 * 1024;

thread_local! {
    static OUTBOX: RefCell<Outbox> = const { RefCell::new(Outbox::new()) };
}

/// What a thread has put aside.
#[derive(Debug)]
struct Outbox {
    /// Whose packets they are, and how many octets.
    entries: Vec<(Arc<Outlet>, usize)>,
    /// The packets, one behind the other.
    octets: Vec<u8>,
    /// The task that writes; `None` where there is none.
    writer: Option<Waker>,
}

/// A connection, and what could not be written to it. What each answer needs is close together.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Outlet {
    /// Whether something could not be written.
    is_stuck: AtomicBool,
    pub(super) socket: Socket,
    stuck: Mutex<Stuck>,
    /// The task to wake when that happens. It stays: who asked once is woken each time.
    waker: Mutex<Option<Waker>>,
}

/// What could not be written, and why, if not because the MTA takes no more for now.
#[derive(Debug, Default)]
struct Stuck {
    octets: Vec<u8>,
    error: Option<io::Error>,
}

impl Outlet {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            is_stuck: AtomicBool::new(false),
            stuck: Mutex::default(),
            waker: Mutex::default(),
        }
    }

    /// Puts packets aside to be written soon; `false` where they are to be written at once. What is
    /// wrong with the connection comes with the next ones, or with [`Self::finish`].
    pub(super) fn put_aside(self: &Arc<Self>, octets: &[u8]) -> bool {
        !self.is_stuck() && put_aside(self, octets)
    }

    /// Writes packets that are not to be put aside ([`Self::put_aside`]) at once, behind what could not
    /// be written before.
    ///
    /// # Errors
    ///
    /// The MTA has left, or takes no answer.
    pub(super) async fn write(&self, octets: &[u8]) -> io::Result<()> {
        if self.is_stuck() {
            self.finish().await?;
        }
        self.socket.write(octets).await
    }

    /// Whether something could not be written.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }

    /// Ready when something could not be written; else the task is woken when that happens.
    pub(super) fn poll_stuck(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.is_stuck() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes what could not be written before.
    ///
    /// # Errors
    ///
    /// The MTA has left, or takes no answer.
    pub(super) async fn finish(&self) -> io::Result<()> {
        loop {
            let Stuck { octets, error } = std::mem::take(&mut *self.lock());
            if let Some(error) = error {
                return Err(error);
            }
            if octets.is_empty() {
                self.is_stuck.store(false, Ordering::Release);
                return Ok(());
            }
            self.socket.write(&octets).await?;
        }
    }

    /// Writes what the system takes, behind what it did not take before.
    fn write_now(&self, octets: &[u8]) {
        let (mut rest, mut error) = (octets, None);
        if !self.is_stuck() {
            match self.socket.write_now(&mut rest) {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => error = Some(failure),
            }
        }
        self.keep(rest, error);
    }

    /// Keeps what could not be written, and why, for the connection, which is woken.
    fn keep(&self, rest: &[u8], error: Option<io::Error>) {
        let mut stuck = self.lock();
        stuck.octets.extend_from_slice(rest);
        stuck.error = stuck.error.take().or(error);
        drop(stuck);
        self.is_stuck.store(true, Ordering::Release);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stuck> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    const fn new() -> Self {
        Self { entries: Vec::new(), octets: Vec::new(), writer: None }
    }

    fn write_all(&mut self) {
        // Taken out: nothing of it is left for others, whatever happens.
        let mut octets = std::mem::take(&mut self.octets);
        let mut entries = std::mem::take(&mut self.entries);
        let mut rest = octets.as_slice();
        for (outlet, length) in entries.drain(..) {
            // What is wrong with one connection is not the end of all, and its octets are nobody
            // else's.
            let (packets, others) = rest.split_at_checked(length).unzip();
            if packets.and_then(|packets| contained(|| outlet.write_now(packets))).is_none() {
                outlet.keep(&[], Some(io::Error::other("internal error in writing an answer")));
            }
            rest = others.unwrap_or_default();
        }
        octets.clear();
        octets.shrink_to(KEPT_CAPACITY);
        (self.octets, self.entries) = (octets, entries);
    }
}

/// Puts packets aside; `false` where nobody would write them.
fn put_aside(outlet: &Arc<Outlet>, octets: &[u8]) -> bool {
    let put = |outbox: &RefCell<Outbox>| {
        let mut outbox = outbox.borrow_mut();
        let Some(writer) = &outbox.writer else { return false };
        if outbox.entries.is_empty() {
            writer.wake_by_ref();
        }
        outbox.octets.extend_from_slice(octets);
        outbox.entries.push((Arc::clone(outlet), octets.len()));
        if outbox.entries.len() >= MAX_GATHERED || outbox.octets.len() >= KEPT_CAPACITY {
            outbox.write_all();
        }
        true
    };
    OUTBOX.try_with(put).unwrap_or_default()
}

/// Writes all that was put aside on this thread.
pub(super) fn write_now() {
    // Where the thread is about to end, nothing is left.
    let _ = OUTBOX.try_with(|outbox| outbox.borrow_mut().write_all());
}

/// Writes what is put aside on this thread from now on, each time after the tasks that had work
/// before.
pub(crate) async fn write_gathered() -> Infallible {
    /// Nothing stays behind where the task ends.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            write_now();
            let _ = OUTBOX.try_with(|outbox| outbox.borrow_mut().writer = None);
        }
    }
    let _end = End;
    poll_fn(|cx| {
        OUTBOX.with_borrow_mut(|outbox| {
            if !outbox.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                outbox.writer = Some(cx.waker().clone());
            }
            outbox.write_all();
        });
        Poll::Pending
    })
    .await
}

/// Whether this thread has a task that writes.
#[cfg(test)]
pub(super) fn has_writer() -> bool {
    OUTBOX.with_borrow(|outbox| outbox.writer.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tokio::{
        io::AsyncReadExt as _,
        net::UnixStream,
        task::{JoinHandle, yield_now},
    };

    use super::*;

    fn pair() -> (UnixStream, Arc<Outlet>) {
        let (peer, ours) = UnixStream::pair().unwrap();
        (peer, Arc::new(Outlet::new(Socket::Unix(ours))))
    }

    /// Starts the task that writes, and waits until it is there.
    async fn writer() -> JoinHandle<Infallible> {
        let writer = tokio::spawn(write_gathered());
        yield_now().await;
        assert!(has_writer());
        writer
    }

    /// What there is to read.
    fn read(peer: &UnixStream) -> Vec<u8> {
        let mut octets = vec![0; 1000];
        let count = peer.try_read(&mut octets).unwrap_or_default();
        octets.truncate(count);
        octets
    }

    /// As a conversation writes an answer.
    async fn give(outlet: &Arc<Outlet>, octets: &[u8]) -> io::Result<()> {
        if outlet.put_aside(octets) { Ok(()) } else { outlet.write(octets).await }
    }

    #[tokio::test]
    async fn answers_wait_for_tasks_that_have_work() {
        let (peer, outlet) = pair();
        // Nobody would write.
        give(&outlet, b"a").await.unwrap();
        assert!(peer.readable().await.is_ok() && read(&peer) == b"a");
        let writer = writer().await;
        let other = tokio::spawn({
            let outlet = Arc::clone(&outlet);
            async move {
                give(&outlet, b"c").await.unwrap();
                read(&peer).is_empty().then_some(peer)
            }
        });
        give(&outlet, b"b").await.unwrap();
        let peer = other.await.unwrap().unwrap();
        peer.readable().await.unwrap();
        assert_eq!(read(&peer), b"bc");
        // At the end of the task, and of a connection, nothing stays behind.
        give(&outlet, b"d").await.unwrap();
        write_now();
        give(&outlet, b"e").await.unwrap();
        writer.abort();
        assert!(writer.await.unwrap_err().is_cancelled() && !has_writer());
        give(&outlet, b"f").await.unwrap();
        assert_eq!(read(&peer), b"def");
    }

    #[tokio::test]
    async fn many_answers_do_not_wait() {
        let _writer = writer().await;
        for (length, count) in [(1, MAX_GATHERED), (KEPT_CAPACITY / 2, 2)] {
            let (peer, outlet) = pair();
            for number in 1..=count {
                give(&outlet, &vec![b'x'; length]).await.unwrap();
                let is_empty = OUTBOX.with_borrow(|outbox| {
                    assert!(outbox.octets.capacity() <= 2 * KEPT_CAPACITY);
                    outbox.entries.is_empty() && outbox.octets.is_empty()
                });
                assert_eq!(is_empty, number == count, "{length} {number}");
            }
            drop(peer);
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_left_is_told_of() {
        let _writer = writer().await;
        let (peer, outlet) = pair();
        drop(peer);
        give(&outlet, b"a").await.unwrap();
        poll_fn(|cx| outlet.poll_stuck(cx)).await;
        assert_eq!(outlet.finish().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (peer, outlet) = pair();
        drop(peer);
        give(&outlet, b"a").await.unwrap();
        write_now();
        assert!(outlet.is_stuck());
        assert_eq!(give(&outlet, b"b").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// Whoever asked once is woken each time: a connection does not ask again before.
    #[tokio::test]
    async fn a_connection_learns_each_time_that_it_is_stuck() {
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _writer = writer().await;
        let (mut peer, outlet) = pair();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(outlet.poll_stuck(&mut Context::from_waker(&waker)).is_pending());
        for _ in 0..3 {
            let mut count = 0;
            while !outlet.is_stuck() {
                assert!(!woken.0.load(Ordering::Relaxed));
                give(&outlet, &[b'x'; 1000]).await.unwrap();
                write_now();
                count += 1000;
            }
            assert!(woken.0.swap(false, Ordering::Relaxed));
            let mut octets = vec![0; count];
            let (finished, read) = tokio::join!(outlet.finish(), peer.read_exact(&mut octets));
            assert!(finished.is_ok() && read.is_ok() && !outlet.is_stuck());
        }
    }

    /// What connections write, each in turn, and how much of it is read at once.
    type Steps = Vec<(usize, usize, usize)>;

    /// The slow twin keeps what each connection writes.
    async fn written_as_the_slow_twin(steps: Steps) {
        let _writer = writer().await;
        let mut twin: [Vec<u8>; 3] = Default::default();
        let connections = [(); 3].map(|()| pair());
        let mut readers = Vec::new();
        let mut outlets = Vec::new();
        let amounts: Vec<usize> = steps.iter().map(|(.., amount)| *amount).collect();
        for (mut peer, outlet) in connections {
            let amounts = amounts.clone();
            readers.push(tokio::spawn(async move {
                let mut all = Vec::new();
                for amount in amounts.into_iter().cycle() {
                    let mut octets = vec![0; amount];
                    match peer.read(&mut octets).await.unwrap() {
                        0 => break,
                        count => all.extend_from_slice(octets.get(..count).unwrap()),
                    }
                    yield_now().await;
                }
                all
            }));
            outlets.push(outlet);
        }
        for (number, (which, length, _)) in steps.into_iter().enumerate() {
            let octets = vec![u8::try_from(number % 256).unwrap(); length];
            twin[which].extend_from_slice(&octets);
            let outlet = &outlets[which];
            give(outlet, &octets).await.unwrap();
            if length % 3 == 0 {
                yield_now().await;
            }
            if outlet.is_stuck() && length % 2 == 0 {
                outlet.finish().await.unwrap();
            }
        }
        write_now();
        for outlet in outlets {
            outlet.finish().await.unwrap();
        }
        for (reader, twin) in readers.into_iter().zip(twin) {
            assert!(reader.await.unwrap() == twin);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn octets_are_those_of_the_slow_twin(
            steps in vec((0..3_usize, prop_oneof![1..400_usize, 1..200_000_usize], 1..60_000_usize), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(written_as_the_slow_twin(steps));
        }
    }
}
