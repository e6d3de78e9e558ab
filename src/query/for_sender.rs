//! A text about a finding for the sender: what his records and signatures lack, and nothing about
//! this site.

use std::net::IpAddr;

use crate::{
    auth::{
        Identity, Verified,
        dkim::{DkimResult, KeyProblem, Reason, SignatureOutcome},
        dmarc::{DmarcResult, IdentifierAlignment, Outcome, Policy, Problem},
        iprev::{self, IprevResult},
        spf::{self, ProblemKind},
    },
    dns::{Answer, Failure, Name, RecordType, recorded::Entries},
    mail::{harmless::harmless, results::SpfResult},
};

use super::{date::date, finding::Finding};

/// Characters of a line.
const WIDTH: usize = 72;

/// The look-ups that RFC 7208 §4.6.4 allows, and from how many on it is said how many there are.
const LOOKUPS: (usize, usize) = (10, 8);

/// RSA keys with fewer bits are worth a remark (RFC 8301 §3.2).
const GOOD_KEY_BITS: usize = 2048;

/// The most names that are listed.
const MAX_NAMES: usize = 5;

/// Writes the text, for what was found at a time, in seconds since 1970, with these answers of DNS.
/// Each sentence is about something that is wrong, but for the first, which says what was asked.
pub(super) fn for_sender(finding: &Finding, answers: &Entries, time: u64) -> String {
    let mut sentences = Vec::new();
    for record in finding.records() {
        for identity in &record.identities {
            let verified = &*identity.verified;
            // Of HELO only what is wrong: most senders have no record for it.
            let is_wanted = verified.identity == Identity::Mailfrom
                || !matches!(verified.outcome.result, SpfResult::None | SpfResult::Neutral);
            if is_wanted {
                spf(verified, record.client, answers, &mut sentences);
            }
        }
        let Some(content) = &record.content else { continue };
        let dmarc = content.dmarc.as_ref();
        let passes = dmarc.is_some_and(|outcome| outcome.result == DmarcResult::Pass);
        if let Some(signatures) = &content.dkim {
            if signatures.is_empty() && !passes {
                sentences.push("The message has no DKIM signature.".to_owned());
            }
            signatures.iter().for_each(|signature| dkim(signature, &mut sentences));
        }
        if let Some(outcome) = dmarc {
            self::dmarc(outcome, &mut sentences);
        }
        if let Some(outcome) = &content.iprev {
            iprev(outcome, &mut sentences);
        }
    }
    if sentences.is_empty() {
        sentences.push("We found nothing wrong with that.".to_owned());
    }
    sentences.insert(0, received(finding, time));
    wrap(&sentences.join(" "))
}

/// What was asked, and when DNS was looked at.
fn received(finding: &Finding, time: u64) -> String {
    let asked = &finding.asked;
    let mut text = "We looked at mail".to_owned();
    // A relay of this site is none of the sender's hosts, nor are an address and a name that a host
    // of ours has within this site.
    let relayed = finding.records().find(|record| record.relay.is_some());
    let (client, helo) = match relayed {
        Some(record) => (record.client, record.helo.as_deref()),
        None => {
            let client = finding.records().find_map(|record| record.client);
            let helo = finding.records().find_map(|record| record.helo.as_deref());
            let helo = helo.or(asked.helo.as_ref().map(|helo| helo.value.as_str()));
            (Some(client.unwrap_or(asked.client.value)), helo)
        }
    };
    if let Some(client) = client {
        text.push_str(&format!(" from {client}"));
        if let Some(helo) = helo {
            text.push_str(&format!(", which calls itself {helo}"));
        }
    }
    if let Some(path) = &asked.mail_from {
        match path.value.trim_matches(['<', '>']) {
            "" => text.push_str(", with an empty sender in MAIL FROM"),
            sender => text.push_str(&format!(", with the sender {sender} in MAIL FROM")),
        }
    }
    let mut contents = finding.records().filter_map(|record| record.content.as_deref());
    let author = contents.find_map(|content| content.dmarc.as_ref()?.author_domain.clone());
    if let Some(author) = author {
        text.push_str(&format!(", and {author} as the domain in From"));
    }
    text.push_str(&format!("; DNS as of {}.", date(time)));
    text
}

