//! Reverse-path and HELO.

use spf_milter::mail::{
    domain::{Domain, with_a_labels},
    envelope::{ReversePath, helo_domain},
};

pub(crate) fn check(octets: &[u8]) {
    match ReversePath::parse(octets) {
        ReversePath::Mailbox { local_part, domain } => {
            assert!(!domain.contains('@'));
            // The path without brackets and route is the same path.
            let text = format!("<{local_part}@{domain}>");
            let again = ReversePath::parse(text.as_bytes());
            if !local_part.is_empty()
                && !local_part.starts_with(['@', '<'])
                && !domain.ends_with('>')
            {
                assert_eq!(
                    again,
                    ReversePath::Mailbox { local_part: local_part.clone(), domain: domain.clone() }
                );
            }
            is_consistent(&domain);
            is_consistent(&local_part);
        }
        ReversePath::Other(text) => assert!(!text.contains('@')),
        ReversePath::Empty => assert!(
            octets.iter().all(|octet| b"<> \t\r\n@:".contains(octet)) || octets.contains(&b':')
        ),
    }
    is_consistent(&String::from_utf8_lossy(octets));
}

fn is_consistent(text: &str) {
    let _ = with_a_labels(text);
    let parsed = Domain::parse(text);
    if let Ok(domain) = &parsed {
        let shown = domain.to_string();
        assert!((1..=253).contains(&shown.len()), "{shown}");
        assert!(
            shown.bytes().all(|octet| octet.is_ascii_lowercase()
                || octet.is_ascii_digit()
                || b"-_.".contains(&octet)),
            "{shown}"
        );
        assert!(shown.split('.').all(|label| (1..=63).contains(&label.len())), "{shown}");
        assert_eq!(Domain::parse(&shown).as_ref(), Ok(domain));
        assert_eq!(Domain::parse(&shown.to_uppercase()).as_ref(), Ok(domain));
        assert_eq!(domain.labels().count(), shown.split('.').count());
        assert_eq!(domain.is_qualified(), shown.contains('.'));
        assert!(domain.parent().is_none_or(|parent| domain.is_subdomain_of(&parent)));
        assert!(!domain.is_subdomain_of(domain));
    }
    if let Some(domain) = helo_domain(text) {
        assert_eq!(parsed, Ok(domain));
    }
}
