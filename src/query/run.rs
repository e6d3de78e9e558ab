//! The command: reads the message, asks DNS, writes the finding.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    answers::{Answers, Wanted},
    ask::ask,
    changes::{change, without_exemptions},
    finding::{Finding, Outcome},
    json,
    printable::Style,
    question::Question,
    report::report,
};
use crate::{
    config::{
        Config, Errors, Loaded, NamedFiles, Overrides, Setting, load_defaults, load_text_with,
        load_with,
    },
    dns::Dns,
    runtime::{Runtime, dns_settings},
};

/// The most octets of a message: no MTA takes one that is longer.
const MAX_MESSAGE: u64 = 1 << 29;

/// The verdict is to reject.
const REFUSED: u8 = 1;

/// The DNS servers could not answer (`EX_UNAVAILABLE` of sysexits.h).
const UNAVAILABLE: u8 = 69;

/// The client may try again (`EX_TEMPFAIL`).
const TRY_AGAIN: u8 = 75;

/// A question with the effects that it needs.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The question, without its message.
    pub question: Question,
    /// The file that has the message; `-` for standard input.
    pub message: Option<PathBuf>,
    /// The configuration file, which must be there; `None`: that of the service, if it is there.
    pub config_file: Option<PathBuf>,
    /// The configuration file of the service.
    pub usual_file: PathBuf,
    /// Options that win over the configuration file.
    pub overrides: Overrides,
    /// Name servers to ask in place of those of the configuration.
    pub nameservers: Vec<String>,
    /// What is to be otherwise: parameters, or words of the question, as `NAME=VALUE`.
    pub changes: Vec<String>,
    /// Nobody is exempt.
    pub ignores_exemptions: bool,
    /// The system's name of this host.
    pub host_name: String,
    /// The answer is to be JSON.
    pub is_json: bool,
    /// How text is written.
    pub style: Style,
    /// What is wanted beside the finding.
    pub wanted: Wanted,
}

/// The text to write, and the exit code.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The text.
    pub text: String,
    /// The exit code.
    pub exit: u8,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Problem {
    /// The question or its message cannot be used.
    Input(String),
    /// The configuration cannot be used.
    Configuration(Errors),
    /// The system does not let us.
    System(String),
    /// The record of DNS answers does not have what is asked for.
    NotRecorded(String),
}

/// Asks what the inquiry is about.
///
/// # Errors
///
/// The configuration or the message cannot be read, the question says too little, the record of DNS
/// answers has too little, the system is out of something.
pub fn run(inquiry: Inquiry) -> Result<Answered, Problem> {
    let (is_json, style) = (inquiry.is_json, inquiry.style);
    let (finding, answers, loaded) = play(inquiry)?;
    let exit = exit(&finding, &loaded.config);
    let text = if is_json {
        json::write(&finding, &loaded.config, &loaded.places, exit)
    } else {
        let report = || report(&finding, &loaded.config, &loaded.places, style);
        answers.text(&finding, report, style)
    };
    Ok(Answered { text, exit })
}

/// As [`run`]: the finding itself, and the exit code that tells it.
///
/// # Errors
///
/// As those of [`run`].
pub fn find(inquiry: Inquiry) -> Result<(Finding, u8), Problem> {
    let (finding, _, loaded) = play(inquiry)?;
    let exit = exit(&finding, &loaded.config);
    Ok((finding, exit))
}

fn play(inquiry: Inquiry) -> Result<(Finding, Answers, Loaded), Problem> {
    let Inquiry { mut question, message, mut host_name, wanted, .. } = inquiry.clone();
    let answers = Answers::new(wanted).map_err(Problem::Input)?;
    answers.complete(&mut question, &mut host_name);
    let files = answers.files();
    let (loaded, has_file) = configure(inquiry, &answers, &files, &mut question)?;
    if let Some(path) = message {
        question.message = Some(read(&path, MAX_MESSAGE).map_err(|error| {
            Problem::Input(format!("{}: {error} (expected a message)", path.display()))
        })?);
    }
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::System(format!("cannot start the runtime: {error}")))?;
    let config = &loaded.config;
    let asked = tokio.block_on(async {
        let dns = answers.client(|| Dns::with_listener(&dns_settings(config), |_| {}));
        let mut runtime = Runtime::new(config.clone(), dns, host_name.clone(), 0);
        answers.prepare(&mut runtime);
        ask(&question, &runtime).await
    });
    // Nothing that is still under way matters any more.
    tokio.shutdown_background();
    let mut finding = asked.map_err(|problem| Problem::Input(problem.to_string()))?;
    if let Some(missing) = answers.missing() {
        return Err(Problem::NotRecorded(missing));
    }
    answers.write(&question, &finding, config, &host_name, &files).map_err(Problem::System)?;
    if !has_file {
        let note = "there is no configuration file: all parameters have their defaults";
        finding.asked.notes.push(note.to_owned());
    }
    Ok((finding, answers, loaded))
}

