//! From the reply of a name server to the answer that methods get.

use std::{
    collections::HashSet,
    hash::Hash,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use super::{
    answer::{Answer, Failure, Mx, RecordType},
    message::{
        Malformed, Message, Question, Reader, Record, TYPE_CNAME, TYPE_NS, TYPE_NSEC, TYPE_SOA,
        WireName,
    },
    name::Name,
};

/// Records are kept no longer than this, whatever their TTL.
pub(super) const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Negative answers are kept no longer than this (RFC 2308 §5: one to three hours).
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(3 * 60 * 60);

/// How long a negative answer without a SOA record is kept: long enough for the rest of a message
/// and the next few.
const NEGATIVE_TTL_WITHOUT_SOA: Duration = Duration::from_secs(10);

/// How long a failure that may pass is kept.
const ERROR_TTL: Duration = Duration::from_secs(1);

/// CNAMEs followed within one reply.
const MAX_ALIASES: usize = 16;

/// The type that says of a name that it does not exist (RFC 9824 §3.4).
const TYPE_NXNAME: u8 = 128;

/// The outcome of a look-up, and how long it may be kept.
#[derive(Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) ttl: Duration,
}

/// The content of a reply.
#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    /// The records, or why there are none.
    Reply(Reply),
    /// The name asked for is an alias of another one, of which the reply says nothing; and how long
    /// that holds.
    Alias(WireName, Duration),
}

impl Reply {
    /// A failure that may pass.
    pub(super) fn error(failure: Failure) -> Self {
        Self { outcome: Err(failure), ttl: ERROR_TTL }
    }
}

impl Reading {
    /// A failure that may pass.
    pub(super) fn error(failure: Failure) -> Self {
        Self::Reply(Reply::error(failure))
    }

    /// Reads a reply: the records of the type asked for at the end of the chain of CNAMEs that
    /// begins at the name asked for.
    ///
    /// # Errors
    ///
    /// The reply is not about what was asked, or a record that is needed has data of another form.
    pub(super) fn of(message: &Message<'_>, question: &Question) -> Result<Self, Malformed> {
        let chain = match Chain::follow(message, question)? {
            Some(chain) => chain,
            // It has no end.
            None => return Ok(Self::error(Failure::Rcode("SERVFAIL"))),
        };
        // What is said to be at a name that does not exist does not count.
        let has_records = !chain.records.is_empty() && !message.is_nxdomain;
        // Of an alias without a target the target does not exist, but the alias does (RFC 8020 §2).
        let is_found = has_records || chain.aliases > 0;
        if question.record_type == RecordType::Existence && is_found {
            return Ok(Self::Reply(Reply { outcome: Ok(Answer::Existence), ttl: chain.ttl }));
        }
        if has_records {
            return Ok(match answer(question.record_type, &chain.records)? {
                Some(answer) => Self::Reply(Reply { outcome: Ok(answer), ttl: chain.ttl }),
                None => Self::negative(Failure::NoData, None, chain.ttl),
            });
        }
        let denial = Denial::read(message, &chain.end)?;
        if message.is_nxdomain || denial.has_nxname {
            if denial.is_credible {
                return Ok(Self::negative(Failure::NxDomain, denial.ttl, chain.ttl));
            }
        } else if denial.is_credible && (denial.ttl.is_some() || chain.aliases == 0) {
            // Records of other names or types, and none that was asked for.
            if chain.aliases == 0 && denial.ttl.is_none() && !message.answers.is_empty() {
                return Err(Malformed);
            }
            if question.record_type == RecordType::Existence {
                return Ok(Self::Reply(Reply {
                    outcome: Ok(Answer::Existence),
                    ttl: negative_ttl(denial.ttl, chain.ttl),
                }));
            }
            return Ok(Self::negative(Failure::NoData, denial.ttl, chain.ttl));
        }
        match chain.aliases {
            0 => Ok(Self::error(Failure::NoRecursion)),
            _ => Ok(Self::Alias(chain.end, chain.ttl)),
        }
    }

