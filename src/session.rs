//! One SMTP session: events in; verdicts, edits and records out. Knows nothing of milter.
//!
//! ```text
//! HELO, MAIL FROM   SPF                          answered when verified; goes on until the end where it cannot be refused
//! MAIL FROM         iprev ------------------+    once a session, beside everything else
//! From field        DMARC policy ---------+ |
//! end of header     DKIM keys ----------+ | |
//! body              DKIM body hashes    | | |
//! end of message    SPF, DKIM <---------+ | |    all of it joined, in this order
//!                   DMARC <---------------+ |
//!                   iprev <-----------------+
//! ```
//!
//! # Bounds
//!
//! Every stage ends after `timeout_secs`: one SPF check, the key look-ups from the end of the
//! header on, DMARC from the end of DKIM on, iprev from its beginning on. The end of a message is
//! answered after twice that at the latest, for SPF and the keys are waited for at the same time,
//! and is mostly answered at once. A check ends with its message, all of it with the session.
//!
//! With the usual limits the first message of a session asks at most 506 questions of DNS: 132 for
//! HELO, 132 for MAIL FROM, 11 for iprev, 10 keys, 221 for DMARC, and 24 more with mailing lists that
//! authenticate themselves. Hardly any message asks more than twenty. Of a message its header is
//! kept, up to 1 MiB, and some hashes.

mod answer;
mod check;
mod content;
mod context;
mod edits;
mod ending;
mod forged;
mod iprev;
mod peer;
mod recipients;
mod record;
mod recorder;
mod relayed;
mod senders;
mod settle;
mod shown_domain;
mod task;
#[cfg(test)]
mod tests;
mod transaction;

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

pub use answer::{Answer, Edit, Records, Verdict};
use content::Content;
use context::Context;
use ending::Ending;
use forged::Forged;
use futures_util::{FutureExt as _, future::OptionFuture};
use iprev::Iprev;
pub use peer::{Client, Granted};
use recipients::Recipients;
pub use record::{ContentRecord, Failure, IdentityRecord, Recipient, Record, Told};
use recorder::Recorder;
use relayed::Relayed;
use senders::{Helo, Sender, cut};
pub use settle::Event;
use tokio::time::Instant;
use transaction::{Message, Transaction};
#[cfg(any(test, feature = "testing"))]
pub use {
    peer::Permission,
    record::{Action, Skipped, Timings},
};

use crate::{
    internal_error::InternalError,
    mail::{auth_results::OwnAuthservIds, envelope::ReversePath},
    policy::{self, Admitted, Exemption},
    runtime::Runtime,
};

/// A session.
#[derive(Debug)]
pub struct Session {
    context: Context,
    granted: Granted,
    /// Why nothing of the client is verified.
    exemption: Option<Exemption>,
    /// The authserv-ids whose incoming fields are deleted.
    own_ids: OwnAuthservIds,
    /// The client may bring in fields in our name, as long as it does not authenticate.
    keeps_fields: bool,
    // Boxed, as is what most sessions do not have most of the time: idle sessions are to be small.
    helo: Option<Box<Helo>>,
    /// The client's name, verified beside its first message.
    iprev: Iprev,
    transaction: Transaction,
    recorder: Recorder,
}

impl Session {
    /// Begins a session when a client connects, with what the MTA grants.
    pub fn new(
        runtime: Arc<Runtime>,
        granted: Granted,
        client: &Client,
        mta_host: Option<&str>,
    ) -> (Self, Answer) {
        let mut context = Context::new(runtime, client.address, mta_host);
        let admitted = policy::admit(context.config(), client.address, client.port, &client.host);
        context.relay = (admitted == Ok(Admitted::Relay)).then_some(context.client);
        let inner = (admitted == Ok(Admitted::Client)).then(|| context.map_client()).flatten();
        let (config, exemption) = (context.config(), admitted.err());
        let address = client.address.filter(|_| context.relay.is_none()).map(|_| context.client);
        let mut session = Self {
            granted,
            exemption,
            own_ids: context.runtime.own_authserv_ids(&context.host_name),
            keeps_fields: policy::may_claim_our_ids(config, client.address),
            helo: None,
            iprev: Iprev::NotBegun,
            transaction: Transaction::None,
            recorder: Recorder::new(address, inner, context.relay, config.dry_run),
            context,
        };
        let answer = match exemption {
            None => Answer::proceed(),
            Some(exemption) => session.exempt(exemption, false, granted.connect_answer),
        };
        (session, answer)
    }

