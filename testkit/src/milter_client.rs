//! The MTA's side of the milter protocol, version 6, as Postfix speaks it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{PATIENCE, fields::Field};

/// Where a milter listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Socket {
    /// A TCP port.
    Inet(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl Socket {
    /// Reads `inet:HOST:PORT` or `unix:PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("inet" | "inet6", address) => address.parse().ok().map(Self::Inet),
            ("unix" | "local", path) => Some(Self::Unix(path.into())),
            _ => None,
        }
    }
}

/// A connection to a milter.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Inet(TcpStream),
    /// Over a UNIX socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects; an answer that takes longer than a minute is an error.
    pub fn connect(socket: &Socket) -> io::Result<Self> {
        match socket {
            Socket::Inet(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self::Inet(stream))
            }
            Socket::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self::Unix(stream))
            }
        }
    }

    /// Waits until there is something to read.
    fn wait(&self) -> io::Result<()> {
        let descriptor = match self {
            Self::Inet(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        let patience = PollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], patience)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub fn finish_writing(&self) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Actions and protocol steps, as bits of the negotiation.
#[allow(missing_docs, reason = "the names are those of libmilter")]
pub mod bits {
    pub const ADD_HEADER: u32 = 0x1;
    pub const CHANGE_HEADER: u32 = 0x10;
    pub const QUARANTINE: u32 = 0x20;
    pub const SET_MACRO_LIST: u32 = 0x100;
    pub const ALL_ACTIONS: u32 = 0x1ff;
    pub const NO_CONNECT: u32 = 0x1;
    pub const NO_HELO: u32 = 0x2;
    pub const NO_MAIL: u32 = 0x4;
    pub const NO_RCPT: u32 = 0x8;
    pub const NO_BODY: u32 = 0x10;
    pub const NO_HEADER: u32 = 0x20;
    pub const NO_EOH: u32 = 0x40;
    pub const NOREPLY_HEADER: u32 = 0x80;
    pub const NO_UNKNOWN: u32 = 0x100;
    pub const NO_DATA: u32 = 0x200;
    pub const SKIP: u32 = 0x400;
    pub const NOREPLY_CONNECT: u32 = 0x1000;
    pub const NOREPLY_HELO: u32 = 0x2000;
    pub const NOREPLY_MAIL: u32 = 0x4000;
    pub const NOREPLY_RCPT: u32 = 0x8000;
    pub const NOREPLY_DATA: u32 = 0x1_0000;
    pub const NOREPLY_UNKNOWN: u32 = 0x2_0000;
    pub const NOREPLY_EOH: u32 = 0x4_0000;
    pub const NOREPLY_BODY: u32 = 0x8_0000;
    pub const LEADING_SPACE: u32 = 0x10_0000;
    pub const ALL_STEPS: u32 = 0x1f_ffff;
}

/// The most octets that Postfix writes at once.
const BUFFER: usize = 4096;

/// The largest body chunk that Postfix sends.
pub const CHUNK: usize = 65535;

/// The most octets of a line (RFC 5322 §2.1.1).
const MAX_LINE: usize = 998;

/// The offers of the MTA, and its behaviour where MTAs differ.
#[derive(Clone, Debug)]
pub struct Options {
    /// Protocol version.
    pub version: u32,
    /// Actions offered.
    pub actions: u32,
    /// Protocol steps offered.
    pub steps: u32,
    /// The last chunk of the body travels inside the end-of-message packet, as with Postfix.
    pub body_in_end: bool,
    /// Macros of one letter are sent as `{j}`, not as `j`.
    pub braces: bool,
    /// The family of a client without an address is IPv4, the address `unknown`, as with Postfix;
    /// else it is unknown.
    pub unknown_is_inet: bool,
    /// IPv6 addresses are sent as `IPv6:2001:db8::1`, as Sendmail does.
    pub ipv6_prefix: bool,
    /// An answer to each packet is waited for, whatever was negotiated. When none comes, the milter
    /// is asked no more and all mail goes on without it, as with milter-manager.
    pub always_waits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: 6,
            actions: bits::ALL_ACTIONS,
            steps: bits::ALL_STEPS,
            body_in_end: true,
            braces: false,
            unknown_is_inet: true,
            ipv6_prefix: false,
            always_waits: false,
        }
    }
}