fn spf(
    verified: &Verified,
    client: Option<IpAddr>,
    answers: &Entries,
    sentences: &mut Vec<String>,
) {
    // Without its address nothing was verified.
    let Some(client) = client else { return };
    let spf::Outcome { result, mechanism, policy_domain, problem, .. } = &*verified.outcome;
    let domain = &*verified.domain;
    let term = || match (mechanism, policy_domain) {
        (Some(term), Some(owner)) if **term == *"all" && owner.eq_ignore_ascii_case(domain) => {
            "no term before \"all\" matches".to_owned()
        }
        (Some(term), Some(owner)) if owner.eq_ignore_ascii_case(domain) => {
            format!("its term \"{term}\" matches")
        }
        (Some(term), Some(owner)) => {
            format!("the term \"{term}\" in the record of {owner} matches")
        }
        _ => "none of its terms matches".to_owned(),
    };
    let detail =
        || problem.as_ref().map_or_else(String::new, |problem| without_servers(&problem.detail));
    let kind = problem.as_ref().map(|problem| problem.kind);
    let sentence = match result {
        SpfResult::Pass => None,
        SpfResult::Fail => Some(format!(
            "SPF fails: the record of {domain} does not permit {client} to send ({}).",
            term()
        )),
        SpfResult::Softfail => Some(format!(
            "SPF gives softfail: the record of {domain} does not list {client} as a sender ({}).",
            term()
        )),
        SpfResult::Neutral => Some(format!(
            "SPF is neutral: the record of {domain} says nothing about {client} ({}).",
            term()
        )),
        SpfResult::None if kind == Some(ProblemKind::NoDomain) => {
            Some("The sender has no domain that could have an SPF record.".to_owned())
        }
        SpfResult::None => Some(format!("{domain} has no SPF record.")),
        SpfResult::Temperror => {
            Some(format!("SPF of {domain} could not be evaluated, because DNS gave: {}.", detail()))
        }
        SpfResult::Permerror => Some(format!("SPF of {domain} cannot be evaluated: {}.", detail())),
    };
    sentences.extend(sentence);
    weaknesses(verified, answers, sentences);
}

/// What is wrong in the SPF records that were evaluated, whatever came of them.
fn weaknesses(verified: &Verified, answers: &Entries, sentences: &mut Vec<String>) {
    let outcome = &verified.outcome;
    let kind = outcome.problem.as_ref().map(|problem| problem.kind);
    let (allowed, many) = LOOKUPS;
    if outcome.lookups >= many && kind != Some(ProblemKind::TooManyLookups) {
        sentences.push(format!(
            "This took {} DNS look-ups of SPF terms; more than {allowed} are an error.",
            outcome.lookups
        ));
    }
    let is_limit = kind == Some(ProblemKind::TooManyVoidLookups);
    let mut void = Vec::new();
    let mut steps = verified.trace.iter().flat_map(|trace| &trace.steps).peekable();
    while let Some(step) = steps.next() {
        let Some((name, record_type)) = &step.question else { continue };
        let answer = answers.find(name, *record_type).and_then(|entry| entry.answer.as_ref());
        let Some(Err(failure)) = answer else { continue };
        // An `exists` asks for names that are there for some clients only, and a host need not have
        // addresses of both families. Still, they count.
        let is_address = matches!(record_type, RecordType::A | RecordType::Aaaa);
        let is_usual = is_address && *failure == Failure::NoData
            || steps.peek().is_some_and(|next| is_of_exists(&next.event));
        let is_own =
            name.as_str().eq_ignore_ascii_case(&verified.domain) && *record_type == RecordType::Txt;
        let is_wrong = failure.is_void() && *record_type != RecordType::Ptr && !is_own;
        let shown = format!("{name} ({record_type})");
        if is_wrong && (is_limit || !is_usual) && !void.contains(&shown) {
            void.push(shown);
        }
    }
    if !void.is_empty() {
        let count = void.len();
        void.truncate(MAX_NAMES);
        let more = if count > MAX_NAMES { ", among others" } else { "" };
        sentences.push(format!(
            "The SPF record leads to names that DNS has nothing for: {}{more}.",
            void.join(", ")
        ));
    }
    for record in records(&verified.domain, answers) {
        let terms = || record.split(' ').map(str::trim).filter(|term| !term.is_empty());
        let is =
            |term: &str, words: &[&str]| words.iter().any(|word| term.eq_ignore_ascii_case(word));
        if terms().any(|term| is(term, &["+all", "all"])) {
            sentences.push(format!(
                "The SPF record of {} has \"+all\", which permits every host in the world.",
                verified.domain
            ));
        }
        let is_ptr = |term: &str| {
            let term = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
            term == "ptr" || term.starts_with("ptr:")
        };
        if terms().any(is_ptr) {
            sentences.push(format!(
                "The SPF record of {} uses \"ptr\", which should not be used (RFC 7208, 5.5).",
                verified.domain
            ));
        }
    }
}

/// Whether a step is about a term `exists`.
fn is_of_exists(event: &str) -> bool {
    event.trim_start_matches(['+', '-', '~', '?']).starts_with("exists:")
}

/// The SPF records at a domain.
fn records(domain: &str, answers: &Entries) -> Vec<String> {
    let name = Name::new(domain);
    let entry = name.and_then(|name| answers.find(&name, RecordType::Txt));
    let Some(Some(Ok(Answer::Txt(texts)))) = entry.map(|entry| &entry.answer) else {
        return Vec::new();
    };
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned());
    let is_record = |text: &String| {
        let word = text.split(' ').next().unwrap_or_default();
        word.eq_ignore_ascii_case("v=spf1")
    };
    texts.filter(is_record).collect()
}

/// A detail without the name servers of this site that were asked.
fn without_servers(detail: &str) -> String {
    match detail.rsplit_once(" (") {
        Some((text, rest)) if rest.ends_with(')') => text.to_owned(),
        _ => detail.to_owned(),
    }
}

