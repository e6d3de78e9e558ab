//! What is counted: of messages and sessions from their records, of the program where it happens.

use std::{
    fmt,
    mem::discriminant,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::LocalKey,
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
    tally::{self, ByThread, Histogram, Own, Part, Tally},
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
    pub(super) program: Arc<Program>,
}

/// Where the figures come from that others keep.
struct Source(Box<dyn Fn() -> Reading + Send + Sync>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// The counts of mail, by the places of their labels; those of most messages first, and so close together.
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
}

/// The counts of the program: those of mail, and what happens seldom.
#[derive(Debug, Default)]
pub(super) struct Program {
    mail: ByThread<Counts>,
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

impl Part for Counts {
    fn own() -> &'static LocalKey<Own<Self>> {
        thread_local! {
            static OWN: Own<Counts> = const { Own::new() };
        }
        &OWN
    }

    fn absorb(&self, other: &Self) {
        let Self {
            begun,
            ended,
            verdicts,
            spf_helo,
            spf_mailfrom,
            messages,
            stages,
            dkim,
            dmarc,
            iprev,
            exemptions,
            not_enforced,
            replies,
        } = self;
        // Of a message that begins and ends in between, the beginning is read.
        tally::add_alone(ended, other.ended.load(Ordering::Acquire));
        tally::add_alone(begun, other.begun.load(Ordering::Relaxed));
        verdicts.absorb(&other.verdicts);
        spf_helo.absorb(&other.spf_helo);
        spf_mailfrom.absorb(&other.spf_mailfrom);
        messages.absorb(&other.messages);
        stages.iter().zip(&other.stages).for_each(|(stage, other)| stage.absorb(other));
        dkim.absorb(&other.dkim);
        dmarc.absorb(&other.dmarc);
        iprev.absorb(&other.iprev);
        exemptions.absorb(&other.exemptions);
        not_enforced.absorb(&other.not_enforced);
        replies.iter().zip(&other.replies).for_each(|(replies, other)| replies.absorb(other));
    }
}

impl Metrics {
    /// Counts from now on; the configuration in force was loaded now.
    pub(super) fn new() -> Self {
        let metrics = Self::default();
        metrics.program.loaded.store(now(), Ordering::Relaxed);
        metrics.program.started.store(now(), Ordering::Relaxed);
        metrics
    }

    /// From here on figures that others keep come from there, each time somebody wants to know. The
    /// first caller's source is taken.
    pub fn read_from(&self, source: impl Fn() -> Reading + Send + Sync + 'static) {
        let _ = self.program.source.set(Source(Box::new(source)));
    }

    /// The counts of mail so far.
    pub(super) fn mail(&self) -> Box<Counts> {
        self.program.mail.total()
    }

    /// The figures that others keep.
    pub(super) fn reading(&self) -> Reading {
        self.program.source.get().map_or_else(Reading::default, |source| (source.0)())
    }

    /// Messages that were received to their end.
    pub fn messages(&self) -> u64 {
        self.mail().verdicts.read().iter().sum()
    }

    /// Refusals, for now or for good, also those before the end of a message.
    pub fn refusals(&self) -> u64 {
        self.mail().replies.iter().flat_map(Tally::read).sum()
    }

    /// A message has begun, or has ended.
    pub fn message_under_way(&self, is_under_way: bool) {
        self.program.mail.with_own(|counts| {
            let count = if is_under_way { &counts.begun } else { &counts.ended };
            tally::add_alone(count, 1);
        });
    }

