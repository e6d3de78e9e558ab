//! Messages signed by another implementation (dkimpy), whole and altered, in chunks of every kind.

use std::{fs, path::Path, sync::Arc, time::Duration};

use spf_milter::{
    auth::dkim::{Reason, Settings, SignatureOutcome, Verifier},
    dns::{Dns, zone::Zone},
};
use testkit::corpus::Message;

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim"))
}

fn dns() -> Dns {
    Dns::from_zone(Arc::new(
        Zone::parse(&fs::read_to_string(directory().join("zone")).unwrap()).unwrap(),
    ))
}

/// The messages by their file names.
fn messages() -> Vec<(String, Message)> {
    let names = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".eml")).collect();
    names.sort();
    assert!(names.len() > 10);
    let read = |name: String| {
        let message = Message::parse(&fs::read(directory().join(&name)).unwrap());
        (name, message)
    };
    names.into_iter().map(read).collect()
}

async fn verify(message: &Message, dns: &Dns, chunk: usize) -> SignatureOutcome {
    verify_all(message, dns, chunk).await.pop().unwrap()
}

async fn verify_all(message: &Message, dns: &Dns, chunk: usize) -> Vec<SignatureOutcome> {
    let settings = Settings {
        max_signatures: 10,
        min_key_bits: 1024,
        timeout: Duration::from_secs(5),
        now: 1_795_400_000,
    };
    let mut verifier = Verifier::new(settings);
    for (name, value) in &message.fields {
        verifier.header(name, value);
    }
    let mut verification = verifier.end_of_header(dns);
    for part in message.body.chunks(chunk) {
        verification.body(part);
    }
    verification.finish().await.unwrap()
}

/// RFC 6376 appendix A.2 and RFC 8463 appendix A.3.
#[tokio::test]
async fn examples_of_the_rfcs_pass() {
    let directory = directory().join("rfc");
    let zone = Zone::parse(&fs::read_to_string(directory.join("zone")).unwrap()).unwrap();
    let dns = Dns::from_zone(Arc::new(zone));
    for (file, algorithms) in [
        ("rfc6376-A.2.eml", ["rsa-sha256"].as_slice()),
        ("rfc8463-A.3.eml", &["ed25519-sha256", "rsa-sha256"]),
    ] {
        let message = Message::parse(&fs::read(directory.join(file)).unwrap());
        let outcomes = verify_all(&message, &dns, 5).await;
        assert_eq!(
            outcomes.iter().filter_map(|outcome| outcome.algorithm.as_deref()).collect::<Vec<_>>(),
            algorithms
        );
        assert!(outcomes.iter().all(SignatureOutcome::covers_message), "{file}: {outcomes:?}");
    }
}

#[tokio::test]
async fn messages_of_another_signer_pass() {
    let dns = dns();
    for (name, message) in messages() {
        for chunk in [1, 2, 3, 64, 1000, usize::MAX] {
            let outcome = verify(&message, &dns, chunk).await;
            assert_eq!(outcome.reason, None, "{name} in chunks of {chunk}");
            assert!(outcome.covers_message(), "{name}");
            let bits = name.strip_prefix('r').and_then(|rest| rest.split('-').next()?.parse().ok());
            assert_eq!(
                outcome.key_bits,
                bits.or(Some(if name.starts_with("bare") { 2048 } else { 256 })),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn an_octet_changed_in_the_body_fails() {
    let dns = dns();
    for (name, message) in messages().into_iter().filter(|(_, message)| !message.body.is_empty()) {
        for place in [0, 17, message.body.len() / 2] {
            let mut altered = message.clone();
            altered.body[place] = if altered.body[place] == b'x' { b'y' } else { b'x' };
            assert_eq!(
                verify(&altered, &dns, 100).await.reason,
                Some(Reason::BodyHash),
                "{name} {place}"
            );
        }
    }
}

#[tokio::test]
async fn an_octet_changed_in_a_signed_field_fails_and_in_another_does_not() {
    let dns = dns();
    for (name, message) in messages().into_iter().filter(|(name, _)| !name.contains("empty")) {
        for (field, expected) in [
            ("Subject", Some(Reason::Signature)),
            ("X-Trace", Some(Reason::Signature)),
            ("X-Eight", Some(Reason::Signature)),
        ] {
            let mut altered = message.clone();
            let value = altered
                .fields
                .iter_mut()
                .find(|(name, _)| name == field.as_bytes())
                .map(|(_, value)| value)
                .unwrap();
            value[1] ^= 1;
            assert_eq!(verify(&altered, &dns, 100).await.reason, expected, "{name} {field}");
        }
        // Signed as absent.
        let mut altered = message.clone();
        altered.fields.push((b"X-Absent".to_vec(), b" 1".to_vec()));
        assert_eq!(verify(&altered, &dns, 100).await.reason, Some(Reason::Signature), "{name}");
        altered.fields.last_mut().unwrap().0 = b"X-Unsigned".to_vec();
        assert_eq!(verify(&altered, &dns, 100).await.reason, None, "{name}");
    }
}

#[tokio::test]
async fn white_space_matters_by_canonicalization() {
    let dns = dns();
    for (name, message) in messages()
        .into_iter()
        .filter(|(name, _)| name.starts_with("ed-") && !name.contains("empty"))
    {
        let mut header = message.clone();
        let subject = header
            .fields
            .iter_mut()
            .find(|(name, _)| name == b"Subject")
            .map(|(_, value)| value)
            .unwrap();
        subject.insert(0, b' ');
        let expected = if name.starts_with("ed-relaxed") { None } else { Some(Reason::Signature) };
        assert_eq!(verify(&header, &dns, 100).await.reason, expected, "{name}");
        let mut body = message.clone();
        let end = body.body.windows(2).position(|pair| pair == b"\r\n").unwrap();
        body.body.splice(end..end, *b" \t");
        let expected = if name.ends_with("relaxed.eml") { None } else { Some(Reason::BodyHash) };
        assert_eq!(verify(&body, &dns, 100).await.reason, expected, "{name}");
    }
}

#[tokio::test]
async fn text_after_a_signed_length_is_not_accepted() {
    let dns = dns();
    let (_, message) = messages().into_iter().find(|(name, _)| name.contains("length")).unwrap();
    let whole = verify(&message, &dns, 100).await.body.unwrap();
    assert_eq!(whole.covered, whole.total);
    let mut longer = message.clone();
    longer.body.extend_from_slice(b"more\r\n");
    let outcome = verify(&longer, &dns, 1).await;
    let body = outcome.body.unwrap();
    assert_eq!(outcome.reason, Some(Reason::BodyNotCovered(body)));
    assert!(!outcome.covers_message());
    assert!(body.covered == whole.covered && body.total > whole.total);
    let mut shorter = message;
    shorter.body.truncate(100);
    assert_eq!(verify(&shorter, &dns, 100).await.reason, Some(Reason::LengthBeyondBody));
}