    /// The address of the client, where it is verified itself; also where one authenticates later.
    pub fn verified_client(&self) -> Option<IpAddr> {
        (self.exemption.is_none() && self.context.relay.is_none()).then_some(self.context.client)
    }

    /// Says when the next event came: HELO, MAIL FROM or the end of a message. Whoever says so does before
    /// each; else the time is read.
    pub fn at(&mut self, time: Instant) -> &mut Self {
        self.context.time = Some(time);
        self
    }

    /// HELO or EHLO. Comes again after STARTTLS; a name is verified once.
    pub async fn helo(&mut self, name: &str) -> Answer {
        // HELO ends a message that is under way (RFC 5321 §4.1.4).
        let (now, mut earlier) = (self.context.now(), self.end_transaction());
        if self.verified_client().is_none() {
            return Answer::proceed().after(earlier);
        }
        let name = cut(self.context.mapped_helo.as_deref().unwrap_or(name));
        if self.helo.as_ref().is_none_or(|helo| *helo.name != *name) {
            // The record so far belongs to the former name.
            earlier = earlier.or_else(|| self.recorder.take());
            Helo::begin(&self.context, now, name, &mut self.recorder).put_in(&mut self.helo);
            self.recorder.helo = self.helo.as_ref().map(|helo| Arc::clone(&helo.name));
        }
        let answer = match &mut self.helo {
            Some(helo) if self.context.runtime.needs.helo_reply => match helo.wait().await {
                Ok(()) => {
                    helo.decide(&self.context, &mut self.recorder).await;
                    let verdict = helo.verdict();
                    self.settle(verdict, Vec::new())
                }
                Err(error) => self.give_up(Event::Helo, Some(error), None),
            },
            _ => Answer::proceed(),
        };
        answer.after(earlier)
    }

    /// MAIL FROM: a new message.
    pub async fn mail(
        &mut self,
        reverse_path: &[u8],
        authenticated: bool,
        queue_id: Option<&str>,
    ) -> Answer {
        // A message that was given up without an abort is recorded first.
        let earlier = self.end_transaction();
        self.recorder.pending().queue_id = queue_id.map(str::to_owned);
        let forged = self.deletes_fields(authenticated).then(Forged::default);
        // That a relay authenticates says nothing about the clients of its messages.
        let authentication = policy::from_authentication(
            self.context.config(),
            authenticated && self.context.relay.is_none(),
        );
        let answer = match (self.exemption, authentication) {
            (None, None) => return self.begin_message(reverse_path, forged).await.after(earlier),
            // Of an exempt client that was recorded when it connected.
            (Some(_), _) => Answer::proceed(),
            (None, Some(exemption)) => self.exempt(exemption, true, self.granted.mail_answer),
        };
        if forged.is_some() {
            self.recorder.pending().queue_id = queue_id.map(str::to_owned);
            self.transaction = Transaction::Exempt(forged);
        }
        answer.after(earlier)
    }

