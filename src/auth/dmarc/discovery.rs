//! Policy discovery: which policy applies to an author domain (RFC 9989 §4.10.1).

use super::{
    outcome::{AppliedPolicy, PolicyTag, Problem},
    record::{Alignment, Policies, Policy, Record},
    walk::{Published, Records, exists},
};
use crate::{
    dns::Dns,
    mail::{author::Author, domain::Domain},
};

/// The policies that apply to an author.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub(super) author: Author,
    /// For each domain of the author, in the same order.
    pub(super) findings: Vec<Finding>,
    pub(super) records: Records,
}

impl Discovery {
    /// The author that this was found for. If more From fields came afterwards, discovery has to be done again.
    pub fn author(&self) -> &Author {
        &self.author
    }
}

/// What was found for one author domain.
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
    pub(super) adkim: Alignment,
    pub(super) aspf: Alignment,
    /// The organizational domain of the author domain, if it is known by now.
    pub(super) organizational_domain: Option<Domain>,
}

/// Finds the policies that apply to an author.
///
/// Nothing is looked up for an author without a domain. For the number of queries see the [module](super).
pub async fn discover(dns: &Dns, author: &Author) -> Discovery {
    let mut records = Records::default();
    let mut findings = Vec::new();
    for domain in author.domains() {
        findings.push(find(dns, &mut records, domain).await.unwrap_or_else(Finding::Unknown));
    }
    Discovery { author: author.clone(), findings, records }
}

async fn find(dns: &Dns, records: &mut Records, author_domain: &Domain) -> Result<Finding, Problem> {
    if let Published::One(record) = records.look_up(dns, author_domain).await? {
        return Ok(apply(dns, author_domain, author_domain, &record, None).await);
    }
    let climb = records.climb(dns, author_domain).await?;
    Ok(match climb.policy_record() {
        Some((domain, record)) => apply(dns, author_domain, domain, record, Some(climb.organizational_domain())).await,
        None => Finding::Nothing(climb.several.map_or(Problem::NoRecord, Problem::SeveralRecords)),
    })
}

async fn apply(
    dns: &Dns,
    author_domain: &Domain,
    policy_domain: &Domain,
    record: &Record,
    organizational_domain: Option<Domain>,
) -> Finding {
    let Some(policies) = record.policies else {
        return Finding::Nothing(Problem::UnusableRecord(policy_domain.clone()));
    };
    let selected = if author_domain == policy_domain {
        Ok((policies.p, PolicyTag::P))
    } else {
        select_for_subdomain(dns, author_domain, policies).await
    };
    let policy =
        selected.map(|(published, tag)| AppliedPolicy { published, tag, domain: policy_domain.clone(), testing: record.testing });
    Finding::Record(Applicable { policy, adkim: record.adkim, aspf: record.aspf, organizational_domain })
}

/// Selects the policy for a subdomain. Whether it exists is asked for only where that makes a difference.
async fn select_for_subdomain(dns: &Dns, author_domain: &Domain, policies: Policies) -> Result<(Policy, PolicyTag), Problem> {
    let existing = policies.sp.map_or((policies.p, PolicyTag::P), |sp| (sp, PolicyTag::Sp));
    match policies.np {
        Some(np) if np != existing.0 && !exists(dns, author_domain).await? => Ok((np, PolicyTag::Np)),
        _ => Ok(existing),
    }
}
