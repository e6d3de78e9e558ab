//! Pairs of keys and values in a line of the log: `key=value`, or members of an object of JSON.

use std::{fmt::Write as _, net::IpAddr};

use crate::{
    config::LogFormat,
    log::{MAX_LINE, is_hidden, push_string},
    mail::{
        ip_address::push_address,
        octets::{OctetSet, first_octets},
    },
};

/// A value longer than this is cut, in octets: the pairs behind it are not to be lost.
const LIMIT: usize = 512;

/// The octets of ASCII that need no quotes: printable, but for `"`, `=` and `\\`.
static PLAIN_OCTETS: OctetSet =
    OctetSet::new(&[(b'!', b'!'), (b'#', b'<'), (b'>', b'['), (b']', b'~')]);

/// What ends a line of JSON that has no room for all pairs.
const TRUNCATED: &str = ",\"truncated\":true";

/// The pairs of a line.
///
/// What adds a pair is inlined: keys are known when the program is compiled, and their octets are copied
/// at once.
pub(super) struct Pairs<'a> {
    text: &'a mut String,
    format: LogFormat,
    /// There is no room for further pairs.
    is_full: bool,
}

impl<'a> Pairs<'a> {
    /// Adds pairs to a text, which is empty; as JSON, to an object that has a member.
    pub(super) fn new(text: &'a mut String, format: LogFormat) -> Self {
        Self { text, format, is_full: false }
    }

    /// Adds a pair.
    #[inline(always)]
    pub(super) fn pair(&mut self, key: &str, value: &str) {
        match self.format {
            LogFormat::Text => {
                push_key(self.text, key);
                push_value(self.text, value);
            }
            LogFormat::Json => self.string_member(key, value),
        }
    }

    /// Adds a pair with a word of the program, which needs no quotes.
    #[inline(always)]
    pub(super) fn word(&mut self, key: &str, word: &'static str) {
        debug_assert!(!word.is_empty() && PLAIN_OCTETS.has_all(word.as_bytes()), "{word}");
        match self.format {
            LogFormat::Text => {
                push_key(self.text, key);
                self.text.push_str(word);
            }
            LogFormat::Json => self.string_member(key, word),
        }
    }

    /// Adds a pair with a value that has parts.
    #[inline(always)]
    pub(super) fn joined(&mut self, key: &str, parts: &[&str]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let is_plain = || parts.iter().all(|part| PLAIN_OCTETS.has_all(part.as_bytes()));
        if self.format == LogFormat::Text && (1..=LIMIT).contains(&length) && is_plain() {
            push_key(self.text, key);
            parts.iter().for_each(|part| self.text.push_str(part));
        } else {
            self.pair(key, &parts.concat());
        }
    }

    /// Adds a pair where there is a value.
    #[inline(always)]
    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.pair(key, value);
        }
    }

    /// Adds a pair with a number.
    #[inline(always)]
    pub(super) fn number(&mut self, key: &str, value: usize) {
        let push_number = |text: &mut String| match u8::try_from(value) {
            // Most numbers have one digit, and need no formatting machinery.
            Ok(digit @ 0..10) => text.push(char::from(b'0' + digit)),
            // Writing to a `String` cannot fail.
            _ => drop(write!(text, "{value}")),
        };
        match self.format {
            LogFormat::Text => {
                push_key(self.text, key);
                push_number(self.text);
            }
            LogFormat::Json => self.member(key, push_number),
        }
    }

    /// Adds a pair with an address, where there is one: text that needs no quotes.
    #[inline(always)]
    pub(super) fn address(&mut self, key: &str, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        match self.format {
            LogFormat::Text => {
                push_key(self.text, key);
                push_address(self.text, address);
            }
            LogFormat::Json => self.member(key, |text| {
                text.push('"');
                push_address(text, address);
                text.push('"');
            }),
        }
    }

    /// Adds a pair for each value; as JSON, one with all of them, if there are any.
    pub(super) fn each(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        if self.format == LogFormat::Text {
            values.into_iter().for_each(|value| self.pair(key, value.as_ref()));
            return;
        }
        for (number, value) in values.into_iter().enumerate() {
            if number == 0 {
                self.member(key, |text| {
                    text.push('[');
                    push_string(text, value.as_ref(), LIMIT);
                    text.push(']');
                });
            } else if !self.is_full {
                let before = self.text.len();
                self.text.pop();
                self.text.push(',');
                push_string(self.text, value.as_ref(), LIMIT);
                self.text.push(']');
                self.bound(before, "]");
            }
        }
    }

    /// Adds a member with a string.
    fn string_member(&mut self, key: &str, value: &str) {
        self.member(key, |text| push_string(text, value, LIMIT));
    }

    /// Adds a member to an object that has one, as long as there is room.
    fn member(&mut self, key: &str, push_value: impl FnOnce(&mut String)) {
        if !self.is_full {
            let before = self.text.len();
            self.text.extend([",\"", key, "\":"]);
            push_value(self.text);
            self.bound(before, "");
        }
    }

    /// Takes back what was added, if it is too much, and marks the object as one that is not whole; `end` was the last of what was
    /// there before.
    fn bound(&mut self, before: usize, end: &str) {
        // The brace that ends the object comes as well.
        if self.text.len() + TRUNCATED.len() + 1 > MAX_LINE {
            self.text.truncate(before - end.len());
            self.text.extend([end, TRUNCATED]);
            self.is_full = true;
        }
    }
}

