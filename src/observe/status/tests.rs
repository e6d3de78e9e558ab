//! No text of strangers breaks out of a form; and each form shows the figures.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::{prelude::*, sample::select};
use ring::digest::{SHA256, digest};

use super::*;

/// A status in which each text is of strangers, be it likely or not.
fn status_of(texts: &[String]) -> Status {
    let mut texts = texts.iter().cycle();
    let mut next = || Shown::from(texts.next().map_or("", String::as_str));
    let mut counts = |counts: &[u64]| Counts(counts.iter().map(|count| (next(), *count)).collect());
    let verdicts = counts(&[70, 0, u64::MAX]);
    let (refused, not_enforced) = (counts(&[3]), counts(&[2, u64::MAX]));
    Status {
        version: next(),
        time: next(),
        started: next(),
        uptime_secs: 7,
        warnings: vec![next(), next()],
        configuration: Configuration {
            file: next(),
            generation: 2,
            loaded: next(),
            dry_run: true,
            failed: Some(FailedReload { time: next(), error: next() }),
        },
        sockets: vec![next(), next()],
        connections: Connections { served: 3, limit: 1000 },
        dns: Dns {
            servers: vec![
                NameServer { address: next(), answers: Some(false), answered_secs: Some(70) },
                NameServer { address: next(), answers: None, answered_secs: None },
            ],
            hits: 3,
            misses: 1,
            queries: 2,
            timeouts: 1,
            errors: 0,
        },
        messages: Messages {
            since: next(),
            total: 71,
            verdicts,
            refused,
            not_enforced,
            methods: vec![Method { method: next(), count: 5, p50_ms: Some(0.5), p99_ms: None }],
        },
        status_refusals: 10,
        refusals: vec![Refusal {
            time: next(),
            reply: 550,
            reason: next(),
            domain: next(),
            client: next(),
            queue_id: next(),
        }],
    }
}

/// The tags of a page, without the style.
fn tags(page: &str) -> Vec<&str> {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (style, after) = rest.split_once("</style>").unwrap();
    assert!(!style.contains('<'));
    [before, after]
        .into_iter()
        .flat_map(|text| text.split('<').skip(1))
        .map(|rest| rest.split_once('>').unwrap().0)
        .collect()
}

/// Texts that strangers might try.
const NASTY: [&str; 12] = [
    "</style><script>alert(1)</script>",
    "\" onload=\"alert(1)",
    "' x='",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "\u{1b}[31m\u{9b}2J\u{202e}",
    "a\r\nb\0c\td",
    "\"}, {\"",
    "\\\" \\u0022 \\",
    "ü\u{ff1c}script\u{ff1e}",
    "2026-11-27T<b>:30:00+01:00",
];

fn texts() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![
        any::<String>(),
        select(&NASTY[..]).prop_map(str::to_owned),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|octets| String::from_utf8_lossy(&octets).into_owned()),
        "[<>&\"' =/a-z]{0,30}",
    ];
    prop::collection::vec(text, 1..40)
}

proptest! {
    #[test]
    fn nothing_breaks_out(texts in texts()) {
        let status = status_of(&texts);
        let harmless = status_of(&["x".to_owned()]);
        // HTML: the same tags, whatever the texts are.
        let page = status.to_html();
        let harmless_page = harmless.to_html();
        prop_assert_eq!(tags(&page), tags(&harmless_page));
        let is_plain = |text: &str| text.bytes().all(|octet| matches!(octet, b'\n' | b' '..=b'~'));
        prop_assert!(is_plain(&page));
        // JSON: what was meant is read back.
        let json = status.to_json().unwrap();
        prop_assert!(is_plain(&json));
        prop_assert_eq!(Status::from_json(json.as_bytes()), Ok(status.clone()));
        // Text: the same lines, and no command for a terminal but our own.
        let text = status.to_text(false);
        prop_assert!(is_plain(&text));
        prop_assert_eq!(text.lines().count(), harmless.to_text(false).lines().count());
        let escapes = |text: &str| text.matches('\u{1b}').count();
        prop_assert_eq!(escapes(&status.to_text(true)), escapes(&harmless.to_text(true)));
    }

    #[test]
    fn any_answer_is_read_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Status::from_json(&octets);
    }

    #[test]
    fn texts_are_bounded_and_stay_as_they_are_shown(text in any::<String>()) {
        let shown = Shown::from(text.as_str());
        prop_assert!(shown.as_str().len() <= 512);
        prop_assert_eq!(Shown::from(shown.as_str()), shown);
    }
}

#[test]
fn long_texts_are_cut() {
    for (length, shown) in [(511, 511), (512, 512), (513, 512)] {
        let text = Shown::from("x".repeat(length));
        assert_eq!(text.as_str().len(), shown);
        assert_eq!(text.as_str().ends_with("..."), length > 512);
    }
}

