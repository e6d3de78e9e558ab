//! What a session found and answered.

use std::net::IpAddr;

use super::message::InputLine;
use crate::{
    auth::{
        dkim::{DkimResult, SignatureOutcome},
        dmarc::DmarcResult,
        iprev::IprevResult,
    },
    config::{Action, Config},
    mail::results::{SpfResult, words},
    session::{ContentRecord, Edit, Record, Verdict},
};

/// The finding on a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What the session was told.
    pub asked: Asked,
    /// The events, from the first to the last that the session was asked about.
    pub steps: Vec<Step>,
    /// The configuration says to do nothing of this (`dry_run`).
    pub is_dry_run: bool,
}

/// What a session was told, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The client's address.
    pub client: Given<IpAddr>,
    /// Its name in HELO; without one no HELO was said.
    pub helo: Option<Given<String>>,
    /// The reverse-path, in angle brackets; without one no message was begun.
    pub mail_from: Option<Given<String>>,
    /// Whether the client authenticated.
    pub is_authenticated: Given<bool>,
    /// The recipients, in angle brackets, where it matters who they are.
    pub recipients: Vec<String>,
    /// The name of the MTA, where the message says it.
    pub mta_host: Option<String>,
    /// The fields of the message that were left out: the MTA and this milter added them.
    pub left_out: Vec<InputLine>,
    /// Whether there was a message.
    pub has_message: bool,
    /// What else should be known about the question, in sentences.
    pub notes: Vec<String>,
}

/// A value, and where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Its source.
    pub source: Source,
}

/// The source of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// The question says so.
    Question,
    /// A field of the message says so.
    Line(InputLine),
    /// Nothing says otherwise.
    Default,
}

words! {
    /// An event.
    Stage {
        /// The client connects.
        Connect = "connect",
        /// HELO or EHLO.
        Helo = "HELO",
        /// MAIL FROM.
        Mail = "MAIL FROM",
        /// RCPT TO.
        Rcpt = "RCPT TO",
        /// The end of the message.
        End = "end of message",
        /// The session ends.
        Close = "close",
    }
}

/// An event, and the answer to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which event.
    pub stage: Stage,
    /// The answer to the MTA.
    pub verdict: Verdict,
    /// The changes of the message.
    pub edits: Vec<Edit>,
    /// What happened up to here since the step before.
    pub records: Vec<Record>,
}

words! {
    /// What becomes of a message, or of a client that sends none.
    Outcome {
        /// It goes on.
        Accept = "accept",
        /// It goes on with a mark.
        Tag = "tag",
        /// The MTA keeps it back.
        Quarantine = "quarantine",
        /// It is refused for now.
        Defer = "defer",
        /// It is refused for good.
        Reject = "reject",
    }
}

impl Finding {
    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.steps.iter().flat_map(|step| &step.records)
    }

    /// All edits of the message, in order.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.steps.iter().flat_map(|step| &step.edits)
    }

    /// The step whose answer decides: the last that has one. Where only some recipients are refused,
    /// that is none of theirs.
    pub fn deciding(&self) -> Option<&Step> {
        let last = self.steps.iter().rfind(|step| step.stage != Stage::Close)?;
        if last.stage != Stage::Rcpt {
            return Some(last);
        }
        let mut recipients = self.steps.iter().filter(|step| step.stage == Stage::Rcpt);
        recipients.find(|step| step.verdict == Verdict::Continue).or(Some(last))
    }

    /// What becomes of the message; in a dry run, what would.
    pub fn outcome(&self) -> Outcome {
        match self.deciding().map(|step| &step.verdict) {
            Some(Verdict::Reply(reply)) if !reply.code().is_temporary() => Outcome::Reject,
            Some(Verdict::Reply(_) | Verdict::Tempfail) => Outcome::Defer,
            Some(Verdict::Quarantine(_)) => Outcome::Quarantine,
            Some(Verdict::Continue | Verdict::Accept) | None => {
                let mut contents = self.records().filter_map(|record| record.content.as_deref());
                let is_marked = contents
                    .any(|content| content.causes.iter().any(|cause| cause.action == Action::Tag));
                if is_marked { Outcome::Tag } else { Outcome::Accept }
            }
        }
    }

    /// Whether DNS trouble keeps the outcome from being certain: SPF of the sender, or of HELO where
    /// there is none, or DMARC came to a temperror; a pass of DMARC makes up for the former. So does
    /// a temperror of iprev, and of a signature where nothing passes, if this configuration has an
    /// action that only follows from a better answer.
    pub fn is_uncertain(&self, config: &Config) -> bool {
        let contents = || self.records().filter_map(|record| record.content.as_deref());
        if contents().any(|content| is_spared(content, config)) {
            return true;
        }
        let dmarc = contents().filter_map(|content| content.dmarc.as_ref()).last();
        match dmarc.map(|outcome| outcome.result) {
            Some(DmarcResult::Pass) => return false,
            Some(DmarcResult::Temperror) => return true,
            _ => {}
        }
        let last = self.records().flat_map(|record| &record.identities).last();
        last.is_some_and(|last| last.verified.outcome.result == SpfResult::Temperror)
    }
}

/// Whether only a temperror keeps an action from being carried out: that on iprev, or that on
/// messages that nothing authenticates.
fn is_spared(content: &ContentRecord, config: &Config) -> bool {
    let iprev = content.iprev.as_ref().map(|outcome| outcome.result);
    if config.iprev_fail_action != Action::None && iprev == Some(IprevResult::Temperror) {
        return true;
    }
    let signatures = || content.dkim.iter().flatten().map(SignatureOutcome::result);
    let spf = content.mailfrom.as_ref().map(|verified| verified.outcome.result);
    config.unauthenticated_action != Action::None
        && spf != Some(SpfResult::Pass)
        && signatures().all(|result| result != DkimResult::Pass)
        && signatures().any(|result| result == DkimResult::Temperror)
}
