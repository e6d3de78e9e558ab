//! A real Postfix with a configuration directory, queue and mailboxes of its own.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::{
    fields::{Field, split_message},
    free_address,
    process::{self, Process},
    scenario::HOST,
    scratch::Scratch,
    smtp::{Reply, SmtpClient},
    wait_for,
};

/// The domain of which every address is delivered.
pub const LOCAL_DOMAIN: &str = "rcpt.example.org";

/// As whom messages are delivered: the user `nobody`.
const DELIVERY_USER: u32 = 65534;

/// A running Postfix; stopped when dropped.
#[derive(Debug)]
pub struct Postfix {
    address: SocketAddr,
    submission: Option<SocketAddr>,
    master: Process,
    folder: Scratch,
}

/// A message as delivered.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Header fields, those left out that Postfix adds on top at reception and delivery.
    pub fields: Vec<Field>,
    /// The body, line ends as LF.
    pub body: Vec<u8>,
    /// All of it, as Postfix wrote it.
    pub file: Vec<u8>,
}

impl Postfix {
    /// Starts Postfix with these lines added to its `main.cf`.
    ///
    /// # Panics
    ///
    /// When it cannot be started: it must be installed, and the test must run as root.
    pub fn start(settings: &str) -> Self {
        Self::launch(settings, None, false)
    }

    /// Starts Postfix with another service for mail, which has these options, one a line: see
    /// [`Postfix::submission`].
    pub fn with_submission(settings: &str, options: &str) -> Self {
        Self::launch(settings, Some(options), false)
    }

    /// Starts Postfix with its SMTP servers in a chroot, as on Debian; see
    /// [`Postfix::with_submission`].
    pub fn in_chroot(settings: &str, options: Option<&str>) -> Self {
        Self::launch(settings, options, true)
    }

    fn launch(settings: &str, submission_options: Option<&str>, in_chroot: bool) -> Self {
        assert!(
            Command::new("postconf").arg("-d").arg("mail_version").output().is_ok(),
            "Postfix is not installed; `make test` as root installs it"
        );
        let folder = Scratch::new("postfix");
        let address = free_address();
        let submission = submission_options.map(|options| (free_address(), options));
        configure(&folder, address, settings);
        let chroot = if in_chroot { "y" } else { "n" };
        if let Some((address, options)) = submission {
            let path = folder.join("etc/master.cf");
            let services = fs::read_to_string(&path).unwrap();
            let service = format!("{address} inet n - {chroot} - - smtpd");
            fs::write(path, format!("{services}{service}\n{options}\n")).unwrap();
        }
        if in_chroot {
            let path = folder.join("etc/master.cf");
            let services = fs::read_to_string(&path).unwrap();
            let smtpd = format!("{address} inet n -");
            fs::write(path, services.replacen(&format!("{smtpd} n "), &format!("{smtpd} y "), 1))
                .unwrap();
        }
        let master = Process::start(
            Command::new("postfix").arg("-c").arg(folder.join("etc")).arg("start-fg"),
        );
        let submission = submission.map(|(address, _)| address);
        let mut postfix = Self { address, submission, master, folder };
        wait_for("Postfix to listen", || {
            assert!(
                postfix.master.ended().is_none(),
                "Postfix did not start:\n{}\n{}",
                postfix.master.log.to_end(),
                postfix.log()
            );
            // Not any connection is one to Postfix.
            SmtpClient::connect(address).ok().filter(|client| client.greeting.code == 220).map(drop)
        });
        postfix
    }

