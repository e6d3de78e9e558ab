//! The explanation that a domain publishes for its fail (RFC 7208 §6.2).

use viaspf::record::{DomainSpec, ExplainString, ExplainStringSegment};

use super::{
    Query,
    expand::{Variables, expand_domain, expand_explain_string},
    names::{asks_for_names, unusable, validate_once, validated_name},
    record::cap_digits,
};
use crate::{
    dns::{Dns, Name},
    mail::domain::Domain,
};

/// Where the explanation of a fail is to be found.
pub(super) struct WantedExplanation {
    pub(super) spec: DomainSpec,
    /// The domain whose record has the `exp` modifier.
    pub(super) domain: Name,
    /// The client's validated names, where the check asked for them.
    pub(super) validated: Option<Vec<Name>>,
}

impl WantedExplanation {
    /// Fetches and expands the explanation; any trouble means that there is none (RFC 7208 §6.2).
    pub(super) async fn fetch(self, dns: &Dns, query: &Query<'_>, sender_domain: &Domain) -> Option<String> {
        if unusable(&self.spec, query.local_part) {
            return None;
        }
        let variables = Variables::new(query, sender_domain.as_str(), self.domain.as_str());
        let client = variables.client;
        let mut validated = self.validated;
        if asks_for_names(self.spec.as_ref()) {
            validate_once(dns, client, &mut validated).await;
        }
        let known = validated_name(validated.as_deref(), &self.domain);
        let name = expand_domain(self.spec.as_ref(), &Variables { validated: known, ..variables })?;
        let texts = dns.txt(&name).await.ok()?;
        let [text] = &*texts else { return None };
        let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
        let string: ExplainString = cap_digits(text).parse().ok()?;
        let asks = string.segments.iter().any(|segment| match segment {
            ExplainStringSegment::MacroString(string) => asks_for_names(string),
            ExplainStringSegment::Space => false,
        });
        if asks {
            validate_once(dns, client, &mut validated).await;
        }
        let known = validated_name(validated.as_deref(), &self.domain);
        Some(expand_explain_string(&string, &Variables { validated: known, ..variables }))
            .filter(|text| text.is_ascii() && !text.is_empty())
    }
}
