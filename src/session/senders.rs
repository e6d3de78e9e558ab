//! The identities of senders, verified with SPF.

use std::{borrow::Cow, sync::Arc};

use tokio::time::Instant;

use super::{
    answer::Verdict,
    check::{Check, Checked},
    context::Context,
    recorder::Recorder,
    shown_domain::ShownDomain,
    task::Task,
};
use crate::{
    auth::{
        Identity, Verified,
        spf::{self, POSTMASTER},
    },
    config::Config,
    internal_error::InternalError,
    mail::{
        domain::Domain,
        envelope::{ReversePath, helo_domain},
        reply::Reply,
        results::SpfResult,
    },
    policy::{self, Cause, Exemption, HeloDecision, MailDecision, Recorded, Refusal},
};

/// The HELO name in force.
#[derive(Debug)]
pub(super) struct Helo {
    pub(super) name: Arc<str>,
    begun: Instant,
    state: HeloState,
    /// The reply to a name that is refused.
    reply: Option<Reply>,
}

#[derive(Debug)]
enum HeloState {
    Unverified,
    /// The domain as it is shown, and its check.
    UnderWay(Arc<str>, Task<Checked>),
    Verified(Arc<Verified>, HeloDecision),
}

impl Helo {
    /// Begins the check of a HELO name at a time, if there is to be one.
    pub(super) fn begin(
        context: &Context,
        begun: Instant,
        name: &str,
        recorder: &mut Recorder,
    ) -> Self {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("helo", name.as_bytes());
        let config = context.config();
        let domain = config.verify_helo.then(|| policy::helo_identity(config, name));
        let (name, state) = match domain {
            None => (name.into(), HeloState::Unverified),
            Some(Err(exemption)) => {
                recorder.skip(Identity::Helo, name, exemption);
                (name.into(), HeloState::Unverified)
            }
            Some(Ok(domain)) => {
                let shown = ShownDomain::new(name, Some(domain));
                let (local_part, domain) = (POSTMASTER, shown.parsed());
                let check = Check { begun, context, local_part, domain, helo: name }.start();
                let shown = shown.into_text();
                let shared = if *shown == *name { Arc::clone(&shown) } else { name.into() };
                (shared, HeloState::UnderWay(shown, check))
            }
        };
        Self { name, begun, state, reply: None }
    }

    /// The name as it came.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Comes in the place of the name before, if there is one.
    pub(super) fn put_in(self, place: &mut Option<Box<Self>>) {
        match place {
            Some(earlier) => **earlier = self,
            None => *place = Some(Box::new(self)),
        }
    }

    /// Waits for the check, if it is under way.
    ///
    /// # Errors
    ///
    /// As those of [`Task::wait`].
    pub(super) async fn wait(&mut self) -> Result<(), InternalError> {
        match &mut self.state {
            HeloState::UnderWay(_, check) => check.wait().await,
            HeloState::Unverified | HeloState::Verified(..) => Ok(()),
        }
    }

    /// Decides on the identity as soon as its check is done, and words a refusal, once.
    pub(super) async fn decide(&mut self, context: &Context, recorder: &mut Recorder) {
        self.decide_at_once(context, recorder);
        if let HeloState::Verified(verified, HeloDecision::Refuse(refusal)) = &self.state
            && self.reply.is_none()
        {
            let deadline = self.begun + context.timeout();
            let name = Some(&*self.name);
            let reply = context.word(*refusal, name, Some(verified), None, deadline).await;
            if !context.runtime.needs.recipients {
                recorder.identity(Arc::clone(verified), Some(reply.clone()), None, false, false);
            }
            self.reply = Some(reply);
        }
    }

    /// Decides on the identity if its check is done now.
    fn decide_at_once(&mut self, context: &Context, recorder: &mut Recorder) {
        let checked = match &mut self.state {
            HeloState::UnderWay(_, check) => check.take(),
            HeloState::Unverified | HeloState::Verified(..) => None,
        };
        if let Some(Checked { outcome, trace, took }) = checked
            && let before = std::mem::replace(&mut self.state, HeloState::Unverified)
            && let HeloState::UnderWay(domain, _) = before
        {
            let decision = policy::at_helo(context.config(), context.spf_client(), outcome.result);
            let local_part = POSTMASTER.into();
            let verified =
                Arc::new(Verified { identity: Identity::Helo, local_part, domain, outcome, trace });
            recorder.pending().timings.helo = Some(took);
            if let HeloDecision::Accept { exemption, deferred, .. } = decision {
                let is_put_off = deferred.is_some();
                recorder.identity(Arc::clone(&verified), None, exemption, is_put_off, false);
            }
            self.state = HeloState::Verified(verified, decision);
        }
    }

