//! Files with a question, its surroundings, and all answers of DNS that it got (`spf-milter(8)`,
//! RECORDED ANSWERS).
//!
//! ```text
//! spf-milter dns-record 1
//! [question]
//! time = 1795770000
//! host = "mta.example.org"
//! ip = 192.0.2.1
//! helo = "mail.example.com"
//! mail-from = "<alice@example.com>"
//! [configuration]
//! verify_dmarc = yes
//! trusted_networks = file:/etc/spf-milter/networks
//! [file "/etc/spf-milter/networks"]
//! | 192.0.2.0/24
//! [dns]
//! example.com TXT "v=spf1 mx -all"
//! ```

use std::fmt;

use super::question::Question;
use crate::{
    dns::{
        presentation::{read_strings, write_text},
        recorded::Entries,
    },
    mail::domain::Domain,
};

/// The most octets of a file.
pub(super) const MAX_FILE: u64 = 1 << 24;

/// The first line, but for the version.
const TITLE: &str = "spf-milter dns-record ";

/// The version of the format.
const VERSION: &str = "1";

/// The sections, in their order.
const SECTIONS: [&str; 3] = ["[question]", "[configuration]", "[dns]"];

/// The beginning of the section of a file that the configuration names; its path and `]` follow.
const FILE: &str = "[file ";

/// What stands before each entry of such a file.
const ENTRY: &str = "| ";

/// The content of a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecordFile {
    /// The question, without its message.
    pub question: Question,
    /// When it was asked, in seconds since 1970.
    pub time: u64,
    /// The system's name of the host where it was asked.
    pub host: String,
    /// The parameters that differ from their defaults, as a configuration file.
    pub configuration: String,
    /// The number of the first line of the configuration.
    pub configuration_line: usize,
    /// The files that the configuration names: their paths and entries.
    pub files: Vec<(String, Vec<String>)>,
    /// The answers.
    pub entries: Entries,
}

/// A file that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadFile {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl fmt::Display for RecordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [question, configuration, dns] = SECTIONS;
        writeln!(f, "{TITLE}{VERSION}")?;
        writeln!(f, "# spf-milter query --dns-replay FILE answers from this file alone.")?;
        writeln!(f, "{question}")?;
        writeln!(f, "time = {}", self.time)?;
        let mut texts = vec![("host", self.host.as_bytes())];
        let asked = &self.question;
        if let Some(ip) = asked.ip {
            writeln!(f, "ip = {ip}")?;
        }
        texts.extend(asked.helo.as_ref().map(|name| ("helo", name.as_bytes())));
        texts.extend(asked.mail_from.as_ref().map(|path| ("mail-from", path.as_slice())));
        texts.extend(asked.recipients.iter().map(|path| ("rcpt", path.as_slice())));
        texts.extend(asked.received_by.iter().map(|name| ("received-by", name.as_bytes())));
        for (key, text) in texts {
            writeln!(f, "{key} = {}", write_text(text))?;
        }
        if let Some(domain) = &asked.author_domain {
            writeln!(f, "author-domain = {domain}")?;
        }
        if asked.is_authenticated {
            writeln!(f, "authenticated = yes")?;
        }
        writeln!(f, "{configuration}")?;
        for line in self.configuration.lines().filter(|line| !line.is_empty()) {
            writeln!(f, "{line}")?;
        }
        for (path, entries) in &self.files {
            writeln!(f, "{FILE}{}]", write_text(path.as_bytes()))?;
            for entry in entries {
                writeln!(f, "{ENTRY}{entry}")?;
            }
        }
        write!(f, "{dns}\n{}", self.entries)
    }
}

