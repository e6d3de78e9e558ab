//! Notifications of the service manager (`sd_notify(3)`), where there is one.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;

/// Whether there is a service manager that takes notifications.
pub(crate) fn takes_notifications() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// How long the service manager waits for a keep-alive before it takes the service for stuck; `None`
/// where it does not watch this process.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Whether the service manager will get a notification.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Delivery {
    /// It will, or there is none that could.
    Done,
    /// It has too many that it has not read.
    Later,
}

/// The service is ready; `status` is a line for people.
pub(crate) fn ready(status: &str) -> Delivery {
    notify(&[NotifyState::Ready, NotifyState::Status(status)])
}

/// The configuration is being loaded again; [`ready`] follows.
pub(crate) fn reloading(status: &str) -> Delivery {
    let status = NotifyState::Status(status);
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, status]),
        Err(_) => notify(&[NotifyState::Reloading, status]),
    }
}

/// The service is about to end, and takes no longer than `limit` for that.
pub(crate) fn stopping(status: &str, limit: Duration) -> Delivery {
    let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(limit),
        NotifyState::Status(status),
    ])
}

/// The status has changed.
pub(crate) fn status(status: &str) -> Delivery {
    notify(&[NotifyState::Status(status)])
}

/// The service is not stuck.
pub(crate) fn keep_alive() -> Delivery {
    notify(&[NotifyState::Watchdog])
}

fn notify(state: &[NotifyState<'_>]) -> Delivery {
    // A service manager that cannot be notified is not a reason to stop working, nor to wait.
    let sent = env::var_os("NOTIFY_SOCKET").map(|socket| send(&socket, state));
    match sent {
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Delivery::Later,
        _ => Delivery::Done,
    }
}

fn send(socket: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        // A name that is not a file, in the notation of unix(7).
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    sender.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_files_are_known() {
        let name = format!("spf-milter-test-{}", std::process::id());
        let receiver =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(
            OsStr::new(&format!("@{name}")),
            &[NotifyState::Reloading, NotifyState::MonotonicUsec(7)],
        )
        .unwrap();
        let mut buffer = [0; 100];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"RELOADING=1\nMONOTONIC_USEC=7\n");
    }

    #[test]
    fn a_service_manager_that_is_stuck_is_not_waited_for() {
        let name = format!("spf-milter-stuck-{}", std::process::id());
        let _never_read =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        while send(OsStr::new(&format!("@{name}")), &[NotifyState::Ready]).is_ok() {}
    }
}
