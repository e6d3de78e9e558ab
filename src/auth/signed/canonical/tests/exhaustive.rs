//! The canonicalizer, whose steps are quick and therefore clever, against the slow ones, at each
//! length and however a body is cut.
//!
//! Optimized (`cargo test --release --lib exhaustive`) all lengths are tried; otherwise those
//! around the borders.

use super::{
    super::*,
    bodies::{Numbers, lengths, random_body, relaxed_by_the_letter, simple_by_the_letter},
    body_in_chunks,
};

const BOTH: [Canonicalization; 2] = [Canonicalization::Simple, Canonicalization::Relaxed];

fn by_the_letter(canonicalization: Canonicalization, body: &[u8]) -> Vec<u8> {
    match canonicalization {
        Canonicalization::Simple => simple_by_the_letter(body),
        Canonicalization::Relaxed => relaxed_by_the_letter(body),
    }
}

fn check<'a>(
    canonicalization: Canonicalization,
    body: &[u8],
    expected: &[u8],
    chunks: impl Iterator<Item = &'a [u8]>,
    how: &str,
) {
    let found = body_in_chunks(canonicalization, chunks);
    // Not assert_eq: that would print all of both.
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        found == expected,
        "{canonicalization:?}, {} octets {how}: {} octets instead of {}, first difference at {differs:?}",
        body.len(),
        found.len(),
        expected.len()
    );
}

/// A body in chunks of random lengths.
fn random_chunks<'a>(numbers: &mut Numbers, body: &'a [u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let most = [2, STEP + 2, BUFFER, 70_000][numbers.below(4)];
        let (chunk, after) = rest.split_at(numbers.below(most).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fn check_all(numbers: &mut Numbers, body: &[u8]) {
    for canonicalization in BOTH {
        let expected = by_the_letter(canonicalization, body);
        check(canonicalization, body, &expected, [body].into_iter(), "whole");
        if body.len() > 65_535 {
            check(canonicalization, body, &expected, body.chunks(65_535), "in chunks of 65535");
        }
        check(
            canonicalization,
            body,
            &expected,
            random_chunks(numbers, body).into_iter(),
            "in random chunks",
        );
    }
}

/// A single line of text; and the same text with white space all over.
#[test]
fn each_length() {
    let mut numbers = Numbers(0x5eed);
    let indented =
        b"        <td class=\"a\">\r\n\t\tsome words  in it, \r\n    </td>\r\n\r\n".repeat(1200);
    for length in lengths() {
        let plain = [vec![b'x'; length], b"\r\n".to_vec()].concat();
        check_all(&mut numbers, &plain);
        check_all(&mut numbers, &indented[..length]);
    }
}

/// Octet by octet: all lengths at once, for what comes later cannot change what was written for
/// what came before.
#[test]
fn each_length_octet_by_octet() {
    let mut numbers = Numbers(0x0c7e7);
    for body in [vec![b'x'; 70_000], random_body(&mut numbers, 70_000)] {
        for canonicalization in BOTH {
            let (mut canonicalizer, mut text) =
                (BodyCanonicalizer::new(canonicalization), Vec::new());
            let mut wanted = lengths().into_iter().peekable();
            for length in 0..=body.len() {
                // With the slow one at each length this would take hours.
                if wanted.next_if_eq(&length).is_some() && (length % 61 == 0 || length < 3 * STEP) {
                    let mut found = text.clone();
                    canonicalizer.clone().finish(&mut |part| found.extend_from_slice(part));
                    assert!(
                        found == by_the_letter(canonicalization, &body[..length]),
                        "{canonicalization:?} {length}"
                    );
                }
                if let Some(octet) = body.get(length) {
                    canonicalizer.write(&[*octet], &mut |part| text.extend_from_slice(part));
                }
            }
        }
    }
}

/// In two and in three pieces, cut within two octets of each border.
#[test]
fn each_cut_at_a_border() {
    let mut numbers = Numbers(0xb0_4de4);
    let near = |border: usize| border.saturating_sub(2)..=border + 2;
    let mut cuts: Vec<usize> =
        [STEP, 2 * STEP, BUFFER - STEP, BUFFER, BUFFER + STEP, 2 * BUFFER, 3 * BUFFER]
            .into_iter()
            .flat_map(near)
            .collect();
    cuts.insert(0, 0);
    for round in 0..if cfg!(debug_assertions) { 3 } else { 200 } {
        let body = match round {
            0 => [vec![b'x'; 3 * BUFFER + 50], b"\r\n".to_vec()].concat(),
            1 => vec![b' '; 3 * BUFFER + 50],
            _ => random_body(&mut numbers, 3 * BUFFER + 50),
        };
        for canonicalization in BOTH {
            let expected = by_the_letter(canonicalization, &body);
            for (number, &first) in cuts.iter().enumerate() {
                for &second in &cuts[number..] {
                    let (front, back) = body.split_at(second);
                    let (front, middle) = front.split_at(first);
                    let how = format!("cut at {first} and {second}");
                    check(
                        canonicalization,
                        &body,
                        &expected,
                        [front, middle, back].into_iter(),
                        &how,
                    );
                }
            }
        }
    }
}

#[test]
fn white_space_of_all_kinds() {
    let mut numbers = Numbers(0x3a11);
    for _ in 0..if cfg!(debug_assertions) { 40 } else { 4000 } {
        let length = [100, 5000, 20_000, 200_000][numbers.below(4)];
        let length = numbers.below(length);
        let body = random_body(&mut numbers, length);
        check_all(&mut numbers, &body);
    }
}
