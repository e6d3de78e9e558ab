//! The negotiation with the MTA, which is asked for what the configuration needs and nothing else.

use std::io;

use indymilter::{Actions, MacroStage, ProtoOpts, message::PROTOCOL_VERSION};

use super::replies::Replies;
use crate::{runtime::Needs, session::Granted};

/// The oldest version of the protocol.
const OLDEST_VERSION: u32 = 2;

/// What an MTA lets milters do, and which steps they may leave out, where it says neither (version
/// 2).
const OLDEST_ACTIONS: Actions = Actions::ADD_HEADER
    .union(Actions::REPLACE_BODY)
    .union(Actions::ADD_RCPT)
    .union(Actions::DELETE_RCPT);
const OLDEST_OPTS: ProtoOpts = ProtoOpts::NO_CONNECT
    .union(ProtoOpts::NO_HELO)
    .union(ProtoOpts::NO_MAIL)
    .union(ProtoOpts::NO_RCPT)
    .union(ProtoOpts::NO_HEADER)
    .union(ProtoOpts::NO_BODY);

/// The result of a negotiation: what the MTA grants, of what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated {
    actions: Actions,
    pub(super) opts: ProtoOpts,
    /// It lets milters do all that the configuration needs.
    pub(super) is_enough: bool,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self { actions: Actions::empty(), opts: ProtoOpts::empty(), is_enough: true }
    }
}

impl Negotiated {
    /// Whether the MTA takes an answer to an event that may go without one.
    pub(super) fn is_answered(&self, no_reply: ProtoOpts) -> bool {
        no_reply.is_empty() || !self.opts.contains(no_reply)
    }

    /// The same for a session.
    pub(super) fn granted(&self) -> Granted {
        Granted {
            add_fields: self.actions.contains(Actions::ADD_HEADER),
            delete_fields: self.actions.contains(Actions::CHANGE_HEADER),
            quarantine: self.actions.contains(Actions::QUARANTINE),
            connect_answer: self.is_answered(ProtoOpts::NOREPLY_CONNECT),
            helo_answer: self.is_answered(ProtoOpts::NOREPLY_HELO),
            mail_answer: self.is_answered(ProtoOpts::NOREPLY_MAIL),
        }
    }
}

/// Settles stages, actions and macros with the MTA.
///
/// An MTA that lacks something that is wanted is served as far as it goes.
///
/// ```text
/// content = version actions opts        ; 4 octets each, and perhaps more
/// ```
///
/// # Errors
///
/// The packet is too short, or of a version that is not in use any more.
pub(super) fn negotiate(
    needs: &Needs,
    content: &[u8],
    replies: &mut Replies,
) -> io::Result<Negotiated> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some((numbers, _)) = content.split_first_chunk::<12>() else {
        return Err(invalid("negotiation that is too short"));
    };
    let [v0, v1, v2, v3, a0, a1, a2, a3, o0, o1, o2, o3] = *numbers;
    let version = u32::from_be_bytes([v0, v1, v2, v3]);
    if version < OLDEST_VERSION {
        return Err(invalid(&format!("milter protocol of version {version}")));
    }
    let offered = Actions::from_bits_truncate(u32::from_be_bytes([a0, a1, a2, a3]));
    let offered = if offered.is_empty() { OLDEST_ACTIONS } else { offered };
    let offered_opts = ProtoOpts::from_bits_truncate(u32::from_be_bytes([o0, o1, o2, o3]));
    let offered_opts = if offered_opts.is_empty() { OLDEST_OPTS } else { offered_opts };
    let wanted = wanted_actions(needs);
    let negotiated = Negotiated {
        actions: wanted & offered,
        opts: wanted_opts(needs) & offered_opts,
        is_enough: offered.contains(wanted - Actions::REQUEST_MACROS),
    };
    // MTAs of before version 6 take no list of macros; they send what they are configured to send.
    let macros =
        if offered.contains(Actions::REQUEST_MACROS) { wanted_macros(needs) } else { Vec::new() };
    let numbers =
        [version.min(PROTOCOL_VERSION), negotiated.actions.bits(), negotiated.opts.bits()];
    replies.push_negotiation(numbers, &macros)?;
    Ok(negotiated)
}

fn wanted_actions(needs: &Needs) -> Actions {
    let mut actions = Actions::REQUEST_MACROS;
    actions.set(Actions::ADD_HEADER, needs.add_fields);
    actions.set(Actions::CHANGE_HEADER, needs.delete_fields);
    actions.set(Actions::QUARANTINE, needs.quarantine);
    actions
}

/// The events that a milter may leave unanswered.
const NO_REPLY: ProtoOpts = ProtoOpts::NOREPLY_CONNECT
    .union(ProtoOpts::NOREPLY_HELO)
    .union(ProtoOpts::NOREPLY_MAIL)
    .union(ProtoOpts::NOREPLY_RCPT)
    .union(ProtoOpts::NOREPLY_DATA)
    .union(ProtoOpts::NOREPLY_HEADER)
    .union(ProtoOpts::NOREPLY_EOH)
    .union(ProtoOpts::NOREPLY_BODY)
    .union(ProtoOpts::NOREPLY_UNKNOWN);

