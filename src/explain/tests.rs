use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use proptest::prelude::*;

use super::{line::LogLine, words::explain_pair};
use crate::{
    auth::{
        Identity, Verified,
        dkim::{BodyCoverage, KeyProblem, Reason, SignatureOutcome},
        dmarc::{self, DmarcResult, Identifier, Policy},
        iprev::IprevResult,
        spf::{Outcome, ProblemKind},
    },
    config::{self, LogLevel},
    dns,
    internal_error::InternalError,
    log::{Log, is_hidden},
    mail::{
        author::Malformed,
        domain::Domain,
        received,
        results::{SpfResult, Words},
    },
    observe::Observer,
    policy::{Disposition, Exemption, Refusal},
    session::{Action, ContentRecord, Failure, IdentityRecord, Permission, Record, Skipped},
};

/// A value of each enumeration of words.
fn words<T: Words>() -> impl Iterator<Item = &'static str> {
    T::ALL.iter().map(|(_, word)| *word)
}

fn exemptions() -> Vec<Exemption> {
    use Exemption::*;
    let all = vec![
        NoAddress,
        LocalSubmission,
        TrustedNetwork,
        Authenticated,
        AuthenticatedAtRelay,
        NoDomainName,
        SkippedSender,
        Relayed,
        SpfNetwork,
        ExemptRecipient,
        DmarcNetwork,
        DmarcDkimDomain,
        MailingList,
        NotEnforced,
    ];
    // A new one does not compile here, and belongs into the list.
    for exemption in &all {
        match exemption {
            NoAddress | LocalSubmission | TrustedNetwork | Authenticated | AuthenticatedAtRelay
            | NoDomainName | SkippedSender | UnknownClient(_) | Relayed | SpfNetwork
            | ExemptRecipient | DmarcNetwork | DmarcDkimDomain | MailingList | NotEnforced => {}
        }
    }
    let unknown = received_outcomes().into_iter().map(|outcome| UnknownClient(outcome.as_str()));
    all.into_iter().chain(unknown).collect()
}

/// Why a relay's message does not name its client.
fn received_outcomes() -> Vec<received::Outcome> {
    use received::{Outcome::*, Unreadable::*};
    let unreadable = [
        TooLong,
        ControlCharacter,
        Backslash,
        Parentheses,
        NoFrom,
        NoBy,
        TwoBy,
        Words,
        NoAddress,
        TwoAddresses,
        UnknownForm,
        LinkLocal,
    ];
    for reason in unreadable {
        match reason {
            TooLong | ControlCharacter | Backslash | Parentheses | NoFrom | NoBy | TwoBy
            | Words | NoAddress | TwoAddresses | UnknownForm | LinkLocal => {}
        }
    }
    let all = unreadable.into_iter().map(Unreadable);
    let all: Vec<_> = all.chain([OtherProtocol, TooManyFields, ChainEnds]).collect();
    for outcome in &all {
        match outcome {
            Direct | Client(_) | Authenticated | OtherProtocol | Unreadable(_) | TooManyFields
            | ChainEnds => {}
        }
    }
    all
}

fn refusals() -> Vec<Refusal> {
    use Refusal::*;
    let all = vec![
        Spf,
        Dmarc,
        DmarcTemperror,
        LocalDomain,
        MalformedAuthor,
        Unauthenticated,
        Iprev,
        ForgedResults,
        ForgedTags,
    ];
    for refusal in &all {
        match refusal {
            Spf | Dmarc | DmarcTemperror | LocalDomain | MalformedAuthor | Unauthenticated
            | Iprev | ForgedResults | ForgedTags => {}
        }
    }
    all
}

fn key_problems() -> Vec<KeyProblem> {
    use KeyProblem::*;
    let all = vec![
        Missing,
        Unavailable(dns::Failure::Timeout),
        Unavailable(dns::Failure::Rcode("SERVFAIL")),
        Syntax,
        Revoked,
        Service,
        Algorithm,
        Hash,
        Subdomain,
        TooShort(512),
        TooLong(9000),
    ];
    for problem in &all {
        match problem {
            Missing | Unavailable(_) | Syntax | Revoked | Service | Algorithm | Hash
            | Subdomain | TooShort(_) | TooLong(_) => {}
        }
    }
    all
}

