//! Parts of mail: domains, reverse-paths, HELO names, header fields and SMTP replies.
//!
//! Everything here is pure: text in, values out, and back. No I/O, no policy.

pub mod auth_results;
pub mod author;
pub mod domain;
pub mod envelope;
pub mod harmless;
pub mod header_field;
pub mod ip_address;
pub mod lexer;
pub mod list_id;
pub mod octets;
pub mod received;
pub mod received_spf;
pub mod reply;
pub mod results;
pub mod tokens;
