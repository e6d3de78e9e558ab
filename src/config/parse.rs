//! The format of configuration files: text in, assignments and all errors out.

use std::{path::Path, sync::Arc};

use super::{
    error::{ConfigError, Errors, Origin, Place},
    params::{Parameter, parameters},
    value::quote,
};

/// One `name = value`.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) parameter: &'static Parameter,
    /// Without white space around it; `None` where it is unusable and an error says so.
    pub(super) value: Option<String>,
    /// The beginning of the line.
    pub(super) place: Place,
    /// Where in the line the value begins, in octets.
    pub(super) offset: usize,
}

/// One line of a file that says something, or why it cannot be read.
pub(super) struct Line<'a> {
    pub(super) place: Place,
    /// Without white space around it; characters that are none where `problem` says so.
    pub(super) text: std::borrow::Cow<'a, str>,
    /// Where in the line the text begins, in octets.
    pub(super) offset: usize,
    /// What is wrong with the characters of the line, and where.
    pub(super) problem: Option<(usize, String)>,
}

/// Cuts a file into lines, without blank lines and comments.
///
/// Lines end with LF or CRLF. A byte order mark at the very beginning is skipped: some editors write one that nobody can see.
/// Control characters other than tabs are errors, but for comments. What is not UTF-8 is an error there too: the file may not be what it
/// seems.
pub(super) fn lines<'a>(text: &'a [u8], path: &Path) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let origin = Origin::File(path.into());
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n').enumerate().filter_map(move |(index, octets)| {
        let line = String::from_utf8_lossy(octets);
        let trimmed = line.trim();
        let offset = line.len() - line.trim_start().len();
        let problem = match std::str::from_utf8(octets) {
            Err(error) => Some((error.valid_up_to(), "not UTF-8 (expected UTF-8)".to_owned())),
            Ok(_) if trimmed.starts_with('#') => None,
            Ok(_) => control_character(trimmed).map(|(found, problem)| (offset + found, problem)),
        };
        if problem.is_none() && (trimmed.is_empty() || trimmed.starts_with('#')) {
            return None;
        }
        let place = Place::line(&origin, index + 1, &Arc::from(line.trim_end()));
        let text = trimmed.to_owned().into();
        Some(Line { place, text, offset, problem })
    })
}

/// Finds a control character that is no tab: where it is, and what to say about it.
pub(super) fn control_character(text: &str) -> Option<(usize, String)> {
    let (offset, character) = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t')?;
    Some((offset, format!("control character U+{:04X} (expected text)", u32::from(character))))
}

/// Reads a configuration file that was read into memory.
pub(super) fn parse(text: &[u8], path: &Path) -> (Vec<Assignment>, Errors) {
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut errors = Errors::default();
    // Whether the line before ends with a backslash.
    let mut goes_on = false;
    for line in lines(text, path) {
        let continues = std::mem::replace(&mut goes_on, line.text.ends_with('\\'));
        let (name, value) = match line.text.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value)),
            None => (line.text.as_ref(), None),
        };
        let parameter = parameters().iter().find(|parameter| parameter.name == name);
        if let Some((offset, problem)) = &line.problem {
            errors.push(ConfigError::new(line.place.at(*offset), parameter.map(|parameter| parameter.name), problem.clone()));
        } else if let Err((offset, known, message)) = check_name(name, value, parameter, continues) {
            errors.push(ConfigError::new(line.place.at(line.offset + offset), known, message));
        }
        let Some(parameter) = parameter else { continue };
        if let Some(first) = assignments.iter().find(|first| first.parameter.name == name) {
            let message = format!("given twice, first in line {} (expected once)", first.place.line);
            errors.push(ConfigError::new(line.place.at(line.offset), Some(name), message));
            continue;
        }
        let raw = value.unwrap_or_default();
        let offset = line.offset + line.text.len() - raw.trim_start().len();
        let value = value.filter(|_| line.problem.is_none()).map(|value| value.trim().to_owned());
        assignments.push(Assignment { parameter, value, place: line.place, offset });
    }
    (assignments, errors)
}

/// What is wrong with the left side: where, of which parameter, and what.
fn check_name<'a>(
    name: &'a str,
    value: Option<&str>,
    parameter: Option<&Parameter>,
    continues: bool,
) -> Result<(), (usize, Option<&'a str>, String)> {
    if value.is_none() {
        let word = name.split_whitespace().next().filter(|word| parameters().iter().any(|parameter| parameter.name == *word));
        let hint = match name {
            _ if continues => "; a value cannot go on in the next line",
            _ if name.starts_with([';', '!']) || name.starts_with("//") => "; a comment begins with #",
            _ if name.starts_with('[') => "; there are no sections",
            _ => "",
        };
        return Err((name.len(), word, format!("no '=' (expected name = value{hint})")));
    }
    if name.is_empty() {
        return Err((0, None, "no name before '=' (expected name = value)".into()));
    }
    if parameter.is_none() {
        let hint = match nearest(name) {
            Some(known) => format!("did you mean {known}?"),
            None => "expected one of spf-milter.conf(5)".into(),
        };
        return Err((0, None, format!("{} is no parameter ({hint})", quote(name))));
    }
    Ok(())
}

/// The parameter whose name is most like this one, if any is.
fn nearest(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase().replace(['-', ' '], "_");
    let best = parameters().iter().map(|parameter| (distance(&name, parameter.name), parameter.name)).min()?;
    (best.0 <= (name.chars().count() / 3).max(1)).then_some(best.1)
}

/// The number of characters to insert, delete, replace or swap with the next to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    let mut last = None;
    for (row, c) in one.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut left = None;
        for (column, d) in other.iter().copied().enumerate() {
            let cell = |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (cell(&above, column) + usize::from(c != d)).min(cell(&above, column + 1) + 1).min(cell(&current, column) + 1);
            if last == Some(d) && left == Some(c) {
                best = best.min(cell(&before, column - 1) + 1);
            }
            current.push(best);
            left = Some(d);
        }
        before = std::mem::replace(&mut above, current);
        last = Some(c);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&'static str, Option<String>, usize)> {
        let (assignments, errors) = parse(text.as_bytes(), Path::new("a.conf"));
        assert!(errors.is_empty(), "{errors}");
        assignments.into_iter().map(|a| (a.parameter.name, a.value, a.place.at(a.offset).column)).collect()
    }

    #[test]
    fn lines_are_read() {
        assert_eq!(read("\u{feff}# x\n\n  # y\r\n\thostname\t= a \r\n"), [("hostname", Some("a".into()), 13)]);
        assert_eq!(read("fail_reply_text=a = b # c"), [("fail_reply_text", Some("a = b # c".into()), 17)]);
        assert_eq!(read("header = "), [("header", Some(String::new()), 9)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn the_nearest_name_is_found() {
        for (typo, name) in [
            ("sokcet", "socket"),
            ("SOCKET", "socket"),
            ("max_lookup", "max_lookups"),
            ("log-level", "log_level"),
            ("verify_hello", "verify_helo"),
        ] {
            assert_eq!(nearest(typo), Some(name));
        }
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
