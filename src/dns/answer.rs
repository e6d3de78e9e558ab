//! The types of questions and answers: records, or why there are none.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{name::Name, texts::Texts};
use crate::mail::results::words;

words! {
    /// The record types that mail authentication asks for.
    RecordType {
        /// IPv4 addresses (RFC 1035 §3.4.1).
        A = "A",
        /// IPv6 addresses (RFC 3596 §2.1).
        Aaaa = "AAAA",
        /// Mail exchangers (RFC 1035 §3.3.9).
        Mx = "MX",
        /// Texts (RFC 1035 §3.3.14).
        Txt = "TXT",
        /// Names of an address (RFC 1035 §3.3.12).
        Ptr = "PTR",
        /// No type: whether the name exists (RFC 8020, RFC 9824), whatever is there. Asked as A.
        Existence = "existence of",
    }
}

impl RecordType {
    /// The type of records with addresses of this family.
    pub fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }
}

/// Addresses or texts of an answer; one with more is not taken. (The most that we know of are some
/// forty of either.)
const MAX_RECORDS: usize = 512;

/// The failure of an answer with more.
pub(super) const TOO_MANY_RECORDS: &str = "too many records";

/// Exchangers of an answer that are kept: one more than SPF allows, so that too many can be
/// distinguished from enough.
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
    Txt(Texts),
    /// Host names; names that no host can have are left out, and so this may be empty.
    Ptr(Arc<[Name]>),
    /// The name exists, if only as an alias.
    Existence,
}

impl Answer {
    /// The answer as far as it is of use: the first exchangers, one more than SPF allows, and the
    /// first names, as many as methods look at (RFC 7208 §4.6.4). All other records count.
    pub(super) fn bounded(self) -> Result<Self, Failure> {
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

    /// The answer without a value that was parsed from its texts.
    pub(super) fn without_parsed(self) -> Self {
        match self {
            Self::Txt(texts) => Self::Txt(texts.into_shared().into()),
            other => other,
        }
    }

    /// About how many octets of memory the records take.
    pub(crate) fn size(&self) -> usize {
        /// Octets that an allocation takes beside its content.
        const ALLOCATION: usize = 2 * size_of::<usize>();
        fn sum<T>(records: &[T], extra: impl Fn(&T) -> usize) -> usize {
            records.iter().map(|record| size_of::<T>() + extra(record)).sum()
        }
        let name = |name: &Name| name.as_str().len() + 2 * size_of::<usize>() + ALLOCATION;
        match self {
            Self::Existence => 0,
            Self::A(records) => sum(records, |_| 0),
            Self::Aaaa(records) => sum(records, |_| 0),
            Self::Mx(records) => {
                sum(records, |Mx { exchange, .. }| exchange.as_ref().map_or(0, name))
            }
            Self::Txt(records) => sum(records, |text| text.len() + ALLOCATION),
            Self::Ptr(records) => sum(records, name),
        }
    }

    pub(super) fn record_type(&self) -> RecordType {
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
    /// The server answered that it has nothing and asks no other server: a referral, or less.
    NoRecursion,
    /// The reply cannot be read, or is none to the question.
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

/// The result of a look-up of records `T`.
pub type Lookup<T> = Result<Arc<[T]>, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many records an answer has.
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
}
