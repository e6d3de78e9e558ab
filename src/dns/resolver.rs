//! The client: cache, look-ups under way, and the name servers in turn.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::proto::op::Query;
use tokio::{sync::Semaphore, time};

use super::{
    Answer, Failure, Name, RecordType, Statistics,
    cache::{Cache, Key},
    flight::{Flights, Joined},
    reply::{self, Reply},
    resolv_conf,
    statistics::Counters,
    upstream::Upstream,
};

/// The most questions to name servers at one time. Each needs a descriptor, one more for each of at most two retransmissions, and one for
/// TCP.
pub const MAX_QUERIES: usize = 512;

/// How DNS is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The name servers; `None` or none: those of `resolv_conf`.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// The file that names the servers of the system. Its `search` and `options` mean nothing here. Where it is missing or names
    /// no server, there is one at 127.0.0.1, as resolv.conf(5) says.
    pub resolv_conf: PathBuf,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Attempts per look-up, at least one; a look-up takes `timeout` times `attempts` at most. They go round the servers, so that
    /// attempt k asks server k modulo their number. A server that answers with an error such as SERVFAIL is not asked again in the
    /// same look-up; one that was silent or out of reach comes after the others for 30 seconds.
    pub attempts: usize,
    /// How many answers and failures are kept; 0: none. An answer of more than a KiB counts as several.
    pub cache_size: usize,
    /// Questions to name servers at one time, from 1 to [`MAX_QUERIES`]; further ones wait, within their time. A client keeps the number
    /// that it began with.
    pub max_queries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nameservers: None,
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            cache_size: 16384,
            max_queries: MAX_QUERIES,
        }
    }
}

impl Settings {
    fn servers(&self) -> Vec<SocketAddr> {
        match &self.nameservers {
            Some(servers) if !servers.is_empty() => servers.clone(),
            _ => resolv_conf::read(&self.resolv_conf),
        }
    }
}

/// The client behind [`Dns`](super::Dns).
pub(super) struct Resolver {
    servers: Vec<Upstream>,
    timeout: Duration,
    attempts: usize,
    cache: Cache,
    flights: Flights,
    permits: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl Resolver {
    pub(super) fn new(settings: &Settings) -> Self {
        Self::build(
            settings,
            settings.servers(),
            Cache::new(settings.cache_size),
            Arc::new(Semaphore::new(settings.max_queries.clamp(1, MAX_QUERIES))),
            Arc::default(),
        )
    }

    fn build(
        settings: &Settings,
        servers: Vec<SocketAddr>,
        cache: Cache,
        permits: Arc<Semaphore>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            servers: servers.into_iter().map(|address| Upstream::new(address, settings.timeout)).collect(),
            timeout: settings.timeout,
            attempts: settings.attempts.max(1),
            cache,
            flights: Flights::default(),
            permits,
            counters,
        }
    }

    /// A client with other settings, which takes over what this one counted, and what it knows if it comes from the same servers.
    pub(super) fn reconfigured(&self, settings: &Settings) -> Self {
        let servers = settings.servers();
        let known: HashSet<_> = self.servers.iter().map(Upstream::address).collect();
        let cache = if known == servers.iter().copied().collect() {
            self.cache.resized(settings.cache_size)
        } else {
            Cache::new(settings.cache_size)
        };
        Self::build(settings, servers, cache, self.permits.clone(), self.counters.clone())
    }

    pub(super) async fn lookup(self: &Arc<Self>, name: &Name, record_type: RecordType) -> Result<Answer, Failure> {
        if let Some(outcome) = self.cache.find(name, record_type) {
            self.counters.hits.increment();
            return outcome;
        }
        self.counters.misses.increment();
        let key = Key { name: name.clone(), record_type };
        let begin = || {
            let (resolver, key) = (Arc::clone(self), key.clone());
            async move {
                // Another may have found it out between the look into the cache and here.
                match resolver.cache.find(&key.name, key.record_type) {
                    Some(outcome) => outcome,
                    None => resolver.resolve(&key).await,
                }
            }
        };
        let tell = |joined| {
            if matches!(joined, Joined::UnderWay) {
                self.counters.coalesced.increment();
            }
        };
        self.flights.join(key.clone(), begin, tell).await
    }

