use std::{
    fs,
    io::{BufReader, Write as _},
    os::unix::net::{UnixDatagram, UnixListener},
    path::{Path, PathBuf},
};

use super::{
    queue::Lines,
    writer::{Counted, Writer, lines_lost},
    *,
};
use crate::config::{LogDestination, SyslogFacility};

fn syslog_target(socket: &Path) -> Target {
    Target {
        syslog_socket: socket.into(),
        ..Target::new(LogDestination::Syslog, SyslogFacility::Mail, LogFormat::Text)
    }
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 9000];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::current_exe()
        .unwrap()
        .with_file_name(format!("log-test-{name}-{}", std::process::id()));
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
    assert_eq!(
        receive(&socket),
        format!("<22>spf-milter[{}]: result=pass\\u{{a}}forged", std::process::id())
    );
    // The daemon is started anew.
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    log.error(|| "second".into());
    assert_eq!(receive(&socket), format!("<19>spf-milter[{}]: error: second", std::process::id()));
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
    assert!(log.queue.lock().lines.len() <= QUEUE_LENGTH);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn lines_beyond_the_limit_are_counted() {
    // Without a thread that writes.
    let log = Log::new(LogLevel::Info, None);
    for _ in 0..QUEUE_LENGTH + 3 {
        log.info(|| "x".into());
    }
    let queue = log.queue.lock();
    assert_eq!((queue.lines.len(), queue.dropped), (QUEUE_LENGTH, 3));
}

