//! What needs attention.

use super::{shown::Shown, text::clock, values::Status};

impl Status {
    /// Adds the warnings that follow from its other values.
    #[must_use]
    pub fn with_warnings(mut self) -> Self {
        let configuration = &self.configuration;
        let mut warnings = Vec::new();
        if configuration.dry_run {
            warnings
                .push("dry_run is set: nothing is refused, and no message is changed".to_owned());
        }
        if let Some(failed) = &configuration.failed {
            warnings.push(format!(
                "the reload of {} failed, the former configuration is in force: {}",
                clock(failed.time.as_str()),
                failed.error
            ));
        }
        let servers = &self.dns.servers;
        let is_silent = |answers: Option<bool>| answers == Some(false);
        if !servers.is_empty() && servers.iter().all(|server| is_silent(server.answers)) {
            warnings.push("no name server answers: results are temperror".to_owned());
        }
        if self.connections.served >= self.connections.limit {
            warnings
                .push("all connections are in use (max_connections): further ones wait".to_owned());
        }
        self.warnings = warnings.into_iter().map(Shown::from).collect();
        self
    }
}
