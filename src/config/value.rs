//! Reading and spelling single values: what all types of parameters have in common.

use std::{fmt, path::PathBuf};

use super::meant::{comment, explain, is_enclosed};

/// What is wrong with a value, and where in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ValueError {
    /// Octets from the beginning of the value.
    pub(super) offset: usize,
    /// What is wrong, and in parentheses what is expected.
    pub(super) message: String,
}

/// Everything that is wrong with a value.
pub(super) type ValueErrors = Vec<ValueError>;

/// A value, or what is wrong with it.
pub(super) type Parsed<T> = Result<T, ValueErrors>;

/// One thing that is wrong with all of the value.
pub(super) fn wrong<T>(message: impl Into<String>) -> Parsed<T> {
    Err(vec![ValueError { offset: 0, message: message.into() }])
}

/// Quotes what the user wrote, for a message: one line, no control characters, not too long.
pub(super) fn quote(text: &str) -> String {
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
pub(super) trait Spell {
    /// Whether any text is a value, so that nothing in it can be told from what was not meant.
    const FREE_TEXT: bool = false;
    /// Whether there may be several values with commas between them.
    const LIST: bool = false;

    /// The value as it may stand in a configuration file.
    fn spell(&self) -> String;
}

/// Spells values that [`fmt::Display`] writes in the form of a configuration file.
macro_rules! spell_as_displayed {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::config::value::Spell for $type {
            fn spell(&self) -> String {
                self.to_string()
            }
        })+
    };
}
pub(super) use spell_as_displayed;

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

/// What is not set is an empty value.
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

