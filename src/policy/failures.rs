//! What calls for actions at the end of a message, beside SPF and DMARC.

use super::{facts::MessageFacts, refusal::Refusal};
use crate::{
    auth::{
        dmarc::{self, DkimStatus, DmarcResult, Identifiers, Policy},
        iprev::IprevResult,
    },
    config::{Action, Config, OwnPolicy},
    mail::{author::Author, results::SpfResult},
};

/// What fails, with the action for it, which may be none. Trouble that may go away is no failure.
pub(super) fn failures(
    config: &Config,
    facts: &MessageFacts<'_>,
) -> impl Iterator<Item = (Refusal, Action)> {
    let iprev = facts.iprev.map(|outcome| outcome.result);
    let iprev_fails = matches!(iprev, Some(IprevResult::Fail | IprevResult::Permerror));
    [
        (is_forged_local(config, facts), Refusal::LocalDomain, config.local_domain_action),
        (
            facts.author.is_some_and(is_malformed),
            Refusal::MalformedAuthor,
            config.malformed_author_action,
        ),
        (
            facts.identifiers.is_some_and(|all| !may_pass(all)),
            Refusal::Unauthenticated,
            config.unauthenticated_action,
        ),
        (iprev_fails, Refusal::Iprev, config.iprev_fail_action),
    ]
    .into_iter()
    .filter_map(|(applies, refusal, action)| applies.then_some((refusal, action)))
}

/// Whether the author domain is ours, or may be one among more than are read.
pub(super) fn is_local(config: &Config, facts: &MessageFacts<'_>) -> bool {
    let is_ours = |author: &Author| {
        let mut domains = author.domains().iter();
        author.has_more_domains() || domains.any(|domain| config.local_domains.contains(domain))
    };
    !config.local_domains.is_empty() && facts.author.is_some_and(is_ours)
}

/// The policy of the site for the author domain, where it holds instead of the published one. That
/// for one of several authors makes the policy stricter, never milder.
pub(super) fn own_policy(
    config: &Config,
    facts: &MessageFacts<'_>,
    published: Policy,
) -> Option<Policy> {
    if config.dmarc_override_file.is_empty() {
        return None;
    }
    let own = |domain| match config.dmarc_override_file.get(domain)? {
        OwnPolicy::None => Some(Policy::None),
        OwnPolicy::Quarantine => Some(Policy::Quarantine),
        OwnPolicy::Reject => Some(Policy::Reject),
    };
    match facts.author? {
        Author::One(author) => own(author),
        several => several.domains().iter().filter_map(own).filter(|own| *own > published).max(),
    }
}

/// Whether a decision depends on the relaxed alignment of the message, which may cost look-ups: where
/// the author domain is one of the site's, or has a policy of the site's, and DMARC says nothing
/// for it.
pub fn wants_alignment(config: &Config, author: &Author, dmarc: &dmarc::Outcome) -> bool {
    let Author::One(domain) = author else { return false };
    let is_local =
        || config.local_domain_action != Action::None && config.local_domains.contains(domain);
    let has_policy = || {
        let own = config.dmarc_override_file.get(domain);
        own.is_some_and(|own| own != OwnPolicy::None)
    };
    match dmarc.result {
        DmarcResult::Pass | DmarcResult::Temperror => false,
        DmarcResult::Fail => is_local(),
        DmarcResult::None | DmarcResult::Permerror => is_local() || has_policy(),
    }
}

/// Whether a policy of the site is violated where no record applies: no identifier that passes, or
/// may at the next attempt, is aligned in relaxed mode. A message with several authors never is.
///
/// A domain that the site names itself is an organizational domain, as if it had a record: what is
/// at or below it is aligned with authors at or below it, also where the records say nothing of that.
/// An entry for subdomains says nothing of who shares them.
pub(super) fn is_unaligned(config: &Config, facts: &MessageFacts<'_>) -> bool {
    use dmarc::RelaxedAlignment::{Aligned, Unknown};
    if matches!(facts.alignment, Some(Aligned | Unknown)) {
        return false;
    }
    let (Some(Author::One(author)), Some(identifiers)) = (facts.author, facts.identifiers) else {
        return true;
    };
    let named = [config.local_domains.highest(author), config.dmarc_override_file.highest(author)];
    let Some(named) = named.into_iter().flatten().min_by_key(|name| name.len()) else {
        return true;
    };
    !identifiers.may_pass_at_or_below(named)
}

/// Whether the author domain is ours, and nothing authenticates it, or may at the next attempt:
/// neither DMARC, whatever it asks for, nor a pass that is aligned in relaxed mode.
///
/// Nothing authenticates several authors, of whom the sender may own one whose name servers fail.
fn is_forged_local(config: &Config, facts: &MessageFacts<'_>) -> bool {
    let (true, Some(outcome)) = (is_local(config, facts), facts.dmarc) else { return false };
    let may_pass = matches!(outcome.result, DmarcResult::Pass | DmarcResult::Temperror);
    !(may_pass && matches!(facts.author, Some(Author::One(_)))) && is_unaligned(config, facts)
}

/// Whether there is no From, none with an author domain, one with more of them than are read, or
/// several: no answer of DNS changes that.
fn is_malformed(author: &Author) -> bool {
    match author {
        Author::Missing | Author::Malformed(_) | Author::NoMembers | Author::SeveralFields(_) => {
            true
        }
        Author::One(_) | Author::Several(_) | Author::Misleading(_) => author.has_more_domains(),
    }
}

/// Whether SPF of MAIL FROM or a signature over the whole message passes, or may pass at the next
/// attempt.
fn may_pass(identifiers: &Identifiers) -> bool {
    let spf = identifiers
        .spf
        .as_ref()
        .is_some_and(|(_, result)| matches!(result, SpfResult::Pass | SpfResult::Temperror));
    spf || identifiers.dkim.iter().any(|signature| signature.status != DkimStatus::Other)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        auth::dmarc::DkimIdentifier,
        config::{Overrides, load_text},
        mail::{domain::Domain, results::Words},
    };

    #[test]
    fn a_message_is_unauthenticated_where_nothing_passes_or_may_pass() {
        let text = b"socket = unix:/nowhere\nunauthenticated_action = reject\n";
        let config = load_text(text, Path::new("test"), &Overrides::default()).unwrap().config;
        let domain = Domain::parse("example.com").unwrap();
        let signatures = [DkimStatus::Pass, DkimStatus::Temperror, DkimStatus::Other];
        let spf = SpfResult::ALL.iter().map(|(result, _)| Some(*result)).chain([None]);
        for spf in spf {
            for dkim in signatures.into_iter().map(Some).chain([None]) {
                let status = |status| DkimIdentifier { domain: domain.clone(), status };
                let identifiers = Identifiers {
                    spf: spf.map(|result| (domain.clone(), result)),
                    dkim: dkim.map(status).into_iter().collect(),
                };
                let mut facts = MessageFacts::of("192.0.2.1".parse().unwrap());
                facts.identifiers = Some(&identifiers);
                let found: Vec<_> = failures(&config, &facts).collect();
                let may_pass = matches!(spf, Some(SpfResult::Pass | SpfResult::Temperror))
                    || matches!(dkim, Some(DkimStatus::Pass | DkimStatus::Temperror));
                let expected = [(Refusal::Unauthenticated, Action::Reject)];
                assert_eq!(found, if may_pass { &[][..] } else { &expected }, "{spf:?} {dkim:?}");
            }
        }
    }
}
