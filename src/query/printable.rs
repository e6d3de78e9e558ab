//! Text of strangers, made harmless, and laid out for people.

use crate::mail::domain::is_unseen;

/// How text is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Style {
    /// Verdicts and headings have colours.
    pub has_colours: bool,
    /// The columns of the terminal; `None` where lines are not folded.
    pub width: Option<usize>,
    /// Whether there may be more than ASCII.
    pub is_utf8: bool,
}

/// The text in one line, without anything that a terminal takes for a command or that is not seen
/// where it stands: such characters are written as `\u{...}`.
pub(super) fn harmless(text: &str, is_utf8: bool) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        let is_harmless = match c {
            ' '..='~' => true,
            _ => {
                is_utf8
                    && !c.is_control()
                    && !is_unseen(c)
                    && (!c.is_whitespace() || c == '\u{3000}')
            }
        };
        if is_harmless {
            harmless.push(c);
        } else {
            harmless.extend(c.escape_unicode());
        }
    }
    harmless
}

/// Columns that text must have at least: in a narrower terminal it is not folded further.
const MIN_WIDTH: usize = 24;

/// Lays text out: headings, lines with a label, and text that must be copied as it is.
#[derive(Debug)]
pub(super) struct Layout {
    style: Style,
    text: String,
}

/// Colours, as terminals take them (ECMA-48, SGR).
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Bold,
}

impl Layout {
    pub(super) fn new(style: Style) -> Self {
        Self { style, text: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Text in a colour, and text behind it without; never folded.
    pub(super) fn verbatim_in(&mut self, colour: Colour, text: &str, behind: &str) {
        self.coloured(colour, text);
        let behind = harmless(behind, self.style.is_utf8);
        self.text.push_str(&behind);
        self.text.push('\n');
    }

    /// A heading, with a blank line above.
    pub(super) fn heading(&mut self, text: &str) {
        self.text.push('\n');
        self.coloured(Colour::Bold, text);
        self.text.push('\n');
    }

    /// Lines that must be copied as they are.
    pub(super) fn verbatim(&mut self, text: &str) {
        for line in text.split('\n') {
            self.text.push_str(&harmless(line, self.style.is_utf8));
            self.text.push('\n');
        }
    }

    /// A text behind a label, or a hyphen, folded between words, its lines below each other.
    pub(super) fn item(&mut self, label: &str, text: &str) {
        let first = if label.is_empty() { "  - ".to_owned() } else { format!("  {label:<11}") };
        let indent = first.chars().count();
        let room = self
            .style
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(indent).max(MIN_WIDTH));
        let text = harmless(text, self.style.is_utf8);
        let (mut line, mut columns) = (first, 0_usize);
        for word in text.split(' ') {
            let width = word.chars().count();
            if columns > 0 && columns.saturating_add(1 + width) > room {
                self.text.push_str(line.trim_end());
                self.text.push('\n');
                line = " ".repeat(indent);
                columns = 0;
            }
            if columns > 0 {
                line.push(' ');
                columns += 1;
            }
            line.push_str(word);
            columns += width;
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn coloured(&mut self, colour: Colour, text: &str) {
        let text = harmless(text, self.style.is_utf8);
        if self.style.has_colours {
            let code = match colour {
                Colour::Red => 31,
                Colour::Green => 32,
                Colour::Yellow => 33,
                Colour::Bold => 1,
            };
            self.text.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m"));
        } else {
            self.text.push_str(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn text_is_folded_between_words() {
        let style = Style { width: Some(40), ..Style::default() };
        let mut layout = Layout::new(style);
        layout.item(
            "label",
            "some words that do not fit, and averyveryverylongone-that-cannot-be-folded",
        );
        layout.item("", "short");
        layout.verbatim("a long line that must be copied just as it is\n and its fold");
        assert_eq!(
            layout.finish(),
            "  label      some words that do not fit,\n             and\n             \
             averyveryverylongone-that-cannot-be-folded\n  - short\n\
             a long line that must be copied just as it is\n and its fold\n"
        );
    }

    #[test]
    fn colours_are_left_out() {
        for (has_colours, text) in [(false, "a b\n"), (true, "\u{1b}[31ma\u{1b}[0m b\n")] {
            let mut layout = Layout::new(Style { has_colours, ..Style::default() });
            layout.verbatim_in(Colour::Red, "a", " b");
            assert_eq!(layout.finish(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_harms(text: String, is_utf8: bool) {
            let written = harmless(&text, is_utf8);
            assert!(!written.contains(|c: char| c.is_control() || is_unseen(c)));
            assert!(is_utf8 || written.is_ascii());
            let shown = text.chars().filter(|c| (' '..='~').contains(c)).count();
            assert!(written.len() >= shown);
        }
    }
}
