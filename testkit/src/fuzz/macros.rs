//! Macro expansion, against a slow twin.
//!
//! The first line is `CLIENT|LOCAL-PART|HELO|RECEIVER`, the rest is an explanation.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use spf_milter::{
    auth::spf::{self, Limits, Query},
    dns::{Dns, zone::Zone},
    mail::{domain::with_a_labels, results::SpfResult},
};

use crate::models::macros::{Values, expand};

pub(crate) fn check(octets: &[u8]) {
    let (line, text) = super::first_line(octets);
    let mut words = line.split('|');
    let client: IpAddr =
        words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| [192, 0, 2, 1].into());
    let mut word = || words.next().unwrap_or_default();
    let (local_part, helo, receiver) = (word(), word(), word());
    let mut zone = Zone::parse("example.com TXT v=spf1 -all exp=why.example.com").unwrap();
    zone.add_txt("why.example.com", text);
    let query = Query {
        client,
        domain: "example.com".into(),
        local_part,
        helo,
        receiver,
        timestamp: 1_700_000_000,
    };
    let outcome = super::block_on(spf::check(
        &Dns::from_zone(Arc::new(zone)),
        &query,
        &Limits::default(),
        None,
    ));
    assert_eq!(outcome.result, SpfResult::Fail);
    let helo = with_a_labels(helo.strip_suffix('.').unwrap_or(helo));
    let values = Values {
        client: client.to_canonical(),
        local_part: if local_part.is_empty() { "postmaster" } else { local_part },
        sender_domain: "example.com",
        domain: "example.com",
        helo: &helo,
        receiver: if receiver.is_empty() { "unknown" } else { receiver },
        timestamp: 1_700_000_000,
    };
    // Not ASCII, empty or very long: none that a reply could say.
    let expected = expand(text, &values).filter(|text| text.is_ascii() && !text.is_empty());
    if expected.as_ref().is_some_and(|text| text.len() > 12 * 1024) || octets.len() > 4096 {
        return;
    }
    let mut difference = String::new();
    let _ = write!(difference, "{:?} of {:?}", outcome.explanation, String::from_utf8_lossy(text));
    assert_eq!(outcome.explanation, expected, "{difference}");
}
