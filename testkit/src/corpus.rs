//! Reads the public test suites: `cases-json/1` and `zone-json/1`, and messages as a milter is
//! given them.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use spf_milter::dns::{Dns, Failure, RecordType, zone::Zone};

/// The directory of the suites, by the environment variable CORPUS; reports its absence on
/// standard output.
pub fn directory() -> Option<PathBuf> {
    let directory = env::var_os("CORPUS").filter(|value| !value.is_empty()).map(PathBuf::from);
    if directory.is_none() {
        println!("CORPUS not set: the public suites were not run");
    }
    directory
}

/// One case of a set.
#[derive(Debug)]
pub struct Case {
    /// The set's directory.
    pub directory: PathBuf,
    /// The case's name, unique in its set.
    pub name: String,
    /// Everything that the index says of it.
    pub json: Value,
}

/// The cases of one set, in the order of its index; none when the set is not there.
pub fn cases(corpus: &Path, set: &str) -> Vec<Case> {
    let directory = corpus.join(set);
    let Ok(text) = fs::read(directory.join("cases.json")) else {
        println!("{set}: not in the corpus");
        return Vec::new();
    };
    let mut index: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{set}: {error}"));
    let cases = index["cases"].take();
    let cases = cases.as_array().unwrap_or_else(|| panic!("{set}: no cases")).iter();
    cases
        .map(|json| Case {
            directory: directory.clone(),
            name: json["name"].as_str().expect("case without a name").to_owned(),
            json: json.clone(),
        })
        .collect()
}

impl Case {
    /// A text of the case, such as `helo` and `mailfrom`; `None` where the source does not give it.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.json[key].as_str()
    }

    /// The client's address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.text("ip")
            .map(|ip| ip.parse().unwrap_or_else(|_| panic!("{}: bad ip {ip}", self.name)))
    }

    /// The recipients: the index has one as a text, several as a list.
    pub fn recipients(&self) -> Vec<String> {
        words(&self.json["rcpt"])
    }

    /// The time that the verifier's clock must show.
    pub fn time(&self) -> Option<u64> {
        self.json["time"].as_u64()
    }

    /// The acceptable results of a method, the best one first; empty where the case says nothing of
    /// it.
    pub fn expected(&self, method: &str) -> Vec<String> {
        words(&self.json["expected"][method])
    }

    /// The acceptable results of a method where RFC 8301 forbids what the source expects.
    pub fn modern(&self, method: &str) -> Vec<String> {
        words(&self.json["modern"][method])
    }

    /// The message file, byte for byte.
    pub fn raw_message(&self) -> Option<Vec<u8>> {
        let path = self.directory.join(self.text("message")?);
        Some(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The message as a milter is given it.
    pub fn message(&self) -> Option<Message> {
        self.raw_message().map(|raw| Message::parse(&raw))
    }

    /// The case's DNS; an empty one where the case needs none.
    pub fn zone(&self) -> Zone {
        self.text("zone").map_or_else(Zone::new, |path| read_zone(&self.directory.join(path)))
    }

    /// A client for the case's DNS.
    pub fn dns(&self) -> Dns {
        Dns::from_zone(Arc::new(self.zone()))
    }
}

/// A text or a list of texts.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(word) => vec![word.clone()],
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Reads a zone file.
pub fn read_zone(path: &Path) -> Zone {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(json["format"], "zone-json/1", "{}", path.display());
    let mut zone = Zone::new();
    for (name, types) in json["names"].as_object().expect("zone without names") {
        let types =
            types.as_object().unwrap_or_else(|| panic!("{}: {name}: no types", path.display()));
        // A name without records exists all the same.
        if types.is_empty() {
            zone.add_failure(name, None, Failure::NoData);
        }
        for (record_type, records) in types {
            add_records(&mut zone, name, record_type, records);
        }
    }
    zone
}

fn add_records(zone: &mut Zone, name: &str, record_type: &str, records: &Value) {
    if let Some(failure) = records.as_str() {
        let failure = match failure {
            "timeout" => Failure::Timeout,
            "servfail" => Failure::Rcode("SERVFAIL"),
            "nxdomain" => Failure::NxDomain,
            "nodata" => Failure::NoData,
            _ => panic!("{name}: unknown failure {failure}"),
        };
        let record_type = match record_type {
            "!" => None,
            "A" => Some(RecordType::A),
            "AAAA" => Some(RecordType::Aaaa),
            "MX" => Some(RecordType::Mx),
            "TXT" => Some(RecordType::Txt),
            "PTR" => Some(RecordType::Ptr),
            // Never asked for.
            _ => return,
        };
        zone.add_failure(name, record_type, failure);
        return;
    }
    for record in records.as_array().unwrap_or_else(|| panic!("{name}: {record_type}: no list")) {
        let text = || record.as_str().unwrap_or_else(|| panic!("{name}: {record_type}: no text"));
        match record_type {
            "A" => zone.add_a(name, text().parse().expect("IPv4 address")),
            "AAAA" => zone.add_aaaa(name, text().parse().expect("IPv6 address")),
            "MX" => {
                let preference = record[0].as_u64().expect("preference");
                zone.add_mx(
                    name,
                    u16::try_from(preference).expect("preference"),
                    record[1].as_str().expect("exchange"),
                );
            }
            "TXT" => zone.add_txt(name, &octets(record)),
            "PTR" => zone.add_ptr(name, text()),
            "CNAME" => zone.add_cname(name, text()),
            // Never asked for: NS, and SPF (type 99).
            _ => {}
        }
    }
}

/// A TXT record: its character-strings joined, one code point an octet.
fn octets(record: &Value) -> Vec<u8> {
    let strings = words(record);
    strings
        .iter()
        .flat_map(|string| string.chars())
        .map(|c| u8::try_from(u32::from(c)).expect("octet"))
        .collect()
}

/// A message as a milter is given it, with leading white space of field values (SMFIP_HDR_LEADSPC).
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Name and value of each field; folds are LF.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, lines ending in CRLF.
    pub body: Vec<u8>,
}

impl Message {
    /// Takes a message apart as an MTA does: line ends become CRLF, a last line without an end is
    /// given one, a first line that begins with `From ` is dropped, and a line that can be no
    /// header field ends the header.
    pub fn parse(raw: &[u8]) -> Self {
        let mut message = Self::default();
        let mut lines = raw.split_inclusive(|&byte| byte == b'\n').map(|line| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            line.strip_suffix(b"\r").unwrap_or(line)
        });
        let mut in_header = true;
        let mut first = true;
        for line in lines.by_ref() {
            if in_header {
                if line.is_empty() {
                    in_header = false;
                    continue;
                }
                let fold = line.starts_with(b" ") || line.starts_with(b"\t");
                if let Some((_, value)) = message.fields.last_mut().filter(|_| fold) {
                    value.push(b'\n');
                    value.extend_from_slice(line);
                    continue;
                }
                if first && line.starts_with(b"From ") {
                    first = false;
                    continue;
                }
                first = false;
                if let Some(colon) =
                    line.iter().position(|&byte| byte == b':').filter(|_| is_field(line))
                {
                    message.fields.push((line[..colon].to_vec(), line[colon + 1..].to_vec()));
                    continue;
                }
                in_header = false;
            }
            message.body.extend_from_slice(line);
            message.body.extend_from_slice(b"\r\n");
        }
        message
    }
}

/// Whether the line begins with `name:`, white space before the colon allowed (RFC 5322 §4.5).
fn is_field(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = name.trim_ascii_end();
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic())
}
