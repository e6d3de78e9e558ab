//! Records as operators see them: log lines and metrics.

mod conclusion;
mod exposition;
mod family;
mod line;
mod metrics;
mod pairs;
mod process;
mod reading;
mod refusals;
pub mod status;
mod today;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use conclusion::Conclusion;
#[cfg(any(test, feature = "testing"))]
pub use conclusion::{MessageVerdict, Reason, Reasons};
#[cfg(any(test, feature = "testing"))]
pub use metrics::Method;
pub use metrics::Metrics;
pub use reading::Reading;
pub use today::Today;

use refusals::Refusals;

use crate::{
    internal_error::contained,
    log::{Log, RateLimit},
    session::{Record, Records},
};

/// How often clients with useless addresses are logged.
const CLIENT_INTERVAL: Duration = Duration::from_secs(3600);

/// Logs and counts what happens to messages.
#[derive(Clone, Debug)]
pub struct Observer {
    log: Log,
    metrics: Metrics,
    today: Arc<Today>,
    refusals: Refusals,
    private_client: Arc<RateLimit>,
    no_address: Arc<RateLimit>,
}

impl Observer {
    /// An observer that writes to a log.
    pub fn new(log: Log) -> Self {
        let limit = || Arc::new(RateLimit::new(CLIENT_INTERVAL));
        let metrics = Metrics::new();
        Self {
            log,
            today: Arc::new(Today::new(metrics.clone())),
            metrics,
            refusals: Refusals::default(),
            private_client: limit(),
            no_address: limit(),
        }
    }

    /// The counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All metrics in the text format of Prometheus, version 0.0.4: the content of `/metrics`. It
    /// reads files of /proc.
    ///
    /// # Errors
    ///
    /// A metric cannot be written, which is a fault of the program; why, in words.
    pub fn metrics_text(&self) -> Result<String, String> {
        self.metrics.text()
    }

    /// The counts of today.
    pub fn today(&self) -> &Today {
        &self.today
    }

    /// Keeps so many refusals from now on, for the status.
    pub fn keep_refusals(&self, limit: usize) {
        self.refusals.keep(limit);
    }

    /// How many refusals are kept, and the last ones, from the newest to the oldest.
    pub fn refusals(&self) -> (usize, Vec<status::Refusal>) {
        (self.refusals.limit(), self.refusals.list())
    }

    /// Logs and counts the records of an event. A panic costs the line of its record alone: what the
    /// record says was decided before, and the MTA waits for it.
    pub fn observe_all(&self, records: &Records) {
        for record in records.iter() {
            if contained(|| self.observe(record)).is_none() {
                self.problem("internal error in the log of a message");
            }
        }
    }

    /// Logs and counts a record.
    pub fn observe(&self, record: &Record) {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked(
            "record",
            record.queue_id.as_deref().unwrap_or_default().as_bytes(),
        );
        let conclusion = Conclusion::of(record);
        self.metrics.count(record, &conclusion);
        self.refusals.observe(record, &conclusion);
        line::log_record(&self.log, record);
    }

    /// Logs a client whose address only this site knows: it may be that of a proxy, and SPF would
    /// then check the wrong one.
    pub fn private_client(&self, address: IpAddr) {
        if is_private(address) && self.private_client.allow() {
            self.log.warn(|| {
                format!(
                    "client {address} has a private address and is not in trusted_networks: if a proxy or NAT stands before the MTA, \
                     SPF sees the wrong address"
                )
            });
        }
    }

    /// Logs a client for which the MTA gave something that is not an address.
    pub fn client_without_address(&self, given: &str) {
        const MAX_SHOWN: usize = 100;
        if self.no_address.allow() {
            let shown: String = given.chars().take(MAX_SHOWN).collect();
            self.log.warn(|| {
                format!("the MTA gave '{shown}' for the address of a client, who is not verified")
            });
        }
    }

    /// Logs a problem of the program or of the MTA, not of mail.
    pub fn problem(&self, problem: &str) {
        self.log.error(|| problem.to_owned());
    }
}

/// Addresses that have a meaning only within a site: RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC
/// 4291 §2.5.6.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || address.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
