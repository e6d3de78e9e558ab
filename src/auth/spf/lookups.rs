//! The look-ups of a check: their limits, the answers that came early, the problems that they end
//! with, and the trace of the check.

use std::{
    future::{Future, ready},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures_util::future::Either;
use tokio::time::{Instant, timeout_at};

use super::{
    super::reverse,
    expand::Variables,
    limits::{Limits, names_deadline},
    outcome::{Problem, ProblemKind},
    prefetch::Prefetch,
    record::ParsedRecord,
    trace::{Trace, describe_answer, list},
};
use crate::{
    dns::{Answer, Dns, Failure, Known, Name, RecordType, Server},
    mail::results::SpfResult,
};

/// The look-ups of a check.
pub(super) struct Lookups<'a> {
    pub(super) dns: &'a Dns,
    /// The values of macros in the record of the sender's domain.
    pub(super) variables: Variables<'a>,
    pub(super) limits: &'a Limits,
    /// When the check began.
    begin: Instant,
    /// When the time runs out.
    end: Instant,
    /// Until when all answers so far hold for any sender of the domain; `None` where that is not
    /// known, or they do not.
    holds_until: Option<Instant>,
    /// What the cache knew of the record of the sender's domain when the check began.
    first: Option<Known>,
    /// Terms that asked DNS.
    terms: usize,
    /// Terms among them that found nothing.
    void_terms: usize,
    /// The client's validated names, once they are known.
    pub(super) names: Option<Vec<Name>>,
    /// Early look-ups; `None` while all answers are at hand.
    prefetch: Option<Prefetch>,
    /// The domain of the record under evaluation.
    domain: Option<Name>,
    /// How many includes deep it is.
    depth: usize,
    /// The domain whose record is wanted next; noted for the trace alone.
    target: Option<Name>,
    /// Records under evaluation whose later terms have no early look-ups yet, the one on top last.
    waiting: Vec<Later>,
    trace: Option<&'a mut Trace>,
}

/// A record whose later terms may have early look-ups.
struct Later {
    domain: Name,
    record: Arc<ParsedRecord>,
    /// The first of these terms.
    next: usize,
}

impl<'a> Lookups<'a> {
    pub(super) fn new(
        dns: &'a Dns,
        variables: Variables<'a>,
        limits: &'a Limits,
        (begin, end): (Instant, Instant),
        first: Option<Known>,
        trace: Option<&'a mut Trace>,
    ) -> Self {
        Self {
            dns,
            variables,
            limits,
            begin,
            end,
            holds_until: first.as_ref().map(|known| known.until),
            first,
            terms: 0,
            void_terms: 0,
            names: None,
            prefetch: None,
            domain: None,
            depth: 0,
            target: None,
            waiting: Vec::new(),
            trace,
        }
    }

    pub(super) fn client(&self) -> IpAddr {
        self.variables.client
    }

    //--- The record under evaluation ---

    /// Has the record of a domain wanted: until it begins, the steps are about that domain.
    pub(super) fn want(&mut self, domain: &Name) {
        self.target = self.trace.as_ref().map(|_| domain.clone());
    }

    /// Begins a record, within the record under evaluation if there is one.
    pub(super) fn enter(&mut self, domain: &Name, record: &Arc<ParsedRecord>) {
        self.target = None;
        self.depth += usize::from(self.domain.is_some());
        self.domain = Some(domain.clone());
        self.waiting.push(Later { domain: domain.clone(), record: Arc::clone(record), next: 0 });
    }

    /// Begins a term; the term behind it has the number `next`.
    pub(super) fn go_on(&mut self, next: usize) {
        if let Some(later) = self.waiting.last_mut() {
            later.next = next;
        }
    }

    /// Ends a record, and goes on with the one below if there is one, whose domain is given.
    pub(super) fn leave(&mut self, below: Option<&Name>) {
        // Records that have early look-ups are below all that have none; so this is the record that
        // ends, or there is none.
        self.waiting.pop();
        self.depth = self.depth.saturating_sub(1);
        self.domain = below.cloned();
    }

    //--- Look-ups ---

    /// Looks up the record of the sender's domain, where that was not done when the check began.
    pub(super) async fn lookup_first(&mut self, name: &Name) -> Result<Answer, Failure> {
        match self.first.take() {
            Some(known) => known.outcome,
            None => self.lookup(name, RecordType::Txt).await,
        }
    }

