//! Received fields, from the top: clients behind relays. Fields are separated by a NUL.

use std::{collections::BTreeSet, net::IpAddr};

use spf_milter::mail::received::{MAX_FIELD_LENGTH, Outcome, Walk, find_client};

pub fn check(octets: &[u8]) {
    let fields: Vec<&[u8]> = octets.split(|octet| *octet == 0).take(8).collect();
    let found = find(&fields);
    assert_eq!(find_client(relay(), [], |_| false, |_| true), Outcome::Direct);

    // Field by field; what stands below the one that decides changes nothing.
    let mut walk = Walk::new(true);
    for value in &fields {
        walk.read(value, is_inside);
    }
    let used = &fields[..walk.fields()];
    let is_over = walk.is_over();
    assert_eq!(walk.finish(), found);
    assert_eq!(find(used), found);
    if is_over {
        let below = b"from h (n [198.51.100.200]) by gw.example with ESMTP; date";
        assert_eq!(find(&[used, &[below]].concat()), found);
    }

    // CRLF and LF fold alike.
    let is_long = fields.iter().any(|value| value.len() > MAX_FIELD_LENGTH / 2);
    if !octets.contains(&b'\r') && !is_long {
        let folded: Vec<Vec<u8>> = fields
            .iter()
            .map(|value| {
                let lines: Vec<&[u8]> = value.split(|octet| *octet == b'\n').collect();
                lines.join(b"\r\n".as_slice())
            })
            .collect();
        let folded: Vec<&[u8]> = folded.iter().map(Vec::as_slice).collect();
        assert_eq!(find(&folded), found);
    }

    let word = found.as_str();
    assert!(word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-'), "{word}");
    let Outcome::Client(client) = &found else { return };
    assert!(!is_inside(client.address) && !client.address.is_loopback());
    let value = String::from_utf8_lossy(used.last().unwrap());
    for text in [&client.helo, &client.name].into_iter().flatten() {
        super::assert_printable(text);
        assert!(text.len() <= 255 && value.contains(text.as_str()), "{text:?} of {value:?}");
    }
    // There is no other address in the from-clause than that, but in words that are the client's.
    let (first, others) = addresses(&value);
    let one = BTreeSet::from([client.address]);
    assert!(
        others == one || others.is_empty() && first == one,
        "{client:?}: {first:?} {others:?} of {value:?}"
    );
}

fn relay() -> IpAddr {
    [192, 0, 2, 25].into()
}

fn is_inside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if matches!(address.octets(), [10, ..] | [192, 0, 2, _]))
}

fn find(fields: &[&[u8]]) -> Outcome {
    let is_relay = |address| address == relay();
    find_client(relay(), fields.iter().copied(), is_relay, is_inside)
}

/// The addresses of the from-clause, by a reader that knows no forms: those of its first word, and
/// all others but HELO's.
fn addresses(value: &str) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
    let value = value.replace(['\t', '\r', '\n'], " ");
    let mut depth = 0;
    // Comments are kept, as `by` in them is not the end.
    let words: Vec<(i32, &str)> = value
        .split(' ')
        .map(|word| {
            let before = depth;
            depth += i32::try_from(word.matches('(').count()).unwrap();
            depth -= i32::try_from(word.matches(')').count()).unwrap();
            (before, word)
        })
        .filter(|(_, word)| !word.is_empty())
        .skip(1)
        .collect();
    let end = words.iter().position(|(depth, word)| {
        *depth == 0 && word.split('(').next().unwrap().eq_ignore_ascii_case("by")
    });
    let words = &words[..end.unwrap()];
    let mut first = BTreeSet::new();
    let mut others = BTreeSet::new();
    let mut is_helo = false;
    for (number, (_, word)) in words.iter().enumerate() {
        let bare = word.trim_matches(['(', ')', '"']);
        let lower = bare.to_ascii_lowercase();
        let found = mentioned(word);
        if number == 0 && !word.starts_with('(') {
            first.extend(found);
        } else if !is_helo && !lower.starts_with("helo=") && !lower.starts_with("ident=") {
            others.extend(found);
        }
        is_helo = number > 0 && matches!(&*lower, "helo" | "ehlo" | "lhlo") && !word.ends_with(')');
    }
    (first, others)
}

/// The addresses in a word.
fn mentioned(word: &str) -> Vec<IpAddr> {
    let is_separator = |c: char| !c.is_ascii_alphanumeric() && !".:%_-".contains(c);
    let parts = word.split(is_separator).filter_map(|part| {
        let part =
            part.get(5..).filter(|_| part[..5].eq_ignore_ascii_case("ipv6:")).unwrap_or(part);
        let part = part.split('%').next().unwrap();
        let with_port = part.rsplit_once(':').and_then(|(text, _)| text.parse().ok());
        let v4 = with_port.filter(IpAddr::is_ipv4);
        part.parse::<IpAddr>().ok().or(v4).map(|address| address.to_canonical())
    });
    parts.filter(|address| !address.is_unspecified() && !address.is_multicast()).collect()
}
