//! SPF over any zone: it ends within its limits, what it says fits together, and time changes
//! nothing but the time.
//!
//! The first line is `CLIENT LOCAL-PART HELO`, the rest a zone; `example.com` is the domain.

use std::{net::IpAddr, sync::Arc, time::Duration};

use spf_milter::{
    auth::spf::{self, Limits, Outcome, Query, Trace},
    dns::{Dns, zone::Zone},
    mail::results::SpfResult,
};

pub(crate) fn check(octets: &[u8]) {
    let (line, rest) = super::first_line(octets);
    let mut words = line.split(' ');
    let client: IpAddr =
        words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| [192, 0, 2, 1].into());
    let (local_part, helo) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let lines = super::zone_lines(rest).join("\n");
    let limits = Limits { timeout: Duration::from_secs(3_600), ..Limits::default() };
    let query = Query {
        client,
        domain: "example.com".into(),
        local_part,
        helo,
        receiver: "mx.example",
        timestamp: 1_700_000_000,
    };
    let ask = |latency, trace: Option<&mut Trace>| {
        let mut zone = Zone::parse(&lines).unwrap();
        zone.latency = latency;
        let zone = Arc::new(zone);
        let dns = Dns::from_zone(Arc::clone(&zone));
        let outcome = super::block_on(spf::check(&dns, &query, &limits, trace));
        (outcome, zone.queries())
    };
    let (outcome, queries) = ask(Duration::ZERO, None);
    assert!(queries <= 123, "{queries} queries");
    is_legal(&outcome);
    let (late, queries) = ask(Duration::from_millis(3), None);
    assert_eq!(late, outcome);
    assert!(queries <= 132, "{queries} queries");
    let mut trace = Trace::default();
    let (traced, _) = ask(Duration::ZERO, Some(&mut trace));
    let trace = trace.to_string();
    assert!(trace.chars().all(|c| c == '\n' || !c.is_control()), "{trace:?}");
    assert_eq!(traced, outcome);
}

fn is_legal(outcome: &Outcome) {
    let Outcome {
        result,
        mechanism,
        policy_domain,
        problem,
        explanation,
        lookups,
        void_lookups,
        ..
    } = outcome;
    let failed = matches!(result, SpfResult::Temperror | SpfResult::Permerror);
    assert!(*lookups <= 10 && *void_lookups <= 3, "{outcome:?}");
    assert_eq!(failed, problem.is_some(), "{outcome:?}");
    assert!(explanation.is_none() || *result == SpfResult::Fail, "{outcome:?}");
    assert!(mechanism.is_none() || !failed && *result != SpfResult::None, "{outcome:?}");
    assert!(
        mechanism.is_some()
            || !matches!(result, SpfResult::Pass | SpfResult::Fail | SpfResult::Softfail),
        "{outcome:?}"
    );
    assert_eq!(policy_domain.is_some(), !failed && *result != SpfResult::None, "{outcome:?}");
    assert!(
        explanation.as_ref().is_none_or(|text| text.is_ascii() && text.len() <= 17 * 1024),
        "{outcome:?}"
    );
    if let Some(mechanism) = mechanism {
        super::assert_printable(mechanism);
    }
}
