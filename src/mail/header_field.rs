//! Header fields as they are added to a message, and the folding of their values.

use std::borrow::Cow;

/// The most octets that a line should have (RFC 5322 §2.1.1).
const PREFERRED_LINE_LENGTH: usize = 78;

/// A header field to add to a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderField {
    /// The name.
    pub name: Cow<'static, str>,
    /// The value, folded with LF and a space, never CR, as in the milter protocol: the MTA makes CR
    /// LF of it.
    ///
    /// Without the space after the colon: the MTA adds that, unless leading spaces were negotiated
    /// (`SMFIP_HDR_LEADSPC`), in which case the milter adapter does.
    pub value: String,
}

/// Lays out the value of a header field in lines.
///
/// A value consists of chunks, which are never broken, with one space or fold between two of them.
/// Chunks that belong together make a group: one that fits into a line of its own is not broken
/// where it could begin a new one.
#[derive(Debug)]
pub struct Folding {
    name: Cow<'static, str>,
    /// The chunks, with nothing between them.
    text: String,
    /// Their lengths are that of the text in all.
    chunks: Vec<Chunk>,
    /// Whether the next chunk begins a group.
    begins_group: bool,
}

/// A chunk of the text.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    length: usize,
    begins_group: bool,
}

impl Folding {
    /// Begins the value of a field of this name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            text: String::with_capacity(256),
            chunks: Vec::with_capacity(32),
            begins_group: true,
        }
    }

    /// Begins a group of chunks.
    pub fn begin_group(&mut self) {
        self.begins_group = true;
    }

    /// Adds a chunk to the group.
    ///
    /// A chunk is a token that may not be folded, in printable ASCII and of not much more than
    /// [`MAX_TOKEN_LENGTH`](super::tokens::MAX_TOKEN_LENGTH) octets; its writer sees to that.
    pub fn push(&mut self, chunk: &str) {
        self.push_with(|text| text.push_str(chunk));
    }

    /// As [`Self::push`], with a function that writes the chunk.
    pub fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        let before = self.text.len();
        write(&mut self.text);
        let begins_group = std::mem::take(&mut self.begins_group);
        self.chunks.push(Chunk { length: self.text.len() - before, begins_group });
    }

    /// Adds text to the last chunk, where nothing may come between.
    pub fn attach(&mut self, text: &str) {
        match self.chunks.last_mut() {
            Some(chunk) if !self.begins_group => {
                self.text.push_str(text);
                chunk.length += text.len();
            }
            _ => self.push(text),
        }
    }

    /// Lays out the lines: at most 78 octets, name and colon included, unless a single chunk is
    /// longer.
    pub fn finish(self) -> HeaderField {
        // Each chunk has at most a fold before it.
        let mut value = String::with_capacity(self.text.len() + 2 * self.chunks.len());
        let mut column = self.name.len() + 2;
        let mut rest = self.text.as_str();
        for group in self.chunks.chunk_by(|_, next| !next.begins_group) {
            // A space before each chunk included.
            let width: usize = group.iter().map(|chunk| 1 + chunk.length).sum();
            let mut fold = column + width > PREFERRED_LINE_LENGTH && width <= PREFERRED_LINE_LENGTH;
            for &Chunk { length, .. } in group {
                let (chunk, after) = rest.split_at(length);
                if value.is_empty() {
                    // Some readers take a first line with only the name for a blank one.
                } else if fold || column + 1 + length > PREFERRED_LINE_LENGTH {
                    value.push_str("\n ");
                    column = 1;
                } else {
                    value.push(' ');
                    column += 1;
                }
                value.push_str(chunk);
                column += length;
                rest = after;
                fold = false;
            }
        }
        HeaderField { name: self.name, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lay_out(groups: &[&[&str]]) -> String {
        let mut folding = Folding::new("Subject");
        for group in groups {
            folding.begin_group();
            group.iter().for_each(|chunk| folding.push(chunk));
        }
        folding.finish().value
    }

    #[test]
    fn groups_stay_together_where_they_fit() {
        let (a, b) = ("a".repeat(30), "b".repeat(30));
        assert_eq!(lay_out(&[&[&a], &[&b, "c"]]), format!("{a} {b} c"));
        assert_eq!(lay_out(&[&[&a], &[&b, "c", "d12345"]]), format!("{a}\n {b} c d12345"));
        assert_eq!(lay_out(&[&["a"], &[&a, &b, &a]]), format!("a {a} {b}\n {a}"));
    }

    #[test]
    fn attached_text_is_not_parted() {
        let mut folding = Folding::new("Subject");
        folding.attach("x");
        folding.attach(";");
        folding.push("y");
        assert_eq!(folding.finish(), HeaderField { name: "Subject".into(), value: "x; y".into() });
    }

    proptest! {
        #[test]
        fn lines_are_short_where_chunks_allow(groups in prop::collection::vec(prop::collection::vec("[a-z]{1,100}", 0..6), 0..6)) {
            let mut folding = Folding::new("Authentication-Results");
            for group in &groups {
                folding.begin_group();
                group.iter().for_each(|chunk| folding.push(chunk));
            }
            let field = folding.finish();
            let chunks: Vec<_> = groups.concat();
            prop_assert_eq!(field.value.split_whitespace().collect::<Vec<_>>(), chunks);
            let text = format!("{}: {}", field.name, field.value);
            for (number, line) in text.split('\n').enumerate() {
                prop_assert!(number == 0 || line.starts_with(' '));
                prop_assert!(!line.trim().is_empty() && !line.ends_with(' ') || text.ends_with(": "));
                let words = line.split(' ').filter(|word| !word.is_empty()).count();
                prop_assert!(line.len() <= 78 || words <= if number == 0 { 2 } else { 1 }, "{line:?}");
            }
        }
    }
}
