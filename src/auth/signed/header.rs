//! The header of a message as it was sent, and the part of it that a signature covers.

use std::cmp::Ordering;

use super::{canonical::Canonicalization, tags::items};
use crate::mail::octets::{count_work, find_octet};

/// The most octets of a header that are kept.
const MAX_HEADER: usize = 1 << 20;

/// The most header fields that are kept: small ones cost more memory than their text.
const MAX_FIELDS: usize = 20_000;

/// Fields and octets for which there is room from the first one on: most headers have fewer.
const FIRST_FIELDS: usize = 32;
const FIRST_OCTETS: usize = 4096;

/// A header field as it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// Its number, counted from the top; no two fields of a header have the same.
    number: usize,
    /// As written: white space may follow it.
    name: &'a [u8],
    /// All that follows the colon, without a line end; folds are CRLF.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Its number, for [`Header::get`].
    pub(crate) fn number(self) -> usize {
        self.number
    }

    /// The name without white space behind it.
    pub(crate) fn name(self) -> &'a [u8] {
        self.name.trim_ascii_end()
    }

    /// All that follows the colon, without a line end.
    pub(crate) fn value(self) -> &'a [u8] {
        self.value
    }
}

/// The header fields of a message, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// The fields, each name right before its value.
    text: Vec<u8>,
    /// Where in the text each name begins, its value begins, and the field ends.
    fields: Vec<[usize; 3]>,
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
        let folds = find_octet(value, b'\n')
            .map_or(0, |_| value.iter().filter(|&&octet| octet == b'\n').count());
        self.size += name.len() + 1 + value.len() + folds;
        if self.size > MAX_HEADER || self.fields.len() >= MAX_FIELDS {
            *self = Self { is_cut: true, ..Self::default() };
            return;
        }
        if self.fields.is_empty() {
            self.fields.reserve(FIRST_FIELDS);
            self.text.reserve(FIRST_OCTETS);
        }
        let begin = self.text.len();
        self.text.extend_from_slice(name);
        let colon = self.text.len();
        if folds == 0 {
            self.text.extend_from_slice(value);
        } else {
            append_with_crlf(value, &mut self.text);
        }
        self.fields.push([begin, colon, self.text.len()]);
    }

    /// Whether it was too large and was dropped.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The fields, from the top.
    fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().enumerate().map(|(number, place)| self.field(number, *place))
    }

    fn field(&self, number: usize, [begin, colon, end]: [usize; 3]) -> Field<'_> {
        // The places are those of the text, from its beginning to its end.
        let (name, value) = self.text.split_at(end).0.split_at(colon);
        Field { number, name: name.split_at(begin).1, value }
    }

    /// The field of this number.
    pub(crate) fn get(&self, number: usize) -> Option<Field<'_>> {
        self.fields.get(number).map(|place| self.field(number, *place))
    }

    /// The fields of this name, from the top.
    pub(crate) fn find(&self, name: &str) -> impl Iterator<Item = Field<'_>> {
        self.iter().filter(move |field| field.name().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The names, of these few, that more than one field has, and the number of fields.
    pub(crate) fn repeated(&self, names: &[&'static str]) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = names.iter().map(|name| (*name, 0)).collect();
        for field in self.iter() {
            let name = field.name();
            let counted =
                counts.iter_mut().find(|(other, _)| other.as_bytes().eq_ignore_ascii_case(name));
            if let Some((_, count)) = counted {
                *count += 1;
            }
        }
        counts.retain(|(_, count)| *count > 1);
        counts
    }

    /// The fields by their names.
    pub(crate) fn index(&self) -> Index<'_> {
        let mut fields: Vec<(Beginning, Field<'_>)> =
            self.iter().map(|field| (beginning(field.name()), field)).collect();
        // Stable: the fields of a name stay in their order.
        fields.sort_by(|a, (beginning, b)| compare(a, *beginning, b.name()));
        Index { size: self.size, fields }
    }
}

fn append_with_crlf(value: &[u8], text: &mut Vec<u8>) {
    for line in value.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                text.extend_from_slice(b"\r\n");
            }
            None => text.extend_from_slice(line),
        }
    }
}

