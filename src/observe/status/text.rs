//! The status as text, for a terminal.

use std::fmt::{self, Display, Write as _};

use super::{
    shown::Counts,
    values::{Dns, Method, NameServer, Refusal, Status},
};

/// Columns of the words on the left.
const LEFT: usize = 14;

/// Colours and other looks, where they are wanted (ECMA-48 §8.3.117).
#[derive(Clone, Copy, Debug)]
enum Look {
    Bold,
    Good,
    Bad,
}

/// Writes texts with looks, or without any.
struct Writer {
    text: String,
    has_looks: bool,
}

impl Writer {
    /// Writes a text with a look.
    fn look(&mut self, look: Look, text: impl Display) {
        let code = match look {
            Look::Bold => "1",
            Look::Good => "32",
            Look::Bad => "31",
        };
        if self.has_looks {
            self.add(format_args!("\x1b[{code}m{text}\x1b[0m"));
        } else {
            self.add(format_args!("{text}"));
        }
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.text.write_fmt(text);
    }

    /// A line of the first part: a word, and what there is to say about it.
    fn line(&mut self, word: &str, text: impl Display) {
        self.add(format_args!("{word:LEFT$} {text}\n"));
    }

    /// A heading.
    fn heading(&mut self, text: impl Display) {
        self.add(format_args!("\n"));
        self.look(Look::Bold, text);
        self.add(format_args!("\n"));
    }

    /// Counts under a heading, unless there are none.
    fn counts(&mut self, heading: &str, counts: &Counts) {
        if counts.some().next().is_none() {
            return;
        }
        self.heading(heading);
        for (name, count) in counts.some() {
            self.add(format_args!("  {:20} {count:>10}\n", name.as_str()));
        }
    }
}

impl Status {
    /// The status as lines of text.
    pub fn to_text(&self, has_looks: bool) -> String {
        let mut out = Writer { text: String::new(), has_looks };
        let uptime = duration(self.uptime_secs);
        out.look(Look::Bold, format_args!("spf-milter {}", self.version));
        out.add(format_args!(
            " has been running for {uptime}, since {}\n",
            time(self.started.as_str())
        ));
        for warning in &self.warnings {
            out.look(Look::Bad, format_args!("! {warning}"));
            out.add(format_args!("\n"));
        }
        out.add(format_args!("\n"));
        self.service(&mut out);
        let messages = &self.messages;
        let since = time(messages.since.as_str());
        out.heading(format_args!("Messages since {since}: {}", messages.total));
        for (name, count) in messages.verdicts.some() {
            out.add(format_args!("  {:20} {count:>10}\n", name.as_str()));
        }
        out.counts("Refused, also before a message came", &messages.refused);
        out.counts("Not enforced", &messages.not_enforced);
        self.methods(&mut out);
        self.refusals(&mut out);
        out.text
    }

    fn service(&self, out: &mut Writer) {
        let configuration = &self.configuration;
        let loaded = time(configuration.loaded.as_str());
        let generation = configuration.generation;
        out.line(
            "Configuration",
            format_args!("{}, generation {generation}, since {loaded}", configuration.file),
        );
        if let Some(failed) = &configuration.failed {
            out.line(
                "",
                format_args!("reload failed: {}: {}", time(failed.time.as_str()), failed.error),
            );
        }
        for (index, socket) in self.sockets.iter().enumerate() {
            out.line(if index == 0 { "Sockets" } else { "" }, socket);
        }
        let connections = &self.connections;
        out.line("Connections", format_args!("{} of {}", connections.served, connections.limit));
        for (index, server) in self.dns.servers.iter().enumerate() {
            let word = if index == 0 { "Name servers" } else { "" };
            out.add(format_args!("{word:LEFT$} {:24} ", server.address.as_str()));
            let look = if server.answers == Some(false) { Look::Bad } else { Look::Good };
            out.look(look, server.words());
            out.add(format_args!("\n"));
        }
        out.line("Look-ups", self.dns.words());
    }

    fn methods(&self, out: &mut Writer) {
        if self.messages.methods.is_empty() {
            return;
        }
        out.heading(format_args!(
            "{:22} {:>10} {:>12} {:>12}",
            "Time", "checks", "half within", "99 % within"
        ));
        for Method { method, count, p50_ms, p99_ms } in &self.messages.methods {
            let (p50, p99) = (milliseconds(*p50_ms), milliseconds(*p99_ms));
            out.add(format_args!("  {:20} {count:>10} {p50:>12} {p99:>12}\n", method.as_str()));
        }
    }

    fn refusals(&self, out: &mut Writer) {
        if self.refusals.is_empty() {
            return;
        }
        out.heading("Last refusals");
        for Refusal { time: at, reply, reason, domain, client, queue_id } in &self.refusals {
            let at = clock(at.as_str());
            let line =
                format!("  {at}  {reply} {:18} {client}  {domain}  {queue_id}", reason.as_str());
            out.add(format_args!("{}\n", line.trim_end()));
        }
    }
}

impl NameServer {
    /// Whether it answers, in words.
    pub(super) fn words(&self) -> String {
        let ago = self.answered_secs.map(|seconds| format!("{} ago", duration(seconds)));
        match (self.answers, ago) {
            (Some(true), Some(ago)) => format!("answers, last {ago}"),
            (Some(true), None) => "answers".into(),
            (Some(false), Some(ago)) => format!("does not answer, last answer {ago}"),
            (Some(false), None) => "does not answer".into(),
            (None, _) => "not asked yet".into(),
        }
    }
}

impl Dns {
    /// The look-ups in words.
    pub(super) fn words(&self) -> String {
        let Self { hits, misses, queries, timeouts, errors, .. } = self;
        let all = hits.saturating_add(*misses);
        let cached = hits.saturating_mul(100).checked_div(all).unwrap_or(0);
        let plural = |count: u64, one: &str, many: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        };
        format!(
            "{all}, {cached} % from the cache; {}, {}, {}",
            plural(*queries, "question", "questions"),
            plural(*timeouts, "time-out", "time-outs"),
            plural(*errors, "error", "errors")
        )
    }
}

/// `2026-11-27T09:30:00+01:00` as `2026-11-27 09:30:00 +01:00`; anything else as it is.
pub(super) fn time(text: &str) -> String {
    match (text.split_once('T'), text.len()) {
        (Some((date, time)), 25) => match time.split_at_checked(8) {
            Some((time, zone)) => format!("{date} {time} {zone}"),
            None => text.into(),
        },
        _ => text.into(),
    }
}

/// The same without the time zone.
pub(super) fn clock(text: &str) -> String {
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {}", time.get(..8).unwrap_or(time)),
        None => text.into(),
    }
}

/// Seconds in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let unit = |count: u64, name: &str| match count {
        1 => format!("1 {name}"),
        _ => format!("{count} {name}s"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => unit(seconds, "second"),
        (0, 0, _) => unit(minutes, "minute"),
        (0, _, _) => format!("{} {}", unit(hours, "hour"), unit(minutes % 60, "minute")),
        _ => format!("{} {}", unit(days, "day"), unit(hours % 24, "hour")),
    }
}

/// Milliseconds as people write them.
pub(super) fn milliseconds(time: Option<f64>) -> String {
    match time {
        None => "longer".into(),
        Some(time) if time >= 1000.0 => format!("{} s", time / 1000.0),
        Some(time) => format!("{time} ms"),
    }
}
