//! The daemon with a resolv.conf of its own.

use std::{fs, net::SocketAddr, process::Command};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon, milter_client::Reply, nameserver::NameServer, scratch::Scratch, wait_for,
};

const ZONE: &str = r#"
good.example TXT "v=spf1 ip4:192.0.2.9 -all"
"#;

#[test]
#[ignore = "needs root: make test"]
fn resolv_conf_may_come_later() {
    let folder = Scratch::new("resolv");
    let resolv_conf = folder.write("resolv.conf", "nameserver foo\n");
    let program = testkit::daemon::program();
    let daemon = Daemon::launch(
        "hostname = mta.example.org\nverify_helo = no\ndns_timeout_secs = 1\n",
        |command| {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            *command = Command::new("unshare");
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command
                .args(["--mount", "sh", "-c", script])
                .arg(&resolv_conf)
                .arg(&program)
                .args(arguments);
        },
    );
    let daemon = daemon.unwrap();
    daemon.wait_for_log(&["/etc/resolv.conf:1: 'foo' is not an address of a name server"]);
    daemon.wait_for_log(&["/etc/resolv.conf names no name server (it has no nameserver line), name server 127.0.0.1 is asked"]);
    // Ports below 1024, for resolv.conf knows no other.
    let address: SocketAddr = "127.77.53.1:53".parse().unwrap();
    let nameserver = NameServer::start_on(address, Zone::parse(ZONE).unwrap()).unwrap();
    fs::write(&resolv_conf, "nameserver 127.77.53.1\n").unwrap();
    let mut client = daemon.client();
    client.connect("mail.example.com", Some(SocketAddr::from(([192, 0, 2, 9], 40025)))).unwrap();
    assert_eq!(client.helo("[192.0.2.9]").unwrap(), Reply::Continue);
    wait_for("the name server to be asked", || {
        (client.mail("<a@good.example>").unwrap() == Reply::Continue).then_some(())
    });
    daemon.wait_for_log(&["name server 127.77.53.1 is asked, by /etc/resolv.conf"]);
    assert!(nameserver.total() > 0);
}
