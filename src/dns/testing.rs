//! A reader of replies for tests and fuzzing (feature `testing`).

use std::time::Duration;

use super::{
    answer::{Answer, Failure, RecordType},
    message::{Arrival, Question},
    name::Name,
    reply::{Reading, Reply},
};

/// Reads the octets that a name server sent to a question, as the client does: the outcome, and how
/// long it may be kept.
///
/// `None` where they are not a reply to it that can be read, where they have only an alias, or
/// where the name is too long to ask for.
pub fn read_reply(
    name: &Name,
    record_type: RecordType,
    octets: &[u8],
) -> Option<(Result<Answer, Failure>, Duration)> {
    let question = Question::new(name, record_type)?;
    let (id, _) = octets.split_first_chunk()?;
    let Ok(Arrival::Message(message)) = Arrival::read(octets, u16::from_be_bytes(*id), &question)
    else {
        return None;
    };
    match Reading::of(&message, &question).ok()? {
        Reading::Reply(Reply { outcome, ttl }) => Some((outcome, ttl)),
        Reading::Alias(..) => None,
    }
}
