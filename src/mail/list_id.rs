//! The List-Id header field, which identifies a mailing list (RFC 2919), and List-Post (RFC 2369).

use super::domain::Domain;

/// The most octets of a list identifier (RFC 2919 §3).
const MAX_LIST_ID: usize = 255;

/// The list identifier in the value of a List-Id field.
///
/// ```text
/// list-id-header    = "List-ID:" [phrase] "<" list-id ">" CRLF   ; RFC 2919 §3
/// list-id           = list-label "." list-id-namespace
/// list-label        = dot-atom-text
/// list-id-namespace = domain-name / "localhost"
/// ```
///
/// The identifier is read to the letter. Any text may stand before it: list software puts
/// descriptions there as people wrote them, with colons and brackets. White space and one comment
/// may follow.
pub fn list_id(value: &[u8]) -> Option<&str> {
    let mut parts = value.rsplitn(2, |octet| *octet == b'<');
    let (last, _) = (parts.next()?, parts.next()?);
    let mut parts = last.splitn(2, |octet| *octet == b'>');
    let (list_id, rest) = (parts.next()?.trim_ascii(), parts.next()?);
    let is_whole = is_list_id(list_id) && is_comment(rest.trim_ascii());
    std::str::from_utf8(list_id).ok().filter(|_| is_whole)
}

/// The domains that a list identifier may be one of: itself, and its namespace.
pub fn domains_of_list_id(list_id: &str) -> impl Iterator<Item = Domain> {
    let namespace = list_id.split_once('.').map(|(_, namespace)| namespace);
    let domains = [Some(list_id), namespace].into_iter().flatten();
    domains.filter_map(|text| Domain::parse(text).ok()).filter(Domain::is_qualified)
}

/// The domain of the address in a List-Post field (RFC 2369 §3.4): of the first `mailto` in angle
/// brackets.
pub fn list_post_domain(value: &[u8]) -> Option<Domain> {
    let text = std::str::from_utf8(value).ok()?;
    let mut urls = text.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    let address = urls.find_map(|url| {
        let (scheme, address) = url.trim().split_once(':')?;
        scheme.eq_ignore_ascii_case("mailto").then_some(address)
    })?;
    let (_, domain) = address.split('?').next()?.rsplit_once('@')?;
    Domain::parse(domain).ok().filter(Domain::is_qualified)
}

fn is_list_id(text: &[u8]) -> bool {
    let is_atext =
        |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(octet);
    let is_dot_atom = text
        .split(|octet| *octet == b'.')
        .all(|atom| !atom.is_empty() && atom.iter().all(is_atext));
    is_dot_atom && text.contains(&b'.') && text.len() <= MAX_LIST_ID
}

/// Nothing, or one comment without others within.
fn is_comment(text: &[u8]) -> bool {
    let comment = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")"));
    text.is_empty()
        || comment.is_some_and(|comment| !comment.iter().any(|octet| b"()\\".contains(octet)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has_list_id(value: &[u8]) -> bool {
        list_id(value).is_some()
    }

    #[test]
    fn domains_of_lists() {
        let domains = |text| domains_of_list_id(text).map(|it| it.to_string()).collect::<Vec<_>>();
        assert_eq!(list_id(b" A list < Users.Lists.example >"), Some("Users.Lists.example"));
        assert_eq!(domains("Users.lists.example"), ["users.lists.example", "lists.example"]);
        assert_eq!(domains("a+b.lists.example"), ["lists.example"]);
        assert_eq!(domains("x.example"), ["x.example"]);
        assert_eq!(domains("05nm.localhost"), ["05nm.localhost"]);
        let post = |text: &str| list_post_domain(text.as_bytes()).map(|it| it.to_string());
        assert_eq!(post(" <mailto:users@Lists.example>").as_deref(), Some("lists.example"));
        let several =
            "<https://x.example/a@b.example>, <MAILTO:a@lists.example?subject=x> (moderated)";
        assert_eq!(post(several).as_deref(), Some("lists.example"));
        for bad in ["NO", "", "<mailto:users>", "users@lists.example", "<mailto:a@b>", "\u{fc}<"] {
            assert_eq!(post(bad), None, "{bad}");
        }
    }

    #[test]
    fn list_ids() {
        for value in [
            " <list.example.com>",
            "The list <list.example.com>",
            "\"The, list\" <list.example.com>\r\n",
            "R-help: [main] list\r\n <r-help.example.com>",
            "=?utf-8?q?Liste?= <liste.example.com>",
            "<05nm.6543.localhost>",
            "a < b <list.example.com>",
            " < list.example.com > (a list)",
            "<x.y>",
            "<a+b=c.example>",
        ] {
            assert!(has_list_id(value.as_bytes()), "{value:?}");
        }
        for value in [
            "",
            " ",
            "\r\n ",
            "x",
            "()",
            "<>",
            "< >",
            "<x>",
            "<.x>",
            "<x.>",
            "<x..y>",
            "list.example.com",
            "<list.example.com",
            "list.example.com>",
            "(<list.example.com>)",
            "\"<list.example.com>\"",
            "<list@example.com>",
            "<a b.example>",
            "<\u{fc}.example>",
            "<list.example.com> x",
            "<list.example.com> (a",
            "<list.example.com> )",
            "<list.(c)example.com>",
            "<li\0st.example>",
            "<x.y><>",
        ] {
            assert!(!has_list_id(value.as_bytes()), "{value:?}");
        }
    }

    #[test]
    fn the_bound_on_its_length() {
        for (length, expected) in [(254, true), (255, true), (256, false)] {
            let value = format!("<{}.example>", "a".repeat(length - ".example".len()));
            assert_eq!(has_list_id(value.as_bytes()), expected, "{length}");
        }
    }

    /// Fields by the grammar are read; with one character replaced the result is that of a slow
    /// reader.
    fn slow(text: &str) -> bool {
        let Some(start) = text.rfind('<') else { return false };
        let Some(end) = text.rfind('>') else { return false };
        if end < start
            || !text[end + 1..].trim().is_empty()
            || text[start..].matches('>').count() != 1
        {
            return false;
        }
        let labels: Vec<&str> = text[start + 1..end].trim().split('.').collect();
        labels.len() > 1
            && labels
                .iter()
                .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric()))
    }

    proptest! {
        #[test]
        fn agrees_with_a_slow_reader(value in "[ab<>. ]{0,12}") {
            prop_assert_eq!(has_list_id(value.as_bytes()), slow(&value), "{:?}", value);
        }

        #[test]
        fn octets_never_panic(value in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = list_id(&value).map(|text| domains_of_list_id(text).count());
            let _ = list_post_domain(&value);
        }
    }
}
