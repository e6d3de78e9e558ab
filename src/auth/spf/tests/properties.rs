//! Properties that hold for any zone.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

/// Names that terms point to and that have records: a graph with loops.
pub(super) const NAMES: [&str; 8] = [
    "example.com",
    "a.example",
    "b.example",
    "c.example",
    "d.example",
    "e.example",
    "sub.example.com",
    "gone.example",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
        1 => prop::sample::select(&["%{d}", "%{o}", "%{l}.example", "%{p}", "%{p}.example", "%{h}", "%{d1}.example", "%{i}.%{v}.x.example", "%{S}.%{d2r}.example", "a..example", "%{d99999}"][..]).prop_map(str::to_owned),
    ]
}

fn prefix() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["", "", "", "/24", "/0", "//0", "//64", "/30//126"][..])
}

fn term() -> impl Strategy<Value = String> {
    let qualifier = prop::sample::select(&["", "", "+", "-", "~", "?"][..]);
    let term = prop_oneof![
        6 => name().prop_map(|name| format!("include:{name}")),
        3 => (name(), prefix()).prop_map(|(name, prefix)| format!("a:{name}{prefix}")),
        4 => (name(), prefix()).prop_map(|(name, prefix)| format!("mx:{name}{prefix}")),
        1 => prefix().prop_map(|prefix| format!("a{prefix}")),
        1 => prefix().prop_map(|prefix| format!("mx{prefix}")),
        2 => name().prop_map(|name| format!("exists:{name}")),
        1 => name().prop_map(|name| format!("ptr:{name}")),
        1 => Just("ptr".to_owned()),
        1 => Just("ip4:203.0.113.0/24".to_owned()),
        1 => Just("ip4:192.0.2.1".to_owned()),
        1 => Just("ip6:2001:db8::/32".to_owned()),
        1 => Just("all".to_owned()),
    ];
    prop_oneof![
        40 => (qualifier, term).prop_map(|(qualifier, term)| format!("{qualifier}{term}")),
        4 => name().prop_map(|name| format!("redirect={name}")),
        4 => name().prop_map(|name| format!("exp={name}")),
        2 => prop::sample::select(&["x=y", "a=b", "mx=%{d}", "v=spf1"][..]).prop_map(str::to_owned),
        1 => prop::sample::select(&["moo", "ip4:", "a:/24", "%", "include:", "-", "all/3", "a=%{"][..]).prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
    ]
}

pub(super) fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(term(), 0..8).prop_map(|terms| format!("v=spf1 {}", terms.join(" ")).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|tail| [b"v=spf1 ".as_slice(), &tail].concat()),
    ]
}

/// Lines of a zone for one name.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Txt(Vec<u8>),
    A(u8),
    Mx(String),
    Ptr(String),
    Cname(String),
    Failure(&'static str),
}

pub(super) fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        4 => text().prop_map(Line::Txt),
        3 => any::<u8>().prop_map(Line::A),
        3 => name().prop_map(Line::Mx),
        1 => name().prop_map(Line::Ptr),
        1 => prop::sample::select(&NAMES[..]).prop_map(|name| Line::Cname(name.to_owned())),
        1 => prop::sample::select(&["* !timeout", "A !servfail", "TXT !refused", "MX !nodata", "A !nxdomain"][..]).prop_map(Line::Failure),
    ]
}

