//! The answers of a session to events.

use std::borrow::Cow;

use super::{peer::Permission, record::Record};
use crate::mail::{header_field::HeaderField, reply::Reply};

/// The answer to an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer to the MTA.
    pub verdict: Verdict,
    /// The changes to the message, in the order to apply. The MTA grants each of them.
    pub edits: Vec<Edit>,
    /// The records of what happened.
    pub records: Records,
}

impl Answer {
    /// Go on, and nothing to record.
    pub fn proceed() -> Self {
        Verdict::Continue.into()
    }

    /// The same, where something was recorded before.
    pub(super) fn after(mut self, earlier: Option<Box<Record>>) -> Self {
        self.records.earlier = earlier.or(self.records.earlier);
        self
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, edits: Vec::new(), records: Records::default() }
    }
}

impl From<Option<Box<Record>>> for Answer {
    fn from(latest: Option<Box<Record>>) -> Self {
        let records = Records { earlier: None, latest };
        Self { verdict: Verdict::Continue, edits: Vec::new(), records }
    }
}

/// The answer to the MTA.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Go on, and ask no more of this session or message.
    Accept,
    /// Answer the client with this reply.
    Reply(Reply),
    /// Keep the message back, for the reason given.
    Quarantine(String),
    /// Answer the client with a temporary reply of the MTA's own.
    Tempfail,
}

/// A change to a message. In the order given, each holds for what the ones before have left.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Delete a field.
    Delete {
        /// Its name.
        name: Cow<'static, str>,
        /// Which of the fields of that name, counted from 1 at the top.
        index: i32,
    },
    /// Insert a field.
    Insert {
        /// Where: 0 is the very top.
        index: i32,
        /// The field.
        field: HeaderField,
    },
}

impl Edit {
    /// The permission that the MTA has to grant for it.
    pub(super) fn permission(&self) -> Permission {
        match self {
            Self::Delete { .. } => Permission::DeleteFields,
            Self::Insert { .. } => Permission::AddFields,
        }
    }
}

/// The records of an event, in order. There are two where one belongs to what came before: another
/// message that was given up without an abort, or another HELO name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    earlier: Option<Box<Record>>,
    latest: Option<Box<Record>>,
}

impl Records {
    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.earlier.iter().chain(&self.latest).map(|record| &**record)
    }

    /// The record of the event itself.
    #[cfg(any(test, feature = "testing"))]
    pub fn latest(&self) -> Option<&Record> {
        self.latest.as_deref()
    }
}

impl From<Option<Box<Record>>> for Records {
    fn from(latest: Option<Box<Record>>) -> Self {
        Self { earlier: None, latest }
    }
}
