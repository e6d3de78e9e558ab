//! Decisions on a message as a whole, at its end.

use super::{
    admission::{self, Exemption},
    facts::MessageFacts,
    failures::{failures, is_local, is_unaligned, own_policy},
    refusal::{Cause, Refusal, Refusals, decisive},
};
use crate::{
    auth::{
        Identity,
        dmarc::{self, AppliedPolicy, DmarcResult, Policy},
    },
    config::{Action, Config},
    mail::{author::Author, results::words},
};

/// A decision on a message: what is called for. The strictest action is carried out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MessageDecision {
    causes: Vec<Cause>,
    /// Why DMARC has no consequence, where it would have one.
    exemption: Option<Exemption>,
    /// The policy of the site, where it holds instead of the published one.
    own_policy: Option<Policy>,
    /// The identity that a refusal for SPF is about.
    refused_identity: Option<Identity>,
    /// What would have a stricter action, but for the configuration or an exemption.
    not_enforced: Refusals,
}

impl MessageDecision {
    pub(super) fn call_for(&mut self, refusal: Refusal, action: Action) {
        if action != Action::None {
            self.causes.push(Cause { refusal, action });
        }
    }

    /// The same with other actions, for the reason given. Too many forged fields are refused all the
    /// same.
    pub(super) fn with(
        mut self,
        exemption: Exemption,
        replaced: impl Fn(Action) -> Action,
    ) -> Self {
        for Cause { refusal, action } in &mut self.causes {
            let before = *action;
            if !refusal.is_of_forged() {
                *action = replaced(before);
            }
            if *action != before {
                self.not_enforced.insert(*refusal);
            }
            if *action != before && (*refusal, exemption) != (Refusal::Spf, Exemption::Relayed) {
                self.exemption = Some(exemption);
            }
        }
        self.causes.retain(|cause| cause.action != Action::None);
        self
    }

    /// All that calls for an action.
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    /// The policy of the site for the author domain, which holds instead of the published one.
    pub fn own_policy(&self) -> Option<Policy> {
        self.own_policy
    }

    /// The identity that a cause for SPF is about.
    pub fn refused_identity(&self) -> Option<Identity> {
        self.refused_identity
    }

    /// What would have an action, or a stricter one, but for the configuration or an exemption.
    pub fn not_enforced(&self) -> Refusals {
        self.not_enforced
    }

    /// The cause of the action that is carried out: the first of those with the strictest.
    pub fn decisive(&self) -> Option<Cause> {
        decisive(&self.causes)
    }

    /// Whether this is the cause of the action that is carried out.
    pub fn is_decided_by(&self, refusal: Refusal) -> bool {
        self.decisive().is_some_and(|cause| cause.refusal == refusal)
    }

    /// The action that is carried out.
    pub fn action(&self) -> Action {
        self.decisive().map_or(Action::None, |cause| cause.action)
    }

    /// The disposition by SPF or DMARC.
    pub fn disposition(&self) -> Disposition {
        match self.decisive() {
            Some(Cause { refusal, .. }) if refusal.is_of_forged() => Disposition::None,
            Some(Cause { action: Action::Quarantine, .. }) => Disposition::Quarantine,
            Some(Cause { action: Action::Defer | Action::Reject, .. }) => Disposition::Reject,
            _ => Disposition::None,
        }
    }

    /// Why DMARC has no consequence, where it would have one and the message goes on.
    pub fn exemption(&self) -> Option<Exemption> {
        self.exemption.filter(|_| self.action() < Action::Quarantine)
    }
}

words! {
    /// The disposition of a message, in the words of DMARC.
    Disposition {
        /// Nothing.
        None = "none",
        /// The MTA keeps it back.
        Quarantine = "quarantine",
        /// It is refused, for good or for now.
        Reject = "reject",
    }
}

