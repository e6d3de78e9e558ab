//! Hashes of the body, computed as it arrives.

use ring::digest::{Context, SHA256};

use super::{
    canonical::{BodyCanonicalizer, Canonicalization},
    outcome::BodyCoverage,
};

/// A hash of a body, or of its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BodyHash {
    pub(super) hash: [u8; 32],
    pub(super) coverage: BodyCoverage,
    /// The length asked for is larger than the body.
    pub(super) is_short: bool,
}

/// The hashes that the signatures of a message need: one canonicalization of each kind at most, one hash for each length.
#[derive(Default)]
pub(super) struct BodyHashes {
    forms: Vec<Form>,
}

/// One canonical form of the body.
struct Form {
    canonicalization: Canonicalization,
    canonicalizer: BodyCanonicalizer,
    hashed: Hashed,
}

/// The hashes of one canonical form.
struct Hashed {
    total: u64,
    hashes: Vec<(Option<u64>, Context)>,
}

impl BodyHashes {
    /// Asks for a hash of the body, or of `length` octets of its canonical form.
    pub(super) fn add(&mut self, canonicalization: Canonicalization, length: Option<u64>) {
        let index = self.forms.iter().position(|form| form.canonicalization == canonicalization).unwrap_or(self.forms.len());
        if index == self.forms.len() {
            let hashed = Hashed { total: 0, hashes: Vec::new() };
            self.forms.push(Form { canonicalization, canonicalizer: BodyCanonicalizer::new(canonicalization), hashed });
        }
        if let Some(form) = self.forms.get_mut(index)
            && !form.hashed.hashes.iter().any(|(other, _)| *other == length)
        {
            form.hashed.hashes.push((length, Context::new(&SHA256)));
        }
    }

    /// Whether no hash is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Takes the next octets of the body.
    pub(super) fn write(&mut self, chunk: &[u8]) {
        for Form { canonicalizer, hashed, .. } in &mut self.forms {
            canonicalizer.write(chunk, &mut |text| hashed.hash(text));
        }
    }

    /// Ends the body.
    pub(super) fn finish(self) -> FinishedHashes {
        let mut hashes = Vec::new();
        for Form { canonicalization, canonicalizer, mut hashed } in self.forms {
            canonicalizer.finish(&mut |text| hashed.hash(text));
            let total = hashed.total;
            for (length, context) in hashed.hashes {
                let digest = context.finish();
                // SHA-256 has 32 octets.
                let hash = digest.as_ref().try_into().unwrap_or_default();
                let covered = length.unwrap_or(total).min(total);
                let is_short = length.is_some_and(|length| length > total);
                hashes.push((canonicalization, length, BodyHash { hash, coverage: BodyCoverage { covered, total }, is_short }));
            }
        }
        FinishedHashes(hashes)
    }
}

impl Hashed {
    fn hash(&mut self, text: &[u8]) {
        for (length, context) in &mut self.hashes {
            let left = length.map_or(u64::MAX, |length| length.saturating_sub(self.total));
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(text.len());
            context.update(text.get(..count).unwrap_or_default());
        }
        self.total += text.len() as u64;
    }
}

/// The hashes of a body.
pub(super) struct FinishedHashes(Vec<(Canonicalization, Option<u64>, BodyHash)>);

impl FinishedHashes {
    /// The hash that was asked for.
    pub(super) fn find(&self, canonicalization: Canonicalization, length: Option<u64>) -> Option<BodyHash> {
        let wanted = |entry: &&(Canonicalization, Option<u64>, BodyHash)| entry.0 == canonicalization && entry.1 == length;
        self.0.iter().find(wanted).map(|entry| entry.2)
    }
}
