//! The fields that a message is given, and what they and a reply are about.

use super::{
    answer::Edit,
    content::Findings,
    context::Context,
    senders::{Helo, Mailfrom},
};
use crate::{
    auth::{Identity, Verified, iprev},
    fields::Results,
    policy::{self, MessageDecision, Recorded, Refusal},
};

/// Adds the fields to insert, each at the very top.
pub(super) fn insert_fields(
    edits: &mut Vec<Edit>,
    context: &Context,
    helo: Option<&Helo>,
    mailfrom: Option<&Mailfrom>,
    findings: &Findings,
    decision: &MessageDecision,
    iprev: Option<&iprev::Outcome>,
) {
    let [for_spf, for_dmarc] = [false, true].map(|for_dmarc| {
        let mailfrom = mailfrom.filter(|mailfrom| mailfrom.for_dmarc == for_dmarc)?;
        Some(Recorded { verified: &mailfrom.verified, exemption: mailfrom.exemption })
    });
    let is_definitive = helo.is_some_and(Helo::is_definitive);
    let accepted = helo.and_then(|helo| helo.accepted(context));
    let results = Results {
        client: context.known_client(),
        helo: helo.map(|helo| &*helo.name),
        receiver: &context.host_name,
        authserv_id: context.runtime.authserv_id(&context.host_name),
        recorded: policy::recorded(context.config(), accepted, is_definitive, for_spf),
        for_dmarc: for_dmarc.map(|recorded| recorded.verified),
        dkim: findings.dkim.as_deref(),
        dmarc: findings.dmarc.as_ref(),
        iprev,
        list: findings.list.as_ref(),
        refused: refused_identity(decision, helo, mailfrom),
        decision,
    };
    results.write(context.config(), |field| edits.push(Edit::Insert { index: 0, field }));
}

/// The identity that a reply at the end of a message is about.
pub(super) fn identity_of<'a>(
    decision: &MessageDecision,
    helo: Option<&'a Helo>,
    mailfrom: Option<&'a Mailfrom>,
) -> Option<&'a Verified> {
    let refused = refused_identity(decision, helo, mailfrom);
    refused
        .filter(|_| decision.is_decided_by(Refusal::Spf))
        .or_else(|| mailfrom.map(|mailfrom| &*mailfrom.verified))
}

/// The identity that a decision for SPF is about.
fn refused_identity<'a>(
    decision: &MessageDecision,
    helo: Option<&'a Helo>,
    mailfrom: Option<&'a Mailfrom>,
) -> Option<&'a Verified> {
    match decision.refused_identity()? {
        Identity::Helo => helo?.verified(),
        Identity::Mailfrom => Some(&*mailfrom?.verified),
    }
}
