//! `spf-milter status`: asks the milter that runs, over its metrics socket.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use crate::{
    config::{Errors, SocketSpec, load_metrics_socket, metrics_socket},
    observe::status::Status,
};

/// How long everything may take: to find the address, to connect, and to read the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest answer, in octets.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// The most header fields of an answer.
const MAX_FIELDS: usize = 32;

/// A line to add to a configuration without a metrics socket.
const LINE: &str = "metrics_socket = unix:/run/spf-milter/metrics.sock";

/// The question to the milter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Question {
    /// The status.
    Status,
    /// Whether it serves the MTA.
    Health,
    /// Whether it also has the answers of name servers.
    Readiness,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Status => "/",
            Self::Health => "/-/healthy",
            Self::Readiness => "/-/ready",
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The option that names the socket is wrong.
    Option(String),
    /// The configuration file cannot be read, or what it says about the socket is wrong.
    Configuration(Errors),
    /// The configuration does not say where to ask.
    Unknown(String),
    /// The milter does not run, or does not answer.
    Unavailable(String),
    /// The system does not let this user connect.
    NotPermitted(String),
    /// It is not a milter that answered.
    Protocol(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(errors) => errors.fmt(f),
            Self::Option(text)
            | Self::Unknown(text)
            | Self::Unavailable(text)
            | Self::NotPermitted(text)
            | Self::Protocol(text) => f.write_str(text),
        }
    }
}

/// Where to ask: the socket of the option, else that of the configuration file.
///
/// # Errors
///
/// Neither says it, or the one that does is wrong.
pub(crate) fn find_socket(option: Option<&str>, file: &Path) -> Result<SocketSpec, Failure> {
    let socket = match option {
        Some(text) => {
            let socket = metrics_socket(text)
                .map_err(|fault| Failure::Option(format!("--metrics-socket: {fault}")))?;
            Some(socket)
        }
        None => load_metrics_socket(file).map_err(Failure::Configuration)?,
    };
    let name = file.display();
    match socket {
        None => Err(Failure::Unknown(format!(
            "{name} does not set metrics_socket, so the milter cannot be asked; add a line such as '{LINE}', and restart the milter"
        ))),
        Some(socket @ SocketSpec::Fd(_)) => Err(Failure::Unknown(format!(
            "metrics_socket is {socket}, which the service manager opens; say where that is with --metrics-socket"
        ))),
        Some(socket @ (SocketSpec::Inet { port: 0, .. } | SocketSpec::Inet6 { port: 0, .. })) => {
            Err(Failure::Unknown(format!(
                "metrics_socket is {socket}, for which the system chose a port; say which one with --metrics-socket (the log has it, 'started')"
            )))
        }
        Some(socket) => Ok(socket),
    }
}

/// Asks for the status.
///
/// # Errors
///
/// There is no answer, or one that is not a status.
pub(crate) fn ask_status(socket: &SocketSpec) -> Result<Status, Failure> {
    let Answer { code, body } = ask(socket, Question::Status)?;
    if code != 200 {
        return Err(Failure::Protocol(format!("{socket} answers {code}, not with a status")));
    }
    Status::from_json(&body).map_err(|error| {
        Failure::Protocol(format!("{socket} answers with something else: {error}"))
    })
}

/// Asks for health or readiness: whether it is so, and one line about it.
///
/// # Errors
///
/// There is no answer.
pub(crate) fn ask_health(
    socket: &SocketSpec,
    question: Question,
) -> Result<(bool, String), Failure> {
    let Answer { code, body } = ask(socket, question)?;
    let is_so = match code {
        200 => true,
        503 => false,
        _ => return Err(Failure::Protocol(format!("{socket} answers {code}"))),
    };
    let text = String::from_utf8_lossy(&body);
    Ok((is_so, text.lines().next().unwrap_or_default().escape_debug().to_string()))
}

/// An answer over HTTP.
#[derive(Debug, Eq, PartialEq)]
struct Answer {
    code: u16,
    body: Vec<u8>,
}

/// Asks on a thread of its own: that it takes too long can be the fault of any step.
fn ask(socket: &SocketSpec, question: Question) -> Result<Answer, Failure> {
    let (sender, receiver) = sync_channel(1);
    let to_ask = socket.clone();
    let spawned = thread::Builder::new()
        .name("ask".into())
        .spawn(move || sender.send(exchange(&to_ask, question)));
    spawned.map_err(|error| Failure::Unavailable(format!("cannot start a thread: {error}")))?;
    let answer = receiver.recv_timeout(LIMIT).map_err(|_| {
        let seconds = LIMIT.as_secs();
        Failure::Unavailable(format!("{socket} does not answer within {seconds} seconds"))
    })?;
    let octets = answer.map_err(|error| explain(socket, &error))?;
    read(&octets).map_err(|problem| {
        Failure::Protocol(format!("{socket} does not answer as a milter: {problem}"))
    })
}

