//! Decisions on the results of SPF.

use super::refusal::Refusal;
use crate::{auth::Verified, config::Config, mail::results::SpfResult};

/// A decision on a HELO identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeloDecision {
    /// The client is refused.
    Refuse(Refusal),
    /// The result holds for MAIL FROM too, which is not verified.
    Definitive,
    /// MAIL FROM decides.
    Open,
}

/// Decides at HELO: refuse, else definitive, else open.
pub fn at_helo(config: &Config, result: SpfResult) -> HeloDecision {
    if config.reject_helo_results.contains(&result) {
        HeloDecision::Refuse(Refusal::Spf)
    } else if config.definitive_helo_results.contains(&result) {
        HeloDecision::Definitive
    } else {
        HeloDecision::Open
    }
}

/// A decision on a MAIL FROM identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MailDecision {
    /// The message goes on.
    Accept,
    /// The sender is refused.
    Refuse(Refusal),
    /// The sender is refused at the end of the message, unless DMARC passes.
    Defer(Refusal),
}

/// Decides at MAIL FROM. A result that only DMARC asked for refuses nobody.
pub fn at_mail(config: &Config, result: SpfResult, for_dmarc: bool) -> MailDecision {
    if for_dmarc || !config.reject_results.contains(&result) {
        MailDecision::Accept
    } else if config.defer_spf_rejection && config.verify_dmarc {
        MailDecision::Defer(Refusal::Spf)
    } else {
        MailDecision::Refuse(Refusal::Spf)
    }
}

/// The results that go into the header, in order.
pub fn recorded<'a>(
    config: &Config,
    helo: Option<&'a Verified>,
    is_definitive: bool,
    mailfrom: Option<&'a Verified>,
) -> impl Iterator<Item = &'a Verified> {
    let helo = helo.filter(|_| is_definitive || config.include_all_results);
    helo.into_iter().chain(mailfrom)
}
