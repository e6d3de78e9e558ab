//! The milter protocol: MTA events into the [`Session`], what it says back to the MTA.
//!
//! The only place that names the milter library. One run of the library serves one connection: so a connection that fails, leaves
//! or stops speaking ends alone, and one that is between messages can be told to go.

mod edits;
mod macros;
mod negotiation;
mod packets;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    ffi::{CStr, CString},
    future::poll_fn,
    io,
    net::Shutdown,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use indymilter::{Actions, Callbacks, Context, EomContext, Listener, ProtoOpts, SetErrorReply as _, SocketInfo, Status};
use tokio::sync::{Notify, watch};

use edits::EditPackets;
use macros::Macro;
use packets::BEFORE_QUIT_ARGUMENT;
pub(crate) use stream::Socket;
use stream::{Exchange, Stream};

use crate::{
    config::ErrorAction,
    mail::reply::Reply,
    observe::Observer,
    runtime::{Runtime, Shared},
    session::{Client, Edit, Finished, Reaction, Session, Verdict},
};

/// How long a session may be silent between packets. An SMTP client may be idle for an hour under some MTAs.
const IDLE_LIMIT: Duration = Duration::from_secs(7210);

/// What all connections share.
#[derive(Debug)]
pub struct Server {
    /// The configuration in force, and what is built from it.
    pub shared: Shared,
    /// Where records go.
    pub observer: Observer,
    /// Whether the daemon is about to end.
    pub draining: watch::Receiver<bool>,
}

/// What the callbacks of one connection share with the task that serves it.
#[derive(Debug)]
struct Line {
    server: Arc<Server>,
    socket: Arc<Socket>,
    exchange: Arc<Exchange>,
    /// Whether a message is under way.
    busy: AtomicBool,
    /// Told when a message has ended.
    idle: Notify,
}

/// The state of one connection, kept by the library between callbacks.
struct Connection {
    line: Arc<Line>,
    runtime: Arc<Runtime>,
    actions: Actions,
    opts: ProtoOpts,
    session: Option<Session>,
    /// Something failed where the MTA takes no answer; it is told at the end of the message.
    failed: bool,
}

/// Serves one connection until it ends, or until the daemon drains and no message is under way.
///
/// # Errors
///
/// What the peer did wrong, where that ended the connection.
pub(crate) async fn serve(socket: Socket, server: Arc<Server>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let exchange = Arc::new(Exchange::default());
    let stream = Stream::new(Arc::clone(&socket), Arc::clone(&exchange));
    let (mut draining, draining_now) = (server.draining.clone(), server.draining.clone());
    let line = Arc::new(Line {
        server,
        socket: Arc::clone(&socket),
        exchange: Arc::clone(&exchange),
        busy: AtomicBool::new(false),
        idle: Notify::new(),
    });
    let config = indymilter::Config { max_connections: 1, connection_timeout: IDLE_LIMIT, ..Default::default() };
    let shutdown = {
        let line = Arc::clone(&line);
        // Boxed, as the stream is.
        Box::pin(async move {
            let drained = async {
                // The sender lives as long as the daemon; should it be gone, that is the end as well.
                let _ = draining.wait_for(|draining| *draining).await;
                while line.busy.load(Ordering::Acquire) {
                    line.idle.notified().await;
                }
            };
            tokio::select! {
                () = line.exchange.ended.notified() => {}
                () = drained => {}
            }
        })
    };
    indymilter::run(Once(Some(Box::new(stream))), callbacks(line), config, shutdown).await?;
    // The library may still be reading: a peer that idles would not learn of the end before it speaks.
    let _ = socket.shut_down(Shutdown::Both);
    match exchange.take_fault() {
        Some(fault) if !*draining_now.borrow() => Err(fault),
        _ => Ok(()),
    }
}

/// A listener that has one connection and no more.
///
/// Boxed: the library's futures have room for it several times, as long as the connection lasts.
struct Once(Option<Box<Stream>>);

impl Listener for Once {
    type Io = Box<Stream>;

    fn poll_accept(&mut self, _: &mut TaskContext<'_>) -> Poll<io::Result<Box<Stream>>> {
        self.0.take().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }
}

