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

/// All sockets.
pub(crate) struct Sockets {
    /// Those of the MTA.
    pub(crate) milter: Vec<ListeningSocket>,
    /// Those of `metrics_socket`.
    pub(crate) metrics: Vec<ListeningSocket>,
    /// Notes about them for the administrator.
    pub(crate) notes: Vec<String>,
}

/// Opens all sockets, or none.
///
/// # Errors
///
/// The error of the first one that cannot be opened.
pub(crate) fn listen(
    specs: &[SocketSpec],
    metrics: Option<&SocketSpec>,
    access: &Access,
) -> anyhow::Result<Sockets> {
    let (mut notes, mut passed) = (Vec::new(), None);
    // First: `fd:` takes all that the service manager passed and that is not taken.
    let metrics = open(metrics, access, &mut passed, &mut notes)?;
    let milter = open(specs, access, &mut passed, &mut notes)?;
    Ok(Sockets { milter, metrics, notes })
}

fn open<'a>(
    specs: impl IntoIterator<Item = &'a SocketSpec>,
    access: &Access,
    passed: &mut Option<PassedSockets>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<ListeningSocket>> {
    let (mut sockets, mut taken) = (Vec::new(), Vec::new());
    for spec in specs {
        let opened = match spec {
            SocketSpec::Inet { host, port } => tcp::listen(host, *port, false, &mut taken, notes),
            SocketSpec::Inet6 { host, port } => tcp::listen(host, *port, true, &mut taken, notes),
            SocketSpec::Unix(path) => unix::listen(path, access).map(|socket| vec![socket]),
            SocketSpec::Fd(name) => {
                let passed = match &mut *passed {
                    Some(passed) => passed,
                    None => passed.insert(PassedSockets::from_environment()?),
                };
                passed.take(name.as_deref())
            }
        };
        sockets.extend(opened.with_context(|| format!("cannot listen on {spec}"))?);
    }
    Ok(sockets)
}
