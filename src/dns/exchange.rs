//! One question put to one name server: over UDP, over TCP after a truncated reply, without EDNS
//! where the server does not know it.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

use super::{
    answer::Failure,
    message::{Arrival, Ids, Malformed, Question},
    reply::{Reading, rcode_name},
};

/// The octets of a UDP reply that are read: more than we say that we take. The system cuts a longer
/// reply, which is malformed then.
const ROOM: usize = 4096;

/// When a query without a reply is sent again: after this part of the time limit, but no later than
/// that.
const FIRST_REPETITION: (u32, Duration) = (4, Duration::from_secs(1));

/// When it is sent for the last time, without EDNS: some firewalls drop queries with it.
const LAST_REPETITION: (u32, Duration) = (2, Duration::from_millis(2500));

/// RCODEs of servers that do not know EDNS (RFC 6891 §7, §6.1.3): FORMERR, NOTIMP, BADVERS.
const NO_EDNS: [u16; 3] = [1, 4, 16];

/// Asks a server. Ends by itself only where the server says something or cannot be reached; the
/// caller has a limit of time.
pub(super) async fn ask(
    server: SocketAddr,
    question: &Question,
    ids: &Ids,
    limit: Duration,
) -> Reading {
    let reading = match over_udp(server, question, ids, limit).await {
        Ok(Some(reading)) => Ok(reading),
        Ok(None) => over_tcp(server, question, ids.next()).await,
        Err(error) => Err(error),
    };
    reading.unwrap_or_else(|error| {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        Reading::error(if is_late { Failure::Timeout } else { Failure::Network })
    })
}

/// A datagram or message that came, as an answer to a question.
enum Heard {
    /// It belongs to another question, or to none.
    Nothing,
    /// It was cut.
    Cut,
    /// An answer.
    Answer(Reading),
    /// No answer; the same without EDNS may have one.
    Trouble(Failure),
}

impl Heard {
    fn read(octets: &[u8], id: u16, question: &Question) -> Self {
        match Arrival::read(octets, id, question) {
            Ok(Arrival::Foreign) => Self::Nothing,
            Ok(Arrival::Truncated) => Self::Cut,
            Ok(Arrival::Trouble(rcode)) if NO_EDNS.contains(&rcode) => {
                Self::Trouble(Failure::Rcode(rcode_name(rcode)))
            }
            Ok(Arrival::Trouble(rcode)) => {
                Self::Answer(Reading::error(Failure::Rcode(rcode_name(rcode))))
            }
            Ok(Arrival::Message(message)) => match Reading::of(&message, question) {
                Ok(reading) => Self::Answer(reading),
                Err(Malformed) => Self::Trouble(Failure::Malformed),
            },
            Err(Malformed) => Self::Trouble(Failure::Malformed),
        }
    }
}

/// `None`: the reply was truncated.
async fn over_udp(
    server: SocketAddr,
    question: &Question,
    ids: &Ids,
    limit: Duration,
) -> io::Result<Option<Reading>> {
    let socket = Socket::open(server).await?;
    // A number of its own for the query without EDNS: once that is sent, replies to the other one
    // mean nothing.
    let (id, plain_id) = (ids.next(), ids.next());
    let repetitions = |last_edns: bool| {
        let after = |(part, most): (u32, Duration)| Instant::now() + (limit / part).min(most);
        VecDeque::from([(after(FIRST_REPETITION), last_edns), (after(LAST_REPETITION), false)])
    };
    let mut to_send = repetitions(true);
    let mut is_plain = false;
    socket.send(&question.query(id, true)?).await?;
    let mut octets = Vec::with_capacity(ROOM);
    loop {
        let received = match to_send.front() {
            Some((time, _)) => timeout_at(*time, socket.receive(&mut octets)).await,
            None => Ok(socket.receive(&mut octets).await),
        };
        let Ok(received) = received else {
            if let Some((_, edns)) = to_send.pop_front() {
                is_plain |= !edns;
                socket.send(&question.query(if edns { id } else { plain_id }, edns)?).await?;
            }
            continue;
        };
        received?;
        let heard = match Heard::read(&octets, id, question) {
            Heard::Nothing if is_plain => match Heard::read(&octets, plain_id, question) {
                Heard::Trouble(failure) => Heard::Answer(Reading::error(failure)),
                heard => heard,
            },
            heard => heard,
        };
        match heard {
            Heard::Cut => return Ok(None),
            Heard::Answer(reading) => return Ok(Some(reading)),
            Heard::Trouble(_) if !is_plain => {
                is_plain = true;
                to_send = repetitions(false);
                socket.send(&question.query(plain_id, false)?).await?;
            }
            Heard::Trouble(_) | Heard::Nothing => {}
        }
    }
}

/// A socket that knows one peer: the kernel drops datagrams of other peers, and a closed port
/// is known at once.
struct Socket(UdpSocket);

impl Socket {
    /// At a port that the kernel chooses, another one for each question (RFC 5452 §4.5).
    async fn open(server: SocketAddr) -> io::Result<Self> {
        let any = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(server).await?;
        Ok(Self(socket))
    }