#[test]
fn the_hash_is_that_of_the_style() {
    let page = Status::default().to_html();
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
    assert_eq!(STYLE_HASH, format!("sha256-{hash}"));
    // Nothing else would be permitted by the policy.
    assert!(!page.contains(" style="));
}

/// A status as it might be.
fn usual() -> Status {
    let counts = |counts: &[(&str, u64)]| {
        Counts(counts.iter().map(|(name, count)| (Shown::from(*name), *count)).collect())
    };
    Status {
        version: "1.0.0".into(),
        time: "2026-11-27T09:30:00+01:00".into(),
        started: "2026-11-24T05:00:00+01:00".into(),
        uptime_secs: 3 * 86_400 + 4 * 3600 + 1800,
        warnings: vec!["dry_run is set: nothing is refused".into()],
        configuration: Configuration {
            file: "/etc/spf-milter.conf".into(),
            generation: 2,
            loaded: "2026-11-27T08:00:01+01:00".into(),
            dry_run: true,
            failed: None,
        },
        sockets: vec!["inet:127.0.0.1:8890".into(), "unix:/run/m".into()],
        connections: Connections { served: 12, limit: 1000 },
        dns: Dns {
            servers: vec![
                NameServer {
                    address: "192.0.2.53".into(),
                    answers: Some(true),
                    answered_secs: Some(2),
                },
                NameServer {
                    address: "192.0.2.54".into(),
                    answers: Some(false),
                    answered_secs: Some(300),
                },
            ],
            hits: 900,
            misses: 100,
            queries: 120,
            timeouts: 3,
            errors: 1,
        },
        messages: Messages {
            since: "2026-11-27T00:00:00+01:00".into(),
            total: 1234,
            verdicts: counts(&[("accept", 1200), ("tag", 0), ("reject", 34)]),
            refused: counts(&[("spf_mailfrom", 40), ("dmarc", 34)]),
            not_enforced: counts(&[]),
            methods: vec![Method {
                method: "spf_mailfrom".into(),
                count: 1274,
                p50_ms: Some(2.5),
                p99_ms: Some(2500.0),
            }],
        },
        status_refusals: 5,
        refusals: vec![Refusal {
            time: "2026-11-27T09:12:03+01:00".into(),
            reply: 550,
            reason: "dmarc".into(),
            domain: "example.com".into(),
            client: "192.0.2.1".into(),
            queue_id: "4XQ".into(),
        }],
    }
}

#[test]
fn the_text_has_the_figures() {
    assert_eq!(
        usual().to_text(false),
        "spf-milter 1.0.0 has been running for 3 days 4 hours, since 2026-11-24 05:00:00 +01:00
! dry_run is set: nothing is refused

Configuration  /etc/spf-milter.conf, generation 2, since 2026-11-27 08:00:01 +01:00
Sockets        inet:127.0.0.1:8890
               unix:/run/m
Connections    12 of 1000
Name servers   192.0.2.53               answers, last 2 seconds ago
               192.0.2.54               does not answer, last answer 5 minutes ago
Look-ups       1000, 90 % from the cache; 120 questions, 3 time-outs, 1 error

Messages since 2026-11-27 00:00:00 +01:00: 1234
  accept                     1200
  reject                       34

Refused, also before a message came
  spf_mailfrom                 40
  dmarc                        34

Time                       checks  half within  99 % within
  spf_mailfrom               1274       2.5 ms        2.5 s

Last refusals
  2026-11-27 09:12:03  550 dmarc              192.0.2.1  example.com  4XQ
"
    );
    assert!(
        usual().to_text(true).starts_with("\u{1b}[1mspf-milter 1.0.0\u{1b}[0m has been running")
    );
}

#[test]
fn the_page_has_the_figures() {
    let page = usual().to_html();
    for figure in [
        "1234",
        "1200",
        "spf_mailfrom",
        "192.0.2.54</b> does not answer, last answer 5 minutes ago",
        "12 of 1000",
        "<li>dry_run is set: nothing is refused</li>",
        "<span>example.com</span>",
        "<td>2.5 s</tr>",
        "<rect y=0 height=10 class=reject x=972 width=28 />",
    ] {
        assert!(page.contains(figure), "{figure}\n{page}");
    }
    // Without messages there are no shares.
    assert!(!Status::default().to_html().contains("<svg"));
}

#[test]
fn durations_are_read_easily() {
    for (seconds, words) in [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3599, "59 minutes"),
        (3600, "1 hour 0 minutes"),
        (86_399, "23 hours 59 minutes"),
        (86_400, "1 day 0 hours"),
        (90_000, "1 day 1 hour"),
    ] {
        assert_eq!(text::duration(seconds), words);
    }
}
