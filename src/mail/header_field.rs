//! Header fields as they are added to a message, and the folding of their values.

use std::{borrow::Cow, cell::Cell};

use super::tokens;

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
/// A value consists of chunks with one space or fold between two of them. They are never broken, but for
/// comments, which may be between their words.
/// Chunks that belong together make a group: one that fits into a line of its own is not broken
/// where it could begin a new one.
#[derive(Debug)]
pub struct Folding {
    name: Cow<'static, str>,
    /// The chunks, with a space between two of them.
    text: String,
    /// Their lengths, and a space between two of them, are that of the text in all.
    chunks: Vec<Chunk>,
    /// Whether the next chunk begins a group.
    begins_group: bool,
}

thread_local! {
    /// Memory for the text and the chunks of the next value of this thread: both are empty.
    static SPARE: Cell<(String, Vec<Chunk>)> = const { Cell::new((String::new(), Vec::new())) };
}

/// The most octets of text that there is spare memory for. A chunk has one octet at least.
const MAX_SPARE: usize = 4096;

/// A chunk of the text.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    length: usize,
    begins_group: bool,
    /// It may be broken at each of its spaces: it has no two in a row, and none at an end.
    has_words: bool,
}

impl Folding {
    /// Begins the value of a field of this name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let (text, chunks) = SPARE.take();
        Self { name: name.into(), text, chunks, begins_group: true }
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
    #[inline]
    pub fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        self.push_chunk(false, write);
    }

    #[inline]
    fn push_chunk(&mut self, has_words: bool, write: impl FnOnce(&mut String)) {
        self.push_space();
        let before = self.text.len();
        write(&mut self.text);
        let begins_group = std::mem::take(&mut self.begins_group);
        self.chunks.push(Chunk { length: self.text.len() - before, begins_group, has_words });
    }

    /// Adds a comment to the group; it may be folded between its words.
    pub fn push_comment(&mut self, text: &str) {
        if tokens::is_plain_comment(text) {
            self.push_chunk(true, |chunk| {
                chunk.push('(');
                chunk.push_str(text);
                chunk.push(')');
            });
        } else {
            tokens::write_comment(text, |word| self.push(word));
        }
    }

    fn push_space(&mut self) {
        if !self.chunks.is_empty() {
            self.text.push(' ');
        }
    }

    /// Adds text without a space to the last chunk, where nothing may come between.
    pub fn attach(&mut self, text: &str) {
        debug_assert!(!text.contains(' '), "{text:?}");
        match self.chunks.last_mut() {
            Some(chunk) if !self.begins_group => {
                self.text.push_str(text);
                chunk.length += text.len();
            }
            _ => self.push(text),
        }
    }

    /// Lays out the lines: at most 78 octets, name and colon included, unless a single chunk, or a word of
    /// a comment, is longer.
    pub fn finish(self) -> HeaderField {
        let Self { name, mut text, mut chunks, .. } = self;
        // Hardly ever are there more lines.
        let value = String::with_capacity(text.len() + text.len() / 32 + 8);
        let column = name.len() + 2;
        let mut lines = Lines { value, rest: &text, line: 0, column, is_empty: true };
        for (number, chunk) in chunks.iter().enumerate() {
            // Some readers take a first line with only the name for a blank one.
            if chunk.begins_group && !lines.is_empty {
                lines.begin_group(&chunks, number);
            }
            if chunk.has_words {
                lines.add_words(chunk.length);
            } else {
                lines.add(chunk.length);
            }
        }
        let value = lines.finish();
        if text.capacity() <= MAX_SPARE {
            text.clear();
            chunks.clear();
            SPARE.set((text, chunks));
        }
        HeaderField { name, value }
    }
}

/// The lines of a value, as they are laid out.
struct Lines<'a> {
    /// Those that are ended.
    value: String,
    /// The text from the line on that is being laid out.
    rest: &'a str,
    /// The octets of that line so far.
    line: usize,
    /// Where it ends so far.
    column: usize,
    /// There is no chunk in it yet.
    is_empty: bool,
}

