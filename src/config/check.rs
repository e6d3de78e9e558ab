//! Values that are good each by itself, but not together.

use super::{
    error::{ConfigError, Errors, Origin, Warning},
    params::{Config, parameters},
    parse::Assignment,
    socket::SocketSpec,
    unlikely::unlikely,
    value::boolean,
    words::HeaderName,
};
use crate::mail::reply::{EnhancedStatusCode, ReplyCode};

/// The beginnings of the names of the parameters that make a reply.
const REPLIES: [&str; 5] = ["fail", "softfail", "temperror", "permerror", "dmarc_fail"];

/// Finds values that contradict each other.
pub(super) fn contradictions(assignments: &[Assignment]) -> Errors {
    let mut errors = Errors::default();
    for reply in REPLIES {
        let code = Effective::find(&format!("{reply}_reply_code"), assignments);
        let status = Effective::find(&format!("{reply}_status_code"), assignments);
        if let (Some(code), Some(status)) = (code, status) {
            errors.extend(check_codes(&code, &status));
        }
    }
    let dkim = Effective::find("verify_dkim", assignments);
    let dmarc = Effective::find("verify_dmarc", assignments);
    if let (Some(dkim), Some(dmarc)) = (dkim, dmarc) {
        errors.extend(check_methods(&dkim, &dmarc));
    }
    errors
}

/// A DMARC result without DKIM would be wrong wherever SPF alone does not pass.
fn check_methods(dkim: &Effective<'_>, dmarc: &Effective<'_>) -> Option<ConfigError> {
    let (Ok(false), Ok(true)) = (boolean(dkim.text), boolean(dmarc.text)) else {
        return None;
    };
    let assignment = dmarc.assignment?;
    let message = format!(
        "{} contradicts verify_dkim = {} ({}) (expected yes for both)",
        dmarc.text,
        dkim.text,
        dkim.place()
    );
    Some(ConfigError::new(assignment.place.at(assignment.offset), Some(dmarc.name), message))
}

/// The first digit of an enhanced status code is that of the reply code (RFC 2034 §4).
fn check_codes(code: &Effective<'_>, status: &Effective<'_>) -> Option<ConfigError> {
    let code_class = code.text.parse::<ReplyCode>().ok()?.class();
    let status_class = status.text.parse::<EnhancedStatusCode>().ok()?.class();
    if code_class == status_class {
        return None;
    }
    // The one that is set later is named first; one of them is set, as the defaults agree.
    let line =
        |value: &Effective<'_>| value.assignment.map_or(0, |assignment| assignment.place.line);
    let (one, other) = if line(status) >= line(code) { (status, code) } else { (code, status) };
    let assignment = one.assignment?;
    let message = format!(
        "{} contradicts {} = {} ({}) (expected the same first digit)",
        one.text,
        other.name,
        other.text,
        other.place()
    );
    Some(ConfigError::new(assignment.place.at(assignment.offset), Some(one.name), message))
}

/// A value that was set, or a default.
struct Effective<'a> {
    name: &'static str,
    text: &'a str,
    assignment: Option<&'a Assignment>,
}

impl<'a> Effective<'a> {
    fn find(name: &str, assignments: &'a [Assignment]) -> Option<Self> {
        let parameter = parameters().iter().find(|parameter| parameter.name == name)?;
        let assignment = assignments.iter().find(|assignment| assignment.parameter.name == name);
        let text = match assignment {
            Some(assignment) => assignment.value.as_deref()?,
            None => parameter.default.text()?,
        };
        Some(Self { name: parameter.name, text, assignment })
    }

    /// Where the value comes from, in words.
    fn place(&self) -> String {
        match self.assignment.map(|assignment| &assignment.place) {
            None => "the default".into(),
            Some(place) => match place.origin {
                Origin::File(_) => format!("line {}", place.line),
                Origin::Option(name) => name.into(),
            },
        }
    }
}

/// Finds what was set to no effect, or is hardly meant.
pub(super) fn warnings(config: &Config, assignments: &[Assignment]) -> Vec<Warning> {
    let mut warnings = without_effect(config, assignments);
    warnings.extend(unlikely(config, assignments));
    warnings
}

fn without_effect(config: &Config, assignments: &[Assignment]) -> Vec<Warning> {
    let no_unix = !config.socket.iter().any(|socket| matches!(socket, SocketSpec::Unix(_)));
    let no_unix = (no_unix, "has no effect: there is no UNIX socket in socket");
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
    let findings = [
        ("reject_helo_results", no_helo),
        ("definitive_helo_results", no_helo),
        ("authserv_id", no_name),
        ("socket_mode", no_unix),
        ("socket_group", no_unix),
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
        ("enforce_dmarc_policies", no_dmarc),
        ("dmarc_fail_reply_code", no_dmarc),
        ("dmarc_fail_status_code", no_dmarc),
        ("dmarc_fail_reply_text", no_dmarc),
        ("defer_dmarc_temperror", no_dmarc),
        ("dmarc_exempt_networks", no_dmarc),
        ("dmarc_exempt_dkim_domains", no_dmarc),
        ("dmarc_exempt_mailing_lists", no_dmarc),
    ];
    let mut warnings = Vec::new();
    for (name, (is_found, why)) in findings {
        let Some(assignment) =
            assignments.iter().find(|assignment| is_found && assignment.parameter.name == name)
        else {
            continue;
        };
        // Who writes a default down means nothing by it.
        if assignment.parameter.default.text()
            != Some((assignment.parameter.spell)(config).as_str())
        {
            warnings.push(ConfigError::new(
                assignment.place.at(assignment.offset),
                Some(name),
                why,
            ));
        }
    }
    warnings
}
