//! Postfix's side of the milter protocol, made for speed: macros and command go in one write, and
//! what is not answered waits for what is. Before it reads it waits with `poll(2)`, as Postfix
//! does: a thread that waits in `read(2)` on a UNIX socket is woken each time the other end reads.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
};

use nix::poll::{PollFd, PollFlags, poll};

use crate::zones::{CLIENT, HOST, Sender};

/// An answer that takes longer is an error, in milliseconds.
const PATIENCE: u16 = 60_000;

/// Protocol steps, as bits of the negotiation.
pub(crate) mod steps {
    pub(crate) const NO_CONNECT: u32 = 0x1;
    pub(crate) const NO_HELO: u32 = 0x2;
    pub(crate) const NO_MAIL: u32 = 0x4;
    pub(crate) const NO_RCPT: u32 = 0x8;
    pub(crate) const NO_BODY: u32 = 0x10;
    pub(crate) const NO_HEADER: u32 = 0x20;
    pub(crate) const NO_EOH: u32 = 0x40;
    pub(crate) const NOREPLY_HEADER: u32 = 0x80;
    pub(crate) const NO_DATA: u32 = 0x200;
    pub(crate) const NOREPLY_CONNECT: u32 = 0x1000;
    pub(crate) const NOREPLY_HELO: u32 = 0x2000;
    pub(crate) const NOREPLY_MAIL: u32 = 0x4000;
    pub(crate) const NOREPLY_RCPT: u32 = 0x8000;
    pub(crate) const NOREPLY_DATA: u32 = 0x1_0000;
    pub(crate) const NOREPLY_EOH: u32 = 0x4_0000;
    pub(crate) const NOREPLY_BODY: u32 = 0x8_0000;
}

/// The offers of Postfix.
const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// Where a milter listens.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// The requests of a milter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Negotiated {
    /// Actions that it may take.
    pub(crate) actions: u32,
    /// Steps that it does not want, or does not answer.
    pub(crate) steps: u32,
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
pub(crate) struct Mta {
    stream: Stream,
    /// The requests of the milter.
    pub(crate) negotiated: Negotiated,
    out: Vec<u8>,
    input: Vec<u8>,
    read: usize,
    number: u64,
}

/// The header of every message: eight fields.
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

/// The length of every message, header and body.
const MESSAGE_LENGTH: usize = 2048;

impl Mta {
    /// Connects and negotiates.
    pub(crate) fn connect(socket: &Socket) -> io::Result<Self> {
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
            number: 0,
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
    pub(crate) fn begin(&mut self, sender: &Sender) -> io::Result<()> {
        self.put(b'D', &[b"Cj\0", HOST.as_bytes(), b"\0"]);
        let content =
            [sender.helo.as_bytes(), b"\x004\xc3\x50", CLIENT.to_string().as_bytes(), b"\0"]
                .concat();
        self.event(b'C', &[&content], steps::NO_CONNECT, steps::NOREPLY_CONNECT)
    }

    /// HELO.
    pub(crate) fn helo(&mut self, sender: &Sender) -> io::Result<()> {
        self.event(b'H', &[sender.helo.as_bytes(), b"\0"], steps::NO_HELO, steps::NOREPLY_HELO)
    }

    /// MAIL FROM.
    pub(crate) fn mail(&mut self, sender: &Sender) -> io::Result<()> {
        self.number += 1;
        let mail = format!("<bounce-{}@{}>\0SIZE={MESSAGE_LENGTH}\0", self.number, sender.domain);
        self.event(b'M', &[mail.as_bytes()], steps::NO_MAIL, steps::NOREPLY_MAIL)
    }

    /// From RCPT TO to the end of the message.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        self.event(b'R', &[b"<user@receiver.example>\0"], steps::NO_RCPT, steps::NOREPLY_RCPT)?;
        self.event(b'T', &[], steps::NO_DATA, steps::NOREPLY_DATA)?;
        let mut length = 0;
        for (name, value) in HEADER {
            length += name.len() + value.len() + 3;
            self.event(
                b'L',
                &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"],
                steps::NO_HEADER,
                steps::NOREPLY_HEADER,
            )?;
        }
        self.event(b'N', &[], steps::NO_EOH, steps::NOREPLY_EOH)?;
        let body = [b'x'; MESSAGE_LENGTH];
        let body = body.get(length..).unwrap_or_default();
        self.event(b'B', &[body], steps::NO_BODY, steps::NOREPLY_BODY)?;
        let queue_id = format!("Ei\x004XyZ{:08x}\0", self.number);
        self.put(b'D', &[queue_id.as_bytes()]);
        self.put(b'E', &[]);
        self.answer()
    }

    /// A message, in the order of SMTP.
    pub(crate) fn message(&mut self, sender: &Sender) -> io::Result<()> {
        self.helo(sender)?;
        self.mail(sender)?;
        self.rest()
    }

    /// The end of the session.
    pub(crate) fn quit(mut self) -> io::Result<()> {
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

    fn event(
        &mut self,
        command: u8,
        content: &[&[u8]],
        no_event: u32,
        no_reply: u32,
    ) -> io::Result<()> {
        if self.negotiated.steps & no_event != 0 {
            return Ok(());
        }
        self.put(command, content);
        if self.negotiated.steps & no_reply != 0 {
            return Ok(());
        }
        self.answer()
    }

    /// Waits until the milter says "continue"; it may change the header before.
    fn answer(&mut self) -> io::Result<()> {
        self.flush()?;
        loop {
            match self.receive()? {
                (b'c', _) => return Ok(()),
                (b'i' | b'h' | b'm' | b'p', _) => {}
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
