//! Answers of odd name servers, as they were met in the field or can be thought of: each by itself, and
//! before a second, good server.
//!
//! A row says what a server sends for a query; what comes of it where there is no other server; and
//! what where there is one. A client that believes too much finds no policy where there is one, and
//! lets everybody in; one that believes too little refuses good mail.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use spf_milter::dns::{Dns, Failure, Name, Settings};

const NAME: &str = "www.example.com";
const GOOD: &str = "v=spf1 -all";

const TXT: u16 = 16;
const CNAME: u16 = 5;

/// Flags: a reply, recursion desired and available.
const USUAL: u16 = 0x8180;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// A query, and over which way it came.
struct Query {
    octets: Vec<u8>,
    client: SocketAddr,
    tcp: bool,
}

impl Query {
    fn id(&self) -> u16 {
        u16::from_be_bytes([self.octets[0], self.octets[1]])
    }

    fn has_edns(&self) -> bool {
        self.octets[11] == 1
    }

    /// The name and type asked for, as on the wire.
    fn question(&self) -> &[u8] {
        let end = 12 + self.octets[12..].iter().position(|&octet| octet == 0).unwrap() + 5;
        &self.octets[12..end]
    }

    /// The name asked for, with dots.
    fn name(&self) -> String {
        let (mut labels, mut rest) = (Vec::new(), self.question());
        while rest[0] != 0 {
            let (label, after) = rest[1..].split_at(rest[0].into());
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            rest = after;
        }
        labels.join(".")
    }
}

/// A reply that is being written.
#[derive(Clone)]
struct Reply {
    id: u16,
    flags: u16,
    questions: u16,
    question: Vec<u8>,
    counts: [u16; 3],
    records: Vec<u8>,
}

/// A reply to a query without any records.
fn reply(query: &Query) -> Reply {
    Reply {
        id: query.id(),
        flags: USUAL,
        questions: 1,
        question: query.question().to_vec(),
        counts: [0; 3],
        records: Vec::new(),
    }
}

/// A good reply: one text.
fn good(query: &Query) -> Reply {
    reply(query).answer(NAME, TXT, &string(GOOD))
}

impl Reply {
    fn flags(mut self, change: impl Fn(u16) -> u16) -> Self {
        self.flags = change(self.flags);
        self
    }

    fn rcode(self, rcode: u16) -> Self {
        self.flags(|flags| flags & !0xf | rcode)
    }

    fn record(
        mut self,
        section: usize,
        owner: &[u8],
        numbers: [u16; 2],
        ttl: u32,
        data: &[u8],
    ) -> Self {
        self.counts[section] += 1;
        self.records.extend_from_slice(owner);
        self.records.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        self.records.extend(ttl.to_be_bytes());
        self.records.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        self.records.extend_from_slice(data);
        self
    }

    fn answer(self, owner: &str, number: u16, data: &[u8]) -> Self {
        self.record(0, &name(owner), [number, 1], 300, data)
    }

    fn alias(self, owner: &str, target: &str) -> Self {
        self.answer(owner, CNAME, &name(target))
    }

    fn soa(self, zone: &str) -> Self {
        let data = [
            name("ns.example"),
            name("root.example"),
            [1_u32, 2, 3, 4, 60].iter().flat_map(|n| n.to_be_bytes()).collect(),
        ];
        self.record(1, &name(zone), [6, 1], 60, &data.concat())
    }

    fn ns(self, zone: &str) -> Self {
        self.record(1, &name(zone), [2, 1], 60, &name("ns.example"))
    }

    fn opt(self, upper_rcode: u32) -> Self {
        self.record(2, &[0], [41, 1232], upper_rcode << 24, &[])
    }

    fn without_question(mut self) -> Self {
        self.questions = 0;
        self.question.clear();
        self
    }

