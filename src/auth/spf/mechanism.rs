//! The mechanisms (RFC 7208 §5), in the record of a domain.

use std::{fmt::Display, net::IpAddr};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use viaspf::record::{DomainSpec, Mechanism};

use super::{
    expand::{Variables, expand_domain},
    limits::MAX_MX_HOSTS,
    lookups::Lookups,
    names::{
        Prefix, any_matches, asks_for_names, is_at_or_below, matches_network, unusable,
        validated_name,
    },
    outcome::{Problem, ProblemKind},
    record::{mechanism_spec, shorten},
    trace::describe_answer,
};
use crate::dns::{Answer, Failure, Name, RecordType};

/// The result of a mechanism.
pub(super) enum Match {
    /// It matches or does not.
    Known(bool),
    /// It matches if the record of a domain gives pass.
    InRecord(Name),
}

/// Whether a mechanism that asks nothing of DNS matches.
pub(super) fn matches_client(mechanism: &Mechanism, client: IpAddr) -> bool {
    matches!(mechanism, Mechanism::All) || matches_network(mechanism, client)
}

/// Evaluates a mechanism that asks DNS.
pub(super) async fn evaluate(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    mechanism: &Mechanism,
) -> Result<Match, Problem> {
    let client = lookups.client();
    lookups.count()?;
    let spec = mechanism_spec(mechanism);
    if spec.is_some_and(|spec| unusable(spec, lookups.variables.local_part)) {
        return Ok(Match::Known(false));
    }
    if let Mechanism::Include(include) = mechanism {
        lookups.trace_counted(|| include.to_string());
        let domain = record_target(lookups, domain, &include.domain_spec, include).await?;
        return Ok(Match::InRecord(domain));
    }
    let name = match spec {
        Some(spec) => target(lookups, domain, spec).await,
        None => Some(domain.clone()),
    };
    let Some(name) = name else { return Ok(Match::Known(false)) };
    Ok(Match::Known(match mechanism {
        Mechanism::A(a) => {
            let found = lookups.find(&name, RecordType::of_address(client)).await?;
            found.is_some_and(|found| any_matches(&found, client, Prefix::new(a.prefix_len)))
        }
        Mechanism::Mx(mx) => match lookups.find(&name, RecordType::Mx).await? {
            Some(Answer::Mx(exchangers)) if exchangers.len() > MAX_MX_HOSTS => {
                let detail = format!("more than {MAX_MX_HOSTS} MX records at {name}");
                return Err(lookups.fail(ProblemKind::TooManyLookups, detail));
            }
            Some(Answer::Mx(exchangers)) => {
                let hosts = exchangers.iter().filter_map(|mx| mx.exchange.as_ref());
                mx_hosts(lookups, hosts, Prefix::new(mx.prefix_len)).await?
            }
            _ => false,
        },
        Mechanism::Ptr(_) => {
            // RFC 7208 §5.5: an error while asking for the names is not a match.
            if lookups.find_names().await.is_some_and(Failure::is_void) {
                lookups.count_void()?;
            }
            lookups.names.iter().flatten().any(|known| is_at_or_below(known, &name))
        }
        // Always an A query, also for a client with an IPv6 address (RFC 7208 §5.7).
        Mechanism::Exists(_) => lookups.find(&name, RecordType::A).await?.is_some(),
        Mechanism::Include(_) => false,
        Mechanism::All | Mechanism::Ip4(_) | Mechanism::Ip6(_) => matches_client(mechanism, client),
    }))
}

/// Whether a mechanism counts among those that ask DNS.
pub(super) fn asks_dns(mechanism: &Mechanism) -> bool {
    !matches!(mechanism, Mechanism::All | Mechanism::Ip4(_) | Mechanism::Ip6(_))
}

/// The domain that an `include` or `redirect` names; one of a single label has no record (RFC 7208
/// §4.3).
pub(super) async fn record_target(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    spec: &DomainSpec,
    term: impl Display,
) -> Result<Name, Problem> {
    let target = target(lookups, domain, spec).await.filter(|name| name.as_str().contains('.'));
    target.ok_or_else(|| {
        let detail = format!("'{}' leads to no domain name", shorten(term));
        lookups.fail(ProblemKind::NoTarget, detail)
    })
}

/// Whether one of the hosts has an address that matches. The look-ups run at the same time, and a
/// match ends the wait.
async fn mx_hosts(
    lookups: &mut Lookups<'_>,
    hosts: impl Iterator<Item = &Name>,
    prefix: Prefix,
) -> Result<bool, Problem> {
    let client = lookups.client();
    let kind = RecordType::of_address(client);
    let mut answers = FuturesUnordered::new();
    for (position, host) in hosts.enumerate() {
        let lookup = lookups.start(host, kind);
        answers.push(async move { (position, host, lookup.await) });
    }
    let (mut failures, mut found) = (Vec::new(), false);
    while let Some((position, host, answer)) = lookups.wait(answers.next()).await {
        lookups.forget_large(host, kind, &answer);
        match answer {
            Ok(addresses) => {
                lookups.trace_answer(host, kind, || describe_answer(host, &addresses));
                found = true;
                if any_matches(&addresses, client, prefix) {
                    return Ok(true);
                }
            }
            Err(failure) => failures.push((position, host, failure)),
        }
    }
    // In the order of the records, not in that of the answers.
    failures.sort_unstable_by_key(|(position, ..)| *position);
    let trouble = failures.iter().find(|(.., failure)| !failure.is_void()).copied();
    if let Some((_, host, failure)) = trouble {
        return Err(lookups.fail_lookup(host, kind, failure));
    }
    for (_, host, failure) in &failures {
        lookups.trace_failure(host, kind, *failure);
    }
    // RFC 7208 §4.6.4 counts terms that found nothing at all, not their look-ups.
    if !found && !failures.is_empty() {
        lookups.count_void()?;
    }
    Ok(false)
}

/// The name that a domain-spec stands for; asks for the client's names first where it needs them.
async fn target(lookups: &mut Lookups<'_>, domain: &Name, spec: &DomainSpec) -> Option<Name> {
    if asks_for_names(spec.as_ref()) {
        lookups.find_names().await;
    }
    let validated = validated_name(lookups.names.as_deref(), domain);
    let variables = Variables { validated, ..lookups.variables.of_record(domain) };
    expand_domain(spec.as_ref(), &variables)
}
