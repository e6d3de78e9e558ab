//! Replies of name servers. The first octet says which type was asked for, of `a.example`.

use std::time::Duration;

use spf_milter::dns::{Answer, Failure, Name, RecordType, testing::read_reply};

pub(crate) fn check(octets: &[u8]) {
    let Some((kind, reply)) = octets.split_first() else { return };
    let record_type = match kind % 6 {
        0 => RecordType::A,
        1 => RecordType::Aaaa,
        2 => RecordType::Mx,
        3 => RecordType::Txt,
        4 => RecordType::Ptr,
        _ => RecordType::Existence,
    };
    let name = Name::new("a.example").unwrap();
    let Some((outcome, ttl)) = read_reply(&name, record_type, reply) else { return };
    assert!(ttl <= Duration::from_secs(24 * 3600), "{ttl:?}");
    let count = match &outcome {
        Ok(Answer::A(records)) if record_type == RecordType::A => records.len(),
        Ok(Answer::Aaaa(records)) if record_type == RecordType::Aaaa => records.len(),
        Ok(Answer::Mx(records)) if record_type == RecordType::Mx => records.len(),
        Ok(Answer::Txt(records)) if record_type == RecordType::Txt => {
            assert!(records.iter().map(|text| text.len()).sum::<usize>() <= reply.len());
            records.len()
        }
        Ok(Answer::Ptr(names)) if record_type == RecordType::Ptr => {
            names.iter().for_each(|name| super::assert_printable(name.as_str()));
            names.len() + 1
        }
        Ok(Answer::Existence) if record_type == RecordType::Existence => 0,
        Ok(answer) => panic!("{answer:?} to a question of {record_type}"),
        Err(failure) => {
            assert!(ttl <= Duration::from_secs(3 * 3600), "{ttl:?}");
            assert!(failure.is_void() || ttl <= Duration::from_secs(10), "{failure}: {ttl:?}");
            // A name is denied by NXDOMAIN, or by a NSEC record that says so (RFC 2308 §2.1, RFC
            // 9824 §3.4).
            let is_denied = reply.get(3).is_some_and(|flags| flags & 0x0f == 3);
            let has_nsec = reply.windows(4).any(|window| window == [0, 47, 0, 1]);
            assert!(*failure != Failure::NxDomain || is_denied || has_nsec, "{failure}");
            0
        }
    };
    assert!(count <= reply.len() / 11 + 1, "{count} records in {} octets", reply.len());
    assert_eq!(read_reply(&name, record_type, reply), Some((outcome, ttl)));
}