fn dkim(outcome: &SignatureOutcome, sentences: &mut Vec<String>) {
    let (domain, selector) = (outcome.domain.as_ref(), outcome.ascii_selector());
    let signature = match (domain, selector) {
        (Some(domain), Some(selector)) => {
            format!("The DKIM signature of {domain} (selector {selector})")
        }
        (Some(domain), None) => format!("A DKIM signature of {domain}"),
        (None, _) => "A DKIM signature".to_owned(),
    };
    let Some(reason) = outcome.reason else {
        match outcome.key_bits {
            Some(bits) if bits < GOOD_KEY_BITS && !is_ed25519(outcome) => sentences.push(format!(
                "{signature} is good, but its key has {bits} bits only; {GOOD_KEY_BITS} are advised."
            )),
            _ => {}
        }
        return;
    };
    let why = match reason {
        // Limits of this site, and trouble that says nothing about the sender.
        Reason::TooManySignatures(_) | Reason::HeaderTooLarge => return,
        Reason::BodyHash => "does not verify: the body was changed after it was signed".to_owned(),
        Reason::Signature => {
            "does not verify: signed header fields were changed, or the key in DNS is not the one \
             that signed"
                .to_owned()
        }
        Reason::Key(KeyProblem::Missing) => "has no key in DNS".to_owned(),
        Reason::Key(KeyProblem::Revoked) => "has a key that is revoked (p= is empty)".to_owned(),
        Reason::Key(KeyProblem::TooShort(bits)) => format!("has a key of {bits} bits: too short"),
        Reason::Key(KeyProblem::Syntax) => "has no key record that can be read".to_owned(),
        Reason::Key(KeyProblem::Unavailable(failure)) => {
            format!("could not be verified, because DNS gave for its key: {failure}")
        }
        reason => match reason.result() {
            DkimResult::Policy => format!("is not acceptable: {reason}"),
            _ => format!("cannot be verified: {reason}"),
        },
    };
    let testing = if outcome.testing { "; the key is marked as a test (t=y)" } else { "" };
    sentences.push(format!("{signature} {why}{testing}."));
}

fn is_ed25519(outcome: &SignatureOutcome) -> bool {
    outcome.algorithm.as_deref().is_some_and(|name| name.starts_with("ed25519"))
}

fn dmarc(outcome: &Outcome, sentences: &mut Vec<String>) {
    let Some(domain) = &outcome.author_domain else {
        if let Some(problem) = &outcome.problem {
            sentences.push(format!("DMARC cannot be evaluated: {problem}."));
        }
        return;
    };
    match outcome.result {
        DmarcResult::Fail => {
            let mut text = format!("DMARC fails for {domain}");
            if let Some(policy) = &outcome.policy {
                let (published, owner) = (policy.published, &policy.domain);
                text.push_str(&format!(", whose policy is {published} (record of {owner})"));
            }
            let unaligned: Vec<_> = outcome.alignments.iter().filter_map(unaligned).collect();
            text.push_str(": ");
            text.push_str(&match unaligned.as_slice() {
                [] => "neither SPF nor a DKIM signature of this domain passes".to_owned(),
                some => some.join(", "),
            });
            text.push('.');
            sentences.push(text);
        }
        DmarcResult::Pass => {}
        DmarcResult::None | DmarcResult::Permerror | DmarcResult::Temperror => {
            let why = match &outcome.problem {
                Some(Problem::NoRecord) | None => {
                    sentences.push(format!("{domain} has no DMARC record."));
                    return;
                }
                Some(problem) => problem,
            };
            sentences.push(format!("DMARC of {domain} cannot be evaluated: {why}."));
        }
    }
    let is_assumed = outcome.record.as_ref().is_some_and(|applied| applied.record.is_assumed);
    match &outcome.policy {
        Some(policy) if is_assumed => sentences.push(format!(
            "The DMARC record of {} has no policy that can be used (one of p=, sp= and np= is \
             missing, bad or repeated), and counts as p=none.",
            policy.domain
        )),
        Some(policy) if policy.published == Policy::None => sentences.push(format!(
            "The DMARC policy of {} is {}=none: it asks nobody to refuse mail in its name that is \
             forged.",
            policy.domain, policy.tag
        )),
        _ => {}
    }
}

/// An identifier that passed and does not count.
fn unaligned(alignment: &IdentifierAlignment) -> Option<String> {
    let IdentifierAlignment { identifier, passed, is_aligned, .. } = alignment;
    (*passed && *is_aligned == Some(false))
        .then(|| format!("{identifier} passes, but is not aligned with it"))
}

fn iprev(outcome: &iprev::Outcome, sentences: &mut Vec<String>) {
    let address = outcome.address;
    sentences.extend(match outcome.result {
        IprevResult::Fail => {
            Some(format!("The names in DNS of {address} do not lead back to this address."))
        }
        IprevResult::Permerror => Some(format!("The address {address} has no name in DNS.")),
        IprevResult::Pass | IprevResult::Temperror => None,
    });
}

/// A text in lines, harmless.
fn wrap(text: &str) -> String {
    let mut wrapped = String::with_capacity(text.len() + 16);
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let word = harmless(word);
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(&word);
        column += length;
    }
    wrapped.push('\n');
    wrapped
}
