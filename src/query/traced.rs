//! The steps of a finding, in the order in which a message comes by them.

use std::fmt::Write as _;

use super::finding::Finding;
use crate::{
    auth::{
        Verified, dkim,
        dmarc::{self, IdentifierAlignment},
        spf,
    },
    dns::{
        Answer, Name, RecordType,
        recorded::{Entry, Recording},
    },
    mail::harmless::harmless,
};

/// Includes deeper than this are shown no further to the right.
const MAX_INDENT: usize = 20;

/// Longer values are cut.
const MAX_VALUE: usize = 1000;

/// Writes the steps of SPF, DKIM and DMARC, as trees: what was asked, what came of it, and how many
/// milliseconds an answer of DNS took.
/// Answers that were recorded took no time that would say anything.
pub(super) fn trace(finding: &Finding, recording: &Recording, has_times: bool) -> String {
    let mut tree = Tree { text: String::new(), recording, has_times };
    for record in finding.records() {
        for identity in &record.identities {
            tree.spf(&identity.verified);
        }
        let Some(content) = &record.content else { continue };
        for (number, signature) in (1..).zip(content.dkim.iter().flatten()) {
            tree.dkim(number, signature);
        }
        if let Some(outcome) = &content.dmarc {
            tree.dmarc(outcome);
        }
    }
    tree.text
}

struct Tree<'a> {
    text: String,
    recording: &'a Recording,
    has_times: bool,
}

impl Tree<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        let indent = 2 * depth.min(MAX_INDENT);
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "{:indent$}{}", "", harmless(line));
    }

    /// How long an answer took, to be put behind it.
    fn took(&self, name: &Name, record_type: RecordType) -> String {
        match self.recording.took(name, record_type) {
            Some(took) if self.has_times => format!(" ({:.1} ms)", took.as_secs_f64() * 1000.0),
            _ => String::new(),
        }
    }

    fn spf(&mut self, verified: &Verified) {
        self.line(0, &format!("SPF of {} {}", verified.identity, verified.sender()));
        for spf::Step { depth, domain, event, question } in
            verified.trace.iter().flat_map(|trace| &trace.steps)
        {
            let took = question
                .as_ref()
                .map_or_else(String::new, |(name, record_type)| self.took(name, *record_type));
            let of = if domain.is_empty() { String::new() } else { format!("{domain}: ") };
            self.line(depth + 1, &format!("{of}{event}{took}"));
        }
    }

    fn dkim(&mut self, number: usize, outcome: &dkim::SignatureOutcome) {
        let signer = outcome.domain.as_ref().map_or("?", |domain| domain.as_str());
        let selector = outcome.ascii_selector().unwrap_or("?".into());
        self.line(0, &format!("DKIM signature {number}: {signer}, selector {selector}"));
        if let Some(trace) = &outcome.trace {
            for (tag, value) in &trace.tags {
                self.line(1, &format!("{tag}={}", cut(value)));
            }
            if let Some(name) = &trace.key_name {
                self.answer(1, "key", name, RecordType::Txt);
            }
            if let Some(bits) = outcome.key_bits {
                self.line(1, &format!("key of {bits} bits"));
            }
            if let Some(body) = outcome.body {
                self.line(1, &body.to_string());
            }
            if let Some(hash) = &trace.body {
                let relation = if hash.is_good() { "as signed" } else { "signed was another" };
                self.line(1, &format!("hash of the body: {}, {relation}", hash.computed));
            }
            if let Some(header) = &trace.header {
                self.line(1, &format!("signed header fields: {}", header.fields.join(", ")));
                self.line(1, &format!("hash of these fields: {}", header.hash));
                let verifies = if header.is_good { "verifies" } else { "does not verify" };
                self.line(1, &format!("the key {verifies} the signature of these fields"));
            }
        }
        let reason = outcome.reason.map_or_else(String::new, |reason| format!(": {reason}"));
        self.line(1, &format!("result {}{reason}", outcome.result()));
    }

    fn dmarc(&mut self, outcome: &dmarc::Outcome) {
        let domain = outcome.author_domain.as_ref();
        let domain = domain.map_or("an unknown author domain", |domain| domain.as_str());
        self.line(0, &format!("DMARC of {domain}"));
        for Entry { name, record_type, .. } in self.recording.entries().iter() {
            let is_record = name.as_str().starts_with("_dmarc.");
            match record_type {
                RecordType::Txt if is_record => self.answer(1, "asked", name, RecordType::Txt),
                RecordType::Existence => self.answer(1, "asked", name, RecordType::Existence),
                _ => {}
            }
        }
        if let Some(applied) = &outcome.record {
            let (step, domain) = (applied.step, &applied.domain);
            self.line(1, &format!("the record of {domain} applies, that of the {step}"));
        }
        if let Some(policy) = &outcome.policy {
            let testing = if policy.testing { ", lowered by t=y" } else { "" };
            let (effective, tag) = (policy.effective(), policy.tag);
            let source = match &outcome.record {
                Some(applied) if applied.record.is_assumed => {
                    "because p=, sp= or np= of the record cannot be used".to_owned()
                }
                _ => format!("of {tag}={}", policy.published),
            };
            self.line(1, &format!("policy {effective}, {source}{testing}"));
        }
        if let Some(domain) = &outcome.organizational_domain {
            self.line(1, &format!("organizational domain of the author domain: {domain}"));
        }
        for IdentifierAlignment { identifier, passed, mode, is_aligned } in &outcome.alignments {
            let passed = if *passed { "passed" } else { "did not pass" };
            let aligned = match is_aligned {
                Some(true) => "aligned",
                Some(false) => "not aligned",
                None => "alignment not asked for",
            };
            let mode = match mode {
                dmarc::Alignment::Relaxed => "relaxed",
                dmarc::Alignment::Strict => "strict",
            };
            self.line(1, &format!("{identifier}: {passed}, {aligned} ({mode})"));
        }
        let problem =
            outcome.problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
        self.line(1, &format!("result {}{problem}", outcome.result));
    }

    /// A question, and its answer: texts one below the other.
    fn answer(&mut self, depth: usize, what: &str, name: &Name, record_type: RecordType) {
        let took = self.took(name, record_type);
        let question = format!("{what} {record_type} {name}");
        let entries = self.recording.entries();
        let answer = entries.find(name, record_type).and_then(|entry| entry.answer.as_ref());
        match answer {
            Some(Ok(Answer::Txt(texts))) => {
                self.line(depth, &format!("{question}{took}"));
                for text in texts.iter() {
                    self.line(depth + 1, &cut(&String::from_utf8_lossy(text)));
                }
            }
            Some(Ok(_)) => self.line(depth, &format!("{question}: yes{took}")),
            Some(Err(failure)) => self.line(depth, &format!("{question}: {failure}{took}")),
            None => self.line(depth, &format!("{question}: no answer was waited for")),
        }
    }
}

/// The beginning of a long text.
fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(MAX_VALUE).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}