fn reasons() -> Vec<Reason> {
    use Reason::*;
    let mut all = vec![
        TooManySignatures(1),
        TooManySignatures(3),
        HeaderTooLarge,
        TooManyFields,
        Syntax,
        MissingTag("bh"),
        BadTag("h"),
        Version,
        Algorithm,
        Sha1,
        Canonicalization,
        QueryMethod,
        Identity,
        FromNotSigned,
        FieldNotSignedAsOften("Subject"),
        Times,
        Future,
        Expired,
        BodyNotCovered(BodyCoverage { covered: 3, total: 4 }),
        LengthBeyondBody,
        BodyHash,
        Signature,
    ];
    all.extend(key_problems().into_iter().map(Key));
    for reason in &all {
        match reason {
            TooManySignatures(_)
            | HeaderTooLarge
            | TooManyFields
            | Syntax
            | MissingTag(_)
            | BadTag(_)
            | Version
            | Algorithm
            | Sha1
            | Canonicalization
            | QueryMethod
            | Identity
            | FromNotSigned
            | FieldNotSignedAsOften(_)
            | Times
            | Future
            | Expired
            | Key(_)
            | BodyNotCovered(_)
            | LengthBeyondBody
            | BodyHash
            | Signature => {}
        }
    }
    all
}

fn dmarc_problems() -> Vec<dmarc::Problem> {
    use dmarc::Problem::*;
    let domain = || Domain::parse("example.org").unwrap();
    let all = vec![
        NoFrom,
        SeveralFromFields,
        SeveralAuthorDomains,
        MisleadingFrom,
        NoMembers,
        NoRecord,
        SeveralRecords(domain()),
        UnusableRecord(domain()),
        Lookup(dns::Name::new("_dmarc.example.org").unwrap(), dns::Failure::Timeout),
        Unverified(Identifier::Spf(domain())),
        Unverified(Identifier::Dkim(domain())),
    ];
    for problem in &all {
        match problem {
            NoFrom | MalformedFrom(_) | SeveralFromFields | SeveralAuthorDomains
            | MisleadingFrom | NoMembers | NoRecord | SeveralRecords(_) | UnusableRecord(_)
            | Lookup(..) | Unverified(_) => {}
        }
    }
    let malformed = words::<Malformed>().map(|word| Malformed::find(|known| known == word));
    all.into_iter().chain(malformed.flatten().map(MalformedFrom)).collect()
}

/// A line that a record becomes, as the log has it.
fn lines(record: &Record) -> Vec<String> {
    let log = Log::keep(LogLevel::Debug);
    Observer::new(log.clone()).observe(record);
    log.take_kept()
}

fn verified(local_part: &str, domain: &str) -> Verified {
    Verified {
        identity: Identity::Mailfrom,
        local_part: local_part.to_owned().into(),
        domain: domain.into(),
        outcome: Outcome::without_record(SpfResult::Fail, None).into(),
        trace: None,
    }
}

fn content() -> ContentRecord {
    ContentRecord {
        dkim: None,
        dmarc: None,
        mailfrom: None,
        iprev: None,
        own_policy: None,
        causes: Vec::new(),
        disposition: Disposition::None,
        exemption: None,
        list: None,
        reply: None,
    }
}