#[test]
fn an_absent_syslog_is_waited_for() {
    let directory = directory("absent");
    let path = directory.join("log");
    let mut writer = Writer::new(syslog_target(&path));
    assert_eq!(
        writer.write_syslog(LogLevel::Info, "lost").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    // Not tried for every line.
    let socket = UnixDatagram::bind(&path).unwrap();
    assert_eq!(
        writer.write_syslog(LogLevel::Info, "lost").unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    writer.tried = None;
    writer.reported = true;
    writer.write_syslog(LogLevel::Info, "found").unwrap();
    assert!(receive(&socket).ends_with(": found"));
    assert!(!writer.reported);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_stuck_syslog_is_reported_once() {
    let directory = directory("reported");
    let path = directory.join("log");
    let _never_read = UnixDatagram::bind(&path).unwrap();
    let mut writer = Writer::new(syslog_target(&path));
    while writer.write_syslog(LogLevel::Info, "x").is_ok() {}
    for _ in 0..2 {
        // Connecting works, sending does not.
        writer.syslog = None;
        writer.tried = None;
        writer.write([(LogLevel::Debug, "x")]);
        assert!(writer.reported);
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
    assert!(receive(&sockets[0]).ends_with("]: error: one"));
    log.redirect(syslog_target(&paths[1]), LogLevel::Info);
    log.info(|| "two".into());
    assert!(receive(&sockets[1]).ends_with(": two"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn lines_are_one_line_each() {
    assert_eq!(
        escape_line("a\r\n\u{1b}[2J\u{7f}é\u{202e}"),
        "a\\u{d}\\u{a}\\u{1b}[2J\\u{7f}é\\u{202e}"
    );
    assert!(escape_line(&"x".repeat(10_000)).len() < 5000);
    // About so many: the character that goes beyond is still written.
    for (length, is_whole) in [(4095, true), (4096, true), (4097, true), (4098, false)] {
        let line = "x".repeat(length);
        assert_eq!(
            escape_line(&line),
            if is_whole { line.clone() } else { line[..4097].to_owned() + "..." },
            "{length}"
        );
    }
}

#[test]
fn a_line_can_be_logged_while_one_is_made() {
    let log = Log::keep(LogLevel::Info);
    log.write_with(LogLevel::Info, |text, _| {
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

/// A record of a stream, without the NUL at its end.
fn next(stream: &mut impl std::io::BufRead) -> String {
    let mut record = Vec::new();
    stream.read_until(0, &mut record).unwrap();
    assert_eq!(record.pop(), Some(0), "{record:?}");
    String::from_utf8(record).unwrap()
}

#[test]
fn a_syslog_that_takes_a_stream_gets_one() {
    let directory = directory("stream");
    let path = directory.join("log");
    let listener = UnixListener::bind(&path).unwrap();
    let log = Log::start(syslog_target(&path), LogLevel::Info).unwrap();
    log.info(|| "one".into());
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    log.warn(|| "two".into());
    let long = "x".repeat(2 * MAX_LINE);
    log.info(|| long.clone());
    let id = std::process::id();
    assert_eq!(next(&mut stream), format!("<22>spf-milter[{id}]: one"));
    assert_eq!(next(&mut stream), format!("<20>spf-milter[{id}]: warning: two"));
    assert!(next(&mut stream).starts_with(&format!("<22>spf-milter[{id}]: xxx")));
    // It is started anew, with a stream and then with datagrams.
    drop((stream, listener));
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    log.info(|| "three".into());
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    assert!(next(&mut stream).ends_with("]: three"));
    drop((stream, listener));
    fs::remove_file(&path).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    log.info(|| "four".into());
    assert!(receive(&socket).ends_with("]: four"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_stream_that_nobody_reads_is_left() {
    let directory = directory("full");
    let path = directory.join("log");
    let listener = UnixListener::bind(&path).unwrap();
    let mut writer = Writer::new(syslog_target(&path));
    let line = "x".repeat(MAX_LINE);
    while writer.write_syslog(LogLevel::Info, &line).is_ok() {}
    // Half a record may be in the stream: the next one is for a new connection, as this is what the
    // caller does.
    writer.syslog = None;
    writer.tried = None;
    writer.write_syslog(LogLevel::Info, "whole").unwrap();
    let _first = listener.accept().unwrap();
    let mut second = BufReader::new(listener.accept().unwrap().0);
    assert!(next(&mut second).ends_with("]: whole"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn dropped_lines_are_reported_with_the_next_one() {
    let directory = directory("dropped");
    let path = directory.join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let log = Log::new(LogLevel::Info, None);
    for _ in 0..QUEUE_LENGTH + 3 {
        log.info(|| "x".into());
    }
    let mut writer = Writer::new(syslog_target(&path));
    let (batch, dropped) = {
        let mut queue = log.queue.lock();
        (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.dropped))
    };
    // A reader on the side, as the socket holds few datagrams.
    let reader =
        thread::spawn(move || (0..QUEUE_LENGTH + 2).map(|_| receive(&socket)).collect::<Vec<_>>());
    writer.write_batch(&batch, dropped, &log.queue);
    // Lines that were lost elsewhere are reported before the next one.
    writer.lost = 7;
    let mut next = Lines::default();
    next.push(LogLevel::Info, "", "next");
    // The last of the batch was the count of what came after it; here comes another, and the line.
    writer.write_batch(&next, 0, &log.queue);
    let received = reader.join().unwrap();
    assert!(received[QUEUE_LENGTH - 1].ends_with("]: x"));
    assert!(
        received[QUEUE_LENGTH].ends_with("]: warning: log lines dropped: 3"),
        "{}",
        received[QUEUE_LENGTH]
    );
    assert!(
        received[QUEUE_LENGTH + 1].ends_with("]: warning: log lines dropped: 7"),
        "{}",
        received[QUEUE_LENGTH + 1]
    );
    assert_eq!(writer.lost, 0);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn lines_written_before_a_failure_are_not_lost() {
    /// Takes so many octets, at most three at once.
    struct Narrow(usize);
    impl std::io::Write for Narrow {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let taken = octets.len().min(self.0).min(3);
            self.0 -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (room, whole) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (9, 3)] {
        let (mut counted, text) = (Counted { inner: Narrow(room), written: 0 }, "a\nb\nc\n");
        assert_eq!(counted.write_all(text.as_bytes()).is_ok(), room >= 6);
        assert_eq!(lines_lost(text, counted.written), 3 - whole, "{room}");
    }
}

#[test]
fn sentences_begin_with_their_severity() {
    let log = Log::new(LogLevel::Debug, None);
    log.error(|| "one".into());
    log.warn(|| "two".into());
    log.info(|| "three".into());
    log.debug(|| "four".into());
    // Lines for programs have no prefix.
    log.write_with(LogLevel::Error, |text, _| text.push_str("action=fail"));
    let queue = log.queue.lock();
    let lines: Vec<&str> =
        queue.lines.parts(usize::MAX).flat_map(queue::Part::iter).map(|(_, line)| line).collect();
    assert_eq!(lines, ["error: one", "warning: two", "three", "four", "action=fail"]);
}
