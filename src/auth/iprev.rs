//! The method iprev: whether the name of the client's address leads back to that address (RFC 8601
//! §3).
//!
//! The result says how well the client's network is kept. It authenticates no sender.

use std::{net::IpAddr, pin::pin};

use futures_util::StreamExt as _;

use super::reverse;
use crate::{
    dns::{Dns, Failure, Name},
    mail::results::words,
};

/// How many names are looked up at the same time.
const CONCURRENT_LOOKUPS: usize = 5;

words! {
    /// A result of iprev (RFC 8601 §2.7.3).
    IprevResult {
        /// A name of the address has that address.
        Pass = "pass",
        /// The address has names; none of them has the address.
        Fail = "fail",
        /// DNS trouble that may go away.
        Temperror = "temperror",
        /// The address has no name.
        Permerror = "permerror",
    }
}

/// The outcome of iprev.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The result.
    pub result: IprevResult,
    /// The client's address that was looked up.
    pub address: IpAddr,
    /// The confirmed name: with a pass, the first in the order of the answer that leads back;
    /// otherwise `None`.
    pub name: Option<Name>,
    /// The trouble behind a temperror; for a permerror, the answer that had no names.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// The outcome where the caller's time limit came first.
    pub fn out_of_time(address: IpAddr) -> Self {
        Self {
            result: IprevResult::Temperror,
            address,
            name: None,
            failure: Some(Failure::Timeout),
        }
    }
}

/// Looks up the names of an address, and of these the addresses of the same family.
///
/// One look-up and at most [`reverse::MAX_NAMES`] more, some of them at the same time. An
/// IPv4-mapped address must be given as the IPv4 address that it stands for. There is no time
/// limit: the caller sets one and drops the future.
pub async fn verify(dns: &Dns, address: IpAddr) -> Outcome {
    let outcome = |result, name, failure| Outcome { result, address, name, failure };
    let names = match dns.ptr(address).await {
        Ok(names) => names,
        Err(failure) if failure.is_void() => {
            return outcome(IprevResult::Permerror, None, Some(failure));
        }
        Err(failure) => return outcome(IprevResult::Temperror, None, Some(failure)),
    };
    // In the order of the answer, so that one answer always confirms the same name.
    let confirmations = reverse::confirmations(dns, address, &names, CONCURRENT_LOOKUPS, None);
    let mut confirmations = pin!(confirmations);
    let mut trouble = None;
    while let Some((name, confirmation)) = confirmations.next().await {
        match confirmation {
            Ok(true) => return outcome(IprevResult::Pass, Some(name), None),
            Ok(false) => {}
            Err(failure) => trouble = trouble.or(Some(failure)),
        }
    }
    match trouble {
        Some(failure) => outcome(IprevResult::Temperror, None, Some(failure)),
        None => outcome(IprevResult::Fail, None, None),
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, sync::Arc, time::Duration};

    use super::*;
    use crate::dns::zone::Zone;

    async fn verify_in(zone: &str, address: &str) -> (Outcome, usize) {
        let zone = Arc::new(Zone::parse(zone).unwrap());
        let outcome = verify(&Dns::from_zone(zone.clone()), address.parse().unwrap()).await;
        (outcome, zone.queries())
    }

    async fn result(zone: &str, address: &str) -> String {
        let (outcome, _) = verify_in(zone, address).await;
        let name = outcome.name.map(|name| format!(" {name}")).unwrap_or_default();
        let failure = outcome.failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
        format!("{}{name}{failure}", outcome.result)
    }

    #[tokio::test]
    async fn results() {
        let zone = "
            192.0.2.1 PTR mail.example.com
            mail.example.com A 192.0.2.1
            mail.example.com AAAA 2001:db8::1
            2001:db8::1 PTR mail.example.com
            192.0.2.2 PTR mail.example.com
            192.0.2.3 PTR none.example.com
            192.0.2.5 PTR six.example.com
            six.example.com AAAA 2001:db8::2
            192.0.2.6 PTR slow.example.com
            192.0.2.6 PTR mail.example.com
            slow.example.com A !timeout
            192.0.2.7 PTR slow.example.com
            192.0.2.7 PTR alias.example.com
            alias.example.com CNAME seven.example.com
            seven.example.com A 192.0.2.7
            192.0.2.8 PTR two..dots
            4.2.0.192.in-addr.arpa PTR !servfail
        ";
        for (address, expected) in [
            ("192.0.2.1", "pass mail.example.com"),
            ("2001:db8::1", "pass mail.example.com"),
            ("192.0.2.2", "fail"),
            ("192.0.2.3", "fail"),
            ("192.0.2.4", "temperror (SERVFAIL)"),
            ("192.0.2.5", "fail"),
            ("192.0.2.6", "temperror (timeout)"),
            ("192.0.2.7", "pass alias.example.com"),
            ("192.0.2.8", "permerror (no such records)"),
            ("192.0.2.9", "permerror (NXDOMAIN)"),
            ("2001:db8::2", "permerror (NXDOMAIN)"),
        ] {
            assert_eq!(result(zone, address).await, expected, "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_names_and_no_more() {
        let mut zone = String::new();
        for n in 1..=30 {
            let _ = writeln!(
                zone,
                "192.0.2.1 PTR m{n}.example.com\nm{n}.example.com A 192.0.2.{}",
                if n > 10 { 1 } else { 2 }
            );
        }
        let mut zone = Zone::parse(&zone).unwrap();
        zone.latency = Duration::from_secs(1);
        let zone = Arc::new(zone);
        let start = tokio::time::Instant::now();
        let outcome = verify(&Dns::from_zone(zone.clone()), "192.0.2.1".parse().unwrap()).await;
        assert_eq!(outcome.result, IprevResult::Fail);
        assert_eq!(zone.queries(), 11);
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn the_tenth_name_counts() {
        for (last, counts) in [(9, true), (10, true), (11, false)] {
            let mut zone = String::new();
            for n in 1..=last {
                let address = if n == last { 1 } else { 2 };
                let _ = writeln!(
                    zone,
                    "192.0.2.1 PTR m{n}.example.com\nm{n}.example.com A 192.0.2.{address}"
                );
            }
            let (outcome, _) = verify_in(&zone, "192.0.2.1").await;
            assert_eq!(
                outcome.name,
                Name::new(&format!("m{last}.example.com")).filter(|_| counts),
                "{last}"
            );
        }
    }
}
