//! A finding as text for people.

use super::{
    finding::{Finding, Given, Outcome, Source, Stage},
    printable::{Colour, Layout, Style},
    remedies::remedies,
    why::Why,
};
use crate::{
    auth::{Identity, dkim::SignatureOutcome, dmarc},
    config::{Config, Places},
    mail::reply::Reply,
    session::{ContentRecord, Edit, IdentityRecord, Verdict},
};

/// The most fields that were left out of the message, or that are deleted, that are listed.
const MAX_LISTED: usize = 50;

/// Writes a finding, made with this configuration.
pub(super) fn report(finding: &Finding, config: &Config, places: &Places, style: Style) -> String {
    let mut layout = Layout::new(style);
    verdict(&mut layout, finding);
    let why = Why::find(finding, config, places);
    layout.item("why", &why.sentence);
    if let Some(parameter) = why.parameter {
        layout.item("decided by", &setting(parameter, config, places));
    }
    let remedies = remedies(finding.records());
    if !remedies.is_empty() {
        layout.heading("What would pass");
        remedies.iter().for_each(|remedy| layout.item("", remedy));
    }
    results(&mut layout, finding, config);
    changes(&mut layout, finding);
    input(&mut layout, finding);
    layout.finish()
}

/// `dmarc_reject_action = reject (/etc/spf-milter.conf:41)`.
fn setting(parameter: &str, config: &Config, places: &Places) -> String {
    let value = config.value_of(parameter).unwrap_or_default();
    format!("{} ({})", format!("{parameter} = {value}").trim_end(), places.find(parameter))
}

fn verdict(layout: &mut Layout, finding: &Finding) {
    let outcome = finding.outcome();
    let colour = match outcome {
        Outcome::Accept => Colour::Green,
        Outcome::Tag | Outcome::Quarantine | Outcome::Defer => Colour::Yellow,
        Outcome::Reject => Colour::Red,
    };
    let deciding = finding.deciding();
    let behind = match deciding.map(|step| &step.verdict) {
        Some(Verdict::Reply(reply)) => format!(": {reply}"),
        Some(Verdict::Tempfail) => ": the temporary reply of the MTA".to_owned(),
        Some(Verdict::Quarantine(reason)) => format!(": {reason}"),
        _ => String::new(),
    };
    layout.verbatim_in(colour, outcome.as_str(), &behind);
    if finding.is_dry_run {
        layout.item(
            "dry run",
            "this would have been done without dry_run; the message goes on unchanged",
        );
    }
    let Some(stage) = deciding.map(|step| step.stage) else { return };
    let is_whole = finding.asked.has_message;
    let when = match stage {
        Stage::Connect => "when the client connects",
        Stage::Helo => "the reply to HELO",
        Stage::Mail if is_whole || outcome != Outcome::Accept => "the reply to MAIL FROM",
        Stage::Mail => "up to MAIL FROM: no message was given",
        Stage::Rcpt => "the reply to RCPT TO",
        Stage::End => "at the end of the message",
        Stage::Close => return,
    };
    layout.item("when", when);
}

fn results(layout: &mut Layout, finding: &Finding, config: &Config) {
    let (mut identities, mut contents) = (Vec::new(), Vec::new());
    for record in finding.records() {
        identities.extend(&record.identities);
        contents.extend(record.content.as_deref());
    }
    let skipped = finding.records().flat_map(|record| &record.skipped);
    let skipped: Vec<_> = skipped.collect();
    if identities.is_empty() && contents.is_empty() && skipped.is_empty() {
        return;
    }
    layout.heading("Results");
    for identity in identities {
        layout.item(label(identity.verified.identity), &spf_line(identity, config));
    }
    for skipped in skipped {
        let reason = skipped.reason.as_str();
        let label = label(skipped.identity);
        layout.item(label, &format!("not verified: {} ({reason})", skipped.value));
    }
    for content in contents {
        match content.dkim.as_deref() {
            None => {}
            Some([]) => layout.item("DKIM", "none: the message is not signed"),
            Some(signatures) => {
                signatures.iter().for_each(|signature| layout.item("DKIM", &dkim_line(signature)));
            }
        }
        if let Some(outcome) = &content.dmarc {
            layout.item("DMARC", &dmarc_line(content, outcome));
        }
        if let Some(outcome) = &content.iprev {
            let name = outcome.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let failure = outcome.failure.map_or(String::new(), |failure| format!(" ({failure})"));
            layout.item("iprev", &format!("{}{name}{failure}", outcome.result));
        }
    }
}

/// The label of SPF of an identity.
fn label(identity: Identity) -> &'static str {
    match identity {
        Identity::Helo => "SPF HELO",
        Identity::Mailfrom => "SPF",
    }
}

fn spf_line(identity: &IdentityRecord, config: &Config) -> String {
    let verified = &identity.verified;
    let outcome = &verified.outcome;
    let who = match verified.identity {
        Identity::Helo => verified.domain.to_string(),
        Identity::Mailfrom => verified.sender(),
    };
    let mut line = format!("{} {who}", outcome.result);
    if let Some(domain) = &outcome.policy_domain {
        let mechanism = outcome.mechanism.as_deref().unwrap_or("default");
        line.push_str(&format!(", by {mechanism} of {domain}"));
    }
    if let Some(problem) = &outcome.problem {
        line.push_str(&format!(", {}: {}", problem.kind, problem.detail));
    }
    line.push_str(&format!(
        ", look-ups {} of {}, void {} of {}",
        outcome.lookups, config.max_lookups, outcome.void_lookups, config.max_void_lookups
    ));
    if identity.for_dmarc {
        line.push_str(", for DMARC only");
    }
    if let Some(exemption) = identity.exemption {
        line.push_str(&format!(", no consequence: {}", exemption.as_str()));
    }
    line
}

