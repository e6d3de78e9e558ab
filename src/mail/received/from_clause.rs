//! The from-clause of a Received field: the client's address, its HELO name and its reverse name.
//!
//! Each word in it comes from the relay or from the client, and only the form says from whom. The
//! relay writes the address of its connection; the client says the HELO name, answers for ident, and
//! owns the zone of its reverse name. So there must be exactly one address, in one of the forms that
//! relays write, and none in a word that could be either's.

use std::net::IpAddr;

use super::{
    address::{is_port, mentions_address, read_bare, read_literal, split_ident},
    pieces::{Piece, Pieces},
    reason::Unreadable,
};

/// What a from-clause says of the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FromClause<'a> {
    /// The address of its connection.
    pub(super) address: IpAddr,
    /// What it said in HELO, EHLO or LHLO.
    pub(super) helo: Option<&'a [u8]>,
    /// The name that its address has in DNS.
    pub(super) name: Option<&'a [u8]>,
}

/// The parts of a from-clause, before they are put together.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    /// The word behind `from`.
    first: Option<&'a [u8]>,
    /// The address in a comment.
    address: Option<IpAddr>,
    /// Another comment stands before that with the address.
    has_comment_before: bool,
    /// The address in brackets behind the first word.
    bracket: Option<IpAddr>,
    name: Option<&'a [u8]>,
    /// HELO where it has a place of its own; the inner `None` where that is empty.
    helo: Option<Option<&'a [u8]>>,
    /// A comment has HELO or ident, and no address.
    has_helo_comment: bool,
    /// `(HELO [192.0.2.1])` without an address behind it: the literal may be the address, behind a
    /// reverse name `HELO`.
    has_open_literal: bool,
    /// The relay says that the name is none of the client's.
    is_unverified: bool,
    /// A comment of no known form has a bracket, and maybe an address that was made illegible.
    has_odd_bracket: bool,
    /// The client's words may have ended a comment.
    is_doubtful: bool,
    /// Behind such words, a comment says that the client was authenticated.
    has_doubtful_mark: bool,
    /// A comment of the relay's says that the client was authenticated.
    pub(super) is_authenticated: bool,
}

impl<'a> Gathered<'a> {
    /// Reads the pieces behind `from`, up to `by` or the end.
    ///
    /// ```text
    /// From-domain     = "FROM" FWS Extended-Domain                     ; RFC 5321 §4.4
    /// Extended-Domain = Domain / ( Domain FWS "(" TCP-info ")" )
    ///                 / ( address-literal FWS "(" TCP-info ")" )
    /// TCP-info        = address-literal / ( Domain FWS address-literal )
    /// ```
    ///
    /// is the standard, which few relays keep to. They write:
    ///
    /// ```text
    /// from    = "from" [ FWS first ] *( FWS ( comment / "[" ip "]" ) ) FWS "by"
    /// first   = 1*( any octet but white space and ( ) < > " ; \ )
    /// comment = address / helo / mark / any other without an address
    /// ```
    ///
    /// # Errors
    ///
    /// Something else stands there, or more than one address.
    pub(super) fn read(pieces: Pieces<'a>) -> Result<Self, Unreadable> {
        let mut gathered = Self::default();
        for (position, piece) in pieces.enumerate() {
            if !piece.is_apart {
                // The first of the two may end with words of the client's, be it `by`.
                return Err(Unreadable::Words);
            } else if piece.is_word("by") {
                break;
            } else if piece.is_comment {
                gathered.add_comment(piece.text)?;
            } else if position == 0 && !piece.text.iter().any(|octet| b"<>\";)".contains(octet)) {
                gathered.first = Some(piece.text);
            } else {
                let address = read_literal(piece.text).ok_or(Unreadable::Words)?;
                set_address(&mut gathered.bracket, address)?;
            }
        }
        Ok(gathered)
    }

