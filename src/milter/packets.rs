//! The packets of an MTA, before the milter library sees them: where they begin and end, and what it could not read.

use std::{io, net::IpAddr, time::Duration};

use tokio::io::ReadBuf;

/// How long a new connection may take until its first packet is there.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(30);

/// How long a packet may take from its first octet to its last.
const PACKET_LIMIT: Duration = Duration::from_secs(60);

/// The command that opens a milter session, and the lengths that its packet has: version, actions, steps and little more.
const NEGOTIATE: u8 = b'O';
const NEGOTIATE_LENGTHS: std::ops::RangeInclusive<u32> = 13..=1024;

/// The command that describes the client, and the most octets of its packet: a host name and an address.
const CONNECT: u8 = b'C';
const MAX_CONNECT_LENGTH: u32 = 8192;

/// The command that ends an SMTP session and announces another one on the same connection.
const QUIT_NEW_CONNECTION: u8 = b'K';

/// What is put before [`QUIT_NEW_CONNECTION`]: an unknown SMTP command, with an argument that no SMTP client can send. The library
/// takes the former at the end of a message alone and then, elsewhere, leaves the next client unanswered; after this one it takes it
/// always.
const BEFORE_QUIT: &[u8] = b"\0\0\0\x03U\n\0";
pub(super) const BEFORE_QUIT_ARGUMENT: &[u8] = b"\n";

/// The most octets that the library reads of a packet, its command included.
const MAX_LENGTH: u32 = 1024 * 1024;

/// The most octets of packets that stay in memory as long as the connection or the message does: macros, HELO, envelope.
const MAX_KEPT_LENGTH: u32 = 64 * 1024;
const KEPT: &[u8] = b"DHMRU";

/// The command that defines macros, and the length of its packet where it defines none: the stage alone.
///
/// The library passes over such a packet, so that the macros of the former message would hold on, the name of an authenticated
/// client among them. One that has no name does no harm.
const MACROS: u8 = b'D';
const NO_MACROS_LENGTH: u32 = 2;
const NO_MACROS: &[u8] = b"\0\0";

/// Octets of a packet's length and command.
const HEAD: usize = 5;

/// What has come and is not yet delivered, and where in a packet the next octet belongs.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// The head of a packet, as far as it has come; and all of a packet that must be complete to be read.
    held: Vec<u8>,
    /// Octets that `held` wants before it is looked at.
    wanted: usize,
    /// Octets of the packet that need not be looked at.
    rest: usize,
    /// What goes to the library next, and how much of it has gone.
    ready: Vec<u8>,
    gone: usize,
    negotiated: bool,
}

