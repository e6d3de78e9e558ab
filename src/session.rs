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
//! HELO, 132 for MAIL FROM, 11 for iprev, 10 keys, 221 for DMARC. Hardly any message asks more than
//! twenty. What is kept of a message is its header, up to 1 MiB, and some hashes.

mod answer;
mod content;
mod forged;
mod iprev;
mod peer;
mod record;
mod recorder;
mod senders;
mod settle;
mod task;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

pub use answer::{Answer, Edit, Records, Verdict};
use content::{Content, Findings};
use forged::Forged;
use futures_util::FutureExt as _;
use iprev::Iprev;
pub use peer::{Client, Granted, Permission};
pub use record::{Action, ContentRecord, Failure, IdentityRecord, Record, Skipped, Timings};
use recorder::Recorder;
use senders::{Checks, Helo, Sender, cut};
pub use settle::Event;
use tokio::time::Instant;

use crate::{
    auth::{Verified, iprev as client_name},
    dns::Dns,
    fields::Results,
    internal_error::InternalError,
    mail::{auth_results::AuthservIdPattern, domain::Domain, envelope::ReversePath, reply::Reply},
    policy::{self, Exemption, MailDecision, MessageDecision, MessageFacts, Refusal},
    runtime::Runtime,
    wording,
};

/// A session.
#[derive(Debug)]
pub struct Session {
    runtime: Arc<Runtime>,
    /// The DNS client, for this session: all that is asked for it counts together.
    dns: Dns,
    granted: Granted,
    /// The client's address, or why it is not verified.
    client: Result<IpAddr, Exemption>,
    /// The client's address, whether it is verified or not.
    address: Option<IpAddr>,
    host_name: String,
    /// The authserv-ids whose incoming fields are deleted.
    own_ids: Vec<AuthservIdPattern>,
    /// The client may bring in fields in our name, as long as it does not authenticate.
    keeps_fields: bool,
    // Boxed, as is what most sessions do not have most of the time: idle sessions are to be small.
    helo: Option<Box<Helo>>,
    /// The client's name, verified beside its first message.
    iprev: Iprev,
    transaction: Transaction,
    recorder: Recorder,
}

/// What is under way.
#[derive(Debug, Default)]
enum Transaction {
    /// No message.
    #[default]
    None,
    /// A message of which nothing is verified: it is there to have fields deleted that claim to be
    /// ours.
    Exempt(Forged),
    /// A message that is verified.
    Verified(Box<Message>),
    /// A message on which the work was given up where the MTA takes no answer: its end has that
    /// answer. Fields that claim to be ours are deleted all the same.
    Failed(Option<Forged>),
}

/// A message that is verified.
#[derive(Debug)]
struct Message {
    client: IpAddr,
    begun: Instant,
    sender: Sender,
    /// `None` where nothing of the content is looked at.
    content: Option<Content>,
    /// Fields that claim to be ours; `None` where they are kept.
    forged: Option<Forged>,
}

impl Session {
    /// Begins a session when a client connects, with what the MTA grants.
    pub fn new(
        runtime: Arc<Runtime>,
        granted: Granted,
        client: &Client,
        mta_host: Option<&str>,
    ) -> (Self, Answer) {
        let config = &runtime.config;
        let host_name = runtime.host_name(mta_host).to_owned();
        let address = client.address.map(|address| address.to_canonical());
        let admitted = policy::admit(config, client.address, client.port, &client.host);
        let mut session = Self {
            dns: runtime.dns.for_session(),
            granted,
            client: admitted,
            address,
            own_ids: runtime.own_authserv_ids(&host_name),
            keeps_fields: policy::may_claim_our_ids(config, client.address),
            host_name,
            helo: None,
            iprev: Iprev::NotBegun,
            transaction: Transaction::None,
            recorder: Recorder::new(address, config.dry_run),
            runtime,
        };
        let answer = match admitted {
            Ok(_) => Answer::proceed(),
            Err(exemption) => session.exempt(exemption, false, granted.connect_answer),
        };
        (session, answer)
    }

