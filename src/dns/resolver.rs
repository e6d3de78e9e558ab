//! The client: cache, look-ups under way, and the name servers in turn.

use std::{
    any::Any,
    collections::{HashSet, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{
    answer::{Answer, Failure, RecordType},
    cache::{Cache, Key},
    event::{Event, Listener, Server},
    message::Question,
    name::Name,
    pending::Pending,
    permits::{Permits, Request, Share},
    reply::{MAX_TTL, Reading, Reply},
    servers::{List, Servers},
    settings::{MAX_QUERIES, Settings},
    statistics::{Counters, Statistics, count},
    upstream::{ServerState, Upstream},
};

/// Questions of one look-up, each for the target of the alias before it, where servers leave the
/// targets out of their answers.
const MAX_QUESTIONS: usize = 8;

/// Failed look-ups whose servers are remembered.
const MAX_TROUBLES: usize = 64;

/// The client behind [`Dns`](super::Dns).
pub(super) struct Resolver {
    servers: Arc<Servers>,
    /// The generation of the servers that the cache was filled from.
    generation: AtomicU64,
    timeout: Duration,
    attempts: usize,
    pub(super) cache: Cache,
    pending: Pending,
    permits: Arc<Permits>,
    counters: Arc<Counters>,
    /// The last look-ups that failed, with the servers that were asked.
    troubles: Mutex<VecDeque<(Key, Vec<SocketAddr>)>>,
}

impl Resolver {
    pub(super) fn new(settings: &Settings, listener: Listener) -> Self {
        Self::build(
            settings,
            Servers::new(settings, listener),
            Cache::new(settings.cache_size),
            Permits::new(settings.max_queries.clamp(1, MAX_QUERIES)),
            Arc::default(),
        )
    }

    fn build(
        settings: &Settings,
        servers: Arc<Servers>,
        cache: Cache,
        permits: Arc<Permits>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            generation: AtomicU64::new(servers.list().generation),
            servers,
            timeout: settings.timeout,
            attempts: settings.attempts.max(1),
            cache,
            pending: Pending::default(),
            permits,
            counters,
            troubles: Mutex::default(),
        }
    }

    /// A client with other settings, which takes over the counts of this one, and its cache if
    /// that was filled from the same servers.
    pub(super) fn reconfigured(&self, settings: &Settings) -> Self {
        let known: HashSet<_> = self.servers.list().addresses().into_iter().collect();
        let servers = self.servers.reconfigured(settings);
        let cache = if known == servers.list().addresses().into_iter().collect() {
            self.cache.resized(settings.cache_size)
        } else {
            Cache::new(settings.cache_size)
        };
        Self::build(settings, servers, cache, self.permits.clone(), self.counters.clone())
    }

    /// The share of another session in the permits.
    pub(super) fn share(&self) -> Arc<Share> {
        self.permits.share()
    }

    /// What the cache knows of a question at a time, and when its time is over.
    pub(super) fn known(
        &self,
        name: &Name,
        record_type: RecordType,
        now: Instant,
    ) -> Option<(Result<Answer, Failure>, Instant)> {
        let found = self.cache.find_at(&Key { name: name.clone(), record_type }, now)?;
        self.counters.hit();
        Some(found)
    }

    /// As [`Dns::with_parsed`](super::Dns::with_parsed), by the name of the domain.
    pub(super) fn with_parsed<T: Any + Send + Sync, R>(
        &self,
        name: &str,
        now: Instant,
        look: impl FnOnce(&T) -> Option<R>,
    ) -> Option<R> {
        let found = self.cache.with_texts(name, now, |texts| look(texts.parsed_ref()?))?;
        self.counters.hit();
        Some(found)
    }

    /// Counts a look-up that was answered by what is known.
    pub(super) fn count_hit(&self) {
        self.counters.hit();
    }

    pub(super) async fn lookup(
        self: &Arc<Self>,
        share: &Arc<Share>,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Answer, Failure> {
        let key = Key { name: name.clone(), record_type };
        if let Some(outcome) = self.cache.find(&key) {
            self.counters.hit();
            return outcome;
        }
        count(&self.counters.misses);
        let begin = |request: Arc<Request>| {
            let (resolver, key) = (Arc::clone(self), key.clone());
            async move {
                // Another look-up may have ended between the look into the cache and here.
                match resolver.cache.find(&key) {
                    Some(outcome) => outcome,
                    None => {
                        let begun = Instant::now();
                        let outcome = resolver.resolve(&key, &request).await;
                        resolver.counters.resolved(key.record_type, &outcome, begun.elapsed());
                        outcome
                    }
                }
            }
        };
        let on_join = || count(&self.counters.coalesced);
        self.pending.join(key.clone(), share, begin, on_join).await
    }

    /// Counts look-ups that were begun before their turn.
    pub(super) fn prefetched(&self, used: u64, unused: u64) {
        self.counters.prefetched(used, unused);
    }

    /// The name servers, and whether each answers.
    pub(super) fn servers(&self) -> Vec<(Server, bool)> {
        let list = self.servers.list();
        let mut servers: Vec<(Server, bool)> = Vec::new();
        for upstream in &list.upstreams {
            let server = Server(upstream.address());
            if servers.iter().all(|(known, _)| *known != server) {
                servers.push((server, upstream.is_up()));
            }
        }
        servers
    }

    /// The counts so far.
    pub(super) fn statistics(&self) -> Statistics {
        let in_flight = u64::try_from(self.pending.count()).unwrap_or(u64::MAX);
        self.counters.read(in_flight, self.cache.len())
    }

    /// What is known of the servers in force.
    pub(super) fn server_states(&self) -> Vec<ServerState> {
        self.servers.list().upstreams.iter().map(Upstream::state).collect()
    }

    /// The servers that were asked in a look-up that failed lately.
    pub(super) fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = troubles
            .iter()
            .rev()
            .find(|(key, _)| key.record_type == record_type && key.name == *name);
        trouble.map(|(_, servers)| servers.clone()).unwrap_or_default()
    }

    /// Asks the servers and keeps the outcome.
    async fn resolve(&self, key: &Key, request: &Request) -> Result<Answer, Failure> {
        // A name that is too long on the wire cannot exist.
        let Some(question) = Question::new(&key.name, key.record_type) else {
            return Err(Failure::NxDomain);
        };
        let mut search = Search::new(request, self.timeout, self.attempts);
        let list = self.servers.current().await;
        let mut reply = self.follow(&list, question.clone(), &mut search).await;
        let mut generation = list.generation;
        if reply.outcome.as_ref().is_err_and(|failure| !failure.is_void())
            && let Some(list) = self.servers.others(&list).await
        {
            search.go_on(self.timeout);
            reply = self.follow(&list, question, &mut search).await;
            generation = list.generation;
        }
        let Reply { outcome, ttl } = reply;
        if let Err(failure) = outcome
            && !failure.is_void()
        {
            self.note(key, &search);
        }
        self.notify_of_silence(key, &search, &outcome);
        // Answers of other servers may not hold any more.
        if self.generation.swap(generation, Ordering::Relaxed) != generation {
            self.cache.clear();
        }
        // Before it is kept anywhere.
        let outcome = outcome.and_then(Answer::bounded);
        self.cache.keep(key, &outcome, ttl);
        outcome
    }

    fn note(&self, key: &Key, search: &Search<'_>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.retain(|(noted, _)| noted != key);
        if troubles.len() >= MAX_TROUBLES {
            troubles.pop_front();
        }
        troubles.push_back((key.clone(), search.asked.clone()));
    }

    fn notify_of_silence(&self, key: &Key, search: &Search<'_>, outcome: &Result<Answer, Failure>) {
        if search.silent.is_empty() {
            return;
        }
        let is_answered = search.asked.iter().any(|server| !search.silent.contains(server));
        self.servers.listener().notify(&Event::Silent {
            servers: search.silent.clone(),
            is_answered,
            failure: outcome
                .as_ref()
                .err()
                .copied()
                .filter(|failure| !failure.is_void())
                .unwrap_or(Failure::Timeout),
            record_type: key.record_type,
            name: key.name.to_string(),
        });
    }

    /// Asks for a name, and for the target where the answer has only an alias.
    async fn follow(&self, list: &List, mut question: Question, search: &mut Search<'_>) -> Reply {
        let mut alias_ttl = MAX_TTL;
        for _ in 0..MAX_QUESTIONS {
            match self.ask_in_turn(list, &question, search).await {
                Reading::Reply(reply) => return Reply { ttl: reply.ttl.min(alias_ttl), ..reply },
                Reading::Alias(target, ttl) => {
                    question.name = target;
                    alias_ttl = alias_ttl.min(ttl);
                }
            }
        }
        Reply::error(Failure::Rcode("SERVFAIL"))
    }

    /// Asks one server after the other until one knows.
    async fn ask_in_turn(
        &self,
        list: &List,
        question: &Question,
        search: &mut Search<'_>,
    ) -> Reading {
        let mut last = Failure::Timeout;
        // Silent servers come last; the order is otherwise that of the settings.
        let (ready, held): (Vec<_>, Vec<_>) =
            list.upstreams.iter().partition(|server| server.is_ready());
        let mut order = VecDeque::from([ready, held].concat());
        let mut attempts = self.attempts;
        while attempts > 0
            && search.is_in_time()
            && let Some(server) = order.pop_front()
        {
            let reading = self.attempt(server, question, search).await;
            let Reading::Reply(Reply { outcome: Err(failure), .. }) = &reading else {
                return reading;
            };
            match failure {
                Failure::NxDomain | Failure::NoData => return reading,
                // It would say the same again, and is not asked again.
                Failure::Rcode(_) | Failure::NoRecursion | Failure::Malformed => last = *failure,
                Failure::Timeout | Failure::Network => {
                    // The answer of one server says more than the silence of another.
                    if matches!(last, Failure::Timeout | Failure::Network) {
                        last = *failure;
                    }
                    attempts -= 1;
                    order.push_back(server);
                }
            }
        }
        Reading::error(last)
    }

    /// Asks one server, within the limit of time. The wait for a permit takes of the time of the
    /// look-up, and not of that of the server.
    async fn attempt(
        &self,
        server: &Upstream,
        question: &Question,
        search: &mut Search<'_>,
    ) -> Reading {
        let permit = match time::timeout(search.left(), search.request.permit()).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(Failure::Network),
            Err(_) => Err(Failure::Timeout),
        };
        let (begin, limit) = (Instant::now(), self.timeout.min(search.left()));
        let asked = permit.is_ok();
        let reading = match permit {
            Ok(permit) => {
                count(&self.counters.queries);
                let reading = time::timeout(limit, server.ask(question)).await;
                drop(permit);
                reading.unwrap_or_else(|_| Reading::error(Failure::Timeout))
            }
            Err(failure) => Reading::error(failure),
        };
        let failure = match &reading {
            Reading::Reply(Reply { outcome: Err(failure), .. }) if !failure.is_void() => {
                Some(*failure)
            }
            _ => None,
        };
        match failure {
            Some(Failure::Timeout) => count(&self.counters.timeouts),
            Some(_) => count(&self.counters.errors),
            None => {}
        }
        let is_silent = matches!(failure, Some(Failure::Timeout | Failure::Network));
        // Who had next to no time is not to blame.
        let is_to_blame =
            asked && is_silent && (failure == Some(Failure::Network) || limit >= self.timeout / 2);
        if is_to_blame {
            server.hold();
        } else if !is_silent {
            server.release();
        }
        if asked {
            search.note(server, is_to_blame && !server.was_heard_since(begin));
        }
        reading
    }
}