/// Reads a value of a parameter; what is wrong with it says what was probably meant. A comment
/// behind a value is an error: the format has none, and what belongs to the value must be beyond
/// doubt.
pub(super) fn read_value<T: Spell>(text: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<T> {
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
pub(super) fn refuse_quotes(text: &str, in_list: bool, reads: impl Fn(&str) -> bool) -> Parsed<()> {
    let mut errors = ValueErrors::new();
    let mut start = 0;
    for part in text.split(|c| in_list && c == ',') {
        let item = part.trim();
        if is_enclosed(item) {
            let mut message = format!(
                "{} has quotes or brackets around it (expected a value without)",
                quote(item)
            );
            explain(&mut message, item, in_list, &reads);
            errors
                .push(ValueError { offset: start + part.len() - part.trim_start().len(), message });
        }
        start += part.len() + 1;
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Finds a comment behind a value, for an error at its place.
pub(super) fn refuse_comment(text: &str, reads: impl Fn(&str) -> bool) -> Parsed<()> {
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

/// Reads `yes` or `no`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => wrong(format!("{} is not a boolean (expected yes or no)", quote(text))),
    }
}

/// Reads an integer of at least `least`.
fn integer<T: From<u32>>(text: &str, least: u32) -> Parsed<T> {
    integer_within(text, least, u32::MAX)
}

/// Reads an integer from `least` to `most`.
fn integer_within<T: From<u32>>(text: &str, least: u32, most: u32) -> Parsed<T> {
    let expected = match most {
        u32::MAX => format!("an integer from {least}"),
        _ => format!("an integer from {least} to {most}"),
    };
    match text.parse::<u32>() {
        Ok(number) if number < least => wrong(format!("{text} is too small (expected {expected})")),
        Ok(number) if number > most => wrong(format!("{text} is too large (expected {expected})")),
        Ok(number) => Ok(number.into()),
        Err(_) => wrong(format!(
            "{} is not an integer (expected an integer from {least} to {most})",
            quote(text)
        )),
    }
}

/// Reads a number of things, of at least `least`.
pub(super) fn count_from(text: &str, least: u32) -> Parsed<usize> {
    // A count that does not fit stands for "no limit" as well as the largest does.
    integer::<u64>(text, least).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Reads a number of things, which may be 0.
pub(super) fn count(text: &str) -> Parsed<usize> {
    count_from(text, 0)
}

/// Reads a number of things, 1 or more.
pub(super) fn positive(text: &str) -> Parsed<usize> {
    count_from(text, 1)
}

/// The longest time that a parameter can name, in seconds. No MTA waits that long, and every clock
/// can count it.
const MAX_SECONDS: u32 = 3600;

/// Reads a number of seconds, 1 to 3600.
pub(super) fn seconds(text: &str) -> Parsed<u64> {
    integer_within(text, 1, MAX_SECONDS)
}

/// Reads a number of seconds, from 1 to `most`.
pub(super) fn seconds_to(text: &str, most: u32) -> Parsed<u64> {
    match seconds(text) {
        Ok(number) if number > u64::from(most) => {
            wrong(format!("{text} is too large (expected an integer from 1 to {most})"))
        }
        read => read,
    }
}

/// Reads a value that is not set when it is empty.
pub(super) fn optional<T>(text: &str, parse: fn(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// Reads comma-separated values; there may be none, and none may be there twice.
pub(super) fn list<T: PartialEq>(text: &str, parse: fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    list_with(text, parse, |found, item| found.contains(item))
}

/// As [`list`], with a way of one's own to find out whether a value is there already.
pub(super) fn list_with<T>(
    text: &str,
    parse: fn(&str) -> Parsed<T>,
    mut has: impl FnMut(&[T], &T) -> bool,
) -> Parsed<Vec<T>> {
    let mut found = Vec::new();
    let mut errors = ValueErrors::new();
    if text.is_empty() {
        return Ok(found);
    }
    let mut start = 0;
    for part in text.split(',') {
        let item = part.trim();
        let offset = start + (part.len() - part.trim_start().len()).min(part.len());
        start += part.len() + 1;
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

/// Reads a path. One that looks like a path and something else is refused: a file of that name is
/// hardly there, and a socket of that name is one that nobody finds.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`');
    let (mut words, ends) = (text.split_whitespace(), |word: &str| word.ends_with([';', '\\']));
    let goes_on = |word: &str| {
        word.starts_with(['/', ';', '#', '"', '\'']) || word.contains(':') || ends(word)
    };
    let begins_badly = words.next().is_some_and(ends);
    if text.starts_with(is_quote)
        || text.ends_with(is_quote)
        || text.ends_with('#')
        || begins_badly
        || words.any(goes_on)
    {
        return wrong(format!(
            "{} is not a path (expected the path of one file, and nothing else)",
            quote(text)
        ));
    }
    Ok(PathBuf::from(text))
}

/// Reads a file mode of up to 0777, in octal.
pub(super) fn mode(text: &str) -> Parsed<Mode> {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(Mode(mode)),
        _ => wrong(format!(
            "{} is not a file mode (expected an octal number from 0 to 0777, such as 0660)",
            quote(text)
        )),
    }
}

/// The permission bits of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mode(
    /// The bits, at most `0o777`.
    pub u32,
);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

spell_as_displayed!(Mode);

/// Reads the name of a user group; whether it exists is known when sockets are made.
pub(super) fn group_name(text: &str) -> Parsed<String> {
    if text.contains(|c: char| {
        c.is_whitespace() || matches!(c, ':' | ',' | '/' | ';' | '#' | '"' | '\'' | '`')
    }) || text.starts_with('$')
        || text.ends_with('\\')
    {
        return wrong(format!("{} is not a group (expected the name of one group)", quote(text)));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count("010"), Ok(10));
        assert_eq!(count("+10"), Ok(10));
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("4294967295"), Ok(4_294_967_295));
        for (text, expected) in [("1", Ok(1)), ("3599", Ok(3599)), ("3600", Ok(3600))] {
            assert_eq!(seconds(text), expected);
        }
        for large in ["3601", "2147484", "4294967295"] {
            assert_eq!(
                seconds(large).unwrap_err()[0].message,
                format!("{large} is too large (expected an integer from 1 to 3600)")
            );
        }
        for bad in ["", "-1", "ten", "1 0", "0x10", "4294967296", "1.0"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        assert_eq!(
            positive("0").unwrap_err()[0].message,
            "0 is too small (expected an integer from 1)"
        );
    }

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
    fn modes() {
        assert_eq!(mode("660").unwrap().to_string(), "0660");
        assert_eq!(mode("0660").unwrap().0, 0o660);
        for bad in ["668", "1777", "+660", "rw", "0o660"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quotes_are_short_and_safe() {
        assert_eq!(quote("a\u{1b}[0m\"\u{200b}\n"), "'a\\u{1b}[0m\"\\u{200b}\\n'");
        assert_eq!(quote(&"x".repeat(100)).len(), 65);
    }
}
