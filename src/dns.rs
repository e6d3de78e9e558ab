//! DNS for every method: one client, one cache, one kind of failure.
//!
//! [`Dns`] is what methods are given. Behind it is either the resolver or a [`zone::Zone`] in
//! memory.
//!
//! A look-up goes through the cache; if that does not know, to an equal look-up that is under way;
//! if there is none, to the name servers in turn, as soon as there is a place for it. It lives as
//! long as someone waits for it.

mod cache;
mod event;
mod exchange;
mod flight;
mod message;
pub mod name;
mod places;
mod reply;
mod resolv_conf;
mod resolver;
mod servers;
mod statistics;
#[cfg(feature = "testing")]
pub mod testing;
mod upstream;
pub mod zone;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use event::Listener;
pub use event::{Event, Server};
pub use name::Name;
use places::Asker;
use resolver::Resolver;
pub use resolver::{MAX_QUERIES, Settings};
pub use statistics::Statistics;
use zone::Zone;

/// The record types that mail authentication asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RecordType {
    /// IPv4 addresses (RFC 1035 §3.4.1).
    A,
    /// IPv6 addresses (RFC 3596 §2.1).
    Aaaa,
    /// Mail exchangers (RFC 1035 §3.3.9).
    Mx,
    /// Texts (RFC 1035 §3.3.14).
    Txt,
    /// Names of an address (RFC 1035 §3.3.12).
    Ptr,
    /// No type: whether the name exists (RFC 8020, RFC 9824), whatever is there. Asked as A.
    Existence,
}

impl RecordType {
    /// The type of addresses of the family of this one.
    pub fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Existence => "existence of",
        })
    }
}

/// Addresses or texts of an answer; one with more is not taken. (The most that we know of are some
/// forty of either.)
const MAX_RECORDS: usize = 512;

/// What an answer with more is taken for.
const TOO_MANY_RECORDS: &str = "too many records";

/// Exchangers of an answer that are kept: one more than SPF allows, so that too many are told from
/// enough.
const MAX_EXCHANGERS: usize = 11;

/// Names of an answer that are kept; no method looks at more.
const MAX_NAMES: usize = 10;

/// A mail exchanger.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Mx {
    /// Lower is preferred.
    pub preference: u16,
    /// The host; `None` where the record has a name that no host can have, such as the `.` of a
    /// null MX (RFC 7505).
    pub exchange: Option<Name>,
}

/// The records of one type at one name: never none of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// IPv4 addresses.
    A(Arc<[Ipv4Addr]>),
    /// IPv6 addresses.
    Aaaa(Arc<[Ipv6Addr]>),
    /// Mail exchangers, in the order of the answer.
    Mx(Arc<[Mx]>),
    /// Texts: the character-strings of a record, joined with nothing between them.
    Txt(Arc<[Box<[u8]>]>),
    /// Host names; names that no host can have are left out, and so this may be empty.
    Ptr(Arc<[Name]>),
    /// The name exists, if only as an alias.
    Existence,
}

impl Answer {
    /// The answer as far as it is of use: of exchangers one more than SPF allows, of names those
    /// that are looked at, in the order in which they came (RFC 7208 §4.6.4). Of other records all
    /// count.
    fn bounded(self) -> Result<Self, Failure> {
        fn first<T: Clone>(records: Arc<[T]>, count: usize) -> Arc<[T]> {
            if records.len() > count {
                records.iter().take(count).cloned().collect()
            } else {
                records
            }
        }
        let count = match &self {
            Self::A(records) => records.len(),
            Self::Aaaa(records) => records.len(),
            Self::Txt(records) => records.len(),
            Self::Mx(_) | Self::Ptr(_) | Self::Existence => 0,
        };
        if count > MAX_RECORDS {
            return Err(Failure::Rcode(TOO_MANY_RECORDS));
        }
        Ok(match self {
            Self::Mx(records) => Self::Mx(first(records, MAX_EXCHANGERS)),
            Self::Ptr(names) => Self::Ptr(first(names, MAX_NAMES)),
            other => other,
        })
    }

    fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Mx(_) => RecordType::Mx,
            Self::Txt(_) => RecordType::Txt,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Existence => RecordType::Existence,
        }
    }
}

/// Why a look-up brought no records.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// The name does not exist (RCODE 3).
    NxDomain,
    /// The name exists, records of this type do not.
    NoData,
    /// No answer in time.
    Timeout,
    /// The server answered with an error, as the name of its RCODE, such as `SERVFAIL`; or its
    /// answer is not to be taken, and why.
    Rcode(&'static str),
    /// The server answered that it has nothing and asks nobody: a referral, or less.
    NoRecursion,
    /// What came was no answer that can be read, or none to the question.
    Malformed,
    /// No server could be reached.
    Network,
}

impl Failure {
    /// Whether the look-up worked and found nothing: a void look-up (RFC 7208 §4.6.4).
    pub fn is_void(self) -> bool {
        matches!(self, Self::NxDomain | Self::NoData)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NxDomain => "NXDOMAIN",
            Self::NoData => "no such records",
            Self::Timeout => "timeout",
            Self::Rcode(name) => name,
            Self::Malformed => "malformed answer",
            Self::NoRecursion => "server does not recurse",
            Self::Network => "network error",
        })
    }
}

/// What a look-up of records `T` brings.
pub type Lookup<T> = Result<Arc<[T]>, Failure>;

/// The DNS client. Cheap to clone; all clones share one cache. Those of one session share its part
/// of the questions that may be under way.
#[derive(Clone, Debug)]
pub struct Dns {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Zone(Arc<Zone>),
    Resolver(Arc<Resolver>, Arc<Asker>),
}

