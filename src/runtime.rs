//! The configuration in force, and what is built from it once, not once a message.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    config::{Action, Config, HeaderName},
    dns::{self, Dns},
    mail::auth_results::{AuthservIdPattern, OwnAuthservIds},
};

/// A clock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Clock {
    /// The system.
    #[default]
    System,
    /// It is always this time, in seconds since 1970: for tests, and for questions that are asked again.
    Fixed(u64),
}

impl Clock {
    /// The time, in seconds since 1970.
    pub fn now(self) -> u64 {
        match self {
            Self::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
            }
            Self::Fixed(time) => time,
        }
    }
}

/// The surroundings of a session, from its beginning to its end.
#[derive(Debug)]
pub struct Runtime {
    /// The configuration.
    pub config: Arc<Config>,
    /// The DNS client.
    pub dns: Dns,
    /// The time that signatures are held against, and that the macro `t` expands to.
    pub clock: Clock,
    /// Outcomes of SPF and DKIM have their steps, which the daemon has no use for.
    pub traces: bool,
    /// The needs that the MTA is asked to meet.
    pub needs: Needs,
    /// This host's own idea of its name, where neither the configuration nor the MTA has one.
    pub fallback_host: String,
    /// How often the configuration was loaded before.
    pub generation: u64,
}

/// The needs of a configuration that the MTA is to meet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// An answer may follow when a client connects.
    pub connect_reply: bool,
    /// HELO may be refused.
    pub helo_reply: bool,
    /// MAIL FROM may be refused.
    pub mail_reply: bool,
    /// The recipients, who are refused in place of HELO and MAIL FROM.
    pub recipients: bool,
    /// The header fields of messages.
    pub header_fields: bool,
    /// Header fields exactly as the client sent them, the end of the header, and the body.
    pub content: bool,
    /// Leave to have messages kept back.
    pub quarantine: bool,
    /// Leave to add header fields.
    pub add_fields: bool,
    /// Leave to delete header fields.
    pub delete_fields: bool,
    /// The MTA's name of the host.
    pub host_macro: bool,
    /// The name that a client authenticated as.
    pub authentication_macro: bool,
    /// An answer to everything, although the protocol lets a milter do without (`milter_no_reply`).
    pub answers: bool,
}

impl Needs {
    fn new(config: &Config) -> Self {
        let live = !config.dry_run;
        // Where recipients are exempt, each is answered by itself.
        let recipients = !config.exempt_recipients.is_empty();
        let at_once = live && !recipients;
        let writes = |name| config.header.contains(&name);
        // The texts of replies may have the macro r.
        let refuses = !config.reject_results.is_empty()
            || !config.reject_helo_results.is_empty()
            || config.may(Action::Reject)
            || config.may(Action::Defer);
        let deletes = config.delete_incoming_authentication_results
            || !config.delete_authserv_ids.is_empty()
            || config.may(Action::Tag);
        Self {
            connect_reply: !config.trusted_networks.is_empty(),
            helo_reply: at_once && config.verify_helo && !config.reject_helo_results.is_empty(),
            recipients,
            mail_reply: at_once
                && !config.reject_results.is_empty()
                && !(config.defer_spf_rejection && config.verify_dmarc),
            header_fields: !config.trusted_relays.is_empty()
                || config.verify_dkim
                || config.verify_dmarc
                || deletes,
            content: config.verify_dkim,
            quarantine: live && config.may(Action::Quarantine),
            add_fields: live && (!config.header.is_empty() || config.may(Action::Tag)),
            delete_fields: live && deletes,
            host_macro: config.hostname.is_none()
                && (config.authserv_id.is_none() || writes(HeaderName::ReceivedSpf) || refuses),
            authentication_macro: config.trust_authenticated_senders,
            answers: !config.milter_no_reply,
        }
    }
}

impl Runtime {
    /// Builds what sessions work with.
    pub fn new(config: Config, dns: Dns, fallback_host: String, generation: u64) -> Self {
        Self {
            needs: Needs::new(&config),
            config: Arc::new(config),
            dns,
            clock: Clock::System,
            traces: false,
            fallback_host,
            generation,
        }
    }