    /// Begins a message that is verified.
    async fn begin_message(&mut self, reverse_path: &[u8], forged: Option<Forged>) -> Answer {
        let now = self.context.now();
        let relayed = self.context.relay.is_some().then(|| {
            (self.helo, self.iprev) = (None, Iprev::NotBegun);
            Box::new(Relayed::new(reverse_path, &mut self.context, &mut self.recorder))
        });
        let (context, config) = (&self.context, self.context.config());
        let sender = if relayed.is_some() {
            Sender::open()
        } else {
            self.iprev.begin(context);
            Sender::begin(context, now, ReversePath::parse(reverse_path), self.helo.as_deref())
        };
        let looks_at_content = config.verify_dkim || config.verify_dmarc;
        let mut message = Box::new(Message {
            begun: sender.begun,
            relayed,
            sender,
            recipients: Recipients::default(),
            content: looks_at_content.then(|| Box::new(Content::new(context))),
            forged,
        });
        // Where MAIL FROM cannot be refused, its check goes on until the end of the message: an MTA
        // that begins message after message does not wait for them one by one.
        if context.runtime.needs.mail_reply && message.relayed.is_none() {
            let answer = match self.join_senders(&mut message).await {
                Ok(verdict) => self.settle(verdict, Vec::new()),
                Err(error) => return self.give_up(Event::Mail, Some(error), message.forged),
            };
            if answer.verdict != Verdict::Continue {
                return answer;
            }
        }
        self.transaction = Transaction::Verified(message);
        Answer::proceed()
    }

    /// RCPT TO: another recipient. Only where some are exempt there may be a reply.
    pub async fn rcpt(&mut self, path: &[u8]) -> Answer {
        let transaction = std::mem::take(&mut self.transaction);
        let Transaction::Verified(mut message) = transaction else {
            self.transaction = transaction;
            return Answer::proceed();
        };
        if let Err(error) = self.join_senders(&mut message).await {
            return self.give_up(Event::Content, Some(error), message.forged);
        }
        let (helo, recorder) = (self.helo.as_deref(), &mut self.recorder);
        let Message { recipients, sender, .. } = &mut *message;
        let verdict = recipients.decide(&self.context, path, helo, sender, recorder);
        self.transaction = Transaction::Verified(message);
        // The message may go on to other recipients.
        let queue_id = self.recorder.queue_id();
        let answer = self.settle(verdict, Vec::new());
        self.recorder.pending().queue_id = queue_id;
        answer
    }

