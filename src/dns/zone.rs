//! DNS in memory: zones for tests, demonstrations and what-if questions.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    answer::{Answer, Failure, Mx, RecordType},
    name::Name,
    presentation::read_strings,
};
use crate::mail::results::Words as _;

/// CNAMEs followed before a chain counts as broken.
const MAX_ALIASES: usize = 8;

/// DNS content in memory.
///
/// A name that is missing does not exist (NXDOMAIN), unless there are names below it (no data).
/// `*.x` is a wildcard.
#[derive(Debug, Default)]
pub struct Zone {
    names: HashMap<String, Entry>,
    /// The names that have names below them.
    ancestors: HashSet<String>,
    /// How long each look-up takes.
    pub latency: Duration,
    queries: AtomicUsize,
}

/// The records and failures of one name.
#[derive(Clone, Debug, Default)]
struct Entry {
    a: Vec<Ipv4Addr>,
    aaaa: Vec<Ipv6Addr>,
    mx: Vec<Mx>,
    txt: Vec<Box<[u8]>>,
    ptr: Vec<Name>,
    cname: Option<String>,
    failures: Vec<(Option<RecordType>, Failure)>,
    /// Types whose look-ups never end; `None`: all that have a failure because of that.
    silent: Vec<Option<RecordType>>,
}

