//! The identities of senders, verified with SPF.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{recorder::Recorder, task::Task};
use crate::{
    auth::{
        Identity, Verified,
        spf::{self, Limits, POSTMASTER, Query, Trace},
    },
    config::Config,
    dns::Dns,
    internal_error::InternalError,
    mail::{
        domain::Domain,
        envelope::{ReversePath, helo_domain},
        reply::Reply,
    },
    policy::{self, Exemption, HeloDecision, MailDecision, Refusal},
    runtime::Runtime,
};

/// The HELO name in force.
#[derive(Debug)]
pub(super) struct Helo {
    pub(super) name: Arc<str>,
    begun: Instant,
    state: HeloState,
    /// What it is refused with.
    pub(super) reply: Option<Reply>,
}

#[expect(clippy::large_enum_variant, reason = "a session has one, and it is boxed")]
#[derive(Debug)]
enum HeloState {
    Unverified,
    /// The domain as it is shown, and its check.
    UnderWay(String, Task<Checked>),
    Verified(Arc<Verified>, HeloDecision),
}

impl Helo {
    /// Begins the check of a HELO name, if there is to be one.
    pub(super) fn begin(checks: &Checks<'_>, name: &str, recorder: &mut Recorder) -> Self {
        let config = &checks.runtime.config;
        let domain = config.verify_helo.then(|| policy::helo_identity(config, name));
        let state = match domain {
            None => HeloState::Unverified,
            Some(Err(exemption)) => {
                recorder.skip(Identity::Helo, name, exemption);
                HeloState::Unverified
            }
            Some(Ok(domain)) => {
                let check = checks.of(POSTMASTER, Some(&domain), name).start();
                HeloState::UnderWay(shown(name, Some(&domain)), check)
            }
        };
        Self { name: name.into(), begun: Instant::now(), state, reply: None }
    }

    /// Waits for the check, if it is under way.
    ///
    /// # Errors
    ///
    /// Those of [`Task::wait`].
    pub(super) async fn wait(&mut self) -> Result<(), InternalError> {
        match &mut self.state {
            HeloState::UnderWay(_, check) => check.wait().await,
            HeloState::Unverified | HeloState::Verified(..) => Ok(()),
        }
    }

    /// Decides on the identity as soon as its check is done: what was verified, and how long that
    /// took.
    pub(super) fn decide(&mut self, config: &Config) -> Option<(Arc<Verified>, Duration)> {
        let HeloState::UnderWay(domain, check) = &mut self.state else { return None };
        let Checked { outcome, trace, took } = check.take()?;
        let decision = policy::at_helo(config, outcome.result);
        let (local_part, domain) = (POSTMASTER.to_owned(), std::mem::take(domain));
        let verified =
            Arc::new(Verified { identity: Identity::Helo, local_part, domain, outcome, trace });
        self.state = HeloState::Verified(Arc::clone(&verified), decision);
        Some((verified, took))
    }

    /// Whether the check is still under way.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, HeloState::UnderWay(..))
    }

    /// Whether the result holds for MAIL FROM too.
    pub(super) fn is_definitive(&self) -> bool {
        matches!(self.state, HeloState::Verified(_, HeloDecision::Definitive))
    }

    /// The identity that is refused, where there is no reply yet; why, and when its check began.
    pub(super) fn to_word(&self) -> Option<(&Verified, Refusal, Instant)> {
        match &self.state {
            HeloState::Verified(verified, HeloDecision::Refuse(refusal))
                if self.reply.is_none() =>
            {
                Some((verified, *refusal, self.begun))
            }
            _ => None,
        }
    }

    /// The identity that was verified and not refused.
    pub(super) fn accepted(&self) -> Option<&Verified> {
        match &self.state {
            HeloState::Verified(verified, HeloDecision::Definitive | HeloDecision::Open) => {
                Some(verified)
            }
            _ => None,
        }
    }
}

/// The MAIL FROM identity of a message, and how far its verification is.
#[expect(clippy::large_enum_variant, reason = "a message has one, and it is boxed")]
#[derive(Debug)]
pub(super) enum Sender {
    /// It is not verified.
    Unverified,
    /// It is being verified, if there is a check, and not yet decided on.
    UnderWay(SenderIdentity, Option<Task<Checked>>),
    /// It was verified and decided on.
    Verified(Mailfrom),
}

/// A MAIL FROM identity that was verified.
#[derive(Clone, Debug)]
pub(super) struct Mailfrom {
    pub(super) verified: Arc<Verified>,
    /// SPF's own rules leave it out; DMARC wants its result all the same.
    pub(super) for_dmarc: bool,
    pub(super) decision: MailDecision,
}

