//! Encoded words, decoded as leniently as any reader might (RFC 2047).

use crate::mail::octets::count_work;

/// The text with its encoded words decoded, in the ways that readers differ in; nothing where it
/// has none.
///
/// White space between two words is left, or goes (RFC 2047 §6.2); the decoded text may have
/// encoded words again.
pub(super) fn decoded(text: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for keeps_space in [false, true] {
        let Some(once) = decode(text, keeps_space) else { continue };
        texts.extend(decode(&once, keeps_space));
        texts.push(once);
    }
    texts
}

/// `encoded-word = "=?" charset "?" encoding "?" encoded-text "?="`; charset and encoded-text are
/// whatever they are.
fn decode(text: &str, keeps_space: bool) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut found = false;
    let mut rest = text;
    while let Some((before, after)) = cut(rest, "=?") {
        let is_gap = found && !decoded.is_empty() && before.chars().all(char::is_whitespace);
        match word(after) {
            Some((word, after)) => {
                if !is_gap || keeps_space {
                    decoded.push_str(before);
                }
                decoded.push_str(&word);
                found = true;
                rest = after;
            }
            None => {
                decoded.push_str(before);
                decoded.push_str("=?");
                rest = after;
                // There is no end of a word any more.
                if cut(after, "?=").is_none() {
                    break;
                }
            }
        }
    }
    decoded.push_str(rest);
    found.then_some(decoded)
}

/// The word that a text begins with, behind the `=?`, and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    let (charset, after) = cut(text, "?")?;
    let (encoding, after) = cut(after, "?")?;
    let is_base64 = match encoding {
        "B" | "b" => true,
        "Q" | "q" => false,
        _ => return None,
    };
    let (content, after) = cut(after, "?=")?;
    let mut octets = if is_base64 { base64(content.bytes()) } else { quoted_printable(content) };
    // The language is of no use here (RFC 2231 §5).
    let charset = charset.split('*').next().unwrap_or(charset).to_ascii_lowercase();
    if charset.contains("utf-7") {
        octets = utf7(&octets);
    }
    // ASCII in characters of two or four octets.
    octets.retain(|octet| *octet != 0);
    Some((String::from_utf8_lossy(&octets).into_owned(), after))
}

/// The text before a separator, and the text behind it.
fn cut<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let parts = text.split_once(separator);
    count_work(parts.map_or(text.len(), |(before, _)| before.len() + separator.len()));
    parts
}

/// `Q` (RFC 2047 §4.2); an `=` without two digits stays.
fn quoted_printable(text: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let mut ahead = rest.clone();
        let digits = (octet == b'=')
            .then(|| Some((hexadecimal(ahead.next()?)?, hexadecimal(ahead.next()?)?)))
            .flatten();
        match (octet, digits) {
            (_, Some((high, low))) => {
                octets.push(high << 4 | low);
                rest = ahead;
            }
            (b'_', None) => octets.push(b' '),
            (octet, None) => octets.push(octet),
        }
    }
    octets
}

fn hexadecimal(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// `B` (RFC 2047 §4.1); octets that are not of the alphabet are skipped.
fn base64(text: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for octet in text {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' | b',' => 63,
            // Behind the padding another text begins.
            b'=' => {
                (bits, count) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., octet] = (bits >> count).to_be_bytes();
            octets.push(octet);
        }
    }
    octets
}

/// UTF-7 (RFC 2152), which some readers still know; characters beyond ASCII come out as octets of
/// no meaning.
fn utf7(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut parts = text.split(|octet| *octet == b'+');
    octets.extend(parts.next().into_iter().flatten());
    for part in parts {
        let encoded = part
            .iter()
            .take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'/')
            .count();
        let mut rest = part.iter().copied();
        if encoded == 0 {
            octets.push(b'+');
        } else {
            octets.extend(base64(rest.by_ref().take(encoded)));
        }
        let mut rest = rest.peekable();
        let _ = rest.next_if_eq(&b'-');
        octets.extend(rest);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn only_white_space_between_words_falls_away() {
        let (a, b) = ("=?utf-8?q?a?=", "=?utf-8?q?b?=");
        for (text, joined, apart) in [
            (format!("{a} {b}"), "ab", "a b"),
            (format!("{a} x {b}"), "a x b", "a x b"),
            (format!("{a}x{b}"), "axb", "axb"),
            (format!("x {a}"), "x a", "x a"),
            (format!("{a} x"), "a x", "a x"),
            (format!("x {a} {b} y"), "x ab y", "x a b y"),
        ] {
            assert_eq!(decode(&text, false).as_deref(), Some(joined), "{text}");
            assert_eq!(decode(&text, true).as_deref(), Some(apart), "{text}");
        }
    }
}
