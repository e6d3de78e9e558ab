//! Incoming Authentication-Results: nothing that a reader takes for ours stays.

use spf_milter::mail::auth_results::{
    AuthservIdPattern, OwnAuthservIds, arc_claims_authserv_id, claims_authserv_id,
};

use crate::auth_results;

const OURS: &str = "mx.example.org";

pub(crate) fn check(octets: &[u8]) {
    let exact = OwnAuthservIds::from([AuthservIdPattern::exact(OURS)]);
    let claimed = claims_authserv_id(octets, &exact);
    assert!(!claims_authserv_id(octets, &OwnAuthservIds::default()));
    if let Ok(read) = auth_results::read(octets) {
        if read.authserv_id.eq_ignore_ascii_case(OURS) {
            assert!(claimed, "read as ours, and stays: {:?}", String::from_utf8_lossy(octets));
        }
        // The field that is written of it reads back to the same.
        let written = read.write();
        let again = auth_results::read(written.value.as_bytes())
            .unwrap_or_else(|error| panic!("{error} in {written:?}"));
        assert_eq!(again.results.len(), read.results.len(), "{written:?}");
        for (again, read) in again.results.iter().zip(&read.results) {
            assert_eq!((&again.method, &again.result), (&read.method, &read.result), "{written:?}");
        }
    }
    // So is a field that ARC would have, behind its instance.
    if claimed {
        assert!(
            arc_claims_authserv_id(&[b"i=1; ", octets].concat(), &exact),
            "stays behind i=1: {:?}",
            String::from_utf8_lossy(octets)
        );
    }
    // White space at the ends, other folds and case change nothing.
    let folded: Vec<u8> = [b" \r\n\t", octets].concat();
    assert_eq!(claims_authserv_id(&folded, &exact), claimed);
    assert_eq!(
        claims_authserv_id(&octets.to_ascii_uppercase(), &exact),
        claims_authserv_id(&octets.to_ascii_lowercase(), &exact)
    );
    // More patterns never let more stay.
    if let Ok(below) = ".example.org".parse() {
        assert!(
            !claimed || claims_authserv_id(octets, &[AuthservIdPattern::exact(OURS), below].into())
        );
    }
}
