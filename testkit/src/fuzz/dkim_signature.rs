//! DKIM signatures of a message: chunks change nothing, and what passes verifies with a slow twin
//! as well.
//!
//! The input is a message; lines may end in CRLF or LF. The keys are those of `tests/dkim/zone`.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use spf_milter::{
    auth::dkim::{DkimResult, Settings, SignatureOutcome, Verifier, signature_prefixes},
    dns::{Answer, Dns, Name, RecordType, zone::Zone},
};

use crate::models::dkim::{self, Field, split};

static ZONE: LazyLock<Arc<Zone>> =
    LazyLock::new(|| Arc::new(Zone::parse(include_str!("../../../tests/dkim/zone")).unwrap()));

/// The outcomes of the signatures, the body in chunks.
pub(crate) fn verify(
    fields: &[Field],
    body: &[u8],
    dns: &Dns,
    chunk: usize,
    min_key_bits: usize,
) -> Vec<SignatureOutcome> {
    let settings = Settings {
        max_signatures: 10,
        min_key_bits,
        timeout: Duration::from_secs(5),
        now: 1_795_400_000,
    };
    let verify = |mut verifier: Verifier| {
        fields.iter().for_each(|(name, value)| verifier.header(name, value));
        super::block_on(async {
            let mut verification = verifier.end_of_header(dns);
            body.chunks(chunk).for_each(|part| verification.body(part));
            verification.finish().await.unwrap()
        })
    };
    let outcomes = verify(Verifier::new(settings));
    // Whoever watches changes nothing.
    let mut traced = verify(Verifier::new(settings).traced());
    for outcome in &mut traced {
        let trace = outcome.trace.take();
        if let Some(hash) = trace.as_ref().and_then(|trace| trace.body.as_ref()) {
            assert!(hash.is_good() || outcome.result() != DkimResult::Pass, "{trace:?}");
        }
        if let Some(header) = trace.as_ref().and_then(|trace| trace.header.as_ref()) {
            assert!(header.is_good || outcome.result() != DkimResult::Pass, "{trace:?}");
        }
    }
    assert_eq!(traced, outcomes);
    outcomes
}

pub(crate) fn check(octets: &[u8]) {
    let (fields, body) = split(octets);
    let dns = Dns::from_zone(Arc::clone(&ZONE));
    let outcomes = verify(&fields, &body, &dns, usize::MAX, 1024);
    for chunk in [1, 7, 4096] {
        assert_eq!(verify(&fields, &body, &dns, chunk, 1024), outcomes, "in chunks of {chunk}");
    }
    let places: Vec<usize> = (0..fields.len())
        .filter(|&at| fields[at].0.trim_ascii_end().eq_ignore_ascii_case(b"DKIM-Signature"))
        .collect();
    assert!(outcomes.len() <= places.len());
    for (outcome, place) in outcomes.iter().zip(places) {
        if let Some(reason) = &outcome.reason {
            super::assert_printable(&reason.to_string());
        }
        if outcome.result() == DkimResult::Pass {
            let (domain, selector) =
                (outcome.domain.as_ref().unwrap(), outcome.selector.as_deref().unwrap());
            let name = Name::new(&format!("{selector}._domainkey.{domain}")).unwrap();
            let Ok(Answer::Txt(texts)) = ZONE.answer(&name, RecordType::Txt) else {
                panic!("a pass without a key: {outcome:?}")
            };
            let text = String::from_utf8_lossy(octets);
            assert!(
                dkim::verifies(&fields, place, &body, &texts[0]),
                "passes only here: {outcome:?} of\n{text}"
            );
        }
    }
    let _ = signature_prefixes(&outcomes);
}
