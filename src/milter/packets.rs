//! The packets of an MTA: where they begin and end, and how long they may be.
//!
//! ```text
//! packet = length command content       ; length: 4 octets, big-endian, of command and content
//! ```

use std::{fmt, io};

use indymilter::message::command::CommandKind;

/// The lengths that the packet has which opens a milter session: version, actions, steps and little
/// more.
const NEGOTIATION_LENGTHS: std::ops::RangeInclusive<u32> = 13..=1024;

/// The most octets of a packet, its command included.
const MAX_LENGTH: u32 = 1024 * 1024;

/// The most octets of packets that stay in memory as long as the connection or the message does, or
/// that are taken apart: macros, the client, HELO, the envelope, a negotiation.
const MAX_KEPT_LENGTH: u32 = 64 * 1024;

/// A packet, or a part of one whose content is taken as it comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packet<'a> {
    pub(super) command: CommandKind,
    pub(super) content: &'a [u8],
    /// Whether the packet ends with this part.
    pub(super) is_whole: bool,
}

/// Why octets are not a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PacketError {
    /// The first packet opens no session: the peer speaks something else.
    NotMilter,
    /// A packet of this command cannot have so many octets.
    Length(u32),
    /// No MTA sends this command.
    Command(u8),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMilter => f.write_str("peer does not speak milter"),
            Self::Length(length) => write!(f, "packet of {length} octets"),
            Self::Command(octet) => write!(f, "unknown command {:?}", char::from(*octet)),
        }
    }
}

impl From<PacketError> for io::Error {
    fn from(error: PacketError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error.to_string())
    }
}

/// Where in the packets of a connection the next octet belongs.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Whether a session was opened.
    is_open: bool,
    /// The command of a packet of which a part has come, and how many octets of it have not.
    begun: Option<(CommandKind, usize)>,
}

impl Framing {
    /// Whether the peer has opened a session.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether a part of a packet has been taken, and the rest not.
    pub(super) fn is_within_packet(&self) -> bool {
        self.begun.is_some()
    }

    /// Takes the next packet, or the next part of one whose content is taken as it comes; `None`
    /// where more octets are needed.
    ///
    /// # Errors
    ///
    /// The octets are not a packet.
    pub(super) fn take<'a>(
        &mut self,
        octets: &mut &'a [u8],
    ) -> Result<Option<Packet<'a>>, PacketError> {
        if let Some((command, left)) = self.begun {
            return Ok(self.take_part(octets, command, left));
        }
        // A length that no packet has need not wait for the command.
        let Some((length, rest)) = octets.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if !self.is_open && !NEGOTIATION_LENGTHS.contains(&length) {
            return Err(PacketError::NotMilter);
        }
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(PacketError::Length(length));
        }
        let Some((&command, rest)) = rest.split_first() else { return Ok(None) };
        if !self.is_open && command != u8::from(CommandKind::OptNeg) {
            return Err(PacketError::NotMilter);
        }
        let command = CommandKind::try_from(command).map_err(|_| PacketError::Command(command))?;
        let most = match command {
            CommandKind::DefMacros
            | CommandKind::ConnInfo
            | CommandKind::Helo
            | CommandKind::Mail
            | CommandKind::Rcpt
            | CommandKind::Unknown
            | CommandKind::OptNeg => MAX_KEPT_LENGTH,
            _ => MAX_LENGTH,
        };
        if length > most {
            return Err(PacketError::Length(length));
        }
        // The command is one of the octets.
        let content = usize::try_from(length - 1).map_err(|_| PacketError::Length(length))?;
        if !is_taken_in_parts(command) {
            let Some((content, rest)) = rest.split_at_checked(content) else { return Ok(None) };
            *octets = rest;
            // The first packet is one of these.
            self.is_open = true;
            return Ok(Some(Packet { command, content, is_whole: true }));
        }
        *octets = rest;
        if content == 0 {
            return Ok(Some(Packet { command, content: &[], is_whole: true }));
        }
        self.begun = Some((command, content));
        Ok(self.take_part(octets, command, content))
    }

    fn take_part<'a>(
        &mut self,
        octets: &mut &'a [u8],
        command: CommandKind,
        left: usize,
    ) -> Option<Packet<'a>> {
        if octets.is_empty() {
            return None;
        }
        let (content, rest) = octets.split_at(left.min(octets.len()));
        *octets = rest;
        let left = left - content.len();
        self.begun = (left > 0).then_some((command, left));
        Some(Packet { command, content, is_whole: left == 0 })
    }
}

/// Whether the content of a packet is hashed, or passed over, as it comes.
fn is_taken_in_parts(command: CommandKind) -> bool {
    !matches!(
        command,
        CommandKind::DefMacros
            | CommandKind::ConnInfo
            | CommandKind::Helo
            | CommandKind::Mail
            | CommandKind::Rcpt
            | CommandKind::Header
            | CommandKind::OptNeg
    )
}