impl Packets {
    /// Gives what is ready; whether there was anything.
    pub(super) fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = self.ready.get(self.gone..).unwrap_or_default();
        let given = ready.get(..buf.remaining()).unwrap_or(ready);
        buf.put_slice(given);
        self.gone += given.len();
        let some = !given.is_empty();
        if self.gone >= self.ready.len() {
            // Not cleared but dropped: most connections are idle most of the time, and are to be small then.
            self.ready = Vec::new();
            self.gone = 0;
        }
        some
    }

    /// Room of the library's own for octets that need not be looked at.
    pub(super) fn direct_room<'a>(&self, buf: &'a mut ReadBuf<'_>) -> Option<&'a mut [u8]> {
        if self.rest == 0 { None } else { Some(buf.initialize_unfilled_to(self.rest.min(buf.remaining()))) }
    }

    /// So many octets went past; whether a packet ended with them.
    pub(super) fn passed(&mut self, length: usize) -> bool {
        self.rest = self.rest.saturating_sub(length);
        self.rest == 0 && length > 0
    }

    /// Takes octets in; whether a packet ended in them.
    ///
    /// # Errors
    ///
    /// The first packet opens no session: whoever speaks something else is not listened to. Or a packet has an impossible length.
    pub(super) fn take(&mut self, mut octets: &[u8]) -> io::Result<bool> {
        let mut ended = false;
        if self.ready.is_empty() {
            self.ready.reserve(octets.len() + self.held.len());
        }
        while !octets.is_empty() {
            if self.rest > 0 {
                let (taken, left) = octets.split_at(self.rest.min(octets.len()));
                self.ready.extend_from_slice(taken);
                ended |= self.passed(taken.len());
                octets = left;
                continue;
            }
            let wanted = self.wanted.max(HEAD);
            let (taken, left) = octets.split_at((wanted - self.held.len()).min(octets.len()));
            self.held.extend_from_slice(taken);
            octets = left;
            if self.held.len() == wanted {
                ended |= self.look(wanted)?;
            }
        }
        Ok(ended)
    }

    /// Looks at a head, or at a packet that was held until it was complete.
    fn look(&mut self, wanted: usize) -> io::Result<bool> {
        let Some((&[a, b, c, d, command], content)) = self.held.split_first_chunk::<HEAD>() else { return Ok(false) };
        if wanted > HEAD {
            let packet = if command == CONNECT { readable_connect(content) } else { [content, NO_MACROS].concat() };
            let length = u32::try_from(packet.len() + 1).map_err(|_| io::ErrorKind::InvalidData)?;
            self.ready.extend_from_slice(&length.to_be_bytes());
            self.ready.push(command);
            self.ready.extend_from_slice(&packet);
            self.held = Vec::new();
            self.wanted = 0;
            return Ok(true);
        }
        let length = u32::from_be_bytes([a, b, c, d]);
        let opens = command == NEGOTIATE && NEGOTIATE_LENGTHS.contains(&length);
        if !self.negotiated && !opens {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "peer does not speak milter"));
        }
        let most = if KEPT.contains(&command) { MAX_KEPT_LENGTH } else { MAX_LENGTH };
        if !(1..=most).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("packet of {length} octets")));
        }
        self.negotiated = true;
        let rest = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(1);
        let is_to_be_read = command == CONNECT && rest > 0 && length <= MAX_CONNECT_LENGTH;
        if is_to_be_read || command == MACROS && length == NO_MACROS_LENGTH {
            self.wanted = HEAD + rest;
            return Ok(false);
        }
        if command == QUIT_NEW_CONNECTION {
            self.ready.extend_from_slice(BEFORE_QUIT);
        }
        self.ready.append(&mut self.held);
        self.rest = rest;
        Ok(rest == 0)
    }

    /// How long the peer may take for what it owes now: the first packet, or the rest of one.
    pub(super) fn limit_in_force(&self) -> Option<Duration> {
        if self.rest > 0 || !self.held.is_empty() {
            Some(PACKET_LIMIT)
        } else if !self.negotiated {
            Some(NEGOTIATION_LIMIT)
        } else {
            None
        }
    }
}

