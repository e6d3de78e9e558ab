//! Replies, each from the records that it has.

use hickory_resolver::proto::{
    op::{Message as Theirs, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name as TheirName, RData, Record as TheirRecord, RecordType as TheirType,
        rdata::{CNAME, MX, NS, NULL, PTR, SOA, TXT},
    },
};

use super::*;
use crate::dns::message::Arrival;

fn wire(text: &str) -> TheirName {
    TheirName::from_labels(text.split_terminator('.').map(str::as_bytes)).unwrap()
}

fn asked(name: &str, record_type: RecordType) -> Question {
    Question::new(&Name::new(name).unwrap(), record_type).unwrap()
}

fn records(records: Vec<(&str, u32, RData)>) -> Vec<TheirRecord> {
    records
        .into_iter()
        .map(|(name, ttl, data)| TheirRecord::from_rdata(wire(name), ttl, data))
        .collect()
}

/// A reply of a server that recurses.
fn message(name: &str, question: &Question, answers: Vec<(&str, u32, RData)>) -> Theirs {
    let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
    message.metadata.recursion_available = true;
    message.queries.push(Query::query(wire(name), TheirType::from(question.wire_type())));
    message.answers = records(answers);
    message
}

fn reading(message: &Theirs, question: &Question) -> Result<Reading, Malformed> {
    let octets = message.to_vec().unwrap();
    match Arrival::read(&octets, 7, question)? {
        Arrival::Message(message) => Reading::of(&message, question),
        other => panic!("{other:?}"),
    }
}

/// The outcome, and the seconds that it is kept.
fn read(message: &Theirs, question: &Question) -> (Result<Answer, Failure>, u64) {
    match reading(message, question) {
        Ok(Reading::Reply(Reply { outcome, ttl })) => (outcome, ttl.as_secs()),
        other => panic!("{other:?}"),
    }
}

fn of(
    name: &str,
    record_type: RecordType,
    answers: Vec<(&str, u32, RData)>,
) -> (Result<Answer, Failure>, u64) {
    let question = asked(name, record_type);
    read(&message(name, &question, answers), &question)
}

fn a(octet: u8) -> RData {
    RData::A(Ipv4Addr::new(192, 0, 2, octet).into())
}

fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(wire(target)))
}

fn soa(minimum: u32) -> RData {
    RData::SOA(SOA::new(wire("a.example"), wire("b.example"), 1, 1, 1, 1, minimum))
}

fn text(strings: Vec<&[u8]>) -> RData {
    RData::TXT(TXT::from_bytes(strings))
}

fn addresses(octets: &[u8]) -> Result<Answer, Failure> {
    Ok(Answer::A(octets.iter().map(|&octet| Ipv4Addr::new(192, 0, 2, octet)).collect()))
}

#[test]
fn chains() {
    // In any order and any case; the least TTL counts; what is beside the chain does not.
    let answers = vec![
        ("other.example", 1, a(9)),
        ("three.example", 300, a(1)),
        ("TWO.example", 50, cname("three.example")),
        ("three.example", 200, a(2)),
        ("One.Example", 100, cname("two.example")),
        ("three.example", 5, text(vec![b"x"])),
    ];
    assert_eq!(of("one.example", RecordType::A, answers), (addresses(&[1, 2]), 50));
    let round =
        vec![("one.example", 60, cname("two.example")), ("two.example", 60, cname("one.example"))];
    assert_eq!(of("one.example", RecordType::A, round), (Err(Failure::Rcode("SERVFAIL")), 1));
    // Records of the name itself count more than its being an alias.
    let both = vec![
        ("one.example", 60, cname("two.example")),
        ("one.example", 60, a(1)),
        ("two.example", 60, a(2)),
    ];
    assert_eq!(of("one.example", RecordType::A, both), (addresses(&[1]), 60));
    for (aliases, good) in [(1, true), (15, true), (16, true), (17, false)] {
        let names: Vec<_> = (0..=aliases).map(|number| format!("n{number}.example")).collect();
        let mut answers: Vec<_> =
            names.windows(2).map(|pair| (pair[0].as_str(), 60, cname(&pair[1]))).collect();
        answers.push((names.last().unwrap(), 60, a(1)));
        let expected = if good { addresses(&[1]) } else { Err(Failure::Rcode("SERVFAIL")) };
        assert_eq!(of("n0.example", RecordType::A, answers).0, expected, "{aliases}");
    }
}

