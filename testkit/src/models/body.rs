//! Body canonicalization (RFC 6376 §3.4.3, §3.4.4) of a body that is there as a whole.
//!
//! A CR or LF by itself is an octet like others: it ends no line and is not white space.

use ring::digest::{SHA256, digest};

/// The lines of a body, without the CRLF at their ends. The last one has none.
fn lines(body: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut at = 0;
    while at < body.len() {
        if body[at..].starts_with(b"\r\n") {
            lines.push(Vec::new());
            at += 2;
        } else {
            lines.last_mut().unwrap().push(body[at]);
            at += 1;
        }
    }
    lines
}

/// A line with white space as relaxed canonicalization leaves it.
fn relax(line: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::new();
    for octet in line {
        match octet {
            b' ' | b'\t' if relaxed.last() == Some(&b' ') => {}
            b' ' | b'\t' => relaxed.push(b' '),
            other => relaxed.push(*other),
        }
    }
    if relaxed.last() == Some(&b' ') {
        relaxed.pop();
    }
    relaxed
}

/// The canonical body.
pub fn canonicalize(body: &[u8], relaxed: bool) -> Vec<u8> {
    let mut lines = lines(body);
    if relaxed {
        lines.iter_mut().for_each(|line| *line = relax(line));
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    // §3.4.3: an empty body becomes CRLF; §3.4.4: nothing.
    if lines.is_empty() && !relaxed {
        lines.push(Vec::new());
    }
    let mut canonical = Vec::new();
    for line in lines {
        canonical.extend_from_slice(&line);
        canonical.extend_from_slice(b"\r\n");
    }
    canonical
}

/// The hash of a canonical body, as far as `l=` goes; `None` where that goes further than the body.
pub fn hash(body: &[u8], relaxed: bool, length: Option<usize>) -> Option<[u8; 32]> {
    let canonical = canonicalize(body, relaxed);
    let covered = match length {
        Some(length) if length > canonical.len() => return None,
        Some(length) => &canonical[..length],
        None => &canonical[..],
    };
    digest(&SHA256, covered).as_ref().try_into().ok()
}
