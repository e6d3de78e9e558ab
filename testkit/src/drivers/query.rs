//! Scenarios through `spf-milter query`: each step is a question of its own, with all that the
//! client has said up to there.

use std::{path::Path, sync::Arc};

use spf_milter::{
    config::{LogLevel, Overrides, load_text},
    dns::{Dns, zone::Zone},
    log::Log,
    observe::Observer,
    query::{self, Finding, Question, Stage, ask},
    runtime::{Runtime, Shared},
    session::Verdict,
};

use super::session::{SOCKET, in_protocol};
use crate::{
    fields::Field,
    milter_client::{apply, bits},
    scenario::{Driver, Event, HOST, Observed, Scenario, Step, message_text},
};

/// Asks what would become of each step of a scenario.
#[derive(Debug)]
pub struct QueryDriver;

impl Driver for QueryDriver {
    fn name(&self) -> &'static str {
        "query"
    }

    fn play(&self, scenario: &Scenario) -> Result<(Vec<Observed>, Vec<String>), String> {
        let dns = Dns::from_zone(Arc::new(Zone::parse(&scenario.zone)?));
        let log = Log::keep(LogLevel::Debug);
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let shared = Shared::new(load(&scenario.config, &dns)?);
        let mut asking = Asking {
            runtime: shared.load(),
            shared,
            dns,
            observer: Observer::new(log.clone()),
            question: Question::default(),
        };
        let play = |event: &Event| executor.block_on(asking.play(event));
        let seen = scenario.play(play, String::new)?;
        Ok((seen, log.take_kept()))
    }
}

/// A question that grows from event to event.
struct Asking {
    dns: Dns,
    shared: Shared,
    /// The configuration of the client.
    runtime: Arc<Runtime>,
    observer: Observer,
    question: Question,
}

impl Asking {
    async fn play(&mut self, event: &Event) -> Result<Observed, String> {
        match event {
            Event::Connect { .. } => self.runtime = self.shared.load(),
            Event::Reload(config) => {
                let other = load(config, &self.dns);
                return Ok(Observed::reload(other.map(|other| self.shared.replace(other)).is_ok()));
            }
            _ => {}
        }
        let Some(stage) = hear(&mut self.question, event) else { return Ok(Observed::ok()) };
        let finding = ask(&self.question, &self.runtime).await;
        let finding = finding.map_err(|problem| problem.to_string())?;
        let step = finding.steps.iter().rfind(|step| step.stage == stage);
        let step = step.or(finding.deciding()).ok_or("no step")?;
        if step.verdict != Verdict::Continue || stage == Stage::End {
            finding.records().for_each(|record| self.observer.observe(record));
        }
        observe(&finding, step, event)
    }
}

/// The questions that a scenario makes, each with the configuration that it is asked with; but for
/// those about clients without an address.
pub fn questions(scenario: &Scenario) -> Vec<(String, Question)> {
    let (mut latest, mut in_force) = (scenario.config.clone(), scenario.config.clone());
    let mut question = Question::default();
    let mut questions = Vec::new();
    for Step { event, .. } in &scenario.steps {
        match event {
            // One that is refused changes nothing.
            Event::Reload(config) if load(config, &Dns::from_zone(Arc::default())).is_ok() => {
                latest.clone_from(config);
            }
            Event::Connect { .. } => in_force.clone_from(&latest),
            _ => {}
        }
        if hear(&mut question, event).is_some() && question.ip.is_some() {
            questions.push((in_force.clone(), question.clone()));
        }
    }
    questions
}

fn load(config: &str, dns: &Dns) -> Result<Runtime, String> {
    let text = format!("{SOCKET}{config}");
    let loaded = load_text(text.as_bytes(), Path::new("scenario"), &Overrides::default());
    let config = loaded.map_err(|errors| errors.to_string())?.config;
    Ok(Runtime::new(config, dns.clone(), HOST.into(), 0))
}

/// Adds to the question what the client does; `None` where that has no answer.
fn hear(question: &mut Question, event: &Event) -> Option<Stage> {
    question.message = None;
    match event {
        Event::Connect { client, .. } => {
            *question = Question { ip: *client, ..Question::default() };
            Some(Stage::Connect)
        }
        Event::Helo(name) => {
            question.helo = Some(String::from_utf8_lossy(name).into_owned());
            (question.mail_from, question.recipients) = (None, Vec::new());
            Some(Stage::Helo)
        }
        Event::Auth(_) => {
            question.is_authenticated = true;
            None
        }
        Event::Mail(path) => {
            (question.mail_from, question.recipients) = (Some(path.clone()), Vec::new());
            Some(Stage::Mail)
        }
        Event::Rcpt(path) => {
            question.recipients.push(path.clone());
            Some(Stage::Rcpt)
        }
        Event::Message { fields, body } => {
            question.message = Some(message_text(fields, body));
            Some(Stage::End)
        }
        Event::Rset => {
            (question.mail_from, question.recipients) = (None, Vec::new());
            None
        }
        Event::Reload(_) => None,
    }
}

/// What the SMTP client sees at the last step that was asked about.
fn observe(finding: &Finding, step: &query::Step, event: &Event) -> Result<Observed, String> {
    if finding.is_dry_run {
        let fields = match event {
            Event::Message { fields, .. } => Some(fields.clone()),
            _ => None,
        };
        return Ok(Observed { fields, ..Observed::ok() });
    }
    let verdict = match step.verdict.clone() {
        Verdict::Continue | Verdict::Accept => "ok".to_owned(),
        Verdict::Quarantine(_) => "quarantine".to_owned(),
        Verdict::Reply(reply) => reply.to_string(),
        Verdict::Tempfail => "451 4.7.1 Service unavailable - try again later".to_owned(),
    };
    let mut observed = Observed::refused(verdict);
    if let Event::Message { fields, .. } = event {
        let edits: Vec<_> = finding.edits().cloned().map(in_protocol).collect();
        let edited = apply(fields, &edits, bits::ALL_ACTIONS, false);
        let edited: Vec<Field> = edited.map_err(|error| error.to_string())?;
        observed.fields = matches!(&*observed.reply, "ok" | "quarantine").then_some(edited);
    }
    Ok(observed)
}
