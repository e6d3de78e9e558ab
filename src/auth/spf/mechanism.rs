//! The mechanisms that ask DNS (RFC 7208 §5), in the record of a domain.

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use viaspf::record::{A, DomainSpec, Exists, Include, Mx, Ptr};

use super::{
    expand::{Variables, expand_domain},
    limits::MAX_MX_HOSTS,
    lookups::Lookups,
    names::{Prefix, any_matches, asks_for_names, is_at_or_below, unusable, validated_name},
    outcome::{Problem, ProblemKind},
    record::shorten,
};
use crate::dns::{Answer, Failure, Name, RecordType};

/// The domain whose record is to be evaluated; `None` where the term can match nothing.
pub(super) async fn include(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    include: &Include,
) -> Result<Option<Name>, Problem> {
    lookups.count()?;
    if unusable(&include.domain_spec, lookups.variables.local_part) {
        return Ok(None);
    }
    lookups.trace_counted(|| include.to_string());
    record_target(lookups, domain, &include.domain_spec).await?.map(Some).ok_or_else(|| {
        let detail = format!("'{}' leads to no domain name", shorten(include));
        lookups.fail(ProblemKind::NoTarget, detail)
    })
}

pub(super) async fn a(lookups: &mut Lookups<'_>, domain: &Name, a: &A) -> Result<bool, Problem> {
    let Some(name) = count_and_target(lookups, domain, a.domain_spec.as_ref()).await? else {
        return Ok(false);
    };
    let (client, record_type) = (lookups.client(), RecordType::of_address(lookups.client()));
    match lookups.lookup(&name, record_type).await {
        Ok(addresses) => {
            lookups.trace_answer(&name, &addresses);
            Ok(any_matches(&addresses, client, Prefix::new(a.prefix_len)))
        }
        Err(failure) => lookups.count_failure(failure, record_type, &name).map(|()| false),
    }
}

pub(super) async fn mx(lookups: &mut Lookups<'_>, domain: &Name, mx: &Mx) -> Result<bool, Problem> {
    let Some(name) = count_and_target(lookups, domain, mx.domain_spec.as_ref()).await? else {
        return Ok(false);
    };
    let answer = match lookups.lookup(&name, RecordType::Mx).await {
        Ok(answer) => answer,
        Err(failure) => {
            return lookups.count_failure(failure, RecordType::Mx, &name).map(|()| false);
        }
    };
    lookups.trace_answer(&name, &answer);
    let Answer::Mx(exchangers) = answer else {
        return Err(lookups.fail_lookup(Failure::Network, RecordType::Mx, &name));
    };
    if exchangers.len() > MAX_MX_HOSTS {
        let detail = format!("more than {MAX_MX_HOSTS} MX records at {name}");
        return Err(lookups.fail(ProblemKind::TooManyLookups, detail));
    }
    let hosts: Vec<&Name> = exchangers.iter().filter_map(|mx| mx.exchange.as_ref()).collect();
    mx_hosts(lookups, &hosts, Prefix::new(mx.prefix_len)).await
}

/// Whether one of the hosts has an address that matches; all are asked at once, and none is waited
/// for after a match.
async fn mx_hosts(
    lookups: &mut Lookups<'_>,
    hosts: &[&Name],
    prefix: Prefix,
) -> Result<bool, Problem> {
    let (client, record_type) = (lookups.client(), RecordType::of_address(lookups.client()));
    let mut answers = FuturesUnordered::new();
    for (position, &host) in hosts.iter().enumerate() {
        let lookup = lookups.start(host, record_type);
        answers.push(async move { (position, host, lookup.await) });
    }
    let (mut failures, mut found) = (Vec::new(), false);
    while let Some((position, host, answer)) = lookups.wait(answers.next()).await {
        lookups.forget_large(host, record_type, &answer);
        match answer {
            Ok(addresses) => {
                lookups.trace_answer(host, &addresses);
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
        return Err(lookups.fail_lookup(failure, record_type, host));
    }
    for (_, host, failure) in &failures {
        lookups.trace_failure(*failure, record_type, host);
    }
    // RFC 7208 §4.6.4 counts terms: one that found nothing at all, not each of its look-ups.
    if !found && !failures.is_empty() {
        lookups.count_void()?;
    }
    Ok(false)
}

pub(super) async fn ptr(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    ptr: &Ptr,
) -> Result<bool, Problem> {
    let Some(name) = count_and_target(lookups, domain, ptr.domain_spec.as_ref()).await? else {
        return Ok(false);
    };
    // RFC 7208 §5.5: an error while asking for the names is no match.
    if lookups.find_names().await.is_some_and(Failure::is_void) {
        lookups.count_void()?;
    }
    Ok(lookups.names.iter().flatten().any(|known| is_at_or_below(known, &name)))
}

pub(super) async fn exists(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    exists: &Exists,
) -> Result<bool, Problem> {
    let Some(name) = count_and_target(lookups, domain, Some(&exists.domain_spec)).await? else {
        return Ok(false);
    };
    // Always an A query, whatever the client's family (RFC 7208 §5.7).
    match lookups.lookup(&name, RecordType::A).await {
        Ok(addresses) => {
            lookups.trace_answer(&name, &addresses);
            Ok(true)
        }
        Err(failure) => lookups.count_failure(failure, RecordType::A, &name).map(|()| false),
    }
}

/// The name that the domain-spec of an `include` or `redirect` stands for: names of a single label
/// have no record (RFC 7208 §4.3).
pub(super) async fn record_target(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    spec: &DomainSpec,
) -> Result<Option<Name>, Problem> {
    Ok(target(lookups, domain, spec).await.filter(|name| name.as_str().contains('.')))
}

/// Counts a term and finds the name that it asks for; `None` where it can match nothing.
async fn count_and_target(
    lookups: &mut Lookups<'_>,
    domain: &Name,
    spec: Option<&DomainSpec>,
) -> Result<Option<Name>, Problem> {
    lookups.count()?;
    Ok(match spec {
        Some(spec) if unusable(spec, lookups.variables.local_part) => None,
        Some(spec) => target(lookups, domain, spec).await,
        None => Some(domain.clone()),
    })
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
