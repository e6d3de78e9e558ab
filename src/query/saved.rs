//! What an MTA has added to a message that it saved, and what these fields say of its client.

use super::message::{Field, InputLine, Message};
use crate::{
    config::Config,
    mail::{
        auth_results::{self, OwnAuthservIds, claims_authserv_id},
        received::{Client, Handover},
        received_spf,
    },
};

/// The most octets of a reverse-path that a delivery writes: more than any MTA takes.
const MAX_PATH: usize = 4096;

/// What the fields of a saved message say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Saved {
    /// The Received field that names the client.
    pub(super) received: Option<(InputLine, Received)>,
    /// The reverse-path that the delivery has written on top.
    pub(super) return_path: Option<(InputLine, Vec<u8>)>,
    /// How many fields at the top are the MTA's: up to that Received field.
    pub(super) added: usize,
    /// Why there is no such field.
    pub(super) reason: String,
}

/// A Received field of the MTA that took the message from its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Received {
    /// The name of the MTA.
    pub(super) by: String,
    pub(super) client: Client,
    pub(super) is_authenticated: bool,
}

impl Saved {
    /// Looks for the topmost Received field that an MTA of one of these names wrote and that names
    /// a client. Those above it are of steps within the site; with `is_named`, of hosts behind that
    /// MTA.
    pub(super) fn find(message: &Message<'_>, names: &[&str], is_named: bool) -> Self {
        let mut saved =
            Self { reason: "the message has no Received field".into(), ..Self::default() };
        for (index, field) in message.fields.iter().enumerate() {
            let may_be_path = field.is("Return-Path") && field.value.len() <= MAX_PATH;
            if may_be_path && saved.return_path.is_none() {
                saved.return_path = Some((field.input_line(), field.value.trim_ascii().to_vec()));
            }
            if !field.is("Received") {
                continue;
            }
            let line = field.line;
            let (by, handover) = match Handover::read(&field.value) {
                Ok(handover) => (handover.by.clone(), Ok(handover)),
                Err((reason, by)) => (by, Err(reason)),
            };
            let is_ours = by.as_deref().is_some_and(|by| is_one_of(by, names));
            match (handover, by) {
                (Ok(Handover { client: Some(client), is_authenticated, .. }), Some(by))
                    if is_ours =>
                {
                    let received = Received { by, client, is_authenticated };
                    saved.received = Some((field.input_line(), received));
                    saved.added = index + 1;
                    return saved;
                }
                (Ok(Handover { client: None, .. }), _) => {
                    saved.reason = format!("no Received field by {}", names.join(" or "));
                }
                (Err(reason), _) if is_ours => {
                    saved.reason = format!(
                        "the Received field in line {line} does not say who the client is ({})",
                        reason.as_str()
                    );
                    return saved;
                }
                _ if is_named => {
                    saved.reason = format!("no Received field by {}", names.join(" or "));
                }
                (_, by) => {
                    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
                    saved.reason = format!(
                        "the topmost Received field{by} in line {line} is not by {}",
                        names.join(" or ")
                    );
                    return saved;
                }
            }
        }
        saved
    }
}

/// Whether a host is called by one of these names. A name without a dot stands for all hosts that
/// are called so in some domain: systems often know no more of their name.
fn is_one_of(host: &str, names: &[&str]) -> bool {
    names.iter().any(|name| {
        let first = host.split('.').next().filter(|_| !name.contains('.'));
        host.eq_ignore_ascii_case(name)
            || first.is_some_and(|first| first.eq_ignore_ascii_case(name))
    })
}

/// The fields that this milter has added below the MTA's own, by their numbers from the top: those
/// right below the top ones, and where fields in our name are deleted when they come in, all others
/// too.
pub(super) fn ours_below(
    message: &Message<'_>,
    added: usize,
    host: &str,
    ids: &OwnAuthservIds,
    config: &Config,
) -> Vec<usize> {
    let deletes = config.delete_incoming_authentication_results;
    let tag = config.tag_name();
    let is_tag = |field: &Field<'_>| tag.is_some_and(|tag| field.is(tag));
    let is_result =
        |field: &Field<'_>| field.is(auth_results::NAME) && claims_authserv_id(&field.value, ids);
    let is_spf = |field: &Field<'_>| {
        field.is(received_spf::NAME) && {
            let value = String::from_utf8_lossy(&field.value).to_ascii_lowercase();
            value.contains(&format!("receiver={}", host.to_ascii_lowercase()))
        }
    };
    let mut is_top = true;
    let below = message.fields.iter().enumerate().skip(added);
    below
        .filter(|(_, field)| {
            let is_result = is_result(field);
            is_top &= is_result || is_spf(field) || is_tag(field);
            is_top || is_tag(field) || deletes && is_result
        })
        .map(|(index, _)| index)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Overrides, load_text},
        mail::auth_results::AuthservIdPattern,
    };

    #[test]
    fn short_names_stand_for_their_hosts() {
        for (host, name, is_it) in [
            ("mx.example.net", "MX.example.NET", true),
            ("mx.example.net", "mx", true),
            ("mx.example.net", "mx.example", false),
            ("mx.example.net", "m", false),
            ("mx", "mx", true),
            ("mx", "mx.example.net", false),
        ] {
            assert_eq!(is_one_of(host, &[name]), is_it, "{host} {name}");
        }
    }

    #[test]
    fn our_fields_are_found_below_the_top() {
        let ours = |settings: &str| {
            let text = format!("socket = unix:/x\nhostname = mx.example\n{settings}");
            let path = std::path::Path::new("test");
            let config = load_text(text.as_bytes(), path, &Overrides::default()).unwrap().config;
            let message = "Received: x
Received-SPF: pass (mx.example: x) receiver=MX.example; x
Authentication-Results: mx.example; spf=pass
Authentication-Results: other.example; spf=pass
Authentication-Results: MX.example; spf=pass
X-Auth-Action: tag
Received-SPF: pass receiver=mx.example

";
            let message = Message::read(message.as_bytes()).unwrap();
            let ids = [AuthservIdPattern::exact("mx.example")].into();
            ours_below(&message, 1, "mx.example", &ids, &config)
        };
        assert_eq!(ours(""), [1, 2]);
        assert_eq!(ours("header = Authentication-Results"), [1, 2, 4]);
        assert_eq!(
            ours("verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = tag"),
            [1, 2, 5]
        );
    }
}
