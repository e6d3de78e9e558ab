//! Checks of identities with SPF, at once or beside the session.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{context::Context, task::Task};
use crate::{
    auth::spf::{self, Limits, Query, QueryDomain, Trace},
    mail::domain::Domain,
};

/// The outcome of a check, and how long it took.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) outcome: Arc<spf::Outcome>,
    pub(super) trace: Option<Trace>,
    pub(super) took: Duration,
}

/// A check of an identity.
#[derive(Clone, Copy)]
pub(super) struct Check<'a> {
    pub(super) begun: Instant,
    pub(super) context: &'a Context,
    pub(super) local_part: &'a str,
    /// `None` where the identity has no domain name.
    pub(super) domain: Option<&'a Domain>,
    pub(super) helo: &'a str,
}

impl Check<'_> {
    /// Begins the check; it goes on beside the session, but mostly it is done at once.
    pub(super) fn start(self) -> Task<Checked> {
        self.at_once().map_or_else(|| Task::start(self.to_owned()), Task::Done)
    }

    /// Begins the check; it goes on while it is waited for.
    pub(super) fn hold(self) -> Task<Checked> {
        self.at_once().map_or_else(|| Task::hold(self.to_owned()), Task::Done)
    }

    /// Runs the check with what the cache knows, without memory of its own; `None` where it has to
    /// wait. The look-ups that it began by then go on for a moment, for the check that is begun
    /// anew where it can wait.
    fn at_once(self) -> Option<Checked> {
        let Context { runtime, dns, client, .. } = self.context;
        if let Some(domain) = self.domain.filter(|_| !runtime.traces)
            && let Some(outcome) =
                spf::kept_outcome(self.begun, dns, domain, *client, &self.limits())
        {
            return Some(Checked { outcome, trace: None, took: Duration::ZERO });
        }
        // Pinned here: a check is too large to be moved for nothing.
        pin!(self.run()).now_or_never()
    }

    /// The check, with memory of its own.
    fn to_owned(self) -> impl Future<Output = Checked> + Send + 'static {
        let (context, domain) = (self.context.clone(), self.domain.cloned());
        let [local_part, helo] = [self.local_part, self.helo].map(str::to_owned);
        let begun = self.begun;
        async move {
            let (context, domain) = (&context, domain.as_ref());
            Check { begun, context, local_part: &local_part, domain, helo: &helo }.run().await
        }
    }

    fn limits(self) -> Limits {
        let config = self.context.config();
        Limits {
            max_lookups: config.max_lookups,
            max_void_lookups: config.max_void_lookups,
            timeout: self.context.timeout(),
        }
    }

    async fn run(self) -> Checked {
        let Context { runtime, dns, client, host_name, .. } = self.context;
        let limits = self.limits();
        let mut trace = runtime.traces.then(Trace::default);
        let outcome = match self.domain {
            None => spf::Outcome::without_domain("no domain name").into(),
            Some(domain) => {
                let query = Query {
                    client: *client,
                    domain: QueryDomain::Parsed(domain),
                    local_part: self.local_part,
                    helo: self.helo,
                    receiver: host_name,
                    timestamp: runtime.clock.now(),
                };
                spf::check_since(self.begun, dns, &query, &limits, trace.as_mut()).await
            }
        };
        Checked { outcome, trace, took: self.begun.elapsed() }
    }
}
