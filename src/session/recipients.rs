//! Recipients for whom nothing is refused (`exempt_recipients`).

use std::sync::Arc;

use super::{
    answer::Verdict,
    context::Context,
    recorder::Recorder,
    senders::{Helo, Sender},
};
use crate::{
    auth::Verified,
    mail::{envelope::ReversePath, reply::Reply},
    policy::{self, Exemption},
};

/// The recipients of a message so far.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    has_exempt: bool,
    /// Others that were not refused.
    has_others: bool,
    /// The refusal is to be recorded no more.
    is_refusal_recorded: bool,
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
        let is_exempt = policy::is_exempt_recipient(context.config(), &ReversePath::parse(path));
        let refusals = [helo.and_then(Helo::refusal), sender.refusal()];
        let refusals = || refusals.into_iter().flatten();
        let Some((_, reply)) = refusals().next() else {
            self.has_exempt |= is_exempt;
            self.has_others |= !is_exempt;
            return Verdict::Continue;
        };
        let reply = reply.clone();
        let mut record = |(verified, reply): (&Arc<Verified>, &Reply)| {
            let (reply, exemption) = match is_exempt {
                true => (None, Some(Exemption::ExemptRecipient)),
                false => (Some(reply.clone()), None),
            };
            recorder.identity(Arc::clone(verified), reply, exemption, false);
        };
        let recorded = if is_exempt { &mut self.has_exempt } else { &mut self.is_refusal_recorded };
        if !std::mem::replace(recorded, true) {
            refusals().for_each(&mut record);
        }
        if is_exempt { Verdict::Continue } else { Verdict::Reply(reply) }
    }

    /// Whether the message goes to exempt recipients only.
    pub(super) fn are_exempt(&self) -> bool {
        self.has_exempt && !self.has_others
    }
}
