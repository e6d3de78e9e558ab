//! Names and texts as zone files have them (RFC 1035 §5.1): `\DDD` is an octet, `\x` the character
//! itself.

use std::fmt::Write as _;

use super::name::Name;

/// The longest character-string (RFC 1035 §3.3).
const MAX_STRING: usize = 255;

/// Reads the character-strings of a TXT value: one or more quoted ones, or one bare text up to the
/// end of the line.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_strings(value: &str) -> Result<Vec<Vec<u8>>, String> {
    if !value.starts_with('"') {
        return Ok(vec![value.as_bytes().to_vec()]);
    }
    let mut strings = Vec::new();
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b' ' | b'\t' => continue,
            b'"' => {}
            _ => return Err("text between quoted strings".into()),
        }
        let mut string = Vec::new();
        loop {
            match octets.next().ok_or("quoted string without an end")? {
                b'"' => break,
                b'\\' => string.push(unescape(&mut octets)?),
                other => string.push(other),
            }
        }
        strings.push(string);
    }
    Ok(strings)
}

/// Reads what follows a backslash.
fn unescape(octets: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    let first = octets.next().ok_or("quoted string without an end")?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut code = u32::from(first - b'0');
    for _ in 0..2 {
        let digit =
            octets.next().filter(u8::is_ascii_digit).ok_or("\\ and fewer than three digits")?;
        code = code * 10 + u32::from(digit - b'0');
    }
    u8::try_from(code).map_err(|_| "no such octet".into())
}

/// Writes a text as quoted character-strings of 255 octets at most, with a space between them.
pub fn write_text(text: &[u8]) -> String {
    let mut line = String::with_capacity(text.len() + 2);
    let mut chunks = text.chunks(MAX_STRING).peekable();
    if chunks.peek().is_none() {
        line.push_str("\"\"");
    }
    while let Some(chunk) = chunks.next() {
        line.push('"');
        for &octet in chunk {
            match octet {
                b'"' | b'\\' => line.extend(['\\', char::from(octet)]),
                b' '..=b'~' => line.push(char::from(octet)),
                // Writing to a `String` cannot fail.
                _ => drop(write!(line, "\\{octet:03}")),
            }
        }
        line.push('"');
        if chunks.peek().is_some() {
            line.push(' ');
        }
    }
    line
}

/// Writes a name as one word that means nothing else at the beginning of a line.
pub(super) fn write_name(name: &Name) -> String {
    let mut word = String::with_capacity(name.as_str().len());
    for octet in name.as_str().bytes() {
        match octet {
            b'.' | b'-' | b'_' | b'=' | b'+' | b'/' | b'*' => word.push(char::from(octet)),
            octet if octet.is_ascii_alphanumeric() => word.push(char::from(octet)),
            // Writing to a `String` cannot fail.
            _ => drop(write!(word, "\\{octet:03}")),
        }
    }
    word
}

/// Reads a word as a name; `None` where it is none.
pub(super) fn read_name(word: &str) -> Option<Name> {
    if !word.contains('\\') {
        return Name::new(word);
    }
    let mut text = String::with_capacity(word.len());
    let mut octets = word.bytes();
    while let Some(octet) = octets.next() {
        let octet = if octet == b'\\' { unescape(&mut octets).ok()? } else { octet };
        if !octet.is_ascii() {
            return None;
        }
        text.push(char::from(octet));
    }
    Name::new(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn texts_read_back(text in prop::collection::vec(any::<u8>(), 0..800)) {
            let line = write_text(&text);
            prop_assert!(line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{line}");
            let strings = read_strings(&line).unwrap();
            prop_assert!(strings.iter().all(|string| string.len() <= MAX_STRING));
            prop_assert_eq!(strings.concat(), text);
        }

        #[test]
        fn names_read_back(text in "[\\x00-\\x7f]{1,70}") {
            if let Some(name) = Name::new(&text) {
                let word = write_name(&name);
                prop_assert!(!word.contains(['#', '[', ' ', '"', '!']) && word.is_ascii(), "{word}");
                prop_assert_eq!(read_name(&word), Some(name));
            }
        }

        #[test]
        fn anything_is_read_without_a_panic(text in any::<String>(), quoted: bool) {
            let text = if quoted { format!("\"{text}") } else { text };
            let _ = read_strings(&text);
            let _ = read_name(&text);
        }
    }

    #[test]
    fn lengths_of_strings() {
        for (length, strings) in [(0, 1), (1, 1), (254, 1), (255, 1), (256, 2), (510, 2), (511, 3)]
        {
            let line = write_text(&vec![b'x'; length]);
            assert_eq!(read_strings(&line).unwrap().len(), strings, "{length}");
        }
    }
}
