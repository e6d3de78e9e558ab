//! One MTA connection: packets in, events to the [`Session`], its answers back.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use indymilter::{
    ProtoOpts,
    message::{command::CommandKind, reply::ReplyKind},
};
use tokio::task::yield_now;

use super::{
    armed::Armed,
    buffers::{Buffer, Kind},
    clock::Clock,
    connected::{INTERNAL_ERROR, Unfinished, while_connected},
    macros::{Macro, Macros},
    negotiation::{Negotiated, negotiate},
    outbox::{self, Outlet},
    packets::{Framing, Packet, split_text},
    reading::{read_client, value_as_sent},
    replies::Replies,
    server::Server,
    socket::{Limit, Socket},
};
use crate::{
    internal_error::contained,
    mail::octets::to_text,
    runtime::Runtime,
    session::{Answer, Event, Session, Verdict},
};

/// How long a new connection may take until its first packet is there.
const NEGOTIATION_LIMIT: Duration = Duration::from_secs(30);

/// How long a packet may take from its first octet to its last.
const PACKET_LIMIT: Duration = Duration::from_secs(60);

/// How long the MTA may be silent between packets. An SMTP client may be idle for an hour under
/// some MTAs.
const IDLE_LIMIT: Duration = Duration::from_secs(7210);

/// How often an MTA whose next octets are always there is read from before others of the thread
/// have their turn.
const READS_IN_A_ROW: u32 = 16;

/// How many messages and HELO names an MTA may give up in a row before others of the thread have
/// their turn, and look-ups for these messages end.
const GIVEN_UP_IN_A_ROW: u32 = 8;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    outlet: &'a Arc<Outlet>,
    socket: &'a Socket,
    server: &'a Server,
    /// The configuration in force when the MTA negotiated.
    runtime: Arc<Runtime>,
    negotiated: Negotiated,
    macros: Macros,
    session: Option<Session>,
    /// Whether a message is under way: its sender was answered, and its end was not.
    is_busy: bool,
    clock: Clock,
    replies: Replies,
}

impl Drop for Conversation<'_> {
    /// A session that is cut off is recorded as well.
    fn drop(&mut self) {
        self.end_session();
    }
}

impl<'a> Conversation<'a> {
    pub(super) fn new(outlet: &'a Arc<Outlet>, server: &'a Server) -> Self {
        Self {
            outlet,
            socket: &outlet.socket,
            server,
            runtime: server.shared.load(),
            negotiated: Negotiated::default(),
            macros: Macros::default(),
            session: None,
            is_busy: false,
            clock: Clock::default(),
            replies: Replies::default(),
        }
    }

