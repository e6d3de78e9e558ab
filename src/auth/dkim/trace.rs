//! The steps of a verification, for people who ask why it came to its result.

use super::super::signed::{
    crypto::sha256,
    tags::{TagList, encode_base64, without_fws},
};
use crate::{dns::Name, mail::octets::first_octets};

/// Longer values of tags are cut.
const MAX_VALUE: usize = 2048;

/// The most fields that are listed.
const MAX_FIELDS: usize = 100;

/// The steps of the verification of a signature, as far as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    /// The tags of the signature, in their order, without white space in the values; any text.
    pub tags: Vec<(String, String)>,
    /// Where its key is.
    pub key_name: Option<Name>,
    /// The hash of the body.
    pub body: Option<HashTrace>,
    /// The signed part of the header, where there was a key to check it with.
    pub header: Option<HeaderTrace>,
}

/// A hash that was signed, and the one that was computed; base64.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HashTrace {
    /// That of the signature (`bh=`).
    pub signed: String,
    /// That of the body as it came.
    pub computed: String,
}

/// The part of the header that is signed, as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderTrace {
    /// The names of the fields, in the order in which they are signed, the signature itself last;
    /// any text.
    pub fields: Vec<String>,
    /// The hash of the fields, base64.
    pub hash: String,
    /// A key verifies the signature.
    pub is_good: bool,
}

impl Trace {
    /// The trace of a field with this value.
    pub(super) fn begin(value: &[u8]) -> Self {
        let text = |octets: &[u8]| {
            let text = String::from_utf8_lossy(&without_fws(octets)).into_owned();
            first_octets(&text, MAX_VALUE).to_owned()
        };
        let tags = TagList::parse(value);
        let tags = tags.iter().flat_map(TagList::iter);
        let tags = tags.map(|tag| (text(tag.name), text(tag.value))).collect();
        Self { tags, ..Self::default() }
    }
}

impl HashTrace {
    /// The two hashes.
    pub(super) fn new(signed: &[u8], computed: &[u8]) -> Self {
        Self { signed: encode_base64(signed), computed: encode_base64(computed) }
    }

    /// Whether both are the same.
    pub fn is_good(&self) -> bool {
        self.signed == self.computed
    }
}

impl HeaderTrace {
    /// The signed text, and whether a key verifies the signature.
    pub(super) fn new(text: &[u8], is_good: bool) -> Self {
        // Lines that begin with white space go on with the field before.
        let starts = |line: &&[u8]| !line.first().is_none_or(u8::is_ascii_whitespace);
        let lines = text.split(|&octet| octet == b'\n').filter(starts).take(MAX_FIELDS);
        let name = |line: &[u8]| {
            let name = line.split(|&octet| octet == b':').next().unwrap_or_default();
            String::from_utf8_lossy(name.trim_ascii()).into_owned()
        };
        let fields = lines.map(name).collect();
        Self { fields, hash: encode_base64(&sha256(text)), is_good }
    }
}

#[cfg(test)]
mod tests {
    use super::HashTrace;

    #[test]
    fn a_hash_is_good_where_all_its_octets_are() {
        let signed = [7; 32];
        assert!(HashTrace::new(&signed, &signed).is_good());
        for index in 0..signed.len() {
            let mut computed = signed;
            computed[index] ^= 1;
            assert!(!HashTrace::new(&signed, &computed).is_good(), "{index}");
        }
    }
}
