use ring::digest::digest;

use super::{
    super::canonical::tests::bodies::{
        Numbers, lengths, random_body, relaxed_by_the_letter, simple_by_the_letter,
    },
    *,
};

/// Several hashes of one body, each compared with that of the beginning of the slowly canonicalized
/// one.
#[test]
fn exhaustive_lengths_of_hashes() {
    let mut numbers = Numbers(0x1e9);
    for length in lengths().into_iter().filter(|length| length % 7 == 0) {
        let body = random_body(&mut numbers, length);
        let expected = [
            (Canonicalization::Simple, simple_by_the_letter(&body)),
            (Canonicalization::Relaxed, relaxed_by_the_letter(&body)),
        ];
        let mut hashes = BodyHashes::default();
        let mut wanted = Vec::new();
        for (canonicalization, text) in &expected {
            let random = numbers.below(text.len() + 1);
            for count in [0, 1, random, text.len().saturating_sub(1), text.len()] {
                wanted.push((*canonicalization, Some(count), &text[..count.min(text.len())]));
            }
            wanted.push((*canonicalization, None, text.as_slice()));
            wanted.push((*canonicalization, Some(text.len() + 1), text.as_slice()));
        }
        for (canonicalization, count, _) in &wanted {
            hashes.add(*canonicalization, count.map(|count| count as u64));
        }
        for chunk in body.chunks(1 + numbers.below(10_000)) {
            hashes.write(chunk);
        }
        let hashes = hashes.finish();
        for (canonicalization, count, text) in wanted {
            let hash = hashes.find(canonicalization, count.map(|count| count as u64)).unwrap();
            let total =
                expected.iter().find(|(other, _)| *other == canonicalization).unwrap().1.len();
            assert_eq!(
                hash.hash.as_ref(),
                digest(&SHA256, text).as_ref(),
                "{canonicalization:?} {length} l={count:?}"
            );
            assert_eq!(hash.is_short, count.is_some_and(|count| count > total));
            assert_eq!(
                hash.coverage,
                BodyCoverage { covered: text.len() as u64, total: total as u64 }
            );
        }
    }
}
