//! Where the answers of DNS come from, where they go to, and what is told of them.

use std::{cell::RefCell, fs, io::Read as _, path::Path, path::PathBuf, sync::Arc};

use super::{
    finding::Finding,
    for_sender::for_sender,
    printable::Style,
    question::Question,
    record_file::{MAX_FILE, RecordFile},
    traced::trace,
};
use crate::{
    config::{Config, NamedFiles},
    dns::{
        Dns,
        recorded::{Recording, Replay},
    },
    mail::harmless::ascii,
    runtime::{Clock, Runtime},
};

/// What is wanted beside the finding.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// The file that all answers of DNS are written to.
    pub record: Option<PathBuf>,
    /// The file with the answers that are used in place of DNS.
    pub replay: Option<PathBuf>,
    /// The steps of SPF, DKIM and DMARC.
    pub trace: bool,
    /// A text for the sender in place of all other text.
    pub for_sender: bool,
}

/// The answers of DNS to a question.
#[derive(Debug)]
pub(super) struct Answers {
    wanted: Wanted,
    recording: Arc<Recording>,
    replayed: Option<Replayed>,
    /// When the question is asked, in seconds since 1970.
    time: u64,
}

/// A record that is used in place of DNS.
#[derive(Debug)]
struct Replayed {
    path: PathBuf,
    file: RecordFile,
    answers: Arc<Replay>,
}

impl Answers {
    /// # Errors
    ///
    /// The file with the answers cannot be read.
    pub(super) fn new(wanted: Wanted) -> Result<Self, String> {
        let replayed = match &wanted.replay {
            None => None,
            Some(path) => {
                let file = read_record(path)?;
                let answers = Arc::new(Replay::new(file.entries.clone()));
                Some(Replayed { path: path.clone(), file, answers })
            }
        };
        let time = replayed.as_ref().map_or_else(|| Clock::System.now(), |record| record.file.time);
        Ok(Self { wanted, recording: Arc::default(), replayed, time })
    }

    /// Has a record complete the question, and say which host this is.
    pub(super) fn complete(&self, question: &mut Question, host_name: &mut String) {
        if let Some(Replayed { file, .. }) = &self.replayed {
            *question = file.complete(std::mem::take(question));
            host_name.clone_from(&file.host);
        }
    }

    /// The configuration of a record, and the path of that.
    pub(super) fn configuration(&self) -> Option<(String, &Path)> {
        let Replayed { path, file, .. } = self.replayed.as_ref()?;
        Some((file.numbered_configuration(), path))
    }

    /// The files that the configuration names: those of a record, and no others.
    pub(super) fn files(&self) -> NamedFiles {
        match &self.replayed {
            Some(Replayed { file, .. }) => {
                let of = |(path, entries): &(String, Vec<String>)| {
                    (PathBuf::from(path), entries.join("\n").into_bytes())
                };
                NamedFiles::Known(file.files.iter().map(of).collect())
            }
            None if self.wanted.record.is_some() => NamedFiles::Kept(RefCell::default()),
            None => NamedFiles::System,
        }
    }

    /// The client to ask; `resolver` makes the one that asks name servers.
    pub(super) fn client(&self, resolver: impl FnOnce() -> Dns) -> Dns {
        let replayed = self.replayed.as_ref();
        let dns = replayed.map_or_else(resolver, |record| Dns::from_replay(&record.answers));
        dns.recording(&self.recording)
    }

    /// Has the time stand still, and steps noted where they are wanted.
    pub(super) fn prepare(&self, runtime: &mut Runtime) {
        runtime.clock = Clock::Fixed(self.time);
        runtime.traces = self.wanted.trace || self.wanted.for_sender;
    }

    /// What the record lacks, in a sentence.
    pub(super) fn missing(&self) -> Option<String> {
        const MOST: usize = 10;
        let missing = self.replayed.as_ref()?.answers.missing();
        let mut names: Vec<_> =
            missing.iter().map(|(name, record_type)| format!("{record_type} {name}")).collect();
        if names.len() > MOST {
            names.truncate(MOST);
            names.push("and others".to_owned());
        }
        let names = names.join(", ");
        (!names.is_empty()).then(|| {
            format!("the record of DNS answers has no answer for {}", names.escape_debug())
        })
    }

    /// Writes the record, where that is wanted.
    ///
    /// # Errors
    ///
    /// The file that cannot be written, and why.
    pub(super) fn write(
        &self,
        question: &Question,
        finding: &Finding,
        config: &Config,
        host: &str,
        files: &NamedFiles,
    ) -> Result<(), String> {
        let Some(path) = &self.wanted.record else { return Ok(()) };
        let asked = &finding.asked;
        let file = RecordFile {
            question: Question {
                ip: Some(asked.client.value),
                helo: asked.helo.as_ref().map(|helo| helo.value.clone()),
                mail_from: asked.mail_from.as_ref().map(|path| path.value.clone().into_bytes()),
                is_authenticated: asked.is_authenticated.value,
                message: None,
                ..question.clone()
            },
            time: self.time,
            host: host.to_owned(),
            configuration: config.show(false),
            configuration_line: 0,
            files: files
                .entries()
                .into_iter()
                .map(|(path, entries)| (path.display().to_string(), entries))
                .collect(),
            entries: self.recording.entries(),
        };
        let text = file.to_string();
        if u64::try_from(text.len()).map_or(true, |length| length > MAX_FILE) {
            return Err(format!(
                "{}: the record would have more than {MAX_FILE} octets; the configuration names long files",
                path.display()
            ));
        }
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The text that is written; `report` makes that of the finding.
    pub(super) fn text(
        &self,
        finding: &Finding,
        report: impl FnOnce() -> String,
        style: Style,
    ) -> String {
        let in_style = |text: String| match style.is_utf8 {
            true => text,
            false => ascii(&text).into_owned(),
        };
        if self.wanted.for_sender {
            return in_style(for_sender(finding, &self.recording.entries(), self.time));
        }
        let mut text = report();
        if self.wanted.trace {
            text.push('\n');
            text.push_str(&in_style(trace(finding, &self.recording, self.replayed.is_none())));
        }
        text
    }
}

/// Reads a file of recorded answers, of bounded size.
///
/// # Errors
///
/// What is wrong with it, and where.
fn read_record(path: &Path) -> Result<RecordFile, String> {
    let read = || {
        let mut octets = Vec::new();
        fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut octets)?;
        std::io::Result::Ok(octets)
    };
    let shown = path.display();
    let octets = read().map_err(|error| format!("{shown}: {error}"))?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(format!("{shown}: longer than {MAX_FILE} octets"));
    }
    let text = String::from_utf8(octets).map_err(|_| format!("{shown}: not a text in UTF-8"))?;
    RecordFile::parse(&text).map_err(|error| format!("{shown}: {error}"))
}
