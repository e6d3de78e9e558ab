//! One Received field.

use std::net::IpAddr;

use super::{
    from_clause::{FromClause, Gathered},
    pieces::{Piece, Pieces},
    reason::Unreadable,
    rest::{Protocol, Rest},
};

/// The most octets of a HELO name or a reverse name: no domain name has more (RFC 1035 §2.3.4),
/// no address literal either.
const MAX_NAME_LENGTH: usize = 255;

/// Who handed over a message, as the relay recorded it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// The address of its connection; IPv4-mapped addresses (RFC 4291 §2.5.5.2) are IPv4.
    pub address: IpAddr,
    /// What it said in HELO, EHLO or LHLO: any text, maybe an address literal in brackets. `None`
    /// if it is not recorded, not UTF-8, or longer than a domain name can be.
    pub helo: Option<String>,
    /// The name of its address in DNS, without a last dot: for the log only, for many relays do not
    /// verify it.
    pub name: Option<String>,
}

/// What one field records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Hop {
    /// A client handed over the message by SMTP.
    Client(Client),
    /// A step within a host or a site, which has no client.
    Inside,
    /// A client that was authenticated.
    Authenticated,
    /// The message did not come by SMTP.
    OtherProtocol,
}

impl Hop {
    /// Reads the value of a Received field, as the milter protocol brings it: folded with LF or CR
    /// LF, any octets.
    ///
    /// ```text
    /// received     = "Received:" [1*received-token] ";" date-time CRLF   ; RFC 5322 §3.6.7
    /// Time-stamp   = From-domain By-domain Opt-info [CFWS] ";" FWS date-time   ; RFC 5321 §4.4
    /// ```
    ///
    /// Of that, the from-clause, the first by-clause and the with-clause are read.
    ///
    /// # Errors
    ///
    /// Why it does not say who the client is.
    pub(super) fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let Some((from, rest)) = read_clauses(value)? else { return Ok(Self::Inside) };
        match rest.protocol {
            _ if from.is_authenticated => return Ok(Self::Authenticated),
            Protocol::Authenticated => return Ok(Self::Authenticated),
            Protocol::Other => return Ok(Self::OtherProtocol),
            _ => {}
        }
        match from.client(rest.is_exim) {
            Err(Unreadable::NoAddress) if rest.protocol == Protocol::Lmtp => Ok(Self::Inside),
            client => client.map(Client::from).map(Self::Client),
        }
    }
}

impl From<FromClause<'_>> for Client {
    fn from(client: FromClause<'_>) -> Self {
        Self {
            address: client.address,
            helo: client.helo.and_then(text),
            name: client.name.and_then(text).map(without_dot),
        }
    }
}

/// One Received field by itself: the host that wrote it, and the client that it names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handover {
    /// The name behind `by`, where it has one.
    pub by: Option<String>,
    /// The client, authenticated or not; `None` for a step within a host or a site.
    pub client: Option<Client>,
    /// The client was authenticated.
    pub is_authenticated: bool,
}

impl Handover {
    /// Reads the value of a field, as [`Walk`](super::Walk) does. A step by LMTP (RFC 2033) or from
    /// loopback is one within the site.
    ///
    /// # Errors
    ///
    /// Why it does not say who the client is; with the name behind `by`, where there is one.
    pub fn read(value: &[u8]) -> Result<Self, (Unreadable, Option<String>)> {
        let by = by_host(value);
        let inside = |by| Self { by, client: None, is_authenticated: false };
        let (from, rest) = match read_clauses(value) {
            Ok(Some(clauses)) => clauses,
            Ok(None) => return Ok(inside(by)),
            Err(reason) => return Err((reason, by)),
        };
        if matches!(rest.protocol, Protocol::Other | Protocol::Lmtp) {
            return Ok(inside(by));
        }
        let is_authenticated = from.is_authenticated || rest.protocol == Protocol::Authenticated;
        match from.client(rest.is_exim).map(Client::from) {
            Ok(client) if client.address.is_loopback() => Ok(inside(by)),
            Ok(client) => Ok(Self { by, client: Some(client), is_authenticated }),
            Err(reason) => Err((reason, by)),
        }
    }
}

/// The name behind the first `by`.
fn by_host(value: &[u8]) -> Option<String> {
    let mut pieces = Pieces::of_field(value).ok()?;
    pieces.find(|piece| piece.is_word("by"))?;
    let host = pieces.next().filter(|piece| !piece.is_comment)?;
    let host = host.text.strip_suffix(b";").unwrap_or(host.text);
    text(host).map(without_dot)
}

/// Reads the from-clause and what is behind it; `None` for a step within a host.
fn read_clauses(value: &[u8]) -> Result<Option<(Gathered<'_>, Rest)>, Unreadable> {
    let mut pieces = Pieces::of_field(value)?;
    match pieces.next() {
        Some(first) if first.is_word("from") => {}
        first if is_within_host(first, pieces) => return Ok(None),
        _ => return Err(Unreadable::NoFrom),
    }
    let from = pieces.clone();
    if !pieces.any(|piece| piece.is_word("by")) {
        return Err(Unreadable::NoBy);
    }
    Ok(Some((Gathered::read(from)?, Rest::read(pieces)?)))
}

/// Whether a field without a from-clause is one that its relay writes above its true one.
///
/// ```text
/// inside = "(qmail" 1*DIGIT "invoked from network)" ";" date
///        / "by" 1*( label "." ) "google.com with SMTP id" word ...
/// ```
///
/// Every other is not: relays that hide their clients write such, and the next field is then the
/// client's own.
fn is_within_host(first: Option<Piece<'_>>, mut rest: Pieces<'_>) -> bool {
    let Some(first) = first else { return false };
    if first.is_comment {
        let words: Vec<_> =
            Pieces::of_comment(first.text).take(6).map(|piece| piece.text).collect();
        let [qmail, number, words @ ..] = words.as_slice() else { return false };
        return *qmail == b"qmail"
            && number.iter().all(u8::is_ascii_digit)
            && words == [b"invoked".as_slice(), b"from", b"network"]
            && rest.next().is_some_and(|piece| piece.text.starts_with(b";"));
    }
    let is_google = rest.next().is_some_and(|host| {
        !host.is_comment && host.text.to_ascii_lowercase().ends_with(b".google.com")
    });
    first.is_word("by")
        && is_google
        && ["with", "SMTP", "id"]
            .iter()
            .all(|word| rest.next().is_some_and(|piece| piece.is_word(word)))
}

fn text(octets: &[u8]) -> Option<String> {
    let text = str::from_utf8(octets).ok()?;
    let is_text =
        !text.is_empty() && text.len() <= MAX_NAME_LENGTH && !text.chars().any(char::is_control);
    is_text.then(|| text.to_owned())
}

fn without_dot(mut name: String) -> String {
    if name.ends_with('.') {
        name.pop();
    }
    name
}
