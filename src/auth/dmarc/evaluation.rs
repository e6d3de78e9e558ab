//! Alignment of identifiers, and the result (RFC 9989 §4.10.2, §5.3).

use super::{
    discovery::{Applicable, Discovery, Finding},
    outcome::{DmarcResult, Identifier, Outcome, Problem},
    record::{Alignment, Policy},
    walk::Records,
};
use crate::{
    dns::Dns,
    mail::{author::Author, domain::Domain, spf_result::SpfResult},
};

/// What SPF and DKIM found, as far as DMARC asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identifiers {
    /// The domain and result of the MAIL FROM identity: with a null reverse-path that of `postmaster` at the HELO name. The HELO
    /// identity itself never counts (RFC 9989 §4.4.2). `None` if there was no domain to verify.
    pub spf: Option<(Domain, SpfResult)>,
    /// The signatures that were verified.
    pub dkim: Vec<DkimIdentifier>,
}

/// A DKIM signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DkimIdentifier {
    /// The signing domain (`d=`).
    pub domain: Domain,
    /// What became of it.
    pub status: DkimStatus,
}

/// What became of a DKIM signature, as far as DMARC asks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DkimStatus {
    /// It is valid, and good enough for DMARC.
    Pass,
    /// It could not be verified for trouble that may go away.
    Temperror,
    /// It is not valid, or not good enough.
    Other,
}

/// Evaluates DMARC for a message.
///
/// A pass takes an aligned identifier that passed, and then no trouble elsewhere matters. Without one, trouble that may have hidden one
/// gives a temperror: of the policy, of an identifier that is or may be aligned, of a tree walk (RFC 9989 §5.3.6). For authors of several
/// domains and repeated From fields see [`Author`].
pub async fn evaluate(dns: &Dns, discovery: &Discovery, identifiers: &Identifiers) -> Outcome {
    let mut records = discovery.records.clone();
    let nothing = Identifiers::default();
    let (identifiers, problem) = match &discovery.author {
        Author::Missing => return permerror(None, Problem::NoFrom),
        Author::Malformed(reason) => return permerror(None, Problem::MalformedFrom(*reason)),
        Author::One(_) => (identifiers, None),
        Author::Several(_) => (identifiers, Some(Problem::SeveralAuthorDomains)),
        Author::SeveralFields(_) => (&nothing, Some(Problem::SeveralFromFields)),
    };
    let mut outcomes = Vec::new();
    for (author_domain, finding) in discovery.author.domains().iter().zip(&discovery.findings) {
        outcomes.push(evaluate_domain(dns, &mut records, author_domain, finding, identifiers).await);
    }
    match problem {
        None => outcomes.pop().unwrap_or_else(|| permerror(None, Problem::NoFrom)),
        Some(problem) => combine(&discovery.author, outcomes, problem),
    }
}

fn permerror(author_domain: Option<Domain>, problem: Problem) -> Outcome {
    Outcome {
        result: DmarcResult::Permerror,
        author_domain,
        policy: None,
        organizational_domain: None,
        aligned: Vec::new(),
        problem: Some(problem),
    }
}

/// Makes one outcome of those of several author domains, as [`Author`] says.
fn combine(author: &Author, outcomes: Vec<Outcome>, problem: Problem) -> Outcome {
    let strictness = |outcome: &Outcome| match outcome.result {
        DmarcResult::Fail => Some(match outcome.policy.as_ref().map_or(Policy::None, |policy| policy.effective()) {
            Policy::None => 0,
            Policy::Quarantine => 1,
            Policy::Reject => 3,
        }),
        // Trouble may have hidden the strictest policy.
        DmarcResult::Temperror => Some(2),
        _ => None,
    };
    let complete = matches!(author, Author::Several(domains) if !domains.is_truncated());
    let none = complete && outcomes.iter().all(|outcome| outcome.result == DmarcResult::None);
    let first = outcomes.first().and_then(|outcome| outcome.author_domain.clone());
    // Of equals, the last maximum is taken: so from the last to the first.
    let strictest = outcomes.into_iter().rev().filter(|outcome| strictness(outcome).is_some()).max_by_key(strictness);
    match strictest {
        Some(outcome) => Outcome { problem: outcome.problem.or(Some(problem)), ..outcome },
        None if none => Outcome { result: DmarcResult::None, ..permerror(first, Problem::NoRecord) },
        None => permerror(first, problem),
    }
}

