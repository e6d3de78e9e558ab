//! The parts that tests, benchmarks, fuzzing and the demo share: a milter client, the daemon as a
//! child process, real MTAs and name servers on loopback, signers, scenarios, slow twins and the
//! checks of fuzzing.
//!
//! Nothing here sleeps to be in time: everything waits for a condition, for at most [`PATIENCE`].
//! Processes and folders go with the value that owns them, also when a test panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process as this_process,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

pub mod auth_results;
pub mod bench;
pub mod corpus;
pub mod daemon;
pub mod drivers;
pub mod fields;
pub mod fuzz;
pub mod milter_client;
#[allow(missing_docs, reason = "the fields are the words of the RFCs")]
pub mod models;
pub mod nameserver;
pub mod opendkim;
pub mod opendmarc;
pub mod packaging;
pub mod postfix;
pub mod process;
pub mod received_spf;
pub mod scenario;
pub mod scratch;
pub mod sendmail;
pub mod service_manager;
pub mod signer;
pub mod signers;
pub mod smtp;
pub mod unbound;

/// The longest wait for anything that should happen at once on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Asks every few milliseconds until there is an answer.
///
/// # Panics
///
/// When [`PATIENCE`] is at its end; the message names `what` was awaited.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address for a server that cannot say which port the kernel gave it.
///
/// The port is from the kernel, the address (of 127.0.0.0/8) is no one else's, so that nobody gets
/// in between, not even the connection that tries whether the server is up.
pub fn free_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let id = this_process::id().to_be_bytes();
    let address =
        Ipv4Addr::new(127, 1 + (id[2] & 0x3f), id[3], COUNT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((IpAddr::V4(address), 0)).unwrap().local_addr().unwrap()
}
