//! Outcomes as header fields.

use std::{cell::Cell, net::IpAddr};

use crate::{
    auth::{
        Identity, Verified,
        dkim::{DkimResult, SignatureOutcome, signature_prefixes},
        dmarc, iprev,
        spf::Problem,
    },
    config::{Action, Config, HeaderName},
    mail::{
        auth_results::{AuthenticationResults, MethodResult, Property},
        domain::{Domain, with_a_labels},
        envelope::EMPTY_PATH,
        header_field::{Folding, HeaderField},
        received_spf::{
            ReceivedSpf, describe_without_client, describe_without_domain, push_description,
        },
        results::SpfResult,
    },
    policy::{Cause, Exemption, MessageDecision, Recorded, Refusal},
};

thread_local! {
    /// Memory for the sender and the comment of the next Received-SPF field of this thread: both are
    /// empty.
    static SPARE: Cell<(String, String)> = const { Cell::new((String::new(), String::new())) };
}

/// The most octets that there is spare memory for.
const MAX_SPARE: usize = 4096;

/// The outcomes that the fields of a message record.
#[derive(Debug)]
pub struct Results<'a> {
    /// The client's address; `None` where a relay's message does not name it.
    pub client: Option<IpAddr>,
    /// The HELO name, where there was one.
    pub helo: Option<&'a str>,
    /// This host.
    pub receiver: &'a str,
    /// The authserv-id of this host.
    pub authserv_id: &'a str,
    /// The identities that SPF's rules record.
    pub recorded: [Option<Recorded<'a>>; 2],
    /// The MAIL FROM identity, where only DMARC asked for it.
    pub for_dmarc: Option<&'a Verified>,
    /// The signatures, from the top of the header; `None` where DKIM was not verified.
    pub dkim: Option<&'a [SignatureOutcome]>,
    /// The outcome of DMARC, where it was evaluated.
    pub dmarc: Option<&'a dmarc::Outcome>,
    /// The outcome of iprev, where it was verified.
    pub iprev: Option<&'a iprev::Outcome>,
    /// The domain of the mailing list, where the message is of one that may be exempt.
    pub list: Option<&'a Domain>,
    /// The identity that the decision refuses for SPF, if it does.
    pub refused: Option<&'a Verified>,
    /// The decision on the message.
    pub decision: &'a MessageDecision,
}

