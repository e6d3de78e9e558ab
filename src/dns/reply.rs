//! From what a name server replied to what methods are told.

use std::{io, sync::Arc, time::Duration};

use hickory_resolver::{
    net::{DnsError, NetError},
    proto::{
        op::{Message, Query, ResponseCode},
        rr::{Name as WireName, RData, Record, RecordType as WireType},
    },
};

use super::{Answer, Failure, Mx, Name, RecordType};

/// Records are kept no longer than this, whatever their TTL.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Negative answers are kept no longer than this (RFC 2308 §5: one to three hours).
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(3 * 60 * 60);

/// How long a negative answer without a SOA record is kept: long enough for the rest of a message and the next few.
const NEGATIVE_TTL_WITHOUT_SOA: Duration = Duration::from_secs(10);

/// How long a failure that may pass is kept.
const ERROR_TTL: Duration = Duration::from_secs(1);

/// CNAMEs followed within one reply.
const MAX_ALIASES: usize = 16;

/// The outcome of a look-up, and how long it may be kept.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) ttl: Duration,
}

impl Reply {
    /// A failure that may pass.
    pub(super) fn error(failure: Failure) -> Self {
        Self { outcome: Err(failure), ttl: ERROR_TTL }
    }

    fn negative(failure: Failure, soa_ttl: Option<u32>, alias_ttl: Duration) -> Self {
        let ttl = soa_ttl.map_or(NEGATIVE_TTL_WITHOUT_SOA, seconds).min(alias_ttl).min(MAX_NEGATIVE_TTL);
        Self { outcome: Err(failure), ttl }
    }

    /// Reads a reply: the records of the type asked for at the end of the chain of CNAMEs that begins at the name asked for.
    pub(super) fn from_message(message: &Message, question: &Query) -> Self {
        if message.queries.as_slice() != [question.clone()] {
            return Self::error(Failure::Network);
        }
        let rcode = message.metadata.response_code;
        if !matches!(rcode, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Self::error(Failure::Rcode(rcode_name(rcode)));
        }
        let Some((owner, alias_ttl)) = follow_aliases(&message.answers, question.name()) else {
            return Self::error(Failure::Rcode("SERVFAIL"));
        };
        let matching =
            || message.answers.iter().filter(|record| record.name == *owner && record.record_type() == question.query_type());
        if let Some(outcome) = answer(question.query_type(), matching()) {
            let ttl = matching().map(|record| seconds(record.ttl)).min().unwrap_or_default();
            return Self { outcome: Ok(outcome), ttl: ttl.min(alias_ttl).min(MAX_TTL) };
        }
        let soa_ttl = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        let failure = if rcode == ResponseCode::NXDomain { Failure::NxDomain } else { Failure::NoData };
        Self::negative(failure, soa_ttl, alias_ttl)
    }

    /// Reads what hickory makes of negative replies and errors.
    pub(super) fn from_error(error: &NetError, question: &Query) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if *none.query == *question => {
                let failure = match none.response_code {
                    ResponseCode::NXDomain => Failure::NxDomain,
                    ResponseCode::NoError => Failure::NoData,
                    rcode => return Self::error(Failure::Rcode(rcode_name(rcode))),
                };
                Self::negative(failure, none.negative_ttl, MAX_TTL)
            }
            NetError::Dns(DnsError::ResponseCode(rcode)) => Self::error(Failure::Rcode(rcode_name(*rcode))),
            NetError::Timeout => Self::error(Failure::Timeout),
            NetError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::error(Failure::Timeout),
            _ => Self::error(Failure::Network),
        }
    }
}

/// The question for a look-up: the octets of the name as they are, and no search list.
pub(super) fn question(name: &Name, record_type: RecordType) -> Option<Query> {
    // `from_ascii` would take `\` for the beginning of an escape.
    let mut wire = WireName::from_labels(name.as_str().split('.').map(str::as_bytes)).ok()?;
    wire.set_fqdn(true);
    let wire_type = match record_type {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Mx => WireType::MX,
        RecordType::Txt => WireType::TXT,
        RecordType::Ptr => WireType::PTR,
    };
    Some(Query::query(wire, wire_type))
}

/// The end of the chain of CNAMEs and the least TTL on the way; `None` where it has no end.
fn follow_aliases<'a>(answers: &'a [Record], start: &'a WireName) -> Option<(&'a WireName, Duration)> {
    let (mut owner, mut ttl) = (start, MAX_TTL);
    for _ in 0..=MAX_ALIASES {
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some((&target.0, seconds(record.ttl))),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { return Some((owner, ttl)) };
        (owner, ttl) = (target, ttl.min(alias_ttl));
    }
    None
}