#[test]
fn aliases_without_their_targets() {
    let question = asked("one.example", RecordType::A);
    let alias =
        || message("one.example", &question, vec![("one.example", 5, cname("Two.example"))]);
    let target = WireName::new(&Name::new("two.example").unwrap()).unwrap();
    let onward = Ok(Reading::Alias(target, Duration::from_secs(5)));
    // Nobody says that the target has no such records.
    assert_eq!(reading(&alias(), &question), onward);
    let mut foreign = alias();
    foreign.authorities = records(vec![("other.example", 60, soa(60))]);
    assert_eq!(reading(&foreign, &question), onward);
    let mut lame = alias();
    lame.metadata.recursion_available = false;
    lame.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(reading(&lame, &question), onward);
    // Its zone says so.
    let mut denied = alias();
    denied.authorities = records(vec![("example", 60, soa(60))]);
    assert_eq!(read(&denied, &question), (Err(Failure::NoData), 5));
    denied.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read(&denied, &question), (Err(Failure::NxDomain), 5));
}

/// RFC 7208 §4.3 goes by the response code.
#[test]
fn records_of_a_name_that_does_not_exist_do_not_count() {
    for (record_type, data) in [
        (RecordType::A, a(1)),
        (RecordType::Txt, text(vec![b"v=spf1 +all"])),
        (RecordType::Existence, a(1)),
    ] {
        let question = asked("one.example", record_type);
        let mut message = message("one.example", &question, vec![("one.example", 60, data)]);
        assert!(read(&message, &question).0.is_ok());
        message.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(read(&message, &question), (Err(Failure::NxDomain), 10));
        message.authorities = records(vec![("example", 60, soa(7))]);
        assert_eq!(read(&message, &question), (Err(Failure::NxDomain), 7));
        message.authorities.clear();
        message.metadata.recursion_available = false;
        let lame = Err(Failure::NoRecursion);
        assert_eq!(read(&message, &question).0, lame);
    }
    let question = asked("one.example", RecordType::A);
    let answers = vec![("one.example", 60, cname("two.example")), ("two.example", 60, a(1))];
    let mut message = message("one.example", &question, answers);
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read(&message, &question), (Err(Failure::NxDomain), 10));
}

#[test]
fn servers_that_cannot_know_do_not_count() {
    let question = asked("one.example", RecordType::Txt);
    let ns = |zone: &'static str| vec![(zone, 60, RData::NS(NS(wire("ns.example"))))];
    let soa = |zone: &'static str| vec![(zone, 60, soa(30))];
    let lame = (Err(Failure::NoRecursion), 1);
    let none = |ttl| (Err(Failure::NoData), ttl);
    for (recursion, authoritative, authorities, nodata, nxdomain) in [
        (true, false, vec![], none(10), 10),
        (false, true, vec![], none(10), 10),
        (false, false, vec![], lame.clone(), 0),
        (false, false, soa("example"), none(30), 30),
        (false, false, soa("one.example"), none(30), 30),
        (false, false, soa("two.example"), lame.clone(), 0),
        (true, false, soa("two.example"), none(10), 10),
        // Referrals, the last one upward.
        (false, false, ns("example"), lame.clone(), 0),
        (true, false, ns("example"), lame.clone(), 0),
        (true, false, ns(""), lame.clone(), 0),
        (true, false, [ns("example"), soa("example")].concat(), none(30), 30),
        (false, true, ns("example"), none(10), 10),
    ] {
        let mut message = message("one.example", &question, Vec::new());
        message.metadata.recursion_available = recursion;
        message.metadata.authoritative = authoritative;
        message.authorities = records(authorities);
        assert_eq!(read(&message, &question), nodata);
        message.metadata.response_code = ResponseCode::NXDomain;
        let expected =
            if nxdomain == 0 { lame.clone() } else { (Err(Failure::NxDomain), nxdomain) };
        assert_eq!(read(&message, &question), expected);
    }
    // Records are records at any name.
    let mut message =
        message("one.example", &question, vec![("one.example", 60, text(vec![b"x"]))]);
    message.metadata.recursion_available = false;
    assert!(read(&message, &question).0.is_ok());
}

#[test]
fn only_records_of_others() {
    let question = asked("one.example", RecordType::A);
    for answers in [vec![("other.example", 60, a(9))], vec![("one.example", 60, text(vec![b"x"]))]]
    {
        let mut message = message("one.example", &question, answers);
        assert_eq!(reading(&message, &question), Err(Malformed));
        message.authorities = records(vec![("example", 60, soa(60))]);
        assert_eq!(read(&message, &question), (Err(Failure::NoData), 60));
    }
}