    fn octets(&self) -> Vec<u8> {
        let [answers, authorities, additionals] = self.counts;
        let numbers = [self.id, self.flags, self.questions, answers, authorities, additionals];
        let mut octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        octets.extend_from_slice(&self.question);
        octets.extend_from_slice(&self.records);
        octets
    }
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .collect();
    octets.push(0);
    octets
}

fn string(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// The message over TCP, its length before it.
fn framed(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap().to_be_bytes(), octets].concat()
}

/// The reaction of a server to a query. Over UDP each item is a datagram; over TCP all are written one
/// after the other, and the connection is closed.
type Script = fn(&Query) -> Vec<Vec<u8>>;

/// Serves a script until dropped.
struct Server {
    address: SocketAddr,
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    /// `tcp`: whether anybody listens there.
    fn start(script: Script, tcp: bool) -> Self {
        let (udp, listener) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(listener) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, listener);
            }
        };
        let address = udp.local_addr().unwrap();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut threads = vec![thread::spawn({
            let stop = stop.clone();
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, client)) = udp.recv_from(&mut buffer) else { continue };
                    let query = Query { octets: buffer[..length].to_vec(), client, tcp: false };
                    for octets in script(&query) {
                        // Nobody may be there any more.
                        let _ = udp.send_to(&octets, client);
                    }
                }
            }
        })];
        if tcp {
            threads.push(thread::spawn({
                let stop = stop.clone();
                move || {
                    while let Ok((mut stream, _)) = listener.accept() {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        serve(&mut stream, script);
                    }
                }
            }));
        }
        Self { address, stop, threads }
    }
}

