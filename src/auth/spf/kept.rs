//! Outcomes of checks, kept with the record of the sender's domain.
//!
//! Much mail comes from the same clients for the same domain. While the answers that a check needed
//! hold, a check of the same client for the same domain comes to the same outcome, whoever the
//! sender is, unless a record has macros.
//!
//! Only the outcome of a check that found all of its answers in the cache is kept: of one that had
//! to wait it is not known how long it holds, and most such clients do not come again.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::{limits::Limits, outcome::Outcome};
use crate::mail::results::SpfResult;

/// The most outcomes that are kept with a record: those of the clients that came last.
const MAX_OUTCOMES: usize = 4;

/// Outcomes that are kept with a record.
#[derive(Debug, Default)]
pub(super) struct KeptOutcomes {
    outcomes: Mutex<Vec<KeptOutcome>>,
}

/// What is kept does not make a record another one.
impl PartialEq for KeptOutcomes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An outcome without a problem and without an explanation.
#[derive(Debug)]
struct KeptOutcome {
    client: IpAddr,
    max_lookups: usize,
    max_void_lookups: usize,
    /// When the time of the first answer is over.
    until: Instant,
    result: SpfResult,
    mechanism: Option<Arc<str>>,
    policy_domain: Option<Arc<str>>,
    lookups: usize,
    void_lookups: usize,
}

impl KeptOutcomes {
    /// About how many octets of memory the most outcomes take, with the text of a mechanism each.
    pub(super) const WEIGHT: usize = MAX_OUTCOMES * (size_of::<KeptOutcome>() + 64);

    /// The outcome of a check of this client within these limits, at this time.
    pub(super) fn find(&self, client: IpAddr, limits: &Limits, now: Instant) -> Option<Outcome> {
        // Another thread is here, or did not survive it: the check goes on without.
        let outcomes = self.outcomes.try_lock().ok()?;
        let kept = outcomes.iter().find(|kept| kept.is_for(client, limits))?;
        (now < kept.until).then(|| Outcome {
            mechanism: kept.mechanism.clone(),
            policy_domain: kept.policy_domain.clone(),
            lookups: kept.lookups,
            void_lookups: kept.void_lookups,
            ..Outcome::without_record(kept.result, None)
        })
    }

    /// Keeps an outcome until then, in place of the oldest if need be, unless it has a problem or an
    /// explanation; whether it is the first.
    pub(super) fn keep(
        &self,
        client: IpAddr,
        limits: &Limits,
        outcome: &Outcome,
        until: Instant,
    ) -> bool {
        if outcome.problem.is_some() || outcome.explanation.is_some() {
            return false;
        }
        let Ok(mut outcomes) = self.outcomes.try_lock() else { return false };
        let is_first = outcomes.is_empty();
        outcomes.retain(|kept| !kept.is_for(client, limits));
        if outcomes.len() >= MAX_OUTCOMES {
            outcomes.remove(0);
        }
        outcomes.push(KeptOutcome {
            client,
            max_lookups: limits.max_lookups,
            max_void_lookups: limits.max_void_lookups,
            until,
            result: outcome.result,
            mechanism: outcome.mechanism.clone(),
            policy_domain: outcome.policy_domain.clone(),
            lookups: outcome.lookups,
            void_lookups: outcome.void_lookups,
        });
        is_first
    }
}

impl KeptOutcome {
    fn is_for(&self, client: IpAddr, limits: &Limits) -> bool {
        let Limits { max_lookups, max_void_lookups, timeout: _ } = *limits;
        self.client == client
            && self.max_lookups == max_lookups
            && self.max_void_lookups == max_void_lookups
    }
}
