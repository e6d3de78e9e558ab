//! Sender domains whose records look like those of real ones, and what the name server is to say
//! about them.

use std::{net::Ipv4Addr, time::Duration};

use spf_milter::dns::zone::Zone;

use super::mta::{CLIENT, Sender};
use crate::nameserver::{Behaviour, NameServer};

/// Has a name server answer from a zone, so late, and for a day.
pub fn serve(nameserver: &NameServer, zone: Zone, latency: Duration) {
    nameserver.set_zone(zone);
    nameserver.behave("*", Behaviour { latency, ttl: 86400, ..Behaviour::default() });
}

/// Senders `{label}0.example` and so on: five kinds of domains, in turn.
pub fn senders(label: &str, count: usize) -> Vec<Sender> {
    (0..count)
        .map(|n| Sender {
            helo: format!("out.{label}{n}.example"),
            domain: format!("{label}{n}.example"),
        })
        .collect()
}

/// The records for senders of this label.
pub fn zone(label: &str, count: usize) -> Zone {
    zone_with(label, count, "")
}

/// The same, with a modifier that has a macro and no meaning, so that no outcome is kept: each
/// message costs what one of a client costs that was not here before.
pub fn zone_of_new_clients(label: &str, count: usize) -> Zone {
    zone_with(label, count, " x=%{i}")
}

fn zone_with(label: &str, count: usize, modifier: &str) -> Zone {
    let mut zone = Zone::new();
    for (n, sender) in senders(label, count).iter().enumerate() {
        add_sender(&mut zone, n % 5, sender, modifier);
    }
    zone
}

fn add_sender(zone: &mut Zone, kind: usize, Sender { helo, domain }: &Sender, modifier: &str) {
    let elsewhere = Ipv4Addr::new(198, 51, 100, 7);
    let mut record = |name: &str, text: &str| {
        let modifier = if text.starts_with("v=spf1 ") { modifier } else { "" };
        zone.add_txt(name, [text, modifier].concat().as_bytes());
    };
    record(domain, "google-site-verification=rXOxyZounnZasA8Z7oaD3c14JdjS9aKSWvsR1EbUSIQ");
    if kind != 1 {
        record(helo, "v=spf1 a -all");
    }
    match kind {
        // Two large senders, one of them split into lists.
        0 => {
            record(
                domain,
                &format!(
                    "v=spf1 ip4:198.51.100.0/24 include:_spf.{domain} include:_esp.{domain} -all"
                ),
            );
            record(&format!("_spf.{domain}"), &format!("v=spf1 include:_a.{domain} ~all"));
            record(&format!("_a.{domain}"), &networks("~all"));
            record(&format!("_esp.{domain}"), &networks("ip4:192.0.2.0/24 ~all"));
        }
        // Its own exchangers.
        1 => {
            record(domain, "v=spf1 mx ~all");
            zone.add_mx(domain, 10, &format!("mx1.{domain}"));
            zone.add_mx(domain, 20, helo);
            zone.add_a(&format!("mx1.{domain}"), elsewhere);
        }
        // Its own hosts, then a large sender.
        2 => {
            record(domain, &format!("v=spf1 a mx include:_spf.{domain} -all"));
            record(&format!("_spf.{domain}"), &networks("ip4:192.0.2.0/24 ~all"));
            zone.add_a(domain, elsewhere);
            zone.add_mx(domain, 10, &format!("mx1.{domain}"));
            zone.add_a(&format!("mx1.{domain}"), elsewhere);
        }
        // One network.
        3 => record(domain, "v=spf1 ip4:192.0.2.0/25 ip6:2001:db8::/48 -all"),
        // A policy kept elsewhere, in which the client is missing.
        _ => {
            record(domain, &format!("v=spf1 redirect=_policy.{domain}"));
            record(
                &format!("_policy.{domain}"),
                &format!("v=spf1 include:_a.{domain} include:_b.{domain} ~all"),
            );
            record(&format!("_a.{domain}"), &networks("~all"));
            record(&format!("_b.{domain}"), &networks("?all"));
        }
    }
    zone.add_a(helo, CLIENT);
}

/// A record of a large sender: a dozen networks, none of which has the client.
fn networks(end: &str) -> String {
    let list: String = (0..12).map(|n| format!("ip4:203.0.{}.0/2{} ", 100 + n, n % 5)).collect();
    format!("v=spf1 {list}ip6:2001:db8:4000::/36 {end}")
}

/// Trees of includes three levels deep, `tree0.example` and so on, in which the last address of the
/// last leaf is the client's: ten terms that ask DNS, as many as there may be. And as many
/// `flat0.example` and so on, which need one look-up.
pub fn trees(count: usize) -> Zone {
    let mut zone = Zone::new();
    zone.add_txt("out.helo.example", b"v=spf1 a -all");
    zone.add_a("out.helo.example", CLIENT);
    for n in 0..count {
        zone.add_txt(&format!("flat{n}.example"), b"v=spf1 ip4:192.0.2.0/24 -all");
        let root = format!("tree{n}.example");
        let mut record = |name: &str, text: &str| zone.add_txt(name, text.as_bytes());
        record(&root, &format!("v=spf1 include:a.{root} include:b.{root} -all"));
        for branch in ["a", "b"] {
            record(
                &format!("{branch}.{root}"),
                &format!("v=spf1 include:1.{branch}.{root} include:2.{branch}.{root} -all"),
            );
            for leaf in ["1", "2"] {
                record(
                    &format!("{leaf}.{branch}.{root}"),
                    &format!("v=spf1 a:host.{leaf}.{branch}.{root} -all"),
                );
            }
        }
        for leaf in ["1.a", "2.a", "1.b"] {
            zone.add_a(&format!("host.{leaf}.{root}"), Ipv4Addr::new(198, 51, 100, 7));
        }
        zone.add_a(&format!("host.2.b.{root}"), CLIENT);
    }
    zone
}