    /// The verdict on the name.
    pub(super) fn verdict(&self) -> Verdict {
        self.reply.clone().map_or(Verdict::Continue, Verdict::Reply)
    }

    /// The identity that is refused, and the reply.
    pub(super) fn refusal(&self) -> Option<(&Arc<Verified>, &Reply)> {
        match &self.state {
            HeloState::Verified(verified, _) => Some((verified, self.reply.as_ref()?)),
            HeloState::Unverified | HeloState::UnderWay(..) => None,
        }
    }

    /// The identity, where it was verified.
    pub(super) fn verified(&self) -> Option<&Verified> {
        match &self.state {
            HeloState::Verified(verified, _) => Some(verified),
            HeloState::Unverified | HeloState::UnderWay(..) => None,
        }
    }

    /// The refusal that was put off until the end of the message.
    pub(super) fn deferred(&self) -> Option<Cause> {
        match self.state {
            HeloState::Verified(_, HeloDecision::Accept { deferred, .. }) => deferred,
            _ => None,
        }
    }

    /// Whether the check is still under way. One that panicked is not: what it cost is one message,
    /// and the name goes on as one that is not verified.
    fn is_pending(&self) -> bool {
        matches!(&self.state, HeloState::UnderWay(_, check) if !check.is_over())
    }

    /// Whether the result holds for MAIL FROM too.
    pub(super) fn is_definitive(&self) -> bool {
        let HeloState::Verified(_, HeloDecision::Accept { is_definitive, .. }) = self.state else {
            return false;
        };
        is_definitive
    }

