//! The evaluation of records: a loop over a stack of records, never a recursion.

use std::{future::Future, net::IpAddr, pin::pin, sync::Arc, task::Poll};

use futures_util::future::join_all;
use viaspf::record::{
    A, DomainSpec, Exists, ExplainString, Include, MacroKind, Mechanism, Modifier, Mx, Ptr, Qualifier, SpfRecord, Term,
};

use super::{
    Limits, Outcome, Query,
    expand::{Variables, expand_domain, expand_explain_string},
    prefetch::Prefetch,
    record::{RecordError, macros, select},
    trace::{Step, Trace},
};
use crate::{
    dns::{Dns, Failure, Name, RecordType},
    mail::{domain::Domain, spf_result::SpfResult},
};

/// The most mail exchangers of an `mx` mechanism (RFC 7208 §4.6.4).
pub(super) const MAX_MX_HOSTS: usize = 10;

/// The names of an address that are looked at, others are ignored (RFC 7208 §4.6.4).
const MAX_PTR_NAMES: usize = 10;

/// A check under way.
pub(super) struct Evaluation<'a> {
    dns: &'a Dns,
    query: &'a Query<'a>,
    sender_domain: &'a Domain,
    client: IpAddr,
    limits: &'a Limits,
    stack: Vec<Frame>,
    /// The client's validated names, once they are known.
    validated: Option<Vec<Name>>,
    prefetch: Prefetch,
    wanted_explanation: Option<WantedExplanation>,
    outcome: Outcome,
}

/// A record that is being evaluated.
struct Frame {
    domain: Name,
    record: Arc<SpfRecord>,
    /// The next term.
    next: usize,
    /// The qualifier of the `include` in the record below that led here; `None` at the bottom.
    include: Option<Qualifier>,
    /// Whether the look-ups of later terms are under way.
    prefetched: bool,
}

/// Where the loop goes next.
enum Next {
    /// To the record of a domain.
    Enter { domain: Name, include: Option<Qualifier>, redirected: bool },
    /// To the next term of the record on top.
    Term,
    /// Out of the record on top.
    Leave(SpfResult),
    /// Out of all of them.
    Finish(SpfResult),
}

/// The result that ends the check at once.
struct Stop(SpfResult);

