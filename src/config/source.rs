//! Files, and their lines.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{ConfigError, Errors, Origin, Position, Warning},
    types::value::Parsed,
};

/// The most octets of a file: a longer one is not a configuration, but perhaps a device.
const MAX_FILE: u64 = 1 << 26;

/// Reads a file of bounded size.
///
/// # Errors
///
/// It cannot be read, or is too long.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(io::Error::other(format!("longer than {MAX_FILE} octets")));
    }
    Ok(text)
}

/// Where the files come from that a configuration names.
#[derive(Debug)]
pub enum NamedFiles {
    /// From the system.
    System,
    /// From the system; the contents are kept.
    Kept(RefCell<BTreeMap<PathBuf, Vec<u8>>>),
    /// These are all there are.
    Known(BTreeMap<PathBuf, Vec<u8>>),
}

impl NamedFiles {
    /// Reads a file of bounded size.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::System => read_file(path),
            Self::Kept(kept) => {
                let text = read_file(path)?;
                kept.borrow_mut().insert(path.to_owned(), text.clone());
                Ok(text)
            }
            Self::Known(files) => {
                files.get(path).cloned().ok_or_else(|| io::Error::other("not in the record"))
            }
        }
    }

    /// The files, and what they say: lines that are neither blank nor comments.
    pub fn entries(&self) -> Vec<(PathBuf, Vec<String>)> {
        let of = |(path, text): (&PathBuf, &Vec<u8>)| {
            (path.clone(), lines(text, path).map(|line| line.text).collect())
        };
        match self {
            Self::System => Vec::new(),
            Self::Kept(kept) => kept.borrow().iter().map(of).collect(),
            Self::Known(files) => files.iter().map(of).collect(),
        }
    }
}

/// One line of a file that is neither blank nor a comment.
pub(super) struct SourceLine {
    pub(super) position: Position,
    /// Without white space around it; octets that are not UTF-8 are replaced, and `problem` says
    /// so.
    pub(super) text: String,
    /// Where in the line the text begins, in octets.
    pub(super) offset: usize,
    /// A fault of the characters of the line, and its position in octets.
    pub(super) problem: Option<(usize, String)>,
}

/// Cuts a file into lines, without blank lines and comments.
///
/// Lines end with LF or CRLF. A byte order mark at the very beginning is skipped: some editors
/// write one that nobody can see. Control characters other than tabs are errors, but for comments.
/// Octets that are not UTF-8 are an error there too: the file may not be what it seems.
pub(super) fn lines<'a>(text: &'a [u8], path: &Path) -> impl Iterator<Item = SourceLine> + use<'a> {
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
        let position = Position::line(&origin, index + 1, &Arc::from(line.trim_end()));
        Some(SourceLine { position, text: trimmed.to_owned(), offset, problem })
    })
}

/// Finds a control character other than a tab: its position in octets, and the message.
pub(super) fn control_character(text: &str) -> Option<(usize, String)> {
    let (offset, character) = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t')?;
    Some((offset, format!("control character U+{:04X} (expected text)", u32::from(character))))
}

/// Entries of a list, or lines of a file of entries, that are reported as hardly meant; programs
/// write such lists.
pub(super) const MAX_ODD: usize = 20;

/// Reads one of the files that has one entry of a parameter in each line. Entries that are there twice do no
/// harm in a list that programs write. `add` takes an entry, and answers what is hardly meant about
/// it, which goes to `warnings`.
///
/// # Errors
///
/// The file cannot be read. What is wrong with its lines goes to `errors`.
pub(super) fn read_entries(
    files: &NamedFiles,
    path: &Path,
    parameter: &'static str,
    errors: &mut Errors,
    warnings: &mut Vec<Warning>,
    mut add: impl FnMut(&str) -> Parsed<Option<String>>,
) -> Result<(), String> {
    let text = files
        .read(path)
        .map_err(|error| format!("{}: {error} (expected a file of entries)", path.display()))?;
    let mut odd_lines = 0;
    for line in lines(&text, path) {
        let at = |offset, message: String| {
            ConfigError::new(line.position.at(offset), Some(parameter), message)
        };
        match line.problem.as_ref().map_or_else(|| Ok(add(&line.text)), Err) {
            Err((offset, problem)) => errors.push(at(*offset, problem.clone())),
            Ok(Err(found)) => errors.extend(
                found.into_iter().map(|error| at(line.offset + error.offset, error.message)),
            ),
            Ok(Ok(Some(oddity))) => {
                odd_lines += 1;
                if odd_lines <= MAX_ODD {
                    warnings.push(at(line.offset, oddity));
                }
            }
            Ok(Ok(None)) => {}
        }
    }
    if odd_lines > MAX_ODD {
        let message = format!("{} more lines are hardly meant", odd_lines - MAX_ODD);
        warnings.push(ConfigError::new(Position::file(path), Some(parameter), message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_up_to_the_bound() {
        let path =
            std::env::temp_dir().join(format!("spf-milter-{}-large.conf", std::process::id()));
        for (length, is_read) in [(MAX_FILE - 1, true), (MAX_FILE, true), (MAX_FILE + 1, false)] {
            // A file of holes, which takes no room.
            File::create(&path).unwrap().set_len(length).unwrap();
            let found = read_file(&path).map(|text| u64::try_from(text.len()).unwrap());
            assert_eq!(found.ok(), is_read.then_some(length));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