    /// The client. Beside an Exim comment more forms are known.
    ///
    /// # Errors
    ///
    /// There is no address in a form that is known, or there are several.
    pub(super) fn client(self, is_exim: bool) -> Result<FromClause<'a>, Unreadable> {
        if self.has_open_literal || self.has_doubtful_mark {
            return Err(Unreadable::UnknownForm);
        }
        // A literal is HELO if the address follows it at once, and HELO has no place of its own; in
        // Exim's `from [ip] (helo=x y) ([false])` it is the address.
        let literal = self.first.and_then(read_literal);
        let is_helo = !self.has_comment_before && !self.has_helo_comment && self.helo.is_none();
        let counted = literal.filter(|_| !is_helo);
        if let Some(address) = self.address {
            if [self.bracket, counted].into_iter().flatten().any(|other| other != address) {
                return Err(Unreadable::TwoAddresses);
            }
            // Where HELO has a place of its own, the first word is the name.
            let first_is_name = self.helo.is_some();
            let name = self.name.or(self.first.filter(|_| first_is_name));
            let is_known =
                |name: &&[u8]| !self.is_unverified && !is_no_name(name) && !mentions_address(name);
            let name = name.filter(is_known);
            return Ok(FromClause { address, helo: self.helo.unwrap_or(self.first), name });
        }
        match (literal, self.bracket) {
            (None, None) => Err(Unreadable::NoAddress),
            _ if self.has_odd_bracket => Err(Unreadable::UnknownForm),
            // `from name [ip]`, of Exim 3.
            (None, Some(address)) if is_exim => {
                Ok(FromClause { address, helo: self.helo.unwrap_or(self.first), name: None })
            }
            // `from [ip] (helo=name)`; in `from [ip]` others write HELO.
            (Some(address), None) if is_exim || self.has_helo_comment => {
                Ok(FromClause { address, helo: self.helo.flatten(), name: None })
            }
            _ => Err(Unreadable::UnknownForm),
        }
    }

    fn add_comment(&mut self, text: &'a [u8]) -> Result<(), Unreadable> {
        if has_half(text) {
            // Of a text in quotation marks or angle brackets a part is outside: a parenthesis in it
            // began or ended the comment.
            return Err(Unreadable::UnknownForm);
        }
        if self.add_address(text)? {
            return Ok(());
        }
        let is_next = !self.has_comment_before;
        self.has_comment_before |= self.address.is_none();
        if let Some(words) = HeloComment::read(text) {
            self.has_helo_comment = true;
            self.is_doubtful = true;
            if words.is_literal && self.address.is_some() {
                return Err(Unreadable::UnknownForm);
            }
            self.has_open_literal |= words.is_literal;
            return words.helo.map_or(Ok(()), |helo| self.set_helo(helo));
        }
        if mentions_address(text) {
            return Err(Unreadable::UnknownForm);
        }
        if is_mark(text) {
            let has_literal = self.first.and_then(read_literal).is_some();
            let is_behind_address = if has_literal { is_next } else { self.address.is_some() };
            if is_behind_address && !self.is_doubtful {
                self.is_authenticated = true;
            } else {
                self.has_doubtful_mark = true;
            }
        }
        self.has_odd_bracket |= text.contains(&b'[');
        self.is_doubtful |= text.contains(&b'"');
        Ok(())
    }

    /// Reads a comment with the client's address; says whether it is one.
    ///
    /// ```text
    /// address   = [ name FWS / ident "@" [ name FWS ] ] literal *( FWS extension )
    ///           / [ ident "@" ] ip [ ":" port ]
    /// literal   = "[" ip "]" [ ":" port ]
    /// extension = "helo=" word / "ident=" word
    ///           / [ DQUOTE ] ( "HELO" / "EHLO" / "LHLO" ) FWS word [ DQUOTE ]
    ///           / word / comment / literal         ; no other address
    /// ```
    fn add_address(&mut self, text: &'a [u8]) -> Result<bool, Unreadable> {
        let mut pieces = Pieces::of_comment(text);
        let Some(first) = pieces.next().filter(|piece| !piece.is_comment) else { return Ok(false) };
        let (ident, word) = split_ident(first.text);
        // `helo=x@[ip]`: the client's ident, or its HELO?
        if ident.is_some_and(|ident| ident.iter().any(|octet| b"[]<>\"=".contains(octet))) {
            return Ok(false);
        }
        if let Some(address) = read_literal(word) {
            set_address(&mut self.address, address)?;
        } else if let Some(address) = read_bare(word)
            && pieces.clone().next().is_none()
        {
            set_address(&mut self.address, address)?;
        } else {
            let literal = pieces.next().filter(|piece| !piece.is_comment && piece.is_apart);
            let Some(address) = literal.and_then(|piece| read_literal(piece.text)) else {
                return Ok(false);
            };
            if !is_name(word) {
                return Ok(false);
            }
            set_address(&mut self.address, address)?;
            // The client may have chosen a name made of digits: then that is a second address.
            if mentions_address(word) && read_bare(word) != Some(address) {
                return Err(Unreadable::TwoAddresses);
            }
            self.name = Some(word);
        }
        if ident.is_some_and(mentions_address) {
            return Err(Unreadable::TwoAddresses);
        }
        self.has_open_literal = false;
        self.add_extensions(pieces)?;
        Ok(true)
    }

    fn add_extensions(&mut self, mut pieces: Pieces<'a>) -> Result<(), Unreadable> {
        while let Some(piece) = pieces.next() {
            let word = without_quote(piece.text);
            if !piece.is_apart {
                return Err(Unreadable::UnknownForm);
            } else if piece.is_comment {
                if mentions_address(word) {
                    return Err(Unreadable::TwoAddresses);
                }
                self.is_unverified |= word.eq_ignore_ascii_case(b"may be forged");
            } else if is_helo_word(word) {
                // No literal: the word before it may be the end of a reverse name.
                let helo = pieces.next().filter(|piece| !piece.is_comment).map(|piece| piece.text);
                let helo = helo.map(without_quote).filter(|helo| !mentions_address(helo));
                self.set_helo(Some(helo.filter(is_clients).ok_or(Unreadable::UnknownForm)?))?;
                self.is_doubtful = true;
            } else if let Some(helo) = without_key(word, b"helo=") {
                let helo = Some(helo).filter(is_clients).ok_or(Unreadable::UnknownForm)?;
                self.set_helo(Some(helo))?;
                self.is_doubtful = true;
            } else if let Some(ident) = without_key(word, b"ident=") {
                Some(ident).filter(is_clients).ok_or(Unreadable::UnknownForm)?;
                self.is_doubtful = true;
            } else if mentions_address(word) && read_literal(word) != self.address {
                return Err(Unreadable::TwoAddresses);
            } else {
                self.is_unverified |= [&b"unverified"[..], b"failed"]
                    .iter()
                    .any(|mark| word.eq_ignore_ascii_case(mark));
            }
        }
        Ok(())
    }

    fn set_helo(&mut self, helo: Option<&'a [u8]>) -> Result<(), Unreadable> {
        match self.helo.replace(helo) {
            Some(_) => Err(Unreadable::UnknownForm),
            None => Ok(()),
        }
    }
}

