//! Values that are good each by itself, but not together.

use super::{
    assignment::{Assignment, Assignments},
    error::{ConfigError, Errors, Origin},
    params::Parameter,
    types::{
        number::boolean,
        socket::{SocketSpec, single_socket, socket},
        value::items,
    },
};
use crate::mail::reply::{EnhancedStatusCode, ReplyCode};

/// The beginnings of the names of the parameters that make a reply.
const REPLIES: [&str; 9] = [
    "fail",
    "softfail",
    "temperror",
    "permerror",
    "dmarc_fail",
    "malformed_author",
    "unauthenticated",
    "iprev_fail",
    "local_domain",
];

/// Finds values that contradict each other.
pub(super) fn contradictions(assignments: &Assignments) -> Errors {
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
    let sockets = Effective::find("socket", assignments);
    let metrics = Effective::find("metrics_socket", assignments);
    if let (Some(sockets), Some(metrics)) = (sockets, metrics) {
        errors.extend(check_sockets(&sockets, &metrics));
    }
    errors
}

/// A socket speaks one protocol.
fn check_sockets(sockets: &Effective<'_>, metrics: &Effective<'_>) -> Option<ConfigError> {
    let assignment = metrics.assignment?;
    let wanted = single_socket(metrics.text).ok()?;
    // The system gives each another port that is 0.
    let is_one =
        !matches!(wanted, SocketSpec::Inet { port: 0, .. } | SocketSpec::Inet6 { port: 0, .. });
    let is_taken =
        is_one && items(sockets.text).any(|(_, item)| socket(item).as_ref() == Ok(&wanted));
    let message = || {
        let origin = sockets.origin();
        format!("{wanted} is also in socket ({origin}) (expected a socket of its own)")
    };
    is_taken.then(|| assignment.error(0, message()))
}

/// A DMARC result without DKIM would be wrong wherever SPF does not pass.
fn check_methods(dkim: &Effective<'_>, dmarc: &Effective<'_>) -> Option<ConfigError> {
    let (Ok(false), Ok(true)) = (boolean(dkim.text), boolean(dmarc.text)) else {
        return None;
    };
    let assignment = dmarc.assignment?;
    let message = format!(
        "{} contradicts verify_dkim = {} ({}) (expected yes for both)",
        dmarc.text,
        dkim.text,
        dkim.origin()
    );
    Some(assignment.error(0, message))
}

/// The first digit of an enhanced status code is that of the reply code (RFC 2034 §4).
fn check_codes(code: &Effective<'_>, status: &Effective<'_>) -> Option<ConfigError> {
    let code_class = code.text.parse::<ReplyCode>().ok()?.class();
    let status_class = status.text.parse::<EnhancedStatusCode>().ok()?.class();
    if code_class == status_class {
        return None;
    }
    // The one that is set later is named first, on the command line last of all; one of them is set,
    // as the defaults agree.
    let line = |value: &Effective<'_>| {
        value.assignment.map_or(0, |assignment| match assignment.position.origin {
            Origin::File(_) => assignment.position.line,
            Origin::Option(_) => usize::MAX,
        })
    };
    let (one, other) = if line(status) >= line(code) { (status, code) } else { (code, status) };
    let assignment = one.assignment?;
    let message = format!(
        "{} contradicts {} = {} ({}) (expected the same first digit)",
        one.text,
        other.name,
        other.text,
        other.origin()
    );
    Some(assignment.error(0, message))
}

/// A value that was set, or a default.
struct Effective<'a> {
    name: &'static str,
    text: &'a str,
    assignment: Option<&'a Assignment>,
}

impl<'a> Effective<'a> {
    fn find(name: &str, assignments: &'a Assignments) -> Option<Self> {
        let parameter = Parameter::find(name)?;
        let assignment = assignments.find(name);
        let text = match assignment {
            Some(assignment) => assignment.value.as_deref()?,
            None => parameter.default.text()?,
        };
        Some(Self { name: parameter.name, text, assignment })
    }

    /// Where the value comes from, in words.
    fn origin(&self) -> String {
        match self.assignment.map(|assignment| &assignment.position) {
            None => "the default".into(),
            Some(position) => match &position.origin {
                Origin::File(_) => format!("line {}", position.line),
                Origin::Option(name) => name.clone().into_owned(),
            },
        }
    }
}
