//! From decisions to answers that the MTA takes.

use super::{
    answer::{Answer, Edit, Verdict},
    peer::{Granted, Permission},
    record::Failure,
    recorder::Recorder,
};
use crate::config::{Config, ErrorAction};

/// An event during which work may fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// HELO or EHLO.
    Helo,
    /// MAIL FROM.
    Mail,
    /// A part of a message, which has no answer of its own.
    Content,
    /// The end of a message.
    End,
}

/// The answer to an event, with the record of what the answer ends.
///
/// The one place where a dry run differs: what was decided is recorded, and not done. An edit that
/// the MTA does not grant is a failure; the other edits are made all the same, for `error_action`
/// may let the message go on.
pub(super) fn settle(
    config: &Config,
    granted: &Granted,
    recorder: &mut Recorder,
    decided: Verdict,
    edits: Vec<Edit>,
) -> Answer {
    let (mut verdict, mut edits) =
        if config.dry_run { (Verdict::Continue, Vec::new()) } else { (decided, edits) };
    if matches!(verdict, Verdict::Reply(_)) {
        // A message that is refused needs no changes.
        edits.clear();
        recorder.forged(None);
    }
    let keeps_back = matches!(verdict, Verdict::Quarantine(_)).then_some(Permission::Quarantine);
    let mut wanted = edits.iter().map(Edit::permission).chain(keeps_back);
    if let Some(missing) = wanted.find(|permission| !granted.has(*permission)) {
        edits.retain(|edit| granted.has(edit.permission()));
        let record = recorder.pending();
        record.failure = Some(Failure::NotGranted(missing));
        if !granted.delete_fields {
            (record.forged_fields, record.forged_tags) = (0, 0);
        }
        let is_kept_back = keeps_back.is_some_and(|permission| granted.has(permission));
        match config.error_action {
            ErrorAction::Accept if is_kept_back => {}
            ErrorAction::Accept => verdict = Verdict::Accept,
            ErrorAction::Tempfail => verdict = Verdict::Tempfail,
        }
    }
    recorder.told(&verdict);
    let is_over = verdict != Verdict::Continue || recorder.is_complete();
    let records = if is_over { recorder.take().into() } else { None.into() };
    Answer { verdict, edits, records }
}

/// The verdict after a failure; `None` where the MTA takes no answer to the event, so that it is to
/// be answered at the end of the message.
pub(super) fn failure(config: &Config, granted: &Granted, event: Event) -> Option<Verdict> {
    let takes_answer = match event {
        Event::Helo => granted.helo_answer,
        Event::Mail => granted.mail_answer,
        Event::Content => false,
        Event::End => true,
    };
    takes_answer.then_some(match (config.error_action, event) {
        (ErrorAction::Tempfail, _) => Verdict::Tempfail,
        // At HELO it would let the whole connection through; what failed concerns one message.
        (ErrorAction::Accept, Event::Helo) => Verdict::Continue,
        (ErrorAction::Accept, _) => Verdict::Accept,
    })
}
