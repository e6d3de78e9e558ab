//! Plays a question on a session.

use std::{borrow::Cow, sync::Arc};

use super::{
    finding::{Asked, Finding, Given, Source, Stage, Step},
    message::{Field, Message},
    question::{BadQuestion, Question},
    saved::{Saved, ours_below},
};
use crate::{
    mail::{auth_results::AuthservIdPattern, author::is_from, domain::Domain},
    runtime::Runtime,
    session::{Answer, Client, Granted, Session, Verdict},
};

/// The port that the client is taken to have. Only a client without one is taken for this host.
const CLIENT_PORT: u16 = 25;

/// The recipient where none is given: no address, so that it is none that is exempt.
const ANY_RECIPIENT: &str = "<>";

/// Asks a session about a message, or about what a client says before one. DNS is asked with the
/// client of the runtime, and within its limits.
///
/// The MTA is taken to grant everything that the milter protocol has. In a dry run the answers are
/// those that would be given without. Without a message, all that can be known is waited for,
/// although the MTA would not wait.
///
/// # Errors
///
/// The question says too little, or its message is none.
pub async fn ask(question: &Question, runtime: &Runtime) -> Result<Finding, BadQuestion> {
    let message = question.message.as_deref().map(Message::read).transpose()?;
    let (asked, message) = complete(question, runtime, message)?;
    let is_dry_run = runtime.config.dry_run;
    let runtime = Arc::new(live(runtime, message.is_some()));
    let client =
        Client { address: Some(asked.client.value), port: CLIENT_PORT, host: "unknown".into() };
    let (session, answer) =
        Session::new(Arc::clone(&runtime), Granted::ALL, &client, asked.mta_host.as_deref());
    let mut play = Play { session, steps: Vec::new() };
    if play.take(Stage::Connect, answer) {
        play.run(&asked, message.as_ref(), &runtime).await;
    }
    let Play { session, mut steps } = play;
    push(&mut steps, Stage::Close, session.close());
    Ok(Finding { asked, steps, is_dry_run })
}

/// The same runtime where everything is done and, without a message, everything waited for.
fn live(runtime: &Runtime, has_message: bool) -> Runtime {
    let mut config = runtime.config.as_ref().clone();
    config.dry_run = false;
    let host = runtime.fallback_host.clone();
    let mut live = Runtime::new(config, runtime.dns.clone(), host, runtime.generation);
    (live.clock, live.traces) = (runtime.clock, runtime.traces);
    // Where recipients are exempt, each of them waits for the senders.
    let waits = !has_message && !live.needs.recipients;
    live.needs.helo_reply |= waits;
    live.needs.mail_reply |= waits;
    live
}

/// A session that is under way, and what it has answered.
struct Play {
    session: Session,
    steps: Vec<Step>,
}

impl Play {
    /// Notes an answer, and says whether the session goes on.
    fn take(&mut self, stage: Stage, answer: Answer) -> bool {
        let goes_on = answer.verdict == Verdict::Continue;
        push(&mut self.steps, stage, answer);
        goes_on
    }

    /// Plays all behind the connection, as the adapter does what the configuration needs.
    async fn run(&mut self, asked: &Asked, message: Option<&Message<'_>>, runtime: &Runtime) {
        if let Some(name) = &asked.helo {
            let answer = self.session.helo(&name.value).await;
            if !self.take(Stage::Helo, answer) {
                return;
            }
        }
        let Some(path) = &asked.mail_from else { return };
        let is_authenticated = asked.is_authenticated.value;
        let answer = self.session.mail(path.value.as_bytes(), is_authenticated, None).await;
        if !self.take(Stage::Mail, answer) {
            return;
        }
        if runtime.needs.recipients {
            let mut has_recipient = false;
            for recipient in &asked.recipients {
                let answer = self.session.rcpt(recipient.as_bytes()).await;
                has_recipient |= self.take(Stage::Rcpt, answer);
            }
            if !has_recipient {
                return;
            }
        }
        let Some(message) = message else { return };
        for field in &message.fields {
            self.session.header(field.name, &field.value);
        }
        if runtime.needs.content {
            self.session.end_of_header();
            message.body(|chunk| self.session.body(chunk));
        }
        let answer = self.session.end_of_message(None).await;
        self.take(Stage::End, answer);
    }
}

/// Adds a step; one at the end of the session only where it recorded something.
fn push(steps: &mut Vec<Step>, stage: Stage, answer: Answer) {
    let Answer { verdict, edits, records } = answer;
    let records: Vec<_> = records.iter().cloned().collect();
    if stage != Stage::Close || !records.is_empty() {
        steps.push(Step { stage, verdict, edits, records });
    }
}

