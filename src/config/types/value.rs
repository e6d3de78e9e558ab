//! Reading and spelling single values, for all types of parameters.

use std::{fmt::Display, path::PathBuf};

use super::suggestion::{comment, explain, is_enclosed};

/// A fault of a value, and its position.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ValueError {
    /// Octets from the beginning of the value.
    pub(crate) offset: usize,
    /// The fault, and the expected form in parentheses.
    pub(crate) message: String,
}

/// All faults of a value.
pub(crate) type ValueErrors = Vec<ValueError>;

/// A value, or its faults.
pub(crate) type Parsed<T> = Result<T, ValueErrors>;

/// A fault of the whole value.
pub(crate) fn wrong<T>(message: impl Into<String>) -> Parsed<T> {
    Err(vec![ValueError { offset: 0, message: message.into() }])
}

/// Refuses a value: `'text' is not a socket (expected inet:HOST:PORT)`.
pub(crate) fn refuse<T>(text: &str, fault: impl Display, expected: impl Display) -> Parsed<T> {
    wrong(format!("{} {fault} (expected {expected})", quote(text)))
}

/// Quotes what the user wrote, for a message: one line, no control characters, not too long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut quoted = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => quoted.push(c),
            _ => quoted.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        quoted.push_str("...");
    }
    format!("'{quoted}'")
}

/// A value that can be written so that its parser reads it back.
pub(crate) trait Spell {
    /// Whether any text is a value, so that no part of it can be found to be a mistake.
    const FREE_TEXT: bool = false;
    /// Whether there may be several values with commas between them.
    const LIST: bool = false;

    /// Whether items may name files, whose lines are values too.
    const FILES: bool = false;

    /// The value as it may stand in a configuration file.
    fn spell(&self) -> String;

    /// Adds a line of a file that the list names; the answer is what is hardly meant about it.
    fn add_line(&mut self, _line: &str) -> Parsed<Option<String>> {
        Ok(None)
    }
}

/// Spells values that [`std::fmt::Display`] writes in the form of a configuration file. Constants of
/// [`Spell`] that are true stand behind the type.
macro_rules! spell_as_displayed {
    ($($type:ty $(: $constant:ident)?),+ $(,)?) => {
        $(impl $crate::config::types::value::Spell for $type {
            $(const $constant: bool = true;)?

            fn spell(&self) -> String {
                self.to_string()
            }
        })+
    };
}
pub(crate) use spell_as_displayed;

spell_as_displayed!(
    usize,
    u64,
    String,
    crate::mail::domain::Domain,
    crate::mail::reply::ReplyCode,
    crate::mail::reply::EnhancedStatusCode
);

impl Spell for bool {
    fn spell(&self) -> String {
        if *self { "yes" } else { "no" }.into()
    }
}

impl Spell for PathBuf {
    fn spell(&self) -> String {
        self.display().to_string()
    }
}

/// A value that is not set is empty.
impl<T: Spell> Spell for Option<T> {
    const FREE_TEXT: bool = T::FREE_TEXT;
    const LIST: bool = T::LIST;

    fn spell(&self) -> String {
        self.as_ref().map(Spell::spell).unwrap_or_default()
    }
}

impl<T: Spell> Spell for Vec<T> {
    const LIST: bool = true;

    fn spell(&self) -> String {
        self.iter().map(Spell::spell).collect::<Vec<_>>().join(", ")
    }
}

