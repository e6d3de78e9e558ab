//! Text from the network, written as a lexical token of a structured header field.
//!
//! Writing yields only printable ASCII, because the next hop may not take UTF-8 in header fields
//! (RFC 6532). Every other character becomes `\x{HEX}`, the form in which RFC 6533 §3 spells
//! internationalised addresses in ASCII. A backslash that would begin such a form by chance becomes
//! `\x{5C}`, so that [`decode`] gives back exactly what was encoded; so does a `=?`, because a
//! reader might see an encoded word (RFC 2047) in it.
//!
//! Some readers do not know quoted-pairs: for them a quoted string ends at its next quotation mark,
//! and a comment at its next parenthesis, whatever is before it. Others take a quoted string that
//! begins with a parenthesis for a comment. So these characters are encoded there too, and a
//! quoted-pair is never anything but two backslashes.

use std::borrow::Cow;

use super::octets::{OctetClasses, TextClasses};

/// The most octets that a token made of text from the network takes as written, quotes included.
///
/// A token cannot be folded, and a line must not be over 998 octets (RFC 5322 §2.1.1): [`shorten`]
/// cuts longer ones.
pub const MAX_TOKEN_LENGTH: usize = 900;

/// The text that [`shorten`] puts where it cut something out.
const CUT: &str = "...";

/// The most octets after the last `@` that survive a cut: a domain name in quotes, and a little
/// more.
const MAX_TAIL_LENGTH: usize = 300;

/// Whether the octet may be in a token (RFC 2045 §5.1: printable, no space, none of `tspecials`).
pub fn is_token_octet(octet: u8) -> bool {
    matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'~')
}

/// In an atom (RFC 5322 §3.2.3, `atext`), or the dot between atoms.
const IN_DOT_ATOM: u8 = 1;
const DOT: u8 = 2;
/// What an encoded word (RFC 2047) begins with.
const EQUALS: u8 = 4;

static CLASSES: OctetClasses = OctetClasses::new(&[
    (
        IN_DOT_ATOM,
        &[
            (b'!', b'!'),
            (b'#', b'\''),
            (b'*', b'+'),
            (b'-', b'9'),
            (b'=', b'='),
            (b'?', b'?'),
            (b'A', b'Z'),
            (b'^', b'~'),
        ],
    ),
    (DOT, &[(b'.', b'.')]),
    (EQUALS, &[(b'=', b'=')]),
]);

/// Whether the octet may be in an atom (RFC 5322 §3.2.3, `atext`).
#[cfg(any(test, feature = "testing"))]
pub fn is_atom_octet(octet: u8) -> bool {
    CLASSES.of(octet) & (IN_DOT_ATOM | DOT) == IN_DOT_ATOM
}

/// Whether the text is a token (RFC 2045 §5.1).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_octet)
}

/// Whether the text is a `dot-atom-text` (RFC 5322 §3.2.3).
pub fn is_dot_atom(text: &str) -> bool {
    are_of_dot_atom(CLASSES.of_all(text, DOT))
}

/// Whether the text is a `dot-atom-text` in which no reader could see an encoded word (RFC 2047).
pub fn is_harmless_dot_atom(text: &str) -> bool {
    let found = CLASSES.of_all(text, DOT);
    are_of_dot_atom(found) && (found.any & EQUALS == 0 || !text.contains("=?"))
}

/// Whether these classes are those of a `dot-atom-text`. There has to be an atom behind each dot, and one
/// before it, as if a dot were before the text.
fn are_of_dot_atom(found: TextClasses) -> bool {
    found.all & IN_DOT_ATOM != 0 && (found.in_a_row | found.last) & DOT == 0
}

/// Whether a reader could see an encoded word (RFC 2047) in the text.
pub fn may_begin_encoded_word(text: &str) -> bool {
    text.as_bytes().contains(&b'=') && text.contains("=?")
}

/// Writes text as printable ASCII: every other character becomes `\x{HEX}` (RFC 6533 §3), and so
/// do further ones: the condition is given each character, and the octets before it. [`decode`]
/// undoes it.
fn encode(text: &str, is_special: impl Fn(char, usize) -> bool) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut is_changed = false;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        let rest = characters.as_str();
        let begins_form = c == '\\' && rest.starts_with("x{") || c == '=' && rest.starts_with('?');
        if !matches!(c, ' '..='~') || begins_form || is_special(c, at) {
            push_escape(&mut out, c);
            is_changed = true;
        } else {
            out.push(c);
        }
    }
    if is_changed { Cow::Owned(out) } else { Cow::Borrowed(text) }
}

