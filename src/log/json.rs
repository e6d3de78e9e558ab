//! Lines that are objects of JSON (RFC 8259).

use std::fmt::Write as _;

use crate::config::LogLevel;

/// A message longer than this is cut, in octets.
const MAX_MESSAGE: usize = 4096;

/// Begins the object of a line, with its level.
pub(super) fn begin(text: &mut String, level: LogLevel) {
    text.extend(["{\"level\":\"", level.as_str(), "\""]);
}

/// Adds a sentence to the object of a line.
pub(super) fn push_message(text: &mut String, message: &str) {
    text.push_str(",\"message\":");
    push_string(text, message, MAX_MESSAGE);
}

/// Ends the object of a line.
pub(super) fn end(text: &mut String) {
    text.push('}');
}

/// Whether a character can begin another line, command a terminal, or turn the direction of what
/// follows it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Adds a string: in quotes, with everything escaped that has to be, and what cannot be seen. One that
/// would take more octets than `limit` is cut, and ends with three dots.
pub fn push_string(text: &mut String, value: &str, limit: usize) {
    text.push('"');
    let is_plain = |octet: u8| matches!(octet, b' '..=b'~') && octet != b'"' && octet != b'\\';
    // All octets are looked at, so that many are at once: nearly no value has others.
    if value.len() <= limit && value.bytes().fold(true, |plain, octet| plain & is_plain(octet)) {
        text.push_str(value);
    } else {
        push_escaped(text, value, limit);
    }
    text.push('"');
}

fn push_escaped(text: &mut String, value: &str, limit: usize) {
    let end = text.len() + limit;
    for c in value.chars() {
        let before = text.len();
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // None of them needs more than 16 bits. Writing to a `String` cannot fail.
            c if is_hidden(c) => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
        if text.len() > end {
            text.truncate(before);
            text.push_str("...");
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn string(value: &str) -> String {
        let mut text = String::new();
        push_string(&mut text, value, usize::MAX / 2);
        text
    }

    #[test]
    fn strings() {
        assert_eq!(string(""), r#""""#);
        assert_eq!(
            string("a\"b\\c\r\n\u{7f}\u{202e}é\u{1f600}"),
            r#""a\"b\\c\u000d\u000a\u007f\u202eé😀""#
        );
    }

    #[test]
    fn strings_are_cut_between_characters() {
        for (value, limit, expected) in [
            ("abc", 3, r#""abc""#),
            ("abcd", 3, r#""abc...""#),
            ("ab\\", 3, r#""ab...""#),
            ("ab\\", 4, r#""ab\\""#),
            ("a\u{1}b", 6, r#""a...""#),
            ("a\u{1}b", 7, r#""a\u0001...""#),
            ("éé", 3, r#""é...""#),
            ("éé", 4, r#""éé""#),
        ] {
            let mut text = String::new();
            push_string(&mut text, value, limit);
            assert_eq!(text, expected, "{value} {limit}");
        }
    }

    proptest! {
        #[test]
        fn strings_are_read_as_they_were(value: String) {
            let text = string(&value);
            prop_assert!(!text.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::String(value));
        }

        /// All characters below U+0250, and those around the ones that are hidden.
        #[test]
        fn odd_strings_are_read_as_they_were(
            value in "[\\x00-\u{24f}\u{600}-\u{620}\u{2000}-\u{2070}\"\\\\]*"
        ) {
            let text = string(&value);
            prop_assert!(!text.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::String(value));
        }
    }
}
