//! The List-Id header field, which identifies a mailing list (RFC 2919).

/// The most octets of a list identifier (RFC 2919 §3).
const MAX_LIST_ID: usize = 255;

/// Whether the value of a List-Id field has a list identifier.
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
pub fn has_list_id(value: &[u8]) -> bool {
    let mut parts = value.rsplitn(2, |octet| *octet == b'<');
    let (Some(last), Some(_)) = (parts.next(), parts.next()) else { return false };
    let mut parts = last.splitn(2, |octet| *octet == b'>');
    let (Some(list_id), Some(rest)) = (parts.next(), parts.next()) else { return false };
    is_list_id(list_id.trim_ascii()) && is_comment(rest.trim_ascii())
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
            let _ = has_list_id(&value);
        }
    }
}
