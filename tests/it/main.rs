//! All that needs neither root nor another program, and what holds documents and layers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod auth_results;
mod broken_config;
mod charts;
mod circles;
mod daemon;
mod dkim;
mod dns;
mod documents;
mod explain;
mod fuzzed;
mod hostile;
mod http;
mod layering;
mod memory;
mod monitoring;
mod nameservers;
mod odd_servers;
mod packages;
mod panics;
mod policy_table;
mod query;
mod read_back;
mod received_spf;
mod recorded;
mod relays;
mod reload;
mod scenarios;
mod security;
