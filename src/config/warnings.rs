//! Values that can be read, but are hardly meant: warnings.

mod paths;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{
    assignment::{Assignment, Assignments},
    error::Warning,
    params::{Config, Parameter},
    source::MAX_ODD,
    types::{
        client_map::MappingTable,
        keyword::{Action, HeaderName},
        listed::{self, Entries as _, file_of},
        networks::{Network, oddities},
        socket::SocketSpec,
        suggestion::comment,
        value::items,
    },
};
use paths::{metrics_socket, path, sockets};

use crate::mail::{
    domain::Domain,
    reply::{EnhancedStatusCode, ReplyCode},
    results::SpfResult,
};

/// How long Postfix waits for the answer to a command, unless `milter_command_timeout` is set.
const POSTFIX_COMMAND_TIMEOUT: u64 = 30;

/// Finds settings without effect, and values that are hardly meant.
pub(super) fn warnings(config: &Config, assignments: &Assignments) -> Vec<Warning> {
    let mut warnings = without_effect(config, assignments);
    warnings.extend(replies_without_use(config, assignments));
    warnings.extend(unlikely_values(config, assignments));
    warnings
}

/// Finds settings without effect.
fn without_effect(config: &Config, assignments: &Assignments) -> Vec<Warning> {
    let mut sockets = config.socket.iter().chain(&config.metrics_socket);
    let no_unix = !sockets.any(|socket| matches!(socket, SocketSpec::Unix(_)));
    let no_unix = (no_unix, "has no effect: there is no UNIX socket in socket");
    let no_status = (config.metrics_socket.is_none(), "has no effect: metrics_socket is not set");
    let no_header = (config.header.is_empty(), "has no effect: header is empty");
    let lacks_results = !config.header.contains(&HeaderName::AuthenticationResults);
    let no_results = (lacks_results, "has no effect: header lacks Authentication-Results");
    let unrecorded =
        (lacks_results, "is not recorded in the message: header lacks Authentication-Results");
    let no_dmarc = (!config.verify_dmarc, "has no effect: verify_dmarc is no");
    let no_dkim = (!config.verify_dkim, "has no effect: verify_dkim is no");
    let no_helo = (!config.verify_helo, "has no effect: verify_helo is no");
    let no_name = (
        lacks_results && !config.delete_incoming_authentication_results,
        "has no effect: header lacks Authentication-Results, and those in its name are not deleted",
    );
    let no_deletion = (
        !config.delete_incoming_authentication_results && config.delete_authserv_ids.is_empty(),
        "has no effect: no incoming fields are deleted",
    );
    let no_deferral = match config.verify_dmarc {
        true => (config.reject_results.is_empty(), "has no effect: reject_results is empty"),
        false => no_dmarc,
    };
    let tag_alone = "marks messages without the results: header is empty";
    let of = |is_verified, missing, action| match is_verified {
        true => (action == Action::Tag && config.header.is_empty(), tag_alone),
        false => (true, missing),
    };
    let of_dmarc = |action| of(config.verify_dmarc, no_dmarc.1, action);
    let no_iprev = "has no effect: verify_iprev is no";
    let of_iprev = |action| of(config.verify_iprev, no_iprev, action);
    let no_local_action = "has no effect: local_domain_action is none";
    let no_local_domains = "has no effect: local_domains is empty";
    let of_local = |is_without, why| match of_dmarc(config.local_domain_action) {
        (false, _) => (is_without, why),
        found => found,
    };
    let no_refusal = (!config.refuses_senders(), "has no effect: nothing is refused for SPF");
    let refuses = config.refuses_senders()
        || [Action::Reject, Action::Defer].into_iter().any(|action| config.calls_for(action));
    let no_recipient = "has no effect: nothing is refused or kept back";
    let no_relays = "has no effect: trusted_relays is empty";
    let of_relays = match config.trusted_relays.is_empty() {
        true => (true, no_relays),
        false => (!refuses, "has no effect: nothing is refused"),
    };
    let is_relay_tag = refuses && config.relay_action == Action::Tag;
    let relay_tag = "marks messages (relay_action) without the results: header is empty";
    let findings = [
        ("reject_helo_results", no_helo),
        ("definitive_helo_results", no_helo),
        ("helo_fail_reply_text", no_helo),
        ("helo_softfail_reply_text", no_helo),
        ("helo_temperror_reply_text", no_helo),
        ("helo_permerror_reply_text", no_helo),
        ("authserv_id", no_name),
        ("socket_mode", no_unix),
        ("socket_group", no_unix),
        ("status_refusals", no_status),
        ("include_all_results", no_header),
        ("include_mailfrom_local_part", no_results),
        ("hide_none_results", no_results),
        ("trusted_authentication_results", no_deletion),
        ("verify_iprev", unrecorded),
        ("verify_dkim", unrecorded),
        ("verify_dmarc", unrecorded),
        ("defer_spf_rejection", no_deferral),
        ("max_dkim_signatures", no_dkim),
        ("min_dkim_key_bits", no_dkim),
        ("dmarc_fail_reply_code", no_dmarc),
        ("dmarc_fail_status_code", no_dmarc),
        ("dmarc_fail_reply_text", no_dmarc),
        ("dmarc_exempt_networks", no_dmarc),
        ("dmarc_exempt_dkim_domains", no_dmarc),
        ("dmarc_exempt_mailing_lists", no_dmarc),
        ("dmarc_quarantine_action", of_dmarc(config.dmarc_quarantine_action)),
        ("dmarc_reject_action", of_dmarc(config.dmarc_reject_action)),
        ("dmarc_temperror_action", of_dmarc(config.dmarc_temperror_action)),
        ("dmarc_override_file", no_dmarc),
        ("malformed_author_action", of_dmarc(config.malformed_author_action)),
        ("unauthenticated_action", of_dmarc(config.unauthenticated_action)),
        ("iprev_fail_action", of_iprev(config.iprev_fail_action)),
        ("local_domains", of_local(config.local_domain_action == Action::None, no_local_action)),
        ("local_domain_action", of_local(config.local_domains.is_empty(), no_local_domains)),
        ("tag_header", (!config.may(Action::Tag), "has no effect: no action is tag")),
        ("trusted_relays", (is_relay_tag && config.header.is_empty(), relay_tag)),
        ("relay_action", of_relays),
        ("spf_exempt_networks", no_refusal),
        ("exempt_recipients", (!refuses && !config.calls_for(Action::Quarantine), no_recipient)),
    ];
    let found = findings.into_iter().filter(|(_, (is_found, _))| *is_found);
    found.filter_map(|(name, (_, why))| changed(config, assignments, name, why)).collect()
}

