//! Relaxed alignment for domains of this site: looked up where a decision depends on it.

use proptest::prelude::*;

use super::*;
use crate::{auth::dmarc, mail::domain::Domain};

const ZONE: &str = "
    ours.example TXT v=spf1 ip4:192.0.2.1 -all
    mail.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    other.example TXT v=spf1 ip4:192.0.2.1 -all
    mail.other.example TXT v=spf1 ip4:192.0.2.1 -all
    strict.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.strict.ours.example TXT v=DMARC1; p=none; aspf=s
    mail.strict.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    theirs.example TXT v=spf1 ip4:192.0.2.1 -all
    news.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    evil.shared.example TXT v=spf1 ip4:192.0.2.1 -all
    slow.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.slow.ours.example TXT v=DMARC1; p=none; aspf=s
    mail.slow.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.mail.slow.ours.example TXT !silence
";

const CONFIG: &str = "verify_dkim = yes\nverify_dmarc = yes\nverify_helo = no\n";

/// The verdict on a message, and how many questions it took.
async fn outcome(config: &str, sender: &str, author: &str) -> (Verdict, usize) {
    let host = Host::new(ZONE, &format!("{CONFIG}{config}"));
    let mut session = host.connect();
    session.helo("mail.example.com").await;
    session.mail(format!("<a@{sender}>").as_bytes(), false, None).await;
    let from = format!(" a@{author}");
    let verdict = session.message(&[("From", &from)], "x\r\n").await.verdict;
    (verdict, host.zone.queries())
}

#[tokio::test(start_paused = true)]
async fn looked_up_only_where_it_decides() {
    let local = "local_domains = ours.example, .ours.example\nlocal_domain_action = reject\n";
    let inactive = "local_domains = ours.example, .ours.example\n";
    // Author, sender, whether it is refused, and the questions that the alignment costs.
    for (sender, author, is_refused, more) in [
        ("ours.example", "ours.example", false, 0),
        ("other.example", "ours.example", true, 0),
        // A domain that the list names itself is an organizational domain.
        ("mail.ours.example", "ours.example", false, 0),
        ("mail.ours.example", "news.ours.example", false, 0),
        ("other.example", "other.example", false, 0),
        ("mail.other.example", "other.example", false, 0),
        ("strict.ours.example", "strict.ours.example", false, 0),
        ("mail.strict.ours.example", "strict.ours.example", false, 3),
        ("other.example", "strict.ours.example", true, 2),
        // Trouble that may have hidden an alignment is no failure.
        ("mail.slow.ours.example", "slow.ours.example", false, 3),
    ] {
        let (verdict, plain) = outcome("", sender, author).await;
        assert_eq!(verdict, Verdict::Continue);
        assert_eq!(outcome(inactive, sender, author).await, (verdict, plain));
        let (verdict, queries) = outcome(local, sender, author).await;
        assert_eq!(matches!(verdict, Verdict::Reply(_)), is_refused, "{sender} {author}");
        assert_eq!(queries - plain, more, "{sender} {author}");
    }
}

/// The organizational domain where the entries of a list are all the records there are.
fn reference<'a>(name: &'a str, entries: &'a [String]) -> &'a str {
    let labels = |text: &str| text.split('.').rev().map(str::to_owned).collect::<Vec<_>>();
    let above = |entry: &&String| labels(name).starts_with(&labels(entry));
    entries
        .iter()
        .filter(above)
        .min_by_key(|entry| labels(entry).len())
        .map_or(name, String::as_str)
}

proptest! {
    #[test]
    fn named_domains_are_organizational_domains(
        entries in prop::collection::btree_set("[ab](\\.[ab]){1,3}", 1..4),
        author in "[ab](\\.[ab]){1,4}",
        passed in "[ab](\\.[ab]){0,4}",
    ) {
        let entries: Vec<String> = entries.into_iter().collect();
        let text = format!("socket = inet:127.0.0.1:1\nlocal_domains = {}\n", entries.join(", "));
        let loaded = load_text(text.as_bytes(), Path::new("test.conf"), &Overrides::default());
        let config = loaded.unwrap().config;
        let identifiers = dmarc::Identifiers {
            spf: Some((Domain::parse(&passed).unwrap(), SpfResult::Pass)),
            dkim: Vec::new(),
        };
        let author = Domain::parse(&author).unwrap();
        let named = config.local_domains.highest(&author);
        let is_aligned = named.is_some_and(|named| identifiers.may_pass_at_or_below(named));
        let wanted = reference(author.as_str(), &entries);
        prop_assert_eq!(named.unwrap_or(author.as_str()), wanted);
        prop_assert_eq!(is_aligned || passed == author.as_str(), reference(&passed, &entries) == wanted);
    }
}