pub(super) fn build(lines: &[(usize, Line)], records: &[Vec<u8>]) -> Zone {
    let mut text = String::new();
    for (name, line) in lines {
        if let Line::Failure(failure) = line {
            text += &format!("{} {failure}\n", NAMES[*name]);
        }
    }
    let mut zone = Zone::parse(&text).unwrap();
    for (name, record) in NAMES.iter().zip(records) {
        zone.add_txt(name, record);
    }
    for (name, line) in lines {
        let name = NAMES[*name];
        match line {
            Line::Txt(text) => zone.add_txt(name, text),
            Line::A(octet) => {
                zone.add_a(name, [192, 0, 2, *octet % 4].into());
                zone.add_aaaa(
                    name,
                    std::net::Ipv6Addr::from(
                        0x2001_0db8_0000_0000_0000_0000_0000_0000 + u128::from(octet % 4),
                    ),
                );
            }
            Line::Mx(host) => zone.add_mx(name, 1, host),
            Line::Ptr(host) => {
                for client in ["192.0.2.1", "2001:db8::1"] {
                    zone.add_ptr(crate::dns::Name::reverse(client.parse().unwrap()).as_str(), host);
                }
            }
            Line::Cname(target) => zone.add_cname(name, target),
            Line::Failure(_) => {}
        }
    }
    zone
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, rng_seed: RngSeed::Fixed(7208), ..ProptestConfig::default() })]

    /// Any zone gives a result within the bounds; look-ups under way early change the time that
    /// takes, and nothing else.
    #[test]
    fn any_zone_ends_and_being_early_changes_nothing(
        records in prop::collection::vec(text(), 6),
        lines in prop::collection::vec((0..NAMES.len(), line()), 0..24),
        client in prop::sample::select(&["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"][..]),
        local_part in "(?s)(.{0,6}|[a-z.+-]{1,300})",
        helo in "(?s)(.{0,6}|mail[.]example)",
    ) {
        let sender = format!("{local_part}@example.com");
        let limits = Limits { timeout: Duration::from_secs(3_600), ..Limits::default() };
        let asked = Asked { helo: &helo, limits, ..Asked::new(client, &sender) };
        let zone = Arc::new(build(&lines, &records));
        let outcome = asked.of(&zone);
        prop_assert!(zone.queries() <= 123, "{} queries", zone.queries());
        prop_assert!(outcome.lookups <= 10 && outcome.void_lookups <= 3);
        let failed = matches!(outcome.result, Temperror | Permerror);
        prop_assert_eq!(failed, outcome.problem.is_some());
        prop_assert!(outcome.explanation.is_none() || outcome.result == Fail);
        prop_assert!(!failed || outcome.mechanism.is_none());
        prop_assert_eq!(outcome.policy_domain.is_some(), !failed && outcome.result != NoResult);

        let mut late = build(&lines, &records);
        late.latency = Duration::from_millis(3);
        let late = Arc::new(late);
        prop_assert_eq!(asked.of(&late), outcome);
        prop_assert!(late.queries() <= 132, "{} queries", late.queries());
    }

    /// Addresses of version 6 are read as everyone reads them.
    #[test]
    fn addresses_are_read_as_the_standard_library_does(
        text in prop_oneof!["[0-9a-f:.]{0,20}", "(([0-9a-f]{0,4}|192[.]0[.]2[.]1):){0,8}(:|[0-9a-f]{0,4}|[0-9]{1,3}[.]0[.]2[.]1)", "((1|ff):){0,7}:(:?(2|a)){0,7}"],
    ) {
        let expected = text.parse::<std::net::Ipv6Addr>();
        let client = expected.as_ref().map_or_else(|_| "::1".to_owned(), |address| address.to_string());
        let outcome = check_from(&client, &format!("example.com TXT \"v=spf1 ip6:{text} -all\""));
        let mapped = expected.as_ref().is_ok_and(|address| address.to_ipv4_mapped().is_some());
        prop_assert_eq!(outcome.result, if mapped { Fail } else if expected.is_ok() { Pass } else { Permerror });
    }

    /// Nor does anything in the arguments of the check.
    #[test]
    fn any_identity_ends(domain in "(?s).{0,40}", local_part in "(?s).{0,40}", helo in "(?s).{0,40}") {
        let zone = Zone::parse("*.example TXT \"v=spf1 exists:%{S}.%{h}.x.example -all exp=x.example\"\nx.example TXT \"%{s}%{o}%{h}%{L5r+}\"").unwrap();
        let domain_below = format!("{domain}.example");
        let mut trace = Trace::default();
        for domain in [&domain, &domain_below] {
            let query = Query { domain: domain.as_str().into(), local_part: &local_part, helo: &helo, ..Asked::new("192.0.2.1", "").query() };
            let outcome = run(check_query(&Dns::from_zone(Arc::new(build(&[], &[]))), &query, &Limits::default(), Some(&mut trace)));
            prop_assert_eq!(outcome.result, NoResult);
        }
        let query = Query { domain: "a.example".into(), local_part: &local_part, helo: &helo, ..Asked::new("192.0.2.1", "").query() };
        let outcome = run(check_query(&Dns::from_zone(Arc::new(zone)), &query, &Limits::default(), Some(&mut trace)));
        prop_assert_eq!(outcome.result, Fail);
        prop_assert!(outcome.explanation.is_none_or(|text| text.is_ascii()));
        let trace = trace.to_string();
        prop_assert!(trace.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
