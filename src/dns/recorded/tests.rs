use proptest::prelude::*;

use super::*;
use crate::dns::{Dns, Mx, zone::Zone};
use std::sync::Arc;

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn any_name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}",
        "[\\x00-\\x7f]{1,20}",
        Just("[dns]".to_owned()),
        Just("#.!.\"".to_owned()),
    ]
    .prop_filter_map("no name", |text| Name::new(&text))
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(vec![
        Failure::NxDomain,
        Failure::NoData,
        Failure::Timeout,
        Failure::NoRecursion,
        Failure::Malformed,
        Failure::Network,
        Failure::Rcode("SERVFAIL"),
        Failure::Rcode("REFUSED"),
        Failure::Rcode("BADCOOKIE"),
        Failure::Rcode("unknown RCODE"),
        Failure::Rcode("too many records"),
        Failure::Rcode("not recorded"),
    ])
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let mx = || {
        (any::<u16>(), prop::option::of(any_name()))
            .prop_map(|(preference, exchange)| Mx { preference, exchange })
    };
    prop_oneof![
        prop::collection::vec(any::<[u8; 4]>(), 1..4)
            .prop_map(|found| Answer::A(found.into_iter().map(Into::into).collect())),
        prop::collection::vec(any::<[u8; 16]>(), 1..4)
            .prop_map(|found| Answer::Aaaa(found.into_iter().map(Into::into).collect())),
        prop::collection::vec(mx(), 1..11).prop_map(|found| Answer::Mx(found.into())),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..4).prop_map(|found| {
            Answer::Txt(found.into_iter().map(Vec::into_boxed_slice).collect::<Vec<_>>().into())
        }),
        prop::collection::vec(any_name(), 0..10).prop_map(|found| Answer::Ptr(found.into())),
        Just(Answer::Existence),
    ]
}

fn any_server() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<[u8; 4]>().prop_map(|address| (address, 53).into()),
        any::<[u8; 16]>().prop_map(|address| (address, 53).into()),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
        any::<(u16, u32)>().prop_map(|(port, scope)| std::net::SocketAddrV6::new(
            "fe80::1".parse().unwrap(),
            port,
            0,
            scope
        )
        .into()),
        any::<u32>().prop_map(|scope| std::net::SocketAddrV6::new(
            "fe80::1".parse().unwrap(),
            53,
            0,
            scope
        )
        .into()),
    ]
}

/// An entry, and the answer of it.
fn any_entry() -> impl Strategy<Value = Entry> {
    let types = prop::sample::select(vec![
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Mx,
        RecordType::Txt,
        RecordType::Ptr,
        RecordType::Existence,
    ]);
    let servers = prop::collection::vec(any_server(), 0..3);
    prop_oneof![
        (any_name(), any_answer()).prop_map(|(name, answer)| Entry {
            name,
            record_type: answer.record_type(),
            answer: Some(Ok(answer)),
            servers: Vec::new()
        }),
        (any_name(), types.clone(), any_failure(), servers).prop_map(
            |(name, record_type, failure, servers)| Entry {
                name,
                record_type,
                answer: Some(Err(failure)),
                servers
            }
        ),
        (any_name(), types).prop_map(|(name, record_type)| Entry {
            name,
            record_type,
            answer: None,
            servers: Vec::new()
        }),
    ]
}

/// The first entry of each question.
fn entries(all: Vec<Entry>) -> Entries {
    let mut entries = Entries::default();
    for entry in all {
        if entries.find(&entry.name, entry.record_type).is_none() {
            let (name, record_type) = (entry.name.clone(), entry.record_type);
            *entries.entry(&name, record_type).unwrap() = entry;
        }
    }
    entries
}

