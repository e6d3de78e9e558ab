//! A door of this room for tests and fuzzing (feature `testing`).

use std::{io, sync::Arc};

use tokio::net::UnixStream;

use super::{Server, Socket};

/// Serves one connection, as the daemon does.
///
/// # Errors
///
/// The fault of the peer, where that ended the connection.
pub async fn serve(stream: UnixStream, server: Arc<Server>) -> io::Result<()> {
    super::serve(Socket::Unix(stream), server).await
}
