//! The part of a service manager that takes notifications (`sd_notify(3)`).

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::Command,
};

use super::{PATIENCE, daemon::Daemon, scratch::Scratch};

/// A receiver of notifications.
#[derive(Debug)]
pub struct ServiceManager {
    receiver: UnixDatagram,
    folder: Scratch,
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceManager {
    /// Begins to listen.
    pub fn new() -> Self {
        let folder = Scratch::new("notify");
        let receiver = UnixDatagram::bind(folder.join("n")).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { receiver, folder }
    }

    /// Lets every user send notifications.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.folder.join("n"), fs::Permissions::from_mode(0o666)).unwrap();
    }

    /// Starts a daemon that notifies, and that is to send keep-alives within these microseconds.
    pub fn start(&self, config: &str, watchdog: Option<&str>) -> Daemon {
        self.launch(config, |command| {
            command.envs(watchdog.map(|limit| ("WATCHDOG_USEC", limit)));
        })
    }

    /// Starts a daemon that notifies; see [`Daemon::launch`].
    ///
    /// # Panics
    ///
    /// When it ends instead of serving.
    pub fn launch(&self, config: &str, adapt: impl FnOnce(&mut Command)) -> Daemon {
        let daemon = Daemon::launch(config, |command| {
            command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
            command.env("NOTIFY_SOCKET", self.folder.join("n"));
            adapt(command);
        });
        daemon.unwrap_or_else(|failure| panic!("the daemon did not start: {failure:?}"))
    }

    /// The next notification.
    ///
    /// # Panics
    ///
    /// When there is none within a minute.
    pub fn next(&self) -> String {
        let mut buffer = [0; 1000];
        let length = loop {
            match self.receiver.recv(&mut buffer) {
                // A child process ended.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.expect("no notification"),
            }
        };
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The notifications that have come, without waiting for more.
    pub fn all(&self) -> Vec<String> {
        self.receiver.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1000];
        let mut found = Vec::new();
        while let Ok(length) = self.receiver.recv(&mut buffer) {
            found.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        self.receiver.set_nonblocking(false).unwrap();
        found
    }

    /// Waits for a notification that begins so; answers with those before it.
    pub fn wait_for(&self, start: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let notification = self.next();
            if notification.starts_with(start) {
                return before;
            }
            before.push(notification);
        }
    }
}
