//! Body hashes in chunks, against a slow twin.
//!
//! The first octet: bit 0 relaxed, bit 1 `l=`; the second one the size of chunks. In the rest an
//! octet from 0x80 repeats the octet before it as often as the two octets behind say, so that small
//! inputs make bodies that pass every buffer's border.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use spf_milter::{
    auth::dkim::{Reason, Settings, Verifier},
    dns::{Dns, zone::Zone},
};

use super::Input;
use crate::models::body;

pub(crate) fn check(octets: &[u8]) {
    let mut input = Input(octets);
    let (flags, chunk) = (input.octet(), input.octet());
    let mut message_body = Vec::new();
    while !input.is_at_end() && message_body.len() < 100_000 {
        match input.octet() {
            octet @ 0..0x80 => message_body.push(octet),
            high => {
                let times = usize::from(u16::from_be_bytes([input.octet(), input.octet()]));
                let octet =
                    if high == 0xff { 0xff } else { message_body.last().copied().unwrap_or(b' ') };
                message_body.resize(message_body.len() + times, octet);
            }
        }
    }
    let relaxed = flags & 1 == 1;
    let length = (flags & 2 == 2)
        .then(|| body::canonicalize(&message_body, relaxed).len() * usize::from(flags >> 2) / 63);
    let sizes: [usize; 3] = [usize::MAX, 65_535, usize::from(chunk) * usize::from(chunk) + 1];
    for size in sizes {
        is_hashed_right(&message_body, relaxed, length, size);
    }
}

/// Whether a signature over the body gets beyond the body hash, in chunks of this size.
pub(crate) fn is_hashed_right(
    message_body: &[u8],
    relaxed: bool,
    length: Option<usize>,
    chunk: usize,
) {
    let found = hashed(message_body, relaxed, length, message_body.chunks(chunk));
    assert_eq!(
        found,
        Some(Reason::Signature),
        "body of {} octets in chunks of {chunk}, relaxed {relaxed}, l={length:?}",
        message_body.len()
    );
}

/// The outcome of a signature with the right body hash and nothing else right.
pub(crate) fn hashed<'a>(
    message_body: &[u8],
    relaxed: bool,
    length: Option<usize>,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> Option<Reason> {
    let hash = BASE64_STANDARD.encode(body::hash(message_body, relaxed, length).unwrap());
    let (signature, word) =
        (BASE64_STANDARD.encode([0; 64]), if relaxed { "relaxed" } else { "simple" });
    let length = length.map_or(String::new(), |length| format!(" l={length};"));
    let value = format!(
        " v=1; a=ed25519-sha256; c=relaxed/{word}; d=example.com; s=k; h=from;{length} bh={hash}; b={signature}"
    );
    let zone =
        Zone::parse("k._domainkey.example.com TXT v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
    let settings = Settings {
        max_signatures: 1,
        min_key_bits: 1024,
        timeout: Duration::from_secs(5),
        now: 1_795_000_000,
    };
    let mut verifier = Verifier::new(settings);
    verifier.header(b"DKIM-Signature", value.as_bytes());
    verifier.header(b"From", b" a@example.com");
    super::block_on(async {
        let mut verification = verifier.end_of_header(&Dns::from_zone(Arc::new(zone)));
        chunks.for_each(|chunk| verification.body(chunk));
        verification.finish().await.unwrap().pop().unwrap().reason
    })
}