/// The names of signed fields, as a list with colons between them (`h=`).
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct FieldNames(Box<[u8]>);

impl FieldNames {
    /// The names of a list.
    pub(crate) fn new(list: &[u8]) -> Self {
        Self(list.into())
    }

    /// The names in their order, in the case that they were written in.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        items(&self.0)
    }

    /// How often a name is there.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.iter().filter(|other| other.eq_ignore_ascii_case(name.as_bytes())).count()
    }
}

/// The fields of a header by their names.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    /// In the order of the names; those of one name from the top.
    fields: Vec<(Beginning, Field<'a>)>,
    /// The octets of the header.
    size: usize,
}

impl<'a> Index<'a> {
    /// The fields of a name, from the top, and how many there are before them.
    fn find(&self, name: &[u8]) -> (usize, &[(Beginning, Field<'a>)]) {
        let beginning = beginning(name);
        // Each search ends within what it searches.
        let below = self.fields.partition_point(|field| compare(field, beginning, name).is_lt());
        let (_, rest) = self.fields.split_at(below);
        let count = rest.partition_point(|field| compare(field, beginning, name).is_eq());
        (below, rest.split_at(count).0)
    }

    /// Writes the part of the header that a signature signs (RFC 6376 §3.7): for each of the names
    /// (`h=`) the lowest field of that name not yet taken, nothing where there is none left; then
    /// the field of the signature itself, with the two parts of its value between which the
    /// signature data is, and without a line end.
    ///
    /// The signature's own field is never one of the named fields (RFC 6376 §3.5).
    pub(crate) fn write_signed(
        &self,
        canonicalization: Canonicalization,
        names: &FieldNames,
        own: Field<'_>,
        unsigned_value: [&[u8]; 2],
        output: &mut Vec<u8>,
    ) {
        output.clear();
        output.reserve(self.size);
        // How many of the fields of a name are taken, where the first of them is.
        let mut taken = vec![0_u32; self.fields.len()];
        for name in names.iter() {
            let (place, fields) = self.find(name);
            // The place behind all fields is that of a name that none of them has.
            let Some(taken) = taken.get_mut(place) else { continue };
            for (_, field) in fields.iter().rev().skip(*taken as usize) {
                *taken += 1;
                if field.number != own.number {
                    canonicalization.append_name(field.name, output);
                    canonicalization.append_value(field.value, output);
                    output.extend_from_slice(b"\r\n");
                    break;
                }
            }
        }
        canonicalization.append_name(own.name, output);
        // What is on either side of the data is no white space.
        unsigned_value.iter().for_each(|part| canonicalization.append_value(part, output));
    }
}

/// The first octets of a name, in lower case: their order is that of most names.
type Beginning = u64;

fn beginning(name: &[u8]) -> Beginning {
    let mut octets = [0; size_of::<Beginning>()];
    octets.iter_mut().zip(name).for_each(|(octet, letter)| *octet = letter.to_ascii_lowercase());
    Beginning::from_be_bytes(octets)
}

/// The order of a field and a name with this beginning. The case of names does not count.
fn compare((beginning, field): &(Beginning, Field<'_>), other: Beginning, name: &[u8]) -> Ordering {
    let lower = |octet: &u8| octet.to_ascii_lowercase();
    let compare_all = || field.name().iter().map(lower).cmp(name.iter().map(lower));
    beginning.cmp(&other).then_with(compare_all)
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
            let field = header.get(own).unwrap();
            prop_assert_eq!(field.value(), fields[own].1.as_bytes());
            let signed = FieldNames::new(names.join(" :\t").as_bytes());
            let mut output = b"left from before".to_vec();
            let (front, back) = unsigned.split_at(4);
            header.index().write_signed(canonicalization, &signed, field, [front, back].map(str::as_bytes), &mut output);
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
