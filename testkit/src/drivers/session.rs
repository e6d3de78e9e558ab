//! Scenarios through the session itself: no protocol, no sockets, DNS in memory.

use std::{net::IpAddr, path::Path, sync::Arc};

use spf_milter::{
    config::{LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
    mail::reply::ReplyCode,
    observe::{Conclusion, MessageVerdict, Observer, Reason},
    runtime::{Runtime, Shared},
    session::{Answer, Client, Edit, Granted, Record, Session, Verdict},
};

use crate::{
    fields::Field,
    milter_client::{self, apply, bits},
    scenario::{Driver, Event, HOST, Observed, Scenario},
};

/// The socket that the configuration must name, and that nobody listens on.
pub(super) const SOCKET: &str = "socket = unix:/nowhere\nlog_destination = stderr\n";

/// Plays scenarios on a `Session`.
#[derive(Debug)]
pub struct SessionDriver;

impl Driver for SessionDriver {
    fn name(&self) -> &'static str {
        "session"
    }

    fn play(&self, scenario: &Scenario) -> Result<(Vec<Observed>, Vec<String>), String> {
        let dns = Dns::from_zone(Arc::new(Zone::parse(&scenario.zone)?));
        let log = Log::keep(LogLevel::Debug);
        let config = load_text(
            format!("{SOCKET}{}", scenario.config).as_bytes(),
            Path::new("scenario"),
            &Overrides::default(),
        );
        let config = config.map_err(|errors| errors.to_string())?.config;
        let mut conversation = Conversation {
            shared: Shared::new(Runtime::new(config, dns.clone(), "localhost".into(), 0)),
            dns,
            observer: Observer::new(log.clone()),
            session: None,
            connection_verdict: None,
            message_verdict: None,
            user: None,
            queue_id: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let play = |event: &Event| runtime.block_on(conversation.play(event));
        let seen = scenario.play(play, String::new)?;
        conversation.close();
        Ok((seen, log.take_kept()))
    }
}

struct Conversation {
    shared: Shared,
    dns: Dns,
    observer: Observer,
    session: Option<Session>,
    /// A final word said at connect or HELO.
    connection_verdict: Option<Observed>,
    /// A final word said about the message.
    message_verdict: Option<Observed>,
    user: Option<String>,
    queue_id: Option<&'static str>,
}

impl Conversation {
    async fn play(&mut self, event: &Event) -> Result<Observed, String> {
        match event {
            Event::Connect { client, host } => {
                self.close();
                return Ok(self.connect(*client, host));
            }
            Event::Reload(config) => return Ok(self.reload(config)),
            Event::Auth(user) => {
                self.user = Some(user.clone());
                return Ok(Observed::ok());
            }
            _ => {}
        }
        if let (Some(verdict), false) = (&self.connection_verdict, matches!(event, Event::Rset)) {
            let fields = match event {
                Event::Message { fields, .. } if verdict.reply == "ok" => Some(fields.clone()),
                _ => None,
            };
            return Ok(Observed { fields, ..verdict.clone() });
        }
        let session = self.session.as_mut().ok_or("not connected")?;
        let answer = match event {
            Event::Helo(name) => {
                let answer = session.helo(&String::from_utf8_lossy(name)).await;
                let observed = self.observe(answer.clone());
                if !matches!(answer.verdict, Verdict::Continue) {
                    self.connection_verdict = Some(observed.clone());
                }
                return Ok(observed);
            }
            Event::Mail(path) => {
                self.message_verdict = None;
                let answer = session.mail(path, self.user.is_some(), None).await;
                let accepted = matches!(answer.verdict, Verdict::Accept);
                let observed = self.observe(answer);
                if accepted {
                    self.message_verdict = Some(observed.clone());
                }
                return Ok(observed);
            }
            Event::Message { fields, body } => return self.message(fields, body).await,
            Event::Rset => {
                self.message_verdict = None;
                session.abort()
            }
            Event::Rcpt(path) => {
                self.queue_id = Some("4Q1A2B3C4D");
                session.rcpt(path).await
            }
            Event::Connect { .. } | Event::Reload(_) | Event::Auth(_) => Answer::proceed(),
        };
        Ok(self.observe(answer))
    }

    fn connect(&mut self, address: Option<IpAddr>, host: &str) -> Observed {
        let client = Client { address, port: 40025, host: host.to_owned() };
        let (session, answer) = Session::new(self.shared.load(), Granted::ALL, &client, Some(HOST));
        self.session = Some(session);
        self.user = None;
        self.message_verdict = None;
        let accepted = matches!(answer.verdict, Verdict::Accept);
        let observed = self.observe(answer);
        self.connection_verdict = accepted.then(|| observed.clone());
        observed
    }

    async fn message(&mut self, fields: &[Field], body: &str) -> Result<Observed, String> {
        if self.message_verdict.take().is_some() {
            return Ok(Observed { fields: Some(fields.to_vec()), ..Observed::ok() });
        }
        let session = self.session.as_mut().ok_or("not connected")?;
        for field in fields {
            session.header(field.name.as_bytes(), &field.value);
        }
        session.end_of_header();
        // In two parts, the CR and LF at the end apart.
        let body = body.replace('\n', "\r\n");
        let (start, end) = body.as_bytes().split_at(body.len() - 1);
        session.body(start);
        session.body(end);
        let answer = session.end_of_message(self.queue_id.take()).await;
        let edits: Vec<milter_client::Edit> =
            answer.edits.iter().cloned().map(in_protocol).collect();
        let fields =
            apply(fields, &edits, bits::ALL_ACTIONS, false).map_err(|error| error.to_string())?;
        let mut observed = self.observe(answer);
        observed.fields = matches!(&*observed.reply, "ok" | "quarantine").then_some(fields);
        Ok(observed)
    }

    fn reload(&mut self, config: &str) -> Observed {
        let running = self.shared.load();
        match load_text(
            format!("{SOCKET}{config}").as_bytes(),
            Path::new("scenario"),
            &Overrides::default(),
        ) {
            Ok(loaded) => {
                let runtime = Runtime::new(
                    loaded.config,
                    self.dns.clone(),
                    "localhost".into(),
                    running.generation + 1,
                );
                self.shared.replace(runtime);
                Observed::ok()
            }
            Err(_) => Observed::refused("refused"),
        }
    }

    fn observe(&self, Answer { verdict, records, .. }: Answer) -> Observed {
        self.observer.observe_all(&records);
        if let Some(record) = records.latest() {
            assert_agreement(&verdict, record);
        }
        match verdict {
            Verdict::Continue | Verdict::Accept => Observed::ok(),
            Verdict::Quarantine(_) => Observed::refused("quarantine"),
            Verdict::Reply(reply) => {
                Observed::refused(format!("{} {} {}", reply.code(), reply.status(), reply.text()))
            }
            Verdict::Tempfail => {
                Observed::refused("451 4.7.1 Service unavailable - try again later")
            }
        }
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            self.observer.observe_all(&session.close().records);
        }
    }
}

