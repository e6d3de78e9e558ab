//! The peers of a session: the client, and the MTA.

use std::net::IpAddr;

use crate::mail::results::words;

/// The client of a session, as the MTA describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Its address; `None` where it has none, as over a UNIX socket.
    pub address: Option<IpAddr>,
    /// Its port; 0 where the MTA does not know it.
    pub port: u16,
    /// Its name, as the MTA reports it.
    pub host: String,
}

/// The permissions that the MTA grants, and the events to which it takes an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Granted {
    /// Header fields may be added.
    pub add_fields: bool,
    /// Header fields may be deleted.
    pub delete_fields: bool,
    /// Messages may be kept back.
    pub quarantine: bool,
    /// It takes an answer when a client connects.
    pub connect_answer: bool,
    /// It takes an answer to HELO.
    pub helo_answer: bool,
    /// It takes an answer to MAIL FROM.
    pub mail_answer: bool,
}

impl Granted {
    /// Everything.
    pub const ALL: Self = Self {
        add_fields: true,
        delete_fields: true,
        quarantine: true,
        connect_answer: true,
        helo_answer: true,
        mail_answer: true,
    };

    /// Whether the MTA grants something.
    pub(super) fn has(&self, permission: Permission) -> bool {
        match permission {
            Permission::AddFields => self.add_fields,
            Permission::DeleteFields => self.delete_fields,
            Permission::Quarantine => self.quarantine,
        }
    }
}

words! {
    /// Something that an MTA may let milters do.
    Permission {
        /// Add header fields.
        AddFields = "add header fields",
        /// Delete header fields.
        DeleteFields = "delete header fields",
        /// Keep messages back.
        Quarantine = "keep messages back",
    }
}
