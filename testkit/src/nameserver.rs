//! A name server on loopback that serves a [`Zone`] over UDP and TCP and misbehaves on request.
//!
//! It lives on a thread of its own,
//! stops when dropped, and needs no runtime of its user, whose clock may stand still.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{DEFAULT_MAX_PAYLOAD_LEN, Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name as WireName, RData, Record, RecordType as WireType,
        rdata::{CNAME, MX, NULL, PTR, SOA, TXT},
    },
};
use spf_milter::dns::{Answer, Failure, Name, RecordType, zone::Zone};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
};

/// Queries beyond this number are counted, but no longer written down.
const MAX_LOG: usize = 100_000;

/// How queries for a name are answered. `Behaviour::default()` is a good server.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The answer waits this long.
    pub latency: Duration,
    /// UDP answers are empty and say that they are truncated. (Those that do not fit are truncated
    /// anyway.)
    pub truncate: bool,
    /// No answer.
    pub drop: bool,
    /// No answer over UDP.
    pub drop_udp: bool,
    /// No answer over TCP.
    pub drop_tcp: bool,
    /// This RCODE and no records.
    pub rcode: Option<ResponseCode>,
    /// This RCODE to queries with an OPT record.
    pub rcode_to_edns: Option<ResponseCode>,
    /// Errors are sent as a header and nothing else.
    pub bare_errors: bool,
    /// Texts that are empty are sent as records without strings, and so without data.
    pub texts_without_strings: bool,
    /// A forged reply (records of `forgery`, or an empty one) with a wrong id is sent first.
    pub wrong_id: bool,
    /// A forged reply with another name in the question is sent first.
    pub wrong_question: bool,
    /// The zone of the forged replies.
    pub forgery: Option<Arc<Zone>>,
    /// TTL of records.
    pub ttl: u32,
    /// TTL and MINIMUM of the SOA record in negative answers; `None`: negative answers have no SOA
    /// record.
    pub soa: Option<(u32, u32)>,
    /// Only the CNAME records of an answer are sent.
    pub only_aliases: bool,
    /// The server does not recurse: answers are empty, without RA and AA.
    pub lame: bool,
    /// Only the first CNAME record of an answer is sent, if it has one.
    pub first_alias_only: bool,
    /// Records of another name and type are put before those asked for.
    pub stray_records: bool,
    /// Names that do not exist are denied with NOERROR and a NSEC record that has the type NXNAME,
    /// to queries with the flag DO (RFC 9824); without the flag as names without records.
    pub compact_denial: bool,
    /// With [`Behaviour::compact_denial`]: the flag CO is known, and such names are NXDOMAIN to
    /// queries with it.
    pub compact_ok: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            truncate: false,
            drop: false,
            drop_udp: false,
            drop_tcp: false,
            rcode: None,
            rcode_to_edns: None,
            bare_errors: false,
            texts_without_strings: false,
            wrong_id: false,
            wrong_question: false,
            forgery: None,
            ttl: 300,
            soa: Some((300, 300)),
            only_aliases: false,
            lame: false,
            first_alias_only: false,
            stray_records: false,
            compact_denial: false,
            compact_ok: false,
        }
    }
}

/// A query that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// The name as on the wire, octets between dots, without the last dot.
    pub name: String,
    /// The type as in `MX`.
    pub record_type: String,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// Whether it has an OPT record.
    pub edns: bool,
    /// The flag DO of the OPT record.
    pub dnssec_ok: bool,
    /// The flag CO of the OPT record.
    pub compact_ok: bool,
}

#[derive(Default)]
struct State {
    zone: RwLock<Arc<Zone>>,
    /// By name in lower case; `*` for all others.
    behaviours: RwLock<HashMap<String, Behaviour>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    total: usize,
    counts: HashMap<(String, WireType), usize>,
    log: Vec<Query>,
}

