//! What is counted: of messages and sessions from their records, of the program where it happens.

use std::{
    fmt,
    mem::discriminant,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    conclusion::{Conclusion, MessageVerdict, Reason},
    reading::Reading,
};
use crate::{
    auth::{Identity, dkim::DkimResult, dmarc::DmarcResult, iprev::IprevResult},
    mail::{
        reply::ReplyCode,
        results::{SpfResult, Words, words},
    },
    policy::Exemption,
    session::{IdentityRecord, Recipient, Record},
    tally::{Histogram, Tally},
};

words! {
    /// What has results, and takes its time.
    Method {
        /// SPF of HELO.
        SpfHelo = "spf_helo",
        /// SPF of MAIL FROM.
        SpfMailfrom = "spf_mailfrom",
        /// DKIM.
        Dkim = "dkim",
        /// DMARC.
        Dmarc = "dmarc",
        /// The client's name.
        Iprev = "iprev",
    }
}

/// All exemptions. Why the client of a relay's message is not known, the log says.
pub(super) const EXEMPTIONS: [Exemption; 15] = [
    Exemption::NoAddress,
    Exemption::LocalSubmission,
    Exemption::TrustedNetwork,
    Exemption::Authenticated,
    Exemption::AuthenticatedAtRelay,
    Exemption::NoDomainName,
    Exemption::SkippedSender,
    Exemption::UnknownClient("unknown-client"),
    Exemption::Relayed,
    Exemption::SpfNetwork,
    Exemption::ExemptRecipient,
    Exemption::DmarcNetwork,
    Exemption::DmarcDkimDomain,
    Exemption::MailingList,
    Exemption::NotEnforced,
];

/// The reply codes that there may be: 400 to 459 and 500 to 559.
pub(super) const CODES: usize = 120;

/// The place of a reply code among [`CODES`].
pub(super) fn place_of(code: ReplyCode) -> usize {
    let code = usize::from(code.number());
    if code < 500 { code.saturating_sub(400) } else { code.saturating_sub(500) + 60 }
}

/// The reply code at a place.
pub(super) fn code_at(place: usize) -> usize {
    if place < 60 { 400 + place } else { 500 + place - 60 }
}

/// The counts. Cheap to clone; all clones are the same counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) counts: Arc<Counts>,
}

/// Where the figures come from that others keep.
pub(super) struct Source(Box<dyn Fn() -> Reading + Send + Sync>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// The counts, by the places of their labels; those of most messages first, and so close together.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Messages that have begun and have not ended.
    pub(super) begun: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) verdicts: Tally<{ MessageVerdict::ALL.len() }>,
    pub(super) spf_helo: Tally<{ SpfResult::ALL.len() }>,
    pub(super) spf_mailfrom: Tally<{ SpfResult::ALL.len() }>,
    pub(super) messages: Histogram,
    pub(super) stages: [Histogram; Method::ALL.len()],
    pub(super) dkim: Tally<{ DkimResult::ALL.len() }>,
    pub(super) dmarc: Tally<{ DmarcResult::ALL.len() }>,
    pub(super) iprev: Tally<{ IprevResult::ALL.len() }>,
    pub(super) exemptions: Tally<{ EXEMPTIONS.len() }>,
    pub(super) not_enforced: Tally<{ Reason::ALL.len() }>,
    pub(super) replies: [Tally<CODES>; Reason::ALL.len()],
    pub(super) panics: AtomicU64,
    pub(super) reloads: AtomicU64,
    pub(super) failed_reloads: AtomicU64,
    pub(super) has_reload_failed: AtomicBool,
    /// When the configuration in force was loaded, in seconds since 1970.
    pub(super) loaded: AtomicU64,
    /// When the program started, in seconds since 1970.
    pub(super) started: AtomicU64,
    source: OnceLock<Source>,
}

impl Metrics {
    /// Counts from now on; the configuration in force was loaded now.
    pub(super) fn new() -> Self {
        let metrics = Self::default();
        metrics.counts.loaded.store(now(), Ordering::Relaxed);
        metrics.counts.started.store(now(), Ordering::Relaxed);
        metrics
    }

    /// From here on figures that others keep come from there, each time somebody wants to know. The
    /// first caller's source is taken.
    pub fn read_from(&self, source: impl Fn() -> Reading + Send + Sync + 'static) {
        let _ = self.counts.source.set(Source(Box::new(source)));
    }

