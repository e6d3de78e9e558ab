//! The parser of From header fields: one pass over the octets, no recursion, no copy.

use super::{
    lookalike,
    reading::{AuthorDomains, Malformed, Reading},
};
use crate::mail::{
    domain::Domain,
    octets::{count_work, split_before},
};

/// How deep comments may be nested.
const MAX_COMMENT_DEPTH: usize = 8;

/// Reads a From header field's value: the distinct domains of its addresses. There are none only
/// where it is a group without members.
///
/// ```text
/// from            = "From:" (mailbox-list / address-list) CRLF    ; RFC 6854 §2.1
/// address-list    = (address *("," address)) / obs-addr-list
/// address         = mailbox / group
/// mailbox         = name-addr / addr-spec
/// name-addr       = [display-name] angle-addr
/// angle-addr      = [CFWS] "<" addr-spec ">" [CFWS]
/// group           = display-name ":" [group-list] ";" [CFWS]
/// display-name    = phrase                                        ; RFC 5322 §3.4
/// phrase          = 1*word / obs-phrase
/// obs-phrase      = word *(word / "." / CFWS)                     ; RFC 5322 §4.1
/// obs-addr-list   = *([CFWS] ",") address *("," [address / CFWS]) ; RFC 5322 §4.4
/// ```
pub(super) fn domains(value: &[u8]) -> Result<Reading, Malformed> {
    if std::str::from_utf8(value).is_err()
        && value.windows(2).any(|pair| matches!(pair, [0x80..=0xff, b'\\']))
    {
        return Err(Malformed::Encoding);
    }
    let mut parser = Parser {
        rest: without_line_end(value),
        found: AuthorDomains::default(),
        misleading: false,
        groups: false,
    };
    parser.address_list()?;
    if parser.found.as_slice().is_empty() && !parser.groups {
        return Err(Malformed::NoAddress);
    }
    Ok(Reading { domains: parser.found, misleading: parser.misleading })
}

fn without_line_end(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}

struct Parser<'a> {
    rest: &'a [u8],
    found: AuthorDomains,
    /// Whether an address has characters that reorder or break text.
    misleading: bool,
    /// Whether there was a group.
    groups: bool,
}

