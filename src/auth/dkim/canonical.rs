//! Canonicalization (RFC 6376 §3.4).

/// The canonicalization algorithms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Canonicalization {
    /// Next to no change is tolerated.
    Simple,
    /// Other white space and other folds are tolerated.
    Relaxed,
}

impl Canonicalization {
    /// Appends a header field without the CRLF at its end.
    pub(super) fn append_field(self, name: &[u8], value: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Simple => {
                output.extend_from_slice(name);
                output.push(b':');
                output.extend_from_slice(value);
            }
            Self::Relaxed => {
                output.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
                output.push(b':');
                append_relaxed_value(value, output);
            }
        }
    }
}

/// Appends the value unfolded, runs of white space as one space each, none at the beginning and the end (RFC 6376 §3.4.2).
fn append_relaxed_value(value: &[u8], output: &mut Vec<u8>) {
    let start = output.len();
    let mut white = false;
    let mut rest = value;
    loop {
        let mut end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r')).unwrap_or(rest.len());
        if let Some([b'\r', after @ ..]) = rest.get(end..)
            && after.first() != Some(&b'\n')
        {
            // A CR that begins no fold is an octet like others.
            end += 1;
        }
        let (text, after) = rest.split_at(end);
        if !text.is_empty() {
            if white && output.len() > start {
                output.push(b' ');
            }
            white = false;
            output.extend_from_slice(text);
        }
        rest = match after {
            [] => return,
            // A fold: white space follows it, or it would end the field.
            [b'\r', b'\n', rest @ ..] => rest,
            [b' ' | b'\t', rest @ ..] => {
                white = true;
                rest
            }
            // Behind a CR that begins no fold.
            rest => rest,
        };
    }
}

/// Canonicalizes a body that arrives in chunks, whatever their borders.
///
/// Lines end in CRLF. A CR or LF that stands alone is an octet like others: it ends no line and is no white space.
#[derive(Debug)]
pub(super) struct BodyCanonicalizer {
    /// `None` for simple canonicalization.
    spaces: Option<Spaces>,
    lines: Lines,
}

impl BodyCanonicalizer {
    pub(super) fn new(canonicalization: Canonicalization) -> Self {
        let spaces = (canonicalization == Canonicalization::Relaxed).then(Spaces::default);
        Self { spaces, lines: Lines::default() }
    }

    /// Takes the next octets of the body; what is certain of the canonical form goes to `output`.
    pub(super) fn write(&mut self, chunk: &[u8], output: &mut impl FnMut(&[u8])) {
        match &mut self.spaces {
            None => self.lines.write(chunk, output),
            Some(spaces) => spaces.write(chunk, |part| self.lines.write(part, output)),
        }
    }

    /// Ends the body.
    pub(super) fn finish(mut self, output: &mut impl FnMut(&[u8])) {
        let is_relaxed = self.spaces.is_some();
        if let Some(spaces) = self.spaces {
            spaces.finish(|part| self.lines.write(part, output));
        }
        self.lines.finish(is_relaxed, output);
    }
}

/// Drops the empty lines at the end, which are counted until something follows them.
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
        let Some(&first) = chunk.first() else { return };
        if self.cr {
            self.cr = false;
            if first == b'\n' {
                self.line_ends += 1;
                chunk = chunk.get(1..).unwrap_or_default();
            } else {
                self.pass_line_ends(output);
                output(b"\r");
                self.has_text = true;
            }
        }
        let (mut text, cr) = chunk.strip_suffix(b"\r").map_or((chunk, false), |text| (text, true));
        let mut line_ends = 0;
        while let Some(front) = text.strip_suffix(b"\r\n") {
            text = front;
            line_ends += 1;
        }
        if !text.is_empty() {
            self.pass_line_ends(output);
            output(text);
            self.has_text = true;
        }
        self.line_ends += line_ends;
        self.cr = cr;
    }

    fn pass_line_ends(&mut self, output: &mut impl FnMut(&[u8])) {
        const LINE_ENDS: [[u8; 2]; 256] = [*b"\r\n"; 256];
        let line_ends = LINE_ENDS.as_flattened();
        let mut octets = self.line_ends.saturating_mul(2);
        self.line_ends = 0;
        while octets > 0 {
            let count = usize::try_from(octets).unwrap_or(usize::MAX).min(line_ends.len());
            output(line_ends.get(..count).unwrap_or_default());
            octets -= count as u64;
        }
    }

    /// A body that has text gets one line end; one that has none is a line end when simple, and nothing when relaxed.
    fn finish(mut self, is_relaxed: bool, output: &mut impl FnMut(&[u8])) {
        if self.cr {
            self.pass_line_ends(output);
            output(b"\r");
            self.has_text = true;
        }
        if self.has_text || !is_relaxed {
            output(b"\r\n");
        }
    }
}