/// A MAIL FROM identity (RFC 7208 §2.4).
#[derive(Debug, Default)]
pub(super) struct SenderIdentity {
    local_part: String,
    /// Its domain as it is shown.
    domain: String,
    parsed: Option<Domain>,
    /// The sender, where SPF's own rules do not hold for it, and why.
    exempt: Option<(String, Exemption)>,
}

impl Sender {
    /// Begins the check of MAIL FROM, if SPF's own rules or DMARC ask for it. While HELO is open,
    /// so is whether SPF's do.
    pub(super) fn begin(checks: &Checks<'_>, path: &ReversePath, helo: Option<&Helo>) -> Self {
        let (config, needs) = (&checks.runtime.config, checks.runtime.needs);
        let helo_name = helo.map_or("", |helo| &*helo.name);
        let sender = SenderIdentity::new(path, helo_name, config);
        let is_definitive = helo.is_some_and(Helo::is_definitive);
        let is_wanted = config.verify_dmarc || sender.exempt.is_none() && !is_definitive;
        let check = is_wanted.then(|| {
            let check = checks.of(&sender.local_part, sender.parsed.as_ref(), helo_name);
            // What the MTA waits for needs no task of its own.
            if needs.mail_reply { check.hold() } else { check.start() }
        });
        Self::UnderWay(sender, check)
    }

    /// Waits for the check, if it is under way.
    ///
    /// # Errors
    ///
    /// Those of [`Task::wait`].
    async fn wait(&mut self) -> Result<(), InternalError> {
        match self {
            Self::UnderWay(_, Some(check)) => check.wait().await,
            Self::UnderWay(_, None) | Self::Unverified | Self::Verified(_) => Ok(()),
        }
    }

    /// Whether there is something to wait for.
    fn is_pending(&self) -> bool {
        matches!(self, Self::UnderWay(_, Some(_)))
    }

    /// Decides on the identity as soon as its check and that of HELO are done: what was verified.
    pub(super) fn decide(
        &mut self,
        config: &Config,
        helo: Option<&Helo>,
        recorder: &mut Recorder,
    ) -> Option<Mailfrom> {
        let Self::UnderWay(sender, check) = self else { return None };
        if helo.is_some_and(Helo::is_pending) {
            return None;
        }
        let checked = match check {
            Some(check) => Some(check.take()?),
            None => None,
        };
        let SenderIdentity { local_part, domain, exempt, .. } = std::mem::take(sender);
        *self = Self::Unverified;
        let is_definitive = helo.is_some_and(Helo::is_definitive);
        let for_dmarc = is_definitive || exempt.is_some();
        if let Some((sender, exemption)) = exempt.filter(|_| !is_definitive) {
            recorder.skip(Identity::Mailfrom, &sender, exemption);
        }
        let Checked { outcome, trace, took } =
            checked.filter(|_| !for_dmarc || config.verify_dmarc)?;
        let decision = policy::at_mail(config, outcome.result, for_dmarc);
        let identity = Identity::Mailfrom;
        let verified = Arc::new(Verified { identity, local_part, domain, outcome, trace });
        let mailfrom = Mailfrom { verified, for_dmarc, decision };
        *self = Self::Verified(mailfrom.clone());
        recorder.pending().timings.mail_from = Some(took);
        Some(mailfrom)
    }

    /// The identity, where it was verified.
    pub(super) fn mailfrom(&self) -> Option<&Mailfrom> {
        match self {
            Self::Verified(mailfrom) => Some(mailfrom),
            Self::Unverified | Self::UnderWay(..) => None,
        }
    }
}

impl SenderIdentity {
    /// The identity of a reverse-path; that of an empty one is `postmaster` at the HELO name.
    fn new(path: &ReversePath, helo: &str, config: &Config) -> Self {
        let (local_part, text) = match path {
            ReversePath::Empty => (POSTMASTER, helo),
            ReversePath::Mailbox { local_part, domain } if local_part.is_empty() => {
                (POSTMASTER, domain.as_str())
            }
            ReversePath::Mailbox { local_part, domain } => (local_part.as_str(), domain.as_str()),
            ReversePath::Other(text) => (text.as_str(), ""),
        };
        let parsed = match path {
            ReversePath::Empty => helo_domain(text),
            _ => Domain::parse(text).ok(),
        };
        let exemption =
            parsed.as_ref().and_then(|parsed| policy::sender(config, local_part, parsed));
        let exempt = exemption.map(|exemption| (format!("{local_part}@{text}"), exemption));
        let domain = shown(text, parsed.as_ref());
        // Without a domain there is nothing that a local-part could belong to: what came is shown.
        let local_part = if domain.is_empty() { path.to_string() } else { local_part.to_owned() };
        Self { local_part, domain, parsed, exempt }
    }
}

