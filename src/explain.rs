//! `spf-milter explain`: what a line of the log means, and what would come of the same today.

mod again;
mod dkim;
mod json;
mod line;
mod parse;
mod run;
mod sentences;
#[cfg(test)]
mod tests;
mod words;

pub use run::{Source, run};
#[cfg(feature = "testing")]
pub use {
    line::{LogLine, NotOurs},
    parse::MAX_LINE,
    sentences::sentences,
    words::explain_pair,
};