impl Results<'_> {
    /// Gives the fields to add, in the order in which each goes to the very top.
    pub fn write(&self, config: &Config, mut give: impl FnMut(HeaderField)) {
        self.tags(config).for_each(&mut give);
        for name in &config.header {
            match name {
                HeaderName::ReceivedSpf => {
                    self.recorded().for_each(|recorded| give(self.received_spf(recorded)));
                }
                HeaderName::AuthenticationResults => {
                    self.authentication_results(config)
                        .iter()
                        .for_each(|field| give(field.write()));
                }
            }
        }
    }

    fn recorded(&self) -> impl Iterator<Item = &Recorded<'_>> {
        self.recorded.iter().flatten()
    }

    /// The fields that mark the message, where that is the action: in each what the policy of the
    /// author domain asks for, if it asks for something, and why the message is marked.
    fn tags(&self, config: &Config) -> impl Iterator<Item = HeaderField> {
        let is_marked = self.decision.action() == Action::Tag;
        self.decision.causes().iter().filter(move |_| is_marked).map(|cause| {
            let mut field = Folding::new(config.tag_header.clone());
            field.push(&format!("{};", self.asked_for(*cause)));
            field.push(&format!("reason={}", cause.refusal.as_str()));
            if let Some(domain) = self.failed_domain(cause.refusal) {
                field.attach(";");
                field.push(&format!("domain={domain}"));
            }
            field.finish()
        })
    }

    /// The domain that failed: that of the identity for SPF, none for the client's name, otherwise
    /// that of the author.
    fn failed_domain(&self, refusal: Refusal) -> Option<Domain> {
        match refusal {
            Refusal::Spf => Domain::parse(&self.refused?.domain).ok(),
            Refusal::Iprev => None,
            _ => self.dmarc?.author_domain.clone(),
        }
    }

    /// The policy of the author domain, or the action where it is not about that.
    fn asked_for(&self, cause: Cause) -> &'static str {
        let published = self.dmarc.and_then(|outcome| outcome.policy.as_ref());
        let published = published.map(dmarc::AppliedPolicy::effective);
        match self.decision.own_policy().or(published) {
            Some(policy) if cause.refusal == Refusal::Dmarc => policy.as_str(),
            _ => cause.action.as_str(),
        }
    }

    /// RFC 7208 §9.1.
    fn received_spf(&self, recorded: &Recorded<'_>) -> HeaderField {
        let verified = recorded.verified;
        let outcome = &verified.outcome;
        let client_ip = self.client;
        let is_mailfrom = verified.identity == Identity::Mailfrom;
        let (mut sender, mut comment) = SPARE.take();
        let described: &str = if is_mailfrom {
            sender.extend(verified.sender_parts());
            &sender
        } else {
            &verified.domain
        };
        if verified.domain.is_empty() {
            comment.push_str(&describe_without_domain(described, self.receiver));
        } else if client_ip.is_none() {
            comment.push_str(&describe_without_client(described, self.receiver));
        } else {
            let (result, identity) = (outcome.result, verified.identity);
            push_description(&mut comment, result, identity, described, client_ip, self.receiver);
        }
        if let Some(exemption) = recorded.exemption {
            comment.extend([", reason=", exemption.as_str()]);
        }
        let field = ReceivedSpf {
            comment: Some(comment.as_str().into()),
            receiver: Some(self.receiver.into()),
            client_ip,
            helo: self.helo.map(with_a_labels),
            envelope_from: is_mailfrom.then_some(described.into()),
            identity: Some(verified.identity),
            mechanism: outcome
                .policy_domain
                .as_ref()
                .map(|_| outcome.mechanism.as_deref().unwrap_or("default").into()),
            problem: problem_of(verified).map(|problem| problem.kind.as_str().into()),
            ..ReceivedSpf::new(outcome.result)
        };
        let written = field.write();
        if sender.capacity() + comment.capacity() <= MAX_SPARE {
            sender.clear();
            comment.clear();
            SPARE.set((sender, comment));
        }
        written
    }

    /// RFC 8601. `None` where nothing was verified, so that there is nothing to record.
    fn authentication_results(&self, config: &Config) -> Option<AuthenticationResults> {
        let with_local_part = config.include_mailfrom_local_part;
        let mut methods: Vec<MethodResult> =
            self.recorded().map(|recorded| recorded_spf(recorded, with_local_part)).collect();
        methods.extend(
            self.for_dmarc.map(|verified| {
                spf_result(verified, with_local_part).with_comment("for DMARC alone")
            }),
        );
        if let Some(signatures) = self.dkim {
            methods.extend(dkim_results(signatures));
        }
        methods.extend(self.dmarc.map(|outcome| dmarc_result(outcome, self.decision, self.list)));
        methods.extend(self.iprev.map(iprev_result));
        if methods.is_empty() {
            return None;
        }
        if config.hide_none_results {
            methods.retain(|method| *method.result != *"none");
        }
        let mut field = AuthenticationResults::new(self.authserv_id);
        field.results = methods;
        Some(field)
    }
}

fn recorded_spf(recorded: &Recorded<'_>, with_local_part: bool) -> MethodResult {
    let result = spf_result(recorded.verified, with_local_part);
    match recorded.exemption {
        Some(exemption) => result.with_comment(format!("reason={}", exemption.as_str())),
        None => result,
    }
}

fn spf_result(verified: &Verified, with_local_part: bool) -> MethodResult {
    let property = match verified.identity {
        Identity::Helo => Property::new("smtp", "helo", &*verified.domain),
        // As it came: the quotes of a local-part are a part of it.
        Identity::Mailfrom if with_local_part || verified.local_part == EMPTY_PATH => {
            Property::new("smtp", "mailfrom", verified.sender())
        }
        Identity::Mailfrom => Property::new("smtp", "mailfrom", &*verified.domain),
    };
    let result = MethodResult::new("spf", verified.outcome.result.as_str()).with_property(property);
    let reason = problem_of(verified).map(|problem| problem.kind.to_string());
    MethodResult { reason, ..result }
}

