//! From: author domains. Fields are separated by a NUL.

use spf_milter::mail::{author::Author, domain::Domain};

pub(crate) fn check(octets: &[u8]) {
    let fields: Vec<&[u8]> = octets.split(|octet| *octet == 0).take(4).collect();
    let author = Author::from_fields(&fields);
    let domains: Vec<&Domain> = author.domains().iter().collect();
    assert!(domains.len() <= 64);
    for (number, domain) in domains.iter().enumerate() {
        assert!(!domains[..number].contains(domain), "{author:?}");
    }
    match &author {
        Author::One(_) => assert_eq!((domains.len(), fields.len()), (1, 1)),
        Author::Several(_) => assert!(fields.len() == 1, "{author:?}"),
        Author::SeveralFields(_) => assert!(fields.len() > 1, "{author:?}"),
        _ => {}
    }
    // The letters of a domain that is found stand in the fields, in this order: readers differ in
    // what they take out between them.
    let text = String::from_utf8_lossy(octets).to_ascii_lowercase();
    for domain in &domains {
        if !domain.as_str().contains("xn--") && text.is_ascii() {
            let mut rest = text.chars();
            assert!(
                domain.as_str().chars().all(|c| rest.any(|other| other == c)),
                "{domain} of {text:?}"
            );
        }
    }
    // CRLF and LF fold alike.
    if fields.len() == 1 && !octets.contains(&b'\r') {
        let folded: Vec<u8> = octets
            .iter()
            .flat_map(|octet| if *octet == b'\n' { b"\r\n".to_vec() } else { vec![*octet] })
            .collect();
        assert_eq!(Author::from_fields(&[folded]), author);
    }
    // Field by field as all at once.
    let one_by_one = fields.iter().fold(Author::Missing, |author, value| author.and_field(value));
    assert_eq!(one_by_one, author);
}
