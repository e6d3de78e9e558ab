//! Recorded answers as lines of text.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use super::{Entries, Entry, NOT_RECORDED};
use crate::{
    dns::{
        answer::{Answer, Failure, Mx, RecordType, TOO_MANY_RECORDS},
        event::Server,
        name::Name,
        presentation::{read_name, read_strings, write_name, write_text},
        reply::rcode_name,
        resolv_conf::PORT,
    },
    mail::results::Words as _,
};

/// The most questions of a record.
const MAX_ENTRIES: usize = 10_000;

/// The word for a name that no host can have.
const NO_NAME: &str = ".";

/// The word for the existence of a name, as a type and as an answer.
const EXISTENCE: &str = "EXISTENCE";
/// See [`EXISTENCE`].
const EXISTS: &str = "yes";

/// The word for an answer that did not come while something waited for it.
const UNANSWERED: &str = "unanswered";

/// A line that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// One line for each record or failure.
impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|entry| write_entry(f, entry))
    }
}

fn write_entry(f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
    let name = write_name(&entry.name);
    let kind = word_of(entry.record_type);
    let mut line = |value: &str| writeln!(f, "{name} {kind} {value}");
    let host = |host: Option<&Name>| host.map_or_else(|| NO_NAME.to_owned(), write_name);
    match &entry.answer {
        None => line(&format!("!{UNANSWERED}")),
        Some(Err(failure)) if entry.servers.is_empty() => line(&format!("!{failure}")),
        Some(Err(failure)) => line(&format!("!{failure} ({})", Server::list(&entry.servers))),
        Some(Ok(Answer::A(found))) => found.iter().try_for_each(|found| line(&found.to_string())),
        Some(Ok(Answer::Aaaa(found))) => {
            found.iter().try_for_each(|found| line(&found.to_string()))
        }
        Some(Ok(Answer::Mx(found))) => found
            .iter()
            .try_for_each(|mx| line(&format!("{} {}", mx.preference, host(mx.exchange.as_ref())))),
        Some(Ok(Answer::Txt(found))) => found.iter().try_for_each(|text| line(&write_text(text))),
        Some(Ok(Answer::Ptr(found))) if found.is_empty() => line(NO_NAME),
        Some(Ok(Answer::Ptr(found))) => found.iter().try_for_each(|found| line(&host(Some(found)))),
        Some(Ok(Answer::Existence)) => line(EXISTS),
    }
}

fn word_of(record_type: RecordType) -> &'static str {
    match record_type {
        RecordType::Existence => EXISTENCE,
        other => other.as_str(),
    }
}

/// The value of a line.
enum Value {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx(Mx),
    Txt(Box<[u8]>),
    /// `None`: there are records, and none with a name that a host can have.
    Ptr(Option<Name>),
    Existence,
    Failure(Failure, Vec<SocketAddr>),
    Unanswered,
}

impl Entries {
    /// Reads lines; blank ones and those that begin with `#` are skipped. The first has this
    /// number.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read, or does not fit to those before it.
    pub fn parse(text: &str, first: usize) -> Result<Self, LineError> {
        let mut entries = Self::default();
        // The values of each entry, and the number of its last line.
        let mut values: Vec<(Vec<Value>, usize)> = Vec::new();
        for (number, line) in (first..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |problem| LineError { line: number, problem };
            let (name, record_type, value) = read_line(line).map_err(error)?;
            let place = entries.place(&name, record_type);
            if entries.entries.len() > MAX_ENTRIES {
                return Err(error(format!("more than {MAX_ENTRIES} questions")));
            }
            match values.get_mut(place) {
                Some((values, last)) => {
                    values.push(value);
                    *last = number;
                }
                None => values.push((vec![value], number)),
            }
        }
        for (entry, (values, line)) in entries.entries.iter_mut().zip(values) {
            let filled = fill(entry, values);
            filled.map_err(|problem| LineError { line, problem: problem.to_owned() })?;
        }
        Ok(entries)
    }
}

fn read_line(line: &str) -> Result<(Name, RecordType, Value), String> {
    let expected = "expected a name, a type and a value, such as: example.com A 192.0.2.1";
    let (name, rest) = line.split_once(char::is_whitespace).ok_or(expected)?;
    let (kind, value) = rest.trim_start().split_once(char::is_whitespace).ok_or(expected)?;
    let name = read_name(name).ok_or_else(|| format!("'{}' is not a name", name.escape_debug()))?;
    let mut types = RecordType::ALL.iter().map(|(record_type, _)| *record_type);
    let record_type = types.find(|known| word_of(*known) == kind).ok_or_else(|| {
        let known = RecordType::ALL.iter().map(|(known, _)| word_of(*known));
        let known = known.collect::<Vec<_>>().join(", ");
        format!("unknown type '{}', expected one of {known}", kind.escape_debug())
    })?;
    Ok((name, record_type, read_value(record_type, value.trim_start())?))
}

