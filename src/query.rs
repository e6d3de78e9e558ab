//! `spf-milter query`: asks the verifier what it would do with a message, without an MTA.
//!
//! A [`Question`] has what an MTA would tell the milter, or a saved message from which that is
//! taken; [`ask`] plays it on a [`Session`](crate::session::Session), as the adapter of the milter
//! protocol does, and returns a [`Finding`].

mod answers;
mod ask;
mod changes;
mod date;
mod finding;
mod for_sender;
mod json;
mod message;
mod printable;
mod question;
mod record_file;
mod remedies;
mod report;
mod run;
mod saved;
mod traced;
mod why;

pub use answers::Wanted;
pub use finding::Finding;
pub use printable::Style;
pub use question::Question;
pub use run::{Answered, Inquiry, Problem, find, run};
#[cfg(feature = "testing")]
pub use {
    ask::ask,
    finding::{Asked, Given, Outcome, Source, Stage, Step},
    message::{BadMessage, InputLine},
    question::BadQuestion,
    record_file::RecordFile,
    why::why,
};
