//! Reads lines of the log, strictly as they are written (`spf-milter(8)`, LOGGING).

use super::{
    json,
    line::{LogLine, NotOurs, Pair, is_cut, not_ours},
};
use crate::log::is_hidden;

/// The most octets of a line: more than any has that the milter writes.
pub const MAX_LINE: usize = 1 << 18;

/// The most octets before a line that syslog or a log file puts there.
const MAX_PREFIX: usize = 512;

/// The name with which the milter logs.
const TAG: &str = "spf-milter";

impl LogLine {
    /// Reads a line, as pairs or as an object of JSON. What syslog puts before it is skipped.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what was expected.
    pub fn parse(line: &str) -> Result<Self, NotOurs> {
        let line = line.trim();
        if line.len() > MAX_LINE {
            return Err(NotOurs(format!("the line has more than {MAX_LINE} octets")));
        }
        let text = without_prefix(line);
        let pairs = if text.starts_with('{') { json::pairs(text)? } else { pairs(text)? };
        if pairs.is_empty() {
            return Err(not_ours("it is empty"));
        }
        Ok(Self::new(pairs))
    }
}

/// The line without what comes before it in the journal or in a log file: a severity, or a time,
/// the name of the host, and that of the program.
fn without_prefix(line: &str) -> &str {
    let line = without_severity(line);
    if starts_with_pair(line) || line.starts_with('{') {
        return line;
    }
    let mut rest = line;
    // The first mention counts: what strangers wrote can only come after it.
    while let Some((before, after)) = rest.split_once(TAG) {
        let is_word = before.is_empty() || before.ends_with([' ', '\t', '/']);
        if line.len() - after.len() > MAX_PREFIX {
            break;
        }
        if let Some(text) = after_tag(after).filter(|_| is_word) {
            return without_severity(text);
        }
        rest = after;
    }
    without_severity(line)
}

/// What follows `spf-milter` in `spf-milter[PID]: ` and `spf-milter: `; with RFC 5424 in
/// `spf-milter PID - - `.
fn after_tag(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(text) = text.strip_prefix(": ") {
        return Some(text);
    }
    if let Some(text) = text.strip_prefix('[') {
        return text.split_at_checked(digits(text))?.1.strip_prefix("]: ");
    }
    let text = text.strip_prefix(' ')?;
    text.split_at_checked(digits(text))?.1.strip_prefix(" - - ")
}

/// The line without the severity that the milter puts before it on standard error, and before
/// warnings and errors.
fn without_severity(line: &str) -> &str {
    let line = match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((number, rest)) if number.len() <= 3 && number.parse::<u8>().is_ok() => rest,
        _ => line,
    };
    let line = line.trim_start();
    line.strip_prefix("error: ").or_else(|| line.strip_prefix("warning: ")).unwrap_or(line)
}

fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.len() <= 64
        && key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-')
}

fn starts_with_pair(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// Reads pairs with one space between them.
fn pairs(mut text: &str) -> Result<Vec<Pair>, NotOurs> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text
            .split_once('=')
            .filter(|(key, _)| is_key(key))
            .ok_or_else(|| not_ours(&format!("no key and = at '{}'", shown(text))))?;
        let (value, rest, length) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = unquote(quoted).map_err(|problem| {
                    not_ours(&format!("{problem} in the value of '{key}', so the line may be cut"))
                })?;
                // The closing quote does not count.
                (value, rest, quoted.len() - rest.len() - 1)
            }
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                let (value, rest) = rest.split_at(end);
                let is_plain = |c: char| {
                    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '=')
                };
                if value.is_empty() || !value.chars().all(is_plain) {
                    return Err(not_ours(&format!("the value of '{key}' needs quotes")));
                }
                (value.to_owned(), rest, value.len())
            }
        };
        let is_cut = is_cut(&value, length);
        pairs.push(Pair { key: key.to_owned(), value, is_cut });
        text = match rest.strip_prefix(' ') {
            Some(rest) if !rest.is_empty() => rest,
            None if rest.is_empty() => rest,
            _ => return Err(not_ours(&format!("no pair after the value of '{key}'"))),
        };
    }
    Ok(pairs)
}

/// Reads what follows an opening quote: the value, and what follows the closing quote.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or("no closing quote")? {
            '"' => return Ok((value, chars.as_str())),
            '\\' => match chars.next().ok_or("no closing quote")? {
                c @ ('"' | '\\') => value.push(c),
                'u' => {
                    let rest = chars.as_str();
                    if let Some((c, after)) = hidden_character(rest) {
                        value.push(c);
                        chars = after.chars();
                    } else if let Some(after) = cut_character(rest) {
                        value.push_str("...");
                        return Ok((value, after));
                    } else {
                        return Err("bad \\u{...}");
                    }
                }
                _ => return Err("a \\ that escapes nothing"),
            },
            c if c.is_control() => return Err("a control character"),
            c => value.push(c),
        }
    }
}