/// Reads a value of a parameter; its errors suggest the probable meaning. A comment
/// behind a value is an error: the format has none, and what belongs to the value must be beyond
/// doubt.
pub(crate) fn read_value<T: Spell>(text: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<T> {
    if !T::FREE_TEXT {
        refuse_comment(text, |text| parse(text).is_ok())?;
    }
    let value = parse(text).map_err(|mut errors| {
        if !T::LIST && !T::FREE_TEXT {
            for error in &mut errors {
                explain(&mut error.message, text, false, |guess| parse(guess).is_ok());
            }
        }
        errors
    })?;
    if !T::FREE_TEXT {
        refuse_quotes(text, T::LIST, |text| parse(text).is_ok())?;
    }
    Ok(value)
}

/// Finds quotes and brackets around values that can be read with them as well.
pub(crate) fn refuse_quotes(text: &str, in_list: bool, reads: impl Fn(&str) -> bool) -> Parsed<()> {
    let mut errors = ValueErrors::new();
    // A value has no white space around it.
    let parts = if in_list { items(text).collect() } else { vec![(0, text)] };
    for (offset, item) in parts {
        if is_enclosed(item) {
            let mut message = format!(
                "{} has quotes or brackets around it (expected a value without)",
                quote(item)
            );
            explain(&mut message, item, in_list, &reads);
            errors.push(ValueError { offset, message });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Finds a comment behind a value, for an error at its position.
pub(crate) fn refuse_comment(text: &str, reads: impl Fn(&str) -> bool) -> Parsed<()> {
    let Some((before, comment)) = comment(text) else { return Ok(()) };
    let (offset, value) = (before.len(), before.trim_end());
    let guess = if !value.is_empty() && reads(value) {
        format!("; did you mean {}?", quote(value))
    } else {
        String::new()
    };
    let message = format!(
        "{} would be a part of the value (expected a comment in a line of its own{guess})",
        quote(comment)
    );
    Err(vec![ValueError { offset, message }])
}

/// Reads a value that is not set when it is empty.
pub(crate) fn optional<T>(text: &str, parse: fn(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// Cuts a text at its commas: items without white space around them, each with its position in octets.
pub(crate) fn items(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split(',').map(move |part| {
        let offset = start + part.len() - part.trim_start().len();
        start += part.len() + 1;
        (offset, part.trim())
    })
}

/// Reads comma-separated values; there may be none, and none may be there twice.
pub(crate) fn list<T: PartialEq>(text: &str, parse: fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    list_with(text, parse, |found, item| found.contains(item))
}

/// As [`list`], with a way of one's own to find out whether a value is there already.
pub(crate) fn list_with<T>(
    text: &str,
    parse: fn(&str) -> Parsed<T>,
    mut has: impl FnMut(&[T], &T) -> bool,
) -> Parsed<Vec<T>> {
    let mut found = Vec::new();
    let mut errors = ValueErrors::new();
    if text.is_empty() {
        return Ok(found);
    }
    for (offset, item) in items(text) {
        if item.is_empty() {
            errors.push(ValueError {
                offset,
                message: "nothing between commas (expected a value)".into(),
            });
            continue;
        }
        match parse(item) {
            Ok(value) if has(&found, &value) => {
                errors.push(ValueError {
                    offset,
                    message: format!("{} is given twice (expected once)", quote(item)),
                });
            }
            Ok(value) => found.push(value),
            Err(wrong) => errors.extend(wrong.into_iter().map(|mut error| {
                explain(&mut error.message, item, true, |guess| parse(guess).is_ok());
                ValueError { offset: offset + error.offset, ..error }
            })),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::{super::number::boolean, *};

    #[test]
    fn lists_report_every_item() {
        assert_eq!(list("", boolean), Ok(vec![]));
        assert_eq!(list("yes ,\tno", boolean), Ok(vec![true, false]));
        let errors = list("yes, maybe,, true,", boolean).unwrap_err();
        let errors: Vec<_> =
            errors.iter().map(|error| (error.offset, error.message.as_str())).collect();
        assert_eq!(
            errors,
            [
                (5, "'maybe' is not a boolean (expected yes or no)"),
                (11, "nothing between commas (expected a value)"),
                (13, "'true' is given twice (expected once)"),
                (18, "nothing between commas (expected a value)"),
            ]
        );
    }

    #[test]
    fn quotes_are_short_and_safe() {
        assert_eq!(quote("a\u{1b}[0m\"\u{200b}\n"), "'a\\u{1b}[0m\"\\u{200b}\\n'");
        assert_eq!(quote(&"x".repeat(100)).len(), 65);
    }
}
