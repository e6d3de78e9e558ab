//! The bounds of a check: the limits that a caller sets, and the constant ones.

use std::time::Duration;

use tokio::time::Instant;

/// The limits of one check (RFC 7208 §4.6.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Terms that ask DNS.
    pub max_lookups: usize,
    /// Terms that ask DNS and find nothing at all: no address of any mail exchanger, say.
    pub max_void_lookups: usize,
    /// How long a check may take.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_lookups: 10, max_void_lookups: 2, timeout: Duration::from_secs(20) }
    }
}

impl Limits {
    /// The limits that an outcome may depend on; it does not on time.
    pub(super) fn allowed(&self) -> [usize; 2] {
        let Self { max_lookups, max_void_lookups, timeout: _ } = *self;
        [max_lookups, max_void_lookups]
    }
}

/// Longer than any check.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the names of a client and their addresses are waited for, all together.
pub(super) const MAX_NAMES_TIME: Duration = Duration::from_secs(5);

/// Until when the names of a client are waited for in a check that ends at `end`. Silence of the
/// client's DNS is not a match (RFC 7208 §5.5), so it must leave the check enough time to go on: half
/// of what there is.
pub(super) fn names_deadline(end: Instant) -> Instant {
    let now = Instant::now();
    now + MAX_NAMES_TIME.min(end.saturating_duration_since(now) / 2)
}

/// The most mail exchangers of an `mx` mechanism (RFC 7208 §4.6.4).
pub(super) const MAX_MX_HOSTS: usize = 10;

/// The most terms with early look-ups, also where the limit of look-ups is set high.
pub(super) const MAX_EARLY_TERMS: usize = 50;

/// Answers of more octets of memory are not kept until the end of the check; a term that needs one
/// again asks the cache.
pub(super) const MAX_KEPT_ANSWER: usize = 1024;

/// The most octets of memory, about, of records that include one another; and how many more there
/// may be for each look-up that is allowed.
pub(super) const MAX_HELD: usize = 256 * 1024;
pub(super) const HELD_FOR_A_LOOKUP: usize = 256;

/// The most octets, terms and macros of a record: far more than domains publish. A record of two
/// octets a term takes fifty times its length when it has been parsed.
pub(super) const MAX_RECORD: usize = 16 * 1024;
pub(super) const MAX_TERMS: usize = 512;
pub(super) const MAX_MACROS: usize = 512;

/// A parsed record that takes about so many octets of memory at most is kept with the answer that
/// it was parsed from; larger ones are rare.
pub(super) const MAX_KEPT_RECORD: usize = 8 * 1024;

/// The most octets of an explanation as it is published: no reply holds as many, and parsed it
/// takes many times the memory.
pub(super) const MAX_EXPLANATION_TEXT: usize = 4 * 1024;

/// The most octets of an expanded explanation; no reply holds as many.
pub(super) const MAX_EXPLANATION: usize = 16 * 1024;

/// The most octets of values that one expansion goes through. A record has room for thousands of
/// macros, a hostile local-part for thousands of octets, and each macro may go through all of them
/// to expand to nothing.
pub(super) const MAX_EXPANSION_WORK: usize = 256 * 1024;
