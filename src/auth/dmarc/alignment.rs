//! Alignment of identifiers with an author domain (RFC 9989 §4.4, §4.10.2).

use super::{
    discovery::Applicable,
    identifiers::{DkimStatus, Identifiers},
    lookups::{State, View},
    outcome::{DmarcResult, Identifier, IdentifierAlignment, Problem, RelaxedAlignment},
    record::{Alignment, Psd, Record},
    walk::Walk,
};
use crate::mail::{domain::Domain, results::SpfResult};

/// The alignment of all identifiers with one author domain.
#[derive(Debug)]
pub(super) struct Alignments {
    /// Pass, fail or temperror.
    pub(super) result: DmarcResult,
    /// With a pass: all that are the author domain itself; only if there are none, the first that
    /// is otherwise aligned.
    pub(super) aligned: Vec<Identifier>,
    /// With a temperror: why.
    pub(super) problem: Option<Problem>,
    /// The organizational domain of the author domain, where it is known.
    pub(super) organizational_domain: Option<Domain>,
    /// How each identifier stands to the author domain, as far as is known.
    pub(super) all: Vec<IdentifierAlignment>,
}

/// Aligns identifiers with an author domain, as far as the answers are known; names that could
/// change the result are looked up.
pub(super) fn align(
    view: &mut View<'_>,
    author_domain: &Domain,
    applicable: &Applicable,
    identifiers: &Identifiers,
) -> Alignments {
    let known = applicable.organizational_domain.clone();
    let mode_of = |identifier: &Identifier| mode(&applicable.record.record, identifier);
    let mut alignments = judge(view, author_domain, known, mode_of, identifiers);
    let mark = view.mark();
    let organizational_domain = alignments.organizational_domain.as_ref();
    let alignment = |(identifier, passed): (Identifier, Option<bool>)| {
        let mode = mode_of(&identifier);
        let is_aligned = if alignments.aligned.contains(&identifier) {
            Some(true)
        } else {
            is_aligned(view, author_domain, organizational_domain, identifier.domain(), mode)
        };
        IdentifierAlignment { identifier, passed: passed == Some(true), mode, is_aligned }
    };
    alignments.all = listed(identifiers).map(alignment).collect();
    // Alignments that are not known by now do not justify a query.
    view.withdraw(mark);
    alignments
}

/// Aligns identifiers with an author domain in relaxed mode, whatever records say, as far as the
/// answers are known; names that could change the result are looked up.
pub(super) fn align_relaxed(
    view: &mut View<'_>,
    author_domain: &Domain,
    identifiers: &Identifiers,
) -> RelaxedAlignment {
    match judge(view, author_domain, None, |_| Alignment::Relaxed, identifiers).result {
        DmarcResult::Pass => RelaxedAlignment::Aligned,
        DmarcResult::Temperror => RelaxedAlignment::Unknown,
        _ => RelaxedAlignment::Unaligned,
    }
}

/// The first of some domains with which an identifier that passed is aligned, in relaxed mode,
/// whatever their records say.
pub(super) fn first_aligned(
    view: &mut View<'_>,
    domains: &[Domain],
    identifiers: &Identifiers,
) -> Option<Domain> {
    let (passed, _) = candidates(identifiers);
    let passed: Vec<&Domain> = passed.iter().map(Identifier::domain).collect();
    // What needs no look-up comes first.
    if let Some(same) = domains.iter().find(|domain| passed.contains(domain)) {
        return Some(same.clone());
    }
    let is_wanted = |view: &mut View<'_>, domain: &Domain| {
        let near: Vec<_> = passed.iter().filter(|passed| is_near(passed, domain)).collect();
        let climb = (!near.is_empty()).then(|| Walk::new(view, domain).climb().ok())??;
        let organizational_domain = Some(&climb.organizational_domain);
        let mode = Alignment::Relaxed;
        near.into_iter().find_map(|passed| {
            is_aligned(view, domain, organizational_domain, passed, mode).filter(|is| *is)
        })
    };
    domains.iter().find(|domain| is_wanted(view, domain).is_some()).cloned()
}

/// Whether a domain is aligned with the author domain; `None` where that is not known.
fn is_aligned(
    view: &mut View<'_>,
    author_domain: &Domain,
    organizational_domain: Option<&Domain>,
    domain: &Domain,
    mode: Alignment,
) -> Option<bool> {
    if domain == author_domain {
        return Some(true);
    }
    if mode == Alignment::Strict || !is_near(domain, author_domain) {
        return Some(false);
    }
    let wanted = organizational_domain?;
    if domain != wanted && !domain.is_subdomain_of(wanted) {
        return Some(false);
    }
    let climb = Walk::new(view, domain).climb().ok()?;
    Some(climb.organizational_domain == *wanted)
}

