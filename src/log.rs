//! The log: a queue that never blocks mail, and a thread that writes it to syslog or stderr.

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixDatagram},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use syslog::{LogFormat, Severity};

use crate::config::{LogDestination, LogLevel, SyslogFacility};

/// Lines that wait to be written; further ones are dropped and counted.
const QUEUE_LENGTH: usize = 4096;

/// A line longer than this is cut: syslog daemons take about 8 KiB.
const MAX_LINE: usize = 4096;

/// How often a syslog that cannot be reached is tried again.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a syslog that is there but takes nothing is waited for.
const CONGESTION_LIMIT: Duration = Duration::from_millis(200);

/// Lines that are written before it is looked whether they are to go elsewhere.
const PART_LENGTH: usize = 64;

/// Room for lines that is kept for those to come, in octets.
const KEPT_ROOM: usize = 64 * 1024;

thread_local! {
    /// Where the thread makes its lines.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How long lines may gather after some were written. Waking the thread for every line costs more than the line.
const GATHERING_TIME: Duration = Duration::from_millis(10);

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
    dropped: AtomicU64,
    queue: Mutex<Queue>,
    /// Told when there is something to write.
    filled: Condvar,
    /// Told when everything is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Lines,
    new_target: Option<Target>,
    writing: bool,
    /// The thread sleeps until it is woken.
    asleep: bool,
    /// Lines are kept here instead of being written.
    kept: Option<Vec<String>>,
}

/// Lines one behind the other in one text: lines come and go all the time, and need no memory of their own.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    /// The level of each, and where in the text it ends.
    ends: Vec<(LogLevel, usize)>,
}

