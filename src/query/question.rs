//! Questions.

use std::{fmt, net::IpAddr};

use super::message::BadMessage;
use crate::mail::domain::Domain;

/// What a client sends, as far as it is told. Of a message that an MTA has saved, the rest is taken
/// from its fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Question {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Its name in HELO or EHLO.
    pub helo: Option<String>,
    /// The reverse-path, with or without angle brackets; empty, or `<>`, for none.
    pub mail_from: Option<Vec<u8>>,
    /// The client authenticated, whatever the message says.
    pub is_authenticated: bool,
    /// The recipients, with or without angle brackets.
    pub recipients: Vec<Vec<u8>>,
    /// The message, its lines ending with LF or CRLF, perhaps as an MTA saved it.
    pub message: Option<Vec<u8>>,
    /// The names by which the MTA calls itself in Received fields; none: those of this host, and
    /// only of fields that no other host has written one above.
    pub received_by: Vec<String>,
    /// The domain that the author is to be taken to have, in place of that of From.
    pub author_domain: Option<Domain>,
    /// It comes from a record, which repeats what was taken from the message at that time.
    pub is_recalled: bool,
}

/// Why a question has no answer: it says too little, or the message is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadQuestion {
    /// The message cannot be read.
    Message(BadMessage),
    /// Neither the question nor the message names a client; with the reason in words.
    NoClient(String),
    /// The message has no Return-Path, and no reverse-path is given.
    NoReversePath,
}

impl fmt::Display for BadQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(reason) => reason.fmt(f),
            Self::NoClient(reason) => {
                write!(f, "{reason} (expected --ip ADDRESS, or --received-by NAME of the host whose Received field counts)")
            }
            Self::NoReversePath => f.write_str(
                "the message has no Return-Path field (expected --mail-from ADDRESS, or --mail-from '<>')",
            ),
        }
    }
}

impl From<BadMessage> for BadQuestion {
    fn from(reason: BadMessage) -> Self {
        Self::Message(reason)
    }
}