/// The description of a client in a form that the library reads.
///
/// MTAs write IPv6 addresses with `IPv6:` before them, and `unknown` where there is no address; the library reads neither, and
/// gives the session up.
///
/// ```text
/// content = hostname NUL family [ port address NUL ]
/// ```
fn readable_connect(content: &[u8]) -> Vec<u8> {
    let mut packet = content.to_vec();
    let Some(end) = content.iter().position(|&octet| octet == 0) else { return packet };
    let host = content.get(..=end).unwrap_or_default();
    let Some(([b'4' | b'6', port @ ..], address)) = content.get(end + 1..).and_then(<[u8]>::split_first_chunk::<3>) else {
        return packet;
    };
    let text = address.split(|&octet| octet == 0).next().unwrap_or_default();
    let text = match text.split_at_checked(5) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"IPv6:") => rest,
        _ => text,
    };
    packet.clear();
    packet.extend_from_slice(host);
    match str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) => {
            packet.push(if address.is_ipv4() { b'4' } else { b'6' });
            packet.extend_from_slice(port);
            packet.extend_from_slice(address.to_string().as_bytes());
            packet.push(0);
        }
        None => packet.push(b'U'),
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";

    /// What the library gets when octets come in pieces of some size.
    fn filter(octets: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut packets = Packets::default();
        let mut delivered = Vec::new();
        for piece in octets.chunks(piece) {
            packets.take(piece)?;
            let mut room = [0; 7];
            loop {
                let mut buf = ReadBuf::new(&mut room);
                if !packets.deliver(&mut buf) {
                    break;
                }
                delivered.extend_from_slice(buf.filled());
            }
        }
        Ok(delivered)
    }

    fn packet(command: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content].concat()
    }

    #[test]
    fn clients_are_described_readably() {
        let read = |content: &[u8]| readable_connect(content);
        assert_eq!(read(b"h\x006\x01\x02IPv6:2001:db8::1\0"), b"h\x006\x01\x022001:db8::1\0");
        assert_eq!(read(b"h\x004\x01\x02192.0.2.1\0"), b"h\x004\x01\x02192.0.2.1\0");
        assert_eq!(read(b"h\x004\0\0unknown\0"), b"h\0U");
        assert_eq!(read(b"h\x006\0\0IPv6:\0"), b"h\0U");
        assert_eq!(read(b"h\x004\0\0IPv6:::ffff:192.0.2.1\0"), b"h\x006\0\0::ffff:192.0.2.1\0");
        for odd in [b"h\0U".as_slice(), b"h\0L\0\0/x\0", b"h", b"", b"h\0", b"h\x004", b"h\0X"] {
            assert_eq!(read(odd), odd);
        }
    }

    #[test]
    fn no_macros_replace_macros() {
        let octets = [OPEN, &packet(MACROS, b"M"), &packet(b'M', b"<>\0")].concat();
        let expected = [OPEN, &packet(MACROS, b"M\0\0"), &packet(b'M', b"<>\0")].concat();
        for piece in [1, 2, 6, 100] {
            assert_eq!(filter(&octets, piece).unwrap(), expected);
        }
    }

    #[test]
    fn what_stays_in_memory_is_small() {
        for command in KEPT {
            let longest = packet(*command, &[b'x'; MAX_KEPT_LENGTH as usize - 1]);
            assert!(filter(&[OPEN, &longest].concat(), 4096).is_ok());
            assert!(filter(&[OPEN, &packet(*command, &[b'x'; MAX_KEPT_LENGTH as usize])].concat(), 4096).is_err());
        }
        assert!(filter(&[OPEN, &packet(b'L', &[b'x'; 1_000_000])].concat(), 4096).is_ok());
    }

    #[test]
    fn whoever_does_not_speak_milter_is_not_listened_to() {
        for other in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"\x16\x03\x01\x02\0",
            b"\xff\xff\xff\xffO",
            b"\0\0\0\x01Q",
            b"\0\0\0\0O",
            b"EHLO x\r\n",
        ] {
            assert!(filter(other, 3).is_err(), "{other:?}");
        }
        assert!(filter(OPEN, 1).is_ok());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0, MAX_LENGTH + 1, u32::MAX] {
            let octets = [OPEN, &length.to_be_bytes(), b"B"].concat();
            assert!(filter(&octets, 100).is_err(), "{length}");
        }
        assert!(filter(&[OPEN, &MAX_LENGTH.to_be_bytes(), b"B"].concat(), 100).is_ok());
    }

    #[test]
    fn another_session_can_follow_at_any_time() {
        let octets = [OPEN, &packet(b'K', b"")].concat();
        assert_eq!(filter(&octets, 4).unwrap(), [OPEN, BEFORE_QUIT, &packet(b'K', b"")].concat());
        assert_eq!(BEFORE_QUIT, packet(b'U', &[BEFORE_QUIT_ARGUMENT, b"\0"].concat()));
    }

    #[test]
    fn no_memory_is_kept() {
        let mut packets = Packets::default();
        packets.take(OPEN).unwrap();
        packets.take(&packet(CONNECT, &[b'x'; 8000])).unwrap();
        let mut room = [0; 10_000];
        while packets.deliver(&mut ReadBuf::new(&mut room)) {}
        assert_eq!(packets.held.capacity() + packets.ready.capacity(), 0);
    }

    #[test]
    fn a_peer_owes_what_it_has_begun() {
        let mut packets = Packets::default();
        assert_eq!(packets.limit_in_force(), Some(NEGOTIATION_LIMIT));
        assert!(!packets.take(&OPEN[..3]).unwrap());
        assert_eq!(packets.limit_in_force(), Some(PACKET_LIMIT));
        assert!(packets.take(&OPEN[3..]).unwrap());
        assert_eq!(packets.limit_in_force(), None);
        assert!(!packets.take(b"\0\0\0\x09Babc").unwrap());
        assert_eq!(packets.limit_in_force(), Some(PACKET_LIMIT));
    }

    proptest! {
        #[test]
        fn other_packets_pass_as_they_are(
            contents in prop::collection::vec((any::<u8>().prop_filter("other", |c| ![CONNECT, QUIT_NEW_CONNECTION, MACROS].contains(c)), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            piece in 1usize..30,
        ) {
            let mut octets = OPEN.to_vec();
            for (command, content) in &contents {
                octets.extend(packet(*command, content));
            }
            prop_assert_eq!(filter(&octets, piece).unwrap(), octets);
        }

        #[test]
        fn pieces_make_no_difference(content in prop::collection::vec(any::<u8>(), 0..60), piece in 1usize..30) {
            let octets = [OPEN, &packet(CONNECT, &content), &packet(b'H', b"x\0")].concat();
            prop_assert_eq!(filter(&octets, piece).unwrap(), filter(&octets, 1000).unwrap());
        }

        #[test]
        fn nothing_panics(octets in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..30) {
            let _ = filter(&[OPEN, &octets].concat(), piece);
        }
    }
}