/// A running name server.
pub struct NameServer {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts a server at 127.0.0.1, at a port that the kernel chooses.
    pub fn start(zone: impl Into<Arc<Zone>>) -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), zone)
            .expect("no loopback socket")
    }

    /// Starts a server at an address; UDP and TCP have the same port.
    pub fn start_on(address: SocketAddr, zone: impl Into<Arc<Zone>>) -> io::Result<Self> {
        let (udp, tcp) = bind(address)?;
        let address = udp.local_addr()?;
        let state = Arc::new(State { zone: RwLock::new(zone.into()), ..State::default() });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("nameserver".into()).spawn({
            let state = state.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("no runtime");
                runtime.block_on(async {
                    let udp = Arc::new(UdpSocket::from_std(udp).expect("no UDP socket"));
                    let tcp = TcpListener::from_std(tcp).expect("no TCP socket");
                    tokio::select! {
                        () = serve_udp(udp, state.clone()) => {}
                        () = serve_tcp(tcp, state) => {}
                        _ = stopped => {}
                    }
                });
            }
        })?;
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves another zone from now on.
    pub fn set_zone(&self, zone: impl Into<Arc<Zone>>) {
        *self.state.zone.write().unwrap() = zone.into();
    }

    /// Sets how queries for a name are answered, `*` for all names that have no behaviour of their
    /// own.
    pub fn behave(&self, name: &str, behaviour: Behaviour) {
        self.state.behaviours.write().unwrap().insert(name.to_ascii_lowercase(), behaviour);
    }

    /// How many queries for this name and type came, retransmissions and retries over TCP among
    /// them.
    pub fn count(&self, name: &str, record_type: RecordType) -> usize {
        self.seen()
            .counts
            .get(&(name.to_ascii_lowercase(), wire_type(record_type)))
            .copied()
            .unwrap_or(0)
    }

    /// How many queries came.
    pub fn total(&self) -> usize {
        self.seen().total
    }

    /// The queries so far.
    pub fn log(&self) -> Vec<Query> {
        self.seen().log.clone()
    }

    /// Forgets the queries so far.
    pub fn clear(&self) {
        *self.seen() = Seen::default();
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.seen.lock().unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address on loopback where nobody listens, neither with UDP nor with TCP.
pub fn closed_port() -> SocketAddr {
    let (udp, _tcp) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("no loopback socket");
    udp.local_addr().expect("no address")
}

fn bind(address: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut attempts = 0;
    loop {
        let udp = std::net::UdpSocket::bind(address)?;
        match std::net::TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => {
                udp.set_nonblocking(true)?;
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
            // The port is free for UDP only.
            Err(_) if address.port() == 0 && attempts < 100 => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, state: Arc<State>) {
    let mut buffer = vec![0; 65535];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(reply) = reply(&state, &buffer[..length], false) else { continue };
        if reply.latency.is_zero() {
            for message in &reply.messages {
                let _ = socket.send_to(message, client).await;
            }
        } else {
            let socket = socket.clone();
            tokio::spawn(async move {
                tokio::time::sleep(reply.latency).await;
                for message in &reply.messages {
                    let _ = socket.send_to(message, client).await;
                }
            });
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<State>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, state.clone()));
        }
    }
}

async fn serve_connection(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        if let Some(reply) = reply(&state, &query, true) {
            tokio::time::sleep(reply.latency).await;
            for message in &reply.messages {
                let length = u16::try_from(message.len()).map_err(io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat()).await?;
            }
        }
    }
}

struct Reply {
    latency: Duration,
    messages: Vec<Vec<u8>>,
}