/// A comment that says HELO or ident, and no address.
struct HeloComment<'a> {
    /// HELO, if it is said; the inner `None` where it is empty.
    helo: Option<Option<&'a [u8]>>,
    /// HELO follows a keyword and a space, and is an address.
    is_literal: bool,
}

impl<'a> HeloComment<'a> {
    /// Reads the text of a comment.
    ///
    /// ```text
    /// helo = ( "HELO" / "EHLO" / "LHLO" ) [ FWS word ]
    ///      / 1*( "port=" port / "helo=" word / "ident=" word )   ; separated by FWS
    /// ```
    ///
    /// A word with an `@` is none of these: Sendmail writes `(ident@[192.0.2.1])`, and the client
    /// says the ident, be it `helo=x`.
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut words = Pieces::of_comment(text);
        let first = words.next()?;
        if !text.iter().all(|octet| !b"()@\"".contains(octet)) {
            return None;
        }
        if is_helo_word(first.text) {
            let helo = words.next().map(|piece| piece.text);
            let is_literal =
                helo.is_some_and(|helo| mentions_address(helo) || helo.contains(&b'['));
            return words.next().is_none().then_some(Self { helo: Some(helo), is_literal });
        }
        let (mut helo, mut is_helo) = (None, false);
        for Piece { text, .. } in std::iter::once(first).chain(words) {
            if let Some(word) = without_key(text, b"helo=") {
                if helo.replace(Some(word).filter(|word| !word.is_empty())).is_some() {
                    return None;
                }
                is_helo = true;
            } else if without_key(text, b"ident=").is_some() {
                is_helo = true;
            } else if !without_key(text, b"port=").is_some_and(is_port) {
                return None;
            }
        }
        is_helo.then_some(Self { helo, is_literal: false })
    }
}