/// Reads the configuration, with the changes of the inquiry, and says whether there is a file.
fn configure(
    inquiry: Inquiry,
    answers: &Answers,
    files: &NamedFiles,
    question: &mut Question,
) -> Result<(Loaded, bool), Problem> {
    let Inquiry { config_file, usual_file, mut overrides, nameservers, changes, .. } = inquiry;
    if !nameservers.is_empty() {
        let line = format!("nameservers = {}", nameservers.join(", "));
        overrides.settings.push(Setting { option: "--nameserver", line });
    }
    overrides.settings.extend(change(question, &changes).map_err(Problem::Input)?);
    // The last one of a name wins.
    if inquiry.ignores_exemptions {
        overrides.settings.extend(without_exemptions());
    }
    if let Some((text, path)) = answers.configuration() {
        let loaded = load_text_with(text.as_bytes(), path, &overrides, files);
        return Ok((loaded.map_err(Problem::Configuration)?, true));
    }
    let is_missing = config_file.is_none() && usual_file.try_exists().is_ok_and(|exists| !exists);
    let loaded = if is_missing {
        load_defaults(&overrides)
    } else {
        load_with(config_file.as_ref().unwrap_or(&usual_file), &overrides, files)
    };
    Ok((loaded.map_err(Problem::Configuration)?, !is_missing))
}

/// Reads a message of so many octets at most.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let mut read = |input: &mut dyn Read| input.take(most + 1).read_to_end(&mut octets);
    let length = if path == Path::new("-") {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    }?;
    if u64::try_from(length).is_ok_and(|length| length > most) {
        return Err(io::Error::other(format!("longer than {most} octets")));
    }
    Ok(octets)
}

/// The exit code: 0 where the message goes on, 1 where it is refused for good.
fn exit(finding: &Finding, config: &Config) -> u8 {
    match finding.outcome() {
        Outcome::Accept | Outcome::Tag | Outcome::Quarantine if finding.is_uncertain(config) => {
            UNAVAILABLE
        }
        Outcome::Accept | Outcome::Tag | Outcome::Quarantine => 0,
        Outcome::Reject => REFUSED,
        Outcome::Defer => TRY_AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry(config_file: Option<&str>) -> Inquiry {
        Inquiry {
            question: Question { ip: Some([127, 0, 0, 1].into()), ..Question::default() },
            message: None,
            config_file: config_file.map(PathBuf::from),
            usual_file: "/nowhere/spf-milter.conf".into(),
            overrides: Overrides::default(),
            nameservers: vec!["127.0.0.1:1".into()],
            changes: Vec::new(),
            ignores_exemptions: false,
            host_name: "mx.example.net".into(),
            is_json: false,
            style: Style::default(),
            wanted: Wanted::default(),
        }
    }

    #[test]
    fn messages_up_to_the_bound() {
        let path = std::env::temp_dir().join(format!("spf-milter-{}-message", std::process::id()));
        for (length, is_read) in [(99, true), (100, true), (101, false)] {
            File::create(&path).unwrap().set_len(length).unwrap();
            let found = read(&path, 100).map(|octets| u64::try_from(octets.len()).unwrap());
            assert_eq!(found.ok(), is_read.then_some(length));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_file_of_the_service_need_not_be_there() {
        let answered = run(inquiry(None)).unwrap();
        assert_eq!(answered.exit, 0);
        assert!(answered.text.contains("there is no configuration file"), "{}", answered.text);
        // One that is named must be.
        let named = run(inquiry(Some("/nowhere/spf-milter.conf")));
        assert!(matches!(named, Err(Problem::Configuration(_))), "{named:?}");
    }
}
