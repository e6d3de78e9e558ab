//! The load: connections that send message after message, and what came of it.

use std::{
    io,
    sync::{
        Barrier, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::mta::{Added, Message, Mta, Sender, Socket};

/// How messages come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Connections stay, and each message comes with a HELO of its own.
    Kept,
    /// Each message has a connection and a session of its own, as mail by Postfix mostly has.
    New,
}

/// The measurements of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Messages.
    pub messages: usize,
    /// CPU time of the milter per message.
    pub cpu: Duration,
    /// Messages per second.
    pub rate: f64,
    /// Latencies of messages, in order; what waits for the milter from HELO to the end, or from
    /// connecting.
    latencies: Vec<Duration>,
}

impl Figures {
    /// The figures of several runs: of CPU time and rate those in the middle.
    pub fn merge(runs: Vec<Self>) -> Self {
        let mut cpu: Vec<Duration> = runs.iter().map(|run| run.cpu).collect();
        let mut rate: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        cpu.sort_unstable();
        rate.sort_unstable_by(f64::total_cmp);
        let mut latencies: Vec<Duration> = runs.into_iter().flat_map(|run| run.latencies).collect();
        latencies.sort_unstable();
        let middle = cpu.len() / 2;
        Self {
            messages: latencies.len(),
            cpu: cpu.get(middle).copied().unwrap_or_default(),
            rate: rate.get(middle).copied().unwrap_or_default(),
            latencies,
        }
    }

    /// The latency that this part of the messages did not exceed.
    pub fn percentile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let index = (last as f64 * part).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// One milter, or several that see each message one after the other, as in front of an MTA.
#[derive(Clone, Copy)]
pub struct Rig<'a> {
    /// Where they listen.
    pub sockets: &'a [Socket],
    /// CPU time that all of them took so far.
    pub cpu: &'a (dyn Fn() -> io::Result<Duration> + Sync),
}

/// A connection to each milter of a rig.
struct Chain(Vec<Mta>);

impl Chain {
    fn open(sockets: &[Socket], sender: &Sender) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(sockets.len());
        for socket in sockets {
            let mut mta = Mta::connect(socket)?;
            mta.begin(sender)?;
            connections.push(mta);
        }
        Ok(Self(connections))
    }

    /// Sends a message; the result is what was added to it.
    fn message(&mut self, sender: &Sender, message: &Message) -> io::Result<Vec<Added>> {
        for mta in &mut self.0 {
            mta.helo(sender)?;
        }
        for mta in &mut self.0 {
            mta.mail(sender)?;
        }
        let mut added = Vec::new();
        for mta in &mut self.0 {
            let fields = mta.rest(&added, message)?;
            added.splice(0..0, fields);
        }
        Ok(added)
    }

    fn quit(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(Mta::quit)
    }
}

/// Sends one message over connections of its own; the result is what was added to it.
pub fn send(sockets: &[Socket], sender: &Sender, message: &Message) -> io::Result<Vec<Added>> {
    let mut chain = Chain::open(sockets, sender)?;
    let added = chain.message(sender, message)?;
    chain.quit()?;
    Ok(added)
}

/// Sends messages for so long over so many connections, from one sender after the other, beginning
/// at `next`. Each connection waits for its answers (closed loop).
pub fn run(
    rig: Rig<'_>,
    mode: Mode,
    connections: usize,
    senders: &[Sender],
    message: &Message,
    next: &AtomicUsize,
    time: Duration,
) -> io::Result<Figures> {
    let stop = AtomicBool::new(false);
    let work = |latencies: &mut Vec<Duration>, chain: &mut Option<Chain>| {
        while !stop.load(Ordering::Relaxed)
            && let Some(sender) = senders.get(next.fetch_add(1, Ordering::Relaxed) % senders.len())
        {
            let start = Instant::now();
            one(rig.sockets, mode, chain, sender, message)?;
            latencies.push(start.elapsed());
        }
        Ok(())
    };
    drive(rig, mode, connections, senders, message, work, || {
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    })
}

