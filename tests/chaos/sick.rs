//! A name server that stands before a good one, and is sick in the way it is told to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
    time::timeout,
};

use super::rng::Rng;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Illness {
    /// Nothing.
    None,
    /// No answer.
    Silent,
    /// A right answer, later than anybody waits.
    Late(Duration),
    /// Truncated, and TCP connections on which nothing comes.
    TruncatedAndHanging,
    /// Truncated, and TCP is refused a connection's end at once.
    TruncatedAndClosed,
    /// Octets at random, and nothing else.
    Garbage,
    /// The right id and question, and octets at random behind.
    GarbageWithin,
    /// An answer to another question: that everybody may send.
    OtherQuestion,
    /// An answer with another id: that everybody may send.
    OtherId,
    /// Truncated, and 65,535 octets over TCP.
    Huge,
    /// SERVFAIL, and the right answer, in turn.
    EveryOther,
    /// SERVFAIL.
    Failing,
    /// A referral: no answer, no recursion.
    Referring,
    /// One of the others, by chance.
    Any,
}

/// A record for everybody, which nobody published: an answer that has it is forged.
const FORGED: &[u8] = b"v=spf1 +all";

/// The server. It stops when dropped; nobody listens on its port then.
pub struct SickServer {
    address: SocketAddr,
    patient: Arc<Patient>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Patient {
    good: SocketAddr,
    illness: Mutex<(Illness, &'static str)>,
    count: AtomicUsize,
    turns: AtomicU64,
    rng: Mutex<Rng>,
}

impl SickServer {
    /// A server before `good`.
    pub fn start(good: SocketAddr, rng: &mut Rng) -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), good, rng)
    }

    pub fn start_on(address: SocketAddr, good: SocketAddr, rng: &mut Rng) -> Self {
        let (udp, tcp) = testkit::wait_for("a free port", || {
            let udp = std::net::UdpSocket::bind(address).ok()?;
            let tcp = std::net::TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        });
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let address = udp.local_addr().unwrap();
        let patient = Arc::new(Patient {
            good,
            illness: Mutex::new((Illness::None, "")),
            count: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
            rng: Mutex::new(rng.fork()),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn({
            let patient = Arc::clone(&patient);
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let udp = Arc::new(UdpSocket::from_std(udp).unwrap());
                    let tcp = TcpListener::from_std(tcp).unwrap();
                    tokio::select! {
                        () = serve_udp(udp, Arc::clone(&patient)) => {}
                        () = serve_tcp(tcp, patient) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, patient, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sick for names that end with `names`; for all others it is good.
    pub fn catch(&self, illness: Illness, names: &'static str) {
        *self.patient.illness.lock().unwrap() = (illness, names);
    }

    /// Queries that it had an illness for.
    pub fn count(&self) -> usize {
        self.patient.count.load(Ordering::Relaxed)
    }
}

impl Drop for SickServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The question of a query: the name in lower case, and where it ends in the octets.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            return (query.len() >= at + 5).then_some((name, at + 5));
        }
        let label = query.get(at + 1..at + 1 + length)?;
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        name.push('.');
        at += 1 + length;
    }
}

/// A message with the header and question of a query. `counts` are those of answers and
/// authorities.
fn message(query: &[u8], end: usize, flags: u16, counts: [u16; 2], records: &[u8]) -> Vec<u8> {
    let counts = [1, counts[0], counts[1], 0].map(u16::to_be_bytes).concat();
    [&query[..2], &flags.to_be_bytes(), &counts, &query[12..end], records].concat()
}

/// A TXT record for the name at offset 12.
fn txt(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len() + 1).unwrap().to_be_bytes();
    let head = [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, length[0], length[1]];
    [&head, [u8::try_from(text.len()).unwrap()].as_slice(), text].concat()
}

/// Response, recursion desired and available.
const ANSWER: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;
const SERVFAIL: u16 = 2;

enum Treatment {
    /// These octets, one after the other.
    Send(Vec<Vec<u8>>),
    /// The good server's answer, after this time.
    Forward(Duration),
    /// Nothing ever.
    Hang,
}

impl Patient {
    fn treat(&self, query: &[u8], is_tcp: bool) -> Treatment {
        let Some((name, end)) = question(query) else { return Treatment::Hang };
        let (mut illness, names) = *self.illness.lock().unwrap();
        if illness == Illness::None || !name.trim_end_matches('.').ends_with(names) {
            return Treatment::Forward(Duration::ZERO);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut rng = self.rng.lock().unwrap();
        if illness == Illness::Any {
            illness = [
                Illness::Silent,
                Illness::TruncatedAndHanging,
                Illness::TruncatedAndClosed,
                Illness::Garbage,
                Illness::GarbageWithin,
                Illness::OtherQuestion,
                Illness::OtherId,
                Illness::Huge,
                Illness::EveryOther,
                Illness::Failing,
                Illness::Referring,
            ][rng.below(11)];
        }
        let truncated =
            || Treatment::Send(vec![message(query, end, ANSWER | TRUNCATED, [0; 2], b"")]);
        match illness {
            Illness::None | Illness::Any => Treatment::Forward(Duration::ZERO),
            Illness::Silent => Treatment::Hang,
            Illness::Late(time) => Treatment::Forward(time),
            Illness::TruncatedAndHanging if is_tcp => Treatment::Hang,
            Illness::TruncatedAndClosed if is_tcp => Treatment::Send(Vec::new()),
            Illness::Huge if is_tcp => {
                let (first, other) = (txt(b"v=spf1 -all"), txt(&[b'x'; 255]));
                let room = usize::from(u16::MAX) - end;
                let count = (room - first.len()) / other.len();
                let mut octets = [first, other.repeat(count)].concat();
                octets.resize(room, 0);
                let count = u16::try_from(count + 1).unwrap();
                Treatment::Send(vec![message(query, end, ANSWER, [count, 0], &octets)])
            }
            Illness::TruncatedAndHanging | Illness::TruncatedAndClosed | Illness::Huge => {
                truncated()
            }
            Illness::Garbage => {
                let sizes = [0, 1, 11, 12, 100, 512, 4096];
                let octets = |rng: &mut Rng| {
                    let size = sizes[rng.below(sizes.len())];
                    rng.octets(size)
                };
                Treatment::Send((0..3).map(|_| octets(&mut rng)).collect())
            }
            // What is promised is one record at least, and there is none that can be read.
            Illness::GarbageWithin => {
                let counts = [1 + rng.below(4), rng.below(5)].map(|n| u16::try_from(n).unwrap());
                let octets = if rng.once_in(2) {
                    let size = rng.below(11);
                    rng.octets(size)
                } else {
                    let record = txt(FORGED);
                    record[..1 + rng.below(record.len() - 1)].to_vec()
                };
                Treatment::Send(vec![message(query, end, ANSWER, counts, &octets)])
            }
            Illness::OtherQuestion => {
                let mut forged = message(query, end, ANSWER, [1, 0], &txt(FORGED));
                // Another first letter.
                forged[13] = if forged[13] == b'x' { b'y' } else { b'x' };
                Treatment::Send(vec![forged.clone(), forged])
            }
            Illness::OtherId => {
                let mut forged = message(query, end, ANSWER, [1, 0], &txt(FORGED));
                forged[0] ^= 0x55;
                Treatment::Send(vec![forged.clone(), forged])
            }
            Illness::EveryOther if self.turns.fetch_add(1, Ordering::Relaxed) % 2 == 1 => {
                Treatment::Forward(Duration::ZERO)
            }
            Illness::EveryOther | Illness::Failing => {
                Treatment::Send(vec![message(query, end, ANSWER | SERVFAIL, [0; 2], b"")])
            }
            Illness::Referring => {
                // NS of the root: ns.
                let referral = [0, 0, 2, 0, 1, 0, 0, 0, 60, 0, 4, 2, b'n', b's', 0];
                Treatment::Send(vec![message(query, end, 0x8000, [0, 1], &referral)])
            }
        }
    }
}

/// The answer of the good server, over UDP.
async fn ask(good: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.connect(good).await.ok()?;
    socket.send(query).await.ok()?;
    let mut buffer = vec![0; 65535];
    let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.ok()?.ok()?;
    buffer.truncate(length);
    Some(buffer)
}

async fn serve_udp(socket: Arc<UdpSocket>, patient: Arc<Patient>) {
    let mut buffer = vec![0; 65535];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let query = buffer[..length].to_vec();
        match patient.treat(&query, false) {
            Treatment::Hang => {}
            Treatment::Send(messages) => {
                for message in messages {
                    let _ = socket.send_to(&message, client).await;
                }
            }
            Treatment::Forward(latency) => {
                let (socket, good) = (Arc::clone(&socket), patient.good);
                tokio::spawn(async move {
                    tokio::time::sleep(latency).await;
                    if let Some(answer) = ask(good, &query).await {
                        let _ = socket.send_to(&answer, client).await;
                    }
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, patient: Arc<Patient>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, Arc::clone(&patient)));
        }
    }
}

async fn serve_connection(mut stream: TcpStream, patient: Arc<Patient>) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let messages = match patient.treat(&query, true) {
            Treatment::Hang => {
                let _ = stream.read_u8().await;
                return Ok(());
            }
            Treatment::Send(messages) => messages,
            Treatment::Forward(latency) => {
                tokio::time::sleep(latency).await;
                ask(patient.good, &query).await.into_iter().collect()
            }
        };
        if messages.is_empty() {
            return Ok(());
        }
        for message in messages {
            let length = u16::try_from(message.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat()).await?;
        }
    }
}