/// Whether a comment says that the client was authenticated.
///
/// ```text
/// mark = "authenticated" *( FWS word )       ; Sendmail, Haraka, Kerio; "Authenticated sender:" of Postfix
///      / "AUTH:" *( FWS word )               ; Courier
///      / "account" FWS word *( FWS word )    ; CommuniGate Pro
///      / "user=" word FWS "mech=" word *( FWS word )   ; FortiMail
/// ```
pub(super) fn is_mark(text: &[u8]) -> bool {
    let mut words = Pieces::of_comment(text);
    let Some(first) = words.next().filter(|piece| !piece.is_comment) else { return false };
    first.is_word("authenticated")
        || first.is_word("AUTH:")
        || first.is_word("account") && words.clone().next().is_some()
        || without_key(first.text, b"user=").is_some()
            && words.any(|piece| without_key(piece.text, b"mech=").is_some())
}

fn set_address(place: &mut Option<IpAddr>, address: IpAddr) -> Result<(), Unreadable> {
    match place.replace(address) {
        Some(other) if other != address => Err(Unreadable::TwoAddresses),
        _ => Ok(()),
    }
}

/// Whether quotation marks or angle brackets have a parenthesis within, or lack their other half.
pub(super) fn has_half(text: &[u8]) -> bool {
    let (mut is_quoted, mut open) = (false, 0_usize);
    for octet in text {
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'<' => open += 1,
            b'>' if open == 0 => return true,
            b'>' => open -= 1,
            b'(' | b')' if is_quoted || open > 0 => return true,
            _ => {}
        }
    }
    is_quoted || open > 0
}

fn without_key<'a>(word: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = word.split_at_checked(key.len())?;
    start.eq_ignore_ascii_case(key).then_some(rest)
}

fn without_quote(word: &[u8]) -> &[u8] {
    let word = word.strip_prefix(b"\"").unwrap_or(word);
    word.strip_suffix(b"\"").unwrap_or(word)
}

fn is_helo_word(word: &[u8]) -> bool {
    [b"HELO", b"EHLO", b"LHLO"].iter().any(|helo| word.eq_ignore_ascii_case(*helo))
}

/// Whether nothing of the relay's can be in a word of the client's.
fn is_clients(word: &&[u8]) -> bool {
    !word.contains(&b'@')
}

/// Whether a word before the address can be a name, or say that there is none; `helo= [ip]` may be
/// all of the client's.
fn is_name(word: &[u8]) -> bool {
    let is_odd = |octet: &u8| b"[]<>\"@=".contains(octet);
    word == b"<unknown>" || !is_helo_word(word) && !word.iter().any(is_odd)
}

/// Whether it says that the client has no name.
fn is_no_name(word: &[u8]) -> bool {
    ["", "unknown", "<unknown>", "NXDOMAIN", "softdnserr", "unverified"]
        .iter()
        .any(|none| word.eq_ignore_ascii_case(none.as_bytes()))
}
