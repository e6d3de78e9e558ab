//! The lines that wait to be written, which the log and its thread share.

use std::{
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64},
    },
};

use super::json;
use crate::config::{LogDestination, LogFormat, LogLevel, SyslogFacility};

/// Capacity for lines that stays allocated, in octets: those of a busy moment.
pub(super) const KEPT_CAPACITY: usize = 256 * 1024;

/// Where the local syslog listens.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Where lines go, and in which form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Syslog or stderr.
    pub destination: LogDestination,
    /// The facility of syslog.
    pub facility: SyslogFacility,
    /// The form of lines.
    pub format: LogFormat,
    /// The socket of syslog.
    pub syslog_socket: PathBuf,
}

impl Target {
    /// The local syslog, or stderr.
    pub fn new(destination: LogDestination, facility: SyslogFacility, format: LogFormat) -> Self {
        Self { destination, facility, format, syslog_socket: SYSLOG_SOCKET.into() }
    }
}

/// The queue, and the level that decides what gets into it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) level: AtomicU8,
    /// Whether lines are made as JSON.
    pub(super) is_json: AtomicBool,
    /// Lines that were lost since the start.
    pub(super) lost: AtomicU64,
    state: Mutex<State>,
    /// Notified when there is something to write.
    pub(super) filled: Condvar,
    /// Notified when everything is written.
    pub(super) emptied: Condvar,
}

/// The state that the lock of a queue protects.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lines: Lines,
    /// Lines that came when the queue was full, after all that are in it.
    pub(super) dropped: u64,
    pub(super) new_target: Option<Target>,
    pub(super) writing: bool,
    /// The thread sleeps until it is woken.
    pub(super) asleep: bool,
    /// Lines are kept here instead of being written.
    pub(super) kept: Option<Vec<String>>,
}

impl Queue {
    pub(super) fn new(level: LogLevel, kept: Option<Vec<String>>) -> Self {
        Self {
            level: AtomicU8::new(level as u8),
            is_json: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            state: Mutex::new(State { kept, ..State::default() }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    /// Locks the state, which is whole whatever happened to another thread that held it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines one behind the other in one text: lines come and go all the time, and need no memory of
/// their own.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
    /// The level of each, and how many octets it has; a line feed follows.
    lines: Vec<(LogLevel, usize)>,
}

impl Lines {
    pub(super) fn push(&mut self, level: LogLevel, prefix: &str, line: &str) {
        self.text.push_str(prefix);
        self.text.push_str(line);
        self.text.push('\n');
        self.lines.push((level, prefix.len() + line.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.lines.clear();
    }

    /// The lines in parts of so many at most.
    pub(super) fn parts(&self, count: usize) -> impl Iterator<Item = Part<'_>> {
        let mut rest = self.text.as_str();
        self.lines.chunks(count).map(move |lines| {
            let length = lines.iter().map(|(_, length)| length + 1).sum();
            let (text, after) = rest.split_at(length);
            rest = after;
            Part { text, lines }
        })
    }
}

/// Some lines of those.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// All of them, each with its line feed.
    pub(super) text: &'a str,
    lines: &'a [(LogLevel, usize)],
}

impl<'a> Part<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = (LogLevel, &'a str)> {
        let mut rest = self.text;
        self.lines.iter().map(move |&(level, length)| {
            let (line, after) = rest.split_at(length);
            rest = after.strip_prefix('\n').unwrap_or(after);
            (level, line)
        })
    }
}

/// The severity that a sentence of this level begins with.
pub(super) fn prefix(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error: ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info | LogLevel::Debug => "",
    }
}

/// A sentence as a line of its own.
pub(super) fn line(format: LogFormat, level: LogLevel, sentence: &str) -> String {
    match format {
        LogFormat::Text => format!("{}{sentence}", prefix(level)),
        LogFormat::Json => {
            let mut line = String::new();
            json::begin(&mut line, level);
            json::push_message(&mut line, sentence);
            json::end(&mut line);
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_one_behind_the_other() {
        let mut lines = Lines::default();
        for (level, line) in [(LogLevel::Info, "a"), (LogLevel::Warn, ""), (LogLevel::Error, "bc")]
        {
            lines.push(level, "", line);
        }
        let all = [(LogLevel::Info, "a"), (LogLevel::Warn, ""), (LogLevel::Error, "bc")];
        for (count, texts) in
            [(1, vec!["a\n", "\n", "bc\n"]), (2, vec!["a\n\n", "bc\n"]), (3, vec!["a\n\nbc\n"])]
        {
            assert_eq!(lines.parts(count).map(|part| part.text).collect::<Vec<_>>(), texts);
            assert_eq!(lines.parts(count).flat_map(Part::iter).collect::<Vec<_>>(), all);
        }
        lines.push(LogLevel::Debug, "", &"x".repeat(2 * KEPT_CAPACITY));
        lines.clear();
        assert!(lines.parts(1).next().is_none() && lines.text.capacity() <= KEPT_CAPACITY);
    }
}
