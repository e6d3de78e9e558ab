//! Look-ups under way before their turn comes.
//!
//! Terms are evaluated one after another, as RFC 7208 §4.6.2 says, but the look-ups of later terms
//! need not wait for the earlier ones. The evaluation finds here, by name and type, what was asked
//! early, and waits for it no longer than the rest of its time. Limits are counted in the
//! evaluation alone, so that being early changes no result.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use viaspf::record::{DomainSpec, Mechanism, Modifier, Term};

use super::{
    expand::{Variables, expand_domain},
    limits::{MAX_EARLY_TERMS, MAX_KEPT_ANSWER, MAX_MX_HOSTS},
    names::{asks_for_names, matches_network, unusable},
    record::{ParsedRecord, find},
};
use crate::dns::{Answer, Dns, Failure, Name, RecordType};

/// A look-up that several can wait for.
pub(super) type StartedLookup = Shared<BoxFuture<'static, Result<Answer, Failure>>>;

/// The look-ups under way.
pub(super) struct Prefetch {
    /// Every look-up since there was one to wait for.
    started: HashMap<(Name, RecordType), StartedLookup>,
    /// What drives them, and tells what to ask for next.
    running: FuturesUnordered<BoxFuture<'static, Arrived>>,
    /// Terms that may still be asked for.
    terms: usize,
    /// Hosts of mail exchangers that may still be asked for.
    hosts: usize,
    /// The most terms of a check that ask DNS.
    max_lookups: usize,
}

/// A look-up that came early.
struct Arrived {
    name: Name,
    record_type: RecordType,
    answer: Result<Answer, Failure>,
    found: Option<Found>,
}

/// What came early and asks for more.
enum Found {
    /// A record.
    Record {
        domain: Name,
        record: Arc<ParsedRecord>,
        /// How many terms will have asked DNS before the record's first does, at least.
        before: usize,
    },
    /// The hosts of an `mx` mechanism.
    Hosts(Vec<Name>),
}

/// What a look-up is for.
enum Purpose {
    /// The record of an include or redirect, and how many terms will have asked before its first.
    Record(usize),
    Exchangers,
    Other,
}

impl Prefetch {
    pub(super) fn new(max_lookups: usize) -> Self {
        Self {
            started: HashMap::new(),
            running: FuturesUnordered::new(),
            // The first term to ask is never early.
            terms: max_lookups.saturating_sub(1).min(MAX_EARLY_TERMS),
            hosts: MAX_MX_HOSTS,
            max_lookups,
        }
    }

    /// The look-up whose turn has come: the one under way where there is one, else a new one.
    pub(super) fn take_up(
        &mut self,
        dns: &Dns,
        name: &Name,
        record_type: RecordType,
    ) -> StartedLookup {
        let lookup = self.started.entry((name.clone(), record_type));
        lookup.or_insert_with(|| start(dns, name.clone(), record_type)).clone()
    }

