//! The MTA's connection: octets in and out, within time limits.

use std::{future::poll_fn, io, net::Shutdown, task::Poll, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};

use super::{armed::Armed, buffers::Buffer, clock::Clock};

/// Octets read at once; most packets are smaller.
const READ_SIZE: usize = 4096;

/// Octets read at once where a packet is larger.
const LARGE_READ_SIZE: usize = 32 * 1024;

/// How long a peer may take no answer.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// How long a TCP connection may be silent before the system asks whether the other host is still
/// there.
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
        let _ = SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL));
        Self::Tcp(stream)
    }

    /// Reads what is there, without waiting, if there `may_be` something; `None` where nothing is. 0 octets
    /// are the end.
    ///
    /// Where less is there than there is room for, there is no more for now, and `may_be` is `false` from then
    /// on: until the task is woken, or [`Self::poll_readable`] is ready, after which the caller makes it `true`.
    pub(super) fn read_now(
        &self,
        input: &mut Buffer,
        is_large: bool,
        may_be: &mut bool,
    ) -> io::Result<Option<usize>> {
        if !*may_be {
            return Ok(None);
        }
        input.equip();
        input.reserve(if is_large { LARGE_READ_SIZE } else { READ_SIZE });
        let room = input.capacity() - input.len();
        let mut read = None;
        let mut note = |result: io::Result<usize>| {
            let count = result?;
            read = Some(count);
            // That nothing more is there for now is told as if nothing had been.
            if (1..room).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let readable = Interest::READABLE;
        let result = match self {
            Self::Tcp(stream) => {
                stream.try_io(readable, || note(stream.try_read_buf(&mut **input)))
            }
            Self::Unix(stream) => {
                stream.try_io(readable, || note(stream.try_read_buf(&mut **input)))
            }
        };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *may_be = false,
            Err(error) => return Err(error),
        }
        Ok(read)
    }

    /// Whether there may be something to read; else the task is woken when there is.
    pub(super) fn poll_readable(&self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Writes all of it, within a minute.
    ///
    /// # Errors
    ///
    /// The peer has left, or takes no answer.
    pub(super) async fn write(&self, octets: &[u8]) -> io::Result<()> {
        let mut rest = octets;
        if self.write_now(&mut rest)? {
            return Ok(());
        }
        let write = async {
            loop {
                poll_fn(|cx| match self {
                    Self::Tcp(stream) => stream.poll_write_ready(cx),
                    Self::Unix(stream) => stream.poll_write_ready(cx),
                })
                .await?;
                if self.write_now(&mut rest)? {
                    return Ok(());
                }
            }
        };
        let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, "peer does not take an answer");
        // Boxed: nearly all answers are taken at once.
        Box::pin(timeout(WRITE_LIMIT, write)).await.map_err(too_slow)?
    }

    /// Writes what the system takes now; whether that was all.
    pub(super) fn write_now(&self, rest: &mut &[u8]) -> io::Result<bool> {
        while !rest.is_empty() {
            let result = match self {
                Self::Tcp(stream) => stream.try_write(rest),
                Self::Unix(stream) => stream.try_write(rest),
            };
            match result {
                // The system takes no more than it is given.
                Ok(count) => *rest = rest.split_at(count).1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn try_io<T>(&self, f: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || f(SockRef::from(stream))),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || f(SockRef::from(stream))),
        }
    }

    /// Returns when the peer has closed the connection.
    pub(super) async fn closed_by_peer(&self) {
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
                // It is not to be read before the peer is answered.
                Ok(_) => sleep(PENDING_INPUT_INTERVAL).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Ends the connection in both directions: a peer that idles learns of it.
    pub(super) fn shut_down(&self) {
        // Where this fails, the peer has gone.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Both),
        };
    }
}

/// A time limit that is moved often and hardly ever met: the timer is set anew only when it fires
/// too early, or would fire too late.
#[derive(Debug)]
pub(super) struct Limit {
    deadline: Instant,
    /// When the timer fires. It lies elsewhere in memory, and is looked at only where it may have fired.
    fires: Instant,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
    armed: Armed,
}

impl Limit {
    /// A limit of so long from now on.
    pub(super) fn new(time: Duration) -> Self {
        let deadline = Instant::now() + time;
        let timer = Box::pin(tokio::time::sleep_until(deadline));
        Self { deadline, fires: deadline, timer, armed: Armed::default() }
    }

    /// Begins again at a time, with this long.
    pub(super) fn restart(&mut self, now: Instant, time: Duration) {
        self.deadline = now + time;
        if self.fires > self.deadline {
            self.fires = self.deadline;
            self.timer.as_mut().reset(self.deadline);
            self.armed = Armed::default();
        }
    }

    /// Ready when the time is over. The task `was_woken` since it asked last, perhaps for that. Where it was
    /// not, what the clock knows was read after the task was last woken: a timer that woke it then fired before.
    pub(super) fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        clock: &Clock,
        was_woken: bool,
    ) -> Poll<()> {
        let Self { deadline, fires, timer, armed } = self;
        // A timer does not fire before its time.
        let may_have_fired = clock.known().map_or_else(|| timer.is_elapsed(), |now| now >= *fires);
        armed.poll(cx, was_woken || may_have_fired, |cx| {
            while timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= *deadline {
                    return Poll::Ready(());
                }
                *fires = *deadline;
                timer.as_mut().reset(*deadline);
            }
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that was woken for something else, and at the same time by the timer, is not woken again.
    /// Each step has a limit to begin with, if it is to begin again, and the time that goes by.
    #[tokio::test(start_paused = true)]
    async fn a_limit_is_met_without_a_further_wake() {
        let (minute, tick) = (Duration::from_secs(60), Duration::from_millis(2));
        type Step = (Option<Duration>, Duration);
        let cases: [(&[Step], bool); 8] = [
            (&[(None, minute)], true),
            (&[(None, minute - tick)], false),
            (&[(Some(minute), minute)], true),
            (&[(Some(2 * minute), minute)], false),
            (&[(Some(2 * minute), minute), (None, minute)], true),
            (&[(Some(2 * minute), minute), (None, minute - tick)], false),
            (&[(Some(minute / 2), minute / 2)], true),
            (&[(Some(2 * minute), minute), (Some(minute / 2), minute / 2)], true),
        ];
        // Whether the time is read before the limit is asked, as it is for a packet.
        for (steps, is_over, is_read) in cases
            .into_iter()
            .flat_map(|(steps, is_over)| [true, false].map(|it| (steps, is_over, it)))
        {
            let (mut limit, mut clock) = (Limit::new(minute), Clock::default());
            let ask = async |limit: &mut Limit, clock: &Clock| {
                poll_fn(|cx| Poll::Ready(limit.poll(cx, clock, false).is_ready())).await
            };
            let mut found = ask(&mut limit, &clock).await;
            for (restart, waited) in steps {
                assert!(!found);
                if let Some(time) = restart {
                    limit.restart(clock.now(), *time);
                    assert!(!ask(&mut limit, &clock).await);
                }
                clock.go_on();
                tokio::time::advance(*waited).await;
                if is_read {
                    clock.now();
                }
                found = ask(&mut limit, &clock).await;
            }
            assert_eq!(found, is_over, "{steps:?} {is_read}");
        }
    }
}
