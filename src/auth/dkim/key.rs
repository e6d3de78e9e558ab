//! Key records (RFC 6376 §3.6.1, RFC 8463 §4).

use super::{
    crypto::PublicKey,
    outcome::Reason,
    signature::Algorithm,
    tags::{TagList, decode_base64, items},
};

/// A key record that can be used for mail.
#[derive(Debug)]
pub(super) struct KeyRecord {
    pub(super) key: PublicKey,
    /// `t=y`: the domain is testing DKIM.
    pub(super) testing: bool,
    /// `t=s`: the domain of `i=` must be that of `d=`.
    pub(super) strict: bool,
}

impl KeyRecord {
    /// Reads a key record for a signature of this algorithm.
    ///
    /// `g=`, `n=` and unknown tags mean nothing. RSA keys come as SubjectPublicKeyInfo or as
    /// RSAPublicKey (erratum 3017), Ed25519 keys as the 32 octets alone.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub(super) fn parse(record: &[u8], algorithm: Algorithm) -> Result<Self, Reason> {
        let tags = TagList::parse(record).ok_or(Reason::KeySyntax)?;
        if tags
            .value("v")
            .is_some_and(|version| version != b"DKIM1" || tags.first_name() != Some(b"v"))
        {
            return Err(Reason::KeySyntax);
        }
        let data = tags.value("p").ok_or(Reason::KeySyntax)?;
        if data.is_empty() {
            return Err(Reason::KeyRevoked);
        }
        let has = |tag, words: &[&[u8]]| {
            tags.value(tag).is_none_or(|list| {
                items(list).any(|item| words.iter().any(|word| item.eq_ignore_ascii_case(word)))
            })
        };
        if !has("s", &[b"*", b"email"]) {
            return Err(Reason::KeyService);
        }
        if !has("h", &[b"sha256"]) {
            return Err(Reason::KeyHash);
        }
        let key_type = match algorithm {
            Algorithm::Rsa => b"rsa".as_slice(),
            Algorithm::Ed25519 => b"ed25519",
        };
        if !tags.value("k").unwrap_or(b"rsa").eq_ignore_ascii_case(key_type) {
            return Err(Reason::KeyAlgorithm);
        }
        let data = decode_base64(data).ok_or(Reason::KeySyntax)?;
        let key = match algorithm {
            Algorithm::Rsa => PublicKey::rsa(&data),
            Algorithm::Ed25519 => PublicKey::ed25519(&data),
        };
        let flag = |wanted: &[u8]| {
            tags.value("t")
                .is_some_and(|flags| items(flags).any(|flag| flag.eq_ignore_ascii_case(wanted)))
        };
        Ok(Self { key: key.ok_or(Reason::KeySyntax)?, testing: flag(b"y"), strict: flag(b"s") })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    const ED25519: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn ed25519(record: &str) -> Result<(bool, bool), Reason> {
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
            ("v=DKIM1; k=ed25519; p=", Reason::KeyRevoked),
            ("v=DKIM1; k=ed25519", Reason::KeySyntax),
            ("v=DKIM2; k=ed25519; p=KEY", Reason::KeySyntax),
            ("k=ed25519; v=DKIM1; p=KEY", Reason::KeySyntax),
            ("k=ed25519; k=ed25519; p=KEY", Reason::KeySyntax),
            ("k=ed25519\\; p=KEY", Reason::KeyAlgorithm),
            ("v=spf1 -all", Reason::KeySyntax),
            ("", Reason::KeySyntax),
            ("p=KEY", Reason::KeyAlgorithm),
            ("k=ed25519; p=KEY; s=tlsrpt", Reason::KeyService),
            ("k=ed25519; p=KEY; h=sha1", Reason::KeyHash),
            ("k=ed25519; p=AAAA", Reason::KeySyntax),
            ("k=ed25519; p=?", Reason::KeySyntax),
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