impl Dns {
    /// A client of name servers. Needs no name server to be there yet.
    pub fn new(settings: &Settings) -> Self {
        Self::with_listener(settings, |_| {})
    }

    /// As [`Dns::new`], and tells what operators should know. The listener must not wait for
    /// anything.
    pub fn with_listener(
        settings: &Settings,
        listener: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        Self::of(Resolver::new(settings, Listener::new(listener)))
    }

    /// This client with other settings; the resolv.conf is read again. What is in the cache stays
    /// there if it came from the same servers. This client goes on with its old settings. A zone in
    /// memory stays what it is.
    #[must_use]
    pub fn reconfigured(&self, settings: &Settings) -> Self {
        match &self.source {
            Source::Zone(_) => self.clone(),
            Source::Resolver(resolver, _) => Self::of(resolver.reconfigured(settings)),
        }
    }

    fn of(resolver: Resolver) -> Self {
        let asker = resolver.asker();
        Self { source: Source::Resolver(Arc::new(resolver), asker) }
    }

    /// This client for another session. Questions to name servers are few at one time: each session
    /// has its part of them, so that one whose name servers are silent does not hold up the others.
    /// All look-ups of a session count together; one that several sessions wait for counts for one
    /// of them.
    #[must_use]
    pub fn for_session(&self) -> Self {
        match &self.source {
            Source::Zone(_) => self.clone(),
            Source::Resolver(resolver, _) => {
                Self { source: Source::Resolver(Arc::clone(resolver), resolver.asker()) }
            }
        }
    }

    /// What was counted so far. A zone in memory counts its queries only.
    pub fn statistics(&self) -> Statistics {
        match &self.source {
            Source::Zone(zone) => {
                let queries = u64::try_from(zone.queries()).unwrap_or(u64::MAX);
                Statistics { misses: queries, queries, ..Statistics::default() }
            }
            Source::Resolver(resolver, _) => resolver.statistics(),
        }
    }

    /// The servers that were asked in a look-up that failed a moment ago; none where that is not
    /// known any more.
    pub fn asked(&self, name: &Name, record_type: RecordType) -> Vec<SocketAddr> {
        match &self.source {
            Source::Zone(_) => Vec::new(),
            Source::Resolver(resolver, _) => resolver.asked(name, record_type),
        }
    }

    /// A client that knows what the zone in memory says and nothing else.
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
            Source::Zone(zone) => zone.lookup(name, record_type).await,
            Source::Resolver(resolver, asker) => resolver.lookup(asker, name, record_type).await,
        }?;
        let answer = answer.bounded()?;
        // Records of another type answer nothing; they are not the same as none.
        if answer.record_type() == record_type { Ok(answer) } else { Err(Failure::Network) }
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

    /// The IPv4 addresses of a host.
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn a(&self, name: &Name) -> Lookup<Ipv4Addr> {
        match self.lookup(name, RecordType::A).await? {
            Answer::A(records) => Ok(records),
            _ => Err(Failure::Network),
        }
    }

    /// The IPv6 addresses of a host.
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn aaaa(&self, name: &Name) -> Lookup<Ipv6Addr> {
        match self.lookup(name, RecordType::Aaaa).await? {
            Answer::Aaaa(records) => Ok(records),
            _ => Err(Failure::Network),
        }
    }

    /// The mail exchangers of a domain.
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn mx(&self, name: &Name) -> Lookup<Mx> {
        match self.lookup(name, RecordType::Mx).await? {
            Answer::Mx(records) => Ok(records),
            _ => Err(Failure::Network),
        }
    }

    /// The texts at a name, each with its character-strings joined.
    ///
    /// # Errors
    ///
    /// As [`Dns::lookup`].
    pub async fn txt(&self, name: &Name) -> Lookup<Box<[u8]>> {
        match self.lookup(name, RecordType::Txt).await? {
            Answer::Txt(records) => Ok(records),
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
    use super::*;

    /// The records of an answer.
    fn count(answer: Result<Answer, Failure>) -> Result<usize, Failure> {
        answer.map(|answer| match answer {
            Answer::A(records) => records.len(),
            Answer::Aaaa(records) => records.len(),
            Answer::Mx(records) => records.len(),
            Answer::Txt(records) => records.len(),
            Answer::Ptr(records) => records.len(),
            Answer::Existence => 0,
        })
    }

    #[test]
    fn answers_are_bounded() {
        let name = |number: usize| Name::new(&format!("{number}.example")).unwrap();
        for number in [1, 9, 10, 11, 12, 511, 512, 513, 4000] {
            let all =
                if number <= 512 { Ok(number) } else { Err(Failure::Rcode(TOO_MANY_RECORDS)) };
            assert_eq!(count(Answer::A(vec![Ipv4Addr::LOCALHOST; number].into()).bounded()), all);
            assert_eq!(
                count(Answer::Aaaa(vec![Ipv6Addr::LOCALHOST; number].into()).bounded()),
                all
            );
            assert_eq!(count(Answer::Txt(vec![Box::default(); number].into()).bounded()), all);
            let mx = |number| Mx { preference: 1, exchange: Some(name(number)) };
            let exchangers = Answer::Mx((0..number).map(mx).collect()).bounded();
            assert_eq!(exchangers, Ok(Answer::Mx((0..number.min(11)).map(mx).collect())));
            let names = Answer::Ptr((0..number).map(name).collect()).bounded();
            assert_eq!(names, Ok(Answer::Ptr((0..number.min(10)).map(name).collect())));
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
        assert_eq!(dns.mx(&name).await.unwrap().len(), 11);
    }
}
