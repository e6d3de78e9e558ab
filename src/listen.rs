//! Sockets to listen on: made, taken over, put in order and removed.

mod passed;
mod socket;
mod tcp;
mod unix;

use anyhow::Context as _;

pub(crate) use socket::{Listener, ListeningSocket, SocketFile};
pub(crate) use unix::Access;

use passed::PassedSockets;

use crate::config::SocketSpec;

/// Opens all sockets, or none. The second list has notes about them for the administrator.
///
/// # Errors
///
/// The error of the first one that cannot be opened.
pub(crate) fn listen(
    specs: &[SocketSpec],
    access: &Access,
) -> anyhow::Result<(Vec<ListeningSocket>, Vec<String>)> {
    let (mut sockets, mut notes) = (Vec::new(), Vec::new());
    let (mut taken, mut passed) = (Vec::new(), None);
    for spec in specs {
        let opened = match spec {
            SocketSpec::Inet { host, port } => {
                tcp::listen(host, *port, false, &mut taken, &mut notes)
            }
            SocketSpec::Inet6 { host, port } => {
                tcp::listen(host, *port, true, &mut taken, &mut notes)
            }
            SocketSpec::Unix(path) => unix::listen(path, access).map(|socket| vec![socket]),
            SocketSpec::Fd(name) => {
                let passed = match &mut passed {
                    Some(passed) => passed,
                    None => passed.insert(PassedSockets::from_environment()?),
                };
                passed.take(name.as_deref())
            }
        };
        sockets.extend(opened.with_context(|| format!("cannot listen on {spec}"))?);
    }
    Ok((sockets, notes))
}