    /// The name of this host: of the configuration, else of the MTA, else of the system.
    pub fn host_name<'a>(&'a self, mta_host: Option<&'a str>) -> &'a str {
        match (&self.config.hostname, mta_host) {
            (Some(name), _) => name,
            (None, Some(name)) if !name.is_empty() => name,
            _ => &self.fallback_host,
        }
    }

    /// The authserv-id of this host.
    pub fn authserv_id<'a>(&'a self, host_name: &'a str) -> &'a str {
        self.config.authserv_id.as_deref().unwrap_or(host_name)
    }

    /// The authserv-ids whose incoming fields are deleted.
    pub fn own_authserv_ids(&self, host_name: &str) -> OwnAuthservIds {
        let mut ids = OwnAuthservIds::new(self.config.delete_authserv_ids.shared());
        if self.config.delete_incoming_authentication_results {
            ids.push(AuthservIdPattern::exact(self.authserv_id(host_name)));
        }
        ids
    }
}

/// How DNS is asked by a configuration; with the system's resolv.conf, and as many questions at one
/// time as there may be.
pub fn dns_settings(config: &Config) -> dns::Settings {
    dns::Settings {
        nameservers: Some(config.nameservers.to_vec()),
        timeout: Duration::from_secs(config.dns_timeout_secs),
        attempts: config.dns_attempts,
        cache_size: config.dns_cache_size,
        ..dns::Settings::default()
    }
}

/// The runtime in force. Cheap to clone; all clones see a replacement at once.
#[derive(Clone, Debug)]
pub struct Shared {
    runtime: Arc<RwLock<Arc<Runtime>>>,
}

impl Shared {
    /// Begins with a runtime.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime: Arc::new(RwLock::new(Arc::new(runtime))) }
    }

    /// The runtime in force now; a session keeps the one that it began with.
    pub fn load(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another runtime in force, for sessions that begin from now on.
    pub fn replace(&self, runtime: Runtime) {
        *self.runtime.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, load_text};

    fn needs(lines: &str) -> Needs {
        let text =
            format!("socket = unix:/nowhere\nverify_dkim = yes\nverify_dmarc = yes\n{lines}");
        Needs::new(
            &load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config,
        )
    }

    #[test]
    fn the_mta_is_asked_for_what_is_needed() {
        let usual = needs("");
        assert!(
            usual.content
                && usual.header_fields
                && usual.mail_reply
                && usual.host_macro
                && !usual.quarantine
        );
        assert!(needs("dmarc_reject_action = quarantine").quarantine);
        assert!(!needs("dmarc_quarantine_action = reject").quarantine);
        assert!(!needs("defer_spf_rejection = yes").mail_reply);
        let dry = needs(
            "dmarc_quarantine_action = quarantine\ndmarc_reject_action = tag\ndry_run = yes\nheader = Authentication-Results",
        );
        assert!(dry.content && dry.header_fields);
        assert!(
            !dry.quarantine
                && !dry.mail_reply
                && !dry.helo_reply
                && !dry.add_fields
                && !dry.delete_fields
        );
        assert!(!usual.answers && needs("milter_no_reply = no").answers);
        // What marks messages is deleted where it comes in.
        let tags = needs("header =\ndmarc_temperror_action = tag");
        assert!(tags.add_fields && tags.delete_fields);
        let none = needs("header =\ndmarc_temperror_action = defer");
        assert!(!none.add_fields && !none.delete_fields);
        // A name of this host is in no field and in no reply.
        let nameless = "authserv_id = x\nheader = Authentication-Results\nreject_results =\n";
        assert!(!needs(nameless).host_macro);
        assert!(needs(&format!("{nameless}dmarc_reject_action = reject")).host_macro);
        assert!(needs(&format!("{nameless}reject_helo_results = fail")).host_macro);
    }

    #[test]
    fn clocks() {
        assert_eq!(Clock::Fixed(7).now(), 7);
        assert!(Clock::System.now() > 1_700_000_000);
    }
}
