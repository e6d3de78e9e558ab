//! The places where values are set.

use std::{fmt, path::Path, sync::Arc};

use super::{
    assignment::Assignments,
    error::Origin,
    params::{DefaultValue, Parameter},
};

/// The place where a value is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A line of a file, from 1.
    File(Arc<Path>, usize),
    /// The command line.
    CommandLine,
    /// Nowhere: the default holds.
    Default,
    /// Nowhere: the default holds, which follows from other parameters in this way.
    Derived(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::CommandLine => f.write_str("command line"),
            Self::Default => f.write_str("default"),
            Self::Derived(rule) => write!(f, "default: {rule}"),
        }
    }
}

/// The places of all values that are set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places(Vec<(&'static str, Place)>);

impl Places {
    pub(super) fn new(assignments: &Assignments) -> Self {
        let places = assignments.iter().map(|assignment| {
            let position = &assignment.position;
            let place = match &position.origin {
                Origin::File(path) => Place::File(Arc::clone(path), position.line),
                Origin::Option(_) => Place::CommandLine,
            };
            (assignment.name, place)
        });
        Self(places.collect())
    }

    /// The place where a parameter is set.
    pub fn find(&self, name: &str) -> Place {
        let set = self.0.iter().find(|(parameter, _)| *parameter == name);
        let default = || match Parameter::find(name).map(|parameter| parameter.default) {
            Some(DefaultValue::Derived { rule, .. }) => Place::Derived(rule),
            _ => Place::Default,
        };
        set.map_or_else(default, |(_, place)| place.clone())
    }
}
