//! One SMTP session: events in; verdicts, edits and records out. Knows nothing of milter.

mod fields;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    auth::{
        Identity, Verified,
        spf::{self, Limits, POSTMASTER, Query},
    },
    config::Config,
    mail::{
        auth_results::{self, AuthservIdPattern, claims_authserv_id},
        domain::Domain,
        header_field::HeaderField,
        identity::{ReversePath, helo_domain},
        reply::Reply,
    },
    policy::{self, Circumstances, HeloDecision},
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

/// Why nothing is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exemption {
    /// The client has no address.
    NoAddress,
    /// The message does not come from an SMTP client, but from this host itself.
    LocalSubmission,
    /// The client is in `trusted_networks`.
    TrustedNetwork,
    /// The client authenticated.
    Authenticated,
}

impl Exemption {
    /// The exemption's word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::LocalSubmission => "local-submission",
            Self::TrustedNetwork => "trusted-network",
            Self::Authenticated => "authenticated",
        }
    }
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

/// What was done about an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Nothing; the message may go on.
    Accept,
    /// The client was told no for good.
    Reject,
    /// The client was told to try again.
    Tempfail,
}

impl Action {
    /// The action's word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Tempfail => "tempfail",
        }
    }

    fn of(reply: &Reply) -> Self {
        if reply.code().is_temporary() { Self::Tempfail } else { Self::Reject }
    }
}

/// One verified identity, and what was done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityRecord {
    /// The identity and what was found.
    pub verified: Verified,
    /// What was done, or would have been in a dry run.
    pub action: Action,
    /// The reply, where there was one.
    pub reply: Option<Reply>,
}

/// What operators are told: of one message, or of a session that had none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The MTA's queue id.
    pub queue_id: Option<String>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The HELO name.
    pub helo: Option<String>,
    /// The reverse-path, where there was one.
    pub reverse_path: Option<String>,
    /// The identities verified since the last record.
    pub identities: Vec<IdentityRecord>,
    /// Why nothing was verified.
    pub exemption: Option<Exemption>,
    /// What was not verified although it could have been, and why.
    pub skipped: Vec<Skipped>,
    /// How many incoming fields claimed to be ours.
    pub forged_fields: usize,
    /// Nothing of this was done (`dry_run`).
    pub dry_run: bool,
    /// A message was received to its end.
    pub complete: bool,
    /// The message could not be changed as it should.
    pub failed: bool,
}

/// An identity that was not verified, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Which identity.
    pub identity: Identity,
    /// Its text.
    pub value: String,
    /// Why: one of a few words.
    pub reason: &'static str,
}

/// The answer to an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    /// What the MTA is told.
    pub verdict: Verdict,
    /// What operators are told.
    pub record: Option<Record>,
}

impl Reaction {
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
    pub record: Option<Record>,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    runtime: Arc<Runtime>,
    /// The client's address, or why it is not verified.
    client: Result<IpAddr, Exemption>,
    host_name: String,
    /// The authserv-ids whose incoming fields are deleted.
    own_ids: Vec<AuthservIdPattern>,
    helo: Option<Helo>,
    transaction: Option<Transaction>,
    /// What is still to be told.
    pending: Record,
}

/// The HELO name in force.
#[derive(Debug)]
struct Helo {
    name: String,
    verified: Option<Verified>,
    decision: HeloDecision,
}

/// A message under way.
#[derive(Debug, Default)]
struct Transaction {
    mailfrom: Option<Verified>,
    /// Incoming Authentication-Results fields so far.
    fields_seen: i32,
    /// Those of them that claim to be ours.
    forged: Vec<i32>,
}

impl Session {
    /// Begins a session when a client connects.
    pub fn new(runtime: Arc<Runtime>, client: &Client, mta_host: Option<&str>) -> (Self, Reaction) {
        let host_name = runtime.host_name(mta_host).to_owned();
        let admitted = admit(&runtime.config, client);
        let own_ids = if admitted.is_ok() { runtime.own_authserv_ids(&host_name) } else { Vec::new() };
        let mut session =
            Self { runtime, client: admitted, host_name, own_ids, helo: None, transaction: None, pending: Record::default() };
        let reaction = match admitted {
            Ok(_) => Reaction::proceed(),
            Err(exemption) => {
                session.pending.client = client.address;
                session.exempt(exemption)
            }
        };
        (session, reaction)
    }

    /// HELO or EHLO. Comes again after STARTTLS; a name is verified once.
    pub async fn helo(&mut self, name: &str) -> Reaction {
        let Ok(client) = self.client else { return Reaction::proceed() };
        let known = self.helo.take().filter(|helo| helo.name == name);
        let repeated = known.is_some();
        let helo = match known {
            Some(helo) => helo,
            None => self.verify_helo(client, name).await,
        };
        let verdict = match &helo.decision {
            HeloDecision::Refuse(reply) => Verdict::Reply(reply.clone()),
            HeloDecision::Definitive | HeloDecision::Open => Verdict::Continue,
        };
        if let (Some(verified), false) = (&helo.verified, repeated) {
            self.note(verified.clone(), &verdict);
        }
        self.helo = Some(helo);
        self.settle(verdict)
    }

