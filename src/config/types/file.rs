//! Files: their paths, modes and groups.

use std::{fmt, path::PathBuf};

use super::value::{Parsed, refuse, spell_as_displayed};

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

/// Reads a path. A text that looks like a path and something else is refused: there is hardly a file
/// of that name, and no MTA would find a socket of that name.
pub(crate) fn path(text: &str) -> Parsed<PathBuf> {
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
        return refuse(text, "is not a path", "the path of one file, and nothing else");
    }
    Ok(PathBuf::from(text))
}

/// Reads a file mode of up to 0777, in octal.
pub(crate) fn mode(text: &str) -> Parsed<Mode> {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(Mode(mode)),
        _ => refuse(text, "is not a file mode", "an octal number from 0 to 0777, such as 0660"),
    }
}

/// Reads the name of a user group; whether it exists is known when sockets are made.
pub(crate) fn group_name(text: &str) -> Parsed<String> {
    if text.contains(|c: char| {
        c.is_whitespace() || matches!(c, ':' | ',' | '/' | ';' | '#' | '"' | '\'' | '`')
    }) || text.starts_with('$')
        || text.ends_with('\\')
    {
        return refuse(text, "is not a group", "the name of one group");
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode("660").unwrap().to_string(), "0660");
        assert_eq!(mode("0660").unwrap().0, 0o660);
        for bad in ["668", "1777", "+660", "rw", "0o660"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
