//! Whether a field is one by the grammar (RFC 8601 §2.2), so that all readers agree on what it
//! says.
//!
//! One pass, no recursion, time in proportion to the length.

use super::field::is_keyword_octet;
use crate::mail::{
    domain::Domain,
    lexer::{Cursor, ParseError},
    tokens,
};

/// Whether what begins here follows the grammar to its end.
///
/// ```text
/// authres-payload = [CFWS] authserv-id [ CFWS authres-version ] ( no-result / 1*resinfo ) [CFWS] CRLF
/// ```
///
/// Common deviations are accepted as well: a result in place of the authserv-id, a `;` at the end,
/// UTF-8, and values that should have been quoted for a `/`, `:` or the like.
pub(super) fn is_by_the_grammar(mut payload: Cursor<'_>) -> bool {
    read_payload(&mut payload) == Ok(true)
}

/// A cursor behind the instance of an ARC-Authentication-Results field; `None` where there is no
/// instance.
///
/// ```text
/// arc-info = [CFWS] "i" [CFWS] "=" [CFWS] 1*DIGIT [CFWS] ";" authres-payload
/// ```
pub(super) fn behind_instance(value: &[u8]) -> Option<Cursor<'_>> {
    let mut cursor = Cursor::new(value);
    (instance(&mut cursor) == Ok(true)).then_some(cursor)
}

fn instance(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    cursor.skip_cfws()?;
    if !cursor.take(b'i') && !cursor.take(b'I') {
        return Ok(false);
    }
    cursor.skip_cfws()?;
    if !cursor.take(b'=') {
        return Ok(false);
    }
    cursor.skip_cfws()?;
    cursor.take_while(|b| b.is_ascii_digit());
    cursor.skip_cfws()?;
    Ok(cursor.take(b';'))
}

/// Reads a field; `false`, like an error, where it is none.
fn read_payload(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    cursor.skip_cfws()?;
    let mut ahead = *cursor;
    let mut has_result = method(&mut ahead)?;
    if has_result {
        *cursor = ahead;
        if !result(cursor)? {
            return Ok(false);
        }
    } else if !authserv_id(cursor)? {
        return Ok(false);
    }
    while !cursor.is_at_end() {
        if !cursor.take(b';') {
            return Ok(false);
        }
        cursor.skip_cfws()?;
        if cursor.is_at_end() {
            return Ok(has_result);
        }
        let mut ahead = *cursor;
        if method(&mut ahead)? {
            *cursor = ahead;
            if !result(cursor)? {
                return Ok(false);
            }
            has_result = true;
        } else {
            // Nothing may follow `none`.
            let is_none = cursor.take_while(is_keyword_octet).eq_ignore_ascii_case(b"none");
            cursor.skip_cfws()?;
            return Ok(is_none && !has_result && cursor.is_at_end());
        }
    }
    Ok(has_result)
}

/// Reads an authserv-id, its version, and the white space behind them.
fn authserv_id(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    let id = match cursor.peek() {
        Some(b'"') => cursor.quoted_string()?,
        _ => String::from_utf8_lossy(cursor.take_while(is_value_octet)).into_owned(),
    };
    if !tokens::is_token(&id) && Domain::parse(&id).is_err() {
        return Ok(false);
    }
    let start = *cursor;
    cursor.skip_cfws()?;
    if !cursor.since(&start).is_empty() {
        cursor.take_while(|b| b.is_ascii_digit());
        cursor.skip_cfws()?;
    }
    Ok(true)
}

/// Reads a method and the equals sign behind it.
///
/// ```text
/// method = Keyword [ [CFWS] "/" [CFWS] method-version ]
/// ```
fn method(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    if cursor.take_while(is_keyword_octet).is_empty() {
        return Ok(false);
    }
    cursor.skip_cfws()?;
    if cursor.take(b'/') {
        cursor.skip_cfws()?;
        if cursor.take_while(|b| b.is_ascii_digit()).is_empty() {
            return Ok(false);
        }
        cursor.skip_cfws()?;
    }
    Ok(cursor.take(b'='))
}

/// Reads what follows the equals sign of a method, up to the next `;` or the end.
///
/// ```text
/// resinfo  = [CFWS] ";" methodspec [ CFWS reasonspec ] [ CFWS 1*propspec ]
/// propspec = ptype [CFWS] "." [CFWS] property [CFWS] "=" pvalue
/// ```
fn result(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    cursor.skip_cfws()?;
    if cursor.take_while(is_keyword_octet).is_empty() {
        return Ok(false);
    }
    let mut is_first = true;
    loop {
        let start = *cursor;
        cursor.skip_cfws()?;
        if matches!(cursor.peek(), None | Some(b';')) {
            return Ok(true);
        }
        if cursor.since(&start).is_empty() {
            return Ok(false);
        }
        let name = cursor.take_while(is_keyword_octet);
        cursor.skip_cfws()?;
        if cursor.take(b'.') {
            cursor.skip_cfws()?;
            if name.is_empty() || cursor.take_while(is_keyword_octet).is_empty() {
                return Ok(false);
            }
            cursor.skip_cfws()?;
        } else if !is_first || !name.eq_ignore_ascii_case(b"reason") {
            return Ok(false);
        }
        is_first = false;
        if !cursor.take(b'=') || !value(cursor)? {
            return Ok(false);
        }
    }
}

/// Reads a value.
///
/// ```text
/// pvalue = [CFWS] ( ( value / [ [ local-part ] "@" ] domain-name ) [CFWS] )
/// ```
fn value(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    cursor.skip_cfws()?;
    if cursor.peek() != Some(b'"') {
        return Ok(!cursor.take_while(is_value_octet).is_empty());
    }
    cursor.quoted_string()?;
    Ok(cursor.peek() != Some(b'@') || cursor.take_while(is_value_octet).len() > 1)
}

fn is_value_octet(octet: u8) -> bool {
    tokens::is_token_octet(octet)
        || matches!(octet, b'@' | b'/' | b':' | b'=' | b'?' | b'<' | b'>')
        || !octet.is_ascii()
}