fn callbacks(line: Arc<Line>) -> Callbacks<Connection> {
    Callbacks::new()
        .on_negotiate(move |cx, actions, opts| {
            let connection = Connection {
                line: Arc::clone(&line),
                runtime: line.server.shared.load(),
                actions: Actions::empty(),
                opts: ProtoOpts::empty(),
                session: None,
                failed: false,
            };
            Box::pin(async move { negotiation::negotiate(cx, connection, actions, opts) })
        })
        .on_connect(|cx, host, info| Box::pin(on_connect(cx, host, info)))
        .on_helo(|cx, name| Box::pin(on_helo(cx, name)))
        .on_mail(|cx, arguments| Box::pin(on_mail(cx, arguments)))
        .on_header(|cx, name, value| Box::pin(on_header(cx, name, value)))
        .on_eoh(|cx| Box::pin(on_eoh(cx)))
        .on_body(|cx, chunk| Box::pin(on_body(cx, chunk)))
        .on_eom(|cx| Box::pin(on_eom(cx)))
        .on_unknown(|cx, argument| Box::pin(on_unknown(cx, argument)))
        .on_abort(|cx| Box::pin(on_abort(cx)))
        .on_close(|cx| Box::pin(on_close(cx)))
}

//--- Callbacks ---

// The milter library awaits callbacks, whether or not they wait for anything.
#[expect(clippy::unused_async)]
async fn on_connect(cx: &mut Context<Connection>, host: CString, info: SocketInfo) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    if let Some(text) = connection.line.exchange.take_no_address() {
        connection.line.server.observer.client_without_address(&text);
    }
    let client = match info {
        SocketInfo::Inet(address) => Client { address: Some(address.ip()), port: address.port(), host: text(&host).into_owned() },
        _ => Client { address: None, port: 0, host: text(&host).into_owned() },
    };
    // Another SMTP session over the same connection (quit without closing): what was negotiated still holds.
    if connection.session.is_some() {
        connection.end_session();
    }
    let mta_host = connection.line.macro_value(Macro::Host);
    let (session, reaction) = Session::new(Arc::clone(&connection.runtime), &client, mta_host.as_deref());
    if let (Some(address), Verdict::Continue) = (client.address, &reaction.verdict) {
        connection.line.server.observer.private_client(address);
    }
    connection.session = Some(session);
    connection.react(&reaction, ProtoOpts::NOREPLY_CONNECT, &mut cx.reply)
}

async fn on_helo(cx: &mut Context<Connection>, name: CString) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    let Some(session) = &mut connection.session else { return connection.nothing_to_say(ProtoOpts::NOREPLY_HELO) };
    let done = while_connected(&connection.line, pin!(session.helo(&text(&name)))).await;
    let reaction = done.unwrap_or_else(Reaction::failed);
    connection.react(&reaction, ProtoOpts::NOREPLY_HELO, &mut cx.reply)
}

async fn on_mail(cx: &mut Context<Connection>, arguments: Vec<CString>) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    let Some(session) = &mut connection.session else { return connection.nothing_to_say(ProtoOpts::NOREPLY_MAIL) };
    connection.line.busy.store(true, Ordering::Release);
    // Without an argument it is the null reverse-path: an MTA that has none to tell has none.
    let reverse_path = arguments.first().map_or(b"".as_slice(), |path| path.to_bytes());
    let authenticated = connection.line.exchange.macros().get(Macro::Authenticated).is_some_and(|name| !name.is_empty());
    let queue_id = connection.line.macro_value(Macro::QueueId);
    let done = while_connected(&connection.line, pin!(session.mail(reverse_path, authenticated, queue_id.as_deref()))).await;
    let reaction = done.unwrap_or_else(Reaction::failed);
    let status = connection.react(&reaction, ProtoOpts::NOREPLY_MAIL, &mut cx.reply);
    // Where the MTA takes no answer, the message goes on in any case.
    if !matches!(status, Status::Continue | Status::Noreply) {
        connection.line.message_ended();
        // The message is at its end; what failed before must not fall on another one.
        connection.failed = false;
    }
    status
}

#[expect(clippy::unused_async)]
async fn on_header(cx: &mut Context<Connection>, name: CString, value: CString) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    let value = value_as_sent(connection.opts, value.to_bytes());
    connection.work(|session| session.header(name.to_bytes(), &value));
    connection.nothing_to_say(ProtoOpts::NOREPLY_HEADER)
}

