//! What is asked of the MTA: what the configuration needs, and nothing else.

use std::ffi::CString;

use indymilter::{Actions, MacroStage, NegotiateContext, ProtoOpts, Status};

use super::Connection;
use crate::runtime::Needs;

/// Settles stages, actions and macros with the MTA.
pub(super) fn negotiate(
    cx: &mut NegotiateContext<Connection>,
    mut connection: Connection,
    actions: Actions,
    opts: ProtoOpts,
) -> Status {
    let needs = &connection.runtime.needs;
    // An MTA that lacks something that is wanted is served as far as it goes: the library would drop it.
    let wanted = wanted_actions(needs);
    if !actions.contains(wanted - Actions::REQUEST_MACROS) {
        connection.line.server.observer.problem("the MTA does not let milters change messages as the configuration needs it");
    }
    cx.requested_actions = wanted & actions;
    cx.requested_opts = wanted_opts(needs) & opts;
    // MTAs of before version 6 take no list of macros; they send what they are configured to send.
    if actions.contains(Actions::REQUEST_MACROS) {
        cx.requested_macros.extend(wanted_macros(needs));
    }
    connection.actions = cx.requested_actions;
    connection.opts = cx.requested_opts;
    cx.data = Some(connection);
    Status::Continue
}

fn wanted_actions(needs: &Needs) -> Actions {
    let mut actions = Actions::REQUEST_MACROS;
    actions.set(Actions::ADD_HEADER, needs.add_fields);
    actions.set(Actions::CHANGE_HEADER, needs.delete_fields);
    actions.set(Actions::QUARANTINE, needs.quarantine);
    actions
}

/// What a milter may leave unanswered.
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
    let mut opts = ProtoOpts::NO_RCPT | ProtoOpts::NO_DATA | ProtoOpts::NO_UNKNOWN;
    opts.set(ProtoOpts::NO_EOH | ProtoOpts::NO_BODY, !needs.content);
    opts.set(ProtoOpts::NOREPLY_EOH | ProtoOpts::NOREPLY_BODY | ProtoOpts::LEADING_SPACE, needs.content);
    opts.set(ProtoOpts::NO_HEADER, !needs.header_fields);
    opts.set(ProtoOpts::NOREPLY_HEADER, needs.header_fields);
    opts.set(ProtoOpts::NOREPLY_CONNECT, !needs.connect_reply);
    opts.set(ProtoOpts::NOREPLY_HELO, !needs.helo_reply);
    opts.set(ProtoOpts::NOREPLY_MAIL, !needs.mail_reply);
    if needs.answers { opts - NO_REPLY } else { opts }
}

fn wanted_macros(needs: &Needs) -> Vec<(MacroStage, CString)> {
    let mut macros = vec![(MacroStage::Eom, c"i".into())];
    if needs.host_macro {
        macros.push((MacroStage::Connect, c"j".into()));
    }
    // Sendmail knows the queue id by then.
    macros.push((MacroStage::Mail, if needs.authentication_macro { c"i {auth_authen}".into() } else { c"i".into() }));
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
        assert!(opts.contains(ProtoOpts::NO_HEADER | ProtoOpts::NO_BODY | ProtoOpts::NOREPLY_MAIL | ProtoOpts::NOREPLY_HELO));
        assert!(!opts.intersects(ProtoOpts::NO_HELO | ProtoOpts::NO_MAIL | ProtoOpts::NO_CONNECT | ProtoOpts::LEADING_SPACE));
        let needs = Needs { header_fields: true, delete_fields: true, add_fields: true, mail_reply: true, ..Needs::default() };
        assert_eq!(wanted_actions(&needs), Actions::REQUEST_MACROS | Actions::ADD_HEADER | Actions::CHANGE_HEADER);
        let opts = wanted_opts(&needs);
        assert!(opts.contains(ProtoOpts::NOREPLY_HEADER));
        assert!(!opts.intersects(ProtoOpts::NO_HEADER | ProtoOpts::NOREPLY_MAIL));
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
        for needs in [Needs::default(), all, Needs { content: false, ..all }, Needs { mail_reply: false, ..all }] {
            let opts = wanted_opts(&needs);
            assert!(opts.intersects(NO_REPLY), "{needs:?}");
            // What is not sent at all stays so, and white space stays as it was.
            assert_eq!(wanted_opts(&Needs { answers: true, ..needs }), opts - NO_REPLY);
        }
    }
}