impl Zone {
    /// An empty zone: every name is NXDOMAIN.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `NAME TYPE VALUE` lines; blank lines and lines that begin with `#` are skipped.
    ///
    /// TYPE is A, AAAA, MX (`10 host`), TXT (one or more `"quoted strings"`, `\DDD` and `\x` as in
    /// zone files; or one bare text to the end of the line), PTR or CNAME. VALUE may also be
    /// `!timeout`, `!servfail`, `!refused`, `!nxdomain` or `!nodata`; with the type `*` that holds
    /// for all types. `!silence` is a look-up that never ends. The name of a PTR may be given as an
    /// address.
    ///
    /// # Errors
    ///
    /// A sentence that names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut zone = Self::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                zone.add_line(line)
                    .map_err(|problem| format!("zone line {}: {problem}", number + 1))?;
            }
        }
        Ok(zone)
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = line.split_once(char::is_whitespace).ok_or("no type")?;
        let (kind, value) = rest.trim_start().split_once(char::is_whitespace).ok_or("no value")?;
        let value = value.trim();
        // An address stands for its reverse name.
        let reverse = if kind == "PTR" { name.parse().ok().map(Name::reverse) } else { None };
        let name = reverse.as_ref().map_or(name, Name::as_str);
        if let Some(failure) = value.strip_prefix('!') {
            let failure = match failure {
                "silence" | "timeout" => Failure::Timeout,
                "servfail" => Failure::Rcode("SERVFAIL"),
                "refused" => Failure::Rcode("REFUSED"),
                "nxdomain" => Failure::NxDomain,
                "nodata" => Failure::NoData,
                _ => return Err(format!("unknown failure '{failure}'")),
            };
            let record_type = match kind {
                "*" => None,
                _ => Some(
                    RecordType::find(|word| word == kind)
                        .ok_or_else(|| format!("unknown type '{kind}'"))?,
                ),
            };
            self.add_failure(name, record_type, failure);
            if value == "!silence" {
                self.entry(name).silent.push(record_type);
            }
            return Ok(());
        }
        let bad = |what: &str| format!("'{value}' is not a valid {what}");
        match kind {
            "A" => self.add_a(name, value.parse().map_err(|_| bad("IPv4 address"))?),
            "AAAA" => self.add_aaaa(name, value.parse().map_err(|_| bad("IPv6 address"))?),
            "MX" => {
                let (preference, host) =
                    value.split_once(' ').ok_or_else(|| bad("mail exchanger"))?;
                self.add_mx(
                    name,
                    preference.parse().map_err(|_| bad("mail exchanger"))?,
                    host.trim(),
                );
            }
            "TXT" => self.add_txt(name, &read_strings(value)?.concat()),
            "PTR" => self.add_ptr(name, value),
            "CNAME" => self.add_cname(name, value),
            _ => return Err(format!("unknown type '{kind}'")),
        }
        Ok(())
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if !self.ancestors.insert(parent.to_owned()) {
                break;
            }
            rest = parent;
        }
        self.names.entry(name).or_default()
    }

    /// Adds an IPv4 address.
    pub fn add_a(&mut self, name: &str, address: Ipv4Addr) {
        add(&mut self.entry(name).a, address);
    }

    /// Adds an IPv6 address.
    pub fn add_aaaa(&mut self, name: &str, address: Ipv6Addr) {
        add(&mut self.entry(name).aaaa, address);
    }

    /// Adds a mail exchanger.
    pub fn add_mx(&mut self, name: &str, preference: u16, host: &str) {
        add(&mut self.entry(name).mx, Mx { preference, exchange: Name::new(host) });
    }

    /// Adds a text.
    pub fn add_txt(&mut self, name: &str, text: &[u8]) {
        add(&mut self.entry(name).txt, text.into());
    }

    /// Adds a host name to a reverse name; one that no host can have is dropped.
    pub fn add_ptr(&mut self, name: &str, host: &str) {
        let names = &mut self.entry(name).ptr;
        if let Some(host) = Name::new(host) {
            add(names, host);
        }
    }

    /// Makes the name an alias.
    pub fn add_cname(&mut self, name: &str, target: &str) {
        self.entry(name).cname =
            Some(target.strip_suffix('.').unwrap_or(target).to_ascii_lowercase());
    }

    /// Makes look-ups of a type, or of all types that have no failure of their own and no records,
    /// fail.
    pub fn add_failure(&mut self, name: &str, record_type: Option<RecordType>, failure: Failure) {
        self.entry(name).failures.push((record_type, failure));
    }

    /// How many look-ups were made so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }

    /// Looks records up, after [`Zone::latency`].
    ///
    /// # Errors
    ///
    /// The failure of the zone, or the one that follows from what is missing.
    pub async fn lookup(&self, name: &Name, record_type: RecordType) -> Result<Answer, Failure> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if self.find(name.as_str()).is_some_and(|entry| entry.is_silent(record_type)) {
            std::future::pending::<()>().await;
        }
        self.answer(name, record_type)
    }

    /// The answer of the zone, at once and uncounted.
    ///
    /// # Errors
    ///
    /// As [`Zone::lookup`].
    pub fn answer(&self, name: &Name, record_type: RecordType) -> Result<Answer, Failure> {
        let mut name = name.as_str().to_owned();
        for _ in 0..=MAX_ALIASES {
            let Some(entry) = self.find(&name) else {
                return match self.has_names_below(&name) {
                    true if record_type == RecordType::Existence => Ok(Answer::Existence),
                    true => Err(Failure::NoData),
                    false => Err(Failure::NxDomain),
                };
            };
            if let Some(answer) = entry.answer(record_type) {
                return answer;
            }
            match &entry.cname {
                // The target of the alias may be missing.
                _ if record_type == RecordType::Existence => return Ok(Answer::Existence),
                Some(target) => name.clone_from(target),
                None => return Err(Failure::NoData),
            }
        }
        Err(Failure::Rcode("SERVFAIL"))
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        if let Some(entry) = self.names.get(name) {
            return Some(entry);
        }
        // A wildcard stands for names below the closest encloser that exists (RFC 4592 §3.3.1).
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(entry) = self.names.get(&format!("*.{parent}")) {
                return Some(entry);
            }
            if self.names.contains_key(parent) || self.has_names_below(parent) {
                return None;
            }
            rest = parent;
        }
        None
    }

    /// The name with which a look-up goes on: where the name has a CNAME, and no records and no
    /// failure of this type.
    pub fn alias(&self, name: &Name, record_type: RecordType) -> Option<Name> {
        let entry = self.find(name.as_str())?;
        if entry.answer(record_type).is_some() {
            return None;
        }
        Name::new(entry.cname.as_deref()?)
    }

    fn has_names_below(&self, name: &str) -> bool {
        self.ancestors.contains(name)
    }
}

impl Entry {
    fn is_silent(&self, record_type: RecordType) -> bool {
        let no_answer = |wanted| {
            self.silent.contains(&wanted) && self.answer(record_type) == Some(Err(Failure::Timeout))
        };
        no_answer(Some(record_type)) || no_answer(None)
    }

