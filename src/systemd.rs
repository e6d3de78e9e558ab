//! What the service manager is told (`sd_notify(3)`). Without one, nobody is.

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
    // A service manager that cannot be told is no reason to stop working.
    let _ = sd_notify::notify(state);
}