/// Where the explanation of a fail is to be found.
pub(super) struct WantedExplanation {
    name: Name,
    /// The domain whose record has the `exp` modifier.
    domain: Name,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        dns: &'a Dns,
        query: &'a Query<'a>,
        sender_domain: &'a Domain,
        limits: &'a Limits,
        trace: Option<Trace>,
    ) -> Self {
        Self {
            dns,
            query,
            sender_domain,
            client: query.client.to_canonical(),
            limits,
            stack: Vec::new(),
            validated: None,
            prefetch: Prefetch::new(limits.max_lookups),
            wanted_explanation: None,
            outcome: Outcome { trace, ..Outcome::without_record(SpfResult::None, None) },
        }
    }

    /// The outcome, given the result; none means that the time ran out.
    pub(super) fn into_outcome(mut self, result: Option<SpfResult>) -> (Outcome, Option<WantedExplanation>) {
        match result {
            Some(result) => {
                self.outcome.result = result;
                if matches!(result, SpfResult::Temperror | SpfResult::Permerror) {
                    self.outcome.mechanism = None;
                    self.outcome.policy_domain = None;
                }
            }
            None => {
                self.outcome = Outcome {
                    lookups: self.outcome.lookups,
                    void_lookups: self.outcome.void_lookups,
                    trace: self.outcome.trace.take(),
                    ..Outcome::without_record(
                        SpfResult::Temperror,
                        Some(format!("no result within {} seconds", self.limits.timeout.as_secs())),
                    )
                };
            }
        }
        let result = self.outcome.result;
        self.tell(|| format!("result {result}"));
        (self.outcome, self.wanted_explanation)
    }

    /// Evaluates to the end.
    pub(super) async fn run(&mut self) -> SpfResult {
        let mut next = Next::Enter { domain: Name::from(self.sender_domain), include: None, redirected: false };
        loop {
            next = match next {
                Next::Enter { domain, include, redirected } => self.enter(domain, include, redirected).await,
                Next::Term => self.evaluate_term().await.unwrap_or_else(|stop| Next::Finish(stop.0)),
                Next::Leave(result) => self.leave(result),
                Next::Finish(result) => return result,
            };
        }
    }

    /// Fetches the record of a domain (RFC 7208 §4.4, §4.5).
    async fn enter(&mut self, domain: Name, include: Option<Qualifier>, redirected: bool) -> Next {
        let dns = self.dns.clone();
        let name = domain.clone();
        let record = match self.wait(async move { dns.txt(&name).await }).await {
            Ok(texts) => select(&texts),
            Err(failure) if failure.is_void() => {
                if (include.is_some() || redirected)
                    && let Err(stop) = self.count_void()
                {
                    return Next::Finish(stop.0);
                }
                Err(RecordError::NotFound)
            }
            Err(failure) => return Next::Finish(self.fail_temporarily(failure, RecordType::Txt, &domain).0),
        };
        match record {
            Ok(record) => {
                self.stack.push(Frame { domain, record: Arc::new(record), next: 0, include, prefetched: false });
                self.tell_record();
                Next::Term
            }
            Err(RecordError::NotFound) if include.is_none() && !redirected => {
                self.outcome.problem = Some(format!("no SPF record at {domain}"));
                Next::Finish(SpfResult::None)
            }
            // RFC 7208 §5.2 and §6.1: whoever points to a record must point to one that is there.
            Err(RecordError::NotFound) => {
                Next::Finish(self.fail(format!("no SPF record at {domain}, which another refers to")).0)
            }
            Err(RecordError::Several) => Next::Finish(self.fail(format!("more than one SPF record at {domain}")).0),
            Err(RecordError::Syntax(problem)) => Next::Finish(self.fail(format!("{problem} in the SPF record of {domain}")).0),
        }
    }

    /// Evaluates the next term of the record on top (RFC 7208 §4.6.2).
    async fn evaluate_term(&mut self) -> Result<Next, Stop> {
        let Some(frame) = self.stack.last_mut() else { return Ok(Next::Finish(SpfResult::None)) };
        let record = Arc::clone(&frame.record);
        let Some(term) = record.terms.get(frame.next) else { return self.redirect(&record) };
        frame.next += 1;
        let Term::Directive(directive) = term else { return Ok(Next::Term) };
        let qualifier = directive.qualifier.unwrap_or(Qualifier::Pass);
        let matched = match &directive.mechanism {
            Mechanism::All => true,
            Mechanism::Include(include) => match self.include(include)? {
                Some(domain) => return Ok(Next::Enter { domain, include: Some(qualifier), redirected: false }),
                None => false,
            },
            Mechanism::A(a) => self.a(a).await?,
            Mechanism::Mx(mx) => self.mx(mx).await?,
            Mechanism::Ptr(ptr) => self.ptr(ptr).await?,
            mechanism @ (Mechanism::Ip4(_) | Mechanism::Ip6(_)) => matches_network(mechanism, self.client),
            Mechanism::Exists(exists) => self.exists(exists).await?,
        };
        self.tell(|| format!("{directive} {}", if matched { "matches" } else { "does not match" }));
        if !matched {
            return Ok(Next::Term);
        }
        self.outcome.mechanism = Some(directive.to_string());
        Ok(Next::Leave(result_of(qualifier)))
    }

    /// Goes to the record that a `redirect` modifier names, or ends without a match (RFC 7208 §4.7, §6.1).
    fn redirect(&mut self, record: &SpfRecord) -> Result<Next, Stop> {
        let redirect = record.modifiers().find_map(|modifier| match modifier {
            Modifier::Redirect(redirect) => Some(redirect),
            _ => None,
        });
        let Some(redirect) = redirect else {
            self.outcome.mechanism = None;
            self.tell(|| "no directive matches".to_owned());
            return Ok(Next::Leave(SpfResult::Neutral));
        };
        self.count_lookup()?;
        self.tell(|| redirect.to_string());
        let target = self.target(Some(&redirect.domain_spec));
        let frame = self.stack.pop();
        match target {
            Some(domain) => Ok(Next::Enter { domain, include: frame.and_then(|frame| frame.include), redirected: true }),
            None => Err(self.fail(format!("'{redirect}' leads to no domain name"))),
        }
    }

    /// Takes the result of the record on top to the one below, or ends (RFC 7208 §5.2).
    fn leave(&mut self, result: SpfResult) -> Next {
        let Some(frame) = self.stack.pop() else { return Next::Finish(result) };
        let Some(qualifier) = frame.include else {
            if result == SpfResult::Fail {
                self.want_explanation(&frame);
            }
            self.outcome.policy_domain = Some(frame.domain.to_string());
            return Next::Finish(result);
        };
        self.tell(|| format!("included record gives {result}"));
        self.outcome.mechanism = None;
        if result != SpfResult::Pass {
            return Next::Term;
        }
        // The term that led to the record is the one before the next.
        self.outcome.mechanism =
            self.stack.last().and_then(|frame| frame.record.terms.get(frame.next.checked_sub(1)?)).map(ToString::to_string);
        Next::Leave(result_of(qualifier))
    }

    fn want_explanation(&mut self, frame: &Frame) {
        let explanation = frame.record.modifiers().find_map(|modifier| match modifier {
            Modifier::Explanation(explanation) => Some(explanation),
            _ => None,
        });
        let Some(explanation) = explanation else { return };
        let spec = &explanation.domain_spec;
        let mut variables = Variables::new(self.query, self.sender_domain.as_str(), frame.domain.as_str());
        // An explanation is not worth look-ups for `%{p}`: the names are used where the check found them anyway.
        variables.validated = validated_name(self.validated.as_deref(), &frame.domain);
        if unusable(spec, variables.local_part) {
            return;
        }
        if let Some(name) = expand_domain(spec.as_ref(), &variables) {
            self.wanted_explanation = Some(WantedExplanation { name, domain: frame.domain.clone() });
        }
    }

    //--- Mechanisms (RFC 7208 §5) ---

    fn include(&mut self, include: &Include) -> Result<Option<Name>, Stop> {
        self.count_lookup()?;
        if unusable(&include.domain_spec, self.query.local_part) {
            return Ok(None);
        }
        match self.target(Some(&include.domain_spec)) {
            Some(domain) => {
                self.tell(|| include.to_string());
                Ok(Some(domain))
            }
            None => Err(self.fail(format!("'{include}' leads to no domain name"))),
        }
    }

    async fn a(&mut self, a: &A) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(a.domain_spec.as_ref()).await? else { return Ok(false) };
        let (len4, len6) = a.prefix_len.map_or((None, None), |len| (len.ip4(), len.ip6()));
        let prefix = Prefix { len4: len4.map_or(32, |len| len.get()), len6: len6.map_or(128, |len| len.get()) };
        let (dns, client, host) = (self.dns.clone(), self.client, name.clone());
        match self.wait(async move { host_matches(&dns, &host, client, prefix).await }).await {
            Ok(matched) => Ok(matched),
            Err(failure) => self.void_or_stop(failure, address_type(client), &name).map(|()| false),
        }
    }

    async fn mx(&mut self, mx: &Mx) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(mx.domain_spec.as_ref()).await? else { return Ok(false) };
        let (len4, len6) = mx.prefix_len.map_or((None, None), |len| (len.ip4(), len.ip6()));
        let prefix = Prefix { len4: len4.map_or(32, |len| len.get()), len6: len6.map_or(128, |len| len.get()) };
        let (dns, domain) = (self.dns.clone(), name.clone());
        let exchangers = match self.wait(async move { dns.mx(&domain).await }).await {
            Ok(exchangers) => exchangers,
            Err(failure) => return self.void_or_stop(failure, RecordType::Mx, &name).map(|()| false),
        };
        if exchangers.len() > MAX_MX_HOSTS {
            return Err(self.fail(format!("more than {MAX_MX_HOSTS} MX records at {name}")));
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

    async fn ptr(&mut self, ptr: &Ptr) -> Result<bool, Stop> {
        let Some(name) = self.count_and_target(ptr.domain_spec.as_ref()).await? else { return Ok(false) };
        let (names, failure) = self.validate_names().await;
        let matched = names.iter().any(|known| is_at_or_below(known, &name));
        match failure {
            Some(failure) if failure.is_void() => self.count_void().map(|()| false),
            // RFC 7208 §5.5: an error while asking for the names is no match.
            _ => Ok(matched),
        }
    }

    async fn exists(&mut self, exists: &Exists) -> Result<bool, Stop> {
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
            if macros(spec.as_ref()).any(|m| m.kind() == MacroKind::ValidatedDomain) {
                self.validate_names().await;
            }
        }
        Ok(self.target(spec))
    }

    fn target(&self, spec: Option<&DomainSpec>) -> Option<Name> {
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

    /// Awaits a look-up. When that takes a while, the look-ups of later terms are under way in the meantime.
    async fn wait<F: Future>(&mut self, lookup: F) -> F::Output {
        let mut lookup = pin!(lookup);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = lookup.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let (dns, query, sender_domain) = (self.dns, self.query, self.sender_domain.as_str());
            for frame in self.stack.iter_mut().rev().filter(|frame| !frame.prefetched) {
                frame.prefetched = true;
                let later = frame.record.terms.get(frame.next..).unwrap_or_default();
                self.prefetch.plan(dns, query, sender_domain, &frame.domain, later, self.outcome.lookups);
            }
            self.prefetch.poll(cx, dns, query, sender_domain);
            Poll::Pending
        })
        .await
    }

    //--- Limits and problems ---

    fn count_lookup(&mut self) -> Result<(), Stop> {
        if self.outcome.lookups >= self.limits.max_lookups {
            return Err(self.fail(format!("more than {} DNS look-ups", self.limits.max_lookups)));
        }
        self.outcome.lookups += 1;
        Ok(())
    }

    fn count_void(&mut self) -> Result<(), Stop> {
        self.outcome.void_lookups += 1;
        if self.outcome.void_lookups > self.limits.max_void_lookups {
            return Err(self.fail(format!("more than {} void DNS look-ups", self.limits.max_void_lookups)));
        }
        Ok(())
    }

    fn void_or_stop(&mut self, failure: Failure, record_type: RecordType, name: &Name) -> Result<(), Stop> {
        if failure.is_void() {
            self.tell(|| format!("{failure} for {record_type:?} of {name}"));
            self.count_void()
        } else {
            Err(self.fail_temporarily(failure, record_type, name))
        }
    }

    fn fail(&mut self, problem: String) -> Stop {
        self.tell(|| problem.clone());
        self.outcome.problem = Some(problem);
        Stop(SpfResult::Permerror)
    }

    fn fail_temporarily(&mut self, failure: Failure, record_type: RecordType, name: &Name) -> Stop {
        let record_type = format!("{record_type:?}").to_ascii_uppercase();
        let problem = format!("DNS look-up of {record_type} {name} failed: {failure}");
        self.tell(|| problem.clone());
        self.outcome.problem = Some(problem);
        Stop(SpfResult::Temperror)
    }

    //--- Trace ---

    fn tell(&mut self, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.outcome.trace {
            let domain = self.stack.last().map_or_else(|| self.sender_domain.to_string(), |frame| frame.domain.to_string());
            trace.steps.push(Step { depth: self.stack.len().saturating_sub(1), domain, event: event() });
        }
    }

    fn tell_record(&mut self) {
        if let Some(text) = self.stack.last().map(|frame| Arc::clone(&frame.record)) {
            self.tell(|| text.to_string());
        }
    }
}

