//! Exemptions of clients, senders and messages.

use std::net::IpAddr;

use super::{facts::MessageFacts, refusal::Refusal};
use crate::{
    auth::dkim::SignatureOutcome,
    config::{Config, MailingLists},
    mail::{
        domain::Domain,
        envelope::{ReversePath, helo_domain},
    },
};

/// Why something is not verified, or not enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exemption {
    /// The client has no address.
    NoAddress,
    /// The message does not come from an SMTP client, but from this host itself.
    LocalSubmission,
    /// The client is in `trusted_networks`.
    TrustedNetwork,
    /// The client authenticated (`trust_authenticated_senders`).
    Authenticated,
    /// The client authenticated at a relay (`trusted_relays`).
    AuthenticatedAtRelay,
    /// The HELO name is not a domain name that can be verified.
    NoDomainName,
    /// The identity is in `skip_senders`.
    SkippedSender,
    /// From SPF: the Received fields of a relay's message do not name a client, for this reason.
    UnknownClient(&'static str),
    /// From refusals (`relay_action`): a relay has accepted the message already.
    Relayed,
    /// From SPF refusals: the client is in `spf_exempt_networks`.
    SpfNetwork,
    /// From refusals: the recipients are in `exempt_recipients`.
    ExemptRecipient,
    /// From DMARC: the client is in `dmarc_exempt_networks`.
    DmarcNetwork,
    /// From DMARC: the message has a passing signature, of all of its body, of a domain in
    /// `dmarc_exempt_dkim_domains`.
    DmarcDkimDomain,
    /// From DMARC: the message is of a mailing list (`dmarc_exempt_mailing_lists`).
    MailingList,
    /// From DMARC: the action on the policy neither keeps the message back nor refuses it; nothing
    /// else exempts the message.
    NotEnforced,
}

impl Exemption {
    /// The exemption's word, in header fields and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::LocalSubmission => "local-submission",
            Self::TrustedNetwork => "trusted-network",
            Self::Authenticated => "authenticated",
            Self::AuthenticatedAtRelay => "authenticated-at-relay",
            Self::NoDomainName => "no-domain-name",
            Self::SkippedSender => "skip-senders",
            Self::UnknownClient(reason) => reason,
            Self::Relayed => "relayed",
            Self::SpfNetwork => "spf-exempt-network",
            Self::ExemptRecipient => "exempt-recipient",
            Self::DmarcNetwork => "exempt-network",
            Self::DmarcDkimDomain => "exempt-dkim-domain",
            Self::MailingList => "mailing-list",
            Self::NotEnforced => "not-enforced",
        }
    }
}

/// A client of which something is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admitted {
    /// The client itself is verified.
    Client,
    /// It is a relay, for whose messages the clients are verified that their Received fields name.
    Relay,
}

/// Decides on a client, of which the MTA gave an address, a port and a name. One that is both a relay
/// and trusted is a relay.
///
/// # Errors
///
/// Nothing of the client is verified.
pub fn admit(
    config: &Config,
    address: Option<IpAddr>,
    port: u16,
    host: &str,
) -> Result<Admitted, Exemption> {
    let address = address.ok_or(Exemption::NoAddress)?.to_canonical();
    // Postfix passes mail that did not come by SMTP (`non_smtpd_milters`) as from this host itself,
    // without a port. Refusing that would not reach any client.
    let is_local = address.is_loopback() && port == 0;
    if is_local && host.eq_ignore_ascii_case("localhost") {
        Err(Exemption::LocalSubmission)
    } else if address.is_unspecified() {
        // It stands for an address that is not known.
        Err(Exemption::NoAddress)
    } else if config.trusted_relays.contains(address) {
        Ok(Admitted::Relay)
    } else if config.trusted_networks.contains(address) {
        Err(Exemption::TrustedNetwork)
    } else {
        Ok(Admitted::Client)
    }
}

/// Whether the messages of a client that authenticated are exempt.
pub fn from_authentication(config: &Config, is_authenticated: bool) -> Option<Exemption> {
    (is_authenticated && config.trust_authenticated_senders).then_some(Exemption::Authenticated)
}

/// Whether the client may bring in fields in our name, as long as it does not authenticate.
///
/// A relay brings in the mail of strangers: that it is in `trusted_networks` too does not suffice.
pub fn may_claim_our_ids(config: &Config, address: Option<IpAddr>) -> bool {
    let (trusted, relays) = (&config.trusted_authentication_results, &config.trusted_relays);
    address.is_some_and(|address| {
        trusted.contains(address)
            && !(relays.contains(address) && *trusted == config.trusted_networks)
    })
}

/// The domain of a HELO name.
///
/// # Errors
///
/// The name is not verified.
pub fn helo_identity(config: &Config, name: &str) -> Result<Domain, Exemption> {
    let domain = helo_domain(name).ok_or(Exemption::NoDomainName)?;
    if config.skip_senders.matches(None, &domain) {
        Err(Exemption::SkippedSender)
    } else {
        Ok(domain)
    }
}

