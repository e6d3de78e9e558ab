//! The explanation that a domain publishes for its fail (RFC 7208 §6.2).

use tokio::time::Instant;
use viaspf::record::{DomainSpec, ExplainString};

use super::{
    Query,
    expand::{Variables, expand_domain, expand_whole_explain_string},
    names::{
        asks_for_names, names_deadline, tells_client_name, unusable, validate_once, validated_name,
    },
    record::{cap_digits, shorten},
};
use crate::{
    dns::{Dns, Name},
    mail::domain::Domain,
};

/// The most octets of an explanation as it is published: no reply holds as many, and read it takes
/// many times the memory.
const MAX_TEXT: usize = 4 * 1024;

/// Where the explanation of a fail is to be found.
pub(super) struct WantedExplanation {
    pub(super) spec: DomainSpec,
    /// The domain whose record has the `exp` modifier.
    pub(super) domain: Name,
    /// The client's validated names, where the check asked for them.
    pub(super) validated: Option<Vec<Name>>,
}

impl WantedExplanation {
    /// Fetches and expands the explanation. The time runs out at `end`: silence of the client's DNS
    /// leaves some of it.
    ///
    /// # Errors
    ///
    /// Why there is none: any trouble means that (RFC 7208 §6.2).
    pub(super) async fn fetch(
        self,
        dns: &Dns,
        query: &Query<'_>,
        sender_domain: &Domain,
        end: Instant,
    ) -> Result<String, String> {
        let spec = &self.spec;
        let no_name = || format!("'exp={}' leads to no domain name", shorten(spec));
        if unusable(spec, query.local_part) {
            return Err(no_name());
        }
        let variables = Variables::new(query, sender_domain.as_str(), self.domain.as_str());
        let client = variables.client;
        let mut validated = self.validated;
        if asks_for_names(spec.as_ref()) {
            validate_once(dns, client, &mut validated, names_deadline(end)).await;
        }
        let known = validated_name(validated.as_deref(), &self.domain);
        let name = expand_domain(spec.as_ref(), &Variables { validated: known, ..variables })
            .ok_or_else(no_name)?;
        let texts = dns.txt(&name).await.map_err(|failure| format!("TXT {name}: {failure}"))?;
        let [text] = &*texts else {
            return Err(format!("{} texts at {name} instead of one", texts.len()));
        };
        let text = str::from_utf8(text)
            .ok()
            .filter(|text| text.is_ascii())
            .ok_or_else(|| format!("text at {name} is not ASCII"))?;
        if text.len() > MAX_TEXT {
            return Err(format!("more than {MAX_TEXT} octets at {name}"));
        }
        let string: ExplainString =
            cap_digits(text).parse().map_err(|_| format!("syntax error in the text at {name}"))?;
        if tells_client_name(&string) {
            validate_once(dns, client, &mut validated, names_deadline(end)).await;
        }
        let known = validated_name(validated.as_deref(), &self.domain);
        expand_whole_explain_string(&string, &Variables { validated: known, ..variables })
            .filter(|text| text.is_ascii() && !text.is_empty())
            .ok_or_else(|| format!("text at {name} expands to nothing that a reply can say"))
    }
}
