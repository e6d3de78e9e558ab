//! The log: a queue that never blocks mail, and a thread that writes it to syslog or stderr.

mod json;
mod queue;
mod rate_limit;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::Write as _,
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

pub use json::{is_hidden, push_string};
pub use queue::Target;
pub use rate_limit::RateLimit;

use queue::{Queue, State, prefix};
use writer::Writer;

use crate::config::{LogFormat, LogLevel};

/// Lines that wait to be written; further ones are dropped and counted.
const QUEUE_LENGTH: usize = 4096;

/// A line longer than this is cut: syslog daemons take about 8 KiB. Who makes an object of JSON sees to
/// that.
pub const MAX_LINE: usize = 4096;

thread_local! {
    /// Where the thread makes its lines.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The log. Cheap to clone; all clones are one log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
}

impl Log {
    /// Starts a log and its thread.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn start(target: Target, level: LogLevel) -> io::Result<Self> {
        let log = Self::new(level, None);
        log.queue.is_json.store(target.format == LogFormat::Json, Ordering::Relaxed);
        let queue = Arc::clone(&log.queue);
        thread::Builder::new().name("log".into()).spawn(move || Writer::new(target).run(&queue))?;
        Ok(log)
    }

    /// The same log as JSON, or as text again, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn in_format(self, format: LogFormat) -> Self {
        self.queue.is_json.store(format == LogFormat::Json, Ordering::Relaxed);
        self
    }

    /// A log that keeps its lines, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn keep(level: LogLevel) -> Self {
        Self::new(level, Some(Vec::new()))
    }

    fn new(level: LogLevel, kept: Option<Vec<String>>) -> Self {
        Self { queue: Arc::new(Queue::new(level, kept)) }
    }

    /// The lines of a log that keeps them, taken out of it.
    #[cfg(any(test, feature = "testing"))]
    pub fn take_kept(&self) -> Vec<String> {
        self.queue.lock().kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many lines were lost since the start.
    pub fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed)
    }

    /// Changes where lines go, in which form, and which.
    pub fn redirect(&self, target: Target, level: LogLevel) {
        self.queue.level.store(level as u8, Ordering::Relaxed);
        self.queue.is_json.store(target.format == LogFormat::Json, Ordering::Relaxed);
        self.queue.lock().new_target = Some(target);
        self.queue.filled.notify_one();
    }

    /// Whether lines of this level are written.
    pub fn takes(&self, level: LogLevel) -> bool {
        level as u8 <= self.queue.level.load(Ordering::Relaxed)
    }

    /// Writes a line, if lines of its level are written; never waits.
    ///
    /// The line is a sentence, and begins with its severity where that matters: many files of
    /// syslog do not show it otherwise. As JSON it is the value of `message`.
    pub fn write(&self, level: LogLevel, line: impl FnOnce() -> String) {
        self.write_prefixed(level, prefix(level), |text, format| match format {
            LogFormat::Text => text.push_str(&line()),
            LogFormat::Json => json::push_message(text, &line()),
        });
    }

    /// As [`Self::write`], with a line that programs read, whatever its level: it is made in an empty
    /// text, or, as JSON, in an object that has the level already and is not ended.
    pub fn write_with(&self, level: LogLevel, make: impl FnOnce(&mut String, LogFormat)) {
        self.write_prefixed(level, "", make);
    }

    fn write_prefixed(
        &self,
        level: LogLevel,
        prefix: &str,
        make: impl FnOnce(&mut String, LogFormat),
    ) {
        if !self.takes(level) {
            return;
        }
        // Taken, not borrowed: should making the line go wrong, that is logged too.
        let mut text = LINE.take();
        if self.queue.is_json.load(Ordering::Relaxed) {
            json::begin(&mut text, level);
            make(&mut text, LogFormat::Json);
            json::end(&mut text);
            self.push(level, "", &text);
        } else {
            make(&mut text, LogFormat::Text);
            self.push(level, prefix, &escape_line(&text));
        }
        if text.capacity() <= 2 * MAX_LINE {
            text.clear();
            LINE.set(text);
        }
    }

    fn push(&self, level: LogLevel, prefix: &str, line: &str) {
        let mut state = self.queue.lock();
        if let Some(kept) = &mut state.kept {
            kept.push(line.to_owned());
        } else if state.lines.len() < QUEUE_LENGTH {
            state.lines.push(level, prefix, line);
            let asleep = std::mem::take(&mut state.asleep);
            drop(state);
            if asleep {
                self.queue.filled.notify_one();
            }
        } else {
            state.dropped += 1;
            self.queue.lost.fetch_add(1, Ordering::Relaxed);
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
        let is_busy =
            |state: &mut State| state.kept.is_none() && (state.writing || state.lines.len() > 0);
        drop(self.queue.emptied.wait_timeout_while(self.queue.lock(), limit, is_busy));
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
        if is_hidden(c) {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}