    fn answer(&self, record_type: RecordType) -> Option<Result<Answer, Failure>> {
        // Existence is asked for with type A, and fails with it.
        if record_type == RecordType::Existence {
            return match self.answer(RecordType::A)? {
                Ok(_) | Err(Failure::NoData) => Some(Ok(Answer::Existence)),
                failure => Some(failure),
            };
        }
        let failure = |wanted| {
            self.failures.iter().find(|(kind, _)| *kind == wanted).map(|(_, failure)| *failure)
        };
        if let Some(failure) = failure(Some(record_type)) {
            return Some(Err(failure));
        }
        let answer = match record_type {
            RecordType::A if !self.a.is_empty() => Answer::A(self.a.clone().into()),
            RecordType::Aaaa if !self.aaaa.is_empty() => Answer::Aaaa(self.aaaa.clone().into()),
            RecordType::Mx if !self.mx.is_empty() => Answer::Mx(self.mx.clone().into()),
            RecordType::Txt if !self.txt.is_empty() => Answer::Txt(self.txt.clone().into()),
            RecordType::Ptr if !self.ptr.is_empty() => Answer::Ptr(self.ptr.clone().into()),
            _ => return failure(None).map(Err),
        };
        Some(Ok(answer))
    }
}

/// Adds a record; one that is there twice is one (RFC 2181 §5).
fn add<T: PartialEq>(records: &mut Vec<T>, record: T) {
    if !records.contains(&record) {
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn answers_and_failures() {
        let zone = Zone::parse(
            r#"
            # comment
            example.com TXT "v=spf1 " "-all\059"
            example.com MX 10 mx.example.com
            mx.example.com A 192.0.2.1
            www.example.com CNAME mx.example.com
            loop.example.com CNAME loop.example.com
            bad.example.com TXT !timeout
            worse.example.com * !servfail
            *.wild.example.com A 192.0.2.2
            192.0.2.1 PTR mx.example.com
            gone.example.com CNAME nowhere.example.net
            "#,
        )
        .unwrap();
        let get = |n: &str, t| zone.answer(&name(n), t);
        assert_eq!(
            get("example.com", RecordType::Txt),
            Ok(Answer::Txt([b"v=spf1 -all;".as_slice().into()].into()))
        );
        assert_eq!(
            get("www.example.com", RecordType::A),
            Ok(Answer::A([Ipv4Addr::new(192, 0, 2, 1)].into()))
        );
        assert_eq!(get("loop.example.com", RecordType::A), Err(Failure::Rcode("SERVFAIL")));
        assert_eq!(get("bad.example.com", RecordType::Txt), Err(Failure::Timeout));
        assert_eq!(get("bad.example.com", RecordType::A), Err(Failure::NoData));
        assert_eq!(get("worse.example.com", RecordType::A), Err(Failure::Rcode("SERVFAIL")));
        assert_eq!(get("com", RecordType::A), Err(Failure::NoData));
        assert_eq!(get("none.example.com", RecordType::A), Err(Failure::NxDomain));
        assert_eq!(
            get("x.wild.example.com", RecordType::A),
            Ok(Answer::A([Ipv4Addr::new(192, 0, 2, 2)].into()))
        );
        for (name, exists) in [
            ("example.com", Ok(Answer::Existence)),
            ("com", Ok(Answer::Existence)),
            ("gone.example.com", Ok(Answer::Existence)),
            ("loop.example.com", Ok(Answer::Existence)),
            ("bad.example.com", Ok(Answer::Existence)),
            ("x.wild.example.com", Ok(Answer::Existence)),
            ("none.example.com", Err(Failure::NxDomain)),
            ("worse.example.com", Err(Failure::Rcode("SERVFAIL"))),
        ] {
            assert_eq!(get(name, RecordType::Existence), exists, "{name}");
        }
        assert_eq!(get("gone.example.com", RecordType::A), Err(Failure::NxDomain));
        assert_eq!(
            get("1.2.0.192.in-addr.arpa", RecordType::Ptr),
            Ok(Answer::Ptr([name("mx.example.com")].into()))
        );
    }

    #[test]
    fn bad_lines_are_named() {
        assert!(Zone::parse("\nexample.com A x").unwrap_err().contains("line 2"));
        assert!(Zone::parse("example.com TXT \"x").is_err());
        assert!(Zone::parse("example.com SOA x").is_err());
    }
}
