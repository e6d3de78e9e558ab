//! The milter protocol: MTA events into the [`Session`](crate::session::Session), its answers back
//! to the MTA.
//!
//! The only place that names the milter library, of which it uses the vocabulary: commands,
//! replies, actions, options, stages. One task serves one connection, in one loop: it takes a
//! packet, and writes edits and answer together. So a connection that fails, leaves or falls silent
//! ends without consequence for others, and one that is between messages can be ended.

mod armed;
mod buffers;
mod clock;
mod connected;
mod conversation;
mod macros;
mod negotiation;
mod outbox;
mod packets;
mod reading;
mod replies;
mod server;
mod socket;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use conversation::Conversation;
use outbox::Outlet;
pub(crate) use outbox::write_gathered;
pub use server::Server;
pub(crate) use socket::Socket;

/// Serves one connection until it ends, or until the daemon drains and no message is under way.
///
/// # Errors
///
/// The fault of the peer, where that ended the connection.
pub(crate) async fn serve(socket: Socket, server: Arc<Server>) -> io::Result<()> {
    let outlet = Arc::new(Outlet::new(socket));
    let mut result = Conversation::new(&outlet, &server).run().await;
    // The last answer may not be written yet.
    outbox::write_now();
    if result.is_ok() && outlet.is_stuck() {
        result = outlet.finish().await;
    }
    // A peer that idles would not learn of the end before it speaks.
    outlet.socket.shut_down();
    result
}
