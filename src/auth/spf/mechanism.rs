//! The mechanisms that ask DNS (RFC 7208 §5).

use futures_util::future::join_all;
use viaspf::record::{A, DomainSpec, Exists, Include, Mx, Ptr};

use super::{
    Problem,
    evaluate::{Evaluation, Stop},
    expand::{Variables, expand_domain},
    names::{Prefix, address_type, asks_for_names, host_matches, is_at_or_below, unusable, validate_names, validated_name},
};
use crate::dns::{Failure, Name, RecordType};

/// The most mail exchangers of an `mx` mechanism (RFC 7208 §4.6.4).
pub(super) const MAX_MX_HOSTS: usize = 10;

impl Evaluation<'_> {
    pub(super) fn include(&mut self, include: &Include) -> Result<Option<Name>, Stop> {
        self.count_lookup()?;
        if unusable(&include.domain_spec, self.query.local_part) {
            return Ok(None);
        }
        match self.target(Some(&include.domain_spec)) {
            Some(domain) => {
                self.tell(|| include.to_string());
                Ok(Some(domain))
            }
            None => Err(self.fail(Problem::NO_TARGET, format!("'{include}' leads to no domain name"))),
        }
    }

    pub(super) async fn a(&mut self, a: &A) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(a.domain_spec.as_ref()).await? else { return Ok(false) };
        let prefix = Prefix::new(a.prefix_len);
        let (dns, client, host) = (self.dns.clone(), self.client, name.clone());
        match self.wait(async move { host_matches(&dns, &host, client, prefix).await }).await {
            Ok(matched) => Ok(matched),
            Err(failure) => self.void_or_stop(failure, address_type(client), &name).map(|()| false),
        }
    }

    pub(super) async fn mx(&mut self, mx: &Mx) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(mx.domain_spec.as_ref()).await? else { return Ok(false) };
        let prefix = Prefix::new(mx.prefix_len);
        let (dns, domain) = (self.dns.clone(), name.clone());
        let exchangers = match self.wait(async move { dns.mx(&domain).await }).await {
            Ok(exchangers) => exchangers,
            Err(failure) => return self.void_or_stop(failure, RecordType::Mx, &name).map(|()| false),
        };
        if exchangers.len() > MAX_MX_HOSTS {
            return Err(self.fail(Problem::TOO_MANY_LOOKUPS, format!("more than {MAX_MX_HOSTS} MX records at {name}")));
        }
        let hosts: Vec<Name> = exchangers.iter().filter_map(|mx| mx.exchange.clone()).collect();
        let (dns, client, asked) = (self.dns.clone(), self.client, hosts.clone());
        let answers =
            self.wait(async move { join_all(asked.iter().map(|host| host_matches(&dns, host, client, prefix))).await }).await;
        if answers.contains(&Ok(true)) {
            return Ok(true);
        }
        // A term counts once as void, however many of its look-ups were (RFC 7208 §4.6.4 counts terms).
        let mut void = None;
        for (answer, host) in answers.into_iter().zip(&hosts) {
            match answer {
                Err(failure) if failure.is_void() => void = Some((failure, host)),
                Err(failure) => return Err(self.fail_temporarily(failure, address_type(client), host)),
                Ok(_) => {}
            }
        }
        match void {
            Some((failure, host)) => self.void_or_stop(failure, address_type(client), host).map(|()| false),
            None => Ok(false),
        }
    }

    pub(super) async fn ptr(&mut self, ptr: &Ptr) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(ptr.domain_spec.as_ref()).await? else { return Ok(false) };
        let (names, failure) = self.validate_names().await;
        let matched = names.iter().any(|known| is_at_or_below(known, &name));
        match failure {
            Some(failure) if failure.is_void() => self.count_void().map(|()| false),
            // RFC 7208 §5.5: an error while asking for the names is no match.
            _ => Ok(matched),
        }
    }

    pub(super) async fn exists(&mut self, exists: &Exists) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(Some(&exists.domain_spec)).await? else { return Ok(false) };
        let (dns, asked) = (self.dns.clone(), name.clone());
        // Always an A query, whatever the client's family (RFC 7208 §5.7).
        match self.wait(async move { dns.a(&asked).await }).await {
            Ok(_) => Ok(true),
            Err(failure) => self.void_or_stop(failure, RecordType::A, &name).map(|()| false),
        }
    }

    //--- What mechanisms share ---

    /// Counts the term and tells the name that it asks for; `None` where it can match nothing.
    async fn count_and_target(&mut self, spec: Option<&DomainSpec>) -> Result<Option<Name>, Stop> {
        self.count_lookup()?;
        if let Some(spec) = spec {
            if unusable(spec, self.query.local_part) {
                return Ok(None);
            }
            if asks_for_names(spec.as_ref()) {
                self.validate_names().await;
            }
        }
        Ok(self.target(spec))
    }

    pub(super) fn target(&self, spec: Option<&DomainSpec>) -> Option<Name> {
        let domain = &self.stack.last()?.domain;
        let Some(spec) = spec else { return Some(domain.clone()) };
        let mut variables = Variables::new(self.query, self.sender_domain.as_str(), domain.as_str());
        variables.validated = validated_name(self.validated.as_deref(), domain);
        expand_domain(spec.as_ref(), &variables)
    }

    /// The names of the client that lead back to it (RFC 7208 §5.5), asked for once in a check.
    async fn validate_names(&mut self) -> (Vec<Name>, Option<Failure>) {
        if let Some(names) = &self.validated {
            return (names.clone(), None);
        }
        let (dns, client) = (self.dns.clone(), self.client);
        let found = self.wait(async move { validate_names(&dns, client).await }).await;
        let (names, failure) = match found {
            Ok(names) => (names, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        self.validated = Some(names.clone());
        (names, failure)
    }
}
