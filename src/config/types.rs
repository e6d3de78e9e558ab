//! The types of values: each with its reader, and with its spelling in a configuration file.

pub(super) mod client_map;
pub(super) mod domain_map;
pub(super) mod domains;
pub(super) mod file;
pub(super) mod keyword;
pub(super) mod listed;
pub(super) mod names;
pub(super) mod networks;
pub(super) mod number;
pub(super) mod policy_overrides;
pub(super) mod recipients;
pub(super) mod reply_text;
pub(super) mod skip_senders;
pub(super) mod socket;
pub(super) mod spf_results;
pub(super) mod suggestion;
pub(super) mod value;