fn read_value(record_type: RecordType, text: &str) -> Result<Value, String> {
    if let Some(failure) = text.strip_prefix('!') {
        return read_failure(failure);
    }
    let bad = |what: &str| format!("'{}' is not {what}", text.escape_debug());
    let host = |word: &str| match word {
        NO_NAME => Some(None),
        word => read_name(word).map(Some),
    };
    Ok(match record_type {
        RecordType::A => Value::A(text.parse().map_err(|_| bad("an IPv4 address"))?),
        RecordType::Aaaa => Value::Aaaa(text.parse().map_err(|_| bad("an IPv6 address"))?),
        RecordType::Txt => Value::Txt(read_strings(text)?.concat().into()),
        RecordType::Ptr => Value::Ptr(host(text).ok_or_else(|| bad("a name"))?),
        RecordType::Existence if text == EXISTS => Value::Existence,
        RecordType::Existence => return Err(bad(&format!("'{EXISTS}' or a failure"))),
        RecordType::Mx => {
            let read = |(preference, word): (&str, &str)| {
                Some(Mx {
                    preference: preference.parse().ok()?,
                    exchange: host(word.trim_start())?,
                })
            };
            let mx = text.split_once(char::is_whitespace).and_then(read);
            Value::Mx(mx.ok_or_else(|| bad("a preference and a name, such as 10 mx.example.com"))?)
        }
    })
}

/// Reads a failure, and the servers in parentheses behind it.
fn read_failure(text: &str) -> Result<Value, String> {
    let (word, servers) =
        match text.split_once(" (").map(|(word, rest)| (word, rest.strip_suffix(')'))) {
            None => (text, Vec::new()),
            Some((word, Some(servers))) => {
                let servers = servers.split(", ").map(read_server).collect::<Option<_>>();
                (word, servers.ok_or("bad address of a name server")?)
            }
            Some((_, None)) => return Err("no ) after the name servers".into()),
        };
    if word == UNANSWERED {
        return Ok(Value::Unanswered);
    }
    let failure = failures().find(|failure| failure.to_string() == word).ok_or_else(|| {
        let known = failures().map(|failure| format!("!{failure}"));
        let known = known.collect::<Vec<_>>().join(", ");
        format!(
            "unknown failure '!{}', expected one of !{UNANSWERED}, {known}",
            word.escape_debug()
        )
    })?;
    Ok(Value::Failure(failure, servers))
}

/// Every failure that a look-up may have.
fn failures() -> impl Iterator<Item = Failure> {
    let codes = (0..=u16::from(u8::MAX)).map(rcode_name).filter(|name| *name != "NXDOMAIN");
    let mut names: Vec<&str> = codes.chain([TOO_MANY_RECORDS, NOT_RECORDED]).collect();
    names.dedup();
    [
        Failure::NxDomain,
        Failure::NoData,
        Failure::Timeout,
        Failure::NoRecursion,
        Failure::Malformed,
        Failure::Network,
    ]
    .into_iter()
    .chain(names.into_iter().map(Failure::Rcode))
}

/// A name server as [`Server`] writes it. The interface of a link-local address is its number.
fn read_server(text: &str) -> Option<SocketAddr> {
    if let Some((address, scope)) = text.split_once('%')
        && let (Ok(address), Ok(scope)) = (address.parse(), scope.parse())
    {
        return Some(SocketAddrV6::new(address, PORT, 0, scope).into());
    }
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::from((address, PORT)));
    address.or_else(|_| text.parse()).ok()
}

/// Makes the answer of an entry of its lines.
///
/// # Errors
///
/// They contradict each other.
fn fill(entry: &mut Entry, mut values: Vec<Value>) -> Result<(), &'static str> {
    if let [Value::Failure(..) | Value::Unanswered | Value::Existence | Value::Ptr(None)] =
        values.as_slice()
    {
        entry.answer = match values.pop() {
            Some(Value::Failure(failure, servers)) => {
                entry.servers = servers;
                Some(Err(failure))
            }
            Some(Value::Existence) => Some(Ok(Answer::Existence)),
            Some(Value::Ptr(_)) => Some(Ok(Answer::Ptr([].into()))),
            _ => None,
        };
        return Ok(());
    }
    /// All values, each by this, which has one for every value of its type.
    fn all<T>(
        values: Vec<Value>,
        record: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<T>, &'static str> {
        let records: Option<_> = values.into_iter().map(record).collect();
        records.ok_or("the lines of this question contradict each other")
    }
    let answer = match entry.record_type {
        RecordType::A => Answer::A(
            all(values, |value| match value {
                Value::A(record) => Some(record),
                _ => None,
            })?
            .into(),
        ),
        RecordType::Aaaa => Answer::Aaaa(
            all(values, |value| match value {
                Value::Aaaa(record) => Some(record),
                _ => None,
            })?
            .into(),
        ),
        RecordType::Mx => Answer::Mx(
            all(values, |value| match value {
                Value::Mx(record) => Some(record),
                _ => None,
            })?
            .into(),
        ),
        RecordType::Txt => Answer::Txt(
            all(values, |value| match value {
                Value::Txt(record) => Some(record),
                _ => None,
            })?
            .into(),
        ),
        RecordType::Ptr => Answer::Ptr(
            all(values, |value| match value {
                Value::Ptr(record) => record,
                _ => None,
            })?
            .into(),
        ),
        RecordType::Existence => return Err("the existence of a name has one line"),
    };
    entry.answer = Some(Ok(answer));
    Ok(())
}
