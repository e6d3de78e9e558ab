//! Canonicalization (RFC 6376 §3.4).

use crate::mail::octets::{count_work, split_once, trim};

/// The canonicalization algorithms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Canonicalization {
    /// Next to no change is tolerated.
    Simple,
    /// Other white space and other folds are tolerated.
    Relaxed,
}

impl Canonicalization {
    /// Appends the name of a header field, and the colon.
    pub(crate) fn append_name(self, name: &[u8], output: &mut Vec<u8>) {
        count_work(name.len());
        match self {
            Self::Simple => output.extend_from_slice(name),
            Self::Relaxed => {
                output.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
            }
        }
        output.push(b':');
    }

    /// Appends the value of a header field, or a part that neither begins nor ends with white space
    /// where there is more of it.
    pub(crate) fn append_value(self, value: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Simple => {
                count_work(value.len());
                output.extend_from_slice(value);
            }
            Self::Relaxed => append_relaxed_value(value, output),
        }
    }
}

/// Appends the value unfolded, runs of white space as one space each, none at the beginning and the
/// end (RFC 6376 §3.4.2).
fn append_relaxed_value(value: &[u8], output: &mut Vec<u8>) {
    let is_white_end = |octet: Option<&u8>| octet.is_some_and(|octet| is_white(*octet));
    let (mut white, mut is_empty) = (false, true);
    let mut rest = Some(value);
    while let Some(text) = rest {
        let line;
        (line, rest) = split_fold(text);
        white |= is_white_end(line.first());
        let words = trim(line, is_white);
        if !words.is_empty() {
            if white && !is_empty {
                output.push(b' ');
            }
            append_words(words, output);
            (white, is_empty) = (is_white_end(line.last()), false);
        }
    }
}

/// The text before the first fold, and the text behind it. A fold is a CRLF: white space follows it,
/// or it would end the field.
fn split_fold(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut rest = text;
    while let Some((_, after)) = split_once(rest, b'\r') {
        if let [b'\n', next @ ..] = after {
            let (line, _) = text.split_at(text.len() - after.len() - 1);
            return (line, Some(next));
        }
        rest = after;
    }
    (text, None)
}

/// Appends words with one space between them; the text begins and ends with one.
fn append_words(text: &[u8], output: &mut Vec<u8>) {
    // All of it is looked at, so that many octets are at once. Most lines stay as they are.
    let (_, nexts) = text.split_at(text.len().min(1));
    let is_clean = text.iter().zip(nexts).fold(true, |is_clean, (&octet, &next)| {
        is_clean & !((octet == b'\t') | ((octet == b' ') & (next == b' ')))
    });
    if is_clean {
        output.extend_from_slice(text);
        return;
    }
    let words = text.split(|&octet| is_white(octet)).filter(|word| !word.is_empty());
    for (number, word) in words.enumerate() {
        if number > 0 {
            output.push(b' ');
        }
        output.extend_from_slice(word);
    }
}

/// Canonicalizes a body that arrives in chunks, whatever their borders.
///
/// Lines end in CRLF. A CR or LF that is not part of a CRLF is an octet like others: it ends no
/// line and is not white space.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(crate) struct BodyCanonicalizer {
    /// `None` for simple canonicalization.
    spaces: Option<Spaces>,
    lines: Lines,
}

impl BodyCanonicalizer {
    pub(crate) fn new(canonicalization: Canonicalization) -> Self {
        let spaces = (canonicalization == Canonicalization::Relaxed).then(Spaces::default);
        Self { spaces, lines: Lines::default() }
    }

    /// Takes the next octets of the body; `output` gets the part of the canonical form that is
    /// certain.
    pub(crate) fn write(&mut self, chunk: &[u8], output: &mut impl FnMut(&[u8])) {
        match &mut self.spaces {
            None => self.lines.write(chunk, output),
            Some(spaces) => spaces.write(chunk, |part| self.lines.write(part, output)),
        }
    }

    /// Ends the body.
    pub(crate) fn finish(mut self, output: &mut impl FnMut(&[u8])) {
        let is_relaxed = self.spaces.is_some();
        if let Some(spaces) = self.spaces {
            spaces.finish(|part| self.lines.write(part, output));
        }
        self.lines.finish(is_relaxed, output);
    }
}

/// Drops the empty lines at the end, which are counted until something follows them.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
struct Lines {
    /// Whether anything but line ends was there.
    has_text: bool,
    /// Line ends not yet passed on.
    line_ends: u64,
    /// Whether a CR came after them.
    cr: bool,
}

