//! The evaluation of records: a loop over a stack of records, never a recursion.

use std::sync::Arc;

use tokio::time::Instant;
use viaspf::record::{Directive, Modifier, Qualifier, SpfRecord, Term};

use super::{
    explanation::WantedExplanation,
    limits::{HELD_FOR_A_LOOKUP, MAX_HELD},
    lookups::Lookups,
    mechanism::{self, Match, asks_dns, record_target},
    names::unusable,
    outcome::{Outcome, Problem, ProblemKind},
    record::{ParsedRecord, RecordError, find_and_keep},
    trace::describe_texts,
};
use crate::{
    dns::{Answer, Failure, Name, RecordType},
    internal_error::InternalError,
    mail::results::SpfResult,
};

/// Why records that take too much memory are not evaluated.
const TOO_LARGE: &str = "too much to evaluate in this record and those that include it";

/// A check under way.
pub(super) struct Evaluation<'a> {
    lookups: Lookups<'a>,
    stack: Vec<Frame>,
    /// About how many octets of memory the records on the stack take.
    held: usize,
    wanted_explanation: Option<WantedExplanation>,
    /// The record of the sender's domain.
    first: Option<Arc<ParsedRecord>>,
}

/// What an evaluation came to.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    /// The record of the sender's domain, and until when the outcome holds for other senders of the
    /// domain; `None` where it does not.
    pub(super) holds: Option<(Arc<ParsedRecord>, Instant)>,
    pub(super) wanted_explanation: Option<WantedExplanation>,
}

/// A record that is being evaluated.
struct Frame {
    domain: Name,
    record: Arc<ParsedRecord>,
    /// The next term.
    next: usize,
    /// The qualifier of the `include` in the record below that led here; `None` at the bottom.
    include: Option<Qualifier>,
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
    /// To the next terms of the record on top.
    Terms,
    /// Out of the record on top, by a directive that matched or without one.
    Leave { result: SpfResult, matched: bool },
    /// Out of all of them.
    Finish(Outcome),
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(lookups: Lookups<'a>) -> Self {
        Self { lookups, stack: Vec::new(), held: 0, wanted_explanation: None, first: None }
    }

    /// Evaluates the record of a domain to the end.
    pub(super) async fn run(&mut self, domain: Name) -> Result<Outcome, Problem> {
        let mut next = Next::Enter { domain, include: None, redirected: false };
        loop {
            next = match next {
                Next::Enter { domain, include, redirected } => {
                    self.enter(domain, include, redirected).await?
                }
                Next::Terms => self.evaluate_terms().await?,
                Next::Leave { result, matched } => self.leave(result, matched)?,
                Next::Finish(outcome) => return Ok(outcome),
            };
        }
    }

    /// The outcome, given what the evaluation came to; `None` means that the time ran out.
    pub(super) fn finish(mut self, finished: Option<Result<Outcome, Problem>>) -> Finished {
        let outcome = finished
            .unwrap_or_else(|| Err(self.lookups.fail_late()))
            .unwrap_or_else(Outcome::with_problem);
        self.lookups.trace_result(outcome.result);
        let (lookups, void_lookups) = self.lookups.counts();
        Finished {
            outcome: Outcome { lookups, void_lookups, ..outcome },
            holds: self.first.zip(self.lookups.holds_until()),
            wanted_explanation: self.wanted_explanation,
        }
    }

    /// Fetches the record of a domain (RFC 7208 §4.4, §4.5).
    async fn enter(
        &mut self,
        domain: Name,
        include: Option<Qualifier>,
        redirected: bool,
    ) -> Result<Next, Problem> {
        let is_target = include.is_some() || redirected;
        self.lookups.want(&domain);
        let lookup = if is_target {
            self.lookups.lookup(&domain, RecordType::Txt).await
        } else {
            self.lookups.lookup_first(&domain).await
        };
        let texts = match lookup {
            Ok(Answer::Txt(texts)) => texts,
            Err(failure) if failure.is_void() => {
                self.lookups.trace_failure(&domain, RecordType::Txt, failure);
                if is_target {
                    self.lookups.count_void()?;
                }
                return self.enter_nothing(&domain, is_target);
            }
            other => {
                let failure = other.err().unwrap_or(Failure::Network);
                return Err(self.lookups.fail_lookup(&domain, RecordType::Txt, failure));
            }
        };
        let most = MAX_HELD + HELD_FOR_A_LOOKUP.saturating_mul(self.lookups.limits.max_lookups);
        let selected = match find_and_keep(self.lookups.dns, &domain, &texts) {
            Ok(record) if self.held + record.weight > most => {
                Err(RecordError::Syntax(TOO_LARGE.into()))
            }
            Ok(record) => {
                self.push(Frame { domain: domain.clone(), record, next: 0, include });
                Ok(Next::Terms)
            }
            Err(error) => Err(error),
        };
        self.lookups.trace_answer(&domain, RecordType::Txt, || describe_texts(&domain, &texts));
        let (kind, detail) = match selected {
            Ok(next) => return Ok(next),
            Err(RecordError::NotFound) => return self.enter_nothing(&domain, is_target),
            Err(RecordError::Several) => {
                (ProblemKind::SeveralRecords, format!("more than one SPF record at {domain}"))
            }
            Err(RecordError::Syntax(problem)) => {
                (ProblemKind::InvalidRecord, format!("{problem} in the SPF record of {domain}"))
            }
        };
        Err(self.lookups.fail(kind, detail))
    }

