//! The end of a message that is verified.
//!
//! A future keeps what it knows in memory of its connection, which is slow to come where there are many;
//! it does so whether it has to wait or not. So what waits for nothing is done by functions that cannot
//! wait.

use tokio::time::Instant;

use super::{
    answer::{Answer, Verdict},
    content::Findings,
    context::{self, Context},
    edits::{identity_of, insert_fields},
    peer::Granted,
    recorder::Recorder,
    senders::Helo,
    settle::settle,
    transaction::Message,
};
use crate::{
    auth::iprev,
    policy::{MessageDecision, MessageFacts, Refusal},
};

/// The end of a message of which all is known.
pub(super) struct Ending<'a> {
    pub(super) context: &'a Context,
    pub(super) granted: &'a Granted,
    pub(super) helo: Option<&'a Helo>,
    pub(super) recorder: &'a mut Recorder,
    pub(super) message: &'a Message,
}

/// A message that is to be refused, and on what grounds.
pub(super) struct RefusableMessage {
    refusal: Refusal,
    decision: MessageDecision,
    findings: Findings,
    iprev: Option<iprev::Outcome>,
}

impl Ending<'_> {
    /// Decides on the message, and ends it, unless a refusal is to be worded before. The findings are boxed,
    /// for they have to wait for iprev.
    pub(super) fn at_once(
        self,
        too_many_forged: Option<Refusal>,
        findings: Option<Box<Findings>>,
        iprev: Option<iprev::Outcome>,
    ) -> Result<Answer, Box<RefusableMessage>> {
        // Of a message whose content was not looked at there are none.
        let findings = findings.map_or_else(Findings::default, |findings| *findings);
        let mailfrom = self.message.sender.mailfrom();
        let facts = findings.facts(MessageFacts {
            deferred_helo: self.helo.and_then(Helo::deferred),
            deferred: mailfrom.and_then(|mailfrom| mailfrom.deferred),
            iprev: iprev.as_ref(),
            too_many_forged,
            ..MessageFacts::of(self.context.client)
        });
        let decision = self.context.decide(&facts, self.message.recipients.are_exempt());
        match context::verdict(&decision, findings.dmarc.as_ref()) {
            Ok(verdict) => Ok(self.finish(&decision, findings, iprev, verdict)),
            Err(refusal) => Err(Box::new(RefusableMessage { refusal, decision, findings, iprev })),
        }
    }

    /// Words a refusal, and ends the message with it.
    pub(super) async fn refuse(
        self,
        refusable: Box<RefusableMessage>,
        deadline: Instant,
    ) -> Answer {
        let RefusableMessage { refusal, decision, findings, iprev } = *refusable;
        let sender = identity_of(&decision, self.helo, self.message.sender.mailfrom());
        let (name, dmarc) = (self.helo.map(Helo::name), findings.dmarc.as_ref());
        let reply = self.context.word(refusal, name, sender, dmarc, deadline).await;
        self.finish(&decision, findings, iprev, Verdict::Reply(reply))
    }

    /// Ends the message with a verdict. Nothing is awaited from here on: the record says of a message that it
    /// was received to its end only if it was also decided on.
    fn finish(
        self,
        decision: &MessageDecision,
        findings: Findings,
        iprev: Option<iprev::Outcome>,
        verdict: Verdict,
    ) -> Answer {
        let Self { context, granted, helo, recorder, message } = self;
        recorder.end_of_message(message.forged.as_ref());
        let mailfrom = message.sender.mailfrom();
        // Mostly one field is inserted, and none is deleted.
        let mut edits = Vec::with_capacity(1);
        edits.extend(message.forged.iter().flat_map(|forged| forged.deletions(context.config())));
        insert_fields(&mut edits, context, helo, mailfrom, &findings, decision, iprev.as_ref());
        let sender = identity_of(decision, helo, mailfrom);
        let verified = mailfrom.map(|mailfrom| &mailfrom.verified);
        recorder.decided(&verdict, decision, sender, findings, verified, iprev);
        recorder.pending().timings.total = Some(message.begun.elapsed());
        settle(context.config(), granted, recorder, verdict, edits)
    }
}
