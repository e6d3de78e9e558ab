//! DNS for every method: one client, one cache, one kind of failure.
//!
//! Methods get a [`Dns`]. Behind it is either the resolver or a [`zone::Zone`] in memory.
//!
//! A look-up goes through the cache; if that does not know, to an equal look-up that is under way;
//! if there is none, to the name servers in turn, as soon as there is a permit for it. It ends
//! when nothing waits for it any more.

mod answer;
mod cache;
mod event;
mod exchange;
mod message;
pub mod name;
mod pending;
mod permits;
pub mod presentation;
pub mod recorded;
mod reply;
mod resolv_conf;
mod resolver;
mod servers;
mod settings;
mod statistics;
#[cfg(feature = "testing")]
pub mod testing;
mod texts;
mod upstream;
#[cfg(any(test, feature = "testing"))]
pub mod zone;

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use tokio::time::Instant;

use crate::mail::domain::Domain;

pub use answer::{Answer, Failure, Lookup, Mx, RecordType};
use event::Listener;
pub use event::{Event, Server};
pub use name::Name;
use permits::Share;
use recorded::{Recording, Replay};
use resolver::Resolver;
pub use settings::{MAX_QUERIES, Settings};
pub use statistics::{LookupOutcome, Statistics};
pub use texts::Texts;
pub use upstream::ServerState;
#[cfg(any(test, feature = "testing"))]
use zone::Zone;

/// The DNS client. Cheap to clone; all clones share one cache. The clones of one session share its
/// part of the questions that may be under way.
#[derive(Clone, Debug)]
pub struct Dns {
    source: Source,
}

/// What the cache knows of a question.
#[derive(Clone, Debug)]
pub struct Known {
    /// The outcome of the look-up.
    pub outcome: Result<Answer, Failure>,
    /// When its time is over.
    pub until: Instant,
}

#[derive(Clone, Debug)]
enum Source {
    #[cfg(any(test, feature = "testing"))]
    Zone(Arc<Zone>),
    Resolver(Arc<Resolver>, Arc<Share>),
    Replay(Arc<Replay>),
    /// Another client, whose answers are kept.
    Recording(Box<Dns>, Arc<Recording>),
}

impl Dns {
    /// A client of name servers. Needs no name server to be there yet.
    #[cfg(any(test, feature = "testing"))]
    pub fn new(settings: &Settings) -> Self {
        Self::with_listener(settings, |_| {})
    }

    /// As [`Dns::new`]; the listener is notified of events that operators should know. It must not
    /// wait for anything.
    pub fn with_listener(
        settings: &Settings,
        listener: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        Self::of(Arc::new(Resolver::new(settings, Listener::new(listener))))
    }

    /// This client with other settings; the resolv.conf is read again. The cache stays as it is if
    /// it was filled from the same servers. This client goes on with its old settings. A zone in
    /// memory stays as it is.
    #[must_use]
    pub fn reconfigured(&self, settings: &Settings) -> Self {
        let resolver = self.resolver().map(|resolver| Arc::new(resolver.reconfigured(settings)));
        resolver.map_or_else(|| self.clone(), Self::of)
    }

    fn of(resolver: Arc<Resolver>) -> Self {
        let share = resolver.share();
        Self { source: Source::Resolver(resolver, share) }
    }

    /// This client for another session. Questions to name servers are few at one time: each session
    /// has its part of them, so that one whose name servers are silent does not hold up the others.
    /// All look-ups of a session count together; one that several sessions wait for counts for one
    /// of them.
    #[must_use]
    pub fn for_session(&self) -> Self {
        match &self.source {
            Source::Recording(dns, recording) => dns.for_session().recording(recording),
            _ => {
                let resolver = self.resolver();
                resolver.map_or_else(|| self.clone(), |resolver| Self::of(Arc::clone(resolver)))
            }
        }
    }

    /// A client of recorded answers, which asks nobody.
    pub fn from_replay(replay: &Arc<Replay>) -> Self {
        Self { source: Source::Replay(Arc::clone(replay)) }
    }

    /// This client, with all that it is answered kept.
    #[must_use]
    pub fn recording(self, recording: &Arc<Recording>) -> Self {
        Self { source: Source::Recording(Box::new(self), Arc::clone(recording)) }
    }

