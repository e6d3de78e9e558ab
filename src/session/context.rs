//! The surroundings of a session, from its beginning to its end.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::answer::Verdict;
use crate::{
    auth::{Verified, dmarc},
    config::Action,
    config::Config,
    dns::Dns,
    mail::reply::Reply,
    policy::{self, Cause, MessageDecision, MessageFacts, Refusal, SpfClient},
    runtime::Runtime,
    wording,
};

thread_local! {
    /// The name of this host in the session of this thread that began last.
    static HOST_NAME: RefCell<Arc<str>> = RefCell::new("".into());
}

/// The name of this host, which mostly is the same in all sessions: they share it.
fn shared(host_name: &str) -> Arc<str> {
    HOST_NAME.with_borrow_mut(|last| {
        if **last != *host_name {
            *last = host_name.into();
        }
        Arc::clone(last)
    })
}

/// The configuration, the DNS client, the client and this host. They do not change, but for the
/// client of a relay, which is another for each message.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) runtime: Arc<Runtime>,
    /// The DNS client, for this session: all that is asked for it counts together.
    pub(super) dns: Dns,
    /// The client's address, whether it is verified or not; the unspecified one where it has none,
    /// and while the client of a relay is not known.
    pub(super) client: IpAddr,
    /// The relay that hands over messages of the client.
    pub(super) relay: Option<IpAddr>,
    /// The HELO name that counts for that of the client (`client_map`).
    pub(super) mapped_helo: Option<Arc<str>>,
    pub(super) host_name: Arc<str>,
    /// When the next event came, where that was said.
    pub(super) time: Option<Instant>,
}

impl Context {
    pub(super) fn new(runtime: Arc<Runtime>, client: Option<IpAddr>, host: Option<&str>) -> Self {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("connect", host.unwrap_or_default().as_bytes());
        let client = client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.to_canonical());
        let host_name = shared(runtime.host_name(host));
        Self {
            dns: runtime.dns.for_session(),
            runtime,
            client,
            relay: None,
            mapped_helo: None,
            host_name,
            time: None,
        }
    }

    /// When the event under way came.
    pub(super) fn now(&mut self) -> Instant {
        self.time.take().unwrap_or_else(Instant::now)
    }

    pub(super) fn config(&self) -> &Config {
        &self.runtime.config
    }

    /// Takes the client for the one that `client_map` says, if it says one: then the answer is its
    /// own address.
    pub(super) fn map_client(&mut self) -> Option<IpAddr> {
        let runtime = Arc::clone(&self.runtime);
        let mapping = runtime.config.client_map.find(self.client)?;
        self.mapped_helo.clone_from(&mapping.helo);
        Some(std::mem::replace(&mut self.client, mapping.address))
    }

    /// The client's address, where there is one that is known.
    pub(super) fn known_client(&self) -> Option<IpAddr> {
        (!self.client.is_unspecified()).then_some(self.client)
    }

    /// The client as policy sees it.
    pub(super) fn spf_client(&self) -> SpfClient {
        SpfClient { address: self.client, is_relayed: self.relay.is_some() }
    }

    /// How long a stage may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.config().timeout_secs)
    }

    /// The decision on a message at its end, which may go to exempt recipients only.
    pub(super) fn decide(&self, facts: &MessageFacts<'_>, is_for_exempt: bool) -> MessageDecision {
        let mut decision = policy::at_end(self.config(), facts);
        if self.relay.is_some() {
            decision = policy::of_relayed(self.config(), decision);
        }
        if is_for_exempt {
            decision = policy::of_exempt_recipients(decision);
        }
        decision
    }

    /// Words a refusal; the client's name is looked up until `deadline`.
    ///
    /// Boxed, for hardly any message is refused, and a future keeps room for each that it may await.
    pub(super) fn word<'a>(
        &'a self,
        refusal: Refusal,
        helo: Option<&'a str>,
        identity: Option<&'a Verified>,
        dmarc: Option<&'a dmarc::Outcome>,
        deadline: Instant,
    ) -> BoxFuture<'a, Reply> {
        let facts = wording::Facts {
            client: self.client,
            helo: helo.unwrap_or(""),
            receiver: &self.host_name,
            timestamp: self.runtime.clock.now(),
            identity,
            dmarc,
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        // No reply of a dry run is sent.
        let dns = (!self.config().dry_run).then_some((&self.dns, limit));
        Box::pin(async move { wording::word(self.config(), refusal, &facts, dns).await })
    }
}

/// The verdict of a decision on a message, or the refusal that is to be worded for it.
pub(super) fn verdict(
    decision: &MessageDecision,
    dmarc: Option<&dmarc::Outcome>,
) -> Result<Verdict, Refusal> {
    let Some(Cause { refusal, action }) = decision.decisive() else {
        return Ok(Verdict::Continue);
    };
    match action {
        Action::None | Action::Tag => Ok(Verdict::Continue),
        Action::Quarantine => Ok(Verdict::Quarantine(wording::quarantine_reason(refusal, dmarc))),
        Action::Defer | Action::Reject => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_of_this_host_are_shared() {
        let [a, b, other, c] =
            ["mx.example", "mx.example", "mx2.example", "mx.example"].map(shared);
        assert_eq!(
            [&*a, &*b, &*other, &*c],
            ["mx.example", "mx.example", "mx2.example", "mx.example"]
        );
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&b, &c));
    }
}
