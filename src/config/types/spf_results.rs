//! Lists of SPF results.

use super::{
    keyword::one_of,
    value::{Parsed, list, refuse, spell_as_displayed},
};
use crate::mail::results::SpfResult::{self, Fail, Pass, Permerror, Softfail, Temperror};

spell_as_displayed!(SpfResult);

/// Reads results that can be rejected.
pub(crate) fn rejectable(text: &str) -> Parsed<Vec<SpfResult>> {
    results(text, |word| one(word, &[Fail, Softfail, Temperror, Permerror]))
}

/// Reads results of HELO that can be final.
pub(crate) fn definitive(text: &str) -> Parsed<Vec<SpfResult>> {
    results(text, |word| one(word, &[Pass, Fail, Softfail, Temperror, Permerror]))
}

/// Reads results, whose order means nothing: it is always the same afterwards.
fn results(text: &str, one: fn(&str) -> Parsed<SpfResult>) -> Parsed<Vec<SpfResult>> {
    let mut results = list(text, one)?;
    results.sort_unstable();
    Ok(results)
}

fn one(word: &str, allowed: &[SpfResult]) -> Parsed<SpfResult> {
    let fault = match SpfResult::parse(word) {
        Some(result) if allowed.contains(&result) => return Ok(result),
        Some(_) => "cannot be used here",
        None => "is not an SPF result",
    };
    let words: Vec<_> = allowed.iter().map(|result| result.as_str()).collect();
    refuse(word, fault, one_of(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_ordered() {
        assert_eq!(rejectable("permerror,fail"), Ok(vec![Fail, Permerror]));
        assert!(rejectable("").unwrap().is_empty());
        assert!(rejectable("pass").is_err());
        assert!(rejectable("neutral").is_err());
        assert!(rejectable("Fail").is_err());
        assert!(definitive("pass").is_ok());
        assert!(definitive("none").is_err());
    }
}
