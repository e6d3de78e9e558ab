//! Suggestions: the probable meaning of a value that cannot be read.

/// The longest text that is guessed at, and the longest guess that is shown.
const LONGEST: usize = 200;

/// A text that comes nearer to the meaning, and a hint.
type Step = fn(&str) -> Option<(String, &'static str)>;

/// Steps that take away or replace a part, one on top of the other, until the text can be read.
const STEPS: [Step; 15] = [
    without_comment,
    without_backslash,
    without_end,
    without_quotes,
    without_rest,
    without_brackets,
    in_lower_case,
    boolean,
    sender,
    number,
    loopback,
    word,
    with_hyphens,
    joined,
    socket,
];

/// Cuts off the comment behind a value, which the format does not have: it begins with a `#` at the
/// beginning or behind white space, outside of quotes.
pub(crate) fn comment(text: &str) -> Option<(&str, &str)> {
    let mut before = None;
    let mut quoted = false;
    let mut chars = text.chars();
    loop {
        let rest = chars.as_str();
        let c = chars.next()?;
        match c {
            '"' if before != Some('\\') => quoted = !quoted,
            '#' if before.is_none_or(char::is_whitespace) && !(quoted && rest.contains('"')) => {
                return Some((text.strip_suffix(rest)?, rest));
            }
            _ => {}
        }
        before = Some(c);
    }
}

/// Whether a text stands in quotes or brackets, or begins or ends with a quote, as values do
/// elsewhere; an address with a local-part in quotes does not.
pub(crate) fn is_enclosed(text: &str) -> bool {
    const QUOTES: [char; 11] = [
        '\'', '`', '\u{b4}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201c}', '\u{201d}',
        '\u{201e}', '\u{ab}', '\u{bb}',
    ];
    let has = |open: char, close: char| text.starts_with(open) && text.ends_with(close);
    text.starts_with(QUOTES)
        || text.ends_with(QUOTES)
        || text.ends_with('"')
        || text.starts_with('"') && !text.contains("\"@")
        || has('(', ')')
        || has('{', '}')
        || has('<', '>')
}

/// Adds the probable meaning to a message: `message (expected yes or no; did you mean yes?)`.
///
/// `reads` says whether a text can be read. Where it reads one value of a list, several in one text
/// are distinguished.
pub(crate) fn explain(
    message: &mut String,
    text: &str,
    in_list: bool,
    reads: impl Fn(&str) -> bool,
) {
    if text.len() > LONGEST || message.contains("did you mean") {
        return;
    }
    let Some(meant) = meant(text, in_list, reads) else { return };
    match message.strip_suffix(')') {
        Some(open) => *message = format!("{open}; {meant})"),
        None => message.push_str(&format!(" ({meant})")),
    }
}

fn meant(text: &str, in_list: bool, reads: impl Fn(&str) -> bool) -> Option<String> {
    // Some name servers are written so elsewhere.
    if let Some((address, port)) = text.split_once('#') {
        let guess = format!("{address}:{port}");
        if reads(&guess) {
            return Some(format!("did you mean {guess}?"));
        }
    }
    let mut known: Vec<&str> = Vec::new();
    let mut rest = text.to_owned();
    let finish = |known: &[&str], guess: Option<&str>| {
        let question = guess.map(|guess| format!("did you mean {guess}?"));
        let parts: Vec<&str> = known.iter().copied().chain(question.as_deref()).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    };
    for (number, step) in STEPS.iter().enumerate() {
        if in_list && let Some(several) = several(&rest, &reads) {
            known.push("separate with commas");
            return finish(&known, Some(&several));
        }
        let Some((next, why)) = step(&rest) else { continue };
        if next != text && reads(&next) {
            known.extend(Some(why).filter(|why| !why.is_empty()));
            return finish(&known, Some(&next));
        }
        // The later steps only guess; the first say what is wrong in any case.
        if number < 4 {
            known.push(why);
            rest = next;
        }
    }
    if matches!(
        text.to_ascii_lowercase().as_str(),
        "none" | "no" | "off" | "nothing" | "null" | "-" | "\"\"" | "''"
    ) && (in_list || reads(""))
    {
        known.push("for none, leave the value empty");
    }
    finish(&known, None)
}

/// Several values with something else than commas between them.
fn several(text: &str, reads: impl Fn(&str) -> bool) -> Option<String> {
    let parts: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '|'))
        .filter(|part| !part.is_empty())
        .collect();
    (parts.len() > 1 && parts.iter().all(|part| reads(part))).then(|| parts.join(", "))
}

