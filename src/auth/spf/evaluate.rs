//! The evaluation of records: a loop over a stack of records, never a recursion.

use std::{future::Future, net::IpAddr, pin::pin, sync::Arc, task::Poll};

use futures_util::future::Either;
use tokio::time::Instant;
use viaspf::record::{Directive, Mechanism, Modifier, Qualifier, SpfRecord, Term};

use super::{
    Limits, Outcome, Problem, Query,
    explanation::WantedExplanation,
    names::{matches_network, unusable},
    prefetch::Prefetch,
    record::{RecordError, is_record, select_kept, shorten},
    trace::Trace,
};
use crate::{
    dns::{Answer, Dns, Failure, Name, RecordType, Server},
    internal_error::InternalError,
    mail::{domain::Domain, spf_result::SpfResult},
};

/// About how many octets of memory the records take that include one another, and some more where
/// more look-ups are allowed than usual.
const MAX_HELD: usize = 256 * 1024;
const HELD_FOR_A_LOOKUP: usize = 256;

/// Why they are not evaluated where they take more.
const TOO_LARGE: &str = "too much to evaluate in this record and those that include it";

/// A check under way.
pub(super) struct Evaluation<'a> {
    pub(super) dns: &'a Dns,
    pub(super) query: &'a Query<'a>,
    pub(super) sender_domain: &'a Domain,
    pub(super) client: IpAddr,
    pub(super) limits: &'a Limits,
    /// When the time runs out.
    pub(super) end: Instant,
    pub(super) stack: Vec<Frame>,
    /// About how many octets of memory the records on the stack take.
    held: usize,
    /// The client's validated names, once they are known.
    pub(super) validated: Option<Vec<Name>>,
    /// What was asked early; nothing while all answers are at hand.
    prefetch: Option<Prefetch>,
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
    /// About how many octets of memory the record takes.
    weight: usize,
}

impl Frame {
    /// The directive that was evaluated last.
    fn last(&self) -> Option<&Directive> {
        match self.record.terms.iter().take(self.next).next_back() {
            Some(Term::Directive(directive)) => Some(directive),
            _ => None,
        }
    }
}

