//! A message from a file, cut into its fields and its body.

use std::{borrow::Cow, fmt};

use crate::mail::octets::{split_before, split_once};

/// The most octets of the body that are handed on at once, and a few more.
const CHUNK: usize = 1 << 16;

/// The most fields of a header; no MTA lets through as many.
const MAX_FIELDS: usize = 100_000;

/// The most characters of a field that are shown.
const MAX_SHOWN: usize = 1000;

/// A message. It owns nothing: messages may be large.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Message<'a> {
    /// The header fields, from the top.
    pub(super) fields: Vec<Field<'a>>,
    /// The body, its lines as they came.
    body: &'a [u8],
    /// The message comes from a mailbox: lines of the body that begin with `From ` have `>` before.
    is_of_mailbox: bool,
    /// What is odd about it, in sentences.
    pub(super) notes: Vec<String>,
}

/// A header field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Field<'a> {
    /// Its name, without white space behind it.
    pub(super) name: &'a [u8],
    /// What is behind the colon, folded with LF, without the line end; up to a NUL, behind which
    /// the milter protocol has nothing.
    pub(super) value: Cow<'a, [u8]>,
    /// The number of its first line.
    pub(super) line: usize,
}

/// A line of the input that something was taken from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InputLine {
    /// Its number, from 1.
    pub number: usize,
    /// The field that begins there, unfolded; the end of a long one is left out.
    pub text: String,
}

/// Why octets are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadMessage {
    /// There are none.
    Empty,
    /// The first line is neither a header field nor blank.
    NoHeader,
    /// It has more than 100,000 header fields.
    TooManyFields,
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the message is empty (expected a header, a blank line and a body)",
            Self::TooManyFields => {
                "the message has more than 100000 header fields (expected fewer)"
            }
            Self::NoHeader => "line 1 of the message is no header field (expected NAME: VALUE)",
        })
    }
}

impl<'a> Message<'a> {
    /// Reads a message. Lines end with LF or CRLF. A line `From ...` before it, as in a mailbox, is
    /// left out, and so is all behind the next of these.
    ///
    /// ```text
    /// message = [ "From " line ] *field [ blank *line ]
    /// field   = name *WSP ":" line *( WSP line )     ; RFC 5322 §2.2, §4.5
    /// ```
    ///
    /// A line that is no field ends the header as MTAs have it: it is the first of the body.
    ///
    /// # Errors
    ///
    /// It is empty, begins with a line that is no field, or has too many fields.
    pub(super) fn read(octets: &'a [u8]) -> Result<Self, BadMessage> {
        if octets.trim_ascii().is_empty() {
            return Err(BadMessage::Empty);
        }
        let mut message = Self::default();
        let (mut rest, mut number) = (octets, 1);
        if octets.starts_with(b"From ") {
            message.is_of_mailbox = true;
            rest = behind_line(octets);
            number = 2;
        }
        let begin = rest;
        while !rest.is_empty() {
            let after = behind_line(rest);
            if is_blank(rest) {
                rest = after;
                break;
            }
            let Some((name, first)) = split_name(rest) else {
                if message.fields.is_empty() {
                    return Err(BadMessage::NoHeader);
                }
                message.notes.push(format!(
                    "line {number} is no header field: the body begins there, as an MTA would have it"
                ));
                break;
            };
            if message.fields.len() == MAX_FIELDS {
                return Err(BadMessage::TooManyFields);
            }
            let (end, lines) = behind_field(after);
            let length = first.len() - end.len();
            let value = first.split_at_checked(length).map_or(first, |(value, _)| value);
            let (value, is_cut) = unfold(value);
            if is_cut {
                message
                    .notes
                    .push(format!("line {number} has a NUL, behind which milters see nothing"));
            }
            message.fields.push(Field { name, value, line: number });
            number += 1 + lines;
            rest = end;
        }
        if message.fields.is_empty() && !is_blank(begin) {
            return Err(BadMessage::NoHeader);
        }
        message.body = rest;
        if message.is_of_mailbox {
            message.end_in_mailbox();
        }
        Ok(message)
    }

    /// Hands on the body as it comes over SMTP: in chunks, every line ending with CRLF.
    pub(super) fn body(&self, mut take: impl FnMut(&[u8])) {
        let mut chunk = Vec::with_capacity(CHUNK + 1024);
        let mut rest = self.body;
        while !rest.is_empty() {
            let (line, after) = split_before(rest, |octet| octet == b'\n');
            let line = line.strip_suffix(b"\r").filter(|_| !after.is_empty()).unwrap_or(line);
            let line = match line {
                // As MTAs write it into mailboxes.
                [b'>', quoted @ ..] if self.is_of_mailbox && quoted.starts_with(b"From ") => quoted,
                _ => line,
            };
            chunk.extend_from_slice(line);
            chunk.extend_from_slice(b"\r\n");
            rest = after.split_first().map_or(after, |(_, rest)| rest);
            if chunk.len() >= CHUNK {
                take(&chunk);
                chunk.clear();
            }
        }
        if !chunk.is_empty() {
            take(&chunk);
        }
    }

    /// Cuts off what is behind the next message of a mailbox.
    fn end_in_mailbox(&mut self) {
        let (mut rest, mut length, mut after_blank) = (self.body, 0, true);
        while !rest.is_empty() {
            if after_blank && rest.starts_with(b"From ") {
                self.body = self.body.split_at_checked(length).map_or(self.body, |(body, _)| body);
                self.notes.push("the mailbox has several messages: the first one is used".into());
                return;
            }
            after_blank = is_blank(rest);
            let after = behind_line(rest);
            length += rest.len() - after.len();
            rest = after;
        }
    }
}

