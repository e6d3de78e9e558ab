//! The table of parameters: one row says everything about one of them.
//!
//! A row gives the field of [`Config`] its name, its type and its one-line description, the default
//! as text, whether the parameter can be reloaded, and the function that reads it. Everything else
//! is made from the rows.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    assignment::ValueReader,
    types::{
        client_map::ClientMap,
        domain_map::DomainList,
        domains::Domains,
        file::{Mode, group_name, mode, path},
        keyword::{
            Action, ErrorAction, HeaderName, LogDestination, LogFormat, LogLevel, MailingLists,
            SyslogFacility, action, header_name, keyword,
        },
        listed::{Listed, listed},
        names::{authserv_id, field_name, hostname},
        networks::{Networks, networks},
        number::{boolean, count, count_from, positive, refusals, seconds},
        policy_overrides::{PolicyOverrides, policy_overrides},
        recipients::Recipients,
        reply_text::{self, ReplyText},
        skip_senders::{SkipSenders, skip_senders},
        socket::{SocketSpec, single_socket, socket},
        spf_results::{definitive, rejectable},
        value::{Parsed, Spell, ValueErrors, list, optional, read_value, refuse, wrong},
    },
};
use crate::mail::{
    auth_results::AuthservIdSet,
    reply::{EnhancedStatusCode, ReplyCode},
    results::SpfResult,
};

/// A parameter of the configuration file.
#[derive(Debug)]
pub struct Parameter {
    /// The name, which is that of the field of [`Config`] too.
    pub name: &'static str,
    /// The group that it belongs to, as a heading.
    pub group: &'static str,
    /// Its value when it is not set.
    pub default: DefaultValue,
    /// Whether it keeps its value until the milter is started anew.
    pub fixed: bool,
    /// Its description, in one line.
    #[cfg(any(test, feature = "testing"))]
    doc: &'static str,
    /// Whether it is a list that may name files of values.
    pub(super) takes_files: bool,
    /// The faults of a value.
    pub(super) check: fn(&str) -> ValueErrors,
    pub(super) spell: fn(&Config) -> String,
    pub(super) same: fn(&Config, &Config) -> bool,
    pub(super) copy: fn(&mut Config, &Config),
}

/// The value of a parameter that is not set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DefaultValue {
    /// Nothing: it must be set.
    Mandatory,
    /// A value, in the form of the configuration file. Empty also for what is then not set at all.
    Text(&'static str),
    /// A value that depends on other parameters.
    Derived {
        /// The value when the others have their defaults, in the form of the configuration file.
        text: &'static str,
        /// How it depends on them, as the rest of a sentence that begins with "default:".
        rule: &'static str,
    },
}

impl DefaultValue {
    /// The default in the form of the configuration file; `None` where there is no default.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Mandatory => None,
            Self::Text(text) | Self::Derived { text, .. } => Some(text),
        }
    }
}

impl Parameter {
    /// The parameter of a name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        parameters().iter().find(|parameter| parameter.name == name)
    }

    /// Its description, in one line.
    #[cfg(any(test, feature = "testing"))]
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

/// Every parameter, group by group.
pub fn parameters() -> &'static [Parameter] {
    PARAMETERS
}

use DefaultValue::{Derived, Mandatory, Text};

const FIXED: bool = true;
const RELOADED: bool = false;

/// Makes [`Config`], the table and the function that reads all values from the rows.
macro_rules! parameters {
    ($($group:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $fixed:ident, $parse:expr;)+ })+) => {
        /// The configuration in force: plain values, checked once, never changed. A field is named
        /// as its parameter is.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config { $($($(#[doc = $doc])+ pub $name: $type,)+)+ }

        static PARAMETERS: &[Parameter] = &[$($(Parameter {
            name: stringify!($name),
            group: $group,
            default: $default,
            fixed: $fixed,
            #[cfg(any(test, feature = "testing"))]
            doc: concat!($($doc),+),
            takes_files: <$type as Spell>::FILES,
            check: |text| {
                let value: Parsed<$type> = read_value(text, $parse);
                value.err().unwrap_or_default()
            },
            spell: |config| config.$name.spell(),
            same: |one, other| one.$name == other.$name,
            copy: |to, from| to.$name.clone_from(&from.$name),
        },)+)+];

        /// Reads all values; a configuration comes of it if there is no error.
        pub(super) fn read_values(reader: &mut ValueReader<'_>) -> Option<Config> {
            $($(let $name = reader.read(stringify!($name), $default.text(), $parse);)+)+
            Some(Config { $($($name: $name?,)+)+ })
        }
    };
}

