//! The explanation that a domain publishes for its fail (RFC 7208 §6.2).

use tokio::time::Instant;
use viaspf::record::{DomainSpec, ExplainString};

use super::{
    super::reverse,
    expand::{Variables, expand_domain, expand_whole_explain_string},
    limits::{MAX_EXPLANATION_TEXT, names_deadline},
    names::{asks_for_names, has_client_name, unusable, validated_name},
    record::{cap_digits, shorten},
};
use crate::dns::{Dns, Name};

/// Where the explanation of a fail is to be found.
pub(super) struct WantedExplanation {
    pub(super) spec: DomainSpec,
    /// The domain whose record has the `exp` modifier.
    pub(super) domain: Name,
    /// The client's validated names, where the check asked for them.
    pub(super) names: Option<Vec<Name>>,
}

impl WantedExplanation {
    /// Fetches and expands the explanation, given what macros stand for in the record of the
    /// sender's domain. The time runs out at `end`: silence of the client's DNS leaves some of it.
    ///
    /// # Errors
    ///
    /// Why there is none: any trouble leaves the explanation out (RFC 7208 §6.2).
    pub(super) async fn fetch(
        mut self,
        dns: &Dns,
        variables: &Variables<'_>,
        end: Instant,
    ) -> Result<String, String> {
        let no_name = |spec| format!("'exp={}' leads to no domain name", shorten(spec));
        if unusable(&self.spec, variables.local_part) {
            return Err(no_name(&self.spec));
        }
        if asks_for_names(self.spec.as_ref()) {
            self.find_names(dns, variables, end).await;
        }
        let name = expand_domain(self.spec.as_ref(), &self.variables(variables))
            .ok_or_else(|| no_name(&self.spec))?;
        let texts = dns.txt(&name).await.map_err(|failure| format!("TXT {name}: {failure}"))?;
        let [text] = &*texts else {
            return Err(format!("{} texts at {name} instead of one", texts.len()));
        };
        let text = str::from_utf8(text)
            .ok()
            .filter(|text| text.is_ascii())
            .ok_or_else(|| format!("text at {name} is not ASCII"))?;
        if text.len() > MAX_EXPLANATION_TEXT {
            return Err(format!("more than {MAX_EXPLANATION_TEXT} octets at {name}"));
        }
        let string: ExplainString =
            cap_digits(text).parse().map_err(|_| format!("syntax error in the text at {name}"))?;
        if has_client_name(&string) {
            self.find_names(dns, variables, end).await;
        }
        expand_whole_explain_string(&string, &self.variables(variables))
            .filter(|text| text.is_ascii() && !text.is_empty())
            .ok_or_else(|| format!("text at {name} expands to nothing that a reply can say"))
    }

    /// Finds the names of the client that lead back to it, unless that was done.
    async fn find_names(&mut self, dns: &Dns, variables: &Variables<'_>, end: Instant) {
        if self.names.is_none() {
            let deadline = names_deadline(end);
            self.names = Some(reverse::find_names(dns, variables.client, deadline).await);
        }
    }

    /// The values of macros in the explanation.
    fn variables<'b>(&'b self, variables: &Variables<'b>) -> Variables<'b> {
        let validated = validated_name(self.names.as_deref(), &self.domain);
        Variables { validated, ..variables.of_record(&self.domain) }
    }
}
