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
    let loaded = load_text(b"socket = fd:", Path::new("test.conf"), &Overrides::default()).unwrap();
    let dns = Dns::from_zone(Arc::new(Zone::parse("").unwrap()));
    let log = Log::keep(LogLevel::Debug);
    let (_, draining) = watch::channel(false);
    let shared = Shared::new(Runtime::new(loaded.config, dns, "mx.example.org".into(), 0));
    let server = Arc::new(Server { shared, observer: Observer::new(log.clone()), draining });
    let (peer, ours) = UnixStream::pair().unwrap();
    let socket = Arc::new(Socket::Unix(ours));
    (Arc::new(Line { server, socket, busy: AtomicBool::new(false), idle: Notify::new() }), peer, log)
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
