//! Messages signed by other implementations: OpenDKIM as a milter, and dkimpy.

use std::{
    collections::HashMap,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{fields::Field, milter_client::Reply, opendkim::OpenDkim};

/// A key of a signer; the private half is in `testkit/keys`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// RSA of so many bits.
    Rsa(u16),
    /// Ed25519.
    Ed25519,
}

impl Key {
    /// The keys that are good enough.
    pub const GOOD: [Self; 4] = [Self::Rsa(1024), Self::Rsa(2048), Self::Rsa(4096), Self::Ed25519];

    /// The name of its file, and its selector.
    pub fn name(self) -> String {
        match self {
            Self::Rsa(bits) => format!("rsa{bits}"),
            Self::Ed25519 => "ed25519".into(),
        }
    }

    /// The value of `a=`.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// Where the private key is, in PEM.
    pub fn file(self) -> PathBuf {
        crate::root().join(format!("testkit/keys/{}.pem", self.name()))
    }

    /// The value of `p=`.
    pub fn public(self) -> String {
        let mut command = Command::new("openssl");
        let output = command
            .args(["pkey", "-pubout", "-outform", "DER", "-in"])
            .arg(self.file())
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        // An Ed25519 key is given without what X.509 puts before it (RFC 8463 §4.2).
        let start = if self == Self::Ed25519 { output.stdout.len() - 32 } else { 0 };
        BASE64_STANDARD.encode(&output.stdout[start..])
    }

    /// A line for a zone: the key record at the selector of its name.
    pub fn record(self, domain: &str) -> String {
        let kind = if self == Self::Ed25519 { "ed25519" } else { "rsa" };
        format!("{}._domainkey.{domain} TXT v=DKIM1; k={kind}; p={}\n", self.name(), self.public())
    }
}

/// The signer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Tool {
    /// OpenDKIM as a signing milter.
    OpenDkim,
    /// The Python library of `dkimsign`.
    Dkimpy,
}

/// How a message is signed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Manner {
    /// The signer.
    pub tool: Tool,
    /// With which key.
    pub key: Key,
    /// The value of `c=`.
    pub canonicalization: &'static str,
    /// The value of `d=`.
    pub domain: &'static str,
    /// Whether there is an `l=`.
    pub length: bool,
}

impl Manner {
    /// Without `l=`.
    pub fn new(tool: Tool, key: Key, canonicalization: &'static str, domain: &'static str) -> Self {
        Self { tool, key, canonicalization, domain, length: false }
    }
}

/// A message as a client sends it: folds are LF in the header, lines end with CRLF in the body.
#[derive(Clone, Debug)]
pub struct Message {
    /// The header; values are all that follows the colon.
    pub fields: Vec<Field>,
    /// The body; `None` where the message ends with its header, without the empty line.
    pub body: Option<Vec<u8>>,
}

/// The field that no signer signs.
pub const UNSIGNED: &str = "X-Unsigned";

impl Message {
    /// The message as octets, lines ending with CRLF.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for field in &self.fields {
            octets.extend_from_slice(format!("{}:", field.name).as_bytes());
            for line in field.value.split_inclusive(|octet| *octet == b'\n') {
                match line.strip_suffix(b"\n") {
                    Some(line) => octets.extend_from_slice(&[line, b"\r\n"].concat()),
                    None => octets.extend_from_slice(line),
                }
            }
            octets.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            octets.extend_from_slice(b"\r\n");
            octets.extend_from_slice(body);
        }
        octets
    }

    /// The fields of a name.
    pub fn find(&mut self, name: &str) -> &mut Field {
        self.fields
            .iter_mut()
            .find(|field| field.is(name))
            .unwrap_or_else(|| panic!("no field {name}"))
    }

    /// The names of the fields to sign.
    fn signed_names(&self) -> Vec<&str> {
        self.fields
            .iter()
            .map(|field| field.name.as_str())
            .filter(|name| *name != UNSIGNED && *name != "DKIM-Signature")
            .collect()
    }

    /// Puts a DKIM-Signature field on top.
    pub fn add_signature(&mut self, value: Vec<u8>) {
        self.fields.insert(0, Field::new("DKIM-Signature", value));
    }
}