/// The requests of the milter.
#[derive(Clone, Debug, Default)]
pub struct Negotiation {
    /// Protocol version.
    pub version: u32,
    /// Actions that it may take.
    pub actions: u32,
    /// Steps that it does not want, or does not answer.
    pub steps: u32,
    /// Stage number (connect 0, helo 1, mail 2, rcpt 3, data 4, end 5, eoh 6) and the macros wanted
    /// there.
    pub macros: BTreeMap<u32, Vec<String>>,
}

/// The answer of the milter to an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Go on.
    Continue,
    /// No more questions about this message, or this connection.
    Accept,
    /// Reject with the MTA's own words.
    Reject,
    /// Reject for now with the MTA's own words.
    Tempfail,
    /// Take the message and throw it away.
    Discard,
    /// No more chunks of the body, please.
    Skip,
    /// An SMTP reply, `%` signs resolved as the MTA does.
    Code(String),
}

/// A change to the message that the milter asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edit {
    /// A field at the end of the header.
    Add(Field),
    /// A field at a place in the header; 0 is the top.
    Insert(u32, Field),
    /// A new value for the n-th field (from 1) of a name; an empty one deletes the field.
    Change(u32, Field),
    /// Keep the message back, and why.
    Quarantine(String),
    /// Anything else: command and content.
    Other(char, Vec<u8>),
}

/// The end of a message.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The fate of the message.
    pub reply: Reply,
    /// The changes asked for.
    pub edits: Vec<Edit>,
    /// The header after these changes.
    pub fields: Vec<Field>,
}

/// The MTA's end of a milter connection.
#[derive(Debug)]
pub struct MilterClient {
    stream: Stream,
    options: Options,
    /// The requests of the milter.
    pub negotiation: Negotiation,
    /// Macros by name without braces; sent where the protocol or the milter's wish places them.
    pub macros: BTreeMap<String, String>,
    /// Whether packets wait until an answer is wanted, and this end waits with `poll(2)` for it, as
    /// Postfix does. Otherwise each packet goes by itself.
    pub gathers: bool,
    /// How many answers were waited for.
    pub round_trips: usize,
    /// An answer was waited for in vain.
    lost_track: bool,
    connection_verdict: Option<Reply>,
    message_verdict: Option<Reply>,
    skip_body: bool,
    pending: Vec<u8>,
    gathered: Vec<u8>,
    fields: Vec<Field>,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl MilterClient {
    /// Connects and negotiates as Postfix does.
    pub fn connect_to(socket: &Socket) -> io::Result<Self> {
        Self::with_options(socket, Options::default())
    }

    /// Connects and negotiates.
    ///
    /// # Errors
    ///
    /// The error of the socket, and `InvalidData` when the milter asks for what was not offered.
    pub fn with_options(socket: &Socket, options: Options) -> io::Result<Self> {
        let mut client = Self {
            stream: Stream::connect(socket)?,
            options,
            negotiation: Negotiation::default(),
            macros: BTreeMap::new(),
            gathers: false,
            round_trips: 0,
            lost_track: false,
            connection_verdict: None,
            message_verdict: None,
            skip_body: false,
            pending: Vec::new(),
            gathered: Vec::new(),
            fields: Vec::new(),
        };
        client.negotiate()?;
        Ok(client)
    }

    fn negotiate(&mut self) -> io::Result<()> {
        let offer = [self.options.version, self.options.actions, self.options.steps];
        self.send(b'O', &offer.map(u32::to_be_bytes).concat())?;
        let (command, content) = self.receive()?;
        if command != b'O' || content.len() < 12 {
            return Err(broken("no answer to the negotiation"));
        }
        let number = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap());
        self.negotiation = Negotiation {
            version: number(0),
            actions: number(4),
            steps: number(8),
            macros: BTreeMap::new(),
        };
        let mut at = 12;
        while at + 4 < content.len() {
            let stage = number(at);
            let length = content[at + 4..]
                .iter()
                .position(|byte| *byte == 0)
                .ok_or_else(|| broken("macro list without an end"))?;
            let names = String::from_utf8_lossy(&content[at + 4..at + 4 + length]).into_owned();
            let names = names
                .split_ascii_whitespace()
                .map(|name| name.trim_matches(['{', '}']).to_owned())
                .collect();
            self.negotiation.macros.insert(stage, names);
            at += 5 + length;
        }
        let extra_actions = self.negotiation.actions & !self.options.actions;
        let extra_steps = self.negotiation.steps & !self.options.steps;
        if self.negotiation.version > self.options.version || extra_actions | extra_steps != 0 {
            return Err(broken(&format!("asked for what was not offered: {:?}", self.negotiation)));
        }
        Ok(())
    }

