//! Replies on the wire, made readable for hickory where it would not read them.

/// Octets of a message before its first question, and where the numbers of questions and of records are.
const HEADER: usize = 12;

/// Octets of a record between its name and its data: type, class, TTL, length.
const RECORD_HEAD: usize = 10;

/// Records without data that are filled in one reply: for each, all of it is looked through. One with more is no reply of a sane server.
const MAX_EMPTY_RECORDS: usize = 16;

const TYPE_TXT: u16 = 16;
const TYPE_OPT: u16 = 41;

/// The question of a query, from its name to its class; `None` where there is not exactly one.
pub(super) fn question(query: &[u8]) -> Option<&[u8]> {
    if number(query, 4)? != 1 {
        return None;
    }
    query.get(HEADER..skip_name(query, HEADER)? + 4)
}

/// Repairs a reply in place; `room` may have more octets than the reply. The length of the reply afterwards.
///
/// - Servers that do not know EDNS may answer with an error and nothing but a header (RFC 6891 §7), which hickory takes for a reply to
///   somebody else. The question that it answers is put behind it; its id tells that it belongs there.
/// - One record without data, such as a TXT record without strings, makes hickory throw the whole reply away.
pub(super) fn repair(room: &mut [u8], length: usize, question: Option<&[u8]>) -> usize {
    if length == HEADER
        && is_bare_error(room)
        && let Some(question) = question
        && let Some(place) = room.get_mut(HEADER..HEADER + question.len())
    {
        place.copy_from_slice(question);
        if let Some(count) = room.get_mut(4..6) {
            count.copy_from_slice(&[0, 1]);
        }
        return HEADER + question.len();
    }
    if let Some(reply) = room.get_mut(..length) {
        // Where it cannot be walked through, hickory will say so.
        let _ = fill_empty_records(reply);
    }
    length
}

/// A header alone, with an RCODE that tells of trouble. NXDOMAIN tells of a name, and so of none without one.
fn is_bare_error(room: &[u8]) -> bool {
    const NXDOMAIN: u8 = 3;
    room.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && room.get(3).is_some_and(|flags| !matches!(flags & 0x0f, 0 | NXDOMAIN))
        && room.get(4..HEADER).is_some_and(|counts| counts.iter().all(|&octet| octet == 0))
}

/// Makes of each record without data a TXT record of the root with empty strings, which takes the same room: the root's name is an octet
/// long, so the rest of the old name's room is there for the data. Nobody asks for texts of the root.
fn fill_empty_records(reply: &mut [u8]) -> Option<()> {
    let questions = number(reply, 4)?;
    let records = u32::from(number(reply, 6)?) + u32::from(number(reply, 8)?) + u32::from(number(reply, 10)?);
    let (mut at, mut empty_records) = (HEADER, 0);
    for _ in 0..questions {
        at = skip_name(reply, at)? + 4;
    }
    for _ in 0..records {
        let name_end = skip_name(reply, at)?;
        let end = name_end + RECORD_HEAD + usize::from(number(reply, name_end + 8)?);
        let is_empty = end == name_end + RECORD_HEAD && number(reply, name_end)? != TYPE_OPT;
        empty_records += usize::from(is_empty);
        // Other names must not end in this one.
        if is_empty && empty_records <= MAX_EMPTY_RECORDS && name_end > at + 1 && !is_pointed_at(reply, at..name_end) {
            let spare = u16::try_from(name_end - at - 1).ok()?;
            let record = reply.get_mut(at..end)?;
            record.fill(0);
            record.get_mut(1..3)?.copy_from_slice(&TYPE_TXT.to_be_bytes());
            record.get_mut(3..5)?.copy_from_slice(&[0, 1]);
            record.get_mut(9..11)?.copy_from_slice(&spare.to_be_bytes());
        }
        at = end;
    }
    Some(())
}

/// Whether some two octets could be a pointer to a place in this range (RFC 1035 §4.1.4).
fn is_pointed_at(reply: &[u8], range: std::ops::Range<usize>) -> bool {
    let mut pairs = reply.windows(2).skip(HEADER);
    pairs.any(
        |pair| matches!(*pair, [high @ 0xc0..=0xff, low] if range.contains(&usize::from(u16::from_be_bytes([high & 0x3f, low])))),
    )
}