/// Begins a pair.
#[inline(always)]
fn push_key(text: &mut String, key: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(key);
    text.push('=');
}

/// Adds a value: a plain word as it is, anything else as [`push_odd_value`] does.
fn push_value(text: &mut String, value: &str) {
    if (1..=LIMIT).contains(&value.len()) && PLAIN_OCTETS.has_all(value.as_bytes()) {
        text.push_str(value);
    } else {
        push_odd_value(text, value);
    }
}

/// Adds a value that may be long. One that is not a plain word is quoted; quotes and backslashes in it
/// are escaped.
fn push_odd_value(text: &mut String, value: &str) {
    let is_plain_char = |c: char| !c.is_whitespace() && !is_hidden(c) && !"\"\\=".contains(c);
    if !value.is_empty() && value.chars().all(is_plain_char) {
        push_limited(text, value);
        return;
    }
    text.push('"');
    let escaped = value.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            // Writing to a `String` cannot fail.
            c if is_hidden(c) => drop(write!(escaped, "\\u{{{:x}}}", u32::from(c))),
            c => escaped.push(c),
        }
        escaped
    });
    push_limited(text, &escaped);
    text.push('"');
}

/// Adds a value, or the beginning of a long one.
fn push_limited(text: &mut String, value: &str) {
    if value.len() <= LIMIT {
        text.push_str(value);
    } else {
        let kept = first_octets(value, LIMIT);
        // Half of an escape at the cut would escape what follows.
        let backslashes = kept.len() - kept.trim_end_matches('\\').len();
        text.push_str(if backslashes % 2 == 1 {
            kept.strip_suffix('\\').unwrap_or(kept)
        } else {
            kept
        });
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{config::LogLevel, log::Log};

    #[test]
    fn octets_that_need_no_quotes() {
        for octet in 0..=u8::MAX {
            let is_plain = octet.is_ascii_graphic() && !b"\"=\\".contains(&octet);
            assert_eq!(PLAIN_OCTETS.has(octet), is_plain, "{octet}");
        }
    }

    #[test]
    fn values_are_shown_up_to_the_bound() {
        for (length, shown) in [(511, 511), (512, 512), (513, 512)] {
            let mut text = String::new();
            push_limited(&mut text, &"x".repeat(length));
            assert_eq!(
                text,
                "x".repeat(shown) + if shown < length { "..." } else { "" },
                "{length}"
            );
        }
    }

    /// What is added to a line.
    #[derive(Clone, Debug)]
    enum Addition {
        Pair(String),
        Word,
        Joined(Vec<String>),
        Number(usize),
        Each(Vec<String>),
    }

    fn any_addition() -> impl Strategy<Value = Addition> {
        let odd = "[ -~\\x00-\\x1f\u{80}-\u{9f}\u{61c}\u{2000}-\u{206f}é\u{1f600}\"\\\\=]{0,30}";
        let value = || prop_oneof![odd, "[a-z0-9.@-]{0,40}", any::<String>()];
        prop_oneof![
            value().prop_map(Addition::Pair),
            Just(Addition::Word),
            prop::collection::vec(value(), 0..4).prop_map(Addition::Joined),
            prop_oneof![0_usize..20, any::<usize>()].prop_map(Addition::Number),
            prop::collection::vec(value(), 0..4).prop_map(Addition::Each),
        ]
    }

    /// The line of the log with these additions, each with a key of its own.
    fn line(format: LogFormat, additions: &[Addition]) -> String {
        let log = Log::keep(LogLevel::Info).in_format(format);
        log.write_with(LogLevel::Info, |text, format| {
            let mut pairs = Pairs::new(text, format);
            for (number, addition) in additions.iter().enumerate() {
                let key = format!("key-{number}");
                match addition {
                    Addition::Pair(value) => pairs.pair(&key, value),
                    Addition::Word => pairs.word(&key, "mailfrom"),
                    Addition::Joined(parts) => {
                        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
                        pairs.joined(&key, &parts);
                    }
                    Addition::Number(value) => pairs.number(&key, *value),
                    Addition::Each(values) => pairs.each(&key, values),
                }
            }
        });
        log.take_kept().pop().unwrap()
    }

    /// Reads the pairs of a line of text, as the manual describes it.
    fn read_text(line: &str) -> Vec<(String, String)> {
        let mut rest = line.chars().peekable();
        let mut pairs = Vec::new();
        while rest.peek().is_some() {
            let key: String = rest.by_ref().take_while(|c| *c != '=').collect();
            let is_quoted = rest.next_if_eq(&'"').is_some();
            let mut value = String::new();
            while let Some(c) = rest.next() {
                match c {
                    '"' if is_quoted => break,
                    ' ' if !is_quoted => break,
                    '\\' => match rest.next().unwrap() {
                        'u' => {
                            assert_eq!(rest.next(), Some('{'));
                            let hex: String = rest.by_ref().take_while(|c| *c != '}').collect();
                            let code = u32::from_str_radix(&hex, 16).unwrap();
                            value.push(char::from_u32(code).unwrap());
                        }
                        c => value.push(c),
                    },
                    c => value.push(c),
                }
            }
            if is_quoted {
                rest.next();
            }
            pairs.push((key, value));
        }
        pairs
    }

    /// Reads the members of an object, arrays as several pairs.
    fn read_json(line: &str) -> Vec<(String, String)> {
        // In the order of the line, which a map would not keep.
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        let mut pairs = Vec::new();
        for (key, value) in object {
            let values = match value {
                Value::Array(values) => values,
                value => vec![value],
            };
            pairs.extend(values.into_iter().map(|value| match value {
                Value::String(text) => (key.clone(), text),
                other => (key.clone(), other.to_string()),
            }));
        }
        pairs
    }

    #[test]
    fn words_are_values() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(
                line(format, &[Addition::Word]),
                line(format, &[Addition::Pair("mailfrom".into())])
            );
        }
        for length in [511, 512, 513] {
            let parts = vec!["x".repeat(length - 1), "y".to_owned()];
            let joined = line(LogFormat::Text, &[Addition::Joined(parts.clone())]);
            assert_eq!(
                joined,
                line(LogFormat::Text, &[Addition::Pair(parts.concat())]),
                "{length}"
            );
        }
    }

    proptest! {
        /// What is written at once is written as if it were odd.
        #[test]
        fn values_are_those_of_the_slow_twin(value in prop_oneof!["[ -~é\u{80}]{0,12}", "[a-z0-9.@-]{0,30}", "[a-z]{510,514}"]) {
            let [mut text, mut twin] = [String::from("key="), String::from("key=")];
            push_value(&mut text, &value);
            push_odd_value(&mut twin, &value);
            prop_assert_eq!(text, twin);
        }

        /// The slow twin joins the parts first.
        #[test]
        fn parts_are_as_one(parts in prop::collection::vec(prop_oneof!["[a-z0-9@.-]{0,9}", "[ -~é]{0,4}", "[a-z]{120,180}", "[a-z]{170,173}", "[a-z]{255,257}"], 0..4)) {
            for format in [LogFormat::Text, LogFormat::Json] {
                let joined = line(format, &[Addition::Joined(parts.clone())]);
                prop_assert_eq!(joined, line(format, &[Addition::Pair(parts.concat())]));
            }
        }

        /// A line of JSON has the pairs of the line of text, and nothing breaks out of either.
        #[test]
        fn both_forms_say_the_same(additions in prop::collection::vec(any_addition(), 0..4)) {
            let [text, json] = [LogFormat::Text, LogFormat::Json].map(|format| line(format, &additions));
            prop_assert!(!json.chars().any(char::is_control) && !text.chars().any(char::is_control));
            let mut expected = read_text(&text);
            expected.push(("level".into(), "info".into()));
            // Values that any string can make long are cut at different places.
            let cut = |pairs: Vec<(String, String)>| {
                let mut cut: Vec<_> = pairs
                    .into_iter()
                    .map(|(key, value)| (key, value.chars().take(40).collect::<String>()))
                    .collect();
                cut.sort();
                cut
            };
            prop_assert_eq!(cut(read_json(&json)), cut(expected));
        }

        /// However much a stranger brings, the line is an object, and not too long.
        #[test]
        fn long_lines_stay_objects(
            lengths in prop::collection::vec((0_usize..1500, any::<bool>(), any::<bool>()), 0..30)
        ) {
            let additions: Vec<_> = lengths
                .iter()
                .map(|(length, is_hidden, is_list)| {
                    let value = if *is_hidden { "\u{1}" } else { "x" }.repeat(*length);
                    if *is_list { Addition::Each(vec![value; 4]) } else { Addition::Pair(value) }
                })
                .collect();
            let json = line(LogFormat::Json, &additions);
            prop_assert!(json.len() <= MAX_LINE);
            let pairs = read_json(&json);
            let is_whole = pairs.iter().all(|(key, _)| key != "truncated");
            let count = additions.iter().map(|addition| match addition {
                Addition::Each(values) => values.len(),
                _ => 1,
            });
            let all = count.sum::<usize>() + 1;
            let kept = pairs.iter().filter(|(key, _)| key != "truncated").count();
            prop_assert_eq!(is_whole, kept == all, "{}", json);
        }
    }
}
