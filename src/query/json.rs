//! A finding as JSON (`spf-milter(8)`, QUERY): the keys are those of the log.

use serde_json::{Map, Value, json};

use super::{
    finding::{Asked, Finding, Given, Source},
    remedies::remedies,
    report::codes,
    why::Why,
};
use crate::{
    auth::{Identity, dkim::SignatureOutcome, dmarc::Identifier},
    config::{Config, Places},
    mail::domain::is_unseen,
    session::{ContentRecord, Edit, IdentityRecord, Record, Verdict},
};

/// The version of the form.
const SCHEMA: u32 = 1;

/// An object under way.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn optional(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }
}

/// Writes a finding, made with this configuration, in one line.
pub(super) fn write(finding: &Finding, config: &Config, places: &Places, exit: u8) -> String {
    let mut object = Object::default();
    object.set("schema", SCHEMA);
    object.set("verdict", finding.outcome().as_str());
    object.set("exit", exit);
    object.optional("dry-run", finding.is_dry_run.then_some("yes"));
    if let Some(deciding) = finding.deciding() {
        object.set("event", deciding.stage.as_str());
        match &deciding.verdict {
            Verdict::Reply(reply) => {
                object.set("reply", codes(reply));
                object.set("reply-text", reply.text());
            }
            Verdict::Quarantine(reason) => object.set("quarantine-reason", reason.as_str()),
            _ => {}
        }
    }
    let why = Why::find(finding, config, places);
    object.set("why", why.sentence);
    if let Some(parameter) = why.parameter {
        object.set(
            "decided-by",
            json!({
                "parameter": parameter,
                "value": config.value_of(parameter),
                "place": places.find(parameter).to_string(),
            }),
        );
    }
    object.set("would-pass-if", remedies(finding.records()));
    let records = finding.records();
    let identities = records.flat_map(|record| {
        record.identities.iter().map(|identity| of_identity(record, identity, config))
    });
    object.set("identities", identities.collect::<Vec<_>>());
    let skipped = finding.records().flat_map(|record| &record.skipped).map(|skipped| {
        let key = if skipped.identity == Identity::Helo { "helo" } else { "envelope-from" };
        json!({
            "identity": skipped.identity.as_str(),
            "action": "skip",
            "reason": skipped.reason.as_str(),
            key: skipped.value,
        })
    });
    object.set("skipped", skipped.collect::<Vec<_>>());
    let exemption = finding.records().find_map(|record| record.exemption);
    object.optional("exempt", exemption.map(|exemption| exemption.as_str()));
    let content = finding.records().find_map(|record| record.content.as_deref());
    object.optional("content", content.map(of_content));
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for edit in finding.edits() {
        match edit {
            Edit::Insert { field, .. } => {
                added.push(json!({ "name": field.name, "value": field.value }));
            }
            Edit::Delete { name, index } => deleted.push(json!({ "name": name, "index": index })),
        }
    }
    added.reverse();
    deleted.reverse();
    object.set("added", added);
    object.set("deleted", deleted);
    object.set("input", of_input(&finding.asked));
    let mut text = harmless(&Value::Object(object.0).to_string());
    text.push('\n');
    text
}

/// The same JSON, in which characters that a terminal takes for a command, or that are not seen where
/// they stand, are escaped. They only occur within strings.
fn harmless(json: &str) -> String {
    let mut harmless = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || is_unseen(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                harmless.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            harmless.push(c);
        }
    }
    harmless
}

fn of_identity(record: &Record, identity: &IdentityRecord, config: &Config) -> Value {
    let verified = &identity.verified;
    let outcome = &verified.outcome;
    let mut object = Object::default();
    object.set("identity", verified.identity.as_str());
    object.set("result", outcome.result.as_str());
    object.set("action", identity.action.as_str());
    object.optional("purpose", identity.for_dmarc.then_some("dmarc"));
    object.optional("reason", identity.why_accepted(record.relay.is_some()));
    object.optional("client-ip", record.client.map(|address| address.to_string()));
    object.optional("inner-ip", record.inner.map(|address| address.to_string()));
    object.optional("relay-ip", record.relay.map(|address| address.to_string()));
    object.set("domain", &*verified.domain);
    if verified.identity == Identity::Mailfrom {
        object.set("envelope-from", verified.sender());
    }
    object.optional("helo", record.helo.as_deref());
    if let Some(domain) = &outcome.policy_domain {
        object.set("mechanism", outcome.mechanism.as_deref().unwrap_or("default"));
        object.set("policy-domain", &**domain);
    }
    if let Some(problem) = &outcome.problem {
        object.set("problem", problem.kind.as_str());
        object.set("detail", problem.detail.as_str());
    }
    object.set("lookups", outcome.lookups);
    object.set("max-lookups", config.max_lookups);
    object.set("void-lookups", outcome.void_lookups);
    object.set("max-void-lookups", config.max_void_lookups);
    object.optional("reply", identity.reply.as_ref().map(codes));
    Value::Object(object.0)
}

