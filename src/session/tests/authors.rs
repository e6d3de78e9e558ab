//! Messages with several authors or none, of which the sender owns one whose name servers fail.

use super::*;

const ZONE: &str = "
    _dmarc.ours.example TXT v=DMARC1; p=none
    _dmarc.held.example TXT v=DMARC1; p=quarantine
    _dmarc.broken.example TXT !servfail
    _dmarc.evil.example TXT v=DMARC1; p=reject
    evil.example TXT !servfail
";

/// The verdict on a message with these From fields, in words.
async fn outcome(config: &str, from: &[&str]) -> String {
    let host = Host::new(ZONE, &format!("{ALL}verify_helo = no\nreject_results =\n{config}"));
    let mut session = host.connect();
    session.helo("mail.example.com").await;
    session.mail(b"<a@evil.example>", false, None).await;
    let fields: Vec<_> = from.iter().map(|value| ("From", *value)).collect();
    match session.message(&fields, "x\r\n").await.verdict {
        Verdict::Reply(reply) => format!("{} {}", reply.code(), reply.text()),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broken_name_of_the_senders_does_not_excuse_a_malformed_author() {
    let config = "malformed_author_action = reject\n";
    for broken in ["x@broken.example", "x@evil.example", "x@n.example"] {
        assert_eq!(
            outcome(config, &[" a@ours.example", broken]).await,
            "550 message refused: several From fields",
            "{broken}"
        );
    }
    for (from, reason) in [
        (&[][..], "no From field"),
        (&[" nobody"], "malformed From: no address"),
        (&[" The bank:;"], "group without members in From"),
        (&[" The bank:;", " x@broken.example"], "several From fields"),
    ] {
        assert_eq!(outcome(config, from).await, format!("550 message refused: {reason}"));
    }
    for from in [" a@ours.example", " a@ours.example, x@broken.example", " x@broken.example"] {
        assert_eq!(outcome(config, &[from]).await, "Continue", "{from}");
    }
}

#[tokio::test]
async fn a_domain_of_ours_does_not_hide_among_many() {
    let local = "local_domains = ours.example\nlocal_domain_action = reject\n";
    let domains = |count: usize, of: &str| -> String {
        (0..count).map(|number| format!(", a@{of}{number}.test")).collect()
    };
    for (before, after, is_many) in [(1, 0, false), (14, 1, false), (15, 1, true), (300, 300, true)]
    {
        for last in ["x@n.example", "x@broken.example"] {
            let after = domains(after, "b");
            let start = format!(" {last}{}", domains(before - 1, "a"));
            let with_ours = format!("{start}, a@ours.example{after}");
            assert!(outcome(local, &[&with_ours]).await.starts_with("550 not"), "{with_ours}");
            let found = outcome("malformed_author_action = reject\n", &[&with_ours]).await;
            let expected =
                if is_many { "550 message refused: several author domains" } else { "Continue" };
            assert_eq!(found, expected, "{with_ours}");
            let without = if is_many { "550 not" } else { "Continue" };
            let found = outcome(local, &[&format!("{start}, a@c.test{after}")]).await;
            assert!(found.starts_with(without), "{start}");
        }
    }
}

#[tokio::test]
async fn a_broken_name_of_the_senders_does_not_excuse_forgery_of_our_domains() {
    let config = "local_domains = ours.example\nlocal_domain_action = reject\n";
    let refused = "550 not accepted from outside in the name of this site";
    for broken in ["x@broken.example", "x@evil.example", "x@n.example"] {
        let one = format!(" a@ours.example, {broken}");
        assert_eq!(outcome(config, &[&one]).await, refused, "{one}");
        assert_eq!(outcome(config, &[" a@ours.example", broken]).await, refused, "{broken}");
    }
    assert_eq!(outcome(config, &[" x@broken.example"]).await, "Continue");
}

#[tokio::test]
async fn a_broken_name_of_the_senders_does_not_excuse_a_violated_policy() {
    let path = std::env::temp_dir().join(format!("authors-{}", std::process::id()));
    std::fs::write(&path, "strict.example reject\nmild.example none\n").unwrap();
    let own = format!("dmarc_override_file = {}\n", path.display());
    let [held, strict] = ["DMARC policy of held.example", "DMARC validation failed"];
    for broken in ["x@broken.example", "x@evil.example"] {
        for (authors, trouble, expected) in [
            ("a@held.example", "none", held),
            ("a@held.example", "tag", held),
            ("a@held.example", "defer", "451"),
            ("a@strict.example", "none", strict),
            ("a@strict.example", "defer", strict),
            ("a@mild.example", "none", "Continue"),
            ("a@mild.example", "defer", "451"),
            ("a@ours.example", "none", "Continue"),
            ("a@ours.example", "defer", "451"),
        ] {
            let config = format!(
                "{own}dmarc_quarantine_action = quarantine\ndmarc_reject_action = reject\n\
                 dmarc_temperror_action = {trouble}\n"
            );
            for from in [format!(" {authors}, {broken}"), format!(" {broken}, {authors}")] {
                let found = outcome(&config, &[&from]).await;
                assert!(found.contains(expected), "{from}, {trouble}: {found}");
            }
        }
    }
    std::fs::remove_file(path).unwrap();
}
