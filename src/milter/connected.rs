//! Work on a message, as long as the MTA that sent it is there.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::Pin, task::Poll};

use futures_util::FutureExt as _;

use super::{clock::Clock, server::Server, socket::Socket};

/// What is logged after a panic, which has lines of its own.
pub(super) const INTERNAL_ERROR: &str = "internal error in the work on a message";

/// Why the session did not finish work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unfinished {
    /// The peer is gone.
    PeerGone,
    /// The work panicked.
    Panicked,
}

/// Lets the session work as long as the peer is there. The clock goes on where it has to wait.
///
/// Pinned by the caller: a future has memory for each future that it is given, and again for
/// awaiting it.
pub(super) async fn while_connected<T>(
    socket: &Socket,
    server: &Server,
    clock: &mut Clock,
    work: Pin<&mut (impl Future<Output = T> + Send)>,
) -> Result<T, Unfinished> {
    let mut work = AssertUnwindSafe(work).catch_unwind();
    // Mostly the work is done at once.
    let mut closed = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.poll_unpin(cx) {
            if done.is_err() {
                server.observer.problem(INTERNAL_ERROR);
            }
            return Poll::Ready(done.map_err(|_| Unfinished::Panicked));
        }
        clock.go_on();
        let closed = closed.get_or_insert_with(|| Box::pin(socket.closed_by_peer()));
        closed.as_mut().poll(cx).map(|()| Err(Unfinished::PeerGone))
    })
    .await
}