/// Where the loop goes next.
enum Next {
    /// To the record of a domain.
    Enter { domain: Name, include: Option<Qualifier>, redirected: bool },
    /// To the next term of the record on top.
    Term,
    /// Out of the record on top, by a directive that matched or without one.
    Leave { result: SpfResult, matched: bool },
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
        end: Instant,
        trace: Option<Trace>,
    ) -> Self {
        Self {
            dns,
            query,
            sender_domain,
            client: query.client.to_canonical(),
            limits,
            end,
            stack: Vec::new(),
            held: 0,
            validated: None,
            prefetch: None,
            wanted_explanation: None,
            outcome: Outcome { trace, ..Outcome::without_record(SpfResult::None, None) },
        }
    }

    /// The outcome, given the result; none means that the time ran out.
    pub(super) fn into_outcome(
        mut self,
        result: Option<SpfResult>,
    ) -> (Outcome, Option<WantedExplanation>) {
        match result {
            Some(result) => self.outcome.result = result,
            None => {
                let detail = format!(
                    "no result within {} seconds{}",
                    self.limits.timeout.as_secs(),
                    self.place()
                );
                self.tell(|| detail.clone());
                self.outcome = Outcome {
                    lookups: self.outcome.lookups,
                    void_lookups: self.outcome.void_lookups,
                    trace: self.outcome.trace.take(),
                    ..Outcome::without_record(
                        SpfResult::Temperror,
                        Some(Problem { reason: Problem::TIMEOUT, detail }),
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
        let mut next = Next::Enter {
            domain: Name::from(self.sender_domain),
            include: None,
            redirected: false,
        };
        loop {
            next = match next {
                Next::Enter { domain, include, redirected } => {
                    self.enter(domain, include, redirected).await
                }
                Next::Term => {
                    self.evaluate_term().await.unwrap_or_else(|stop| Next::Finish(stop.0))
                }
                Next::Leave { result, matched } => {
                    self.leave(result, matched).unwrap_or_else(|stop| Next::Finish(stop.0))
                }
                Next::Finish(result) => return result,
            };
        }
    }

    /// Fetches the record of a domain (RFC 7208 §4.4, §4.5).
    async fn enter(&mut self, domain: Name, include: Option<Qualifier>, redirected: bool) -> Next {
        let is_target = include.is_some() || redirected;
        let mut told = None;
        let record = match self.lookup(&domain, RecordType::Txt).await {
            Ok(Answer::Txt(texts)) => {
                told = self.outcome.trace.is_some().then(|| told_texts(&domain, &texts));
                let most = MAX_HELD + HELD_FOR_A_LOOKUP.saturating_mul(self.limits.max_lookups);
                match select_kept(&texts) {
                    Ok((_, weight)) if self.held + weight > most => {
                        Err(RecordError::Syntax(TOO_LARGE.into()))
                    }
                    selected => selected,
                }
            }
            Ok(_) => {
                return Next::Finish(
                    self.fail_temporarily(Failure::Network, RecordType::Txt, &domain).0,
                );
            }
            Err(failure) if failure.is_void() => {
                self.tell(|| format!("TXT {domain}: {failure}"));
                if is_target && let Err(stop) = self.count_void() {
                    return Next::Finish(stop.0);
                }
                Err(RecordError::NotFound)
            }
            Err(failure) => {
                return Next::Finish(self.fail_temporarily(failure, RecordType::Txt, &domain).0);
            }
        };
        if record.is_err()
            && let Some(told) = told.take()
        {
            self.tell(|| told);
        }
        let stop = match record {
            Ok((record, weight)) => {
                self.held += weight;
                self.stack.push(Frame {
                    domain,
                    record,
                    next: 0,
                    include,
                    prefetched: false,
                    weight,
                });
                self.tell(|| told.unwrap_or_default());
                return Next::Term;
            }
            Err(RecordError::NotFound) if !is_target => return Next::Finish(SpfResult::None),
            // RFC 7208 §5.2 and §6.1: whoever points to a record must point to one that is there.
            Err(RecordError::NotFound) => {
                self.fail(Problem::NO_TARGET, format!("no SPF record at {domain}"))
            }
            Err(RecordError::Several) => {
                self.fail(Problem::SEVERAL_RECORDS, format!("more than one SPF record at {domain}"))
            }
            Err(RecordError::Syntax(problem)) => self
                .fail(Problem::INVALID_RECORD, format!("{problem} in the SPF record of {domain}")),
        };
        Next::Finish(stop.0)
    }

    /// Evaluates the next term of the record on top (RFC 7208 §4.6.2).
    async fn evaluate_term(&mut self) -> Result<Next, Stop> {
        let Some(frame) = self.stack.last_mut() else { return Err(self.fail_without_record()) };
        let record = Arc::clone(&frame.record);
        // Terms are counted one by one, so that the first that is not there is the end.
        let Some(term) = record.terms.get(frame.next) else { return self.redirect(&record).await };
        frame.next += 1;
        let Term::Directive(directive) = term else { return Ok(Next::Term) };
        let qualifier = directive.qualifier.unwrap_or(Qualifier::Pass);
        let (matched, asks) = match &directive.mechanism {
            Mechanism::All => (true, false),
            Mechanism::Include(include) => match self.include(include).await? {
                Some(domain) => {
                    return Ok(Next::Enter { domain, include: Some(qualifier), redirected: false });
                }
                None => (false, true),
            },
            Mechanism::A(a) => (self.a(a).await?, true),
            Mechanism::Mx(mx) => (self.mx(mx).await?, true),
            Mechanism::Ptr(ptr) => (self.ptr(ptr).await?, true),
            mechanism @ (Mechanism::Ip4(_) | Mechanism::Ip6(_)) => {
                (matches_network(mechanism, self.client), false)
            }
            Mechanism::Exists(exists) => (self.exists(exists).await?, true),
        };
        let result = result_of(qualifier);
        let counts = self.counts(asks);
        self.tell(|| match matched {
            true => format!("{directive} matches: {result}{counts}"),
            false => format!("{directive} does not match{counts}"),
        });
        Ok(if matched { Next::Leave { result, matched } } else { Next::Term })
    }

    /// Goes to the record that a `redirect` modifier names, or ends without a match (RFC 7208 §4.7,
    /// §6.1).
    async fn redirect(&mut self, record: &SpfRecord) -> Result<Next, Stop> {
        let redirect = record.modifiers().find_map(|modifier| match modifier {
            // One that needs a local-part that DNS cannot be asked for is as good as absent (RFC
            // 8616 §4).
            Modifier::Redirect(redirect)
                if !unusable(&redirect.domain_spec, self.query.local_part) =>
            {
                Some(redirect)
            }
            _ => None,
        });
        let Some(redirect) = redirect else {
            self.tell(|| "no directive matches: neutral".to_owned());
            return Ok(Next::Leave { result: SpfResult::Neutral, matched: false });
        };
        self.count_lookup()?;
        let counts = self.counts(true);
        self.tell(|| format!("{redirect}{counts}"));
        let Some(domain) = self.record_target(&redirect.domain_spec).await? else {
            return Err(self.fail(
                Problem::NO_TARGET,
                format!("'{}' leads to no domain name", shorten(redirect)),
            ));
        };
        let Some(frame) = self.pop() else { return Err(self.fail_without_record()) };
        Ok(Next::Enter { domain, include: frame.include, redirected: true })
    }

    /// Takes the result of the record on top to the one below, or ends (RFC 7208 §5.2).
    fn leave(&mut self, result: SpfResult, matched: bool) -> Result<Next, Stop> {
        let Some(frame) = self.pop() else { return Err(self.fail_without_record()) };
        let Some(qualifier) = frame.include else {
            if result == SpfResult::Fail {
                self.want_explanation(&frame);
            }
            self.outcome.mechanism =
                frame.last().filter(|_| matched).map(|directive| directive.mechanism.to_string());
            self.outcome.policy_domain = Some(frame.domain.to_string());
            return Ok(Next::Finish(result));
        };
        let included = result;
        let (result, matched) = (result_of(qualifier), included == SpfResult::Pass);
        if self.outcome.trace.is_some()
            && let Some(directive) = self.stack.last().and_then(Frame::last).cloned()
        {
            self.tell(|| match matched {
                true => format!("{directive} matches, its record gives {included}: {result}"),
                false => format!("{directive} does not match, its record gives {included}"),
            });
        }
        Ok(if matched { Next::Leave { result, matched } } else { Next::Term })
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.stack.pop()?;
        self.held -= frame.weight;
        Some(frame)
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

    //--- Look-ups ---

    /// Looks records up, or takes what was asked early.
    pub(super) async fn lookup(
        &mut self,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Answer, Failure> {
        let lookup = self.start_lookup(name, record_type);
        let answer = self.wait(lookup).await;
        self.forget_large(name, record_type, &answer);
        answer
    }

    /// Keeps an answer no longer than it is looked at, if it is large.
    pub(super) fn forget_large(
        &mut self,
        name: &Name,
        record_type: RecordType,
        answer: &Result<Answer, Failure>,
    ) {
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.forget_large(name, record_type, answer);
        }
    }

    /// As [`Self::lookup`]; to be awaited by [`Self::wait`], together with others.
    pub(super) fn start_lookup<'n>(
        &mut self,
        name: &'n Name,
        record_type: RecordType,
    ) -> impl Future<Output = Result<Answer, Failure>> + use<'a, 'n>
    where
        'a: 'n,
    {
        match &mut self.prefetch {
            Some(prefetch) => Either::Left(prefetch.take_up(self.dns, name, record_type)),
            None => Either::Right(self.dns.lookup(name, record_type)),
        }
    }

    /// Awaits a look-up. When that takes a while, the look-ups of later terms are under way in the
    /// meantime.
    pub(super) async fn wait<F: Future>(&mut self, lookup: F) -> F::Output {
        let mut lookup = pin!(lookup);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = lookup.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let (dns, query, sender_domain) = (self.dns, self.query, self.sender_domain.as_str());
            let prefetch =
                self.prefetch.get_or_insert_with(|| Prefetch::new(self.limits.max_lookups));
            // Whoever waits does so for the record on top: those that were here at an earlier wait
            // are planned for already.
            for frame in self.stack.iter_mut().rev().take_while(|frame| !frame.prefetched) {
                frame.prefetched = true;
                let later = frame.record.terms.iter().skip(frame.next);
                prefetch.plan(
                    dns,
                    query,
                    sender_domain,
                    &frame.domain,
                    later,
                    self.outcome.lookups,
                );
            }
            prefetch.poll(cx, dns, query, sender_domain);
            Poll::Pending
        })
        .await
    }

    //--- Limits and problems ---

    pub(super) fn count_lookup(&mut self) -> Result<(), Stop> {
        if self.outcome.lookups >= self.limits.max_lookups {
            let detail =
                format!("more than {} DNS look-ups{}", self.limits.max_lookups, self.place());
            return Err(self.fail(Problem::TOO_MANY_LOOKUPS, detail));
        }
        self.outcome.lookups += 1;
        Ok(())
    }

    pub(super) fn count_void(&mut self) -> Result<(), Stop> {
        self.outcome.void_lookups += 1;
        if self.outcome.void_lookups > self.limits.max_void_lookups {
            let detail = format!(
                "more than {} void DNS look-ups{}",
                self.limits.max_void_lookups,
                self.place()
            );
            return Err(self.fail(Problem::TOO_MANY_VOID_LOOKUPS, detail));
        }
        Ok(())
    }

    /// Where the evaluation is: it may be deep in someone else's record.
    fn place(&self) -> String {
        self.stack
            .last()
            .map_or_else(String::new, |frame| format!(" in the SPF record of {}", frame.domain))
    }

    pub(super) fn void_or_stop(
        &mut self,
        failure: Failure,
        record_type: RecordType,
        name: &Name,
    ) -> Result<(), Stop> {
        if failure.is_void() {
            self.tell_failure(failure, record_type, name);
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

    pub(super) fn fail_temporarily(
        &mut self,
        failure: Failure,
        record_type: RecordType,
        name: &Name,
    ) -> Stop {
        let reason =
            if failure == Failure::Timeout { Problem::TIMEOUT } else { Problem::LOOKUP_FAILED };
        let mut detail = format!("{record_type} {name}: {failure}");
        let servers = self.dns.asked(name, record_type);
        if !servers.is_empty() {
            detail.push_str(&format!(" ({})", Server::list(&servers)));
        }
        self.tell(|| detail.clone());
        self.outcome.problem = Some(Problem { reason, detail });
        Stop(SpfResult::Temperror)
    }

    /// The error for a term without a record that it is a term of: there is none, or the evaluation
    /// itself is wrong.
    pub(super) fn fail_without_record(&mut self) -> Stop {
        let detail = InternalError::new("no SPF record under evaluation").to_string();
        self.outcome.problem = Some(Problem { reason: Problem::LOOKUP_FAILED, detail });
        Stop(SpfResult::Temperror)
    }

    //--- Trace ---

    pub(super) fn tell(&mut self, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.outcome.trace {
            let domain = self
                .stack
                .last()
                .map_or(self.sender_domain.as_str(), |frame| frame.domain.as_str());
            trace.add(self.stack.len().saturating_sub(1), domain, &event());
        }
    }

    pub(super) fn tell_failure(&mut self, failure: Failure, record_type: RecordType, name: &Name) {
        self.tell(|| format!("{record_type} {name}: {failure}"));
    }

    /// How far the limits are used up, after a term that asks DNS.
    pub(super) fn counts(&self, asks: bool) -> String {
        if !asks || self.outcome.trace.is_none() {
            return String::new();
        }
        let (outcome, limits) = (&self.outcome, self.limits);
        let (lookups, void) = (outcome.lookups, outcome.void_lookups);
        format!(
            " (look-ups: {lookups} of {}, void: {void} of {})",
            limits.max_lookups, limits.max_void_lookups
        )
    }
}

/// What is at a domain, as it was published.
fn told_texts(domain: &Name, texts: &[Box<[u8]>]) -> String {
    let records: Vec<_> = texts
        .iter()
        .filter(|text| is_record(text))
        .map(|text| String::from_utf8_lossy(text))
        .collect();
    match records.as_slice() {
        [] => format!("TXT {domain}: no SPF record, {} other texts", texts.len()),
        [record] => format!("record {record}"),
        records => format!("TXT {domain}: {}", records.join(" | ")),
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