impl Lines {
    fn push(&mut self, level: LogLevel, line: &str) {
        self.text.push_str(line);
        self.ends.push((level, self.text.len()));
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_ROOM);
        self.ends.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (LogLevel, &str)> {
        let mut start = 0;
        self.ends
            .iter()
            .map(move |&(level, end)| (level, self.text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default()))
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
        thread::Builder::new().name("log".into()).spawn(move || Writer::new(target).run(&shared))?;
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
            dropped: AtomicU64::new(0),
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
    pub fn write(&self, level: LogLevel, line: impl FnOnce() -> String) {
        self.write_with(level, |text| text.push_str(&line()));
    }

    /// As [`Self::write`], with a line that is made in an empty text.
    pub fn write_with(&self, level: LogLevel, make: impl FnOnce(&mut String)) {
        if !self.takes(level) {
            return;
        }
        // Taken, not borrowed: should making the line go wrong, that is logged too.
        let mut text = LINE.take();
        make(&mut text);
        self.queue(level, &escape_line(&text));
        if text.capacity() <= 2 * MAX_LINE {
            text.clear();
            LINE.set(text);
        }
    }

    fn queue(&self, level: LogLevel, line: &str) {
        let mut queue = self.shared.lock();
        if let Some(kept) = &mut queue.kept {
            kept.push(line.to_owned());
        } else if queue.lines.len() < QUEUE_LENGTH {
            queue.lines.push(level, line);
            let asleep = std::mem::take(&mut queue.asleep);
            drop(queue);
            if asleep {
                self.shared.filled.notify_one();
            }
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
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
            queue = self.shared.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| told.elapsed() >= self.interval);
        if may {
            *told = Some(Instant::now());
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

/// Makes control characters visible: nothing in a line can begin another one, or reach a terminal as a command.
fn escape_line(line: &str) -> Cow<'_, str> {
    // All octets are looked at, so that many are at once: nearly no line has others.
    if line.len() <= MAX_LINE && line.bytes().fold(true, |plain, octet| plain & matches!(octet, b' '..=b'~')) {
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

/// What the thread owns.
struct Writer {
    target: Target,
    syslog: Option<UnixDatagram>,
    /// When syslog was tried last, and in vain.
    tried: Option<Instant>,
    /// Whether that was told on stderr.
    told: bool,
    /// Lines on stderr begin with a severity, for the service manager.
    prefixed: bool,
    /// Where lines for stderr are put together.
    text: String,
}

impl Writer {
    fn new(target: Target) -> Self {
        Self { target, syslog: None, tried: None, told: false, prefixed: stderr_is_journal(), text: String::new() }
    }

    fn run(mut self, shared: &Shared) {
        let mut batch = Lines::default();
        loop {
            let mut queue = shared.lock();
            loop {
                self.follow(&mut queue);
                if queue.lines.len() > 0 {
                    break;
                }
                queue.writing = false;
                shared.emptied.notify_all();
                queue.asleep = true;
                queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.asleep = false;
            queue.writing = true;
            std::mem::swap(&mut batch, &mut queue.lines);
            drop(queue);
            let dropped = shared.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.write([(LogLevel::Warn, format!("log lines dropped: {dropped}").as_str())]);
            }
            let mut lines = batch.iter().peekable();
            while lines.peek().is_some() {
                let lost = self.write(lines.by_ref().take(PART_LENGTH));
                shared.dropped.fetch_add(lost, Ordering::Relaxed);
                self.follow(&mut shared.lock());
            }
            drop(lines);
            batch.clear();
            thread::sleep(GATHERING_TIME);
        }
    }

    /// Goes where lines are to go now.
    fn follow(&mut self, queue: &mut Queue) {
        if let Some(target) = queue.new_target.take() {
            self.syslog = None;
            self.tried = None;
            self.target = target;
        }
    }

    /// Writes lines; how many were lost.
    fn write<'a>(&mut self, lines: impl IntoIterator<Item = (LogLevel, &'a str)>) -> u64 {
        let mut lost = 0;
        match self.target.destination {
            LogDestination::Stderr => lost += self.write_stderr(lines),
            LogDestination::Syslog => {
                for (level, line) in lines {
                    let Err(error) = self.write_syslog(level, line) else { continue };
                    self.syslog = None;
                    if !self.told {
                        self.told = true;
                        let socket = self.target.syslog_socket.display();
                        let trouble = format!("cannot write to syslog at {socket}, trying on: {error}");
                        self.write_stderr([(LogLevel::Warn, trouble.as_str())]);
                    }
                    lost += self.write_stderr([(level, line)]);
                }
            }
        }
        lost
    }

    /// Writes lines to stderr, all with one call where it takes them so; how many were lost.
    fn write_stderr<'a>(&mut self, lines: impl IntoIterator<Item = (LogLevel, &'a str)>) -> u64 {
        let mut text = std::mem::take(&mut self.text);
        for (level, line) in lines {
            if self.prefixed {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "<{}>", severity(level) as u8);
            }
            text.push_str(line);
            text.push('\n');
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match io::stderr().write(rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is gone, or takes no more; nobody is left to tell but those who come later.
                Err(_) => break,
            }
        }
        let lost = rest.iter().filter(|&&octet| octet == b'\n').count();
        text.clear();
        text.shrink_to(KEPT_ROOM);
        self.text = text;
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    fn write_syslog(&mut self, level: LogLevel, line: &str) -> io::Result<()> {
        if self.syslog.is_none() {
            if self.tried.is_some_and(|tried| tried.elapsed() < RECONNECT_INTERVAL) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            self.tried = Some(Instant::now());
            self.syslog = Some(self.connect()?);
        }
        let Some(socket) = &self.syslog else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut packet = Vec::with_capacity(line.len() + 40);
        Packet { facility: self.target.facility }.format(&mut packet, severity(level), line).map_err(io::Error::other)?;
        match socket.send(&packet) {
            Ok(_) => {
                self.told = false;
                Ok(())
            }
            // A syslog daemon that was started anew has a new socket at the same place.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                let socket = self.connect()?;
                socket.send(&packet)?;
                self.syslog = Some(socket);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.target.syslog_socket)?;
        socket.set_write_timeout(Some(CONGESTION_LIMIT))?;
        Ok(socket)
    }
}

/// Whether the service manager reads stderr: it names the device and inode, as the variable outlives a redirection.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// The form of a line for the local syslog, much as RFC 3164 §4.1 has it.
///
/// Without the time stamp: the receiver knows the time, and the time zone too.
struct Packet {
    facility: SyslogFacility,
}

impl LogFormat<&str> for Packet {
    fn format<W: io::Write>(&self, writer: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        let priority = self.facility.code() * 8 + severity as u8;
        write!(writer, "<{priority}>spf-milter[{}]: {line}", std::process::id()).map_err(syslog::Error::Write)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn syslog_target(socket: &std::path::Path) -> Target {
        Target { syslog_socket: socket.into(), ..Target::new(LogDestination::Syslog, SyslogFacility::Mail) }
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 9000];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::current_exe().unwrap().with_file_name(format!("log-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn syslog_gets_lines_and_is_found_again() {
        let directory = directory("syslog");
        let path = directory.join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let log = Log::start(syslog_target(&path), LogLevel::Info).unwrap();
        log.info(|| "result=pass\nforged".into());
        log.debug(|| panic!("not asked for"));
        assert_eq!(receive(&socket), format!("<22>spf-milter[{}]: result=pass\\u{{a}}forged", std::process::id()));
        // The daemon is started anew.
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        log.error(|| "second".into());
        assert!(receive(&socket).starts_with("<19>"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_stuck_syslog_blocks_nobody() {
        let directory = directory("stuck");
        let path = directory.join("log");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let log = Log::start(syslog_target(&path), LogLevel::Info).unwrap();
        for _ in 0..3 * QUEUE_LENGTH {
            log.write(LogLevel::Info, || "x".into());
        }
        // Getting here is the point; the queue has its limit.
        assert!(log.shared.lock().lines.len() <= QUEUE_LENGTH);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_too_much_is_counted() {
        // Without a thread that writes.
        let log = Log::new(LogLevel::Info, None);
        for _ in 0..QUEUE_LENGTH + 3 {
            log.info(|| "x".into());
        }
        assert_eq!((log.shared.lock().lines.len(), log.shared.dropped.load(Ordering::Relaxed)), (QUEUE_LENGTH, 3));
    }

    #[test]
    fn an_absent_syslog_is_waited_for() {
        let directory = directory("absent");
        let path = directory.join("log");
        let mut writer = Writer::new(syslog_target(&path));
        assert_eq!(writer.write_syslog(LogLevel::Info, "lost").unwrap_err().kind(), io::ErrorKind::NotFound);
        // Not tried for every line.
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(writer.write_syslog(LogLevel::Info, "lost").unwrap_err().kind(), io::ErrorKind::NotConnected);
        writer.tried = None;
        writer.told = true;
        writer.write_syslog(LogLevel::Info, "found").unwrap();
        assert!(receive(&socket).ends_with(": found"));
        assert!(!writer.told);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_stuck_syslog_is_told_of_once() {
        let directory = directory("told");
        let path = directory.join("log");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let mut writer = Writer::new(syslog_target(&path));
        while writer.write_syslog(LogLevel::Info, "x").is_ok() {}
        for _ in 0..2 {
            // Connecting works, sending does not.
            writer.syslog = None;
            writer.tried = None;
            writer.write([(LogLevel::Debug, "x")]);
            assert!(writer.told);
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn another_destination_takes_over() {
        let directory = directory("redirected");
        let paths = [directory.join("first"), directory.join("second")];
        let sockets = paths.each_ref().map(|path| UnixDatagram::bind(path).unwrap());
        let log = Log::start(syslog_target(&paths[0]), LogLevel::Error).unwrap();
        log.info(|| panic!("not asked for"));
        log.error(|| "one".into());
        assert!(receive(&sockets[0]).ends_with(": one"));
        log.redirect(syslog_target(&paths[1]), LogLevel::Info);
        log.info(|| "two".into());
        assert!(receive(&sockets[1]).ends_with(": two"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn lines_are_one_line_each() {
        assert_eq!(escape_line("a\r\n\u{1b}[2J\u{7f}é\u{202e}"), "a\\u{d}\\u{a}\\u{1b}[2J\\u{7f}é\\u{202e}");
        assert!(escape_line(&"x".repeat(10_000)).len() < 5000);
    }

    #[test]
    fn lines_lie_one_behind_the_other() {
        let mut lines = Lines::default();
        for (level, line) in [(LogLevel::Info, "a"), (LogLevel::Warn, ""), (LogLevel::Error, "bc")] {
            lines.push(level, line);
        }
        assert_eq!(lines.iter().collect::<Vec<_>>(), [(LogLevel::Info, "a"), (LogLevel::Warn, ""), (LogLevel::Error, "bc")]);
        lines.push(LogLevel::Debug, &"x".repeat(2 * KEPT_ROOM));
        lines.clear();
        assert!(lines.iter().next().is_none() && lines.text.capacity() <= KEPT_ROOM);
    }

    #[test]
    fn a_line_can_be_logged_while_one_is_made() {
        let log = Log::keep(LogLevel::Info);
        log.write_with(LogLevel::Info, |text| {
            text.push_str("outer");
            log.info(|| "inner".into());
        });
        assert_eq!(log.take_kept(), ["inner", "outer"]);
    }

    #[test]
    fn kept_lines() {
        let log = Log::keep(LogLevel::Debug);
        log.debug(|| "x".into());
        assert_eq!(log.take_kept(), ["x"]);
        log.flush(Duration::from_secs(1));
    }
}