/// Decides at the end of a message of which nothing is verified.
pub fn at_end_of_exempt(too_many_forged: Option<Refusal>) -> MessageDecision {
    let mut decision = MessageDecision::default();
    if let Some(refusal) = too_many_forged {
        decision.call_for(refusal, Action::Reject);
    }
    decision
}

/// Decides at the end of the message. `spf-milter(8)` shows the same as a table.
///
/// A message with more forged fields than are deleted is refused, whatever it is: one of them would
/// stay. Else the strictest action of these is carried out, of equal ones the first:
///
/// 1. An SPF rejection that was deferred. With `defer_spf_rejection` that of MAIL FROM does not count
///    if DMARC passes, or is to be tried again: the next attempt may bring a pass.
/// 2. The action on the result of DMARC, where nothing exempts the message.
/// 3. The actions on an author domain of ours, on a From that cannot be read, on a message that
///    nothing authenticates, and on the client's name, where the client is not exempt. Trouble that
///    may go away calls for none.
pub fn at_end(config: &Config, facts: &MessageFacts<'_>) -> MessageDecision {
    let mut decision = at_end_of_exempt(facts.too_many_forged);
    // Most messages are verified with SPF alone.
    if facts.too_many_forged.is_some() || facts.say_nothing() {
        return decision;
    }
    consider(&mut decision, config, facts);
    decision
}

/// Adds to a decision what the facts call for.
fn consider(decision: &mut MessageDecision, config: &Config, facts: &MessageFacts<'_>) {
    let published = facts.dmarc.map_or(Policy::None, |outcome| published_policy(facts, outcome));
    decision.own_policy = own_policy(config, facts, published);
    let (cause, exemption) = from_dmarc(config, facts, decision.own_policy, published).unzip();
    let may_pass = config.defer_spf_rejection
        && (facts.dmarc.is_some_and(|outcome| outcome.result == DmarcResult::Pass)
            || cause.is_some_and(|cause: Cause| cause.action == Action::Defer));
    // The stricter one; of equal ones that of HELO.
    let mailfrom = facts.deferred.filter(|_| !may_pass).map(|cause| (Identity::Mailfrom, cause));
    let helo = facts.deferred_helo.map(|cause| (Identity::Helo, cause));
    let spf = mailfrom.into_iter().chain(helo).max_by_key(|(_, cause)| cause.action);
    let (identity, spf) = spf.unzip();
    decision.refused_identity = identity;
    for Cause { refusal, action } in spf.into_iter().chain(cause) {
        decision.call_for(refusal, action);
    }
    decision.exemption = exemption.flatten();
    if let (Some(Cause { refusal, .. }), Some(_)) = (cause, decision.exemption) {
        decision.not_enforced.insert(refusal);
    } else if cause.is_none() && is_trouble(facts) && decision.own_policy != Some(Policy::None) {
        decision.not_enforced.insert(Refusal::DmarcTemperror);
    }
    for (refusal, action) in failures(config, facts) {
        if action == Action::None {
            decision.not_enforced.insert(refusal);
        } else if let Some(exemption) = admission::from_failure(config, facts, refusal) {
            decision.exemption = Some(exemption);
            decision.not_enforced.insert(refusal);
        } else {
            decision.call_for(refusal, action);
        }
    }
}

/// Whether DMARC had DNS trouble.
fn is_trouble(facts: &MessageFacts<'_>) -> bool {
    facts.dmarc.is_some_and(|outcome| outcome.result == DmarcResult::Temperror)
}

/// The policy of the author domain by its record. Of several authors, with a temperror, it counts
/// only if it is violated in any case: it may be that of a domain of the sender's.
fn published_policy(facts: &MessageFacts<'_>, outcome: &dmarc::Outcome) -> Policy {
    let policy = outcome.policy.as_ref().map_or(Policy::None, AppliedPolicy::effective);
    let counts = outcome.result != DmarcResult::Temperror
        || outcome.is_violated
        || matches!(facts.author, None | Some(Author::One(_)));
    if counts { policy } else { Policy::None }
}