    /// Goes on where a domain has no record: the target of an `include` or `redirect` must have one
    /// (RFC 7208 §5.2, §6.1).
    fn enter_nothing(&mut self, domain: &Name, is_target: bool) -> Result<Next, Problem> {
        if is_target {
            let detail = format!("no SPF record at {domain}");
            return Err(self.lookups.fail(ProblemKind::NoTarget, detail));
        }
        Ok(Next::Finish(Outcome::without_record(SpfResult::None, None)))
    }

    /// Evaluates the record on top from its next term on (RFC 7208 §4.6.2).
    async fn evaluate_terms(&mut self) -> Result<Next, Problem> {
        let lookups = &mut self.lookups;
        let Frame { domain, record, next, .. } = self.stack.last_mut().ok_or_else(no_record)?;
        // `next` grows by one at a time, so that the first missing term is the end.
        while let Some(term) = record.terms.get(*next) {
            *next += 1;
            let Term::Directive(directive) = term else { continue };
            let qualifier = directive.qualifier.unwrap_or(Qualifier::Pass);
            let (mechanism, result) = (&directive.mechanism, result_of(qualifier));
            let asks_dns = asks_dns(mechanism);
            let matched = match asks_dns {
                false => mechanism::matches_client(mechanism, lookups.client()),
                true => {
                    lookups.go_on(*next);
                    match mechanism::evaluate(lookups, domain, mechanism).await? {
                        Match::Known(matched) => matched,
                        Match::InRecord(domain) => {
                            let include = Some(qualifier);
                            return Ok(Next::Enter { domain, include, redirected: false });
                        }
                    }
                }
            };
            let event = || match matched {
                true => format!("{directive} matches: {result}"),
                false => format!("{directive} does not match"),
            };
            match asks_dns {
                true => lookups.trace_counted(event),
                false => lookups.trace(event),
            }
            if matched {
                return Ok(Next::Leave { result, matched });
            }
        }
        let (record, domain) = (Arc::clone(record), domain.clone());
        self.redirect(&record, &domain).await
    }

    /// Goes to the record that a `redirect` modifier names, or ends without a match (RFC 7208 §4.7,
    /// §6.1).
    async fn redirect(&mut self, record: &SpfRecord, domain: &Name) -> Result<Next, Problem> {
        let lookups = &mut self.lookups;
        let local_part = lookups.variables.local_part;
        let redirect = record.modifiers().find_map(|modifier| match modifier {
            // A `redirect` with a local-part that cannot be in a question is ignored (RFC 8616 §4).
            Modifier::Redirect(redirect) if !unusable(&redirect.domain_spec, local_part) => {
                Some(redirect)
            }
            _ => None,
        });
        let Some(redirect) = redirect else {
            lookups.trace(|| "no directive matches: neutral".to_owned());
            return Ok(Next::Leave { result: SpfResult::Neutral, matched: false });
        };
        lookups.count()?;
        lookups.trace_counted(|| redirect.to_string());
        let domain = record_target(lookups, domain, &redirect.domain_spec, redirect).await?;
        let include = self.pop()?.include;
        Ok(Next::Enter { domain, include, redirected: true })
    }

    /// Takes the result of the record on top to the one below, or ends (RFC 7208 §5.2).
    fn leave(&mut self, result: SpfResult, matched: bool) -> Result<Next, Problem> {
        let frame = self.pop()?;
        let Some(qualifier) = frame.include else {
            if result == SpfResult::Fail {
                self.want_explanation(&frame);
            }
            let last = frame.last().filter(|_| matched);
            let mechanism = last.map(|directive| directive.mechanism.to_string().into());
            let policy_domain = Some(frame.domain.to_shared_text());
            return Ok(Next::Finish(Outcome {
                mechanism,
                policy_domain,
                ..Outcome::without_record(result, None)
            }));
        };
        let included = result;
        let (result, matched) = (result_of(qualifier), included == SpfResult::Pass);
        if let Some(directive) = self.stack.last().and_then(Frame::last) {
            self.lookups.trace(|| match matched {
                true => format!("{directive} matches, its record gives {included}: {result}"),
                false => format!("{directive} does not match, its record gives {included}"),
            });
        }
        Ok(if matched { Next::Leave { result, matched } } else { Next::Terms })
    }

    fn push(&mut self, frame: Frame) {
        self.held += frame.record.weight;
        self.first.get_or_insert_with(|| Arc::clone(&frame.record));
        if frame.record.has_macros {
            self.lookups.holds_for_nobody_else();
        }
        self.lookups.enter(&frame.domain, &frame.record);
        self.stack.push(frame);
    }

    fn pop(&mut self) -> Result<Frame, Problem> {
        let frame = self.stack.pop().ok_or_else(no_record)?;
        self.held -= frame.record.weight;
        self.lookups.leave(self.stack.last().map(|frame| &frame.domain));
        Ok(frame)
    }

    fn want_explanation(&mut self, frame: &Frame) {
        let explanation = frame.record.modifiers().find_map(|modifier| match modifier {
            Modifier::Explanation(explanation) => Some(explanation),
            _ => None,
        });
        self.wanted_explanation = explanation.map(|explanation| WantedExplanation {
            spec: explanation.domain_spec.clone(),
            domain: frame.domain.clone(),
            names: self.lookups.names.clone(),
        });
    }
}

/// The problem of a term without a record that it is a term of: the evaluation itself is wrong.
fn no_record() -> Problem {
    let detail = InternalError::new("no SPF record under evaluation").to_string();
    Problem { kind: ProblemKind::LookupFailed, detail }
}

fn result_of(qualifier: Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::Softfail => SpfResult::Softfail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}
