//! The log: a queue that never blocks mail, and a thread that writes it to syslog or stderr.

#[cfg(test)]
mod tests;
mod writer;

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::Write as _,
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use writer::Writer;

use crate::config::{LogDestination, LogLevel, SyslogFacility};

/// Lines that wait to be written; further ones are dropped and counted.
const QUEUE_LENGTH: usize = 4096;

/// A line longer than this is cut: syslog daemons take about 8 KiB.
const MAX_LINE: usize = 4096;

/// Room for lines that is kept for those to come, in octets.
const KEPT_ROOM: usize = 64 * 1024;

thread_local! {
    /// Where the thread makes its lines.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where the local syslog listens.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Where lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Syslog or stderr.
    pub destination: LogDestination,
    /// The facility of syslog.
    pub facility: SyslogFacility,
    /// The socket of syslog.
    pub syslog_socket: PathBuf,
}

impl Target {
    /// The local syslog, or stderr.
    pub fn new(destination: LogDestination, facility: SyslogFacility) -> Self {
        Self { destination, facility, syslog_socket: SYSLOG_SOCKET.into() }
    }
}

/// The log. Cheap to clone; all clones are one log.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    level: AtomicU8,
    queue: Mutex<Queue>,
    /// Told when there is something to write.
    filled: Condvar,
    /// Told when everything is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Lines,
    /// Lines that came when there was no room for them: after all that are there, and before those
    /// to come.
    dropped: u64,
    new_target: Option<Target>,
    writing: bool,
    /// The thread sleeps until it is woken.
    asleep: bool,
    /// Lines are kept here instead of being written.
    kept: Option<Vec<String>>,
}

/// Lines one behind the other in one text: lines come and go all the time, and need no memory of
/// their own.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    /// The level of each.
    levels: Vec<LogLevel>,
}

impl Lines {
    fn push(&mut self, level: LogLevel, prefix: &str, line: &str) {
        self.text.push_str(prefix);
        self.text.push_str(line);
        self.text.push('\n');
        self.levels.push(level);
    }

    fn len(&self) -> usize {
        self.levels.len()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_ROOM);
        self.levels.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (LogLevel, &str)> {
        // No line has a line feed in it.
        self.levels.iter().copied().zip(self.text.split_terminator('\n'))
    }
}

impl Log {
    /// Starts a log and its thread.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn start(target: Target, level: LogLevel) -> io::Result<Self> {
        let log = Self::new(level, None);
        let shared = Arc::clone(&log.shared);
        thread::Builder::new()
            .name("log".into())
            .spawn(move || Writer::new(target).run(&shared))?;
        Ok(log)
    }

    /// A log that keeps its lines, for tests.
    pub fn keep(level: LogLevel) -> Self {
        Self::new(level, Some(Vec::new()))
    }

    fn new(level: LogLevel, kept: Option<Vec<String>>) -> Self {
        let queue = Mutex::new(Queue { kept, ..Queue::default() });
        let shared = Shared {
            level: AtomicU8::new(level as u8),
            queue,
            filled: Condvar::new(),
            emptied: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The lines of a log that keeps them, taken out of it.
    pub fn take_kept(&self) -> Vec<String> {
        self.shared.lock().kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Changes where lines go and which.
    pub fn redirect(&self, target: Target, level: LogLevel) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
        self.shared.lock().new_target = Some(target);
        self.shared.filled.notify_one();
    }

    /// Whether lines of this level are written.
    pub fn takes(&self, level: LogLevel) -> bool {
        level as u8 <= self.shared.level.load(Ordering::Relaxed)
    }

    /// Writes a line, if lines of its level are written; never waits.
    ///
    /// The line is a sentence, and begins with its severity where that matters: many files of
    /// syslog do not show it otherwise.
    pub fn write(&self, level: LogLevel, line: impl FnOnce() -> String) {
        self.write_prefixed(level, prefix(level), |text| text.push_str(&line()));
    }

    /// As [`Self::write`], with a line that is made in an empty text, and that programs read: it is
    /// as it is made, whatever its level.
    pub fn write_with(&self, level: LogLevel, make: impl FnOnce(&mut String)) {
        self.write_prefixed(level, "", make);
    }

    fn write_prefixed(&self, level: LogLevel, prefix: &str, make: impl FnOnce(&mut String)) {
        if !self.takes(level) {
            return;
        }
        // Taken, not borrowed: should making the line go wrong, that is logged too.
        let mut text = LINE.take();
        make(&mut text);
        self.queue(level, prefix, &escape_line(&text));
        if text.capacity() <= 2 * MAX_LINE {
            text.clear();
            LINE.set(text);
        }
    }

    fn queue(&self, level: LogLevel, prefix: &str, line: &str) {
        let mut queue = self.shared.lock();
        if let Some(kept) = &mut queue.kept {
            kept.push(line.to_owned());
        } else if queue.lines.len() < QUEUE_LENGTH {
            queue.lines.push(level, prefix, line);
            let asleep = std::mem::take(&mut queue.asleep);
            drop(queue);
            if asleep {
                self.shared.filled.notify_one();
            }
        } else {
            queue.dropped += 1;
        }
    }

    /// Writes a line at `error`.
    pub fn error(&self, line: impl FnOnce() -> String) {
        self.write(LogLevel::Error, line);
    }

    /// Writes a line at `warn`.
    pub fn warn(&self, line: impl FnOnce() -> String) {
        self.write(LogLevel::Warn, line);
    }

    /// Writes a line at `info`.
    pub fn info(&self, line: impl FnOnce() -> String) {
        self.write(LogLevel::Info, line);
    }

    /// Writes a line at `debug`.
    pub fn debug(&self, line: impl FnOnce() -> String) {
        self.write(LogLevel::Debug, line);
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        while queue.kept.is_none() && (queue.writing || queue.lines.len() > 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self
                .shared
                .emptied
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Trouble that lasts, and is told again only after a while.
#[derive(Debug)]
pub struct Complaint {
    interval: Duration,
    told: Mutex<Option<Instant>>,
}

impl Complaint {
    /// One that is told no more than once in the interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, told: Mutex::new(None) }
    }

    /// Whether it may be told now; if so, it counts as told.
    pub fn may_tell(&self) -> bool {
        self.may_tell_at(Instant::now())
    }

    fn may_tell_at(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| now.saturating_duration_since(told) >= self.interval);
        if may {
            *told = Some(now);
        }
        may
    }
}

impl Shared {
    /// The queue is whole whatever happened to another thread that held it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes control characters visible: nothing in a line can begin another one, or reach a terminal
/// as a command.
fn escape_line(line: &str) -> Cow<'_, str> {
    // All octets are looked at, so that many are at once: nearly no line has others.
    if line.len() <= MAX_LINE
        && line.bytes().fold(true, |plain, octet| plain & matches!(octet, b' '..=b'~'))
    {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        if escaped.len() > MAX_LINE {
            escaped.push_str("...");
            break;
        }
        if c.is_control()
            || matches!(c, '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// What a sentence of this level begins with.
fn prefix(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error: ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info | LogLevel::Debug => "",
    }
}