/// The problem that recipients learn of: that of temperror and permerror. That an identity has no
/// domain is seen from its text.
fn problem_of(verified: &Verified) -> Option<&Problem> {
    verified
        .outcome
        .problem
        .as_ref()
        .filter(|_| matches!(verified.outcome.result, SpfResult::Temperror | SpfResult::Permerror))
}

/// RFC 8601 §2.7.1, RFC 6008: one result per signature, or one `none`.
fn dkim_results(signatures: &[SignatureOutcome]) -> Vec<MethodResult> {
    if signatures.is_empty() {
        return vec![MethodResult::new("dkim", DkimResult::None.as_str())];
    }
    signatures
        .iter()
        .zip(signature_prefixes(signatures))
        .map(|(signature, prefix)| dkim_result(signature, prefix))
        .collect()
}

fn dkim_result(signature: &SignatureOutcome, prefix: Option<&str>) -> MethodResult {
    let domain = signature.domain.as_ref().map(|domain| domain.as_str());
    let selector = signature.ascii_selector();
    let properties = [
        ("d", domain),
        ("s", selector.as_deref()),
        ("a", signature.algorithm.as_deref()),
        ("b", prefix),
    ];
    let properties = properties.into_iter().filter_map(|(name, value)| Some((name, value?)));
    MethodResult {
        comment: signature.comment(),
        reason: signature.reason.map(|reason| reason.to_string()),
        properties: properties.map(|(name, value)| Property::new("header", name, value)).collect(),
        ..MethodResult::new("dkim", signature.result().as_str())
    }
}

/// RFC 9989 §9: the author domain, the policy that applies to it, and in a comment what was done.
fn dmarc_result(
    outcome: &dmarc::Outcome,
    decision: &MessageDecision,
    list: Option<&Domain>,
) -> MethodResult {
    let mut result = MethodResult::new("dmarc", outcome.result.as_str());
    let (mut words, exemption) = (Vec::new(), decision.exemption());
    if let Some(policy) = &outcome.policy {
        words.push(format!("p={}", policy.published));
        words.extend(policy.testing.then(|| "t=y".to_owned()));
    }
    let own_policy = decision.own_policy();
    if outcome.policy.is_some() || exemption.is_some() || own_policy.is_some() {
        words.push(format!("dis={}", decision.disposition().as_str()));
        words.extend(own_policy.map(|policy| format!("override={policy}")));
        words.extend(exemption.map(|exemption| format!("reason={}", exemption.as_str())));
        let list = list.filter(|_| exemption == Some(Exemption::MailingList));
        words.extend(list.map(|domain| format!("list={domain}")));
        result = result.with_comment(words.join(" "));
    }
    result.reason = outcome.problem.as_ref().map(ToString::to_string);
    if let Some(domain) = &outcome.author_domain {
        result = result.with_property(Property::new("header", "from", domain.as_str()));
    }
    if let Some(policy) = &outcome.policy {
        result =
            result.with_property(Property::new("policy", "dmarc", policy.effective().as_str()));
    }
    result
}

/// Whether the text has nothing but what names of hosts have: letters, digits, hyphens, underscores
/// and dots.
fn is_host_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 8601 §3.
fn iprev_result(outcome: &iprev::Outcome) -> MethodResult {
    let mut property = Property::new("policy", "iprev", outcome.address.to_string());
    // The owner of an address names it at will: the name of a host is shown, anything else would
    // only mislead readers.
    if let Some(name) = outcome.name.as_ref().filter(|name| is_host_name(name.as_str())) {
        property = property.with_comment(name.as_str());
    }
    MethodResult {
        reason: outcome.failure.map(|failure| failure.to_string()),
        ..MethodResult::new("iprev", outcome.result.as_str()).with_property(property)
    }
}
