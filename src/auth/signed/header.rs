//! The header of a message as it was sent, and the part of it that a signature covers.

use std::{cmp::Ordering, collections::BTreeMap};

use super::canonical::Canonicalization;
use crate::mail::octets::count_work;

/// The most octets of a header that are kept.
const MAX_HEADER: usize = 1 << 20;

/// The most header fields that are kept: small ones cost more memory than their text.
const MAX_FIELDS: usize = 20_000;

/// A header field as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its number, counted from the top; no two fields of a header have the same.
    number: usize,
    /// As written: white space may follow it.
    name: Box<[u8]>,
    /// All that follows the colon, without a line end; folds are CRLF.
    value: Box<[u8]>,
}

impl Field {
    /// The name without white space behind it.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.trim_ascii_end()
    }

    /// All that follows the colon, without a line end.
    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }
}

/// The header fields of a message, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Header {
    fields: Vec<Field>,
    /// The octets of the fields, with their colons.
    size: usize,
    is_cut: bool,
}

impl Header {
    /// Adds a field as the milter protocol brings it: folds are LF, which becomes CRLF again; a
    /// CRLF stays one.
    ///
    /// A header that becomes too large is dropped.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.is_cut {
            return;
        }
        count_work(name.len() + value.len());
        // Folds grow by an octet each.
        let folds = value.iter().filter(|&&octet| octet == b'\n').count();
        self.size += name.len() + 1 + value.len() + folds;
        if self.size > MAX_HEADER || self.fields.len() >= MAX_FIELDS {
            *self = Self { is_cut: true, ..Self::default() };
            return;
        }
        if self.fields.is_empty() {
            self.fields.reserve(32);
        }
        let value = if folds == 0 { value.into() } else { with_crlf(value, folds) };
        self.fields.push(Field { number: self.fields.len(), name: name.into(), value });
    }

    /// Whether it was too large and was dropped.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The fields of this name, from the top.
    pub(crate) fn find(&self, name: &str) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.name().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The names, of these few, that more than one field has, and the number of fields.
    pub(crate) fn repeated(&self, names: &[&'static str]) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = names.iter().map(|name| (*name, 0)).collect();
        for field in &self.fields {
            let counted = counts
                .iter_mut()
                .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(field.name()));
            if let Some((_, count)) = counted {
                *count += 1;
            }
        }
        counts.retain(|(_, count)| *count > 1);
        counts
    }

    /// The fields by their names.
    pub(crate) fn index(&self) -> Index<'_> {
        let mut fields: Vec<&Field> = self.fields.iter().collect();
        // Stable: the fields of a name stay in their order.
        fields.sort_by(|a, b| compare_names(a.name(), b.name()));
        Index { size: self.size, fields }
    }
}

fn with_crlf(value: &[u8], folds: usize) -> Box<[u8]> {
    let mut text = Vec::with_capacity(value.len() + folds);
    for line in value.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                text.extend_from_slice(b"\r\n");
            }
            None => text.extend_from_slice(line),
        }
    }
    text.into()
}

/// The fields of a header by their names.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    /// In the order of the names; those of one name from the top.
    fields: Vec<&'a Field>,
    /// The octets of the header.
    size: usize,
}

impl<'a> Index<'a> {
    /// The fields of a name, from the top.
    fn find(&self, name: &[u8]) -> &[&'a Field] {
        // Each search ends within what it searches.
        let below = self.fields.partition_point(|field| compare_names(field.name(), name).is_lt());
        let (_, rest) = self.fields.split_at(below);
        let count = rest.partition_point(|field| compare_names(field.name(), name).is_eq());
        rest.split_at(count).0
    }

    /// Writes the part of the header that a signature signs (RFC 6376 §3.7): for each of the names
    /// (`h=`, lower case) the lowest field of that name not yet taken, nothing where there is none
    /// left; then the field of the signature itself, with the value that it has without the
    /// signature data, and without a line end.
    ///
    /// The signature's own field is never one of the named fields (RFC 6376 §3.5).
    pub(crate) fn write_signed(
        &self,
        canonicalization: Canonicalization,
        names: &[Box<[u8]>],
        own: &Field,
        unsigned_value: &[u8],
        output: &mut Vec<u8>,
    ) {
        output.clear();
        output.reserve(self.size);
        let mut left = BTreeMap::new();
        for name in names {
            let fields = left.entry(&**name).or_insert_with(|| self.find(name).iter().rev());
            if let Some(field) = fields.find(|field| field.number != own.number) {
                canonicalization.append_field(&field.name, &field.value, output);
                output.extend_from_slice(b"\r\n");
            }
        }
        canonicalization.append_field(&own.name, unsigned_value, output);
    }
}

