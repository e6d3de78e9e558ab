//! Reads Authentication-Results: one pass, no recursion, time in proportion to the length.

use spf_milter::mail::{
    auth_results::{AuthenticationResults, Keyword, MethodResult, Property},
    lexer::{Cursor, ParseError, ParseErrorKind},
};

/// Reads the value of a header field, folded or not.
///
/// Takes more than RFC 8601 §2.2 allows, since it is met: no authserv-id, a `;` too many,
/// properties without a type, the reason behind the properties, values that should have been
/// quoted, UTF-8 (RFC 6532). Escapes of [`tokens`](spf_milter::mail::tokens) are read.
///
/// # Errors
///
/// Where the field cannot be read, and why.
pub fn read(value: &[u8]) -> Result<AuthenticationResults, ParseError> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws()?;
    let mut results = AuthenticationResults::new("");
    let mut first = None;
    if !matches!(cursor.peek(), None | Some(b';')) {
        if starts_result(cursor) {
            first = Some(result(&mut cursor)?);
        } else {
            results.authserv_id = authserv_id(&mut cursor)?;
            results.version = version(&mut cursor)?;
        }
    }
    results.results.extend(first);
    loop {
        cursor.skip_cfws()?;
        if cursor.is_at_end() {
            return Ok(results);
        }
        if !cursor.take(b';') {
            return Err(cursor.error(ParseErrorKind::Unexpected));
        }
        cursor.skip_cfws()?;
        if !matches!(cursor.peek(), None | Some(b';')) && !is_none(&mut cursor)? {
            results.results.push(result(&mut cursor)?);
        }
    }
}

/// Whether a result begins here, and no authserv-id: a result has a `=`.
fn starts_result(mut cursor: Cursor<'_>) -> bool {
    if cursor.take_while(is_keyword_octet).is_empty() || cursor.skip_cfws().is_err() {
        return false;
    }
    if cursor.peek() == Some(b'/') && (version(&mut cursor).is_err() || cursor.skip_cfws().is_err())
    {
        return false;
    }
    cursor.peek() == Some(b'=')
}

/// Reads an authserv-id; the version may stick to it as `/1`.
fn authserv_id(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    if cursor.peek() == Some(b'"') {
        return word(cursor);
    }
    let octets = cursor.take_while(|b| !b.is_ascii_control() && !b" ;(\"/".contains(&b));
    if octets.is_empty() {
        return Err(cursor.error(ParseErrorKind::NoWord));
    }
    Ok(String::from_utf8_lossy(octets).into_owned())
}

/// Steps over `none`, if that is all of what stands before the next `;`.
fn is_none(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    let mut ahead = *cursor;
    if !ahead.take_while(is_keyword_octet).eq_ignore_ascii_case(b"none") {
        return Ok(false);
    }
    ahead.skip_cfws()?;
    let found = matches!(ahead.peek(), None | Some(b';'));
    if found {
        *cursor = ahead;
    }
    Ok(found)
}

/// Reads a version, 1 if there is none.
fn version(cursor: &mut Cursor<'_>) -> Result<u32, ParseError> {
    cursor.skip_cfws()?;
    if cursor.take(b'/') {
        cursor.skip_cfws()?;
    }
    let error = cursor.error(ParseErrorKind::Unexpected);
    let digits = cursor.take_while(|b| b.is_ascii_digit());
    if digits.is_empty() {
        return Ok(1);
    }
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(error)
}

/// Reads one result with its reason and its properties, up to the `;` or the end.
///
/// ```text
/// method   = Keyword [ [CFWS] "/" [CFWS] method-version ]
/// propspec = ptype [CFWS] "." [CFWS] property [CFWS] "=" pvalue
/// ```
fn result(cursor: &mut Cursor<'_>) -> Result<MethodResult, ParseError> {
    let method = keyword(cursor)?;
    cursor.skip_cfws()?;
    let method_version = if cursor.peek() == Some(b'/') { version(cursor)? } else { 1 };
    expect_equals(cursor)?;
    let mut result = MethodResult::new(method, keyword(cursor)?);
    result.method_version = method_version;
    result.comment = cursor.skip_cfws()?;
    while !matches!(cursor.peek(), None | Some(b';')) {
        let (ptype, property) = property_name(cursor)?;
        expect_equals(cursor)?;
        let value = word(cursor)?;
        let comment = cursor.skip_cfws()?;
        if ptype.is_none() && property == "reason" && result.reason.is_none() {
            result.reason = Some(value);
            if result.comment.is_none() {
                result.comment = comment;
            }
        } else {
            result.properties.push(Property { ptype, property, value, comment });
        }
    }
    Ok(result)
}

/// Reads `ptype.property`, or only a property.
fn property_name(cursor: &mut Cursor<'_>) -> Result<(Option<Keyword>, Keyword), ParseError> {
    let first = keyword(cursor)?;
    cursor.skip_cfws()?;
    if !cursor.take(b'.') {
        return Ok((None, first));
    }
    cursor.skip_cfws()?;
    Ok((Some(first), keyword(cursor)?))
}

fn expect_equals(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    cursor.skip_cfws()?;
    if !cursor.take(b'=') {
        return Err(cursor.error(ParseErrorKind::Unexpected));
    }
    cursor.skip_cfws()?;
    Ok(())
}

fn keyword(cursor: &mut Cursor<'_>) -> Result<Keyword, ParseError> {
    let error = cursor.error(ParseErrorKind::NoWord);
    let octets = cursor.take_while(is_keyword_octet);
    std::str::from_utf8(octets).ok().and_then(Keyword::parse).ok_or(error)
}

/// Reads a value: a quoted string, or anything up to white space, `;` or a comment.
///
/// A quoted string with `@` behind it is a local-part: it keeps its quotes.
fn word(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    if cursor.peek() != Some(b'"') {
        return Ok(bare_word(cursor));
    }
    let start = *cursor;
    let content = cursor.quoted_string()?;
    let source = cursor.since(&start);
    if cursor.peek() != Some(b'@') {
        return Ok(content);
    }
    let unfolded: Vec<u8> =
        source.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    Ok(String::from_utf8_lossy(&unfolded).into_owned() + &bare_word(cursor))
}

fn bare_word(cursor: &mut Cursor<'_>) -> String {
    let octets = cursor.take_while(|b| !b.is_ascii_control() && !b" ;(\"".contains(&b));
    String::from_utf8_lossy(octets).into_owned()
}

fn is_keyword_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}
