//! Sets of SPF results.

use std::fmt;

use super::{
    keyword::one_of,
    value::{Parsed, list, quote, spell_as_displayed, wrong},
};
use crate::mail::{results::SpfResult, results::Values as _};

/// A set of SPF results.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SpfResults(u8);

/// The results that can be rejected.
const REJECTABLE: &[SpfResult] =
    &[SpfResult::Fail, SpfResult::Softfail, SpfResult::Temperror, SpfResult::Permerror];

/// The results of HELO that can be final.
const DEFINITIVE: &[SpfResult] = &[
    SpfResult::Pass,
    SpfResult::Fail,
    SpfResult::Softfail,
    SpfResult::Temperror,
    SpfResult::Permerror,
];

impl SpfResults {
    /// Whether the result is in the set.
    pub fn contains(self, result: SpfResult) -> bool {
        self.0 & bit(result) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The results in the set.
    pub fn iter(self) -> impl Iterator<Item = SpfResult> {
        SpfResult::ALL.iter().copied().filter(move |result| self.contains(*result))
    }
}

fn bit(result: SpfResult) -> u8 {
    1 << (result as u8)
}

impl FromIterator<SpfResult> for SpfResults {
    fn from_iter<I: IntoIterator<Item = SpfResult>>(results: I) -> Self {
        Self(results.into_iter().fold(0, |set, result| set | bit(result)))
    }
}

impl fmt::Display for SpfResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, result) in self.iter().enumerate() {
            write!(f, "{}{result}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

spell_as_displayed!(SpfResults: LIST);

/// Reads a set of results that can be rejected.
pub(crate) fn rejectable(text: &str) -> Parsed<SpfResults> {
    list(text, |word| one(word, REJECTABLE)).map(SpfResults::from_iter)
}

/// Reads a set of results of HELO that can be final.
pub(crate) fn definitive(text: &str) -> Parsed<SpfResults> {
    list(text, |word| one(word, DEFINITIVE)).map(SpfResults::from_iter)
}

fn one(word: &str, allowed: &[SpfResult]) -> Parsed<SpfResult> {
    let words: Vec<_> = allowed.iter().map(|result| result.as_str()).collect();
    match SpfResult::parse(word) {
        Some(result) if allowed.contains(&result) => Ok(result),
        Some(_) => {
            wrong(format!("{} cannot be used here (expected {})", quote(word), one_of(&words)))
        }
        None => {
            wrong(format!("{} is not an SPF result (expected {})", quote(word), one_of(&words)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = rejectable("permerror,fail").unwrap();
        assert_eq!(set.to_string(), "fail, permerror");
        assert!(set.contains(SpfResult::Fail) && !set.contains(SpfResult::Pass));
        assert!(rejectable("").unwrap().is_empty());
        assert!(rejectable("pass").is_err());
        assert!(rejectable("neutral").is_err());
        assert!(rejectable("Fail").is_err());
        assert!(definitive("pass").is_ok());
        assert!(definitive("none").is_err());
    }
}
