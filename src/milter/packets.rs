//! The packets of an MTA, before the milter library sees them: where they begin and end, and what it could not read.

use std::{io, net::IpAddr, time::Duration};

use tokio::io::ReadBuf;

use super::macros::Macros;

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

/// The command that defines macros. They are kept here: what the library does for each of them costs more than all else about a
/// small packet, and it passes over a packet that defines none, so that the name of an authenticated client would hold on.
const MACROS: u8 = b'D';

/// The command that ends the connection.
const QUIT: u8 = b'Q';

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

/// Octets of a packet's length and command.
const HEAD: usize = 5;

/// What has come and is not yet passed on, and where in a packet the next octet belongs.
///
/// What macros there are is told in step with what is passed on: the library asks for more when it is done with all that it got, so
/// a packet that changes macros waits until then.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// Octets that have come, from the head of a packet on if `rest` is 0.
    input: Vec<u8>,
    /// Octets of the packet under way that need not be looked at.
    rest: usize,
    /// What goes to the library before anything else, and how much of it has gone.
    ready: Vec<u8>,
    gone: usize,
    negotiated: bool,
    /// The command of the last packet; 0 before the first.
    last: u8,
    /// The client that was described last.
    client: Option<Described>,
}

/// What is to be told of a client's description.
#[derive(Debug)]
pub(super) struct Described {
    /// What stood where the address belongs, where that is none.
    pub(super) no_address: Option<String>,
}

/// The head of a packet.
#[derive(Clone, Copy)]
struct Head {
    octets: [u8; HEAD],
    command: u8,
    /// Octets of the packet, its command included.
    length: u32,
}

impl Head {
    /// Octets that follow the command.
    fn rest(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX).saturating_sub(1)
    }
}

impl Packets {
    /// Whether something waits that can perhaps be passed on.
    pub(super) fn is_waiting(&self) -> bool {
        !self.input.is_empty() || !self.ready.is_empty()
    }

    /// Whether the last packet that came ends the connection.
    pub(super) fn has_quit(&self) -> bool {
        self.last == QUIT
    }

    /// The client that was described since the last time.
    pub(super) fn take_client(&mut self) -> Option<Described> {
        self.client.take()
    }

    /// Room of the library's own for octets that need not be looked at.
    pub(super) fn direct_room<'a>(&self, buf: &'a mut ReadBuf<'_>) -> Option<&'a mut [u8]> {
        let is_direct = self.rest > 0 && !self.is_waiting();
        is_direct.then(|| buf.initialize_unfilled_to(self.rest.min(buf.remaining())))
    }

    /// So many octets went past; whether a packet ended with them.
    pub(super) fn passed(&mut self, length: usize) -> bool {
        self.rest = self.rest.saturating_sub(length);
        self.rest == 0 && length > 0
    }

    /// Takes octets in and passes on what can be; whether a packet ended in that.
    ///
    /// # Errors
    ///
    /// The first packet opens no session: whoever speaks something else is not listened to. Or a packet has an impossible length.
    pub(super) fn take(&mut self, octets: &[u8], macros: &mut Macros, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        if self.input.is_empty() {
            // Mostly all of it can be passed on, and nothing is to be kept.
            let mut rest = octets;
            let ended = self.pass(&mut rest, macros, buf)?;
            self.input.extend_from_slice(rest);
            return Ok(ended);
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(octets);
        let mut rest = input.as_slice();
        let ended = self.pass(&mut rest, macros, buf)?;
        let used = input.len() - rest.len();
        // Not cleared but dropped: most connections are idle most of the time, and are to be small then.
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        Ok(ended)
    }

    fn pass(&mut self, octets: &mut &[u8], macros: &mut Macros, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut ended = false;
        let empty = buf.remaining();
        loop {
            self.deliver(buf);
            let (taken, left) = octets.split_at(self.rest.min(octets.len()).min(buf.remaining()));
            buf.put_slice(taken);
            *octets = left;
            ended |= self.passed(taken.len());
            if self.rest > 0 || buf.remaining() == 0 {
                return Ok(ended);
            }
            let head = match self.head(octets) {
                // What came before counts; the trouble is met again.
                Err(_) if buf.remaining() < empty => return Ok(ended),
                head => head?,
            };
            let Some(head) = head else { return Ok(ended) };
            let changes_macros = head.command == MACROS || Macros::end_with(head.command);
            if changes_macros && buf.remaining() < empty {
                return Ok(ended);
            }
            let is_read = head.command == MACROS || head.command == CONNECT && head.length <= MAX_CONNECT_LENGTH;
            let end = if is_read { HEAD + head.rest() } else { HEAD };
            let Some((packet, left)) = octets.split_at_checked(end) else { return Ok(ended) };
            *octets = left;
            self.last = head.command;
            let content = packet.get(HEAD..).unwrap_or_default();
            if head.command == MACROS {
                macros.define(content);
                ended = true;
                continue;
            }
            if changes_macros {
                macros.begin(head.command);
            }
            if is_read {
                let (content, no_address) = readable_connect(content);
                self.ready = connect_packet(&content);
                self.client = Some(Described { no_address });
                ended = true;
                continue;
            }
            if head.command == QUIT_NEW_CONNECTION {
                self.ready = [BEFORE_QUIT, &head.octets].concat();
            } else if buf.remaining() < HEAD {
                self.ready = head.octets.to_vec();
            } else {
                buf.put_slice(&head.octets);
            }
            self.rest = head.rest();
            ended |= self.rest == 0;
        }
    }

    /// Gives what is ready.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let ready = self.ready.get(self.gone..).unwrap_or_default();
        let given = ready.get(..buf.remaining()).unwrap_or(ready);
        buf.put_slice(given);
        self.gone += given.len();
        if self.gone >= self.ready.len() {
            self.ready = Vec::new();
            self.gone = 0;
        }
    }

