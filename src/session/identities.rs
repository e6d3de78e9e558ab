//! The identities of a session, verified with SPF.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Helo, Session};
use crate::{
    auth::{
        Identity, Verified,
        spf::{self, Limits, POSTMASTER, Query},
    },
    config::Config,
    mail::{
        domain::Domain,
        identity::{ReversePath, helo_domain},
    },
    policy::{self, Circumstances, HeloDecision},
};

/// A MAIL FROM identity.
#[derive(Debug)]
pub(super) struct Mailfrom {
    pub(super) verified: Verified,
    /// SPF's own rules leave it out; DMARC wants its result all the same.
    pub(super) for_dmarc: bool,
}

impl Session {
    pub(super) async fn verify_helo(&mut self, client: IpAddr, name: &str) -> Helo {
        let open = Helo { name: name.to_owned(), verified: None, decision: HeloDecision::Open };
        let config = Arc::clone(&self.runtime.config);
        if !config.verify_helo {
            return open;
        }
        let Some(domain) = helo_domain(name) else {
            self.skip(Identity::Helo, name, "no-domain-name");
            return open;
        };
        if config.skip_senders.matches(None, &domain) {
            self.skip(Identity::Helo, name, "skip-senders");
            return open;
        }
        let query = self.query(client, POSTMASTER, domain.as_str(), name);
        let outcome = spf::check_host(&self.runtime.dns, &query, &limits(&config)).await;
        let verified =
            Verified { identity: Identity::Helo, local_part: POSTMASTER.to_owned(), domain: shown(name, Some(&domain)), outcome };
        let circumstances = Circumstances { helo: name, ..self.circumstances(client) };
        let decision = policy::at_helo(&config, &verified, &circumstances);
        Helo { verified: Some(verified), decision, ..open }
    }

    /// Verifies MAIL FROM, if SPF's own rules or DMARC ask for it.
    pub(super) async fn verify_mailfrom(&mut self, client: IpAddr, path: &ReversePath) -> Option<Mailfrom> {
        let config = Arc::clone(&self.runtime.config);
        let helo = self.helo.as_ref().map_or("", |helo| helo.name.as_str()).to_owned();
        let (local_part, domain) = match path {
            ReversePath::Empty => (POSTMASTER, helo.as_str()),
            ReversePath::Mailbox { local_part, domain } if local_part.is_empty() => (POSTMASTER, domain.as_str()),
            ReversePath::Mailbox { local_part, domain } => (local_part.as_str(), domain.as_str()),
            ReversePath::Other(text) => (text.as_str(), ""),
        };
        let parsed = match path {
            ReversePath::Empty => helo_domain(domain),
            _ => Domain::parse(domain).ok(),
        };
        let mut for_dmarc = self.helo_is_definitive();
        if let Some(parsed) = &parsed
            && !for_dmarc
            && config.skip_senders.matches(Some(local_part), parsed)
        {
            self.skip(Identity::Mailfrom, &format!("{local_part}@{domain}"), "skip-senders");
            for_dmarc = true;
        }
        if for_dmarc && !config.verify_dmarc {
            return None;
        }
        let outcome = match &parsed {
            Some(parsed) => {
                let query = self.query(client, local_part, parsed.as_str(), &helo);
                spf::check_host(&self.runtime.dns, &query, &limits(&config)).await
            }
            None => spf::Outcome::without_domain("no domain name"),
        };
        let domain = shown(domain, parsed.as_ref());
        let verified = Verified { identity: Identity::Mailfrom, local_part: local_part.to_owned(), domain, outcome };
        Some(Mailfrom { verified, for_dmarc })
    }

    fn query<'a>(&'a self, client: IpAddr, local_part: &'a str, domain: &'a str, helo: &'a str) -> Query<'a> {
        Query { client, domain, local_part, helo, receiver: &self.host_name, timestamp: self.runtime.clock.now() }
    }
}

/// A domain as it is shown: in the case in which it came, without a dot at the end; U-labels as A-labels.
fn shown(text: &str, domain: Option<&Domain>) -> String {
    match domain {
        Some(domain) if !text.is_ascii() => domain.to_string(),
        Some(_) => text.strip_suffix('.').unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_lookups: config.max_lookups,
        max_void_lookups: config.max_void_lookups,
        timeout: Duration::from_secs(config.timeout_secs),
    }
}
