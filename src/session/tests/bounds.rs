//! How long a session may take, how much it may ask and keep, and what is left of it.

use tokio::{runtime::Handle, task::yield_now, time::Instant};

use super::{super::task::Task, *};
use crate::mail::octets::WORK;

const SIGNATURE: &str = " v=1; a=rsa-sha256; d=example.com; s=SEL; h=from; bh=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=; b=AAAABBBB";

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Lets tasks end that are to end.
async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn look_ups_end_with_the_session() {
    let host = Host::with_latency(
        ZONE,
        &format!("{ALL}verify_helo = no\nreject_results =\n"),
        Duration::from_secs(3),
    );
    for events in 0..5 {
        let mut session = host.connect();
        session.mail(b"<a@example.com>", false, None).await;
        let queries = host.zone.queries();
        if events > 0 {
            session.header(b"From", b" a@sub.example.com");
            session.header(b"DKIM-Signature", SIGNATURE.as_bytes());
        }
        if events > 1 {
            session.end_of_header();
            session.body(b"x");
        }
        settle().await;
        // MAIL FROM and iprev, the policy, the key: each in a task of its own.
        let under_way = [0, 1, 2, 2, 2][events];
        assert_eq!(
            (host.zone.queries() - queries, alive_tasks()),
            (under_way, under_way + 2),
            "{events}"
        );
        match events {
            // While the end of the message is waited for.
            2 => assert!(
                tokio::time::timeout(Duration::from_secs(1), session.end_of_message(None))
                    .await
                    .is_err()
            ),
            3 => drop(session.abort()),
            _ => {}
        }
        let closed = session.close();
        let record = closed.records.latest();
        assert!(record.is_none_or(|record| !record.complete));
        settle().await;
        assert_eq!(alive_tasks(), 0, "{events}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_end_is_recorded_as_such() {
    let host = Host::with_latency(ZONE, ALL, Duration::from_secs(3));
    let mut session = host.connect();
    session.mail(b"<a@example.com>", false, Some("1")).await;
    session.header(b"From", b" a@example.com");
    assert!(
        tokio::time::timeout(Duration::from_secs(1), session.end_of_message(None)).await.is_err()
    );
    let record = session.close().records.latest().cloned().unwrap();
    assert_eq!(
        (record.complete, record.content, record.queue_id.as_deref()),
        (false, None, Some("1"))
    );
    assert_eq!(record.identities.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_from_ends_the_look_up_for_the_first() {
    let config = "header =\nverify_dkim = yes\nverify_dmarc = yes\n";
    let host = Host::with_latency("", config, Duration::from_secs(3));
    let mut session = host.connect();
    session.mail(b"<a@example.com>", false, None).await;
    session.header(b"From", b" a@example.com");
    settle().await;
    assert_eq!(alive_tasks(), 1);
    for number in 0..1000 {
        session.header(b"From", format!(" a@{number}.example.com").as_bytes());
    }
    settle().await;
    assert_eq!(alive_tasks(), 0);
    // A From without a domain has nothing to look up.
    session.mail(b"<a@example.com>", false, None).await;
    session.header(b"From", b" nobody");
    settle().await;
    assert_eq!(alive_tasks(), 0);
}

/// Nothing ever answers: the end of a message takes the limit of DKIM and that of DMARC, and iprev
/// no time of its own.
#[tokio::test(start_paused = true)]
async fn the_end_is_bounded_in_time() {
    let host = Host::with_latency(
        "",
        &format!("{ALL}timeout_secs = 7\nreject_results =\nverify_helo = no\n"),
        Duration::from_secs(10_000),
    );
    let mut session = host.connect();
    // The MTA does not wait for an answer to MAIL FROM, whose check the end waits for.
    let start = Instant::now();
    session.mail(b"<a@example.com>", false, None).await;
    assert_eq!(start.elapsed().as_secs(), 0);
    let finished =
        session.message(&[("DKIM-Signature", SIGNATURE), ("From", " a@sub.example.com")], "").await;
    assert_eq!(start.elapsed().as_secs(), 14);
    let header = &inserted(&finished.edits)[0];
    for part in [
        "; spf=temperror reason=",
        "; dkim=fail reason=\"body hash did not verify\" ",
        "; dmarc=temperror reason=\"_dmarc.sub.example.com: timeout\" header.from=sub.example.com; ",
        "; iprev=temperror reason=timeout policy.iprev=192.0.2.1",
    ] {
        assert!(header.contains(part), "{header} lacks {part}");
    }
    // Look-ups that began with the header are waited for from then on: a slow body costs nothing
    // more.
    session.mail(b"<a@example.com>", false, None).await;
    session.header(b"DKIM-Signature", SIGNATURE.as_bytes());
    session.header(b"From", b" a@sub.example.com");
    session.end_of_header();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let start = Instant::now();
    session.end_of_message(None).await;
    assert_eq!(start.elapsed().as_secs(), 7);
}

/// However the time is spent, an answer comes after twice the time-out, and DMARC has some of it.
#[tokio::test(start_paused = true)]
async fn the_end_is_bounded_with_any_silence() {
    let silent = "_dmarc.example.com TXT \"v=DMARC1; p=reject\"\nbad.example * !silence\n*.bad.example * !silence\n192.0.2.1 PTR !silence\n";
    let enforced =
        "dmarc_reject_action = reject\ndmarc_fail_reply_text = no %{p}\ntimeout_secs = 20\n";
    let signature = SIGNATURE.replace("example.com", "bad.example");
    for (config, pause, mail, end) in [
        // MAIL FROM was not answered, and the message came at once, after a while, after a long
        // while.
        ("reject_results =\n", 0, 0, 40),
        ("reject_results =\n", 7, 0, 47),
        ("reject_results =\n", 100, 0, 140),
        ("reject_results =\nverify_helo = no\n", 0, 0, 40),
        // It was answered, and so the message came after that.
        ("reject_results = fail\nverify_helo = no\n", 0, 20, 60),
    ] {
        let host = Host::new(silent, &format!("{ALL}{enforced}{config}"));
        let mut session = host.connect();
        let start = Instant::now();
        session.helo("bad.example").await;
        session.mail(b"<a@bad.example>", false, None).await;
        assert_eq!(start.elapsed().as_secs(), mail, "{config}");
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let finished = session
            .message(&[("DKIM-Signature", &signature), ("From", " a@example.com")], "x")
            .await;
        let took = start.elapsed();
        assert!(
            took < Duration::from_secs(end) + Duration::from_millis(20),
            "{config} {pause}: {took:?}"
        );
        // The policy is known, whatever else is not.
        assert!(
            matches!(finished.verdict, Verdict::Reply(_)),
            "{config} {pause}: {:?}",
            finished.verdict
        );
    }
}

/// An MTA that does not wait for answers begins message after message and gives each up: the check
/// of the last one counts, and no other goes on.
#[tokio::test(start_paused = true)]
async fn messages_given_up_take_no_time() {
    let silent = "_dmarc.example.com TXT \"v=DMARC1; p=reject\"\nbad.example * !silence\n";
    for config in ["reject_results =\n", "reject_results =\nreject_helo_results =\n"] {
        let host = Host::new(
            silent,
            &format!("{ALL}dmarc_reject_action = reject\ntimeout_secs = 20\n{config}"),
        );
        let mut session = host.connect();
        let start = Instant::now();
        if config.contains("helo") {
            session.helo("bad.example").await;
        }
        for number in 0..10 {
            session.mail(b"<a@bad.example>", false, Some(&number.to_string())).await;
            if number % 2 == 0 {
                assert_eq!(session.abort().records.latest(), None, "nothing is known of it");
            }
        }
        assert_eq!(start.elapsed().as_secs(), 0);
        settle().await;
        assert!(alive_tasks() <= 3, "HELO, MAIL FROM, iprev: {}", alive_tasks());
        let finished = session.message(&[("From", " a@example.com")], "x").await;
        assert!(matches!(finished.verdict, Verdict::Reply(_)), "{finished:?}");
        assert!(start.elapsed() <= Duration::from_secs(40), "{:?}", start.elapsed());
        let last = identities(finished.records.latest());
        assert_eq!(last.last(), Some(&(Identity::Mailfrom, SpfResult::Temperror, Action::Accept)));
        drop(session);
        settle().await;
        assert_eq!(alive_tasks(), 0);
    }
}

/// An answer that comes late is the one that would have come at once; and of messages that are given up what is known
/// by then is recorded.
#[tokio::test(start_paused = true)]
async fn an_unanswered_sender_is_verified_as_any() {
    let config = format!("{ALL}reject_results =\nreject_helo_results =\ntimeout_secs = 20\n");
    let take = async |latency: u64| {
        let host = Host::with_latency(ZONE, &config, Duration::from_secs(latency));
        let mut session = host.connect();
        session.helo("mail.example.com").await;
        session.mail(b"<a@bad.example>", false, Some("1")).await;
        let first = session.abort().records.latest().cloned();
        session.mail(b"<a@example.com>", false, Some("2")).await;
        let finished = session.message(&[("From", " a@example.com")], "x\r\n").await;
        (first, finished)
    };
    let (first, at_once) = take(0).await;
    let expected = [
        (Identity::Helo, SpfResult::Pass, Action::Accept),
        (Identity::Mailfrom, SpfResult::Fail, Action::Accept),
    ];
    assert_eq!(identities(first.as_ref()), expected);
    let (first, late) = take(6).await;
    assert_eq!(first, None);
    assert_eq!((&late.verdict, &late.edits), (&at_once.verdict, &at_once.edits));
    let expected = [
        (Identity::Helo, SpfResult::Pass, Action::Accept),
        (Identity::Mailfrom, SpfResult::Pass, Action::Accept),
    ];
    assert_eq!(identities(late.records.latest()), expected);
}

/// An end that is given up loses no check that HELO or MAIL FROM waits for.
#[tokio::test(start_paused = true)]
async fn waiting_for_senders_can_begin_anew() {
    for config in ["reject_helo_results =\n", "reject_helo_results =\nreject_results =\n"] {
        let host = Host::with_latency(ZONE, config, Duration::from_secs(3));
        let mut session = host.connect();
        session.helo("mail.example.com").await;
        let wait = Duration::from_secs(1);
        let mail = session.mail(b"<a@example.com>", false, None);
        if tokio::time::timeout(wait, mail).await.is_ok() {
            assert!(tokio::time::timeout(wait, session.end_of_message(None)).await.is_err());
        }
        session.mail(b"<a@example.com>", false, None).await;
        let finished = session.message(&[], "x\r\n").await;
        let expected = [
            (Identity::Helo, SpfResult::Pass, Action::Accept),
            (Identity::Mailfrom, SpfResult::Pass, Action::Accept),
        ];
        assert_eq!(identities(finished.records.latest()), expected, "{config}");
    }
}

/// Signatures beyond the limit cost next to nothing, and so do fields.
#[tokio::test]
async fn large_headers_are_cheap() {
    let host = Host::new(ZONE, &format!("{ALL}verify_helo = no\n"));
    for (name, count, signatures) in
        [("X-Filler", 10_000, 0), ("DKIM-Signature", 1_000, 1_000), ("From", 10_000, 0)]
    {
        let mut session = host.connect();
        session.mail(b"<a@example.com>", false, None).await;
        let before = host.zone.queries();
        let (mut octets, before_work) = (0, WORK.get());
        for number in 0..count {
            let value = match name {
                "DKIM-Signature" => SIGNATURE.replace("SEL", &format!("s{number}")),
                "From" => format!(" a@{number}.example.com"),
                _ => format!(" {number}"),
            };
            octets += name.len() + value.len();
            session.header(name.as_bytes(), value.as_bytes());
        }
        let finished = session.message(&[("From", " a@example.com")], "x\r\n").await;
        let work = WORK.get() - before_work;
        assert!(work <= 3 * octets, "{count} {name}: {work} for {octets} octets");
        // Ten keys, a policy, and two for iprev; of many authors one that fails under reject, which
        // settles it.
        assert!(host.zone.queries() - before <= 20, "{}", host.zone.queries() - before);
        let field = &inserted(&finished.edits)[0];
        assert_eq!(field.matches("; dkim=").count(), if signatures > 0 { 30 } else { 1 });
        assert!(field.len() < 4096, "{}", field.len());
        if signatures > 0 {
            assert!(field.contains("too many signatures (971 more)"), "{field}");
        }
    }
}

/// The most that a header can make ten signatures cost: each covers all that is kept, and fails
/// only at its very end.
#[tokio::test]
async fn costly_signatures_are_bounded() {
    let key = "s._domainkey.example.com TXT v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let host = Host::new(key, &format!("{ALL}verify_helo = no\n"));
    let mut session = host.connect();
    session.mail(b"<a@example.com>", false, None).await;
    let before_work = WORK.get();
    let names = "X:".repeat(999);
    let body_hash = "s14J+iztnrytnRYzb7lhFG/jS/vrxWJnnahfijFMnco=";
    let signature = format!(
        " v=1; a=ed25519-sha256; c=relaxed/simple; d=example.com; s=s; h={names}from; bh={body_hash}; b=AAAA"
    );
    for _ in 0..10 {
        session.header(b"DKIM-Signature", signature.as_bytes());
    }
    let value = " x".repeat(500);
    for _ in 0..999 {
        session.header(b"X", value.as_bytes());
    }
    let octets = 10 * signature.len() + 999 * value.len();
    let finished = session.message(&[("From", " a@example.com")], "x\r\n").await;
    // Each signature is canonicalized and hashed over all of the header, which is no more than it takes.
    let work = WORK.get() - before_work;
    assert!(work <= 3 * 10 * octets, "{work} for {octets} octets");
    let field = &inserted(&finished.edits)[0];
    assert_eq!(
        field.matches("dkim=fail reason=\"signature did not verify\"").count(),
        10,
        "{field}"
    );
}

/// A name for a reply takes what is left of the check's time, and is asked for where there is such
/// a reply.
#[tokio::test(start_paused = true)]
async fn a_name_for_a_reply_has_its_bounds() {
    let zone = "bad.example TXT \"v=spf1 -all\"\nsoft.example TXT \"v=spf1 ~all\"\n192.0.2.1 PTR a.example\na.example A 192.0.2.1";
    let took = async |config: &str, latency: u64, sender: &str| {
        let config =
            format!("verify_helo = no\ntimeout_secs = 20\nfail_reply_text = no %{{p}}\n{config}");
        let host = Host::with_latency(zone, &config, Duration::from_secs(latency));
        let begin = Instant::now();
        let mut session = host.connect();
        let answer = session.mail(format!("<a@{sender}>").as_bytes(), false, None).await;
        session.end_of_message(None).await;
        let reply = match answer.verdict {
            Verdict::Reply(reply) => reply.text().to_owned(),
            _ => String::new(),
        };
        (reply, begin.elapsed().as_secs(), host.zone.queries())
    };
    assert_eq!(took("", 2, "bad.example").await, ("no a.example".to_owned(), 6, 4));
    // (The first question is asked twice, once to see whether the cache knows.) The name is worth
    // five seconds, and no more than the check has left.
    assert_eq!(took("", 4, "bad.example").await, ("no unknown".to_owned(), 9, 4));
    assert_eq!(took("", 18, "bad.example").await, ("no unknown".to_owned(), 20, 3));
    // No such reply, none at all, none that is sent.
    assert_eq!(took("", 2, "soft.example").await, (String::new(), 2, 2));
    assert_eq!(took("reject_results =\n", 2, "bad.example").await, (String::new(), 2, 2));
    assert_eq!(took("dry_run = yes\n", 2, "bad.example").await, (String::new(), 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_name_for_a_reply_of_dmarc_has_its_bounds() {
    let zone = "_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n192.0.2.1 PTR a.example\na.example A 192.0.2.1";
    let dmarc = "header =\nverify_helo = no\nverify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = reject\n";
    for (more, latency, expected) in [
        ("", 2, Some("no a.example")),
        ("", 4, Some("no unknown")),
        ("dmarc_fail_reply_text = no\n", 4, Some("no")),
        ("dry_run = yes\n", 4, None),
    ] {
        let text =
            if more.starts_with("dmarc_fail") { "" } else { "dmarc_fail_reply_text = no %{p}\n" };
        let host =
            Host::with_latency(zone, &format!("{dmarc}{text}{more}"), Duration::from_secs(latency));
        let mut session = host.connect();
        session.mail(b"<a@other.example>", false, None).await;
        let queries = host.zone.queries();
        let finished = session.message(&[("From", " a@example.com")], "").await;
        let reply = match &finished.verdict {
            Verdict::Reply(reply) => Some(reply.text()),
            _ => None,
        };
        assert_eq!(reply, expected, "{more}");
        // The policy, and the client's name where it is recorded: that of no passing signature or
        // sender is asked for besides.
        let names = host.zone.queries() - queries;
        assert_eq!(expected.is_some_and(|reply| reply != "no"), names > 2, "{more} {names}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_in_vain_where_fields_are_too_many() {
    let host = Host::with_latency(ZONE, ALL, Duration::from_secs(3));
    let mut session = host.connect();
    session.mail(b"<a@example.com>", false, None).await;
    let forged = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let fields = [
        vec![forged; MAX_FORGED_FIELDS + 1],
        vec![("From", " a@example.com"), ("DKIM-Signature", SIGNATURE)],
    ]
    .concat();
    let begin = Instant::now();
    assert!(matches!(session.message(&fields, "x").await.verdict, Verdict::Reply(_)));
    assert_eq!(begin.elapsed().as_secs(), 0);
    settle().await;
    // All that was under way for this message has ended; iprev is the session's.
    assert!(alive_tasks() <= 1);
}

#[test]
fn helo_names_are_kept_to_their_right_end() {
    for (length, kept) in [(1023, 1023), (1024, 1024), (1025, 1024), (100_000, 1024)] {
        let name = format!("{}z", "a".repeat(length - 1));
        assert_eq!(cut(&name), &name[length - kept..], "{length}");
    }
    // No character is cut in two.
    assert_eq!(cut(&format!("\u{fc}{}", "a".repeat(1023))), "a".repeat(1023));
}

#[tokio::test]
async fn a_from_field_is_read_up_to_the_bound() {
    let host = Host::new(ZONE, &format!("{ALL}verify_helo = no\n"));
    for (length, is_read) in [((1 << 20) - 1, true), (1 << 20, true), ((1 << 20) + 1, false)] {
        let mut session = host.connect();
        session.mail(b"<a@example.com>", false, None).await;
        let address = "a@example.com";
        let from = format!("{}{address}", " ".repeat(length - address.len()));
        let finished = session.message(&[("From", &from)], "x").await;
        let field = &inserted(&finished.edits)[0];
        assert_eq!(field.contains("header.from=example.com"), is_read, "{length}: {field}");
        assert!(is_read || field.contains("dmarc=permerror"), "{length}: {field}");
    }
}

#[tokio::test]
async fn outcomes_are_taken_once() {
    let work = || async {
        yield_now().await;
        7
    };
    for mut task in [Task::start(work()), Task::hold(work()), Task::start(async { 7 })] {
        let is_done = matches!(task, Task::Done(_));
        if !is_done {
            assert_eq!(task.take(), None, "{task:?}");
        }
        task.wait().await.unwrap();
        assert_eq!(task.take(), Some(7));
        assert_eq!(task.take(), None);
        assert!(task.wait().await.is_err() && task.join().await.is_err());
    }
    // A panic is not an outcome, and goes on once.
    let mut task = Task::start(async {
        yield_now().await;
        panic!("provoked")
    });
    settle().await;
    assert_eq!(task.take(), None::<u8>);
    assert!(task.wait().await.is_err());
}

/// A panic beside the session fails one message, not those behind it; fields that claim to be ours
/// do not get through.
#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_message() {
    const FORGED: (&str, &str) = ("Authentication-Results", " mx.example.net; dmarc=pass");
    let config = format!("{ALL}reject_results =\nerror_action = accept\n");
    for is_in_helo in [true, false] {
        let host = Host::with_latency(ZONE, &config, Duration::from_secs(1));
        let mut session = host.connect();
        session.helo("mail.example.com").await;
        session.mail(b"<a@example.com>", false, None).await;
        if is_in_helo {
            session.helo.as_mut().unwrap().provoke_panic();
        } else {
            session.iprev = Iprev::UnderWay(Task::panicking());
        }
        let message = AssertUnwindSafe(session.message(&[FORGED], "x")).catch_unwind().await;
        assert!(message.is_err());
        let failed = session.fail(Event::End, false);
        assert_eq!((failed.verdict, failed.edits.len()), (Verdict::Accept, 1));
        session.mail(b"<a@example.com>", false, None).await;
        let answer = session.message(&[("From", " a@example.com")], "x").await;
        assert_eq!(answer.verdict, Verdict::Continue);
        let record = answer.records.latest().unwrap();
        assert_eq!((record.failure, record.complete), (None, true));
        assert!(inserted(&answer.edits)[0].contains("; iprev=pass "), "{:?}", answer.edits);
    }
}
