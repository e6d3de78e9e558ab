//! The identities of a session, verified with SPF.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{Helo, Session, Verdict, task::Task};
use crate::{
    auth::{
        Identity, Verified,
        spf::{self, Limits, POSTMASTER, Query},
    },
    config::Config,
    dns::Dns,
    internal_error::InternalError,
    mail::{
        domain::Domain,
        identity::{ReversePath, helo_domain},
    },
    policy::{self, Circumstances, HeloDecision, MailDecision},
    runtime::Runtime,
};

/// How far the verification of a message's MAIL FROM identity is.
#[expect(clippy::large_enum_variant, reason = "it is a part of a transaction, which is boxed")]
#[derive(Debug)]
pub(super) enum Sender {
    /// It is not verified.
    Unverified,
    /// It is being verified while the MTA goes on, or has been and was not yet decided on.
    UnderWay {
        /// The identity.
        sender: SenderIdentity,
        /// Its check, where there is one.
        check: Option<Task<spf::Outcome>>,
    },
    /// It was verified and decided on.
    Verified(Mailfrom),
}

/// A MAIL FROM identity that was verified.
#[derive(Debug)]
pub(super) struct Mailfrom {
    pub(super) verified: Arc<Verified>,
    /// SPF's own rules leave it out; DMARC wants its result all the same.
    pub(super) for_dmarc: bool,
}

/// A MAIL FROM identity (RFC 7208 §2.4).
#[derive(Debug, Default)]
pub(super) struct SenderIdentity {
    local_part: String,
    /// As it is shown.
    domain: String,
    parsed: Option<Domain>,
    /// The sender, where it is in `skip_senders`.
    skipped: Option<String>,
}

impl SenderIdentity {
    /// The identity of a reverse-path; that of an empty one is `postmaster` at the HELO name.
    pub(super) fn new(path: &ReversePath, helo: &str, config: &Config) -> Self {
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
        let is_skipped = |parsed| config.skip_senders.matches(Some(local_part), parsed);
        let skipped =
            parsed.as_ref().is_some_and(is_skipped).then(|| format!("{local_part}@{text}"));
        let domain = shown(text, parsed.as_ref());
        // Without a domain there is nothing that a local-part could belong to: what came is shown.
        let local_part = if domain.is_empty() { path.to_string() } else { local_part.to_owned() };
        Self { local_part, domain, parsed, skipped }
    }
}

impl Session {
    /// Begins the check of a HELO name, if there is to be one.
    pub(super) fn begin_helo(&mut self, client: IpAddr, name: &str) -> Helo {
        let open =
            Helo { name: name.into(), check: None, verified: None, decision: HeloDecision::Open };
        if !self.runtime.config.verify_helo {
            return open;
        }
        let Some(domain) = helo_domain(name) else {
            self.skip(Identity::Helo, name, "no-domain-name");
            return open;
        };
        if self.runtime.config.skip_senders.matches(None, &domain) {
            self.skip(Identity::Helo, name, "skip-senders");
            return open;
        }
        let check = self.check(Identity::Helo, client, POSTMASTER, Some(&domain), name).start();
        Helo { check: Some((shown(name, Some(&domain)), check)), ..open }
    }

    /// Waits for the check of the HELO name that is under way.
    pub(super) async fn join_helo(&mut self, client: IpAddr) -> Result<(), InternalError> {
        if let Some((_, check)) = self.helo.as_mut().and_then(|helo| helo.check.as_mut()) {
            check.wait().await?;
            self.decide_helo(client);
        }
        Ok(())
    }

    /// Decides on the HELO name, if its check is done by now.
    fn decide_helo(&mut self, client: IpAddr) {
        let Some(mut helo) = self.helo.take() else { return };
        if let Some((domain, check)) = &mut helo.check
            && let Some(outcome) = check.take()
        {
            let verified = Verified {
                identity: Identity::Helo,
                local_part: POSTMASTER.to_owned(),
                domain: std::mem::take(domain),
                outcome,
            };
            helo.check = None;
            let circumstances = Circumstances { helo: &helo.name, ..self.circumstances(client) };
            helo.decision = policy::at_helo(&self.runtime.config, &verified, &circumstances);
            let verified = Arc::new(verified);
            self.note(Arc::clone(&verified), &helo.verdict(), false);
            helo.verified = Some(verified);
        }
        self.helo = Some(helo);
    }

    /// Begins the check of MAIL FROM, if SPF's own rules or DMARC ask for it. While HELO is open,
    /// so is whether SPF's do.
    pub(super) fn begin_sender(&self, client: IpAddr, path: &ReversePath) -> Sender {
        let config = &self.runtime.config;
        let helo = self.helo.as_ref().map_or("", |helo| &*helo.name);
        let sender = SenderIdentity::new(path, helo, config);
        let is_wanted =
            config.verify_dmarc || sender.skipped.is_none() && !self.helo_is_definitive();
        let check = is_wanted.then(|| {
            let (local_part, domain) = (&sender.local_part, sender.parsed.as_ref());
            let check = self.check(Identity::Mailfrom, client, local_part, domain, helo);
            // What the MTA waits for needs no task of its own.
            if self.runtime.needs.mail_reply { check.hold() } else { check.start() }
        });
        Sender::UnderWay { sender, check }
    }

