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
    /// The domain whose record is evaluated.
    pub domain: String,
    /// What happened.
    pub event: String,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{:indent$}{}: {}", "", step.domain, step.event, indent = 2 * step.depth)?;
        }
        Ok(())
    }
}