/// Makes each run of white space one space, and drops it at the end of a line.
///
/// Works in steps of [`STEP`] octets: one that needs no change is copied, which the compiler makes a few wide instructions of.
#[derive(Debug, Default)]
struct Spaces {
    /// Whether white space was seen and not yet passed on.
    white: bool,
    /// Whether a CR came after it.
    cr: bool,
}

/// Octets looked at in one go.
const STEP: usize = 32;

/// Room for what a step adds.
const ROOM: usize = 2 * STEP;

/// Octets passed on in one go.
const BUFFER: usize = 4096;

/// A piece of canonical text under construction. White space that may have to go again is its last octet.
struct Piece {
    text: [u8; BUFFER],
    length: usize,
}

impl Spaces {
    fn write(&mut self, mut chunk: &[u8], mut output: impl FnMut(&[u8])) {
        let Some(&first) = chunk.first() else { return };
        if self.cr {
            output(if first == b'\n' { b"\r" } else { b" \r" });
            *self = Self::default();
        }
        let mut piece = Piece { text: [b' '; BUFFER], length: usize::from(self.white) };
        // A step needs the octet that follows it.
        while let Some(step) = chunk.first_chunk::<{ STEP + 1 }>() {
            if piece.length + ROOM > BUFFER {
                self.pass(&mut piece, &mut output);
            }
            let follows_white = self.white && matches!(step.first(), Some(b' ' | b'\t' | b'\r'));
            match piece.text.get_mut(piece.length..piece.length + STEP) {
                Some(room) if !follows_white && is_clean(step) => {
                    room.copy_from_slice(step.first_chunk::<STEP>().unwrap_or(&[0; STEP]));
                    piece.length += STEP;
                    self.white = room.last() == Some(&b' ');
                }
                _ => self.write_whole_step(step, &mut piece),
            }
            chunk = chunk.get(STEP..).unwrap_or_default();
        }
        if piece.length + ROOM > BUFFER {
            self.pass(&mut piece, &mut output);
        }
        if let Some(&last) = chunk.last() {
            self.write_step(chunk, &mut piece);
            // Whether a CR ends a line is not known before the next octet.
            self.cr = self.white && last == b'\r';
            if !self.cr {
                self.write_step(&[last, b' '], &mut piece);
            }
        }
        self.pass(&mut piece, &mut output);
    }

