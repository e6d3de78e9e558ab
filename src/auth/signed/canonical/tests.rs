pub(in super::super) mod bodies;
mod exhaustive;

use std::{env, fs, path::Path};

use proptest::prelude::{any, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;
use bodies::{relaxed_by_the_letter, simple_by_the_letter};

fn field(canonicalization: Canonicalization, name: &str, value: &str) -> String {
    let mut output = Vec::new();
    canonicalization.append_name(name.as_bytes(), &mut output);
    canonicalization.append_value(value.as_bytes(), &mut output);
    String::from_utf8(output).unwrap()
}

fn body_in_chunks<'a>(
    canonicalization: Canonicalization,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut output = Vec::new();
    let mut canonicalizer = BodyCanonicalizer::new(canonicalization);
    for chunk in chunks {
        canonicalizer.write(chunk, &mut |text| output.extend_from_slice(text));
    }
    canonicalizer.finish(&mut |text| output.extend_from_slice(text));
    output
}

fn simple(body: &[u8]) -> Vec<u8> {
    body_in_chunks(Canonicalization::Simple, [body])
}

fn relaxed(body: &[u8]) -> Vec<u8> {
    body_in_chunks(Canonicalization::Relaxed, [body])
}

/// RFC 6376 §3.4.5.
#[test]
fn examples_of_the_rfc() {
    let relaxed_field = |name, value| field(Canonicalization::Relaxed, name, value);
    assert_eq!(relaxed_field("A", " X"), "a:X");
    assert_eq!(relaxed_field("B ", " Y\t\r\n\tZ  "), "b:Y Z");
    let simple_field = |name, value| field(Canonicalization::Simple, name, value);
    assert_eq!(simple_field("A", " X"), "A: X");
    assert_eq!(simple_field("B ", " Y\t\r\n\tZ  "), "B : Y\t\r\n\tZ  ");
    let body = b" C \r\nD \t E\r\n\r\n\r\n";
    assert_eq!(relaxed(body), b" C\r\nD E\r\n");
    assert_eq!(simple(body), b" C \r\nD \t E\r\n");
}

#[test]
fn fields() {
    let relaxed = |value| field(Canonicalization::Relaxed, "X-Y", value);
    assert_eq!(relaxed(""), "x-y:");
    assert_eq!(relaxed(" \t\r\n "), "x-y:");
    assert_eq!(relaxed("a\r\n\r\n b\r\n"), "x-y:a b");
    // A CR or LF that is not part of a CRLF is not a fold.
    assert_eq!(relaxed("a\rb\nc "), "x-y:a\rb\nc");
    assert_eq!(relaxed("grüße  an"), "x-y:grüße an");
}

#[test]
fn bodies() {
    for (body, expected_simple, expected_relaxed) in [
        ("", "\r\n", ""),
        ("\r\n", "\r\n", ""),
        ("\r\n\r\n", "\r\n", ""),
        (" \r\n\t\r\n", " \r\n\t\r\n", ""),
        ("a", "a\r\n", "a\r\n"),
        ("a\r\n", "a\r\n", "a\r\n"),
        ("a \r\n \r\n\r\n", "a \r\n \r\n", "a\r\n"),
        ("\r\n\r\na\r\n", "\r\n\r\na\r\n", "\r\n\r\na\r\n"),
        ("\ta\t \tb \r\n", "\ta\t \tb \r\n", " a b\r\n"),
        ("  a", "  a\r\n", " a\r\n"),
        ("a  ", "a  \r\n", "a\r\n"),
        // CR and LF that are not part of a CRLF.
        ("a\r", "a\r\r\n", "a\r\r\n"),
        ("a \r", "a \r\r\n", "a \r\r\n"),
        ("a \rb\r\n", "a \rb\r\n", "a \rb\r\n"),
        ("a \nb\r\n", "a \nb\r\n", "a \nb\r\n"),
        ("a\n\n", "a\n\n\r\n", "a\n\n\r\n"),
        ("a\r\r\n", "a\r\r\n", "a\r\r\n"),
        ("a \r\r\n", "a \r\r\n", "a \r\r\n"),
        ("\r\r\n\r\n", "\r\r\n", "\r\r\n"),
        ("grüße \r\n", "grüße \r\n", "grüße\r\n"),
    ] {
        assert_eq!(
            String::from_utf8(simple(body.as_bytes())).unwrap(),
            expected_simple,
            "simple {body:?}"
        );
        assert_eq!(
            String::from_utf8(relaxed(body.as_bytes())).unwrap(),
            expected_relaxed,
            "relaxed {body:?}"
        );
    }
}

#[test]
fn many_empty_lines_are_kept_where_text_follows() {
    let body =
        [b"a\r\n".as_slice(), &b"\r\n".repeat(5000), b"b\r\n", &b"\r\n".repeat(5000)].concat();
    let expected = [b"a\r\n".as_slice(), &b"\r\n".repeat(5000), b"b\r\n"].concat();
    assert!(simple(&body) == expected && relaxed(&body) == expected);
    assert!(body_in_chunks(Canonicalization::Relaxed, body.chunks(3)) == expected);
}

