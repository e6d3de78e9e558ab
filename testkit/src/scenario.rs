//! Scenario files; `tests/it/scenarios.rs` says how they are written.

use std::{env, fmt, fs, path::Path};

use super::{
    daemon::{Daemon, sets},
    fields::{Field, matches},
    signer,
};

/// The MTA's name: macro `j`, and where a scenario says nothing else, the name in header fields.
pub const HOST: &str = "mta.example.org";

/// The name of a field that is not signed yet.
const SIGN: &str = "(sign)";

/// A scenario.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// File name without its extension.
    pub name: String,
    /// Drivers that can play it; empty: all.
    pub drivers: Vec<String>,
    /// Configuration lines.
    pub config: String,
    /// Zone lines.
    pub zone: String,
    /// The event.
    pub steps: Vec<Step>,
}

/// Something that happens, and what should come of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line in the file.
    pub line: usize,
    /// The event.
    pub event: Event,
    /// The reply expected, a pattern; `ok` for none.
    pub reply: String,
    /// Header fields expected at the very top, from top to bottom, as patterns.
    pub added: Vec<String>,
    /// Header fields sent that must be gone, as they were sent, unfolded.
    pub deleted: Vec<String>,
    /// Words that some log line must have, each list in one line.
    pub log: Vec<Vec<String>>,
    /// Words that no log line may have.
    pub no_log: Vec<String>,
}

/// Something that happens in an SMTP session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A client connects. A connection that was there is closed before.
    Connect {
        /// Address; `None` when the MTA has none.
        client: Option<std::net::IpAddr>,
        /// Its host name.
        host: String,
    },
    /// HELO or EHLO.
    Helo(Vec<u8>),
    /// Authentication as this user.
    Auth(String),
    /// MAIL FROM, with angle brackets.
    Mail(Vec<u8>),
    /// RCPT TO, with angle brackets.
    Rcpt(Vec<u8>),
    /// A message to its end.
    Message {
        /// Its header.
        fields: Vec<Field>,
        /// Its body, lines ending in LF.
        body: String,
    },
    /// RSET.
    Rset,
    /// The configuration changes to these lines with SIGHUP.
    Reload(String),
}

/// The observations at the step of the same number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// `ok`, `quarantine`, or the reply.
    pub reply: String,
    /// The header after the end of an accepted message, or of one that is kept back.
    pub fields: Option<Vec<Field>>,
}

impl Observed {
    /// A positive reply and nothing else.
    pub fn ok() -> Self {
        Self { reply: "ok".into(), fields: None }
    }

    /// A negative reply.
    pub fn refused(reply: impl Into<String>) -> Self {
        Self { reply: reply.into(), fields: None }
    }

    /// Whether a configuration was taken.
    pub fn reload(is_taken: bool) -> Self {
        if is_taken { Self::ok() } else { Self::refused("refused") }
    }
}

/// Plays scenarios.
pub trait Driver {
    /// The name by which scenario files call it.
    fn name(&self) -> &'static str;

    /// Plays a scenario: what came of each step, and what was logged.
    ///
    /// # Errors
    ///
    /// The trouble that kept it from being played to the end.
    fn play(&self, scenario: &Scenario) -> Result<(Vec<Observed>, Vec<String>), String>;
}