/// A warning about a parameter that is set. Nothing is meant by a default that is written down.
fn changed(config: &Config, assignments: &Assignments, name: &str, why: &str) -> Option<Warning> {
    let (assignment, parameter) = (assignments.find(name)?, Parameter::find(name)?);
    let is_default = parameter.default.text() == Some((parameter.spell)(config).as_str());
    (!is_default).then(|| assignment.error(0, why))
}

/// Finds parts of replies that are never sent.
fn replies_without_use(config: &Config, assignments: &Assignments) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |name: &str, why: &str| {
        warnings.extend(changed(config, assignments, name, why));
    };
    for (word, result) in [
        ("fail", SpfResult::Fail),
        ("softfail", SpfResult::Softfail),
        ("temperror", SpfResult::Temperror),
        ("permerror", SpfResult::Permerror),
    ] {
        let of_helo = config.verify_helo && config.reject_helo_results.contains(&result);
        if !of_helo && config.verify_helo {
            let why = format!("has no effect: {word} is not in reject_helo_results");
            warn(&format!("helo_{word}_reply_text"), &why);
        }
        if !of_helo && !config.reject_results.contains(&result) {
            let why = format!("has no effect: {word} is not in reject_results");
            for part in ["code", "status_code", "text", "text_exp"] {
                let part =
                    if part == "status_code" { part.into() } else { format!("reply_{part}") };
                warn(&format!("{word}_{part}"), &why);
            }
        }
    }
    let of_dmarc = [config.dmarc_quarantine_action, config.dmarc_reject_action];
    let is_dmarc = of_dmarc.contains(&Action::Reject);
    let dmarc = if is_dmarc { Action::Reject } else { Action::None };
    let (on, iprev) = (config.verify_dmarc, config.verify_iprev);
    for (word, is_verified, action, why) in [
        ("dmarc_fail", on, dmarc, "dmarc_quarantine_action and dmarc_reject_action are not reject"),
        (
            "malformed_author",
            on,
            config.malformed_author_action,
            "malformed_author_action is not reject",
        ),
        ("local_domain", on, config.local_domain_action, "local_domain_action is not reject"),
        (
            "unauthenticated",
            on,
            config.unauthenticated_action,
            "unauthenticated_action is neither reject nor defer",
        ),
        (
            "iprev_fail",
            iprev,
            config.iprev_fail_action,
            "iprev_fail_action is neither reject nor defer",
        ),
    ] {
        let why = match (word, is_verified) {
            // That is reported already.
            ("dmarc_fail", false) => continue,
            ("iprev_fail", false) => "has no effect: verify_iprev is no".to_owned(),
            (_, false) => "has no effect: verify_dmarc is no".to_owned(),
            (_, true) => format!("has no effect: {why}"),
        };
        let is_used = is_verified && matches!(action, Action::Reject | Action::Defer);
        for part in ["reply_code", "status_code", "reply_text"].iter().filter(|_| !is_used) {
            warn(&format!("{word}_{part}"), &why);
        }
        if is_used && action == Action::Defer {
            let why = format!("has no effect: {word}_action is defer, whose code is 451");
            warn(&format!("{word}_reply_code"), &why);
        }
    }
    warnings
}

