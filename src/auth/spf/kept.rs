//! Outcomes of checks, kept with the record of the sender's domain.
//!
//! Much mail comes from the same clients for the same domain. While the answers that a check needed
//! hold, a check of the same client for the same domain comes to the same outcome, whoever the
//! sender is, unless a record has macros.
//!
//! Only the outcome of a check that found all of its answers in the cache is kept: of one that had
//! to wait it is not known how long it holds, and most such clients do not come again. A full
//! cache may lose answers that a check did not need again; what rests on them holds all the same.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::{limits::Limits, outcome::Outcome};

/// The most outcomes that are kept with a record: those of the clients that came last.
const MAX_OUTCOMES: usize = 4;

/// The most octets of the texts of an outcome that is kept: a mechanism may have thousands.
const MAX_TEXTS: usize = 128;

/// Octets that a shared text takes beside its content.
const SHARED: usize = 4 * size_of::<usize>();

/// Outcomes that are kept with a record.
#[derive(Debug, Default)]
pub(super) struct KeptOutcomes {
    outcomes: Mutex<ByAge>,
}

/// Outcomes, the last that was kept without a detour.
#[derive(Debug, Default)]
struct ByAge {
    last: Option<KeptOutcome>,
    /// From the oldest on.
    earlier: Vec<KeptOutcome>,
}

/// What is kept does not make a record another one.
impl PartialEq for KeptOutcomes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An outcome, and what it holds for.
#[derive(Debug)]
struct KeptOutcome {
    client: IpAddr,
    limits: [usize; 2],
    /// When the time of the first answer is over.
    until: Instant,
    /// It has no problem and no explanation.
    outcome: Arc<Outcome>,
}

impl KeptOutcomes {
    /// The most octets of memory that outcomes take.
    pub(super) const WEIGHT: usize =
        MAX_OUTCOMES * (size_of::<KeptOutcome>() + size_of::<Outcome>() + MAX_TEXTS + 3 * SHARED);

    /// Whether none was kept yet, as far as that is known.
    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.try_lock().map_or(true, |outcomes| outcomes.last.is_none())
    }

    /// The outcome of a check of this client within these limits, at this time, and when its time is
    /// over.
    pub(super) fn find(
        &self,
        client: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Option<(Arc<Outcome>, Instant)> {
        // Another thread is here, or did not survive it: the check goes on without.
        let outcomes = self.outcomes.try_lock().ok()?;
        let mut all = outcomes.last.iter().chain(&outcomes.earlier);
        let kept = all.find(|kept| kept.is_for(client, limits))?;
        (now < kept.until).then(|| (Arc::clone(&kept.outcome), kept.until))
    }

    /// Keeps an outcome that can be kept until then, in place of the oldest if need be.
    pub(super) fn keep(
        &self,
        client: IpAddr,
        limits: &Limits,
        outcome: &Arc<Outcome>,
        until: Instant,
    ) {
        let Ok(mut outcomes) = self.outcomes.try_lock() else { return };
        let ByAge { last, earlier } = &mut *outcomes;
        earlier.extend(last.take());
        earlier.retain(|kept| !kept.is_for(client, limits));
        if earlier.len() >= MAX_OUTCOMES {
            earlier.remove(0);
        }
        let (limits, outcome) = (limits.allowed(), Arc::clone(outcome));
        *last = Some(KeptOutcome { client, limits, until, outcome });
    }
}

/// Whether an outcome is one that can be kept: it has no problem, no explanation and no long texts.
pub(super) fn can_be_kept(outcome: &Outcome) -> bool {
    let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
    outcome.problem.is_none()
        && outcome.explanation.is_none()
        && length(&outcome.mechanism) + length(&outcome.policy_domain) <= MAX_TEXTS
}

impl KeptOutcome {
    fn is_for(&self, client: IpAddr, limits: &Limits) -> bool {
        self.client == client && self.limits == limits.allowed()
    }
}