/// The reply to a query; `None`: nothing.
fn reply(state: &State, query: &[u8], tcp: bool) -> Option<Reply> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = text(question.name());
    let key = name.to_ascii_lowercase();
    {
        let mut seen = state.seen.lock().unwrap();
        seen.total += 1;
        *seen.counts.entry((key.clone(), question.query_type())).or_default() += 1;
        if seen.log.len() < MAX_LOG {
            let record_type = question.query_type().to_string();
            let (dnssec_ok, compact_ok) = flags(&query);
            seen.log.push(Query {
                name,
                record_type,
                tcp,
                edns: query.edns.is_some(),
                dnssec_ok,
                compact_ok,
            });
        }
    }
    let behaviour = {
        let behaviours = state.behaviours.read().unwrap();
        behaviours.get(&key).or_else(|| behaviours.get("*")).cloned().unwrap_or_default()
    };
    let mut messages = Vec::with_capacity(1);
    if behaviour.wrong_id || behaviour.wrong_question {
        let zone = behaviour.forgery.clone().unwrap_or_default();
        let mut forged = answer(&zone, &query, &behaviour, &key).unwrap_or_else(|| empty(&query));
        if behaviour.wrong_id {
            forged.metadata.id ^= 0x5555;
        }
        if behaviour.wrong_question
            && let Some(question) = forged.queries.first_mut()
        {
            question.set_name(wire_name("forged.example"));
        }
        messages.push(forged.to_vec().ok()?);
    }
    let dropped = behaviour.drop || if tcp { behaviour.drop_tcp } else { behaviour.drop_udp };
    if !dropped {
        let zone = state.zone.read().unwrap().clone();
        if let Some(message) = answer(&zone, &query, &behaviour, &key) {
            messages.push(encode(&message, &query, tcp, &behaviour)?);
        }
    }
    Some(Reply { latency: behaviour.latency, messages })
}

/// The flags DO and CO.
fn flags(query: &Message) -> (bool, bool) {
    query
        .edns
        .as_ref()
        .map_or((false, false), |edns| (edns.flags().dnssec_ok, edns.flags().z & 0x4000 != 0))
}

/// A reply without records.
fn empty(query: &Message) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DEFAULT_MAX_PAYLOAD_LEN);
        reply.edns = Some(edns);
    }
    reply
}

/// The message on the wire, cut to the bare truncated reply where it does not fit.
fn encode(message: &Message, query: &Message, tcp: bool, behaviour: &Behaviour) -> Option<Vec<u8>> {
    let room = if tcp { usize::from(u16::MAX) } else { usize::from(query.max_payload()) };
    let mut encoded = message.to_vec().ok()?;
    if behaviour.bare_errors && message.metadata.response_code != ResponseCode::NoError {
        encoded.truncate(12);
        encoded[4..].fill(0);
    }
    if encoded.len() <= room && (tcp || !behaviour.truncate) {
        return Some(encoded);
    }
    let mut short = empty(query);
    short.metadata.truncation = true;
    short.to_vec().ok()
}

/// The answer of the zone; `None`: it says that nothing comes.
fn answer(zone: &Zone, query: &Message, behaviour: &Behaviour, key: &str) -> Option<Message> {
    let mut reply = empty(query);
    let question = query.queries.first()?;
    if let Some(rcode) = behaviour.rcode_to_edns
        && query.edns.is_some()
    {
        if u16::from(rcode) < 16 {
            // A server that does not know OPT records sends none.
            reply.edns = None;
        }
        reply.metadata.response_code = rcode;
        return Some(reply);
    }
    if behaviour.lame {
        reply.metadata.recursion_available = false;
        return Some(reply);
    }
    if let Some(rcode) = behaviour.rcode {
        reply.metadata.response_code = rcode;
        return Some(reply);
    }
    let record_type = match question.query_type() {
        WireType::A => RecordType::A,
        WireType::AAAA => RecordType::Aaaa,
        WireType::MX => RecordType::Mx,
        WireType::TXT => RecordType::Txt,
        WireType::PTR => RecordType::Ptr,
        _ => {
            reply.metadata.response_code = ResponseCode::NotImp;
            return Some(reply);
        }
    };
    let Some(name) = Name::new(key) else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        return Some(reply);
    };
    if behaviour.stray_records {
        let owner = wire_name("stray.example");
        let stray = |data| Record::from_rdata(owner.clone(), behaviour.ttl, data);
        reply.answers.push(stray(RData::A(Ipv4Addr::new(203, 0, 113, 66).into())));
        reply.answers.push(stray(RData::TXT(TXT::from_bytes(vec![b"v=spf1 +all"]))));
    }
    let mut owner = question.name().clone();
    let mut alias = name.clone();
    while reply.answers.len() < 16 {
        let Some(target) = zone.alias(&alias, record_type) else { break };
        let data = RData::CNAME(CNAME(wire_name(target.as_str())));
        reply.answers.push(Record::from_rdata(owner, behaviour.ttl, data));
        owner = wire_name(target.as_str());
        alias = target;
    }
    if behaviour.first_alias_only && !reply.answers.is_empty() {
        reply.answers.truncate(1);
        return Some(reply);
    }
    match zone.answer(&name, record_type) {
        Ok(_) if behaviour.only_aliases => {}
        Ok(answer) => {
            let record = |data| Record::from_rdata(owner.clone(), behaviour.ttl, data);
            reply.answers.extend(rdata(&answer, behaviour).into_iter().map(record));
        }
        Err(failure) => {
            reply.metadata.response_code = match failure {
                Failure::Timeout | Failure::Network => return None,
                Failure::NxDomain => ResponseCode::NXDomain,
                Failure::NoData => ResponseCode::NoError,
                Failure::Rcode("REFUSED") => ResponseCode::Refused,
                Failure::Rcode(_) | Failure::NoRecursion | Failure::Malformed => {
                    ResponseCode::ServFail
                }
            };
            let (dnssec_ok, compact_ok) = flags(query);
            if failure == Failure::NxDomain && behaviour.compact_denial {
                if !(behaviour.compact_ok && compact_ok) {
                    reply.metadata.response_code = ResponseCode::NoError;
                }
                if dnssec_ok {
                    reply.authorities.push(denial(&owner));
                }
            }
            if failure.is_void()
                && let Some((ttl, minimum)) = behaviour.soa
            {
                let apex = owner.trim_to(2);
                let soa = SOA::new(
                    wire_name("ns.example"),
                    wire_name("hostmaster.example"),
                    1,
                    3600,
                    600,
                    86400,
                    minimum,
                );
                reply.authorities.push(Record::from_rdata(apex, ttl, RData::SOA(soa)));
            }
        }
    }
    Some(reply)
}

