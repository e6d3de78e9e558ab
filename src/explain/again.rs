//! The question behind a line, and what is different about its answer today.

use super::line::LogLine;
use crate::{
    auth::Identity,
    mail::{domain::Domain, harmless::harmless},
    query::{Finding, Question},
};

/// The question that led to a line.
///
/// # Errors
///
/// Why it cannot be asked again, in a sentence.
pub(super) fn question(line: &LogLine) -> Result<Question, String> {
    match line.get("action") {
        Some("skip" | "exempt") => return Err("Nothing was asked for this line.".into()),
        Some("fail") => return Err("The failure is one of the milter, not of the mail.".into()),
        _ if line.get("identity").or(line.get("dmarc")).or(line.get("iprev")).is_some() => {}
        _ => return Err("Nothing in the line could be asked again.".into()),
    }
    let value = |key: &str| match line.get(key) {
        Some(value) if line.is_cut(key, value) => {
            Err(format!("The value of {key} was cut, so that it cannot be asked again."))
        }
        value => Ok(value),
    };
    let client = line.get("inner-ip").or(line.get("client-ip"));
    let client = client.ok_or("The line has no client-ip, so that nothing can be asked again.")?;
    let ip = client.parse().map_err(|_| "The value of client-ip is not an address.")?;
    let is_helo = line.get("identity") == Some(Identity::Helo.as_str());
    let sender = if is_helo { None } else { value("envelope-from")? };
    let author_domain = match value("author-domain")? {
        Some(domain) => {
            let domain = Domain::parse(domain);
            Some(domain.map_err(|_| "The value of author-domain is not a domain name.")?)
        }
        None => None,
    };
    Ok(Question {
        ip: Some(ip),
        helo: value("helo")?.map(str::to_owned),
        mail_from: sender.map(|sender| sender.as_bytes().to_vec()),
        author_domain,
        ..Question::default()
    })
}

/// A value of then, and the one of now, if there is one.
struct Comparison {
    what: String,
    then: String,
    now: Option<String>,
    /// What it means that they differ.
    cause: &'static str,
    /// Whether it is verified at the end of a message only.
    is_of_content: bool,
}

/// Compares the line with what was found today: a line of text for each thing that can be compared.
pub(super) fn compare(line: &LogLine, finding: &Finding) -> String {
    let mut text = String::new();
    for Comparison { what, then, now, cause, is_of_content } in comparisons(line, finding) {
        let (what, then) = (harmless(&what), harmless(&then));
        text.push_str(&match now {
            None if is_of_content && !finding.asked.has_message => {
                format!("{what}: then {then}; that cannot be asked again without the message.\n")
            }
            None => {
                format!("{what}: then {then}; with today's configuration it is not verified.\n")
            }
            Some(now) if *now == *then => format!("{what}: then {then}, and the same now.\n"),
            Some(now) => format!("{what}: then {then}, now {}: {cause}.\n", harmless(&now)),
        });
    }
    let is_signed = line.all("dkim").any(|word| word != "none");
    if is_signed {
        text.push_str(
            "Signatures, and DMARC that depends on them, cannot be verified without the message: \
             see spf-milter query --message.\n",
        );
    }
    if text.is_empty() {
        text.push_str("Nothing in the line can be compared.\n");
    }
    text
}

fn comparisons(line: &LogLine, finding: &Finding) -> Vec<Comparison> {
    let mut found = Vec::new();
    let identities = || finding.records().flat_map(|record| &record.identities);
    let outcome_of = |identity: &str| {
        let identity = identities().find(|found| found.verified.identity.as_str() == identity)?;
        Some(&identity.verified.outcome)
    };
    let contents = || finding.records().filter_map(|record| record.content.as_deref());
    let (identity, result) = match line.get("identity") {
        Some(identity) => (identity, line.get("result")),
        None => (Identity::Mailfrom.as_str(), line.get("spf")),
    };
    if let Some(then) = result {
        let now = outcome_of(identity).map(|outcome| outcome.result.as_str().to_owned());
        let cause = spf_cause(then, now.as_deref());
        let domain = line.get("domain").or(line.get("spf-domain")).unwrap_or("the sender");
        let what = format!("SPF of {domain}");
        found.push(Comparison { what, then: then.to_owned(), now, cause, is_of_content: false });
    }
    if let Some(then) = line.get("mechanism") {
        let outcome = outcome_of(identity).filter(|outcome| outcome.policy_domain.is_some());
        let now =
            outcome.map(|outcome| outcome.mechanism.as_deref().unwrap_or("default").to_owned());
        let cause = "the record has changed, or what it leads to";
        if now.is_some() {
            let (what, then) = ("The term".to_owned(), then.to_owned());
            found.push(Comparison { what, then, now, cause, is_of_content: false });
        }
    }
    let is_signed = line.all("dkim").any(|word| word != "none");
    if let Some(then) = line.get("dmarc").filter(|_| !is_signed) {
        let now = contents().find_map(|content| content.dmarc.as_ref());
        let now = now.map(|outcome| outcome.result.as_str().to_owned());
        let cause = "the records of SPF or DMARC have changed, or DNS had trouble";
        let (what, then) = ("DMARC".to_owned(), then.to_owned());
        found.push(Comparison { what, then, now, cause, is_of_content: true });
    }
    if let Some(then) = line.get("policy") {
        let now = contents().find_map(|content| content.dmarc.as_ref()?.policy.as_ref());
        let now = now.map(|policy| policy.effective().as_str().to_owned());
        let cause = "the DMARC record has changed";
        let what = "The DMARC policy".to_owned();
        let is_verified = contents().any(|content| content.dmarc.is_some());
        let now = now.or(is_verified.then(|| "no policy".to_owned()));
        found.push(Comparison { what, then: then.to_owned(), now, cause, is_of_content: true });
    }
    if let Some(then) = line.get("iprev") {
        let now = contents().find_map(|content| content.iprev.as_ref());
        let now = now.map(|outcome| outcome.result.as_str().to_owned());
        let cause = "the names of the client's address have changed, or DNS had trouble";
        let what = "The client's name".to_owned();
        found.push(Comparison { what, then: then.to_owned(), now, cause, is_of_content: true });
    }
    found
}

fn spf_cause(then: &str, now: Option<&str>) -> &'static str {
    match (then, now) {
        ("temperror", _) => "the DNS trouble is over",
        (_, Some("temperror")) => "DNS has trouble now, which may go away",
        ("none", _) => "the domain has a record by now",
        (_, Some("none")) => "the domain has no record any more",
        ("permerror", _) => "the record has been repaired",
        (_, Some("permerror")) => "the record is broken by now",
        _ => "the record has changed, or what it leads to",
    }
}