/// Whether the text is printable, and has nothing that is encoded anywhere.
fn is_plain(text: &str) -> bool {
    // Nearly no text has another; all octets are looked at, so that many are at once.
    text.bytes().fold(true, |plain, b| plain & is_plain_octet(b))
}

/// Whether the octet is printable, and encoded nowhere.
fn is_plain_octet(b: u8) -> bool {
    matches!(b, b' '..=b'~') & (b != b'\\') & (b != b'=') & (b != b'"') & (b != b'(') & (b != b')')
}

/// Whether a text has nothing to encode or to shorten in a comment, and no space but one between two
/// words.
pub fn is_plain_comment(text: &str) -> bool {
    let (Some((first, behind)), Some(last)) = (text.as_bytes().split_first(), text.bytes().last())
    else {
        return false;
    };
    // Each octet but the last, and the one behind it.
    let pairs = text.bytes().zip(behind);
    let is_good = |a, b| is_plain_octet(a) & ((a != b' ') | (b != b' '));
    text.len() + 2 <= MAX_TOKEN_LENGTH
        && *first != b' '
        && last != b' '
        && is_plain_octet(last)
        && pairs.fold(true, |good, (a, &b)| good & is_good(a, b))
}

fn push_escape(out: &mut String, c: char) {
    out.push_str("\\x{");
    out.push_str(&format!("{:X}", u32::from(c)));
    out.push('}');
}

/// Undoes `encode`. Text that is no `\x{HEX}` stays as it is.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains("\\x{") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        out.push_str(before);
        if let Some((c, tail)) = escaped_character(after) {
            out.push(c);
            rest = tail;
        } else {
            out.push_str("\\x{");
            rest = after;
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Reads `HEX}`: 1 to 6 hexadecimal digits.
fn escaped_character(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    let mut code = characters.next()?.to_digit(16)?;
    for _ in 0..6 {
        match characters.next()? {
            '}' => return Some((char::from_u32(code)?, characters.as_str())),
            digit => code = code << 4 | digit.to_digit(16)?,
        }
    }
    None
}

/// The octets that a character takes at most in a quoted string or a comment, once encoded.
fn written_length(c: char) -> usize {
    match c {
        // As if they had to be written `\\x{5C}`, and so on.
        '\\' | '=' | '"' | '(' | ')' => 7,
        ' '..='~' => 1,
        // `\\x{HEX}`.
        c => 5 + hex_digits(c),
    }
}

fn hex_digits(c: char) -> usize {
    (1..6).find(|digits| u32::from(c) >> (4 * digits) == 0).unwrap_or(6)
}

/// The octets that a text takes at most as a token, quotes included.
pub fn token_length(text: &str) -> usize {
    2 + text.chars().map(written_length).sum::<usize>()
}

/// Cuts a text that would be too long as a token: at most [`MAX_TOKEN_LENGTH`] octets are left as
/// written, with `...` where something is missing.
///
/// Of an address the local-part is cut, not the domain (what follows the last `@`), which says more
/// about a sender.
#[inline]
pub fn shorten(text: &str) -> Cow<'_, str> {
    // No character takes more than 11 octets: short texts, which is nearly all of them, need not be
    // counted.
    if text.len() * 11 + 2 <= MAX_TOKEN_LENGTH { Cow::Borrowed(text) } else { shorten_long(text) }
}

fn shorten_long(text: &str) -> Cow<'_, str> {
    if token_length(text) <= MAX_TOKEN_LENGTH {
        return Cow::Borrowed(text);
    }
    let tail = text
        .rfind('@')
        .map(|at| text.split_at(at).1)
        .filter(|tail| token_length(tail) <= MAX_TAIL_LENGTH);
    let (tail, tail_length) = tail.map_or(("", 2), |tail| (tail, token_length(tail)));
    let mut left = MAX_TOKEN_LENGTH - CUT.len() - tail_length;
    let mut out = String::with_capacity(MAX_TOKEN_LENGTH);
    for c in text.chars() {
        match left.checked_sub(written_length(c)) {
            Some(rest) => left = rest,
            None => break,
        }
        out.push(c);
    }
    out.push_str(CUT);
    out.push_str(tail);
    Cow::Owned(out)
}