impl Lines {
    fn write(&mut self, mut chunk: &[u8], output: &mut impl FnMut(&[u8])) {
        if self.cr {
            match chunk {
                [] => return,
                [b'\n', after @ ..] => {
                    self.line_ends += 1;
                    chunk = after;
                }
                _ => self.pass(b"\r", output),
            }
            self.cr = false;
        }
        let (mut text, cr) = chunk.strip_suffix(b"\r").map_or((chunk, false), |text| (text, true));
        let mut line_ends = 0;
        while let Some(front) = text.strip_suffix(b"\r\n") {
            text = front;
            line_ends += 1;
        }
        if !text.is_empty() {
            self.pass(text, output);
        }
        self.line_ends += line_ends;
        self.cr = cr;
    }

    /// Passes on the line ends that were counted, and a text behind them.
    fn pass(&mut self, text: &[u8], output: &mut impl FnMut(&[u8])) {
        const MANY: u64 = 256;
        const MANY_LINE_ENDS: [[u8; 2]; MANY as usize] = [*b"\r\n"; MANY as usize];
        while let Some(left) = self.line_ends.checked_sub(MANY) {
            output(MANY_LINE_ENDS.as_flattened());
            self.line_ends = left;
        }
        for _ in 0..self.line_ends {
            output(b"\r\n");
        }
        self.line_ends = 0;
        output(text);
        self.has_text = true;
    }

    /// A body that has text gets one line end; one that has none is a line end when simple, and
    /// nothing when relaxed.
    fn finish(mut self, is_relaxed: bool, output: &mut impl FnMut(&[u8])) {
        if self.cr {
            self.pass(b"\r", output);
        }
        if self.has_text || !is_relaxed {
            output(b"\r\n");
        }
    }
}

/// Makes each run of white space one space, and drops it at the end of a line.
///
/// The last octet of a run is the one that stays, unless a line end follows it: so two octets that
/// follow decide about each octet. Works in steps of [`STEP`] octets, whose two followers are
/// known: steps that need no change are passed on as they are, of another one a mask says which
/// octets stay. Slices are split by their type, and the text grows as it must: no length can be off.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
struct Spaces {
    /// Canonical text not yet passed on.
    text: Vec<u8>,
    /// White space of the last octets that is not decided yet.
    open: Open,
}

/// White space at the end of a chunk whose fate the next chunk decides.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Open {
    #[default]
    Nothing,
    /// White space.
    White,
    /// White space and a CR, which may begin a line end.
    WhiteCr,
}

/// Octets looked at in one go.
const STEP: usize = 32;

/// Octets passed on in one go, at the least and but for the end of a chunk.
const BUFFER: usize = 4096;

/// Octets that need no change are passed on without a copy if there are so many in a row.
const DIRECT: usize = 256;

impl Spaces {
    fn write(&mut self, chunk: &[u8], mut output: impl FnMut(&[u8])) {
        let mut rest = self.close(chunk);
        // From the first octet on that needs no change and is not written yet.
        let mut clean = rest;
        while let Some((step, after)) = rest.split_first_chunk::<STEP>()
            && let [_, nexts @ ..] = rest
            && let [_, seconds @ ..] = nexts
            && let Some(nexts) = nexts.first_chunk()
            && let Some(seconds) = seconds.first_chunk()
        {
            if !is_clean(step, nexts) {
                self.write_clean(clean, rest, &mut output);
                self.write_step(step, nexts, seconds);
                clean = after;
            }
            rest = after;
        }
        self.write_clean(clean, rest, &mut output);
        self.write_end(rest);
        self.pass(&mut output);
    }

    /// Adds what needs no change: all of a text but `rest`, which is its end.
    fn write_clean(&mut self, text: &[u8], rest: &[u8], mut output: impl FnMut(&[u8])) {
        let (clean, _) = text.split_at(text.len() - rest.len());
        if clean.len() >= DIRECT {
            self.pass(&mut output);
            output(clean);
            return;
        }
        self.text.extend_from_slice(clean);
        if self.text.len() >= BUFFER {
            self.pass(&mut output);
        }
        // As many as the text can have before it is passed on.
        self.text.reserve(BUFFER + DIRECT + 2 * STEP - self.text.len());
    }

