//! The content of a message: DKIM signatures, author, mailing list.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{context::Context, task::Task};
use crate::{
    auth::{
        Verified, dkim,
        dmarc::{
            self, Discovery, DkimIdentifier, DkimStatus, DmarcResult, Identifiers, RelaxedAlignment,
        },
    },
    config::MailingLists,
    dns::Dns,
    internal_error::InternalError,
    mail::{
        author::{Author, is_from},
        domain::Domain,
        list_id::{domains_of_list_id, list_id, list_post_domain},
    },
    policy::{self, MessageFacts},
};

/// From fields of more octets are none that can be read.
const MAX_FROM_LENGTH: usize = 1 << 20;

/// The content of a message under way, as far as methods need it.
#[derive(Debug)]
pub(super) struct Content {
    dkim: Dkim,
    dmarc: bool,
    lists: MailingLists,
    list: List,
    /// The author, and what is known of the policies.
    discovery: Discovery,
    /// Their look-ups, under way since From arrived.
    lookups: Option<Task<()>>,
}

/// A mailing list, by the word of the message.
#[derive(Debug, Default)]
struct List {
    /// There is a List-Id with a list identifier.
    has_id: bool,
    /// The domains that this may be one of.
    domains: Vec<Domain>,
    /// The domain of List-Post.
    post: Option<Domain>,
}

/// How far DKIM is.
#[derive(Debug)]
enum Dkim {
    Off,
    Header(dkim::Verifier),
    Body(Box<dkim::Verification>),
}

/// The outcomes for a message's content.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The signatures, from the top of the header; `None` where DKIM is not verified.
    pub(super) dkim: Option<Vec<dkim::SignatureOutcome>>,
    /// `None` where DMARC is not evaluated.
    pub(super) dmarc: Option<dmarc::Outcome>,
    /// The author, where DMARC is evaluated.
    pub(super) author: Option<Author>,
    /// What DMARC was evaluated on.
    pub(super) identifiers: Option<Identifiers>,
    /// How the message is aligned in relaxed mode, where policy asks.
    pub(super) alignment: Option<RelaxedAlignment>,
    /// The message comes from a mailing list that may be exempt.
    pub(super) is_list: bool,
    /// The domain of that list.
    pub(super) list: Option<Domain>,
    /// How long DKIM was waited for.
    pub(super) dkim_took: Option<Duration>,
    /// How long DMARC was waited for.
    pub(super) dmarc_took: Option<Duration>,
}

impl Findings {
    /// Facts about the message, with what is known of its content.
    pub(super) fn facts<'a>(&'a self, others: MessageFacts<'a>) -> MessageFacts<'a> {
        MessageFacts {
            author: self.author.as_ref(),
            identifiers: self.identifiers.as_ref(),
            alignment: self.alignment,
            dkim: self.dkim.as_deref().unwrap_or_default(),
            dmarc: self.dmarc.as_ref(),
            is_list: self.is_list,
            ..others
        }
    }
}

impl Content {
    pub(super) fn new(context: &Context) -> Self {
        let config = context.config();
        let dkim = if config.verify_dkim {
            let verifier = dkim::Verifier::new(dkim::Settings {
                max_signatures: config.max_dkim_signatures,
                min_key_bits: config.min_dkim_key_bits,
                timeout: context.timeout(),
                now: context.runtime.clock.now(),
            });
            Dkim::Header(if context.runtime.traces { verifier.traced() } else { verifier })
        } else {
            Dkim::Off
        };
        Self {
            dkim,
            dmarc: config.verify_dmarc,
            lists: config.dmarc_exempt_mailing_lists,
            list: List::default(),
            discovery: Discovery::new(Author::Missing),
            lookups: None,
        }
    }

    /// A header field; the value begins right behind the colon.
    pub(super) fn header(&mut self, dns: &Dns, name: &[u8], value: &[u8]) {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("header", value);
        if let Dkim::Header(verifier) = &mut self.dkim {
            verifier.header(name, value);
        }
        if !self.dmarc {
            return;
        }
        if is_from(name) {
            // Not its beginning: that might read as another author.
            let value = if value.len() > MAX_FROM_LENGTH { b"" } else { value };
            let is_first = *self.discovery.author() == Author::Missing;
            let author = self.discovery.author().clone().and_field(value);
            self.discovery = self.discovery.clone().with_author(author);
            // A second From makes another author of it; that is looked up at the end.
            self.lookups = (is_first && !self.discovery.author().domains().is_empty()).then(|| {
                let (dns, discovery) = (dns.clone(), self.discovery.clone());
                Task::start(async move { discovery.advance(&dns).await })
            });
        } else if self.lists == MailingLists::No {
        } else if name.trim_ascii_end().eq_ignore_ascii_case(b"List-Id") {
            if let Some(id) = list_id(value).filter(|_| !self.list.has_id) {
                self.list.has_id = true;
                self.list.domains.extend(domains_of_list_id(id));
            }
        } else if self.list.post.is_none()
            && name.trim_ascii_end().eq_ignore_ascii_case(b"List-Post")
        {
            self.list.post = list_post_domain(value);
        }
    }