parameters! {
    "Sockets and process" {
        /// Sockets to listen on.
        socket: Vec<SocketSpec> = Mandatory, FIXED, sockets;
        /// Mode of UNIX sockets, in octal; not set: what the umask leaves.
        socket_mode: Option<Mode> = Text(""), FIXED, |text| optional(text, mode);
        /// Group of UNIX sockets; not set: the group of the process.
        socket_group: Option<String> = Text(""), FIXED, |text| optional(text, group_name);
        /// Socket of `/metrics`, the checks of health, and the status page; not set: none.
        metrics_socket: Option<SocketSpec> = Text(""), FIXED, |text| optional(text, single_socket);
        /// Connections that are served at the same time; more of them wait.
        max_connections: usize = Text("1000"), RELOADED, positive;
        /// Whether the MTA is asked not to wait for answers where there is nothing to say.
        milter_no_reply: bool = Text("yes"), RELOADED, boolean;
        /// The answer to the MTA when the milter could not do its work on a message.
        error_action: ErrorAction = Text("tempfail"), RELOADED, keyword;
    }
    "Logging" {
        /// Where log messages go.
        log_destination: LogDestination = Text("syslog"), RELOADED, keyword;
        /// Form of log messages: text, or one object of JSON in each line.
        log_format: LogFormat = Text("text"), RELOADED, keyword;
        /// The least important log messages that are written.
        log_level: LogLevel = Text("info"), RELOADED, keyword;
        /// Facility of the messages that go to syslog.
        syslog_facility: SyslogFacility = Text("mail"), RELOADED, keyword;
        /// The last refusals that the status shows, with client and domain; 0: none are kept.
        status_refusals: usize = Text("0"), RELOADED, refusals;
    }
    "Host and exemptions" {
        /// Name of this host in header fields and in the macro r; not set: what the MTA calls
        /// itself.
        hostname: Option<String> = Text(""), RELOADED, |text| optional(text, hostname);
        /// Networks of clients that are not verified.
        trusted_networks: Networks = Text("loopback"), RELOADED, networks;
        /// Whether clients that authenticated are not verified from MAIL FROM on.
        trust_authenticated_senders: bool = Text("yes"), RELOADED, boolean;
        /// Senders that are not verified with SPF, here and in `skip_senders_file`.
        skip_senders: SkipSenders = Text(""), RELOADED, skip_senders;
        /// File of more `skip_senders`, one in a line.
        skip_senders_file: Option<PathBuf> = Text(""), RELOADED, |text| optional(text, path);
        /// Recipients for whom nothing is refused.
        exempt_recipients: Recipients = Text(""), RELOADED, listed;
    }
    "SPF verification" {
        /// Whether the HELO identity is verified.
        verify_helo: bool = Text("yes"), RELOADED, boolean;
        /// Results of HELO after which MAIL FROM is not verified.
        definitive_helo_results: Vec<SpfResult> = Text(""), RELOADED, definitive;
        /// Results that are rejected.
        reject_results: Vec<SpfResult> = Text("fail, temperror, permerror"), RELOADED, rejectable;
        /// Results of HELO that are rejected.
        reject_helo_results: Vec<SpfResult> =
            Derived { text: "fail, temperror, permerror", rule: "the value of reject_results" }, RELOADED, rejectable;
        /// DNS look-ups that one verification may cause (RFC 7208 §4.6.4).
        max_lookups: usize = Text("10"), RELOADED, count;
        /// DNS look-ups without an answer that one verification may cause (RFC 7208 §4.6.4).
        max_void_lookups: usize = Text("2"), RELOADED, count;
        /// Seconds that one verification may take.
        timeout_secs: u64 = Text("20"), RELOADED, seconds;
        /// Whether to verify and log, but neither reject nor change anything.
        dry_run: bool = Text("no"), RELOADED, boolean;
        /// Whether MAIL FROM results are rejected only at the end of the message, if DMARC does not
        /// pass.
        defer_spf_rejection: bool = Text("no"), RELOADED, boolean;
    }
    "SMTP replies" {
        /// Reply code for the result fail.
        fail_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for the result fail.
        fail_status_code: EnhancedStatusCode = Text("5.7.23"), RELOADED, status_code;
        /// Text of the reply for the result fail.
        fail_reply_text: ReplyText = Text("SPF validation failed"), RELOADED, reply_text::plain;
        /// Text of the reply for the result fail when the sender's domain published an explanation.
        fail_reply_text_exp: ReplyText =
            Text("SPF validation failed: %{o} explains: %{exp}"), RELOADED, reply_text::with_exp;
        /// Reply code for the result softfail.
        softfail_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for the result softfail.
        softfail_status_code: EnhancedStatusCode = Text("5.7.23"), RELOADED, status_code;
        /// Text of the reply for the result softfail.
        softfail_reply_text: ReplyText = Text("SPF validation failed"), RELOADED, reply_text::plain;
        /// Reply code for the result temperror.
        temperror_reply_code: ReplyCode = Text("451"), RELOADED, reply_code;
        /// Enhanced status code for the result temperror.
        temperror_status_code: EnhancedStatusCode = Text("4.7.24"), RELOADED, status_code;
        /// Text of the reply for the result temperror.
        temperror_reply_text: ReplyText = Text("SPF validation error: %{reason}"), RELOADED, reply_text::with_reason;
        /// Reply code for the result permerror.
        permerror_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for the result permerror.
        permerror_status_code: EnhancedStatusCode = Text("5.7.24"), RELOADED, status_code;
        /// Text of the reply for the result permerror.
        permerror_reply_text: ReplyText = Text("SPF validation error: %{reason}"), RELOADED, reply_text::with_reason;
        /// Text of the reply to HELO for the result fail; not set: as for MAIL FROM.
        helo_fail_reply_text: Option<ReplyText> = Text(""), RELOADED, |text| optional(text, reply_text::plain);
        /// Text of the reply to HELO for the result softfail; not set: as for MAIL FROM.
        helo_softfail_reply_text: Option<ReplyText> = Text(""), RELOADED, |text| optional(text, reply_text::plain);
        /// Text of the reply to HELO for the result temperror; not set: as for MAIL FROM.
        helo_temperror_reply_text: Option<ReplyText> = Text(""), RELOADED, |text| optional(text, reply_text::with_reason);
        /// Text of the reply to HELO for the result permerror; not set: as for MAIL FROM.
        helo_permerror_reply_text: Option<ReplyText> = Text(""), RELOADED, |text| optional(text, reply_text::with_reason);
    }
    "Header fields" {
        /// Header fields to add, each above the one before it.
        header: Vec<HeaderName> = Text("Received-SPF"), RELOADED, |text| list(text, header_name);
        /// Name under which results are recorded in Authentication-Results.
        authserv_id: Option<String> =
            Derived { text: "", rule: "the value of hostname" }, RELOADED, |text| optional(text, authserv_id);
        /// Whether the results of both identities are recorded, not only the deciding one.
        include_all_results: bool = Text("no"), RELOADED, boolean;
        /// Whether the local-part of the sender is recorded in Authentication-Results.
        include_mailfrom_local_part: bool = Text("no"), RELOADED, boolean;
        /// Whether incoming Authentication-Results that claim to be ours are deleted.
        delete_incoming_authentication_results: bool =
            Derived { text: "no", rule: "yes if header has Authentication-Results" }, RELOADED, boolean;
        /// More authserv-ids whose incoming Authentication-Results are deleted.
        delete_authserv_ids: Listed<AuthservIdSet> = Text(""), RELOADED, listed;
        /// Networks of clients whose fields in our name are kept, unless they authenticate.
        trusted_authentication_results: Networks =
            Derived { text: "loopback", rule: "the value of trusted_networks" }, RELOADED, networks;
        /// Whether results that are none are left out of Authentication-Results.
        hide_none_results: bool = Text("no"), RELOADED, boolean;
    }
    "DKIM, DMARC, iprev" {
        /// Whether the client's reverse name is verified (RFC 8601 §3).
        verify_iprev: bool = Text("no"), RELOADED, boolean;
        /// Whether DKIM signatures are verified (RFC 6376).
        verify_dkim: bool = Text("no"), RELOADED, boolean;
        /// Signatures of a message that are verified.
        max_dkim_signatures: usize = Text("10"), RELOADED, count;
        /// Bits that an RSA key of a signature must have (RFC 8301 §3.2).
        min_dkim_key_bits: usize = Text("1024"), RELOADED, |text| count_from(text, 1024);
        /// Whether DMARC is evaluated (RFC 9989).
        verify_dmarc: bool = Text("no"), RELOADED, boolean;
        /// Reply code for what DMARC rejects.
        dmarc_fail_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for what DMARC rejects.
        dmarc_fail_status_code: EnhancedStatusCode = Text("5.7.26"), RELOADED, status_code;
        /// Text of the reply for what DMARC rejects.
        dmarc_fail_reply_text: ReplyText =
            Text("DMARC validation failed for %{author_domain}"), RELOADED, reply_text::with_author_domain;
        /// Networks of clients for which DMARC is recorded, but not enforced.
        dmarc_exempt_networks: Networks = Text(""), RELOADED, networks;
        /// Domains with whose passing DKIM signature DMARC is recorded, but not enforced.
        dmarc_exempt_dkim_domains: Domains = Text(""), RELOADED, listed;
        /// Mailing lists for whose messages DMARC is recorded, but not enforced.
        dmarc_exempt_mailing_lists: MailingLists = Text("no"), RELOADED, keyword;
    }
    "Actions" {
        /// What follows where DMARC fails and the policy is quarantine.
        dmarc_quarantine_action: Action = Text("none"), RELOADED, |text| action(text, &OF_FAILURE);
        /// What follows where DMARC fails and the policy is reject.
        dmarc_reject_action: Action = Text("none"), RELOADED, |text| action(text, &OF_FAILURE);
        /// What follows from a DMARC temperror.
        dmarc_temperror_action: Action = Text("none"), RELOADED, |text| action(text, &OF_TROUBLE);
        /// File of policies that hold for author domains instead of the published ones.
        dmarc_override_file: PolicyOverrides = Text(""), RELOADED, policy_overrides;
        /// What follows where there is no From that can be read, or several.
        malformed_author_action: Action = Text("none"), RELOADED, |text| action(text, &OF_FAILURE);
        /// Reply code for such messages.
        malformed_author_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for such messages.
        malformed_author_status_code: EnhancedStatusCode = Text("5.7.1"), RELOADED, status_code;
        /// Text of the reply for such messages.
        malformed_author_reply_text: ReplyText =
            Text("message refused: %{reason}"), RELOADED, reply_text::with_reason;
        /// What follows where neither SPF nor DKIM passes.
        unauthenticated_action: Action = Text("none"), RELOADED, |text| action(text, &[
            Action::None, Action::Tag, Action::Quarantine, Action::Defer, Action::Reject,
        ]);
        /// Reply code for such messages.
        unauthenticated_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for such messages.
        unauthenticated_status_code: EnhancedStatusCode = Text("5.7.26"), RELOADED, status_code;
        /// Text of the reply for such messages.
        unauthenticated_reply_text: ReplyText =
            Text("neither SPF nor DKIM passes for this message"), RELOADED, reply_text::plain;
        /// What follows where the client's reverse name does not lead back to it, or is missing.
        iprev_fail_action: Action = Text("none"), RELOADED, |text| action(text, &[
            Action::None, Action::Tag, Action::Defer, Action::Reject,
        ]);
        /// Reply code for such clients.
        iprev_fail_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for such clients.
        iprev_fail_status_code: EnhancedStatusCode = Text("5.7.25"), RELOADED, status_code;
        /// Text of the reply for such clients.
        iprev_fail_reply_text: ReplyText =
            Text("reverse DNS validation failed for %{c}"), RELOADED, reply_text::plain;
        /// Author domains that are ours.
        local_domains: DomainList = Text(""), RELOADED, listed;
        /// What follows where a message from outside has such an author and nothing authenticates
        /// it.
        local_domain_action: Action = Text("none"), RELOADED, |text| action(text, &OF_FAILURE);
        /// Reply code for such messages.
        local_domain_reply_code: ReplyCode = Text("550"), RELOADED, reply_code;
        /// Enhanced status code for such messages.
        local_domain_status_code: EnhancedStatusCode = Text("5.7.26"), RELOADED, status_code;
        /// Text of the reply for such messages.
        local_domain_reply_text: ReplyText =
            Text("not accepted from outside in the name of this site"), RELOADED, reply_text::with_author_domain;
        /// Name of the header field that marks messages.
        tag_header: String = Text("X-Auth-Action"), RELOADED, field_name;
    }
    "Relays" {
        /// Networks of hosts that hand over mail of others; clients come from the Received fields.
        trusted_relays: Networks = Text(""), RELOADED, networks;
        /// What becomes of a rejection of mail that a relay has accepted already.
        relay_action: Action = Text("tag"), RELOADED, |text| action(text, &OF_FAILURE);
        /// Networks of clients for which SPF is recorded, but that are never refused for it.
        spf_exempt_networks: Networks = Text(""), RELOADED, networks;
        /// Clients that are verified with another address, and perhaps another HELO name.
        client_map: ClientMap = Text(""), RELOADED, listed;
    }
    "DNS" {
        /// Name servers to ask; without any: those of /etc/resolv.conf.
        nameservers: Listed<Vec<SocketAddr>> = Text(""), RELOADED, listed;
        /// Seconds that one attempt of a look-up may take.
        dns_timeout_secs: u64 = Text("5"), RELOADED, seconds;
        /// Attempts of a look-up.
        dns_attempts: usize = Text("2"), RELOADED, positive;
        /// Answers that are kept; 0: none.
        dns_cache_size: usize = Text("16384"), RELOADED, count;
    }
}

