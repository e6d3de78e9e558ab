//! Messages: written and read back, damaged, and read by another library too.

use hickory_resolver::proto::{
    op::{Edns, Message as Theirs, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name as TheirName, RData, Record as TheirRecord, RecordType as TheirType,
        rdata::{CNAME, MX, PTR, SOA, TXT},
    },
};
use proptest::prelude::*;

use super::*;
use crate::dns::{Answer, Failure, reply::Reading};

fn asked(name: &str, record_type: RecordType) -> Question {
    Question::new(&Name::new(name).unwrap(), record_type).unwrap()
}

fn theirs(text: &str) -> TheirName {
    TheirName::from_labels(text.split_terminator('.').map(str::as_bytes)).unwrap()
}

fn reader(message: &[u8]) -> Reader<'_> {
    Reader::new(message)
}

/// The content of a reply, or that it has none that can be read.
fn ours(octets: &[u8], question: &Question) -> Result<Result<Answer, Failure>, &'static str> {
    match Arrival::read(octets, 7, question) {
        Ok(Arrival::Message(message)) => match Reading::of(&message, question) {
            Ok(Reading::Reply(reply)) => Ok(reply.outcome),
            Ok(Reading::Alias(..)) => Err("alias"),
            Err(Malformed) => Err("malformed"),
        },
        Ok(Arrival::Foreign) => Err("foreign"),
        Ok(Arrival::Truncated) => Err("truncated"),
        Ok(Arrival::Trouble(_)) => Err("trouble"),
        Err(Malformed) => Err("malformed"),
    }
}

/// The addresses or texts that another library reads, each once: slow, and nothing of ours.
fn twin(octets: &[u8], question: &Question) -> Option<Vec<Vec<u8>>> {
    let message = Theirs::from_vec(octets).ok()?;
    // What is said to be at a name that does not exist does not count.
    if message.metadata.response_code == ResponseCode::NXDomain {
        return None;
    }
    let mut owner = message.queries.first()?.name().clone();
    let wanted = TheirType::from(question.wire_type());
    for _ in 0..=16 {
        let at_owner: Vec<_> = message
            .answers
            .iter()
            .filter(|record| record.name == owner && record.dns_class == DNSClass::IN)
            .collect();
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        for record in at_owner.iter().filter(|record| record.record_type() == wanted) {
            // Names that no host can have are left out.
            if let RData::PTR(name) = &record.data
                && !name.0.iter().flatten().all(|octet| octet.is_ascii_graphic() && *octet != b'.')
            {
                continue;
            }
            let value = match &record.data {
                RData::A(address) => address.0.octets().to_vec(),
                RData::AAAA(address) => address.0.octets().to_vec(),
                RData::TXT(text) => text.txt_data.concat(),
                RData::MX(mx) => mx.preference.to_be_bytes().to_vec(),
                RData::PTR(name) => name
                    .0
                    .iter()
                    .flat_map(|label| [label, b"."].concat())
                    .map(|octet| octet.to_ascii_lowercase())
                    .collect(),
                _ => return None,
            };
            if !seen.contains(&&record.data) {
                seen.push(&record.data);
                found.push(value);
            }
        }
        if !found.is_empty() {
            return Some(found);
        }
        owner = at_owner.iter().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        })?;
    }
    None
}

fn values(answer: &Answer) -> Vec<Vec<u8>> {
    match answer {
        Answer::A(found) => found.iter().map(|address| address.octets().to_vec()).collect(),
        Answer::Aaaa(found) => found.iter().map(|address| address.octets().to_vec()).collect(),
        Answer::Txt(found) => found.iter().map(|text| text.to_vec()).collect(),
        Answer::Mx(found) => found.iter().map(|mx| mx.preference.to_be_bytes().to_vec()).collect(),
        Answer::Ptr(found) => found.iter().map(|name| format!("{name}.").into_bytes()).collect(),
        Answer::Existence => Vec::new(),
    }
}

fn reply(question: &Query, answers: Vec<TheirRecord>) -> Theirs {
    let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.queries.push(question.clone());
    message.answers = answers;
    message.edns = Some(Edns::new());
    message
}

#[test]
fn queries_are_read_by_others() {
    for record_type in [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Mx,
        RecordType::Txt,
        RecordType::Ptr,
        RecordType::Existence,
    ] {
        let question = asked("a\\b.\"x\" y.example.com", record_type);
        for edns in [false, true] {
            let read = Theirs::from_vec(&question.query(513, edns).unwrap()).unwrap();
            assert_eq!((read.metadata.id, read.metadata.recursion_desired), (513, true));
            assert_eq!(read.queries[0].name(), &theirs("a\\b.\"x\" y.example.com"));
            assert_eq!(u16::from(read.queries[0].query_type()), question.wire_type());
            assert_eq!(read.edns.is_some(), edns);
            if let Some(opt) = read.edns {
                assert_eq!((opt.max_payload(), opt.version()), (1232, 0));
                let is_existence = record_type == RecordType::Existence;
                assert_eq!(
                    (opt.flags().dnssec_ok, opt.flags().z),
                    (is_existence, if is_existence { 0x4000 } else { 0 })
                );
            }
        }
    }
}

