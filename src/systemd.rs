//! Notifications of the service manager (`sd_notify(3)`), where there is one.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

/// The service is ready.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is being loaded again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The service is about to end.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    // A service manager that cannot be notified is not a reason to stop working, nor to wait.
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send(&socket, state);
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