    /// Waits for the checks of MAIL FROM and of HELO that are under way, for both at the same time,
    /// and decides on them.
    ///
    /// # Errors
    ///
    /// Those of [`Task::wait`]. Where the waiting is given up, it can begin anew.
    pub(super) async fn join_sender(&mut self, client: IpAddr) -> Result<Verdict, InternalError> {
        let helo = self.helo.as_mut().and_then(|helo| helo.check.as_mut());
        let sender = self.transaction.as_mut().map(|transaction| &mut transaction.sender);
        let sender = match sender {
            Some(Sender::UnderWay { check, .. }) => check.as_mut(),
            _ => None,
        };
        match (helo, sender) {
            (Some((_, helo)), Some(sender)) => {
                let (helo, sender) =
                    Box::pin(async { tokio::join!(helo.wait(), sender.wait()) }).await;
                helo.and(sender)?;
            }
            (Some((_, task)), None) | (None, Some(task)) => task.wait().await?,
            (None, None) => {}
        }
        Ok(self.decide_sender(client))
    }

    /// Decides on HELO and MAIL FROM, as far as their checks are done by now.
    pub(super) fn decide_sender(&mut self, client: IpAddr) -> Verdict {
        self.decide_helo(client);
        if self.helo.as_ref().is_some_and(|helo| helo.check.is_some()) {
            return Verdict::Continue;
        }
        let is_definitive = self.helo_is_definitive();
        let config = Arc::clone(&self.runtime.config);
        let Some(transaction) = &mut self.transaction else { return Verdict::Continue };
        let Sender::UnderWay { sender, check } = &mut transaction.sender else {
            return Verdict::Continue;
        };
        let outcome = match check {
            Some(check) => match check.take() {
                Some(outcome) => Some(outcome),
                None => return Verdict::Continue,
            },
            None => None,
        };
        let SenderIdentity { local_part, domain, skipped, .. } = std::mem::take(sender);
        transaction.sender = Sender::Unverified;
        let for_dmarc = is_definitive || skipped.is_some();
        if let Some(sender) = skipped.filter(|_| !is_definitive) {
            self.skip(Identity::Mailfrom, &sender, "skip-senders");
        }
        let Some(outcome) = outcome.filter(|_| !for_dmarc || config.verify_dmarc) else {
            return Verdict::Continue;
        };
        let identity = Identity::Mailfrom;
        let verified = Arc::new(Verified { identity, local_part, domain, outcome });
        let decision = if for_dmarc {
            MailDecision::Accept
        } else {
            policy::at_mail(&config, &verified, &self.circumstances(client))
        };
        let (verdict, deferred) = match decision {
            MailDecision::Accept => (Verdict::Continue, None),
            MailDecision::Refuse(reply) => (Verdict::Reply(reply), None),
            MailDecision::Defer(reply) => (Verdict::Continue, Some(reply)),
        };
        self.note(Arc::clone(&verified), &verdict, for_dmarc);
        if let Some(transaction) = &mut self.transaction {
            transaction.sender = Sender::Verified(Mailfrom { verified, for_dmarc });
            transaction.deferred = deferred;
        }
        verdict
    }

    fn check<'a>(
        &'a self,
        identity: Identity,
        client: IpAddr,
        local_part: &'a str,
        domain: Option<&'a Domain>,
        helo: &'a str,
    ) -> Check<'a> {
        let (runtime, dns, receiver) = (&self.runtime, &self.dns, &self.host_name);
        Check { runtime, dns, identity, client, local_part, domain, helo, receiver }
    }
}

/// A check of an identity.
#[derive(Clone, Copy)]
struct Check<'a> {
    runtime: &'a Arc<Runtime>,
    dns: &'a Dns,
    identity: Identity,
    client: IpAddr,
    local_part: &'a str,
    /// `None` where the identity has no domain name.
    domain: Option<&'a Domain>,
    helo: &'a str,
    receiver: &'a str,
}

impl Check<'_> {
    /// Begins the check; it goes on beside the session, but mostly it is done at once.
    fn start(self) -> Task<spf::Outcome> {
        self.at_once().map_or_else(|| Task::start(self.to_owned()), Task::Done)
    }

    /// Begins the check; it goes on while it is waited for.
    fn hold(self) -> Task<spf::Outcome> {
        self.at_once().map_or_else(|| Task::hold(self.to_owned()), Task::Done)
    }

    /// Runs the check with what the cache knows, without memory of its own; `None` where it has to
    /// wait. What it asked for by then is under way, and goes on for a moment: for whoever begins
    /// the check anew in a place where it can wait.
    fn at_once(self) -> Option<spf::Outcome> {
        self.attempt().now_or_never()
    }

    /// The check, with memory of its own.
    fn to_owned(self) -> impl Future<Output = spf::Outcome> + Send + 'static {
        let Self { identity, client, .. } = self;
        let (runtime, dns, domain) =
            (Arc::clone(self.runtime), self.dns.clone(), self.domain.cloned());
        let [local_part, helo, receiver] =
            [self.local_part, self.helo, self.receiver].map(str::to_owned);
        async move {
            let (runtime, dns, domain) = (&runtime, &dns, domain.as_ref());
            let (local_part, helo, receiver) = (&*local_part, &*helo, &*receiver);
            Check { runtime, dns, identity, client, local_part, domain, helo, receiver }
                .attempt()
                .await
        }
    }

    async fn attempt(self) -> spf::Outcome {
        let Some(domain) = self.domain else {
            return spf::Outcome::without_domain("no domain name");
        };
        let query = Query {
            client: self.client,
            domain: domain.into(),
            local_part: self.local_part,
            helo: self.helo,
            receiver: self.receiver,
            timestamp: self.runtime.clock.now(),
        };
        let (dns, config) = (self.dns, &self.runtime.config);
        let (limits, begin) = (limits(config), Instant::now());
        let mut outcome = spf::check(dns, &query, &limits, None).await;
        if policy::tells_client_name(config, self.identity, &outcome) {
            let left = limits.timeout.saturating_sub(begin.elapsed());
            // Boxed, for hardly any reply has it.
            outcome.client_name =
                Box::pin(spf::client_name(dns, self.client, domain.as_str(), left)).await;
        }
        outcome
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
