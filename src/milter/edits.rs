//! Edits of a message, as packets for the MTA.
//!
//! They go past the library, to the reply that follows them: handed to it one by one, each would cost as much as an answer does. There
//! are never many: the session bounds deletions, and what it inserts.

use std::io;

use indymilter::Actions;

use crate::session::Edit;

/// Packets that change a message, one behind the other.
#[derive(Debug)]
pub(super) struct EditPackets {
    /// What the MTA lets us do.
    actions: Actions,
    /// Whether the white space behind the colon of a field is ours to give.
    with_space: bool,
    packets: Vec<u8>,
}

impl EditPackets {
    /// No packets yet.
    pub(super) fn new(actions: Actions, with_space: bool) -> Self {
        Self { actions, with_space, packets: Vec::new() }
    }

    /// Adds an edit of the header.
    ///
    /// ```text
    /// insert = index name NUL value NUL
    /// delete = index name NUL NUL
    /// ```
    ///
    /// # Errors
    ///
    /// The MTA does not let us.
    pub(super) fn edit(&mut self, edit: &Edit) -> io::Result<()> {
        match edit {
            Edit::Insert { index, field } => {
                let space = if self.with_space { " " } else { "" };
                self.push(Actions::ADD_HEADER, b'i', Some(*index), &[&[field.name], &[space, &field.value]])
            }
            Edit::Delete { name, index } => self.push(Actions::CHANGE_HEADER, b'm', Some(*index), &[&[name], &[]]),
        }
    }

    /// Adds that the message is to be kept back, for a reason.
    ///
    /// # Errors
    ///
    /// The MTA does not let us.
    pub(super) fn quarantine(&mut self, reason: &str) -> io::Result<()> {
        self.push(Actions::QUARANTINE, b'q', None, &[&[reason]])
    }

    /// Adds a packet of an index and texts that end in NUL; each text consists of parts.
    fn push(&mut self, action: Actions, command: u8, index: Option<i32>, texts: &[&[&str]]) -> io::Result<()> {
        if !self.actions.contains(action) {
            let what = match command {
                b'i' => "add header fields",
                b'm' => "delete header fields",
                _ => "keep messages back",
            };
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the MTA does not let milters {what}")));
        }
        // Nothing of ours has a NUL; what stands behind one would be read as something else.
        if texts.iter().copied().flatten().any(|part| part.contains('\0')) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "internal error: NUL in a header field"));
        }
        let index = index.map(i32::to_be_bytes);
        let texts_length: usize = texts.iter().map(|text| 1 + text.iter().map(|part| part.len()).sum::<usize>()).sum();
        let length = 1 + index.as_slice().as_flattened().len() + texts_length;
        self.packets.reserve(4 + length);
        self.packets.extend_from_slice(&u32::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?.to_be_bytes());
        self.packets.push(command);
        self.packets.extend_from_slice(index.as_slice().as_flattened());
        for text in texts {
            text.iter().for_each(|part| self.packets.extend_from_slice(part.as_bytes()));
            self.packets.push(0);
        }
        Ok(())
    }

    /// What is to go with the reply.
    pub(super) fn into_packets(self) -> Vec<u8> {
        self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header_field::HeaderField;

    const DELETE: Edit = Edit::Delete { name: "A-R", index: 258 };

    fn insert(value: &str) -> Edit {
        Edit::Insert { index: 0, field: HeaderField { name: "X", value: value.to_owned() } }
    }

    #[test]
    fn edits_are_packets() {
        let mut packets = EditPackets::new(Actions::all(), false);
        packets.edit(&DELETE).unwrap();
        packets.edit(&insert("a\n b")).unwrap();
        packets.quarantine("why").unwrap();
        let expected = b"\0\0\0\x0am\0\0\x01\x02A-R\0\0\0\0\0\x0ci\0\0\0\0X\0a\n b\0\0\0\0\x05qwhy\0";
        assert_eq!(packets.into_packets(), expected);
        let mut packets = EditPackets::new(Actions::all(), true);
        packets.edit(&insert("a")).unwrap();
        assert!(packets.edit(&insert("a\0b")).is_err());
        assert_eq!(packets.into_packets(), b"\0\0\0\x0ai\0\0\0\0X\0 a\0");
    }

    #[test]
    fn nothing_is_done_that_the_mta_forbids() {
        let possible = |actions| {
            let mut packets = EditPackets::new(actions, false);
            [packets.edit(&DELETE).is_ok(), packets.edit(&insert("x")).is_ok(), packets.quarantine("x").is_ok()]
        };
        assert_eq!(possible(Actions::empty()), [false; 3]);
        assert_eq!(possible(Actions::CHANGE_HEADER), [true, false, false]);
        assert_eq!(possible(Actions::ADD_HEADER), [false, true, false]);
        assert_eq!(possible(Actions::QUARANTINE), [false, false, true]);
    }
}