    /// MAIL FROM: a new message.
    pub async fn mail(&mut self, reverse_path: &[u8], authenticated: bool, queue_id: Option<&str>) -> Reaction {
        let unfinished = self.abort();
        let mut reaction = self.begin_message(reverse_path, authenticated, queue_id).await;
        if let Some(mut record) = unfinished {
            // A message that was given up without a word; its identities are told first.
            if let Some(next) = reaction.record.take() {
                record.identities.extend(next.identities.iter().cloned());
                record = Record { identities: record.identities, ..next };
            }
            reaction.record = Some(record);
        }
        reaction
    }

    async fn begin_message(&mut self, reverse_path: &[u8], authenticated: bool, queue_id: Option<&str>) -> Reaction {
        let Ok(client) = self.client else { return Reaction::proceed() };
        let path = ReversePath::parse(reverse_path);
        self.pending.queue_id = queue_id.map(str::to_owned);
        self.pending.reverse_path = Some(path.to_string());
        if authenticated && self.runtime.config.trust_authenticated_senders {
            return self.exempt(Exemption::Authenticated);
        }
        self.transaction = Some(Transaction::default());
        if self.helo_is_definitive() {
            return Reaction::proceed();
        }
        let Some(verified) = self.verify_mailfrom(client, &path).await else { return Reaction::proceed() };
        let decision = policy::at_mail(&self.runtime.config, &verified, &self.circumstances(client));
        let verdict = decision.map_or(Verdict::Continue, Verdict::Reply);
        self.note(verified.clone(), &verdict);
        if let Some(transaction) = &mut self.transaction {
            transaction.mailfrom = Some(verified);
        }
        let reaction = self.settle(verdict);
        if !matches!(reaction.verdict, Verdict::Continue) {
            self.transaction = None;
        }
        reaction
    }