impl Field<'_> {
    /// Whether it has this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The line where it stands, with all of it.
    pub(super) fn input_line(&self) -> InputLine {
        // Four octets are a character at most.
        let most = 4 * MAX_SHOWN;
        let name = self.name.get(..most).unwrap_or(self.name);
        let value = self.value.get(..most).unwrap_or(&self.value);
        let value = String::from_utf8_lossy(value);
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let whole = format!("{}: {}", String::from_utf8_lossy(name), words.join(" "));
        let mut text: String = whole.chars().take(MAX_SHOWN).collect();
        if text.len() < whole.len() || value.len() < self.value.len() {
            text.push_str("...");
        }
        InputLine { number: self.line, text }
    }
}

/// What is behind the first line.
fn behind_line(text: &[u8]) -> &[u8] {
    split_once(text, b'\n').map_or(&[], |(_, after)| after)
}

/// Whether the first line is blank.
fn is_blank(text: &[u8]) -> bool {
    text.starts_with(b"\n") || text.starts_with(b"\r\n")
}

/// What is behind the lines that continue a field, and how many they are.
fn behind_field(mut rest: &[u8]) -> (&[u8], usize) {
    let mut lines = 0;
    while let [b' ' | b'\t', ..] = rest {
        rest = behind_line(rest);
        lines += 1;
    }
    (rest, lines)
}

/// The name of the field that begins here, and what is behind its colon.
fn split_name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_before(text, |octet| matches!(octet, b':' | b'\n'));
    let [b':', value @ ..] = rest else { return None };
    let name = name.trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic());
    is_name.then_some((name, value))
}

/// The value of a field with LF between its lines, and whether it was cut at a NUL.
fn unfold(value: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let (value, rest) = split_before(value, |octet| octet == 0);
    let has_cr = value.windows(2).any(|pair| pair == b"\r\n");
    let value = if has_cr {
        let mut unfolded = Vec::with_capacity(value.len());
        let mut octets = value.iter().peekable();
        while let Some(octet) = octets.next() {
            if *octet != b'\r' || octets.peek() != Some(&&b'\n') {
                unfolded.push(*octet);
            }
        }
        unfolded.into()
    } else {
        value.into()
    };
    (value, !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    fn fields(text: &str) -> Vec<(usize, String, String)> {
        let message = Message::read(text.as_bytes()).unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        message
            .fields
            .iter()
            .map(|field| (field.line, text(field.name), text(&field.value)))
            .collect()
    }

    fn body(text: &str) -> String {
        let mut body = Vec::new();
        Message::read(text.as_bytes()).unwrap().body(|chunk| body.extend_from_slice(chunk));
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn messages_are_cut_into_fields_and_body() {
        let text = "From x Mon\nA: b\n c\nD : e\n\nf\n>From g\n\nFrom h\nA: i\n";
        let expected = [(2, "A", " b\n c"), (4, "D", " e")];
        let expected =
            expected.map(|(line, name, value)| (line, name.to_owned(), value.to_owned()));
        assert_eq!(fields(text), expected);
        assert_eq!(body(text), "f\r\nFrom g\r\n\r\n");
        let text = text.strip_prefix("From x Mon\n").unwrap();
        assert_eq!(body(text), "f\r\n>From g\r\n\r\nFrom h\r\nA: i\r\n");
        let text = text.replace('\n', "\r\n");
        assert_eq!(fields(&text), expected.map(|(line, name, value)| (line - 1, name, value)));
        assert_eq!(body(&text), "f\r\n>From g\r\n\r\nFrom h\r\nA: i\r\n");
    }

    #[test]
    fn fields_up_to_the_bound() {
        for (count, is_read) in [(99_999, true), (100_000, true), (100_001, false)] {
            let message = Message::read(&b"a:\n".repeat(count)).map(|message| message.fields.len());
            let expected = if is_read { Ok(count) } else { Err(BadMessage::TooManyFields) };
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn odd_messages() {
        assert_eq!(Message::read(b""), Err(BadMessage::Empty));
        assert_eq!(Message::read(b"\r\n \n"), Err(BadMessage::Empty));
        for none in ["hello", " a: b\n", "\u{7f}ELF\n", ": b\n", "a b: c\n", "From x\nhello\n"] {
            assert_eq!(Message::read(none.as_bytes()), Err(BadMessage::NoHeader), "{none}");
        }
        assert_eq!(fields("\nbody"), []);
        assert_eq!(body("\nbody"), "body\r\n");
        assert_eq!(body("A: b\n\n"), "");
        assert_eq!(body("A: b\nbody\rx\r\ny\r"), "body\rx\r\ny\r\r\n");
        assert_eq!(
            fields("A: b\0c\n d\nE:"),
            [(1, "A".into(), " b".into()), (3, "E".into(), String::new())]
        );
    }

    proptest! {
        #[test]
        fn any_octets_are_read(octets: Vec<u8>, text in "(From x\n)?([A-Za-z]{1,3}:[ a\\\\\0]{0,3}\r?\n( b\r?\n)?){0,4}\r?\n([a>\r ]{0,3}\r?\n|From x\n){0,5}") {
            for octets in [&octets, text.as_bytes()] {
                let Ok(message) = Message::read(octets) else { continue };
                for field in &message.fields {
                    assert!(field.name.iter().all(u8::is_ascii_graphic));
                    assert!(!field.value.contains(&0) && !field.value.ends_with(b"\n"));
                    assert!(field.line >= 1);
                }
                let mut body = Vec::new();
                message.body(|chunk| body.extend_from_slice(chunk));
                let lines = body.split(|octet| *octet == b'\n').count() - 1;
                assert_eq!(body.windows(2).filter(|pair| pair == b"\r\n").count(), lines);
                assert!(body.is_empty() || body.ends_with(b"\r\n"));
            }
        }
    }
}
