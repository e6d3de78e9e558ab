//! Whether an incoming Authentication-Results field claims to be ours, and must go (RFC 8601 §5).

use super::{
    authserv_id::{normalise, reduce},
    authserv_ids::OwnAuthservIds,
    grammar,
};
use crate::mail::lexer::Cursor;

/// Whether the value of an incoming Authentication-Results field claims one of these authserv-ids.
///
/// The authserv-id is the text that remains without comments (nested or not), folding, quotes and
/// quoted-pairs; a version may follow it (`id 1`, `id/1`), the `;` may be missing. In doubt the
/// field is ours, because a reader might take it so:
///
/// - It has no authserv-id that can be read: it is empty, begins with `;`, a comment or quoted
///   string in front does not end, or there are control characters, octets that are not UTF-8 or an
///   encoded word.
/// - It is not of the grammar, be it in its last octet, and one of ours occurs anywhere in it,
///   whatever comments, white space, quotes, backslashes and unseen characters are between its
///   characters; or an encoded word does, which may be anything.
///
/// A field by the grammar with another authserv-id is not ours, whatever its results say. Neither
/// is one that begins with a result, as some large operators write it: it claims no id.
///
/// Takes time in proportion to the length of the value, whatever it is made of.
pub fn claims_authserv_id(value: &[u8], ids: &OwnAuthservIds) -> bool {
    claims(value, Cursor::new(value), ids)
}

/// Whether the value of an incoming ARC-Authentication-Results field (RFC 8617 §4.1.1) claims one
/// of these authserv-ids.
///
/// It is that of an Authentication-Results field behind an instance, `i=1;`, whatever number that
/// is.
pub fn arc_claims_authserv_id(value: &[u8], ids: &OwnAuthservIds) -> bool {
    claims(value, grammar::behind_instance(value).unwrap_or(Cursor::new(value)), ids)
}

/// Whether a value claims one of the ids with what begins at the cursor.
fn claims(value: &[u8], payload: Cursor<'_>, ids: &OwnAuthservIds) -> bool {
    if ids.is_empty() {
        return false;
    }
    match read_head(payload) {
        None => true,
        Some(id) if ids.matches_normalised(&normalise(&id)) => true,
        Some(_) if grammar::is_by_the_grammar(payload) => false,
        Some(_) => {
            let texts = [reduce(value, true), reduce(value, false)];
            value.windows(2).any(|pair| pair == b"=?") || ids.occurs_in(&texts)
        }
    }
}

/// The text where an authserv-id should be: one, the method of a result, or the beginning of
/// something else. `None` where it cannot be read.
fn read_head(mut cursor: Cursor<'_>) -> Option<String> {
    cursor.skip_cfws().ok()?;
    let id = if cursor.peek() == Some(b'"') {
        cursor.quoted_string().ok()?
    } else {
        let octets = cursor.take_while(|b| !b.is_ascii_control() && !b" ;(\"=/".contains(&b));
        String::from_utf8_lossy(octets).into_owned()
    };
    let control = |b: u8| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r');
    let is_unreadable = id.is_empty()
        || id.contains("=?")
        || id.contains(char::REPLACEMENT_CHARACTER)
        || cursor.peek().is_some_and(|b| control(b) || !b.is_ascii());
    (!is_unreadable).then_some(id)
}