fn dkim_line(signature: &SignatureOutcome) -> String {
    let domain = signature.domain.as_ref().map_or("?", |domain| domain.as_str());
    let selector = signature.ascii_selector().unwrap_or("?".into());
    let mut line = format!("{} {domain}, selector {selector}", signature.result());
    if let Some(algorithm) = &signature.algorithm {
        line.push_str(&format!(", {algorithm}"));
    }
    if let Some(bits) = signature.key_bits {
        line.push_str(&format!(", key of {bits} bits"));
    }
    let remarks = signature.reason.map(|reason| reason.to_string()).into_iter();
    for remark in remarks.chain(signature.comment()) {
        line.push_str(&format!(", {remark}"));
    }
    line
}

fn dmarc_line(content: &ContentRecord, outcome: &dmarc::Outcome) -> String {
    let mut line = outcome.result.to_string();
    if let Some(domain) = &outcome.author_domain {
        line.push_str(&format!(" {domain}"));
    }
    if let Some(policy) = &outcome.policy {
        line.push_str(&format!(", policy {} ({}=)", policy.effective(), policy.tag));
        line.push_str(&format!(" of {}", policy.domain));
        if policy.testing {
            line.push_str(", testing");
        }
    }
    if let Some(policy) = content.own_policy {
        line.push_str(&format!(", policy {policy} of this site"));
    }
    for identifier in &outcome.aligned {
        line.push_str(&format!(", aligned {identifier}"));
    }
    if let Some(problem) = &outcome.problem {
        line.push_str(&format!(", {problem}"));
    }
    if let Some(exemption) = content.exemption {
        line.push_str(&format!(", no consequence: {}", exemption.as_str()));
    }
    line
}

/// The fields to add, from top to bottom, and those to delete.
fn changes(layout: &mut Layout, finding: &Finding) {
    let mut added = Vec::new();
    let mut deleted = Vec::new();
    for edit in finding.edits() {
        match edit {
            Edit::Insert { field, .. } => added.push(format!("{}: {}", field.name, field.value)),
            Edit::Delete { name, index } => deleted.push(format!("{name}, number {index}")),
        }
    }
    if !added.is_empty() {
        layout.heading("Header fields to add");
        added.iter().rev().for_each(|field| layout.verbatim(field));
    }
    if !deleted.is_empty() {
        layout.heading("Header fields to delete");
        deleted.iter().rev().for_each(|field| layout.item("", field));
    }
}

fn input(layout: &mut Layout, finding: &Finding) {
    let asked = &finding.asked;
    layout.heading("Asked about");
    layout.item("client", &given(&asked.client));
    match &asked.helo {
        // Mostly one line has both.
        Some(Given { value, source: Source::Line(line) })
            if asked.client.source == Source::Line(line.clone()) =>
        {
            layout.item("HELO", &format!("{value} (line {})", line.number));
        }
        Some(helo) => layout.item("HELO", &given(helo)),
        None => layout.item("HELO", "not given"),
    }
    match &asked.mail_from {
        Some(path) => layout.item("MAIL FROM", &given(path)),
        None => layout.item("MAIL FROM", "not given"),
    }
    if asked.is_authenticated.value {
        let Given { source, .. } = asked.is_authenticated.clone();
        layout.item("AUTH", &given(&Given { value: "authenticated".to_owned(), source }));
    }
    let mut answers = finding.steps.iter().filter(|step| step.stage == Stage::Rcpt);
    for recipient in &asked.recipients {
        let shown = match recipient.as_str() {
            "<>" => "not given: any that is not exempt",
            recipient => recipient,
        };
        match answers.next().map(|step| &step.verdict) {
            Some(Verdict::Reply(reply)) => layout.item("RCPT TO", &format!("{shown}: {reply}")),
            _ => layout.item("RCPT TO", shown),
        }
    }
    let left_out = asked.left_out.iter().map(|line| {
        let name = line.text.split(':').next().unwrap_or_default();
        format!("{name} (line {})", line.number)
    });
    let mut left_out: Vec<String> = left_out.take(MAX_LISTED).collect();
    if asked.left_out.len() > MAX_LISTED {
        left_out.push(format!("{} more", asked.left_out.len() - MAX_LISTED));
    }
    if !left_out.is_empty() {
        layout.item("left out", &format!("{}: added here", left_out.join(", ")));
    }
    asked.notes.iter().for_each(|note| layout.item("note", note));
}

fn given<T: ToString>(given: &Given<T>) -> String {
    let value = given.value.to_string();
    match &given.source {
        Source::Question | Source::Default => value,
        Source::Line(line) => format!("{value} (line {}: {})", line.number, line.text),
    }
}

/// The reply as it goes to the client.
pub(super) fn codes(reply: &Reply) -> String {
    format!("{} {}", reply.code(), reply.status())
}