#[expect(clippy::unused_async)]
async fn on_eoh(cx: &mut Context<Connection>) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    connection.work(Session::end_of_header);
    connection.nothing_to_say(ProtoOpts::NOREPLY_EOH)
}

// Also called for what comes inside the end-of-message packet. The library goes on to the end of the message only if this says
// `Continue`; where no reply was negotiated, it sends none all the same.
#[expect(clippy::unused_async)]
async fn on_body(cx: &mut Context<Connection>, chunk: Bytes) -> Status {
    if let Some(connection) = &mut cx.data {
        connection.work(|session| session.body(&chunk));
    }
    Status::Continue
}

async fn on_eom(cx: &mut EomContext<Connection>) -> Status {
    let Some(connection) = &mut cx.data else { return Status::Continue };
    let Some(session) = &mut connection.session else { return Status::Continue };
    let queue_id = connection.line.macro_value(Macro::QueueId);
    let finished = while_connected(&connection.line, pin!(session.end_of_message(queue_id.as_deref()))).await;
    let Some(Finished { mut verdict, edits, mut record }) = finished else {
        connection.line.message_ended();
        return connection.failure_status();
    };
    if std::mem::take(&mut connection.failed) {
        verdict = Verdict::Failed;
    }
    // A milter that is given white space as it was has to give it the same way.
    let mut packets = EditPackets::new(connection.actions, connection.opts.contains(ProtoOpts::LEADING_SPACE));
    // What can be done is done whatever else cannot: `error_action` may let the message go on.
    let mut failure = None;
    for edit in &edits {
        if let Err(error) = packets.edit(edit) {
            failure.get_or_insert(error);
            if let (Edit::Delete { .. }, Some(record)) = (edit, &mut record) {
                record.forged_fields = 0;
            }
        }
    }
    if let Verdict::Quarantine(reason) = &verdict
        && let Err(error) = packets.quarantine(reason)
    {
        failure.get_or_insert(error);
    }
    connection.line.exchange.send_with_reply(packets.into_packets());
    if let Some(error) = failure {
        connection.line.server.observer.problem(&format!("cannot change a message: {error}"));
        verdict = Verdict::Failed;
        if let Some(record) = &mut record {
            record.failed = true;
        }
    }
    connection.line.message_ended();
    connection.react(&Reaction { verdict, record }, ProtoOpts::empty(), &mut cx.reply)
}

#[expect(clippy::unused_async)]
async fn on_unknown(cx: &mut Context<Connection>, argument: CString) -> Status {
    match &cx.data {
        // Our own, which nobody waits for an answer to.
        _ if argument.to_bytes() == BEFORE_QUIT_ARGUMENT => Status::Noreply,
        Some(connection) => connection.nothing_to_say(ProtoOpts::NOREPLY_UNKNOWN),
        None => Status::Continue,
    }
}

#[expect(clippy::unused_async)]
async fn on_abort(cx: &mut Context<Connection>) -> Status {
    if let Some(connection) = &mut cx.data {
        if let Some(record) = connection.session.as_mut().and_then(Session::abort) {
            connection.line.server.observer.observe(&record);
        }
        connection.failed = false;
        connection.line.message_ended();
    }
    Status::Continue
}

#[expect(clippy::unused_async)]
async fn on_close(cx: &mut Context<Connection>) -> Status {
    if let Some(connection) = &mut cx.data {
        connection.end_session();
        connection.line.message_ended();
    }
    Status::Continue
}

//--- What callbacks share ---

/// The value of a header field with the white space after the colon.
fn value_as_sent(opts: ProtoOpts, value: &[u8]) -> Cow<'_, [u8]> {
    if opts.contains(ProtoOpts::LEADING_SPACE) || value.starts_with(b"\n") || value.starts_with(b"\r\n") {
        return value.into();
    }
    // The MTA has taken the space after the colon away; nearly always it was one. Before a fold there was none.
    [b" ", value].concat().into()
}