    async fn send(&self, query: &[u8]) -> io::Result<()> {
        self.0.send(query).await.map(drop)
    }

    /// Receives a datagram, which replaces the content of `octets`. An ICMP error ends the wait:
    /// tokio does not take it for something to receive.
    async fn receive(&self, octets: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let ready = self.0.ready(Interest::READABLE | Interest::ERROR).await?;
            if ready.is_error() {
                if let Some(error) = self.0.take_error()? {
                    return Err(error);
                }
                // The error is gone, the readiness must go as well.
                let _ = self
                    .0
                    .try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
            octets.clear();
            match self.0.try_recv_buf(octets) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received.map(drop),
            }
        }
    }
}

/// Asks over a connection of its own. The first message that comes is the answer or none: only
/// the server can send anything over it.
async fn over_tcp(server: SocketAddr, question: &Question, id: u16) -> io::Result<Reading> {
    let mut connection = TcpStream::connect(server).await?;
    connection.set_nodelay(true)?;
    let mut failure = Failure::Malformed;
    for edns in [true, false] {
        let query = question.query(id, edns)?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        connection.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await?;
        let length = connection.read_u16().await?;
        let mut octets = Vec::new();
        // Memory is taken as octets come: a server that announces 64 KiB need not send them.
        (&mut connection).take(length.into()).read_to_end(&mut octets).await?;
        if octets.len() != usize::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Heard::read(&octets, id, question) {
            Heard::Answer(reading) => return Ok(reading),
            Heard::Trouble(trouble) => failure = trouble,
            // Truncated over TCP too: there is no way left.
            Heard::Cut | Heard::Nothing => return Ok(Reading::error(Failure::Malformed)),
        }
    }
    Ok(Reading::error(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Answer, Name, RecordType};

    /// A reply of so many octets, which has one record.
    fn reply(query: &[u8], length: usize) -> Vec<u8> {
        // The question is 15 octets: the name, type and class.
        let (id, question) = (&query[..2], &query[12..27]);
        let data = length - 12 - 15 - 12;
        let mut reply =
            [id, b"\x81\x80\0\x01\0\x01\0\0\0\0", question, b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c"]
                .concat();
        reply.extend(u16::try_from(data).unwrap().to_be_bytes());
        for string in vec![b'x'; data].chunks(256) {
            reply.push(u8::try_from(string.len() - 1).unwrap());
            reply.extend(&string[1..]);
        }
        assert_eq!(reply.len(), length);
        reply
    }

    #[tokio::test]
    async fn replies_up_to_the_bound() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let question = Question::new(&Name::new("a.example").unwrap(), RecordType::Txt).unwrap();
        let (address, ids) = (server.local_addr().unwrap(), Ids::default());
        for (length, is_read) in [(4095, true), (4096, true), (4097, false)] {
            let serve = async {
                let mut query = [0; 512];
                loop {
                    let (_, client) = server.recv_from(&mut query).await.unwrap();
                    server.send_to(&reply(&query, length), client).await.unwrap();
                }
            };
            let reading = tokio::select! {
                reading = ask(address, &question, &ids, Duration::from_secs(60)) => reading,
                () = serve => unreachable!(),
            };
            let Reading::Reply(reply) = reading else { panic!("{reading:?}") };
            match reply.outcome {
                Ok(Answer::Txt(texts)) => assert!(is_read && texts.len() == 1, "{length}"),
                other => {
                    assert!(!is_read && other == Err(Failure::Malformed), "{length} {other:?}")
                }
            }
        }
    }

    /// When a silent server is asked, in milliseconds, and whether with EDNS.
    #[tokio::test(start_paused = true)]
    async fn questions_are_sent_again() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let question = Question::new(&Name::new("a.example").unwrap(), RecordType::Txt).unwrap();
        let (address, ids) = (server.local_addr().unwrap(), Ids::default());
        for (limit, times) in [
            (3999, [0, 999, 1999]),
            (4000, [0, 1000, 2000]),
            (4001, [0, 1000, 2000]),
            (5001, [0, 1000, 2500]),
        ] {
            let (limit, start) = (Duration::from_millis(limit), Instant::now());
            let mut sent = Vec::new();
            let listen = async {
                let mut query = [0; 512];
                loop {
                    server.recv_from(&mut query).await.unwrap();
                    sent.push((start.elapsed().as_millis(), query[11] == 1));
                }
            };
            tokio::select! {
                _ = timeout_at(start + limit, ask(address, &question, &ids, limit)) => {}
                () = listen => unreachable!(),
            }
            assert_eq!(sent.len(), 3, "{limit:?}");
            for (number, ((time, edns), expected)) in sent.into_iter().zip(times).enumerate() {
                // The wheel of timers turns in milliseconds.
                assert!(
                    (expected..=expected + 2).contains(&time) && edns == (number < 2),
                    "{limit:?} {time} {edns}"
                );
            }
        }
    }
}