/// Where a name ends that begins here.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length @ 1..=63 => at + 1 + usize::from(length),
            _ => return None,
        };
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
        rr::{
            Name as WireName, RData, Record, RecordType,
            rdata::{CNAME, TXT},
        },
    };
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> WireName {
        WireName::from_ascii(text).unwrap()
    }

    fn txt(owner: &str, strings: Vec<&[u8]>) -> Record {
        Record::from_rdata(name(owner), 60, RData::TXT(TXT::from_bytes(strings)))
    }

    fn reply(answers: Vec<Record>) -> Message {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.queries.push(Query::query(name("a.example."), RecordType::TXT));
        message.answers = answers;
        message.edns = Some(Edns::new());
        message
    }

    fn repaired(message: &Message) -> Option<Message> {
        let mut octets = message.to_vec().unwrap();
        let length = octets.len();
        assert_eq!(repair(&mut octets, length, None), length);
        Message::from_vec(&octets).ok()
    }

    #[test]
    fn a_record_without_data_spoils_nothing() {
        let good = txt("a.example.", vec![b"v=spf1 -all"]);
        for place in 0..3 {
            let mut answers = vec![good.clone(), good.clone()];
            answers.insert(place, txt("a.example.", vec![]));
            let message = reply(answers);
            assert!(Message::from_vec(&message.to_vec().unwrap()).is_err(), "no more need to repair");
            let read = repaired(&message).unwrap();
            let owned: Vec<_> = read.answers.iter().filter(|record| record.name == name("a.example.")).collect();
            assert_eq!(owned, [&good, &good]);
            assert!(read.edns.is_some());
        }
        let many = vec![txt("a.example.", vec![]); MAX_EMPTY_RECORDS];
        assert!(repaired(&reply(many.clone())).is_some());
        assert!(repaired(&reply([many, vec![txt("a.example.", vec![])]].concat())).is_none());
        // All of several, of another owner, whose name is not a pointer.
        let message = reply(vec![txt("b.", vec![]), good.clone(), txt("a.example.", vec![]), txt("other.test.", vec![])]);
        let read = repaired(&message).unwrap();
        assert_eq!(read.answers.iter().filter(|record| **record == good).count(), 1);
        assert!(read.answers.iter().all(|record| *record == good || record.name.is_root()));
    }

    #[test]
    fn a_name_that_others_end_in_is_not_taken_away() {
        // The second record's name is a pointer into the first one's: better no reply than another one.
        let message = reply(vec![txt("b.test.", vec![]), txt("c.b.test.", vec![b"x"])]);
        assert!(repaired(&message).is_none());
        let alias = Record::from_rdata(name("a.example."), 60, RData::CNAME(CNAME(name("b.test."))));
        let message = reply(vec![alias.clone(), txt("b.test.", vec![]), txt("b.test.", vec![b"x"])]);
        let read = repaired(&message).unwrap();
        assert_eq!((&read.answers[0], &read.answers[2]), (&alias, &txt("b.test.", vec![b"x"])));
    }

    #[test]
    fn an_error_without_question() {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.queries.push(Query::query(name("a.example."), RecordType::TXT));
        let octets = query.to_vec().unwrap();
        let asked = question(&octets).unwrap();
        let mut error = Message::new(7, MessageType::Response, OpCode::Query);
        error.metadata.response_code = ResponseCode::FormErr;
        let mut room = [error.to_vec().unwrap(), vec![0xff; 100]].concat();
        let length = repair(&mut room, HEADER, Some(asked));
        let read = Message::from_vec(&room[..length]).unwrap();
        assert_eq!((read.queries, read.metadata.response_code, read.metadata.id), (query.queries, ResponseCode::FormErr, 7));
        // Not an error, not a reply, no room, not known what was asked.
        let unchanged = |message: &Message, room: usize, asked: Option<&[u8]>| {
            let mut octets = message.to_vec().unwrap();
            octets.resize(room, 0);
            let before = octets.clone();
            assert_eq!(repair(&mut octets, HEADER, asked), HEADER);
            assert_eq!(octets, before);
        };
        unchanged(&error, 20, Some(asked));
        unchanged(&error, 100, None);
        unchanged(&Message::new(7, MessageType::Response, OpCode::Query), 100, Some(asked));
        error.metadata.response_code = ResponseCode::NXDomain;
        unchanged(&error, 100, Some(asked));
        error.metadata.response_code = ResponseCode::ServFail;
        error.metadata.message_type = MessageType::Query;
        unchanged(&error, 100, Some(asked));
    }

    proptest! {
        #[test]
        fn good_replies_stay_as_they_are(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..5)) {
            let strings = strings.iter().map(Vec::as_slice).collect();
            let octets = reply(vec![txt("a.example.", strings), txt("b.example.", vec![b""])]).to_vec().unwrap();
            let mut room = octets.clone();
            repair(&mut room, octets.len(), None);
            prop_assert_eq!(room, octets);
        }

        #[test]
        fn nothing_panics(octets in prop::collection::vec(any::<u8>(), 0..100), counts: [u8; 4], length in 0usize..120) {
            let mut octets = octets;
            for (place, count) in [5, 7, 9, 11].into_iter().zip(counts) {
                if let Some(octet) = octets.get_mut(place) {
                    *octet = count % 4;
                }
            }
            let asked = question(&octets).map(<[u8]>::to_vec);
            let mut room = octets.clone();
            let repaired = repair(&mut room, length, asked.as_deref());
            prop_assert!(repaired == length || repaired <= room.len());
        }

        #[test]
        fn damaged_replies_stay_readable(place in 0usize..60, octet: u8) {
            let mut octets = reply(vec![txt("a.example.", vec![]), txt("a.example.", vec![b"x"])]).to_vec().unwrap();
            let length = octets.len();
            octets[place % length] = octet;
            repair(&mut octets, length, None);
            let _ = Message::from_vec(&octets);
        }
    }
}
