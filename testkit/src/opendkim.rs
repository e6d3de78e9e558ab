//! OpenDKIM, signing or verifying, with a configuration of its own.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    milter_client::{MilterClient, Options, Socket},
    process::Process,
    scenario::HOST,
    scratch::Scratch,
    signers::Manner,
    wait_for,
};

/// A running OpenDKIM; killed when dropped.
#[derive(Debug)]
pub struct OpenDkim {
    process: Process,
    socket: PathBuf,
    _folder: Scratch,
}

impl OpenDkim {
    /// Signs in a manner the fields of these names.
    pub fn signer(manner: &Manner, names: &[&str]) -> Self {
        let folder = Scratch::new("opendkim");
        folder.write("signing", "* key\n");
        folder.write(
            "keys",
            format!(
                "key {}:{}:{}\n",
                manner.domain,
                manner.key.name(),
                manner.key.file().display()
            ),
        );
        folder.write("everybody", "*\n");
        let mut settings = format!(
            "Mode s\nSignatureAlgorithm {}\nCanonicalization {}\nInternalHosts 127.0.0.1\nSigningTable refile:{{}}/signing\n\
             KeyTable file:{{}}/keys\nSignHeaders {}\n",
            manner.key.algorithm(),
            manner.canonicalization,
            names.join(","),
        );
        if manner.length {
            settings += "BodyLengthDB refile:{}/everybody\n";
        }
        Self::start(folder, &settings)
    }

    /// Verifies with the keys that a name server has.
    pub fn verifier(nameserver: SocketAddr) -> Self {
        let folder = Scratch::new("opendkim");
        folder.write(
            "unbound.conf",
            format!(
                "server:\n do-not-query-localhost: no\n module-config: \"iterator\"\nforward-zone:\n name: \".\"\n forward-addr: {}@{}\n",
                nameserver.ip(),
                nameserver.port()
            ),
        );
        Self::start(
            folder,
            &format!(
                "Mode v\nAuthservID {HOST}\nResolverConfiguration {{}}/unbound.conf\nAlwaysAddARHeader yes\n"
            ),
        )
    }

    /// `settings` have `{}` where the folder belongs.
    fn start(folder: Scratch, settings: &str) -> Self {
        let socket = folder.join("socket");
        let settings = settings.replace("{}", &folder.path().display().to_string());
        let common = "Syslog no\nRequireSafeKeys no\nDNSTimeout 5\n";
        let path = folder.write(
            "opendkim.conf",
            format!("Socket local:{}\n{common}{settings}\n", socket.display()),
        );
        let process = Process::start(Command::new("opendkim").args(["-f", "-v", "-x"]).arg(path));
        let mut opendkim = Self { process, socket, _folder: folder };
        wait_for("OpenDKIM to listen", || {
            assert!(
                opendkim.process.ended().is_none(),
                "OpenDKIM did not start:\n{}\n{settings}",
                opendkim.log()
            );
            MilterClient::connect_to(&Socket::Unix(opendkim.socket.clone()))
                .ok()
                .map(|client| client.quit())
        })
        .unwrap();
        opendkim
    }

    /// Connects as an MTA that sends the whole body before the end of the message: libmilter takes
    /// a word about the last part of the body for one about the message.
    pub fn client(&self) -> MilterClient {
        let options = Options { body_in_end: false, ..Options::default() };
        MilterClient::with_options(&Socket::Unix(self.socket.clone()), options).unwrap()
    }

    /// Where it listens, open to everybody.
    pub fn open_socket(&self) -> &Path {
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o666)).unwrap();
        &self.socket
    }

    /// Its output.
    pub fn log(&self) -> String {
        self.process.log.lines().join("\n")
    }
}
