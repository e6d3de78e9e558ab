//! Body hashes, against dkimpy's canonicalization and Python's hash, in chunks of all kinds.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use spf_milter::auth::dkim::Reason;

use super::{
    cases::{Differences, Random, rounds},
    dkim::body_reason,
    peer,
};
use testkit::models::body;

/// Lengths that some buffer might have, and that of a packet.
const BORDERS: [usize; 12] = [0, 64, 128, 998, 1024, 4032, 4064, 4096, 8128, 16384, 32768, 65535];

/// Bodies that are verified in one run of the peer.
const BATCH: u64 = 1_000;

/// A body of lines, white space and odd octets, whose borders lie near those of buffers.
pub(crate) fn make_body(random: &mut Random) -> Vec<u8> {
    let wanted = if random.once_in(3) { random.near(&BORDERS) } else { random.below(700) };
    let kinds = random.below(8);
    let mut body = Vec::with_capacity(wanted + 100);
    while body.len() < wanted {
        match random.below(9) {
            0 => body.extend_from_slice(b"\r\n"),
            1 if kinds & 1 == 0 => body.extend(std::iter::repeat_n(
                *random.pick(&[b" ", b"\t"]).first().unwrap(),
                random.within(1..5),
            )),
            2 if kinds & 2 == 0 => {
                let octet = random.octet();
                body.push(if matches!(octet, b'\r' | b'\n') { b'.' } else { octet });
            }
            3 if kinds & 4 == 0 && random.once_in(3) => body.extend_from_slice(b" \t\r\n"),
            4 if random.once_in(4) => {
                let length = random.near(&BORDERS).min(wanted);
                body.extend(std::iter::repeat_n(
                    *random.pick(&[b"x", b" ", b"\t", b"y"]).first().unwrap(),
                    length,
                ));
            }
            _ => body.extend(std::iter::repeat_n(
                b'a' + u8::try_from(random.below(26)).unwrap(),
                random.within(1..80),
            )),
        }
    }
    body.truncate(wanted);
    // The end of a body is where it matters.
    match random.below(6) {
        0 => {}
        1 => body.extend_from_slice(b"\r\n\r\n\r\n"),
        2 => body.extend_from_slice(b" \r\n"),
        3 => body.extend_from_slice(b"\r\n \t\r\n"),
        _ => body.extend_from_slice(b"\r\n"),
    }
    while body.last() == Some(&b'\r') {
        body.pop();
    }
    // Half a line end would be an octet like others: peers differ there.
    let mut whole = Vec::with_capacity(body.len());
    for (at, octet) in body.iter().enumerate() {
        match octet {
            b'\r' if body.get(at + 1) != Some(&b'\n') => whole.push(b'r'),
            b'\n' if at == 0 || body[at - 1] != b'\r' => whole.push(b'n'),
            octet => whole.push(*octet),
        }
    }
    whole
}

/// Cuts a body into chunks in one of several ways.
pub(crate) fn cut<'a>(random: &mut Random, body: &'a [u8]) -> Vec<&'a [u8]> {
    let size = match random.below(6) {
        0 => body.len().max(1),
        1 if body.len() < 9_000 => 1,
        2 => 65_535,
        3 => random.near(&[64, 998, 4032, 4064, 4096]).max(1),
        _ => 0,
    };
    if size > 0 {
        return body.chunks(size).collect();
    }
    let mut chunks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let bound = if random.once_in(2) { 9 } else { 5_000 };
        let (chunk, behind) = rest.split_at(random.within(0..bound).min(rest.len()));
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}

#[test]
#[ignore = "needs dkimpy: make peers"]
fn body_hashes() {
    let mut random = Random::new("bodies");
    let mut differences = Differences::default();
    let mut left = rounds(200, 3_000);
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let mut cases = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..count {
            let (body, relaxed) = (make_body(&mut random), random.once_in(2));
            let length = random
                .once_in(4)
                .then(|| f64::from(u32::try_from(random.below(1001)).unwrap()) / 1000.0);
            // dkimpy takes time with the square of white space in a row; only the slow twin is
            // asked about much of it.
            let given: &[u8] = if is_slow(&body) { b"" } else { &body };
            asked.push(json!({"body": BASE64_STANDARD.encode(given), "relaxed": relaxed, "length": length}));
            cases.push((body, relaxed));
        }
        for ((body, relaxed), answer) in cases.iter().zip(peer::ask("hash_body.py", &asked)) {
            compare(&mut random, &mut differences, body, *relaxed, &answer);
        }
    }
    differences.finish("body hashes");
}

/// Whether there is much white space in a row.
fn is_slow(body: &[u8]) -> bool {
    body.split(|octet| !matches!(octet, b' ' | b'\t')).any(|space| space.len() > 2_000)
}

fn compare(
    random: &mut Random,
    differences: &mut Differences,
    message_body: &[u8],
    relaxed: bool,
    answer: &Value,
) {
    let theirs = answer["hash"].as_str().unwrap();
    let length = answer["length"].as_u64().map(|length| usize::try_from(length).unwrap());
    // With the white space that dkimpy leaves at the end, `l=` may go beyond what is hashed here.
    let ours = body::canonicalize(message_body, relaxed).len();
    let length = length.map(|length| length.min(ours));
    let slow = BASE64_STANDARD.encode(body::hash(message_body, relaxed, length).unwrap());
    let what = || {
        format!(
            "{} octets, relaxed {relaxed}, l={length:?}: {:?}",
            message_body.len(),
            String::from_utf8_lossy(message_body)
        )
    };
    if is_slow(message_body) {
        differences.explained("much white space in a row: only the slow twin");
    } else if slow == theirs {
        differences.equal();
    // dkimpy takes white space away only in front of CRLF.
    } else if relaxed && matches!(message_body.last(), Some(b' ' | b'\t')) {
        differences.explained(
            "white space at the end of a last line without CRLF is ignored (RFC 6376 §3.4.4)",
        );
    } else {
        differences.unexplained(format!("the slow twin and dkimpy: {}", what()));
    }
    for _ in 0..2 {
        let chunks = cut(random, message_body);
        let reason = body_reason(&slow, relaxed, length, &chunks);
        if reason == Some(Reason::Signature) {
            differences.equal();
        } else {
            let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).take(40).collect();
            differences.unexplained(format!("{reason:?} in chunks of {sizes:?}: {}", what()));
        }
    }
}