/// Finds values that look like mistakes.
fn unlikely_values(config: &Config, assignments: &Assignments) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for assignment in assignments.iter() {
        let Some(value) = assignment.value.as_deref() else { continue };
        let mut warn =
            |offset: usize, message: &str| warnings.push(assignment.error(offset, message));
        let takes_files = Parameter::find(assignment.name).map(|parameter| parameter.takes_files);
        if takes_files == Some(true) {
            files(value, &mut warn);
        }
        let entries = odd_entries(config, assignment.name, value);
        some(&entries, &mut warn);
        match assignment.name {
            "socket" => sockets(&config.socket, &mut warn),
            "metrics_socket" => metrics_socket(config, &mut warn),
            "skip_senders_file" | "dmarc_override_file" => path(Path::new(value), "", &mut warn),
            "hostname" if value.parse::<IpAddr>().is_ok() => {
                warn(0, "is an address, not a name (expected one such as mx.example.com)")
            }
            "hostname"
                if Domain::parse(value).is_ok_and(|name| {
                    !name.is_qualified() || name.as_str() == "localhost.localdomain"
                }) =>
            {
                warn(
                    0,
                    "is not fully qualified: others do not know the host by this name (expected one such as mx.example.com)",
                );
            }
            "trusted_networks" => without_loopback(config, &mut warn),
            "nameservers" if !value.is_empty() && config.nameservers.is_empty() => {
                warn(0, "names no name server: those of /etc/resolv.conf are asked");
            }
            "timeout_secs" if config.timeout_secs >= POSTFIX_COMMAND_TIMEOUT => {
                let why = format!(
                    "Postfix waits {POSTFIX_COMMAND_TIMEOUT} seconds for an answer, Sendmail 10, unless they are told to wait longer"
                );
                warn(0, &format!("{why} (milter_command_timeout, T=R:)"));
            }
            "dmarc_exempt_mailing_lists" if value == "yes" && config.verify_dmarc => warn(
                0,
                "exempts every message with a List-Id, which anyone can write (expected authenticated, or no and dmarc_exempt_dkim_domains)",
            ),
            "dry_run" if config.dry_run => warn(0, "nothing is refused and no message is changed"),
            "fail_reply_text" => {
                reply_text(value, &mut warn);
                explained(config, assignments, assignment, &mut warn);
            }
            name if name.starts_with("helo_") && value.is_empty() => {}
            name if name.contains("_reply_text") => reply_text(value, &mut warn),
            _ => {}
        }
    }
    warnings
}

/// Looks at the paths of the files that a list names.
fn files(text: &str, warn: &mut impl FnMut(usize, &str)) {
    for (offset, item) in items(text) {
        if let Some(file) = file_of(item) {
            let mut warn = |_, message: &str| warn(offset, message);
            path(Path::new(file), &format!("{item} "), &mut warn);
        }
    }
}

