//! Messages on the wire (RFC 1035 §4): queries are written, replies are read.
//!
//! The DNS library writes queries and reads names and numbers. Replies are taken apart here, since
//! it gives up a reply in which any record is odd: only the data of records that were asked for are
//! looked into, so that odd ones beside them spoil nothing. A reply is read to its end or is
//! malformed: no length that is wrong makes a shorter result.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
};

use hickory_resolver::proto::{
    op::{Edns, Message as Query, MessageType, OpCode, Query as Asked},
    rr,
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::{answer::RecordType, name::Name};

/// Octets that we take in a UDP reply (RFC 6891 §6.2.5): a datagram of this size passes every
/// network in one piece.
const UDP_SIZE: u16 = 1232;

/// The most records of a reply. Each may have a name of thousands of pointers, which take time to
/// follow.
const MAX_RECORDS: usize = 2000;

const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

/// The EDNS flag CO, as the library counts flags: the server may make NXDOMAIN of a compact denial
/// (RFC 9824 §5).
const FLAG_CO: u16 = 0x4000;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_CNAME: u16 = 5;
pub(super) const TYPE_SOA: u16 = 6;
pub(super) const TYPE_NS: u16 = 2;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_MX: u16 = 15;
pub(super) const TYPE_TXT: u16 = 16;
pub(super) const TYPE_AAAA: u16 = 28;
pub(super) const TYPE_NSEC: u16 = 47;

/// No message, or not one that can be read to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

type Read<T> = Result<T, Malformed>;

/// A name as on the wire: labels of any octets. Upper and lower case are the same.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct WireName(rr::Name);

impl WireName {
    /// The octets of a name as they are, and no search list; `None` where it is too long.
    pub(super) fn new(name: &Name) -> Option<Self> {
        rr::Name::from_labels(name.as_str().split('.').map(str::as_bytes)).ok().map(Self)
    }

    /// The labels, from the left.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter()
    }

    /// Whether this is another name or above it.
    pub(super) fn is_at_or_above(&self, other: &Self) -> bool {
        self.0.zone_of(&other.0)
    }
}

/// A question to a name server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    pub(super) name: WireName,
    pub(super) record_type: RecordType,
}

impl Question {
    /// `None` where the name is too long to be asked for.
    pub(super) fn new(name: &Name, record_type: RecordType) -> Option<Self> {
        Some(Self { name: WireName::new(name)?, record_type })
    }

    /// The number of the type on the wire.
    pub(super) fn wire_type(&self) -> u16 {
        match self.record_type {
            RecordType::A | RecordType::Existence => TYPE_A,
            RecordType::Aaaa => TYPE_AAAA,
            RecordType::Mx => TYPE_MX,
            RecordType::Txt => TYPE_TXT,
            RecordType::Ptr => TYPE_PTR,
        }
    }

    /// A query with recursion desired; with an OPT record if so wanted (RFC 6891).
    ///
    /// # Errors
    ///
    /// The library cannot write it.
    pub(super) fn query(&self, id: u16, edns: bool) -> io::Result<Vec<u8>> {
        let mut query = Query::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Asked::query(self.name.0.clone(), self.wire_type().into()));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_SIZE);
            if self.record_type == RecordType::Existence {
                // DNSSEC records are wanted (RFC 3225 §3), for one of them may deny the name.
                edns.set_dnssec_ok(true);
                edns.flags_mut().z = FLAG_CO;
            }
            query.set_edns(edns);
        }
        query.to_vec().map_err(io::Error::other)
    }
}

/// Numbers of queries that cannot be guessed (RFC 5452 §4.3).
#[derive(Debug, Default)]
pub(super) struct Ids {
    secret: RandomState,
    count: std::sync::atomic::AtomicU64,
}

impl Ids {
    pub(super) fn next(&self) -> u16 {
        let hash =
            self.secret.hash_one(self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let [a, b, ..] = hash.to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}

/// Octets of a message that are still to be read.
pub(super) struct Reader<'a>(BinDecoder<'a>);

impl<'a> Reader<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self(BinDecoder::new(message))
    }

    /// Whether all was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn octet(&mut self) -> Read<u8> {
        self.0.read_u8().map(|octet| octet.unverified()).map_err(|_| Malformed)
    }

    pub(super) fn short(&mut self) -> Read<u16> {
        self.0.read_u16().map(|short| short.unverified()).map_err(|_| Malformed)
    }

    pub(super) fn long(&mut self) -> Read<u32> {
        self.0.read_u32().map(|long| long.unverified()).map_err(|_| Malformed)
    }

    /// So many octets.
    pub(super) fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        self.0.read_slice(count).map(|octets| octets.unverified()).map_err(|_| Malformed)
    }

    /// As many octets as are in an array.
    pub(super) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// A name, which may end in a part of another one (RFC 1035 §4.1.4).
    pub(super) fn name(&mut self) -> Read<WireName> {
        rr::Name::read(&mut self.0).map(WireName).map_err(|_| Malformed)
    }

    /// So many octets to be read by themselves. Names in them may point to octets before them.
    fn part(&mut self, count: usize) -> Read<Data<'a>> {
        let start = u16::try_from(self.0.index()).map_err(|_| Malformed)?;
        self.take(count)?;
        let message = self.0.slice_from(0).map_err(|_| Malformed)?;
        Ok(Data { message, start })
    }
}

