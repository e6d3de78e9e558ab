//! A real unbound on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use super::{free_address, process::Process, scratch::Scratch, wait_for};

/// A running unbound; stopped when dropped.
#[derive(Debug)]
pub struct Unbound {
    address: SocketAddr,
    process: Process,
    _folder: Scratch,
}

impl Unbound {
    /// Starts unbound with these lines added to the `server:` clause, and those (whole clauses)
    /// added after it.
    ///
    /// # Panics
    ///
    /// When it is not installed or does not start.
    pub fn start(server: &str, clauses: &str) -> Self {
        let folder = Scratch::new("unbound");
        let address = free_address();
        let configuration = folder.write(
            "unbound.conf",
            format!(
                "server:
  interface: {ip}@{port}
  port: {port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  do-daemonize: no
  use-syslog: no
  logfile: \"\"
  verbosity: 1
  username: \"\"
  chroot: \"\"
  directory: \"{folder}\"
  pidfile: \"\"
  num-threads: 1
  so-reuseport: no
  module-config: \"validator iterator\"
  local-zone: \"ready.example.\" static
  local-data: \"ready.example. TXT ready\"
{server}
remote-control:
  control-enable: no
{clauses}
",
                ip = address.ip(),
                port = address.port(),
                folder = folder.path().display(),
            ),
        );
        let program = ["/usr/sbin/unbound", "unbound"]
            .into_iter()
            .find(|path| Command::new(path).arg("-V").output().is_ok());
        let program = program.expect("unbound is not installed; `make test` as root installs it");
        let process = Process::start(Command::new(program).arg("-d").arg("-c").arg(configuration));
        let mut unbound = Self { address, process, _folder: folder };
        wait_for("unbound to answer", || {
            assert!(
                unbound.process.ended().is_none(),
                "unbound did not start:\n{}",
                unbound.process.log.to_end()
            );
            answers(address).then_some(())
        });
        unbound
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("unbound's log:\n{}", self.process.log.lines().join("\n"));
        }
        self.process.stop();
    }
}

/// Whether the text of `ready.example` comes.
fn answers(server: SocketAddr) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x07example\x00\x00\x10\x00\x01";
    let mut answer = [0; 512];
    let sent = socket.connect(server).is_ok() && socket.send(query).is_ok();
    sent && socket.recv(&mut answer).is_ok_and(|length| length > query.len())
}