    /// Looks records up, or takes what was asked early.
    pub(super) async fn lookup(
        &mut self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Answer, Failure> {
        if let Some(outcome) = self.at_hand(name, kind) {
            return outcome;
        }
        let lookup = self.start(name, kind);
        let answer = self.wait(lookup).await;
        self.forget_large(name, kind, &answer);
        answer
    }

    /// As [`Self::lookup`] for a term that matches only where there are such records: `None` counts
    /// as void, and any other failure is a problem.
    pub(super) async fn find(
        &mut self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Option<Answer>, Problem> {
        match self.lookup(name, kind).await {
            Ok(answer) => {
                self.trace_answer(name, kind, || describe_answer(name, &answer));
                Ok(Some(answer))
            }
            Err(failure) if failure.is_void() => {
                self.trace_failure(name, kind, failure);
                self.count_void().map(|()| None)
            }
            Err(failure) => Err(self.fail_lookup(name, kind, failure)),
        }
    }

    /// As [`Self::lookup`]; to be awaited by [`Self::wait`], together with others.
    pub(super) fn start<'n>(
        &mut self,
        name: &'n Name,
        kind: RecordType,
    ) -> impl Future<Output = Result<Answer, Failure>> + use<'a, 'n>
    where
        'a: 'n,
    {
        if let Some(outcome) = self.at_hand(name, kind) {
            return Either::Left(ready(outcome));
        }
        Either::Right(match &mut self.prefetch {
            Some(prefetch) => Either::Left(prefetch.take_up(self.dns, name, kind)),
            None => Either::Right(self.dns.lookup(name, kind)),
        })
    }

    /// What the cache knows, as long as it has known everything: nothing had to be waited for, so
    /// that the time is still that of the beginning.
    fn at_hand(&mut self, name: &Name, kind: RecordType) -> Option<Result<Answer, Failure>> {
        let known = match self.prefetch {
            None => self.dns.known(name, kind, self.begin),
            Some(_) => None,
        };
        let until = known.as_ref().map(|known| known.until);
        self.holds_until = self.holds_until.zip(until).map(|(so_far, until)| so_far.min(until));
        known.map(|known| known.outcome)
    }

    /// From now on the outcome depends on more than the client and the domain.
    pub(super) fn holds_for_nobody_else(&mut self) {
        self.holds_until = None;
    }

    /// Until when the outcome holds for any sender of the domain; `None` where that is not known, or
    /// it does not.
    pub(super) fn holds_until(&self) -> Option<Instant> {
        self.holds_until
    }

    /// Awaits a look-up. While it is pending, the look-ups of later terms are under way.
    pub(super) async fn wait<F: Future>(&mut self, lookup: F) -> F::Output {
        let mut lookup = pin!(lookup);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = lookup.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let prefetch =
                self.prefetch.get_or_insert_with(|| Prefetch::new(self.limits.max_lookups));
            while let Some(Later { domain, record, next }) = self.waiting.pop() {
                let terms = record.terms.iter().skip(next);
                prefetch.plan(self.dns, &self.variables, &domain, terms, self.terms);
            }
            prefetch.poll(cx, self.dns, &self.variables);
            Poll::Pending
        })
        .await
    }

    /// Lets go of an answer that was used, if it is large.
    pub(super) fn forget_large(
        &mut self,
        name: &Name,
        kind: RecordType,
        answer: &Result<Answer, Failure>,
    ) {
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.forget_large(&(name.clone(), kind), answer);
        }
    }

    /// Finds the names of the client that lead back to it (RFC 7208 §5.5), once in a check; returns
    /// why there are none.
    ///
    /// The term that finds them missing is void. Later terms ask nothing, and so are not void.
    pub(super) async fn find_names(&mut self) -> Option<Failure> {
        if self.names.is_some() {
            return None;
        }
        // The look-ups of the names' addresses are none of these.
        self.holds_for_nobody_else();
        let (client, deadline) = (self.client(), names_deadline(self.end));
        let reverse = Name::reverse(client);
        let answer = timeout_at(deadline, self.lookup(&reverse, RecordType::Ptr)).await;
        let names = match answer.unwrap_or(Err(Failure::Timeout)) {
            Ok(Answer::Ptr(names)) => names,
            other => {
                self.names = Some(Vec::new());
                let failure = other.err().unwrap_or(Failure::Network);
                self.trace_failure(&reverse, RecordType::Ptr, failure);
                return Some(failure);
            }
        };
        let confirmed = reverse::confirmed_names(self.dns, client, &names, deadline);
        let confirmed = self.wait(confirmed).await;
        self.trace_answer(&reverse, RecordType::Ptr, || {
            describe_answer(&reverse, &Answer::Ptr(names))
        });
        self.trace(|| match confirmed.as_slice() {
            [] => "no name of the client leads back to it".to_owned(),
            names => format!("names that lead back to the client: {}", list(names)),
        });
        self.names = Some(confirmed);
        None
    }

    //--- Limits and problems ---

    /// Counts a term that asks DNS.
    pub(super) fn count(&mut self) -> Result<(), Problem> {
        if self.terms >= self.limits.max_lookups {
            let detail =
                format!("more than {} DNS look-ups{}", self.limits.max_lookups, self.position());
            return Err(self.fail(ProblemKind::TooManyLookups, detail));
        }
        self.terms += 1;
        Ok(())
    }

    /// Counts a term that found nothing.
    pub(super) fn count_void(&mut self) -> Result<(), Problem> {
        self.void_terms += 1;
        let most = self.limits.max_void_lookups;
        if self.void_terms > most {
            let detail = format!("more than {most} void DNS look-ups{}", self.position());
            return Err(self.fail(ProblemKind::TooManyVoidLookups, detail));
        }
        Ok(())
    }

    /// How many terms asked DNS, and how many of them found nothing.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.terms, self.void_terms)
    }

    pub(super) fn fail(&mut self, kind: ProblemKind, detail: String) -> Problem {
        self.trace(|| detail.clone());
        Problem { kind, detail }
    }

    pub(super) fn fail_lookup(
        &mut self,
        name: &Name,
        kind: RecordType,
        failure: Failure,
    ) -> Problem {
        let mut detail = format!("{kind} {name}: {failure}");
        let servers = self.dns.asked(name, kind);
        if !servers.is_empty() {
            detail.push_str(&format!(" ({})", Server::list(&servers)));
        }
        let is_late = failure == Failure::Timeout;
        let kind_of_problem =
            if is_late { ProblemKind::Timeout } else { ProblemKind::LookupFailed };
        self.trace_answer(name, kind, || detail.clone());
        Problem { kind: kind_of_problem, detail }
    }

    /// The problem of a check whose time ran out.
    pub(super) fn fail_late(&mut self) -> Problem {
        let seconds = self.limits.timeout.as_secs();
        let detail = format!("no result within {seconds} seconds{}", self.position());
        self.fail(ProblemKind::Timeout, detail)
    }

    /// Where the evaluation is: it may be deep in someone else's record.
    fn position(&self) -> String {
        let domain = self.domain.as_ref();
        domain.map_or_else(String::new, |domain| format!(" in the SPF record of {domain}"))
    }

    //--- Trace ---

    pub(super) fn trace(&mut self, event: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let is_within = self.target.is_some() && self.domain.is_some();
            let domain = self.target.as_ref().or(self.domain.as_ref());
            let domain = domain.map_or(self.variables.sender_domain, Name::as_str);
            trace.add(self.depth + usize::from(is_within), domain, &event());
        }
    }

    /// Traces the result of the check, which is that of the domain where it began.
    pub(super) fn trace_result(&mut self, result: SpfResult) {
        if let Some(trace) = &mut self.trace {
            trace.add(0, self.variables.sender_domain, &format!("result {result}"));
        }
    }

    /// Traces a term that asks DNS, and how far the limits are used up.
    pub(super) fn trace_counted(&mut self, event: impl FnOnce() -> String) {
        let (terms, void_terms) = self.counts();
        let Limits { max_lookups, max_void_lookups, .. } = *self.limits;
        self.trace(|| {
            let event = event();
            format!(
                "{event} (look-ups: {terms} of {max_lookups}, void: {void_terms} of {max_void_lookups})"
            )
        });
    }

    pub(super) fn trace_failure(&mut self, name: &Name, kind: RecordType, failure: Failure) {
        self.trace_answer(name, kind, || format!("{kind} {name}: {failure}"));
    }

    /// Traces the answer to a question.
    pub(super) fn trace_answer(
        &mut self,
        name: &Name,
        kind: RecordType,
        event: impl FnOnce() -> String,
    ) {
        self.trace(event);
        if let Some(trace) = &mut self.trace {
            trace.answers(name, kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::spf::Query, dns::Texts, mail::domain::Domain};

    /// An outcome holds for others only as long as it rests on answers that the cache knew when the
    /// check began.
    #[tokio::test]
    async fn nothing_is_at_hand_once_something_was_waited_for() {
        let texts: Texts = [b"x".as_slice().into()].into();
        let [known, unknown] =
            ["known.example", "unknown.example"].map(|name| Name::new(name).unwrap());
        let (dns, now) = (Dns::knowing(&known, &texts), Instant::now());
        let domain = Domain::parse("known.example").unwrap();
        let query = Query {
            client: [192, 0, 2, 1].into(),
            domain: "known.example".into(),
            local_part: "",
            helo: "",
            receiver: "",
            timestamp: 0,
        };
        let (limits, kind) = (Limits::default(), RecordType::Txt);
        let begin = || {
            let first = dns.known(&known, kind, now);
            Lookups::new(&dns, Variables::new(&query, &domain), &limits, (now, now), first, None)
        };
        let mut lookups = begin();
        assert!(lookups.at_hand(&known, kind).is_some() && lookups.holds_until().is_some());
        assert!(lookups.at_hand(&unknown, kind).is_none() && lookups.holds_until().is_none());
        assert!(lookups.at_hand(&known, kind).is_some() && lookups.holds_until().is_none());
        let mut lookups = begin();
        lookups.prefetch = Some(Prefetch::new(10));
        assert!(lookups.at_hand(&known, kind).is_none() && lookups.holds_until().is_none());
        // The record was not known when the check began.
        let variables = Variables::new(&query, &domain);
        let mut lookups = Lookups::new(&dns, variables, &limits, (now, now), None, None);
        assert!(lookups.at_hand(&known, kind).is_some() && lookups.holds_until().is_none());
        // What is known is what holds when the check begins.
        let late = now + std::time::Duration::from_secs(1_000_000);
        let mut lookups = Lookups::new(&dns, variables, &limits, (late, late), None, None);
        assert!(lookups.at_hand(&known, kind).is_none());
    }
}
