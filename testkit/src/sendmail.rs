//! A real Sendmail with a configuration and a queue of its own; it queues what it accepts, and the
//! queue is read.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    thread,
};

use super::{
    fields::{Field, split_message},
    free_address,
    milter_client::Socket,
    process::Process,
    scenario::HOST,
    scratch::{Scratch, target_folder},
    smtp::{Reply, SmtpClient},
    wait_for,
};

/// A running Sendmail; stopped when dropped.
#[derive(Debug)]
pub struct Sendmail {
    address: SocketAddr,
    daemon: Process,
    folder: Scratch,
}

/// Where `testkit/peers.sh` unpacked Sendmail.
fn root() -> PathBuf {
    target_folder().join("sendmail")
}

impl Sendmail {
    /// Starts Sendmail in front of a milter.
    ///
    /// # Panics
    ///
    /// When it cannot be started: it must have been unpacked, and the test must run as root.
    pub fn start(milter: &Socket) -> Self {
        let Socket::Inet(milter) = milter else {
            panic!("Sendmail wants the milter on TCP: it distrusts the folders of tests")
        };
        let socket = format!("inet:{}@{}", milter.port(), milter.ip());
        Self::with_filter(&format!(
            "INPUT_MAIL_FILTER(`spf', `S={socket}, F=T, T=S:60s;R:60s;E:5m')dnl"
        ))
    }

    /// Starts Sendmail with these lines about a milter.
    pub fn with_filter(lines: &str) -> Self {
        let program = root().join("usr/libexec/sendmail/sendmail");
        assert!(
            program.exists(),
            "Sendmail is not in {}; `make test` as root unpacks it",
            root().display()
        );
        let folder = Scratch::new("sendmail");
        fs::create_dir(folder.join("queue")).unwrap();
        fs::set_permissions(folder.join("queue"), fs::Permissions::from_mode(0o700)).unwrap();
        let address = free_address();
        let configuration = configure(&folder, address, lines);
        folder.write("hosts", format!("127.0.0.1 {HOST} localhost\n"));
        // Without a fully-qualified host name Sendmail sleeps for a minute first.
        let script = format!("hostname {HOST} && mount --bind \"$0\" /etc/hosts && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--uts", "--mount", "sh", "-c", &script]).arg(folder.join("hosts"));
        command
            .arg(program)
            .arg("-C")
            .arg(configuration)
            .arg("-X")
            .arg(folder.join("traffic"))
            .arg("-bD");
        let daemon = Process::start(&mut command);
        let mut sendmail = Self { address, daemon, folder };
        wait_for("Sendmail to listen", || {
            assert!(
                sendmail.daemon.ended().is_none(),
                "Sendmail did not start:\n{}",
                sendmail.daemon.log.to_end()
            );
            // It may reset the first connections.
            SmtpClient::connect(address).ok().filter(|client| client.greeting.code == 220).map(drop)
        });
        sendmail
    }

    /// Connects from an address of loopback, such as 127.0.0.7.
    pub fn connect_from(&self, client: Ipv4Addr) -> SmtpClient {
        let client = SmtpClient::connect_from(IpAddr::V4(client), self.address).unwrap();
        assert_eq!(client.greeting.code, 220, "{:?}", client.greeting);
        client
    }

    /// The header of the message of which `reply` gives the queue id, Sendmail's own Received field
    /// left out.
    pub fn queued(&self, reply: &Reply) -> Vec<Field> {
        assert_eq!(reply.code, 250, "{reply:?}");
        let id = reply.last().split(' ').nth(2).unwrap();
        let file = wait_for("a message in the queue", || self.queue_file(id));
        let mut header = Vec::new();
        let mut inside = false;
        for line in file.split(|octet| *octet == b'\n') {
            // `H?FLAGS?Name: value`, then what is folded.
            let field = line
                .strip_prefix(b"H?")
                .and_then(|rest| rest.splitn(2, |octet| *octet == b'?').nth(1));
            inside = field.is_some()
                || inside && line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
            if inside {
                header.extend_from_slice(field.unwrap_or(line));
                header.push(b'\n');
            }
        }
        let mut fields = split_message(&header).0;
        fields.retain(|field| !field.is("Return-Path"));
        let own = fields.iter().position(|field| {
            field.is("Received") && field.unfolded().contains(&format!("by {HOST} (8."))
        });
        fields.remove(own.expect("no Received field of Sendmail's own"));
        fields
    }

    /// The file of the queue with envelope and header: `hf` for a message in quarantine.
    fn queue_file(&self, id: &str) -> Option<Vec<u8>> {
        let queue = self.folder.join("queue");
        ["qf", "hf"].iter().find_map(|kind| fs::read(queue.join(format!("{kind}{id}"))).ok())
    }

    /// Why the message of which `reply` gives the queue id is kept back; `None` if it is not.
    pub fn quarantine_reason(&self, reply: &Reply) -> Option<String> {
        let id = reply.last().split(' ').nth(2).unwrap();
        let file = wait_for("a message in the queue", || self.queue_file(id));
        let mut lines = file.split(|octet| *octet == b'\n');
        let reason = lines.find_map(|line| line.strip_prefix(b"q"));
        reason.map(|reason| String::from_utf8_lossy(reason).into_owned())
    }

    /// The recipients of the message of which `reply` gives the queue id.
    pub fn recipients(&self, reply: &Reply) -> Vec<String> {
        let id = reply.last().split(' ').nth(2).unwrap();
        let file = wait_for("a message in the queue", || self.queue_file(id));
        let text = String::from_utf8_lossy(&file).into_owned();
        // `RFLAGS:<address>`.
        text.lines()
            .filter_map(|line| line.strip_prefix('R')?.split_once(":<")?.1.strip_suffix('>'))
            .map(str::to_owned)
            .collect()
    }

    /// The body of the message of which `reply` gives the queue id, line ends as LF.
    pub fn queued_body(&self, reply: &Reply) -> Vec<u8> {
        let id = reply.last().split(' ').nth(2).unwrap();
        wait_for("a body in the queue", || {
            fs::read(self.folder.join("queue").join(format!("df{id}"))).ok()
        })
    }

    /// The conversations so far.
    pub fn traffic(&self) -> String {
        fs::read(self.folder.join("traffic"))
            .map(|octets| String::from_utf8_lossy(&octets).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Sendmail {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("Sendmail's conversations:\n{}", self.traffic());
        }
        self.daemon.stop();
    }
}