/// The data of a record: a message up to their end, and where they begin in it.
#[derive(Clone, Copy, Debug)]
struct Data<'a> {
    message: &'a [u8],
    start: u16,
}

/// A record whose data have not been looked into.
#[derive(Clone, Debug)]
pub(super) struct Record<'a> {
    pub(super) owner: WireName,
    /// The type; `None` where the class is not IN.
    pub(super) wire_type: Option<u16>,
    /// As it came.
    pub(super) ttl: u32,
    data: Data<'a>,
}

impl<'a> Record<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<(Self, u16)> {
        let owner = reader.name()?;
        let (number, class, ttl) = (reader.short()?, reader.short()?, reader.long()?);
        let length = reader.short()?;
        let data = reader.part(length.into())?;
        Ok((Self { owner, wire_type: (class == CLASS_IN).then_some(number), ttl, data }, number))
    }

    /// Reads the data with a function, which has to read all.
    pub(super) fn read_data<T>(&self, read: impl FnOnce(&mut Reader<'a>) -> Read<T>) -> Read<T> {
        // The data lie within the message.
        let mut data = Reader(BinDecoder::new(self.data.message).clone(self.data.start));
        let value = read(&mut data)?;
        if data.is_at_end() { Ok(value) } else { Err(Malformed) }
    }
}

/// A reply to a query of ours, with its records.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    pub(super) authoritative: bool,
    pub(super) recursion_available: bool,
    /// The response code: NOERROR or NXDOMAIN.
    pub(super) is_nxdomain: bool,
    pub(super) answers: Vec<Record<'a>>,
    pub(super) authorities: Vec<Record<'a>>,
}

/// A message that came from a name server.
#[derive(Clone, Debug)]
pub(super) enum Arrival<'a> {
    /// Something that belongs to another query, or to none.
    Foreign,
    /// A reply that says that it was cut.
    Truncated,
    /// A reply with the response code of an error, its upper bits from the OPT record included (RFC
    /// 6891 §6.1.3).
    Trouble(u16),
    /// A reply that can be used.
    Message(Message<'a>),
}

const RCODE_NXDOMAIN: u16 = 3;

impl<'a> Arrival<'a> {
    /// Reads a message that came over the way that a query went.
    ///
    /// # Errors
    ///
    /// It belongs to the query by its number, but is not a reply to it that can be read.
    pub(super) fn read(octets: &'a [u8], id: u16, question: &Question) -> Read<Self> {
        let mut reader = Reader::new(octets);
        let Ok(arrived) = reader.short() else { return Ok(Self::Foreign) };
        if arrived != id {
            return Ok(Self::Foreign);
        }
        let flags = reader.short()?;
        let [questions, answers, authorities, additionals] =
            [reader.short()?, reader.short()?, reader.short()?, reader.short()?];
        // A query, or an operation other than QUERY.
        if flags & 0x8000 == 0 || flags & 0x7800 != 0 {
            return Ok(Self::Foreign);
        }
        let rcode = flags & 0x000f;
        // Servers that do not know EDNS may leave the question out (RFC 6891 §7). NXDOMAIN is
        // about a name, and so means nothing without one.
        let is_bare = questions == 0 && !matches!(rcode, 0 | RCODE_NXDOMAIN);
        if questions == 1 {
            let (name, wire_type, class) = (reader.name()?, reader.short()?, reader.short()?);
            if name != question.name || wire_type != question.wire_type() || class != CLASS_IN {
                return Ok(Self::Foreign);
            }
            if flags & 0x0200 != 0 {
                return Ok(Self::Truncated);
            }
        }
        if usize::from(answers) + usize::from(authorities) + usize::from(additionals) > MAX_RECORDS
        {
            return Err(Malformed);
        }
        let mut upper = 0;
        let mut section = |count: u16, is_last: bool| -> Read<Vec<Record<'a>>> {
            let mut records = Vec::new();
            for _ in 0..count {
                let (record, number) = Record::read(&mut reader)?;
                match (number, is_last) {
                    (TYPE_OPT, true) => {
                        let [high, ..] = record.ttl.to_be_bytes();
                        upper = u16::from(high) << 4;
                    }
                    // Some proxies count it as an answer, and push the answer out of its section.
                    (TYPE_OPT, false) => return Err(Malformed),
                    _ => records.push(record),
                }
            }
            Ok(records)
        };
        let sections = section(answers, false).and_then(|answers| {
            Ok((answers, section(authorities, false)?, section(additionals, true)?))
        });
        let rcode = upper | rcode;
        match sections {
            // The rest of a reply with an error is of no interest. BADVERS is in the upper bits
            // only.
            _ if is_bare || questions <= 1 && !matches!(rcode, 0 | RCODE_NXDOMAIN) => {
                Ok(Self::Trouble(rcode))
            }
            Ok((answers, authorities, _)) if questions == 1 => Ok(Self::Message(Message {
                authoritative: flags & 0x0400 != 0,
                recursion_available: flags & 0x0080 != 0,
                is_nxdomain: rcode == RCODE_NXDOMAIN,
                answers,
                authorities,
            })),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