fn of_content(content: &ContentRecord) -> Value {
    let mut object = Object::default();
    if let Some(outcome) = &content.iprev {
        object.set("iprev", outcome.result.as_str());
        object.optional("client-name", outcome.name.as_ref().map(|name| name.as_str()));
    }
    object.set("action", content.action());
    if let Some(outcome) = &content.dmarc {
        object.set("dmarc", outcome.result.as_str());
        let domain = outcome.author_domain.as_ref();
        object.optional("author-domain", domain.map(|domain| domain.as_str()));
        if let Some(policy) = &outcome.policy {
            object.set("policy", policy.effective().as_str());
            object.set("policy-domain", policy.domain.as_str());
        }
        object.optional("override", content.own_policy.map(|policy| policy.as_str()));
        object.set("disposition", content.disposition.as_str());
        object.optional("reason", content.exemption.map(|exemption| exemption.as_str()));
        object.optional("list", content.list.as_ref().map(|list| list.as_str()));
        if let Some(verified) = &content.mailfrom {
            object.set("spf", verified.outcome.result.as_str());
            object.set("spf-domain", &*verified.domain);
            object.set("envelope-from", verified.sender());
        }
        let aligned = |is_spf: bool| {
            let of_method = outcome
                .aligned
                .iter()
                .filter(|identifier| matches!(identifier, Identifier::Spf(_)) == is_spf);
            of_method.map(|identifier| identifier.domain().as_str()).collect::<Vec<_>>()
        };
        object.set("aligned-spf", aligned(true));
        object.set("aligned-dkim", aligned(false));
        object.optional("problem", outcome.problem.as_ref().map(ToString::to_string));
    }
    let causes = content.causes.iter();
    let causes = causes.map(|cause| format!("{}:{}", cause.refusal.as_str(), cause.action));
    object.set("cause", causes.collect::<Vec<_>>());
    object.optional("reply", content.reply.as_ref().map(codes));
    let signatures = content.dkim.as_ref();
    object.optional("dkim", signatures.map(|all| all.iter().map(of_signature).collect::<Vec<_>>()));
    Value::Object(object.0)
}

fn of_signature(signature: &SignatureOutcome) -> Value {
    let mut object = Object::default();
    object.optional("domain", signature.domain.as_ref().map(|domain| domain.as_str()));
    object.optional("selector", signature.ascii_selector().map(|selector| selector.into_owned()));
    object.set("result", signature.result().as_str());
    object.optional("reason", signature.reason.map(|reason| reason.to_string()));
    object.optional("remark", signature.comment());
    Value::Object(object.0)
}

fn of_input(asked: &Asked) -> Value {
    let mut object = Object::default();
    object.set("client-ip", of_given(&asked.client));
    object.optional("helo", asked.helo.as_ref().map(of_given));
    object.optional("envelope-from", asked.mail_from.as_ref().map(of_given));
    object.set("authenticated", if asked.is_authenticated.value { "yes" } else { "no" });
    object.set("recipients", asked.recipients.clone());
    let left_out = asked.left_out.iter();
    let left_out = left_out.map(|line| json!({ "line": line.number, "text": line.text }));
    object.set("left-out", left_out.collect::<Vec<_>>());
    object.set("notes", asked.notes.clone());
    Value::Object(object.0)
}

fn of_given<T: ToString>(given: &Given<T>) -> Value {
    let value = given.value.to_string();
    match &given.source {
        Source::Question | Source::Default => json!({ "value": value }),
        Source::Line(line) => json!({ "value": value, "line": line.number, "text": line.text }),
    }
}
