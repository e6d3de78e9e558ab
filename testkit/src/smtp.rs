//! An SMTP client.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A connection to an SMTP server.
#[derive(Debug)]
pub struct SmtpClient {
    stream: BufReader<TcpStream>,
    /// The greeting.
    pub greeting: Reply,
}

/// An SMTP reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Code and text of each line, with a space after the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it is positive, or asks for more.
    pub fn is_ok(&self) -> bool {
        self.code < 400
    }

    /// The last line, which holds code and text.
    pub fn last(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }
}

impl SmtpClient {
    /// Connects and reads the greeting.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        Self::greet(TcpStream::connect(server)?)
    }

    /// Connects from an address of this host.
    pub fn connect_from(client: IpAddr, server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(client, 0).into())?;
        socket.connect(&server.into())?;
        Self::greet(socket.into())
    }

    fn greet(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client =
            Self { stream: BufReader::new(stream), greeting: Reply { code: 0, lines: Vec::new() } };
        client.greeting = client.read_reply()?;
        Ok(client)
    }

    /// Reads a reply.
    pub fn read_reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let bad =
                || io::Error::new(io::ErrorKind::InvalidData, format!("no SMTP reply: {line}"));
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line.replacen('-', " ", usize::from(goes_on)));
            if !goes_on {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// Sends a command and reads the reply.
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.send(&[command.as_ref(), b"\r\n"].concat())?;
        self.read_reply()
    }

    /// Sends DATA and a message with LF or CRLF as line ends; the reply is the last one.
    pub fn data(&mut self, message: &[u8]) -> io::Result<Reply> {
        let reply = self.command("DATA")?;
        if reply.code != 354 {
            return Ok(reply);
        }
        self.send(&dot_stuffed(message))?;
        self.read_reply()
    }

    /// Sends a message in one transaction: the first negative reply, or the last.
    pub fn message(&mut self, from: &str, to: &[&str], message: &[u8]) -> io::Result<Reply> {
        let mut reply = self.command(format!("MAIL FROM:<{from}>"))?;
        for to in to {
            if !reply.is_ok() {
                return Ok(reply);
            }
            reply = self.command(format!("RCPT TO:<{to}>"))?;
        }
        if reply.is_ok() { self.data(message) } else { Ok(reply) }
    }
}

/// A message as it is sent after DATA, with the final dot.
fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(message.len() + message.len() / 16 + 5);
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    for line in message.split(|octet| *octet == b'\n') {
        if line.first() == Some(&b'.') {
            octets.push(b'.');
        }
        octets.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b".\r\n");
    octets
}