    /// The identity that was verified and not refused.
    pub(super) fn accepted(&self, context: &Context) -> Option<Recorded<'_>> {
        match &self.state {
            // The message goes on to recipients that are exempt.
            HeloState::Verified(verified, HeloDecision::Refuse(_))
                if context.runtime.needs.recipients =>
            {
                Some(Recorded { verified, exemption: Some(Exemption::ExemptRecipient) })
            }
            &HeloState::Verified(ref verified, HeloDecision::Accept { exemption, .. }) => {
                Some(Recorded { verified, exemption })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
impl Helo {
    /// Has the check that is under way panic.
    pub(super) fn provoke_panic(&mut self) {
        if let HeloState::UnderWay(_, check) = &mut self.state {
            *check = Task::panicking();
        }
    }
}

/// The MAIL FROM identity of a message.
#[derive(Debug)]
pub(super) struct Sender {
    /// When MAIL FROM came; of a relay's message, when its header named the client.
    pub(super) begun: Instant,
    state: SenderState,
}

#[allow(clippy::large_enum_variant, reason = "a message has one, and it is boxed")]
#[derive(Debug)]
enum SenderState {
    Unverified,
    /// It is being verified, if there is a check, and not yet decided on.
    UnderWay(SenderIdentity, Option<Task<Checked>>),
    Verified(Mailfrom),
}

/// A MAIL FROM identity that was verified.
#[derive(Debug)]
pub(super) struct Mailfrom {
    pub(super) verified: Arc<Verified>,
    /// SPF's own rules leave it out; DMARC wants its result all the same.
    pub(super) for_dmarc: bool,
    /// Why the result has no consequence, where it would have one.
    pub(super) exemption: Option<Exemption>,
    /// The reply to each recipient that is not exempt.
    reply: Option<Reply>,
    /// The refusal that is put off until the end of the message.
    pub(super) deferred: Option<Cause>,
}

/// A MAIL FROM identity that is to be refused, as soon as that is worded.
struct RefusableSender {
    refusal: Refusal,
    verified: Arc<Verified>,
    for_dmarc: bool,
}

/// A MAIL FROM identity (RFC 7208 §2.4).
#[derive(Debug)]
struct SenderIdentity {
    local_part: Cow<'static, str>,
    domain: ShownDomain,
    /// The sender, where SPF's own rules do not hold for it, and why.
    exempt: Option<(String, Exemption)>,
}

impl Sender {
    /// Begins the check of MAIL FROM at a time, if SPF's own rules or DMARC ask for it. While HELO is open,
    /// so is whether SPF's do.
    pub(super) fn begin(
        context: &Context,
        begun: Instant,
        path: ReversePath<'_>,
        helo: Option<&Helo>,
    ) -> Self {
        let config = context.config();
        let helo_name = helo.map_or("", |helo| &*helo.name);
        let sender = SenderIdentity::new(path, helo_name, config);
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("mail", sender.local_part.as_bytes());
        let is_definitive = helo.is_some_and(Helo::is_definitive);
        let is_wanted = config.verify_dmarc || sender.exempt.is_none() && !is_definitive;
        let check = is_wanted.then(|| {
            let (local_part, domain) = (&sender.local_part, sender.domain.parsed());
            let check = Check { begun, context, local_part, domain, helo: helo_name };
            // A check that the MTA waits for needs no task of its own.
            if context.runtime.needs.mail_reply && context.relay.is_none() {
                check.hold()
            } else {
                check.start()
            }
        });
        Self { begun, state: SenderState::UnderWay(sender, check) }
    }

    /// A sender of whom nothing is known yet.
    pub(super) fn open() -> Self {
        Self { begun: Instant::now(), state: SenderState::Unverified }
    }

    /// A sender whose client is not known: there is nothing to verify it by.
    pub(super) fn of_unknown_client(
        context: &Context,
        path: ReversePath<'_>,
        reason: Exemption,
        recorder: &mut Recorder,
    ) -> Self {
        let mut sender = Self::open();
        let SenderIdentity { local_part, domain, exempt } =
            SenderIdentity::new(path, "", context.config());
        let domain = domain.into_text();
        let identity = Identity::Mailfrom;
        if let Some((value, exemption)) = exempt {
            recorder.skip(identity, &value, exemption);
            return sender;
        }
        let outcome = spf::Outcome::without_record(SpfResult::None, None).into();
        let verified = Verified { identity, local_part, domain, outcome, trace: None };
        let (verified, exemption) = (Arc::new(verified), Some(reason));
        recorder.identity(Arc::clone(&verified), None, exemption, false, false);
        let mailfrom =
            Mailfrom { verified, for_dmarc: false, exemption, reply: None, deferred: None };
        sender.state = SenderState::Verified(mailfrom);
        sender
    }

    /// Waits for the checks of HELO and MAIL FROM that are under way, for both at the same time, so
    /// that the MTA waits no longer than for one.
    ///
    /// # Errors
    ///
    /// As those of [`Task::wait`]. Where the waiting is given up, it can begin anew.
    pub(super) async fn wait(&mut self, helo: Option<&mut Helo>) -> Result<(), InternalError> {
        let helo = helo.filter(|helo| helo.is_pending());
        let check = match &mut self.state {
            SenderState::UnderWay(_, check) => check.as_mut(),
            SenderState::Unverified | SenderState::Verified(_) => None,
        };
        match (helo, check) {
            (Some(helo), Some(check)) => {
                let (helo, check) =
                    Box::pin(async { tokio::join!(helo.wait(), check.wait()) }).await;
                helo.and(check)
            }
            (Some(helo), None) => helo.wait().await,
            (None, Some(check)) => check.wait().await,
            (None, None) => Ok(()),
        }
    }

    /// Decides on the identity as soon as its check and that of HELO are done, and words a refusal.
    pub(super) async fn decide(
        &mut self,
        context: &Context,
        helo: Option<&Helo>,
        recorder: &mut Recorder,
    ) -> Verdict {
        let Some(refusable) = self.decide_at_once(context, helo, recorder) else {
            return Verdict::Continue;
        };
        let RefusableSender { refusal, verified, for_dmarc } = refusable;
        let deadline = self.begun + context.timeout();
        let name = helo.map(|helo| &*helo.name);
        let reply = context.word(refusal, name, Some(&verified), None, deadline).await;
        let for_recipients = context.runtime.needs.recipients.then(|| reply.clone());
        let exemption = for_recipients.as_ref().map(|_| Exemption::ExemptRecipient);
        if for_recipients.is_none() {
            let (verified, reply) = (Arc::clone(&verified), Some(reply.clone()));
            recorder.identity(verified, reply, None, false, for_dmarc);
        }
        self.state = SenderState::Verified(Mailfrom {
            verified,
            for_dmarc,
            exemption,
            reply: for_recipients,
            deferred: None,
        });
        Verdict::Reply(reply)
    }

    /// Decides on the identity if its check and that of HELO are done now; a refusal is still to be worded.
    fn decide_at_once(
        &mut self,
        context: &Context,
        helo: Option<&Helo>,
        recorder: &mut Recorder,
    ) -> Option<RefusableSender> {
        let SenderState::UnderWay(_, check) = &mut self.state else { return None };
        if helo.is_some_and(Helo::is_pending) {
            return None;
        }
        let checked = check.as_mut().map(Task::take);
        if let Some(None) = checked {
            return None;
        }
        let state = std::mem::replace(&mut self.state, SenderState::Unverified);
        let SenderState::UnderWay(sender, _) = state else { return None };
        let SenderIdentity { local_part, domain, exempt } = sender;
        let domain = domain.into_text();
        let (config, identity) = (context.config(), Identity::Mailfrom);
        let is_definitive = helo.is_some_and(Helo::is_definitive);
        let for_dmarc = is_definitive || exempt.is_some();
        if let Some((sender, exemption)) = exempt.filter(|_| !is_definitive) {
            recorder.skip(identity, &sender, exemption);
        }
        let checked = checked.flatten().filter(|_| !for_dmarc || config.verify_dmarc);
        let Checked { outcome, trace, took } = checked?;
        recorder.pending().timings.mail_from = Some(took);
        let decision = policy::at_mail(config, context.spf_client(), outcome.result, for_dmarc);
        let verified = Arc::new(Verified { identity, local_part, domain, outcome, trace });
        let (deferred, exemption) = match decision {
            MailDecision::Accept { exemption } => (None, exemption),
            MailDecision::Defer { cause, exemption } => (Some(cause), exemption),
            MailDecision::Refuse(refusal) => {
                return Some(RefusableSender { refusal, verified, for_dmarc });
            }
        };
        let is_put_off = deferred.is_some();
        recorder.identity(Arc::clone(&verified), None, exemption, is_put_off, for_dmarc);
        self.state = SenderState::Verified(Mailfrom {
            verified,
            for_dmarc,
            exemption,
            reply: None,
            deferred,
        });
        None
    }

    /// The identity that is refused to each recipient that is not exempt, and the reply.
    pub(super) fn refusal(&self) -> Option<(&Arc<Verified>, &Reply)> {
        let mailfrom = self.mailfrom()?;
        Some((&mailfrom.verified, mailfrom.reply.as_ref()?))
    }

    /// The identity, where it was verified.
    pub(super) fn mailfrom(&self) -> Option<&Mailfrom> {
        match &self.state {
            SenderState::Verified(mailfrom) => Some(mailfrom),
            SenderState::Unverified | SenderState::UnderWay(..) => None,
        }
    }
}

impl SenderIdentity {
    /// The identity of a reverse-path; that of an empty one is `postmaster` at the HELO name.
    fn new(path: ReversePath<'_>, helo: &str, config: &Config) -> Self {
        let is_empty = path == ReversePath::Empty;
        // Without a domain there is nothing that a local-part could belong to: the text that came is shown.
        let without_domain = match &path {
            ReversePath::Empty => helo.is_empty(),
            ReversePath::Mailbox { domain, .. } => domain.is_empty(),
            ReversePath::Other(_) => true,
        };
        let without_domain = without_domain.then(|| path.to_string());
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let (local_part, text) = match path {
            ReversePath::Empty => (POSTMASTER.into(), helo.into()),
            ReversePath::Mailbox { local_part, domain } if local_part.is_empty() => {
                (POSTMASTER.into(), domain)
            }
            ReversePath::Mailbox { local_part, domain } => (owned(local_part), domain),
            ReversePath::Other(text) => (owned(text), "".into()),
        };
        let parsed = if is_empty { helo_domain(&text) } else { Domain::parse(&text).ok() };
        let exemption =
            parsed.as_ref().and_then(|parsed| policy::sender(config, &local_part, parsed));
        let exempt = exemption.map(|exemption| (format!("{local_part}@{text}"), exemption));
        let domain = ShownDomain::new(&text, parsed);
        Self { local_part: without_domain.map_or(local_part, Cow::Owned), domain, exempt }
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
