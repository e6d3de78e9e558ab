//! Bodies, generated, and canonicalized as slowly and plainly as the RFC describes it.

use super::super::{BUFFER, STEP};

/// RFC 6376 §3.4.4, line by line and with the whole body in memory.
pub(in super::super::super) fn relaxed_by_the_letter(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in lines_of(body) {
        let mut reduced = Vec::new();
        for &octet in &line {
            // "Reduce all sequences of WSP within a line to a single SP character."
            match octet {
                b' ' | b'\t' if reduced.last() == Some(&b' ') => {}
                b' ' | b'\t' => reduced.push(b' '),
                octet => reduced.push(octet),
            }
        }
        // "Ignore all whitespace at the end of lines."
        if reduced.last() == Some(&b' ') {
            reduced.pop();
        }
        lines.push(reduced);
    }
    // "Ignore all empty lines at the end of the message body."
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

/// RFC 6376 §3.4.3: empty lines at the end go; a body without text is a single line end.
pub(in super::super::super) fn simple_by_the_letter(body: &[u8]) -> Vec<u8> {
    let mut lines = lines_of(body);
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if lines.is_empty() {
        lines.push(Vec::new());
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

/// The lines of a body, without CRLF; the text behind the last CRLF is a line too.
fn lines_of(body: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut octets = body.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        if octet == b'\r' && octets.peek() == Some(&b'\n') {
            octets.next();
            lines.push(Vec::new());
        } else {
            lines.last_mut().unwrap().push(octet);
        }
    }
    lines
}

/// Numbers that look random and are the same in each run (xorshift64*).
#[derive(Clone, Debug)]
pub(in super::super::super) struct Numbers(pub u64);

impl Numbers {
    pub(in super::super::super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }
}

/// A body of this length: text, white space in runs of all lengths, line ends whole and torn,
/// octets beyond ASCII.
pub(in super::super::super) fn random_body(numbers: &mut Numbers, length: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(length + 300);
    // How white the body is.
    let style = numbers.below(4);
    while body.len() < length {
        let run = match numbers.below(12) {
            0 => numbers.below(300),
            1 => STEP - 2 + numbers.below(5),
            _ => numbers.below(12),
        };
        match numbers.below(if style == 0 { 8 } else { 5 + 3 * style }) {
            0 => body.extend((0..run).map(|_| b" \t"[numbers.below(2)])),
            1 => body.extend_from_slice(b"\r\n"),
            2 => body.extend((0..run).map(|_| b" \t\r\na"[numbers.below(5)])),
            3 => body.extend((0..run).map(|_| u8::try_from(numbers.below(256)).unwrap())),
            4 => body.push(b" \t\r\n"[numbers.below(4)]),
            _ => body.extend((0..run).map(|_| b"abcdefghijkl \xc3\xbc"[numbers.below(15)])),
        }
    }
    body.truncate(length);
    body
}

/// Lengths of bodies: all up to 70,000 where the program is optimized; else those around each
/// border, and some between.
pub(in super::super::super) fn lengths() -> Vec<usize> {
    const MOST: usize = 70_000;
    if !cfg!(debug_assertions) {
        return (0..=MOST).collect();
    }
    let borders = [BUFFER, 2 * BUFFER, 16 * BUFFER, 65_535];
    let near = |length: &usize| {
        *length < 2 * STEP + 3
            || borders.iter().any(|border| border.abs_diff(*length) < 2 * STEP + 3)
            || length.is_multiple_of(6971)
    };
    (0..=MOST).filter(near).collect()
}
