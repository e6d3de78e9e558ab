//! The unit under a real systemd, which `testkit/peers/boot.sh` boots in namespaces of its own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testkit::{
    daemon::program, milter_client::Socket, nameserver::NameServer, process::Process, root,
    scenario::complete_config, scratch::Scratch, wait_for,
};

use super::{nameserver, passes, text};

/// A systemd, and the host that it sees.
struct Booted {
    boot: Process,
    /// The process id of systemd, outside.
    systemd: u32,
    folder: Scratch,
}

impl Booted {
    fn start(config: &str) -> Self {
        let folder = Scratch::new("systemd");
        folder.write("spf-milter.conf", config);
        let mut command = Command::new("sh");
        command.arg(root().join("testkit/peers/boot.sh")).arg(program()).arg(root().join("etc"));
        let mut boot = Process::start(command.arg(folder.path()));
        let systemd = wait_for("systemd to boot", || {
            assert!(boot.ended().is_none(), "{}", boot.log.to_end());
            let children = format!("/proc/{0}/task/{0}/children", boot.id());
            let id = fs::read_to_string(children).ok()?.trim().parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
            (name == "systemd\n").then_some(id)
        });
        let booted = Self { boot, systemd, folder };
        wait_for("systemd to be up", || {
            text(&booted.run(&["systemctl", "is-system-running"]))
                .starts_with("running")
                .then_some(())
        });
        booted
    }

    /// A path of the host that systemd sees.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.systemd))
    }

    fn run(&self, command: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.systemd.to_string(), "-m", "-p", "-u", "-i", "-C"]);
        nsenter.args(command).output().unwrap()
    }

    /// Runs systemctl, which must succeed.
    fn systemctl(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["systemctl"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output), self.log());
        text(&output)
    }

    /// Properties of the service.
    fn show(&self) -> BTreeMap<String, String> {
        let said = self.systemctl(&["show", "spf-milter.service"]);
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Waits until a property has a value.
    fn wait_for(&self, name: &str, value: &str) {
        wait_for(&format!("{name}={value}"), || (self.show()[name] == value).then_some(()));
    }

    fn status(&self, state: &str, configuration: usize, failed: &str) {
        let counts = "connections 0, messages 0, refusals 0";
        self.wait_for(
            "StatusText",
            &format!("{state}: {counts}, configuration {configuration}{failed}"),
        );
    }

    fn write_config(&self, config: &str) {
        fs::write(self.path("/etc/spf-milter.conf"), config).unwrap();
    }

    /// The log of the daemon.
    fn log(&self) -> String {
        fs::read_to_string(self.path("/run/log")).unwrap_or_default()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.boot.log.lines().join("\n"), self.log());
        }
        // With the first process of its namespace all others end.
        testkit::process::send_signal(self.systemd, "KILL");
        let _ = self.boot.ended();
        let group = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(
                "mount -t cgroup2 cgroup2 \"$0\" && for attempt in 1 2 3 4 5 6 7 8 9; do \
                 find \"$0/spf-milter-test-$1\" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done",
            )
            .arg(self.folder.join("cgroup"))
            .arg(self.boot.id().to_string())
            .status();
        let _ = group;
    }
}

const RUN: &str = "/run/spf-milter/spf-milter.sock";
const CHROOT: &str = "/var/spool/postfix/spf-milter/spf-milter.sock";

fn config(nameserver: &NameServer, lines: &str) -> String {
    complete_config(&format!("log_destination = stderr\n{lines}"), nameserver.address())
}

fn group(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.gid(), metadata.permissions().mode() & 0o777)
}

#[test]
#[ignore = "needs systemd, Postfix and root: make test"]
fn systemd_runs_the_service() {
    let nameserver = nameserver();
    let config = |lines: &str| {
        let sockets = format!("socket = unix:{RUN}, unix:{CHROOT}\nsocket_mode = 0660\n{lines}");
        config(&nameserver, &sockets)
    };
    let host = Booted::start(&config(""));
    // Start, with the rights that the unit leaves.
    host.systemctl(&["start", "spf-milter"]);
    host.status("serving", 0, "");
    let id = host.show()["MainPID"].clone();
    let process = fs::read_to_string(host.path(&format!("/proc/{id}/status"))).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"] {
        assert!(process.contains(line), "{process}");
    }
    for path in [RUN, CHROOT] {
        assert!(passes(&Socket::Unix(host.path(path))), "{path}");
    }
    // The socket in the queue directory is open to Postfix.
    assert_eq!(group(&host.path(CHROOT)), (super::super::examples::postfix_group(), 0o660));
    // Reloads; one with an error fails.
    host.systemctl(&["restart", "spf-milter"]);
    host.write_config(&config("max_lookups = 7\n"));
    host.systemctl(&["reload", "spf-milter"]);
    host.status("serving", 1, "");
    host.write_config(&config("max_lookups = many\n"));
    let id = host.show()["MainPID"].clone();
    assert!(!host.run(&["systemctl", "reload", "spf-milter"]).status.success());
    host.status("serving", 1, "");
    host.systemctl(&["kill", "--signal=HUP", "spf-milter"]);
    host.status("serving", 1, " (a reload failed, see the log)");
    assert_eq!((&host.show()["MainPID"], &*host.show()["ActiveState"]), (&id, "active"));
    // An error at the start is not tried again.
    assert!(!host.run(&["systemctl", "restart", "spf-milter"]).status.success());
    assert_eq!(host.show()["ExecMainStatus"], "78");
    assert_eq!((&*host.show()["ActiveState"], &*host.show()["NRestarts"]), ("failed", "0"));
    // A daemon that stands still is started again.
    host.write_config(&config(""));
    fs::write(
        host.path("/run/systemd/system/spf-milter.service.d/watchdog.conf"),
        "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=0\n",
    )
    .unwrap();
    host.systemctl(&["daemon-reload"]);
    host.systemctl(&["start", "spf-milter"]);
    let id = host.show()["MainPID"].clone();
    host.systemctl(&["kill", "--signal=STOP", "spf-milter"]);
    host.wait_for("NRestarts", "1");
    host.wait_for("ActiveState", "active");
    assert_ne!(host.show()["MainPID"], id);
    assert!(passes(&Socket::Unix(host.path(RUN))));
    host.systemctl(&["stop", "spf-milter"]);
    assert_eq!((&*host.show()["ActiveState"], &*host.show()["Result"]), ("inactive", "success"));
}

#[test]
#[ignore = "needs systemd, Postfix and root: make test"]
fn systemd_opens_the_socket_of_the_unit() {
    let nameserver = nameserver();
    let host = Booted::start(&config(&nameserver, "socket = fd:spf-milter\n"));
    host.systemctl(&["start", "spf-milter.socket"]);
    assert_eq!(group(&host.path(CHROOT)), (super::super::examples::postfix_group(), 0o660));
    assert_eq!(host.show()["ActiveState"], "inactive");
    let socket = Socket::Unix(host.path(CHROOT));
    assert!(passes(&socket));
    host.wait_for("ActiveState", "active");
    // A client that comes while the daemon is down waits for the next one.
    host.systemctl(&["stop", "spf-milter.service"]);
    assert!(passes(&socket));
    assert!(host.log().matches(" started socket=fd:spf-milter").count() == 2, "{}", host.log());
}