    fn negative(failure: Failure, soa_ttl: Option<Duration>, alias_ttl: Duration) -> Self {
        Self::Reply(Reply { outcome: Err(failure), ttl: negative_ttl(soa_ttl, alias_ttl) })
    }
}

fn negative_ttl(soa_ttl: Option<Duration>, alias_ttl: Duration) -> Duration {
    soa_ttl.unwrap_or(NEGATIVE_TTL_WITHOUT_SOA).min(alias_ttl).min(MAX_NEGATIVE_TTL)
}

/// A chain of CNAMEs, with what is at its end.
struct Chain<'a, 'b> {
    end: WireName,
    aliases: usize,
    /// Records of the type asked for, of the name at the end.
    records: Vec<&'b Record<'a>>,
    /// The least TTL of all.
    ttl: Duration,
}

impl<'a, 'b> Chain<'a, 'b> {
    /// Follows the CNAMEs of a reply, which may be in any order; `None` where they have no end.
    fn follow(message: &'b Message<'a>, question: &Question) -> Result<Option<Self>, Malformed> {
        let (mut end, mut ttl) = (question.name.clone(), MAX_TTL);
        for aliases in 0..=MAX_ALIASES {
            let at_end = || message.answers.iter().filter(|record| record.owner == end);
            let records: Vec<_> =
                at_end().filter(|record| record.wire_type == Some(question.wire_type())).collect();
            if !records.is_empty() {
                let ttl = records.iter().map(|record| seconds(record.ttl)).fold(ttl, Duration::min);
                return Ok(Some(Self { end, aliases, records, ttl }));
            }
            let Some(alias) = at_end().find(|record| record.wire_type == Some(TYPE_CNAME)) else {
                return Ok(Some(Self { end, aliases, records, ttl }));
            };
            ttl = ttl.min(seconds(alias.ttl));
            end = alias.read_data(Reader::name)?;
        }
        Ok(None)
    }
}

/// The denial of a name or its records, in a reply without records that count.
struct Denial {
    /// The TTL of the denial; `None` where no zone makes it.
    ttl: Option<Duration>,
    /// Whether the name is denied although the response code is NOERROR (RFC 9824 §3.4).
    has_nxname: bool,
    /// Whether it comes from a source that can know it: a zone, or a server that has the zone or
    /// asks others.
    is_credible: bool,
}

impl Denial {
    fn read(message: &Message<'_>, name: &WireName) -> Result<Self, Malformed> {
        let (mut ttl, mut is_referral, mut has_nxname) = (None, false, false);
        for record in &message.authorities {
            match record.wire_type {
                // The SOA record of another zone says nothing of this name.
                Some(TYPE_SOA) if ttl.is_none() && record.owner.is_at_or_above(name) => {
                    ttl = Some(seconds(record.ttl).min(seconds(record.read_data(minimum)?)));
                }
                Some(TYPE_NS) => is_referral = true,
                Some(TYPE_NSEC) if record.owner == *name => {
                    has_nxname |= record.read_data(has_type_nxname)?
                }
                _ => {}
            }
        }
        // RFC 2308 §2.2: a reply that names other servers, and no zone, is a referral. Some proxies
        // claim to recurse in referrals of others.
        let is_credible =
            ttl.is_some() || message.authoritative || message.recursion_available && !is_referral;
        Ok(Self { ttl, has_nxname, is_credible })
    }
}

/// MINIMUM of a SOA record (RFC 1035 §3.3.13, RFC 2308 §4).
fn minimum(data: &mut Reader<'_>) -> Result<u32, Malformed> {
    let (_, _) = (data.name()?, data.name()?);
    let [_, _, _, _, minimum] =
        [data.long()?, data.long()?, data.long()?, data.long()?, data.long()?];
    Ok(minimum)
}

