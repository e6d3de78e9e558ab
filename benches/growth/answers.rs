//! A name server that has so many domains that no zone holds them: a name of any of them has one
//! SPF record, the same for all. It is quick, because a million answers are asked for.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// One network, in which the client is, and another.
const RECORD: &[u8] = b"v=spf1 ip4:192.0.2.0/25 ip6:2001:db8::/48 -all";

/// A day.
const TTL: u32 = 86_400;

/// TXT, and the class IN.
const TXT: [u8; 4] = [0, 16, 0, 1];

/// The octets of a header of a message (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// The name server; its thread ends with the program.
pub(crate) struct Answers {
    pub(crate) address: SocketAddr,
    questions: Arc<AtomicUsize>,
}

impl Answers {
    pub(crate) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, questions) = (socket.local_addr()?, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&questions);
        thread::spawn(move || {
            let mut room = [0; 2048];
            while let Ok((length, client)) = socket.recv_from(&mut room) {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = room.get(..length).and_then(answer) {
                    // Who is gone asks no more.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Ok(Self { address, questions })
    }

    /// The questions that came so far.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

/// The answer to a question; without records where it is not for TXT. An OPT record is not
/// understood, as by servers that know none (RFC 6891 §7).
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut end = HEADER;
    while *query.get(end)? != 0 {
        end += 1 + usize::from(*query.get(end)?);
    }
    let question = query.get(HEADER..end + 5)?;
    let has_record = question.ends_with(&TXT);
    let mut answer = query.get(..2)?.to_vec();
    // A response with recursion, without error, with one question and at most one record.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(has_record), 0, 0, 0, 0]);
    answer.extend(question);
    if has_record {
        let length = u8::try_from(RECORD.len()).ok()?;
        answer.extend([0xc0, 12]);
        answer.extend(TXT);
        answer.extend(TTL.to_be_bytes());
        answer.extend([0, length + 1, length]);
        answer.extend(RECORD);
    }
    Some(answer)
}
