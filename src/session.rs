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

mod content;
mod fields;
mod forged;
mod identities;
mod record;
mod task;
mod telling;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use content::{Content, Findings};
use forged::Forged;
use identities::{Mailfrom, Sender, cut};
pub use record::{Action, ContentRecord, Exemption, IdentityRecord, Record, Skipped};
use task::Task;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    auth::{Verified, iprev, spf},
    config::Config,
    dns::Dns,
    internal_error::InternalError,
    mail::{
        auth_results::AuthservIdPattern, header_field::HeaderField, identity::ReversePath,
        reply::Reply,
    },
    policy::{self, Circumstances, End, EndFacts, HeloDecision},
    runtime::Runtime,
};

/// The client of a session, as the MTA describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Its address; `None` where it has none, as over a UNIX socket.
    pub address: Option<IpAddr>,
    /// Its port; 0 where the MTA does not know it.
    pub port: u16,
    /// Its name, as the MTA says.
    pub host: String,
}

/// What the MTA is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Go on, and ask no more of this session or message.
    Accept(Exemption),
    /// Answer the client with this reply.
    Reply(Reply),
    /// Keep the message back, for the reason given.
    Quarantine(String),
    /// The work could not be done: `error_action` says what follows.
    Failed,
}

/// A change to a message. In the order given, each holds for what the ones before have left.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Delete a field.
    Delete {
        /// Its name.
        name: &'static str,
        /// Which of the fields of that name, counted from 1 at the top.
        index: i32,
    },
    /// Insert a field.
    Insert {
        /// Where: 0 is the very top.
        index: i32,
        /// The field.
        field: HeaderField,
    },
}

/// The answer to an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    /// What the MTA is told.
    pub verdict: Verdict,
    /// What operators are told.
    pub record: Option<Box<Record>>,
}

impl Reaction {
    /// The same, when something was told of before.
    fn after(mut self, earlier: Option<Box<Record>>) -> Self {
        match &mut self.record {
            Some(record) => record.unfinished = earlier,
            record => *record = earlier,
        }
        self
    }

    /// Go on, and nothing to tell.
    pub fn proceed() -> Self {
        Self { verdict: Verdict::Continue, record: None }
    }

    /// The work could not be done.
    pub fn failed() -> Self {
        Self { verdict: Verdict::Failed, record: None }
    }
}

/// The answer to the end of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What the MTA is told.
    pub verdict: Verdict,
    /// The changes to the message, in the order to apply.
    pub edits: Vec<Edit>,
    /// What operators are told.
    pub record: Option<Box<Record>>,
}

impl From<Reaction> for Finished {
    fn from(Reaction { verdict, record }: Reaction) -> Self {
        Self { verdict, edits: Vec::new(), record }
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    runtime: Arc<Runtime>,
    /// The DNS client, for this session: all that is asked for it counts together.
    dns: Dns,
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
    transaction: Option<Box<Transaction>>,
    /// What is still to be told.
    pending: Option<Box<Record>>,
}

/// The HELO name in force.
#[derive(Debug)]
struct Helo {
    name: Arc<str>,
    /// Its domain as it is shown, and its check, until that has been decided on.
    check: Option<(String, Task<spf::Outcome>)>,
    verified: Option<Arc<Verified>>,
    decision: HeloDecision,
}

impl Helo {
    /// What the MTA is told of the name.
    fn verdict(&self) -> Verdict {
        match &self.decision {
            HeloDecision::Refuse(reply) => Verdict::Reply(reply.clone()),
            HeloDecision::Definitive | HeloDecision::Open => Verdict::Continue,
        }
    }
}

/// How far the verification of the client's name is.
#[derive(Debug)]
enum Iprev {
    NotBegun,
    UnderWay(Task<iprev::Outcome>),
    Done(iprev::Outcome),
}

/// A message under way.
#[derive(Debug)]
struct Transaction {
    sender: Sender,
    /// The reply that SPF would refuse the sender with, unless DMARC passes.
    deferred: Option<Reply>,
    /// `None` where nothing of the content is looked at.
    content: Option<Content>,
    /// Fields that claim to be ours; `None` where they are kept.
    forged: Option<Forged>,
    /// Nothing is verified: the message is there to have such fields deleted.
    is_exempt: bool,
}

impl Session {
    /// Begins a session when a client connects.
    pub fn new(runtime: Arc<Runtime>, client: &Client, mta_host: Option<&str>) -> (Self, Reaction) {
        let host_name = runtime.host_name(mta_host).to_owned();
        let admitted = admit(&runtime.config, client);
        let own_ids = runtime.own_authserv_ids(&host_name);
        let keeps_fields = client
            .address
            .is_some_and(|address| runtime.config.trusted_authentication_results.contains(address));
        let mut session = Self {
            dns: runtime.dns.for_session(),
            runtime,
            client: admitted,
            address: client.address.map(|address| address.to_canonical()),
            host_name,
            own_ids,
            keeps_fields,
            helo: None,
            iprev: Iprev::NotBegun,
            transaction: None,
            pending: None,
        };
        let reaction = match admitted {
            Ok(_) => Reaction::proceed(),
            Err(exemption) => session.exempt(exemption, false),
        };
        (session, reaction)
    }

