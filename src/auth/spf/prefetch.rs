//! Look-ups under way before their turn comes.
//!
//! Terms are evaluated one after another, as RFC 7208 §4.6.2 says, but the look-ups of later terms need not wait for the earlier
//! ones. What is asked here is thrown away; the evaluation asks again when it gets there, and finds the answer in the cache or the
//! question still in flight. Limits are counted there alone, so that being early changes no result.

use std::{
    net::IpAddr,
    task::{Context, Poll},
};

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use viaspf::record::{DomainSpec, Mechanism, Modifier, SpfRecord, Term};

use super::{
    Query,
    expand::{Variables, expand_domain},
    mechanism::MAX_MX_HOSTS,
    names::{asks_for_names, matches_network, unusable},
    record::select,
};
use crate::dns::{Dns, Name, RecordType};

/// The look-ups under way.
pub(super) struct Prefetch {
    running: FuturesUnordered<BoxFuture<'static, Option<Found>>>,
    /// Terms that may still be asked for: what the check itself may ask for.
    budget: usize,
    /// The most terms of a check that ask DNS.
    max_lookups: usize,
}

/// A record that came early.
struct Found {
    domain: Name,
    record: SpfRecord,
    /// How many terms will have asked DNS before the record's first does, at least.
    before: usize,
}

impl Prefetch {
    pub(super) fn new(max_lookups: usize) -> Self {
        Self { running: FuturesUnordered::new(), budget: max_lookups, max_lookups }
    }

    /// Lets the look-ups under way make progress, and starts those of records that have come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, dns: &Dns, query: &Query<'_>, sender_domain: &str) {
        while !self.running.is_empty() {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(found))) => {
                    self.plan(dns, query, sender_domain, &found.domain, &found.record.terms, found.before);
                }
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Starts the look-ups that `terms` will need, as far as they are known now and the limits allow.
    ///
    /// `before` terms will have asked DNS by then; those that come after the limit are not asked for, nor is anything behind a
    /// term that certainly matches.
    pub(super) fn plan(
        &mut self,
        dns: &Dns,
        query: &Query<'_>,
        sender_domain: &str,
        domain: &Name,
        terms: &[Term],
        mut before: usize,
    ) {
        let client = query.client.to_canonical();
        let variables = Variables::new(query, sender_domain, domain.as_str());
        let target = |spec: Option<&DomainSpec>| match spec {
            None => Some(domain.clone()),
            Some(spec) if needs_lookup_or_is_unusable(spec, &variables) => None,
            Some(spec) => expand_domain(spec.as_ref(), &variables),
        };
        let mut redirect = None;
        for term in terms {
            if self.budget == 0 || before >= self.max_lookups {
                return;
            }
            let (target, kind) = match term {
                Term::Directive(directive) => match &directive.mechanism {
                    Mechanism::All => return,
                    Mechanism::Ip4(_) | Mechanism::Ip6(_) if matches_network(&directive.mechanism, client) => return,
                    Mechanism::Ip4(_) | Mechanism::Ip6(_) => continue,
                    Mechanism::Include(include) => (target(Some(&include.domain_spec)), Kind::Record),
                    Mechanism::A(a) => (target(a.domain_spec.as_ref()), Kind::Addresses),
                    Mechanism::Mx(mx) => (target(mx.domain_spec.as_ref()), Kind::Exchangers),
                    Mechanism::Ptr(_) => (Some(Name::reverse(client)), Kind::Names),
                    Mechanism::Exists(exists) => (target(Some(&exists.domain_spec)), Kind::Existence),
                },
                Term::Modifier(Modifier::Redirect(modifier)) => {
                    redirect = Some(modifier);
                    continue;
                }
                Term::Modifier(_) => continue,
            };
            before += 1;
            if let Some(target) = target {
                self.start(dns, target, kind, client, before);
            }
        }
        if let Some(redirect) = redirect
            && self.budget > 0
            && before < self.max_lookups
            && let Some(target) = target(Some(&redirect.domain_spec))
        {
            self.start(dns, target, Kind::Record, client, before + 1);
        }
    }

    fn start(&mut self, dns: &Dns, name: Name, kind: Kind, client: IpAddr, before: usize) {
        self.budget -= 1;
        let dns = dns.clone();
        let address_type = if client.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
        self.running.push(Box::pin(async move {
            let record_type = match kind {
                Kind::Record => {
                    let record = select(&dns.txt(&name).await.ok()?).ok()?;
                    return Some(Found { domain: name, record, before });
                }
                Kind::Exchangers => {
                    let exchangers = dns.mx(&name).await.ok()?;
                    if exchangers.len() <= MAX_MX_HOSTS {
                        let hosts = exchangers.iter().filter_map(|mx| mx.exchange.as_ref());
                        join_all(hosts.map(|host| dns.lookup(host, address_type))).await;
                    }
                    return None;
                }
                Kind::Addresses => address_type,
                Kind::Existence => RecordType::A,
                Kind::Names => RecordType::Ptr,
            };
            // The answer is in the cache now, which is all that is wanted of it.
            let _ = dns.lookup(&name, record_type).await;
            None
        }));
    }
}

/// What a term asks DNS for.
enum Kind {
    Record,
    Addresses,
    Exchangers,
    Names,
    Existence,
}

fn needs_lookup_or_is_unusable(spec: &DomainSpec, variables: &Variables<'_>) -> bool {
    unusable(spec, variables.local_part) || asks_for_names(spec.as_ref())
}