#[test]
fn names_on_the_wire() {
    let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61));
    assert_eq!(long.len(), 253);
    let name = WireName::new(&Name::new(&long).unwrap()).unwrap();
    assert_eq!(name.labels().map(<[u8]>::len).collect::<Vec<_>>(), [63, 63, 63, 61]);
    // 255 octets with the root are the most.
    let mut octets: Vec<u8> = name
        .labels()
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label].concat())
        .collect();
    octets.push(0);
    assert_eq!(octets.len(), 255);
    assert_eq!(reader(&octets).name(), Ok(name.clone()));
    let longer = [b"\x01z".as_slice(), &octets].concat();
    assert_eq!(reader(&longer).name(), Err(Malformed));
    // Every cut is noticed.
    for length in 0..octets.len() {
        assert_eq!(reader(&octets[..length]).name(), Err(Malformed), "{length}");
    }
    let example = WireName::new(&Name::new("example").unwrap()).unwrap();
    let above =
        |text: &str| example.is_at_or_above(&WireName::new(&Name::new(text).unwrap()).unwrap());
    assert!(
        above("example") && above("a.b.example") && !above("a.xexample") && !above("example.a")
    );
    let root = WireName(rr::Name::root());
    assert!(root.is_at_or_above(&example) && !example.is_at_or_above(&root));
}

#[test]
fn pointers() {
    let name = |octets: &[u8], at: usize| {
        let mut reader = Reader(BinDecoder::new(octets).clone(u16::try_from(at).unwrap()));
        reader.name().map(|name| {
            (name.labels().map(<[u8]>::to_vec).collect::<Vec<_>>().join(&b'.'), reader.0.len())
        })
    };
    let octets = b"\x01a\x01b\0\x01c\xc0\x02\xc0\x05rest";
    assert_eq!(name(octets, 0), Ok((b"a.b".to_vec(), 10)));
    assert_eq!(name(octets, 5), Ok((b"c.b".to_vec(), 6)));
    assert_eq!(name(octets, 9), Ok((b"c.b".to_vec(), 4)));
    // To itself, forwards, in a circle, beyond the end, cut, and of an unknown kind.
    for (octets, at) in [
        (b"\xc0\x00".as_slice(), 0),
        (b"\xc0\x02\x01a\0", 0),
        (b"\x01a\xc0\x04\xc0\x00", 4),
        (b"\x01a\xc0\x00", 0),
        (b"\xff\xff", 0),
        (b"\x01a\xc0", 0),
        (b"\x40a\0", 0),
        (b"\x80a\0", 0),
    ] {
        assert_eq!(name(octets, at), Err(Malformed), "{octets:?}");
    }
    // A pointer to a pointer to a pointer ends somewhere.
    let chain = |length: usize| {
        let pointers = (0..length).flat_map(|number| {
            (0xc000 + u16::try_from(if number == 0 { 0 } else { 2 * number - 1 }).unwrap())
                .to_be_bytes()
        });
        [vec![0], pointers.collect()].concat()
    };
    for length in [1, 127, 128, 8000] {
        let octets = chain(length);
        assert_eq!(name(&octets, octets.len() - 2), Ok((Vec::new(), 0)), "{length}");
    }
}

/// One less than the most, the most, and one more; in all sections together.
#[test]
fn records_are_bounded() {
    let question = asked("a.example", RecordType::A);
    for (count, is_good) in [(MAX_RECORDS - 1, true), (MAX_RECORDS, true), (MAX_RECORDS + 1, false)]
    {
        for of_answers in [0, 1, count - 1] {
            let mut message = vec![0, 7, 0x81, 0x80, 0, 1];
            message.extend(u16::try_from(of_answers).unwrap().to_be_bytes());
            message.extend(u16::try_from(count - of_answers).unwrap().to_be_bytes());
            message.extend(b"\0\0\x01a\x07example\0\0\x01\0\x01");
            (0..count).for_each(|_| message.extend(b"\xc0\x0c\0\x63\0\x01\0\0\0\x3c\0\0"));
            let is_read = matches!(Arrival::read(&message, 7, &question), Ok(Arrival::Message(_)));
            assert_eq!(is_read, is_good, "{count} {of_answers}");
        }
    }
}

#[test]
fn ids_are_not_a_row() {
    let ids = Ids::default();
    let numbers: std::collections::HashSet<_> = (0..1000).map(|_| ids.next()).collect();
    assert!(numbers.len() > 900);
}

