//! DKIM: verifies DKIM-Signature fields while the message arrives (RFC 6376, 8301, 8463, 8616).
//!
//! [`Verifier`] takes the header; at its end it becomes a [`Verification`], which looks the keys up
//! beside the body and hashes the body as it comes. It keeps the header, at most 1 MiB, and the
//! state of a few hashes; of the body it keeps nothing.
//!
//! Where the RFCs leave a choice:
//!
//! - Signatures with rsa-sha1 are permerror without a key look-up (RFC 8301 §3.1 says that they
//!   have permanently failed).
//! - RSA keys that are too short are policy (RFC 8301 §3.2), and those of more than 8192 bits
//!   permerror.
//! - A signature is policy if `h=` names a field that may occur once (RFC 5322 §3.6, MIME) less
//!   often than the message has it: a client might show one that is not signed. A field that `h=`
//!   does not name at all may be repeated, except From, without which the signature is permerror.
//! - With several key records at a name (undefined in RFC 6376 §3.6.2.2) the signature passes if it
//!   verifies with one of the first three keys of its algorithm, in alphabetical order. Texts that
//!   are not key records do not count.
//! - A signature whose key DNS gives no answer for is temperror, unless the body hash already shows
//!   that it fails.
//! - An `l=` larger than the body is permerror; one that is smaller is policy, if the signature is
//!   good.
//! - A CR or LF in the body that is not part of a CRLF is an octet like others.

mod outcome;
mod signature;
mod trace;

use std::{fmt, time::Duration};

#[cfg(any(test, feature = "testing"))]
pub use super::signed::body::BodyCoverage;
pub use super::signed::keys::KeyProblem;
use super::signed::{
    body::{BodyHash, BodyHashes},
    header::{Field, Header, Index},
    keys::{KeyLookups, KeyUse, UsableKeys},
    tags::around_value,
};
use crate::{dns::Dns, internal_error::InternalError};
pub use outcome::{DkimResult, Reason, SignatureOutcome, signature_prefixes};
use signature::Signature;
pub use trace::{HashTrace, HeaderTrace, Trace};

/// The most signatures beyond the limit that are recorded one by one.
const MAX_RECORDED: usize = 20;

/// The work after which other connections of the thread get their turn, as octets that could be
/// hashed in the meantime: four checks of RSA keys of 2048 bits, less than 0.1 ms.
const MAX_WORK: usize = 128 * 1024;

/// Fields that may occur once: RFC 5322 §3.6, RFC 2045 §3, and the other `Content-` fields of MIME
/// that a body has one of.
const SINGLE_FIELDS: [&str; 23] = [
    "From",
    "Date",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    // RFC 2183, 2557, 2110, 3282, 1864, 2424.
    "Content-Disposition",
    "Content-Location",
    "Content-Base",
    "Content-Language",
    "Content-MD5",
    "Content-Duration",
    // RFC 2912.
    "Content-Features",
];

/// Limits and time of a verification.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many signatures are verified, from the top of the header; further ones are `policy`.
    pub max_signatures: usize,
    /// RSA keys with fewer bits are `policy`; below 1024 no key is ever taken.
    pub min_key_bits: usize,
    /// How long key look-ups may take, from the end of the header on.
    pub timeout: Duration,
    /// The time, in seconds since 1970.
    pub now: u64,
}

/// Collects the header of a message.
#[derive(Debug)]
pub struct Verifier {
    settings: Settings,
    header: Header,
    /// Whether there is a signature, also where the header is too large to be kept.
    is_signed: bool,
    /// Outcomes have the steps of the verification.
    is_traced: bool,
}

impl Verifier {
    /// A verifier for one message.
    pub fn new(settings: Settings) -> Self {
        Self { settings, header: Header::default(), is_signed: false, is_traced: false }
    }

    /// The same, whose outcomes have the steps of the verification.
    #[must_use]
    pub fn traced(self) -> Self {
        Self { is_traced: true, ..self }
    }

