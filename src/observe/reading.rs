//! Figures that others keep, as they are at the moment.

use std::sync::Arc;

use crate::{config::Config, dns};

/// Figures that others keep, at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The configuration in force.
    pub config: Option<Arc<Config>>,
    /// How often the configuration was loaded before.
    pub generation: u64,
    /// What the DNS client counts.
    pub dns: dns::Statistics,
    /// The name servers, and whether each answers.
    pub servers: Vec<(dns::Server, bool)>,
    /// Connections that are served.
    pub connections: usize,
    /// Connections that may be served at a time.
    pub connections_limit: usize,
    /// Connections that wait to be served.
    pub connections_waiting: usize,
    /// Log lines that were lost.
    pub log_lines_dropped: u64,
}
