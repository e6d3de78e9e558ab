//! DMARC records, against a slow twin.

use spf_milter::auth::dmarc::{Alignment, Policies, Policy, Psd, Record};

use crate::models::dmarc;

/// A policy as the twin has it.
pub(crate) fn number(policy: Policy) -> u8 {
    match policy {
        Policy::None => 0,
        Policy::Quarantine => 1,
        Policy::Reject => 2,
    }
}

/// A record as the twin has it.
pub(crate) fn twin_of(record: &Record) -> dmarc::Record {
    dmarc::Record {
        policies: record
            .policies
            .map(|Policies { p, sp, np }| (number(p), sp.map(number), np.map(number))),
        strict_dkim: record.adkim == Alignment::Strict,
        strict_spf: record.aspf == Alignment::Strict,
        psd: match record.psd {
            Psd::Yes => 'y',
            Psd::No => 'n',
            Psd::Unstated => 'u',
        },
        testing: record.testing,
    }
}

pub(crate) fn check(octets: &[u8]) {
    let record = Record::parse(octets);
    let text = String::from_utf8_lossy(octets);
    assert_eq!(record.as_ref().map(twin_of), dmarc::parse(octets, is_uri), "{text:?}");
    let Some(((fo, uris), record)) = dmarc::reports(octets, is_uri).zip(record) else { return };
    assert_eq!(fo, [record.fo.all, record.fo.any, record.fo.dkim, record.fo.spf], "{text:?}");
    let is_kept = |uri: &Vec<u8>| {
        let length = uri.iter().position(|octet| *octet == b'!').unwrap_or(uri.len());
        length <= 1000
    };
    let uris: Vec<_> = uris.into_iter().filter(is_kept).take(10).collect();
    assert_eq!(uris.len(), record.rua.len(), "{text:?}");
    for (whole, uri) in uris.iter().zip(&record.rua) {
        let size = whole.strip_prefix(uri.as_bytes());
        assert!(size.is_some_and(|size| size.is_empty() || size[0] == b'!'), "{text:?}");
    }
}

/// Whether the reader takes the text for a URI: seen by a record that has nothing else.
fn is_uri(text: &[u8]) -> bool {
    let record = Record::parse(&[b"v=DMARC1;rua=", text].concat());
    record.is_some_and(|record| record.policies.is_some())
}
