//! Octets split where a condition says so: by the search itself, so that no index can be off.

/// Splits before the first octet for which the condition holds; where it holds for none, all of the
/// text is in front.
pub fn split_before(text: &[u8], condition: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    // At most its length.
    let end = text.iter().position(|&octet| condition(octet)).unwrap_or(text.len());
    count_work(end + 1);
    text.split_at(end)
}

/// Where the first octet is for which the condition holds. Quick in long texts, if the condition
/// has no branches.
pub fn find(text: &[u8], condition: impl Fn(u8) -> bool) -> Option<usize> {
    // All octets of a step are looked at, so that it is done at once.
    const STEP: usize = 16;
    let (steps, _) = text.as_chunks::<STEP>();
    let has_none =
        |step: &&[u8; STEP]| !step.iter().fold(false, |has_one, &octet| has_one | condition(octet));
    let before = STEP * steps.iter().take_while(has_none).count();
    // Whole steps of the text.
    let (_, rest) = text.split_at(before);
    rest.iter().position(|&octet| condition(octet)).map(|place| before + place)
}

/// Where the first such octet is.
pub fn find_octet(text: &[u8], wanted: u8) -> Option<usize> {
    find(text, |octet| octet == wanted)
}

#[cfg(test)]
thread_local! {
    /// The octets that [`count_work`] counted in this thread.
    pub static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts octets that are read, written or hashed, in tests, which bound the work by that and need no
/// clock; does nothing otherwise.
pub fn count_work(_octets: usize) {
    #[cfg(test)]
    WORK.set(WORK.get() + _octets);
}

/// The text without the octets at its ends for which the condition holds.
pub fn trim(mut text: &[u8], condition: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = text
        && condition(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && condition(*last)
    {
        text = rest;
    }
    text
}

/// The text before the first such octet, and the text behind it; `None` where there is none.
pub fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let place = find_octet(text, separator);
    count_work(place.map_or(text.len(), |place| place + 1));
    match text.split_at(place?) {
        (before, [_, after @ ..]) => Some((before, after)),
        _ => None,
    }
}

/// The beginning of a text: so many octets, or a little less where a character would be cut in two.
pub fn first_octets(text: &str, most: usize) -> &str {
    let mut end = most;
    // The beginning of a text is a boundary.
    while end < text.len() && !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end.min(text.len())).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        for (most, kept) in [
            (0, ""),
            (1, "a"),
            (2, "a"),
            (3, "aü"),
            (4, "aü"),
            (6, "aü"),
            (7, "aü\u{1f600}"),
            (99, "aü\u{1f600}"),
        ] {
            assert_eq!(first_octets("aü\u{1f600}", most), kept, "{most}");
        }
    }

    #[test]
    fn texts_are_split_and_trimmed() {
        let is_space = |octet| octet == b' ';
        assert_eq!(split_before(b"ab c", is_space), (b"ab".as_slice(), b" c".as_slice()));
        assert_eq!(split_before(b" ", is_space), (b"".as_slice(), b" ".as_slice()));
        assert_eq!(split_before(b"ab", is_space), (b"ab".as_slice(), b"".as_slice()));
        assert_eq!(split_before(b"", is_space), (b"".as_slice(), b"".as_slice()));
        for (text, trimmed) in
            [("  a b ", "a b"), ("a", "a"), ("  ", ""), ("", ""), (" a", "a"), ("a ", "a")]
        {
            assert_eq!(trim(text.as_bytes(), is_space), trimmed.as_bytes());
        }
        assert_eq!(split_once(b"a=b=c", b'='), Some((b"a".as_slice(), b"b=c".as_slice())));
        assert_eq!(split_once(b"a=", b'='), Some((b"a".as_slice(), b"".as_slice())));
        assert_eq!(split_once(b"=", b'='), Some((b"".as_slice(), b"".as_slice())));
        assert_eq!(split_once(b"a", b'='), None);
        for length in 0..70 {
            let text = vec![b'a'; length];
            assert_eq!(find_octet(&text, b'='), None, "{length}");
            for place in 0..length {
                for second in place..length {
                    let mut text = text.clone();
                    (text[place], text[second]) = (b'=', b'=');
                    assert_eq!(find_octet(&text, b'='), Some(place), "{length} {second}");
                }
            }
        }
    }
}