fn configure(folder: &Scratch, address: SocketAddr, filter: &str) -> PathBuf {
    let path = folder.path().display();
    let source = folder.write(
        "sendmail.mc",
        format!(
            "divert(0)
OSTYPE(`linux')dnl
FEATURE(`nocanonify')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
undefine(`ALIAS_FILE')dnl
define(`confDOMAIN_NAME', `{HOST}')dnl
define(`confDELIVERY_MODE', `queueonly')dnl
define(`confTO_IDENT', `0')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`QUEUE_DIR', `{path}/queue')dnl
define(`confPID_FILE', `{path}/pid')dnl
define(`STATUS_FILE', `{path}/statistics')dnl
define(`confCONTROL_SOCKET_NAME', `')dnl
define(`confPRIVACY_FLAGS', `')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Name=MTA, Addr={}, Port={}')dnl
{filter}
MAILER(`local')dnl
MAILER(`smtp')dnl
",
            address.ip(),
            address.port()
        ),
    );
    let macros = root().join("usr/share/sendmail/cf");
    let output = Command::new("m4")
        .arg(format!("-D_CF_DIR_={}/", macros.display()))
        .arg(macros.join("m4/cf.m4"))
        .arg(source)
        .output()
        .expect("m4 is not installed; `make test` as root installs it");
    assert!(output.status.success(), "m4: {}", String::from_utf8_lossy(&output.stderr));
    folder.write("sendmail.cf", output.stdout)
}