    /// Whether the milter asked for these steps to be left out, or left unanswered.
    pub fn without(&self, steps: u32) -> bool {
        self.negotiation.steps & steps == steps
    }

    /// Sends one packet; nothing is checked.
    pub fn send(&mut self, command: u8, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len() + 1).map_err(|_| broken("packet too long"))?;
        let mut packet = Vec::with_capacity(content.len() + 5);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.push(command);
        packet.extend_from_slice(content);
        if self.gathers {
            self.gathered.extend_from_slice(&packet);
            let whole = self.gathered.len() / BUFFER * BUFFER;
            for part in self.gathered.drain(..whole).as_slice().chunks(BUFFER) {
                self.stream.write_all(part)?;
            }
            return Ok(());
        }
        self.stream.write_all(&packet)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    /// Receives one packet.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        if self.gathers {
            self.flush()?;
            self.stream.wait()?;
        }
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > 1 << 20 {
            return Err(broken("packet of an impossible length"));
        }
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet)?;
        let content = packet.split_off(1);
        Ok((packet[0], content))
    }

    /// The connection itself, for what no MTA would send.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends the macros of a stage: those that the milter asked for, or else those that Postfix
    /// sends by itself.
    fn send_macros(&mut self, command: u8, stage: u32, usual: &[&str]) -> io::Result<()> {
        let asked = self.negotiation.macros.get(&stage);
        let names: Vec<&str> = asked
            .map_or_else(|| usual.to_vec(), |names| names.iter().map(String::as_str).collect());
        let mut content = vec![command];
        for name in names {
            if let Some(value) = self.macros.get(name) {
                let name = if name.len() > 1 || self.options.braces {
                    format!("{{{name}}}")
                } else {
                    name.to_owned()
                };
                content.extend(format!("{name}\0{value}\0").bytes());
            }
        }
        if content.len() > 1 { self.send(b'D', &content) } else { Ok(()) }
    }

    fn ended(&self) -> Option<Reply> {
        self.connection_verdict.clone().or_else(|| self.message_verdict.clone())
    }

    fn event(
        &mut self,
        command: u8,
        content: &[u8],
        no_event: u32,
        no_reply: u32,
    ) -> io::Result<Reply> {
        if let Some(reply) = self.ended() {
            return Ok(reply);
        }
        if no_event != 0 && self.without(no_event) {
            return Ok(Reply::Continue);
        }
        self.send(command, content)?;
        if no_reply != 0 && self.without(no_reply) {
            return if self.options.always_waits { self.lose_track() } else { Ok(Reply::Continue) };
        }
        let (reply, edits) = self.answer()?;
        if !edits.is_empty() {
            return Err(broken("a change before the end of the message"));
        }
        Ok(reply)
    }

    /// Waits for an answer that the milter was allowed not to give: the real one gives up after
    /// seven seconds.
    fn lose_track(&mut self) -> io::Result<Reply> {
        self.stream.finish_writing()?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        if !rest.is_empty() {
            return Err(broken("an answer where none was to be given"));
        }
        self.lost_track = true;
        self.connection_verdict = Some(Reply::Accept);
        Ok(Reply::Accept)
    }

    fn answer(&mut self) -> io::Result<(Reply, Vec<Edit>)> {
        self.round_trips += 1;
        let mut edits = Vec::new();
        loop {
            let (command, content) = self.receive()?;
            let reply = match command {
                b'c' => Reply::Continue,
                b'a' => Reply::Accept,
                b'r' => Reply::Reject,
                b't' => Reply::Tempfail,
                b'd' => Reply::Discard,
                b's' => Reply::Skip,
                b'y' => Reply::Code(reply_text(&content)?),
                b'p' => continue,
                b'h' => {
                    edits.push(Edit::Add(field(&content)?));
                    continue;
                }
                b'i' | b'm' if content.len() > 4 => {
                    let index = u32::from_be_bytes(content[..4].try_into().unwrap());
                    let field = field(&content[4..])?;
                    edits.push(if command == b'i' {
                        Edit::Insert(index, field)
                    } else {
                        Edit::Change(index, field)
                    });
                    continue;
                }
                b'q' => {
                    edits.push(Edit::Quarantine(
                        String::from_utf8_lossy(strip_null(&content)?).into_owned(),
                    ));
                    continue;
                }
                b'+' | b'2' | b'-' | b'b' | b'e' => {
                    edits.push(Edit::Other(command.into(), content));
                    continue;
                }
                _ => return Err(broken(&format!("unknown answer {:?}", char::from(command)))),
            };
            return Ok((reply, edits));
        }
    }

    /// Keeps a final word said at connect or HELO for the rest of the connection.
    fn keep_for_connection(&mut self, reply: Reply) -> Reply {
        if !matches!(reply, Reply::Continue | Reply::Skip) {
            self.connection_verdict = Some(reply.clone());
        }
        reply
    }

    /// A client connected; without an address it is `unknown` in the way of the MTA.
    pub fn connect(&mut self, host: &str, client: Option<SocketAddr>) -> io::Result<Reply> {
        self.connection_verdict = None;
        self.message_verdict = None;
        let (family, port, address) = match client {
            None if self.options.unknown_is_inet => ('4', 0, "unknown".to_owned()),
            None => return self.connect_raw(format!("{host}\0U").as_bytes()),
            Some(client @ SocketAddr::V4(_)) => ('4', client.port(), client.ip().to_string()),
            Some(client @ SocketAddr::V6(_)) => {
                let prefix = if self.options.ipv6_prefix { "IPv6:" } else { "" };
                ('6', client.port(), format!("{prefix}{}", client.ip()))
            }
        };
        let mut content = format!("{host}\0{family}").into_bytes();
        content.extend_from_slice(&port.to_be_bytes());
        content.extend_from_slice(format!("{address}\0").as_bytes());
        self.connect_raw(&content)
    }

    /// A client connected, in the words of the protocol.
    pub fn connect_raw(&mut self, content: &[u8]) -> io::Result<Reply> {
        self.send_macros(b'C', 0, &["j", "daemon_name", "daemon_addr", "v", "_"])?;
        let reply = self.event(b'C', content, bits::NO_CONNECT, bits::NOREPLY_CONNECT)?;
        Ok(self.keep_for_connection(reply))
    }

    /// The client gave its name.
    pub fn helo(&mut self, name: impl AsRef<[u8]>) -> io::Result<Reply> {
        if self.ended().is_none() {
            self.send_macros(
                b'H',
                1,
                &["tls_version", "cipher", "cipher_bits", "cert_subject", "cert_issuer"],
            )?;
        }
        let reply =
            self.event(b'H', &[name.as_ref(), b"\0"].concat(), bits::NO_HELO, bits::NOREPLY_HELO)?;
        Ok(self.keep_for_connection(reply))
    }

    /// A message begins; `path` has its angle brackets.
    pub fn mail(&mut self, path: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.mail_with(path, &[])
    }

    /// A message begins, with ESMTP parameters.
    pub fn mail_with(&mut self, path: impl AsRef<[u8]>, parameters: &[&str]) -> io::Result<Reply> {
        self.message_verdict = None;
        self.skip_body = false;
        self.fields.clear();
        self.pending.clear();
        let mut content = [path.as_ref(), b"\0"].concat();
        for parameter in parameters {
            content.extend(format!("{parameter}\0").bytes());
        }
        self.envelope(b'M', 2, &content, bits::NO_MAIL, bits::NOREPLY_MAIL)
    }

    /// A recipient; `path` has its angle brackets.
    pub fn rcpt(&mut self, path: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.envelope(b'R', 3, &[path.as_ref(), b"\0"].concat(), bits::NO_RCPT, bits::NOREPLY_RCPT)
    }

    /// The recipients are complete.
    pub fn data(&mut self) -> io::Result<Reply> {
        self.envelope(b'T', 4, b"", bits::NO_DATA, bits::NOREPLY_DATA)
    }

    fn envelope(
        &mut self,
        command: u8,
        stage: u32,
        content: &[u8],
        no_event: u32,
        no_reply: u32,
    ) -> io::Result<Reply> {
        if self.ended().is_none() && !self.without(no_event) {
            let usual: &[&str] = match stage {
                2 => &[
                    "i",
                    "auth_type",
                    "auth_authen",
                    "auth_author",
                    "mail_addr",
                    "mail_host",
                    "mail_mailer",
                ],
                3 => &["i", "rcpt_addr", "rcpt_host", "rcpt_mailer"],
                _ => &["i"],
            };
            self.send_macros(command, stage, usual)?;
        }
        let reply = self.event(command, content, no_event, no_reply)?;
        self.keep_for_message(reply)
    }

    fn keep_for_message(&mut self, reply: Reply) -> io::Result<Reply> {
        if matches!(reply, Reply::Accept | Reply::Discard) && self.connection_verdict.is_none() {
            self.message_verdict = Some(reply.clone());
        }
        Ok(reply)
    }

    /// A header field.
    pub fn header(&mut self, field: &Field) -> io::Result<Reply> {
        self.fields.push(field.clone());
        let mut value = field.value.as_slice();
        if !self.without(bits::LEADING_SPACE) {
            value = value.trim_ascii_start();
        }
        let content = [field.name.as_bytes(), b"\0", value, b"\0"].concat();
        let reply = self.event(b'L', &content, bits::NO_HEADER, bits::NOREPLY_HEADER)?;
        self.keep_for_message(reply)
    }

    /// The end of the header.
    pub fn eoh(&mut self) -> io::Result<Reply> {
        self.envelope(b'N', 6, b"", bits::NO_EOH, bits::NOREPLY_EOH)
    }

    /// A part of the body, cut into chunks as the protocol wants; line ends are CRLF.
    pub fn body(&mut self, bytes: &[u8]) -> io::Result<Reply> {
        self.pending.extend_from_slice(bytes);
        let mut last = Reply::Continue;
        while self.pending.len() > CHUNK {
            let rest = self.pending.split_off(CHUNK);
            let chunk = std::mem::replace(&mut self.pending, rest);
            last = self.send_chunk(&chunk)?;
        }
        Ok(last)
    }

    fn send_chunk(&mut self, chunk: &[u8]) -> io::Result<Reply> {
        if self.skip_body {
            return Ok(Reply::Continue);
        }
        let reply = self.event(b'B', chunk, bits::NO_BODY, bits::NOREPLY_BODY)?;
        self.skip_body = reply == Reply::Skip;
        self.keep_for_message(reply)
    }

    /// The end of the message.
    pub fn end(&mut self) -> io::Result<Finished> {
        let mut rest = std::mem::take(&mut self.pending);
        if !self.options.body_in_end && !rest.is_empty() {
            let reply = self.send_chunk(&std::mem::take(&mut rest))?;
            if !matches!(reply, Reply::Continue | Reply::Skip | Reply::Accept) {
                return Ok(Finished { reply, edits: Vec::new(), fields: self.fields.clone() });
            }
        }
        if self.without(bits::NO_BODY) || self.skip_body {
            rest.clear();
        }
        if let Some(reply) = self.ended() {
            self.message_verdict = None;
            return Ok(Finished { reply, edits: Vec::new(), fields: self.fields.clone() });
        }
        self.send_macros(b'E', 5, &["i"])?;
        self.send(b'E', &rest)?;
        let (reply, edits) = self.answer()?;
        let fields = apply(
            &self.fields,
            &edits,
            self.negotiation.actions,
            self.without(bits::LEADING_SPACE),
        )?;
        Ok(Finished { reply, edits, fields })
    }

    /// The message is given up: RSET, or a rejected MAIL.
    pub fn abort(&mut self) -> io::Result<()> {
        self.message_verdict = None;
        self.pending.clear();
        if self.connection_verdict.is_none() { self.send(b'A', b"") } else { Ok(()) }
    }

    /// The SMTP client is gone; the milter connection stays for the next one.
    pub fn quit_for_next(&mut self) -> io::Result<()> {
        self.connection_verdict = None;
        self.message_verdict = None;
        self.send(b'K', b"")
    }

    /// The SMTP client is gone, and this connection with it.
    pub fn quit(mut self) -> io::Result<()> {
        if self.lost_track { Ok(()) } else { self.send(b'Q', b"") }
    }

    /// Sends a whole message (header fields and body) and ends it.
    pub fn message(&mut self, fields: &[Field], body: &[u8]) -> io::Result<Finished> {
        let early = |reply: Reply| Finished { reply, edits: Vec::new(), fields: Vec::new() };
        let stops =
            |reply: &Reply| matches!(reply, Reply::Reject | Reply::Tempfail | Reply::Code(_));
        let reply = self.data()?;
        if stops(&reply) {
            return Ok(early(reply));
        }
        for field in fields {
            let reply = self.header(field)?;
            if stops(&reply) {
                return Ok(early(reply));
            }
        }
        let reply = self.eoh()?;
        if stops(&reply) {
            return Ok(early(reply));
        }
        self.body(body)?;
        self.end()
    }
}