#[test]
fn every_cut_of_a_reply_is_noticed() {
    let question = asked("a.example", RecordType::Txt);
    let query = Query::query(theirs("a.example"), TheirType::TXT);
    let text = |text: &[u8]| {
        TheirRecord::from_rdata(theirs("a.example"), 60, RData::TXT(TXT::from_bytes(vec![text])))
    };
    let octets = reply(&query, vec![text(b"v=spf1 -all"), text(b"x")]).to_vec().unwrap();
    assert_eq!(
        ours(&octets, &question).map(|outcome| outcome.map(|answer| values(&answer))),
        Ok(Ok(vec![b"v=spf1 -all".to_vec(), b"x".to_vec()]))
    );
    for length in 0..octets.len() {
        let expected = if length < 2 { "foreign" } else { "malformed" };
        assert_eq!(ours(&octets[..length], &question), Err(expected), "{length}");
    }
    // Octets behind the end do not count.
    assert!(ours(&[octets, vec![0xff; 100]].concat(), &question).is_ok());
}

#[test]
fn a_wrong_length_of_data_is_noticed() {
    let question = asked("a.example", RecordType::A);
    let head = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
    for length in 0..20_u8 {
        let record =
            [b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0".as_slice(), &[length], &vec![9; length.into()]]
                .concat();
        let octets = [head.as_slice(), &record].concat();
        assert_eq!(ours(&octets, &question).is_ok(), length == 4, "{length}");
    }
}

fn arbitrary_data() -> impl Strategy<Value = RData> {
    let host = prop_oneof![
        Just("a.example"),
        Just("b.example"),
        Just("c.b.example"),
        Just("mail.a.example")
    ];
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| RData::A(
            std::net::Ipv4Addr::from(octets.map(|octet| octet & 0xc1)).into()
        )),
        any::<[u8; 16]>().prop_map(|octets| RData::AAAA(std::net::Ipv6Addr::from(octets).into())),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4).prop_map(
            |strings| RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
        ),
        (0..3_u16, host.clone())
            .prop_map(|(preference, host)| RData::MX(MX::new(preference, theirs(host)))),
        host.clone().prop_map(|host| RData::PTR(PTR(theirs(host)))),
        host.clone().prop_map(|host| RData::CNAME(CNAME(theirs(host)))),
        host.prop_map(|host| RData::SOA(SOA::new(
            theirs(host),
            theirs("x.a.example"),
            1,
            2,
            3,
            4,
            5
        ))),
    ]
}

fn arbitrary_reply() -> impl Strategy<Value = (Question, Vec<u8>)> {
    let owner =
        prop_oneof![3 => Just("a.example"), 2 => Just("b.example"), 1 => Just("c.b.example")];
    let types = prop_oneof![
        Just(RecordType::A),
        Just(RecordType::Aaaa),
        Just(RecordType::Txt),
        Just(RecordType::Mx),
        Just(RecordType::Ptr)
    ];
    let records = prop::collection::vec((owner, any::<u32>(), arbitrary_data()), 0..8).boxed();
    (types, records.clone(), records, any::<bool>()).prop_map(
        |(record_type, answers, authorities, nxdomain)| {
            let question = asked("a.example", record_type);
            let records = |records: Vec<(&str, u32, RData)>| -> Vec<TheirRecord> {
                records
                    .into_iter()
                    .map(|(owner, ttl, data)| TheirRecord::from_rdata(theirs(owner), ttl, data))
                    .collect()
            };
            let query = Query::query(theirs("A.example"), TheirType::from(question.wire_type()));
            let mut message = reply(&query, records(answers));
            message.authorities = records(authorities);
            if nxdomain {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            (question, message.to_vec().unwrap())
        },
    )
}

proptest! {
    /// The same records as another library finds; and of what it finds nothing in, we have no
    /// answer either.
    #[test]
    fn replies_as_another_library_reads_them((question, octets) in arbitrary_reply()) {
        let found = match ours(&octets, &question) {
            Ok(Ok(answer)) => Some(values(&answer)),
            _ => None,
        };
        prop_assert_eq!(found, twin(&octets, &question));
    }

    /// Of a damaged reply: what both can read they read alike, and what we can read is read.
    #[test]
    fn damaged_replies((question, octets) in arbitrary_reply(), place: prop::sample::Index, octet: u8, cut: prop::sample::Index) {
        let mut octets = octets;
        let place = place.index(octets.len());
        octets[place] = octet;
        let _ = ours(&octets[..cut.index(octets.len())], &question);
        if let (Ok(Ok(answer)), Some(found)) = (ours(&octets, &question), twin(&octets, &question)) {
            prop_assert_eq!(values(&answer), found);
        }
    }

    #[test]
    fn nothing_panics(octets in prop::collection::vec(any::<u8>(), 0..200), counts: [u8; 4]) {
        let question = asked("a.example", RecordType::Txt);
        let mut octets = octets;
        for (place, count) in [5, 7, 9, 11].into_iter().zip(counts) {
            if let Some(octet) = octets.get_mut(place) {
                *octet = count % 4;
            }
        }
        octets.splice(0..octets.len().min(4), [0, 7, 0x81, 0x80]);
        let _ = ours(&octets, &question);
    }
}