    /// The log of Postfix.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("maillog")).unwrap_or_default()
    }

    /// Waits for a line in Postfix's log.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        wait_for(&format!("a line with {words:?} in Postfix's log"), || {
            self.log()
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        })
    }

    /// Where it takes mail.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its queue directory, the root of its chroot.
    pub fn queue(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Where it takes mail from users.
    pub fn submission(&self) -> SocketAddr {
        self.submission.unwrap()
    }

    /// Connects from loopback.
    pub fn connect_local(&self) -> SmtpClient {
        SmtpClient::connect(self.address).unwrap()
    }

    /// Connects as if from another address; the greeting is the answer to that.
    ///
    /// Without an EHLO before, nothing about the loopback client reaches the milter but its
    /// address.
    pub fn connect(&self, client: Option<IpAddr>, host: Option<&str>) -> SmtpClient {
        pretend(self.address, client, host, None)
    }

    /// Connects to the service for users as one of them, from this address.
    pub fn connect_user(&self, client: IpAddr, user: &str) -> SmtpClient {
        pretend(self.submission(), Some(client), None, Some(user))
    }

    /// Submits a message with `sendmail`, as a program on the host does.
    pub fn submit(&self, from: &str, to: &str, message: &[u8]) -> io::Result<bool> {
        let mut command = Command::new("sendmail");
        command
            .arg("-C")
            .arg(self.folder.join("etc"))
            .args(["-i", "-f", from, to])
            .stdin(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().unwrap().write_all(message)?;
        Ok(child.wait()?.success())
    }

    /// Waits for the delivery of the message of which `reply` gives the queue id.
    pub fn delivered(&self, reply: &Reply) -> Delivered {
        assert_eq!(reply.code, 250, "{reply:?}");
        let id = reply.last().rsplit(' ').next().unwrap().to_owned();
        let marks = [format!(" id {id}\n"), format!(" id {id};\n")];
        self.wait_for_message(|message| marks.iter().any(|mark| contains(message, mark.as_bytes())))
    }

    /// Waits until the message of which `reply` gives the queue id is delivered, or kept back: then
    /// the second value is true.
    pub fn delivered_or_held(&self, reply: &Reply) -> (Delivered, bool) {
        assert_eq!(reply.code, 250, "{reply:?}");
        let id = reply.last().rsplit(' ').next().unwrap().to_owned();
        // Postfix answers when the message is in one of its queues, and moves it out of this one
        // for nobody.
        if !self.folder.join("queue/hold").join(&id).exists() {
            return (self.delivered(reply), false);
        }
        let output = Command::new("postcat")
            .arg("-c")
            .arg(self.folder.join("etc"))
            .args(["-hq", &id])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (Delivered::parse(&output.stdout), true)
    }

    /// Waits until its queue is empty; answers with all messages that were delivered.
    pub fn all_delivered(&self) -> Vec<Delivered> {
        wait_for("an empty queue", || {
            let queues = ["maildrop", "incoming", "active", "deferred"];
            let is_empty = queues.iter().all(|name| holds_no_file(&self.queue().join(name)));
            is_empty.then_some(())
        });
        let entries = fs::read_dir(self.folder.join("mail/all/new")).unwrap();
        entries.map(|entry| Delivered::parse(&fs::read(entry.unwrap().path()).unwrap())).collect()
    }

    /// Waits for the delivery of a message that fits.
    pub fn wait_for_message(&self, fits: impl Fn(&[u8]) -> bool) -> Delivered {
        let mut known = HashSet::new();
        wait_for("a delivery", || {
            for entry in fs::read_dir(self.folder.join("mail/all/new")).ok()? {
                let path = entry.ok()?.path();
                if known.insert(path.clone()) {
                    let message = fs::read(path).ok()?;
                    if fits(&message) {
                        return Some(Delivered::parse(&message));
                    }
                }
            }
            None
        })
    }
}

/// Connects as if from another address, and as a user where one is given.
fn pretend(
    server: SocketAddr,
    client: Option<IpAddr>,
    host: Option<&str>,
    user: Option<&str>,
) -> SmtpClient {
    let mut smtp = SmtpClient::connect(server).unwrap();
    assert_eq!(smtp.greeting.code, 220, "{:?}", smtp.greeting);
    let address = match client {
        None => "[UNAVAILABLE]".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("IPV6:{address}"),
    };
    let login = user.map(|user| format!(" LOGIN={user}")).unwrap_or_default();
    let name = host.unwrap_or("[UNAVAILABLE]");
    smtp.greeting = smtp.command(format!("XCLIENT NAME={name} ADDR={address}{login}")).unwrap();
    smtp
}

/// Whether a folder of a queue, with those below it, has no file.
fn holds_no_file(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().all(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir()) && holds_no_file(&entry.path())
        })
    })
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("Postfix's log:\n{}", self.log());
        }
        // Postfix's own way of stopping waits for its processes; the master process is in a session
        // of its own.
        let _ = Command::new("postfix").arg("-c").arg(self.folder.join("etc")).arg("stop").output();
        if let Some(id) = fs::read_to_string(self.folder.join("queue/pid/master.pid"))
            .ok()
            .and_then(|id| id.trim().parse().ok())
        {
            process::send_signal(id, "TERM");
        }
        self.master.stop();
    }
}

impl Delivered {
    fn parse(message: &[u8]) -> Self {
        let (mut fields, body) = split_message(message);
        fields.retain(|field| {
            !["Return-Path", "X-Original-To", "Delivered-To"].iter().any(|name| field.is(name))
        });
        let own = fields.iter().position(|field| {
            field.is("Received") && contains(&field.value, format!("by {HOST} (Postfix").as_bytes())
        });
        if let Some(own) = own {
            fields.remove(own);
        }
        Self { fields, body, file: message.to_vec() }
    }

    /// The values of the fields of a name, unfolded.
    pub fn values(&self, name: &str) -> Vec<String> {
        let same = self.fields.iter().filter(|field| field.is(name));
        same.map(|field| field.unfolded()[name.len() + 1..].trim().to_owned()).collect()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn configure(folder: &Scratch, address: SocketAddr, settings: &str) {
    let root = folder.path().display();
    for name in ["queue", "data", "mail/all"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let output = Command::new("id").args(["-u", "postfix"]).output().unwrap();
    let user: u32 =
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("there is no user 'postfix'");
    let own = |name: &str, user| {
        chown(folder.join(name), Some(user), None).expect("tests with Postfix run as root")
    };
    own("data", user);
    own("mail/all", DELIVERY_USER);
    fs::set_permissions(folder.join("queue"), fs::Permissions::from_mode(0o755)).unwrap();
    folder.write(
        "etc/main.cf",
        format!(
            "compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/maillog
maillog_file_prefixes = {root}
myhostname = {HOST}
mydestination =
alias_maps =
alias_database =
inet_interfaces = loopback-only
inet_protocols = all
mynetworks = 127.0.0.0/8
smtpd_authorized_xclient_hosts = static:all
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions =
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtputf8_enable = no
local_header_rewrite_clients =
default_transport = error:no mail leaves this host
virtual_transport = virtual
virtual_mailbox_domains = {LOCAL_DOMAIN}
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{DELIVERY_USER}
virtual_gid_maps = static:{DELIVERY_USER}
milter_protocol = 6
{settings}
"
        ),
    );
    folder.write(
        "etc/master.cf",
        format!(
            "{address} inet n - n - - smtpd
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"
        ),
    );
}