#[test]
fn every_word_is_explained() {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let mut add = |key, values: &mut dyn Iterator<Item = String>| {
        let before = pairs.len();
        pairs.extend(values.map(|value| (key, value)));
        assert!(pairs.len() > before, "{key}");
    };
    let mut own = |key, words: &mut dyn Iterator<Item = &'static str>| {
        add(key, &mut words.map(str::to_owned));
    };
    own("result", &mut words::<SpfResult>());
    own("spf", &mut words::<SpfResult>());
    own("dmarc", &mut words::<DmarcResult>());
    own("iprev", &mut words::<IprevResult>());
    own("policy", &mut words::<Policy>());
    own("override", &mut words::<Policy>());
    own("disposition", &mut words::<Disposition>());
    own("problem", &mut words::<ProblemKind>());
    own("action", &mut words::<Action>());
    own("action", &mut ["tag", "quarantine", "skip", "exempt", "fail"].into_iter());
    own("identity", &mut [Identity::Helo, Identity::Mailfrom].map(Identity::as_str).into_iter());
    own("purpose", &mut ["dmarc"].into_iter());
    own("dry-run", &mut ["yes"].into_iter());
    own("mechanism", &mut ["default", "all"].into_iter());
    own("reason", &mut exemptions().into_iter().map(Exemption::as_str));
    let failures = [
        Failure::NotGranted(Permission::AddFields),
        Failure::Internal(InternalError::new("a test")),
    ];
    own("reason", &mut failures.map(Failure::as_str).into_iter());
    own("reason", &mut ["too-many-authentication-results", "too-many-tags"].into_iter());
    add("problem", &mut dmarc_problems().into_iter().map(|problem| problem.to_string()));
    let actions = words::<config::Action>().filter(|action| *action != "none");
    let actions: Vec<_> = actions.collect();
    let causes = refusals().into_iter().flat_map(|refusal| {
        let word = |action: &&str| format!("{}:{action}", refusal.as_str());
        actions.iter().map(word).collect::<Vec<_>>()
    });
    add("cause", &mut causes.into_iter());
    for (key, value) in pairs {
        let line = LogLine::parse(&format!("{key}=x")).unwrap();
        let meaning = explain_pair(&line, key, &value);
        let meaning = meaning.unwrap_or_else(|| panic!("{key}={value} is not explained"));
        assert!(meaning.ends_with('.') && meaning.len() > 10, "{key}={value}: {meaning}");
    }
}

/// Each reason of a signature has a sentence of its own beside that of the result.
#[test]
fn every_reason_of_a_signature_is_explained() {
    let signature = |reason| SignatureOutcome {
        reason: Some(reason),
        domain: Domain::parse("a.example").ok(),
        selector: Some("s".into()),
        ..SignatureOutcome::default()
    };
    let mut outcomes: Vec<_> = reasons().into_iter().map(signature).collect();
    let testing = SignatureOutcome { testing: true, ..SignatureOutcome::default() };
    outcomes.push(testing);
    for outcome in outcomes {
        let record = Record {
            complete: true,
            content: Some(Box::new(ContentRecord {
                dkim: Some(vec![outcome.clone()]),
                ..content()
            })),
            ..Record::default()
        };
        let [line] = lines(&record).try_into().unwrap();
        let line = LogLine::parse(&line).unwrap();
        let value = line.get("dkim").unwrap();
        let meaning = explain_pair(&line, "dkim", value).unwrap_or_else(|| panic!("{value}"));
        let sentences = meaning.matches(['.', ':']).count() + meaning.matches(". ").count();
        assert!(meaning.contains(". ") && sentences > 1, "{value}: {meaning}");
    }
}

/// The keys that stand in the code that writes lines, up to its tests.
#[test]
fn every_key_is_explained() {
    let code = include_str!("../observe/line.rs").split("#[cfg(test)]").next().unwrap();
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for call in ["pair(\"", "optional(\"", "address(\""] {
        keys.extend(code.split(call).skip(1).map(|rest| rest.split('"').next().unwrap()));
    }
    // These are in variables.
    keys.extend(["aligned-spf", "aligned-dkim", "helo", "envelope-from"]);
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        let value = match key {
            "identity" => "helo",
            "result" | "spf" | "dmarc" | "iprev" => "pass",
            "action" => "accept",
            "reason" => "relayed",
            "problem" => "no From field",
            "cause" => "spf:tag",
            "policy" | "override" | "disposition" => "none",
            "purpose" => "dmarc",
            "dry-run" => "yes",
            "dkim" => "none",
            "lookups" | "void-lookups" | "deleted-authentication-results" | "deleted-tags" => "7",
            _ => "anything",
        };
        let line = LogLine::parse("identity=x").unwrap();
        assert!(explain_pair(&line, key, value).is_some(), "{key}");
    }
}

#[test]
fn other_words_are_not_made_up() {
    let line = LogLine::parse("identity=x").unwrap();
    for (key, value) in [
        ("result", "passed"),
        ("action", ""),
        ("cause", "spf"),
        ("cause", "spf:none"),
        ("cause", "x:tag"),
        ("dkim", "a/b:good"),
        ("reason", "because"),
        ("problem", "trouble"),
        ("dry-run", "no"),
        ("purpose", "spf"),
        ("lookups", "many"),
        ("new-key", "x"),
    ] {
        assert_eq!(explain_pair(&line, key, value), None, "{key}={value}");
    }
}

