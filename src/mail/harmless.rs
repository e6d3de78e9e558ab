//! Text of strangers for people who read it on a terminal.

use std::borrow::Cow;

use super::domain::is_unseen;

/// The text with an escape, `\u{HEX}`, for each character that could do something to a terminal,
/// or is not seen where it stands (Unicode TR 36 §2.5).
pub fn harmless(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() || is_unseen(c) || c.is_whitespace() && c != ' ')
}

/// The text with an escape for each character that is not ASCII.
pub fn ascii(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !c.is_ascii())
}

fn escaped(text: &str, condition: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(condition) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if condition(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_harm_is_escaped() {
        for (text, shown) in [
            ("", ""),
            ("alice@bücher.example \"x\" \\", "alice@bücher.example \"x\" \\"),
            ("a\x1b[2Jb\r\n\t", "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{9}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("a\u{202e}b\u{2066}c\u{200b}d\u{feff}", "a\\u{202e}b\\u{2066}c\\u{200b}d\\u{feff}"),
            ("\u{e0041}\u{fffd}", "\\u{e0041}\u{fffd}"),
        ] {
            assert_eq!(harmless(text), shown);
        }
        assert_eq!(ascii("bücher\n"), "b\\u{fc}cher\n");
    }
}
