//! Keys in DNS: key records (RFC 6376 §3.6.1, RFC 8463 §4), and their look-ups.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{task::JoinSet, time};

use super::{
    crypto::{Algorithm, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey},
    tags::{TagList, decode_base64, items},
};
use crate::{
    dns::{Answer, Dns, Failure, Name, RecordType},
    internal_error::InternalError,
};

/// Keys at one name that a signature is checked with.
const MAX_KEYS: usize = 3;

/// Why a signature has no key that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyProblem {
    /// There is no key record.
    Missing,
    /// DNS gave no answer about the key.
    Unavailable(Failure),
    /// No record at the key's name is a key record (RFC 6376 §3.6.1), or its key is not a key.
    Syntax,
    /// The key is revoked: its `p=` is empty.
    Revoked,
    /// The key is for other things than mail (`s=`).
    Service,
    /// The key is for another algorithm than the signature's (`k=`).
    Algorithm,
    /// The key is not for SHA-256 (`h=`).
    Hash,
    /// The key is for the signing domain only (`t=s`), and the identity is of a subdomain.
    Subdomain,
    /// The RSA key has fewer bits than are accepted.
    TooShort(usize),
    /// The RSA key has more than 8192 bits.
    TooLong(usize),
}

/// ASCII without quotation marks and backslashes, and without text from the message.
impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no key for signature",
            Self::Unavailable(failure) => return write!(f, "key look-up: {failure}"),
            Self::Syntax => "syntax error in key record",
            Self::Revoked => "key revoked",
            Self::Service => "key not for mail",
            Self::Algorithm => "key for another algorithm",
            Self::Hash => "key not for sha256",
            Self::Subdomain => "i= tag outside of d= domain",
            Self::TooShort(bits) => return write!(f, "key of {bits} bits too short"),
            Self::TooLong(bits) => return write!(f, "key of {bits} bits too long"),
        })
    }
}

/// The look-ups of keys, one for each name. Dropping it ends those that are under way.
#[derive(Debug, Default)]
pub(crate) struct KeyLookups {
    /// The answers; a look-up that is under way counts as timed out.
    found: BTreeMap<Name, Found>,
    under_way: Option<JoinSet<(Name, Found)>>,
}

/// The key records at a name.
type Found = Result<Arc<KeyRecords>, Failure>;

impl KeyLookups {
    /// Starts to look up the keys at a name.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start(&mut self, dns: &Dns, name: &Name, timeout: Duration) {
        if self.found.contains_key(name) {
            return;
        }
        let (dns, owned) = (dns.clone(), name.clone());
        let mut lookup = Box::pin(async move {
            let found = time::timeout(timeout, look_up(&dns, &owned)).await;
            (owned, found.unwrap_or(Err(Failure::Timeout)))
        });
        // An answer from the cache is there at once: a task for it would cost more than the rest of
        // the work around a signature check.
        let found = match lookup.as_mut().now_or_never() {
            Some((_, found)) => found,
            None => {
                self.under_way.get_or_insert_default().spawn(lookup);
                Err(Failure::Timeout)
            }
        };
        self.found.insert(name.clone(), found);
    }

    /// Waits for the keys: each look-up ends with its time-out.
    ///
    /// # Errors
    ///
    /// A look-up did not come to an end.
    pub(crate) async fn finish(mut self) -> Result<Keys, InternalError> {
        if let Some(mut under_way) = self.under_way {
            while let Some(lookup) = under_way.join_next().await {
                let (name, found) = lookup
                    .map_err(|_| InternalError::new("a key look-up did not come to an end"))?;
                self.found.insert(name, found);
            }
        }
        Ok(Keys(self.found))
    }
}

/// Looks up the key records at a name, and keeps them as they were parsed.
async fn look_up(dns: &Dns, name: &Name) -> Found {
    let Answer::Txt(texts) = dns.lookup(name, RecordType::Txt).await? else {
        return Err(Failure::Network);
    };
    if let Some(records) = texts.parsed() {
        return Ok(records);
    }
    let records = Arc::new(KeyRecords::parse(&texts));
    dns.keep_parsed(name, &texts, Arc::clone(&records), records.size());
    Ok(records)
}

/// The keys that were looked up.
#[derive(Debug)]
pub(crate) struct Keys(BTreeMap<Name, Found>);

/// The requirements of a signature on its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyUse {
    /// The algorithm of the signature.
    pub(crate) algorithm: Algorithm,
    /// How many bits an RSA key must have; below 1024 no key is ever taken.
    pub(crate) min_bits: usize,
    /// The identity is of a subdomain of the signing domain.
    pub(crate) is_subdomain: bool,
}

/// Keys that a signature may be checked with: one at least, in a fixed order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsableKeys<'a>([Option<UsableKey<'a>>; MAX_KEYS]);

/// A key that a signature may be checked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsableKey<'a> {
    pub(crate) key: &'a PublicKey,
    /// `t=y`: the domain is testing.
    pub(crate) testing: bool,
}

impl<'a> UsableKeys<'a> {
    /// The keys in their order.
    pub(crate) fn iter(self) -> impl Iterator<Item = UsableKey<'a>> {
        self.0.into_iter().flatten()
    }
}

