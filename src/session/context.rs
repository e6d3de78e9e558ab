//! The surroundings of a session, from its beginning to its end.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    auth::{Verified, dmarc},
    config::Config,
    dns::Dns,
    mail::reply::Reply,
    policy::Refusal,
    runtime::Runtime,
    wording,
};

/// The configuration, the DNS client, the client and this host; they do not change.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) runtime: Arc<Runtime>,
    /// The DNS client, for this session: all that is asked for it counts together.
    pub(super) dns: Dns,
    /// The client's address, whether it is verified or not; the unspecified one where it has none.
    pub(super) client: IpAddr,
    pub(super) host_name: String,
}

impl Context {
    pub(super) fn new(runtime: Arc<Runtime>, client: Option<IpAddr>, host: Option<&str>) -> Self {
        let client = client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.to_canonical());
        let host_name = runtime.host_name(host).to_owned();
        Self { dns: runtime.dns.for_session(), runtime, client, host_name }
    }

    pub(super) fn config(&self) -> &Config {
        &self.runtime.config
    }

    /// How long a stage may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.config().timeout_secs)
    }

    /// Words a refusal; the client's name is looked up until `deadline`.
    pub(super) async fn word(
        &self,
        refusal: Refusal,
        helo: Option<&str>,
        identity: Option<&Verified>,
        dmarc: Option<&dmarc::Outcome>,
        deadline: Instant,
    ) -> Reply {
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
        // Boxed, for hardly any message is refused.
        Box::pin(wording::word(self.config(), refusal, &facts, dns)).await
    }
}
