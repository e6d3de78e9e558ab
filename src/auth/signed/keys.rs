//! Keys in DNS: key records (RFC 6376 §3.6.1, RFC 8463 §4), and their look-ups.

use std::{collections::HashMap, fmt, time::Duration};

use futures_util::FutureExt as _;
use tokio::{task::JoinSet, time};

use super::{
    crypto::{Algorithm, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey},
    tags::{TagList, decode_base64, items},
};
use crate::{
    dns::{Dns, Failure, Lookup, Name},
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
    texts: HashMap<Name, Lookup<Box<[u8]>>>,
    under_way: JoinSet<(Name, Lookup<Box<[u8]>>)>,
}

impl KeyLookups {
    /// Starts to look up the keys at a name.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub(crate) fn start(&mut self, dns: &Dns, name: &Name, timeout: Duration) {
        if self.texts.contains_key(name) {
            return;
        }
        let (dns, owned) = (dns.clone(), name.clone());
        let mut lookup = Box::pin(async move {
            let texts =
                time::timeout(timeout, dns.txt(&owned)).await.unwrap_or(Err(Failure::Timeout));
            (owned, texts)
        });
        // An answer from the cache is there at once: a task for it would cost more than the rest of
        // the work around a signature check.
        let texts = match lookup.as_mut().now_or_never() {
            Some((_, texts)) => texts,
            None => {
                self.under_way.spawn(lookup);
                Err(Failure::Timeout)
            }
        };
        self.texts.insert(name.clone(), texts);
    }

    /// Waits for the keys: each look-up ends with its time-out.
    ///
    /// # Errors
    ///
    /// A look-up did not come to an end.
    pub(crate) async fn finish(mut self) -> Result<Keys, InternalError> {
        while let Some(lookup) = self.under_way.join_next().await {
            let (name, texts) =
                lookup.map_err(|_| InternalError::new("a key look-up did not come to an end"))?;
            self.texts.insert(name, texts);
        }
        Ok(Keys(self.texts))
    }
}

/// The texts at the names of keys.
#[derive(Debug)]
pub(crate) struct Keys(HashMap<Name, Lookup<Box<[u8]>>>);

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

impl Keys {
    /// The keys at a name that a signature may be checked with, in a fixed order; never none of
    /// them. `None` where the name was not looked up.
    pub(crate) fn find(
        &self,
        name: &Name,
        wanted: KeyUse,
    ) -> Option<Result<Vec<KeyRecord>, KeyProblem>> {
        self.0.get(name).map(|texts| find_usable(texts, wanted))
    }
}

fn find_usable(texts: &Lookup<Box<[u8]>>, wanted: KeyUse) -> Result<Vec<KeyRecord>, KeyProblem> {
    let mut texts: Vec<&[u8]> = match texts {
        Ok(texts) => texts.iter().map(|text| &**text).collect(),
        Err(failure) if failure.is_void() => return Err(KeyProblem::Missing),
        Err(failure) => return Err(KeyProblem::Unavailable(*failure)),
    };
    // The order of the records in an answer means nothing: the result must not depend on it.
    texts.sort_unstable();
    let mut keys = Vec::new();
    let mut problem = KeyProblem::Syntax;
    for text in texts {
        match KeyRecord::parse(text, wanted.algorithm).and_then(|record| record.judge(wanted)) {
            Ok(key) if keys.len() < MAX_KEYS => keys.push(key),
            Ok(_) => {}
            // A text that is not a key record is the weakest reason.
            Err(other) if problem == KeyProblem::Syntax => problem = other,
            Err(_) => {}
        }
    }
    if keys.is_empty() { Err(problem) } else { Ok(keys) }
}

/// A key record that can be used for mail.
#[derive(Debug)]
pub(crate) struct KeyRecord {
    pub(crate) key: PublicKey,
    /// `t=y`: the domain is testing.
    pub(crate) testing: bool,
    /// `t=s`: the key is not for identities of subdomains.
    strict: bool,
}

