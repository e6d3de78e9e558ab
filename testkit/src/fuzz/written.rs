//! Our own fields: whatever they are made of, they hold to the grammar and read back.

use spf_milter::mail::{
    auth_results::{AuthenticationResults, Keyword, MethodResult, Property},
    header_field::HeaderField,
    received_spf::{Identity, ReceivedSpf, describe},
    results::SpfResult,
    tokens,
};

use super::Input;
use crate::{auth_results, received_spf};

pub(crate) fn check(octets: &[u8]) {
    let _ = auth_results::read(octets);
    let _ = received_spf::read(octets);
    let mut input = Input(octets);
    match input.octet() % 2 {
        0 => authentication_results(&mut input),
        _ => received_spf(&mut input),
    }
}

fn is_written_right(field: &HeaderField) {
    let text = format!("{}: {}", field.name, field.value);
    for (number, line) in text.split('\n').enumerate() {
        assert!(line.len() <= 998, "a line of {} octets", line.len());
        assert!(
            line.bytes().all(|octet| octet == b'\t' || (b' '..=b'~').contains(&octet)),
            "{line:?}"
        );
        assert!(
            number == 0 || line.starts_with([' ', '\t']) && !line.trim().is_empty(),
            "{line:?}"
        );
    }
}

fn authentication_results(input: &mut Input<'_>) {
    const WORDS: [&str; 4] = ["spf", "dkim", "pass", "x-y_z"];
    let mut results = AuthenticationResults::new("mx.example.org");
    let mut given = Vec::new();
    while !input.is_at_end() && results.results.len() < 8 {
        let flags = input.octet();
        let mut result =
            MethodResult::new(WORDS[usize::from(flags & 3)], WORDS[usize::from(flags >> 2 & 3)]);
        if flags & 16 != 0 {
            result = result.with_comment(input.text());
        }
        if flags & 32 != 0 {
            result.reason = Some(input.text());
        }
        for _ in 0..flags >> 6 {
            let (text, other) = (input.text(), input.text());
            let property = match input.octet() % 4 {
                0 => Property::new("smtp", "helo", text),
                1 => Property::new("smtp", "mailfrom", format!("{text}@{other}")),
                2 => Property::new("header", "d", text).with_comment(other),
                _ => {
                    Property { ptype: Keyword::parse(&text), ..Property::new("policy", "x", other) }
                }
            };
            result = result.with_property(property);
        }
        given.push(result.clone());
        results.results.push(result);
    }
    let field = results.write();
    is_written_right(&field);
    let read = auth_results::read(field.value.as_bytes())
        .unwrap_or_else(|error| panic!("{error} in {field:?}"));
    assert_eq!(
        (read.authserv_id.as_str(), read.version, read.results.len()),
        ("mx.example.org", 1, given.len()),
        "{field:?}"
    );
    for (read, given) in read.results.iter().zip(&given) {
        assert_eq!(
            (&read.method, &read.result, read.method_version),
            (&given.method, &given.result, 1),
            "{field:?}"
        );
        assert_eq!(
            read.reason.as_deref(),
            given.reason.as_deref().map(tokens::shorten).as_deref(),
            "{field:?}"
        );
        assert_eq!(read.properties.len(), given.properties.len(), "{field:?}");
        for (read, given) in read.properties.iter().zip(&given.properties) {
            assert_eq!((&read.ptype, &read.property), (&given.ptype, &given.property), "{field:?}");
            assert_eq!(read.value, tokens::shorten(&given.value), "{field:?}");
        }
    }
}

fn received_spf(input: &mut Input<'_>) {
    const RESULTS: [SpfResult; 4] =
        [SpfResult::Pass, SpfResult::Fail, SpfResult::None, SpfResult::Temperror];
    let flags = input.octet();
    let result = RESULTS[usize::from(flags & 3)];
    let client_ip = (flags & 4 != 0).then(|| std::net::IpAddr::from([192, 0, 2, flags]));
    let (sender, receiver) = (input.text(), input.text());
    let written = ReceivedSpf {
        comment: Some(describe(result, Identity::Mailfrom, &sender, client_ip, &receiver).into()),
        receiver: Some(receiver.into()),
        client_ip,
        helo: Some(input.text().into()),
        envelope_from: Some(sender.into()),
        identity: Some(Identity::Mailfrom),
        mechanism: Some(input.text().into()),
        problem: (flags & 8 != 0).then(|| input.text().into()),
        ..ReceivedSpf::new(result)
    };
    let field = written.write();
    is_written_right(&field);
    let read = received_spf::read(field.value.as_bytes())
        .unwrap_or_else(|error| panic!("{error} in {field:?}"));
    assert_eq!(
        (read.result, read.client_ip, read.identity),
        (written.result, written.client_ip, written.identity)
    );
    for (read, written) in [
        (&read.receiver, &written.receiver),
        (&read.helo, &written.helo),
        (&read.envelope_from, &written.envelope_from),
        (&read.mechanism, &written.mechanism),
        (&read.problem, &written.problem),
    ] {
        assert_eq!(
            read.as_deref(),
            written.as_deref().map(tokens::shorten).as_deref(),
            "{field:?}"
        );
    }
}
