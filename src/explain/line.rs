//! Lines of the log about mail.

use std::fmt;

/// A line of the log about mail.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogLine {
    pairs: Vec<Pair>,
}

/// A key and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// The value was cut when it was written.
    pub(super) is_cut: bool,
}

/// The fewest octets, as they stand in a line, of a value that was cut: at 512 octets, or before
/// them where a character or an escape would be cut in two, and three dots.
const MIN_CUT: usize = 512 - 4 + 3;

/// A line that is not one of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotOurs(pub String);

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogLine {
    /// The line with these pairs.
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        Self { pairs }
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All values of a key, in their order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The pairs, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str()))
    }

    /// Whether this value of a key was cut when it was written.
    pub fn is_cut(&self, key: &str, value: &str) -> bool {
        self.pairs.iter().any(|pair| pair.is_cut && pair.key == key && pair.value == value)
    }
}

/// The error of a line, with what was expected of it.
pub(super) fn not_ours(problem: &str) -> NotOurs {
    NotOurs(format!(
        "not a line of the log about mail: {problem}; expected key=value pairs, such as: \
         identity=mailfrom result=fail action=reject client-ip=192.0.2.1 ..."
    ))
}

/// Whether a value was cut, of which so many octets stand in the line.
pub(super) fn is_cut(value: &str, length: usize) -> bool {
    length >= MIN_CUT && value.ends_with("...")
}
