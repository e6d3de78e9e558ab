//! Records as operators see them: log lines, and the number of messages.

mod line;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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
    messages: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
    private_client: Arc<RateLimit>,
    no_address: Arc<RateLimit>,
}

impl Observer {
    /// An observer that writes to a log.
    pub fn new(log: Log) -> Self {
        let limit = || Arc::new(RateLimit::new(CLIENT_INTERVAL));
        Self {
            log,
            messages: Arc::default(),
            refusals: Arc::default(),
            private_client: limit(),
            no_address: limit(),
        }
    }

    /// Messages that were received to their end.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Refusals, for now or for good, also those before the end of a message.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Logs and counts the records of an event.
    pub fn observe_all(&self, records: &Records) {
        records.iter().for_each(|record| self.observe(record));
    }

    /// Logs and counts a record.
    pub fn observe(&self, record: &Record) {
        if record.complete {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
        if record.is_refusal() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
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
