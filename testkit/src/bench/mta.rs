//! Postfix's side of the milter protocol, made for speed: macros and command go in one write, and
//! what is not answered waits for what is. Before it reads it waits with `poll(2)`, as Postfix
//! does: a thread that waits in `read(2)` on a UNIX socket is woken each time the other end reads.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::poll::{PollFd, PollFlags, poll};

/// The client of every message: all domains know it.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The name of the host that receives.
pub const HOST: &str = "mx.receiver.example";

/// The most octets of a body in one packet, as Postfix sends them.
const CHUNK: usize = 65_535;

/// A sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The HELO name.
    pub helo: String,
    /// The domain of the reverse-path.
    pub domain: String,
}

/// A message: fields, their values with the white space after the colon; and the body.
#[derive(Clone, Debug)]
pub struct Message {
    /// The fields.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A field that a milter added, and where: index and text, as the packet has them.
pub type Added = (String, String);

/// Connections so far.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// An answer that takes longer is an error, in milliseconds.
const PATIENCE: u16 = 60_000;

/// Protocol steps, as bits of the negotiation.
#[allow(missing_docs, reason = "the names of the protocol")]
pub mod steps {
    pub const NO_CONNECT: u32 = 0x1;
    pub const NO_HELO: u32 = 0x2;
    pub const NO_MAIL: u32 = 0x4;
    pub const NO_RCPT: u32 = 0x8;
    pub const NO_BODY: u32 = 0x10;
    pub const NO_HEADER: u32 = 0x20;
    pub const NO_EOH: u32 = 0x40;
    pub const NOREPLY_HEADER: u32 = 0x80;
    pub const NO_DATA: u32 = 0x200;
    pub const NOREPLY_CONNECT: u32 = 0x1000;
    pub const NOREPLY_HELO: u32 = 0x2000;
    pub const NOREPLY_MAIL: u32 = 0x4000;
    pub const NOREPLY_RCPT: u32 = 0x8000;
    pub const NOREPLY_DATA: u32 = 0x1_0000;
    pub const NOREPLY_EOH: u32 = 0x4_0000;
    pub const NOREPLY_BODY: u32 = 0x8_0000;
}

/// The offers of Postfix.
const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// Where a milter listens.
#[derive(Clone, Debug)]
pub enum Socket {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// The requests of a milter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Negotiated {
    /// Actions that it may take.
    pub actions: u32,
    /// Steps that it does not want, or does not answer.
    pub steps: u32,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn read_when_ready(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let descriptor = match &*self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        };
        if poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PATIENCE)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self {
            Self::Unix(stream) => stream.read(room),
            Self::Tcp(stream) => stream.read(room),
        }
    }
}

/// A connection to a milter.
pub struct Mta {
    stream: Stream,
    /// The requests of the milter.
    pub negotiated: Negotiated,
    out: Vec<u8>,
    input: Vec<u8>,
    read: usize,
    number: u64,
}

/// The header of a message without a signature: eight fields.
const HEADER: [(&str, &str); 8] = [
    (
        "Received",
        " from out.sender.example (out.sender.example [192.0.2.10])\n\tby mx.receiver.example (Postfix) with ESMTPS id 4XyZ\n\t\
         for <user@receiver.example>; Sat, 21 Nov 2026 10:00:00 +0000 (UTC)",
    ),
    ("Date", " Sat, 21 Nov 2026 10:00:00 +0000"),
    ("From", " Sender <news@sender.example>"),
    ("To", " user@receiver.example"),
    ("Subject", " Your order has been shipped and will arrive tomorrow"),
    ("Message-ID", " <20261121100000.4711@sender.example>"),
    ("MIME-Version", " 1.0"),
    ("Content-Type", " text/plain; charset=utf-8"),
];

/// The length of a message without a signature, header and body.
const MESSAGE_LENGTH: usize = 2048;

impl Message {
    /// A message without a signature, of 2 KiB.
    pub fn plain() -> Self {
        let fields: Vec<(String, String)> =
            HEADER.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let header: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
        Self { fields, body: vec![b'x'; MESSAGE_LENGTH.saturating_sub(header)] }
    }
}

