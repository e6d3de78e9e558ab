//! Key records: whatever is published, a signature that nobody made never passes.

use std::sync::Arc;

use spf_milter::{
    auth::dkim::DkimResult,
    dns::{Dns, zone::Zone},
};

use super::dkim_signature::verify;
use crate::models::dkim::split;

pub(crate) fn check(octets: &[u8]) {
    let mut zone = Zone::new();
    // Several records are separated by a NUL.
    for record in octets.split(|octet| *octet == 0).take(5) {
        zone.add_txt("k._domainkey.example.com", record);
    }
    let dns = Dns::from_zone(Arc::new(zone));
    for algorithm in ["rsa-sha256", "ed25519-sha256"] {
        // The hash is that of the empty body; the signature has as many octets as the algorithm
        // wants at least.
        let message = format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d=example.com; i=@sub.example.com; s=k; h=from;\n \
             bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b={}\nFrom: a@example.com\n\n",
            "AAAA".repeat(43)
        );
        let (fields, body) = split(message.as_bytes());
        for outcome in verify(&fields, &body, &dns, 100, 0) {
            assert_ne!(outcome.result(), DkimResult::Pass, "{outcome:?}");
            assert!(
                outcome.key_bits.is_none_or(|bits| (256..=8192).contains(&bits)),
                "{outcome:?}"
            );
        }
    }
}
