//! Packets for the MTA: edits of a message, and answers.
//!
//! They are gathered and written together, so that the MTA is woken once. There are never many: the
//! session bounds deletions, and what it inserts.

use std::io;

use indymilter::message::reply::ReplyKind;

use super::buffers::{Buffer, Kind};
use crate::{
    mail::{octets::find_octet, reply::Reply},
    session::Edit,
};

/// Packets for the MTA, one behind the other.
#[derive(Debug)]
pub(super) struct Replies {
    packets: Buffer,
}

impl Default for Replies {
    fn default() -> Self {
        Self { packets: Buffer::new(Kind::Output) }
    }
}

impl Replies {
    /// Adds an answer that is only a command.
    pub(super) fn push(&mut self, kind: ReplyKind) {
        self.packets.equip();
        self.packets.extend_from_slice(&[0, 0, 0, 1, u8::from(kind)]);
    }

    /// Adds a packet of texts, each of which consists of parts; every text ends in NUL.
    ///
    /// # Errors
    ///
    /// A text has a NUL of its own, or is too long.
    fn push_texts(&mut self, kind: ReplyKind, head: &[u8], texts: &[&[&str]]) -> io::Result<()> {
        let parts = || texts.iter().copied().flatten();
        // Nothing of ours has a NUL; what stands behind one would be read as something else.
        if parts().any(|part| find_octet(part.as_bytes(), 0).is_some()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "internal error: NUL in a text for the MTA",
            ));
        }
        let length = 1 + head.len() + texts.len() + parts().map(|part| part.len()).sum::<usize>();
        self.packets.equip();
        self.packets.reserve(4 + length);
        self.packets.extend_from_slice(
            &u32::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?.to_be_bytes(),
        );
        self.packets.push(u8::from(kind));
        self.packets.extend_from_slice(head);
        for text in texts {
            text.iter().for_each(|part| self.packets.extend_from_slice(part.as_bytes()));
            self.packets.push(0);
        }
        Ok(())
    }

    /// Adds a reply for the client.
    ///
    /// # Errors
    ///
    /// As those of a text.
    pub(super) fn push_reply(&mut self, reply: &Reply) -> io::Result<()> {
        let codes = format!("{} {} ", reply.code(), reply.status());
        self.push_texts(ReplyKind::ReplyCode, &[], &[&[&codes, &reply.text_for_mta()]])
    }

    /// Adds the answer to a negotiation: its three numbers, and the macros that are asked for, by
    /// the numbers of their stages.
    ///
    /// # Errors
    ///
    /// As those of a text.
    pub(super) fn push_negotiation(
        &mut self,
        numbers: [u32; 3],
        macros: &[(i32, &str)],
    ) -> io::Result<()> {
        let mut head: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        for (stage, names) in macros {
            head.extend(stage.to_be_bytes());
            head.extend_from_slice(names.as_bytes());
            head.push(0);
        }
        self.push_texts(ReplyKind::OptNeg, &head, &[])
    }

    /// Adds an edit of the header.
    ///
    /// ```text
    /// insert = index name NUL value NUL
    /// delete = index name NUL NUL
    /// ```
    ///
    /// The white space behind the colon of a field is ours to give `with_space`.
    ///
    /// # Errors
    ///
    /// As those of a text.
    pub(super) fn push_edit(&mut self, with_space: bool, edit: &Edit) -> io::Result<()> {
        match edit {
            Edit::Insert { index, field } => {
                let space = if with_space { " " } else { "" };
                self.push_texts(
                    ReplyKind::InsertHeader,
                    &index.to_be_bytes(),
                    &[&[&field.name], &[space, &field.value]],
                )
            }
            Edit::Delete { name, index } => {
                self.push_texts(ReplyKind::ChangeHeader, &index.to_be_bytes(), &[&[name], &[]])
            }
        }
    }

    /// Adds that the message is to be kept back, for a reason.
    ///
    /// # Errors
    ///
    /// As those of a text.
    pub(super) fn push_quarantine(&mut self, reason: &str) -> io::Result<()> {
        self.push_texts(ReplyKind::Quarantine, &[], &[&[reason]])
    }

    /// Takes what is to be written.
    pub(super) fn take(&mut self) -> Buffer {
        std::mem::take(self).packets
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::mail::header_field::HeaderField;

    const DELETE: Edit = Edit::Delete { name: Cow::Borrowed("A-R"), index: 258 };

    fn insert(value: &str) -> Edit {
        Edit::Insert { index: 0, field: HeaderField { name: "X".into(), value: value.to_owned() } }
    }

    #[test]
    fn edits_are_packets() {
        let mut replies = Replies::default();
        replies.push_edit(false, &DELETE).unwrap();
        replies.push_edit(false, &insert("a\n b")).unwrap();
        replies.push_quarantine("why").unwrap();
        replies.push(ReplyKind::Continue);
        let expected = b"\0\0\0\x0am\0\0\x01\x02A-R\0\0\0\0\0\x0ci\0\0\0\0X\0a\n b\0\0\0\0\x05qwhy\0\0\0\0\x01c";
        assert_eq!(replies.take().to_vec(), expected);
        replies.push_edit(true, &insert("a")).unwrap();
        assert_eq!(replies.take().to_vec(), b"\0\0\0\x0ai\0\0\0\0X\0 a\0");
        assert!(replies.push_edit(true, &insert("a\0b")).is_err());
        assert!(replies.take().to_vec().is_empty());
    }

    #[test]
    fn answers_are_packets() {
        let mut replies = Replies::default();
        replies
            .push_reply(&Reply::new("550".parse().unwrap(), "5.7.23".parse().unwrap(), "50 %"))
            .unwrap();
        assert_eq!(replies.take().to_vec(), b"\0\0\0\x12y550 5.7.23 50 %%\0");
        replies.push_negotiation([6, 1, 2], &[(0, "j"), (5, "i")]).unwrap();
        assert_eq!(
            replies.take().to_vec(),
            b"\0\0\0\x19O\0\0\0\x06\0\0\0\x01\0\0\0\x02\0\0\0\0j\0\0\0\0\x05i\0"
        );
    }
}