/// Finds entries of a list that are hardly meant: positions, and sentences.
fn odd_entries(config: &Config, name: &str, text: &str) -> Vec<(usize, String)> {
    match name {
        "nameservers" => listed::oddities::<Vec<SocketAddr>>(text).collect(),
        "client_map" => {
            let odd = listed::oddities::<MappingTable>(text);
            odd.chain(useless_mappings(config, text)).collect()
        }
        _ if name.ends_with("_networks") || name == "trusted_relays" => {
            oddities(text).into_iter().map(|oddity| (oddity.offset, oddity.message)).collect()
        }
        _ => Vec::new(),
    }
}

/// Warns of some entries, and of how many there are more.
fn some(entries: &[(usize, String)], warn: &mut impl FnMut(usize, &str)) {
    let more = entries.len().saturating_sub(MAX_ODD);
    entries.iter().take(MAX_ODD).for_each(|(offset, why)| warn(*offset, why));
    if more > 0 {
        warn(0, &format!("{more} more entries are hardly meant"));
    }
}

/// Finds mappings of clients that are never verified, or never as themselves.
fn useless_mappings(config: &Config, text: &str) -> Vec<(usize, String)> {
    let lists = [
        ("trusted_networks", &config.trusted_networks),
        ("trusted_relays", &config.trusted_relays),
    ];
    let listed = items(text).filter_map(|(offset, item)| {
        let mapping = MappingTable::read(item).ok()?;
        Some((offset, item.to_owned(), mapping.network()))
    });
    let listed: Vec<_> = listed.collect();
    let known: HashSet<Network> = listed.iter().map(|(_, _, network)| *network).collect();
    // Those of files, whose lines are not at hand.
    let others = config.client_map.networks().filter(|network| !known.contains(network));
    let others = others.map(|network| (0, format!("{network} (in a file)"), network));
    let useless = listed.into_iter().chain(others).filter_map(|(offset, item, network)| {
        let (name, _) = lists.iter().find(|(_, list)| list.covers(network))?;
        Some((offset, format!("{item} has no effect: {name} has all these clients")))
    });
    useless.collect()
}

fn without_loopback(config: &Config, warn: &mut impl FnMut(usize, &str)) {
    let missing: Vec<&str> = ["127.0.0.1", "::1"]
        .into_iter()
        .filter(|text| !text.parse().is_ok_and(|ip| config.trusted_networks.contains(ip)))
        .collect();
    if !missing.is_empty() {
        warn(
            0,
            &format!(
                "mail from this host itself is verified, and may be refused: {} is not in it (add loopback)",
                missing.join(" and ")
            ),
        );
    }
}

fn reply_text(text: &str, warn: &mut impl FnMut(usize, &str)) {
    if text.is_empty() {
        warn(0, "the reply has no text");
    }
    if starts_with_code(text) {
        warn(
            0,
            "begins with a code, which is sent twice: the reply code and the enhanced status code come before the text",
        );
    }
    let is_quoted =
        |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        warn(0, "the quotes are sent: they are a part of the text");
    }
    if let Some((before, _)) = comment(text) {
        warn(
            before.len(),
            "what begins with '#' is sent: it is a part of the text (a comment needs a line of its own)",
        );
    }
    if text.ends_with('\\') {
        warn(text.len() - 1, "the backslash is sent: a value cannot go on in the next line");
    }
}

/// Whether a text begins as a reply does, with `550 ` or `5.7.1 `.
fn starts_with_code(text: &str) -> bool {
    let Some((word, _)) = text.split_once(' ') else { return false };
    word.parse::<ReplyCode>().is_ok() || word.parse::<EnhancedStatusCode>().is_ok()
}

/// A text of one's own for fail does not hold where the domain published an explanation, which it
/// seems to.
fn explained(
    config: &Config,
    assignments: &Assignments,
    assignment: &Assignment,
    warn: &mut impl FnMut(usize, &str),
) {
    let is_set = assignments.find("fail_reply_text_exp").is_some();
    let default = Parameter::find(assignment.name).and_then(|parameter| parameter.default.text());
    let is_default = default == assignment.value.as_deref();
    let is_used = config.reject_results.contains(&SpfResult::Fail)
        || config.helo_fail_reply_text.is_none()
            && config.reject_helo_results.contains(&SpfResult::Fail);
    if !is_set && !is_default && is_used {
        warn(
            0,
            "does not hold where the domain published an explanation: fail_reply_text_exp is for that, and is not set",
        );
    }
}