/// Waits for the checks of HELO and MAIL FROM that are under way, for both at the same time, so that
/// the MTA waits no longer than for one.
///
/// # Errors
///
/// Those of [`Task::wait`]. Where the waiting is given up, it can begin anew.
pub(super) async fn wait(
    helo: Option<&mut Helo>,
    sender: &mut Sender,
) -> Result<(), InternalError> {
    match helo.filter(|helo| helo.is_pending()) {
        Some(helo) if sender.is_pending() => {
            let (helo, sender) = Box::pin(async { tokio::join!(helo.wait(), sender.wait()) }).await;
            helo.and(sender)
        }
        Some(helo) => helo.wait().await,
        None => sender.wait().await,
    }
}

/// What an identity was found to be.
#[derive(Debug)]
pub(super) struct Checked {
    outcome: spf::Outcome,
    trace: Option<Trace>,
    took: Duration,
}

/// What all checks of a session have in common.
#[derive(Clone, Copy)]
pub(super) struct Checks<'a> {
    pub(super) runtime: &'a Arc<Runtime>,
    pub(super) dns: &'a Dns,
    pub(super) client: IpAddr,
    /// This host.
    pub(super) receiver: &'a str,
}

impl<'a> Checks<'a> {
    /// The check of an identity; `domain` is `None` where it has no domain name.
    fn of(self, local_part: &'a str, domain: Option<&'a Domain>, helo: &'a str) -> Check<'a> {
        Check { of: self, local_part, domain, helo }
    }
}

/// A check of an identity.
#[derive(Clone, Copy)]
struct Check<'a> {
    of: Checks<'a>,
    local_part: &'a str,
    domain: Option<&'a Domain>,
    helo: &'a str,
}

impl Check<'_> {
    /// Begins the check; it goes on beside the session, but mostly it is done at once.
    fn start(self) -> Task<Checked> {
        self.at_once().map_or_else(|| Task::start(self.to_owned()), Task::Done)
    }

    /// Begins the check; it goes on while it is waited for.
    fn hold(self) -> Task<Checked> {
        self.at_once().map_or_else(|| Task::hold(self.to_owned()), Task::Done)
    }

    /// Runs the check with what the cache knows, without memory of its own; `None` where it has to
    /// wait. The look-ups that it began by then go on for a moment, for the check that is begun
    /// anew where it can wait.
    fn at_once(self) -> Option<Checked> {
        self.run().now_or_never()
    }

    /// The check, with memory of its own.
    fn to_owned(self) -> impl Future<Output = Checked> + Send + 'static {
        let client = self.of.client;
        let (runtime, dns) = (Arc::clone(self.of.runtime), self.of.dns.clone());
        let domain = self.domain.cloned();
        let [local_part, helo, receiver] =
            [self.local_part, self.helo, self.of.receiver].map(str::to_owned);
        async move {
            let checks = Checks { runtime: &runtime, dns: &dns, client, receiver: &receiver };
            checks.of(&local_part, domain.as_ref(), &helo).run().await
        }
    }

    async fn run(self) -> Checked {
        let begin = Instant::now();
        let Checks { runtime, dns, client, receiver } = self.of;
        let mut trace = runtime.traces_spf.then(Trace::default);
        let outcome = match self.domain {
            None => spf::Outcome::without_domain("no domain name"),
            Some(domain) => {
                let query = Query {
                    client,
                    domain: domain.into(),
                    local_part: self.local_part,
                    helo: self.helo,
                    receiver,
                    timestamp: runtime.clock.now(),
                };
                let limits = limits(&runtime.config);
                spf::check(dns, &query, &limits, trace.as_mut()).await
            }
        };
        Checked { outcome, trace, took: begin.elapsed() }
    }
}

/// A HELO name as it is kept: longer than any name is, and no longer. Of a longer one the right end
/// is kept, as of any name that is too long (RFC 7208 §7.3).
pub(super) fn cut(name: &str) -> &str {
    const LIMIT: usize = 1024;
    let mut rest = name.chars();
    while rest.as_str().len() > LIMIT {
        rest.next();
    }
    rest.as_str()
}

/// A domain as it is shown: in the case in which it came, without a dot at the end; U-labels as
/// A-labels.
fn shown(text: &str, domain: Option<&Domain>) -> String {
    match domain {
        Some(domain) if !text.is_ascii() => domain.to_string(),
        Some(_) => text.strip_suffix('.').unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_lookups: config.max_lookups,
        max_void_lookups: config.max_void_lookups,
        timeout: Duration::from_secs(config.timeout_secs),
    }
}
