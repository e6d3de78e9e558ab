//! The signals of the process.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use futures_util::StreamExt as _;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
    flag,
};

/// The signals that would end the process unless it took them. SIGPIPE is not among them: Rust has
/// it ignored from the start.
const TAKEN: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// Keeps signals from ending the process, as the very first thing that it does. The flag is set when
/// one of them says to stop.
///
/// # Errors
///
/// The system does not let us.
pub(super) fn hold() -> io::Result<Arc<AtomicBool>> {
    let (stop, nothing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in TAKEN {
        // A reload means nothing yet: the configuration has not been read.
        let flag = if matches!(signal, SIGTERM | SIGINT) { &stop } else { &nothing };
        flag::register(signal, Arc::clone(flag))?;
    }
    Ok(stop)
}

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// To load the configuration again: SIGHUP, and SIGUSR1, as other milters take it.
    Reload,
    /// To end.
    Stop,
}

/// The signals that come. From its making on no signal ends the process.
pub(super) struct Signals(signal_hook_tokio::Signals);

impl Signals {
    /// Takes the signals from now on; within a runtime.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub(super) fn take() -> io::Result<Self> {
        signal_hook_tokio::Signals::new(TAKEN).map(Self)
    }

    /// Waits for the next signal that says something.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(SIGHUP | SIGUSR1) => return Signal::Reload,
                // It has no meaning here, and is not a reason to end.
                Some(SIGUSR2) => {}
                // Nor are there signals any more when there is no next one.
                Some(_) | None => return Signal::Stop,
            }
        }
    }

    /// Waits for a signal to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}

/// Lets signals do again what they do to programs that do not take them.
///
/// # Errors
///
/// The system does not let us.
pub(super) fn release() -> io::Result<()> {
    TAKEN.into_iter().try_for_each(|signal| {
        flag::register_conditional_default(signal, Arc::new(AtomicBool::new(true))).map(drop)
    })
}
