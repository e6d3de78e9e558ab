//! The thread that writes the log.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};
use syslog::{LogFormat, Severity};

use super::queue::{self, KEPT_CAPACITY, Lines, Queue, State, Target};
use crate::{
    config::{LogDestination, LogLevel, SyslogFacility},
    internal_error::contained,
};

/// How often a syslog that cannot be reached is tried again.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a syslog that is there but takes nothing is waited for.
const CONGESTION_LIMIT: Duration = Duration::from_millis(200);

/// Lines that are written before it is looked whether they are to go elsewhere.
const PART_LENGTH: usize = 64;

/// How long lines may gather after some were written. Waking the thread for every line costs more
/// than the line.
const GATHERING_TIME: Duration = Duration::from_millis(10);

/// That a socket is of another type.
const EPROTOTYPE: i32 = nix::errno::Errno::EPROTOTYPE as i32;

/// A connection to syslog.
pub(super) struct Syslog {
    socket: Socket,
    /// The socket is a stream, in which each record ends with NUL.
    is_stream: bool,
}

impl Syslog {
    /// Connects as syslog(3) does: with datagrams, and with a stream where the socket is one.
    fn connect(path: &Path) -> io::Result<Self> {
        match Self::connect_by(Type::DGRAM, path) {
            Err(error) if error.raw_os_error() == Some(EPROTOTYPE) => {
                Self::connect_by(Type::STREAM, path)
            }
            connected => connected,
        }
    }

    fn connect_by(kind: Type, path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, kind.cloexec(), None)?;
        // Also for the connection: a stream waits for one that accepts it.
        socket.set_write_timeout(Some(CONGESTION_LIMIT))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(Self { socket, is_stream: kind == Type::STREAM })
    }

    /// Sends a record whole. After an error the connection is of no use any more: half a record may
    /// be in it.
    fn send(&self, record: &mut Vec<u8>) -> io::Result<()> {
        if !self.is_stream {
            return self.socket.send(record).map(drop);
        }
        record.push(0);
        (&self.socket).write_all(record)
    }
}

/// The state of the thread that writes.
pub(super) struct Writer {
    target: Target,
    pub(super) syslog: Option<Syslog>,
    /// Lines that were lost, and are not reported yet.
    pub(super) lost: u64,
    /// When syslog was tried last, and in vain.
    pub(super) tried: Option<Instant>,
    /// Whether that is reported on stderr.
    pub(super) reported: bool,
    /// Lines on stderr begin with a severity, for the service manager.
    prefixed: bool,
    /// Where lines for stderr are put together.
    text: String,
}

