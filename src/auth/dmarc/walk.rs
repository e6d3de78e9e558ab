//! The DNS tree walk: from a domain to its organizational domain (RFC 9989 §4.10).

use std::iter;

use super::{
    outcome::Problem,
    record::{Psd, Record},
    records::{Records, State, View},
};
use crate::{
    dns::{Dns, Name},
    mail::domain::Domain,
};

/// A domain of this many labels or more is cut to [`LABELS_AFTER_CUT`] labels after the first query
/// (RFC 9989 §4.10, step 4).
const LABELS_OF_LONG_DOMAIN: usize = 8;
/// See [`LABELS_OF_LONG_DOMAIN`].
const LABELS_AFTER_CUT: usize = 7;

/// Finds the organizational domain of a domain (RFC 9989 §4.10.2), with at most 8 queries.
///
/// # Errors
///
/// The [`Problem::Lookup`] that keeps it unknown.
pub async fn organizational_domain(dns: &Dns, domain: &Domain) -> Result<Domain, Problem> {
    let records = Records::default();
    let find = |view: &mut View<'_>| {
        Walk::new(view, domain).climb().map(|climb| climb.organizational_domain())
    };
    records.advance(dns, find).await
}

/// What is published at one name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Published {
    /// No DMARC record.
    Nothing,
    /// One.
    One(Record),
    /// Several, which are all discarded (RFC 9989 §4.10, step 2).
    Several,
}

impl Published {
    fn ends_walk(self) -> bool {
        matches!(self, Self::One(record) if record.psd != Psd::Unstated)
    }
}

/// The steps of a walk, as far as they are known.
#[derive(Debug)]
pub(super) struct Walk {
    start: Domain,
    /// From the start upwards, to the end of the walk; beyond a name that is not known, to where
    /// the walk may end.
    pub(super) steps: Vec<(Domain, State)>,
}

impl Walk {
    /// Walks up the tree. All names that the walk may come to are asked for at once, so that one
    /// that is silent hides no other.
    pub(super) fn new(view: &mut View<'_>, start: &Domain) -> Self {
        let mut walk = Self { start: start.clone(), steps: Vec::new() };
        let mut ended = walk.step(start, view.ask(start));
        if !ended {
            for target in targets_above(start) {
                ended = ended || walk.step(&target, view.ask(&target));
            }
        }
        walk
    }

    /// Takes what is known of a step. Tells whether the walk is known to end here.
    fn step(&mut self, domain: &Domain, state: State) -> bool {
        let ended = matches!(state, State::Known(published) if published.ends_walk());
        self.steps.push((domain.clone(), state));
        ended
    }

    /// Whether an answer is still to come that the walk may depend on.
    pub(super) fn is_pending(&self) -> bool {
        self.steps.iter().any(|(_, state)| *state == State::Pending)
    }

    /// What the walk found.
    ///
    /// # Errors
    ///
    /// The first trouble on the way.
    pub(super) fn climb(&self) -> Result<Climb, Problem> {
        match self.trouble() {
            Some(problem) => Err(problem),
            None => Ok(self.climb_assuming(|_| Published::Nothing)),
        }
    }

    /// The first trouble on the way.
    pub(super) fn trouble(&self) -> Option<Problem> {
        self.steps.iter().find_map(|(domain, state)| state.trouble(domain))
    }

    /// What the walk would find, if this were published at the names that are not known.
    pub(super) fn climb_assuming(&self, assumed: impl Fn(&Domain) -> Published) -> Climb {
        let mut climb = Climb { start: self.start.clone(), records: Vec::new(), several: None };
        for (domain, state) in &self.steps {
            let published = match state {
                State::Known(published) => *published,
                State::Failed(_) | State::Pending => assumed(domain),
            };
            if climb.step(domain, published) {
                break;
            }
        }
        climb
    }
}

/// What a walk found.
#[derive(Clone, Debug)]
pub(super) struct Climb {
    start: Domain,
    /// From the longest domain to the shortest.
    records: Vec<(Domain, Record)>,
    /// The first domain that had several records.
    pub(super) several: Option<Domain>,
}

impl Climb {
    /// Takes what was found at a step. Tells whether the walk ends here.
    fn step(&mut self, domain: &Domain, published: Published) -> bool {
        match published {
            Published::Nothing => {}
            Published::One(record) => self.records.push((domain.clone(), record)),
            Published::Several => {
                self.several = self.several.take().or_else(|| Some(domain.clone()))
            }
        }
        published.ends_walk()
    }

    /// Selects the organizational domain (RFC 9989 §4.10.2).
    ///
    /// Only the last record can have `psd=y` or `psd=n`, since either ends the walk.
    pub(super) fn organizational_domain(&self) -> Domain {
        match self.records.last() {
            Some((domain, record)) if record.psd == Psd::Yes && *domain != self.start => {
                ancestors(&self.start)
                    .find(|below| below.parent().as_ref() == Some(domain))
                    .unwrap_or_else(|| self.start.clone())
            }
            Some((domain, _)) => domain.clone(),
            None => self.start.clone(),
        }
    }

    /// Selects the record that applies to the start, which has none of its own: that of the
    /// organizational domain, else that of the public suffix domain (RFC 9989 §4.10.1).
    pub(super) fn policy_record(&self) -> Option<&(Domain, Record)> {
        let organizational_domain = self.organizational_domain();
        self.records
            .iter()
            .find(|(domain, _)| *domain == organizational_domain)
            .or_else(|| self.records.last())
    }
}

/// The domain and all above it, up to the top-level domain.
fn ancestors(domain: &Domain) -> impl Iterator<Item = Domain> {
    iter::successors(Some(domain.clone()), Domain::parent)
}

/// The targets of a walk after the start: at most 7.
fn targets_above(start: &Domain) -> Vec<Domain> {
    let labels = start.labels().count();
    let skipped =
        if labels >= LABELS_OF_LONG_DOMAIN { labels.saturating_sub(LABELS_AFTER_CUT) } else { 1 };
    ancestors(start).skip(skipped).collect()
}

pub(super) async fn query(dns: &Dns, domain: &Domain) -> Result<Published, Problem> {
    // A name that is too long cannot exist.
    let Some(name) = Name::new(&format!("_dmarc.{domain}")) else { return Ok(Published::Nothing) };
    match dns.txt(&name).await {
        Ok(texts) => {
            let mut records = texts.iter().filter_map(|text| Record::parse(text));
            Ok(match (records.next(), records.next()) {
                (None, _) => Published::Nothing,
                (Some(record), None) => Published::One(record),
                (Some(_), Some(_)) => Published::Several,
            })
        }
        Err(failure) if failure.is_void() => Ok(Published::Nothing),
        Err(failure) => Err(Problem::Lookup(name, failure)),
    }
}

/// Whether a domain exists (RFC 9989 §3.2.13): it does unless DNS denies the name itself. An alias
/// exists, whatever it is an alias of.
pub(super) async fn exists(dns: &Dns, domain: &Domain) -> Result<bool, Problem> {
    let name = Name::from(domain);
    dns.exists(&name).await.map_err(|failure| Problem::Lookup(name, failure))
}
