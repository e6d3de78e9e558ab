//! The public SPF suites, evaluated directly; run with `make test CORPUS=DIR`.

use spf_milter::{
    auth::spf::{self, Limits, Outcome, Query},
    mail::envelope::ReversePath,
};
use testkit::corpus::{self, Case};

/// The identity that a receiver checks for a case: MAIL FROM, or `postmaster` at the HELO name.
async fn check(case: &Case) -> Outcome {
    let helo = case.text("helo").unwrap_or_default().to_owned();
    let (local_part, domain) =
        match ReversePath::parse(case.text("mailfrom").unwrap_or_default().as_bytes()) {
            ReversePath::Mailbox { local_part, domain } => (local_part, domain),
            ReversePath::Empty => ("postmaster".into(), helo.as_str().into()),
            ReversePath::Other(text) => ("postmaster".into(), text),
        };
    let query = Query {
        client: case.ip().expect("client address"),
        domain: (&*domain).into(),
        local_part: &local_part,
        helo: &helo,
        receiver: "receiver.example",
        timestamp: 0,
    };
    spf::check(&case.dns(), &query, &Limits::default(), None).await
}

/// Runs a suite; returns how many cases came out as expected, and the names of the others.
async fn run(set: &str, wanted: impl Fn(&Case) -> bool) -> (usize, Vec<String>) {
    let Some(directory) = corpus::directory() else { return (0, Vec::new()) };
    let (mut good, mut bad) = (0, Vec::new());
    for case in corpus::cases(&directory, set).into_iter().filter(wanted) {
        let expected = case.expected("spf");
        if expected.is_empty() {
            continue;
        }
        let outcome = check(&case).await;
        let explanation = match case.json.pointer("/expected/explanation").and_then(|e| e.as_str())
        {
            _ if outcome.result.as_str() != "fail" => true,
            Some("DEFAULT") => outcome.explanation.is_none(),
            Some(text) => outcome.explanation.as_deref() == Some(text),
            None => true,
        };
        if expected.iter().any(|e| e == outcome.result.as_str()) && explanation {
            good += 1;
        } else {
            println!(
                "{set} {}: expected {expected:?} {:?}",
                case.name,
                case.json.pointer("/expected/explanation")
            );
            println!(
                "    got {outcome:?}\n    oracle {} comment {}",
                case.json["oracle"], case.json["comment"]
            );
            bad.push(case.name.clone());
        }
    }
    println!("{set}: {good} as expected, {} not", bad.len());
    (good, bad)
}

/// The cases that come out otherwise on purpose, and why.
const DEVIATIONS: &[(&str, &[&str], &str)] = &[
    (
        "spf-openspf",
        &["pyspf/04/default-modifier-harsh"],
        "the modifier `default=` is from before RFC 4408",
    ),
    (
        "spf-mox",
        &["scenarios/17"],
        "a null MX (RFC 7505) is an exchanger that matches nothing, no error",
    ),
    (
        "spf-mox",
        &["scenarios/19"],
        "more than ten MX records are a permerror, whether or not one of the first matches",
    ),
    (
        "spf-mox",
        &["scenarios/28"],
        "more than one text where the explanation is: RFC 7208 section 6.2 says there is none",
    ),
    (
        "spf-blitiri",
        &[
            "yml/09/mx-resolution-10-terms",
            "yml/09/mx-resolution-11-terms",
            "yml/10/one-mx-not-found",
            "yml/10/redirect-not-found",
        ],
        "domains of a single label have no policy (RFC 7208 section 4.3)",
    ),
    ("spf-mailauth", &["all/01/1"], "an unknown mechanism is a syntax error"),
    ("spf-mailauth", &["basic/05/6"], "more than ten MX records"),
    ("spf-mailauth", &["exists/01/2"], "`exists` asks for A records alone (RFC 7208 section 5.7)"),
    (
        "spf-jspf",
        &[
            "mailzone/01/mailzone-#8",
            "mailzone/01/mailzone-#10",
            "mailzone/01/mailzone-#11",
            "mailzone/01/mailzone-#12",
            "mailzone/01/mailzone-#14",
            "mailzone/01/mailzone-#15",
            "mailzone/01/mailzone-#16",
            "mailzone/01/mailzone-#19",
            "mailzone/01/mailzone-#20",
            "mailzone/01/mailzone-#22",
            "mailzone/01/mailzone-#25",
            "mailzone/01/mailzone-#28",
            "mailzone/01/mailzone-#29",
            "mailzone/01/mailzone-#30",
            "mailzone/01/mailzone-#31",
            "mailzone/01/mailzone-#33",
            "mailzone/01/mailzone-#34",
            "mailzone/01/mailzone-#35",
        ],
        "more than ten MX records; the zone is from before there were limits",
    ),
    (
        "spf-jspf",
        &["tests/01/test-#2", "tests/01/test-#11", "tests/01/test-#15"],
        "the source's own default explanation",
    ),
    ("spf-jspf", &["tests/02/test-macrodata"], "the source's own host name"),
];

async fn run_suite(set: &str) {
    let (good, bad) = run(set, |_| true).await;
    if corpus::directory().is_some() {
        assert!(good > 0, "no case of {set} was run");
        let deviations: Vec<&str> = DEVIATIONS
            .iter()
            .filter(|(name, ..)| *name == set)
            .flat_map(|(_, cases, _)| cases.iter().copied())
            .collect();
        assert_eq!(bad, deviations, "{set}");
    }
}

macro_rules! suites {
    ($($name:ident $set:literal)*) => {
        $(#[tokio::test]
        async fn $name() {
            run_suite($set).await;
        })*
    };
}

suites! {
    openspf "spf-openspf"
    mox "spf-mox"
    blitiri "spf-blitiri"
    mailauth "spf-mailauth"
    jspf "spf-jspf"
    kumo "spf-kumo"
    bigsenders "spf-bigsenders"
}