/// Takes what the question does not say from its message, and from the message what the client did
/// not send.
fn complete<'a>(
    question: &Question,
    runtime: &Runtime,
    mut message: Option<Message<'a>>,
) -> Result<(Asked, Option<Message<'a>>), BadQuestion> {
    let own = [runtime.host_name(None), &runtime.fallback_host];
    let mut names: Vec<&str> = question.received_by.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = own.to_vec();
        names.dedup();
    }
    let is_named = !question.received_by.is_empty();
    let saved = message.as_ref().map(|message| Saved::find(message, &names, is_named));
    let received = saved.as_ref().and_then(|saved| saved.received.as_ref());
    let line =
        |text| received.map(|(line, _)| Given { value: text, source: Source::Line(line.clone()) });
    let no_client = || {
        let reason = saved.as_ref().map(|saved| saved.reason.clone());
        BadQuestion::NoClient(reason.unwrap_or_else(|| "no client is named".into()))
    };
    let is_recalled = question.is_recalled;
    let client = match (question.ip, received) {
        (Some(value), Some((line, received)))
            if is_recalled && received.client.address == value =>
        {
            Given { value, source: Source::Line(line.clone()) }
        }
        (Some(value), _) => Given { value, source: Source::Question },
        (None, Some((line, received))) => {
            Given { value: received.client.address, source: Source::Line(line.clone()) }
        }
        (None, None) => return Err(no_client()),
    };
    let said = received.and_then(|(_, received)| received.client.helo.clone());
    let helo = match &question.helo {
        Some(value) if !is_recalled || said.as_ref() != Some(value) => {
            Some(Given { value: value.clone(), source: Source::Question })
        }
        _ => said.and_then(line),
    };
    let mail_from = match (&question.mail_from, &saved) {
        (Some(path), Some(Saved { return_path: Some((line, own)), .. }))
            if is_recalled && in_brackets(path) == in_brackets(own) =>
        {
            Some(Given { value: in_brackets(path), source: Source::Line(line.clone()) })
        }
        (Some(path), _) => Some(Given { value: in_brackets(path), source: Source::Question }),
        (None, None) => None,
        (None, Some(Saved { return_path: Some((line, path)), .. })) => {
            Some(Given { value: in_brackets(path), source: Source::Line(line.clone()) })
        }
        (None, Some(_)) => return Err(BadQuestion::NoReversePath),
    };
    let is_authenticated = match received {
        Some((line, received))
            if is_recalled && question.is_authenticated && received.is_authenticated =>
        {
            Given { value: true, source: Source::Line(line.clone()) }
        }
        _ if question.is_authenticated => Given { value: true, source: Source::Question },
        Some((line, received)) if question.ip.is_none() && received.is_authenticated => {
            Given { value: true, source: Source::Line(line.clone()) }
        }
        _ => Given { value: false, source: Source::Default },
    };
    let mta_host = received.map(|(_, received)| received.by.clone());
    let mut asked = Asked {
        client,
        helo,
        mail_from,
        is_authenticated,
        recipients: recipients(question, runtime),
        mta_host,
        left_out: Vec::new(),
        has_message: message.is_some() || question.author_domain.is_some(),
        notes: Vec::new(),
    };
    if let (Some(message), Some(saved)) = (&mut message, &saved) {
        asked.notes.append(&mut message.notes);
        leave_out(message, saved, runtime, &mut asked);
    }
    if let Some(domain) = &question.author_domain {
        with_author(&mut message.get_or_insert_with(Message::default).fields, domain);
    }
    Ok((asked, message))
}

fn recipients(question: &Question, runtime: &Runtime) -> Vec<String> {
    if !runtime.needs.recipients {
        return Vec::new();
    }
    if question.recipients.is_empty() {
        return vec![ANY_RECIPIENT.to_owned()];
    }
    question.recipients.iter().map(|path| in_brackets(path)).collect()
}

/// Takes the fields away that the MTA and this milter added.
fn leave_out(message: &mut Message<'_>, saved: &Saved, runtime: &Runtime, asked: &mut Asked) {
    if saved.received.is_none() {
        asked.notes.push(format!("{}: all fields are taken for the client's", saved.reason));
        return;
    }
    let host = runtime.host_name(asked.mta_host.as_deref());
    let mut ids = runtime.own_authserv_ids(host);
    ids.push(AuthservIdPattern::exact(runtime.authserv_id(host)));
    let ours = ours_below(message, saved.added, host, &ids, &runtime.config);
    let mut index = 0;
    message.fields.retain(|field| {
        let goes = index < saved.added || ours.binary_search(&index).is_ok();
        index += 1;
        if goes {
            asked.left_out.push(field.input_line());
        }
        !goes
    });
}

/// Gives a header an author of this domain in place of its own.
fn with_author(fields: &mut Vec<Field<'_>>, domain: &Domain) {
    fields.retain(|field| !is_from(field.name));
    let value = Cow::Owned(format!(" postmaster@{domain}").into_bytes());
    fields.push(Field { name: b"From", value, line: 0 });
}

/// A path in angle brackets.
fn in_brackets(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let text = text.trim();
    if text.starts_with('<') { text.to_owned() } else { format!("<{text}>") }
}
