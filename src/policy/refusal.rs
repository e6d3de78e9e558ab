//! What actions are called for.

use crate::{config::Action, mail::results::words};

words! {
    /// Why something is refused, or has another action: the word for it, in the log and in the field
    /// that marks a message.
    Refusal {
        /// The SPF result of the identity is one that is rejected.
        Spf = "spf",
        /// The DMARC policy of the author domain asks for it.
        Dmarc = "dmarc",
        /// DMARC had DNS trouble: the next attempt may bring a pass.
        DmarcTemperror = "dmarc-temperror",
        /// The author domain is ours, and nothing authenticates the message, which is from outside.
        LocalDomain = "local-domain",
        /// There is no From that can be read, or several.
        MalformedAuthor = "malformed-author",
        /// Neither SPF of MAIL FROM nor a signature passes.
        Unauthenticated = "unauthenticated",
        /// The client's name does not lead back to it, or it has none.
        Iprev = "iprev",
        /// More Authentication-Results claim to be ours than are deleted: one of them would stay.
        ForgedResults = "too-many-authentication-results",
        /// More fields mark the message as ours do than are deleted.
        ForgedTags = "too-many-tags",
    }
}

/// Something about a message that calls for an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cause {
    /// What it is.
    pub refusal: Refusal,
    /// The action, which is not none.
    pub action: Action,
}

impl Refusal {
    /// Whether it is about fields that would come in in our name: then it holds in any case.
    pub fn is_of_forged(self) -> bool {
        matches!(self, Self::ForgedResults | Self::ForgedTags)
    }
}

/// The cause of the action that is carried out: the first of those with the strictest.
pub fn decisive(causes: &[Cause]) -> Option<Cause> {
    causes.iter().rev().max_by_key(|cause| cause.action).copied()
}

/// Some of the refusals.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refusals(u16);

impl Refusals {
    /// Adds one.
    pub fn insert(&mut self, refusal: Refusal) {
        self.0 |= 1 << refusal as u16;
    }

    /// Whether this is one of them.
    pub fn contains(self, refusal: Refusal) -> bool {
        self.0 & (1 << refusal as u16) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::results::Words;

    #[test]
    fn refusals_are_a_set() {
        let all = || Refusal::ALL.iter().map(|(refusal, _)| *refusal).enumerate();
        for subset in 0..1_u32 << Refusal::ALL.len() {
            let is_in = |index: usize| subset & (1 << index) != 0;
            let mut refusals = Refusals::default();
            // Twice is as good as once.
            for (index, refusal) in all().chain(all()) {
                if is_in(index) {
                    refusals.insert(refusal);
                }
            }
            for (index, refusal) in all() {
                assert_eq!(refusals.contains(refusal), is_in(index), "{refusal} of {subset:b}");
            }
        }
    }

    #[test]
    fn the_first_of_the_strictest_causes_is_decisive() {
        use Action::{Defer, None as Nothing, Quarantine, Reject, Tag};
        let actions = [Nothing, Tag, Quarantine, Defer, Reject];
        for index in 0..actions.len().pow(3) {
            let [a, b, c] = [1, 5, 25].map(|step| actions[index / step % actions.len()]);
            let causes = [(Refusal::Spf, a), (Refusal::Dmarc, b), (Refusal::Iprev, c)]
                .map(|(refusal, action)| Cause { refusal, action });
            let rank = |cause: &Cause| actions.iter().position(|known| *known == cause.action);
            let mut expected = causes[0];
            for cause in causes {
                if rank(&cause) > rank(&expected) {
                    expected = cause;
                }
            }
            assert_eq!(decisive(&causes), Some(expected));
        }
        assert_eq!(decisive(&[]), None);
    }
}