    /// The figures that others keep.
    pub(super) fn reading(&self) -> Reading {
        self.counts.source.get().map_or_else(Reading::default, |source| (source.0)())
    }

    /// Messages that were received to their end.
    pub fn messages(&self) -> u64 {
        self.counts.verdicts.read().iter().sum()
    }

    /// Refusals, for now or for good, also those before the end of a message.
    pub fn refusals(&self) -> u64 {
        self.counts.replies.iter().flat_map(Tally::read).sum()
    }

    /// A message has begun, or has ended.
    pub fn message_under_way(&self, is_under_way: bool) {
        let counts = &self.counts;
        let count = if is_under_way { &counts.begun } else { &counts.ended };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Something in the program panicked.
    pub fn panicked(&self) {
        self.counts.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// The configuration was loaded again, or stays as it was because that failed.
    pub fn reloaded(&self, is_success: bool) {
        let counts = &self.counts;
        let count = if is_success { &counts.reloads } else { &counts.failed_reloads };
        count.fetch_add(1, Ordering::Relaxed);
        counts.has_reload_failed.store(!is_success, Ordering::Relaxed);
        if is_success {
            counts.loaded.store(now(), Ordering::Relaxed);
        }
    }

    /// Counts what a record says, and comes to.
    pub(super) fn count(&self, record: &Record, conclusion: &Conclusion) {
        let counts = &*self.counts;
        if let Some(verdict) = conclusion.verdict {
            counts.verdicts.count(verdict as usize);
        }
        if let (Some(code), Some(reason)) = (conclusion.reply, conclusion.reason)
            && let Some(replies) = counts.replies.get(reason as usize)
        {
            replies.count(place_of(code));
        }
        conclusion
            .not_enforced
            .iter()
            .for_each(|policy| counts.not_enforced.count(policy as usize));
        for identity in &record.identities {
            let results = match identity.verified.identity {
                Identity::Helo => &counts.spf_helo,
                Identity::Mailfrom => &counts.spf_mailfrom,
            };
            if !is_repeated(record, identity) {
                results.count(identity.verified.outcome.result as usize);
            }
            self.exempted(identity.exemption);
            if let (Some(Recipient::More(number)), Some(reply), false) =
                (&identity.recipient, &identity.reply, record.dry_run)
                && let reason = Reason::of_identity(identity.verified.identity)
                && let Some(replies) = counts.replies.get(reason as usize)
            {
                replies.add(place_of(reply.code()), u64::from(*number));
            }
        }
        if let Some(content) = &record.content {
            match content.dkim.as_deref() {
                Some([]) => counts.dkim.count(DkimResult::None as usize),
                signatures => signatures
                    .into_iter()
                    .flatten()
                    .for_each(|signature| counts.dkim.count(signature.result() as usize)),
            }
            if let Some(outcome) = &content.dmarc {
                counts.dmarc.count(outcome.result as usize);
            }
            if let Some(outcome) = &content.iprev {
                counts.iprev.count(outcome.result as usize);
            }
            self.exempted(content.exemption);
        }
        self.exempted(record.exemption);
        record.skipped.iter().for_each(|skipped| self.exempted(Some(skipped.reason)));
        let timings = &record.timings;
        let stages = [timings.helo, timings.mail_from, timings.dkim, timings.dmarc, timings.iprev];
        for (stage, took) in counts.stages.iter().zip(stages) {
            if let Some(took) = took {
                stage.observe(took);
            }
        }
        if let Some(total) = timings.total {
            counts.messages.observe(total);
        }
    }

    fn exempted(&self, exemption: Option<Exemption>) {
        if let Some(exemption) = exemption
            && let Some(place) =
                EXEMPTIONS.iter().position(|known| discriminant(known) == discriminant(&exemption))
        {
            self.counts.exemptions.count(place);
        }
    }
}

/// Whether an identity that is refused to a recipient was recorded before, for another one.
fn is_repeated(record: &Record, identity: &IdentityRecord) -> bool {
    let first = record.identities.iter().find(|other| {
        other.recipient.is_some() && other.verified.identity == identity.verified.identity
    });
    match identity.recipient {
        None => false,
        Some(Recipient::More(_)) => true,
        Some(Recipient::One(_)) => {
            record.repeats || first.is_some_and(|first| !std::ptr::eq(first, identity))
        }
    }
}

/// The time, in seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