impl Scenario {
    /// Reads all scenarios of a folder, in the order of their names.
    pub fn read_all(folder: &Path) -> Vec<Self> {
        let mut paths: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "scenario"));
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Self::parse(&name, &text)
                .unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
        };
        paths.iter().map(read).collect()
    }

    /// Reads a scenario.
    ///
    /// # Errors
    ///
    /// The line and what is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut scenario = Self { name: name.to_owned(), ..Self::default() };
        let mut section = "";
        for (number, raw) in text.lines().enumerate() {
            let (number, line) = (number + 1, raw.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match (section, line) {
                (_, "[zone]" | "[config]" | "[session]") => section = line,
                ("", _) => match line.split_once(char::is_whitespace) {
                    Some(("drivers", names)) => {
                        scenario.drivers = names.split_whitespace().map(str::to_owned).collect()
                    }
                    _ => return Err(format!("{number}: unknown setting '{line}'")),
                },
                ("[zone]", _) => scenario.zone += &format!("{line}\n"),
                ("[config]", _) => scenario.config += &format!("{line}\n"),
                _ if raw.starts_with([' ', '\t']) => {
                    let step = scenario
                        .steps
                        .last_mut()
                        .ok_or_else(|| format!("{number}: nothing to belong to"))?;
                    step.continue_with(line).map_err(|problem| format!("{number}: {problem}"))?;
                }
                _ => scenario.steps.push(
                    Step::parse(number, line).map_err(|problem| format!("{number}: {problem}"))?,
                ),
            }
        }
        scenario.zone = signer::fill_in_keys(&scenario.zone);
        let folder = crate::root().join("tests/scenarios");
        scenario.config = scenario.config.replace("${scenarios}", &folder.to_string_lossy());
        scenario.steps.iter_mut().for_each(Step::sign);
        if scenario.steps.is_empty() { Err("no session".into()) } else { Ok(scenario) }
    }

    /// Whether a driver of this name can play it.
    pub fn is_for(&self, driver: &str) -> bool {
        self.drivers.is_empty() || self.drivers.iter().any(|name| name == driver)
    }

    /// Plays the steps in turn, up to one that comes out otherwise than it should: what follows makes
    /// no sense then.
    ///
    /// # Errors
    ///
    /// The step with which there was trouble, the trouble, and the log.
    pub fn play<E: fmt::Display>(
        &self,
        mut play: impl FnMut(&Event) -> Result<Observed, E>,
        log: impl Fn() -> String,
    ) -> Result<Vec<Observed>, String> {
        let mut seen = Vec::new();
        for step in &self.steps {
            let observed = play(&step.event).map_err(|error| {
                format!("{}.scenario:{}: {error}\n{}", self.name, step.line, log())
            })?;
            let is_expected = step.expects(&observed);
            seen.push(observed);
            if !is_expected {
                break;
            }
        }
        Ok(seen)
    }

    /// Holds what came of it against what was expected: one sentence for each difference.
    pub fn differences(&self, observed: &[Observed], log: &[String]) -> Vec<String> {
        let mut differences = Vec::new();
        let mut sent: &[Field] = &[];
        for (step, seen) in self.steps.iter().zip(observed) {
            let mut differ = |what: String| {
                differences.push(format!("{}.scenario:{}: {what}", self.name, step.line))
            };
            if !step.expects(seen) {
                differ(format!(
                    "reply\n      expected {}\n      was      {}",
                    step.reply, seen.reply
                ));
            }
            if let Event::Message { fields, .. } = &step.event {
                sent = fields;
            }
            if let Some(difference) =
                seen.fields.as_ref().and_then(|fields| step.header_difference(sent, fields))
            {
                differ(difference);
            }
            for words in &step.log {
                if !log.iter().any(|line| words.iter().all(|word| line.contains(word.as_str()))) {
                    differ(format!("no log line with {words:?}"));
                }
            }
            for word in &step.no_log {
                if let Some(line) = log.iter().find(|line| line.contains(word.as_str())) {
                    differ(format!("log line with {word:?}: {line}"));
                }
            }
        }
        if differences.is_empty() && observed.len() != self.steps.len() {
            differences.push(format!(
                "{}: {} steps, {} played",
                self.name,
                self.steps.len(),
                observed.len()
            ));
        }
        differences
    }
}

/// A message as text, its lines ending in LF but for those of folded fields.
pub fn message_text(fields: &[Field], body: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for Field { name, value } in fields {
        text.extend([name.as_bytes(), b":", value, b"\n"].concat());
    }
    text.push(b'\n');
    text.extend_from_slice(body.as_bytes());
    text
}