fn without_comment(text: &str) -> Option<(String, &'static str)> {
    let marked = [" //", " /*", " --", "#"].into_iter().find_map(|mark| text.split_once(mark));
    let (value, _) = comment(text).or(marked)?;
    Some((value.trim_end().to_owned(), "a comment needs a line of its own"))
}

fn without_backslash(text: &str) -> Option<(String, &'static str)> {
    let value = text.strip_suffix('\\')?;
    Some((
        value.trim_end().trim_end_matches(',').trim_end().to_owned(),
        "a value cannot go on in the next line",
    ))
}

fn without_end(text: &str) -> Option<(String, &'static str)> {
    let value = text.trim_end_matches([';', ',']);
    (value.len() < text.len()).then(|| (value.trim_end().to_owned(), "a value ends with its line"))
}

fn without_quotes(text: &str) -> Option<(String, &'static str)> {
    const QUOTES: [(char, char); 8] = [
        ('"', '"'),
        ('\'', '\''),
        ('`', '`'),
        ('\u{2018}', '\u{2019}'),
        ('\u{201a}', '\u{2018}'),
        ('\u{201c}', '\u{201d}'),
        ('\u{201e}', '\u{201c}'),
        ('\u{ab}', '\u{bb}'),
    ];
    let inner = |(open, close): (char, char)| text.strip_prefix(open)?.strip_suffix(close);
    let value = QUOTES.into_iter().find_map(inner)?;
    Some((value.trim().to_owned(), "a value has no quotes"))
}

fn without_rest(text: &str) -> Option<(String, &'static str)> {
    let (value, _) = text.split_once(';')?;
    Some((value.trim_end().to_owned(), "nothing can follow a value"))
}

fn without_brackets(text: &str) -> Option<(String, &'static str)> {
    let inner = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    let address = inner('[', ']').filter(|value| value.contains(':'));
    let value =
        inner('<', '>').or(address).or_else(|| inner('(', ')')).or_else(|| inner('{', '}'))?;
    Some((value.trim().to_owned(), ""))
}

fn in_lower_case(text: &str) -> Option<(String, &'static str)> {
    let lower = text.to_lowercase();
    (lower != text).then_some((lower, ""))
}

fn boolean(text: &str) -> Option<(String, &'static str)> {
    let word = match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" | "1" | "t" | "true" | "enable" | "enabled" => "yes",
        "n" | "no" | "off" | "0" | "f" | "false" | "disable" | "disabled" | "none" | "never" => {
            "no"
        }
        _ => return None,
    };
    Some((word.to_owned(), ""))
}

fn sender(text: &str) -> Option<(String, &'static str)> {
    let rest = text.strip_prefix("*@").or_else(|| text.strip_prefix('@'));
    let rest = rest.or_else(|| text.strip_prefix('*').filter(|rest| rest.starts_with('.')))?;
    Some((rest.to_owned(), ""))
}

fn number(text: &str) -> Option<(String, &'static str)> {
    if let Some((whole, zeros)) = text.split_once(['.', ','])
        && matches!(zeros, "0" | "00")
    {
        return Some((whole.to_owned(), "a number has digits alone"));
    }
    let mut groups = text.split(['_', '\'', ',', '.', ' ']);
    // Only between groups of three digits such a character can be left out: 20.5 is not 205.
    let _first = groups.next();
    let grouped = groups
        .clone()
        .all(|group| group.len() == 3 && group.bytes().all(|octet| octet.is_ascii_digit()));
    let separators: &[char] = if grouped { &['_', '\'', ',', '.', ' '] } else { &[' '] };
    let plain = text.replace(separators, "");
    let digits: String = plain.chars().take_while(char::is_ascii_digit).collect();
    let unit = plain.strip_prefix(digits.as_str())?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" if plain != text => return Some((plain, "a number has digits alone")),
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        _ => return None,
    };
    let number = digits.parse::<u32>().ok()?.checked_mul(factor)?;
    Some((number.to_string(), "without a unit"))
}

fn loopback(text: &str) -> Option<(String, &'static str)> {
    text.eq_ignore_ascii_case("localhost").then(|| ("loopback".to_owned(), ""))
}

fn word(text: &str) -> Option<(String, &'static str)> {
    let lower = text.to_ascii_lowercase();
    let word = lower.strip_prefix("log_").unwrap_or(&lower);
    let word = match word {
        "err" | "crit" | "critical" => "error",
        "warning" | "notice" => "warn",
        "information" | "informational" | "verbose" => "info",
        "trace" => "debug",
        "defer" | "deferred" | "temperror" | "451" => "tempfail",
        "continue" | "dunno" => "accept",
        "console" | "terminal" => "stderr",
        "file" => "syslog",
        word => word,
    };
    Some((word.to_owned(), ""))
}

