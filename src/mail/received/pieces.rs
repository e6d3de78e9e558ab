//! A Received field cut into words and comments.

use super::reason::Unreadable;
use crate::mail::octets::split_before;

/// The most octets of a Received field that is read. Those of known relays stay below 1,500.
pub const MAX_FIELD_LENGTH: usize = 8 * 1024;

/// How deep comments may nest. Known relays nest two.
const MAX_DEPTH: usize = 8;

/// A word or a comment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Piece<'a> {
    /// Its text; that of a comment without its parentheses, with those of comments in it.
    pub(super) text: &'a [u8],
    /// Whether it is a comment.
    pub(super) is_comment: bool,
    /// Whether white space stands before it, or nothing.
    pub(super) is_apart: bool,
}

impl Piece<'_> {
    /// Whether it is this word, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        !self.is_comment && self.text.eq_ignore_ascii_case(word.as_bytes())
    }
}

/// The words and comments of a text, in the order of appearance.
///
/// ```text
/// text    = *( [FWS] ( word / comment ) ) [FWS]
/// word    = 1*( any octet but white space and "(" )
/// comment = "(" *( any octet but "(" and ")" / comment ) ")"   ; nested 8 deep at most
/// ```
///
/// RFC 5322 §3.2.2 has quoted-pairs in comments. Relays write none, and do not agree on whether a
/// backslash of their client's makes one: a field with a backslash is not read at all. Quotation
/// marks mean nothing, neither to this reader nor in comments by the RFC.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'a> {
    rest: &'a [u8],
    at_start: bool,
}

impl<'a> Pieces<'a> {
    /// Begins with the value of a field.
    ///
    /// # Errors
    ///
    /// What is wrong with its octets or its parentheses.
    pub(super) fn of_field(value: &'a [u8]) -> Result<Self, Unreadable> {
        if value.len() > MAX_FIELD_LENGTH {
            return Err(Unreadable::TooLong);
        }
        let mut depth = 0_usize;
        let mut rest = value;
        while let [octet, after @ ..] = rest {
            rest = after;
            match octet {
                b'(' if depth == MAX_DEPTH => return Err(Unreadable::Parentheses),
                b'(' => depth += 1,
                b')' => depth = depth.checked_sub(1).ok_or(Unreadable::Parentheses)?,
                b'\\' => return Err(Unreadable::Backslash),
                b'\t' => {}
                // The MTA hands over a line break as LF; CR LF is taken too.
                b'\r' if after.starts_with(b"\n") => {}
                b'\n' if matches!(after, [] | [b' ' | b'\t' | b'\r' | b'\n', ..]) => {}
                octet if octet.is_ascii_control() => return Err(Unreadable::ControlCharacter),
                _ => {}
            }
        }
        if depth == 0 { Ok(Self::of_comment(value)) } else { Err(Unreadable::Parentheses) }
    }

    /// Begins with the text of a comment.
    pub(super) fn of_comment(text: &'a [u8]) -> Self {
        Self { rest: text, at_start: true }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let (white, rest) = split_before(self.rest, |octet| !is_white(octet));
        let is_apart = self.at_start || !white.is_empty();
        self.at_start = false;
        let (text, after, is_comment) = match rest {
            [] => {
                self.rest = rest;
                return None;
            }
            [b'(', inner @ ..] => {
                let (text, after) = split_comment(inner);
                (text, after, true)
            }
            _ => {
                let (text, after) = split_before(rest, |octet| is_white(octet) || octet == b'(');
                (text, after, false)
            }
        };
        self.rest = after;
        Some(Piece { text, is_comment, is_apart })
    }
}