/// What a failure to connect means.
fn explain(socket: &SocketSpec, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::NotPermitted(format!(
            "cannot connect to {socket}: {error}; run this as root, as the user of the milter, or as a member of socket_group"
        )),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::Unavailable(format!(
                "cannot connect to {socket}: {error}; either the milter does not run, or it was not restarted since metrics_socket was set"
            ))
        }
        _ => Failure::Unavailable(format!("cannot ask {socket}: {error}")),
    }
}

/// Sends the question, and reads the answer to its end.
fn exchange(socket: &SocketSpec, question: Question) -> io::Result<Vec<u8>> {
    match socket {
        SocketSpec::Inet { host, port } | SocketSpec::Inet6 { host, port } => {
            let is_v6 = matches!(socket, SocketSpec::Inet6 { .. });
            let found = (host.as_str(), *port).to_socket_addrs()?;
            let addresses: Vec<SocketAddr> =
                found.filter(|address| address.is_ipv6() || !is_v6).collect();
            // One after the other, until one is connected.
            converse(TcpStream::connect(addresses.as_slice())?, question)
        }
        SocketSpec::Unix(path) => converse(UnixStream::connect(path)?, question),
        SocketSpec::Fd(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn converse(mut stream: impl Read + Write, question: Question) -> io::Result<Vec<u8>> {
    let path = question.path();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    let mut octets = Vec::new();
    let ended = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.take(MAX_ANSWER + 1).read_to_end(&mut octets));
    match ended {
        // Whoever does not speak HTTP may hang up before it has read the question.
        Err(error) if is_hung_up(&error) => Ok(octets),
        ended => ended.map(|_| octets),
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Reads an answer, which is whole.
fn read(octets: &[u8]) -> Result<Answer, String> {
    if u64::try_from(octets.len()).is_ok_and(|length| length > MAX_ANSWER) {
        return Err(format!("more than {MAX_ANSWER} octets"));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(octets) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err("the answer is not whole".into()),
        Err(error) => return Err(error.to_string()),
    };
    let (Some(code), Some((_, body))) = (response.code, octets.split_at_checked(length)) else {
        return Err("the answer is not whole".into());
    };
    let mut lengths =
        response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let announced = lengths.next().and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
    if announced != Some(body.len()) {
        return Err("the answer is not whole".into());
    }
    Ok(Answer { code, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, path::PathBuf};

    use super::*;

    #[test]
    fn answers_are_whole() {
        let answer = |text: &str| read(text.as_bytes());
        assert_eq!(
            answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n"),
            Ok(Answer { code: 503, body: b"no\n".into() })
        );
        for wrong in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnono",
            "HTTP/1.1 200 OK\r\n\r\nno\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert!(answer(wrong).is_err(), "{wrong}");
        }
        let of_fields = |count: usize| {
            let fields = "A: b\r\n".repeat(count - 1);
            answer(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"))
        };
        assert!(of_fields(MAX_FIELDS - 1).is_ok() && of_fields(MAX_FIELDS).is_ok());
        assert!(of_fields(MAX_FIELDS + 1).is_err());
        let head = "HTTP/1.1 200 OK\r\nContent-Length: ";
        for (more, is_read) in [(-1_i64, true), (0, true), (1, false)] {
            let all = i64::try_from(MAX_ANSWER).unwrap() + more;
            let body = usize::try_from(all).unwrap() - head.len() - 11;
            let text = format!("{head}{body}\r\n\r\n{}", "x".repeat(body));
            assert_eq!(i64::try_from(text.len()), Ok(all));
            assert_eq!(answer(&text).is_ok(), is_read);
        }
    }

    fn failure(option: Option<&str>, file: &str) -> String {
        find_socket(option, Path::new(file)).unwrap_err().to_string()
    }

    #[test]
    fn where_to_ask_is_said() {
        let found = find_socket(Some("unix:/run/m"), Path::new("/nonexistent")).unwrap();
        assert_eq!(found, SocketSpec::Unix(PathBuf::from("/run/m")));
        assert!(
            failure(Some("/run/m"), "/x").starts_with("--metrics-socket: '/run/m' is not a socket")
        );
        assert!(failure(Some("fd:m"), "/x").contains("say where that is with --metrics-socket"));
        assert!(failure(Some("inet:localhost:0"), "/x").contains("say which one"));
        assert!(failure(None, "/nonexistent").contains("No such file"));
        assert!(failure(None, "/dev/null").contains("add a line such as 'metrics_socket = unix:"));
    }

    #[test]
    fn whoever_does_not_answer_well_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = SocketSpec::Inet { host: "127.0.0.1".into(), port };
        let other = thread::spawn(move || {
            for answer in ["220 mx ESMTP\r\n", "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 200];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(matches!(ask_status(&socket), Err(Failure::Protocol(_))));
        assert!(matches!(ask_health(&socket, Question::Health), Err(Failure::Protocol(_))));
        other.join().unwrap();
        // Nobody is there any more.
        assert!(matches!(ask_status(&socket), Err(Failure::Unavailable(_))));
        let missing = SocketSpec::Unix("/nonexistent/m".into());
        assert!(matches!(ask_status(&missing), Err(Failure::Unavailable(_))));
    }
}
