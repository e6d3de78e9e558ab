//! Decisions on the results of SPF.

use std::net::IpAddr;

use super::{
    admission::{self, Exemption},
    refusal::{Cause, Refusal},
};
use crate::{
    auth::Verified,
    config::{Action, Config},
    mail::results::SpfResult,
};

/// A decision on a HELO identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeloDecision {
    /// The client is refused.
    Refuse(Refusal),
    /// The client goes on.
    Accept {
        /// The result holds for MAIL FROM too, which is not verified; else MAIL FROM decides.
        is_definitive: bool,
        /// Why the result has no consequence, where it would have one.
        exemption: Option<Exemption>,
        /// The refusal that is put off until the end of the message, which a relay hands over.
        deferred: Option<Cause>,
    },
}

/// The client whose identities are decided on.
#[derive(Clone, Copy, Debug)]
pub struct SpfClient {
    /// Its address.
    pub address: IpAddr,
    /// Its message came by a relay.
    pub is_relayed: bool,
}

/// Decides at HELO: refuse, else definitive, else open.
pub fn at_helo(config: &Config, client: SpfClient, result: SpfResult) -> HeloDecision {
    let is_rejected = config.reject_helo_results.contains(&result);
    match exemption(config, client, is_rejected) {
        None if is_rejected => HeloDecision::Refuse(Refusal::Spf),
        exemption => HeloDecision::Accept {
            is_definitive: config.definitive_helo_results.contains(&result),
            exemption,
            deferred: (exemption == Some(Exemption::Relayed))
                .then(|| relayed_cause(config, result)),
        },
    }
}

/// A decision on a MAIL FROM identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MailDecision {
    /// The message goes on.
    Accept {
        /// Why the result has no consequence, where it would have one.
        exemption: Option<Exemption>,
    },
    /// The sender is refused.
    Refuse(Refusal),
    /// The refusal of the sender is put off until the end of the message.
    Defer {
        /// The refusal, and the action that it is.
        cause: Cause,
        /// Why, where it is not for DMARC.
        exemption: Option<Exemption>,
    },
}

/// Decides at MAIL FROM. A result that only DMARC asked for refuses nobody.
pub fn at_mail(
    config: &Config,
    client: SpfClient,
    result: SpfResult,
    for_dmarc: bool,
) -> MailDecision {
    let is_rejected = !for_dmarc && config.reject_results.contains(&result);
    match exemption(config, client, is_rejected) {
        None if !is_rejected => MailDecision::Accept { exemption: None },
        None if config.defer_spf_rejection && config.verify_dmarc => {
            let cause = Cause { refusal: Refusal::Spf, action: Action::Reject };
            MailDecision::Defer { cause, exemption: None }
        }
        None => MailDecision::Refuse(Refusal::Spf),
        Some(Exemption::Relayed) => MailDecision::Defer {
            cause: relayed_cause(config, result),
            exemption: Some(Exemption::Relayed),
        },
        exemption => MailDecision::Accept { exemption },
    }
}

/// The refusal of a client that sent by a relay; a temporary one is a deferral.
fn relayed_cause(config: &Config, result: SpfResult) -> Cause {
    let code = match result {
        SpfResult::Softfail => config.softfail_reply_code,
        SpfResult::Temperror => config.temperror_reply_code,
        SpfResult::Permerror => config.permerror_reply_code,
        _ => config.fail_reply_code,
    };
    let action = if code.is_temporary() { Action::Defer } else { Action::Reject };
    Cause { refusal: Refusal::Spf, action }
}

/// Why a client is not refused at once, where it would be.
fn exemption(config: &Config, client: SpfClient, is_rejected: bool) -> Option<Exemption> {
    is_rejected.then(|| admission::from_spf(config, client.address, client.is_relayed)).flatten()
}

/// An identity that was verified and not refused, as the header has it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The identity and what was found.
    pub verified: &'a Verified,
    /// Why the result has no consequence, where it would have one.
    pub exemption: Option<Exemption>,
}

/// The results that go into the header, in order.
pub fn recorded<'a>(
    config: &Config,
    helo: Option<Recorded<'a>>,
    is_definitive: bool,
    mailfrom: Option<Recorded<'a>>,
) -> [Option<Recorded<'a>>; 2] {
    [helo.filter(|_| is_definitive || config.include_all_results), mailfrom]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{Overrides, load_text},
        mail::results::Words,
    };

    /// The parameter that has the code of the reply to a result that is refused.
    fn parameter(result: SpfResult) -> &'static str {
        match result {
            SpfResult::Softfail => "softfail_reply_code",
            SpfResult::Temperror => "temperror_reply_code",
            SpfResult::Permerror => "permerror_reply_code",
            _ => "fail_reply_code",
        }
    }

    #[test]
    fn each_result_has_the_action_of_its_own_code() {
        const NAMES: [&str; 4] = [
            "fail_reply_code",
            "softfail_reply_code",
            "temperror_reply_code",
            "permerror_reply_code",
        ];
        for (code, other, action) in [("450", "550", Action::Defer), ("550", "450", Action::Reject)]
        {
            for name in NAMES {
                // The enhanced code has to be of the same class.
                let assignments = |&known: &&str| {
                    let code = if known == name { code } else { other };
                    let status = known.replace("reply", "status");
                    format!("{known} = {code}\n{status} = {}.7.0\n", &code[..1])
                };
                let codes: String = NAMES.iter().map(assignments).collect();
                let text = format!("socket = unix:/nowhere\n{codes}");
                let config = load_text(text.as_bytes(), Path::new("test"), &Overrides::default())
                    .unwrap()
                    .config;
                for &(result, _) in SpfResult::ALL {
                    let found = relayed_cause(&config, result);
                    assert_eq!(found.refusal, Refusal::Spf);
                    assert_eq!(
                        found.action == action,
                        parameter(result) == name,
                        "{name}: {result}"
                    );
                }
            }
        }
    }
}