/// An edit as the milter protocol has it.
pub(super) fn in_protocol(edit: Edit) -> milter_client::Edit {
    let index = |index: i32| u32::try_from(index).unwrap();
    match edit {
        Edit::Delete { name, index: at } => {
            milter_client::Edit::Change(index(at), Field::new(&name, ""))
        }
        Edit::Insert { index: at, field } => {
            milter_client::Edit::Insert(index(at), Field::new(&field.name, field.value))
        }
    }
}

/// What a record comes to is what the MTA is told.
fn assert_agreement(verdict: &Verdict, record: &Record) {
    let Conclusion { verdict: of_message, reply, reason, .. } = Conclusion::of(record);
    let expected = match verdict {
        Verdict::Reply(reply) => Some(reply.code()),
        Verdict::Tempfail => Some(ReplyCode::TRY_AGAIN),
        Verdict::Continue | Verdict::Accept | Verdict::Quarantine(_) => None,
    };
    assert_eq!(reply, expected, "{record:?}");
    let is_internal = reason == Some(Reason::Internal);
    assert_eq!(is_internal, matches!(verdict, Verdict::Tempfail), "{record:?}");
    assert_eq!(of_message.is_some(), record.complete, "{record:?}");
    let goes_on = of_message
        .is_none_or(|verdict| matches!(verdict, MessageVerdict::Accept | MessageVerdict::Tag));
    let is_kept = of_message == Some(MessageVerdict::Quarantine);
    assert_eq!(is_kept, matches!(verdict, Verdict::Quarantine(_)), "{record:?}");
    assert!(goes_on || is_kept || expected.is_some(), "{record:?}");
    // A reason wherever something is done, and nowhere else.
    let is_accepted = of_message.is_none_or(|verdict| verdict == MessageVerdict::Accept);
    assert_eq!(reason.is_none(), is_accepted && expected.is_none(), "{record:?}");
}