fn strip_null(content: &[u8]) -> io::Result<&[u8]> {
    content.strip_suffix(b"\0").ok_or_else(|| broken("text without an end"))
}

/// The reply as the SMTP client sees it: the MTA takes `%` as an escape of what follows.
fn reply_text(content: &[u8]) -> io::Result<String> {
    let text = String::from_utf8(strip_null(content)?.to_vec())
        .map_err(|_| broken("reply is not UTF-8"))?;
    if text.chars().any(char::is_control) || !text.is_ascii() {
        return Err(broken(&format!("reply that no SMTP client may see: {text:?}")));
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        plain.push(if character == '%' { chars.next().unwrap_or('%') } else { character });
    }
    Ok(plain)
}

fn field(content: &[u8]) -> io::Result<Field> {
    let content = strip_null(content)?;
    let end = content
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(|| broken("header field without a value"))?;
    let (name, value) = (&content[..end], &content[end + 1..]);
    if value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        return Err(broken("NUL or CR in a header field"));
    }
    // A fold that a field would end at is a field that breaks out.
    if value
        .split(|byte| *byte == b'\n')
        .skip(1)
        .any(|line| !matches!(line.first(), Some(b' ' | b'\t')))
    {
        return Err(broken(&format!(
            "header field that breaks out: {:?}",
            String::from_utf8_lossy(value)
        )));
    }
    let longest = value.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or_default();
    if name.len() + 2 + longest > MAX_LINE {
        return Err(broken(&format!("line of a header field with {longest} octets")));
    }
    Ok(Field::new(&String::from_utf8_lossy(name), value))
}