#[test]
fn ttls() {
    for (ttl, kept) in [
        (0, 0),
        (60, 60),
        (86399, 86399),
        (86400, 86400),
        (86401, 86400),
        (u32::MAX >> 1, 86400),
        (1 << 31, 0),
        (u32::MAX, 0),
    ] {
        assert_eq!(
            of("one.example", RecordType::A, vec![("one.example", ttl, a(1))]),
            (addresses(&[1]), kept)
        );
    }
    let question = asked("one.example", RecordType::A);
    for (ttl, minimum, kept) in [
        (60, 30, 30),
        (30, 60, 30),
        (10799, 10799, 10799),
        (10800, 10800, 10800),
        (10801, 10801, 10800),
        (1 << 30, 1 << 30, 10800),
        (u32::MAX, 60, 0),
    ] {
        let mut message = message("one.example", &question, Vec::new());
        message.metadata.response_code = ResponseCode::NXDomain;
        message.authorities = records(vec![("example", ttl, soa(minimum))]);
        assert_eq!(read(&message, &question), (Err(Failure::NxDomain), kept));
    }
}

#[test]
fn a_record_twice_is_one() {
    let record = |data| ("one.example", 60, data);
    assert_eq!(
        of("one.example", RecordType::A, vec![record(a(1)), record(a(2)), record(a(1))]).0,
        addresses(&[1, 2])
    );
    let texts = vec![text(vec![b"v=spf1 -all"]), text(vec![b"x"]), text(vec![b"v=spf1 -all"])]
        .into_iter()
        .map(record)
        .collect();
    let one: Vec<Box<[u8]>> = vec![(*b"v=spf1 -all").into(), (*b"x").into()];
    assert_eq!(of("one.example", RecordType::Txt, texts).0, Ok(Answer::Txt(one.into())));
    // The same text in other strings, and in other letters, is another record.
    let texts = vec![text(vec![b"ab"]), text(vec![b"a", b"b"]), text(vec![b"aB"])]
        .into_iter()
        .map(record)
        .collect();
    let (Ok(Answer::Txt(texts)), _) = of("one.example", RecordType::Txt, texts) else { panic!() };
    assert_eq!(texts.len(), 3);
    let mx = |preference, host| record(RData::MX(MX::new(preference, wire(host))));
    let exchangers = vec![mx(10, "a.example"), mx(10, "A.example"), mx(20, "a.example")];
    let (Ok(Answer::Mx(exchangers)), _) = of("one.example", RecordType::Mx, exchangers) else {
        panic!()
    };
    assert_eq!(exchangers.len(), 2);
}

#[test]
fn names_that_no_host_can_have() {
    let owner = "1.2.0.192.in-addr.arpa";
    let dotted = TheirName::from_labels([b"a.b".as_slice(), b"example".as_slice()]).unwrap();
    let mut answers: Vec<_> = [
        "",
        "a b.example",
        "a\nb.example",
        "b\u{fc}cher.example",
        "Mail.Example.COM.",
        "_x.example",
    ]
    .into_iter()
    .map(|name| (owner, 60, RData::PTR(PTR(wire(name)))))
    .collect();
    answers.push((owner, 60, RData::PTR(PTR(dotted.clone()))));
    let names = ["mail.example.com", "_x.example"].map(|name| Name::new(name).unwrap());
    assert_eq!(of(owner, RecordType::Ptr, answers).0, Ok(Answer::Ptr(names.into())));
    let only = vec![(owner, 60, RData::PTR(PTR(dotted.clone())))];
    assert_eq!(of(owner, RecordType::Ptr, only).0, Ok(Answer::Ptr([].into())));

    let answers = vec![
        ("example.com", 60, RData::MX(MX::new(0, wire("")))),
        ("example.com", 60, RData::MX(MX::new(5, dotted))),
    ];
    let unusable = |preference| Mx { preference, exchange: None };
    assert_eq!(
        of("example.com", RecordType::Mx, answers).0,
        Ok(Answer::Mx([unusable(0), unusable(5)].into()))
    );
}

