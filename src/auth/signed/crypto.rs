//! Public keys, and signatures checked with them.

use ring::{
    digest,
    signature::{
        ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents,
        UnparsedPublicKey,
    },
};

use crate::mail::octets::count_work;

/// The most bits of an RSA key: more cost more to check than a sender should be able to ask for.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// The fewest bits of an RSA key, whatever a site accepts (RFC 8301 §3.2).
pub(crate) const MIN_RSA_BITS: usize = 1024;

/// `rsaEncryption` (RFC 8017 appendix C), as the contents of an OBJECT IDENTIFIER.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

/// The algorithms that sign (RFC 8301 §3.1, RFC 8463 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Algorithm {
    /// `rsa-sha256`.
    Rsa,
    /// `ed25519-sha256`.
    Ed25519,
}

/// A public key.
#[derive(Debug)]
pub(crate) enum PublicKey {
    /// Modulus and exponent, both big-endian and without leading zeros.
    Rsa { modulus: Box<[u8]>, exponent: Box<[u8]> },
    /// The key itself.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads a key of this algorithm: of Ed25519 the 32 octets (RFC 8463 §4.2); of RSA a
    /// SubjectPublicKeyInfo (RFC 5280 §4.1) or an RSAPublicKey (RFC 8017 appendix A.1.1, erratum
    /// 3017 of RFC 6376).
    ///
    /// ```text
    /// SubjectPublicKeyInfo ::= SEQUENCE { SEQUENCE { algorithm OBJECT IDENTIFIER, parameters ANY }, BIT STRING }
    /// RSAPublicKey         ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }
    /// ```
    ///
    /// Modulus and exponent must be odd, and the exponent from 3 to 2^33 - 1: others are no RSA
    /// keys, or cost too much.
    pub(crate) fn parse(data: &[u8], algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Rsa => Self::parse_rsa(data),
            Algorithm::Ed25519 => data.try_into().ok().map(Self::Ed25519),
        }
    }

    fn parse_rsa(data: &[u8]) -> Option<Self> {
        let (outer, []) = element(data, SEQUENCE)? else { return None };
        let key = match element(outer, SEQUENCE) {
            None => outer,
            Some((algorithm, rest)) => {
                let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
                let (bits, []) = element(rest, BIT_STRING)? else { return None };
                let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else {
                    return None;
                };
                let (key, []) = element(key, SEQUENCE)? else { return None };
                (identifier == RSA_ENCRYPTION).then_some(key)?
            }
        };
        let (modulus, rest) = element(key, INTEGER)?;
        let (exponent, []) = element(rest, INTEGER)? else { return None };
        let (modulus, exponent) = (positive(modulus)?, positive(exponent)?);
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let exponent_fits = (2..=33).contains(&bit_length(exponent));
        (is_odd(modulus) && is_odd(exponent) && exponent_fits)
            .then(|| Self::Rsa { modulus: modulus.into(), exponent: exponent.into() })
    }

    /// How many bits the key has.
    pub(crate) fn bits(&self) -> usize {
        match self {
            Self::Rsa { modulus, .. } => bit_length(modulus),
            Self::Ed25519(_) => 256,
        }
    }

    /// About how many octets of memory it takes beside itself.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Rsa { modulus, exponent } => modulus.len() + exponent.len(),
            Self::Ed25519(_) => 0,
        }
    }

    /// About how many octets could be hashed in the time of a check.
    pub(crate) fn work(&self) -> usize {
        match self {
            Self::Rsa { modulus, .. } => modulus.len() * modulus.len() / 2,
            Self::Ed25519(_) => 64 * 1024,
        }
    }

    /// Whether the signature is that of the text: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 6376 §3.3.2),
    /// or Ed25519 over the SHA-256 of the text (RFC 8463 §3).
    pub(crate) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        count_work(text.len());
        match self {
            Self::Ed25519(key) => {
                let hash = digest::digest(&digest::SHA256, text);
                UnparsedPublicKey::new(&ED25519, key).verify(hash.as_ref(), signature).is_ok()
            }
            Self::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, text, signature)
                .is_ok(),
        }
    }
}

/// The SHA-256 of a text.
pub(crate) fn sha256(text: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, text).as_ref().to_vec()
}

/// Takes a DER element of this type: its contents, and what follows it.
fn element(data: &[u8], element_type: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = data.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // A key never is that large.
        _ => return None,
    };
    (first == element_type).then(|| rest.split_at_checked(length))?
}

/// The contents of an INTEGER without leading zeros; `None` where it is not above zero.
fn positive(mut number: &[u8]) -> Option<&[u8]> {
    if number.first().is_none_or(|first| first & 0x80 != 0) {
        return None;
    }
    while let [0, rest @ ..] = number {
        number = rest;
    }
    (!number.is_empty()).then_some(number)
}

/// The bits of a number without leading zeros.
fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
