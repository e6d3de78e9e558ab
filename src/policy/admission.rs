//! Exemptions of clients, senders and messages.

use std::net::IpAddr;

use super::{facts::MessageFacts, refusal::Refusal};
use crate::{
    auth::dkim::SignatureOutcome,
    config::{Config, MailingLists},
    mail::{domain::Domain, envelope::helo_domain, results::words},
};

words! {
    /// Why something is not verified, or not enforced.
    Exemption {
        /// The client has no address.
        NoAddress = "no-address",
        /// The message does not come from an SMTP client, but from this host itself.
        LocalSubmission = "local-submission",
        /// The client is in `trusted_networks`.
        TrustedNetwork = "trusted-network",
        /// The client authenticated (`trust_authenticated_senders`).
        Authenticated = "authenticated",
        /// The HELO name is not a domain name that can be verified.
        NoDomainName = "no-domain-name",
        /// The identity is in `skip_senders`.
        SkippedSender = "skip-senders",
        /// From SPF refusals: the client is in `spf_exempt_networks`.
        SpfNetwork = "spf-exempt-network",
        /// From DMARC: the client is in `dmarc_exempt_networks`.
        DmarcNetwork = "exempt-network",
        /// From DMARC: the message has a passing signature, of all of its body, of a domain in
        /// `dmarc_exempt_dkim_domains`.
        DmarcDkimDomain = "exempt-dkim-domain",
        /// From DMARC: the message is of a mailing list (`dmarc_exempt_mailing_lists`).
        MailingList = "mailing-list",
        /// From DMARC: the action on the policy neither keeps the message back nor refuses it;
        /// nothing else exempts the message.
        NotEnforced = "not-enforced",
    }
}

/// Decides on a client, of which the MTA gave an address, a port and a name: the address to verify.
///
/// # Errors
///
/// Nothing of the client is verified.
pub fn admit(
    config: &Config,
    address: Option<IpAddr>,
    port: u16,
    host: &str,
) -> Result<IpAddr, Exemption> {
    let address = address.ok_or(Exemption::NoAddress)?.to_canonical();
    // Postfix passes mail that did not come by SMTP (`non_smtpd_milters`) as from this host itself,
    // without a port. Refusing that would not reach any client.
    let is_local = address.is_loopback() && port == 0;
    if is_local && host.eq_ignore_ascii_case("localhost") {
        Err(Exemption::LocalSubmission)
    } else if address.is_unspecified() {
        // It stands for an address that is not known.
        Err(Exemption::NoAddress)
    } else if config.trusted_networks.contains(address) {
        Err(Exemption::TrustedNetwork)
    } else {
        Ok(address)
    }
}

/// Whether the messages of a client that authenticated are exempt.
pub fn from_authentication(config: &Config, is_authenticated: bool) -> Option<Exemption> {
    (is_authenticated && config.trust_authenticated_senders).then_some(Exemption::Authenticated)
}

/// Whether the client may bring in fields in our name, as long as it does not authenticate.
pub fn may_claim_our_ids(config: &Config, address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| config.trusted_authentication_results.contains(address))
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

/// Whether a client is exempt from the consequences of SPF.
pub(super) fn from_spf(config: &Config, client: IpAddr) -> Option<Exemption> {
    config.spf_exempt_networks.contains(client).then_some(Exemption::SpfNetwork)
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