fn wanted_opts(needs: &Needs) -> ProtoOpts {
    let mut opts = ProtoOpts::NO_DATA | ProtoOpts::NO_UNKNOWN;
    opts.set(ProtoOpts::NO_RCPT, !needs.recipients);
    opts.set(ProtoOpts::NO_EOH | ProtoOpts::NO_BODY, !needs.content);
    opts.set(
        ProtoOpts::NOREPLY_EOH | ProtoOpts::NOREPLY_BODY | ProtoOpts::LEADING_SPACE,
        needs.content,
    );
    opts.set(ProtoOpts::NO_HEADER, !needs.header_fields);
    opts.set(ProtoOpts::NOREPLY_HEADER, needs.header_fields);
    opts.set(ProtoOpts::NOREPLY_CONNECT, !needs.connect_reply);
    opts.set(ProtoOpts::NOREPLY_HELO, !needs.helo_reply);
    opts.set(ProtoOpts::NOREPLY_MAIL, !needs.mail_reply);
    if needs.answers { opts - NO_REPLY } else { opts }
}

fn wanted_macros(needs: &Needs) -> Vec<(i32, &'static str)> {
    let mut macros = Vec::new();
    if needs.host_macro {
        macros.push((MacroStage::Connect.into(), "j"));
    }
    // Sendmail knows the queue id by then.
    macros.push((
        MacroStage::Mail.into(),
        if needs.authentication_macro { "i {auth_authen}" } else { "i" },
    ));
    macros.push((MacroStage::Eom.into(), "i"));
    macros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_that_is_not_needed() {
        let needs = Needs::default();
        assert_eq!(wanted_actions(&needs), Actions::REQUEST_MACROS);
        let opts = wanted_opts(&needs);
        assert!(opts.contains(
            ProtoOpts::NO_HEADER
                | ProtoOpts::NO_BODY
                | ProtoOpts::NOREPLY_MAIL
                | ProtoOpts::NOREPLY_HELO
        ));
        assert!(!opts.intersects(
            ProtoOpts::NO_HELO
                | ProtoOpts::NO_MAIL
                | ProtoOpts::NO_CONNECT
                | ProtoOpts::LEADING_SPACE
        ));
        let needs = Needs {
            header_fields: true,
            delete_fields: true,
            add_fields: true,
            mail_reply: true,
            ..Needs::default()
        };
        assert_eq!(
            wanted_actions(&needs),
            Actions::REQUEST_MACROS | Actions::ADD_HEADER | Actions::CHANGE_HEADER
        );
        let opts = wanted_opts(&needs);
        assert!(opts.contains(ProtoOpts::NOREPLY_HEADER));
        assert!(!opts.intersects(ProtoOpts::NO_HEADER | ProtoOpts::NOREPLY_MAIL));
        assert!(opts.contains(ProtoOpts::NO_RCPT));
        let opts = wanted_opts(&Needs { recipients: true, ..needs });
        assert!(!opts.intersects(ProtoOpts::NO_RCPT | ProtoOpts::NOREPLY_RCPT));
    }

    #[test]
    fn everything_is_answered_where_that_is_wanted() {
        let all = Needs {
            header_fields: true,
            content: true,
            connect_reply: true,
            helo_reply: true,
            mail_reply: true,
            ..Needs::default()
        };
        for needs in [
            Needs::default(),
            all,
            Needs { content: false, ..all },
            Needs { mail_reply: false, ..all },
        ] {
            let opts = wanted_opts(&needs);
            assert!(opts.intersects(NO_REPLY), "{needs:?}");
            // Events that are not sent at all stay so, and white space stays as it was.
            assert_eq!(wanted_opts(&Needs { answers: true, ..needs }), opts - NO_REPLY);
        }
    }

    fn settle(needs: &Needs, numbers: [u32; 3]) -> (io::Result<Negotiated>, Vec<u8>) {
        let content: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        let mut replies = Replies::default();
        (negotiate(needs, &content, &mut replies), replies.take().to_vec())
    }

    #[test]
    fn an_mta_is_asked_for_what_it_offers() {
        let needs = Needs {
            header_fields: true,
            delete_fields: true,
            add_fields: true,
            ..Needs::default()
        };
        let (granted, answer) = settle(&needs, [6, 0x1ff, 0x1f_ffff]);
        let granted = granted.unwrap();
        assert!(granted.is_enough && granted.opts == wanted_opts(&needs));
        assert!(
            answer.starts_with(b"\0\0\0\x19O\0\0\0\x06\0\0\x01\x11")
                && answer.ends_with(b"\0\0\0\x02i\0\0\0\0\x05i\0"),
            "{answer:?}"
        );
        // A later version gets the one that is known.
        assert!(settle(&needs, [7, 0x1ff, 0]).1.starts_with(b"\0\0\0\x19O\0\0\0\x06"));
        let (granted, answer) = settle(&needs, [2, 0, 0]);
        let granted = granted.unwrap();
        assert_eq!(
            (granted.actions, granted.opts, granted.is_enough),
            (Actions::ADD_HEADER, ProtoOpts::NO_RCPT | ProtoOpts::NO_BODY, false)
        );
        let answers = Granted { delete_fields: false, quarantine: false, ..Granted::ALL };
        assert_eq!(granted.granted(), answers);
        assert_eq!(answer, b"\0\0\0\x0dO\0\0\0\x02\0\0\0\x01\0\0\0\x18");
    }

    #[test]
    fn octets_that_are_not_a_negotiation() {
        let needs = Needs::default();
        for version in [0, 1] {
            assert!(settle(&needs, [version, 0x1ff, 0]).0.is_err());
        }
        assert!(negotiate(&needs, &[0; 11], &mut Replies::default()).is_err());
    }
}
