//! The steps of the trace.

use super::*;

fn trace(asked: &Asked<'_>, text: &str) -> String {
    let dns = Dns::from_zone(zone(text));
    let mut trace = Trace::default();
    let outcome = run(check_query(&dns, &asked.query(), &asked.limits, Some(&mut trace)));
    assert_eq!(outcome, run(check_query(&dns, &asked.query(), &asked.limits, None)));
    trace.to_string()
}

#[test]
fn a_postmaster_can_follow() {
    let traced = trace(
        &Asked::new("192.0.2.1", "user@example.com"),
        r#"
        example.com TXT "v=spf1 a mx:m.example ip4:203.0.113.0/24 include:_spf.example.net ptr ?exists:%{l}.x.example -all exp=why.example.com"
        example.com TXT "other"
        example.com A 203.0.113.7
        m.example MX 10 mx1.example
        m.example MX 20 .
        mx1.example AAAA 2001:db8::1
        _spf.example.net TXT "v=spf1 include:_a.example.net redirect=_b.example.net"
        _a.example.net TXT "v=spf1"
        _b.example.net TXT "v=spf1 ~all"
        192.0.2.1 PTR host.example.org
        host.example.org A 192.0.2.1
        why.example.com TXT "no mail from %{c}"
        "#,
    );
    let expected = "\
example.com: record v=spf1 a mx:m.example ip4:203.0.113.0/24 include:_spf.example.net ptr ?exists:%{l}.x.example -all exp=why.example.com
example.com: A example.com: 203.0.113.7
example.com: a does not match (look-ups: 1 of 10, void: 0 of 2)
example.com: MX m.example: mx1.example, .
example.com: A mx1.example: no such records
example.com: mx:m.example does not match (look-ups: 2 of 10, void: 1 of 2)
example.com: ip4:203.0.113.0/24 does not match
example.com: include:_spf.example.net (look-ups: 3 of 10, void: 1 of 2)
  _spf.example.net: record v=spf1 include:_a.example.net redirect=_b.example.net
  _spf.example.net: include:_a.example.net (look-ups: 4 of 10, void: 1 of 2)
    _a.example.net: record v=spf1
    _a.example.net: no directive matches: neutral
  _spf.example.net: include:_a.example.net does not match, its record gives neutral
  _spf.example.net: redirect=_b.example.net (look-ups: 5 of 10, void: 1 of 2)
  _b.example.net: record v=spf1 ~all
  _b.example.net: ~all matches: softfail
example.com: include:_spf.example.net does not match, its record gives softfail
example.com: PTR 1.2.0.192.in-addr.arpa: host.example.org
example.com: names that lead back to the client: host.example.org
example.com: ptr does not match (look-ups: 6 of 10, void: 1 of 2)
example.com: A user.x.example: NXDOMAIN
example.com: ?exists:%{l}.x.example does not match (look-ups: 7 of 10, void: 2 of 2)
example.com: -all matches: fail
example.com: result fail
example.com: explanation: no mail from 192.0.2.1
";
    assert_eq!(traced, expected);
}

#[test]
fn problems_are_traced() {
    let traced = |record: &str, rest: &str| {
        trace(
            &Asked::new("192.0.2.1", "u@example.com"),
            &format!("example.com TXT \"{record}\"\n{rest}"),
        )
    };
    assert!(traced("v=spf1 include:n.example", "").ends_with(
        "  n.example: TXT n.example: NXDOMAIN\n  n.example: no SPF record at n.example\nexample.com: result permerror\n"
    ));
    assert!(
        traced("v=spf1 include:n.example", "n.example TXT \"v=spf1\"\nn.example TXT \"v=spf1 a\"")
            .contains("  n.example: TXT n.example: v=spf1 | v=spf1 a\n  n.example: more than one SPF record at n.example\n")
    );
    assert!(
        traced("v=spf1 include:n.example", "n.example TXT \"x\"")
            .contains("  n.example: TXT n.example: no SPF record, 1 other texts\n")
    );
    // A record that cannot be read is that of its domain, where an include or redirect leads to it.
    let bad = "n.example TXT \"v=spf1 foo -all\"\nm.example TXT \"v=spf1 redirect=n.example\"";
    let syntax = "n.example: syntax error in 'foo' in the SPF record of n.example\n";
    for (record, indent) in [
        ("v=spf1 include:n.example", "  "),
        ("v=spf1 redirect=n.example", ""),
        ("v=spf1 include:m.example", "  "),
        ("v=spf1 redirect=m.example", ""),
    ] {
        let expected = format!(
            "\n{indent}n.example: record v=spf1 foo -all\n{indent}{syntax}example.com: result permerror\n"
        );
        let traced = traced(record, bad);
        assert!(traced.ends_with(&expected), "{traced}");
    }
    // The limits end the check in a record that is deep in others.
    let traced_loop = traced("v=spf1 include:example.com", "");
    let end = "\nexample.com: result permerror\n";
    assert!(traced_loop.ends_with(end), "{traced_loop}");
    assert!(
        traced("v=spf1 mx", "example.com MX !timeout")
            .ends_with("MX example.com: timeout\nexample.com: result temperror\n")
    );
    assert!(
        traced("v=spf1 -all exp=x.example", "x.example TXT !refused")
            .ends_with("example.com: no explanation: TXT x.example: REFUSED\n")
    );
    // No text of DNS can break out of its line.
    let traced = traced("v=spf1 a:b\\010result.example\\027 -all", "");
    assert_eq!(traced.lines().count(), 3, "{traced}");
    assert!(traced.bytes().all(|b| b == b'\n' || !b.is_ascii_control()), "{traced}");
    assert_eq!(
        trace(&Asked::new("192.0.2.1", "u@localhost"), ""),
        "domain name of a single label: result none\n"
    );
}
