//! The package of Debian on a clean machine: installed, serving a Postfix, upgraded, removed,
//! purged.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use spf_milter::dns::zone::Zone;
use testkit::{nameserver::NameServer, process::Process, root, smtp::SmtpClient, wait_for};

use super::{
    VERSION, deb, lines,
    machine::{Contained, Machine, enter},
    run, say,
};

/// The directory of the socket that Postfix in its chroot can see.
const SOCKET_DIRECTORY: &str = "/var/spool/postfix/spf-milter";

/// Copies a package onto a machine.
fn copy(machine: &Machine, package: &Path) -> String {
    let place = format!("/tmp/{}", package.file_name().unwrap().to_str().unwrap());
    fs::copy(package, machine.path(&place)).unwrap();
    place
}

/// The package as a later version whose configuration has another line.
fn later_version(machine: &Machine) -> String {
    let folder = machine.path("/tmp/later");
    run("dpkg-deb", ["-R".as_ref(), deb().as_os_str(), folder.as_os_str()]);
    let replace = |name: &str, there: &str, here: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(there), "{name}: {text}");
        fs::write(folder.join(name), text.replacen(there, here, 1)).unwrap();
    };
    replace("DEBIAN/control", &format!("Version: {VERSION}-0.1"), "Version: 9.0.0-0.1");
    replace("etc/spf-milter.conf", "#log_level = info", "#log_level = info\n# A new line.");
    let package = machine.path("/tmp/spf-milter_9.0.0-0.1.deb");
    let options = ["--root-owner-group", "-b"].map(AsRef::as_ref);
    run("dpkg-deb", options.into_iter().chain([folder.as_os_str(), package.as_os_str()]));
    fs::remove_dir_all(folder).unwrap();
    "/tmp/spf-milter_9.0.0-0.1.deb".to_owned()
}

/// All paths that are not of a running system, of apt or of dpkg.
fn paths(machine: &Machine) -> BTreeSet<String> {
    lines(&machine.run(
        "find / -xdev \\( -path /proc -o -path /tmp -o -path /run -o -path /var/lib/dpkg \
        -o -path /var/lib/apt -o -path /var/cache -o -path /var/log -o -path /dev \\) -prune -o -print",
    ))
}

fn version(machine: &Machine) -> String {
    machine.run("dpkg-query -W -f '${Version} ${db:Status-Status}' spf-milter || true")
}

