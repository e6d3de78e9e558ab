//! Header fields of a message, as lists of name and value.

use std::fmt;

use spf_milter::mail::header_field::HeaderField;

/// A header field. In the value, folds are LF and white space, and the white space after the colon
/// is kept.
#[derive(Clone, Eq, PartialEq)]
pub struct Field {
    /// Before the colon.
    pub name: String,
    /// After the colon.
    pub value: Vec<u8>,
}

impl Field {
    /// A field of which the value is as after `Name:`, white space included.
    pub fn new(name: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }

    /// Reads `Name: value`, folded or not; CRLF becomes LF.
    pub fn parse(text: &str) -> Self {
        let (name, value) =
            text.split_once(':').unwrap_or_else(|| panic!("no header field: {text}"));
        Self::new(name.trim_end(), value.replace("\r\n", "\n"))
    }

    /// Whether it has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// On one line, every run of white space as one space.
    pub fn unfolded(&self) -> String {
        let value = String::from_utf8_lossy(&self.value);
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        format!("{}: {}", self.name, words.join(" "))
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, String::from_utf8_lossy(&self.value))
    }
}

/// Splits a message into its header fields and its body; line ends become LF.
pub fn split_message(message: &[u8]) -> (Vec<Field>, Vec<u8>) {
    let text: Vec<u8> = message.iter().copied().filter(|byte| *byte != b'\r').collect();
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = text.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        if line.is_empty() {
            return (fields, after.to_vec());
        }
        if let (b' ' | b'\t', Some(last)) = (line[0], fields.last_mut()) {
            last.value.push(b'\n');
            last.value.extend_from_slice(line);
        } else if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            fields.push(Field::new(&String::from_utf8_lossy(&line[..colon]), &line[colon + 1..]));
        } else {
            break;
        }
        rest = after;
    }
    (fields, rest.to_vec())
}

/// Whether a text fits a pattern in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Asserts what must hold of every line of a field that is written.
///
/// # Panics
///
/// A line is too long, blank, or has other octets than printable ASCII.
pub fn check_lines(field: &HeaderField) {
    let text = format!("{}: {}", field.name, field.value);
    for (number, line) in text.split('\n').enumerate() {
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        assert!(line.len() <= 998, "{line:?}");
        assert!(number == 0 || line.starts_with(' '), "{line:?}");
        assert!(!line.trim().is_empty(), "{text:?}");
        // Nothing but a single token, a quoted string with its spaces perhaps, makes a line longer
        // than it should be.
        let (mut quoted, mut previous, mut spaces) = (false, ' ', 0);
        for c in line.chars() {
            match c {
                '"' if previous != '\\' => quoted = !quoted,
                ' ' if !quoted => spaces += 1,
                _ => {}
            }
            previous = if previous == '\\' && c == '\\' { ' ' } else { c };
        }
        let comment = line.contains('(') || line.contains(')');
        assert!(line.len() <= 78 || comment || spaces <= 1, "{line:?}");
    }
}
