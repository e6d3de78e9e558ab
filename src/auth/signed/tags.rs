//! Tag-lists: the form of DKIM-Signature fields and key records.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::mail::octets::{self, count_work, find, find_octet, split_once};

/// More tags than this and the list counts as broken; signatures and key records have about fifteen
/// at most.
const MAX_TAGS: usize = 64;

/// Padding may be missing (RFC 6376 §3.2), and bits beyond the last octet are of no interest.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A tag and its value.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Tag<'a> {
    /// The name; its case counts.
    pub(crate) name: &'a [u8],
    /// The value without the white space around it.
    pub(crate) value: &'a [u8],
}

/// A list of tags, no two of one name.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct TagList<'a>(Vec<Tag<'a>>);

impl<'a> TagList<'a> {
    /// Reads a tag-list (RFC 6376 §3.2); `None` where it is none, or has a tag twice.
    ///
    /// ```text
    /// tag-list  = tag-spec *( ";" tag-spec ) [ ";" ]
    /// tag-spec  = [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
    /// tag-name  = ALPHA *ALNUMPUNC
    /// tag-value = [ tval *( 1*(WSP / FWS) tval ) ]
    /// tval      = 1*VALCHAR
    /// VALCHAR   = %x21-3A / %x3C-7E
    /// ```
    ///
    /// Octets beyond ASCII are taken too (RFC 8616 §5 lets some values have them), and white space
    /// at the end of the list.
    pub(crate) fn parse(list: &'a [u8]) -> Option<Self> {
        count_work(list.len());
        // Names have fewer octets to choose from than values. All are looked at, so that many are
        // at once.
        let is_allowed = |byte: u8| (byte > b' ') & (byte != 0x7f) | is_fws(byte);
        if !list.iter().fold(true, |allowed, &byte| allowed & is_allowed(byte)) {
            return None;
        }
        let mut tags: Vec<Tag<'a>> = Vec::with_capacity(12);
        let mut rest = Some(list);
        while let Some(specs) = rest {
            let spec;
            (spec, rest) = match split_once(specs, b';') {
                Some((spec, after)) => (spec, Some(after)),
                None => (specs, None),
            };
            if rest.is_none() && trim(spec).is_empty() && !tags.is_empty() {
                break;
            }
            let (name, value) = split_once(spec, b'=')?;
            let (name, value) = (trim(name), trim(value));
            let is_name = name.first()?.is_ascii_alphabetic()
                && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || tags.len() == MAX_TAGS || tags.iter().any(|tag| tag.name == name) {
                return None;
            }
            tags.push(Tag { name, value });
        }
        Some(Self(tags))
    }

    /// The tag of this name.
    pub(crate) fn tag(&self, name: &str) -> Option<&Tag<'a>> {
        self.0.iter().find(|tag| tag.name == name.as_bytes())
    }

    /// The value of the tag of this name.
    pub(crate) fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.tag(name).map(|tag| tag.value)
    }

    /// The tags, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tag<'a>> {
        self.0.iter()
    }

    /// The name of the first tag.
    pub(crate) fn first_name(&self) -> Option<&'a [u8]> {
        self.0.first().map(|tag| tag.name)
    }
}

/// Whether the octet is part of folding white space.
pub(crate) fn is_fws(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\t') | (byte == b'\r') | (byte == b'\n')
}

/// The text without folding white space around it.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    octets::trim(text, is_fws)
}

/// The parts of a tag-list before and behind the value of this tag and the white space around that:
/// as it is signed (RFC 6376 §3.7). Of a list without such a tag the first part is all of it.
pub(crate) fn around_value<'a>(list: &'a [u8], name: &str) -> [&'a [u8]; 2] {
    count_work(list.len());
    let mut rest = list;
    loop {
        let end = find_octet(rest, b';').unwrap_or(rest.len());
        let (spec, after) = rest.split_at(end);
        if let Some((before, value)) = split_once(spec, b'=')
            && trim(before) == name.as_bytes()
        {
            let (front, _) = list.split_at(list.len() - after.len() - value.len());
            return [front, after];
        }
        let [_, next @ ..] = after else { return [list, &[]] };
        rest = next;
    }
}

/// The items of a list with colons between them, each without the white space around it.
pub(crate) fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b':').map(trim)
}

/// The text without any folding white space.
pub(crate) fn without_fws(text: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = find(rest, is_fws) {
        let (part, after) = rest.split_at(place);
        all.extend_from_slice(part);
        rest = trim(after);
    }
    all.extend_from_slice(rest);
    all
}

/// Encodes octets as base64.
pub(crate) fn encode_base64(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// Decodes base64 in which folding white space may stand anywhere (RFC 6376 §3.2, `base64string`).
pub(crate) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(without_fws(text)).ok()
}

