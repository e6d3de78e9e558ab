//! From the address of a client to the names of it that lead back, for iprev (RFC 8601 §3) and SPF
//! (RFC 7208 §5.5).

use std::net::IpAddr;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::dns::{Answer, Dns, Failure, Name, RecordType};

/// The most names of an address that are looked up; the rest are left out (RFC 7208 §4.6.4, RFC
/// 8601 §7.9).
pub(super) const MAX_NAMES: usize = 10;

/// Looks up the addresses of a client's names, in the family of its own address, so many names at
/// the same time: each name with whether it leads back, in the order in which they are given.
///
/// An IPv4-mapped address must be given as the IPv4 address that it stands for. A name without
/// addresses does not lead back, one that is silent until the deadline has timed out.
pub(super) fn confirmations<'a>(
    dns: &'a Dns,
    client: IpAddr,
    names: &'a [Name],
    concurrency: usize,
    deadline: Option<Instant>,
) -> impl Stream<Item = (Name, Result<bool, Failure>)> + use<'a> {
    stream::iter(names.iter().take(MAX_NAMES).cloned())
        .map(move |name| async move {
            let confirmation = leads_back(dns, &name, client, deadline).await;
            (name, confirmation)
        })
        .buffered(concurrency)
}

/// Finds the names of a client that lead back to it, as far as that is known by the deadline, with
/// all look-ups at the same time. A name whose addresses cannot be had is passed over (RFC 7208
/// §5.5).
pub(super) async fn confirmed_names(
    dns: &Dns,
    client: IpAddr,
    names: &[Name],
    deadline: Instant,
) -> Vec<Name> {
    confirmations(dns, client, names, MAX_NAMES, Some(deadline))
        .filter_map(
            |(name, confirmation)| async move { (confirmation == Ok(true)).then_some(name) },
        )
        .collect()
        .await
}

/// Looks up the names of a client, and finds those that lead back to it. There are none where the
/// look-up fails, or takes longer than until the deadline (RFC 7208 §7.3).
pub(super) async fn find_names(dns: &Dns, client: IpAddr, deadline: Instant) -> Vec<Name> {
    match timeout_at(deadline, dns.ptr(client)).await {
        Ok(Ok(names)) => confirmed_names(dns, client, &names, deadline).await,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

async fn leads_back(
    dns: &Dns,
    name: &Name,
    client: IpAddr,
    deadline: Option<Instant>,
) -> Result<bool, Failure> {
    let lookup = dns.lookup(name, RecordType::of_address(client));
    let found = match deadline {
        Some(deadline) => timeout_at(deadline, lookup).await.unwrap_or(Err(Failure::Timeout)),
        None => lookup.await,
    };
    match (found, client) {
        (Ok(Answer::A(addresses)), IpAddr::V4(client)) => Ok(addresses.contains(&client)),
        (Ok(Answer::Aaaa(addresses)), IpAddr::V6(client)) => Ok(addresses.contains(&client)),
        (Err(failure), _) if !failure.is_void() => Err(failure),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::dns::zone::Zone;

    /// Names that are known by the deadline count, in the order of the answer; silent ones and
    /// failures do not.
    #[tokio::test(start_paused = true)]
    async fn names_until_the_deadline() {
        let mut zone = Zone::parse(
            "192.0.2.1 PTR silent.example
            192.0.2.1 PTR b.example
            192.0.2.1 PTR broken.example
            192.0.2.1 PTR other.example
            192.0.2.1 PTR a.example
            silent.example A !silence
            a.example A 192.0.2.1
            b.example A 192.0.2.1
            broken.example A !servfail
            other.example A 192.0.2.2",
        )
        .unwrap();
        zone.latency = Duration::from_secs(1);
        let dns = Dns::from_zone(Arc::new(zone));
        // The names take a second, their addresses another one.
        for (millis, expected) in
            [(2500_u64, vec!["b.example", "a.example"]), (1500, vec![]), (500, vec![])]
        {
            let begin = Instant::now();
            let deadline = begin + Duration::from_millis(millis);
            let found = find_names(&dns, [192, 0, 2, 1].into(), deadline).await;
            assert_eq!(found.iter().map(Name::as_str).collect::<Vec<_>>(), expected, "{millis}");
            // The wheel of timers turns in milliseconds.
            assert!(
                (0..=2).contains(&(begin.elapsed().as_millis() - u128::from(millis))),
                "{millis}"
            );
        }
    }
}
