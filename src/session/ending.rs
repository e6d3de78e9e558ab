//! The end of a message that is verified.
//!
//! A future keeps what it knows in memory of its connection, which is slow to come where there are many;
//! it does so whether it has to wait or not. So what waits for nothing is done by functions that cannot
//! wait.

use futures_util::future::OptionFuture;
use tokio::time::Instant;

use super::{
    Answer, Session, Verdict,
    content::Findings,
    context,
    edits::{identity_of, insert_fields},
    forged::Forged,
    senders::Helo,
    transaction::Message,
};
use crate::{
    auth::iprev,
    internal_error::InternalError,
    policy::{MessageDecision, MessageFacts, Refusal},
};

/// A message that is to be refused, and on what grounds.
struct Ending {
    refusal: Refusal,
    decision: MessageDecision,
    findings: Findings,
    iprev: Option<iprev::Outcome>,
}

impl Session {
    /// The end of a message that is verified.
    pub(super) async fn conclude(
        &mut self,
        message: &mut Message,
    ) -> Result<Answer, InternalError> {
        let deadline = self.context.now() + self.context.timeout().saturating_mul(2);
        // Keys are looked up while SPF is waited for.
        if let Some(content) = &mut message.content {
            content.end_of_header(&self.context.dns);
        }
        let too_many_forged = message.forged.as_ref().and_then(Forged::too_many);
        // No outcome is waited for where the message is refused for its forged fields.
        let (findings, iprev) = if too_many_forged.is_some() && !self.context.config().dry_run {
            self.decide_senders(&mut message.sender).await;
            (None, None)
        } else {
            self.join_senders(message).await?;
            let (helo, recorder) = (self.helo.as_deref(), &mut self.recorder);
            let Message { recipients, sender, .. } = &mut *message;
            if let Some(verdict) = recipients.conclude(&self.context, helo, sender, recorder) {
                self.recorder.end_of_message(message.forged.as_ref());
                return Ok(self.settle(verdict, Vec::new()));
            }
            let mailfrom = message.sender.mailfrom().map(|mailfrom| &*mailfrom.verified);
            let content = message.content.take();
            let finish = content.map(|content| Box::pin(content.finish(&self.context, mailfrom)));
            let findings = OptionFuture::from(finish).await.transpose()?.map(Box::new);
            (findings, self.iprev.join(&mut self.recorder.pending().timings).await?)
        };
        match self.end_at_once(message, too_many_forged, findings, iprev) {
            Ok(answer) => Ok(answer),
            Err(ending) => Ok(Box::pin(self.refuse(message, ending, deadline)).await),
        }
    }

    /// Decides on a message of which all is known, and ends it, unless a refusal is to be worded before. The
    /// findings are boxed, for they have to wait for iprev.
    fn end_at_once(
        &mut self,
        message: &Message,
        too_many_forged: Option<Refusal>,
        findings: Option<Box<Findings>>,
        iprev: Option<iprev::Outcome>,
    ) -> Result<Answer, Box<Ending>> {
        let findings = findings.map(|findings| *findings).unwrap_or_default();
        let mailfrom = message.sender.mailfrom();
        let facts = findings.facts(MessageFacts {
            deferred_helo: self.helo.as_deref().and_then(Helo::deferred),
            deferred: mailfrom.and_then(|mailfrom| mailfrom.deferred),
            iprev: iprev.as_ref(),
            too_many_forged,
            ..MessageFacts::of(self.context.client)
        });
        let decision = self.context.decide(&facts, message.recipients.are_exempt());
        match context::verdict(&decision, findings.dmarc.as_ref()) {
            Ok(verdict) => Ok(self.end(message, &decision, findings, iprev, verdict)),
            Err(refusal) => Err(Box::new(Ending { refusal, decision, findings, iprev })),
        }
    }

    /// Words a refusal, and ends the message with it.
    async fn refuse(
        &mut self,
        message: &Message,
        ending: Box<Ending>,
        deadline: Instant,
    ) -> Answer {
        let Ending { refusal, decision, findings, iprev } = *ending;
        let helo = self.helo.as_deref();
        let sender = identity_of(&decision, helo, message.sender.mailfrom());
        let (name, dmarc) = (helo.map(Helo::name), findings.dmarc.as_ref());
        let reply = self.context.word(refusal, name, sender, dmarc, deadline).await;
        self.end(message, &decision, findings, iprev, Verdict::Reply(reply))
    }

    /// Ends a message with a verdict. Nothing is awaited from here on: the record says of a message that it
    /// was received to its end only if it was also decided on.
    fn end(
        &mut self,
        message: &Message,
        decision: &MessageDecision,
        findings: Findings,
        iprev: Option<iprev::Outcome>,
        verdict: Verdict,
    ) -> Answer {
        self.recorder.end_of_message(message.forged.as_ref());
        let (context, helo) = (&self.context, self.helo.as_deref());
        let mailfrom = message.sender.mailfrom();
        // Mostly one field is inserted, and none is deleted.
        let mut edits = Vec::with_capacity(1);
        edits.extend(message.forged.iter().flat_map(|forged| forged.deletions(context.config())));
        insert_fields(&mut edits, context, helo, mailfrom, &findings, decision, iprev.as_ref());
        let sender = identity_of(decision, helo, mailfrom);
        let verified = mailfrom.map(|mailfrom| &mailfrom.verified);
        self.recorder.decided(&verdict, decision, sender, findings, verified, iprev);
        self.recorder.pending().timings.total = Some(message.begun.elapsed());
        self.settle(verdict, edits)
    }
}