/// A word of a display name, or a local part.
enum Word<'a> {
    /// Atoms and dots with nothing between them.
    Atoms(&'a [u8]),
    /// The text between the quotes of a quoted string.
    Quoted(&'a [u8]),
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Steps over an octet; at the end there is none.
    fn bump(&mut self) {
        if let [_, rest @ ..] = self.rest {
            count_work(1);
            self.rest = rest;
        }
    }

    fn accept(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        if found {
            self.bump();
        }
        found
    }

    fn expect(&mut self, octet: u8) -> Result<(), Malformed> {
        match self.accept(octet) {
            true => Ok(()),
            false if self.rest.is_empty() => Err(Malformed::Unterminated),
            false => Err(Malformed::Syntax),
        }
    }

    /// The octets that were read since the rest was this.
    fn since(&self, earlier: &'a [u8]) -> &'a [u8] {
        // Octets are taken of the rest and none are put back: it is no longer than it was.
        earlier.split_at(earlier.len() - self.rest.len()).0
    }

    fn address_list(&mut self) -> Result<(), Malformed> {
        let mut in_group = false;
        loop {
            self.skip_cfws()?;
            match self.peek() {
                None if in_group => return Err(Malformed::Unterminated),
                None => return Ok(()),
                Some(b',') => self.bump(),
                Some(b';') if in_group => {
                    self.bump();
                    in_group = false;
                    self.skip_cfws()?;
                    if !matches!(self.peek(), None | Some(b',')) {
                        return Err(Malformed::Syntax);
                    }
                }
                Some(_) => in_group = self.address(in_group)?,
            }
        }
    }

    /// Reads a mailbox, or the display name and colon of a group; returns whether a group is open
    /// then.
    fn address(&mut self, in_group: bool) -> Result<bool, Malformed> {
        let mut words = 0_usize;
        loop {
            match self.peek() {
                Some(b'<') => {
                    self.bump();
                    self.angle_address()?;
                    break;
                }
                Some(b':') if words > 0 && !in_group => {
                    self.bump();
                    self.groups = true;
                    return Ok(true);
                }
                None | Some(b',' | b';') => return Err(Malformed::NoAddress),
                _ => {}
            }
            let word = self.word()?;
            self.skip_cfws()?;
            words = words.saturating_add(1);
            if words == 1 && self.accept(b'@') {
                self.local_part(&word)?;
                self.domain()?;
                break;
            }
            match word {
                Word::Atoms([b'.', ..]) if words == 1 => return Err(Malformed::Syntax),
                // Readers that know quotes and no backslashes see an address outside of them.
                Word::Quoted(text) if text.contains(&b'@') && text.contains(&b'\\') => {
                    return Err(Malformed::AmbiguousQuotes);
                }
                _ => {}
            }
        }
        match self.peek() {
            None | Some(b',') => Ok(in_group),
            Some(b';') if in_group => Ok(in_group),
            Some(_) => Err(Malformed::Syntax),
        }
    }

    /// Reads what follows the `<`, the `>`, and CFWS.
    fn angle_address(&mut self) -> Result<(), Malformed> {
        self.skip_cfws()?;
        match self.peek() {
            None => return Err(Malformed::Unterminated),
            Some(b'@') => return Err(Malformed::Route),
            Some(b'>') => return Err(Malformed::NoAddress),
            Some(_) => {}
        }
        let local_part = self.word()?;
        self.local_part(&local_part)?;
        self.skip_cfws()?;
        self.expect(b'@')?;
        self.domain()?;
        self.expect(b'>')?;
        self.skip_cfws()
    }

    /// Checks a local part.
    fn local_part(&mut self, word: &Word<'_>) -> Result<(), Malformed> {
        let (text, ambiguous) = match word {
            Word::Atoms(text) if !is_dot_atom(text) => return Err(Malformed::LocalPart),
            Word::Atoms(text) => (text, is_encoded_word(text)),
            Word::Quoted(text) => (
                text,
                text.iter().any(|octet| matches!(octet, b'@' | b'<' | b'>'))
                    || is_encoded_word(text),
            ),
        };
        let Ok(text) = std::str::from_utf8(text) else { return Err(Malformed::AmbiguousLocalPart) };
        if ambiguous {
            return Err(Malformed::AmbiguousLocalPart);
        }
        self.misleading |= text.contains(lookalike::is_misleading);
        if text.chars().all(|c| lookalike::is_plain(c) || lookalike::is_misleading(c)) {
            Ok(())
        } else {
            Err(Malformed::Lookalike)
        }
    }

    /// Reads the domain after an `@`, and CFWS.
    ///
    /// ```text
    /// addr-spec = local-part "@" domain               ; RFC 5322 §3.4.1
    /// domain    = dot-atom / domain-literal / obs-domain
    /// dot-atom  = [CFWS] dot-atom-text [CFWS]         ; RFC 5322 §3.2.3
    /// ```
    fn domain(&mut self) -> Result<(), Malformed> {
        let start = self.rest;
        self.skip_cfws()?;
        if self.peek() == Some(b'[') {
            return Err(Malformed::AddressLiteral);
        }
        let skipped = self.since(start);
        if skipped.contains(&b'(') && skipped.contains(&b'.') {
            return Err(Malformed::AmbiguousComment);
        }
        let atoms = self.atoms();
        if !is_dot_atom(atoms) {
            return Err(Malformed::Domain);
        }
        let text = std::str::from_utf8(atoms).map_err(|_| Malformed::Domain)?;
        if !text.chars().all(lookalike::is_plain) {
            return Err(Malformed::Lookalike);
        }
        let domain = Domain::parse(text).map_err(|_| Malformed::Domain)?;
        self.found.add(&domain);
        self.skip_cfws()
    }

    fn word(&mut self) -> Result<Word<'a>, Malformed> {
        match self.peek() {
            Some(b'"') => {
                self.bump();
                self.quoted_string()
            }
            Some(octet) if is_atext(octet) || octet == b'.' => Ok(Word::Atoms(self.atoms())),
            Some(octet) if octet.is_ascii_control() => Err(Malformed::ControlCharacter),
            _ => Err(Malformed::Syntax),
        }
    }

    /// Reads the longest run of atoms and dots, which may be empty.
    fn atoms(&mut self) -> &'a [u8] {
        let (atoms, rest) = split_before(self.rest, |octet| !is_atext(octet) && octet != b'.');
        self.rest = rest;
        atoms
    }

    /// Reads what follows the opening quote.
    ///
    /// ```text
    /// quoted-string = [CFWS] DQUOTE *([FWS] qcontent) [FWS] DQUOTE [CFWS] ; RFC 5322 §3.2.4
    /// qcontent      = qtext / quoted-pair
    /// quoted-pair   = "\" (VCHAR / WSP)                                   ; RFC 5322 §3.2.1
    /// ```
    fn quoted_string(&mut self) -> Result<Word<'a>, Malformed> {
        let start = self.rest;
        loop {
            match self.peek().ok_or(Malformed::Unterminated)? {
                b'"' => {
                    let quoted = self.since(start);
                    self.bump();
                    return Ok(Word::Quoted(quoted));
                }
                b'\\' => self.quoted_pair()?,
                _ => self.text()?,
            }
        }
    }

    fn quoted_pair(&mut self) -> Result<(), Malformed> {
        self.bump();
        match self.peek().ok_or(Malformed::Unterminated)? {
            octet if octet.is_ascii_control() && octet != b'\t' => Err(Malformed::ControlCharacter),
            _ => {
                self.bump();
                Ok(())
            }
        }
    }

    /// Skips an octet of text or a line break that folds.
    fn text(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'\r' | b'\n') => self.line_break(),
            Some(octet) if octet.is_ascii_control() && octet != b'\t' => {
                Err(Malformed::ControlCharacter)
            }
            _ => {
                self.bump();
                Ok(())
            }
        }
    }

    /// Skips CRLF or LF, which must be followed by white space and then by something else on the
    /// same line.
    fn line_break(&mut self) -> Result<(), Malformed> {
        self.accept(b'\r');
        if !self.accept(b'\n') || !matches!(self.peek(), Some(b' ' | b'\t')) {
            return Err(Malformed::ControlCharacter);
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.bump();
        }
        match self.peek() {
            None | Some(b'\r' | b'\n') => Err(Malformed::ControlCharacter),
            Some(_) => Ok(()),
        }
    }

    /// Skips white space, folding and comments.
    ///
    /// ```text
    /// CFWS     = (1*([FWS] comment) [FWS]) / FWS            ; RFC 5322 §3.2.2
    /// comment  = "(" *([FWS] ccontent) [FWS] ")"
    /// ccontent = ctext / quoted-pair / comment
    /// ```
    fn skip_cfws(&mut self) -> Result<(), Malformed> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.bump(),
                Some(b'\r' | b'\n') => self.line_break()?,
                Some(b'(') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(Malformed::Unterminated)? {
                b'(' => {
                    depth = depth.saturating_add(1);
                    if depth > MAX_COMMENT_DEPTH {
                        return Err(Malformed::NestedComments);
                    }
                    self.bump();
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    self.bump();
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b'@' | b'<' | b'>' => return Err(Malformed::AmbiguousComment),
                b'\\' => {
                    if matches!(self.rest, [_, b'@' | b'<' | b'>', ..]) {
                        return Err(Malformed::AmbiguousComment);
                    }
                    self.quoted_pair()?;
                }
                _ => self.text()?,
            }
        }
    }
}

/// Whether there may be an encoded word in the text: `"=?" charset "?" encoding "?" encoded-text
/// "?="` (RFC 2047 §2).
fn is_encoded_word(text: &[u8]) -> bool {
    let mut pairs = text.windows(2);
    // The question mark of the beginning is not that of the end.
    pairs.any(|pair| pair == b"=?") && pairs.skip(1).any(|pair| pair == b"?=")
}

/// `dot-atom-text = 1*atext *("." 1*atext)` (RFC 5322 §3.2.3), of text that has nothing but atext
/// and dots.
fn is_dot_atom(text: &[u8]) -> bool {
    text.split(|octet| *octet == b'.').all(|atom| !atom.is_empty())
}

/// `atext` (RFC 5322 §3.2.3), and any octet of 8-bit text (RFC 6532 §3.2).
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}
