//! The daemon with a resolv.conf of its own.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    milter_client::{MilterClient, Reply},
    nameserver::NameServer,
    scratch::Scratch,
    wait_for,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
"#;

fn begin(client: &mut MilterClient) {
    client.connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025)))).unwrap();
    assert_eq!(client.helo("[192.0.2.9]").unwrap(), Reply::Continue);
}

/// Starts the daemon where another file is /etc/resolv.conf.
fn start_with(resolv_conf: &Path, config: &str) -> Daemon {
    let program = testkit::daemon::program();
    let daemon = Daemon::launch(&format!("hostname = mta.example.org\n{config}"), |command| {
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command
            .args(["--mount", "sh", "-c", script])
            .arg(resolv_conf)
            .arg(&program)
            .args(arguments);
    });
    daemon.unwrap()
}

#[test]
#[ignore = "needs root: make test"]
fn a_resolv_conf_that_hangs_hinders_neither_start_nor_reload() {
    let folder = Scratch::new("resolv-hangs");
    let resolv_conf = folder.join("resolv.conf");
    assert!(Command::new("mkfifo").arg(&resolv_conf).status().unwrap().success());
    let mut daemon = start_with(&resolv_conf, "");
    daemon.wait_for_log(&[
        "/etc/resolv.conf names no name server (it cannot be read at once), name server 127.0.0.1 is asked",
    ]);
    assert!(daemon.reload("hostname = mta.example.org\ndns_timeout_secs = 7\n"));
    begin(&mut daemon.client());
    daemon.signal("HUP");
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
#[ignore = "needs root: make test"]
fn resolv_conf_may_come_later() {
    let folder = Scratch::new("resolv");
    let resolv_conf = folder.write("resolv.conf", "nameserver foo\n");
    let daemon = start_with(&resolv_conf, "verify_helo = no\ndns_timeout_secs = 1\n");
    daemon.wait_for_log(&["/etc/resolv.conf:1: 'foo' is not an address of a name server"]);
    daemon.wait_for_log(&["/etc/resolv.conf names no name server (it has no nameserver line), name server 127.0.0.1 is asked"]);
    // Ports below 1024, for resolv.conf knows no other.
    let address: SocketAddr = "127.77.53.1:53".parse().unwrap();
    let nameserver = NameServer::start_on(address, Zone::parse(ZONE).unwrap()).unwrap();
    fs::write(&resolv_conf, "nameserver 127.77.53.1\n").unwrap();
    let mut client = daemon.client();
    begin(&mut client);
    wait_for("the name server to be asked", || {
        (client.mail("<a@good.example>").unwrap() == Reply::Continue).then_some(())
    });
    daemon.wait_for_log(&["name server 127.77.53.1 is asked, by /etc/resolv.conf"]);
    assert!(nameserver.total() > 0);
}