impl WantedExplanation {
    /// Fetches and expands the explanation; any trouble means that there is none (RFC 7208 §6.2).
    pub(super) async fn fetch(self, dns: &Dns, query: &Query<'_>, sender_domain: &Domain) -> Option<String> {
        let texts = dns.txt(&self.name).await.ok()?;
        let [text] = &*texts else { return None };
        let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
        let string: ExplainString = super::record::cap_digits(text).parse().ok()?;
        let variables = Variables::new(query, sender_domain.as_str(), self.domain.as_str());
        Some(expand_explain_string(&string, &variables)).filter(|text| text.is_ascii() && !text.is_empty())
    }
}

/// The prefix lengths of a mechanism.
#[derive(Clone, Copy)]
struct Prefix {
    len4: u8,
    len6: u8,
}

fn result_of(qualifier: Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::Softfail => SpfResult::Softfail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}

fn address_type(client: IpAddr) -> RecordType {
    if client.is_ipv4() { RecordType::A } else { RecordType::Aaaa }
}

/// Whether an `ip4` or `ip6` mechanism has the client.
pub(super) fn matches_network(mechanism: &Mechanism, client: IpAddr) -> bool {
    match mechanism {
        Mechanism::Ip4(ip4) => same_network(ip4.addr.into(), client, ip4.prefix_len.map_or(32, |len| len.get())),
        Mechanism::Ip6(ip6) => same_network(ip6.addr.into(), client, ip6.prefix_len.map_or(128, |len| len.get())),
        _ => false,
    }
}