/// The mode of an identifier's method.
fn mode(record: &Record, identifier: &Identifier) -> Alignment {
    match identifier {
        Identifier::Spf(_) => record.aspf,
        Identifier::Dkim(_) => record.adkim,
    }
}

/// Whether both domains are of one top-level domain; otherwise they have nothing in common.
fn is_near(domain: &Domain, author_domain: &Domain) -> bool {
    domain.labels().next_back() == author_domain.labels().next_back()
}

/// The result of the alignment, where the organizational domain of the author domain may be known.
fn judge(
    view: &mut View<'_>,
    author_domain: &Domain,
    organizational_domain: Option<Domain>,
    mode: impl Fn(&Identifier) -> Alignment,
    identifiers: &Identifiers,
) -> Alignments {
    let alignments = |result, aligned, problem| Alignments {
        result,
        aligned,
        problem,
        organizational_domain,
        all: Vec::new(),
    };
    let (passed, unverified) = candidates(identifiers);
    let same = |list: &[Identifier]| {
        list.iter()
            .filter(|identifier| identifier.domain() == author_domain)
            .cloned()
            .collect::<Vec<_>>()
    };
    let aligned = same(&passed);
    if !aligned.is_empty() {
        return alignments(DmarcResult::Pass, aligned, None);
    }
    let near = |list: Vec<Identifier>| {
        let near = |identifier: &Identifier| {
            mode(identifier) == Alignment::Relaxed
                && is_near(identifier.domain(), author_domain)
                && identifier.domain() != author_domain
        };
        list.into_iter().filter(near).collect::<Vec<_>>()
    };
    let hidden = same(&unverified).into_iter().next();
    let (passed, unverified) = (near(passed), near(unverified));
    if passed.is_empty() && (hidden.is_some() || unverified.is_empty()) {
        let result = if hidden.is_some() { DmarcResult::Temperror } else { DmarcResult::Fail };
        return alignments(result, Vec::new(), hidden.map(Problem::Unverified));
    }
    let mark = view.mark();
    let relations = Relations::new(view, author_domain, passed, unverified);
    let (result, aligned, problem) = relations.result(hidden);
    if result != DmarcResult::Temperror {
        view.withdraw(mark);
    }
    let known = relations.author.climb().ok().map(|climb| climb.organizational_domain);
    Alignments { organizational_domain: known, ..alignments(result, aligned, problem) }
}

/// The distinct identifiers that passed, and those that could not be verified for trouble that may
/// go away.
fn candidates(identifiers: &Identifiers) -> (Vec<Identifier>, Vec<Identifier>) {
    let (mut passed, mut unverified) = (Vec::new(), Vec::new());
    for (identifier, pass) in listed(identifiers) {
        let list = match pass {
            Some(true) => &mut passed,
            Some(false) => continue,
            None => &mut unverified,
        };
        if !list.contains(&identifier) {
            list.push(identifier);
        }
    }
    (passed, unverified)
}

/// All identifiers, and whether they passed; `None` for trouble that may go away.
fn listed(identifiers: &Identifiers) -> impl Iterator<Item = (Identifier, Option<bool>)> {
    let spf = identifiers.spf.iter().map(|(domain, result)| {
        let passed = (*result != SpfResult::Temperror).then_some(*result == SpfResult::Pass);
        (Identifier::Spf(domain.clone()), passed)
    });
    let dkim = identifiers.dkim.iter().map(|signature| {
        let passed = match signature.status {
            DkimStatus::Pass => Some(true),
            DkimStatus::Other => Some(false),
            DkimStatus::Temperror => None,
        };
        (Identifier::Dkim(signature.domain.clone()), passed)
    });
    spf.chain(dkim)
}

/// An identifier, and the walk from its domain; `None` where that need not be known (yet).
type Related = (Identifier, Option<Walk>);

/// Whether identifiers have the organizational domain of the author domain, as far as is known.
///
/// Several names may be without an answer. Each may have no record, a record, or a record that ends
/// the walk (`psd=n`, `psd=y`); all other records are like one of these. The walks share names.
/// These rules keep the number of cases small:
///
/// - Names of the author's walk: the more of them have records, the further up the organizational
///   domain moves, and with it more identifiers are related. It is enough to look at cases where at
///   most one of the unknown names has a record.
/// - Other names: `psd=n` there never makes an identifier related, and no record there never keeps
///   it from that.
struct Relations {
    author: Walk,
    cases: Vec<Case>,
    passed: Vec<Related>,
    unverified: Vec<Related>,
}

/// A case of records at the unknown names of the author's walk.
struct Case {
    /// The one that has a record, and its `psd`.
    record: Option<(Domain, Psd)>,
    /// The organizational domain of the author domain then.
    organizational_domain: Domain,
}