    /// A header field, as the MTA passes it on.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let Some(transaction) = &mut self.transaction else { return };
        if !name.trim_ascii_end().eq_ignore_ascii_case(auth_results::NAME.as_bytes()) {
            return;
        }
        transaction.fields_seen = transaction.fields_seen.saturating_add(1);
        if claims_authserv_id(value, &self.own_ids) {
            transaction.forged.push(transaction.fields_seen);
        }
    }

    /// The end of the message.
    pub fn end_of_message(&mut self, queue_id: Option<&str>) -> Finished {
        let Some(transaction) = self.transaction.take() else {
            return Finished { verdict: Verdict::Continue, edits: Vec::new(), record: None };
        };
        let mut edits: Vec<Edit> =
            transaction.forged.iter().rev().map(|&index| Edit::Delete { name: auth_results::NAME, index }).collect();
        self.pending.forged_fields = edits.len();
        self.pending.complete = true;
        if let Some(queue_id) = queue_id {
            self.pending.queue_id = Some(queue_id.to_owned());
        }
        let helo = self.helo.as_ref().filter(|helo| !matches!(helo.decision, HeloDecision::Refuse(_)));
        let recorded: Vec<&Verified> = policy::recorded(
            &self.runtime.config,
            helo.and_then(|helo| helo.verified.as_ref()),
            self.helo_is_definitive(),
            transaction.mailfrom.as_ref(),
        )
        .collect();
        edits.extend(self.fields(&recorded).into_iter().map(|field| Edit::Insert { index: 0, field }));
        if self.runtime.config.dry_run {
            edits.clear();
        }
        Finished { verdict: Verdict::Continue, edits, record: self.tell() }
    }

    /// The message under way is given up.
    pub fn abort(&mut self) -> Option<Record> {
        self.transaction.take()?;
        self.tell()
    }

    /// The session ends.
    pub fn close(mut self) -> Option<Record> {
        self.tell()
    }

    //--- Verification ---

    async fn verify_helo(&mut self, client: IpAddr, name: &str) -> Helo {
        let open = Helo { name: name.to_owned(), verified: None, decision: HeloDecision::Open };
        let config = Arc::clone(&self.runtime.config);
        if !config.verify_helo {
            return open;
        }
        let Some(domain) = helo_domain(name) else {
            self.skip(Identity::Helo, name, "no-domain-name");
            return open;
        };
        if config.skip_senders.matches(None, &domain) {
            self.skip(Identity::Helo, name, "skip-senders");
            return open;
        }
        let query = self.query(client, POSTMASTER, domain.as_str(), name);
        let outcome = spf::check_host(&self.runtime.dns, &query, &limits(&config)).await;
        let verified =
            Verified { identity: Identity::Helo, local_part: POSTMASTER.to_owned(), domain: shown(name, Some(&domain)), outcome };
        let circumstances = Circumstances { helo: name, ..self.circumstances(client) };
        let decision = policy::at_helo(&config, &verified, &circumstances);
        Helo { verified: Some(verified), decision, ..open }
    }

    async fn verify_mailfrom(&mut self, client: IpAddr, path: &ReversePath) -> Option<Verified> {
        let config = Arc::clone(&self.runtime.config);
        let helo = self.helo.as_ref().map_or("", |helo| helo.name.as_str()).to_owned();
        let (local_part, domain) = match path {
            ReversePath::Empty => (POSTMASTER, helo.as_str()),
            ReversePath::Mailbox { local_part, domain } if local_part.is_empty() => (POSTMASTER, domain.as_str()),
            ReversePath::Mailbox { local_part, domain } => (local_part.as_str(), domain.as_str()),
            ReversePath::Other(text) => (text.as_str(), ""),
        };
        let parsed = match path {
            ReversePath::Empty => helo_domain(domain),
            _ => Domain::parse(domain).ok(),
        };
        if let Some(parsed) = &parsed
            && config.skip_senders.matches(Some(local_part), parsed)
        {
            self.skip(Identity::Mailfrom, &format!("{local_part}@{domain}"), "skip-senders");
            return None;
        }
        let shown = shown(domain, parsed.as_ref());
        let outcome = match &parsed {
            Some(parsed) => {
                let query = self.query(client, local_part, parsed.as_str(), &helo);
                spf::check_host(&self.runtime.dns, &query, &limits(&config)).await
            }
            None => spf::Outcome::without_domain("no domain name"),
        };
        Some(Verified { identity: Identity::Mailfrom, local_part: local_part.to_owned(), domain: shown, outcome })
    }

    fn query<'a>(&'a self, client: IpAddr, local_part: &'a str, domain: &'a str, helo: &'a str) -> Query<'a> {
        Query { client, domain, local_part, helo, receiver: &self.host_name, timestamp: now() }
    }

    fn circumstances(&self, client: IpAddr) -> Circumstances<'_> {
        let helo = self.helo.as_ref().map_or("", |helo| helo.name.as_str());
        Circumstances { client, helo, receiver: &self.host_name, timestamp: now() }
    }

    fn helo_is_definitive(&self) -> bool {
        self.helo.as_ref().is_some_and(|helo| helo.decision == HeloDecision::Definitive)
    }

    //--- What is told ---

    fn note(&mut self, verified: Verified, verdict: &Verdict) {
        let reply = match verdict {
            Verdict::Reply(reply) => Some(reply.clone()),
            _ => None,
        };
        let action = reply.as_ref().map_or(Action::Accept, Action::of);
        self.pending.identities.push(IdentityRecord { verified, action, reply });
    }

    fn skip(&mut self, identity: Identity, value: &str, reason: &'static str) {
        self.pending.skipped.push(Skipped { identity, value: value.to_owned(), reason });
    }

    fn exempt(&mut self, exemption: Exemption) -> Reaction {
        self.pending.exemption = Some(exemption);
        Reaction { verdict: Verdict::Accept(exemption), record: self.tell() }
    }

    /// The one place where a dry run differs: what is decided is told, and not done.
    fn settle(&mut self, verdict: Verdict) -> Reaction {
        match verdict {
            Verdict::Reply(_) if self.runtime.config.dry_run => Reaction::proceed(),
            Verdict::Reply(_) => Reaction { verdict, record: self.tell() },
            verdict => Reaction { verdict, record: None },
        }
    }

    /// What has gathered since the last time, if it is anything.
    fn tell(&mut self) -> Option<Record> {
        let mut record = std::mem::take(&mut self.pending);
        if record.identities.is_empty() && record.exemption.is_none() && record.skipped.is_empty() && !record.complete {
            return None;
        }
        record.client = self.client.ok().or(record.client);
        record.helo = self.helo.as_ref().map(|helo| helo.name.clone());
        record.dry_run = self.runtime.config.dry_run;
        Some(record)
    }
}

/// A domain as it is shown: in the case in which it came, without a dot at the end; U-labels as A-labels.
fn shown(text: &str, domain: Option<&Domain>) -> String {
    match domain {
        Some(domain) if !text.is_ascii() => domain.to_string(),
        Some(_) => text.strip_suffix('.').unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_lookups: config.max_lookups,
        max_void_lookups: config.max_void_lookups,
        timeout: Duration::from_secs(config.timeout_secs),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The address to verify, or why none is.
fn admit(config: &Config, client: &Client) -> Result<IpAddr, Exemption> {
    let address = client.address.ok_or(Exemption::NoAddress)?.to_canonical();
    // Postfix passes mail that did not come by SMTP (`non_smtpd_milters`) as from this host itself, without a port. Refusing that
    // would not reach any client.
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