/// Only for words: names and addresses that were joined would be others.
fn joined(text: &str) -> Option<(String, &'static str)> {
    if text.contains(['.', '@', ':', '/']) {
        return None;
    }
    let joined = text.to_lowercase().replace(['_', ' ', '-'], "");
    Some((joined, ""))
}

fn socket(text: &str) -> Option<(String, &'static str)> {
    if ["inet:", "inet6:", "unix:", "local:", "fd:"].iter().any(|kind| text.starts_with(kind)) {
        return None;
    }
    let kind = if text.starts_with('/') { "unix" } else { "inet" };
    Some((format!("{kind}:{text}"), ""))
}

fn with_hyphens(text: &str) -> Option<(String, &'static str)> {
    let hyphens = text.to_lowercase().replace('_', "-");
    Some((hyphens, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found() {
        assert_eq!(comment("a # b"), Some(("a ", "# b")));
        assert_eq!(comment("# b"), Some(("", "# b")));
        assert_eq!(comment("a\t#"), Some(("a\t", "#")));
        assert_eq!(comment("a#b"), None);
        assert_eq!(comment("\"a # b\"@example.com"), None);
        assert_eq!(comment("\"a\" # b"), Some(("\"a\" ", "# b")));
        assert_eq!(comment("a\" # b"), Some(("a\" ", "# b")));
    }

    #[test]
    fn guesses_can_be_read() {
        let is_word = |text: &str| ["fail", "softfail"].contains(&text);
        for (text, expected) in [
            ("Fail", "did you mean fail?"),
            ("fail softfail", "separate with commas; did you mean fail, softfail?"),
            ("fail; softfail", "separate with commas; did you mean fail, softfail?"),
            ("\"fail\"", "a value has no quotes; did you mean fail?"),
            (
                "'FAIL'; # x",
                "a comment needs a line of its own; a value ends with its line; a value has no quotes; did you mean fail?",
            ),
            ("fail \\", "a value cannot go on in the next line; did you mean fail?"),
            ("none", "for none, leave the value empty"),
            ("x # y", "a comment needs a line of its own"),
        ] {
            assert_eq!(meant(text, true, is_word).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(meant("x", true, is_word), None);
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        assert_eq!(
            meant("20s", false, is_number).as_deref(),
            Some("without a unit; did you mean 20?")
        );
        assert_eq!(
            meant("2 min", false, is_number).as_deref(),
            Some("without a unit; did you mean 120?")
        );
        assert_eq!(
            meant("16,384", false, is_number).as_deref(),
            Some("a number has digits alone; did you mean 16384?")
        );
        assert_eq!(
            meant("1.000.000", false, is_number).as_deref(),
            Some("a number has digits alone; did you mean 1000000?")
        );
        assert_eq!(
            meant("20.0", false, is_number).as_deref(),
            Some("a number has digits alone; did you mean 20?")
        );
        for text in ["20.5", "1.5s", "1,00,000"] {
            assert_eq!(meant(text, false, is_number), None, "{text}");
        }
        // A guess is never what is written, nor two names in one.
        assert_eq!(meant("a b.example", false, |text| !text.contains(' ')), None);
        assert_eq!(
            meant("\u{2018}x\u{2019}", false, |text| text == "x").as_deref(),
            Some("a value has no quotes; did you mean x?")
        );
        assert_eq!(meant("x", false, |text| text == "x"), None);
    }

    #[test]
    fn messages_take_the_guess_in() {
        let mut message = "'x' is bad (expected y)".to_owned();
        explain(&mut message, "Y", false, |text| text == "y");
        assert_eq!(message, "'x' is bad (expected y; did you mean y?)");
        let mut message = "bad".to_owned();
        explain(&mut message, "Y", false, |text| text == "y");
        assert_eq!(message, "bad (did you mean y?)");
    }

    #[test]
    fn long_values_are_not_guessed_at() {
        for (length, is_guessed_at) in [(199, true), (200, true), (201, false)] {
            let (text, mut message) = ("Y".repeat(length), "bad".to_owned());
            explain(&mut message, &text, false, |text| text == "y".repeat(length));
            assert_eq!(message != "bad", is_guessed_at, "{length}");
        }
    }
}
