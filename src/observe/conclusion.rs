//! What became of a message, or of a client that came to none, in the words that log and metrics
//! have in common.

use crate::{
    auth::Identity,
    mail::{
        reply::ReplyCode,
        results::{Words, words},
    },
    policy::{Cause, Exemption, Refusal, Refusals, decisive},
    session::{ContentRecord, IdentityRecord, Record, Told},
};

words! {
    /// The verdict on a message that was received to its end.
    MessageVerdict {
        /// It went on.
        Accept = "accept",
        /// It went on with a mark.
        Tag = "tag",
        /// The MTA keeps it back.
        Quarantine = "quarantine",
        /// It was refused for now.
        Defer = "defer",
        /// It was refused for good.
        Reject = "reject",
    }

    /// The reason of a reply, or of another verdict than to accept.
    Reason {
        /// SPF of HELO.
        SpfHelo = "spf_helo",
        /// SPF of MAIL FROM.
        SpfMailfrom = "spf_mailfrom",
        /// The DMARC policy of the author domain, or the site's own for it.
        Dmarc = "dmarc",
        /// DNS trouble of DMARC.
        DmarcTemperror = "dmarc_temperror",
        /// An author domain of the site's own.
        LocalDomain = "local_domain",
        /// Nothing that authenticates the message.
        Unauthenticated = "unauthenticated",
        /// The client's name.
        Iprev = "iprev",
        /// From cannot be read.
        MalformedAuthor = "malformed_author",
        /// Too many fields in the name of this host.
        ForgedResults = "forged_results",
        /// A failure of the program, or an MTA that does not permit what it should.
        Internal = "internal",
    }
}

impl Reason {
    /// The reason of the action on an identity: SPF.
    pub fn of_identity(identity: Identity) -> Self {
        match identity {
            Identity::Helo => Self::SpfHelo,
            Identity::Mailfrom => Self::SpfMailfrom,
        }
    }

    /// The reason of the action on a message, which a dry run only records.
    pub fn of_content(record: &Record, content: &ContentRecord) -> Option<Self> {
        let Cause { refusal, .. } = decisive(&content.causes)?;
        Some(Self::of_refusal(refusal).unwrap_or_else(|| Self::of_spf(record)))
    }

    /// The reason that a refusal is, but for SPF, which is that of an identity.
    fn of_refusal(refusal: Refusal) -> Option<Self> {
        Some(match refusal {
            Refusal::Spf => return None,
            Refusal::Dmarc => Self::Dmarc,
            Refusal::DmarcTemperror => Self::DmarcTemperror,
            Refusal::LocalDomain => Self::LocalDomain,
            Refusal::MalformedAuthor => Self::MalformedAuthor,
            Refusal::Unauthenticated => Self::Unauthenticated,
            Refusal::Iprev => Self::Iprev,
            Refusal::ForgedResults | Refusal::ForgedTags => Self::ForgedResults,
        })
    }

    /// The identity that has a reply; else one whose refusal was not carried out; else MAIL FROM.
    fn of_spf(record: &Record) -> Self {
        let identities = || record.identities.iter();
        let refused = identities()
            .find(|identity| identity.reply.is_some())
            .or_else(|| identities().find(|identity| is_exempt_from_refusal(identity)));
        refused.map_or(Self::SpfMailfrom, |refused| Self::of_identity(refused.verified.identity))
    }
}

/// Some of the reasons.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reasons(u16);

impl Reasons {
    fn insert(&mut self, reason: Reason) {
        self.0 |= 1 << reason as u16;
    }

    /// Whether this is one of them.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & (1 << reason as u16) != 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        // Mostly there are none.
        let all = if self == Self::default() { &[] } else { Reason::ALL };
        all.iter().map(|(reason, _)| *reason).filter(move |reason| self.contains(*reason))
    }
}

/// What a record comes to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conclusion {
    /// The verdict on the message, if one was received to its end. That of a dry run is to accept.
    pub verdict: Option<MessageVerdict>,
    /// The code of the reply to the client, where it was refused something, at the end of a message
    /// or before. (One of the MTA's own counts as 451.)
    pub reply: Option<ReplyCode>,
    /// The reason of the reply, or of a verdict that is another than to accept.
    pub reason: Option<Reason>,
    /// What would have been refused, kept back or marked, or more strictly so, but for a dry run, an
    /// exemption, or an action that is none. A message may have several.
    pub not_enforced: Reasons,
}

impl Conclusion {
    /// What a record comes to.
    pub fn of(record: &Record) -> Self {
        let action =
            || record.content.as_deref().and_then(|content| Reason::of_content(record, content));
        let is_tagged = |reason: &Option<Reason>| {
            reason.is_some() && record.complete && record.failure.is_none() && !record.dry_run
        };
        let (verdict, reply, reason) = match record.told {
            Told::GoOn => match action() {
                reason if is_tagged(&reason) => (MessageVerdict::Tag, None, reason),
                _ => (MessageVerdict::Accept, None, None),
            },
            Told::Quarantine => (MessageVerdict::Quarantine, None, action()),
            Told::Tempfail => {
                (MessageVerdict::Defer, Some(ReplyCode::TRY_AGAIN), Some(Reason::Internal))
            }
            Told::Reply(code) => {
                let verdict = match code.is_temporary() {
                    true => MessageVerdict::Defer,
                    false => MessageVerdict::Reject,
                };
                let reason = match action() {
                    _ if record.has_too_many_forged => Reason::ForgedResults,
                    Some(reason) => reason,
                    None => Reason::of_spf(record),
                };
                (verdict, Some(code), Some(reason))
            }
        };
        Self {
            verdict: record.complete.then_some(verdict),
            reply,
            reason,
            not_enforced: not_enforced(record),
        }
    }
}

/// What was not enforced.
fn not_enforced(record: &Record) -> Reasons {
    let mut reasons = Reasons::default();
    for identity in &record.identities {
        if is_exempt_from_refusal(identity) || record.dry_run && identity.reply.is_some() {
            reasons.insert(Reason::of_identity(identity.verified.identity));
        }
    }
    // Mostly that is all.
    if !record.dry_run && record.not_enforced == Refusals::default() {
        return reasons;
    }
    let causes = record.content.iter().flat_map(|content| &content.causes);
    let causes = causes.filter(|_| record.dry_run).map(|cause| cause.refusal);
    let exempt = Refusal::ALL.iter().map(|(refusal, _)| *refusal);
    for refusal in causes.chain(exempt.filter(|refusal| record.not_enforced.contains(*refusal))) {
        match Reason::of_refusal(refusal) {
            Some(reason) => reasons.insert(reason),
            None if !reasons.contains(Reason::SpfHelo) => {
                reasons.insert(Reason::of_spf(record));
            }
            None => {}
        }
    }
    if record.dry_run && record.has_too_many_forged {
        reasons.insert(Reason::ForgedResults);
    }
    reasons
}

/// Whether an identity would have been refused, but for an exemption from refusals.
fn is_exempt_from_refusal(identity: &IdentityRecord) -> bool {
    use Exemption::{ExemptRecipient, Relayed, SpfNetwork};
    matches!(identity.exemption, Some(ExemptRecipient | Relayed | SpfNetwork))
}