/// Adds a text as a quoted string (RFC 5322 §3.2.4), shortened and encoded.
pub fn push_quoted(out: &mut String, text: &str) {
    if text.len() + 2 <= MAX_TOKEN_LENGTH && is_plain(text) {
        // It is written as it is.
        return out.extend(["\"", text, "\""]);
    }
    let text = shorten(text);
    let text = encode(&text, |c, before| c == '"' || c == '(' && before == 0);
    out.push('"');
    push_with_pairs(out, &text);
    out.push('"');
}

/// Adds a text as a `value` of MIME (RFC 2045 §5.1): a token if it is one, else a quoted string.
///
/// A token with a dot at an end or two in a row is quoted as well: some readers cut tokens into
/// atoms at their dots.
pub fn push_value(out: &mut String, text: &str) {
    let text = shorten(text);
    if is_token(&text) && is_dot_atom(&text) {
        out.push_str(&text)
    } else {
        push_quoted(out, &text)
    }
}

/// Adds ASCII text, with quoted-pairs for its backslashes.
fn push_with_pairs(out: &mut String, text: &str) {
    // Nearly no text has one, and octets are compared faster than characters are searched for.
    if !text.as_bytes().contains(&b'\\') {
        return out.push_str(text);
    }
    for (number, part) in text.split('\\').enumerate() {
        if number > 0 {
            out.push_str("\\\\");
        }
        out.push_str(part);
    }
}