    /// Whether the client is one that is verified; not so where that of a message authenticates.
    pub fn verifies_client(&self) -> bool {
        self.client.is_ok()
    }

    /// HELO or EHLO. Comes again after STARTTLS; a name is verified once.
    pub async fn helo(&mut self, name: &str) -> Reaction {
        let Ok(client) = self.client else { return Reaction::proceed() };
        let name = cut(name);
        let repeated = self.helo.as_ref().is_some_and(|helo| *helo.name == *name);
        let mut earlier = None;
        if !repeated {
            // What there is to tell belongs to the former name.
            earlier = self.tell();
            self.helo = None;
            let helo = self.begin_helo(client, name);
            self.helo = Some(Box::new(helo));
            if self.runtime.needs.helo_reply
                && let Err(error) = self.join_helo(client).await
            {
                self.helo = None;
                return self.give_up(error).after(earlier);
            }
        }
        let verdict = self.helo.as_ref().map_or(Verdict::Continue, |helo| helo.verdict());
        self.settle(verdict).after(earlier)
    }

    /// MAIL FROM: a new message.
    pub async fn mail(
        &mut self,
        reverse_path: &[u8],
        authenticated: bool,
        queue_id: Option<&str>,
    ) -> Reaction {
        // A message that was given up without a word is told of first.
        let unfinished = self.abort();
        self.begin_message(reverse_path, authenticated, queue_id).await.after(unfinished)
    }

    async fn begin_message(
        &mut self,
        reverse_path: &[u8],
        authenticated: bool,
        queue_id: Option<&str>,
    ) -> Reaction {
        let forged = self.deletes_fields(authenticated).then(Forged::default);
        let is_trusted = authenticated && self.runtime.config.trust_authenticated_senders;
        let client = match self.client {
            Ok(client) if !is_trusted => client,
            client => return self.begin_exempt(client.is_ok(), forged, queue_id),
        };
        let path = ReversePath::parse(reverse_path);
        self.pending().queue_id = queue_id.map(str::to_owned);
        self.begin_iprev(client);
        let config = &self.runtime.config;
        let content =
            (config.verify_dkim || config.verify_dmarc).then(|| Content::new(&self.runtime));
        let sender = self.begin_sender(client, &path);
        let is_exempt = false;
        self.transaction =
            Some(Box::new(Transaction { sender, deferred: None, content, forged, is_exempt }));
        // Where there is nothing to say to MAIL FROM, its check goes on until the end of the
        // message: an MTA that begins message after message does not wait for them one by one.
        if !self.runtime.needs.mail_reply {
            return Reaction::proceed();
        }
        let verdict = match self.join_sender(client).await {
            Ok(verdict) => verdict,
            Err(error) => return self.give_up(error),
        };
        let reaction = self.settle(verdict);
        if !matches!(reaction.verdict, Verdict::Continue) {
            self.transaction = None;
        }
        reaction
    }

    /// A header field, as the client sent it: the value begins right behind the colon.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let Some(transaction) = &mut self.transaction else { return };
        if let Some(content) = &mut transaction.content {
            content.header(&self.dns, name, value);
        }
        if let Some(forged) = &mut transaction.forged {
            forged.look_at(name, value, &self.own_ids);
        }
    }

