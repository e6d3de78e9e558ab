//! Characters beyond ASCII that are taken for others, or not seen at all.

/// The text with ASCII in place of the compatible forms (Unicode NFKC) of the characters of the
/// grammar; `None` where there are none.
pub(super) fn specials(value: &[u8]) -> Option<String> {
    // Most are ASCII, and then there are none.
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_ascii())?;
    text.contains(|c| special(c).is_some())
        .then(|| text.chars().map(|c| special(c).unwrap_or(c)).collect())
}

fn special(c: char) -> Option<char> {
    compatible(c).filter(|ascii| r#"()<>[]:;@\,.""#.contains(*ascii))
}

/// The ASCII character that a full-width, small, vertical or raised form is compatible with (NFKC).
fn compatible(c: char) -> Option<char> {
    Some(match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c).checked_sub(0xfee0)?)?,
        '\u{fe10}' | '\u{fe50}' => ',',
        '\u{2024}' | '\u{fe52}' => '.',
        '\u{37e}' | '\u{fe14}' | '\u{fe54}' => ';',
        '\u{fe13}' | '\u{fe55}' => ':',
        '\u{207d}' | '\u{208d}' | '\u{fe35}' | '\u{fe59}' => '(',
        '\u{207e}' | '\u{208e}' | '\u{fe36}' | '\u{fe5a}' => ')',
        '\u{fe47}' => '[',
        '\u{fe48}' => ']',
        '\u{fe64}' => '<',
        '\u{fe65}' => '>',
        '\u{fe68}' => '\\',
        '\u{fe6b}' => '@',
        _ => return None,
    })
}

/// The character that a reader may take one for: ASCII where it is compatible with it, or looks
/// like a bracket or dot; a space for white space of all kinds; `None` where it is invisible.
pub(super) fn ascii_of(c: char) -> Option<char> {
    Some(match c {
        c if c.is_ascii() || is_misleading(c) => c,
        c if is_invisible(c) => return None,
        c if c.is_whitespace() => ' ',
        '\u{3002}' | '\u{ff61}' => '.',
        '\u{ab}' | '\u{2039}' | '\u{2329}' | '\u{226a}' | '\u{276e}' | '\u{2770}' | '\u{27e8}'
        | '\u{27ea}' | '\u{29fc}' | '\u{3008}' | '\u{300a}' | '\u{2c2}' | '\u{1438}' => '<',
        '\u{bb}' | '\u{203a}' | '\u{232a}' | '\u{226b}' | '\u{276f}' | '\u{2771}' | '\u{27e9}'
        | '\u{27eb}' | '\u{29fd}' | '\u{3009}' | '\u{300b}' | '\u{2c3}' | '\u{1433}' => '>',
        // Brackets and quotes of other kinds.
        '\u{2018}'..='\u{201f}'
        | '\u{2045}'
        | '\u{2046}'
        | '\u{207d}'
        | '\u{207e}'
        | '\u{208d}'
        | '\u{208e}'
        | '\u{2308}'..='\u{230b}'
        | '\u{275b}'..='\u{275e}'
        | '\u{2768}'..='\u{2775}'
        | '\u{27c5}'
        | '\u{27c6}'
        | '\u{27e6}'..='\u{27ef}'
        | '\u{2983}'..='\u{2998}'
        | '\u{29d8}'..='\u{29db}'
        | '\u{2e00}'..='\u{2e5d}'
        | '\u{300c}'..='\u{3011}'
        | '\u{3014}'..='\u{301f}'
        | '\u{fd3e}'
        | '\u{fd3f}'
        | '\u{fe10}'..='\u{fe19}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff5f}'
        | '\u{ff60}'
        | '\u{ff62}'
        | '\u{ff63}' => '\'',
        c => compatible(c).unwrap_or(c),
    })
}

/// Whether a character of an address is what it looks like: ASCII, or a letter, digit, mark or
/// symbol that no reader takes for another.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii() || !is_misleading(c) && ascii_of(c) == Some(c)
}

/// Characters that reorder text (Bidi_Control of the Unicode Character Database) or break it, and
/// control characters.
pub(super) fn is_misleading(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || c.is_control() && c != '\t'
}

/// Characters without a shape (Default_Ignorable_Code_Point, without those that mislead), and what
/// stands for octets that are not text.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffd}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All characters of Unicode whose compatible form (NFKC) is a special of RFC 5322 §3.2.3.
    const SPECIALS: &[(char, char)] = &[
        ('\u{37e}', ';'),
        ('\u{2024}', '.'),
        ('\u{207d}', '('),
        ('\u{207e}', ')'),
        ('\u{208d}', '('),
        ('\u{208e}', ')'),
        ('\u{fe10}', ','),
        ('\u{fe13}', ':'),
        ('\u{fe14}', ';'),
        ('\u{fe35}', '('),
        ('\u{fe36}', ')'),
        ('\u{fe47}', '['),
        ('\u{fe48}', ']'),
        ('\u{fe50}', ','),
        ('\u{fe52}', '.'),
        ('\u{fe54}', ';'),
        ('\u{fe55}', ':'),
        ('\u{fe59}', '('),
        ('\u{fe5a}', ')'),
        ('\u{fe64}', '<'),
        ('\u{fe65}', '>'),
        ('\u{fe68}', '\\'),
        ('\u{fe6b}', '@'),
        ('\u{ff02}', '"'),
        ('\u{ff08}', '('),
        ('\u{ff09}', ')'),
        ('\u{ff0c}', ','),
        ('\u{ff0e}', '.'),
        ('\u{ff1a}', ':'),
        ('\u{ff1b}', ';'),
        ('\u{ff1c}', '<'),
        ('\u{ff1e}', '>'),
        ('\u{ff20}', '@'),
        ('\u{ff3b}', '['),
        ('\u{ff3c}', '\\'),
        ('\u{ff3d}', ']'),
    ];

    #[test]
    fn all_compatible_specials_are_known() {
        let found: Vec<_> =
            ('\u{80}'..=char::MAX).filter_map(|c| special(c).map(|ascii| (c, ascii))).collect();
        assert_eq!(found, SPECIALS);
    }
}