proptest! {
    /// What the milter writes is read as it was, whatever strangers put into it.
    #[test]
    fn lines_read_back(
        local_part in any_text(),
        domain in any_text(),
        helo in any_text(),
        detail in any_text(),
        queue_id in any_text(),
        address: [u8; 4],
    ) {
        let mut verified = verified(&local_part, &domain);
        verified.outcome = Outcome::without_record(
            SpfResult::Permerror,
            Some(crate::auth::spf::Problem { kind: ProblemKind::InvalidRecord, detail: detail.clone() }),
        )
        .into();
        let client = IpAddr::V4(Ipv4Addr::from(address));
        let sender = verified.sender();
        let identity = IdentityRecord {
            verified: Arc::new(verified),
            action: Action::Accept,
            reply: None,
            recipient: None,
            exemption: None,
            is_put_off: false,
            for_dmarc: true,
        };
        let skipped =
            Skipped { identity: Identity::Helo, value: helo.clone(), reason: Exemption::SkippedSender };
        let record = Record {
            queue_id: Some(queue_id.clone()),
            client: Some(client),
            helo: Some(helo.as_str().into()),
            identities: vec![identity].into(),
            skipped: vec![skipped],
            ..Record::default()
        };
        let written = lines(&record);
        prop_assert_eq!(written.len(), 2);
        let client = client.to_string();
        let expected = [
            vec![
                ("identity", "mailfrom"),
                ("result", "permerror"),
                ("action", "accept"),
                ("purpose", "dmarc"),
                ("client-ip", client.as_str()),
                ("domain", domain.as_str()),
                ("envelope-from", sender.as_str()),
                ("helo", helo.as_str()),
                ("problem", "invalid SPF record found"),
                ("detail", detail.as_str()),
                ("queue-id", queue_id.as_str()),
            ],
            vec![
                ("identity", "helo"),
                ("action", "skip"),
                ("reason", "skip-senders"),
                ("helo", helo.as_str()),
                ("client-ip", client.as_str()),
                ("queue-id", queue_id.as_str()),
            ],
        ];
        for (text, expected) in written.iter().zip(expected) {
            for text in [text.clone(), format!("Nov 27 08:51:02 mail spf-milter[7]: {text}")] {
                let line = LogLine::parse(&text).unwrap();
                prop_assert_eq!(line.pairs().count(), expected.len(), "{}", text);
                for ((key, value), (expected_key, whole)) in line.pairs().zip(&expected) {
                    prop_assert_eq!(key, *expected_key);
                    prop_assert_eq!(line.is_cut(key, value), value != *whole, "{}", text);
                    if value == *whole {
                        continue;
                    }
                    // It was cut.
                    let kept = value.strip_suffix("...").unwrap();
                    prop_assert!(whole.starts_with(kept), "{:?} {:?}", value, whole);
                    prop_assert!(escaped_length(whole) > 512);
                }
            }
        }
    }

    #[test]
    fn anything_is_read_without_a_panic(
        text in any::<String>(),
        line in "([a-z-]{0,3}=(a|\"(\\\\u\\{1?b?\\}?|\\\\\\\\|\\\\\"|x| ){0,3}\"?)( |  )?){0,4}",
    ) {
        let _ = LogLine::parse(&text);
        if let Ok(line) = LogLine::parse(&line) {
            let _ = super::sentences::sentences(&line);
        }
        let _ = LogLine::parse(&format!("{{{text}"));
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z@.]{0,12}",
        any::<String>(),
        "[a\\\\\"\\x00-\\x1f= é]{0,20}",
        "[a\\\\\"\\x00-\\x1f= é]{150,600}",
        // What orders other characters, and ends lines of Unicode.
        "[a\u{200e}\u{202e}\u{2028}]{0,20}",
        "[a\u{200e}\u{202e}\u{2028}]{50,200}",
    ]
}

/// Octets of a value between its quotes.
fn escaped_length(value: &str) -> usize {
    let length = |c: char| match c {
        '"' | '\\' => 2,
        c if is_hidden(c) => format!("\\u{{{:x}}}", u32::from(c)).len(),
        c => c.len_utf8(),
    };
    value.chars().map(length).sum()
}