/// Whether the types of a NSEC record (RFC 4034 §4.1) have NXNAME among them.
fn has_type_nxname(data: &mut Reader<'_>) -> Result<bool, Malformed> {
    data.name()?;
    let mut found = false;
    while !data.is_at_end() {
        let (window, length) = (data.octet()?, data.octet()?);
        let bitmap = data.take(length.into())?;
        // A bitmap ends with its last type.
        let has_type = |(index, bits): (usize, &u8)| {
            index == usize::from(TYPE_NXNAME / 8) && bits & (0x80 >> (TYPE_NXNAME % 8)) != 0
        };
        found |= window == 0 && bitmap.iter().enumerate().any(has_type);
    }
    Ok(found)
}

/// The records as an answer; `None` where all of them are texts without strings. A record that is
/// there twice is one (RFC 2181 §5).
fn answer(record_type: RecordType, records: &[&Record<'_>]) -> Result<Option<Answer>, Malformed> {
    Ok(Some(match record_type {
        RecordType::Existence => Answer::Existence,
        RecordType::A => {
            Answer::A(collect(records, |data| Ok(Some(Ipv4Addr::from(data.array::<4>()?))))?)
        }
        RecordType::Aaaa => {
            Answer::Aaaa(collect(records, |data| Ok(Some(Ipv6Addr::from(data.array::<16>()?))))?)
        }
        RecordType::Mx => Answer::Mx(collect(records, |data| {
            Ok(Some(Mx { preference: data.short()?, exchange: host_name(&data.name()?) }))
        })?),
        RecordType::Ptr => Answer::Ptr(collect(records, |data| Ok(host_name(&data.name()?)))?),
        RecordType::Txt => {
            // The same text in other strings is another record.
            let texts = collect(records, |data| strings(data))?;
            if texts.is_empty() {
                return Ok(None);
            }
            let texts = texts.iter().map(|strings| strings.concat().into());
            Answer::Txt(texts.collect::<Vec<_>>().into())
        }
    }))
}

/// The data of records, each once; records of which `read` makes nothing are left out.
fn collect<'a, T: Clone + Eq + Hash>(
    records: &[&Record<'a>],
    read: impl Fn(&mut Reader<'a>) -> Result<Option<T>, Malformed>,
) -> Result<Arc<[T]>, Malformed> {
    let mut found = Vec::with_capacity(records.len());
    let mut seen = HashSet::new();
    for record in records {
        let Some(value) = record.read_data(&read)? else { continue };
        if records.len() == 1 || seen.insert(value.clone()) {
            found.push(value);
        }
    }
    Ok(found.into())
}

/// The character-strings of a TXT record (RFC 1035 §3.3.14). A record without any is against the
/// rules, but there are some: it says nothing.
fn strings<'a>(data: &mut Reader<'a>) -> Result<Option<Vec<&'a [u8]>>, Malformed> {
    let mut strings = Vec::with_capacity(1);
    while !data.is_at_end() {
        let length = data.octet()?;
        strings.push(data.take(length.into())?);
    }
    Ok((!strings.is_empty()).then_some(strings))
}

/// A name that a host can have and that text can show as it is: no root, no dot, space or control
/// character inside a label.
fn host_name(name: &WireName) -> Option<Name> {
    let mut text = String::with_capacity(64);
    for label in name.labels() {
        if !label.iter().all(|octet| octet.is_ascii_graphic() && *octet != b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|octet| char::from(*octet)));
    }
    Name::new(&text)
}

fn seconds(ttl: u32) -> Duration {
    // RFC 2181 §8: a TTL with the highest bit set is zero.
    Duration::from_secs(if ttl > u32::MAX >> 1 { 0 } else { ttl.into() })
}

/// The name of a RCODE as in the registry of IANA.
pub(super) fn rcode_name(rcode: u16) -> &'static str {
    match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        11 => "DSOTYPENI",
        // One number, which without signatures means this.
        16 => "BADVERS",
        17 => "BADKEY",
        18 => "BADTIME",
        19 => "BADMODE",
        20 => "BADNAME",
        21 => "BADALG",
        22 => "BADTRUNC",
        23 => "BADCOOKIE",
        _ => "unknown RCODE",
    }
}

#[cfg(test)]
mod tests;