    /// The counts so far. A zone in memory counts its queries only.
    pub fn statistics(&self) -> Statistics {
        match &self.source {
            #[cfg(any(test, feature = "testing"))]
            Source::Zone(zone) => {
                let queries = u64::try_from(zone.queries()).unwrap_or(u64::MAX);
                Statistics { misses: queries, queries, ..Statistics::default() }
            }
            Source::Resolver(resolver, _) => resolver.statistics(),
            Source::Replay(_) | Source::Recording(..) => Statistics::default(),
        }
    }

    /// The name servers, in the order in which they are asked, and whether each answers.
    pub fn servers(&self) -> Vec<(Server, bool)> {
        self.resolver().map_or_else(Vec::new, |resolver| resolver.servers())
    }

    /// Counts look-ups that were begun before their turn came: used by then, and unused.
    pub fn prefetched(&self, used: u64, unused: u64) {
        if let Some(resolver) = self.resolver() {
            resolver.prefetched(used, unused);
        }
    }

    /// What is known of the name servers that are asked now. A zone in memory has none.
    pub fn server_states(&self) -> Vec<ServerState> {
        self.resolver().map_or_else(Vec::new, |resolver| resolver.server_states())
    }

    /// The servers that were asked in a look-up that failed a moment ago; none where that is not
    /// known any more.
    pub fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        match &self.source {
            #[cfg(any(test, feature = "testing"))]
            Source::Zone(_) => Vec::new(),
            Source::Resolver(resolver, _) => resolver.asked(name, record_type),
            Source::Replay(replay) => replay.asked(name, record_type),
            Source::Recording(_, recording) => recording.asked(name, record_type),
        }
    }

    /// The resolver; a zone in memory, and what was recorded, have none.
    fn resolver(&self) -> Option<&Arc<Resolver>> {
        match &self.source {
            #[cfg(any(test, feature = "testing"))]
            Source::Zone(_) => None,
            Source::Resolver(resolver, _) => Some(resolver),
            Source::Replay(_) | Source::Recording(..) => None,
        }
    }

    /// A client that knows a zone in memory and nothing else.
    #[cfg(any(test, feature = "testing"))]
    pub fn from_zone(zone: Arc<Zone>) -> Self {
        Self { source: Source::Zone(zone) }
    }

    /// Looks records up.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: void (nothing there) or temporary.
    pub async fn lookup(&self, name: &Name, record_type: RecordType) -> Result<Answer, Failure> {
        let answer = match &self.source {
            #[cfg(any(test, feature = "testing"))]
            Source::Zone(zone) => zone.lookup(name, record_type).await,
            Source::Resolver(resolver, share) => resolver.lookup(share, name, record_type).await,
            Source::Replay(replay) => replay.lookup(name, record_type).await,
            Source::Recording(dns, recording) => {
                dns.lookup_and_keep(recording, name, record_type).await
            }
        }?;
        Self::usable(answer, record_type)
    }

    /// The answer as methods get it.
    fn usable(answer: Answer, record_type: RecordType) -> Result<Answer, Failure> {
        let answer = answer.bounded()?;
        // Records of another type answer nothing; they are not the same as none.
        if answer.record_type() == record_type { Ok(answer) } else { Err(Failure::Network) }
    }

    /// What the cache knows of a question at a time: what [`Dns::lookup`] would give at once. `None`
    /// where it knows nothing, and without a cache.
    pub fn known(&self, name: &Name, record_type: RecordType, now: Instant) -> Option<Known> {
        let Source::Resolver(resolver, _) = &self.source else { return None };
        let (outcome, until) = resolver.known(name, record_type, now)?;
        let outcome = outcome.and_then(|answer| Self::usable(answer, record_type));
        Some(Known { outcome, until })
    }

    /// What a look at the value gives that was parsed from the texts at a domain and kept with them
    /// ([`Dns::keep_parsed`]). `None` where the cache does not have them at this time, and without a
    /// cache.
    pub fn with_parsed<T: Any + Send + Sync, R>(
        &self,
        domain: &Domain,
        now: Instant,
        look: impl FnOnce(&T) -> Option<R>,
    ) -> Option<R> {
        let Source::Resolver(resolver, _) = &self.source else { return None };
        resolver.with_parsed(domain.as_str(), now, look)
    }

    /// A number for the content of the cache: another one once it has forgotten all, and no two caches
    /// have the same. `None` without a cache.
    pub fn generation(&self) -> Option<u64> {
        let Source::Resolver(resolver, _) = &self.source else { return None };
        resolver.cache.generation()
    }

    /// Counts a look-up that need not even ask the cache.
    pub fn count_hit(&self) {
        if let Some(resolver) = self.resolver() {
            resolver.count_hit();
        }
    }

    /// Looks records up, once for each question of a recording.
    fn lookup_and_keep<'a>(
        &'a self,
        recording: &'a Recording,
        name: &'a Name,
        record_type: RecordType,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(answer) = recording.ask(name, record_type) {
                return answer;
            }
            let begin = Instant::now();
            let answer = self.lookup(name, record_type).await;
            let servers = match &answer {
                Ok(_) => Vec::new(),
                Err(_) => self.asked(name, record_type),
            };
            recording.keep(name, record_type, answer, servers, begin.elapsed())
        })
    }

    /// Keeps a value that was parsed from the texts at a name with them, until their time is over:
    /// look-ups that the cache answers bring both. The value takes about `size` octets of memory,
    /// which count in the cache. Where the cache does not have these texts, or all of it is too
    /// large, nothing is kept; whether it is kept now.
    pub fn keep_parsed<T: Any + Send + Sync>(
        &self,
        name: &Name,
        texts: &Texts,
        parsed: Arc<T>,
        size: usize,
    ) -> bool {
        let resolver = self.resolver();
        resolver.is_some_and(|resolver| resolver.cache.keep_parsed(name, texts, parsed, size))
    }

    /// Whether a name exists: it does unless DNS denies the name itself, not what it is an alias of
    /// (RFC 8020 §2, RFC 9824).
    ///
    /// # Errors
    ///
    /// A [`Failure`] that is not void.
    pub async fn exists(&self, name: &Name) -> Result<bool, Failure> {
        match self.lookup(name, RecordType::Existence).await {
            Ok(_) | Err(Failure::NoData) => Ok(true),
            Err(Failure::NxDomain) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The texts at a name, each with its character-strings joined.
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn txt(&self, name: &Name) -> Lookup<Box<[u8]>> {
        match self.lookup(name, RecordType::Txt).await? {
            Answer::Txt(texts) => Ok(texts.into_shared()),
            _ => Err(Failure::Network),
        }
    }

    /// The names of an address, by its reverse name (RFC 1035 §3.5, RFC 3596 §2.5).
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn ptr(&self, address: IpAddr) -> Lookup<Name> {
        match self.lookup(&Name::reverse(address), RecordType::Ptr).await? {
            Answer::Ptr(records) => Ok(records),
            _ => Err(Failure::Network),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{answer::TOO_MANY_RECORDS, *};

    impl Dns {
        /// A client that knows the texts at a name, and has no name server.
        pub(crate) fn knowing(name: &Name, texts: &Texts) -> Self {
            let dns = Self::knowing_nothing();
            dns.learn(name, RecordType::Txt, &Ok(Answer::Txt(texts.clone())), reply::MAX_TTL);
            dns
        }

        /// A client with an empty cache, and no name server.
        pub(crate) fn knowing_nothing() -> Self {
            Self::of(Arc::new(Resolver::knowing_nothing()))
        }

        /// Puts an outcome into the cache, for so long.
        pub(crate) fn learn(
            &self,
            name: &Name,
            record_type: RecordType,
            outcome: &Result<Answer, Failure>,
            ttl: Duration,
        ) {
            if let Some(resolver) = self.resolver() {
                resolver.learn(name, record_type, outcome, ttl);
            }
        }

        /// How many places of the cache an outcome takes; `None` where it is not there.
        pub(crate) fn places(&self, name: &Name, record_type: RecordType) -> Option<u32> {
            self.resolver()?.places(name, record_type)
        }

        /// This client with a cache of another size.
        pub(crate) fn resized(&self, cache_size: usize) -> Self {
            let nameservers = self.servers().into_iter().map(|(server, _)| server.0).collect();
            self.reconfigured(&Settings {
                nameservers: Some(nameservers),
                cache_size,
                ..Settings::default()
            })
        }
    }

    #[tokio::test]
    async fn a_zone_has_the_bounds_of_name_servers() {
        let mut zone = Zone::new();
        for number in 0..513 {
            zone.add_txt("example.com", number.to_string().as_bytes());
            zone.add_mx("example.com", 1, &format!("{number}.example"));
        }
        let (dns, name) = (Dns::from_zone(Arc::new(zone)), Name::new("example.com").unwrap());
        assert_eq!(dns.txt(&name).await, Err(Failure::Rcode(TOO_MANY_RECORDS)));
        let exchangers = dns.lookup(&name, RecordType::Mx).await;
        assert!(matches!(exchangers, Ok(Answer::Mx(found)) if found.len() == 11));
    }
}
