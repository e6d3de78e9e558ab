//! Name servers that say nothing, and the time limit.

use super::*;

/// The outcome with a time limit, as a session sets one. Time passes by itself where everything
/// waits.
pub(super) fn evaluate_within_limit(
    zone: Zone,
    authors: &[&str],
    identifiers: &Identifiers,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let dns = Dns::from_zone(Arc::new(zone));
    let from = authors.iter().map(|domain| format!("a@{domain}")).collect::<Vec<_>>().join(", ");
    runtime.block_on(async {
        let discovery = Discovery::new(Author::from_fields(&[from]));
        let limit = std::time::Duration::from_secs(20);
        let evaluated = tokio::time::timeout(limit, evaluate(&dns, &discovery, identifiers)).await;
        evaluated.unwrap_or_else(|_| conclude(&discovery, identifiers))
    })
}

fn seconds(zone: &str, from: &[&str], text: &str) -> (String, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let mut zone = Zone::parse(zone).unwrap();
    zone.latency = std::time::Duration::from_secs(1);
    let dns = Dns::from_zone(Arc::new(zone));
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let discovery = Discovery::new(Author::from_fields(from));
        let identifiers = identifiers(text);
        let limit = std::time::Duration::from_secs(20);
        let evaluated = tokio::time::timeout(limit, evaluate(&dns, &discovery, &identifiers)).await;
        let outcome = evaluated.unwrap_or_else(|_| conclude(&discovery, &identifiers));
        (short(&outcome), start.elapsed().as_secs())
    })
}

const ZONE: &str = "
    _dmarc.bank.example TXT \"v=DMARC1; p=reject\"
    _dmarc.shop.example TXT \"v=DMARC1; p=quarantine; sp=reject\"
    _dmarc.mild.example TXT \"v=DMARC1; p=none; np=reject\"
    _dmarc.s1.evil.example TXT !silence
    _dmarc.s2.evil.example TXT !silence
    _dmarc.s3.evil.example TXT !silence
    _dmarc.evil.example TXT !silence
    _dmarc.sub.bank.example TXT !silence
    ghost.mild.example * !silence
";

#[test]
fn a_silent_name_takes_no_fail_away() {
    let silent = "a@s1.evil.example, a@s2.evil.example, a@s3.evil.example";
    let fail =
        |author: &str, policy: &str, problem: &str| format!("fail {author} {policy} ({problem})");
    let several = "several author domains";
    let bank = fail("bank.example", "p=reject of bank.example", several);
    // Those before it are waited for: one of them may be as strict, and the first is named.
    for (from, time) in [
        (format!("Bank <ceo@bank.example>, {silent}"), 2),
        (format!("{silent}, ceo@bank.example"), 20),
        (format!("a@s1.evil.example, ceo@bank.example, {silent}"), 20),
    ] {
        assert_eq!(
            seconds(ZONE, &[&from], "dkim=pass:s1.evil.example"),
            (bank.clone(), time),
            "{from}"
        );
    }
    let two = fail("bank.example", "p=reject of bank.example", "several From fields");
    assert_eq!(seconds(ZONE, &["ceo@bank.example", silent], ""), (two.clone(), 1));
    assert_eq!(seconds(ZONE, &[silent, "ceo@bank.example"], "spf=pass:bank.example"), (two, 20));
    // A walk goes on while others wait.
    let below = fail("a.b.c.shop.example", "sp=reject of shop.example", several);
    assert_eq!(seconds(ZONE, &[&format!("{silent}, a@a.b.c.shop.example")], ""), (below, 20));
    // A milder policy is not the last word: a silent name may have a stricter one. It stays violated.
    let milder =
        "temperror shop.example p=quarantine of shop.example (_dmarc.s1.evil.example: timeout)";
    let late = "temperror s1.evil.example (_dmarc.s1.evil.example: timeout)".to_owned();
    assert_eq!(seconds(ZONE, &[&format!("{silent}, a@shop.example")], ""), (milder.into(), 20));
    assert_eq!(seconds(ZONE, &[silent], ""), (late, 20));
}

