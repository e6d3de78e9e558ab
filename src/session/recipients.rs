//! Recipients for whom nothing is refused (`exempt_recipients`).

use std::sync::Arc;

use super::{
    answer::Verdict,
    context::Context,
    record::Recipient,
    recorder::Recorder,
    senders::{Helo, Sender},
};
use crate::{
    auth::Verified,
    mail::{envelope::ReversePath, reply::Reply},
    policy::{self, Exemption},
};

/// Refused recipients of a message that are recorded one by one; the rest is counted.
const MAX_RECORDED: u32 = 20;

/// The recipients of a message so far.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    has_exempt: bool,
    /// Others that were not refused.
    has_others: bool,
    /// Those that were refused.
    refused: u32,
}

/// An identity that is refused, and the reply.
type Refused<'a> = (&'a Arc<Verified>, &'a Reply);

/// What is refused of the senders of a message: the first is the reply.
fn refusals<'a>(helo: Option<&'a Helo>, sender: &'a Sender) -> impl Iterator<Item = Refused<'a>> {
    [helo.and_then(Helo::refusal), sender.refusal()].into_iter().flatten()
}

impl Recipients {
    /// The verdict on a recipient, after HELO and MAIL FROM were decided on: the refusal of one of
    /// them, but for an exempt recipient.
    pub(super) fn decide(
        &mut self,
        context: &Context,
        path: &[u8],
        helo: Option<&Helo>,
        sender: &Sender,
        recorder: &mut Recorder,
    ) -> Verdict {
        let path = ReversePath::parse(path);
        let is_exempt = policy::is_exempt_recipient(context.config(), &path);
        let Some((_, reply)) = refusals(helo, sender).next() else {
            self.has_exempt |= is_exempt;
            self.has_others |= !is_exempt;
            return Verdict::Continue;
        };
        if is_exempt {
            if !std::mem::replace(&mut self.has_exempt, true) {
                for (verified, _) in refusals(helo, sender) {
                    let exemption = Some(Exemption::ExemptRecipient);
                    recorder.identity(Arc::clone(verified), None, exemption, false, false);
                }
            }
            return Verdict::Continue;
        }
        self.refused = self.refused.saturating_add(1);
        // All that is wrong once, then what each is told.
        let recorded = match self.refused {
            1 => usize::MAX,
            2..=MAX_RECORDED => 1,
            _ => 0,
        };
        for (verified, reply) in refusals(helo, sender).take(recorded) {
            let recipient = Recipient::One(path.to_string());
            recorder.refused(Arc::clone(verified), reply.clone(), recipient);
        }
        recorder.pending().repeats = self.refused > 1 && !context.config().dry_run;
        Verdict::Reply(reply.clone())
    }

    /// Records the rest of those that were refused, when there are no more recipients.
    pub(super) fn record_rest(
        &mut self,
        helo: Option<&Helo>,
        sender: &Sender,
        recorder: &mut Recorder,
    ) {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked(
            "abort",
            recorder.queue_id().unwrap_or_default().as_bytes(),
        );
        let more = std::mem::take(&mut self.refused).saturating_sub(MAX_RECORDED);
        if let Some((verified, reply)) = refusals(helo, sender).next().filter(|_| more > 0) {
            recorder.refused(Arc::clone(verified), reply.clone(), Recipient::More(more));
        }
    }

    /// The refusal of a message that has come although no recipient was accepted, as where the MTA
    /// named none.
    pub(super) fn conclude(
        &mut self,
        context: &Context,
        helo: Option<&Helo>,
        sender: &Sender,
        recorder: &mut Recorder,
    ) -> Option<Verdict> {
        if !context.runtime.needs.recipients {
            return None;
        }
        let was_refused = self.refused > 0;
        self.record_rest(helo, sender, recorder);
        if self.has_exempt || self.has_others {
            return None;
        }
        if !was_refused {
            for (verified, reply) in refusals(helo, sender) {
                recorder.identity(Arc::clone(verified), Some(reply.clone()), None, false, false);
            }
        }
        let refusal = refusals(helo, sender).next().filter(|_| !context.config().dry_run);
        refusal.map(|(_, reply)| Verdict::Reply(reply.clone()))
    }

    /// Whether the message goes to exempt recipients only.
    pub(super) fn are_exempt(&self) -> bool {
        self.has_exempt && !self.has_others
    }
}
