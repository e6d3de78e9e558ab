//! Why a Received field cannot be read.

/// Why a Received field does not say, in a form that is known, who handed over the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// It has more octets than [`MAX_FIELD_LENGTH`](super::MAX_FIELD_LENGTH).
    TooLong,
    /// A control character, or a line break that no white space follows.
    ControlCharacter,
    /// A backslash: read with and without quoted-pairs, its comments differ.
    Backslash,
    /// Parentheses that do not match, or that nest too deeply.
    Parentheses,
    /// It does not begin with a from-clause: the client is hidden, or there was none.
    NoFrom,
    /// It has no by-clause.
    NoBy,
    /// It has two by-clauses: one of them may be words of the client.
    TwoBy,
    /// Something other than comments and addresses between `from HELO` and `by`.
    Words,
    /// No address of the client.
    NoAddress,
    /// More than one address in the from-clause.
    TwoAddresses,
    /// An address, or a mark of authentication, in a form that no relay is known to write.
    UnknownForm,
    /// The address of a link: no host of the Internet, and none of the site's relays.
    LinkLocal,
}

impl Unreadable {
    /// The reason in one word, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::ControlCharacter => "control-character",
            Self::Backslash => "backslash",
            Self::Parentheses => "parentheses",
            Self::NoFrom => "no-from",
            Self::NoBy => "no-by",
            Self::TwoBy => "two-by",
            Self::Words => "words",
            Self::NoAddress => "no-address",
            Self::TwoAddresses => "two-addresses",
            Self::UnknownForm => "unknown-form",
            Self::LinkLocal => "link-local",
        }
    }
}