    /// The end of the header.
    pub fn end_of_header(&mut self) {
        if let Some(content) =
            self.transaction.as_mut().and_then(|transaction| transaction.content.as_mut())
        {
            content.end_of_header(&self.dns);
        }
    }

    /// The next octets of the body, lines ending in CRLF, cut anywhere.
    pub fn body(&mut self, chunk: &[u8]) {
        if let Some(content) =
            self.transaction.as_mut().and_then(|transaction| transaction.content.as_mut())
        {
            content.body(&self.dns, chunk);
        }
    }

    /// The end of the message.
    pub async fn end_of_message(&mut self, queue_id: Option<&str>) -> Finished {
        let Some(transaction) = &mut self.transaction else {
            return Finished { verdict: Verdict::Continue, edits: Vec::new(), record: None };
        };
        let has_too_many_forged = transaction.forged.as_ref().is_some_and(Forged::has_too_many);
        let is_exempt = transaction.is_exempt;
        // Keys are looked up while SPF is waited for.
        if let Some(content) = &mut transaction.content {
            content.end_of_header(&self.dns);
        }
        if let Some(queue_id) = queue_id {
            self.pending().queue_id = Some(queue_id.to_owned());
        }
        let config = Arc::clone(&self.runtime.config);
        let deadline = Instant::now() + Duration::from_secs(config.timeout_secs).saturating_mul(2);
        // What is refused for its forged fields is not waited for.
        let is_refused = has_too_many_forged && !config.dry_run;
        if let Ok(client) = self.client
            && !is_exempt
        {
            if is_refused {
                self.decide_sender(client);
            } else if let Err(error) = self.join_sender(client).await {
                return self.give_up(error).into();
            }
        }
        let Some(transaction) = self.transaction.take() else {
            return Reaction::proceed().into();
        };
        let Transaction { sender, deferred, content, forged, .. } = *transaction;
        let forged = forged.unwrap_or_default();
        let client = match self.client {
            Ok(client) if !is_exempt => client,
            _ => {
                self.note_forged(&forged);
                return self.settle_end(
                    policy::at_end_of_exempt(has_too_many_forged),
                    forged.deletions().collect(),
                );
            }
        };
        let mailfrom = match sender {
            Sender::Verified(mailfrom) => Some(mailfrom),
            Sender::Unverified | Sender::UnderWay { .. } => None,
        };
        let verified = mailfrom.as_ref().map(|mailfrom| &*mailfrom.verified);
        let findings = match content {
            Some(content) if !is_refused => {
                match Box::pin(content.finish(&self.runtime, &self.dns, verified, deadline)).await {
                    Ok(findings) => findings,
                    Err(error) => return self.give_up(error).into(),
                }
            }
            _ => Findings::default(),
        };
        let iprev = if is_refused { Ok(None) } else { self.join_iprev(client, deadline).await };
        let iprev = match iprev {
            Ok(iprev) => iprev,
            Err(error) => return self.give_up(error).into(),
        };
        let facts = EndFacts {
            circumstances: self.circumstances(client),
            mailfrom: verified,
            deferred: deferred.as_ref(),
            dkim: findings.dkim.as_deref().unwrap_or_default(),
            dmarc: findings.dmarc.as_ref(),
            is_list: findings.is_list,
            has_too_many_forged,
        };
        let mut end = policy::at_end(&config, &facts);
        if end.wants_client_name {
            let limit = deadline.saturating_duration_since(Instant::now());
            let domain = verified.map_or("", |verified| &verified.domain);
            let name = Box::pin(spf::client_name(&self.dns, client, domain, limit)).await;
            let circumstances =
                Circumstances { client_name: name.as_deref(), ..facts.circumstances };
            end = policy::at_end(&config, &EndFacts { circumstances, ..facts });
        }
        // Nothing is awaited from here on: a message is told of as received to its end only if it
        // was also decided on.
        self.note_forged(&forged);
        let edits = self.edits(&forged, mailfrom.as_ref(), &findings, &end, iprev.as_ref());
        self.note_end(
            findings,
            mailfrom.map(|mailfrom| mailfrom.verified),
            iprev,
            &end,
            deferred.as_ref(),
        );
        self.settle_end(end, edits)
    }