impl Lines<'_> {
    /// Ends the line. The next one begins with the space that is before the next chunk.
    fn end(&mut self) {
        let (ended, rest) = self.rest.split_at(self.line);
        self.value.push_str(ended);
        self.value.push('\n');
        (self.rest, self.line, self.column, self.is_empty) = (rest, 1, 1, true);
    }

    /// Begins the group that the chunk with this number begins: on a line of its own where it fits into
    /// that, and not into this one.
    fn begin_group(&mut self, chunks: &[Chunk], number: usize) {
        let (_, chunks) = chunks.split_at(number);
        let others = chunks.iter().skip(1).take_while(|chunk| !chunk.begins_group);
        let group = chunks.iter().take(1).chain(others);
        // A space before each chunk included.
        let width: usize = group.map(|chunk| 1 + chunk.length).sum();
        if self.column + width > PREFERRED_LINE_LENGTH && width <= PREFERRED_LINE_LENGTH {
            self.end();
        }
    }

    /// The octets that there is room for in the line, behind the space before them.
    fn room(&self) -> usize {
        PREFERRED_LINE_LENGTH.saturating_sub(self.column + usize::from(!self.is_empty))
    }

    /// Adds so many octets to the line, and the space before them.
    fn put(&mut self, length: usize) {
        let length = length + usize::from(!self.is_empty);
        self.line += length;
        self.column += length;
        self.is_empty = false;
    }

    /// Adds a chunk of so many octets, to a line of its own where the line has no room for it.
    fn add(&mut self, length: usize) {
        if length > self.room() && !self.is_empty {
            self.end();
        }
        self.put(length);
    }

    /// Adds the words of so many octets, spaces between them included, with as many to a line as it has
    /// room for, and one at least.
    fn add_words(&mut self, mut length: usize) {
        while length > self.room() {
            let (_, words) = self.rest.split_at(self.line + usize::from(!self.is_empty));
            let words = words.as_bytes().split_at(length).0;
            let is_space = |&octet: &u8| octet == b' ';
            let (within, _) = words.split_at(self.room() + 1);
            // Behind the last word that there is room for; else behind the first of a line of its own.
            let first = || words.iter().position(is_space).filter(|_| self.is_empty);
            match within.iter().rposition(is_space).or_else(first) {
                Some(end) => {
                    self.put(end);
                    length -= end + 1;
                    self.end();
                }
                None if self.is_empty => break,
                None => self.end(),
            }
        }
        self.put(length);
    }

    fn finish(mut self) -> String {
        self.value.push_str(self.rest);
        self.value
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
    fn spare_memory_is_empty_and_bounded() {
        for length in [10, MAX_SPARE, MAX_SPARE + 1] {
            let mut folding = Folding::new("Subject");
            folding.text.reserve_exact(length);
            folding.push("secret");
            let capacity = folding.text.capacity();
            folding.finish();
            let (text, chunks) = SPARE.take();
            assert!(text.is_empty() && chunks.is_empty());
            assert_eq!(text.capacity(), if capacity <= MAX_SPARE { capacity } else { 0 });
        }
    }

    #[test]
    fn attached_text_is_not_parted() {
        let mut folding = Folding::new("Subject");
        folding.attach("x");
        folding.attach(";");
        folding.push("y");
        assert_eq!(folding.finish(), HeaderField { name: "Subject".into(), value: "x; y".into() });
    }

    /// The slow twin of [`Folding::finish`]: chunk after chunk, each with what is before it.
    fn twin(name: &str, groups: &[Vec<String>]) -> String {
        let (mut value, mut column) = (String::new(), name.len() + 2);
        for group in groups {
            let width: usize = group.iter().map(|chunk| 1 + chunk.len()).sum();
            let mut fold = column + width > 78 && width <= 78;
            for chunk in group {
                if !value.is_empty() && (fold || column + 1 + chunk.len() > 78) {
                    value += "\n ";
                    column = 1;
                } else if !value.is_empty() {
                    value += " ";
                    column += 1;
                }
                value += chunk;
                column += chunk.len();
                fold = false;
            }
        }
        value
    }

    proptest! {
        #[test]
        fn values_are_those_of_the_slow_twin(groups in prop::collection::vec(prop::collection::vec("[a-z]{1,90}( [a-z]{1,20})?", 0..6), 0..6)) {
            let mut folding = Folding::new("Received-SPF");
            for group in &groups {
                folding.begin_group();
                group.iter().for_each(|chunk| folding.push(chunk));
            }
            // An empty group ends nothing.
            let groups: Vec<_> = groups.into_iter().filter(|group| !group.is_empty()).collect();
            prop_assert_eq!(folding.finish().value, twin("Received-SPF", &groups));
        }

        /// A comment is its words, one after the other.
        #[test]
        fn comments_are_those_of_the_slow_twin(
            text in prop_oneof![
                4 => "( ?[a-z@.:-]{1,12}){0,16} ?",
                2 => "([a-z]{1,90} ){0,6}[a-z]{70,80}",
                1 => "[a-c=?( \\\\]{0,20}",
                1 => "[a-z]{890,900}",
                1 => "([a-z]{80,120} ){7,8}[a-z]{1,80}",
            ],
            before in "[a-z]{0,60}",
        ) {
            let [mut folding, mut words] = [(), ()].map(|()| Folding::new("Received-SPF"));
            if !before.is_empty() {
                folding.push(&before);
                words.push(&before);
            }
            folding.begin_group();
            words.begin_group();
            folding.push_comment(&text);
            folding.attach(";");
            tokens::write_comment(&text, |word| words.push(word));
            words.attach(";");
            prop_assert_eq!(folding.finish(), words.finish());
        }

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