/// Whether two addresses of one family have their first `len` bits in common.
fn same_network(a: IpAddr, b: IpAddr, len: u8) -> bool {
    let len = u32::from(len);
    match (a, b) {
        // A shift by all bits means that none need be the same.
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(32 - len.min(32)).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(128 - len.min(128)).unwrap_or(0) == 0,
        _ => false,
    }
}

async fn host_matches(dns: &Dns, host: &Name, client: IpAddr, prefix: Prefix) -> Result<bool, Failure> {
    Ok(match client {
        IpAddr::V4(_) => dns.a(host).await?.iter().any(|&address| same_network(address.into(), client, prefix.len4)),
        IpAddr::V6(_) => dns.aaaa(host).await?.iter().any(|&address| same_network(address.into(), client, prefix.len6)),
    })
}

async fn validate_names(dns: &Dns, client: IpAddr) -> Result<Vec<Name>, Failure> {
    let names = dns.ptr(client).await?;
    let names: Vec<&Name> = names.iter().take(MAX_PTR_NAMES).collect();
    let whole = Prefix { len4: 32, len6: 128 };
    let validated = join_all(names.iter().map(|name| host_matches(dns, name, client, whole))).await;
    // A name whose addresses cannot be had is passed over (RFC 7208 §5.5).
    Ok(names.into_iter().zip(validated).filter(|(_, valid)| *valid == Ok(true)).map(|(name, _)| name.clone()).collect())
}

/// The name for `%{p}`: the domain itself, else one below it, else any (RFC 7208 §7.3).
fn validated_name<'a>(names: Option<&'a [Name]>, domain: &Name) -> Option<&'a str> {
    let names = names?;
    names
        .iter()
        .find(|name| *name == domain)
        .or_else(|| names.iter().find(|name| is_at_or_below(name, domain)))
        .or_else(|| names.first())
        .map(Name::as_str)
}

fn is_at_or_below(name: &Name, domain: &Name) -> bool {
    name.as_str().strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a domain-spec needs a local-part that DNS cannot be asked for: its term matches nothing (RFC 8616 §4).
pub(super) fn unusable(spec: &DomainSpec, local_part: &str) -> bool {
    !local_part.is_ascii() && macros(spec.as_ref()).any(|m| matches!(m.kind(), MacroKind::Sender | MacroKind::LocalPart))
}