/// The header after the edits, with the counting of Postfix: deleted fields no longer count.
///
/// A milter that does not want the space after the colon leaves it to the MTA to put one there.
///
/// # Errors
///
/// `InvalidData` for an edit that the MTA would not carry out.
pub fn apply(
    fields: &[Field],
    edits: &[Edit],
    allowed: u32,
    spaces_are_exact: bool,
) -> io::Result<Vec<Field>> {
    let complete = |field: &Field| {
        let space: &[u8] = if spaces_are_exact { b"" } else { b" " };
        Field::new(&field.name, [space, &field.value].concat())
    };
    let need = |bit: u32| {
        if allowed & bit == bit { Ok(()) } else { Err(broken("an action that was not negotiated")) }
    };
    let mut fields = fields.to_vec();
    for edit in edits {
        match edit {
            Edit::Add(field) => {
                need(bits::ADD_HEADER)?;
                fields.push(complete(field));
            }
            Edit::Insert(index, field) => {
                need(bits::ADD_HEADER)?;
                fields.insert((*index as usize).min(fields.len()), complete(field));
            }
            Edit::Change(index, change) => {
                need(bits::CHANGE_HEADER)?;
                let mut same = fields
                    .iter()
                    .enumerate()
                    .filter(|(_, field)| field.is(&change.name))
                    .map(|(at, _)| at);
                let place = same.nth((*index as usize).max(1) - 1);
                match place {
                    Some(at) if change.value.is_empty() => {
                        fields.remove(at);
                    }
                    Some(at) => fields[at].value = complete(change).value,
                    None if change.value.is_empty() => {
                        return Err(broken("deletion of a field that is not there"));
                    }
                    None => fields.push(complete(change)),
                }
            }
            Edit::Quarantine(_) => need(bits::QUARANTINE)?,
            Edit::Other(..) => {}
        }
    }
    Ok(fields)
}
