//! The mechanisms that ask DNS (RFC 7208 §5).

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout_at;
use viaspf::record::{A, DomainSpec, Exists, Include, Mx, Ptr};

use super::{
    Problem,
    evaluate::{Evaluation, Stop},
    expand::{Variables, expand_domain},
    names::{
        Prefix, address_type, any_matches, asks_for_names, is_at_or_below, names_deadline,
        unusable, validate_names, validated_name,
    },
    record::shorten,
};
use crate::dns::{Answer, Failure, Name, RecordType};

/// The most mail exchangers of an `mx` mechanism (RFC 7208 §4.6.4).
pub(super) const MAX_MX_HOSTS: usize = 10;

impl Evaluation<'_> {
    /// The domain whose record is to be evaluated; `None` where the term can match nothing.
    pub(super) async fn include(&mut self, include: &Include) -> Result<Option<Name>, Stop> {
        self.count_lookup()?;
        if unusable(&include.domain_spec, self.query.local_part) {
            return Ok(None);
        }
        let counts = self.counts(true);
        self.tell(|| format!("{include}{counts}"));
        match self.record_target(&include.domain_spec).await? {
            Some(domain) => Ok(Some(domain)),
            None => Err(self.fail(
                Problem::NO_TARGET,
                format!("'{}' leads to no domain name", shorten(include)),
            )),
        }
    }

    pub(super) async fn a(&mut self, a: &A) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(a.domain_spec.as_ref()).await? else {
            return Ok(false);
        };
        let record_type = address_type(self.client);
        match self.lookup(&name, record_type).await {
            Ok(addresses) => {
                self.tell_answer(&name, &addresses);
                Ok(any_matches(&addresses, self.client, Prefix::new(a.prefix_len)))
            }
            Err(failure) => self.void_or_stop(failure, record_type, &name).map(|()| false),
        }
    }

    pub(super) async fn mx(&mut self, mx: &Mx) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(mx.domain_spec.as_ref()).await? else {
            return Ok(false);
        };
        let answer = match self.lookup(&name, RecordType::Mx).await {
            Ok(answer) => answer,
            Err(failure) => {
                return self.void_or_stop(failure, RecordType::Mx, &name).map(|()| false);
            }
        };
        self.tell_answer(&name, &answer);
        let Answer::Mx(exchangers) = answer else {
            return Err(self.fail_temporarily(Failure::Network, RecordType::Mx, &name));
        };
        if exchangers.len() > MAX_MX_HOSTS {
            return Err(self.fail(
                Problem::TOO_MANY_LOOKUPS,
                format!("more than {MAX_MX_HOSTS} MX records at {name}"),
            ));
        }
        let hosts: Vec<&Name> = exchangers.iter().filter_map(|mx| mx.exchange.as_ref()).collect();
        self.mx_hosts(&hosts, Prefix::new(mx.prefix_len)).await
    }

    /// Whether one of the hosts has an address that matches; all are asked at once, and none is
    /// waited for after a match.
    async fn mx_hosts(&mut self, hosts: &[&Name], prefix: Prefix) -> Result<bool, Stop> {
        let record_type = address_type(self.client);
        let mut lookups = FuturesUnordered::new();
        for (position, &host) in hosts.iter().enumerate() {
            let lookup = self.start_lookup(host, record_type);
            lookups.push(async move { (position, host, lookup.await) });
        }
        let (mut failures, mut found) = (Vec::new(), false);
        while let Some((position, host, answer)) = self.wait(lookups.next()).await {
            self.forget_large(host, record_type, &answer);
            match answer {
                Ok(addresses) => {
                    self.tell_answer(host, &addresses);
                    found = true;
                    if any_matches(&addresses, self.client, prefix) {
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
            return Err(self.fail_temporarily(failure, record_type, host));
        }
        for (_, host, failure) in &failures {
            self.tell_failure(*failure, record_type, host);
        }
        // RFC 7208 §4.6.4 counts terms: one that found nothing at all, not each of its look-ups.
        if !found && !failures.is_empty() {
            self.count_void()?;
        }
        Ok(false)
    }

    pub(super) async fn ptr(&mut self, ptr: &Ptr) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(ptr.domain_spec.as_ref()).await? else {
            return Ok(false);
        };
        // RFC 7208 §5.5: an error while asking for the names is no match.
        if self.ask_for_names().await.is_some_and(Failure::is_void) {
            self.count_void()?;
        }
        Ok(self.validated.iter().flatten().any(|known| is_at_or_below(known, &name)))
    }

    pub(super) async fn exists(&mut self, exists: &Exists) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(Some(&exists.domain_spec)).await? else {
            return Ok(false);
        };
        // Always an A query, whatever the client's family (RFC 7208 §5.7).
        match self.lookup(&name, RecordType::A).await {
            Ok(addresses) => {
                self.tell_answer(&name, &addresses);
                Ok(true)
            }
            Err(failure) => self.void_or_stop(failure, RecordType::A, &name).map(|()| false),
        }
    }

    //--- What mechanisms share ---

    /// Counts the term and tells the name that it asks for; `None` where it can match nothing.
    async fn count_and_target(&mut self, spec: Option<&DomainSpec>) -> Result<Option<Name>, Stop> {
        self.count_lookup()?;
        match spec {
            Some(spec) if unusable(spec, self.query.local_part) => Ok(None),
            Some(spec) => self.target(spec).await,
            None => self.domain().map(Some),
        }
    }

    /// The name that a domain-spec stands for; asks for the client's names first where it needs
    /// them.
    async fn target(&mut self, spec: &DomainSpec) -> Result<Option<Name>, Stop> {
        if asks_for_names(spec.as_ref()) {
            self.ask_for_names().await;
        }
        let domain = self.domain()?;
        let mut variables =
            Variables::new(self.query, self.sender_domain.as_str(), domain.as_str());
        variables.validated = validated_name(self.validated.as_deref(), &domain);
        Ok(expand_domain(spec.as_ref(), &variables))
    }

    /// The domain whose record is evaluated.
    fn domain(&mut self) -> Result<Name, Stop> {
        match self.stack.last() {
            Some(frame) => Ok(frame.domain.clone()),
            None => Err(self.fail_without_record()),
        }
    }

    /// As [`Self::target`], for a domain whose record is wanted: names of a single label have none
    /// (RFC 7208 §4.3).
    pub(super) async fn record_target(&mut self, spec: &DomainSpec) -> Result<Option<Name>, Stop> {
        Ok(self.target(spec).await?.filter(|name| name.as_str().contains('.')))
    }

    /// Finds the names of the client that lead back to it (RFC 7208 §5.5), once in a check; tells
    /// why there are none.
    ///
    /// A term that finds them out to be missing is void; those that come later ask nothing, and so
    /// are not.
    async fn ask_for_names(&mut self) -> Option<Failure> {
        if self.validated.is_some() {
            return None;
        }
        let (reverse, deadline) = (Name::reverse(self.client), names_deadline(self.end));
        let answer = timeout_at(deadline, self.lookup(&reverse, RecordType::Ptr)).await;
        let names = match answer.unwrap_or(Err(Failure::Timeout)) {
            Ok(Answer::Ptr(names)) => names,
            other => {
                self.validated = Some(Vec::new());
                let failure = other.err().unwrap_or(Failure::Network);
                self.tell_failure(failure, RecordType::Ptr, &reverse);
                return Some(failure);
            }
        };
        let validated = self.wait(validate_names(self.dns, self.client, &names, deadline)).await;
        self.tell_answer(&reverse, &Answer::Ptr(names));
        self.tell(|| match validated.as_slice() {
            [] => "no name of the client leads back to it".to_owned(),
            names => format!("names that lead back to the client: {}", list(names)),
        });
        self.validated = Some(validated);
        None
    }

    fn tell_answer(&mut self, name: &Name, answer: &Answer) {
        self.tell(|| match answer {
            Answer::A(found) => format!("A {name}: {}", list(found)),
            Answer::Aaaa(found) => format!("AAAA {name}: {}", list(found)),
            Answer::Ptr(found) => format!("PTR {name}: {}", list(found)),
            Answer::Txt(found) => format!("TXT {name}: {} texts", found.len()),
            Answer::Existence => format!("{name} exists"),
            Answer::Mx(found) => {
                let host = |mx: &crate::dns::Mx| {
                    mx.exchange.as_ref().map_or_else(|| ".".to_owned(), Name::to_string)
                };
                format!("MX {name}: {}", list(&found.iter().map(host).collect::<Vec<_>>()))
            }
        });
    }
}

/// The first few of many, for the trace.
fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let mut text = items.iter().take(MAX_LISTED).map(T::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", items.len() - MAX_LISTED));
    }
    text
}

/// The most records of an answer that the trace lists.
const MAX_LISTED: usize = 20;