    /// Lets the look-ups under way make progress, and starts those that follow from what has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, dns: &Dns, variables: &Variables<'_>) {
        while !self.running.is_empty() {
            let arrived = match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(arrived)) => arrived,
                Poll::Ready(None) | Poll::Pending => return,
            };
            self.forget_large(&arrived.name, arrived.record_type, &arrived.answer);
            match arrived.found {
                Some(Found::Record { domain, record, before }) => {
                    self.plan(dns, variables, &domain, record.terms.iter(), before);
                }
                Some(Found::Hosts(hosts)) => {
                    let address_type = RecordType::of_address(variables.client);
                    for host in hosts {
                        if self.hosts == 0 {
                            break;
                        }
                        if self.start(dns, host, address_type, Purpose::Other) {
                            self.hosts -= 1;
                        }
                    }
                }
                None => {}
            }
        }
    }

    /// Starts the look-ups that `terms` will need, as far as they are known now and the limits
    /// allow.
    ///
    /// `before` terms will have asked DNS by then; those that come after the limit are not asked
    /// for, nor is anything behind a term that certainly matches.
    pub(super) fn plan<'t>(
        &mut self,
        dns: &Dns,
        variables: &Variables<'_>,
        domain: &Name,
        terms: impl Iterator<Item = &'t Term>,
        mut before: usize,
    ) {
        let variables = variables.of_record(domain);
        let client = variables.client;
        let target = |spec: Option<&DomainSpec>| match spec {
            None => Some(domain.clone()),
            // Neither terms that match nothing nor those that need the client's names first.
            Some(spec) if unusable(spec, variables.local_part) || asks_for_names(spec.as_ref()) => {
                None
            }
            Some(spec) => expand_domain(spec.as_ref(), &variables),
        };
        let mut redirect = None;
        for term in terms {
            if self.terms == 0 || before >= self.max_lookups {
                return;
            }
            let mechanism = match term {
                Term::Directive(directive) => &directive.mechanism,
                Term::Modifier(Modifier::Redirect(modifier)) => {
                    redirect = Some(modifier);
                    continue;
                }
                Term::Modifier(_) => continue,
            };
            let (name, record_type, purpose) = match mechanism {
                Mechanism::All => return,
                Mechanism::Ip4(_) | Mechanism::Ip6(_) if matches_network(mechanism, client) => {
                    return;
                }
                Mechanism::Ip4(_) | Mechanism::Ip6(_) => continue,
                Mechanism::Include(include) => (
                    target(Some(&include.domain_spec)),
                    RecordType::Txt,
                    Purpose::Record(before + 1),
                ),
                Mechanism::A(a) => {
                    (target(a.domain_spec.as_ref()), RecordType::of_address(client), Purpose::Other)
                }
                Mechanism::Mx(mx) => {
                    (target(mx.domain_spec.as_ref()), RecordType::Mx, Purpose::Exchangers)
                }
                Mechanism::Ptr(_) => (Some(Name::reverse(client)), RecordType::Ptr, Purpose::Other),
                Mechanism::Exists(exists) => {
                    (target(Some(&exists.domain_spec)), RecordType::A, Purpose::Other)
                }
            };
            before += 1;
            self.start_term(dns, name, record_type, purpose);
        }
        if let Some(redirect) = redirect
            && self.terms > 0
            && before < self.max_lookups
        {
            self.start_term(
                dns,
                target(Some(&redirect.domain_spec)),
                RecordType::Txt,
                Purpose::Record(before + 1),
            );
        }
    }

    fn start_term(
        &mut self,
        dns: &Dns,
        name: Option<Name>,
        record_type: RecordType,
        purpose: Purpose,
    ) {
        if let Some(name) = name
            && self.start(dns, name, record_type, purpose)
        {
            self.terms -= 1;
        }
    }

    /// Starts a look-up, unless it is under way; tells whether it was started.
    fn start(&mut self, dns: &Dns, name: Name, record_type: RecordType, purpose: Purpose) -> bool {
        let key = (name, record_type);
        if self.started.contains_key(&key) {
            return false;
        }
        let domain = key.0.clone();
        let lookup = start(dns, domain.clone(), record_type);
        self.started.insert(key, lookup.clone());
        self.running.push(Box::pin(async move {
            let answer = lookup.await;
            let found = match (&answer, purpose) {
                (Ok(Answer::Txt(texts)), Purpose::Record(before)) => find(texts)
                    .ok()
                    .map(|record| Found::Record { domain: domain.clone(), record, before }),
                (Ok(Answer::Mx(exchangers)), Purpose::Exchangers)
                    if exchangers.len() <= MAX_MX_HOSTS =>
                {
                    Some(Found::Hosts(
                        exchangers.iter().filter_map(|mx| mx.exchange.clone()).collect(),
                    ))
                }
                _ => None,
            };
            Arrived { name: domain, record_type, answer, found }
        }));
        true
    }

    /// Lets go of an answer that has come, if it is large.
    pub(super) fn forget_large(
        &mut self,
        name: &Name,
        record_type: RecordType,
        answer: &Result<Answer, Failure>,
    ) {
        if answer.as_ref().is_ok_and(|answer| answer.size() > MAX_KEPT_ANSWER) {
            self.started.remove(&(name.clone(), record_type));
        }
    }
}

fn start(dns: &Dns, name: Name, record_type: RecordType) -> StartedLookup {
    let dns = dns.clone();
    async move { dns.lookup(&name, record_type).await }.boxed().shared()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::zone::Zone;

    #[test]
    fn answers_are_kept_up_to_the_bound() {
        let (dns, name) = (Dns::from_zone(Arc::new(Zone::new())), Name::new("a.example").unwrap());
        let answer = |length: usize| Answer::Txt([vec![b'x'; length].into()].into());
        for (size, is_kept) in [(1023, true), (1024, true), (1025, false)] {
            let answer = answer(size - answer(0).size());
            assert_eq!(answer.size(), size);
            let mut prefetch = Prefetch::new(10);
            drop(prefetch.take_up(&dns, &name, RecordType::Txt));
            prefetch.forget_large(&name, RecordType::Txt, &Ok(answer));
            assert_eq!(prefetch.started.len(), usize::from(is_kept), "{size}");
        }
    }
}