impl KeyRecord {
    /// Reads a key record for a signature of this algorithm.
    ///
    /// `g=`, `n=` and unknown tags mean nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    fn parse(record: &[u8], algorithm: Algorithm) -> Result<Self, KeyProblem> {
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
        let key_type = match algorithm {
            Algorithm::Rsa => b"rsa".as_slice(),
            Algorithm::Ed25519 => b"ed25519",
        };
        if !tags.value("k").unwrap_or(b"rsa").eq_ignore_ascii_case(key_type) {
            return Err(KeyProblem::Algorithm);
        }
        let key = decode_base64(data).and_then(|data| PublicKey::parse(&data, algorithm));
        let flag = |wanted: &[u8]| {
            tags.value("t")
                .is_some_and(|flags| items(flags).any(|flag| flag.eq_ignore_ascii_case(wanted)))
        };
        Ok(Self { key: key.ok_or(KeyProblem::Syntax)?, testing: flag(b"y"), strict: flag(b"s") })
    }

    /// Judges whether it may be used.
    fn judge(self, wanted: KeyUse) -> Result<Self, KeyProblem> {
        if self.strict && wanted.is_subdomain {
            return Err(KeyProblem::Subdomain);
        }
        match self.key.bits() {
            _ if wanted.algorithm != Algorithm::Rsa => Ok(self),
            bits if bits < wanted.min_bits.max(MIN_RSA_BITS) => Err(KeyProblem::TooShort(bits)),
            bits if bits > MAX_RSA_BITS => Err(KeyProblem::TooLong(bits)),
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    const ED25519: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn ed25519(record: &str) -> Result<(bool, bool), KeyProblem> {
        let record = record.replace("KEY", ED25519);
        KeyRecord::parse(record.as_bytes(), Algorithm::Ed25519)
            .map(|record| (record.testing, record.strict))
    }

    #[test]
    fn tags_of_a_key() {
        assert_eq!(ed25519("v=DKIM1; k=ed25519; p=KEY"), Ok((false, false)));
        assert_eq!(ed25519("k=ed25519;p=KEY;\n"), Ok((false, false)));
        assert_eq!(
            ed25519(
                "v=DKIM1; t= y : s:x; g=; n=a note; u=1; k=ed25519; h=sha1:sha256; s=tlsrpt:email; p=KEY"
            ),
            Ok((true, true))
        );
        assert_eq!(
            ed25519(
                "v=DKIM1; k=ed25519; s=*; h= sha512 : sha256; p=11qYAYKxCrfVS/7TyWQHOg7 hcvPapiMlrwIaaPcHURo="
            ),
            Ok((false, false))
        );
        for (record, reason) in [
            ("v=DKIM1; k=ed25519; p=", KeyProblem::Revoked),
            ("v=DKIM1; k=ed25519", KeyProblem::Syntax),
            ("v=DKIM2; k=ed25519; p=KEY", KeyProblem::Syntax),
            ("k=ed25519; v=DKIM1; p=KEY", KeyProblem::Syntax),
            ("k=ed25519; k=ed25519; p=KEY", KeyProblem::Syntax),
            ("k=ed25519\\; p=KEY", KeyProblem::Algorithm),
            ("v=spf1 -all", KeyProblem::Syntax),
            ("", KeyProblem::Syntax),
            ("p=KEY", KeyProblem::Algorithm),
            ("k=ed25519; p=KEY; s=tlsrpt", KeyProblem::Service),
            ("k=ed25519; p=KEY; h=sha1", KeyProblem::Hash),
            ("k=ed25519; p=AAAA", KeyProblem::Syntax),
            ("k=ed25519; p=?", KeyProblem::Syntax),
        ] {
            assert_eq!(ed25519(record), Err(reason), "{record}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeyRecord::parse(&text, Algorithm::Rsa);
            let _ = KeyRecord::parse(&text, Algorithm::Ed25519);
        }

        #[test]
        fn any_key_is_read_without_a_panic(key in "[A-Za-z0-9+/]{0,300}") {
            let record = format!("v=DKIM1; p={key}");
            let _ = KeyRecord::parse(record.as_bytes(), Algorithm::Rsa);
        }
    }
}
