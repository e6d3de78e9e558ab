//! A line in sentences.

use super::{line::LogLine, words::explain_pair};
use crate::mail::harmless::harmless;

/// What the line is about, and each pair of it with its meaning below.
pub fn sentences(line: &LogLine) -> String {
    let mut text = format!("{}\n", about(line));
    for (key, value) in line.pairs() {
        text.push_str(&format!("\n{}={}\n", harmless(key), harmless(value)));
        let meaning = explain_pair(line, key, value);
        let meaning = meaning
            .as_deref()
            .unwrap_or("This version of the program does not know what it means.");
        let mut chars = meaning.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        let meaning: String = first.into_iter().chain(chars).collect();
        text.push_str(&format!("    {}\n", harmless(&meaning)));
        if line.is_cut(key, value) {
            text.push_str("    The value was longer, and was cut when the line was written.\n");
        }
    }
    text
}

fn about(line: &LogLine) -> &'static str {
    let has = |key| line.get(key).is_some();
    match line.get("action") {
        Some("skip") => "The line is about an identity that was not verified.",
        Some("exempt") => "The line is about a client or a message that was not verified.",
        Some("fail") => "The line is about a failure of the milter.",
        _ if has("identity") => "The line is about an identity that was verified with SPF.",
        _ if has("deleted-tags") || has("deleted-authentication-results") => {
            "The line is about header fields that were deleted."
        }
        Some(_) => "The line is about a message that was received to its end.",
        None => "The line is about a message.",
    }
}
