//! The by-clause of a Received field and all behind it: the protocol, and marks of authentication.

use super::{
    from_clause::{has_half, is_mark},
    pieces::{Piece, Pieces},
    reason::Unreadable,
};

/// How the relay got the message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Protocol {
    /// It does not say.
    #[default]
    Unsaid,
    /// SMTP, QMTP or QMQP.
    Smtp,
    /// LMTP, which is spoken within a site only (RFC 2033).
    Lmtp,
    /// SMTP with a client that was authenticated.
    Authenticated,
    /// Anything else.
    Other,
}

/// The facts behind `by`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rest {
    pub(super) protocol: Protocol,
    /// A comment says that it is a field of Exim's.
    pub(super) is_exim: bool,
}

impl Rest {
    /// Reads the pieces behind `by`.
    ///
    /// ```text
    /// rest  = [ host ] *( word / comment ) [ "with" protocol ] *( word / comment )   ; a date within it
    /// protocol = *( word / comment )       ; up to "id", "for", "via", "with" or ";"
    /// With  = CFWS "WITH" FWS Protocol     ; RFC 5321 §4.4
    /// Protocol = "ESMTP" / "SMTP" / Attdl-Protocol   ; RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3
    /// ```
    ///
    /// The sender's and the recipients' addresses may stand there, and the sender chooses the first.
    /// So nothing is read behind a word or a comment with a quotation mark or half of `<>` in it. A
    /// second `by` is an error wherever it stands: the words up to it may be what the client said in
    /// HELO. So is a comment that ends within an address: it may have begun in HELO, with the true
    /// `by` inside.
    ///
    /// # Errors
    ///
    /// A second `by`, a comment with half of an address.
    pub(super) fn read(pieces: Pieces<'_>) -> Result<Self, Unreadable> {
        let mut rest = Self::default();
        let (mut words, mut is_over, mut has_id) = (None, false, false);
        for piece in pieces {
            if piece.is_word("by") {
                return Err(Unreadable::TwoBy);
            }
            if piece.is_comment && has_half(piece.text) {
                return Err(Unreadable::UnknownForm);
            }
            is_over |= piece.is_word("for") || piece.text.contains(&b'"') || has_half(piece.text);
            if is_over {
                continue;
            }
            if piece.is_comment {
                rest.is_exim |= !has_id
                    && Pieces::of_comment(piece.text)
                        .next()
                        .is_some_and(|word| word.is_word("Exim"));
                if is_mark(piece.text) {
                    rest.protocol = Protocol::Authenticated;
                }
                continue;
            }
            has_id |= piece.is_word("id");
            if piece.is_word("with") && words.is_none() {
                words = Some(With::default());
            } else if let Some(with) = &mut words {
                with.add(piece);
            }
            is_over |= piece.text.contains(&b';');
        }
        if let Some(with) = words
            && rest.protocol != Protocol::Authenticated
        {
            rest.protocol = with.protocol();
        }
        Ok(rest)
    }
}

/// The words of a with-clause.
#[derive(Debug, Default)]
struct With {
    is_over: bool,
    is_smtp: bool,
    is_lmtp: bool,
    is_authenticated: bool,
    is_local: bool,
}

impl With {
    /// Takes one more word.
    ///
    /// ```text
    /// word     = 1*( keyword / any other octet )
    /// keyword  = [ "E" / "UTF8" / ... ] ( "SMTP" / "LMTP" / "QMTP" / "QMQP" ) [ "S" ] [ "A" ]
    /// ```
    ///
    /// RFC 3848 has ESMTPA, ESMTPSA, LMTPA and LMTPSA, RFC 6531 UTF8SMTPA and UTF8SMTPSA and so
    /// on: `A` for a client that was authenticated. That of LMTP is a host of the site. Exim 3 has
    /// `asmtp`.
    fn add(&mut self, piece: Piece<'_>) {
        // Addresses of mail may follow: their parts are no keywords.
        self.is_over |= ["id", "for", "via", "with"].iter().any(|word| piece.is_word(word))
            || piece.text.iter().any(|octet| b"<>@=".contains(octet));
        if self.is_over {
            return;
        }
        for keyword in piece.text.split(|octet| !octet.is_ascii_alphanumeric()) {
            let keyword = keyword.to_ascii_uppercase();
            let has = |name: &[u8; 4]| keyword.windows(4).any(|part| part == name);
            self.is_smtp |= has(b"SMTP") || has(b"QMTP") || has(b"QMQP");
            self.is_lmtp |= has(b"LMTP");
            self.is_authenticated |=
                keyword.ends_with(b"SMTPA") || keyword.ends_with(b"SMTPSA") || keyword == b"ASMTP";
            self.is_local |= keyword == b"LOCAL";
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self { is_local: true, .. } => Protocol::Other,
            Self { is_authenticated: true, .. } => Protocol::Authenticated,
            Self { is_smtp: true, .. } => Protocol::Smtp,
            Self { is_lmtp: true, .. } => Protocol::Lmtp,
            _ => Protocol::Other,
        }
    }
}
