//! Records as operators see them: log lines and metrics.

mod conclusion;
mod exposition;
mod family;
mod line;
mod metrics;
mod process;
mod reading;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use conclusion::Conclusion;
#[cfg(any(test, feature = "testing"))]
pub use conclusion::{MessageVerdict, Reason, Reasons};
pub use metrics::Metrics;
pub use reading::Reading;

use crate::{
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
    private_client: Arc<RateLimit>,
    no_address: Arc<RateLimit>,
}

impl Observer {
    /// An observer that writes to a log.
    pub fn new(log: Log) -> Self {
        let limit = || Arc::new(RateLimit::new(CLIENT_INTERVAL));
        Self { log, metrics: Metrics::new(), private_client: limit(), no_address: limit() }
    }

    /// The counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All metrics in the text format of Prometheus, version 0.0.4: the content of `/metrics`. It
    /// reads files of /proc.
    #[allow(dead_code, reason = "nothing serves it yet")]
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// Logs and counts the records of an event.
    pub fn observe_all(&self, records: &Records) {
        records.iter().for_each(|record| self.observe(record));
    }

    /// Logs and counts a record.
    pub fn observe(&self, record: &Record) {
        self.metrics.count(record, &Conclusion::of(record));
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
mod tests {
    use super::*;
    use crate::config::LogLevel;

    #[test]
    fn all_metrics_are_there_from_the_start() {
        let observer = Observer::new(Log::keep(LogLevel::Warn));
        let text = observer.metrics_text();
        for sample in [
            "spf_milter_messages_total{verdict=\"quarantine\"} 0",
            "spf_milter_results_total{method=\"dkim\",result=\"policy\"} 0",
            "spf_milter_replies_total{code=\"451\",reason=\"internal\"} 0",
            "spf_milter_dns_lookups_total{type=\"existence\",outcome=\"nxdomain\"} 0",
            "spf_milter_message_seconds_bucket{le=\"0.0005\"} 0",
            "spf_milter_stage_seconds_bucket{stage=\"iprev\",le=\"30\"} 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
        }
    }

    #[test]
    fn private_clients_are_logged_once_in_a_while() {
        let log = Log::keep(LogLevel::Warn);
        let observer = Observer::new(log.clone());
        for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"]
        {
            observer.private_client(public.parse().unwrap());
        }
        assert!(log.take_kept().is_empty());
        for private in ["172.18.0.1", "10.0.0.1"] {
            observer.private_client(private.parse().unwrap());
        }
        let [line] = log.take_kept().try_into().unwrap();
        assert!(line.starts_with("client 172.18.0.1 has a private address"), "{line}");
        for private in
            ["192.168.1.1", "169.254.1.1", "100.64.0.1", "fd00::1", "fe80::1", "::ffff:10.1.1.1"]
        {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
    }
}