impl Mta {
    /// Connects and negotiates.
    pub fn connect(socket: &Socket) -> io::Result<Self> {
        let stream = match socket {
            Socket::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Socket::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        let mut mta = Self {
            stream,
            negotiated: Negotiated::default(),
            out: Vec::with_capacity(4096),
            input: Vec::with_capacity(4096),
            read: 0,
            // Queue ids differ between connections.
            number: CONNECTIONS.fetch_add(1, Ordering::Relaxed) << 16,
        };
        mta.put(b'O', &[&OFFER.map(u32::to_be_bytes).concat()]);
        mta.flush()?;
        let (command, content) = mta.receive()?;
        let number = |at: usize| {
            content.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
        };
        match (command, number(4), number(8)) {
            (b'O', Some(actions), Some(steps)) => mta.negotiated = Negotiated { actions, steps },
            _ => return Err(io::Error::other("no answer to the negotiation")),
        }
        Ok(mta)
    }

    /// Begins an SMTP session.
    pub fn begin(&mut self, sender: &Sender) -> io::Result<()> {
        self.put(b'D', &[b"Cj\0", HOST.as_bytes(), b"\0"]);
        let content =
            [sender.helo.as_bytes(), b"\x004\xc3\x50", CLIENT.to_string().as_bytes(), b"\0"]
                .concat();
        self.event(b'C', &[&content], steps::NO_CONNECT, steps::NOREPLY_CONNECT).map(drop)
    }

    /// HELO.
    pub fn helo(&mut self, sender: &Sender) -> io::Result<()> {
        self.event(b'H', &[sender.helo.as_bytes(), b"\0"], steps::NO_HELO, steps::NOREPLY_HELO)
            .map(drop)
    }

    /// MAIL FROM.
    pub fn mail(&mut self, sender: &Sender) -> io::Result<()> {
        self.number += 1;
        let mail = format!("<bounce-{}@{}>\0SIZE={MESSAGE_LENGTH}\0", self.number, sender.domain);
        self.event(b'M', &[mail.as_bytes()], steps::NO_MAIL, steps::NOREPLY_MAIL).map(drop)
    }

    /// MAIL FROM of a message that goes no further.
    pub fn mail_alone(&mut self, sender: &Sender) -> io::Result<()> {
        self.mail(sender)?;
        self.put(b'A', &[]);
        Ok(())
    }

    /// From RCPT TO to the end of the message; some fields come before those of the message. The
    /// result is what the milter adds.
    pub fn rest(&mut self, before: &[Added], message: &Message) -> io::Result<Vec<Added>> {
        self.event(b'R', &[b"<user@receiver.example>\0"], steps::NO_RCPT, steps::NOREPLY_RCPT)?;
        self.event(b'T', &[], steps::NO_DATA, steps::NOREPLY_DATA)?;
        for (name, value) in before.iter().chain(&message.fields) {
            self.event(
                b'L',
                &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"],
                steps::NO_HEADER,
                steps::NOREPLY_HEADER,
            )?;
        }
        self.event(b'N', &[], steps::NO_EOH, steps::NOREPLY_EOH)?;
        for chunk in message.body.chunks(CHUNK) {
            if self.event(b'B', &[chunk], steps::NO_BODY, steps::NOREPLY_BODY)? == b's' {
                break;
            }
        }
        let queue_id = format!("Ei\x004XyZ{:08x}\0", self.number);
        self.put(b'D', &[queue_id.as_bytes()]);
        self.put(b'E', &[]);
        let mut added = Vec::new();
        self.answer(&mut added)?;
        Ok(added)
    }

    /// A message, in the order of SMTP.
    pub fn message(&mut self, sender: &Sender, message: &Message) -> io::Result<()> {
        self.helo(sender)?;
        self.mail(sender)?;
        self.rest(&[], message).map(drop)
    }

    /// The end of the session.
    pub fn quit(mut self) -> io::Result<()> {
        self.put(b'Q', &[]);
        self.flush()
    }

    fn put(&mut self, command: u8, content: &[&[u8]]) {
        let length: usize = content.iter().map(|part| part.len()).sum();
        // Nothing here comes near the limit.
        let length = u32::try_from(length + 1).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.push(command);
        for part in content {
            self.out.extend_from_slice(part);
        }
    }

    /// Sends an event if the milter wants it, and waits for the answer if there is one; the result
    /// is its letter, `c` where there is none.
    fn event(
        &mut self,
        command: u8,
        content: &[&[u8]],
        no_event: u32,
        no_reply: u32,
    ) -> io::Result<u8> {
        if self.negotiated.steps & no_event != 0 {
            return Ok(b'c');
        }
        self.put(command, content);
        if self.negotiated.steps & no_reply != 0 {
            return Ok(b'c');
        }
        match self.answer(&mut Vec::new())? {
            b'a' => Err(io::Error::other("the milter accepts before it has seen the message")),
            letter => Ok(letter),
        }
    }

    /// Waits until the milter answers; it may change the header before.
    fn answer(&mut self, added: &mut Vec<Added>) -> io::Result<u8> {
        self.flush()?;
        loop {
            match self.receive()? {
                (letter @ (b'c' | b'a' | b's'), _) => return Ok(letter),
                (letter @ (b'i' | b'h'), content) => {
                    let content = content.get(if letter == b'i' { 4 } else { 0 }..);
                    let mut parts = content.unwrap_or_default().split(|octet| *octet == 0);
                    let mut text =
                        || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
                    added.insert(0, (text(), text()));
                }
                (b'm' | b'p', _) => {}
                (other, content) => {
                    let content = String::from_utf8_lossy(&content).into_owned();
                    return Err(io::Error::other(format!(
                        "milter says {:?} {content}",
                        char::from(other)
                    )));
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(&self.out)?,
            Stream::Tcp(stream) => stream.write_all(&self.out)?,
        }
        self.out.clear();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let unread = self.input.get(self.read..).unwrap_or_default();
            if let Some((length, rest)) = unread.split_first_chunk::<4>()
                && let Some((command, content)) = usize::try_from(u32::from_be_bytes(*length))
                    .ok()
                    .and_then(|length| rest.get(..length)?.split_first())
            {
                let packet = (*command, content.to_vec());
                self.read += 5 + packet.1.len();
                return Ok(packet);
            }
            self.input.drain(..self.read);
            self.read = 0;
            let mut room = [0; 4096];
            let length = self.stream.read_when_ready(&mut room)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(room.get(..length).unwrap_or_default());
        }
    }
}
