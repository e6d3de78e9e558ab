//! Sockets and paths that are hardly meant.

use std::path::Path;

use super::super::{params::Config, types::socket::SocketSpec};

/// Looks at the paths of sockets.
pub(super) fn sockets<'a>(
    sockets: impl IntoIterator<Item = &'a SocketSpec>,
    warn: &mut impl FnMut(usize, &str),
) {
    for socket in sockets {
        if let SocketSpec::Unix(file) = socket {
            path(file, &format!("{socket} "), warn);
        }
    }
}

/// Looks at the socket for monitoring.
pub(super) fn metrics_socket(config: &Config, warn: &mut impl FnMut(usize, &str)) {
    sockets(&config.metrics_socket, warn);
    if config.metrics_socket.as_ref().is_some_and(SocketSpec::may_be_reached) {
        let refusals = match config.status_refusals {
            0 => "",
            _ => " and the clients and domains of refused mail",
        };
        warn(
            0,
            &format!(
                "shows the status{refusals} to everybody who can connect, and is not encrypted (expected 127.0.0.1, [::1] or a UNIX socket)"
            ),
        );
    }
}

/// Looks at a path, which the warnings call by this name.
pub(super) fn path(path: &Path, name: &str, warn: &mut impl FnMut(usize, &str)) {
    if path.as_os_str().is_empty() {
        return;
    }
    let text = path.to_string_lossy();
    let findings = [
        (
            path.is_relative(),
            "is relative to the folder in which the milter is started (expected an absolute path)",
        ),
        (text.contains(char::is_whitespace), "has white space, which is a part of the path"),
        (
            text.contains('#'),
            "has a '#', which is a part of the path (a comment needs a line of its own)",
        ),
    ];
    for (_, why) in findings.into_iter().filter(|(is_found, _)| *is_found) {
        warn(0, &format!("{name}{why}"));
    }
}
