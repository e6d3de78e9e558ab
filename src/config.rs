//! The configuration: plain values, checked once, never changed.
//!
//! `params` is the one table of parameters, and `types` has the types of their values. `parse` is
//! pure: text in, assignments and all errors out. `source` and `load` read files, `check` compares values
//! with each other, and `warnings` finds values that are hardly meant.

mod actions;
mod assignment;
mod check;
mod compare;
mod error;
mod json;
mod load;
mod params;
mod parse;
mod place;
mod source;
mod types;
mod warnings;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub use self::load::load_text;
pub use self::{
    error::Errors,
    load::{
        Loaded, Overrides, Setting, load, load_defaults, load_metrics_socket, load_text_with,
        load_with, metrics_socket,
    },
    params::Config,
    place::{Place, Places},
    source::NamedFiles,
    types::{
        keyword::{
            Action, ErrorAction, HeaderName, LogDestination, LogFormat, LogLevel, MailingLists,
            OwnPolicy, SyslogFacility,
        },
        reply_text::{ReplySegment, ReplyText},
        socket::SocketSpec,
    },
};
#[cfg(any(test, feature = "testing"))]
pub use self::{
    error::{ConfigError, Warning},
    params::{DefaultValue, Parameter, parameters},
    types::{
        client_map::{ClientMap, Mapping},
        domains::Domains,
        file::Mode,
        listed::Listed,
        networks::Networks,
        recipients::Recipients,
        skip_senders::SkipSenders,
    },
};