/// Splits off a text that ends in NUL; the NUL belongs to neither.
pub(super) fn split_text(content: &[u8]) -> Option<(&[u8], &[u8])> {
    crate::mail::octets::split_once(content, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";

    fn packet(command: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content].concat()
    }

    /// A command and all of its content.
    type Whole = (u8, Vec<u8>);

    /// The packets that come out when octets come in pieces of some size, with parts put together;
    /// and what is left in the end.
    fn packets(octets: &[u8], piece: usize) -> Result<(Vec<Whole>, Vec<u8>), PacketError> {
        let (mut framing, mut input, mut packets) = (Framing::default(), Vec::new(), Vec::new());
        let mut parts: Vec<u8> = Vec::new();
        for piece in octets.chunks(piece) {
            input.extend_from_slice(piece);
            let mut rest = input.as_slice();
            while let Some(packet) = framing.take(&mut rest)? {
                parts.extend_from_slice(packet.content);
                assert_eq!(framing.is_within_packet(), !packet.is_whole);
                if packet.is_whole {
                    packets.push((u8::from(packet.command), std::mem::take(&mut parts)));
                }
            }
            input = rest.to_vec();
        }
        input.splice(0..0, parts);
        Ok((packets, input))
    }

    #[test]
    fn a_peer_that_does_not_speak_milter_is_not_listened_to() {
        for other in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"\x16\x03\x01\x02\0",
            b"\xff\xff\xff\xffO",
            b"\0\0\0\x01Q",
            b"\0\0\0\0O",
            b"\0\0\0\x0cO",
            b"\0\0\x04\x01O",
            b"EHLO x\r\n",
            b"\0\0\0\x0dQ",
            // No more is needed.
            b"\0\0\0\0",
            b"\0\0\0\x0c",
            b"\0\0\x04\x01",
            b"GET ",
        ] {
            assert_eq!(packets(other, 3), Err(PacketError::NotMilter), "{other:?}");
        }
        for length in [13, 14, 1023, 1024] {
            let open = packet(b'O', &vec![0; length - 1]);
            assert_eq!(packets(&open, 1).unwrap().0, [(b'O', vec![0; length - 1])]);
        }
    }

    #[test]
    fn lengths() {
        let kept = usize::try_from(MAX_KEPT_LENGTH).unwrap();
        let most = usize::try_from(MAX_LENGTH).unwrap();
        for (commands, most) in [(b"DCHMRUO".as_slice(), kept), (b"LBENATKQ", most)] {
            for &command in commands {
                for length in [most - 1, most] {
                    let octets = [OPEN, &packet(command, &vec![b'x'; length - 1])].concat();
                    let (packets, left) = packets(&octets, 4096).unwrap();
                    assert_eq!((packets.len(), left.len()), (2, 0), "{command} {length}");
                    assert_eq!((packets[1].0, packets[1].1.len()), (command, length - 1));
                }
                for length in [0, u32::try_from(most).unwrap() + 1, u32::MAX] {
                    let octets = [OPEN, &length.to_be_bytes(), &[command]].concat();
                    assert_eq!(
                        packets(&octets, 100),
                        Err(PacketError::Length(length)),
                        "{command}"
                    );
                }
            }
        }
        for length in [0, MAX_LENGTH + 1, u32::MAX] {
            let octets = [OPEN, &length.to_be_bytes()].concat();
            assert_eq!(packets(&octets, 100), Err(PacketError::Length(length)));
        }
        let (_, left) = packets(&[OPEN, &MAX_LENGTH.to_be_bytes()].concat(), 100).unwrap();
        assert_eq!(left.len(), 4);
        assert_eq!(
            packets(&[OPEN, &packet(b'X', b"")].concat(), 100),
            Err(PacketError::Command(b'X'))
        );
    }

    proptest! {
        /// Against a reader that has all octets at hand.
        #[test]
        fn pieces_make_no_difference(
            contents in prop::collection::vec((prop::sample::select(b"ABCDEHKLMNOQRTU".to_vec()), prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            cut in any::<prop::sample::Index>(),
            piece in 1_usize..40,
        ) {
            let mut octets = OPEN.to_vec();
            contents.iter().for_each(|(command, content)| octets.extend(packet(*command, content)));
            octets.truncate(OPEN.len() + cut.index(octets.len() - OPEN.len() + 1));
            let (found, left) = packets(&octets, piece).unwrap();
            let mut expected = vec![(b'O', OPEN[5..].to_vec())];
            expected.extend(contents.iter().take(found.len() - 1).cloned());
            prop_assert_eq!(&found, &expected);
            let taken: usize = found.iter().map(|(_, content)| 5 + content.len()).sum();
            // The head of a packet that is taken in parts is taken before the rest.
            prop_assert!(octets[taken..].ends_with(&left) && octets.len() - taken - left.len() <= 5);
        }

        #[test]
        fn nothing_panics(octets in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..30) {
            let _ = packets(&[OPEN, &octets].concat(), piece);
        }
    }
}
