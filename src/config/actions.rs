//! The actions of a configuration as a whole.

use super::{params::Config, types::keyword::Action};

impl Config {
    /// Whether something about a message may lead to this action.
    pub fn may(&self, action: Action) -> bool {
        let of_relays = match self.relay_action {
            Action::None => false,
            for_reject => {
                action == for_reject && (self.calls_for(Action::Reject) || self.refuses_senders())
                    || action == Action::Tag
                        && (self.calls_for(Action::Defer) || self.refuses_senders())
            }
        };
        self.calls_for(action) || of_relays && !self.trusted_relays.is_empty()
    }

    /// Whether a client or sender may be refused for SPF.
    pub(super) fn refuses_senders(&self) -> bool {
        !self.reject_results.is_empty() || self.verify_helo && !self.reject_helo_results.is_empty()
    }

    /// Whether an action on a message is this one, as it is set.
    pub(super) fn calls_for(&self, action: Action) -> bool {
        let of_dmarc = [
            self.dmarc_quarantine_action,
            self.dmarc_reject_action,
            self.dmarc_temperror_action,
            self.malformed_author_action,
            self.unauthenticated_action,
            self.local_domain_action,
        ];
        self.verify_dmarc && of_dmarc.contains(&action)
            || self.verify_iprev && self.iprev_fail_action == action
    }

    /// The name of the fields that mark messages, where an action in force adds them.
    pub fn tag_name(&self) -> Option<&str> {
        self.may(Action::Tag).then_some(&*self.tag_header)
    }
}
