//! The field that is written reads back to its outcomes, for any message.

use std::{path::Path, sync::Arc};

use proptest::prelude::*;
use spf_milter::{
    config::{LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
    mail::auth_results::AuthenticationResults,
    observe::Observer,
    runtime::{Clock, Runtime},
    session::{Answer, Client, Edit, Granted, Session},
};
use testkit::auth_results;

const CONFIG: &str = "socket = unix:/nowhere
    hostname = mx.example.net
    trusted_networks =
    header = Authentication-Results
    verify_dkim = yes
    verify_dmarc = yes
    verify_iprev = yes
    reject_results =
    include_all_results = yes
";

const ZONE: &str = "
    mail.example.com TXT v=spf1 +all
    example.com TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.example.com TXT v=DMARC1; p=reject
    192.0.2.1 PTR mail.example.com
    mail.example.com A 192.0.2.1
";

fn connect() -> Session {
    let config = load_text(CONFIG.as_bytes(), Path::new("test"), &Overrides::default());
    let dns = Dns::from_zone(Arc::new(Zone::parse(ZONE).unwrap()));
    let mut runtime = Runtime::new(config.unwrap().config, dns, "localhost".into(), 0);
    runtime.clock = Clock::Fixed(1_800_000_000);
    let client = Client {
        address: Some("192.0.2.1".parse().unwrap()),
        port: 25,
        host: "client.example".into(),
    };
    let (session, answer) = Session::new(Arc::new(runtime), Granted::ALL, &client, None);
    assert_eq!(answer, Answer::proceed());
    session
}

/// Plays a message, and reads its results back; returns the lines of its log too.
fn play(
    reverse_path: &[u8],
    helo: &str,
    fields: &[(Vec<u8>, Vec<u8>)],
) -> (AuthenticationResults, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = connect();
        session.helo(helo).await;
        session.mail(reverse_path, false, None).await;
        for (name, value) in fields {
            session.header(name, value);
        }
        session.body(b"x\r\n");
        let Answer { edits, records, .. } = session.end_of_message(None).await;
        let Some(Edit::Insert { field, .. }) = edits.last() else { panic!("{edits:?}") };
        for line in field.value.split('\n') {
            assert!(
                line.len() <= 960 && line.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
                "{line:?}"
            );
        }
        assert!(field.value.split('\n').skip(1).all(|line| line.starts_with(' ')), "{field:?}");
        let log = Log::keep(LogLevel::Debug);
        let record = records.latest().unwrap();
        Observer::new(log.clone()).observe(record);
        let lines = log.take_kept();
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        let content = record.content.clone().unwrap();
        let read = auth_results::read(field.value.as_bytes()).unwrap();
        let written: Vec<_> = read
            .results
            .iter()
            .map(|result| format!("{}={}", result.method, result.result))
            .collect();
        let mut expected: Vec<_> = record
            .identities
            .iter()
            .map(|identity| format!("spf={}", identity.verified.outcome.result))
            .collect();
        let dkim = content.dkim.unwrap();
        expected.extend(dkim.iter().map(|signature| format!("dkim={}", signature.result())));
        if dkim.is_empty() {
            expected.push("dkim=none".into());
        }
        expected.push(format!("dmarc={}", content.dmarc.unwrap().result));
        expected.push(format!("iprev={}", content.iprev.unwrap().result));
        assert_eq!(written, expected, "{field:?}");
        (read, lines.join("\n"))
    })
}

fn field(name: &str, value: impl Into<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

#[test]
fn long_names() {
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let signature = |b: &str| {
        field(
            "DKIM-Signature",
            format!(" v=1; a=rsa-sha256; d={long}; s={label}.{label}; h=from; bh=AAAA; b={b}"),
        )
    };
    let data = "A".repeat(100_000);
    let fields = [signature(&data), signature(&data), field("From", format!(" a@{long}"))];
    let (results, log) = play(format!("<{}@{long}>", "l".repeat(5000)).as_bytes(), &long, &fields);
    let dmarc = results.results.iter().find(|result| result.method == "dmarc").unwrap();
    assert_eq!(dmarc.properties[0].value, long);
    assert!(log.lines().all(|line| line.len() < 4096), "{log}");
    // One MiB of From, and more than that.
    for (length, reason) in [(1_000_000, None), (1_100_000, Some("malformed From: no address"))] {
        let from = field("From", format!(" \"{}\" <a@example.com>", "x".repeat(length)));
        let (results, _) = play(b"<a@example.com>", "x", &[from]);
        let dmarc = results.results.iter().find(|result| result.method == "dmarc").unwrap();
        assert_eq!(dmarc.reason.as_deref(), reason);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tags(domain in "\\PC{0,40}", selector in "\\PC{0,40}", algorithm in "\\PC{0,20}", data in "\\PC{0,40}", from in "\\PC{0,60}") {
        let signature = format!(" v=1; a={algorithm}; d={domain}; s={selector}; h=from; bh=AAAA; b={data}");
        play(b"<a@example.com>", "mail.example.com", &[field("DKIM-Signature", signature), field("From", from)]);
    }

    #[test]
    fn any_octets(
        reverse_path in prop::collection::vec(1_u8.., 0..60),
        helo in "\\PC{0,60}",
        fields in prop::collection::vec(
            ("(DKIM-Signature|From|List-Id|Authentication-Results|X)", prop::collection::vec(1_u8.., 0..80)), 0..6
        ),
    ) {
        let fields: Vec<_> = fields.into_iter().map(|(name, value)| field(&name, value)).collect();
        play(&reverse_path, &helo, &fields);
    }
}
