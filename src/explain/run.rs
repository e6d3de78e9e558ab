//! The command: finds the lines, asks again, writes the sentences.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    again::{compare, question},
    line::{LogLine, NotOurs},
    parse::MAX_LINE,
    sentences::sentences,
};
use crate::{
    mail::harmless::ascii,
    query::{self, Answered, Inquiry, Problem},
};

/// The most lines that are explained at once.
const MAX_LINES: usize = 20;

/// How long DNS may take for all lines together, beyond the line under way.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Where the lines are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// This is the line.
    Given(String),
    /// They come on standard input.
    StandardInput,
    /// Those with this queue id in a log file; `None`: in the journal of the system.
    QueueId(String, Option<PathBuf>),
}

/// Explains lines, and asks again, as the inquiry does, where that is wanted.
///
/// # Errors
///
/// There is no line of ours, or a file or the system is in the way.
pub fn run(source: &Source, inquiry: &Inquiry, asks: bool) -> Result<Answered, Problem> {
    let mut lines = find(source)?;
    let is_cut = lines.len() > MAX_LINES;
    lines.truncate(MAX_LINES);
    let (mut text, mut exit) = (String::new(), 0);
    let begin = Instant::now();
    for line in &lines {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&sentences(line));
        if !asks {
            continue;
        }
        text.push_str("\nAsked again today:\n");
        match question(line) {
            Ok(_) if begin.elapsed() > ASK_LIMIT => {
                text.push_str("DNS is slow: ask about this line alone.\n");
            }
            Err(reason) => text.push_str(&format!("{reason}\n")),
            Ok(question) => {
                let (finding, code) = query::find(Inquiry { question, ..inquiry.clone() })?;
                text.push_str(&compare(line, &finding));
                exit = code;
            }
        }
    }
    if is_cut {
        text.push_str(&format!("\nThere are more lines; these are the first {MAX_LINES}.\n"));
    }
    let text = if inquiry.style.is_utf8 { text } else { ascii(&text).into_owned() };
    Ok(Answered { text, exit })
}

/// Finds the lines, and one more than are explained.
fn find(source: &Source) -> Result<Vec<LogLine>, Problem> {
    let (lines, place) = match source {
        Source::Given(line) => return parse(line).map(|line| vec![line]),
        Source::StandardInput => {
            let mut found = Vec::new();
            for_each_line(io::stdin().lock(), |line| {
                if !line.trim().is_empty() {
                    found.push(parse(line));
                }
                found.len() <= MAX_LINES
            })
            .map_err(|error| Problem::System(format!("cannot read standard input: {error}")))?;
            if found.is_empty() {
                return Err(Problem::Input(
                    "no line on standard input (expected a line of the log)".into(),
                ));
            }
            return found.into_iter().collect();
        }
        Source::QueueId(id, Some(path)) => {
            let file = File::open(path);
            let found = file.and_then(|file| with_queue_id(BufReader::new(file), id));
            let shown = path.display();
            (found.map_err(|error| Problem::Input(format!("{shown}: {error}")))?, shown.to_string())
        }
        Source::QueueId(id, None) => {
            let found = in_journal(id).map_err(|error| {
                Problem::System(format!("cannot run journalctl: {error} (--log FILE reads a file)"))
            })?;
            (found, "the journal".to_owned())
        }
    };
    match source {
        Source::QueueId(id, _) if lines.is_empty() => Err(Problem::Input(format!(
            "no line about mail with queue-id={} in {place}",
            id.escape_debug()
        ))),
        _ => Ok(lines),
    }
}

fn parse(line: &str) -> Result<LogLine, Problem> {
    LogLine::parse(line).map_err(|NotOurs(problem)| Problem::Input(problem))
}

fn in_journal(id: &str) -> io::Result<Vec<LogLine>> {
    let mut child = Command::new("journalctl")
        .args(["--no-pager", "-q", "-o", "cat", "-t", "spf-milter"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let found = match child.stdout.take() {
        Some(output) => with_queue_id(BufReader::new(output), id),
        None => Ok(Vec::new()),
    };
    // It may have more to write than is wanted.
    let _ = child.kill();
    child.wait()?;
    found
}

/// The lines of ours with this queue id.
fn with_queue_id(input: impl BufRead, id: &str) -> io::Result<Vec<LogLine>> {
    let mut found = Vec::new();
    for_each_line(input, |line| {
        // Most lines of a log have another one.
        if line.contains(id)
            && let Ok(line) = LogLine::parse(line)
            && line.get("queue-id") == Some(id)
        {
            found.push(line);
        }
        found.len() <= MAX_LINES
    })?;
    Ok(found)
}

/// Takes lines until there are no more, or no more are wanted. What is too long for a line of ours
/// comes in pieces.
fn for_each_line(mut input: impl BufRead, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1024);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !take(&String::from_utf8_lossy(&line)) {
            return Ok(());
        }
    }
}
