//! What tests and fuzzing reach of this room beside what everybody does (feature `testing`).

use std::{io, sync::Arc};

use tokio::net::UnixStream;

use super::{Server, Socket};

/// Serves one connection, as the daemon does.
///
/// # Errors
///
/// What the peer did wrong, where that ended the connection.
pub async fn serve(stream: UnixStream, server: Arc<Server>) -> io::Result<()> {
    super::serve(Socket::Unix(stream), server).await
}