    /// Adds [`STEP`] octets: all but the last one, which is there to be seen. All are judged at once, one bit for each.
    fn write_whole_step(&mut self, step: &[u8; STEP + 1], piece: &mut Piece) {
        let mut text = [b' '; ROOM];
        let (mut white, mut ends_line) = ([0; STEP], [0; STEP]);
        let octets = step.iter().zip(step.get(1..).unwrap_or_default()).zip(text.iter_mut());
        for (((&byte, &next), text), (white, ends_line)) in octets.zip(white.iter_mut().zip(&mut ends_line)) {
            let is_white = (byte == b' ') | (byte == b'\t');
            *white = u8::from(is_white);
            *ends_line = u8::from((byte == b'\r') & (next == b'\n'));
            *text = if is_white { b' ' } else { byte };
        }
        let (white, ends_line) = (bits(&white), bits(&ends_line));
        // White space gives its place to white space or a line end behind it.
        let before_gone = (white << 1 | u32::from(self.white)) & (white | ends_line);
        if before_gone & 1 == 1 {
            piece.length -= 1;
        }
        let mut kept = !(before_gone >> 1);
        let mut at = 0;
        while kept != 0 {
            let gone = kept.trailing_zeros();
            kept >>= gone;
            at += gone as usize;
            let run = kept.trailing_ones();
            // Whole steps are copied, of which what follows the run is written over: that takes no loop.
            let source = text.get(at..).and_then(<[u8]>::first_chunk::<STEP>);
            let room = piece.text.get_mut(piece.length..).and_then(<[u8]>::first_chunk_mut::<STEP>);
            if let (Some(source), Some(room)) = (source, room) {
                *room = *source;
            }
            piece.length += run as usize;
            at += run as usize;
            kept = kept.checked_shr(run).unwrap_or(0);
        }
        self.white = white >> (STEP - 1) == 1;
    }

    /// Adds at most [`STEP`] octets: all but the last one, which is there to be seen. No branches: whatever the text, none is foreseen wrongly.
    fn write_step(&mut self, step: &[u8], piece: &mut Piece) {
        // White space before the step is its first octet, since it may have to go.
        let mut white = self.white;
        let mut text = [b' '; ROOM];
        let mut length = usize::from(white);
        piece.length -= length;
        for (&byte, &next) in step.iter().zip(step.get(1..).unwrap_or_default()) {
            let is_white = (byte == b' ') | (byte == b'\t');
            let ends_line = (byte == b'\r') & (next == b'\n');
            // White space before a line end gives its place to it, white space after white space adds nothing.
            length -= usize::from(white & (ends_line | is_white));
            if let Some(place) = text.get_mut(length % ROOM) {
                *place = if is_white { b' ' } else { byte };
            }
            length += 1;
            white = is_white;
        }
        self.white = white;
        if let Some(room) = piece.text.get_mut(piece.length..piece.length + ROOM) {
            room.copy_from_slice(&text);
        }
        piece.length += length;
    }

    /// Passes on what is certain; white space at the end stays.
    fn pass(&self, piece: &mut Piece, output: &mut impl FnMut(&[u8])) {
        let kept = usize::from(self.white);
        let text = piece.text.get(..piece.length.saturating_sub(kept)).unwrap_or_default();
        if !text.is_empty() {
            output(text);
        }
        piece.length = kept;
        if let Some(first) = piece.text.first_mut() {
            *first = b' ';
        }
    }

    /// White space at the end belongs to a line without a line end: it goes. A CR after it is no line end.
    fn finish(self, mut output: impl FnMut(&[u8])) {
        if self.cr {
            output(b" \r");
        }
    }
}

/// A bit for each octet, which is 0 or 1; the first is the lowest.
fn bits(octets: &[u8; STEP]) -> u32 {
    let (eights, _) = octets.as_chunks::<8>();
    eights.iter().rev().fold(0, |bits, eight| {
        // The product has bit 8k of the octets at 56 + k.
        let eight = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << 8 | u32::try_from(eight).unwrap_or_default()
    })
}

/// Whether the text, all but its last octet, stays as it is: no tabs, and no space before white space or a CR.
fn is_clean(text: &[u8; STEP + 1]) -> bool {
    let is = |byte: u8, wanted: u8| u8::from(byte == wanted);
    let check = |found: u8, (&byte, &next): (&u8, &u8)| {
        found | is(byte, b'\t') | (is(byte, b' ') & (is(next, b' ') | is(next, b'\t') | is(next, b'\r')))
    };
    text.iter().zip(text.get(1..).unwrap_or_default()).fold(0, check) == 0
}

#[cfg(test)]
mod tests;