impl Line {
    fn macro_value(&self, name: Macro) -> Option<String> {
        self.exchange.macros().get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn message_ended(&self) {
        self.busy.store(false, Ordering::Release);
        self.idle.notify_one();
    }
}

impl Drop for Connection {
    /// A session that is cut off is told of as well.
    fn drop(&mut self) {
        self.end_session();
    }
}

impl Connection {
    /// Lets the session do what waits for nothing. Where that does not come to a good end, the end of the message is a failure.
    fn work(&mut self, work: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session
            && panic::catch_unwind(AssertUnwindSafe(|| work(session))).is_err()
        {
            self.line.server.observer.problem("internal error in the work on a message");
            self.failed = true;
        }
    }

    fn end_session(&mut self) {
        self.failed = false;
        if let Some(record) = self.session.take().and_then(Session::close) {
            self.line.server.observer.observe(&record);
        }
    }

    /// Tells operators and the MTA what the session says.
    fn react(&mut self, reaction: &Reaction, no_reply: ProtoOpts, smtp_reply: &mut indymilter::SmtpReply) -> Status {
        if let Some(record) = &reaction.record {
            self.line.server.observer.observe(record);
        }
        let status = match &reaction.verdict {
            // Keeping a message back is an action of its own, and no answer.
            Verdict::Continue | Verdict::Quarantine(_) => Status::Continue,
            Verdict::Accept(_) => Status::Accept,
            Verdict::Reply(reply) => self.reply_status(reply, smtp_reply),
            Verdict::Failed => return self.fail(no_reply),
        };
        if self.is_answered(no_reply) { status } else { Status::Noreply }
    }

    /// Whether the MTA takes an answer to an event; the end of a message always has one.
    fn is_answered(&self, no_reply: ProtoOpts) -> bool {
        no_reply.is_empty() || !self.opts.contains(no_reply)
    }

    /// Tells the MTA that the work could not be done: now, or at the end of the message.
    fn fail(&mut self, no_reply: ProtoOpts) -> Status {
        let status = self.failure_status();
        // `Accept` at HELO would let the whole connection through; what failed concerns one message.
        let too_much = no_reply == ProtoOpts::NOREPLY_HELO && status == Status::Accept;
        if self.is_answered(no_reply) && !too_much {
            return status;
        }
        self.failed = true;
        self.nothing_to_say(no_reply)
    }

    /// What the MTA is told where the work could not be done; a dry run does nothing to any message.
    fn failure_status(&self) -> Status {
        match self.runtime.config.error_action {
            _ if self.runtime.config.dry_run => Status::Continue,
            ErrorAction::Tempfail => Status::Tempfail,
            ErrorAction::Accept => Status::Accept,
        }
    }

    fn reply_status(&self, reply: &Reply, smtp_reply: &mut indymilter::SmtpReply) -> Status {
        let (code, status) = (reply.code().to_string(), reply.status().to_string());
        if let Err(error) = smtp_reply.set_error_reply(&code, Some(&status), [reply.text_for_mta()]) {
            // The MTA then says it in its own words.
            self.line.server.observer.problem(&format!("cannot pass on a reply: {error}"));
        }
        if reply.code().is_temporary() { Status::Tempfail } else { Status::Reject }
    }

    fn nothing_to_say(&self, no_reply: ProtoOpts) -> Status {
        if self.opts.contains(no_reply) { Status::Noreply } else { Status::Continue }
    }
}

/// Lets the session work as long as the peer is there; `None` where it did not come to an end, or not to a good one.
///
/// Pinned by the caller: every future has room for those that it is given, besides the room in which it awaits them.
async fn while_connected<T>(line: &Line, work: Pin<&mut (impl Future<Output = T> + Send)>) -> Option<T> {
    let mut work = AssertUnwindSafe(work).catch_unwind();
    // Mostly the work is done at once.
    let mut closed = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.poll_unpin(cx) {
            if done.is_err() {
                line.server.observer.problem("internal error in the work on a message");
            }
            return Poll::Ready(done.ok());
        }
        let closed = closed.get_or_insert_with(|| Box::pin(line.socket.closed_by_peer()));
        closed.as_mut().poll(cx).map(|()| None)
    })
    .await
}

fn text(octets: &CStr) -> Cow<'_, str> {
    String::from_utf8_lossy(octets.to_bytes())
}