    /// Something in the program panicked.
    pub fn panicked(&self) {
        self.program.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// The configuration was loaded again, or stays as it was because that failed.
    pub fn reloaded(&self, is_success: bool) {
        let program = &self.program;
        let count = if is_success { &program.reloads } else { &program.failed_reloads };
        count.fetch_add(1, Ordering::Relaxed);
        program.has_reload_failed.store(!is_success, Ordering::Relaxed);
        if is_success {
            program.loaded.store(now(), Ordering::Relaxed);
        }
    }

    /// Counts what a record says, and comes to.
    pub(super) fn count(&self, record: &Record, conclusion: &Conclusion) {
        self.program.mail.with_own(|counts| counts.count(record, conclusion));
    }
}

impl Counts {
    fn count(&self, record: &Record, conclusion: &Conclusion) {
        if let Some(verdict) = conclusion.verdict {
            self.verdicts.add_alone(verdict as usize, 1);
        }
        if let (Some(code), Some(reason)) = (conclusion.reply, conclusion.reason)
            && let Some(replies) = self.replies.get(reason as usize)
        {
            replies.add_alone(place_of(code), 1);
        }
        conclusion
            .not_enforced
            .iter()
            .for_each(|policy| self.not_enforced.add_alone(policy as usize, 1));
        for identity in &record.identities {
            let results = match identity.verified.identity {
                Identity::Helo => &self.spf_helo,
                Identity::Mailfrom => &self.spf_mailfrom,
            };
            if !is_repeated(record, identity) {
                results.add_alone(identity.verified.outcome.result as usize, 1);
            }
            self.exempted(identity.exemption);
            if let (Some(Recipient::More(number)), Some(reply), false) =
                (&identity.recipient, &identity.reply, record.dry_run)
                && let reason = Reason::of_identity(identity.verified.identity)
                && let Some(replies) = self.replies.get(reason as usize)
            {
                replies.add_alone(place_of(reply.code()), u64::from(*number));
            }
        }
        if let Some(content) = &record.content {
            match content.dkim.as_deref() {
                Some([]) => self.dkim.add_alone(DkimResult::None as usize, 1),
                signatures => signatures
                    .into_iter()
                    .flatten()
                    .for_each(|signature| self.dkim.add_alone(signature.result() as usize, 1)),
            }
            if let Some(outcome) = &content.dmarc {
                self.dmarc.add_alone(outcome.result as usize, 1);
            }
            if let Some(outcome) = &content.iprev {
                self.iprev.add_alone(outcome.result as usize, 1);
            }
            self.exempted(content.exemption);
        }
        self.exempted(record.exemption);
        record.skipped.iter().for_each(|skipped| self.exempted(Some(skipped.reason)));
        let timings = &record.timings;
        let stages = [timings.helo, timings.mail_from, timings.dkim, timings.dmarc, timings.iprev];
        for (stage, took) in self.stages.iter().zip(stages) {
            if let Some(took) = took {
                stage.observe_alone(took);
            }
        }
        if let Some(total) = timings.total {
            self.messages.observe_alone(total);
        }
    }

    fn exempted(&self, exemption: Option<Exemption>) {
        if let Some(exemption) = exemption
            && let Some(place) =
                EXEMPTIONS.iter().position(|known| discriminant(known) == discriminant(&exemption))
        {
            self.exemptions.add_alone(place, 1);
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

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    /// Counts something of every kind, each another number of times.
    fn count_everything(counts: &Counts) {
        fn fill<const N: usize>(tally: &Tally<N>, next: &mut u64) {
            for kind in 0..N {
                *next += 1;
                tally.add_alone(kind, *next);
            }
        }
        let next = &mut 2;
        tally::add_alone(&counts.begun, 2);
        tally::add_alone(&counts.ended, 1);
        fill(&counts.verdicts, next);
        fill(&counts.spf_helo, next);
        fill(&counts.spf_mailfrom, next);
        for histogram in counts.stages.iter().chain([&counts.messages]) {
            *next += 1;
            // Every bucket.
            let took = (0..18).map(|shift| Duration::from_micros((400 << shift) + *next));
            took.for_each(|took| histogram.observe_alone(took));
        }
        fill(&counts.dkim, next);
        fill(&counts.dmarc, next);
        fill(&counts.iprev, next);
        fill(&counts.exemptions, next);
        fill(&counts.not_enforced, next);
        counts.replies.iter().for_each(|replies| fill(replies, next));
    }

    #[test]
    fn everything_that_threads_count_is_in_the_total() {
        let metrics = Metrics::new();
        // One thread has ended when it is read, the other one has not.
        thread::scope(|scope| {
            scope.spawn(|| metrics.program.mail.with_own(count_everything)).join().unwrap();
        });
        metrics.program.mail.with_own(count_everything);
        let expected = Counts::default();
        count_everything(&expected);
        let once = format!("{expected:?}");
        count_everything(&expected);
        let twice = format!("{expected:?}");
        assert_eq!(format!("{:?}", metrics.mail()), twice);
        // Each number is twice what it was.
        let numbers = |text: &str| -> Vec<u64> {
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
        };
        // Nothing was left out.
        assert!(!numbers(&once).contains(&0), "{once}");
        let doubled: Vec<u64> = numbers(&once).into_iter().map(|number| 2 * number).collect();
        assert_eq!(numbers(&twice), doubled);
        metrics.message_under_way(true);
        assert_eq!(metrics.mail().begun.load(Ordering::Relaxed), 5);
    }
}
