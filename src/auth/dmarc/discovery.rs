//! Policy discovery: which policy applies to an author domain (RFC 9989 §4.10.1).

use super::{
    lookups::{Lookups, State, View, late},
    outcome::{AppliedPolicy, AppliedRecord, DiscoveryStep, PolicyTag, Problem},
    published::Published,
    record::{Policies, Policy},
    walk::Walk,
};
use crate::{
    dns::{Dns, Name},
    mail::{author::Author, domain::Domain},
};

/// The policies that apply to an author, as far as they have been looked up. Clones share what was
/// found.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub(super) author: Author,
    pub(super) lookups: Lookups,
}

impl Discovery {
    /// A discovery where nothing has been looked up.
    pub fn new(author: Author) -> Self {
        Self { author, lookups: Lookups::default() }
    }

    /// The same for another author, for when more From fields come. Answers that have come stay.
    #[must_use]
    pub fn with_author(self, author: Author) -> Self {
        Self { author, ..self }
    }

    /// The author whose policies these are.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// The same, where nothing else is needed.
    pub fn into_author(self) -> Author {
        self.author
    }

    /// Looks up the policies of all of the author's domains, at the same time.
    ///
    /// Nothing is looked up for an author without a domain. For the number of queries see the
    /// [module](super). The future may be dropped at any time: answers that have come stay, and no
    /// question is asked again.
    pub async fn advance(&self, dns: &Dns) {
        let find = |view: &mut View<'_>| {
            for domain in self.author.domains() {
                find(view, domain);
            }
        };
        self.lookups.advance(dns, find).await;
    }
}

/// The result of the discovery for one author domain.
#[derive(Clone, Debug)]
pub(super) enum Finding {
    /// No policy applies.
    Nothing(Problem),
    /// It is unknown whether one applies.
    Unknown(Problem),
    /// One applies.
    Record(Applicable),
}

/// A record that applies to an author domain.
#[derive(Clone, Debug)]
pub(super) struct Applicable {
    /// The policy, or what keeps it unknown.
    pub(super) policy: Result<AppliedPolicy, Problem>,
    pub(super) record: AppliedRecord,
    /// The organizational domain of the author domain, if it is known by now.
    pub(super) organizational_domain: Option<Domain>,
}

/// Finds the policy of one author domain, as far as it is known. The domain itself is asked for
/// first, for most walks end there.
///
/// A name on the way that is not known always matters here: it may have a record without a policy,
/// or one that ends the walk.
pub(super) fn find(view: &mut View<'_>, author_domain: &Domain) -> Finding {
    let state = view.ask(author_domain);
    if let Some(problem) = state.trouble(author_domain) {
        return Finding::Unknown(problem);
    }
    if let State::Known(Published::One(record)) = state {
        let step = DiscoveryStep::Author;
        let record = AppliedRecord { record, domain: author_domain.clone(), step };
        return apply(view, author_domain, record, None);
    }
    let mark = view.mark();
    let walk = Walk::new(view, author_domain);
    match walk.climb() {
        Ok(climb) => match climb.policy_record() {
            Some((domain, record, step)) => {
                let record = AppliedRecord { record: record.clone(), domain: domain.clone(), step };
                apply(view, author_domain, record, Some(climb.organizational_domain))
            }
            None => {
                Finding::Nothing(climb.several.map_or(Problem::NoRecord, Problem::SeveralRecords))
            }
        },
        Err(problem) => {
            // Trouble that stays is not mended by what comes after it.
            let mut unknown = walk.unknown();
            if unknown.next().is_some_and(|(_, state)| *state != State::Pending) {
                view.withdraw(mark);
            }
            Finding::Unknown(problem)
        }
    }
}

fn apply(
    view: &mut View<'_>,
    author_domain: &Domain,
    record: AppliedRecord,
    organizational_domain: Option<Domain>,
) -> Finding {
    let testing = record.record.testing;
    let Some(policies) = record.record.policies else {
        return Finding::Nothing(Problem::UnusableRecord(record.domain));
    };
    let applied =
        |(published, tag)| AppliedPolicy { published, tag, domain: record.domain.clone(), testing };
    let policy = if record.step == DiscoveryStep::Author {
        Ok(applied((policies.p, PolicyTag::P)))
    } else {
        select_for_subdomain(view, author_domain, policies, testing).map(applied)
    };
    Finding::Record(Applicable { policy, record, organizational_domain })
}

/// Selects the policy for a subdomain. Whether it exists is asked for only where that makes a
/// difference.
fn select_for_subdomain(
    view: &mut View<'_>,
    author_domain: &Domain,
    policies: Policies,
    testing: bool,
) -> Result<(Policy, PolicyTag), Problem> {
    let existing = policies.sp.map_or((policies.p, PolicyTag::P), |sp| (sp, PolicyTag::Sp));
    let effective = |policy: Policy| if testing { policy.lowered() } else { policy };
    let Some(np) = policies.np.filter(|np| effective(*np) != effective(existing.0)) else {
        return Ok(existing);
    };
    match view.ask_existence(author_domain) {
        State::Known(true) => Ok(existing),
        State::Known(false) => Ok((np, PolicyTag::Np)),
        State::Failed(problem) => Err(problem),
        State::Pending => Err(late(Name::from(author_domain))),
    }
}