impl RecordFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        let bad = |line, problem: &str| BadFile { line, problem: problem.to_owned() };
        let mut lines = (1..).zip(text.lines());
        match lines.next().map(|(_, line)| line.trim_end().strip_prefix(TITLE)) {
            Some(Some(VERSION)) => {}
            Some(Some(_)) => {
                return Err(bad(1, "a version that this program does not know, expected 1"));
            }
            _ => return Err(bad(1, &format!("expected '{TITLE}{VERSION}'"))),
        }
        let mut file = Self::default();
        let mut sections = SECTIONS.iter();
        let mut section = "";
        let (mut has_time, mut dns, mut dns_line) = (false, String::new(), 0);
        for (number, line) in lines {
            // Names in the lines of DNS have no bracket.
            let line = line.trim();
            if let Some(path) = line.strip_prefix(FILE)
                && matches!(section, "[configuration]" | FILE)
            {
                let path = path.strip_suffix(']').and_then(|path| read_strings(path).ok());
                let path = path.and_then(|parts| String::from_utf8(parts.concat()).ok());
                let path = path.ok_or_else(|| bad(number, "expected '[file \"PATH\"]'"))?;
                file.files.push((path, Vec::new()));
                section = FILE;
                continue;
            }
            if line.starts_with('[') {
                let expected = sections.next().copied().unwrap_or_default();
                if line != expected {
                    let expected = match expected {
                        "" => "expected no further section".to_owned(),
                        section => format!("expected the section '{section}'"),
                    };
                    return Err(bad(number, &expected));
                }
                section = expected;
                match section {
                    "[configuration]" => file.configuration_line = number + 1,
                    "[dns]" => dns_line = number + 1,
                    _ => {}
                }
                continue;
            }
            match section {
                "[configuration]" => file.configuration.extend([line, "\n"]),
                "[dns]" => dns.extend([line, "\n"]),
                FILE => match (line.strip_prefix(ENTRY), file.files.last_mut()) {
                    (Some(entry), Some((_, entries))) => entries.push(entry.to_owned()),
                    _ => return Err(bad(number, "expected '| ENTRY', an entry of the file")),
                },
                _ if line.is_empty() || line.starts_with('#') => {}
                "" => return Err(bad(number, "expected the section '[question]'")),
                _ => {
                    has_time |= line.starts_with("time");
                    file.add(line).map_err(|problem| BadFile { line: number, problem })?;
                }
            }
        }
        if let Some(missing) = sections.next() {
            let end = text.lines().count();
            return Err(bad(end, &format!("the section '{missing}' is missing")));
        }
        if !has_time {
            return Err(bad(1, "the question has no line 'time = SECONDS'"));
        }
        file.entries = Entries::parse(&dns, dns_line)
            .map_err(|error| BadFile { line: error.line, problem: error.problem })?;
        Ok(file)
    }

    /// Takes a line of the question.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once('=').ok_or("expected KEY = VALUE")?;
        let (key, value) = (key.trim(), value.trim());
        let bad = |what: &str| format!("'{}' is not {what}", value.escape_debug());
        let octets = || read_strings(value).map(|strings| strings.concat());
        let text = || String::from_utf8(octets()?).map_err(|_| bad("a text in UTF-8"));
        let asked = &mut self.question;
        match key {
            "time" => self.time = value.parse().map_err(|_| bad("a number of seconds"))?,
            "host" => self.host = text()?,
            "ip" => asked.ip = Some(value.parse().map_err(|_| bad("an IP address"))?),
            "helo" => asked.helo = Some(text()?),
            "mail-from" => asked.mail_from = Some(octets()?),
            "rcpt" => asked.recipients.push(octets()?),
            "received-by" => asked.received_by.push(text()?),
            "author-domain" => {
                let domain = Domain::parse(&text()?).map_err(|_| bad("a domain name"))?;
                asked.author_domain = Some(domain);
            }
            "authenticated" if value == "yes" => asked.is_authenticated = true,
            "authenticated" => return Err(bad("'yes'")),
            _ => {
                return Err(format!(
                    "unknown key '{}', expected time, host, ip, helo, mail-from, rcpt, \
                     received-by, author-domain or authenticated",
                    key.escape_debug()
                ));
            }
        }
        Ok(())
    }

    /// A question, with what it does not say itself from here.
    pub(super) fn complete(&self, question: Question) -> Question {
        let own = self.question.clone();
        let or = |given: Vec<Vec<u8>>, own| if given.is_empty() { own } else { given };
        Question {
            ip: question.ip.or(own.ip),
            helo: question.helo.or(own.helo),
            mail_from: question.mail_from.or(own.mail_from),
            is_authenticated: question.is_authenticated || own.is_authenticated,
            recipients: or(question.recipients, own.recipients),
            message: question.message,
            received_by: if question.received_by.is_empty() {
                own.received_by
            } else {
                question.received_by
            },
            author_domain: question.author_domain.or(own.author_domain),
            is_recalled: true,
        }
    }

    /// The configuration as a file in which each line has the number that it has here.
    pub fn numbered_configuration(&self) -> String {
        "\n".repeat(self.configuration_line.saturating_sub(1)) + &self.configuration
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_file() -> impl Strategy<Value = RecordFile> {
        let octets = || prop::collection::vec(any::<u8>(), 0..300);
        let question = (
            prop::option::of(any::<std::net::IpAddr>()),
            prop::option::of(any::<String>()),
            prop::option::of(octets()),
            any::<bool>(),
            prop::collection::vec(octets(), 0..3),
            prop::collection::vec(any::<String>(), 0..3),
            any::<bool>(),
        );
        let question = question.prop_map(
            |(ip, helo, mail_from, is_authenticated, recipients, received_by, has_author)| {
                let author_domain = has_author.then(|| Domain::parse("a.example").unwrap());
                Question {
                    ip,
                    helo,
                    mail_from,
                    is_authenticated,
                    recipients,
                    message: None,
                    received_by,
                    author_domain,
                    is_recalled: false,
                }
            },
        );
        let entries =
            Entries::parse("a.example TXT \"x\"\nb.example A !timeout (::1)\n", 1).unwrap();
        let entries = prop::sample::select(vec![Entries::default(), entries]);
        let lines = prop::collection::vec("[!-~]([ -~]{0,20}[!-~])?", 0..4);
        let files = prop::collection::vec((any::<String>(), lines), 0..3);
        let configuration = "([a-z_]{1,9} = [a-z]{1,9}\n){0,3}";
        (question, any::<u64>(), any::<String>(), configuration, files, entries).prop_map(
            |(question, time, host, configuration, files, entries)| RecordFile {
                question,
                time,
                host,
                configuration,
                configuration_line: 0,
                files,
                entries,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(file in any_file()) {
            let text = file.to_string();
            prop_assert!(text.bytes().all(|octet| octet == b'\n' || (b' '..=b'~').contains(&octet)));
            let read = RecordFile::parse(&text).unwrap();
            let at = read.configuration_line;
            prop_assert_eq!(text.lines().nth(at - 2).unwrap(), "[configuration]");
            prop_assert_eq!(RecordFile { configuration_line: 0, ..read }, file);
        }

        #[test]
        fn anything_is_read_without_a_panic(
            lines in prop::collection::vec(prop_oneof![
                any::<String>(),
                prop::sample::select(SECTIONS.as_slice()).prop_map(str::to_owned),
                "(time|ip|helo|x|rcpt) ?= ?(1|::1|\"a|\"\\\\25|b)",
            ], 0..10),
        ) {
            let _ = RecordFile::parse(&format!("{TITLE}1\n{}", lines.join("\n")));
        }
    }

    #[test]
    fn bad_files_are_named() {
        for (text, line, problem) in [
            ("", 1, "expected 'spf-milter dns-record 1'"),
            ("example.com A 192.0.2.1", 1, "expected 'spf-milter dns-record 1'"),
            ("spf-milter dns-record 2\n", 1, "does not know, expected 1"),
            ("spf-milter dns-record 1\ntime = 1", 2, "expected the section '[question]'"),
            ("spf-milter dns-record 1\n[dns]", 2, "expected the section '[question]'"),
            ("spf-milter dns-record 1\n[question]\nip = x", 3, "'x' is not an IP address"),
            ("spf-milter dns-record 1\n[question]\nip 192.0.2.1", 3, "expected KEY = VALUE"),
            ("spf-milter dns-record 1\n[question]\nips = x", 3, "unknown key 'ips', expected time"),
            ("spf-milter dns-record 1\n[question]\nhelo = \"x", 3, "without an end"),
            ("spf-milter dns-record 1\n[question]\nhelo = \"\\255\"", 3, "not a text in UTF-8"),
            ("spf-milter dns-record 1\n[question]\nauthenticated = no", 3, "is not 'yes'"),
            ("spf-milter dns-record 1\n[question]\n[question]", 3, "the section '[configuration]'"),
            ("spf-milter dns-record 1\n[question]\ntime = 1", 3, "'[configuration]' is missing"),
            (
                "spf-milter dns-record 1\n[question]\n[configuration]\n[dns]\n",
                1,
                "has no line 'time = SECONDS'",
            ),
            (
                "spf-milter dns-record 1\n[question]\ntime = 1\n[configuration]\n[dns]\n\na A x",
                7,
                "'x' is not an IPv4 address",
            ),
            (
                "spf-milter dns-record 1\n[question]\ntime = 1\n[configuration]\n[dns]\n[dns]",
                6,
                "expected no further section",
            ),
        ] {
            let error = RecordFile::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }
}