    pub(super) fn statistics(&self) -> Statistics {
        let in_flight = u64::try_from(self.flights.count()).unwrap_or(u64::MAX);
        Statistics { in_flight, entries: self.cache.len(), ..self.counters.read() }
    }

    /// Asks the servers and keeps the outcome.
    async fn resolve(&self, key: &Key) -> Result<Answer, Failure> {
        // A name that is too long on the wire cannot exist.
        let Some(question) = reply::question(&key.name, key.record_type) else { return Err(Failure::NxDomain) };
        let Reply { outcome, ttl } = self.ask_in_turn(&question).await;
        self.cache.keep(key, &outcome, ttl);
        outcome
    }

    /// Asks one server after the other until one knows.
    async fn ask_in_turn(&self, question: &Query) -> Reply {
        let mut last = Reply::error(Failure::Network);
        // Silent servers come last; the order is otherwise that of the settings.
        let (ready, held): (Vec<_>, Vec<_>) = self.servers.iter().partition(|server| server.is_ready());
        let mut order = VecDeque::from([ready, held].concat());
        for _ in 0..self.attempts {
            let Some(server) = order.pop_front() else { break };
            let reply = self.attempt(server, question).await;
            match (reply.outcome.as_ref().err(), last.outcome.as_ref().err()) {
                (None | Some(Failure::NxDomain | Failure::NoData), _) => return reply,
                // It would say the same again, and is not asked again.
                (Some(Failure::Rcode(_)), _) => last = reply,
                // What one server said tells more than the silence of another.
                (_, Some(Failure::Rcode(_))) => order.push_back(server),
                _ => {
                    order.push_back(server);
                    last = reply;
                }
            }
        }
        last
    }

    /// Asks one server, within the limit of time; the wait for a place counts.
    async fn attempt(&self, server: &Upstream, question: &Query) -> Reply {
        let mut asked = false;
        let attempt = time::timeout(self.timeout, async {
            let permit = self.permits.acquire().await;
            asked = true;
            self.counters.queries.increment();
            let reply = server.ask(question).await;
            drop(permit);
            reply
        });
        let reply = attempt.await.unwrap_or_else(|_| Reply::error(Failure::Timeout));
        match reply.outcome {
            Err(Failure::Timeout) => self.counters.timeouts.increment(),
            Err(Failure::Network | Failure::Rcode(_)) => self.counters.errors.increment(),
            _ => {}
        }
        match reply.outcome {
            Err(Failure::Timeout | Failure::Network) if asked => server.hold(),
            Err(Failure::Timeout | Failure::Network) => {}
            _ => server.release(),
        }
        reply
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(Upstream::address).collect();
        f.debug_struct("Resolver").field("servers", &servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_place_counts() {
        let server = SocketAddr::from(([127, 0, 0, 1], 9));
        let settings = Settings { nameservers: Some(vec![server]), attempts: 3, ..Settings::default() };
        let permits = Arc::new(Semaphore::new(0));
        let resolver = Arc::new(Resolver::build(&settings, settings.servers(), Cache::new(1), permits, Arc::default()));
        let start = Instant::now();
        let name = Name::new("example.com").unwrap();
        assert_eq!(resolver.lookup(&name, RecordType::A).await, Err(Failure::Timeout));
        // The wheel of timers turns in milliseconds.
        assert!((15_000..15_010).contains(&start.elapsed().as_millis()));
        let statistics = resolver.statistics();
        assert_eq!([statistics.queries, statistics.timeouts, statistics.in_flight], [0, 3, 0]);
        // It is not the server's fault.
        assert!(resolver.servers[0].is_ready());
    }

    #[test]
    fn servers_of_the_system() {
        let settings = Settings { resolv_conf: "/nonexistent/resolv.conf".into(), ..Settings::default() };
        assert_eq!(settings.servers(), [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!(Settings { nameservers: Some(Vec::new()), ..settings.clone() }.servers(), settings.servers());
    }
}