/// The records as an answer; `None` where there are none.
fn answer<'a>(wire_type: WireType, records: impl Iterator<Item = &'a Record>) -> Option<Answer> {
    let mut records = records.map(|record| &record.data).peekable();
    records.peek()?;
    Some(match wire_type {
        WireType::A => Answer::A(collect(records, |data| if let RData::A(address) = data { Some(address.0) } else { None })),
        WireType::AAAA => {
            Answer::Aaaa(collect(records, |data| if let RData::AAAA(address) = data { Some(address.0) } else { None }))
        }
        WireType::MX => Answer::Mx(collect(records, |data| match data {
            RData::MX(mx) => Some(Mx { preference: mx.preference, exchange: host_name(&mx.exchange) }),
            _ => None,
        })),
        WireType::TXT => Answer::Txt(collect(records, |data| match data {
            RData::TXT(text) => Some(text.txt_data.concat().into()),
            _ => None,
        })),
        WireType::PTR => {
            Answer::Ptr(collect(records, |data| if let RData::PTR(name) = data { host_name(&name.0) } else { None }))
        }
        _ => return None,
    })
}

fn collect<'a, T>(records: impl Iterator<Item = &'a RData>, read: impl Fn(&'a RData) -> Option<T>) -> Arc<[T]> {
    records.filter_map(read).collect()
}

/// A name that a host can have and that text can show as it is: no root, no dot, space or control character inside a label.
fn host_name(name: &WireName) -> Option<Name> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !label.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|octet| char::from(*octet)));
    }
    Name::new(&text)
}

fn seconds(ttl: u32) -> Duration {
    // RFC 2181 §8: a TTL with the highest bit set is zero.
    Duration::from_secs(if ttl > u32::MAX >> 1 { 0 } else { ttl.into() })
}