#[test]
fn names_that_cannot_matter_are_not_waited_for() {
    for (from, text, expected, time) in [
        // Signatures and a MAIL FROM of others, whose names are silent or whose keys could not be
        // had.
        (
            "a@bank.example",
            "dkim=temperror:evil.example spf=temperror:evil.example",
            "fail bank.example p=reject of bank.example",
            2,
        ),
        (
            "a@bank.example",
            "dkim=pass:evil.example spf=pass:s1.evil.example",
            "fail bank.example p=reject of bank.example",
            2,
        ),
        (
            "a@bank.example",
            "dkim=temperror:evil.test",
            "fail bank.example p=reject of bank.example",
            1,
        ),
        // Names below the author's own domain are its own.
        (
            "a@bank.example",
            "dkim=pass:sub.bank.example",
            "temperror bank.example p=reject of bank.example (_dmarc.sub.bank.example: timeout)",
            20,
        ),
        (
            "a@bank.example",
            "dkim=pass:sub.bank.example dkim=pass:m.bank.example",
            "pass bank.example p=reject of bank.example",
            2,
        ),
        (
            "a@bank.example",
            "dkim=pass:sub.bank.example dkim=pass:bank.example",
            "pass bank.example p=reject of bank.example",
            1,
        ),
        (
            "a@ghost.mild.example",
            "",
            "temperror ghost.mild.example (ghost.mild.example: timeout)",
            20,
        ),
        (
            "a@ghost.mild.example",
            "spf=pass:ghost.mild.example",
            "pass ghost.mild.example (ghost.mild.example: timeout)",
            20,
        ),
    ] {
        assert_eq!(seconds(ZONE, &[from], text), (expected.to_owned(), time), "{from} {text}");
    }
}

/// Both walks share the silent one, with any content.
#[test]
fn trouble_above_both_does_not_matter() {
    for how in ["!servfail", "!silence", "!refused"] {
        let zone = format!(
            "_dmarc.a.t TXT \"v=DMARC1; p=reject\"\n_dmarc.t TXT {how}\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.com TXT {how}"
        );
        for (from, text, expected) in [
            ("u@a.t", "spf=pass:b.a.t", "pass a.t p=reject of a.t"),
            (
                "u@example.com",
                "spf=pass:bounce.example.com",
                "pass example.com p=reject of example.com",
            ),
            (
                "u@example.com",
                "dkim=pass:a.b.example.com",
                "pass example.com p=reject of example.com",
            ),
            (
                "u@example.com",
                "dkim=fail:a.b.example.com",
                "fail example.com p=reject of example.com",
            ),
        ] {
            assert_eq!(seconds(&zone, &[from], text).0, expected, "{from} {text} {how}");
        }
        // A sibling is related if there is a record above, and not otherwise.
        assert!(
            seconds(&zone, &["u@a.t"], "spf=pass:c.t")
                .0
                .starts_with("temperror a.t p=reject of a.t (_dmarc.t: "),
            "{how}"
        );
    }
}

#[test]
fn a_discovery_that_was_given_up_goes_on_where_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let mut zone = Zone::parse("_dmarc.x.example TXT \"v=DMARC1; p=reject\"").unwrap();
    zone.latency = std::time::Duration::from_secs(2);
    let zone = Arc::new(zone);
    let dns = Dns::from_zone(zone.clone());
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let discovery = Discovery::new(Author::One(domain("a.x.example")));
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(1), discovery.advance(&dns))
                .await
                .is_err()
        );
        let outcome = evaluate(&dns, &discovery, &identifiers("")).await;
        assert_eq!(short(&outcome), "fail a.x.example p=reject of x.example");
        assert_eq!((start.elapsed().as_secs(), zone.queries()), (4, 3));
    });
}

/// Which of several domains is named depends on the order in From, not on that of the answers.
#[test]
fn the_first_of_equals_is_named() {
    let zone = "_dmarc.a.example TXT \"v=DMARC1; p=reject\"\n\
                _dmarc.b.example TXT \"v=DMARC1; p=reject\"\n\
                _dmarc.deep.c.example TXT !servfail\n\
                _dmarc.c.example TXT \"v=DMARC1; p=reject; sp=reject\"\n";
    let named = |from: &[&str], policy: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dns = Dns::from_zone(Arc::new(Zone::parse(zone).unwrap()));
        runtime.block_on(async {
            // Answers for the domains that stand later have come already.
            let discovery = Discovery::new(Author::from_fields(&[from.last().unwrap()]));
            discovery.advance(&dns).await;
            let author = Author::from_fields(&[from.join(", ")]);
            let outcome =
                evaluate(&dns, &discovery.with_author(author), &Identifiers::default()).await;
            assert_eq!(outcome.policy.unwrap().domain.as_str(), policy);
            outcome.author_domain.unwrap().to_string()
        })
    };
    for (from, first, policy) in [
        (["x@a.example", "x@b.example"], "a.example", "a.example"),
        (["x@b.example", "x@a.example"], "b.example", "b.example"),
        // A domain whose policy takes two rounds to find.
        (["x@low.c.example", "x@a.example"], "low.c.example", "c.example"),
        (["x@a.example", "x@low.c.example"], "a.example", "a.example"),
        (["x@deep.c.example", "x@b.example"], "b.example", "b.example"),
    ] {
        assert_eq!(named(&from, policy), first, "{from:?}");
    }
}