#[test]
#[ignore = "needs root, Debian's mirror and the packages: make test-packages"]
fn installs_upgrades_removes_and_purges() {
    let machine = Machine::new("debian");
    let package = copy(&machine, &deb());
    let later = later_version(&machine);
    // What the package depends on stays when it goes.
    let depends = run("dpkg-deb", ["-f".as_ref(), deb().as_os_str(), "Depends".as_ref()]);
    assert!(depends.contains("libc6"), "{depends}");
    machine.install("systemd");
    let before = paths(&machine);

    say("install without Postfix");
    machine.install(&package);
    assert_eq!(version(&machine), format!("{VERSION}-0.1 installed"));
    assert_eq!(machine.run("spf-milter --version").trim(), format!("spf-milter {VERSION}"));
    assert_eq!(machine.run("id -un spf-milter; id -gn spf-milter"), "spf-milter\nspf-milter\n");
    assert!(
        !machine.path("/var/spool/postfix").exists(),
        "a directory for a Postfix that is not there"
    );
    assert!(machine.is("spf-milter check-config 2>&1 | grep -q 'configuration is valid'"));
    assert!(machine.is("test -L /etc/systemd/system/multi-user.target.wants/spf-milter.service"));
    assert!(!machine.path("/etc/systemd/system/sockets.target.wants/spf-milter.socket").exists());
    let verify =
        "systemd-analyze --man=no verify /usr/lib/systemd/system/spf-milter.service 2>&1 || true";
    assert!(!machine.run(verify).contains("spf-milter"), "{}", machine.run(verify));

    say("purge it, and look for what is left");
    machine.run("apt-get -q -y purge spf-milter 2>&1");
    assert_eq!(version(&machine), "");
    let after = paths(&machine);
    let left: Vec<_> = after.difference(&before).collect();
    // Copies that the programs for users keep, and the state of a unit.
    let users = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"];
    let left: Vec<_> = left.into_iter().filter(|path| !users.contains(&path.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(before.is_subset(&after), "{:?}", before.difference(&after).collect::<Vec<_>>());
    assert!(machine.is("id spf-milter"), "the user stays");

    say("install again; then Postfix, and its directory is made");
    machine.install(&package);
    install_postfix(&machine);
    assert_socket_directory(&machine);

    say("upgrade: a configuration that nobody edited follows");
    machine.install(&later);
    assert_eq!(version(&machine), "9.0.0-0.1 installed");
    let configuration = machine.path("/etc/spf-milter.conf");
    assert!(fs::read_to_string(&configuration).unwrap().contains("# A new line."));
    assert!(machine.is("test -L /etc/systemd/system/multi-user.target.wants/spf-milter.service"));

    say("upgrade: an edited configuration stays");
    machine.run("apt-get -q -y purge spf-milter 2>&1");
    assert!(!configuration.exists());
    machine.install(&package);
    let edited = fs::read_to_string(&configuration).unwrap();
    let edited = edited.replace("\ndry_run = yes\n", "\ndry_run = no\n");
    fs::write(&configuration, &edited).unwrap();
    machine.run("systemctl disable spf-milter.service 2>&1");
    machine.install(&later);
    assert_eq!(fs::read_to_string(&configuration).unwrap(), edited);
    let offered = machine.path("/etc/spf-milter.conf.dpkg-dist");
    assert!(fs::read_to_string(&offered).unwrap().contains("# A new line."));
    assert!(
        !machine.path("/etc/systemd/system/multi-user.target.wants/spf-milter.service").exists(),
        "an upgrade enabled what the site has disabled"
    );

    say("remove: the configuration stays; purge: nothing stays");
    machine.run("apt-get -q -y remove spf-milter 2>&1");
    assert!(!machine.path("/usr/sbin/spf-milter").exists());
    assert_eq!(fs::read_to_string(&configuration).unwrap(), edited);
    assert_socket_directory(&machine);
    fs::write(machine.path(SOCKET_DIRECTORY).join("spf-milter.sock"), "").unwrap();
    machine.run("apt-get -q -y purge spf-milter 2>&1");
    for path in ["/etc/spf-milter.conf", "/etc/spf-milter.conf.dpkg-dist", SOCKET_DIRECTORY] {
        assert!(!machine.path(path).exists(), "{path}");
    }
    assert!(machine.path("/var/spool/postfix").exists());
    assert!(machine.is("dpkg --audit && test -z \"$(find / -xdev -name '*spf-milter*' -not -path '/tmp/*' -not -path '/proc/*')\""));
}

fn install_postfix(machine: &Machine) {
    machine.run(
        "echo postfix postfix/main_mailer_type select Internet Site | debconf-set-selections
        echo postfix postfix/mailname string mx.example.com | debconf-set-selections",
    );
    machine.install("postfix");
}

fn assert_socket_directory(machine: &Machine) {
    let owner = machine.run(&format!("stat -c '%U:%G %a' {SOCKET_DIRECTORY}"));
    assert_eq!(owner, "spf-milter:postfix 2750\n");
}

/// The values of a setting of a unit.
fn settings<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The blocks of a language in the README.
fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let start = format!("\n```{language}\n");
    let blocks = text.split(start.as_str()).skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

/// What Postfix and the milter write to syslog on the machine. A thread reads it: they wait for a
/// reader.
struct Syslog(Arc<Mutex<String>>);

impl Syslog {
    fn new(machine: &Machine) -> Self {
        let path = machine.path("/dev/log");
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&text);
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(count) = socket.recv(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..count]);
                *log.lock().unwrap() += &format!("{line}\n");
            }
        });
        Self(text)
    }

    /// Waits for a line with these words.
    fn wait_for(&self, words: &[&str]) {
        wait_for(&format!("a line with {words:?} in the log"), || {
            let text = self.0.lock().unwrap();
            text.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0.lock().unwrap());
        }
    }
}

/// Starts the milter as its unit does.
fn start_service(machine: &Machine) -> Contained {
    let unit = fs::read_to_string(machine.path("/usr/lib/systemd/system/spf-milter.service"));
    let unit = unit.unwrap();
    let setting = |name: &str| {
        let values = settings(&unit, name);
        assert_eq!(values.len(), 1, "{name} in the unit");
        values[0]
    };
    // All that the unit lets it write.
    assert!(settings(&unit, "ReadWritePaths").contains(&format!("-{SOCKET_DIRECTORY}").as_str()));
    let script = format!("umask {}; exec {}", setting("UMask"), setting("ExecStart"));
    let (user, group) = (setting("User"), setting("Group"));
    let user = [format!("--reuid={user}"), format!("--regid={group}")];
    Contained(Process::start(&mut enter(
        machine.root(),
        &["setpriv", &user[0], &user[1], "--init-groups", "--no-new-privs", "sh", "-c", &script],
    )))
}