#[test]
fn texts() {
    let text = |strings: Vec<&[u8]>| ("example.com", 60, text(strings));
    let answers = vec![
        text(vec![b"v=spf1", b"", b" -all"]),
        text(vec![b""]),
        text(vec![b"\0\xff\\"]),
        text(vec![]),
    ];
    let texts: Vec<Box<[u8]>> =
        vec![(*b"v=spf1 -all").into(), (*b"").into(), (*b"\0\xff\\").into()];
    assert_eq!(of("example.com", RecordType::Txt, answers).0, Ok(Answer::Txt(texts.into())));
    assert_eq!(of("example.com", RecordType::Txt, vec![text(vec![])]).0, Err(Failure::NoData));
}

/// A record without strings beside others whose octets look like pointers to it.
#[test]
fn texts_without_strings_beside_what_looks_like_pointers() {
    for octet in 0..=255_u8 {
        let ttl = u32::from_be_bytes([0, 0, 0xc0, octet]);
        let answers = vec![
            ("example.com", ttl, text(vec![])),
            ("example.com", ttl, text(vec![b"v=spf1 -all"])),
            ("other.example.com", ttl, RData::A(Ipv4Addr::new(0xc0, octet, 0xc0, octet).into())),
        ];
        let texts: Vec<Box<[u8]>> = vec![(*b"v=spf1 -all").into()];
        assert_eq!(
            of("example.com", RecordType::Txt, answers).0,
            Ok(Answer::Txt(texts.into())),
            "{octet}"
        );
    }
}

#[test]
fn existence() {
    let question = asked("one.example", RecordType::Existence);
    let nsec = |owner: &'static str, types: &[u8]| {
        let rdata = NULL::with([b"\x02\x01\x00\x03one\x07example\x00".as_slice(), types].concat());
        (owner, 60, RData::Unknown { code: TheirType::Unknown(47), rdata })
    };
    let nxname = [0, 17, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
    let nodata = [0, 7, 0x40, 0, 0, 0, 0, 3, 0x80];
    let exists = || Ok(Answer::Existence);
    let gone = Err(Failure::NxDomain);
    for (rcode, answers, authorities, expected) in [
        (ResponseCode::NoError, vec![("one.example", 60, a(1))], vec![], exists()),
        (ResponseCode::NoError, vec![], vec![("example", 60, soa(60))], exists()),
        (ResponseCode::NXDomain, vec![], vec![("example", 60, soa(60))], gone.clone()),
        // The last of the chain is what does not exist.
        (
            ResponseCode::NXDomain,
            vec![("one.example", 60, cname("gone.test"))],
            vec![("test", 60, soa(60))],
            exists(),
        ),
        (ResponseCode::NoError, vec![("one.example", 60, cname("gone.test"))], vec![], exists()),
        (
            ResponseCode::NoError,
            vec![],
            vec![("example", 60, soa(60)), nsec("one.example", &nxname)],
            gone.clone(),
        ),
        (
            ResponseCode::NoError,
            vec![],
            vec![nsec("ONE.example", &nxname), ("example", 60, soa(60))],
            gone.clone(),
        ),
        (
            ResponseCode::NXDomain,
            vec![],
            vec![("example", 60, soa(60)), nsec("one.example", &nxname)],
            gone,
        ),
        (
            ResponseCode::NoError,
            vec![],
            vec![("example", 60, soa(60)), nsec("one.example", &nodata)],
            exists(),
        ),
        (
            ResponseCode::NoError,
            vec![],
            vec![("example", 60, soa(60)), nsec("two.example", &nxname)],
            exists(),
        ),
        // Window 1 has other types at this place.
        (
            ResponseCode::NoError,
            vec![],
            vec![("example", 60, soa(60)), nsec("one.example", &[&[1], &nxname[1..]].concat())],
            exists(),
        ),
    ] {
        let mut message = message("one.example", &question, answers);
        message.metadata.response_code = rcode;
        message.authorities = records(authorities);
        assert_eq!(read(&message, &question).0, expected);
    }
    // The longest bitmap, with none or all of the types.
    for (bits, expected) in [(0, exists()), (0xff, Err(Failure::NxDomain))] {
        let mut message = message("one.example", &question, vec![]);
        message.authorities =
            records(vec![nsec("one.example", &[[0, 255].as_slice(), &[bits; 255]].concat())]);
        assert_eq!(read(&message, &question).0, expected);
    }
    let mut cut = message("one.example", &question, vec![]);
    cut.authorities = records(vec![("example", 60, soa(60)), nsec("one.example", &nxname[..18])]);
    assert_eq!(reading(&cut, &question), Err(Malformed));
}
