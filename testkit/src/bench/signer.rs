//! Messages signed as a sender signs them, and the least work to check a signature.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        RSA_PKCS1_SHA256, UnparsedPublicKey,
    },
};

/// The header without signatures, in relaxed form but for the space after the colon.
pub const FIELDS: [(&str, &str); 8] = [
    (
        "received",
        "from mail.example.com (mail.example.com [192.0.2.1]) by mx.example.net with ESMTPS; Sat, 14 Nov 2026 12:00:00 +0000",
    ),
    ("from", "\"A. Sender\" <a@example.com>"),
    ("to", "b@example.net"),
    ("subject", "a subject as long as subjects are"),
    ("date", "Sat, 14 Nov 2026 12:00:00 +0000"),
    ("message-id", "<20261114120000.12345@mail.example.com>"),
    ("mime-version", "1.0"),
    ("content-type", "text/plain; charset=utf-8"),
];

/// A signer's key.
pub enum Key {
    /// RSA of 2048 bits.
    Rsa(RsaKeyPair),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
}

/// A signature.
pub struct Signed {
    /// The value of the field.
    pub value: String,
    /// The signed text.
    text: Vec<u8>,
    signature: Vec<u8>,
}

impl Key {
    /// Its algorithm, and its selector.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa",
            Self::Ed25519(_) => "ed25519",
        }
    }

    /// The public key as signers publish it: of RSA with its algorithm (RFC 5280 §4.1.2.7), which is
    /// what OpenSSL reads.
    fn published(&self) -> Vec<u8> {
        /// What comes before a key of 2048 bits with the usual exponent.
        const ALGORITHM: [u8; 24] = [
            0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d,
            0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00,
        ];
        match self {
            Self::Rsa(_) => [&ALGORITHM, self.public().as_slice()].concat(),
            Self::Ed25519(_) => self.public(),
        }
    }

    /// The public key itself.
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// Signs [`FIELDS`] and a body in relaxed form, as their author's domain; the number
    /// distinguishes signatures.
    pub fn sign(&self, body: &[u8], number: usize) -> Signed {
        self.sign_as("example.com", body, number)
    }

    /// As [`Key::sign`], as another domain.
    pub fn sign_as(&self, domain: &str, body: &[u8], number: usize) -> Signed {
        let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let tags = format!(
            "v=1; a={0}-sha256; c=relaxed/relaxed; d={domain}; s={0}; n={number}; h={1}; bh={2}; b=",
            self.name(),
            names.join(":"),
            BASE64_STANDARD.encode(digest(&SHA256, body)),
        );
        let fields: String =
            FIELDS.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        let text = format!("{fields}dkim-signature:{tags}").into_bytes();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text, &mut signature).unwrap();
                signature
            }
            Self::Ed25519(key) => key.sign(digest(&SHA256, &text).as_ref()).as_ref().to_vec(),
        };
        let value = format!(" {tags}{}", BASE64_STANDARD.encode(&signature));
        Signed { value, text, signature }
    }

    /// The least work: the signature check and the hash that it is over.
    pub fn check(&self, public: &[u8], signed: &Signed) {
        match self {
            Self::Rsa(_) => {
                let key =
                    UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public);
                key.verify(&signed.text, &signed.signature).unwrap();
            }
            Self::Ed25519(_) => {
                let text = digest(&SHA256, &signed.text);
                UnparsedPublicKey::new(&ED25519, public)
                    .verify(text.as_ref(), &signed.signature)
                    .unwrap();
            }
        }
    }
}

/// A key of each algorithm.
pub fn keys() -> [Key; 2] {
    [
        Key::Rsa(RsaKeyPair::from_der(include_bytes!("../../keys/rsa2048.der")).unwrap()),
        Key::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()),
    ]
}

/// The key records of example.com, a line of a zone for each.
pub fn key_records(keys: &[Key]) -> String {
    key_records_of("example.com", keys)
}

/// As [`key_records`], of another domain.
pub fn key_records_of(domain: &str, keys: &[Key]) -> String {
    let record = |key: &Key| {
        let name = key.name();
        format!(
            "{name}._domainkey.{domain} TXT v=DKIM1; k={name}; p={}\n",
            BASE64_STANDARD.encode(key.published())
        )
    };
    keys.iter().map(record).collect()
}
