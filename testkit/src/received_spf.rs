//! Reads Received-SPF (RFC 7208 §9.1), as others would.

use std::borrow::Cow;

use spf_milter::mail::{
    lexer::{Cursor, ParseError, ParseErrorKind},
    received_spf::{Identity, ReceivedSpf},
    results::SpfResult,
    tokens,
};

/// Reads the value of a header field, folded or not. Unknown keys are skipped; of a key given
/// twice the first counts.
///
/// # Errors
///
/// Where the field cannot be read, and why.
pub fn read(value: &[u8]) -> Result<ReceivedSpf<'static>, ParseError> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws()?;
    let error = cursor.error(ParseErrorKind::Unexpected);
    let mut field = ReceivedSpf::new(SpfResult::parse(&read_word(&mut cursor)).ok_or(error)?);
    field.comment = cursor.skip_cfws()?.map(Cow::Owned);
    while !cursor.is_at_end() {
        let error = cursor.error(ParseErrorKind::Unexpected);
        let key = read_word(&mut cursor);
        cursor.skip_cfws()?;
        if key.is_empty() || !cursor.take(b'=') {
            return Err(error);
        }
        cursor.skip_cfws()?;
        let value = if cursor.peek() == Some(b'"') {
            cursor.quoted_string()?
        } else {
            read_dot_atom(&mut cursor)?
        };
        set(&mut field, &key, value).map_err(|()| error)?;
        cursor.skip_cfws()?;
        if !cursor.take(b';') && !cursor.is_at_end() {
            return Err(cursor.error(ParseErrorKind::Unexpected));
        }
        cursor.skip_cfws()?;
    }
    Ok(field)
}

fn set(field: &mut ReceivedSpf<'_>, key: &str, value: String) -> Result<(), ()> {
    let text = match key {
        "receiver" => &mut field.receiver,
        "helo" => &mut field.helo,
        "envelope-from" => &mut field.envelope_from,
        "mechanism" => &mut field.mechanism,
        "problem" => &mut field.problem,
        "client-ip" => {
            let ip = value.parse().map_err(|_| ())?;
            field.client_ip.get_or_insert(ip);
            return Ok(());
        }
        "identity" => {
            let identity = [Identity::Helo, Identity::Mailfrom]
                .into_iter()
                .find(|identity| identity.as_str() == value);
            field.identity = field.identity.or(identity);
            return Ok(());
        }
        _ => return Ok(()),
    };
    text.get_or_insert(value.into());
    Ok(())
}

/// Reads a result or key, in lower case.
fn read_word(cursor: &mut Cursor<'_>) -> String {
    let octets =
        cursor.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    String::from_utf8_lossy(octets).to_ascii_lowercase()
}

fn read_dot_atom(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let error = cursor.error(ParseErrorKind::NoWord);
    let octets = cursor.take_while(|b| b == b'.' || tokens::is_atom_octet(b) || !b.is_ascii());
    if octets.is_empty() { Err(error) } else { Ok(String::from_utf8_lossy(octets).into_owned()) }
}
