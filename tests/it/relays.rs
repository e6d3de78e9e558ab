//! Words of strangers in the Received fields of relays: no such field may name another client than
//! the true one, or none in a way that is more than "cannot be read".

use proptest::prelude::*;
use spf_milter::mail::received::{Outcome, find_client};
use testkit::models::relays::{FORMS, TRUE, is_harmless};

const FALSE: &str = "198.51.100.200";

/// The outcome of a message from a relay; no other host is inside.
fn walk(fields: &[&str]) -> Outcome {
    let connecting = "192.0.2.25".parse().unwrap();
    let fields = fields.iter().map(|value| value.as_bytes());
    find_client(connecting, fields, |address| address == connecting, |_| false)
}

/// Words with which a stranger would mislead.
fn strangers_word() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "x",
        "198.51.100.200",
        "[198.51.100.200]",
        "([198.51.100.200])",
        "(198.51.100.200)",
        "[",
        "]",
        "(",
        ")",
        " ",
        " ",
        "\t",
        "\"",
        "'",
        "<",
        ">",
        "@",
        ";",
        ":",
        "=",
        "HELO",
        "HELO ",
        "helo=",
        "ident=",
        "port=1",
        "by",
        " by y",
        "from",
        "with ESMTPSA",
        "with LMTP",
        "with local",
        " id 1",
        "for",
        "authenticated",
        "(authenticated)",
        "AUTH:",
        "account",
        "user=a mech=b",
        "(Exim 4.9)",
        "may be forged",
        "unknown",
        "(HELO x)",
        "(helo=x)",
        "127.0.0.1",
        "[127.0.0.1]",
        "192.0.2.26",
        "[192.0.2.26]",
        "[fe80::1]",
        "invoked",
        ".google.com",
        "::",
        "%",
        "\u{fc}",
    ]);
    prop_oneof![
        1 => prop::collection::vec(part.clone(), 1..3),
        3 => prop::collection::vec(part, 1..8),
    ]
    .prop_map(|parts| parts.concat())
}

#[test]
fn attacks_by_hand() {
    let attacks = [
        ["([198.51.100.200])by(", "x", "x", ")"],
        ["by(", "x", "x", ") with ESMTPSA id"],
        [" [127.0.0.1]", "x", "x", "x"],
        ["x@[127.0.0.1]", "x", "x", "x"],
        ["x) ([127.0.0.1]) (y", "x", "a) ([127.0.0.1]) (y", "x"],
        [FALSE, "", "", ""],
        ["[198.51.100.200]", "HELO", "HELO x", ""],
        ["[198.51.100.200]", "helo=", "helo=x", ""],
        ["[198.51.100.200]", "helo=x", "[198.51.100.200] helo=x", ""],
        ["x", "[198.51.100.200]", "[198.51.100.200] HELO x", ""],
        ["(a[198.51.100.200]helo=", "x", "ident=", "a) by x"],
        ["([198.51.100.200]helo=", "x", "ident=", "a) by x with ESMTPSA id"],
        ["([198.51.100.200])", "HELO", "account x", ") with ESMTPSA ("],
        ["(authenticated)", "authenticated", "authenticated", "a) (authenticated"],
        ["x)(authenticated", "account", "a) (authenticated", "a) (authenticated x"],
        ["x)\t(authenticated", "AUTH:", "a) (account a b", "(Exim 4)"],
        ["[198.51.100.200]", "user=a", "user=a mech=b", "a) (Exim 4) (x"],
    ];
    for (relay, form) in FORMS {
        for [helo, name, ident, mail] in attacks {
            let value = form(helo, name, ident, mail);
            assert!(is_harmless(&value), "{relay}: {:?} of {value:?}", walk(&[&value]));
        }
        // Where the words are harmless, the field is read.
        let outcome = walk(&[&form("h.example", "n.example", "root", "a")]);
        let is_found =
            matches!(&outcome, Outcome::Client(client) if client.address.to_string() == TRUE);
        assert_eq!(is_found, !relay.starts_with("MDaemon"), "{relay}: {outcome:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
    ))]

    /// Whatever a stranger puts into HELO, reverse name, ident and sender.
    #[test]
    fn words_of_strangers_are_harmless(
        words in [strangers_word(), strangers_word(), strangers_word(), strangers_word()],
    ) {
        let [helo, name, ident, mail] = &words;
        for (relay, form) in FORMS {
            let value = form(helo, name, ident, mail);
            prop_assert!(is_harmless(&value), "{}: {:?} of {:?}", relay, walk(&[&value]), value);
        }
    }

    /// Whatever a stranger hands over below the field of our relay.
    #[test]
    fn fields_below_are_not_read(
        form in prop::sample::select(FORMS.to_vec()),
        helo in strangers_word(),
        below in prop::collection::vec(
            prop_oneof![strangers_word(), Just(format!("from h (n [{FALSE}]) by gw with ESMTP; date"))],
            0..4,
        ),
    ) {
        let own = form.1(&helo, "n.example", "root", "a");
        let all: Vec<&str> = std::iter::once(&own).chain(&below).map(String::as_str).collect();
        prop_assert_eq!(walk(&all), walk(&[&own]));
    }

    #[test]
    fn folds_and_case_change_nothing(
        form in prop::sample::select(FORMS.to_vec()),
        helo in strangers_word(),
    ) {
        let value = form.1(&helo, "n.example", "root", "a");
        let outcome = walk(&[&value]);
        prop_assert_eq!(walk(&[&value.replace('\n', "\r\n")]), outcome.clone());
        prop_assert_eq!(walk(&[&value.replace("\n\t", "  \n \t ")]), outcome.clone());
        prop_assert_eq!(walk(&[&format!("\n {value} \r\n")]), outcome.clone());
        let upper = [" by ", " with ", " id "].iter().fold(value.clone(), |value, word| {
            value.replace(word, &word.to_ascii_uppercase())
        });
        if !helo.contains("by") && !helo.contains("with") && !helo.contains("id") {
            prop_assert_eq!(walk(&[&upper]), outcome);
        }
    }
}