/// Writes a text as a comment (RFC 5322 §3.2.2): the words between which it may be folded, one
/// after the other.
///
/// Each word is shortened on its own. A space that begins or ends the text or follows another space
/// is encoded, so that no line of a folded comment is blank.
pub fn write_comment(text: &str, mut give: impl FnMut(&str)) {
    // A text that needs no shortening as a whole needs none in its words.
    let text = match shorten(text) {
        Cow::Borrowed(text) => Cow::Borrowed(text),
        Cow::Owned(_) => Cow::Owned(text.split(' ').map(shorten).collect::<Vec<_>>().join(" ")),
    };
    let text = encode(&text, |c, _| matches!(c, '(' | ')'));
    let mut word = String::with_capacity(64);
    word.push('(');
    let mut blank = true;
    let mut rest = &*text;
    loop {
        // Words are short: a loop over octets is faster than a search for a character.
        let (part, after) =
            rest.split_at(rest.bytes().position(|b| b == b' ').unwrap_or(rest.len()));
        let after = after.strip_prefix(' ');
        push_with_pairs(&mut word, part);
        blank &= part.is_empty();
        let Some(after) = after else { break };
        if blank || after.is_empty() {
            word.push_str("\\\\x{20}");
            blank = false;
        } else {
            give(&word);
            word.clear();
            blank = true;
        }
        rest = after;
    }
    word.push(')');
    give(&word);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::lexer::Cursor;
    use proptest::prelude::*;

    fn encoded(text: &str) -> Cow<'_, str> {
        encode(text, |_, _| false)
    }

    fn comment(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        write_comment(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn octets() {
        for octet in 0..=u8::MAX {
            let is_one_of = |special: &[u8]| octet.is_ascii_graphic() && !special.contains(&octet);
            assert_eq!(is_token_octet(octet), is_one_of(b"()<>@,;:\\\"/[]?="), "{octet}");
            assert_eq!(is_atom_octet(octet), is_one_of(b"()<>@,;:\\\"[]."), "{octet}");
        }
        for (text, expected) in [
            ("a.b", true),
            ("a", true),
            ("", false),
            (".a", false),
            ("a.", false),
            ("a..b", false),
            ("a b", false),
        ] {
            assert_eq!(is_dot_atom(text), expected, "{text}");
        }
    }

    #[test]
    fn printable_text_stays() {
        assert!(matches!(encoded("a \"b\" (c) \\d"), Cow::Borrowed(_)));
        assert_eq!(encoded("bücher\n"), "b\\x{FC}cher\\x{A}");
        assert_eq!(encoded("\\x{41}"), "\\x{5C}x{41}");
        assert_eq!(
            decode("\\x{110000} \\x{} \\x{41 \\x{1F600}"),
            "\\x{110000} \\x{} \\x{41 \u{1F600}"
        );
    }

    #[test]
    fn long_addresses_keep_their_domain() {
        let short = shorten("u@example.com");
        assert_eq!(short, "u@example.com");
        let long = format!("{}@example.com", "l".repeat(2000));
        let cut = shorten(&long);
        assert_eq!(token_length(&cut), MAX_TOKEN_LENGTH);
        assert!(cut.ends_with("l...@example.com"));
        // Two octets are the quotes.
        for (length, is_whole) in [(897, true), (898, true), (899, false)] {
            let text = "x".repeat(length);
            assert_eq!(
                (shorten(&text) == text, token_length(&shorten(&text))),
                (is_whole, (length + 2).min(900)),
                "{length}"
            );
        }
        let name = "n".repeat(2000);
        assert!(shorten(&name).ends_with("n..."));
        assert!(shorten(&"@".repeat(2000)).ends_with("@...@"));
    }

    #[test]
    fn blanks_in_comments_survive_folding() {
        assert_eq!(comment("a  b").join(" "), "(a \\\\x{20}b)");
        assert_eq!(comment(" a   b ").join(" "), "(\\\\x{20}a \\\\x{20} b\\\\x{20})");
        assert_eq!(comment(" ").join(" "), "(\\\\x{20})");
        assert_eq!(comment("").join(" "), "()");
    }

    proptest! {
        /// The slow twin looks at one atom after the other.
        #[test]
        fn dot_atoms_are_those_of_the_slow_twin(text in prop_oneof!["[a-z0-9.@-]{0,8}", "[!-~]{0,4}", "[=?.a]{0,6}", ".{0,3}"]) {
            let is_atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atom_octet);
            prop_assert_eq!(is_dot_atom(&text), text.split('.').all(is_atom), "{:?}", text);
            let is_harmless = text.split('.').all(is_atom) && !text.contains("=?");
            prop_assert_eq!(is_harmless_dot_atom(&text), is_harmless, "{:?}", text);
        }

        /// The slow twin takes one character after the other.
        #[test]
        fn quoted_strings_are_those_of_the_slow_twin(
            text in prop_oneof!["[a-z@.]{0,20}", "[a-z(=?x{\\\\\"é\t]{0,12}", "[a-z]{890,905}", "[a-z=]{120,140}"],
        ) {
            let short = shorten(&text);
            let mut twin = String::from("\"");
            for (at, c) in short.char_indices() {
                let (_, rest) = short.split_at(at);
                let begins_form = rest.starts_with("\\x{") || rest.starts_with("=?");
                if begins_form || c == '"' || c == '(' && at == 0 || !matches!(c, ' '..='~') {
                    twin += &format!("\\\\x{{{:X}}}", u32::from(c));
                } else if c == '\\' {
                    twin += "\\\\";
                } else {
                    twin.push(c);
                }
            }
            twin.push('"');
            let mut quoted = String::new();
            push_quoted(&mut quoted, &text);
            prop_assert_eq!(quoted, twin);
        }

        #[test]
        fn encoding_is_undone(text in "(\\PC|=|\\?|\\\\|x|\\{|4|1|\\}|[\\x00-\\x1f])*") {
            let written = encoded(&text);
            prop_assert!(written.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(decode(&written), text.as_str());
        }

        #[test]
        fn tokens_are_bounded_and_read_back(text in ".{0,3000}") {
            let text = text + "\\\"()\n";
            let mut quoted = String::new();
            push_quoted(&mut quoted, &text);
            prop_assert!(quoted.len() <= MAX_TOKEN_LENGTH);
            prop_assert_eq!(Cursor::new(quoted.as_bytes()).quoted_string().unwrap(), shorten(&text).into_owned());
        }

        #[test]
        fn comments_read_back(text in "[a-c=? \\\\\"()\\n\u{0}ü]{0,400}") {
            let words = comment(&text);
            prop_assert!(words.iter().all(|word| !word.is_empty() && !word.contains(' ') && word.len() <= MAX_TOKEN_LENGTH + 20));
            let read = Cursor::new(words.join("\n ").as_bytes()).skip_cfws().unwrap();
            prop_assert_eq!(read, Some(text));
        }
    }
}
