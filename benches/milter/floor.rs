//! The floor: a milter on the same library that asks for the same stages, says "continue" and
//! inserts one fixed field.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    task::{Context, Poll, ready},
};

use indymilter::{
    Actions, Callbacks, Config, ContextActions as _, Listener, MacroStage, ProtoOpts, Status,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::protocol::Negotiated;

/// The field, of the length that a Received-SPF field usually has.
const FIELD: (&std::ffi::CStr, &std::ffi::CStr) = (
    c"Received-SPF",
    c"pass (mx.receiver.example: domain of bounce-4711@hot0.example designates\n\t192.0.2.10 as permitted sender)\
     \n\treceiver=mx.receiver.example; client-ip=192.0.2.10; helo=out.hot0.example;\
     \n\tenvelope-from=\"bounce-4711@hot0.example\"; identity=mailfrom;\n\tmechanism=include",
);

/// Either kind of connection.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

struct Unix(UnixListener);
struct Tcp(TcpListener);

impl Listener for Unix {
    type Io = Box<dyn Connection>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Io>> {
        let (stream, _) = ready!(self.0.poll_accept(cx))?;
        Poll::Ready(Ok(Box::new(stream)))
    }
}

impl Listener for Tcp {
    type Io = Box<dyn Connection>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Io>> {
        let (stream, _) = ready!(self.0.poll_accept(cx))?;
        stream.set_nodelay(true)?;
        Poll::Ready(Ok(Box::new(stream)))
    }
}

/// Serves both sockets until the process is killed; asks for what another milter negotiated.
pub(crate) fn run(unix: &Path, tcp: SocketAddr, negotiated: &Negotiated) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let unix = Unix(UnixListener::bind(unix)?);
        let tcp = Tcp(TcpListener::bind(tcp).await?);
        let config = || Config { max_connections: 2000, ..Config::default() };
        tokio::try_join!(
            indymilter::run(unix, callbacks(negotiated), config(), std::future::pending::<()>()),
            indymilter::run(tcp, callbacks(negotiated), config(), std::future::pending::<()>()),
        )?;
        Ok(())
    })
}

fn callbacks(negotiated: &Negotiated) -> Callbacks<()> {
    let actions = Actions::from_bits_truncate(negotiated.actions);
    let opts = ProtoOpts::from_bits_truncate(negotiated.steps);
    let answer =
        move |no_reply| if opts.contains(no_reply) { Status::Noreply } else { Status::Continue };
    Callbacks::new()
        .on_negotiate(move |cx, _, _| {
            cx.requested_actions = actions;
            cx.requested_opts = opts;
            cx.requested_macros.insert(MacroStage::Connect, c"j".into());
            cx.requested_macros.insert(MacroStage::Mail, c"i {auth_authen}".into());
            cx.requested_macros.insert(MacroStage::Eom, c"i".into());
            Box::pin(async { Status::Continue })
        })
        .on_connect(move |_, _, _| Box::pin(async move { answer(ProtoOpts::NOREPLY_CONNECT) }))
        .on_helo(move |_, _| Box::pin(async move { answer(ProtoOpts::NOREPLY_HELO) }))
        .on_mail(move |_, _| Box::pin(async move { answer(ProtoOpts::NOREPLY_MAIL) }))
        .on_header(move |_, _, _| Box::pin(async move { answer(ProtoOpts::NOREPLY_HEADER) }))
        .on_eom(|cx| {
            Box::pin(async {
                match cx.actions.insert_header(0, FIELD.0, FIELD.1).await {
                    Ok(()) => Status::Continue,
                    Err(_) => Status::Tempfail,
                }
            })
        })
        .on_abort(|_| Box::pin(async { Status::Continue }))
        .on_close(|_| Box::pin(async { Status::Continue }))
}

/// The program of the child process: `--floor UNIX TCP ACTIONS STEPS`.
pub(crate) fn main(arguments: &[String]) -> Option<io::Result<()>> {
    let [unix, tcp, actions, steps] = arguments else { return None };
    let negotiated = Negotiated { actions: actions.parse().ok()?, steps: steps.parse().ok()? };
    Some(run(Path::new(unix), tcp.parse().ok()?, &negotiated))
}
