//! The floor: the least that any milter has to do, by hand, without a milter library and without code
//! of the daemon.
//!
//! It negotiates what the daemon negotiated, reads into a buffer for each connection, takes packet
//! after packet by its length, says "continue" where an answer is wanted, and inserts one fixed field
//! at the end of each message, together with the answer in one write. One thread serves all
//! connections.

use std::{io, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};

use super::mta::{Negotiated, steps};

/// The field, of the length that a Received-SPF field usually has, as a packet has it.
const FIELD: &[u8] = b"Received-SPF\0pass (mx.receiver.example: domain of bounce-4711@hot0.example designates\n\t\
    192.0.2.10 as permitted sender)\n\treceiver=mx.receiver.example; client-ip=192.0.2.10; helo=out.hot0.example;\
    \n\tenvelope-from=\"bounce-4711@hot0.example\"; identity=mailfrom;\n\tmechanism=include\0";

/// The macros asked for: stage and names.
const MACROS: [(u32, &[u8]); 3] = [(0, b"j\0"), (2, b"i {auth_authen}\0"), (5, b"i\0")];

/// The octets that one read takes at most.
const READ: usize = 8 * 1024;

/// Serves both sockets until the process is killed; asks for what another milter negotiated.
pub fn run(unix: &Path, tcp: SocketAddr, negotiated: Negotiated) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let unix = UnixListener::bind(unix)?;
        let tcp = TcpListener::bind(tcp).await?;
        loop {
            tokio::select! {
                accepted = unix.accept() => {
                    tokio::spawn(serve(accepted?.0, negotiated));
                }
                accepted = tcp.accept() => {
                    let stream = accepted?.0;
                    stream.set_nodelay(true)?;
                    tokio::spawn(serve(stream, negotiated));
                }
            }
        }
    })
}

/// Serves a connection to its end; whatever is wrong ends it.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, negotiated: Negotiated) {
    let mut input: Vec<u8> = Vec::with_capacity(READ);
    let mut output = Vec::with_capacity(1024);
    loop {
        let mut rest = input.as_slice();
        while let Some((command, after)) = packet(rest) {
            rest = after;
            if command == b'Q' {
                return;
            }
            answer(command, negotiated, &mut output);
        }
        let taken = input.len() - rest.len();
        input.drain(..taken);
        if !output.is_empty() {
            if stream.write_all(&output).await.is_err() {
                return;
            }
            output.clear();
        }
        input.reserve(READ);
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

/// The first packet, if it is complete: its command, and the octets behind it. Its content is of no use
/// here.
fn packet(input: &[u8]) -> Option<(u8, &[u8])> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let (packet, rest) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((*packet.first()?, rest))
}

/// Writes what a packet is answered with.
fn answer(command: u8, negotiated: Negotiated, output: &mut Vec<u8>) {
    let no_reply = match command {
        b'O' => {
            let Negotiated { actions, steps } = negotiated;
            let numbers = [6, actions, steps].map(u32::to_be_bytes).concat();
            let macros =
                MACROS.map(|(stage, names)| [&stage.to_be_bytes(), names].concat()).concat();
            write(output, b'O', &[&numbers, &macros]);
            return;
        }
        b'E' => {
            write(output, b'i', &[&0_u32.to_be_bytes(), FIELD]);
            0
        }
        b'C' => steps::NOREPLY_CONNECT,
        b'H' => steps::NOREPLY_HELO,
        b'M' => steps::NOREPLY_MAIL,
        b'R' => steps::NOREPLY_RCPT,
        b'T' => steps::NOREPLY_DATA,
        b'L' => steps::NOREPLY_HEADER,
        b'N' => steps::NOREPLY_EOH,
        b'B' => steps::NOREPLY_BODY,
        // Macros, abort: never answered.
        _ => return,
    };
    if negotiated.steps & no_reply == 0 {
        write(output, b'c', &[]);
    }
}

fn write(output: &mut Vec<u8>, command: u8, content: &[&[u8]]) {
    let length: usize = content.iter().map(|part| part.len()).sum();
    // Nothing here comes near the limit.
    output.extend_from_slice(&u32::try_from(length + 1).unwrap_or(u32::MAX).to_be_bytes());
    output.push(command);
    content.iter().for_each(|part| output.extend_from_slice(part));
}

/// The argument that makes a program the floor.
pub const ARGUMENT: &str = "--floor";

/// The program of the child process: `--floor UNIX TCP ACTIONS STEPS`.
pub fn main(arguments: &[String]) -> Option<io::Result<()>> {
    let [unix, tcp, actions, steps] = arguments else { return None };
    let negotiated = Negotiated { actions: actions.parse().ok()?, steps: steps.parse().ok()? };
    Some(run(Path::new(unix), tcp.parse().ok()?, negotiated))
}
