//! Octets split where a condition says so: by the search itself, so that no index can be off.

use std::borrow::Cow;

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

/// Calls a function with each place that has the octet, from the first to the last.
pub fn each_place(text: &[u8], octet: u8, mut call: impl FnMut(usize)) {
    // Eight octets at once. In what is zero where an octet is the wanted one, a bit is set for each
    // octet that is not: adding to the lower bits carries into the highest where one of them is set.
    const LOWER_BITS: u64 = u64::from_ne_bytes([0x7f; 8]);
    let wanted = u64::from_ne_bytes([octet; 8]);
    let (steps, rest) = text.as_chunks::<8>();
    for (number, step) in steps.iter().enumerate() {
        let differences = u64::from_le_bytes(*step) ^ wanted;
        let others = ((differences & LOWER_BITS) + LOWER_BITS) | differences | LOWER_BITS;
        let mut places = !others;
        while places != 0 {
            call(8 * number + places.trailing_zeros() as usize / 8);
            // Without the lowest bit.
            places &= places - 1;
        }
    }
    for (number, _) in rest.iter().enumerate().filter(|(_, other)| **other == octet) {
        call(8 * steps.len() + number);
    }
}

/// A set of octets as a table: for short texts quicker than comparisons.
#[derive(Debug)]
pub struct OctetSet([bool; 256]);

impl OctetSet {
    /// The octets in these ranges, both ends included.
    #[allow(clippy::indexing_slicing, reason = "computed when the program is compiled")]
    pub const fn new(ranges: &[(u8, u8)]) -> Self {
        let mut table = [false; 256];
        let mut range = 0;
        while range < ranges.len() {
            let mut octet = ranges[range].0 as usize;
            while octet <= ranges[range].1 as usize {
                table[octet] = true;
                octet += 1;
            }
            range += 1;
        }
        Self(table)
    }

    /// Whether the octet is in the set.
    pub fn has(&self, octet: u8) -> bool {
        // There is one for each octet.
        self.0.get(usize::from(octet)).is_some_and(|&has| has)
    }

    /// Whether all octets are in the set.
    pub fn has_all(&self, text: &[u8]) -> bool {
        // All octets are looked at: texts are short, and a branch costs more.
        text.iter().fold(true, |all, &octet| all & self.has(octet))
    }
}

/// Classes of octets as a table: each octet has the bits of those that it is in.
#[derive(Debug)]
pub struct OctetClasses([u8; 256]);

impl OctetClasses {
    /// The octets of each class in ranges, both ends included, and its bit.
    #[allow(clippy::indexing_slicing, reason = "computed when the program is compiled")]
    pub const fn new(classes: &[(u8, &[(u8, u8)])]) -> Self {
        let mut table = [0; 256];
        let mut class = 0;
        while class < classes.len() {
            let (bit, ranges) = classes[class];
            let OctetSet(set) = OctetSet::new(ranges);
            let mut octet = 0;
            while octet < 256 {
                if set[octet] {
                    table[octet] |= bit;
                }
                octet += 1;
            }
            class += 1;
        }
        Self(table)
    }

    /// The bits of all octets of a text, with those of an octet as if it were `before` the text.
    pub fn of_all(&self, text: &str, before: u8) -> TextClasses {
        // All octets are looked at: texts are short, and a branch costs more.
        let mut found = TextClasses { all: u8::MAX, any: 0, in_a_row: 0, last: before };
        for octet in text.bytes() {
            let classes = self.of(octet);
            found.all &= classes;
            found.any |= classes;
            found.in_a_row |= classes & found.last;
            found.last = classes;
        }
        found
    }

    /// The bits of an octet.
    pub fn of(&self, octet: u8) -> u8 {
        // There are some for each octet.
        self.0.get(usize::from(octet)).copied().unwrap_or_default()
    }
}

/// The classes of the octets of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TextClasses {
    /// Those of every octet.
    pub all: u8,
    /// Those of any octet.
    pub any: u8,
    /// Those of two octets in a row.
    pub in_a_row: u8,
    /// Those of the last octet; of the one before the text, where it is empty.
    pub last: u8,
}

/// Octets as text, with U+FFFD for what is not UTF-8.
pub fn to_text(octets: &[u8]) -> Cow<'_, str> {
    // Nearly all are ASCII, which this sees sooner.
    match str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(octets),
    }
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
    use proptest::{collection::vec, prelude::*};

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
    fn an_octet_is_found_wherever_it_is() {
        for length in 0..70 {
            let mut text = vec![b'a'; length];
            assert_eq!(find_octet(&text, 0), None);
            for place in 0..length {
                text[place] = 0;
                assert_eq!(find_octet(&text, 0), Some(place), "{length}");
                text[place] = b'a';
            }
        }
    }

    #[test]
    fn sets_have_what_is_in_their_ranges() {
        static SET: OctetSet = OctetSet::new(&[(0, 0), (b'a', b'c'), (b'b', b'd'), (255, 255)]);
        for octet in 0..=u8::MAX {
            assert_eq!(SET.has(octet), matches!(octet, 0 | b'a'..=b'd' | 255), "{octet}");
        }
        assert!(SET.has_all(b"abcd\0\xff") && SET.has_all(b"") && !SET.has_all(b"abe"));
    }

    #[test]
    fn classes_have_what_is_in_their_ranges() {
        static CLASSES: OctetClasses = OctetClasses::new(&[
            (1, &[(0, b'b'), (255, 255)]),
            (2, &[(b'b', b'c'), (b'a', b'a')]),
            (8, &[]),
        ]);
        for octet in 0..=u8::MAX {
            let expected = u8::from(octet <= b'b' || octet == 255)
                + 2 * u8::from((b'a'..=b'c').contains(&octet));
            assert_eq!(CLASSES.of(octet), expected, "{octet}");
        }
    }

    #[test]
    fn octets_as_text() {
        for octets in [b"".as_slice(), b"a", b"b\xc3\xbc", b"\xff\xc3", b"a\xc3\xbc\x80\xf0\x9f"] {
            assert_eq!(to_text(octets), String::from_utf8_lossy(octets), "{octets:?}");
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

    proptest! {
        #[test]
        fn each_place_is_that_of_the_slow_twin(text in vec(prop_oneof![Just(b' '), Just(b'!'), any::<u8>()], 0..40), octet in prop_oneof![Just(b' '), any::<u8>()]) {
            let mut places = Vec::new();
            each_place(&text, octet, |place| places.push(place));
            let expected: Vec<_> = (0..text.len()).filter(|place| text[*place] == octet).collect();
            prop_assert_eq!(places, expected);
        }
    }
}