/// Signs messages, each in its manner; the signatures are put on top of them.
pub fn sign(jobs: &mut [(Manner, &mut Message)]) {
    let mut by_manner: HashMap<Manner, Vec<usize>> = HashMap::new();
    let mut for_dkimpy = Vec::new();
    for (index, (manner, message)) in jobs.iter().enumerate() {
        match manner.tool {
            Tool::OpenDkim => by_manner.entry(manner.clone()).or_default().push(index),
            Tool::Dkimpy => for_dkimpy.push((
                index,
                json!({
                    "message": BASE64_STANDARD.encode(message.octets()),
                    "key": manner.key.file(),
                    "algorithm": manner.key.algorithm(),
                    "headers": message.signed_names(),
                    "selector": manner.key.name(),
                    "domain": manner.domain,
                    "canonicalization": manner.canonicalization,
                    "length": manner.length,
                }),
            )),
        }
    }
    for (manner, indices) in by_manner {
        let mut names: Vec<&str> =
            indices.iter().flat_map(|index| jobs[*index].1.signed_names()).collect();
        names.sort_unstable();
        names.dedup();
        let opendkim = OpenDkim::signer(&manner, &names);
        for index in indices {
            let message = &mut jobs[index].1;
            let value = sign_with(&opendkim, message);
            message.add_signature(value);
        }
    }
    let (indices, requests): (Vec<usize>, Vec<Value>) = for_dkimpy.into_iter().unzip();
    for (index, value) in indices.into_iter().zip(run_dkimpy(&requests)) {
        jobs[index].1.add_signature(value);
    }
}

/// Signs one message.
pub fn sign_one(manner: &Manner, message: &mut Message) {
    sign(&mut [(manner.clone(), message)]);
}

/// Signs a message with these tags, whatever they are; see `testkit/peers/sign.py`.
pub fn sign_tags(key: Key, algorithm: &str, tags: &str, names: &[&str], message: &mut Message) {
    let request = json!({
        "message": BASE64_STANDARD.encode(message.octets()),
        "key": key.file(),
        "algorithm": algorithm,
        "headers": names,
        "tags": tags,
    });
    message.add_signature(run_dkimpy(&[request]).remove(0));
}

/// The value of the DKIM-Signature field that OpenDKIM adds.
fn sign_with(opendkim: &OpenDkim, message: &Message) -> Vec<u8> {
    let mut client = opendkim.client();
    client.connect("localhost", Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 2525)))).unwrap();
    client.helo("localhost").unwrap();
    client.mail("<a@signed.example>").unwrap();
    client.rcpt("<bob@rcpt.example.org>").unwrap();
    let body = message.body.as_deref().unwrap_or_default();
    let finished = client.message(&message.fields, body).unwrap();
    assert!(
        matches!(finished.reply, Reply::Continue | Reply::Accept),
        "{:?}\n{}",
        finished.reply,
        opendkim.log()
    );
    let known =
        message.fields.iter().filter(|field| field.is("DKIM-Signature")).collect::<Vec<_>>();
    let new =
        finished.fields.iter().find(|field| field.is("DKIM-Signature") && !known.contains(field));
    let new = new.unwrap_or_else(|| {
        panic!("OpenDKIM did not sign: {:?}\n{}", finished.edits, opendkim.log())
    });
    client.quit().unwrap();
    new.value.clone()
}

/// The values of the fields that dkimpy makes, folds as LF.
fn run_dkimpy(requests: &[Value]) -> Vec<Vec<u8>> {
    if requests.is_empty() {
        return Vec::new();
    }
    let script = crate::root().join("testkit/peers/sign.py");
    // Debian's Python is the one that has Debian's modules.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-B".as_ref(), script.as_os_str()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child =
        command.spawn().expect("python3 is not installed; `make test` as root installs it");
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(requests).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "dkimpy failed");
    let values: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(values.len(), requests.len());
    let plain = |value: String| {
        BASE64_STANDARD.decode(value).unwrap().into_iter().filter(|octet| *octet != b'\r').collect()
    };
    values.into_iter().map(plain).collect()
}