/// Reads `{HEX}` for a character that is not shown as it is, as it is written: without a 0 in front.
fn hidden_character(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = text.strip_prefix('{')?.split_once('}')?;
    let code = u32::from_str_radix(digits, 16).ok()?;
    let c = char::from_u32(code).filter(|c| is_hidden(*c) && format!("{code:x}") == digits)?;
    Some((c, rest))
}

/// Reads the rest of a value that was cut within `\u{HEX}`; returns what follows it.
fn cut_character(text: &str) -> Option<&str> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    text.strip_prefix("...\"")
}

/// The beginning of a text, harmless.
fn shown(text: &str) -> String {
    const MOST: usize = 40;
    text.chars().take(MOST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<(String, String)> {
        let line = LogLine::parse(line).unwrap();
        line.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn prefixes_are_skipped() {
        let expected =
            vec![("action".to_owned(), "fail".to_owned()), ("reason".into(), "x".into())];
        for prefix in [
            "",
            "  ",
            "error: ",
            "<3>error: ",
            "<6>",
            "Nov 27 08:51:02 mail spf-milter[123]: error: ",
            "2026-11-27T08:51:02.123456+00:00 mail spf-milter[123]: ",
            "2026-11-27T08:51:02Z spf-milter.example.org spf-milter[1]: error: ",
            "Nov  7 08:51:02 spf-milter spf-milter: error: ",
            "<22>1 2026-11-27T08:51:02Z mail spf-milter 123 - - error: ",
            "Nov 27 08:51:02 mail /usr/sbin/spf-milter[123]: ",
        ] {
            assert_eq!(read(&format!("{prefix}action=fail reason=x")), expected, "{prefix}");
        }
        let line = r#"{"action":"fail","reason":"x"}"#;
        assert_eq!(read(line), expected);
        assert_eq!(read(&format!("Nov 27 08:51:02 mail spf-milter[123]: {line}")), expected);
    }

    #[test]
    fn values_in_quotes() {
        assert_eq!(
            read(r#"helo="a\" b\\=\u{d}\u{1b}[" problem="""#),
            [
                ("helo".to_owned(), "a\" b\\=\r\u{1b}[".to_owned()),
                ("problem".to_owned(), String::new())
            ]
        );
        assert_eq!(read("helo=\"\\u{2028}\\u{202e}\"")[0].1, "\u{2028}\u{202e}");
        for cut in ["\\u", "\\u{", "\\u{1", "\\u{1b"] {
            let line = format!("helo=\"{}{cut}...\" queue-id=4X", "a ".repeat(255));
            let pairs = read(&line);
            assert_eq!(pairs[0].1, format!("{}...", "a ".repeat(255)));
            assert_eq!(pairs[1].1, "4X");
        }
    }

    #[test]
    fn others_are_told_apart() {
        for (line, problem) in [
            ("", "it is empty"),
            ("hello", "no key and = at 'hello'"),
            ("Nov 27 08:51:02 mail postfix/smtpd[9]: connect from x", "no key and = at"),
            ("\u{1b}[2J", "at '\\u{1b}[2J'"),
            ("A=b", "no key and = at 'A=b'"),
            ("result=", "the value of 'result' needs quotes"),
            ("result=a\"b", "the value of 'result' needs quotes"),
            ("result=a=b", "the value of 'result' needs quotes"),
            ("result=pass ", ""),
            ("result=pass  action=accept", "no key and = at ' action=accept'"),
            ("result=\"pass\"action=accept", "no pair after the value of 'result'"),
            ("result=\"pass", "no closing quote in the value of 'result'"),
            ("result=\"pa\\ss\"", "a \\ that escapes nothing"),
            ("result=\"\\u{41}\"", "bad \\u{...}"),
            ("result=\"\\u{0001}\"", "bad \\u{...}"),
            ("result=\"\\u{+1}\"", "bad \\u{...}"),
            ("result=\"a\u{7}\"", "a control character"),
            ("{\"a\":", "JSON"),
        ] {
            match LogLine::parse(line) {
                Ok(_) => assert_eq!(problem, "", "{line}"),
                Err(NotOurs(found)) => {
                    assert!(!problem.is_empty() && found.contains(problem), "{line}: {found}");
                    assert!(found.contains("expected"), "{found}");
                }
            }
        }
        let long = format!("helo={}", "a".repeat(MAX_LINE));
        assert!(LogLine::parse(&long).unwrap_err().0.contains("more than 262144 octets"));
    }
}