    /// The fields to delete, from last to first, then those to insert.
    fn edits(
        &self,
        forged: &Forged,
        mailfrom: Option<&Mailfrom>,
        findings: &Findings,
        end: &End,
        iprev: Option<&iprev::Outcome>,
    ) -> Vec<Edit> {
        let helo =
            self.helo.as_ref().filter(|helo| !matches!(helo.decision, HeloDecision::Refuse(_)));
        let helo = helo.and_then(|helo| helo.verified.as_deref());
        let for_spf =
            mailfrom.filter(|mailfrom| !mailfrom.for_dmarc).map(|mailfrom| &*mailfrom.verified);
        let for_dmarc =
            mailfrom.filter(|mailfrom| mailfrom.for_dmarc).map(|mailfrom| &*mailfrom.verified);
        let recorded =
            policy::recorded(&self.runtime.config, helo, self.helo_is_definitive(), for_spf)
                .collect();
        let fields = self.fields(&fields::Results { recorded, for_dmarc, findings, end, iprev });
        forged
            .deletions()
            .chain(fields.into_iter().map(|field| Edit::Insert { index: 0, field }))
            .collect()
    }

    /// The message under way is given up.
    pub fn abort(&mut self) -> Option<Box<Record>> {
        if let (Ok(client), Some(_)) = (self.client, &self.transaction) {
            // An outcome that is known by now is recorded.
            self.decide_sender(client);
        }
        self.transaction.take()?;
        self.tell()
    }

    /// The session ends.
    pub fn close(mut self) -> Option<Box<Record>> {
        // The record of a message under way, else of what is left.
        self.abort().or_else(|| self.tell())
    }

    //--- What the session knows ---

    fn begin_iprev(&mut self, client: IpAddr) {
        if self.runtime.config.verify_iprev && matches!(self.iprev, Iprev::NotBegun) {
            let (dns, limit) =
                (self.dns.clone(), Duration::from_secs(self.runtime.config.timeout_secs));
            self.iprev = Iprev::UnderWay(Task::start(async move {
                timeout(limit, iprev::verify(&dns, client))
                    .await
                    .unwrap_or_else(|_| iprev::Outcome::out_of_time(client))
            }));
        }
    }

    async fn join_iprev(
        &mut self,
        client: IpAddr,
        deadline: Instant,
    ) -> Result<Option<iprev::Outcome>, InternalError> {
        if let Iprev::UnderWay(task) = &mut self.iprev {
            let Ok(outcome) = timeout_at(deadline, task.join()).await else {
                return Ok(Some(iprev::Outcome::out_of_time(client)));
            };
            let outcome = outcome?;
            self.iprev = Iprev::Done(outcome);
        }
        Ok(match &self.iprev {
            Iprev::Done(outcome) => Some(outcome.clone()),
            Iprev::NotBegun | Iprev::UnderWay(_) => None,
        })
    }

    fn circumstances(&self, client: IpAddr) -> Circumstances<'_> {
        let helo = self.helo.as_ref().map_or("", |helo| &*helo.name);
        Circumstances {
            client,
            helo,
            receiver: &self.host_name,
            timestamp: self.runtime.clock.now(),
            client_name: None,
        }
    }

    fn helo_is_definitive(&self) -> bool {
        self.helo.as_ref().is_some_and(|helo| helo.decision == HeloDecision::Definitive)
    }
}

/// The address to verify, or why none is.
fn admit(config: &Config, client: &Client) -> Result<IpAddr, Exemption> {
    let address = client.address.ok_or(Exemption::NoAddress)?.to_canonical();
    // Postfix passes mail that did not come by SMTP (`non_smtpd_milters`) as from this host itself,
    // without a port. Refusing that would not reach any client.
    let is_local = address.is_loopback() && client.port == 0;
    if is_local && client.host.eq_ignore_ascii_case("localhost") {
        return Err(Exemption::LocalSubmission);
    }
    // The unspecified address stands for one that is not known.
    if address.is_unspecified() {
        return Err(Exemption::NoAddress);
    }
    if config.trusted_networks.contains(address) {
        return Err(Exemption::TrustedNetwork);
    }
    Ok(address)
}
