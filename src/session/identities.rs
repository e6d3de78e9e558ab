//! The identities of a session, verified with SPF.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{Helo, Session, task::Task};
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
    policy::{self, Circumstances, HeloDecision},
    runtime::Runtime,
};

/// A MAIL FROM identity.
#[derive(Debug)]
pub(super) struct Mailfrom {
    pub(super) verified: Arc<Verified>,
    /// SPF's own rules leave it out; DMARC wants its result all the same.
    pub(super) for_dmarc: bool,
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
        let verified = |domain: &Domain, name: &str, outcome| Verified {
            identity: Identity::Helo,
            local_part: POSTMASTER.to_owned(),
            domain: shown(name, Some(domain)),
            outcome,
        };
        let check =
            match self.check(Identity::Helo, client, POSTMASTER, Some(&domain), name).at_once() {
                Some(outcome) => Task::Done(Some(verified(&domain, name, outcome))),
                None => {
                    let (runtime, dns) = (Arc::clone(&self.runtime), self.dns.clone());
                    let (name, receiver) = (name.to_owned(), self.host_name.clone());
                    Task::start(async move {
                        let (runtime, local_part, helo, receiver) =
                            (&*runtime, POSTMASTER, name.as_str(), receiver.as_str());
                        let identity = Identity::Helo;
                        let check = Check {
                            runtime,
                            dns: &dns,
                            identity,
                            client,
                            local_part,
                            domain: Some(&domain),
                            helo,
                            receiver,
                        };
                        verified(&domain, &name, check.attempt().await)
                    })
                }
            };
        Helo { check: Some(check), ..open }
    }

    /// Waits for the check of the HELO name that is under way.
    pub(super) async fn join_helo(&mut self, client: IpAddr) -> Result<(), InternalError> {
        if let Some(check) = self.helo.as_mut().and_then(|helo| helo.check.as_mut()) {
            let verified = check.join().await?;
            self.decide_helo(client, verified);
        }
        Ok(())
    }

    fn decide_helo(&mut self, client: IpAddr, verified: Verified) {
        let Some(mut helo) = self.helo.take() else { return };
        helo.check = None;
        let circumstances = Circumstances { helo: &helo.name, ..self.circumstances(client) };
        helo.decision = policy::at_helo(&self.runtime.config, &verified, &circumstances);
        let verified = Arc::new(verified);
        self.note(Arc::clone(&verified), &helo.verdict(), false);
        helo.verified = Some(verified);
        self.helo = Some(helo);
    }

    /// Verifies MAIL FROM, if SPF's own rules or DMARC ask for it, and waits for the check of HELO,
    /// if that is still under way.
    ///
    /// Both at the same time, so that the MTA waits no longer than for one.
    pub(super) async fn verify_senders(
        &mut self,
        client: IpAddr,
        path: &ReversePath,
    ) -> Result<Option<Mailfrom>, InternalError> {
        let config = Arc::clone(&self.runtime.config);
        // While HELO is open, so is whether MAIL FROM is to be verified.
        let pending = self.helo.as_mut().and_then(|helo| helo.check.take());
        let helo = self.helo.as_ref().map_or("", |helo| &*helo.name);
        let (local_part, domain) = match path {
            ReversePath::Empty => (POSTMASTER, helo),
            ReversePath::Mailbox { local_part, domain } if local_part.is_empty() => {
                (POSTMASTER, domain.as_str())
            }
            ReversePath::Mailbox { local_part, domain } => (local_part.as_str(), domain.as_str()),
            ReversePath::Other(text) => (text.as_str(), ""),
        };
        let parsed = match path {
            ReversePath::Empty => helo_domain(domain),
            _ => Domain::parse(domain).ok(),
        };
        let skipped =
            parsed.as_ref().filter(|parsed| config.skip_senders.matches(Some(local_part), parsed));
        let skipped = skipped.map(|_| format!("{local_part}@{domain}"));
        let shown = shown(domain, parsed.as_ref());
        let check = self.check(Identity::Mailfrom, client, local_part, parsed.as_ref(), helo);
        let wanted = config.verify_dmarc
            || skipped.is_none() && (pending.is_some() || !self.helo_is_definitive());
        let outcome = match (pending, wanted) {
            (Some(mut pending), true) => {
                let (verified, outcome) =
                    Box::pin(async { tokio::join!(pending.join(), check.run()) }).await;
                self.decide_helo(client, verified?);
                Some(outcome)
            }
            (Some(mut pending), false) => {
                self.decide_helo(client, pending.join().await?);
                None
            }
            (None, true) => Some(check.run().await),
            (None, false) => None,
        };
        let definitive = self.helo_is_definitive();
        let for_dmarc = definitive || skipped.is_some();
        if let Some(sender) = skipped.filter(|_| !definitive) {
            self.skip(Identity::Mailfrom, &sender, "skip-senders");
        }
        let Some(outcome) = outcome.filter(|_| !for_dmarc || config.verify_dmarc) else {
            return Ok(None);
        };
        // Without a domain there is nothing that a local-part could belong to: what came is shown.
        let local_part = if shown.is_empty() { path.to_string() } else { local_part.to_owned() };
        let verified =
            Verified { identity: Identity::Mailfrom, local_part, domain: shown, outcome };
        Ok(Some(Mailfrom { verified: Arc::new(verified), for_dmarc }))
    }

    fn check<'a>(
        &'a self,
        identity: Identity,
        client: IpAddr,
        local_part: &'a str,
        domain: Option<&'a Domain>,
        helo: &'a str,
    ) -> Check<'a> {
        Check {
            runtime: &self.runtime,
            dns: &self.dns,
            identity,
            client,
            local_part,
            domain,
            helo,
            receiver: &self.host_name,
        }
    }
}

/// A check of an identity.
#[derive(Clone, Copy)]
struct Check<'a> {
    runtime: &'a Runtime,
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
    /// Runs the check; mostly it is done at once.
    async fn run(self) -> spf::Outcome {
        match self.at_once() {
            Some(outcome) => outcome,
            None => Box::pin(self.attempt()).await,
        }
    }

    /// Runs the check with what the cache knows, without memory of its own; `None` where it has to
    /// wait. What it asked for by then is under way, and goes on for a moment: for whoever begins
    /// the check anew in a place where it can wait.
    fn at_once(self) -> Option<spf::Outcome> {
        self.attempt().now_or_never()
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
