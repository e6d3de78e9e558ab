//! The evaluation of records: a loop over a stack of records, never a recursion.

use std::{future::Future, net::IpAddr, pin::pin, sync::Arc, task::Poll};

use viaspf::record::{Mechanism, Modifier, Qualifier, SpfRecord, Term};

use super::{
    Limits, Outcome, Problem, Query,
    explanation::WantedExplanation,
    names::matches_network,
    prefetch::Prefetch,
    record::{RecordError, select},
    trace::{Step, Trace},
};
use crate::{
    dns::{Dns, Failure, Name, RecordType},
    mail::{domain::Domain, spf_result::SpfResult},
};

/// A check under way.
pub(super) struct Evaluation<'a> {
    pub(super) dns: &'a Dns,
    pub(super) query: &'a Query<'a>,
    pub(super) sender_domain: &'a Domain,
    pub(super) client: IpAddr,
    pub(super) limits: &'a Limits,
    pub(super) stack: Vec<Frame>,
    /// The client's validated names, once they are known.
    pub(super) validated: Option<Vec<Name>>,
    pub(super) prefetch: Prefetch,
    pub(super) wanted_explanation: Option<WantedExplanation>,
    pub(super) outcome: Outcome,
}

/// A record that is being evaluated.
pub(super) struct Frame {
    pub(super) domain: Name,
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
pub(super) struct Stop(pub(super) SpfResult);

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
                        Some(Problem {
                            reason: Problem::TIMEOUT,
                            detail: format!("no result within {} seconds", self.limits.timeout.as_secs()),
                        }),
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
                self.tell(|| "no SPF record".to_owned());
                Next::Finish(SpfResult::None)
            }
            // RFC 7208 §5.2 and §6.1: whoever points to a record must point to one that is there.
            Err(RecordError::NotFound) => Next::Finish(self.fail(Problem::NO_TARGET, format!("no SPF record at {domain}")).0),
            Err(RecordError::Several) => {
                Next::Finish(self.fail(Problem::SEVERAL_RECORDS, format!("more than one SPF record at {domain}")).0)
            }
            Err(RecordError::Syntax(problem)) => {
                Next::Finish(self.fail(Problem::INVALID_RECORD, format!("{problem} in the SPF record of {domain}")).0)
            }
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
        self.outcome.mechanism = Some(directive.mechanism.to_string());
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
            None => Err(self.fail(Problem::NO_TARGET, format!("'{redirect}' leads to no domain name"))),
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
        self.outcome.mechanism = self.stack.last().and_then(|frame| match frame.record.terms.get(frame.next.checked_sub(1)?) {
            Some(Term::Directive(directive)) => Some(directive.mechanism.to_string()),
            _ => None,
        });
        Next::Leave(result_of(qualifier))
    }

    fn want_explanation(&mut self, frame: &Frame) {
        let explanation = frame.record.modifiers().find_map(|modifier| match modifier {
            Modifier::Explanation(explanation) => Some(explanation),
            _ => None,
        });
        if let Some(explanation) = explanation {
            self.wanted_explanation = Some(WantedExplanation {
                spec: explanation.domain_spec.clone(),
                domain: frame.domain.clone(),
                validated: self.validated.clone(),
            });
        }
    }

    /// Awaits a look-up. When that takes a while, the look-ups of later terms are under way in the meantime.
    pub(super) async fn wait<F: Future>(&mut self, lookup: F) -> F::Output {
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

    pub(super) fn count_lookup(&mut self) -> Result<(), Stop> {
        if self.outcome.lookups >= self.limits.max_lookups {
            return Err(self.fail(Problem::TOO_MANY_LOOKUPS, format!("more than {} DNS look-ups", self.limits.max_lookups)));
        }
        self.outcome.lookups += 1;
        Ok(())
    }

    pub(super) fn count_void(&mut self) -> Result<(), Stop> {
        self.outcome.void_lookups += 1;
        if self.outcome.void_lookups > self.limits.max_void_lookups {
            return Err(self
                .fail(Problem::TOO_MANY_VOID_LOOKUPS, format!("more than {} void DNS look-ups", self.limits.max_void_lookups)));
        }
        Ok(())
    }

    pub(super) fn void_or_stop(&mut self, failure: Failure, record_type: RecordType, name: &Name) -> Result<(), Stop> {
        if failure.is_void() {
            self.tell(|| format!("{failure} for {record_type} {name}"));
            self.count_void()
        } else {
            Err(self.fail_temporarily(failure, record_type, name))
        }
    }

    pub(super) fn fail(&mut self, reason: &'static str, detail: String) -> Stop {
        self.tell(|| detail.clone());
        self.outcome.problem = Some(Problem { reason, detail });
        Stop(SpfResult::Permerror)
    }

    pub(super) fn fail_temporarily(&mut self, failure: Failure, record_type: RecordType, name: &Name) -> Stop {
        let reason = if failure == Failure::Timeout { Problem::TIMEOUT } else { Problem::LOOKUP_FAILED };
        let detail = format!("{record_type} {name}: {failure}");
        self.tell(|| detail.clone());
        self.outcome.problem = Some(Problem { reason, detail });
        Stop(SpfResult::Temperror)
    }

    //--- Trace ---

    pub(super) fn tell(&mut self, event: impl FnOnce() -> String) {
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

fn result_of(qualifier: Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::Softfail => SpfResult::Softfail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}
