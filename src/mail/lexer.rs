//! Lexical tokens of structured header fields, read (RFC 5322 §3.2).
//!
//! Reading is one pass without recursion: comments nest as deep as they like and cost a counter.

use std::fmt;

use super::{octets::split_before, results::words, tokens::decode};

/// Why a header field cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParseError {
    /// The offset into the field's value, in octets.
    pub at: usize,
    /// The kind of error.
    pub kind: ParseErrorKind,
}

words! {
    /// A fault of a header field.
    ParseErrorKind {
        /// A comment without its closing parenthesis.
        UnterminatedComment = "unterminated comment",
        /// A quoted string without its closing quote.
        UnterminatedQuotedString = "unterminated quoted string",
        /// A control character, or a line break that no white space follows.
        ControlCharacter = "control character",
        /// A word was expected here.
        NoWord = "missing word",
        /// Something else was expected here.
        Unexpected = "unexpected character",
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.kind, self.at)
    }
}

impl std::error::Error for ParseError {}

/// A position in the value of a header field that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    value: &'a [u8],
    /// The part that is not yet read.
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Begins at the beginning.
    pub fn new(value: &'a [u8]) -> Self {
        Self { value, rest: value }
    }

    /// The next octet, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The octets from an earlier position to here.
    pub fn since(&self, earlier: &Self) -> &'a [u8] {
        // `earlier` is not behind this position, so it has as much left or more.
        earlier.rest.split_at(earlier.rest.len() - self.rest.len()).0
    }

    /// An error at this position.
    pub fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError { at: self.value.len() - self.rest.len(), kind }
    }

    /// Takes an octet, whichever it is.
    fn next(&mut self) -> Option<u8> {
        let (octet, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*octet)
    }

    /// Steps over the octet if it comes next; returns whether it did.
    pub fn take(&mut self, octet: u8) -> bool {
        let rest = self.rest.strip_prefix(&[octet]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes the octets, maybe none, for which the condition holds.
    pub fn take_while(&mut self, condition: impl Fn(u8) -> bool) -> &'a [u8] {
        let (taken, rest) = split_before(self.rest, |octet| !condition(octet));
        self.rest = rest;
        taken
    }

    /// Steps over white space, folded or not; returns whether there was any.
    ///
    /// The MTA hands over a line break as LF; CR LF is taken too. White space at the very end of
    /// the value may lack its octets after the line break.
    ///
    /// # Errors
    ///
    /// A line break in front of something other than white space.
    pub fn skip_white_space(&mut self) -> Result<bool, ParseError> {
        let mut found = false;
        loop {
            match self.rest {
                [b' ' | b'\t', rest @ ..] => self.rest = rest,
                [b'\r' | b'\n', ..] => self.line_break()?,
                _ => return Ok(found),
            }
            found = true;
        }
    }

    /// Steps over LF or CR LF, which white space or the end must follow.
    fn line_break(&mut self) -> Result<(), ParseError> {
        let error = self.error(ParseErrorKind::ControlCharacter);
        self.take(b'\r');
        if self.take(b'\n') && matches!(self.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Steps over `CFWS` (RFC 5322 §3.2.2), maybe none, and returns the text of the first comment
    /// in it.
    ///
    /// ```text
    /// comment = "(" *([FWS] ccontent) [FWS] ")"
    /// ccontent = ctext / quoted-pair / comment
    /// ```
    ///
    /// # Errors
    ///
    /// A comment that does not end, a control character.
    pub fn skip_cfws(&mut self) -> Result<Option<String>, ParseError> {
        let mut first = None;
        loop {
            self.skip_white_space()?;
            if self.peek() != Some(b'(') {
                return Ok(first);
            }
            let text = self.comment()?;
            first.get_or_insert(text);
        }
    }

    /// Reads a comment; comments in it keep their parentheses.
    fn comment(&mut self) -> Result<String, ParseError> {
        let unterminated = self.error(ParseErrorKind::UnterminatedComment);
        self.next();
        let mut text = Vec::new();
        let mut depth = 1_usize;
        loop {
            let Some(octet) = self.content(&mut text, unterminated)? else { continue };
            match octet {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(decoded(&text));
            }
            text.push(octet);
        }
    }

    /// Reads a quoted string (RFC 5322 §3.2.4) and returns its content.
    ///
    /// # Errors
    ///
    /// A string that does not end, a control character.
    pub fn quoted_string(&mut self) -> Result<String, ParseError> {
        let unterminated = self.error(ParseErrorKind::UnterminatedQuotedString);
        self.next();
        let mut text = Vec::new();
        loop {
            match self.content(&mut text, unterminated)? {
                Some(b'"') => return Ok(decoded(&text)),
                Some(octet) => text.push(octet),
                None => {}
            }
        }
    }

    /// Steps over one piece of a comment or quoted string: an octet, which is returned, or a quoted
    /// pair or a line break, for which the text gets what it stands for.
    fn content(
        &mut self,
        text: &mut Vec<u8>,
        unterminated: ParseError,
    ) -> Result<Option<u8>, ParseError> {
        let octet = self.peek().ok_or(unterminated)?;
        match octet {
            b'\\' => {
                self.next();
                let quoted = self.peek().ok_or(unterminated)?;
                if quoted.is_ascii_control() && quoted != b'\t' {
                    return Err(self.error(ParseErrorKind::ControlCharacter));
                }
                text.push(quoted);
                self.next();
                Ok(None)
            }
            b'\r' | b'\n' => self.line_break().map(|()| None),
            b if b.is_ascii_control() && b != b'\t' => {
                Err(self.error(ParseErrorKind::ControlCharacter))
            }
            b => {
                self.next();
                Ok(Some(b))
            }
        }
    }
}

/// Text as it was meant: UTF-8 where it is that, and without the escapes of
/// [`tokens`](super::tokens).
fn decoded(text: &[u8]) -> String {
    decode(&String::from_utf8_lossy(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `quoted-pair = "\\" (VCHAR / WSP)`: no control character but the tab.
    #[test]
    fn any_octet_but_a_control_character_is_quoted() {
        for octet in 0..=u8::MAX {
            for value in [[b'"', b'\\', octet, b'"'], [b'(', b'\\', octet, b')']] {
                let mut cursor = Cursor::new(&value);
                let is_read = match value[0] {
                    b'"' => cursor.quoted_string().is_ok(),
                    _ => cursor.skip_cfws().is_ok(),
                };
                let is_allowed = !octet.is_ascii_control() || octet == b'\t';
                assert_eq!(is_read && cursor.peek().is_none(), is_allowed, "{octet:#x}");
            }
        }
    }

    #[test]
    fn comments_nest_without_recursion() {
        let depth = 500_000;
        let value = ["(".repeat(depth), ")".repeat(depth), "x".into()].concat();
        let mut cursor = Cursor::new(value.as_bytes());
        cursor.skip_cfws().unwrap();
        assert_eq!(cursor.peek(), Some(b'x'));
        let open = "(".repeat(depth);
        assert_eq!(
            Cursor::new(open.as_bytes()).skip_cfws().unwrap_err().kind,
            ParseErrorKind::UnterminatedComment
        );
    }

    #[test]
    fn line_breaks_need_white_space() {
        for good in ["\n x", "\r\n\tx", " \n x", "\n \n x"] {
            let mut cursor = Cursor::new(good.as_bytes());
            assert!(cursor.skip_white_space().unwrap());
            assert_eq!(cursor.peek(), Some(b'x'), "{good:?}");
        }
        for bad in ["\nx", "\r x", "\r\nx", " \n\u{0}"] {
            assert!(Cursor::new(bad.as_bytes()).skip_white_space().is_err(), "{bad:?}");
        }
    }
}