    /// Takes the next header field as the client sent it.
    ///
    /// `value` is all that follows the colon: leading white space is part of it (SMFIP_HDR_LEADSPC;
    /// where the MTA does not offer that, put the usual one space there). Folds are LF, as in the
    /// milter protocol, or CRLF.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        self.is_signed |= name.trim_ascii_end().eq_ignore_ascii_case(b"DKIM-Signature");
        self.header.push(name, value);
    }

    /// Ends the header: reads the signatures and starts to look up their keys.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if there is a key to look up.
    pub fn end_of_header(self, dns: &Dns) -> Verification {
        let Self { settings, header, is_signed, is_traced } = self;
        if !is_signed || header.is_cut() {
            let entry = is_signed.then(|| Entry::refused(Reason::HeaderTooLarge));
            let entries = entry.into_iter().collect();
            return Verification::new(settings, Header::default(), entries, dns);
        }
        let repeated = header.repeated(&SINGLE_FIELDS);
        let mut fields = header.find("DKIM-Signature");
        let mut entries: Vec<Entry> = fields
            .by_ref()
            .take(settings.max_signatures)
            .map(|field| Entry::read(field, &repeated, settings.now, is_traced))
            .collect();
        let further = fields.count();
        for number in 1..=further.min(MAX_RECORDED) {
            let more = if number == MAX_RECORDED { further - number + 1 } else { 1 };
            entries.push(Entry::refused(Reason::TooManySignatures(more)));
        }
        Verification::new(settings, header, entries, dns)
    }
}

/// A signature and what is known of it so far.
#[derive(Debug)]
struct Entry {
    outcome: SignatureOutcome,
    /// `None` once the outcome is final.
    pending: Option<Pending>,
}

/// A signature to be verified.
#[derive(Debug)]
struct Pending {
    /// The number of its field.
    field: usize,
    signature: Signature,
}

impl Entry {
    fn refused(reason: Reason) -> Self {
        let outcome = SignatureOutcome { reason: Some(reason), ..SignatureOutcome::default() };
        Self { outcome, pending: None }
    }

