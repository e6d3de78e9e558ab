//! What operators are told of a session, and where a dry run differs.

use std::sync::Arc;

use super::{
    Action, ContentRecord, Edit, Exemption, Finished, IdentityRecord, Reaction, Record, Session,
    Skipped, Verdict, content::Findings, forged::Forged,
};
use crate::{
    auth::{Identity, Verified, iprev},
    internal_error::InternalError,
    mail::reply::Reply,
    policy::{End, EndDecision},
};

impl Session {
    pub(super) fn note(&mut self, verified: Arc<Verified>, verdict: &Verdict, for_dmarc: bool) {
        let reply = match verdict {
            Verdict::Reply(reply) => Some(reply.clone()),
            _ => None,
        };
        let action = reply.as_ref().map_or(Action::Accept, Action::of);
        self.pending().identities.push(IdentityRecord { verified, action, reply, for_dmarc });
    }

    pub(super) fn note_end(
        &mut self,
        findings: Findings,
        mailfrom: Option<Arc<Verified>>,
        iprev: Option<iprev::Outcome>,
        end: &End,
        deferred: Option<&Reply>,
    ) {
        let reply = match &end.decision {
            EndDecision::Refuse(reply) => Some(reply.clone()),
            EndDecision::Accept | EndDecision::Quarantine(_) => None,
        };
        // A refusal that was put off is one of the MAIL FROM identity after all.
        if let Some(reply) = reply.as_ref().filter(|reply| deferred == Some(reply))
            && let Some(last) = self
                .pending()
                .identities
                .iter_mut()
                .rfind(|record| record.verified.identity == Identity::Mailfrom)
        {
            last.action = Action::of(reply);
            last.reply = Some(reply.clone());
        }
        let Findings { dkim, dmarc, .. } = findings;
        if dkim.is_some() || dmarc.is_some() || iprev.is_some() {
            let (disposition, exemption) = (end.disposition, end.exemption);
            self.pending().content =
                Some(ContentRecord { dkim, dmarc, mailfrom, iprev, disposition, exemption, reply });
        }
    }

    pub(super) fn skip(&mut self, identity: Identity, value: &str, reason: &'static str) {
        self.pending().skipped.push(Skipped { identity, value: value.to_owned(), reason });
    }

    /// Nothing is verified. The MTA is told to ask no more, unless there may be something to
    /// delete.
    pub(super) fn exempt(&mut self, exemption: Exemption, authenticated: bool) -> Reaction {
        self.pending().exemption = Some(exemption);
        let verdict = if self.deletes_fields(authenticated) {
            Verdict::Continue
        } else {
            Verdict::Accept(exemption)
        };
        Reaction { verdict, record: self.tell() }
    }

    /// A message was received to its end, with these fields in our name.
    pub(super) fn note_forged(&mut self, forged: &Forged) {
        let record = self.pending();
        record.forged_fields = forged.count();
        record.has_too_many_forged = forged.has_too_many();
        record.complete = true;
    }

    /// The one place where a dry run differs: what is decided is told, and not done.
    pub(super) fn settle(&mut self, verdict: Verdict) -> Reaction {
        match verdict {
            Verdict::Reply(_) if self.runtime.config.dry_run => Reaction::proceed(),
            Verdict::Reply(_) => Reaction { verdict, record: self.tell() },
            verdict => Reaction { verdict, record: None },
        }
    }

    /// The same for the end of a message.
    pub(super) fn settle_end(&mut self, end: End, edits: Vec<Edit>) -> Finished {
        let (verdict, edits) = match end.decision {
            _ if self.runtime.config.dry_run => (Verdict::Continue, Vec::new()),
            // What is refused needs no changes.
            EndDecision::Refuse(reply) => {
                self.pending().forged_fields = 0;
                (Verdict::Reply(reply), Vec::new())
            }
            EndDecision::Quarantine(reason) => (Verdict::Quarantine(reason), edits),
            EndDecision::Accept => (Verdict::Continue, edits),
        };
        Finished { verdict, edits, record: self.tell() }
    }

    /// Nothing can be said about the message: the adapter does what `error_action` says.
    pub(super) fn give_up(&mut self, error: InternalError) -> Reaction {
        self.transaction = None;
        self.pending().internal_error = Some(error);
        Reaction { verdict: Verdict::Failed, record: self.tell() }
    }

    pub(super) fn pending(&mut self) -> &mut Record {
        self.pending.get_or_insert_default()
    }

    /// What has gathered since the last time, if it is anything.
    pub(super) fn tell(&mut self) -> Option<Box<Record>> {
        let mut record = self.pending.take()?;
        let is_empty =
            record.identities.is_empty() && record.exemption.is_none() && record.skipped.is_empty();
        if is_empty && record.internal_error.is_none() && !record.complete {
            return None;
        }
        record.client = self.address;
        record.helo = self.helo.as_ref().map(|helo| Arc::clone(&helo.name));
        record.dry_run = self.runtime.config.dry_run;
        Some(record)
    }
}
