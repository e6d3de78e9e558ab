//! The part of the daemon that all connections share.

use tokio::sync::watch;

use crate::{observe::Observer, runtime::Shared};

/// The part of the daemon that all connections share.
#[derive(Debug)]
pub struct Server {
    /// The configuration in force, and what is built from it.
    pub shared: Shared,
    /// Where records go.
    pub observer: Observer,
    /// Whether the daemon is about to end.
    pub draining: watch::Receiver<bool>,
}
