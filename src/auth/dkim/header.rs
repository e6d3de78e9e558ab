//! The header of a message as it was sent, and what of it a signature covers.

use std::ops::Range;

use super::signature::Signature;

/// The most octets of a header that are kept.
const MAX_HEADER: usize = 1 << 20;

/// The most header fields that are kept: small ones cost more memory than their text.
const MAX_FIELDS: usize = 20_000;

/// Room for the text of most headers, in octets.
const USUAL_HEADER: usize = 4096;

/// A header field in the text of the header: `name:value`.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    colon: usize,
    end: usize,
}

/// The header fields of a message, one after the other.
#[derive(Debug, Default)]
pub(super) struct Header {
    text: Vec<u8>,
    places: Vec<Place>,
    is_cut: bool,
}

impl Header {
    /// Adds a field as the milter protocol brings it: folds are LF, which becomes CRLF again; a CRLF stays one.
    ///
    /// A header that becomes too large is forgotten.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        // Folds grow by an octet each.
        let folds = value.iter().filter(|&&octet| octet == b'\n').count();
        let too_large = self.text.len() + name.len() + value.len() + folds + 1 > MAX_HEADER || self.places.len() >= MAX_FIELDS;
        if self.is_cut || too_large {
            *self = Self { is_cut: true, ..Self::default() };
            return;
        }
        if self.places.is_empty() {
            self.text.reserve(USUAL_HEADER);
            self.places.reserve(32);
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let colon = self.text.len();
        self.text.push(b':');
        if folds == 0 {
            self.text.extend_from_slice(value);
        } else {
            self.push_folded(value);
        }
        self.places.push(Place { start, colon, end: self.text.len() });
    }

    fn push_folded(&mut self, value: &[u8]) {
        for line in value.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                    self.text.extend_from_slice(b"\r\n");
                }
                None => self.text.extend_from_slice(line),
            }
        }
    }

    /// Whether it was too large and is forgotten.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The fields of this name, by their places in the header from the top.
    pub(super) fn find(&self, name: &str) -> impl Iterator<Item = usize> {
        let is_wanted = |index: &usize| self.name(*index).trim_ascii_end().eq_ignore_ascii_case(name.as_bytes());
        (0..self.places.len()).filter(is_wanted)
    }

    /// The name of a field, as written.
    fn name(&self, index: usize) -> &[u8] {
        self.places.get(index).and_then(|place| self.text.get(place.start..place.colon)).unwrap_or_default()
    }

    /// The value of a field: all that follows the colon, without a line end.
    pub(super) fn value(&self, index: usize) -> &[u8] {
        self.places.get(index).and_then(|place| self.text.get(place.colon + 1..place.end)).unwrap_or_default()
    }

    /// The fields by their names.
    pub(super) fn index(&self) -> Index {
        let mut names = Vec::with_capacity(16 * self.places.len());
        let mut entries: Vec<Entry> = (0..self.places.len())
            .map(|field| {
                let start = names.len();
                names.extend_from_slice(self.name(field).trim_ascii_end());
                Entry { name: start..names.len(), field }
            })
            .collect();
        names.make_ascii_lowercase();
        let name = |entry: &Entry| names.get(entry.name.clone()).unwrap_or_default();
        // Stable: the fields of a name stay in their order.
        entries.sort_by(|a, b| name(a).cmp(name(b)));
        Index { names, entries }
    }

    /// Writes what a signature signs of the header (RFC 6376 §3.7): for each name of `h=` the lowest field of that name not yet taken,
    /// nothing where there is none left; then the DKIM-Signature field itself, with `b=` empty and without a line end.
    ///
    /// The signature's own field is never one of the fields of `h=` (RFC 6376 §3.5).
    pub(super) fn write_signed(&self, index: &Index, own: usize, signature: &Signature, output: &mut Vec<u8>) {
        output.clear();
        output.reserve(self.text.len());
        // How many of its fields each name has left, at the place of its first entry; `None` where it was not asked for.
        let mut left: Vec<Option<usize>> = vec![None; index.entries.len()];
        for name in &signature.signed_fields {
            let entries = index.find(name);
            let fields = index.entries.get(entries.clone()).unwrap_or_default();
            let Some(left) = left.get_mut(entries.start).filter(|_| !fields.is_empty()) else { continue };
            let mut above = fields.get(..left.unwrap_or(fields.len())).unwrap_or_default();
            while let Some((&Entry { field, .. }, rest)) = above.split_last() {
                above = rest;
                if field != own {
                    signature.header_canonicalization.append_field(self.name(field), self.value(field), output);
                    output.extend_from_slice(b"\r\n");
                    break;
                }
            }
            *left = Some(above.len());
        }
        let value = self.value(own);
        let before = value.get(..signature.signature_place.start).unwrap_or_default();
        let after = value.get(signature.signature_place.end..).unwrap_or_default();
        let value = [before, after].concat();
        signature.header_canonicalization.append_field(self.name(own), &value, output);
    }
}

/// The fields of a header by their names.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The names in lower case, one behind the other.
    names: Vec<u8>,
    /// In the order of the names; those of one name from the top.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where in `names` the name lies.
    name: Range<usize>,
    field: usize,
}

impl Index {
    /// The entries of a name, which is in lower case.
    fn find(&self, name: &[u8]) -> Range<usize> {
        let name_of = |entry: &Entry| self.names.get(entry.name.clone()).unwrap_or_default();
        let start = self.entries.partition_point(|entry| name_of(entry) < name);
        let count = self.entries.get(start..).unwrap_or_default().partition_point(|entry| name_of(entry) == name);
        start..start + count
    }
}