/// Whether a sender is exempt from SPF's own rules.
pub fn sender(config: &Config, local_part: &str, domain: &Domain) -> Option<Exemption> {
    config.skip_senders.matches(Some(local_part), domain).then_some(Exemption::SkippedSender)
}

/// Whether nothing is refused for a recipient.
pub fn is_exempt_recipient(config: &Config, recipient: &ReversePath<'_>) -> bool {
    let (local_part, domain) = match recipient {
        ReversePath::Mailbox { local_part, domain } => (&**local_part, Domain::parse(domain).ok()),
        // Postmaster needs no domain (RFC 5321 §4.5.1).
        ReversePath::Other(text) => (&**text, None),
        ReversePath::Empty => return false,
    };
    config.exempt_recipients.contains(local_part, domain.as_ref())
}

/// Whether a client is exempt from the consequences of SPF.
pub(super) fn from_spf(config: &Config, client: IpAddr, is_relayed: bool) -> Option<Exemption> {
    if config.spf_exempt_networks.contains(client) {
        Some(Exemption::SpfNetwork)
    } else {
        is_relayed.then_some(Exemption::Relayed)
    }
}

/// Whether a message is exempt from the consequences of DMARC.
pub(super) fn from_dmarc(
    config: &Config,
    facts: &MessageFacts<'_>,
    is_list: bool,
) -> Option<Exemption> {
    let is_exempt_list = config.dmarc_exempt_mailing_lists != MailingLists::No && is_list;
    from_signer(config, facts).or_else(|| is_exempt_list.then_some(Exemption::MailingList))
}

/// Whether a message is exempt from the action on something else that is wrong with it.
pub(super) fn from_failure(
    config: &Config,
    facts: &MessageFacts<'_>,
    refusal: Refusal,
) -> Option<Exemption> {
    if refusal == Refusal::LocalDomain {
        from_signer(config, facts)
    } else {
        from_network(config, facts)
    }
}

fn from_network(config: &Config, facts: &MessageFacts<'_>) -> Option<Exemption> {
    config.dmarc_exempt_networks.contains(facts.client).then_some(Exemption::DmarcNetwork)
}

/// The exemption of a client, else that of a signature over the whole message.
fn from_signer(config: &Config, facts: &MessageFacts<'_>) -> Option<Exemption> {
    let is_exempt = |signature: &SignatureOutcome| {
        let domain = signature.domain.as_ref().filter(|_| signature.covers_message());
        domain.is_some_and(|domain| config.dmarc_exempt_dkim_domains.contains(domain))
    };
    from_network(config, facts)
        .or_else(|| facts.dkim.iter().any(is_exempt).then_some(Exemption::DmarcDkimDomain))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        auth::dkim::BodyCoverage,
        config::{Overrides, load_text},
        mail::results::Words,
    };

    fn config(text: &str) -> Config {
        let text = format!("socket = unix:/nowhere\n{text}\n");
        load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config
    }

    #[test]
    fn a_signature_excuses_the_use_of_a_local_domain_only() {
        let config = config("dmarc_exempt_dkim_domains = list.example");
        let signature = SignatureOutcome {
            domain: Some(Domain::parse("list.example").unwrap()),
            body: Some(BodyCoverage { covered: 7, total: 7 }),
            ..SignatureOutcome::default()
        };
        let partial = SignatureOutcome {
            body: Some(BodyCoverage { covered: 6, total: 7 }),
            ..signature.clone()
        };
        for &(refusal, _) in Refusal::ALL {
            let exempt = |signatures: &[SignatureOutcome]| {
                let facts = MessageFacts {
                    dkim: signatures,
                    ..MessageFacts::of("192.0.2.1".parse().unwrap())
                };
                from_failure(&config, &facts, refusal)
            };
            let expected = (refusal == Refusal::LocalDomain).then_some(Exemption::DmarcDkimDomain);
            assert_eq!(exempt(&[partial.clone(), signature.clone()]), expected, "{refusal}");
            assert_eq!(exempt(std::slice::from_ref(&partial)), None, "{refusal}");
        }
    }

    #[test]
    fn senders_are_exempt_by_address_or_domain() {
        let config = config("skip_senders = example.com, u@example.net");
        for (local_part, domain, is_exempt) in [
            ("u", "example.com", true),
            ("v", "example.com", true),
            ("u", "example.net", true),
            ("v", "example.net", false),
            ("u", "example.org", false),
        ] {
            let found = sender(&config, local_part, &Domain::parse(domain).unwrap());
            let expected = is_exempt.then_some(Exemption::SkippedSender);
            assert_eq!(found, expected, "{local_part}@{domain}");
        }
    }
}