    /// A header field, as the client sent it: the value begins right behind the colon.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let mut is_found = false;
        let forged = match &mut self.transaction {
            Transaction::None => None,
            Transaction::Exempt(forged) | Transaction::Failed(forged) => forged.as_mut(),
            Transaction::Verified(message) => {
                is_found = Relayed::look_at(&mut message.relayed, &self.context, name, value);
                if let Some(content) = &mut message.content {
                    content.header(&self.context.dns, name, value);
                }
                message.forged.as_mut()
            }
        };
        if let Some(forged) = forged {
            forged.look_at(name, value, &self.own_ids, self.context.config().tag_name());
        }
        if is_found {
            self.find_client();
        }
    }

    /// The end of the header.
    pub fn end_of_header(&mut self) {
        self.find_client();
        if let Transaction::Verified(message) = &mut self.transaction
            && let Some(content) = &mut message.content
        {
            content.end_of_header(&self.context.dns);
        }
    }

    /// The next octets of the body, lines ending in CRLF, cut anywhere.
    pub fn body(&mut self, chunk: &[u8]) {
        if let Transaction::Verified(message) = &mut self.transaction
            && let Some(content) = &mut message.content
        {
            content.body(&self.context.dns, chunk);
        }
    }

    /// The end of the message.
    pub async fn end_of_message(&mut self, queue_id: Option<&str>) -> Answer {
        // The MTA need not send the end of the header.
        self.find_client();
        let transaction = std::mem::take(&mut self.transaction);
        if !matches!(transaction, Transaction::None) {
            self.recorder.learn_queue_id(queue_id);
        }
        match transaction {
            Transaction::None => Answer::proceed(),
            Transaction::Exempt(forged) => {
                let forged = forged.unwrap_or_default();
                let decision = policy::at_end_of_exempt(forged.too_many());
                let (now, helo) = (self.context.now(), self.helo.as_deref().map(Helo::name));
                let verdict = match context::verdict(&decision, None) {
                    Ok(verdict) => verdict,
                    Err(refusal) => {
                        Verdict::Reply(self.context.word(refusal, helo, None, None, now).await)
                    }
                };
                self.recorder.end_of_message(Some(&forged));
                self.settle(verdict, forged.deletions(self.context.config()).collect())
            }
            Transaction::Failed(forged) => self.give_up(Event::End, None, forged),
            Transaction::Verified(mut message) => {
                match AssertUnwindSafe(self.conclude(&mut message)).catch_unwind().await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) => self.give_up(Event::End, Some(error), message.forged),
                    Err(panic) => {
                        // For `fail`, which has the fields deleted.
                        self.transaction = Transaction::Failed(message.forged);
                        resume_unwind(panic)
                    }
                }
            }
        }
    }

    /// The end of a message that is verified.
    async fn conclude(&mut self, message: &mut Message) -> Result<Answer, InternalError> {
        let deadline = self.context.now() + self.context.timeout().saturating_mul(2);
        // Keys are looked up while SPF is waited for.
        if let Some(content) = &mut message.content {
            content.end_of_header(&self.context.dns);
        }
        let too_many_forged = message.forged.as_ref().and_then(Forged::too_many);
        // No outcome is waited for where the message is refused for its forged fields.
        let (findings, iprev) = if too_many_forged.is_some() && !self.context.config().dry_run {
            self.decide_senders(&mut message.sender).await;
            (None, None)
        } else {
            self.join_senders(message).await?;
            let (helo, recorder) = (self.helo.as_deref(), &mut self.recorder);
            let Message { recipients, sender, .. } = &mut *message;
            if let Some(verdict) = recipients.conclude(&self.context, helo, sender, recorder) {
                self.recorder.end_of_message(message.forged.as_ref());
                return Ok(self.settle(verdict, Vec::new()));
            }
            let mailfrom = message.sender.mailfrom().map(|mailfrom| &*mailfrom.verified);
            let content = message.content.take();
            let finish = content.map(|content| Box::pin(content.finish(&self.context, mailfrom)));
            let findings = OptionFuture::from(finish).await.transpose()?.map(Box::new);
            (findings, self.iprev.join(&mut self.recorder.pending().timings).await?)
        };
        match self.ending(message).at_once(too_many_forged, findings, iprev) {
            Ok(answer) => Ok(answer),
            Err(refusable) => Ok(Box::pin(self.ending(message).refuse(refusable, deadline)).await),
        }
    }

    fn ending<'a>(&'a mut self, message: &'a Message) -> Ending<'a> {
        let Self { context, granted, recorder, .. } = self;
        Ending { context, granted, helo: self.helo.as_deref(), recorder, message }
    }

    /// The message under way is given up.
    pub fn abort(&mut self) -> Answer {
        self.end_transaction().into()
    }

    /// The session ends.
    pub fn close(mut self) -> Answer {
        self.end_transaction().or_else(|| self.recorder.take()).into()
    }

    /// The work on an event did not come to a good end: it panicked, or nobody waits for it any more,
    /// for the peer is gone.
    pub fn fail(&mut self, event: Event, is_peer_gone: bool) -> Answer {
        self.recorder.is_peer_gone = is_peer_gone;
        let forged = match std::mem::take(&mut self.transaction) {
            Transaction::None => self.deletes_fields(false).then(Forged::default),
            Transaction::Exempt(forged) | Transaction::Failed(forged) => forged,
            Transaction::Verified(message) => message.forged,
        };
        self.give_up(event, None, forged)
    }

    //--- Decisions ---

    /// The header of a relay's message has named the client, or has ended without: verification
    /// begins, if it is to.
    fn find_client(&mut self) {
        let Transaction::Verified(message) = &mut self.transaction else { return };
        let Some(relayed) = message.relayed.take() else { return };
        match relayed.begin(&mut self.context, &mut self.recorder) {
            Ok((helo, sender)) => {
                self.helo = helo.map(Box::new);
                message.sender = sender;
                self.iprev.begin(&self.context);
            }
            Err(exemption) => {
                self.recorder.pending().exemption = Some(exemption);
                self.transaction = Transaction::Exempt(message.forged.take());
            }
        }
    }

    /// Ends the message under way: its record, if there is one.
    fn end_transaction(&mut self) -> Option<Box<Record>> {
        match std::mem::take(&mut self.transaction) {
            Transaction::None => return None,
            Transaction::Exempt(_) | Transaction::Failed(_) => {}
            // An outcome that is known by now is recorded.
            Transaction::Verified(mut message) => {
                let _ = self.decide_senders(&mut message.sender).now_or_never();
                let (helo, recorder) = (self.helo.as_deref(), &mut self.recorder);
                message.recipients.record_rest(helo, &message.sender, recorder);
            }
        }
        self.recorder.take()
    }

    /// Waits for the checks of MAIL FROM and HELO, and decides on them.
    async fn join_senders(&mut self, message: &mut Message) -> Result<Verdict, InternalError> {
        message.sender.wait(self.helo.as_deref_mut()).await?;
        Ok(self.decide_senders(&mut message.sender).await)
    }

    /// Decides on HELO and MAIL FROM, as far as their checks are done by now.
    async fn decide_senders(&mut self, sender: &mut Sender) -> Verdict {
        if let Some(helo) = &mut self.helo {
            helo.decide(&self.context, &mut self.recorder).await;
        }
        sender.decide(&self.context, self.helo.as_deref(), &mut self.recorder).await
    }

    //--- Answers ---

    fn settle(&mut self, decided: Verdict, edits: Vec<Edit>) -> Answer {
        settle::settle(self.context.config(), &self.granted, &mut self.recorder, decided, edits)
    }

    /// The work is given up: `error_action` says what follows, now or at the end of the message.
    fn give_up(
        &mut self,
        event: Event,
        error: Option<InternalError>,
        forged: Option<Forged>,
    ) -> Answer {
        if let Some(error) = error {
            self.recorder.pending().failure = Some(Failure::Internal(error));
        }
        let verdict = settle::failure(self.context.config(), &self.granted, event);
        if event == Event::Helo {
            // The name is verified anew when it comes again.
            self.helo = None;
        }
        if event == Event::End {
            // A message that does not go on needs no changes.
            let forged = forged.filter(|_| verdict == Some(Verdict::Accept));
            self.recorder.end_of_failed(forged.as_ref());
            let config = self.context.config();
            let deletions = forged.iter().flat_map(|forged| forged.deletions(config)).collect();
            return self.settle(verdict.unwrap_or(Verdict::Continue), deletions);
        }
        if verdict.is_none() && event != Event::Helo {
            self.transaction = Transaction::Failed(forged);
        }
        self.settle(verdict.unwrap_or(Verdict::Continue), Vec::new())
    }

    /// Nothing is verified. The MTA need not go on with the milter, unless there may be fields to
    /// delete.
    fn exempt(&mut self, exemption: Exemption, authenticated: bool, takes_answer: bool) -> Answer {
        self.recorder.pending().exemption = Some(exemption);
        let is_over = takes_answer && !self.deletes_fields(authenticated);
        let verdict = if is_over { Verdict::Accept } else { Verdict::Continue };
        Answer { verdict, edits: Vec::new(), records: self.recorder.take().into() }
    }

    //--- What the session knows ---

    /// Whether fields in our name are deleted from the client's messages.
    fn deletes_fields(&self, authenticated: bool) -> bool {
        let is_any_ours = !self.own_ids.is_empty() || self.context.config().tag_name().is_some();
        is_any_ours && (authenticated || !self.keeps_fields)
    }
}
