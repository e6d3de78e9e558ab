use std::{path::Path, time::Duration};

use tokio::{net::UnixStream, time::timeout};

use super::*;
use crate::{
    config::{LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
};

/// A line over a socket pair, its peer, and what is logged.
fn line() -> (Arc<Line>, UnixStream, Log) {
    line_with("")
}

fn line_with(config: &str) -> (Arc<Line>, UnixStream, Log) {
    let text = format!("socket = fd:\n{config}");
    let loaded = load_text(text.as_bytes(), Path::new("test.conf"), &Overrides::default()).unwrap();
    let dns = Dns::from_zone(Arc::new(Zone::parse("").unwrap()));
    let log = Log::keep(LogLevel::Debug);
    let (_, draining) = watch::channel(false);
    let shared = Shared::new(Runtime::new(loaded.config, dns, "mx.example.org".into(), 0));
    let server = Arc::new(Server { shared, observer: Observer::new(log.clone()), draining });
    let (peer, ours) = UnixStream::pair().unwrap();
    let socket = Arc::new(Socket::Unix(ours));
    let line = Line { server, socket, exchange: Arc::default(), busy: AtomicBool::new(false), idle: Notify::new() };
    (Arc::new(line), peer, log)
}

#[tokio::test]
async fn a_panic_is_an_answer_and_a_log_line() {
    let (line, _peer, log) = line();
    let reaction = while_connected(&line, pin!(async { panic!("provoked") })).await;
    assert_eq!(reaction, None::<Reaction>);
    assert_eq!(log.take_kept(), ["internal error in the work on a message"]);
    // The line is as good as before.
    assert_eq!(while_connected(&line, pin!(async { Reaction::proceed() })).await, Some(Reaction::proceed()));
}

#[tokio::test]
async fn work_ends_when_the_peer_leaves() {
    let (line, peer, log) = line();
    let work = async || while_connected(&line, pin!(std::future::pending::<Reaction>())).await;
    assert!(timeout(Duration::from_millis(20), work()).await.is_err());
    drop(peer);
    assert_eq!(timeout(Duration::from_secs(60), work()).await.unwrap(), None);
    assert!(log.take_kept().is_empty());
}

#[tokio::test]
async fn the_end_of_a_message_is_not_missed() {
    let (line, _peer, _) = line();
    line.busy.store(true, Ordering::Release);
    line.message_ended();
    // Told before anybody listened.
    timeout(Duration::from_secs(60), line.idle.notified()).await.unwrap();
    assert!(!line.busy.load(Ordering::Acquire));
}

#[tokio::test]
async fn failures_are_told_where_the_mta_takes_an_answer() {
    let (helo, mail, end) = (ProtoOpts::NOREPLY_HELO, ProtoOpts::NOREPLY_MAIL, ProtoOpts::empty());
    let fail = |config: &str, opts, no_reply| {
        let (line, _peer, _) = line_with(config);
        let runtime = line.server.shared.load();
        let mut connection = Connection { line, runtime, actions: Actions::empty(), opts, session: None, failed: false };
        (connection.fail(no_reply), connection.failed)
    };
    for no_reply in [helo, mail, end] {
        assert_eq!(fail("", end, no_reply), (Status::Tempfail, false));
        assert_eq!(fail("dry_run = yes", end, no_reply), (Status::Continue, false));
    }
    // At the end of the message instead.
    assert_eq!(fail("", helo | mail, mail), (Status::Noreply, true));
    assert_eq!(fail("", helo | mail, end), (Status::Tempfail, false));
    // One message, not the whole connection.
    assert_eq!(fail("error_action = accept", end, helo), (Status::Continue, true));
    assert_eq!(fail("error_action = accept", helo, helo), (Status::Noreply, true));
    assert_eq!(fail("error_action = accept", end, mail), (Status::Accept, false));
    assert_eq!(fail("error_action = accept", end, end), (Status::Accept, false));
}

#[test]
fn white_space_after_the_colon() {
    let sent = |opts, value: &str| String::from_utf8(value_as_sent(opts, value.as_bytes()).into_owned()).unwrap();
    for value in ["x", " x", "", "\n x", "\r\n\tx"] {
        assert_eq!(sent(ProtoOpts::LEADING_SPACE, value), value);
    }
    let taken = |value| sent(ProtoOpts::empty(), value);
    assert_eq!([taken("x"), taken(""), taken("\n x"), taken("\r\n\tx")], [" x", " ", "\n x", "\r\n\tx"]);
}
