//! OpenDMARC with a configuration of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{self, Command},
    sync::Arc,
};

use spf_milter::dns::zone::Zone;

use super::{
    milter_client::{MilterClient, Options, Socket},
    nameserver::NameServer,
    process::Process,
    scenario::HOST,
    scratch::{Scratch, target_folder},
    wait_for,
};

/// A running OpenDMARC with its own name server; killed when dropped.
#[derive(Debug)]
pub struct OpenDmarc {
    process: Process,
    socket: PathBuf,
    _folder: Scratch,
}

/// A name server on port 53 of an address of loopback that nobody else uses: a resolv.conf has no
/// ports.
///
/// # Panics
///
/// When port 53 cannot be had, as where a server has it on all addresses.
pub fn nameserver_on_port_53(zone: &Arc<Zone>) -> NameServer {
    let [_, _, high, low] = process::id().to_be_bytes();
    let addresses = (64..128)
        .map(|second| SocketAddr::from((Ipv4Addr::new(127, second, high, low.clamp(1, 254)), 53)));
    let mut problem = None;
    for address in addresses {
        match NameServer::start_on(address, Arc::clone(zone)) {
            Ok(nameserver) => return nameserver,
            Err(error) => problem = Some(error),
        }
    }
    panic!("port 53 cannot be had on any address of loopback: {problem:?}");
}

impl OpenDmarc {
    /// Evaluates what comes, going by the DKIM results of [`HOST`] and its own SPF check;
    /// `suffixes` are the public suffixes.
    pub fn start(nameserver: SocketAddr, suffixes: &[&str]) -> Self {
        assert_eq!(nameserver.port(), 53, "a resolv.conf has no ports");
        let root = target_folder().join("opendmarc");
        let program = root.join("usr/sbin/opendmarc");
        assert!(
            program.exists(),
            "OpenDMARC is not in {}; `make test` as root unpacks it",
            root.display()
        );
        let folder = Scratch::new("opendmarc");
        let resolv_conf = folder.write("resolv.conf", format!("nameserver {}\n", nameserver.ip()));
        let suffixes = folder.write("suffixes", suffixes.join("\n") + "\n");
        let socket = folder.join("socket");
        let path = folder.write(
            "opendmarc.conf",
            format!(
                "Socket local:{}\nAuthservID {HOST}\nTrustedAuthservIDs {HOST}\nSyslog no\nSPFIgnoreResults yes\n\
                 SPFSelfValidate yes\nPublicSuffixList {}\nIgnoreHosts {}\n",
                socket.display(),
                suffixes.display(),
                folder.write("nobody", "192.0.2.255\n").display(),
            ),
        );
        let libraries: Vec<String> =
            ["usr/lib".into(), format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)]
                .iter()
                .map(|path: &String| root.join(path).display().to_string())
                .collect();
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(resolv_conf)
            .arg(program)
            .args(["-f", "-c"])
            .arg(path);
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        let process = Process::start(&mut command);
        let mut opendmarc = Self { process, socket, _folder: folder };
        wait_for("OpenDMARC to listen", || {
            assert!(
                opendmarc.process.ended().is_none(),
                "OpenDMARC did not start:\n{}",
                opendmarc.process.log.to_end()
            );
            MilterClient::connect_to(&Socket::Unix(opendmarc.socket.clone()))
                .ok()
                .map(|client| client.quit())
        })
        .unwrap();
        opendmarc
    }

    /// Connects as an MTA that sends the whole body before the end of the message: libmilter takes
    /// a word about the last part of the body for one about the message.
    pub fn client(&self) -> MilterClient {
        let options = Options { body_in_end: false, ..Options::default() };
        MilterClient::with_options(&Socket::Unix(self.socket.clone()), options).unwrap()
    }

    /// Its output.
    pub fn log(&self) -> String {
        self.process.log.lines().join("\n")
    }
}