/// The order of names, whose case does not count.
fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    let lower = |octet: &u8| octet.to_ascii_lowercase();
    a.iter().map(lower).cmp(b.iter().map(lower))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6376 §3.7 and §5.4.2, field by field and without an index.
    fn signed_by_the_letter(
        fields: &[(String, String)],
        own: usize,
        names: &[String],
        relaxed: bool,
        unsigned: &str,
    ) -> String {
        let canonical = |name: &str, value: &str| {
            if !relaxed {
                return format!("{name}:{value}");
            }
            let unfolded = value.replace("\r\n", "");
            let words: Vec<&str> =
                unfolded.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            format!("{}:{}", name.trim_end_matches([' ', '\t']).to_lowercase(), words.join(" "))
        };
        let mut taken = vec![false; fields.len()];
        let mut text = String::new();
        for wanted in names {
            for (number, (name, value)) in fields.iter().enumerate().rev() {
                let is_wanted =
                    name.trim_end_matches([' ', '\t']).to_lowercase() == wanted.to_lowercase();
                if is_wanted && number != own && !taken[number] {
                    taken[number] = true;
                    text += &canonical(name, value);
                    text += "\r\n";
                    break;
                }
            }
        }
        text + &canonical(&fields[own].0, unsigned)
    }

    proptest! {
        #[test]
        fn signed_fields_are_those_of_the_letter(
            mut fields in prop::collection::vec(("(a|A|b|ab|aB|From|DKIM-Signature)[ \t]{0,2}", "([ab]|[ \t]|\r\n[ \t]){0,12}"), 0..40),
            names in prop::collection::vec("(a|A|b|ab|c|from|dkim-signature)", 0..30),
            place in any::<prop::sample::Index>(),
            relaxed: bool,
        ) {
            let canonicalization = if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple };
            let unsigned = " v=1;\r\n\tb=";
            let own = place.index(fields.len() + 1);
            fields.insert(own, ("DKIM-Signature".into(), format!("{unsigned} AA\r\n AA")));
            let mut header = Header::default();
            for (name, value) in &fields {
                // Folds come as LF or as CRLF.
                header.push(name.as_bytes(), value.replace("\r\n", if relaxed { "\n" } else { "\r\n" }).as_bytes());
            }
            let field = header.fields.iter().find(|field| field.number == own).unwrap();
            prop_assert_eq!(field.value(), fields[own].1.as_bytes());
            let signed: Vec<Box<[u8]>> = names.iter().map(|name| name.to_lowercase().into_bytes().into()).collect();
            let mut output = b"left from before".to_vec();
            header.index().write_signed(canonicalization, &signed, field, unsigned.as_bytes(), &mut output);
            prop_assert_eq!(String::from_utf8(output).unwrap(), signed_by_the_letter(&fields, own, &names, relaxed, unsigned));
        }
    }

    /// The octets of all fields with their colons, and their number: one less, the most, and one
    /// more.
    #[test]
    fn bounds_of_a_header() {
        for (octets, is_cut) in
            [(MAX_HEADER - 1, false), (MAX_HEADER, false), (MAX_HEADER + 1, true)]
        {
            let mut header = Header::default();
            header.push(b"A", b"b\nc");
            // A and a colon, and a fold that grew, are six.
            header.push(b"X", &vec![b'x'; octets - 6 - 2]);
            assert_eq!(header.is_cut(), is_cut, "{octets}");
            assert_eq!(header.fields.len(), if is_cut { 0 } else { 2 });
        }
        for (count, is_cut) in
            [(MAX_FIELDS - 1, false), (MAX_FIELDS, false), (MAX_FIELDS + 1, true)]
        {
            let mut header = Header::default();
            (0..count).for_each(|_| header.push(b"A", b""));
            assert_eq!(header.is_cut(), is_cut, "{count}");
        }
    }
}