fn rdata(answer: &Answer, behaviour: &Behaviour) -> Vec<RData> {
    match answer {
        Answer::A(records) => records.iter().map(|&address| RData::A(address.into())).collect(),
        Answer::Aaaa(records) => {
            records.iter().map(|&address| RData::AAAA(address.into())).collect()
        }
        Answer::Mx(records) => {
            let exchange = |name: &Option<Name>| {
                name.as_ref().map_or_else(WireName::root, |name| wire_name(name.as_str()))
            };
            records
                .iter()
                .map(|mx| RData::MX(MX::new(mx.preference, exchange(&mx.exchange))))
                .collect()
        }
        Answer::Txt(records) => records
            .iter()
            .map(|text| {
                let strings = match text.is_empty() && !behaviour.texts_without_strings {
                    true => vec![&[] as &[u8]],
                    false => text.chunks(255).collect(),
                };
                RData::TXT(TXT::from_bytes(strings))
            })
            .collect(),
        Answer::Ptr(records) => {
            records.iter().map(|name| RData::PTR(PTR(wire_name(name.as_str())))).collect()
        }
        Answer::Existence => Vec::new(),
    }
}

/// A NSEC record from a name to the next one possible, with the types RRSIG, NSEC and NXNAME (RFC
/// 9824 §3.4).
fn denial(owner: &WireName) -> Record {
    let next = [
        b"\x01\x00".to_vec(),
        owner.iter().flat_map(|label| [&[label.len() as u8], label].concat()).collect(),
        vec![0],
    ];
    let mut types = vec![0, 17];
    types.extend([0, 0, 0, 0, 0, 0b11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0b1000_0000]);
    let rdata = NULL::with([next.concat(), types].concat());
    Record::from_rdata(owner.clone(), 300, RData::Unknown { code: WireType::Unknown(47), rdata })
}

fn wire_type(record_type: RecordType) -> WireType {
    match record_type {
        RecordType::A | RecordType::Existence => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Mx => WireType::MX,
        RecordType::Txt => WireType::TXT,
        RecordType::Ptr => WireType::PTR,
    }
}

fn wire_name(text: &str) -> WireName {
    WireName::from_labels(text.split('.').map(str::as_bytes)).expect("no name")
}

fn text(name: &WireName) -> String {
    name.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(".")
}
