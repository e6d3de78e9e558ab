//! Look-ups under way before their turn comes.
//!
//! Terms are evaluated one after another, as RFC 7208 §4.6.2 says, but the look-ups of later terms
//! need not wait for the earlier ones. The evaluation finds the early look-ups here, by name and
//! type, and waits for them no longer than the rest of its time. Limits are counted in the
//! evaluation only, so that an early look-up changes no result.

use std::{
    collections::HashMap,
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
    record::{find, mechanism_spec},
};
use crate::dns::{Answer, Dns, Failure, Name, RecordType};

/// A look-up that several can wait for.
pub(super) type StartedLookup = Shared<BoxFuture<'static, Result<Answer, Failure>>>;

/// A question.
type Key = (Name, RecordType);

/// An early look-up: its question, its purpose and its answer.
type Early = (Key, Purpose, Result<Answer, Failure>);

/// The look-ups under way.
pub(super) struct Prefetch {
    /// Every look-up since the first that had to be waited for.
    started: HashMap<Key, StartedLookup>,
    /// Of these, the early ones whose turn has not come.
    unused: Vec<Key>,
    /// Early ones whose turn came.
    used: u64,
    /// Counts both at the end.
    dns: Option<Dns>,
    /// Drives the early ones.
    running: FuturesUnordered<BoxFuture<'static, Early>>,
    /// Terms that may still be asked for.
    terms: usize,
    /// Hosts of mail exchangers that may still be asked for.
    hosts: usize,
    /// The most terms of a check that ask DNS.
    max_lookups: usize,
}

/// The purpose of a look-up.
enum Purpose {
    /// The record of an include or redirect, and how many terms will have asked DNS before the
    /// record's first does, at least.
    Record(usize),
    /// The hosts of an `mx` mechanism.
    Exchangers,
    /// A match, nothing further.
    Match,
}

impl Prefetch {
    pub(super) fn new(max_lookups: usize) -> Self {
        Self {
            started: HashMap::new(),
            unused: Vec::new(),
            used: 0,
            dns: None,
            running: FuturesUnordered::new(),
            // The first term to ask is never early.
            terms: max_lookups.saturating_sub(1).min(MAX_EARLY_TERMS),
            hosts: MAX_MX_HOSTS,
            max_lookups,
        }
    }

    /// The look-up whose turn has come: the one under way where there is one, else a new one.
    pub(super) fn take_up(&mut self, dns: &Dns, name: &Name, kind: RecordType) -> StartedLookup {
        if let Some(place) =
            self.unused.iter().position(|(early, of_type)| early == name && *of_type == kind)
        {
            self.unused.swap_remove(place);
            self.used += 1;
        }
        self.begin(dns, name, kind)
    }

    fn begin(&mut self, dns: &Dns, name: &Name, kind: RecordType) -> StartedLookup {
        let lookup = self.started.entry((name.clone(), kind));
        let start = || {
            let (dns, name) = (dns.clone(), name.clone());
            async move { dns.lookup(&name, kind).await }.boxed().shared()
        };
        lookup.or_insert_with(start).clone()
    }

    /// Lets the look-ups under way make progress, and starts the ones that follow from their
    /// answers.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, dns: &Dns, variables: &Variables<'_>) {
        while let Poll::Ready(Some((key, purpose, answer))) = self.running.poll_next_unpin(cx) {
            self.forget_large(&key, &answer);
            match (answer, purpose) {
                (Ok(Answer::Txt(texts)), Purpose::Record(before)) => {
                    if let Ok(record) = find(&texts) {
                        self.plan(dns, variables, &key.0, record.terms.iter(), before);
                    }
                }
                (Ok(Answer::Mx(exchangers)), Purpose::Exchangers)
                    if exchangers.len() <= MAX_MX_HOSTS =>
                {
                    let address_type = RecordType::of_address(variables.client);
                    for host in exchangers.iter().filter_map(|mx| mx.exchange.clone()) {
                        if self.hosts > 0 && self.start(dns, (host, address_type), Purpose::Match) {
                            self.hosts -= 1;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Starts the look-ups that `terms` will need, as far as they are known now and the limits
    /// allow.
    ///
    /// `before` terms will have asked DNS by then. Nothing is asked for terms behind the limit, nor
    /// behind a term that certainly matches.
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
            // Neither for terms that match nothing nor for terms that need the client's names
            // first.
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
            let (kind, purpose) = match mechanism {
                Mechanism::All => return,
                Mechanism::Ip4(_) | Mechanism::Ip6(_) if matches_network(mechanism, client) => {
                    return;
                }
                Mechanism::Ip4(_) | Mechanism::Ip6(_) => continue,
                Mechanism::Include(_) => (RecordType::Txt, Purpose::Record(before + 1)),
                Mechanism::A(_) => (RecordType::of_address(client), Purpose::Match),
                Mechanism::Mx(_) => (RecordType::Mx, Purpose::Exchangers),
                Mechanism::Ptr(_) => (RecordType::Ptr, Purpose::Match),
                Mechanism::Exists(_) => (RecordType::A, Purpose::Match),
            };
            let name = match mechanism {
                Mechanism::Ptr(_) => Some(Name::reverse(client)),
                _ => target(mechanism_spec(mechanism)),
            };
            before += 1;
            self.start_term(dns, name, kind, purpose);
        }
        if let Some(redirect) = redirect.filter(|_| before < self.max_lookups) {
            let name = target(Some(&redirect.domain_spec));
            self.start_term(dns, name, RecordType::Txt, Purpose::Record(before + 1));
        }
    }

    fn start_term(&mut self, dns: &Dns, name: Option<Name>, kind: RecordType, purpose: Purpose) {
        if let Some(name) = name.filter(|_| self.terms > 0)
            && self.start(dns, (name, kind), purpose)
        {
            self.terms -= 1;
        }
    }

    /// Starts a look-up, unless it is under way; returns whether it was started.
    fn start(&mut self, dns: &Dns, key: Key, purpose: Purpose) -> bool {
        if self.started.contains_key(&key) {
            return false;
        }
        let lookup = self.begin(dns, &key.0, key.1);
        self.dns.get_or_insert_with(|| dns.clone());
        self.unused.push(key.clone());
        self.running.push(Box::pin(async move { (key, purpose, lookup.await) }));
        true
    }

    /// Lets go of an answer that has come, if it is large.
    pub(super) fn forget_large(&mut self, key: &Key, answer: &Result<Answer, Failure>) {
        if answer.as_ref().is_ok_and(|answer| answer.size() > MAX_KEPT_ANSWER) {
            self.started.remove(key);
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        if let Some(dns) = &self.dns {
            dns.prefetched(self.used, u64::try_from(self.unused.len()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
            prefetch.forget_large(&(name.clone(), RecordType::Txt), &Ok(answer));
            assert_eq!(prefetch.started.len(), usize::from(is_kept), "{size}");
        }
    }
}