    /// Whether the client is one that is verified; not so where that of a message authenticates.
    pub fn verifies_client(&self) -> bool {
        self.client.is_ok()
    }

    /// HELO or EHLO. Comes again after STARTTLS; a name is verified once.
    pub async fn helo(&mut self, name: &str) -> Answer {
        // HELO ends a message that is under way (RFC 5321 §4.1.4).
        let mut earlier = self.end_transaction();
        let Ok(client) = self.client else { return Answer::proceed().after(earlier) };
        let name = cut(name);
        if self.helo.as_ref().is_none_or(|helo| *helo.name != *name) {
            // What has gathered belongs to the former name.
            earlier = earlier.or_else(|| self.recorder.take());
            let checks = Checks {
                runtime: &self.runtime,
                dns: &self.dns,
                client,
                receiver: &self.host_name,
            };
            let helo = Helo::begin(&checks, name, &mut self.recorder);
            self.recorder.helo = Some(Arc::clone(&helo.name));
            self.helo = Some(Box::new(helo));
        }
        let answer = if !self.runtime.needs.helo_reply {
            Answer::proceed()
        } else {
            match self.join_helo().await {
                Ok(verdict) => self.settle(verdict, Vec::new()),
                Err(error) => {
                    self.helo = None;
                    self.give_up(Event::Helo, Some(error), None)
                }
            }
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
        // A message that was given up without a word is recorded first.
        let earlier = self.end_transaction();
        self.recorder.pending().queue_id = queue_id.map(str::to_owned);
        let forged = self.deletes_fields(authenticated).then(Forged::default);
        let answer =
            match (self.client, policy::from_authentication(&self.runtime.config, authenticated)) {
                (Ok(client), None) => self.begin_message(client, reverse_path, forged).await,
                // Of an exempt client that was recorded when it connected.
                (Err(_), _) => self.begin_exempt(Answer::proceed(), forged, queue_id),
                (Ok(_), Some(exemption)) => {
                    let answer = self.exempt(exemption, true, self.granted.mail_answer);
                    self.begin_exempt(answer, forged, queue_id)
                }
            };
        answer.after(earlier)
    }

    /// Begins a message that is verified.
    async fn begin_message(
        &mut self,
        client: IpAddr,
        reverse_path: &[u8],
        forged: Option<Forged>,
    ) -> Answer {
        let config = &self.runtime.config;
        self.iprev.begin(&self.runtime, &self.dns, client);
        let content =
            (config.verify_dkim || config.verify_dmarc).then(|| Content::new(&self.runtime));
        let path = ReversePath::parse(reverse_path);
        let sender = Sender::begin(&self.checks(client), &path, self.helo.as_deref());
        let mut message =
            Box::new(Message { client, begun: Instant::now(), sender, content, forged });
        // Where there is nothing to say to MAIL FROM, its check goes on until the end of the
        // message: an MTA that begins message after message does not wait for them one by one.
        if self.runtime.needs.mail_reply {
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

    /// Begins a message of which nothing is verified.
    fn begin_exempt(
        &mut self,
        answer: Answer,
        forged: Option<Forged>,
        queue_id: Option<&str>,
    ) -> Answer {
        if let Some(forged) = forged {
            self.recorder.pending().queue_id = queue_id.map(str::to_owned);
            self.transaction = Transaction::Exempt(forged);
        }
        answer
    }

    /// A header field, as the client sent it: the value begins right behind the colon.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let forged = match &mut self.transaction {
            Transaction::None => None,
            Transaction::Exempt(forged) => Some(forged),
            Transaction::Failed(forged) => forged.as_mut(),
            Transaction::Verified(message) => {
                if let Some(content) = &mut message.content {
                    content.header(&self.dns, name, value);
                }
                message.forged.as_mut()
            }
        };
        if let Some(forged) = forged {
            forged.look_at(name, value, &self.own_ids);
        }
    }

    /// The end of the header.
    pub fn end_of_header(&mut self) {
        if let Transaction::Verified(message) = &mut self.transaction
            && let Some(content) = &mut message.content
        {
            content.end_of_header(&self.dns);
        }
    }

    /// The next octets of the body, lines ending in CRLF, cut anywhere.
    pub fn body(&mut self, chunk: &[u8]) {
        if let Transaction::Verified(message) = &mut self.transaction
            && let Some(content) = &mut message.content
        {
            content.body(&self.dns, chunk);
        }
    }

    /// The end of the message.
    pub async fn end_of_message(&mut self, queue_id: Option<&str>) -> Answer {
        let transaction = std::mem::take(&mut self.transaction);
        if matches!(transaction, Transaction::None) {
            return Answer::proceed();
        }
        if let Some(queue_id) = queue_id {
            self.recorder.pending().queue_id = Some(queue_id.to_owned());
        }
        match transaction {
            Transaction::None => Answer::proceed(),
            Transaction::Exempt(forged) => {
                let decision = policy::at_end_of_exempt(forged.has_too_many());
                let verdict = self.verdict(decision, None, None, Duration::ZERO).await;
                self.recorder.end_of_message(Some(&forged));
                self.settle(verdict, forged.deletions().collect())
            }
            Transaction::Failed(forged) => self.give_up(Event::End, None, forged),
            Transaction::Verified(mut message) => match self.conclude(&mut message).await {
                Ok(answer) => answer,
                Err(error) => self.give_up(Event::End, Some(error), message.forged),
            },
        }
    }

    /// The end of a message that is verified.
    async fn conclude(&mut self, message: &mut Message) -> Result<Answer, InternalError> {
        let config = Arc::clone(&self.runtime.config);
        let deadline = Instant::now() + Duration::from_secs(config.timeout_secs).saturating_mul(2);
        // Keys are looked up while SPF is waited for.
        if let Some(content) = &mut message.content {
            content.end_of_header(&self.dns);
        }
        let has_too_many_forged = message.forged.as_ref().is_some_and(Forged::has_too_many);
        let (mut findings, mut iprev) = (Findings::default(), None);
        // What is refused for its forged fields is not waited for.
        if has_too_many_forged && !config.dry_run {
            self.decide_senders(message).await;
        } else {
            self.join_senders(message).await?;
            if let Some(content) = message.content.take() {
                let mailfrom = message.sender.mailfrom().map(|mailfrom| &*mailfrom.verified);
                findings = Box::pin(content.finish(&self.runtime, &self.dns, mailfrom)).await?;
            }
            iprev = self.iprev.join(&mut self.recorder.pending().timings).await?;
        }
        let mailfrom = message.sender.mailfrom();
        let deferred = mailfrom.and_then(|mailfrom| match mailfrom.decision {
            MailDecision::Defer(refusal) => Some(refusal),
            MailDecision::Accept | MailDecision::Refuse(_) => None,
        });
        let facts = MessageFacts {
            client: message.client,
            deferred,
            dkim: findings.dkim.as_deref().unwrap_or_default(),
            dmarc: findings.dmarc.as_ref(),
            is_list: findings.is_list,
            has_too_many_forged,
        };
        let decision = policy::at_end(&config, &facts);
        let author_domain =
            findings.dmarc.as_ref().and_then(|outcome| outcome.author_domain.as_ref());
        let verified = mailfrom.map(|mailfrom| &*mailfrom.verified);
        let limit = deadline.saturating_duration_since(Instant::now());
        let verdict = self.verdict(decision, verified, author_domain, limit).await;
        // Nothing is awaited from here on: the record says of a message that it was received to its
        // end only if it was also decided on.
        self.recorder.end_of_message(message.forged.as_ref());
        let edits = self.edits(message, &findings, decision, iprev.as_ref());
        let verified = mailfrom.map(|mailfrom| Arc::clone(&mailfrom.verified));
        self.recorder.decided(&verdict, decision, findings, verified, iprev);
        self.recorder.pending().timings.total = Some(message.begun.elapsed());
        Ok(self.settle(verdict, edits))
    }

    /// The message under way is given up.
    pub fn abort(&mut self) -> Answer {
        Answer { records: self.end_transaction().into(), ..Answer::proceed() }
    }

    /// The session ends.
    pub fn close(mut self) -> Answer {
        let record = self.end_transaction().or_else(|| self.recorder.take());
        Answer { records: record.into(), ..Answer::proceed() }
    }

    /// The work on an event did not come to a good end, as where it panicked.
    pub fn fail(&mut self, event: Event) -> Answer {
        let forged = match std::mem::take(&mut self.transaction) {
            Transaction::None => self.deletes_fields(false).then(Forged::default),
            Transaction::Exempt(forged) => Some(forged),
            Transaction::Failed(forged) => forged,
            Transaction::Verified(message) => message.forged,
        };
        self.give_up(event, None, forged)
    }

    //--- Decisions, as far as they are known ---

    /// Ends the message under way: its record, if there is one.
    fn end_transaction(&mut self) -> Option<Arc<Record>> {
        match std::mem::take(&mut self.transaction) {
            Transaction::None => return None,
            Transaction::Exempt(_) | Transaction::Failed(_) => {}
            // An outcome that is known by now is recorded.
            Transaction::Verified(mut message) => {
                let _ = self.decide_senders(&mut message).now_or_never();
            }
        }
        self.recorder.take()
    }

    /// Waits for the check of the HELO name, and decides on it.
    async fn join_helo(&mut self) -> Result<Verdict, InternalError> {
        if let Some(helo) = &mut self.helo {
            helo.wait().await?;
        }
        Ok(self.decide_helo().await)
    }

    /// Decides on the HELO name, if its check is done by now.
    async fn decide_helo(&mut self) -> Verdict {
        let config = &self.runtime.config;
        let decided = self.helo.as_mut().and_then(|helo| helo.decide(config));
        if let Some((verified, refusal, begun)) = self.helo.as_ref().and_then(|h| h.to_word()) {
            let limit = self.left_since(begun);
            let reply = self.word(refusal, Some(verified), None, limit).await;
            if let Some(helo) = &mut self.helo {
                helo.reply = Some(reply);
            }
        }
        let reply = self.helo.as_ref().and_then(|helo| helo.reply.clone());
        if let Some((verified, took)) = decided {
            self.recorder.identity(verified, reply.clone(), false);
            self.recorder.pending().timings.helo = Some(took);
        }
        reply.map_or(Verdict::Continue, Verdict::Reply)
    }

    /// Waits for the checks of MAIL FROM and HELO, and decides on them.
    async fn join_senders(&mut self, message: &mut Message) -> Result<Verdict, InternalError> {
        senders::wait(self.helo.as_deref_mut(), &mut message.sender).await?;
        Ok(self.decide_senders(message).await)
    }

    /// Decides on HELO and MAIL FROM, as far as their checks are done by now.
    async fn decide_senders(&mut self, message: &mut Message) -> Verdict {
        let Message { begun, sender, .. } = message;
        // What HELO was refused with was its own answer.
        self.decide_helo().await;
        let (config, helo) = (&self.runtime.config, self.helo.as_deref());
        let Some(mailfrom) = sender.decide(config, helo, &mut self.recorder) else {
            return Verdict::Continue;
        };
        let reply = match mailfrom.decision {
            MailDecision::Refuse(refusal) => {
                let limit = self.left_since(*begun);
                Some(self.word(refusal, Some(&mailfrom.verified), None, limit).await)
            }
            MailDecision::Accept | MailDecision::Defer(_) => None,
        };
        self.recorder.identity(mailfrom.verified, reply.clone(), mailfrom.for_dmarc);
        reply.map_or(Verdict::Continue, Verdict::Reply)
    }

    //--- Answers ---

    fn settle(&mut self, decided: Verdict, edits: Vec<Edit>) -> Answer {
        settle::settle(&self.runtime.config, &self.granted, &mut self.recorder, decided, edits)
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
        let verdict = settle::failure(&self.runtime.config, &self.granted, event);
        if event == Event::End {
            self.recorder.end_of_message(forged.as_ref());
            let deletions = forged.iter().flat_map(Forged::deletions).collect();
            return self.settle(verdict.unwrap_or(Verdict::Continue), deletions);
        }
        if verdict.is_none() && event != Event::Helo {
            self.transaction = Transaction::Failed(forged);
        }
        self.settle(verdict.unwrap_or(Verdict::Continue), Vec::new())
    }

    /// Nothing is verified. The MTA is told to ask no more, unless there may be something to
    /// delete.
    fn exempt(&mut self, exemption: Exemption, authenticated: bool, takes_answer: bool) -> Answer {
        self.recorder.pending().exemption = Some(exemption);
        let is_over = takes_answer && !self.deletes_fields(authenticated);
        let verdict = if is_over { Verdict::Accept } else { Verdict::Continue };
        Answer { verdict, edits: Vec::new(), records: self.recorder.take().into() }
    }

    async fn verdict(
        &self,
        decision: MessageDecision,
        identity: Option<&Verified>,
        author_domain: Option<&Domain>,
        limit: Duration,
    ) -> Verdict {
        match decision {
            MessageDecision::Accept { .. } => Verdict::Continue,
            MessageDecision::Quarantine => {
                Verdict::Quarantine(wording::quarantine_reason(author_domain))
            }
            MessageDecision::Refuse(refusal) => {
                Verdict::Reply(self.word(refusal, identity, author_domain, limit).await)
            }
        }
    }

    /// Words a refusal; `limit` is for the client's name.
    async fn word(
        &self,
        refusal: Refusal,
        identity: Option<&Verified>,
        author_domain: Option<&Domain>,
        limit: Duration,
    ) -> Reply {
        let config = &self.runtime.config;
        let facts = wording::Facts {
            // The unspecified address stands for one that is not known.
            client: self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            helo: self.helo_name().unwrap_or(""),
            receiver: &self.host_name,
            timestamp: self.runtime.clock.now(),
            identity,
            author_domain,
        };
        // Nobody would see the name in a dry run.
        let dns = (!config.dry_run).then_some((&self.dns, limit));
        // Boxed, for hardly any message is refused.
        Box::pin(wording::word(config, refusal, &facts, dns)).await
    }

    /// The fields to delete, from last to first, then those to insert.
    fn edits(
        &self,
        message: &Message,
        findings: &Findings,
        decision: MessageDecision,
        iprev: Option<&client_name::Outcome>,
    ) -> Vec<Edit> {
        let config = &self.runtime.config;
        let helo = self.helo.as_deref();
        let mailfrom = message.sender.mailfrom();
        let [for_spf, for_dmarc] = [false, true].map(|for_dmarc| {
            mailfrom
                .filter(|mailfrom| mailfrom.for_dmarc == for_dmarc)
                .map(|mailfrom| &*mailfrom.verified)
        });
        let is_definitive = helo.is_some_and(Helo::is_definitive);
        let helo = helo.and_then(Helo::accepted);
        let results = Results {
            client: message.client,
            helo: self.helo_name(),
            receiver: &self.host_name,
            authserv_id: self.runtime.authserv_id(&self.host_name),
            recorded: policy::recorded(config, helo, is_definitive, for_spf).collect(),
            for_dmarc,
            dkim: findings.dkim.as_deref(),
            dmarc: findings.dmarc.as_ref(),
            iprev,
            decision,
        };
        let insert = |field| Edit::Insert { index: 0, field };
        let deletions = message.forged.iter().flat_map(Forged::deletions);
        deletions.chain(results.write(config).into_iter().map(insert)).collect()
    }

    //--- What the session knows ---

    fn checks(&self, client: IpAddr) -> Checks<'_> {
        let (runtime, dns, receiver) = (&self.runtime, &self.dns, &self.host_name);
        Checks { runtime, dns, client, receiver }
    }

    fn helo_name(&self) -> Option<&str> {
        self.helo.as_ref().map(|helo| &*helo.name)
    }

    /// Whether fields in our name are deleted from the client's messages.
    fn deletes_fields(&self, authenticated: bool) -> bool {
        !self.own_ids.is_empty() && (authenticated || !self.keeps_fields)
    }

    /// What is left of the time for a check that began then.
    fn left_since(&self, begun: Instant) -> Duration {
        Duration::from_secs(self.runtime.config.timeout_secs).saturating_sub(begun.elapsed())
    }
}