/// Bodies with what matters in them at every distance from each other.
fn any_body() -> impl prop::strategy::Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(prop::sample::select(b" \t\r\nab".to_vec()), 1..20),
        prop::collection::vec(any::<u8>(), 1..10),
        prop::collection::vec(prop::sample::select(b"abc \xc3".to_vec()), 1..150),
        proptest::strategy::Just(b"\r\n".to_vec()),
    ];
    prop::strategy::Strategy::prop_map(prop::collection::vec(part, 0..12), |parts| parts.concat())
}

proptest! {
    #[test]
    fn chunk_borders_do_not_matter(body in any_body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks = || cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]);
        for canonicalization in [Canonicalization::Simple, Canonicalization::Relaxed] {
            prop_assert_eq!(body_in_chunks(canonicalization, chunks()), body_in_chunks(canonicalization, [body.as_slice()]));
            prop_assert_eq!(body_in_chunks(canonicalization, body.chunks(1)), body_in_chunks(canonicalization, [body.as_slice()]));
        }
    }

    #[test]
    fn canonical_bodies_are_those_of_the_letter(body in any_body()) {
        prop_assert_eq!(relaxed(&body), relaxed_by_the_letter(&body));
        prop_assert_eq!(simple(&body), simple_by_the_letter(&body));
    }

    #[test]
    fn canonical_text_stays_as_it_is(body in any_body(), value in "[ \t\r\na-c:]{0,40}") {
        let once = simple(&body);
        prop_assert_eq!(simple(&once), once);
        let once = relaxed(&body);
        prop_assert_eq!(relaxed(&once), once);
        // As the header keeps it.
        let value = value.replace("\r\n", "\n").replace('\n', "\r\n");
        let once = field(Canonicalization::Relaxed, "Name", &value);
        let (name, value) = once.split_once(':').unwrap();
        prop_assert_eq!(field(Canonicalization::Relaxed, name, value), once.clone());
    }
}

/// The pairs of input and output of the public suites, when the environment variable CORPUS names
/// their directory.
#[test]
fn pairs_of_the_suites() {
    let Some(directory) = env::var_os("CORPUS").filter(|value| !value.is_empty()) else {
        println!("CORPUS not set: the public suites were not run");
        return;
    };
    let directory = Path::new(&directory).join("dkim-canon");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join("cases.json")).unwrap()).unwrap();
    for case in index["cases"].as_array().unwrap() {
        let read =
            |path: &serde_json::Value| fs::read(directory.join(path.as_str().unwrap())).unwrap();
        let message = String::from_utf8(read(&case["message"]))
            .unwrap()
            .replace("\r\n", "\n")
            .replace('\n', "\r\n");
        let Some((header, body)) = message.split_once("\r\n\r\n") else { continue };
        for (word, canonicalization) in
            [("simple", Canonicalization::Simple), ("relaxed", Canonicalization::Relaxed)]
        {
            let mut output = Vec::new();
            for line in header.replace("\r\n ", "\u{1} ").replace("\r\n\t", "\u{1}\t").split("\r\n")
            {
                let line = line.replace('\u{1}', "\r\n");
                let (name, value) = line.split_once(':').unwrap();
                canonicalization.append_name(name.as_bytes(), &mut output);
                canonicalization.append_value(value.as_bytes(), &mut output);
                output.extend_from_slice(b"\r\n");
            }
            output.extend_from_slice(b"\r\n");
            output.extend(body_in_chunks(canonicalization, [body.as_bytes()]));
            let expected = read(&case["expected"]["canon"][word]);
            // White space is all that its last line has, and the line has no end: for the suite it
            // is text, by RFC 6376 §3.4.4 nothing.
            if word == "relaxed" && case["name"] == "canon-24" {
                assert!(body.ends_with("\r\n    ") && !output.ends_with(b" \r\n"));
                continue;
            }
            assert_eq!(
                String::from_utf8_lossy(&output),
                String::from_utf8_lossy(&expected),
                "{word} {}",
                case["name"]
            );
        }
    }
}

/// RFC 6376 §3.4.2, octet by octet.
fn relaxed_value(value: &[u8]) -> Vec<u8> {
    let unfolded = String::from_utf8_lossy(value).replace("\r\n", "");
    let words: Vec<&str> = unfolded.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    words.join(" ").into_bytes()
}

proptest! {
    #[test]
    fn relaxed_values_are_as_the_rfc_says(value in "([ab]|[ \\t]|\r|\n|\r\n[ \\t]){0,30}") {
        let mut output = b"before".to_vec();
        append_relaxed_value(value.as_bytes(), &mut output);
        let expected = [b"before".as_slice(), &relaxed_value(value.as_bytes())].concat();
        prop_assert_eq!(String::from_utf8_lossy(&output), String::from_utf8_lossy(&expected));
    }
}

#[test]
fn a_bit_for_each_octet() {
    for position in 0..STEP {
        let mut octets = [[0; 8]; STEP / 8];
        octets.as_flattened_mut()[position] = 1;
        assert_eq!(bits(&octets), 1 << position);
    }
    assert_eq!(bits(&[[1; 8]; STEP / 8]), u32::MAX);
}