/// Whether the octet separates words; line breaks were looked at by [`Pieces::of_field`].
fn is_white(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// Splits what follows an opening parenthesis: the comment's text, and what is behind it.
fn split_comment(inner: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0_usize;
    let end = inner.iter().position(|octet| {
        match octet {
            b'(' => depth += 1,
            b')' if depth == 0 => return true,
            b')' => depth -= 1,
            _ => {}
        }
        false
    });
    // At most its length: parentheses match.
    let (text, after) = inner.split_at(end.unwrap_or(inner.len()));
    (text, after.strip_prefix(b")").unwrap_or(after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As text: `+` before what is attached, parentheses around comments.
    fn shown(value: &str) -> Result<Vec<String>, Unreadable> {
        let show = |piece: Piece<'_>| {
            let text = String::from_utf8_lossy(piece.text);
            let text = if piece.is_comment { format!("({text})") } else { text.into_owned() };
            if piece.is_apart { text } else { format!("+{text}") }
        };
        Ok(Pieces::of_field(value.as_bytes())?.map(show).collect())
    }

    #[test]
    fn words_and_comments() {
        assert_eq!(
            shown(" from a\r\n\t(b (c) [d]) by\n e(f)g () ").unwrap(),
            ["from", "a", "(b (c) [d])", "by", "e", "+(f)", "+g", "()"]
        );
        assert_eq!(shown("").unwrap(), [""; 0]);
        assert_eq!(shown(" \n\r\n").unwrap(), [""; 0]);
        for (value, reason) in [
            ("a\\b", Unreadable::Backslash),
            ("a (", Unreadable::Parentheses),
            ("a )(", Unreadable::Parentheses),
            ("(((((((((a)))))))))", Unreadable::Parentheses),
            ("a\nb", Unreadable::ControlCharacter),
            ("a\r b", Unreadable::ControlCharacter),
            ("a\0", Unreadable::ControlCharacter),
            ("a\x0bb", Unreadable::ControlCharacter),
            ("a\x7f", Unreadable::ControlCharacter),
        ] {
            assert_eq!(shown(value), Err(reason), "{value:?}");
        }
        assert_eq!(shown("((((((((a))))))))").unwrap(), ["((((((((a))))))))"]);
        let longest = "a".repeat(MAX_FIELD_LENGTH);
        assert_eq!(shown(&longest).unwrap(), [&*longest]);
        assert_eq!(shown(&format!("{longest}a")), Err(Unreadable::TooLong));
    }

    /// Cuts by looking at each character with the depth before it.
    fn slow(value: &str) -> Result<Vec<String>, Unreadable> {
        let depths: Vec<i32> = value
            .chars()
            .scan(0, |depth, c| {
                let before = *depth;
                *depth += i32::from(c == '(') - i32::from(c == ')');
                Some(before)
            })
            .collect();
        let end = value.matches('(').count().abs_diff(value.matches(')').count());
        let too_deep = |(depth, c): (&i32, char)| c == '(' && *depth >= 8;
        if end != 0
            || depths.iter().any(|depth| *depth < 0)
            || depths.iter().zip(value.chars()).any(too_deep)
        {
            return Err(Unreadable::Parentheses);
        }
        let mut marked = String::new();
        for (depth, c) in depths.iter().zip(value.chars()) {
            match (depth, c) {
                (0, '(') => marked.push_str("\u{1}("),
                (1, ')') => marked.push_str(")\u{1}"),
                (0, ' ' | '\n') => marked.push('\u{2}'),
                (_, c) => marked.push(c),
            }
        }
        let mut pieces = Vec::new();
        for run in marked.split('\u{2}') {
            let parts = run.split('\u{1}').filter(|part| !part.is_empty());
            pieces.extend(parts.enumerate().map(|(number, part)| {
                if number == 0 { part.to_owned() } else { format!("+{part}") }
            }));
        }
        Ok(pieces)
    }

    proptest! {
        #[test]
        fn agrees_with_a_slow_reader(value in "([ab(()) ]|\n ){0,24}") {
            prop_assert_eq!(shown(&value), slow(&value), "{:?}", value);
        }

        #[test]
        fn deep_ones_too(open in 0..12_usize, closed in 0..12_usize) {
            let value = "(".repeat(open) + &")".repeat(closed);
            prop_assert_eq!(shown(&value), slow(&value), "{:?}", value);
        }
    }
}
