//! Signs messages with DKIM, in the simplest way there is: simple canonicalization, one line, fixed
//! keys, no times.
//!
//! Nothing of the verifier is used here.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};

use super::fields::Field;

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::from_der(include_bytes!("../keys/rsa2048.der")).unwrap()
}

/// The key record of the Ed25519 key.
pub fn ed25519_record() -> String {
    format!("v=DKIM1; k=ed25519; p={}", BASE64_STANDARD.encode(ed25519().public_key().as_ref()))
}

/// The key record of the RSA key, an RSAPublicKey.
pub fn rsa_record() -> String {
    format!("v=DKIM1; p={}", BASE64_STANDARD.encode(rsa().public_key().as_ref()))
}

/// The values of `${ed25519}` and `${rsa}` in zones.
pub fn fill_in_keys(zone: &str) -> String {
    zone.replace("${ed25519}", &ed25519_record()).replace("${rsa}", &rsa_record())
}

/// Makes the value of a DKIM-Signature field.
///
/// `tags` are those that are asked for, such as `d=example.com s=ed l=5`; the others are
/// `a=ed25519-sha256`, `c=simple/simple` and `h=from:subject` where not given. `body` has lines
/// ending in CRLF, the last one not empty.
pub fn sign(tags: &str, fields: &[Field], body: &[u8]) -> String {
    let given = |name: &str| {
        tags.split(' ').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let algorithm = given("a").unwrap_or_else(|| "ed25519-sha256".into());
    let names = given("h").unwrap_or_else(|| "from:subject".into());
    let length = given("l").map_or(body.len(), |length| length.parse().unwrap());
    let mut value = format!(" v=1; a={algorithm}; c=simple/simple; h={names}");
    for name in ["d", "s", "i", "l", "t", "x"] {
        if let Some(tag) = given(name) {
            value.push_str(&format!("; {name}={tag}"));
        }
    }
    value.push_str(&format!(
        "; bh={}; b=",
        BASE64_STANDARD.encode(digest(&SHA256, &body[..length.min(body.len())]))
    ));
    let mut left: Vec<&Field> = fields.iter().filter(|field| !field.is("DKIM-Signature")).collect();
    let mut text = Vec::new();
    for name in names.split(':') {
        if let Some(at) = left.iter().rposition(|field| field.is(name)) {
            let field = left.remove(at);
            let value = String::from_utf8_lossy(&field.value).replace('\n', "\r\n");
            assert!(!value.contains('\u{fffd}'), "only UTF-8 is signed");
            text.extend_from_slice(format!("{}:{value}\r\n", field.name).as_bytes());
        }
    }
    text.extend_from_slice(format!("DKIM-Signature:{value}").as_bytes());
    let signature = if algorithm.starts_with("rsa") {
        let key = rsa();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text, &mut signature).unwrap();
        signature
    } else {
        ed25519().sign(digest(&SHA256, &text).as_ref()).as_ref().to_vec()
    };
    value + &BASE64_STANDARD.encode(signature)
}