/// Reads a decimal number; one too large for the type is as good as endless.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        Some(number.saturating_mul(10).saturating_add(digit(byte)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn lists() {
        let list =
            TagList::parse(b" v=1; a =\r\n\trsa-sha256 ;b= x\r\n y ;empty=;u=\xc3\xbc=; ").unwrap();
        assert_eq!(list.first_name(), Some(b"v".as_slice()));
        assert_eq!(list.value("a"), Some(b"rsa-sha256".as_slice()));
        assert_eq!(list.value("b"), Some(b"x\r\n y".as_slice()));
        assert_eq!(list.value("empty"), Some(b"".as_slice()));
        assert_eq!(list.value("u"), Some(b"\xc3\xbc=".as_slice()));
        assert_eq!(list.value("A"), None);
    }

    #[test]
    fn a_value_is_taken_out_with_the_white_space_around_it() {
        for (text, name, without) in [
            ("a=1; b = x=y\t;c=", "b", "a=1; b =;c="),
            ("a=1; b = x y\t;c=", "a", "a=; b = x y\t;c="),
            ("a=1; b = x y\t;c= ", "c", "a=1; b = x y\t;c="),
            ("a=1; b=", "b", "a=1; b="),
            ("bh=1; b=2", "b", "bh=1; b="),
            ("b=1;", "b", "b=;"),
            ("a=1", "b", "a=1"),
        ] {
            assert_eq!(
                around_value(text.as_bytes(), name).concat(),
                without.as_bytes(),
                "{text:?} {name}"
            );
        }
    }

    #[test]
    fn bad_lists_are_refused() {
        for bad in [
            "", " ", ";", "a", "a=1;;b=2", "=1", "1a=1", "a=1;a=2", "a b=1", "a=\x01", "a=1;b",
            "a-b=1", "a=1;; ",
        ] {
            assert_eq!(TagList::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let many = |count: u32| (0..count).map(|n| format!("t{n}=;")).collect::<String>();
        for (count, is_list) in [(63, true), (64, true), (65, false)] {
            assert_eq!(TagList::parse(many(count).as_bytes()).is_some(), is_list, "{count}");
        }
    }

    proptest! {
        #[test]
        fn white_space_falls_away(text in "([ \t\r\n]{1,3}|[a-c\x0b]{0,40}){0,6}") {
            let plain: Vec<u8> = text.bytes().filter(|octet| !b" \t\r\n".contains(octet)).collect();
            prop_assert_eq!(without_fws(text.as_bytes()), plain);
        }
    }

    #[test]
    fn values() {
        assert_eq!(decode_base64(b"TW\r\n\tFu"), Some(b"Man".to_vec()));
        assert_eq!(decode_base64(b"TWE"), Some(b"Ma".to_vec()));
        assert_eq!(decode_base64(b"TWE="), Some(b"Ma".to_vec()));
        assert_eq!(decode_base64(b"TW$u"), None);
        assert_eq!(decode_base64(b"TWFu="), None);
        assert_eq!(number(b"0120"), Some(120));
        assert_eq!(number(b"99999999999999999999999"), Some(u64::MAX));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"-1"), None);
    }

    /// The ABNF of RFC 6376 §3.2, octet by octet.
    fn list_by_the_letter(list: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut specs = vec![Vec::new()];
        for &octet in list {
            match octet {
                b';' => specs.push(Vec::new()),
                octet => specs.last_mut().unwrap().push(octet),
            }
        }
        let is_white = |octet: &u8| b" \t\r\n".contains(octet);
        if specs.len() > 1 && specs.last().unwrap().iter().all(is_white) {
            specs.pop();
        }
        let mut tags: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for spec in specs {
            let (mut name, mut value) = (Vec::new(), None::<Vec<u8>>);
            for octet in spec {
                match (&mut value, octet) {
                    (None, b'=') => value = Some(Vec::new()),
                    (None, octet) => name.push(octet),
                    (Some(value), octet) => value.push(octet),
                }
            }
            let trim = |mut text: Vec<u8>| {
                while text.last().is_some_and(is_white) {
                    text.pop();
                }
                while text.first().is_some_and(is_white) {
                    text.remove(0);
                }
                text
            };
            let (name, value) = (trim(name), trim(value?));
            let letters = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
            if name.is_empty() || !name[0].is_ascii_alphabetic() || !name.iter().all(letters) {
                return None;
            }
            if value.iter().any(|&octet| octet < b' ' && !is_white(&octet) || octet == 0x7f) {
                return None;
            }
            if tags.iter().any(|(other, _)| *other == name) {
                return None;
            }
            tags.push((name, value));
        }
        Some(tags)
    }

    proptest! {
        #[test]
        fn lists_are_those_of_the_letter(text in "([abB1_=;]|[ \t\r\n]|\\PC|\x00|\x7f){0,40}|([ab] ?= ?[ab= ]{0,3};? ?){0,5}") {
            let list = TagList::parse(text.as_bytes());
            let found = list.as_ref().map(|list| list.0.iter().map(|tag| (tag.name.to_vec(), tag.value.to_vec())).collect::<Vec<_>>());
            let expected = list_by_the_letter(text.as_bytes());
            prop_assert_eq!(&found, &expected);
            for (name, _) in expected.into_iter().flatten() {
                let name = String::from_utf8(name).unwrap();
                let without = around_value(text.as_bytes(), &name).concat();
                let specs = |text: &[u8]| text.split(|octet| *octet == b';').map(<[u8]>::to_vec).collect::<Vec<_>>();
                for (before, after) in specs(text.as_bytes()).into_iter().zip(specs(&without)) {
                    let equals = before.iter().position(|octet| *octet == b'=').unwrap_or(before.len());
                    let is_tag = before[..equals].trim_ascii() == name.as_bytes() && equals < before.len();
                    prop_assert_eq!(after, if is_tag { before[..=equals].to_vec() } else { before });
                }
            }
        }

        #[test]
        fn any_octets_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TagList::parse(&text);
            let _ = decode_base64(&text);
            let _ = number(&text);
        }
    }
}