    /// Decides about what the chunk before left open, and gives what is left of this one.
    fn close<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        match (self.open, chunk) {
            (Open::Nothing, _) | (_, []) => return chunk,
            (Open::White, [b'\r']) => {
                self.open = Open::WhiteCr;
                return &[];
            }
            // White space that goes on, or ends a line.
            (Open::White, [b' ' | b'\t', ..] | [b'\r', b'\n', ..]) => {}
            (Open::White, _) => self.text.push(b' '),
            (Open::WhiteCr, [b'\n', ..]) => self.text.push(b'\r'),
            (Open::WhiteCr, _) => self.text.extend_from_slice(b" \r"),
        }
        self.open = Open::Nothing;
        chunk
    }

    /// Adds a step. The octets that follow each of its octets, and the second ones, are there too.
    fn write_step(&mut self, step: &[u8; STEP], nexts: &[u8; STEP], seconds: &[u8; STEP]) {
        // Twice as long as it has to be, for copies of whole steps.
        let mut text = [b' '; 2 * STEP];
        // In eights, of which bits() makes the mask.
        let mut gone = [[0; 8]; STEP / 8];
        let octets =
            step.iter().zip(nexts).zip(seconds).zip(&mut text).zip(gone.as_flattened_mut());
        for ((((&octet, &next), &second), text), gone) in octets {
            let ends_line = (next == b'\r') & (second == b'\n');
            *gone = u8::from(is_white(octet) & (is_white(next) | ends_line));
            *text = if is_white(octet) { b' ' } else { octet };
        }
        let mut kept = !bits(&gone);
        let mut rest = text.as_slice();
        while kept != 0 {
            // Zeros and ones of the mask are 32 in all, as many as the octets.
            let (_, from) = rest.split_at(kept.trailing_zeros() as usize);
            kept >>= kept.trailing_zeros();
            let (run, after) = from.split_at(kept.trailing_ones() as usize);
            kept = kept.checked_shr(kept.trailing_ones()).unwrap_or(0);
            match from.first_chunk::<STEP>() {
                // Copies a whole step and drops the octets behind the run: that is quicker than to
                // copy only the run.
                Some(more) if run.len() <= STEP => {
                    let length = self.text.len() + run.len();
                    self.text.extend_from_slice(more);
                    self.text.truncate(length);
                }
                _ => self.text.extend_from_slice(run),
            }
            rest = after;
        }
    }

    /// Adds the end of a chunk, octet by octet.
    fn write_end(&mut self, mut rest: &[u8]) {
        while let [octet, after @ ..] = rest {
            match (octet, after) {
                (b' ' | b'\t', []) => return self.open = Open::White,
                (b' ' | b'\t', [b'\r']) => return self.open = Open::WhiteCr,
                (b' ' | b'\t', [b' ' | b'\t', ..] | [b'\r', b'\n', ..]) => {}
                (b' ' | b'\t', _) => self.text.push(b' '),
                (octet, _) => self.text.push(*octet),
            }
            rest = after;
        }
    }

    fn pass(&mut self, output: &mut impl FnMut(&[u8])) {
        if !self.text.is_empty() {
            output(&self.text);
            self.text.clear();
        }
    }

    /// White space at the end belongs to a line without a line end: it goes. A CR after it is no
    /// line end.
    fn finish(self, mut output: impl FnMut(&[u8])) {
        if self.open == Open::WhiteCr {
            output(b" \r");
        }
    }
}

fn is_white(octet: u8) -> bool {
    (octet == b' ') | (octet == b'\t')
}

/// A bit for each octet, which is 0 or 1; the first is the lowest.
fn bits(octets: &[[u8; 8]; STEP / 8]) -> u32 {
    octets.iter().rev().fold(0, |bits, eight| {
        // The product has bit 8k of the octets at 56 + k.
        let [eight, ..] =
            u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080).to_be_bytes();
        bits << 8 | u32::from(eight)
    })
}

/// Whether a step stays as it is: no tabs, and no space before white space or a CR.
fn is_clean(step: &[u8; STEP], nexts: &[u8; STEP]) -> bool {
    let is = |octet: u8, wanted: u8| u8::from(octet == wanted);
    let check = |found: u8, (&octet, &next): (&u8, &u8)| {
        found
            | is(octet, b'\t')
            | (is(octet, b' ') & (is(next, b' ') | is(next, b'\t') | is(next, b'\r')))
    };
    step.iter().zip(nexts).fold(0, check) == 0
}

#[cfg(test)]
pub(super) mod tests;
