//! The public SPF suites end to end: through the milter protocol, the daemon, and DNS on the wire;
//! run with `make test CORPUS=DIR`.

use std::net::SocketAddr;

use spf_milter::{
    auth::spf::{self, Limits, Query},
    dns::zone::Zone,
    mail::envelope::ReversePath,
};
use testkit::corpus::{self, Case};
use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Reply},
    nameserver::{Behaviour, NameServer},
};

/// The outcome of a case in a session with the milter: result, and explanation if there is one.
type Seen = (String, Option<String>);

fn config(nameserver: SocketAddr) -> String {
    format!(
        "nameservers = {nameserver}\ndns_cache_size = 0\ndns_timeout_secs = 1\ndns_attempts = 1\n\
         hostname = receiver.example\ntrusted_networks =\nverify_helo = no\nheader = Authentication-Results\n\
         reject_results = fail\nfail_reply_text = none published\nfail_reply_text_exp = explained: %{{exp}}\n"
    )
}

fn play(daemon: &Daemon, case: &Case) -> Seen {
    let mut client = MilterClient::connect_to(&daemon.sockets[0]).expect("connection");
    let address = SocketAddr::new(case.ip().expect("client address"), 25252);
    client.connect("client.example", Some(address)).expect("connect");
    client.helo(case.text("helo").unwrap_or_default()).expect("helo");
    let path = format!("<{}>", case.text("mailfrom").unwrap_or_default());
    let seen = match client.mail(&path).expect("mail") {
        Reply::Code(text) => {
            let explanation = text.strip_prefix("550 5.7.23 explained: ").map(str::to_owned);
            assert!(
                explanation.is_some() || text == "550 5.7.23 none published",
                "{}: {text}",
                case.name
            );
            ("fail".to_owned(), explanation)
        }
        Reply::Continue => {
            let finished =
                client.message(&[Field::parse("Subject: x")], b"x\r\n").expect("message");
            let field = finished
                .fields
                .first()
                .filter(|field| field.is("Authentication-Results"))
                .expect("results")
                .unfolded();
            let (_, rest) =
                field.split_once("; spf=").unwrap_or_else(|| panic!("{}: {field}", case.name));
            (rest.split([' ', ';']).next().unwrap_or_default().to_owned(), None)
        }
        other => panic!("{}: {other:?}", case.name),
    };
    client.quit().expect("quit");
    seen
}

/// The outcome of `spf::check` with the zone in memory.
async fn check(case: &Case) -> Seen {
    let helo = case.text("helo").unwrap_or_default().to_owned();
    let (local_part, domain) =
        match ReversePath::parse(case.text("mailfrom").unwrap_or_default().as_bytes()) {
            ReversePath::Mailbox { local_part, domain } => (local_part, domain),
            ReversePath::Empty => ("".into(), helo.as_str().into()),
            ReversePath::Other(text) => (text, "".into()),
        };
    let query = Query {
        client: case.ip().expect("client address"),
        domain: (&*domain).into(),
        local_part: &local_part,
        helo: &helo,
        receiver: "receiver.example",
        timestamp: 0,
    };
    let outcome = spf::check(&case.dns(), &query, &Limits::default(), None).await;
    (outcome.result.to_string(), outcome.explanation)
}

#[tokio::test]
async fn the_milter_finds_what_the_suites_expect() {
    let Some(directory) = corpus::directory() else { return };
    let nameserver = NameServer::start(Zone::new());
    nameserver.behave("*", Behaviour { texts_without_strings: true, ..Behaviour::default() });
    let daemon = Daemon::start(&config(nameserver.address()));
    let (mut played, mut failures) = (0, Vec::new());
    for set in [
        "spf-openspf",
        "spf-mox",
        "spf-blitiri",
        "spf-mailauth",
        "spf-jspf",
        "spf-kumo",
        "spf-bigsenders",
    ] {
        for case in corpus::cases(&directory, set) {
            let expected = case.expected("spf");
            if expected.is_empty() {
                continue;
            }
            nameserver.set_zone(case.zone());
            let direct = check(&case).await;
            let seen = play(&daemon, &case);
            // With the zone in memory the suites are checked case by case, deviations included;
            // here the way must add nothing.
            if seen != direct || case.name.starts_with("rfc7208/") && !expected.contains(&seen.0) {
                failures.push(format!(
                    "{set} {}: expected {expected:?}, directly {direct:?}, through the milter {seen:?}",
                    case.name
                ));
            }
            played += 1;
        }
    }
    println!("{played} cases through the milter");
    assert!(played > 0, "no case was played");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
