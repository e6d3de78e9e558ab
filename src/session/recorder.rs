//! The next record, as it gathers.

use std::{net::IpAddr, sync::Arc};

use super::{
    answer::Verdict,
    content::Findings,
    forged::Forged,
    record::{Action, ContentRecord, IdentityRecord, Recipient, Record, Skipped, Told},
};
use crate::{
    auth::{Identity, Verified, iprev},
    mail::reply::Reply,
    policy::{Exemption, MessageDecision, Refusal},
};

/// Gathers what happens, until it is a record of something.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The client's address; that of a relay's client only while it is known.
    pub(super) client: Option<IpAddr>,
    /// The client's own address, where it is verified as another.
    pub(super) inner: Option<IpAddr>,
    /// The relay that hands over messages of the client.
    relay: Option<IpAddr>,
    dry_run: bool,
    /// The HELO name in force.
    pub(super) helo: Option<Arc<str>>,
    // Boxed: most sessions are between messages.
    pending: Option<Box<Record>>,
    /// Nobody takes answers any more.
    pub(super) is_peer_gone: bool,
}

impl Recorder {
    /// A recorder for the client with this address, and one of its own within the site; or for the
    /// clients of a relay.
    pub(super) fn new(
        client: Option<IpAddr>,
        inner: Option<IpAddr>,
        relay: Option<IpAddr>,
        dry_run: bool,
    ) -> Self {
        Self { client, inner, relay, dry_run, helo: None, pending: None, is_peer_gone: false }
    }

    /// The next record, as far as it has gathered.
    pub(super) fn pending(&mut self) -> &mut Record {
        self.pending.get_or_insert_default()
    }

    /// An identity was verified, and perhaps refused with a reply, or exempt from that, or its refusal
    /// put off.
    pub(super) fn identity(
        &mut self,
        verified: Arc<Verified>,
        reply: Option<Reply>,
        exemption: Option<Exemption>,
        is_put_off: bool,
        for_dmarc: bool,
    ) {
        self.pending().identities.push(IdentityRecord {
            verified,
            action: reply.as_ref().map_or(Action::Accept, Action::of),
            reply,
            exemption,
            is_put_off,
            for_dmarc,
            recipient: None,
        });
    }

    /// An identity was refused to a recipient, or to several.
    pub(super) fn refused(&mut self, verified: Arc<Verified>, reply: Reply, recipient: Recipient) {
        self.pending().identities.push(IdentityRecord {
            verified,
            action: Action::of(&reply),
            reply: Some(reply),
            exemption: None,
            is_put_off: false,
            for_dmarc: false,
            recipient: Some(recipient),
        });
    }

    /// The MTA has this queue id for the message by now.
    pub(super) fn learn_queue_id(&mut self, queue_id: Option<&str>) {
        let known = &mut self.pending().queue_id;
        if queue_id.is_some() && known.as_deref() != queue_id {
            *known = queue_id.map(str::to_owned);
        }
    }

    /// The MTA's queue id of the message, for a record after the next one.
    pub(super) fn queue_id(&self) -> Option<String> {
        self.pending.as_ref()?.queue_id.clone()
    }

    /// A message was received to its end, with these fields that claim to be ours.
    pub(super) fn end_of_message(&mut self, forged: Option<&Forged>) {
        self.forged(forged);
        let record = self.pending();
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked(
            "end",
            record.queue_id.as_deref().unwrap_or_default().as_bytes(),
        );
        let too_many = forged.and_then(Forged::too_many);
        record.has_too_many_forged = too_many.is_some();
        record.has_too_many_tags = too_many == Some(Refusal::ForgedTags);
        record.complete = true;
    }

    /// A message on which the work was given up was received to its end, unless nobody waits for an
    /// answer; these fields are deleted from it.
    pub(super) fn end_of_failed(&mut self, forged: Option<&Forged>) {
        self.forged(forged);
        let is_answered = !self.is_peer_gone;
        self.pending().complete |= is_answered;
    }

    /// These fields are deleted from a message.
    pub(super) fn forged(&mut self, forged: Option<&Forged>) {
        let record = self.pending();
        record.forged_fields = forged.map_or(0, Forged::count);
        record.forged_tags = forged.map_or(0, Forged::tag_count);
    }

    /// A message was decided on; a reply is about the identity given.
    pub(super) fn decided(
        &mut self,
        verdict: &Verdict,
        decision: &MessageDecision,
        refused: Option<&Verified>,
        findings: Findings,
        mailfrom: Option<&Arc<Verified>>,
        iprev: Option<iprev::Outcome>,
    ) {
        let reply = match verdict {
            Verdict::Reply(reply) => Some(reply.clone()),
            _ => None,
        };
        let record = self.pending();
        // The refusal that was put off has come; the record of the message has the action.
        if let Some(reply) = &reply
            && decision.is_decided_by(Refusal::Spf)
            && let Some(identity) = refused.map(|verified| verified.identity)
            && let Some(refused) =
                record.identities.iter_mut().rfind(|record| record.verified.identity == identity)
        {
            refused.reply = Some(reply.clone());
            refused.exemption = None;
        }
        let Findings { dkim, dmarc, list, dkim_took, dmarc_took, .. } = findings;
        record.not_enforced = decision.not_enforced();
        record.timings.dkim = dkim_took;
        record.timings.dmarc = dmarc_took;
        let is_for_spf = decision.causes().iter().any(|cause| cause.refusal == Refusal::Spf);
        if dkim.is_some() || dmarc.is_some() || iprev.is_some() || is_for_spf {
            record.content = Some(Box::new(ContentRecord {
                dkim,
                dmarc,
                mailfrom: mailfrom.cloned(),
                iprev,
                own_policy: decision.own_policy(),
                causes: decision.causes().to_vec(),
                disposition: decision.disposition(),
                exemption: decision.exemption(),
                list: list.filter(|_| decision.exemption() == Some(Exemption::MailingList)),
                reply,
            }));
        }
    }

    /// The MTA is told this.
    pub(super) fn told(&mut self, verdict: &Verdict) {
        let Some(record) = &mut self.pending else { return };
        let told = match verdict {
            Verdict::Continue | Verdict::Accept => return,
            _ if self.is_peer_gone => return,
            Verdict::Quarantine(_) => Told::Quarantine,
            Verdict::Reply(reply) => Told::Reply(reply.code()),
            Verdict::Tempfail => Told::Tempfail,
        };
        record.told = told;
    }

    /// Whether there is a message that ends with the next record, or a failure that it is about.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.as_ref().is_some_and(|record| record.complete || record.failure.is_some())
    }

    /// An identity is not verified.
    pub(super) fn skip(&mut self, identity: Identity, value: &str, reason: Exemption) {
        self.pending().skipped.push(Skipped { identity, value: value.to_owned(), reason });
    }

    /// The record of all that has gathered since the last one, if it is anything.
    pub(super) fn take(&mut self) -> Option<Box<Record>> {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked(
            "close",
            self.queue_id().unwrap_or_default().as_bytes(),
        );
        let mut record = self.pending.take()?;
        let is_empty =
            record.identities.is_empty() && record.exemption.is_none() && record.skipped.is_empty();
        if is_empty && record.failure.is_none() && !record.complete {
            return None;
        }
        record.client = self.client;
        record.inner = self.inner;
        record.relay = self.relay;
        record.helo = self.helo.clone();
        record.dry_run = self.dry_run;
        Some(record)
    }
}
