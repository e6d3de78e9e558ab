//! The load: connections that send message after message, and what came of it.

use std::{
    io,
    sync::{
        Barrier, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    process::Milter,
    protocol::{Mta, Socket},
    zones::Sender,
};

/// How messages come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Connections stay, and each message comes with a HELO of its own.
    Kept,
    /// Each message has a connection and a session of its own, as mail by Postfix mostly has.
    New,
}

/// The measurements of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Messages.
    pub(crate) messages: usize,
    /// CPU time of the milter per message.
    pub(crate) cpu: Duration,
    /// Messages per second.
    pub(crate) rate: f64,
    /// Latencies of messages, in order; what waits for the milter from HELO to the end, or from
    /// connecting.
    latencies: Vec<Duration>,
}

impl Figures {
    /// The figures of several runs: of CPU time and rate those in the middle.
    pub(crate) fn merge(runs: Vec<Self>) -> Self {
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
    pub(crate) fn percentile(&self, part: f64) -> Duration {
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

/// Sends messages for so long over so many connections, from one sender after the other, beginning
/// at `next`.
pub(crate) fn run(
    milter: &Milter,
    socket: &Socket,
    mode: Mode,
    connections: usize,
    senders: &[Sender],
    next: &AtomicUsize,
    time: Duration,
) -> io::Result<Figures> {
    // One message each before the clock starts.
    let warm = Barrier::new(connections + 1);
    let begin = Barrier::new(connections + 1);
    let stop = AtomicBool::new(false);
    let latencies = Mutex::new(Vec::new());
    let mut figures = Figures::default();
    thread::scope(|scope| -> io::Result<()> {
        let send = || -> io::Result<()> {
            let sender = || senders.get(next.fetch_add(1, Ordering::Relaxed) % senders.len());
            let mut own = Vec::new();
            let opened =
                sender().map(|first| open(socket, first)).transpose().and_then(|mta| match mode {
                    Mode::Kept => Ok(mta),
                    Mode::New => mta.map_or(Ok(()), Mta::quit).map(|()| None),
                });
            warm.wait();
            begin.wait();
            let mut mta = opened?;
            while !stop.load(Ordering::Relaxed)
                && let Some(sender) = sender()
            {
                let start = Instant::now();
                match (mode, &mut mta) {
                    (Mode::Kept, Some(mta)) => mta.message(sender)?,
                    _ => {
                        let mut mta = Mta::connect(socket)?;
                        mta.begin(sender)?;
                        mta.message(sender)?;
                        mta.quit()?;
                    }
                }
                own.push(start.elapsed());
            }
            latencies.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
            Ok(())
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        warm.wait();
        let cpu = milter.cpu();
        begin.wait();
        let start = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a connection's thread panicked"))??;
        }
        let elapsed = start.elapsed();
        let cpu = milter.cpu()?.saturating_sub(cpu?);
        let mut latencies =
            std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        let messages = latencies.len().max(1);
        let count = u32::try_from(messages).unwrap_or(u32::MAX);
        figures = Figures {
            messages,
            cpu: cpu / count,
            rate: f64::from(count) / elapsed.as_secs_f64(),
            latencies,
        };
        Ok(())
    })?;
    Ok(figures)
}

/// A session that had one message.
fn open(socket: &Socket, sender: &Sender) -> io::Result<Mta> {
    let mut mta = Mta::connect(socket)?;
    mta.begin(sender)?;
    mta.message(sender)?;
    Ok(mta)
}

/// Sessions that had one message each, and wait for the next one.
pub(crate) fn idle(
    socket: &Socket,
    connections: usize,
    senders: &[Sender],
) -> io::Result<Vec<Mta>> {
    senders.iter().cycle().take(connections).map(|sender| open(socket, sender)).collect()
}
