//! The steps of a check, for people who ask why it came to its result.

use std::fmt;

use super::record::is_record;
use crate::dns::{Answer, Mx, Name, RecordType};

/// Includes deeper than this are shown no further to the right.
const MAX_INDENT: usize = 20;

/// The most records of an answer that the trace lists.
const MAX_LISTED: usize = 20;

/// The steps of a check, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How many includes deep.
    pub depth: usize,
    /// The domain whose record is evaluated; empty where there is none.
    pub domain: String,
    /// The event: one line, without control characters.
    pub event: String,
    /// The question to DNS that the event is the answer to.
    pub question: Option<(Name, RecordType)>,
}

impl Trace {
    /// Adds a step; control characters, which DNS can put into an event, are escaped.
    pub(super) fn add(&mut self, depth: usize, domain: &str, event: &str) {
        let (domain, event) = (printable(domain), printable(event));
        self.steps.push(Step { depth, domain, event, question: None });
    }

    /// Says which question to DNS the last step is the answer to.
    pub(super) fn answers(&mut self, name: &Name, record_type: RecordType) {
        if let Some(step) = self.steps.last_mut() {
            step.question = Some((name.clone(), record_type));
        }
    }
}

/// An answer, in one line.
pub(super) fn describe_answer(name: &Name, answer: &Answer) -> String {
    match answer {
        Answer::A(found) => format!("A {name}: {}", list(found)),
        Answer::Aaaa(found) => format!("AAAA {name}: {}", list(found)),
        Answer::Ptr(found) if found.is_empty() => format!("PTR {name}: no name of a host"),
        Answer::Ptr(found) => format!("PTR {name}: {}", list(found)),
        Answer::Txt(found) => format!("TXT {name}: {} texts", found.len()),
        Answer::Existence => format!("{name} exists"),
        Answer::Mx(found) => {
            let host =
                |mx: &Mx| mx.exchange.as_ref().map_or_else(|| ".".to_owned(), Name::to_string);
            format!("MX {name}: {}", list(&found.iter().map(host).collect::<Vec<_>>()))
        }
    }
}

/// The texts at a domain, as they were published.
pub(super) fn describe_texts(domain: &Name, texts: &[Box<[u8]>]) -> String {
    let records: Vec<_> = texts
        .iter()
        .filter(|text| is_record(text))
        .map(|text| String::from_utf8_lossy(text))
        .collect();
    match records.as_slice() {
        [] => format!("TXT {domain}: no SPF record, {} other texts", texts.len()),
        [record] => format!("record {record}"),
        records => format!("TXT {domain}: {}", records.join(" | ")),
    }
}

/// The first few of many.
pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    let mut text = items.iter().take(MAX_LISTED).map(T::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", items.len() - MAX_LISTED));
    }
    text
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "{:indent$}", "", indent = 2 * step.depth.min(MAX_INDENT))?;
            if !step.domain.is_empty() {
                write!(f, "{}: ", step.domain)?;
            }
            writeln!(f, "{}", step.event)?;
        }
        Ok(())
    }
}
