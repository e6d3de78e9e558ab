//! The Received fields that relays write (RFC 5321 §4.4): which host handed over a message to the
//! first of them.
//!
//! Each host writes its field above what it was handed. The connecting host is a relay of the site,
//! so the top field is its own and names its client truly; if that is a relay too, the next field is
//! its record, and so on. The first address outside is written by a relay, and everything below it
//! is the client's, and never read. So a forged field cannot mislead, if
//!
//! - the walk ends at the first field that cannot be read, instead of going on below it,
//! - it ends as well where a relay does not say who its client is,
//! - no word of the client's that a relay copies into its own field is taken for the address: forms
//!   are read, not words,
//! - addresses decide, not names.
//!
//! A relay that writes no field, writes it elsewhere than on top, or writes HELO with white space
//! and parentheses in it as it came, cannot be noticed: it must not be trusted.
//!
//! A field is read when it comes and need not be kept.

mod address;
mod field;
mod from_clause;
mod pieces;
mod reason;
mod rest;

use std::net::IpAddr;

use self::field::Hop;
#[cfg(any(test, feature = "testing"))]
pub use self::pieces::MAX_FIELD_LENGTH;
pub use self::{
    field::{Client, Handover},
    reason::Unreadable,
};

/// The most Received fields that are read of a message. RFC 5321 §6.3 has 100 fields as the sign of
/// a loop; within a site there are few.
pub const MAX_FIELDS: usize = 50;

/// Which client the Received fields of a message name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The connecting host is no relay: it is the client itself. Nothing was read.
    Direct,
    /// The first host outside.
    Client(Client),
    /// The client was authenticated at a relay.
    Authenticated,
    /// A relay got the message by another protocol than SMTP: from a program or a web form of its
    /// own, or from a mailbox elsewhere. It need not be the site's own mail.
    OtherProtocol,
    /// A field cannot be read.
    Unreadable(Unreadable),
    /// There are more fields than [`MAX_FIELDS`], of the site's hosts all of them.
    TooManyFields,
    /// There are no more fields, and all hosts are inside: the message began on one of them, or a
    /// relay writes none.
    ChainEnds,
}

impl Outcome {
    /// The outcome in one word, for the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Client(_) => "client",
            Self::Authenticated => "authenticated",
            Self::OtherProtocol => "other-protocol",
            Self::Unreadable(reason) => reason.as_str(),
            Self::TooManyFields => "too-many-fields",
            Self::ChainEnds => "chain-ends",
        }
    }
}

/// Reads the Received fields of a message, one after the other.
#[derive(Clone, Debug)]
pub struct Walk {
    fields: usize,
    outcome: Option<Outcome>,
}

impl Walk {
    /// Begins at the connecting host. Where that is no relay, nothing is read.
    pub fn new(is_relay: bool) -> Self {
        Self { fields: 0, outcome: (!is_relay).then_some(Outcome::Direct) }
    }

    /// Whether the outcome is certain: no further field changes it.
    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Reads the value of the next Received field, from the top, as the milter protocol brings it.
    ///
    /// The condition says which hosts are inside: the site's relays and its trusted networks. It is
    /// given IPv4 addresses as such. Loopback is always inside.
    pub fn read(&mut self, value: &[u8], is_inside: impl Fn(IpAddr) -> bool) {
        if self.is_over() {
            return;
        }
        if self.fields == MAX_FIELDS {
            self.outcome = Some(Outcome::TooManyFields);
            return;
        }
        self.fields += 1;
        self.outcome = match Hop::read(value) {
            Ok(Hop::Inside) => None,
            Ok(Hop::Client(client)) => {
                let address = client.address;
                if address.is_loopback() || is_inside(address) {
                    None
                } else if is_link_local(address) {
                    Some(Outcome::Unreadable(Unreadable::LinkLocal))
                } else {
                    Some(Outcome::Client(client))
                }
            }
            Ok(Hop::Authenticated) => Some(Outcome::Authenticated),
            Ok(Hop::OtherProtocol) => Some(Outcome::OtherProtocol),
            Err(reason) => Some(Outcome::Unreadable(reason)),
        };
    }

    /// How many fields were read; the last of them decided, if the chain did not end.
    #[cfg(any(test, feature = "testing"))]
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// The outcome, when the header has ended.
    pub fn finish(self) -> Outcome {
        self.outcome.unwrap_or(Outcome::ChainEnds)
    }
}

/// Whether the address is one of a link (RFC 4291 §2.5.6, RFC 3927).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Finds the client of a message: all of [`Walk`] at once.
///
/// The fields are the values of the Received fields from the top. A host that is both a relay and
/// trusted is a relay.
#[cfg(any(test, feature = "testing"))]
pub fn find_client<'a>(
    connecting: IpAddr,
    fields: impl IntoIterator<Item = &'a [u8]>,
    is_relay: impl Fn(IpAddr) -> bool,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Outcome {
    let mut walk = Walk::new(is_relay(connecting.to_canonical()));
    for value in fields {
        walk.read(value, |address| is_relay(address) || is_trusted(address));
    }
    walk.finish()
}

#[cfg(test)]
mod tests;