proptest! {
    #[test]
    fn what_is_written_reads_back(all in prop::collection::vec(any_entry(), 0..12)) {
        let entries = entries(all);
        let text = entries.to_string();
        prop_assert!(text.bytes().all(|octet| octet == b'\n' || (b' '..=b'~').contains(&octet)));
        prop_assert_eq!(Entries::parse(&text, 1).unwrap(), entries, "{}", text);
    }

    #[test]
    fn a_replay_answers_as_the_recorded_client(
        all in prop::collection::vec(any_entry(), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let entries = entries(all);
        // What is written, too, was a client once.
        let replay = Arc::new(Replay::new(entries.clone()));
        let recording = Arc::new(Recording::default());
        let dns = Dns::from_replay(&replay).recording(&recording).for_session();
        let asked: Vec<&Entry> = order.iter().map(|index| {
            let entries: Vec<&Entry> = entries.iter().collect();
            entries[index.index(entries.len())]
        }).collect();
        run(async {
            for entry in &asked {
                let lookup = dns.lookup(&entry.name, entry.record_type);
                let answer = tokio::time::timeout(Duration::from_secs(1), lookup).await.ok();
                prop_assert_eq!(&answer, &entry.answer);
                prop_assert_eq!(dns.asked(&entry.name, entry.record_type), entry.servers.clone());
            }
            Ok(())
        })?;
        let recorded = recording.entries();
        let mut first: Vec<&Entry> = Vec::new();
        asked.into_iter().for_each(|entry| if !first.contains(&entry) { first.push(entry) });
        prop_assert_eq!(recorded.iter().collect::<Vec<_>>(), first);
        prop_assert_eq!(replay.missing(), []);
    }

    #[test]
    fn anything_is_read_without_a_panic(
        lines in prop::collection::vec(prop_oneof![
            any::<String>(),
            "[ab.]{0,3} (A|AAAA|MX|TXT|PTR|EXISTENCE|B) (192.0.2.1|::1|10 a|\"a|\"\\\\25|yes|!timeout|!x|!NXDOMAIN \\(::1|a)",
        ], 0..10),
    ) {
        if let Ok(entries) = Entries::parse(&lines.join("\n"), 1) {
            prop_assert_eq!(Entries::parse(&entries.to_string(), 1), Ok(entries));
        }
    }
}

#[test]
fn lines_are_those_of_zone_files() {
    let zone = r#"
        example.com TXT "v=spf1 mx -all"
        example.com TXT "second \"text\"\255"
        example.com MX 10 mx.example.com
        example.com MX 20 .
        www.example.com CNAME mx.example.com
        mx.example.com A 192.0.2.1
        mx.example.com AAAA 2001:db8::1
        192.0.2.1 PTR mx.example.com
        bad.example.com * !servfail
    "#;
    let recording = Arc::new(Recording::default());
    let dns = Dns::from_zone(Arc::new(Zone::parse(zone).unwrap())).recording(&recording);
    run(async {
        for (asked, record_type) in [
            ("example.com", RecordType::Txt),
            ("example.com", RecordType::Mx),
            ("www.example.com", RecordType::A),
            ("mx.example.com", RecordType::Aaaa),
            ("example.com", RecordType::Existence),
            ("nothing.example.com", RecordType::Existence),
            ("1.2.0.192.in-addr.arpa", RecordType::Ptr),
            ("bad.example.com", RecordType::A),
            ("example.com", RecordType::A),
            ("a b\".example.com", RecordType::A),
            ("www.example.com", RecordType::A),
        ] {
            let _ = dns.lookup(&name(asked), record_type).await;
        }
    });
    let expected = "\
example.com TXT \"v=spf1 mx -all\"
example.com TXT \"second \\\"text\\\"\\255\"
example.com MX 10 mx.example.com
example.com MX 20 .
www.example.com A 192.0.2.1
mx.example.com AAAA 2001:db8::1
example.com EXISTENCE yes
nothing.example.com EXISTENCE !NXDOMAIN
1.2.0.192.in-addr.arpa PTR mx.example.com
bad.example.com A !SERVFAIL
example.com A !no such records
a\\032b\\034.example.com A !NXDOMAIN
";
    assert_eq!(recording.entries().to_string(), expected);
    assert!(recording.took(&name("example.com"), RecordType::Txt).is_some());
    assert_eq!(recording.took(&name("example.com"), RecordType::Ptr), None);
}

/// An answer that comes later than one to the same question does not count, nor do its servers.
#[test]
fn the_first_answer_counts() {
    let recording = Recording::default();
    let (asked, time) = (name("a.example"), Duration::from_millis);
    assert_eq!(recording.ask(&asked, RecordType::A), None);
    assert_eq!(recording.ask(&asked, RecordType::A), None);
    let server = || vec![SocketAddr::from(([192, 0, 2, 53], 53))];
    let failure = Err(Failure::Timeout);
    assert_eq!(recording.keep(&asked, RecordType::A, failure.clone(), server(), time(7)), failure);
    let late = Ok(Answer::A([[192, 0, 2, 1].into()].into()));
    assert_eq!(recording.keep(&asked, RecordType::A, late, Vec::new(), time(9)), failure);
    assert_eq!(recording.ask(&asked, RecordType::A), Some(failure));
    assert_eq!(recording.asked(&asked, RecordType::A), server());
    assert_eq!(recording.took(&asked, RecordType::A), Some(time(7)));
}

#[test]
fn questions_that_were_not_recorded_are_named() {
    let replay = Arc::new(Replay::new(Entries::parse("a.example A 192.0.2.1", 1).unwrap()));
    let dns = Dns::from_replay(&replay);
    run(async {
        for (asked, record_type) in [
            ("b.example", RecordType::A),
            ("a.example", RecordType::A),
            ("a.example", RecordType::Mx),
            ("b.example", RecordType::A),
        ] {
            let answer = dns.lookup(&name(asked), record_type).await;
            if (asked, record_type) == ("a.example", RecordType::A) {
                assert!(answer.is_ok());
            } else {
                assert_eq!(answer.unwrap_err().to_string(), "not recorded");
            }
        }
    });
    let missing = [(name("b.example"), RecordType::A), (name("a.example"), RecordType::Mx)];
    assert_eq!(replay.missing(), missing);
}

#[test]
fn bad_lines_are_named() {
    for (text, line, problem) in [
        ("a.example", 7, "expected a name, a type and a value, such as: example.com A 192.0.2.1"),
        ("\n# x\na.example A", 9, "expected a name"),
        ("a..b A 192.0.2.1", 7, "'a..b' is not a name"),
        ("a SOA x", 7, "unknown type 'SOA', expected one of A, AAAA, MX, TXT, PTR, EXISTENCE"),
        ("a A 192.0.2.256", 7, "'192.0.2.256' is not an IPv4 address"),
        ("a AAAA 192.0.2.1", 7, "'192.0.2.1' is not an IPv6 address"),
        ("a MX mx.example", 7, "'mx.example' is not a preference and a name"),
        ("a MX 65536 mx.example", 7, "is not a preference and a name"),
        ("a TXT \"x", 7, "quoted string without an end"),
        ("a TXT \"\\256\"", 7, "no such octet"),
        ("a EXISTENCE no", 7, "'no' is not 'yes' or a failure"),
        ("a A !servfail", 7, "unknown failure '!servfail', expected one of !unanswered, !NXDOMAIN"),
        ("a A !timeout (x)", 7, "bad address of a name server"),
        ("a A !timeout (::1", 7, "no ) after the name servers"),
        ("a A 192.0.2.1\nb A 192.0.2.1\na A !timeout", 9, "contradict each other"),
        ("a A !timeout\na A !timeout", 8, "contradict each other"),
        ("a PTR .\na PTR b", 8, "contradict each other"),
        ("a EXISTENCE yes\na EXISTENCE yes", 8, "the existence of a name has one line"),
    ] {
        let error = Entries::parse(text, 7).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.problem.contains(problem), "{text}: {error}");
    }
}

#[test]
fn the_number_of_questions_is_bounded() {
    for (count, fits) in [(9_999, true), (10_000, true), (10_001, false)] {
        let text: String =
            (0..count).map(|number| format!("{number}.example A !timeout\n")).collect();
        assert_eq!(Entries::parse(&text, 1).is_ok(), fits, "{count}");
    }
}
