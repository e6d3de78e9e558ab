//! Relaxed alignment for domains of this site: looked up where a decision depends on it.

use super::*;

const ZONE: &str = "
    ours.example TXT v=spf1 ip4:192.0.2.1 -all
    mail.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    other.example TXT v=spf1 ip4:192.0.2.1 -all
    mail.other.example TXT v=spf1 ip4:192.0.2.1 -all
    strict.ours.example TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.strict.ours.example TXT v=DMARC1; p=none; aspf=s
    mail.strict.ours.example TXT v=spf1 ip4:192.0.2.1 -all
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
        // Without records nothing else can be aligned: no question is asked.
        ("mail.ours.example", "ours.example", true, 0),
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
