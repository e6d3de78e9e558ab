//! The steps of a check, for those who ask why.

use std::fmt;

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
    /// What happened: one line, without control characters.
    pub event: String,
}

impl Trace {
    /// Adds a step; control characters, which DNS can put into an event, are escaped.
    pub(super) fn add(&mut self, depth: usize, domain: &str, event: &str) {
        self.steps.push(Step { depth, domain: printable(domain), event: printable(event) });
    }
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

/// Includes deeper than this are shown no further to the right.
const MAX_INDENT: usize = 20;