const ZONE: &str = r#"
sender.example TXT "v=spf1 ip4:192.0.2.7 -all"
refused.example TXT "v=spf1 -all"
"#;

/// The name under which the test starts itself again.
const SERVES: &str = "debian::serves_a_postfix_in_a_chroot_as_the_readme_says";

#[test]
#[ignore = "needs root, Debian's mirror and the packages: make test-packages"]
fn serves_a_postfix_in_a_chroot_as_the_readme_says() {
    if let Some(machine) = Machine::inside() {
        return serve(&machine);
    }
    let machine = Machine::new("postfix");
    // Without systemd itself: the other test has it.
    machine.install("systemd-standalone-sysusers systemd-standalone-tmpfiles");
    install_postfix(&machine);
    let package = copy(&machine, &deb());
    machine.install(&package);
    assert!(machine.is("test ! -e /usr/bin/systemctl"));
    assert_socket_directory(&machine);
    machine.run("useradd --create-home reader");
    machine.run_in_own_network(SERVES);
}

fn serve(machine: &Machine) {
    fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let zone = Zone::parse(ZONE).unwrap();
    let _nameserver = NameServer::start_on("127.0.0.1:53".parse().unwrap(), zone).unwrap();
    let syslog = Syslog::new(machine);

    say("start the milter as its unit does, and Postfix with the lines of README.md");
    let milter = start_service(machine);
    syslog.wait_for(&["spf-milter", "dry_run"]);
    let lines = blocks("cf").into_iter().find(|block| block.contains("smtpd_milters")).unwrap();
    let main = machine.path("/etc/postfix/main.cf");
    let settings = fs::read_to_string(&main).unwrap();
    fs::write(&main, format!("{settings}\n{lines}\n")).unwrap();
    let chroot = machine.run("postconf -F smtp/inet/chroot");
    assert_eq!(chroot, "smtp/inet/chroot = y\n", "Postfix of Debian runs in a chroot");
    machine.run("/usr/lib/postfix/configure-instance.sh -");
    let _postfix = Process::start(&mut enter(machine.root(), &["/usr/sbin/postfix", "start-fg"]));
    let address: SocketAddr = "192.0.2.1:25".parse().unwrap();
    let connect = || SmtpClient::connect_from("192.0.2.7".parse().unwrap(), address);
    wait_for("Postfix to listen", || {
        connect().ok().filter(|client| client.greeting.code == 220).map(drop)
    });

    say("send a message");
    let send = |from: &str| {
        let mut client = connect().unwrap();
        assert_eq!(client.command("EHLO mail.sender.example").unwrap().code, 250);
        let message = format!("From: <{from}>\nSubject: hello\n\nhello\n");
        client.message(from, &["reader@mx.example.com"], message.as_bytes()).unwrap()
    };
    let reply = send("a@sender.example");
    assert_eq!(reply.code, 250, "{reply:?}");
    syslog.wait_for(&["postfix/local", "status="]);
    let mailbox = machine.path("/var/mail/reader");
    let delivered = wait_for("a delivery", || {
        fs::read_to_string(&mailbox).ok().filter(|text| text.contains("Subject: hello"))
    });
    assert!(!delivered.contains("\nReceived-SPF: "), "a dry run changes a message: {delivered}");
    syslog.wait_for(&["spf-milter", "identity=mailfrom", "result=pass", "domain=sender.example"]);

    say("a dry run refuses nothing");
    let reply = send("b@refused.example");
    assert_eq!(reply.code, 250, "{reply:?}");
    syslog.wait_for(&["identity=mailfrom", "result=fail", "dry-run=yes"]);

    say(
        "without the milter clients must try again later; it starts over the socket of the old one",
    );
    drop(milter);
    let reply = wait_for("the end of the milter", || {
        let reply = send("a@sender.example");
        (reply.code != 250).then_some(reply)
    });
    assert!((400..500).contains(&reply.code), "{reply:?}");

    say("end the dry run, and send again");
    let configuration = machine.path("/etc/spf-milter.conf");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("\ndry_run = yes\n", "\ndry_run = no\n")).unwrap();
    let _milter = start_service(machine);
    wait_for("the milter", || (send("a@sender.example").code == 250).then_some(()));
    wait_for("a message with the field", || {
        let text = fs::read_to_string(&mailbox).ok()?;
        text.contains("\nReceived-SPF: pass ").then_some(())
    });
    let reply = send("b@refused.example");
    assert_eq!(reply.code, 550, "{reply:?}");
}
