//! Values that are good each by itself, but not together.

use super::{
    error::{ConfigError, Errors, Origin, Warning},
    params::{Config, parameters},
    parse::Assignment,
    socket::SocketSpec,
    words::HeaderName,
};
use crate::mail::reply::{EnhancedStatusCode, ReplyCode};

/// The beginnings of the names of the parameters that make a reply.
const REPLIES: [&str; 4] = ["fail", "softfail", "temperror", "permerror"];

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
    errors
}

/// The first digit of an enhanced status code is that of the reply code (RFC 2034 §4).
fn check_codes(code: &Effective<'_>, status: &Effective<'_>) -> Option<ConfigError> {
    let code_class = code.text.parse::<ReplyCode>().ok()?.class();
    let status_class = status.text.parse::<EnhancedStatusCode>().ok()?.class();
    if code_class == status_class {
        return None;
    }
    // The one that is set later is named first; one of them is set, as the defaults agree.
    let line = |value: &Effective<'_>| value.assignment.map_or(0, |assignment| assignment.place.line);
    let (one, other) = if line(status) >= line(code) { (status, code) } else { (code, status) };
    let assignment = one.assignment?;
    let message =
        format!("{} contradicts {} = {} ({}) (expected the same first digit)", one.text, other.name, other.text, other.place());
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

/// Finds what was set to no effect.
pub(super) fn warnings(config: &Config, assignments: &[Assignment]) -> Vec<Warning> {
    let records_results = config.header.contains(&HeaderName::AuthenticationResults);
    let has_unix = config.socket.iter().any(|socket| matches!(socket, SocketSpec::Unix(_)));
    let findings = [
        ("socket_mode", config.socket_mode.is_some() && !has_unix, "there is no UNIX socket in socket"),
        ("socket_group", config.socket_group.is_some() && !has_unix, "there is no UNIX socket in socket"),
        ("include_all_results", config.include_all_results && config.header.is_empty(), "header is empty"),
        (
            "include_mailfrom_local_part",
            config.include_mailfrom_local_part && !records_results,
            "header lacks Authentication-Results",
        ),
        ("hide_none_results", config.hide_none_results && !records_results, "header lacks Authentication-Results"),
    ];
    let mut warnings = Vec::new();
    for (name, is_found, why) in findings {
        if let Some(assignment) = assignments.iter().find(|assignment| is_found && assignment.parameter.name == name) {
            let place = assignment.place.at(assignment.offset);
            warnings.push(ConfigError::new(place, Some(name), format!("has no effect: {why}")));
        }
    }
    warnings
}
