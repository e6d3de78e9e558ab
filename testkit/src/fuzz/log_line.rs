//! Lines of the log, as people paste them: nothing in them reaches a terminal, and what was read
//! reads the same when it is written as the milter does.

use std::fmt::Write as _;

use spf_milter::explain::{LogLine, NotOurs, sentences};

use super::assert_printable;

pub(crate) fn check(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let line = match LogLine::parse(&text) {
        Ok(line) => line,
        Err(NotOurs(problem)) => return assert_printable(&problem),
    };
    sentences(&line).lines().for_each(assert_printable);
    let mut written = String::new();
    for (key, value) in line.pairs() {
        assert!(!key.is_empty());
        // Other keys come from JSON.
        if !key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-')
            || !key.starts_with(|c: char| c.is_ascii_lowercase())
            || key.len() > 64
        {
            return;
        }
        let _ = write!(written, " {key}=\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => written.extend(['\\', c]),
                c if c.is_control() => drop(write!(written, "\\u{{{:x}}}", u32::from(c))),
                c => written.push(c),
            }
        }
        written.push('"');
    }
    if let Ok(again) = LogLine::parse(&written) {
        assert!(again.pairs().eq(line.pairs()), "{written}");
    } else {
        // Escapes have made it too long.
        assert!(written.len() > spf_milter::explain::MAX_LINE, "{written}");
    }
}