/// A look-up under way.
struct Search<'a> {
    /// Gets it a permit for each question.
    request: &'a Request,
    deadline: Option<Instant>,
    /// The servers asked, each once.
    asked: Vec<SocketAddr>,
    /// The servers among them that answered no question at all while they were asked.
    silent: Vec<SocketAddr>,
}

impl<'a> Search<'a> {
    fn new(request: &'a Request, timeout: Duration, attempts: usize) -> Self {
        let limit = timeout.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
        Self {
            request,
            deadline: Instant::now().checked_add(limit),
            asked: Vec::new(),
            silent: Vec::new(),
        }
    }

    /// Gives it so much time from now on, at least.
    fn go_on(&mut self, limit: Duration) {
        self.deadline = self.deadline.max(Instant::now().checked_add(limit));
    }

    fn left(&self) -> Duration {
        self.deadline
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn is_in_time(&self) -> bool {
        !self.left().is_zero()
    }

    fn note(&mut self, server: &Upstream, is_silent: bool) {
        let address = server.address();
        self.silent.retain(|silent| *silent != address);
        if is_silent {
            self.silent.push(address);
        }
        if !self.asked.contains(&address) {
            self.asked.push(address);
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.list().addresses();
        f.debug_struct("Resolver").field("servers", &servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Resolver {
        /// A client that knows the texts at a name, and has no name server.
        pub(in super::super) fn knowing_nothing() -> Self {
            let nameservers = Some(vec![SocketAddr::from(([127, 0, 0, 1], 9))]);
            let settings = Settings { nameservers, ..Settings::default() };
            Self::new(&settings, Listener::new(|_| {}))
        }

        pub(in super::super) fn learn(
            &self,
            name: &Name,
            record_type: RecordType,
            outcome: &Result<Answer, Failure>,
            ttl: Duration,
        ) {
            self.cache.keep(&Key { name: name.clone(), record_type }, outcome, ttl);
        }

        pub(in super::super) fn places(&self, name: &Name, record_type: RecordType) -> Option<u32> {
            self.cache.places(&Key { name: name.clone(), record_type })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_permit_counts() {
        let server = SocketAddr::from(([127, 0, 0, 1], 9));
        let settings =
            Settings { nameservers: Some(vec![server]), attempts: 3, ..Settings::default() };
        let permits = Permits::new(0);
        let servers = Servers::new(&settings, Listener::new(|_| {}));
        let resolver =
            Arc::new(Resolver::build(&settings, servers, Cache::new(1), permits, Arc::default()));
        let start = Instant::now();
        let name = Name::new("example.com").unwrap();
        assert_eq!(
            resolver.lookup(&resolver.share(), &name, RecordType::A).await,
            Err(Failure::Timeout)
        );
        // The wheel of timers turns in milliseconds.
        assert!((15_000..15_010).contains(&start.elapsed().as_millis()));
        let statistics = resolver.statistics();
        assert_eq!([statistics.queries, statistics.timeouts, statistics.in_flight], [0, 1, 0]);
        // It is not the server's fault.
        assert!(resolver.servers.list().upstreams[0].is_ready());
    }

    /// A resolver that asks one question at a time, and its permits.
    fn with_one_permit(settings: &Settings) -> (Arc<Permits>, Resolver) {
        let (servers, permits) = (Servers::new(settings, Listener::new(|_| {})), Permits::new(1));
        let resolver =
            Resolver::build(settings, servers, Cache::new(1), Arc::clone(&permits), Arc::default());
        (permits, resolver)
    }

    /// The wait takes nothing of the server's time, but of that of the look-up.
    #[tokio::test(start_paused = true)]
    async fn who_has_next_to_no_time_is_not_to_blame() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for (waited, is_blamed) in [(0, true), (7400, true), (7600, false)] {
            let nameservers = Some(vec![silent.local_addr().unwrap()]);
            let settings = Settings { nameservers, ..Settings::default() };
            let (permits, resolver) = with_one_permit(&settings);
            let resolver = Arc::new(resolver);
            let first = permits.share().request().permit().await;
            let release = async {
                time::sleep(Duration::from_millis(waited)).await;
                drop(first);
            };
            let (start, share) = (Instant::now(), resolver.share());
            let name = Name::new("example.com").unwrap();
            let (outcome, ()) =
                tokio::join!(resolver.lookup(&share, &name, RecordType::A), release);
            assert_eq!(outcome, Err(Failure::Timeout));
            // The wheel of timers turns in milliseconds.
            assert!((10_000..10_010).contains(&start.elapsed().as_millis()), "{waited}");
            assert_eq!(resolver.statistics().queries, if waited == 0 { 2 } else { 1 });
            assert_eq!(resolver.servers.list().upstreams[0].is_up(), !is_blamed, "{waited}");
        }
    }

    #[tokio::test]
    async fn failed_look_ups_are_remembered() {
        let server = SocketAddr::from(([127, 0, 0, 1], 9));
        let settings = Settings { nameservers: Some(vec![server]), ..Settings::default() };
        let (_, resolver) = with_one_permit(&settings);
        let (share, name) =
            (resolver.share(), |n: usize| Name::new(&format!("{n}.example")).unwrap());
        let request = share.request();
        for (number, is_first_known) in [(63, true), (64, true), (65, false)] {
            for n in 1..=number {
                let mut search = Search::new(&request, settings.timeout, 1);
                search.asked.push(server);
                resolver.note(&Key { name: name(n), record_type: RecordType::A }, &search);
            }
            assert_eq!(
                resolver.asked(&name(1), RecordType::A),
                if is_first_known { vec![server] } else { vec![] },
                "{number}"
            );
            assert_eq!(resolver.asked(&name(number), RecordType::A), [server]);
            resolver.troubles.lock().unwrap().clear();
        }
    }
}
