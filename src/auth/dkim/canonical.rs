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
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b' ' | b'\t', _) => white = true,
            // A fold, or the end of the field.
            (b'\r', [b'\n', b' ' | b'\t', ..] | [b'\n']) => {
                rest = tail.get(1..).unwrap_or_default();
                continue;
            }
            _ => {
                if white && output.len() > start {
                    output.push(b' ');
                }
                white = false;
                output.push(byte);
            }
        }
        rest = tail;
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
/// Text without such runs passes as it is, in pieces as large as they come.
#[derive(Debug, Default)]
struct Spaces {
    /// Whether white space was seen and not yet passed on.
    white: bool,
    /// Whether a CR came after it.
    cr: bool,
}

impl Spaces {
    fn write(&mut self, mut chunk: &[u8], mut output: impl FnMut(&[u8])) {
        if self.cr {
            let Some(first) = chunk.first() else { return };
            if *first != b'\n' {
                output(b" ");
            }
            output(b"\r");
            *self = Self::default();
        }
        loop {
            if self.white {
                let end = chunk.iter().position(|&byte| byte != b' ' && byte != b'\t').unwrap_or(chunk.len());
                chunk = chunk.get(end..).unwrap_or_default();
                match chunk {
                    [] => return,
                    [b'\r'] => {
                        self.cr = true;
                        return;
                    }
                    [b'\r', b'\n', ..] => {}
                    _ => output(b" "),
                }
                self.white = false;
            }
            let (text, rest) = chunk.split_at_checked(white_run(chunk)).unwrap_or((chunk, &[]));
            if !text.is_empty() {
                output(text);
            }
            if rest.is_empty() {
                return;
            }
            self.white = true;
            chunk = rest;
        }
    }

    /// White space at the end belongs to a line without a line end: it goes. A CR after it is no line end.
    fn finish(self, mut output: impl FnMut(&[u8])) {
        if self.cr {
            output(b" \r");
        }
    }
}

/// Where the first white space is that cannot stay as it is, or may not: a tab, or a space before white space, a CR or the end.
fn white_run(text: &[u8]) -> usize {
    /// Octets looked at in one go: the compiler makes a few wide instructions of it.
    const STEP: usize = 64;
    let is_run = |byte: u8, next: u8| byte == b'\t' || (byte == b' ' && (next == b' ' || next == b'\t' || next == b'\r'));
    let mut start = 0;
    while let Some(window) = text.get(start..).and_then(|rest| rest.first_chunk::<{ STEP + 1 }>()) {
        let found = window.iter().zip(&window[1..]).fold(false, |found, (&byte, &next)| found | is_run(byte, next));
        if found {
            break;
        }
        start += STEP;
    }
    let rest = text.get(start..).unwrap_or_default();
    let next = rest.iter().skip(1).chain(b" ");
    rest.iter().zip(next).position(|(&byte, &next)| is_run(byte, next)).map_or(text.len(), |position| start + position)
}

#[cfg(test)]
mod tests;