    /// The end of the header: the keys of signatures are looked up from here on.
    pub(super) fn end_of_header(&mut self, dns: &Dns) {
        self.dkim = match std::mem::replace(&mut self.dkim, Dkim::Off) {
            Dkim::Header(verifier) => Dkim::Body(Box::new(verifier.end_of_header(dns))),
            other => other,
        };
    }

    /// The next octets of the body.
    pub(super) fn body(&mut self, dns: &Dns, chunk: &[u8]) {
        #[cfg(all(feature = "testing", debug_assertions))]
        crate::internal_error::panic_where_asked("body", chunk);
        // The MTA need not send the end of the header: here it is at the latest.
        if matches!(self.dkim, Dkim::Header(_)) {
            self.end_of_header(dns);
        }
        if let Dkim::Body(verification) = &mut self.dkim {
            verification.body(chunk);
        }
    }

    /// The end of the message: DKIM, then DMARC on what SPF and DKIM found.
    ///
    /// # Errors
    ///
    /// As those of [`dkim::Verification::finish`].
    pub(super) async fn finish(
        mut self,
        context: &Context,
        spf: Option<&Verified>,
    ) -> Result<Findings, InternalError> {
        self.end_of_header(&context.dns);
        let mut findings = Findings::default();
        let mut begin = Instant::now();
        if let Dkim::Body(verification) = std::mem::replace(&mut self.dkim, Dkim::Off) {
            findings.dkim = Some(verification.finish().await?);
            let now = Instant::now();
            findings.dkim_took = Some(now - begin);
            begin = now;
        }
        if self.dmarc {
            let identifiers = Identifiers {
                spf: spf.and_then(|verified| {
                    Some((Domain::parse(&verified.domain).ok()?, verified.outcome.result))
                }),
                dkim: findings.dkim.iter().flatten().filter_map(identifier).collect(),
            };
            let evaluation = dmarc::evaluate(&context.dns, &self.discovery, &identifiers);
            let evaluated = timeout(context.timeout(), evaluation).await;
            // The outcome at the time-out is made of what is certain: no name that its sender keeps
            // without an answer takes a fail away.
            findings.dmarc =
                Some(evaluated.unwrap_or_else(|_| dmarc::conclude(&self.discovery, &identifiers)));
            self.find_alignment(context, &identifiers, begin, &mut findings).await;
            self.find_list(context, &identifiers, begin, &mut findings).await;
            findings.dmarc_took = Some(begin.elapsed());
            findings.author = Some(self.discovery.into_author());
            findings.identifiers = Some(identifiers);
        }
        Ok(findings)
    }
}

impl Content {
    /// How the message is aligned in relaxed mode, where policy asks: within the time of DMARC, which
    /// began at `begin`.
    async fn find_alignment(
        &self,
        context: &Context,
        identifiers: &Identifiers,
        begin: Instant,
        findings: &mut Findings,
    ) {
        let author = self.discovery.author();
        let wants = |dmarc| policy::wants_alignment(context.config(), author, dmarc);
        if !findings.dmarc.as_ref().is_some_and(wants) {
            return;
        }
        let limit = context.timeout().saturating_sub(begin.elapsed());
        let aligned = dmarc::align_relaxed(&context.dns, &self.discovery, identifiers);
        let aligned = timeout(limit, Box::pin(aligned)).await;
        findings.alignment =
            Some(aligned.unwrap_or_else(|_| dmarc::relaxed_by_now(&self.discovery, identifiers)));
    }

    /// Whether the message is of a mailing list that may be exempt, where that matters: within the
    /// time of DMARC, which began at `begin`.
    async fn find_list(
        &self,
        context: &Context,
        identifiers: &Identifiers,
        begin: Instant,
        findings: &mut Findings,
    ) {
        let matters = match findings.dmarc.as_ref().map(|outcome| outcome.result) {
            None | Some(DmarcResult::Pass) => false,
            Some(DmarcResult::Fail | DmarcResult::Temperror) => true,
            // Where a policy of the site may hold.
            Some(_) => !context.config().dmarc_override_file.is_empty(),
        };
        if !matters {
            return;
        }
        match self.lists {
            MailingLists::No => {}
            MailingLists::Yes => {
                findings.is_list = self.list.has_id;
                findings.list = self.list.domains.first().cloned();
            }
            MailingLists::Authenticated => {
                let domains: Vec<Domain> =
                    self.list.domains.iter().chain(&self.list.post).cloned().collect();
                let limit = context.timeout().saturating_sub(begin.elapsed());
                let aligned =
                    dmarc::first_aligned(&context.dns, &self.discovery, &domains, identifiers);
                findings.list = timeout(limit, aligned).await.ok().flatten();
                findings.is_list = findings.list.is_some();
            }
        }
    }
}

/// A signature as DMARC sees it: it counts where it passed. One that leaves something of the body
/// open could not pass, whatever DNS would have said of its key.
fn identifier(signature: &dkim::SignatureOutcome) -> Option<DkimIdentifier> {
    let status = if signature.covers_message() {
        DkimStatus::Pass
    } else if signature.result() == dkim::DkimResult::Temperror
        && signature.body.is_some_and(|body| !body.is_partial())
    {
        DkimStatus::Temperror
    } else {
        DkimStatus::Other
    };
    Some(DkimIdentifier { domain: signature.domain.clone()?, status })
}