    /// The head of the next packet, if all of it is there.
    fn head(&mut self, octets: &[u8]) -> io::Result<Option<Head>> {
        let Some(&octets @ [a, b, c, d, command]) = octets.first_chunk::<HEAD>() else { return Ok(None) };
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
        Ok(Some(Head { octets, command, length }))
    }

    /// How long the peer may take for what it owes now: the first packet, or the rest of one.
    pub(super) fn limit_in_force(&self) -> Option<Duration> {
        if self.rest > 0 || !self.input.is_empty() {
            Some(PACKET_LIMIT)
        } else if !self.negotiated {
            Some(NEGOTIATION_LIMIT)
        } else {
            None
        }
    }
}

fn connect_packet(content: &[u8]) -> Vec<u8> {
    // What was made readable is hardly longer than it came, and that was bounded.
    let length = u32::try_from(content.len() + 1).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), [CONNECT].as_slice(), content].concat()
}

/// The description of a client in a form that the library reads; and what is there instead of an address.
///
/// MTAs write IPv6 addresses with `IPv6:` before them, and `unknown` where there is no address; the library reads neither, and
/// gives the session up. Zones (RFC 4007 §11) mean nothing to others.
///
/// ```text
/// content = hostname NUL family [ port address NUL ]
/// ```
fn readable_connect(content: &[u8]) -> (Vec<u8>, Option<String>) {
    let as_it_is = || (content.to_vec(), None);
    let Some(end) = content.iter().position(|&octet| octet == 0) else { return as_it_is() };
    let host = content.get(..=end).unwrap_or_default();
    let Some(([b'4' | b'6', port @ ..], address)) = content.get(end + 1..).and_then(<[u8]>::split_first_chunk::<3>) else {
        return as_it_is();
    };
    let given = address.split(|&octet| octet == 0).next().unwrap_or_default();
    let text = given.split(|&octet| octet == b'%').next().unwrap_or_default().trim_ascii();
    let text = match text.split_at_checked(5) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"IPv6:") => rest,
        _ => text,
    };
    match str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(address) => {
            let family = if address.is_ipv4() { b'4' } else { b'6' };
            ([host, &[family], port, address.to_string().as_bytes(), b"\0"].concat(), None)
        }
        None => {
            let says_nothing = text.is_empty() || text.eq_ignore_ascii_case(b"unknown");
            let no_address = (!says_nothing).then(|| String::from_utf8_lossy(given).into_owned());
            ([host, b"U"].concat(), no_address)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milter::macros::Macro;
    use proptest::prelude::*;

    const OPEN: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";

    /// What the library gets when octets come in pieces of some size, and the queue id that is known then, for each of its reads.
    fn reads(octets: &[u8], piece: usize, room: usize) -> io::Result<Vec<(Vec<u8>, Option<String>)>> {
        let mut macros = Macros::default();
        let mut packets = Packets::default();
        let mut reads = Vec::new();
        for mut piece in octets.chunks(piece) {
            loop {
                let mut room = vec![0; room];
                let mut buf = ReadBuf::new(&mut room);
                packets.take(piece, &mut macros, &mut buf)?;
                piece = &[];
                if buf.filled().is_empty() {
                    break;
                }
                let queue_id = macros.get(Macro::QueueId).map(|id| String::from_utf8_lossy(id).into_owned());
                reads.push((buf.filled().to_vec(), queue_id));
            }
        }
        Ok(reads)
    }

    fn filter(octets: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        Ok(reads(octets, piece, 7)?.into_iter().flat_map(|(octets, _)| octets).collect())
    }

    fn packet(command: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 1).unwrap();
        [&length.to_be_bytes(), [command].as_slice(), content].concat()
    }

    #[test]
    fn clients_are_described_readably() {
        let read = |content: &[u8]| readable_connect(content).0;
        assert_eq!(read(b"h\x006\x01\x02IPv6:2001:db8::1\0"), b"h\x006\x01\x022001:db8::1\0");
        assert_eq!(read(b"h\x004\x01\x02192.0.2.1\0"), b"h\x004\x01\x02192.0.2.1\0");
        assert_eq!(read(b"h\x004\0\0unknown\0"), b"h\0U");
        assert_eq!(read(b"h\x006\0\0IPv6:\0"), b"h\0U");
        assert_eq!(read(b"h\x004\0\0IPv6:::ffff:192.0.2.1\0"), b"h\x006\0\0::ffff:192.0.2.1\0");
        assert_eq!(readable_connect(b"h\x004\0\0x%y\0").1.as_deref(), Some("x%y"));
        assert_eq!(read(b"h\x006\0\0IPv6:fe80::1%eth0\0"), b"h\x006\0\0fe80::1\0");
        assert_eq!(read(b"h\x004\0\0 192.0.2.7 \0"), b"h\x004\0\x00192.0.2.7\0");
        for (content, told) in [
            (b"h\x004\0\x00192.000.002.007\0".as_slice(), Some("192.000.002.007")),
            (b"h\x006\0\0[::1]\0", Some("[::1]")),
            (b"h\x004\0\0unknown\0", None),
            (b"h\x006\0\0IPv6:\0", None),
            (b"h\x004\0\x00192.0.2.1\0", None),
            (b"h\0U", None),
        ] {
            assert_eq!(readable_connect(content).1.as_deref(), told, "{content:?}");
        }
        for odd in [b"h\0U".as_slice(), b"h\0L\0\0/x\0", b"h", b"", b"h\0", b"h\x004", b"h\0X"] {
            assert_eq!(read(odd), odd);
        }
    }

    #[test]
    fn macros_are_those_of_the_packets_passed_on() {
        let mail =
            |sender: &str, id: &str| [packet(MACROS, format!("Mi\0{id}\0").as_bytes()), packet(b'M', sender.as_bytes())].concat();
        let nothing_more = [packet(MACROS, b"M"), packet(b'M', b"z\0")].concat();
        let octets =
            [OPEN.to_vec(), mail("x\0", "1"), packet(b'A', b""), mail("y\0", "2"), nothing_more, packet(b'L', b"f\0v\0")]
                .concat();
        for piece in [1, 2, 3, 9, 1000] {
            for room in [1, 6, 1000] {
                let reads = reads(&octets, piece, room).unwrap();
                let passed: Vec<u8> = reads.iter().flat_map(|(octets, _)| octets.clone()).collect();
                let expected =
                    [OPEN, &packet(b'M', b"x\0"), &packet(b'A', b""), &packet(b'M', b"y\0"), &packet(b'M', b"z\0")].concat();
                assert_eq!(passed, [expected, packet(b'L', b"f\0v\0")].concat());
                // What is known at the moment at which the last octet of a sender is read.
                let known = |sender: &str| {
                    let end = passed.windows(3).position(|three| three == [b'M', sender.as_bytes()[0], 0]).unwrap() + 3;
                    let mut length = 0;
                    reads.iter().find_map(|(octets, id)| {
                        length += octets.len();
                        (length >= end).then(|| id.clone())
                    })
                };
                let ids = ["x", "y", "z"].map(|sender| known(sender).unwrap());
                assert_eq!(ids, [Some("1".to_owned()), Some("2".to_owned()), None], "{piece} {room}");
            }
        }
    }

    #[test]
    fn another_session_has_no_macros_of_the_former() {
        for between in [packet(QUIT_NEW_CONNECTION, b""), OPEN.to_vec()] {
            let first = [packet(MACROS, b"Ci\0x\0"), packet(CONNECT, b"a\0U")].concat();
            let octets = [OPEN, &first, &between, &packet(CONNECT, b"b\0U")].concat();
            for piece in [1, 3, 1000] {
                let reads = reads(&octets, piece, 1000).unwrap();
                let known = |host: &[u8]| reads.iter().rfind(|(octets, _)| octets.ends_with(host)).unwrap().1.clone();
                assert_eq!([known(b"a\0U"), known(b"b\0U")], [Some("x".to_owned()), None], "{between:?} {piece}");
            }
        }
    }

    #[test]
    fn packets_that_change_no_macros_pass_together() {
        let header = packet(b'L', b"name\0value\0").repeat(5);
        let octets = [OPEN, &header, &packet(MACROS, b"Ei\0x\0"), &packet(b'E', b"")].concat();
        let reads = reads(&octets, 1000, 1000).unwrap();
        assert_eq!(reads, [([OPEN, &header].concat(), None), (packet(b'E', b""), Some("x".to_owned()))]);
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
    fn what_comes_before_an_impossible_length_counts() {
        let mut macros = Macros::default();
        let mut packets = Packets::default();
        let good = [OPEN, &packet(b'L', b"x\0y\0"), &packet(b'E', b"")].concat();
        let mut room = [0; 100];
        let mut buf = ReadBuf::new(&mut room);
        packets.take(&[good.as_slice(), b"\0\0\0\0X"].concat(), &mut macros, &mut buf).unwrap();
        assert_eq!(buf.filled(), good);
        assert!(packets.is_waiting());
        assert!(packets.take(&[], &mut macros, &mut ReadBuf::new(&mut [0; 100])).is_err());
    }

    #[test]
    fn each_client_is_described_anew() {
        let mut macros = Macros::default();
        let mut packets = Packets::default();
        let mut describe = |content: &[u8]| {
            let octets = [OPEN, &packet(CONNECT, content)].concat();
            packets.take(&octets, &mut macros, &mut ReadBuf::new(&mut [0; 200])).unwrap();
            packets.take(&[], &mut macros, &mut ReadBuf::new(&mut [0; 200])).unwrap();
            packets.take_client().map(|client| client.no_address)
        };
        assert_eq!(describe(b"h\x004\0\0bad\0"), Some(Some("bad".to_owned())));
        assert_eq!(describe(b"h\x004\0\x00192.0.2.1\0"), Some(None));
        assert!(packets.take_client().is_none());
    }

    #[test]
    fn another_session_can_follow_at_any_time() {
        let octets = [OPEN, &packet(b'K', b"")].concat();
        assert_eq!(filter(&octets, 4).unwrap(), [OPEN, BEFORE_QUIT, &packet(b'K', b"")].concat());
        assert_eq!(BEFORE_QUIT, packet(b'U', &[BEFORE_QUIT_ARGUMENT, b"\0"].concat()));
    }

    #[test]
    fn no_memory_is_kept() {
        let mut macros = Macros::default();
        let mut packets = Packets::default();
        let octets = [OPEN, &packet(CONNECT, &[b'x'; 8000]), &packet(MACROS, &[b'x'; 8000]), &packet(b'H', b"x\0")].concat();
        for piece in octets.chunks(1000) {
            packets.take(piece, &mut macros, &mut ReadBuf::new(&mut [0; 500])).unwrap();
        }
        while packets.is_waiting() {
            packets.take(&[], &mut macros, &mut ReadBuf::new(&mut [0; 500])).unwrap();
        }
        assert_eq!(packets.input.capacity() + packets.ready.capacity(), 0);
    }

    #[test]
    fn a_peer_owes_what_it_has_begun() {
        let mut macros = Macros::default();
        let mut packets = Packets::default();
        let mut take = |octets: &[u8]| {
            let ended = packets.take(octets, &mut macros, &mut ReadBuf::new(&mut [0; 100])).unwrap();
            (ended, packets.limit_in_force())
        };
        assert_eq!(take(b""), (false, Some(NEGOTIATION_LIMIT)));
        assert_eq!(take(&OPEN[..3]), (false, Some(PACKET_LIMIT)));
        assert_eq!(take(&OPEN[3..]), (true, None));
        for part in [b"\0\0\0\x09Babc".as_slice(), b"xyzuv\0\0", b"\0\x09DMabc"] {
            assert_eq!(take(part).1, Some(PACKET_LIMIT));
        }
        assert_eq!(take(b"xyzu"), (true, None));
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
            let _ = filter(&[OPEN, &packet(MACROS, &octets)].concat(), piece);
        }
    }
}