impl Step {
    fn parse(line: usize, text: &str) -> Result<Self, String> {
        let (text, reply) = match text.rsplit_once(" => ") {
            Some((text, reply)) => (text.trim_end(), reply.trim().to_owned()),
            None => (text, "ok".to_owned()),
        };
        let (word, rest) =
            text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim()));
        let event = match word {
            "connect" => {
                let (client, host) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let client = match client {
                    "unknown" => None,
                    _ => Some(client.parse().map_err(|_| format!("no address: {client}"))?),
                };
                Event::Connect { client, host: host.to_owned() }
            }
            "helo" => Event::Helo(unescape(rest)?),
            "auth" => Event::Auth(rest.to_owned()),
            "mail" => Event::Mail(unescape(rest)?),
            "rcpt" => Event::Rcpt(unescape(rest)?),
            "message" => Event::Message { fields: Vec::new(), body: "Hello\n".into() },
            "rset" => Event::Rset,
            "reload" => Event::Reload(String::new()),
            _ => return Err(format!("unknown event '{word}'")),
        };
        let (added, deleted, log, no_log) = Default::default();
        Ok(Self { line, event, reply, added, deleted, log, no_log })
    }

    /// Whether the reply is the one expected; if not, what follows makes no sense.
    pub fn expects(&self, seen: &Observed) -> bool {
        matches(&self.reply, &seen.reply)
    }

    fn continue_with(&mut self, line: &str) -> Result<(), String> {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (mark, &mut self.event) {
            ("log", _) => self.log.push(rest.split_whitespace().map(str::to_owned).collect()),
            ("nolog", _) => self.no_log.push(rest.to_owned()),
            ("+", Event::Message { .. }) => self.added.push(rest.to_owned()),
            ("-", Event::Message { .. }) => self.deleted.push(rest.to_owned()),
            ("|", Event::Message { fields, .. }) => {
                let (name, value) = rest.split_once(':').ok_or("no colon in the header field")?;
                fields.push(Field::new(name, unescape(value)?));
            }
            ("body", Event::Message { body, .. }) => {
                *body = String::from_utf8_lossy(&unescape(rest)?).into_owned() + "\n"
            }
            // Signed when the message is complete.
            ("sign", Event::Message { fields, .. }) => fields.push(Field::new(SIGN, rest)),
            ("|", Event::Reload(config)) => *config += &format!("{rest}\n"),
            _ => return Err(format!("'{mark}' does not belong here")),
        }
        Ok(())
    }

    /// Puts signatures where they are wanted.
    fn sign(&mut self) {
        let Event::Message { fields, body } = &mut self.event else { return };
        let unsigned: Vec<Field> =
            fields.iter().filter(|field| field.name != SIGN).cloned().collect();
        let body = body.replace('\n', "\r\n");
        for field in fields.iter_mut().filter(|field| field.name == SIGN) {
            let tags = String::from_utf8_lossy(&field.value).into_owned();
            *field = Field::new("DKIM-Signature", signer::sign(&tags, &unsigned, body.as_bytes()));
        }
    }

    /// The faults of a header, given the one that was sent.
    fn header_difference(&self, sent: &[Field], header: &[Field]) -> Option<String> {
        let mut expected = self.added.clone();
        let mut deleted = self.deleted.clone();
        for field in sent {
            let text = field.unfolded();
            match deleted.iter().position(|known| *known == text) {
                Some(at) => drop(deleted.remove(at)),
                None => expected.push(text.replace('*', "\u{1}")),
            }
        }
        if !deleted.is_empty() {
            return Some(format!("not sent, so cannot be deleted: {deleted:?}"));
        }
        let header: Vec<String> = header.iter().map(Field::unfolded).collect();
        let fits = |(pattern, text): (&String, &String)| {
            matches(pattern, &text.replace('\u{1}', "*")) || pattern.replace('\u{1}', "*") == *text
        };
        if expected.len() == header.len() && expected.iter().zip(&header).all(fits) {
            return None;
        }
        let list = |lines: &[String]| {
            lines
                .iter()
                .map(|line| format!("\n        {}", line.replace('\u{1}', "*")))
                .collect::<String>()
        };
        Some(format!("header\n      expected{}\n      was{}", list(&expected), list(&header)))
    }
}

/// Resolves `\xHH`, `\n`, `\t` and `\\`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            octets.push(first);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                octets.push(b'\\');
                rest = after;
            }
            [b'n', after @ ..] => {
                octets.push(b'\n');
                rest = after;
            }
            [b't', after @ ..] => {
                octets.push(b'\t');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).map_err(|_| "bad \\x")?;
                octets.push(u8::from_str_radix(digits, 16).map_err(|_| "bad \\x")?);
                rest = after;
            }
            _ => return Err("unknown escape".into()),
        }
    }
    Ok(octets)
}

/// A configuration with the lines that it needs besides its own.
pub fn complete_config(config: &str, nameserver: std::net::SocketAddr) -> String {
    let mut complete = format!("{config}nameservers = {nameserver}\n");
    for key in ["dns_timeout_secs", "dns_attempts"] {
        if !sets(config, key) {
            complete += &format!("{key} = 1\n");
        }
    }
    complete
}

/// Ends the daemon and answers with all that it logged.
///
/// # Errors
///
/// How it ended, if not well.
pub fn finish(daemon: Daemon) -> Result<Vec<String>, String> {
    let (status, log) = daemon.stop();
    let log: Vec<String> = log.lines().map(str::to_owned).collect();
    if status.success() {
        Ok(log)
    } else {
        Err(format!("the daemon ended with {status}:\n{}", log.join("\n")))
    }
}

/// Plays all of `tests/scenarios`, or those with `SCENARIO` of the environment in their names.
///
/// # Panics
///
/// Where one comes out otherwise than it says.
pub fn play_all(driver: &impl Driver) {
    let all = Scenario::read_all(&crate::root().join("tests/scenarios"));
    assert!(all.len() >= 50, "only {} scenarios found", all.len());
    let wanted = env::var("SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    let mut played = 0;
    for scenario in all
        .iter()
        .filter(|scenario| scenario.is_for(driver.name()) && scenario.name.contains(&wanted))
    {
        played += 1;
        match driver.play(scenario) {
            Ok((observed, log)) => {
                let differences = scenario.differences(&observed, &log);
                if !differences.is_empty() {
                    failures.push(format!(
                        "{}\n    log\n      {}",
                        differences.join("\n"),
                        log.join("\n      ")
                    ));
                }
            }
            Err(problem) => failures.push(problem),
        }
    }
    assert!(
        failures.is_empty(),
        "{}: {} of {played} scenarios failed:\n{}",
        driver.name(),
        failures.len(),
        failures.join("\n\n")
    );
    assert!(played > 0, "no scenario for {}", driver.name());
}
