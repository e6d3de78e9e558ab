//! Simple readers of From, each as some program has it; none of them knows of the others, or of
//! ours.

use crate::mail::domain::Domain;

type Reader = fn(&str) -> Vec<Domain>;

pub(super) const ALL: &[(&str, Reader)] = &[
    ("last bracket", last_bracket),
    ("first bracket", first_bracket),
    ("first @", first_at),
    ("last @", last_at),
    ("commas", commas),
    ("quotes", quotes),
    ("comments", comments),
    ("getdomain", getdomain),
    ("decoding", decoding),
];

/// The beginning of a text, up to white space or punctuation, if it is a domain of two labels.
fn domain(text: &str) -> Option<Domain> {
    let text = text.trim_start();
    let end =
        text.find(|c: char| c != '.' && c != '-' && !c.is_alphanumeric()).unwrap_or(text.len());
    Domain::parse(text[..end].trim_end_matches('.')).ok().filter(Domain::is_qualified)
}

fn after_at(text: &str) -> Vec<Domain> {
    text.rsplit_once('@').and_then(|(_, text)| domain(text)).into_iter().collect()
}

fn last_bracket(text: &str) -> Vec<Domain> {
    let Some((_, rest)) = text.rsplit_once('<') else { return after_at(text) };
    after_at(rest.split_once('>').map_or(rest, |(address, _)| address))
}

fn first_bracket(text: &str) -> Vec<Domain> {
    let Some((_, rest)) = text.split_once('<') else { return after_at(text) };
    after_at(rest.split_once('>').map_or(rest, |(address, _)| address))
}

fn first_at(text: &str) -> Vec<Domain> {
    text.split_once('@').and_then(|(_, text)| domain(text)).into_iter().collect()
}

fn last_at(text: &str) -> Vec<Domain> {
    after_at(text)
}

/// Each part between commas, without regard to quotes.
fn commas(text: &str) -> Vec<Domain> {
    text.split([',', ';']).flat_map(last_bracket).collect()
}

/// Each part between commas outside of quotes, and of that what is outside of quotes.
fn quotes(text: &str) -> Vec<Domain> {
    let mut quoted = false;
    let bare: String = text
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted && *c != '"'
        })
        .collect();
    commas(&bare)
}

/// The same, where parentheses are comments, and nothing else is known.
fn comments(text: &str) -> Vec<Domain> {
    let mut depth = 0_i32;
    let mut bare = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    commas(&bare)
}

/// A domain is read on over white space and comments, up to a special.
fn getdomain(text: &str) -> Vec<Domain> {
    let mut found = Vec::new();
    // Where a bracket follows, it was a display name.
    for part in text.split('@').skip(1) {
        let mut name = String::new();
        let mut rest = part.chars();
        let mut depth = 0_u32;
        let mut end = None;
        for c in rest.by_ref() {
            match c {
                '(' => depth += 1,
                ')' if depth > 0 => depth -= 1,
                _ if depth > 0 => {}
                c if c.is_whitespace() => {}
                c if c == '.' || c == '-' || c.is_alphanumeric() => name.push(c),
                c => {
                    end = Some(c);
                    break;
                }
            }
        }
        if !part.contains(['<', '"', '\\', '=']) && !matches!(end, Some('<' | '\u{2039}')) {
            found.extend(domain(&name).filter(|_| !name.starts_with('.') && !name.contains("..")));
        }
    }
    found
}

/// Encoded words are decoded first.
fn decoding(text: &str) -> Vec<Domain> {
    let text =
        text.replace("=?utf-8?q?x=40a.com?=", "x@a.com").replace("=?utf-8?b?eEBiLmNv?=", "x@b.co");
    [last_bracket(&text), first_at(&text), commas(&text)].concat()
}