impl Config {
    /// Gives a parameter the default that follows from others; one whose default does not stays as
    /// it is.
    pub(super) fn derive(&mut self, name: &str) {
        match name {
            "reject_helo_results" => self.reject_helo_results.clone_from(&self.reject_results),
            "trusted_authentication_results" => {
                self.trusted_authentication_results.clone_from(&self.trusted_networks)
            }
            "authserv_id" => self.authserv_id.clone_from(&self.hostname),
            "delete_incoming_authentication_results" => {
                self.delete_incoming_authentication_results =
                    self.header.contains(&HeaderName::AuthenticationResults);
            }
            _ => {}
        }
    }
}

/// The actions on a message that fails.
const OF_FAILURE: [Action; 4] = [Action::None, Action::Tag, Action::Quarantine, Action::Reject];

/// The actions on trouble that may go away.
const OF_TROUBLE: [Action; 3] = [Action::None, Action::Tag, Action::Defer];

/// Reads the sockets to listen on.
pub(super) fn sockets(text: &str) -> Parsed<Vec<SocketSpec>> {
    if text.is_empty() {
        return wrong("no socket (expected one at least)");
    }
    list(text, socket)
}

fn reply_code(text: &str) -> Parsed<ReplyCode> {
    text.parse().or_else(|_| refuse(text, "is not a reply code", "400 to 459 or 500 to 559"))
}

fn status_code(text: &str) -> Parsed<EnhancedStatusCode> {
    text.parse()
        .or_else(|_| refuse(text, "is not an enhanced status code", "one such as 4.7.1 or 5.7.1"))
}
