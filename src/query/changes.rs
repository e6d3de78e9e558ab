//! `--as`: what if something were otherwise.

use super::question::Question;
use crate::{config::Setting, mail::domain::Domain};

/// The option.
const OPTION: &str = "--as";

/// Makes the changes that the question is about, and returns those of the configuration.
///
/// # Errors
///
/// A value that cannot be read, with the option and what was expected.
pub(super) fn change(question: &mut Question, changes: &[String]) -> Result<Vec<Setting>, String> {
    let mut settings = Vec::new();
    for change in changes {
        let (name, given) = change
            .split_once('=')
            .map_or((change.as_str(), None), |(name, value)| (name, Some(value)));
        let (name, value) = (name.trim(), given.unwrap_or_default().trim());
        let refuse = |expected: &str| {
            format!(
                "{OPTION} {name}: '{}' cannot be used (expected {expected})",
                value.escape_debug()
            )
        };
        match name {
            "client" | "helo" | "mail-from" | "author-domain" if given.is_none() => {
                return Err(format!("{OPTION} {name}: there is no value (expected {name}=VALUE)"));
            }
            "client" => {
                let address = value.parse().map_err(|_| refuse("an address such as 192.0.2.1"))?;
                question.ip = Some(address);
            }
            "helo" => question.helo = Some(value.to_owned()),
            "mail-from" => question.mail_from = Some(value.into()),
            "author-domain" => {
                let domain = Domain::parse(value).map_err(|_| refuse("a domain name"))?;
                question.author_domain = Some(domain);
            }
            _ => settings.push(Setting { option: OPTION, line: change.clone() }),
        }
    }
    Ok(settings)
}

/// The settings with which nobody is exempt.
pub(super) fn without_exemptions() -> impl Iterator<Item = Setting> {
    [
        "trusted_networks =",
        "trust_authenticated_senders = no",
        "skip_senders =",
        "skip_senders_file =",
        "exempt_recipients =",
        "spf_exempt_networks =",
        "dmarc_exempt_networks =",
        "dmarc_exempt_dkim_domains =",
        "dmarc_exempt_mailing_lists = no",
    ]
    .into_iter()
    .map(|line| Setting { option: "--ignore-exemptions", line: line.to_owned() })
}
