//! The last refusals, for the status: only as many as the configuration has kept, and none by default.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use super::{
    conclusion::{Conclusion, Reason},
    status::{Refusal, Shown, spell_time},
};
use crate::{auth::Identity, mail::reply::ReplyCode, session::Record};

/// The last refusals. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// How many are kept.
    limit: AtomicUsize,
    /// From the oldest to the newest.
    refusals: Mutex<VecDeque<KeptRefusal>>,
}

#[derive(Debug)]
struct KeptRefusal {
    time: SystemTime,
    reply: ReplyCode,
    reason: Reason,
    domain: Shown,
    client: Option<IpAddr>,
    queue_id: Shown,
}

impl Refusals {
    /// Keeps so many from now on.
    pub(super) fn keep(&self, limit: usize) {
        let mut kept = self.lock();
        self.0.limit.store(limit, Ordering::Relaxed);
        let surplus = kept.len().saturating_sub(limit);
        drop(kept.drain(..surplus));
        kept.shrink_to(limit);
    }

    /// How many are kept.
    pub(super) fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Keeps a refusal, if that is one.
    pub(super) fn observe(&self, record: &Record, conclusion: &Conclusion) {
        if self.limit() == 0 {
            return;
        }
        let (Some(reply), Some(reason)) = (conclusion.reply, conclusion.reason) else { return };
        let refusal = KeptRefusal {
            time: SystemTime::now(),
            reply,
            reason,
            domain: domain_of(record, reason).into(),
            client: record.client,
            queue_id: record.queue_id.as_deref().unwrap_or_default().into(),
        };
        let mut kept = self.lock();
        // The limit may have become less in the meantime.
        let limit = self.limit();
        while kept.len() >= limit.max(1) {
            kept.pop_front();
        }
        if limit > 0 {
            kept.push_back(refusal);
        }
    }

    /// The refusals, from the newest to the oldest.
    pub(super) fn list(&self) -> Vec<Refusal> {
        let client = |address: Option<IpAddr>| address.map_or_else(String::new, |a| a.to_string());
        self.lock()
            .iter()
            .rev()
            .map(|kept| Refusal {
                time: spell_time(kept.time),
                reply: kept.reply.number(),
                reason: kept.reason.as_str().into(),
                domain: kept.domain.clone(),
                client: client(kept.client).into(),
                queue_id: kept.queue_id.clone(),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<KeptRefusal>> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The domain that a refusal is about: that of the identity where it is for SPF, else the author
/// domain, else that of MAIL FROM or of HELO.
fn domain_of(record: &Record, reason: Reason) -> &str {
    let of = |identity| {
        let mut identities = record.identities.iter().map(|record| &record.verified);
        identities.find(|verified| verified.identity == identity).map(|found| &*found.domain)
    };
    let author = || {
        let outcome = record.content.as_deref()?.dmarc.as_ref()?;
        outcome.author_domain.as_ref().map(|domain| domain.as_str())
    };
    let domain = match reason {
        Reason::SpfHelo => of(Identity::Helo),
        Reason::SpfMailfrom => of(Identity::Mailfrom),
        _ => author(),
    };
    domain.or_else(|| of(Identity::Mailfrom)).or_else(|| of(Identity::Helo)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(queue_id: usize) -> (Record, Conclusion) {
        let record = Record {
            client: Some(IpAddr::from([192, 0, 2, 1])),
            queue_id: Some(queue_id.to_string()),
            ..Record::default()
        };
        let (reply, reason) = ("550".parse().ok(), Some(Reason::Dmarc));
        (record, Conclusion { reply, reason, ..Conclusion::default() })
    }

    fn ids(refusals: &Refusals) -> Vec<String> {
        refusals.list().iter().map(|refusal| refusal.queue_id.to_string()).collect()
    }

    #[test]
    fn the_last_refusals_are_kept() {
        let refusals = Refusals::default();
        let observe = |id: usize| {
            let (record, conclusion) = refusal(id);
            refusals.observe(&record, &conclusion);
        };
        observe(0);
        assert!(ids(&refusals).is_empty());
        refusals.keep(3);
        // What is not a refusal is not kept.
        refusals.observe(&Record::default(), &Conclusion::default());
        for (id, kept) in
            [(1, &["1"][..]), (2, &["2", "1"]), (3, &["3", "2", "1"]), (4, &["4", "3", "2"])]
        {
            observe(id);
            assert_eq!(ids(&refusals), kept);
        }
        let newest = &refusals.list()[0];
        assert_eq!((newest.reply, newest.reason.as_str()), (550, "dmarc"));
        assert_eq!((newest.client.as_str(), newest.domain.as_str()), ("192.0.2.1", ""));
        refusals.keep(2);
        assert_eq!(ids(&refusals), ["4", "3"]);
        refusals.keep(0);
        observe(5);
        assert!(ids(&refusals).is_empty());
    }
}