async fn evaluate_domain(
    dns: &Dns,
    records: &mut Records,
    author_domain: &Domain,
    finding: &Finding,
    identifiers: &Identifiers,
) -> Outcome {
    let outcome = |result, problem: Option<Problem>| Outcome {
        result,
        author_domain: Some(author_domain.clone()),
        policy: None,
        organizational_domain: None,
        aligned: Vec::new(),
        problem,
    };
    let applicable = match finding {
        Finding::Nothing(problem) => return outcome(DmarcResult::None, Some(problem.clone())),
        Finding::Unknown(problem) => return outcome(DmarcResult::Temperror, Some(problem.clone())),
        Finding::Record(applicable) => applicable,
    };
    let organizational_domain = applicable.organizational_domain.clone().map(Ok);
    let mut evaluation = Evaluation { dns, records, author_domain, applicable, organizational_domain };
    let (passed, unverified) = candidates(identifiers);
    let (aligned, trouble) = evaluation.find_aligned(&passed).await;
    let (result, problem) = if !aligned.is_empty() {
        (DmarcResult::Pass, None)
    } else if trouble.is_some() {
        (DmarcResult::Temperror, trouble)
    } else {
        let (hidden, trouble) = evaluation.find_aligned(&unverified).await;
        match hidden.into_iter().next().map(Problem::Unverified).or(trouble) {
            None => (DmarcResult::Fail, None),
            problem => (DmarcResult::Temperror, problem),
        }
    };
    let organizational_domain = evaluation.organizational_domain.and_then(Result::ok);
    let (result, policy, problem) = match applicable.policy.clone() {
        Ok(policy) => (result, Some(policy), problem),
        // Without the policy there is nothing to fail.
        Err(trouble) if result == DmarcResult::Fail => (DmarcResult::Temperror, None, Some(trouble)),
        Err(trouble) => (result, None, problem.or(Some(trouble))),
    };
    Outcome { policy, organizational_domain, aligned, ..outcome(result, problem) }
}

/// The distinct identifiers that passed, and those that could not be verified for trouble that may go away.
fn candidates(identifiers: &Identifiers) -> (Vec<Identifier>, Vec<Identifier>) {
    let spf = identifiers.spf.iter().filter_map(|(domain, result)| match result {
        SpfResult::Pass => Some((true, Identifier::Spf(domain.clone()))),
        SpfResult::Temperror => Some((false, Identifier::Spf(domain.clone()))),
        _ => None,
    });
    let dkim = identifiers.dkim.iter().filter_map(|signature| match signature.status {
        DkimStatus::Pass => Some((true, Identifier::Dkim(signature.domain.clone()))),
        DkimStatus::Temperror => Some((false, Identifier::Dkim(signature.domain.clone()))),
        DkimStatus::Other => None,
    });
    let (mut passed, mut unverified) = (Vec::new(), Vec::new());
    for (pass, identifier) in spf.chain(dkim) {
        let list = if pass { &mut passed } else { &mut unverified };
        if !list.contains(&identifier) {
            list.push(identifier);
        }
    }
    (passed, unverified)
}

/// The search for aligned identifiers of one author domain.
struct Evaluation<'a> {
    dns: &'a Dns,
    records: &'a mut Records,
    author_domain: &'a Domain,
    applicable: &'a Applicable,
    organizational_domain: Option<Result<Domain, Problem>>,
}

impl Evaluation<'_> {
    /// Finds aligned identifiers: all that are the author domain itself, and only if there are none, the first that is otherwise aligned.
    /// Also tells the first trouble.
    async fn find_aligned(&mut self, identifiers: &[Identifier]) -> (Vec<Identifier>, Option<Problem>) {
        let same: Vec<_> =
            identifiers.iter().filter(|identifier| self.parts(identifier).0 == self.author_domain).cloned().collect();
        if !same.is_empty() {
            return (same, None);
        }
        let mut trouble = None;
        for identifier in identifiers {
            let (domain, alignment) = self.parts(identifier);
            if alignment == Alignment::Strict {
                continue;
            }
            match self.is_related(domain).await {
                Ok(true) => return (vec![identifier.clone()], None),
                Ok(false) => {}
                Err(problem) => trouble = trouble.or(Some(problem)),
            }
        }
        (Vec::new(), trouble)
    }

    fn parts<'b>(&self, identifier: &'b Identifier) -> (&'b Domain, Alignment) {
        match identifier {
            Identifier::Spf(domain) => (domain, self.applicable.aspf),
            Identifier::Dkim(domain) => (domain, self.applicable.adkim),
        }
    }

    /// Whether a domain has the organizational domain of the author domain.
    ///
    /// That is a domain at or above both. So a domain of another top-level domain needs no query, and one that is not at or below the
    /// author's organizational domain needs no walk.
    async fn is_related(&mut self, domain: &Domain) -> Result<bool, Problem> {
        if domain.labels().next_back() != self.author_domain.labels().next_back() {
            return Ok(false);
        }
        let wanted = match &self.organizational_domain {
            Some(known) => known.clone()?,
            None => {
                let found = self.records.climb(self.dns, self.author_domain).await.map(|climb| climb.organizational_domain());
                self.organizational_domain.insert(found).clone()?
            }
        };
        if *domain != wanted && !domain.is_subdomain_of(&wanted) {
            return Ok(false);
        }
        Ok(self.records.climb(self.dns, domain).await?.organizational_domain() == wanted)
    }
}