impl Relations {
    fn new(
        view: &mut View<'_>,
        author_domain: &Domain,
        passed: Vec<Identifier>,
        unverified: Vec<Identifier>,
    ) -> Self {
        let author = Walk::new(view, author_domain);
        let records = author.unknown().flat_map(|(domain, _)| {
            [Psd::Unstated, Psd::No, Psd::Yes].map(|psd| Some((domain.clone(), psd)))
        });
        let case = |record: Option<(Domain, Psd)>| {
            let assumed = |domain: &Domain| {
                record.as_ref().filter(|(there, _)| there == domain).map(|(_, psd)| *psd)
            };
            let organizational_domain = author.organizational_domain(assumed);
            Case { record, organizational_domain }
        };
        let cases: Vec<Case> = [None].into_iter().chain(records).map(case).collect();
        let may_be_related = |domain: &Domain| {
            let is_within = |case: &Case| {
                *domain == case.organizational_domain
                    || domain.is_subdomain_of(&case.organizational_domain)
            };
            cases.iter().any(is_within)
        };
        // Names below the author domain have to be looked up in any case; of the others only those
        // within its organizational domain.
        let is_pending = author.is_pending();
        let may_ask = |domain: &Domain| {
            if is_pending { domain.is_subdomain_of(author_domain) } else { may_be_related(domain) }
        };
        let mut walks = |identifiers: Vec<Identifier>| -> Vec<Related> {
            let walk = |identifier: Identifier| {
                let walk =
                    may_ask(identifier.domain()).then(|| Walk::new(view, identifier.domain()));
                (identifier, walk)
            };
            identifiers.into_iter().map(walk).collect()
        };
        let (passed, unverified) = (walks(passed), walks(unverified));
        Self { author, cases, passed, unverified }
    }

    /// Whether an identifier is related in a case, with this at the unknown names that the author's
    /// walk does not have.
    fn is_related(
        &self,
        case: &Case,
        (identifier, walk): &Related,
        elsewhere: Option<Psd>,
    ) -> bool {
        let wanted = &case.organizational_domain;
        let domain = identifier.domain();
        // An organizational domain is at or above each domain that it is the one of.
        if domain != wanted && !domain.is_subdomain_of(wanted) {
            return false;
        }
        let Some(walk) = walk else { return elsewhere.is_none() };
        let assumed = |domain: &Domain| match &case.record {
            Some((there, psd)) if there == domain => Some(*psd),
            _ if self.author.steps.iter().any(|(step, _)| step == domain) => None,
            _ => elsewhere,
        };
        walk.organizational_domain(assumed) == *wanted
    }

    fn is_certain(&self, related: &Related) -> bool {
        self.cases.iter().all(|case| self.is_related(case, related, Some(Psd::No)))
    }

    fn is_possible(&self, related: &Related) -> bool {
        self.cases.iter().any(|case| self.is_related(case, related, None))
    }

    /// `hidden` is an identifier that is the author domain and could not be verified.
    fn result(
        &self,
        hidden: Option<Identifier>,
    ) -> (DmarcResult, Vec<Identifier>, Option<Problem>) {
        let related_in = |case: &Case| {
            self.passed.iter().find(|related| self.is_related(case, related, Some(Psd::No)))
        };
        if self.cases.iter().all(|case| related_in(case).is_some()) {
            let certain = self.passed.iter().find(|related| self.is_certain(related));
            let aligned = certain
                .or_else(|| self.cases.iter().find_map(related_in))
                .map(|(identifier, _)| identifier.clone());
            return (DmarcResult::Pass, aligned.into_iter().collect(), None);
        }
        let temperror = |problem| (DmarcResult::Temperror, Vec::new(), problem);
        if let Some(related) = self.passed.iter().find(|related| self.is_possible(related)) {
            return temperror(self.trouble(related));
        }
        if let Some(identifier) = hidden {
            return temperror(Some(Problem::Unverified(identifier)));
        }
        if let Some((identifier, _)) =
            self.unverified.iter().find(|related| self.is_certain(related))
        {
            return temperror(Some(Problem::Unverified(identifier.clone())));
        }
        match self.unverified.iter().find(|related| self.is_possible(related)) {
            Some(related) => temperror(self.trouble(related)),
            None => (DmarcResult::Fail, Vec::new(), None),
        }
    }

    /// The trouble that keeps it unknown whether an identifier is related.
    fn trouble(&self, (identifier, walk): &Related) -> Option<Problem> {
        let own = || match walk {
            Some(walk) => walk.trouble(),
            None => State::Pending.trouble(identifier.domain()),
        };
        self.author.trouble().or_else(own)
    }
}
