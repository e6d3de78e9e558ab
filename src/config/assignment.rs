//! Assignments: the values that a configuration sets, and their positions.

use std::path::Path;

use super::{
    error::{ConfigError, Errors, Position, Warning},
    source::{NamedFiles, read_entries},
    types::{
        listed::file_of,
        value::{Parsed, Spell, ValueErrors, items, read_value},
    },
};

/// One `name = value`.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    /// The name of the parameter.
    pub(super) name: &'static str,
    /// Without white space around it; `None` where it is unusable and an error says so.
    pub(super) value: Option<String>,
    /// The beginning of the line.
    pub(super) position: Position,
    /// Where in the line the value begins, in octets.
    pub(super) offset: usize,
}

impl Assignment {
    /// An error or a warning, so many octets into the value.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.position.at(self.offset + offset), Some(self.name), message)
    }

    /// The errors of its value.
    pub(super) fn errors(&self, errors: ValueErrors) -> impl Iterator<Item = ConfigError> {
        errors.into_iter().map(|error| self.error(error.offset, error.message))
    }
}

/// The assignments of a configuration, in their order; none to a parameter that has one.
#[derive(Debug, Default)]
pub(super) struct Assignments(Vec<Assignment>);

impl Assignments {
    /// Adds an assignment to a parameter that has none.
    pub(super) fn push(&mut self, assignment: Assignment) {
        self.0.push(assignment);
    }

    /// Removes the assignment to a parameter.
    pub(super) fn remove(&mut self, name: &str) -> Option<Assignment> {
        let index = self.0.iter().position(|assignment| assignment.name == name)?;
        Some(self.0.remove(index))
    }

    /// The assignment to a parameter.
    pub(super) fn find(&self, name: &str) -> Option<&Assignment> {
        self.iter().find(|assignment| assignment.name == name)
    }

    /// All assignments.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Assignment> {
        self.0.iter()
    }
}

/// Adds the lines of the files that a list names.
fn read_files(
    files: &NamedFiles,
    assignment: &Assignment,
    text: &str,
    value: &mut impl Spell,
    errors: &mut Errors,
    warnings: &mut Vec<Warning>,
) {
    for (offset, item) in items(text) {
        let Some(path) = file_of(item) else { continue };
        let add = |line: &str| value.add_line(line);
        if let Err(message) =
            read_entries(files, Path::new(path), assignment.name, errors, warnings, add)
        {
            errors.push(assignment.error(offset, message));
        }
    }
}

/// Reads the values of a configuration, and gathers what is wrong with them.
pub(super) struct ValueReader<'a> {
    pub(super) assignments: &'a Assignments,
    /// The files that values name.
    pub(super) files: &'a NamedFiles,
    /// The configuration file as a whole.
    pub(super) file: Position,
    pub(super) errors: Errors,
    /// What is hardly meant in the files that values name.
    pub(super) warnings: Vec<Warning>,
}

impl ValueReader<'_> {
    /// Reads the value of a parameter, or its default, which is `None` where it must be set.
    pub(super) fn read<T: Spell>(
        &mut self,
        name: &'static str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let Some(assignment) = self.assignments.find(name) else {
            let read = match default {
                None => Err("not set (expected a value, there is no default)"),
                // The test of the table sees to it that defaults are good.
                Some(text) => parse(text).map_err(|_| "bad default (a bug)"),
            };
            let error = |message| ConfigError::new(self.file.clone(), Some(name), message);
            return read.map_err(|message| self.errors.push(error(message))).ok();
        };
        let text = assignment.value.as_deref()?;
        let read = read_value(text, parse);
        let mut value =
            read.map_err(|errors| self.errors.extend(assignment.errors(errors))).ok()?;
        if T::FILES {
            let Self { files, errors, warnings, .. } = self;
            read_files(files, assignment, text, &mut value, errors, warnings);
        }
        Some(value)
    }
}