/// The name of a RCODE as in the registry of IANA.
fn rcode_name(rcode: ResponseCode) -> &'static str {
    match rcode {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        // One number, which without signatures means this.
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS",
        ResponseCode::BADKEY => "BADKEY",
        ResponseCode::BADTIME => "BADTIME",
        ResponseCode::BADMODE => "BADMODE",
        ResponseCode::BADNAME => "BADNAME",
        ResponseCode::BADALG => "BADALG",
        ResponseCode::BADTRUNC => "BADTRUNC",
        ResponseCode::BADCOOKIE => "BADCOOKIE",
        ResponseCode::Unknown(_) => "unknown RCODE",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::proto::{
        op::{MessageType, OpCode},
        rr::rdata::{CNAME, MX, PTR, SOA, TXT},
    };
    use proptest::prelude::*;

    use super::*;

    fn wire(text: &str) -> WireName {
        WireName::from_labels(text.split_terminator('.').map(str::as_bytes)).unwrap()
    }

    fn asked(name: &str, record_type: RecordType) -> Query {
        question(&Name::new(name).unwrap(), record_type).unwrap()
    }

    fn message(question: &Query, answers: Vec<(&str, u32, RData)>) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.queries.push(question.clone());
        message.answers.extend(answers.into_iter().map(|(name, ttl, data)| Record::from_rdata(wire(name), ttl, data)));
        message
    }

    fn read(question: &Query, answers: Vec<(&str, u32, RData)>) -> (Result<Answer, Failure>, u64) {
        let Reply { outcome, ttl } = Reply::from_message(&message(question, answers), question);
        (outcome, ttl.as_secs())
    }

    fn a(octet: u8) -> RData {
        RData::A(Ipv4Addr::new(192, 0, 2, octet).into())
    }

    fn cname(target: &str) -> RData {
        RData::CNAME(CNAME(wire(target)))
    }

    fn addresses(octets: &[u8]) -> Result<Answer, Failure> {
        Ok(Answer::A(octets.iter().map(|&octet| Ipv4Addr::new(192, 0, 2, octet)).collect()))
    }

    #[test]
    fn chains() {
        let question = asked("one.example", RecordType::A);
        // In any order and any case; the least TTL counts; what is beside the chain does not.
        let answers = vec![
            ("other.example", 1, a(9)),
            ("three.example", 300, a(1)),
            ("TWO.example", 50, cname("three.example")),
            ("three.example", 200, a(2)),
            ("One.Example", 100, cname("two.example")),
            ("three.example", 5, RData::TXT(TXT::from_bytes(vec![b"x"]))),
        ];
        assert_eq!(read(&question, answers), (addresses(&[1, 2]), 50));
        assert_eq!(read(&question, vec![("other.example", 60, a(9))]), (Err(Failure::NoData), 10));
        assert_eq!(read(&question, vec![("one.example", 5, cname("two.example"))]), (Err(Failure::NoData), 5));
        let round = vec![("one.example", 60, cname("two.example")), ("two.example", 60, cname("one.example"))];
        assert_eq!(read(&question, round), (Err(Failure::Rcode("SERVFAIL")), 1));
    }

    #[test]
    fn ttls() {
        let question = asked("one.example", RecordType::A);
        for (ttl, kept) in [(0, 0), (60, 60), (86400, 86400), (86401, 86400), (u32::MAX >> 1, 86400), (1 << 31, 0), (u32::MAX, 0)]
        {
            assert_eq!(read(&question, vec![("one.example", ttl, a(1))]), (addresses(&[1]), kept));
        }
        for (ttl, minimum, kept) in [(60, 30, 30), (30, 60, 30), (1 << 30, 1 << 30, 10800)] {
            let mut message = message(&question, Vec::new());
            message.metadata.response_code = ResponseCode::NXDomain;
            let soa = RData::SOA(SOA::new(wire("a.example"), wire("b.example"), 1, 1, 1, 1, minimum));
            message.authorities.push(Record::from_rdata(wire("example"), ttl, soa));
            let reply = Reply::from_message(&message, &question);
            assert_eq!((reply.outcome, reply.ttl.as_secs()), (Err(Failure::NxDomain), kept));
        }
    }

    #[test]
    fn another_question() {
        let question = asked("one.example", RecordType::A);
        for other in [asked("two.example", RecordType::A), asked("one.example", RecordType::Txt)] {
            let message = message(&other, vec![("one.example", 60, a(1))]);
            assert_eq!(Reply::from_message(&message, &question).outcome, Err(Failure::Network));
        }
        let mut message = message(&question, vec![("one.example", 60, a(1))]);
        message.queries.clear();
        assert_eq!(Reply::from_message(&message, &question).outcome, Err(Failure::Network));
    }

    #[test]
    fn names_that_no_host_can_have() {
        let question = asked("1.2.0.192.in-addr.arpa", RecordType::Ptr);
        let owner = "1.2.0.192.in-addr.arpa";
        let dotted = WireName::from_labels([b"a.b".as_slice(), b"example".as_slice()]).unwrap();
        let mut answers: Vec<_> = ["", "a b.example", "a\nb.example", "b\u{fc}cher.example", "Mail.Example.COM.", "_x.example"]
            .into_iter()
            .map(|name| (owner, 60, RData::PTR(PTR(wire(name)))))
            .collect();
        answers.push((owner, 60, RData::PTR(PTR(dotted.clone()))));
        let names = ["mail.example.com", "_x.example"].map(|name| Name::new(name).unwrap());
        assert_eq!(read(&question, answers).0, Ok(Answer::Ptr(names.into())));
        let only = vec![(owner, 60, RData::PTR(PTR(dotted.clone())))];
        assert_eq!(read(&question, only).0, Ok(Answer::Ptr([].into())));

        let question = asked("example.com", RecordType::Mx);
        let answers =
            vec![("example.com", 60, RData::MX(MX::new(0, wire("")))), ("example.com", 60, RData::MX(MX::new(5, dotted)))];
        let unusable = |preference| Mx { preference, exchange: None };
        assert_eq!(read(&question, answers).0, Ok(Answer::Mx([unusable(0), unusable(5)].into())));
    }

    #[test]
    fn texts() {
        let question = asked("example.com", RecordType::Txt);
        let text = |strings: Vec<&[u8]>| ("example.com", 60, RData::TXT(TXT::from_bytes(strings)));
        let answers = vec![text(vec![b"v=spf1", b"", b" -all"]), text(vec![b""]), text(vec![b"\0\xff\\"])];
        let texts: Vec<Box<[u8]>> = vec![(*b"v=spf1 -all").into(), (*b"").into(), (*b"\0\xff\\").into()];
        assert_eq!(read(&question, answers).0, Ok(Answer::Txt(texts.into())));
    }

    proptest! {
        /// Whatever arrives: what can be decoded can be read.
        #[test]
        fn damaged_replies(place in 0usize..200, octet: u8, cut in 0usize..200) {
            let question = asked("one.example", RecordType::A);
            let answers = vec![("one.example", 60, cname("two.example")), ("two.example", 60, a(1)), ("two.example", 60, a(2))];
            let mut octets = message(&question, answers).to_vec().unwrap();
            let length = octets.len();
            octets[place % length] = octet;
            octets.truncate(length - cut % 20);
            if let Ok(message) = Message::from_vec(&octets)
                && let Reply { outcome: Ok(answer), .. } = Reply::from_message(&message, &question)
            {
                let Answer::A(addresses) = answer else { panic!("{answer:?}") };
                prop_assert!((1..=2).contains(&addresses.len()));
            }
        }
    }
}
