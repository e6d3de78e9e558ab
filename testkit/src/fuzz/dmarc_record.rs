//! DMARC records, against a slow twin.

use spf_milter::auth::dmarc::{Alignment, Policies, Policy, Psd, Record};

use crate::models::dmarc;

pub(crate) fn check(octets: &[u8]) {
    let number = |policy| match policy {
        Policy::None => 0,
        Policy::Quarantine => 1,
        Policy::Reject => 2,
    };
    let ours = Record::parse(octets).map(|record| dmarc::Record {
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
    });
    assert_eq!(ours, dmarc::parse(octets, is_uri), "{:?}", String::from_utf8_lossy(octets));
}

/// Whether the reader takes the text for a URI: told by a record that has nothing else.
fn is_uri(text: &[u8]) -> bool {
    let record = Record::parse(&[b"v=DMARC1;rua=", text].concat());
    record.is_some_and(|record| record.policies.is_some())
}