    /// Goes on until the MTA leaves, or until the daemon drains and no message is under way.
    ///
    /// # Errors
    ///
    /// The fault of the peer, where that ended the connection.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        let mut draining = self.server.draining.clone();
        let server = self.server;
        // Whether it has changed is known without its lock.
        let is_draining =
            || server.draining.has_changed().unwrap_or(true) && *server.draining.borrow();
        // The sender lives as long as the daemon; should it be gone, that is the end as well. Boxed: what each
        // packet needs is close together.
        let mut drained =
            Box::pin(async move { _ = draining.wait_for(|draining| *draining).await });
        let [mut drain_armed, mut stuck_armed] = [(); 2].map(|()| Armed::default());
        let mut limit = Limit::new(NEGOTIATION_LIMIT);
        let (mut framing, mut input) = (Framing::default(), Buffer::new(Kind::Input));
        let (mut owes_octets, mut may_read, mut reads_in_a_row, mut given_up) = (false, true, 0, 0);
        loop {
            self.clock.go_on();
            let mut rest = input.as_slice();
            let mut packet_ended = false;
            while let Some(packet) = framing.take(&mut rest)? {
                // An MTA that is quick would keep the thread to itself: its octets are there
                // whenever it is answered. Nor would look-ups end that were given up.
                if given_up >= GIVEN_UP_IN_A_ROW {
                    given_up = 0;
                    self.clock.go_on();
                    yield_now().await;
                }
                // Messages that come now are the next daemon's; the MTA has no answer yet.
                let is_between = !self.is_busy && is_draining();
                if is_between || packet.command == CommandKind::Quit {
                    return Ok(());
                }
                self.take(packet).await?;
                packet_ended |= packet.is_whole;
                given_up += match packet.command {
                    CommandKind::BodyEnd if packet.is_whole => GIVEN_UP_IN_A_ROW,
                    CommandKind::Abort | CommandKind::Helo if packet.is_whole => 1,
                    _ => 0,
                };
            }
            let left = rest.len();
            let taken = input.len() - left;
            input.drain(..taken);
            // The time runs from the first octet of what is owed, not from the last that came.
            let owed_octets =
                std::mem::replace(&mut owes_octets, framing.is_within_packet() || left > 0);
            if framing.is_open() && (packet_ended || owes_octets != owed_octets) {
                let time = if owes_octets { PACKET_LIMIT } else { IDLE_LIMIT };
                limit.restart(self.clock.now(), time);
            }
            reads_in_a_row += 1;
            if reads_in_a_row >= READS_IN_A_ROW {
                reads_in_a_row = 0;
                if self.outlet.is_stuck() {
                    self.outlet.finish().await?;
                }
                self.clock.go_on();
                yield_now().await;
            }
            loop {
                // What else wakes the task is asked for only where it was woken without octets, or
                // where it is there.
                let mut was_woken = false;
                let awaited = poll_fn(|cx| {
                    let was_woken = std::mem::replace(&mut was_woken, true);
                    // Perhaps for octets. Where none have come, that is known without asking the system.
                    may_read |= was_woken;
                    loop {
                        let is_large = framing.is_within_packet();
                        if let Some(count) =
                            self.socket.read_now(&mut input, is_large, &mut may_read)?
                        {
                            return Poll::Ready(Ok(Awaited::Octets(count)));
                        }
                        input.rest(self.is_busy);
                        (reads_in_a_row, given_up) = (0, 0);
                        if self.socket.poll_readable(cx)?.is_pending() {
                            break;
                        }
                        may_read = true;
                    }
                    if !self.is_busy {
                        let may_drain = was_woken || is_draining();
                        let drained =
                            drain_armed.poll(cx, may_drain, |cx| drained.as_mut().poll(cx));
                        if drained.is_ready() {
                            return Poll::Ready(Ok(Awaited::End));
                        }
                    }
                    let may_be_stuck = was_woken || self.outlet.is_stuck();
                    let stuck = stuck_armed.poll(cx, may_be_stuck, |cx| self.outlet.poll_stuck(cx));
                    if stuck.is_ready() {
                        return Poll::Ready(Ok(Awaited::Stuck));
                    }
                    limit.poll(cx, &self.clock, was_woken).map(|()| Err(too_slow()))
                });
                match awaited.await? {
                    Awaited::Octets(1..) => break,
                    Awaited::Octets(0) | Awaited::End => return Ok(()),
                    Awaited::Stuck => {
                        self.clock.go_on();
                        self.outlet.finish().await?;
                    }
                }
            }
        }
    }

    /// Takes a packet, and writes what it is answered with.
    async fn take(&mut self, packet: Packet<'_>) -> io::Result<()> {
        let Packet { command, content, is_whole } = packet;
        self.macros.begin(command);
        match command {
            CommandKind::OptNeg => self.negotiate(content)?,
            CommandKind::DefMacros if content.is_empty() => {
                return Err(unreadable("stage of macros"));
            }
            CommandKind::DefMacros => self.macros.define(content),
            CommandKind::ConnInfo => self.connect(content)?,
            CommandKind::Helo => self.helo(content).await?,
            CommandKind::Mail => self.mail(content).await?,
            CommandKind::Rcpt => self.rcpt(content).await?,
            CommandKind::Header => self.header(content)?,
            CommandKind::Eoh if is_whole => {
                self.work(Session::end_of_header);
                self.proceed(ProtoOpts::NOREPLY_EOH);
            }
            CommandKind::BodyChunk | CommandKind::BodyEnd => {
                if self.runtime.needs.content {
                    // Answers that are ready do not wait for hashes and signatures of another.
                    outbox::write_now();
                }
                if !content.is_empty() {
                    self.work(|session| session.body(content));
                }
                match command {
                    _ if !is_whole => {}
                    CommandKind::BodyEnd => self.end_of_message().await?,
                    _ => self.proceed(ProtoOpts::NOREPLY_BODY),
                }
            }
            CommandKind::Abort => self.abort(),
            CommandKind::QuitNc => self.end_session(),
            // Not asked for. An MTA that sends it all the same waits for an answer.
            CommandKind::Data if is_whole => self.proceed(ProtoOpts::NOREPLY_DATA),
            CommandKind::Unknown if is_whole => self.proceed(ProtoOpts::NOREPLY_UNKNOWN),
            CommandKind::Eoh | CommandKind::Data | CommandKind::Unknown | CommandKind::Quit => {}
        }
        let replies = self.replies.take();
        if replies.is_empty() || self.outlet.put_aside(&replies) {
            return Ok(());
        }
        self.clock.go_on();
        self.outlet.write(&replies).await
    }

    //--- Events ---

    /// A connection may be negotiated anew at any time: that ends the session, and begins with the
    /// configuration in force.
    fn negotiate(&mut self, content: &[u8]) -> io::Result<()> {
        self.end_session();
        self.runtime = self.server.shared.load();
        self.negotiated = negotiate(&self.runtime.needs, content, &mut self.replies)?;
        if !self.negotiated.is_enough {
            self.server.observer.problem(
                "the MTA does not let milters change messages as the configuration needs it",
            );
        }
        Ok(())
    }

    fn connect(&mut self, content: &[u8]) -> io::Result<()> {
        // Another SMTP session over the same connection: what was negotiated still holds.
        self.end_session();
        let (client, no_address) = read_client(content).ok_or_else(|| unreadable("client"))?;
        if let Some(text) = no_address {
            self.server.observer.client_without_address(&text);
        }
        let mta_host = self.macros.get(Macro::Host).map(to_text);
        let (session, answer) = Session::new(
            Arc::clone(&self.runtime),
            self.negotiated.granted(),
            &client,
            mta_host.as_deref(),
        );
        if let Some(address) = session.verified_client() {
            self.server.observer.private_client(address);
        }
        self.session = Some(session);
        self.carry_out(answer, ProtoOpts::NOREPLY_CONNECT)
    }

    async fn helo(&mut self, content: &[u8]) -> io::Result<()> {
        let (name, _) = split_text(content).ok_or_else(|| unreadable("HELO name"))?;
        let Some(session) = &mut self.session else {
            return self.out_of_order(ProtoOpts::NOREPLY_HELO);
        };
        let name = to_text(name);
        let work = session.at(self.clock.now()).helo(&name);
        let answer = while_connected(self.socket, self.server, &mut self.clock, pin!(work)).await;
        let is_lost = answer == Err(Unfinished::Panicked);
        let answer =
            answer.unwrap_or_else(|end| session.fail(Event::Helo, end == Unfinished::PeerGone));
        self.set_busy(false);
        // Its messages would be verified without the name, and nothing would be said of that.
        let is_silent = is_lost && !self.negotiated.is_answered(ProtoOpts::NOREPLY_HELO);
        self.carry_out(answer, ProtoOpts::NOREPLY_HELO)?;
        if is_silent { Err(io::Error::other(INTERNAL_ERROR)) } else { Ok(()) }
    }

    async fn mail(&mut self, content: &[u8]) -> io::Result<()> {
        // ESMTP parameters may follow.
        let (reverse_path, _) = split_text(content).ok_or_else(|| unreadable("reverse-path"))?;
        let authenticated =
            self.macros.get(Macro::Authenticated).is_some_and(|name| !name.is_empty());
        let Some(session) = &mut self.session else {
            return self.out_of_order(ProtoOpts::NOREPLY_MAIL);
        };
        let queue_id = self.macros.get(Macro::QueueId).map(to_text);
        let session = session.at(self.clock.now());
        let work = session.mail(reverse_path, authenticated, queue_id.as_deref());
        let answer = while_connected(self.socket, self.server, &mut self.clock, pin!(work)).await;
        let answer =
            answer.unwrap_or_else(|end| session.fail(Event::Mail, end == Unfinished::PeerGone));
        self.set_busy(answer.verdict == Verdict::Continue);
        self.carry_out(answer, ProtoOpts::NOREPLY_MAIL)
    }

    async fn rcpt(&mut self, content: &[u8]) -> io::Result<()> {
        // ESMTP parameters may follow.
        let (path, _) = split_text(content).ok_or_else(|| unreadable("recipient"))?;
        let Some(session) = &mut self.session else {
            return self.out_of_order(ProtoOpts::NOREPLY_RCPT);
        };
        let work = session.rcpt(path);
        let answer = while_connected(self.socket, self.server, &mut self.clock, pin!(work)).await;
        let answer =
            answer.unwrap_or_else(|end| session.fail(Event::Content, end == Unfinished::PeerGone));
        self.carry_out(answer, ProtoOpts::NOREPLY_RCPT)
    }

    fn header(&mut self, content: &[u8]) -> io::Result<()> {
        let text = split_text(content)
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| unreadable("header field"))?;
        let (name, value) =
            (text.0, split_text(text.1).ok_or_else(|| unreadable("header field"))?.0);
        let value = value_as_sent(self.negotiated.opts, value);
        self.work(|session| session.header(name, &value));
        self.proceed(ProtoOpts::NOREPLY_HEADER);
        Ok(())
    }

    async fn end_of_message(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return self.out_of_order(ProtoOpts::empty()) };
        let queue_id = self.macros.get(Macro::QueueId).map(to_text);
        let work = session.at(self.clock.now()).end_of_message(queue_id.as_deref());
        let answer = while_connected(self.socket, self.server, &mut self.clock, pin!(work)).await;
        let answer =
            answer.unwrap_or_else(|end| session.fail(Event::End, end == Unfinished::PeerGone));
        self.set_busy(false);
        self.carry_out(answer, ProtoOpts::empty())
    }

    /// The message under way, if there is one, is given up.
    fn abort(&mut self) {
        if let Some(session) = &mut self.session {
            let answer = contained(|| session.abort()).unwrap_or_else(|| {
                self.server.observer.problem(INTERNAL_ERROR);
                // What is left of the message is not the next one's.
                let _ = session.fail(Event::Content, true);
                session.abort()
            });
            self.server.observer.observe_all(&answer.records);
        }
        self.set_busy(false);
    }

    /// A panic ends here: the session may end because of another one.
    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            match contained(|| session.close()) {
                Some(answer) => self.server.observer.observe_all(&answer.records),
                None => self.server.observer.problem(INTERNAL_ERROR),
            }
        }
        self.set_busy(false);
    }

    fn set_busy(&mut self, is_busy: bool) {
        if std::mem::replace(&mut self.is_busy, is_busy) != is_busy {
            self.server.observer.metrics().message_under_way(is_busy);
        }
    }

    /// An event without the one that has to come before it.
    fn out_of_order(&mut self, no_reply: ProtoOpts) -> io::Result<()> {
        self.proceed(no_reply);
        Ok(())
    }

    //--- Answers ---

    /// Lets the session do what waits for nothing. Where that does not come to a good end, the end
    /// of the message is a failure.
    fn work(&mut self, work: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session
            && contained(|| work(session)).is_none()
        {
            self.server.observer.problem(INTERNAL_ERROR);
            self.server.observer.observe_all(&session.fail(Event::Content, false).records);
        }
    }

    /// Logs the records of an answer, and adds its edits and verdict to the replies.
    fn carry_out(&mut self, answer: Answer, no_reply: ProtoOpts) -> io::Result<()> {
        let Answer { verdict, edits, records } = answer;
        self.server.observer.observe_all(&records);
        // A milter that is given white space as it was has to give it the same way.
        let with_space = self.negotiated.opts.contains(ProtoOpts::LEADING_SPACE);
        for edit in &edits {
            self.replies.push_edit(with_space, edit)?;
        }
        match &verdict {
            Verdict::Continue => self.proceed(no_reply),
            Verdict::Accept => self.replies.push(ReplyKind::Accept),
            Verdict::Tempfail => self.replies.push(ReplyKind::Tempfail),
            Verdict::Reply(reply) => self.replies.push_reply(reply)?,
            // Keeping a message back is an action of its own, and no answer.
            Verdict::Quarantine(reason) => {
                self.replies.push_quarantine(reason)?;
                self.proceed(no_reply);
            }
        }
        Ok(())
    }

    /// Lets the MTA go on, if it takes an answer to the event; the end of a message always has
    /// one.
    fn proceed(&mut self, no_reply: ProtoOpts) {
        if self.negotiated.is_answered(no_reply) {
            self.replies.push(ReplyKind::Continue);
        }
    }
}

/// What a connection waits for.
enum Awaited {
    /// So many octets were read; 0 are the end.
    Octets(usize),
    /// An answer could not be written.
    Stuck,
    /// The daemon drains, and no message is under way.
    End,
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "peer is too slow to send a packet")
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("packet without a {what} that can be read"))
}