    /// `repeated` are the fields that may occur once and do not, with their number.
    fn read(
        field: Field<'_>,
        repeated: &[(&'static str, usize)],
        now: u64,
        is_traced: bool,
    ) -> Self {
        let mut outcome = SignatureOutcome {
            trace: is_traced.then(|| Box::new(Trace::begin(field.value()))),
            ..SignatureOutcome::default()
        };
        let signature = signature::parse(field.value(), now, &mut outcome).and_then(|signature| {
            let names = &signature.signed_fields;
            match repeated.iter().find(|(name, count)| (1..*count).contains(&names.count(name))) {
                Some((name, _)) => Err(Reason::FieldNotSignedAsOften(name)),
                None => Ok(signature),
            }
        });
        outcome.reason = signature.as_ref().err().copied();
        let pending = signature.ok().map(|signature| Pending { field: field.number(), signature });
        Self { outcome, pending }
    }
}

impl Pending {
    /// Checks body hash and signature, which is in `field`.
    fn check(
        &self,
        field: Field<'_>,
        keys: Result<UsableKeys<'_>, KeyProblem>,
        body: BodyHash,
        Checks { index, text, work }: &mut Checks<'_>,
        outcome: &mut SignatureOutcome,
    ) -> Result<(), Reason> {
        let signature = &self.signature;
        let body_matches = match body {
            BodyHash { is_short: true, .. } => Err(Reason::LengthBeyondBody),
            BodyHash { hash, .. } if hash.as_ref() != signature.body_hash => Err(Reason::BodyHash),
            _ => Ok(()),
        };
        if let Some(trace) = &mut outcome.trace {
            trace.key_name = Some(signature.key_name.clone());
            trace.body = Some(HashTrace::new(&signature.body_hash, body.hash.as_ref()));
        }
        if let Err(problem @ KeyProblem::Unavailable(_)) = keys {
            // No key could make it pass: there is nothing to wait for.
            return body_matches.and(Err(Reason::Key(problem)));
        }
        let keys = keys.map_err(Reason::Key)?;
        if let Some(first) = keys.iter().next() {
            (outcome.key_bits, outcome.testing) = (Some(first.key.bits()), first.testing);
        }
        if outcome.trace.is_none() {
            // The signature of another body need not be checked.
            body_matches?;
        }
        let canonicalization = signature.header_canonicalization;
        let unsigned_value = around_value(field.value(), "b");
        index.write_signed(canonicalization, &signature.signed_fields, field, unsigned_value, text);
        if let Some(trace) = &mut outcome.trace {
            let is_good = keys.iter().any(|usable| usable.key.verify(text, &signature.signature));
            trace.header = Some(HeaderTrace::new(text, is_good));
            body_matches?;
        }
        let key = keys
            .iter()
            .find(|usable| {
                *work += text.len() + usable.key.work();
                usable.key.verify(text, &signature.signature)
            })
            .ok_or(Reason::Signature)?;
        (outcome.key_bits, outcome.testing) = (Some(key.key.bits()), key.testing);
        // Anybody on the way can add to a body that is not signed to its end.
        if body.coverage.is_partial() { Err(Reason::BodyNotCovered(body.coverage)) } else { Ok(()) }
    }
}

/// What the checks of the signatures of a message share.
struct Checks<'a> {
    index: Index<'a>,
    /// Room for the part of the header that is signed.
    text: Vec<u8>,
    /// What was done since others had their turn, as [`MAX_WORK`].
    work: usize,
}

/// Verifies the signatures of a message whose header has been read. Dropping it ends the look-ups
/// that are under way.
pub struct Verification {
    settings: Settings,
    header: Header,
    entries: Vec<Entry>,
    bodies: BodyHashes,
    keys: KeyLookups,
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Verification {
    fn new(settings: Settings, header: Header, entries: Vec<Entry>, dns: &Dns) -> Self {
        let (mut bodies, mut keys) = (BodyHashes::default(), KeyLookups::default());
        let mut pending = entries.iter().filter_map(|entry| entry.pending.as_ref()).peekable();
        // Without a signature to verify the header is of no more use.
        let header = if pending.peek().is_none() { Header::default() } else { header };
        for Pending { signature, .. } in pending {
            bodies.add(signature.body_canonicalization, signature.body_length);
            keys.start(dns, &signature.key_name, settings.timeout);
        }
        Self { settings, header, entries, bodies, keys }
    }

    /// Takes the next octets of the body, lines ending in CRLF, cut anywhere.
    pub fn body(&mut self, chunk: &[u8]) {
        self.bodies.write(chunk);
    }

    /// Ends the message: the outcomes of its signatures, from the top of the header; empty where it
    /// has none.
    ///
    /// # Errors
    ///
    /// A look-up did not come to an end, or a hash is missing that was asked for: nothing can be
    /// said about the message then.
    pub async fn finish(self) -> Result<Vec<SignatureOutcome>, InternalError> {
        let keys = self.keys.finish().await?;
        let bodies = self.bodies.finish();
        let mut checks = Checks { index: self.header.index(), text: Vec::new(), work: 0 };
        let mut outcomes = Vec::with_capacity(self.entries.len());
        for Entry { mut outcome, pending } in self.entries {
            if let Some(pending) = pending {
                let signature = &pending.signature;
                // Ten checks of large keys take some milliseconds.
                if checks.work >= MAX_WORK {
                    tokio::task::yield_now().await;
                    checks.work = 0;
                }
                let body = bodies.find(signature.body_canonicalization, signature.body_length);
                let body =
                    body.ok_or_else(|| InternalError::new("no hash of the body for a signature"))?;
                outcome.body = Some(body.coverage);
                let wanted = KeyUse {
                    algorithm: signature.algorithm,
                    min_bits: self.settings.min_key_bits,
                    is_subdomain: !signature.identity_is_domain,
                };
                let keys = keys
                    .find(&signature.key_name, wanted)
                    .ok_or_else(|| InternalError::new("no key look-up for a signature"))?;
                let field = self.header.get(pending.field);
                let field = field.ok_or_else(|| InternalError::new("no field of a signature"))?;
                let checked = pending.check(field, keys, body, &mut checks, &mut outcome);
                outcome.reason = checked.err();
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests;
