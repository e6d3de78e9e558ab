//! Hashes of the body, computed as it arrives.

use std::fmt;

use ring::digest::{Context, Digest, SHA256};

use super::canonical::{BodyCanonicalizer, Canonicalization};

/// How much of a canonicalized body a signature covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyCoverage {
    /// Octets covered.
    pub covered: u64,
    /// Octets in all.
    pub total: u64,
}

impl fmt::Display for BodyCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} body octets signed", self.covered, self.total)
    }
}

impl BodyCoverage {
    /// Whether the body has octets that the signature says nothing about (RFC 6376 §8.2).
    pub fn is_partial(self) -> bool {
        self.covered < self.total
    }
}
use crate::mail::octets::count_work;

/// A hash of a body, or of its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyHash {
    pub(crate) hash: Digest,
    pub(crate) coverage: BodyCoverage,
    /// The length asked for is larger than the body.
    pub(crate) is_short: bool,
}

/// The hashes that the signatures of a message need: one canonicalization of each kind at most, one
/// hash for each length.
#[derive(Default)]
pub(crate) struct BodyHashes {
    forms: Vec<Form>,
}

/// One canonical form of the body.
struct Form {
    canonicalization: Canonicalization,
    canonicalizer: BodyCanonicalizer,
    hashed: Hashed,
}

/// The hashes of one canonical form.
#[derive(Default)]
struct Hashed {
    total: u64,
    hashes: Vec<(Option<u64>, Context)>,
}

impl BodyHashes {
    /// Asks for a hash of the body, or of `length` octets of its canonical form.
    pub(crate) fn add(&mut self, canonicalization: Canonicalization, length: Option<u64>) {
        if let Some(form) =
            self.forms.iter_mut().find(|form| form.canonicalization == canonicalization)
        {
            form.hashed.add(length);
            return;
        }
        let mut hashed = Hashed::default();
        hashed.add(length);
        self.forms.push(Form {
            canonicalization,
            canonicalizer: BodyCanonicalizer::new(canonicalization),
            hashed,
        });
    }

    /// Takes the next octets of the body.
    pub(crate) fn write(&mut self, chunk: &[u8]) {
        for Form { canonicalizer, hashed, .. } in &mut self.forms {
            canonicalizer.write(chunk, &mut |text| hashed.hash(text));
        }
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> FinishedHashes {
        let mut hashes = Vec::new();
        for Form { canonicalization, canonicalizer, mut hashed } in self.forms {
            canonicalizer.finish(&mut |text| hashed.hash(text));
            let total = hashed.total;
            for (length, context) in hashed.hashes {
                let covered = length.unwrap_or(total).min(total);
                let is_short = length.is_some_and(|length| length > total);
                let hash = BodyHash {
                    hash: context.finish(),
                    coverage: BodyCoverage { covered, total },
                    is_short,
                };
                hashes.push((canonicalization, length, hash));
            }
        }
        FinishedHashes(hashes)
    }
}

impl Hashed {
    fn add(&mut self, length: Option<u64>) {
        if !self.hashes.iter().any(|(other, _)| *other == length) {
            self.hashes.push((length, Context::new(&SHA256)));
        }
    }

    fn hash(&mut self, text: &[u8]) {
        for (length, context) in &mut self.hashes {
            count_work(text.len());
            let left = length.map_or(u64::MAX, |length| length.saturating_sub(self.total));
            match usize::try_from(left) {
                Ok(left) if left < text.len() => context.update(text.split_at(left).0),
                _ => context.update(text),
            }
        }
        self.total += text.len() as u64;
    }
}

/// The hashes of a body.
pub(crate) struct FinishedHashes(Vec<(Canonicalization, Option<u64>, BodyHash)>);

impl FinishedHashes {
    /// The hash that was asked for.
    pub(crate) fn find(
        &self,
        canonicalization: Canonicalization,
        length: Option<u64>,
    ) -> Option<BodyHash> {
        let wanted = |entry: &&(Canonicalization, Option<u64>, BodyHash)| {
            entry.0 == canonicalization && entry.1 == length
        };
        self.0.iter().find(wanted).map(|entry| entry.2)
    }
}

#[cfg(test)]
mod tests;