impl Writer {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            syslog: None,
            lost: 0,
            tried: None,
            reported: false,
            prefixed: stderr_is_journal(),
            text: String::new(),
        }
    }

    pub(super) fn run(mut self, queue: &Queue) {
        let mut batch = Lines::default();
        loop {
            let mut state = queue.lock();
            loop {
                self.follow(&mut state);
                if state.lines.len() > 0 {
                    break;
                }
                state.writing = false;
                queue.emptied.notify_all();
                state.asleep = true;
                state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.asleep = false;
            state.writing = true;
            std::mem::swap(&mut batch, &mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            if contained(|| self.write_batch(&batch, dropped, queue)).is_none() {
                // The log goes on, and so does what waits for it; the panic itself is in the queue.
                self.lost = self.lost.saturating_add(1);
            }
            batch.clear();
            thread::sleep(GATHERING_TIME);
        }
    }

    /// Writes lines, and how many were lost where they are missing: before these, among them, and
    /// after them.
    pub(super) fn write_batch(&mut self, batch: &Lines, dropped: u64, queue: &Queue) {
        self.report_lost();
        #[cfg(all(feature = "testing", debug_assertions))]
        for (_, line) in batch.parts(PART_LENGTH).flat_map(queue::Part::iter) {
            crate::internal_error::panic_where_asked("write", line.as_bytes());
        }
        for part in batch.parts(PART_LENGTH) {
            let lost = match self.target.destination {
                // The lines are there as they are to be written.
                LogDestination::Stderr if !self.prefixed => write_stderr(part.text),
                _ => self.write(part.iter()),
            };
            self.lost = self.lost.saturating_add(lost);
            queue.lost.fetch_add(lost, Ordering::Relaxed);
            if lost == 0 {
                self.report_lost();
            }
            self.follow(&mut queue.lock());
        }
        self.lost = self.lost.saturating_add(dropped);
        self.report_lost();
    }

    /// Reports how many lines were lost. Where the report is lost too, it comes with the next line.
    fn report_lost(&mut self) {
        if self.lost > 0 {
            let sentence = format!("log lines dropped: {}", self.lost);
            let line = queue::line(self.target.format, LogLevel::Warn, &sentence);
            if self.write([(LogLevel::Warn, line.as_str())]) == 0 {
                self.lost = 0;
            }
        }
    }

    /// Goes where lines are to go now.
    fn follow(&mut self, state: &mut State) {
        if let Some(target) = state.new_target.take() {
            self.syslog = None;
            self.tried = None;
            self.target = target;
        }
    }

    /// Writes lines; how many were lost.
    pub(super) fn write<'a>(
        &mut self,
        lines: impl IntoIterator<Item = (LogLevel, &'a str)>,
    ) -> u64 {
        let mut lost = 0;
        match self.target.destination {
            LogDestination::Stderr => lost += self.write_to_stderr(lines),
            LogDestination::Syslog => {
                for (level, line) in lines {
                    let Err(error) = self.write_syslog(level, line) else { continue };
                    self.syslog = None;
                    if !self.reported {
                        self.reported = true;
                        let socket = self.target.syslog_socket.display();
                        let trouble =
                            format!("cannot write to syslog at {socket}, trying on: {error}");
                        let trouble = queue::line(self.target.format, LogLevel::Warn, &trouble);
                        self.write_to_stderr([(LogLevel::Warn, trouble.as_str())]);
                    }
                    lost += self.write_to_stderr([(level, line)]);
                }
            }
        }
        lost
    }

    /// Writes lines to stderr, all with one call where it takes them so; how many were lost.
    fn write_to_stderr<'a>(&mut self, lines: impl IntoIterator<Item = (LogLevel, &'a str)>) -> u64 {
        let mut text = std::mem::take(&mut self.text);
        for (level, line) in lines {
            if self.prefixed {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "<{}>", severity(level) as u8);
            }
            text.push_str(line);
            text.push('\n');
        }
        let lost = write_stderr(&text);
        text.clear();
        text.shrink_to(KEPT_CAPACITY);
        self.text = text;
        lost
    }

    pub(super) fn write_syslog(&mut self, level: LogLevel, line: &str) -> io::Result<()> {
        if self.syslog.is_none() {
            if self.tried.is_some_and(|tried| tried.elapsed() < RECONNECT_INTERVAL) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            self.tried = Some(Instant::now());
            self.syslog = Some(Syslog::connect(&self.target.syslog_socket)?);
        }
        let Some(syslog) = &self.syslog else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut record = Vec::with_capacity(line.len() + 40);
        let packet = Packet { facility: self.target.facility };
        packet.format(&mut record, severity(level), line).map_err(io::Error::other)?;
        let length = record.len();
        match syslog.send(&mut record) {
            Ok(()) => {}
            // A syslog daemon that was started anew has a new socket at the same place.
            Err(error) if is_gone(&error) => {
                let anew = Syslog::connect(&self.target.syslog_socket)?;
                record.truncate(length);
                anew.send(&mut record)?;
                self.syslog = Some(anew);
            }
            Err(error) => return Err(error),
        }
        self.reported = false;
        Ok(())
    }
}

/// Writes lines to stderr; how many were lost.
fn write_stderr(text: &str) -> u64 {
    // Where stderr is gone, or takes no more, only later lines can report the loss.
    let mut counted = Counted { inner: io::stderr(), written: 0 };
    let lost = match counted.write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => lines_lost(text, counted.written),
    };
    u64::try_from(lost).unwrap_or(u64::MAX)
}

/// Whether the other end of a connection is no longer there.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionRefused | NotConnected | ConnectionReset | BrokenPipe)
}

/// How many lines of a text are lost where only so many octets were written: one whose end is missing
/// is.
pub(super) fn lines_lost(text: &str, written: usize) -> usize {
    text.bytes().skip(written).filter(|octet| *octet == b'\n').count()
}

/// Counts the octets that are written.
pub(super) struct Counted<W> {
    pub(super) inner: W,
    pub(super) written: usize,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(octets)?;
        self.written += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether the service manager reads stderr: it names the device and inode, as the variable
/// outlives a redirection.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// The form of a line for the local syslog, much as RFC 3164 §4.1 has it.
///
/// Without the time stamp: the receiver knows the time, and the time zone too.
struct Packet {
    facility: SyslogFacility,
}

impl LogFormat<&str> for Packet {
    fn format<W: io::Write>(
        &self,
        writer: &mut W,
        severity: Severity,
        line: &str,
    ) -> syslog::Result<()> {
        let priority = self.facility.code() * 8 + severity as u8;
        write!(writer, "<{priority}>spf-milter[{}]: {line}", std::process::id())
            .map_err(syslog::Error::Write)
    }
}

fn severity(level: LogLevel) -> Severity {
    match level {
        LogLevel::Error => Severity::LOG_ERR,
        LogLevel::Warn => Severity::LOG_WARNING,
        LogLevel::Info => Severity::LOG_INFO,
        LogLevel::Debug => Severity::LOG_DEBUG,
    }
}
