//! The milter protocol: MTA events into the [`Session`](crate::session::Session), its answers back
//! to the MTA.
//!
//! The only place that names the milter library, of which it uses the vocabulary: commands,
//! replies, actions, options, stages. One task serves one connection, in one loop: it takes a
//! packet, and writes edits and answer together. So a connection that fails, leaves or falls silent
//! ends without consequence for others, and one that is between messages can be ended.

mod armed;
mod buffers;
mod conversation;
mod macros;
mod negotiation;
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
pub use server::Server;
pub(crate) use socket::Socket;

/// Serves one connection until it ends, or until the daemon drains and no message is under way.
///
/// # Errors
///
/// The fault of the peer, where that ended the connection.
pub(crate) async fn serve(socket: Socket, server: Arc<Server>) -> io::Result<()> {
    let result = Conversation::new(&socket, &server).run().await;
    // A peer that idles would not learn of the end before it speaks.
    socket.shut_down();
    result
}