/// Sends so many messages a second, whether or not earlier ones have been answered (open loop), over
/// at most so many connections. Latencies count from the moment at which a message was due.
pub fn run_open(
    rig: Rig<'_>,
    connections: usize,
    rate: f64,
    senders: &[Sender],
    message: &Message,
    time: Duration,
) -> io::Result<Figures> {
    let next = AtomicUsize::new(0);
    let begin = OnceLock::new();
    let work = |latencies: &mut Vec<Duration>, chain: &mut Option<Chain>| {
        let begin = *begin.get_or_init(Instant::now);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            #[allow(clippy::cast_precision_loss)]
            let due = Duration::from_secs_f64(number as f64 / rate);
            let Some(sender) = senders.get(number % senders.len()).filter(|_| due < time) else {
                return Ok(());
            };
            thread::sleep(due.saturating_sub(begin.elapsed()));
            one(rig.sockets, Mode::Kept, chain, sender, message)?;
            latencies.push(begin.elapsed().saturating_sub(due));
        }
    };
    drive(rig, Mode::Kept, connections, senders, message, work, || {})
}

/// Sends one message over the connections there are, or over new ones.
fn one(
    sockets: &[Socket],
    mode: Mode,
    chain: &mut Option<Chain>,
    sender: &Sender,
    message: &Message,
) -> io::Result<()> {
    match (mode, chain) {
        (Mode::Kept, Some(chain)) => chain.message(sender, message).map(drop),
        _ => send(sockets, sender, message).map(drop),
    }
}

/// Runs the work of each connection on a thread of its own, and measures; `wait` returns when they
/// are to end.
fn drive(
    rig: Rig<'_>,
    mode: Mode,
    connections: usize,
    senders: &[Sender],
    message: &Message,
    work: impl Fn(&mut Vec<Duration>, &mut Option<Chain>) -> io::Result<()> + Sync,
    wait: impl FnOnce(),
) -> io::Result<Figures> {
    // One message each before the clock starts.
    let warm = Barrier::new(connections + 1);
    let begin = Barrier::new(connections + 1);
    let latencies = Mutex::new(Vec::new());
    let send = |number: usize| -> io::Result<()> {
        let mut own = Vec::new();
        let opened = senders.get(number % senders.len()).map(|sender| -> io::Result<Chain> {
            let mut chain = Chain::open(rig.sockets, sender)?;
            chain.message(sender, message)?;
            Ok(chain)
        });
        warm.wait();
        begin.wait();
        let mut chain = opened.transpose()?;
        if mode == Mode::New
            && let Some(chain) = chain.take()
        {
            chain.quit()?;
        }
        work(&mut own, &mut chain)?;
        latencies.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
        Ok(())
    };
    let send = &send;
    thread::scope(|scope| -> io::Result<Figures> {
        let threads: Vec<_> =
            (0..connections).map(|number| scope.spawn(move || send(number))).collect();
        warm.wait();
        let cpu = (rig.cpu)();
        begin.wait();
        let start = Instant::now();
        wait();
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a connection's thread panicked"))??;
        }
        let elapsed = start.elapsed();
        let cpu = (rig.cpu)()?.saturating_sub(cpu?);
        let mut latencies =
            std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        let count = u32::try_from(latencies.len().max(1)).unwrap_or(u32::MAX);
        Ok(Figures {
            messages: latencies.len(),
            cpu: cpu / count,
            rate: f64::from(count) / elapsed.as_secs_f64(),
            latencies,
        })
    })
}

/// Sessions that had one message each, and wait for the next one.
pub fn idle(
    socket: &Socket,
    connections: usize,
    senders: &[Sender],
    message: &Message,
) -> io::Result<Vec<Mta>> {
    let open = |sender: &Sender| {
        let mut mta = Mta::connect(socket)?;
        mta.begin(sender)?;
        mta.message(sender, message)?;
        Ok(mta)
    };
    senders.iter().cycle().take(connections).map(open).collect()
}