/// The action on the result of DMARC, and why it is not that of the policy.
fn from_dmarc(
    config: &Config,
    facts: &MessageFacts<'_>,
    own: Option<Policy>,
    published: Policy,
) -> Option<(Cause, Option<Exemption>)> {
    let result = facts.dmarc?.result;
    let fails = match result {
        DmarcResult::Fail => true,
        DmarcResult::None | DmarcResult::Permerror => own.is_some() && is_unaligned(config, facts),
        // Several authors never pass: no trouble excuses them.
        DmarcResult::Temperror => !matches!(facts.author, None | Some(Author::One(_))),
        DmarcResult::Pass => false,
    };
    let on_policy = match own.unwrap_or(published) {
        Policy::None => Action::None,
        Policy::Quarantine => config.dmarc_quarantine_action,
        Policy::Reject => config.dmarc_reject_action,
    };
    // The stricter one, where there is trouble too.
    let is_trouble = result == DmarcResult::Temperror && config.dmarc_temperror_action >= on_policy;
    let (refusal, action) = match (result, own.unwrap_or(published)) {
        (_, Policy::Quarantine | Policy::Reject) if fails && !is_trouble => {
            (Refusal::Dmarc, on_policy)
        }
        (DmarcResult::Temperror, Policy::None) if own.is_some() => return None,
        (DmarcResult::Temperror, _) if config.dmarc_temperror_action != Action::None => {
            (Refusal::DmarcTemperror, config.dmarc_temperror_action)
        }
        _ => return None,
    };
    // Exemptions come first: a site that does not enforce policies yet sees from them what enforcing
    // would do.
    let is_list = facts.is_list && !is_local(config, facts);
    let exemption = admission::from_dmarc(config, facts, is_list);
    if exemption.is_some() {
        return Some((Cause { refusal, action: Action::None }, exemption));
    }
    let is_enforced = refusal == Refusal::DmarcTemperror || action >= Action::Quarantine;
    Some((Cause { refusal, action }, (!is_enforced).then_some(Exemption::NotEnforced)))
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, path::Path};

    use super::*;
    use crate::{
        auth::{
            dkim::SignatureOutcome,
            dmarc::{Identifiers, RelaxedAlignment},
            iprev::{self, IprevResult},
        },
        config::{Overrides, load_text},
        mail::{domain::Domain, results::Words},
    };

    /// The slow twin looks at all facts, also where they say nothing.
    #[test]
    fn decisions_are_those_of_the_slow_twin() {
        let client: IpAddr = [192, 0, 2, 1].into();
        let domain = Domain::parse("author.example").unwrap();
        let author = Author::One(domain.clone());
        let identifiers = Identifiers { spf: None, dkim: Vec::new() };
        let dmarc = dmarc::Outcome::new(DmarcResult::None, Some(domain), None);
        let iprev = iprev::Outcome {
            result: IprevResult::Fail,
            address: client,
            name: None,
            failure: None,
        };
        let cause = Cause { refusal: Refusal::Spf, action: Action::Reject };
        let everything = "verify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n\
                          local_domains = author.example\nlocal_domain_action = reject\n\
                          malformed_author_action = reject\nunauthenticated_action = reject\n\
                          iprev_fail_action = reject\ndefer_spf_rejection = yes\n\
                          dmarc_exempt_networks = 192.0.2.0/24\n\
                          dmarc_exempt_dkim_domains = author.example\n\
                          dmarc_exempt_mailing_lists = yes\n";
        let dkim = [SignatureOutcome::default()];
        let mut kinds = [0, 0];
        for settings in ["", everything] {
            let text = format!("socket = unix:/nowhere\n{settings}");
            let loaded = load_text(text.as_bytes(), Path::new("test"), &Overrides::default());
            let config = loaded.unwrap().config;
            for bits in 0..1024 {
                let is_set = |bit: u32| bits & 1 << bit != 0;
                let facts = MessageFacts {
                    deferred_helo: is_set(0).then_some(cause),
                    deferred: is_set(1).then_some(cause),
                    author: is_set(2).then_some(&author),
                    identifiers: is_set(3).then_some(&identifiers),
                    dmarc: is_set(4).then_some(&dmarc),
                    iprev: is_set(5).then_some(&iprev),
                    too_many_forged: is_set(6).then_some(Refusal::ForgedTags),
                    // What says something only with others.
                    alignment: is_set(7).then_some(RelaxedAlignment::Unaligned),
                    dkim: if is_set(8) { &dkim } else { &[] },
                    is_list: is_set(9),
                    client,
                };
                let mut twin = at_end_of_exempt(facts.too_many_forged);
                if facts.too_many_forged.is_none() {
                    consider(&mut twin, &config, &facts);
                }
                let found = at_end(&config, &facts);
                assert_eq!(found, twin, "{bits:b}");
                kinds[usize::from(found == MessageDecision::default())] += 1;
                assert_eq!(facts.say_nothing(), bits % 128 == 0);
            }
        }
        assert!(kinds.into_iter().all(|count| count > 4), "{kinds:?}");
    }

    const ACTIONS: [Action; 4] = [Action::Tag, Action::Quarantine, Action::Defer, Action::Reject];

    /// All decisions with one cause.
    fn decisions() -> impl Iterator<Item = (Refusal, Action, MessageDecision)> {
        let pairs =
            Refusal::ALL.iter().flat_map(|(refusal, _)| ACTIONS.map(|action| (*refusal, action)));
        pairs.map(|(refusal, action)| {
            let mut decision = MessageDecision::default();
            decision.call_for(refusal, Action::None);
            decision.call_for(refusal, action);
            (refusal, action, decision)
        })
    }

    #[test]
    fn the_disposition_is_that_of_spf_or_dmarc() {
        for (refusal, action, decision) in decisions() {
            assert_eq!(decision.causes(), [Cause { refusal, action }]);
            let expected = match action {
                _ if refusal.is_of_forged() => Disposition::None,
                Action::None | Action::Tag => Disposition::None,
                Action::Quarantine => Disposition::Quarantine,
                Action::Defer | Action::Reject => Disposition::Reject,
            };
            assert_eq!(decision.disposition(), expected, "{refusal} {action:?}");
            for (other, _) in Refusal::ALL {
                assert_eq!(decision.is_decided_by(*other), *other == refusal);
            }
        }
        assert_eq!(MessageDecision::default().disposition(), Disposition::None);
    }

    #[test]
    fn an_exemption_is_shown_only_where_the_message_goes_on() {
        for (refusal, action, mut decision) in decisions() {
            decision.exemption = Some(Exemption::NotEnforced);
            let goes_on = action == Action::Tag;
            assert_eq!(decision.exemption().is_some(), goes_on, "{refusal} {action:?}");
        }
    }

    #[test]
    fn what_is_replaced_is_not_enforced() {
        for exemption in [Exemption::Relayed, Exemption::ExemptRecipient] {
            for to in [Action::None, Action::Tag, Action::Quarantine] {
                for (refusal, action, decision) in decisions() {
                    let found = decision.with(exemption, |_| to);
                    let is_replaced = !refusal.is_of_forged() && action != to;
                    let action = if is_replaced { to } else { action };
                    assert_eq!(found.action(), action, "{refusal}");
                    assert_eq!(found.causes().is_empty(), action == Action::None);
                    assert_eq!(found.not_enforced().contains(refusal), is_replaced);
                    // The deferral of SPF for a relay has been recorded with SPF.
                    let is_recorded = refusal == Refusal::Spf && exemption == Exemption::Relayed;
                    let expected = (is_replaced && !is_recorded).then_some(exemption);
                    assert_eq!(found.exemption, expected, "{refusal}");
                }
            }
        }
    }
}
