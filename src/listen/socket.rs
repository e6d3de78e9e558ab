//! A socket that listens, and its file.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Connections that wait to be accepted; the system's own limit may be lower.
pub(super) const BACKLOG: i32 = 1024;

/// Something to listen on.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A UNIX socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A listening socket, with what it is called in the log. A socket file of ours is removed with it.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    /// The socket.
    pub(crate) listener: Listener,
    /// Its spelling, with the address and port that it really has.
    pub(crate) name: String,
    /// The file to remove.
    pub(crate) file: Option<SocketFile>,
}

/// A socket file of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another daemon may have put its own socket there in the meantime.
    identity: (u64, u64),
}

impl SocketFile {
    pub(super) fn new(path: &Path, metadata: &fs::Metadata) -> Self {
        Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| is_ours(&metadata)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
