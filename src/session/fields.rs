//! Outcomes as header fields.

use super::Session;
use crate::{
    auth::{Identity, Verified, spf::Problem},
    config::HeaderName,
    mail::{
        auth_results::{AuthenticationResults, MethodResult, Property},
        header_field::HeaderField,
        identity::unquote,
        received_spf::{ReceivedSpf, describe},
        spf_result::SpfResult,
    },
};

impl Session {
    /// The fields to add, in the order in which each goes to the very top.
    pub(super) fn fields(&self, recorded: &[&Verified]) -> Vec<HeaderField> {
        let mut fields = Vec::new();
        for name in &self.runtime.config.header {
            match name {
                HeaderName::ReceivedSpf => fields.extend(recorded.iter().map(|verified| self.received_spf(verified).write())),
                HeaderName::AuthenticationResults => {
                    fields.extend(self.authentication_results(recorded).map(|field| field.write()))
                }
            }
        }
        fields
    }

    /// RFC 7208 §9.1.
    fn received_spf(&self, verified: &Verified) -> ReceivedSpf {
        let outcome = &verified.outcome;
        let client_ip = self.client.ok();
        let is_mailfrom = verified.identity == Identity::Mailfrom;
        let described = if is_mailfrom { verified.sender() } else { verified.domain.clone() };
        ReceivedSpf {
            comment: Some(describe(outcome.result, verified.identity, &described, client_ip, &self.host_name)),
            receiver: Some(self.host_name.clone()),
            client_ip,
            helo: self.helo.as_ref().map(|helo| helo.name.clone()),
            envelope_from: is_mailfrom.then(|| verified.sender()),
            identity: Some(verified.identity),
            mechanism: outcome.policy_domain.as_ref().map(|_| outcome.mechanism.clone().unwrap_or_else(|| "default".into())),
            problem: problem_of(verified).map(|problem| problem.reason.to_owned()),
            ..ReceivedSpf::new(outcome.result)
        }
    }

    /// RFC 8601. `None` where nothing was verified, so that there is nothing to say.
    fn authentication_results(&self, recorded: &[&Verified]) -> Option<AuthenticationResults> {
        if recorded.is_empty() {
            return None;
        }
        let mut field = AuthenticationResults::new(self.runtime.authserv_id(&self.host_name));
        let hidden = self.runtime.config.hide_none_results;
        let shown = recorded.iter().filter(|verified| !(hidden && verified.outcome.result == SpfResult::None));
        field.results.extend(shown.map(|verified| self.method_result(verified)));
        Some(field)
    }

    fn method_result(&self, verified: &Verified) -> MethodResult {
        let property = match verified.identity {
            Identity::Helo => Property::new("smtp", "helo", verified.domain.as_str()),
            Identity::Mailfrom if verified.domain.is_empty() => Property::new("smtp", "mailfrom", verified.local_part.as_str()),
            Identity::Mailfrom if self.runtime.config.include_mailfrom_local_part => {
                Property::mailbox("smtp", "mailfrom", &unquote(&verified.local_part), &verified.domain)
            }
            Identity::Mailfrom => Property::new("smtp", "mailfrom", verified.domain.as_str()),
        };
        let result = MethodResult::new("spf", verified.outcome.result.as_str()).with_property(property);
        match problem_of(verified) {
            Some(problem) => result.with_reason(problem.reason),
            None => result,
        }
    }
}

/// The problem to tell recipients of: that of temperror and permerror. That an identity has no domain is seen from its text.
fn problem_of(verified: &Verified) -> Option<&Problem> {
    verified.outcome.problem.as_ref().filter(|_| matches!(verified.outcome.result, SpfResult::Temperror | SpfResult::Permerror))
}