/// Answers one query of a connection.
fn serve(stream: &mut std::net::TcpStream, script: Script) {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut octets = vec![0; u16::from_be_bytes(length).into()];
    if stream.read_exact(&mut octets).is_ok() {
        let client = stream.peer_addr().unwrap();
        let _ = stream.write_all(&script(&Query { octets, client, tcp: true }).concat());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes who waits for a connection.
        let _ = std::net::TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The outcome of a look-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The record.
    Good,
    /// Other texts, so many.
    Texts(usize),
    /// No answer: temperror.
    Trouble(Failure),
    /// There is none, and that is certain.
    None(Failure),
}
use Outcome::{Good, Trouble};

/// The outcomes of the odd server by itself, and before a good one.
struct Row {
    what: &'static str,
    script: Script,
    tcp: bool,
    single: Outcome,
    with_second: Outcome,
}

/// A row of a server whose answer is as good as any.
fn fine(what: &'static str, outcome: Outcome, script: Script) -> Row {
    Row { what, script, tcp: true, single: outcome, with_second: outcome }
}

/// A row of a server whose answer is none: the second one is asked.
fn bad(what: &'static str, failure: Failure, script: Script) -> Row {
    Row { what, script, tcp: true, single: Trouble(failure), with_second: Good }
}

const LAME: Failure = Failure::NoRecursion;
const MALFORMED: Failure = Failure::Malformed;
const SERVFAIL: Failure = Failure::Rcode("SERVFAIL");

fn one(reply: &Reply) -> Vec<Vec<u8>> {
    vec![reply.octets()]
}

/// Over UDP a truncated reply; over TCP something else.
fn over_tcp(query: &Query, octets: Vec<u8>) -> Vec<Vec<u8>> {
    if query.tcp { vec![octets] } else { one(&reply(query).flags(|flags| flags | TRUNCATED)) }
}

fn not_available(flags: u16) -> u16 {
    flags & !RECURSION_AVAILABLE
}

/// Servers that say nothing of use, or claim to know what they cannot.
fn who_says_so() -> Vec<Row> {
    vec![
        fine("a good server", Good, |query| one(&good(query))),
        fine("an answer without RA", Good, |query| one(&good(query).flags(not_available))),
        fine("an answer with AA, without RA", Good, |query| {
            one(&good(query).flags(|flags| not_available(flags) | AUTHORITATIVE))
        }),
        bad("nothing, without RA and AA", LAME, |query| one(&reply(query).flags(not_available))),
        bad("NXDOMAIN without RA, AA and SOA", LAME, |query| {
            one(&reply(query).rcode(3).flags(not_available))
        }),
        bad("a referral", LAME, |query| one(&reply(query).flags(not_available).ns("example.com"))),
        bad("an upward referral", LAME, |query| one(&reply(query).flags(not_available).ns(""))),
        bad("a referral passed on by a proxy that sets RA", LAME, |query| {
            one(&reply(query).ns("com"))
        }),
        fine("no data, with a SOA", Outcome::None(Failure::NoData), |query| {
            one(&reply(query).soa("example.com"))
        }),
        fine("no data, without a SOA", Outcome::None(Failure::NoData), |query| one(&reply(query))),
        fine("no data, with the SOA of another zone", Outcome::None(Failure::NoData), |query| {
            one(&reply(query).soa("example.org"))
        }),
        bad("no data without RA, with the SOA of another zone", LAME, |query| {
            one(&reply(query).flags(not_available).soa("example.org"))
        }),
        fine("no data of an authoritative server", Outcome::None(Failure::NoData), |query| {
            one(&reply(query).flags(|flags| not_available(flags) | AUTHORITATIVE))
        }),
        fine("NXDOMAIN with a SOA, without RA", Outcome::None(Failure::NxDomain), |query| {
            one(&reply(query).rcode(3).flags(not_available).soa("com"))
        }),
        fine("NXDOMAIN without a SOA", Outcome::None(Failure::NxDomain), |query| {
            one(&reply(query).rcode(3))
        }),
        bad("SERVFAIL", SERVFAIL, |query| one(&reply(query).rcode(2))),
        bad("SERVFAIL with records", SERVFAIL, |query| one(&good(query).rcode(2))),
        bad("REFUSED", Failure::Rcode("REFUSED"), |query| {
            one(&reply(query).rcode(5).flags(not_available))
        }),
        bad("NOTIMP", Failure::Rcode("NOTIMP"), |query| one(&reply(query).rcode(4))),
        bad("FORMERR", Failure::Rcode("FORMERR"), |query| one(&reply(query).rcode(1))),
        bad("YXDOMAIN", Failure::Rcode("YXDOMAIN"), |query| one(&reply(query).rcode(6))),
        bad("NOTAUTH", Failure::Rcode("NOTAUTH"), |query| one(&reply(query).rcode(9))),
        bad("RCODE 15", Failure::Rcode("unknown RCODE"), |query| one(&reply(query).rcode(15))),
        bad("BADCOOKIE, in the OPT record", Failure::Rcode("BADCOOKIE"), |query| {
            one(&reply(query).rcode(7).opt(1))
        }),
        bad("an RCODE whose lower half is NOERROR", Failure::Rcode("unknown RCODE"), |query| {
            one(&good(query).opt(2))
        }),
        bad("a header with SERVFAIL", SERVFAIL, |query| {
            one(&reply(query).rcode(2).without_question())
        }),
        bad("a header with NXDOMAIN", MALFORMED, |query| {
            one(&reply(query).rcode(3).without_question())
        }),
        bad("a header without trouble", MALFORMED, |query| one(&reply(query).without_question())),
    ]
}

/// Servers that do not know EDNS, or do it badly.
fn edns() -> Vec<Row> {
    fn unless_plain(query: &Query, otherwise: Reply) -> Vec<Vec<u8>> {
        one(&if query.has_edns() { otherwise } else { good(query) })
    }
    vec![
        fine("FORMERR to EDNS", Good, |query| unless_plain(query, reply(query).rcode(1))),
        fine("FORMERR to EDNS, with the OPT record back", Good, |query| {
            unless_plain(query, reply(query).rcode(1).opt(0))
        }),
        fine("FORMERR to EDNS, without the question", Good, |query| {
            unless_plain(query, reply(query).rcode(1).without_question())
        }),
        fine("FORMERR to EDNS, the query behind it", Good, |query| {
            let octets = [reply(query).rcode(1).octets(), query.octets.clone()].concat();
            if query.has_edns() { vec![octets] } else { one(&good(query)) }
        }),
        fine("NOTIMP to EDNS", Good, |query| unless_plain(query, reply(query).rcode(4))),
        fine("BADVERS to EDNS", Good, |query| unless_plain(query, reply(query).opt(1))),
        fine("BADVERS to EDNS, without the question", Good, |query| {
            unless_plain(query, reply(query).without_question().opt(1))
        }),
        fine("queries with EDNS are lost", Good, |query| {
            if query.has_edns() { Vec::new() } else { one(&good(query)) }
        }),
        fine("the OPT record is counted as the answer", Good, |query| {
            let opt_first = reply(query).record(0, &[0], [41, 1232], 0, &[]).record(
                2,
                &name(NAME),
                [TXT, 1],
                60,
                &string(GOOD),
            );
            unless_plain(query, opt_first)
        }),
        fine("an OPT record with options", Good, |query| {
            one(&good(query).record(2, &[0], [41, 4096], 0, b"\0\x0a\0\x08abcdefgh"))
        }),
        fine("two OPT records", Good, |query| one(&good(query).opt(0).opt(0))),
        fine("an OPT record to a query without one", Good, |query| one(&good(query).opt(0))),
    ]
}

/// Replies that belong to something else.
fn belonging() -> Vec<Row> {
    fn forged(query: &Query) -> Reply {
        reply(query).answer(NAME, TXT, &string("v=spf1 +all"))
    }
    vec![
        fine("another id first", Good, |query| {
            let mut other = forged(query);
            other.id ^= 1;
            vec![other.octets(), good(query).octets()]
        }),
        fine("another question first", Good, |query| {
            let mut other = forged(query);
            other.question = [name("other.example"), vec![0, 16, 0, 1]].concat();
            vec![other.octets(), good(query).octets()]
        }),
        fine("another type in the question first", Good, |query| {
            let mut other = forged(query);
            other.question = [name(NAME), vec![0, 1, 0, 1]].concat();
            vec![other.octets(), good(query).octets()]
        }),
        fine("another class in the question first", Good, |query| {
            let mut other = forged(query);
            other.question = [name(NAME), vec![0, 16, 0, 3]].concat();
            vec![other.octets(), good(query).octets()]
        }),
        fine("the query back first", Good, |query| {
            vec![query.octets.clone(), good(query).octets()]
        }),
        fine("another operation first", Good, |query| {
            vec![forged(query).flags(|flags| flags | 0x2800).octets(), good(query).octets()]
        }),
        fine("an empty datagram first", Good, |query| vec![vec![], vec![0], good(query).octets()]),
        fine("the question in other letters", Good, |query| {
            let mut other = good(query);
            other.question = [name("wWw.EXAMPLE.com"), vec![0, 16, 0, 1]].concat();
            one(&other)
        }),
        fine("the owner in other letters", Good, |query| {
            one(&reply(query).answer("WWW.Example.COM", TXT, &string(GOOD)))
        }),
        bad("no question", MALFORMED, |query| one(&good(query).without_question())),
        bad("the question twice", MALFORMED, |query| {
            let mut twice = good(query);
            (twice.questions, twice.question) = (2, twice.question.repeat(2));
            one(&twice)
        }),
        bad("only another question", Failure::Timeout, |query| {
            let mut other = forged(query);
            other.question = [name("other.example"), vec![0, 16, 0, 1]].concat();
            one(&other)
        }),
        bad("only another id", Failure::Timeout, |query| {
            let mut other = forged(query);
            other.id ^= 1;
            one(&other)
        }),
        bad("from another port", Failure::Timeout, |query| {
            let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            other.send_to(&good(query).octets(), query.client).unwrap();
            Vec::new()
        }),
        fine("the answer twice", Good, |query| vec![good(query).octets(), good(query).octets()]),
    ]
}

/// Records beside those that were asked for, and odd ones among them.
fn records() -> Vec<Row> {
    vec![
        bad("only a record of another name", MALFORMED, |query| {
            one(&reply(query).answer("other.example", TXT, &string("v=spf1 +all")))
        }),
        bad("only a record of another type", MALFORMED, |query| {
            one(&reply(query).answer(NAME, 1, &[192, 0, 2, 1]))
        }),
        bad("only a record of another class", MALFORMED, |query| {
            one(&reply(query).record(0, &name(NAME), [TXT, 3], 60, &string("v=spf1 +all")))
        }),
        fine("records of other names, types and classes before it", Good, |query| {
            let before = reply(query)
                .answer("other.example", TXT, &string("v=spf1 +all"))
                .answer(NAME, 1, &[192, 0, 2, 1])
                .answer(NAME, 99, &string("v=spf1 +all"))
                .record(0, &name(NAME), [TXT, 3], 60, &string("v=spf1 +all"));
            one(&before.answer(NAME, TXT, &string(GOOD)))
        }),
        fine("records of unknown types beside it", Good, |query| {
            one(&good(query).answer(NAME, 65280, &[1, 2, 3]))
        }),
        fine("an address of three octets beside it", Good, |query| {
            one(&good(query).answer(NAME, 1, &[1, 2, 3]))
        }),
        fine("one record twice", Good, |query| one(&good(query).answer(NAME, TXT, &string(GOOD)))),
        fine("one record twice, in other letters and with another TTL", Good, |query| {
            one(&good(query).record(0, &name("WWW.example.com"), [TXT, 1], 1, &string(GOOD)))
        }),
        fine("two records", Outcome::Texts(2), |query| {
            one(&good(query).answer(NAME, TXT, &string("v=spf1 +all")))
        }),
        fine("TTL 0", Good, |query| {
            one(&reply(query).record(0, &name(NAME), [TXT, 1], 0, &string(GOOD)))
        }),
        fine("the largest TTL", Good, |query| {
            one(&reply(query).record(0, &name(NAME), [TXT, 1], u32::MAX >> 1, &string(GOOD)))
        }),
        fine("a TTL with the highest bit", Good, |query| {
            one(&reply(query).record(0, &name(NAME), [TXT, 1], u32::MAX, &string(GOOD)))
        }),
        fine("a text without strings beside it", Good, |query| {
            one(&good(query).answer(NAME, TXT, &[]))
        }),
        fine("a text without strings before it, a TTL like a pointer", Good, |query| {
            let empty = reply(query).record(0, &name(NAME), [TXT, 1], 0xc00c, &[]);
            one(&empty.record(0, &name(NAME), [TXT, 1], 0xc021, &string(GOOD)))
        }),
        fine("a hundred texts without strings beside it", Good, |query| {
            one(&(0..100)
                .fold(good(query), |reply, _| reply.record(0, b"\xc0\x0c", [TXT, 1], 60, &[])))
        }),
        fine("only a text without strings", Outcome::None(Failure::NoData), |query| {
            one(&reply(query).answer(NAME, TXT, &[]))
        }),
        fine("a text of an empty string", Outcome::Texts(1), |query| {
            one(&reply(query).answer(NAME, TXT, &[0]))
        }),
        fine("many strings", Good, |query| {
            let strings: Vec<u8> = GOOD.bytes().flat_map(|octet| [0, 1, octet]).collect();
            one(&reply(query).answer(NAME, TXT, &strings))
        }),
        bad("a string longer than its record", MALFORMED, |query| {
            one(&reply(query).answer(NAME, TXT, b"\x0cv=spf1 -all"))
        }),
        bad("a record longer than the message", MALFORMED, |query| {
            let mut long = good(query).octets();
            let place = long.len() - GOOD.len() - 2;
            long[place] += 1;
            vec![long]
        }),
        bad("fewer records than it says", MALFORMED, |query| {
            let mut fewer = good(query);
            fewer.counts[0] = 2;
            one(&fewer)
        }),
        fine("trailing garbage", Good, |query| {
            vec![[good(query).octets(), vec![0xff; 200]].concat()]
        }),
        fine("a compressed owner", Good, |query| {
            one(&reply(query).record(0, b"\xc0\x0c", [TXT, 1], 60, &string(GOOD)))
        }),
        fine("an owner compressed in the middle", Good, |query| {
            one(&reply(query).record(0, b"\x03www\xc0\x10", [TXT, 1], 60, &string(GOOD)))
        }),
        bad("an owner that points to itself", MALFORMED, |query| {
            let place = 12 + query.question().len();
            let pointer = (0xc000 + u16::try_from(place).unwrap()).to_be_bytes();
            one(&reply(query).record(0, &pointer, [TXT, 1], 60, &string(GOOD)))
        }),
        bad("an owner that points forwards", MALFORMED, |query| {
            one(&reply(query).record(0, b"\xc1\xff", [TXT, 1], 60, &string(GOOD)))
        }),
        bad("an owner of more than 255 octets", MALFORMED, |query| {
            one(&good(query).answer(&vec!["x".repeat(63); 5].join("."), TXT, &string(GOOD)))
        }),
        bad("an owner with a label of an unknown kind", MALFORMED, |query| {
            one(&good(query).record(0, b"\x41x\0", [TXT, 1], 60, &string(GOOD)))
        }),
    ]
}

/// Aliases. Questions for targets are answered too.
fn aliases() -> Vec<Row> {
    /// `target.example` has the record.
    fn with_target(query: &Query, reply: Reply) -> Vec<Vec<u8>> {
        one(&if query.name() == "target.example" {
            self::reply(query).answer("target.example", TXT, &string(GOOD))
        } else {
            reply
        })
    }
    vec![
        fine("an alias and its target", Good, |query| {
            one(&reply(query).alias(NAME, "target.example").answer(
                "target.example",
                TXT,
                &string(GOOD),
            ))
        }),
        fine("the target first", Good, |query| {
            let target = reply(query).answer("target.example", TXT, &string(GOOD));
            one(&target.alias("middle.example", "target.example").alias(NAME, "Middle.Example"))
        }),
        fine("a chain of 16", Good, |query| {
            let names: Vec<String> = (0..16).map(|number| format!("n{number}.example")).collect();
            let chain = reply(query).alias(NAME, "n0.example");
            let chain = names.windows(2).fold(chain, |chain, pair| chain.alias(&pair[0], &pair[1]));
            one(&chain.answer("n15.example", TXT, &string(GOOD)))
        }),
        bad("a chain of 17", SERVFAIL, |query| {
            let names: Vec<String> = (0..17).map(|number| format!("n{number}.example")).collect();
            let chain = reply(query).alias(NAME, "n0.example");
            let chain = names.windows(2).fold(chain, |chain, pair| chain.alias(&pair[0], &pair[1]));
            one(&chain.answer("n16.example", TXT, &string(GOOD)))
        }),
        bad("an alias of itself", SERVFAIL, |query| one(&reply(query).alias(NAME, NAME))),
        bad("two that are aliases of each other", SERVFAIL, |query| {
            one(&reply(query).alias(NAME, "other.example").alias("other.example", NAME))
        }),
        fine("an alias without its target", Good, |query| {
            with_target(query, reply(query).alias(NAME, "target.example"))
        }),
        fine("an alias without its target, of a server without RA", Good, |query| {
            with_target(query, reply(query).alias(NAME, "target.example").flags(not_available))
        }),
        fine("an alias and a referral", Good, |query| {
            with_target(query, reply(query).alias(NAME, "target.example").ns("example"))
        }),
        fine("an alias and the SOA of its own zone", Good, |query| {
            with_target(query, reply(query).alias(NAME, "target.example").soa("example.com"))
        }),
        fine("an alias without its target, with DNAME", Good, |query| {
            let dname = reply(query).answer("example.com", 39, &name("example"));
            with_target(query, dname.alias(NAME, "target.example"))
        }),
        bad("only a DNAME", MALFORMED, |query| {
            one(&reply(query).answer("example.com", 39, &name("example")))
        }),
        fine("an alias whose target has none", Outcome::None(Failure::NoData), |query| {
            one(&reply(query).alias(NAME, "target.example").soa("example"))
        }),
        fine(
            "an alias whose target has none, without a SOA",
            Outcome::None(Failure::NoData),
            |query| {
                one(&if query.name() == NAME {
                    reply(query).alias(NAME, "target.example")
                } else {
                    reply(query)
                })
            },
        ),
        fine("an alias whose target does not exist", Outcome::None(Failure::NxDomain), |query| {
            one(&reply(query).alias(NAME, "target.example").rcode(3).soa("example"))
        }),
        // For the target the second server is asked, which knows it.
        Row {
            what: "an alias, and SERVFAIL for its target",
            script: |query| {
                one(&if query.name() == NAME {
                    reply(query).alias(NAME, NAME_OF_SECOND)
                } else {
                    reply(query).rcode(2)
                })
            },
            tcp: true,
            single: Trouble(SERVFAIL),
            with_second: Good,
        },
        fine("an alias with records of its own", Good, |query| {
            one(&good(query).alias(NAME, "target.example"))
        }),
        bad("an alias of a name that is cut", MALFORMED, |query| {
            one(&reply(query).answer(NAME, CNAME, b"\x06target"))
        }),
        bad("an alias with garbage behind the name", MALFORMED, |query| {
            one(&reply(query).answer(NAME, CNAME, &[name("target.example"), vec![1]].concat()))
        }),
    ]
}

/// The good server has the record at this name too.
const NAME_OF_SECOND: &str = "second.example";

/// Truncation and TCP.
fn tcp() -> Vec<Row> {
    vec![
        fine("truncated and empty", Good, |query| over_tcp(query, framed(&good(query).octets()))),
        fine("truncated, with another record", Good, |query| {
            let cut = good(query)
                .answer(NAME, TXT, &string("v=spf1 +all"))
                .flags(|flags| flags | TRUNCATED);
            if query.tcp { vec![framed(&good(query).octets())] } else { one(&cut) }
        }),
        fine("truncated in the middle of a record", Good, |query| {
            let cut = good(query).flags(|flags| flags | TRUNCATED).octets();
            if query.tcp {
                vec![framed(&good(query).octets())]
            } else {
                vec![cut[..cut.len() - 5].to_vec()]
            }
        }),
        bad("truncated without the flag", MALFORMED, |query| {
            let cut = good(query).octets();
            vec![cut[..cut.len() - 5].to_vec()]
        }),
        bad("truncated over TCP too", MALFORMED, |query| {
            over_tcp(query, framed(&reply(query).flags(|flags| flags | TRUNCATED).octets()))
        }),
        Row {
            tcp: false,
            ..bad("TCP refused", Failure::Network, |query| over_tcp(query, Vec::new()))
        },
        bad("TCP closed at once", Failure::Network, |query| over_tcp(query, Vec::new())),
        bad("TCP closed in the length", Failure::Network, |query| over_tcp(query, vec![0])),
        bad("TCP closed in the message", Failure::Network, |query| {
            over_tcp(query, framed(&good(query).octets())[..30].to_vec())
        }),
        bad("a message of no octets over TCP", MALFORMED, |query| over_tcp(query, vec![0, 0])),
        bad("garbage over TCP", Failure::Network, |query| {
            over_tcp(query, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())
        }),
        bad("another id over TCP", MALFORMED, |query| {
            let mut other = good(query);
            other.id ^= 1;
            over_tcp(query, framed(&other.octets()))
        }),
        bad("another question over TCP", MALFORMED, |query| {
            let mut other = good(query);
            other.question = [name("other.example"), vec![0, 16, 0, 1]].concat();
            over_tcp(query, framed(&other.octets()))
        }),
        fine("several messages over TCP", Good, |query| {
            let other = reply(query).answer(NAME, TXT, &string("v=spf1 +all"));
            over_tcp(query, [framed(&good(query).octets()), framed(&other.octets())].concat())
        }),
        bad("SERVFAIL over TCP", SERVFAIL, |query| {
            over_tcp(query, framed(&reply(query).rcode(2).octets()))
        }),
        fine("an answer of 64 KiB", Outcome::Texts(2), |query| {
            let long: Vec<u8> = (0..250).flat_map(|_| string(&"x".repeat(255))).collect();
            over_tcp(query, framed(&good(query).answer(NAME, TXT, &long).octets()))
        }),
        fine("an answer of 500 records", Outcome::Texts(500), |query| {
            let data = |number: u16| [vec![2], number.to_be_bytes().to_vec()].concat();
            let answer = (0..500).fold(reply(query), |reply, number| {
                reply.record(0, b"\xc0\x0c", [TXT, 1], 60, &data(number))
            });
            over_tcp(query, framed(&answer.octets()))
        }),
        bad("a datagram longer than was asked for", MALFORMED, |query| {
            one(&(0..200)
                .fold(good(query), |reply, _| reply.answer(NAME, TXT, &string(&"x".repeat(200)))))
        }),
    ]
}

fn good_server() -> Server {
    Server::start(
        |query| {
            let owner = query.name();
            vec![reply(query).answer(&owner, TXT, &string(GOOD)).octets()]
        },
        true,
    )
}

async fn outcome(servers: &[SocketAddr]) -> Outcome {
    let settings = Settings {
        nameservers: Some(servers.to_vec()),
        timeout: Duration::from_secs(1),
        attempts: 2,
        ..Settings::default()
    };
    match Dns::new(&settings).txt(&Name::new(NAME).unwrap()).await {
        Ok(texts) if texts.len() == 1 && *texts[0] == *GOOD.as_bytes() => Good,
        Ok(texts) => Outcome::Texts(texts.len()),
        Err(failure) if failure.is_void() => Outcome::None(failure),
        Err(failure) => Trouble(failure),
    }
}

async fn check(rows: Vec<Row>) {
    let second = good_server();
    let checks = rows.into_iter().map(|row| {
        let second = second.address;
        async move {
            let first = Server::start(row.script, row.tcp);
            let found = [outcome(&[first.address]).await, outcome(&[first.address, second]).await];
            (found != [row.single, row.with_second]).then(|| {
                format!("{}: {found:?}, not {:?}", row.what, [row.single, row.with_second])
            })
        }
    });
    let wrong: Vec<String> =
        futures_util::future::join_all(checks).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn servers_that_cannot_know() {
    check(who_says_so()).await;
}

#[tokio::test]
async fn servers_without_edns() {
    check(edns()).await;
}

#[tokio::test]
async fn replies_to_something_else() {
    check(belonging()).await;
}

#[tokio::test]
async fn odd_records() {
    check(records()).await;
}

#[tokio::test]
async fn odd_aliases() {
    check(aliases()).await;
}

#[tokio::test]
async fn truncation() {
    check(tcp()).await;
}

#[test]
fn there_are_enough_of_them() {
    let rows = [who_says_so(), edns(), belonging(), records(), aliases(), tcp()];
    assert!(rows.iter().map(Vec::len).sum::<usize>() >= 100);
}