impl Keys {
    /// The keys at a name that a signature may be checked with. `None` where the name was not
    /// looked up.
    pub(crate) fn find(
        &self,
        name: &Name,
        wanted: KeyUse,
    ) -> Option<Result<UsableKeys<'_>, KeyProblem>> {
        self.0.get(name).map(|found| match found {
            Ok(records) => records.usable(wanted),
            Err(failure) if failure.is_void() => Err(KeyProblem::Missing),
            Err(failure) => Err(KeyProblem::Unavailable(*failure)),
        })
    }
}

/// The records at the name of a key, in the order of their texts; or why one cannot be used.
#[derive(Debug)]
struct KeyRecords(Vec<Result<KeyRecord, KeyProblem>>);

impl KeyRecords {
    fn parse(texts: &[Box<[u8]>]) -> Self {
        let mut texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
        // The order of the records in an answer means nothing: the result must not depend on it.
        texts.sort_unstable();
        Self(texts.into_iter().map(KeyRecord::parse).collect())
    }

    /// About how many octets of memory they take.
    fn size(&self) -> usize {
        let keys = self.0.iter().flatten().filter_map(|record| record.key.as_ref());
        size_of_val(self.0.as_slice()) + keys.map(PublicKey::size).sum::<usize>()
    }

    fn usable(&self, wanted: KeyUse) -> Result<UsableKeys<'_>, KeyProblem> {
        let mut keys = [None; MAX_KEYS];
        let mut free = keys.iter_mut();
        let mut problem = KeyProblem::Syntax;
        for record in &self.0 {
            match record
                .as_ref()
                .map_err(|problem| *problem)
                .and_then(|record| record.judge(wanted))
            {
                Ok(key) => {
                    if let Some(place) = free.next() {
                        *place = Some(key);
                    }
                }
                // A text that is not a key record is the weakest reason.
                Err(other) if problem == KeyProblem::Syntax => problem = other,
                Err(_) => {}
            }
        }
        if keys.iter().all(Option::is_none) { Err(problem) } else { Ok(UsableKeys(keys)) }
    }
}

/// A key record for mail.
#[derive(Debug)]
struct KeyRecord {
    algorithm: Algorithm,
    /// `None` where `p=` is no key of the algorithm.
    key: Option<PublicKey>,
    /// `t=y`: the domain is testing.
    testing: bool,
    /// `t=s`: the key is not for identities of subdomains.
    strict: bool,
}

impl KeyRecord {
    /// Reads a key record.
    ///
    /// `g=`, `n=` and unknown tags mean nothing.
    ///
    /// # Errors
    ///
    /// Why no signature can use it.
    fn parse(record: &[u8]) -> Result<Self, KeyProblem> {
        let tags = TagList::parse(record).ok_or(KeyProblem::Syntax)?;
        if tags
            .value("v")
            .is_some_and(|version| version != b"DKIM1" || tags.first_name() != Some(b"v"))
        {
            return Err(KeyProblem::Syntax);
        }
        let data = tags.value("p").ok_or(KeyProblem::Syntax)?;
        if data.is_empty() {
            return Err(KeyProblem::Revoked);
        }
        let has = |tag, words: &[&[u8]]| {
            tags.value(tag).is_none_or(|list| {
                items(list).any(|item| words.iter().any(|word| item.eq_ignore_ascii_case(word)))
            })
        };
        if !has("s", &[b"*", b"email"]) {
            return Err(KeyProblem::Service);
        }
        if !has("h", &[b"sha256"]) {
            return Err(KeyProblem::Hash);
        }
        let algorithm = match tags.value("k") {
            None => Algorithm::Rsa,
            Some(name) if name.eq_ignore_ascii_case(b"rsa") => Algorithm::Rsa,
            Some(name) if name.eq_ignore_ascii_case(b"ed25519") => Algorithm::Ed25519,
            Some(_) => return Err(KeyProblem::Algorithm),
        };
        let flag = |wanted: &[u8]| {
            tags.value("t")
                .is_some_and(|flags| items(flags).any(|flag| flag.eq_ignore_ascii_case(wanted)))
        };
        let key = decode_base64(data).and_then(|data| PublicKey::parse(&data, algorithm));
        Ok(Self { algorithm, key, testing: flag(b"y"), strict: flag(b"s") })
    }

    /// Judges whether a signature may use it.
    fn judge(&self, wanted: KeyUse) -> Result<UsableKey<'_>, KeyProblem> {
        if self.algorithm != wanted.algorithm {
            return Err(KeyProblem::Algorithm);
        }
        let key = self.key.as_ref().ok_or(KeyProblem::Syntax)?;
        if self.strict && wanted.is_subdomain {
            return Err(KeyProblem::Subdomain);
        }
        match key.bits() {
            bits if self.algorithm == Algorithm::Rsa
                && bits < wanted.min_bits.max(MIN_RSA_BITS) =>
            {
                Err(KeyProblem::TooShort(bits))
            }
            bits if bits > MAX_RSA_BITS => Err(KeyProblem::TooLong(bits)),
            _ => Ok(UsableKey { key, testing: self.testing }),
        }
    }
}

#[cfg(test)]
mod tests;
