//! The documents, held against the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use spf_milter::{
    auth::{
        Identity, Verified,
        dkim::{BodyCoverage, KeyProblem, Reason, SignatureOutcome},
        dmarc::{self, AppliedPolicy, DmarcResult, Identifier, Policy, PolicyTag},
        iprev,
        spf::{Outcome, Problem, ProblemKind},
    },
    config::{
        Action as MessageAction, DefaultValue, LogLevel, Overrides, Parameter, load_text,
        parameters,
    },
    dns::{self, Name},
    internal_error::InternalError,
    log::Log,
    mail::{domain::Domain, reply::Reply, results::SpfResult},
    observe::{
        Observer, Reason as LogReason,
        status::{
            Configuration, Connections, Counts, Dns, FailedReload, Messages, Method, NameServer,
            Refusal as ShownRefusal, Shown, Status,
        },
    },
    policy::{Cause, Disposition, Exemption, Refusal},
    session::{
        Action, ContentRecord, Failure, IdentityRecord, Permission, Recipient, Record, Skipped,
    },
};
use testkit::auth_results;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const PROGRAM_PAGE: &str = "man/spf-milter.8";
const CONFIG_PAGE: &str = "man/spf-milter.conf.5";
const SAMPLE: &str = "etc/spf-milter.conf";

//--- Manual pages ---

/// The words of a macro line; what is in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// The text of some lines of mdoc, without its macros and on one line.
fn plain(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let words = match line.strip_prefix('.') {
            Some(_) if line.starts_with(".\\\"") => continue,
            Some(request) => words(request)[1..].to_vec(),
            None => vec![(*line).to_owned()],
        };
        for word in
            words.iter().filter(|word| !["Ql", "No", "Pq", "Ic", "Cm"].contains(&word.as_str()))
        {
            if !text.is_empty() && ![",", ";", "."].contains(&word.as_str()) {
                text.push(' ');
            }
            text.push_str(&word.replace("\\&", "").replace("\\e", "\\"));
        }
    }
    text
}

/// The entry of a parameter in the manual page.
struct Entry {
    name: String,
    group: String,
    /// Type, default and whether it is reloaded.
    head: String,
    body: String,
}

fn entries() -> Vec<Entry> {
    let page = read(CONFIG_PAGE);
    let parameters = page.split(".Sh PARAMETERS\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    let mut group = String::new();
    let mut lines: Vec<&str> = Vec::new();
    let finish = |entries: &mut Vec<Entry>, lines: &mut Vec<&str>| {
        if let Some(entry) = entries.last_mut().filter(|entry| entry.head.is_empty()) {
            let end = lines
                .iter()
                .position(|line| *line == ".Pp")
                .expect("an entry has a head and a body");
            entry.head = plain(&lines[..end]);
            entry.body = plain(&lines[end..]);
        }
        lines.clear();
    };
    for line in parameters.lines() {
        if let Some(name) = line.strip_prefix(".Ss ") {
            finish(&mut entries, &mut lines);
            group = name.to_owned();
        } else if let Some(name) = line.strip_prefix(".It Ic ") {
            finish(&mut entries, &mut lines);
            entries.push(Entry {
                name: name.into(),
                group: group.clone(),
                head: String::new(),
                body: String::new(),
            });
        } else {
            lines.push(line);
        }
    }
    finish(&mut entries, &mut lines);
    entries
}

fn default_in_words(parameter: &Parameter) -> String {
    match parameter.default {
        DefaultValue::Mandatory => "; mandatory;".into(),
        DefaultValue::Text("") => "; default: empty;".into(),
        DefaultValue::Text(text) => format!("; default: {text};"),
        DefaultValue::Derived { rule, .. } => format!("; default: {rule};"),
    }
}

#[test]
fn the_manual_has_every_parameter_with_its_default() {
    let entries = entries();
    let names: Vec<_> =
        entries.iter().map(|entry| (entry.group.as_str(), entry.name.as_str())).collect();
    let expected: Vec<_> =
        parameters().iter().map(|parameter| (parameter.group, parameter.name)).collect();
    assert_eq!(names, expected);
    for (entry, parameter) in entries.iter().zip(parameters()) {
        let fixed = if parameter.fixed { " fixed." } else { " reloaded." };
        let end = default_in_words(parameter) + fixed;
        assert!(
            entry.head.ends_with(&end),
            "{}: {:?} does not end with {end:?}",
            entry.name,
            entry.head
        );
        assert!(entry.head.len() > end.len(), "{} has no type", entry.name);
        assert!(entry.body.len() > 10, "{} has no description", entry.name);
    }
}

#[test]
fn the_manual_names_no_parameter_that_is_not_there() {
    let known: BTreeSet<_> = parameters().iter().map(|parameter| parameter.name).collect();
    let commands = commands();
    for page in [PROGRAM_PAGE, CONFIG_PAGE] {
        for line in read(page).lines().filter(|line| line.starts_with('.')) {
            let words = words(line);
            for pair in words.windows(2).filter(|pair| pair[0].trim_start_matches('.') == "Ic") {
                let is_command = commands.contains(&pair[1]);
                assert!(is_command || known.contains(pair[1].as_str()), "{page}: {line}");
            }
        }
    }
}

//--- The sample file ---

/// The assignments of the sample file, commented out or not: group, name, value, and the comment
/// above.
fn sample() -> Vec<(String, String, String, String)> {
    let mut found = Vec::new();
    let (mut group, mut comment) = (String::new(), String::new());
    for line in read(SAMPLE).lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            group = heading.to_owned();
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(text);
            comment.push('\n');
        } else if line.is_empty() {
            comment.clear();
        } else if let Some((name, value)) = line.trim_start_matches('#').split_once('=') {
            found.push((
                group.clone(),
                name.trim().to_owned(),
                value.trim().to_owned(),
                comment.clone(),
            ));
        }
    }
    found
}

#[test]
fn the_sample_has_every_parameter_with_its_default() {
    let sample = sample();
    let names: Vec<_> =
        sample.iter().map(|(group, name, ..)| (group.as_str(), name.as_str())).collect();
    let expected: Vec<_> =
        parameters().iter().map(|parameter| (parameter.group, parameter.name)).collect();
    assert_eq!(names, expected);
    for ((_, name, value, comment), parameter) in sample.iter().zip(parameters()) {
        assert!(parameter.default.text().is_none_or(|text| text == value), "{name} = {value}");
        let comment = comment.replace('\n', " ");
        assert_eq!(comment.contains("at the next start"), parameter.fixed, "{name}: {comment}");
    }
}

#[test]
fn the_sample_says_nothing_but_the_defaults() {
    let load =
        |text: &str| load_text(text.as_bytes(), Path::new(SAMPLE), &Overrides::default()).unwrap();
    let sample = read(SAMPLE);
    let all: String = sample
        .lines()
        .filter_map(|line| {
            let line =
                line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line);
            (!line.starts_with('#')).then(|| format!("{line}\n"))
        })
        .collect();
    let (commented, uncommented) = (load(&sample), load(&all));
    assert_eq!(commented.config, uncommented.config);
    assert_eq!(
        commented.config.show(false).lines().count(),
        2,
        "only the socket differs from the defaults"
    );
}

//--- The command line ---

/// The long and short options of a help text.
fn options(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_spf-milter")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.trim_start().starts_with('-'));
    lines
        .flat_map(|line| {
            line.split("  ")
                .find(|part| part.trim_start().starts_with('-'))
                .unwrap()
                .split([',', ' '])
        })
        .filter(|word| word.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

/// The commands of the help text.
fn commands() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_spf-milter")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let list = text.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn the_manual_has_every_option_and_command() {
    let mut real = options(&["--help"]);
    for command in commands() {
        real.extend(options(&[&command, "--help"]));
    }
    let mut documented = BTreeSet::new();
    let mut documented_commands = BTreeSet::new();
    let page = read(PROGRAM_PAGE);
    for line in page.lines().filter(|line| line.starts_with('.')) {
        let words = words(line);
        let mut at = 0;
        while let Some(word) = words.get(at) {
            if word.trim_start_matches('.') == "Fl" {
                match words.get(at + 1).map(String::as_str) {
                    Some("Fl") => {
                        documented.insert(format!("--{}", words[at + 2]));
                        at += 1;
                    }
                    Some(letter) => drop(documented.insert(format!("-{letter}"))),
                    None => panic!("{line}"),
                }
                at += 1;
            }
            at += 1;
        }
        if let [macro_name, name, ..] = &words[..]
            && macro_name == ".Ic"
        {
            documented_commands.insert(name.clone());
        }
    }
    assert_eq!(documented, real);
    let synopsis = page.split(".Sh DESCRIPTION").next().unwrap();
    for command in commands() {
        assert!(synopsis.contains(&format!(".Ic {command}\n")), "{command} is not in the synopsis");
        assert!(page.contains(&format!(".It Ic {command}\n")), "{command} is not described");
    }
    for command in synopsis.lines().filter_map(|line| line.strip_prefix(".Ic ")) {
        assert!(commands().contains(command), "{command} is not a command");
    }
}

#[test]
fn the_manual_has_every_exit_code() {
    let source = read("src/cli.rs") + &read("src/query/run.rs");
    let mut real: BTreeSet<String> = ["0".to_owned()].into();
    for line in source.lines().filter(|line| line.starts_with("const ") && line.contains(": u8 = "))
    {
        real.insert(line.rsplit("= ").next().unwrap().trim_end_matches(';').to_owned());
    }
    let page = read(PROGRAM_PAGE);
    let section = page.split(".Sh EXIT STATUS\n").nth(1).unwrap().split(".Sh ").next().unwrap();
    let documented: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix(".It ")).map(str::to_owned).collect();
    assert_eq!(documented, real);
}

//--- The log ---

/// The keys of a log line.
fn keys(line: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) =
            rest.split_once('=').unwrap_or_else(|| panic!("no pair in {rest:?} of {line:?}"));
        keys.push(key.to_owned());
        let end = match value.strip_prefix('"') {
            None => value.find(' ').unwrap_or(value.len()),
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.char_indices().find(|(_, c)| {
                    let is_end = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    is_end
                });
                end.expect("an end of the quotes").0 + 2
            }
        };
        rest = value[end..].trim_start();
    }
    keys
}

/// The lists of keys of the log in the manual, each in order: of identities, of messages, and
/// further ones.
fn documented_lists() -> Vec<Vec<String>> {
    let page = read(PROGRAM_PAGE);
    let lists =
        page.split(".\\\" log keys\n").skip(1).map(|list| list.split(".El").next().unwrap());
    lists
        .map(|list| {
            list.lines()
                .filter_map(|line| line.strip_prefix(".It Cm "))
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// All keys of the log in the manual.
fn documented_keys() -> BTreeSet<String> {
    documented_lists().into_iter().flatten().collect()
}

/// The outcomes of DKIM, DMARC and iprev, with everything that there can be.
fn full_content(reply: Reply) -> ContentRecord {
    let domain = Domain::parse("example.org").unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    ContentRecord {
        dkim: Some(vec![SignatureOutcome {
            domain: Some(domain.clone()),
            reason: Some(Reason::BodyHash),
            ..SignatureOutcome::default()
        }]),
        dmarc: Some(dmarc::Outcome {
            policy: Some(AppliedPolicy {
                published: Policy::Reject,
                tag: PolicyTag::P,
                domain: domain.clone(),
                testing: false,
            }),
            aligned: vec![Identifier::Spf(domain.clone()), Identifier::Dkim(domain.clone())],
            ..dmarc::Outcome::new(DmarcResult::Fail, Some(domain), Some(dmarc::Problem::NoFrom))
        }),
        mailfrom: Some(Arc::new(verified(Identity::Mailfrom))),
        iprev: Some(iprev::Outcome {
            name: Name::new("mail.example.org"),
            ..iprev::Outcome::out_of_time(address)
        }),
        own_policy: Some(Policy::Reject),
        causes: vec![Cause { refusal: Refusal::LocalDomain, action: MessageAction::Reject }],
        disposition: Disposition::Reject,
        exemption: Some(Exemption::MailingList),
        list: Domain::parse("lists.example.org").ok(),
        reply: Some(reply),
    }
}

/// An identity with everything that there can be.
fn verified(identity: Identity) -> Verified {
    let outcome = Outcome {
        result: SpfResult::Fail,
        mechanism: Some("all".into()),
        policy_domain: Some("other.example".into()),
        problem: Some(Problem { kind: ProblemKind::NoDomain, detail: "detail".into() }),
        lookups: 3,
        void_lookups: 1,
        ..Outcome::without_domain("detail")
    };
    Verified {
        identity,
        local_part: "amy".into(),
        domain: "example.org".into(),
        outcome: outcome.into(),
        trace: None,
    }
}

/// A record with everything that there can be.
fn full_record() -> Record {
    let reply = Reply::new("550".parse().unwrap(), "5.7.23".parse().unwrap(), "no");
    let record = |identity| IdentityRecord {
        verified: verified(identity).into(),
        action: Action::Reject,
        reply: Some(reply.clone()),
        exemption: Some(Exemption::SpfNetwork),
        is_put_off: false,
        for_dmarc: true,
        recipient: Some(Recipient::One("bob@example.org".into())),
    };
    let skipped =
        |identity| Skipped { identity, value: "x y".into(), reason: Exemption::SkippedSender };
    Record {
        queue_id: Some("4Q".into()),
        client: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        inner: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
        relay: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        helo: Some("mail.example.org".into()),
        identities: vec![record(Identity::Mailfrom), record(Identity::Helo)].into(),
        exemption: Some(Exemption::Authenticated),
        skipped: vec![skipped(Identity::Helo), skipped(Identity::Mailfrom)],
        content: Some(Box::new(full_content(reply.clone()))),
        forged_fields: 2,
        forged_tags: 1,
        dry_run: true,
        complete: true,
        ..Record::default()
    }
}

#[test]
fn the_manual_has_every_key_of_the_log_in_its_order() {
    let log = Log::keep(LogLevel::Debug);
    Observer::new(log.clone()).observe(&full_record());
    let lines = log.take_kept();
    let documented = documented_lists();
    assert_eq!(keys(&lines[0]), documented[0], "{}", lines[0]);
    let of_message = lines.iter().find(|line| line.starts_with("dmarc=")).unwrap();
    assert_eq!(keys(of_message), documented[1], "{of_message}");
    let seen: BTreeSet<String> = lines.iter().flat_map(|line| keys(line)).collect();
    assert_eq!(documented_keys(), seen);
}

/// The string literals of the first argument of each call of `pair`.
fn keys_in_source() -> BTreeSet<String> {
    let source = read("src/observe/line.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    // The first argument, or what a branch chooses for it.
    let places =
        [".pair(", ".word(", ".joined(", ".optional(", ".number(", ".address(", ".each(", "=> ("]
            .into_iter()
            .flat_map(|before| source.split(before).skip(1));
    let calls = places.map(|call| call.split([',', '\n']).next().unwrap());
    calls.flat_map(|argument| argument.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn no_key_of_the_log_is_missing_in_these_tests() {
    assert_eq!(keys_in_source(), documented_keys());
}

#[test]
fn the_manual_has_the_words_of_the_log() {
    let page = read(PROGRAM_PAGE);
    let section = plain(
        &page
            .split(".Sh LOGGING\n")
            .nth(1)
            .unwrap()
            .split("\n.Sh ")
            .next()
            .unwrap()
            .lines()
            .collect::<Vec<_>>(),
    );
    let has = |word: &str| {
        section
            .split([' ', ',', '.', ';', ':'])
            .any(|other| other == word || other.ends_with(&format!("={word}")))
    };
    use Exemption::{
        Authenticated, AuthenticatedAtRelay, DmarcDkimDomain, DmarcNetwork, ExemptRecipient,
        LocalSubmission, MailingList, NoAddress, NoDomainName, NotEnforced, Relayed, SkippedSender,
        SpfNetwork, TrustedNetwork,
    };
    let of_clients =
        [Authenticated, LocalSubmission, NoAddress, TrustedNetwork].map(Exemption::as_str);
    let of_identities =
        [NoDomainName, SkippedSender, SpfNetwork, AuthenticatedAtRelay, Relayed, ExemptRecipient]
            .map(Exemption::as_str);
    let actions = [Action::Accept, Action::Reject, Action::Tempfail].map(Action::as_str);
    let results = ["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"];
    let dispositions =
        [Disposition::None, Disposition::Quarantine, Disposition::Reject].map(Disposition::as_str);
    let from_dmarc =
        [DmarcNetwork, DmarcDkimDomain, MailingList, NotEnforced].map(Exemption::as_str);
    let of_messages = [
        Refusal::Dmarc,
        Refusal::DmarcTemperror,
        Refusal::Iprev,
        Refusal::LocalDomain,
        Refusal::MalformedAuthor,
        Refusal::Spf,
        Refusal::Unauthenticated,
    ]
    .map(Refusal::as_str);
    // Other lines have the other reasons, in words of their own.
    let reasons = [
        LogReason::SpfHelo,
        LogReason::SpfMailfrom,
        LogReason::Dmarc,
        LogReason::DmarcTemperror,
        LogReason::LocalDomain,
        LogReason::MalformedAuthor,
        LogReason::Unauthenticated,
        LogReason::Iprev,
    ]
    .map(LogReason::as_str);
    let failures = [
        Failure::NotGranted(Permission::AddFields),
        Failure::Internal(InternalError::new("a test")),
    ]
    .map(Failure::as_str);
    for word in of_clients
        .into_iter()
        .chain(of_identities)
        .chain(failures)
        .chain(actions)
        .chain(results)
        .chain(dispositions)
        .chain(from_dmarc)
        .chain(of_messages)
        .chain(["tag", "defer"])
        .chain(reasons)
    {
        assert!(has(word), "{word}");
    }
    // Why the Received fields of a relay's message name no client.
    let reasons = ["src/mail/received.rs", "src/mail/received/reason.rs"].map(read).concat();
    let reasons: Vec<&str> = reasons
        .split(" => \"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|reason| !["direct", "client", "authenticated"].contains(reason))
        .collect();
    assert!(reasons.len() >= 15, "{reasons:?}");
    for reason in reasons {
        assert!(has(reason), "{reason}");
    }
    let lines = read("src/observe/line.rs");
    for call in lines.split("pairs.pair(\"reason\", \"").skip(1) {
        let reason = call.split('"').next().unwrap();
        assert!(has(reason), "{reason}");
    }
}

/// `No` is a macro of mdoc(7), which vanishes where the first word of a quotation was meant.
#[test]
fn no_word_of_the_manual_is_taken_for_a_macro() {
    for page in [PROGRAM_PAGE, CONFIG_PAGE] {
        for line in read(page).lines().filter(|line| line.starts_with('.')) {
            assert!(
                !["Dq No ", "Ql No ", "Sq No "].iter().any(|quoted| line.contains(quoted)),
                "{page}: {line}"
            );
        }
    }
}

/// The text of a section of the manual.
fn section(name: &str) -> String {
    let page = read(PROGRAM_PAGE);
    let section =
        page.split(&format!(".Sh {name}\n")).nth(1).unwrap().split("\n.Sh ").next().unwrap();
    plain(&section.lines().collect::<Vec<_>>())
}

#[test]
fn the_manual_has_the_reasons_of_dkim() {
    use Reason::{
        Algorithm, BadTag, BodyHash, BodyNotCovered, Canonicalization, Expired,
        FieldNotSignedAsOften, FromNotSigned, Future, HeaderTooLarge, Identity, Key,
        LengthBeyondBody, MissingTag, QueryMethod, Sha1, Signature, Syntax, Times, TooManyFields,
        TooManySignatures, Version,
    };
    let reasons = [
        Algorithm,
        BadTag("TAG"),
        BodyHash,
        Canonicalization,
        Expired,
        FromNotSigned,
        Future,
        HeaderTooLarge,
        Identity,
        Key(KeyProblem::Algorithm),
        Key(KeyProblem::Hash),
        Key(KeyProblem::Revoked),
        Key(KeyProblem::Service),
        Key(KeyProblem::Syntax),
        Key(KeyProblem::TooLong(0)),
        Key(KeyProblem::TooShort(0)),
        Key(KeyProblem::Unavailable(dns::Failure::Rcode("SERVFAIL"))),
        FieldNotSignedAsOften("Subject"),
        BodyNotCovered(BodyCoverage { covered: 2, total: 3 }),
        LengthBeyondBody,
        MissingTag("TAG"),
        Key(KeyProblem::Missing),
        Key(KeyProblem::Subdomain),
        QueryMethod,
        Sha1,
        Signature,
        Syntax,
        Times,
        TooManyFields,
        TooManySignatures(1),
        Version,
    ];
    let section = section("DKIM");
    let results = ["pass", "fail", "neutral", "policy", "permerror", "temperror", "none"];
    let places = results.map(|result| {
        let page = read(PROGRAM_PAGE);
        let list = page.split(".Sh DKIM\n").nth(1).unwrap().split("\n.El").next().unwrap();
        let entry =
            list.split(&format!(".It Ql {result}\n")).nth(1).unwrap_or_else(|| panic!("{result}"));
        (result, plain(&entry.split("\n.It ").next().unwrap().lines().collect::<Vec<_>>()))
    });
    for reason in reasons {
        let text = reason.to_string().replace("2 of 3 ", "N of M ").replace(" 0 ", " N ");
        assert!(section.contains(&text), "{text}");
        let (_, entry) =
            places.iter().find(|(result, _)| *result == reason.result().as_str()).unwrap();
        assert!(entry.contains(&text), "{text} is not with {}", reason.result());
    }
    // All that there are: a variant is a line with a comment above.
    let variants = |file: &str, name: &str| {
        let source = read(file);
        let variants = source.split(&format!("pub enum {name} {{\n")).nth(1).unwrap();
        let lines = variants.split("\n}").next().unwrap().lines();
        lines.filter(|line| !line.trim_start().starts_with("//")).count()
    };
    let of_keys = variants("src/auth/signed/keys.rs", "KeyProblem");
    // `Reason::Key` stands for all of these.
    assert_eq!(variants("src/auth/dkim/outcome.rs", "Reason") - 1 + of_keys, reasons.len());
}

#[test]
fn the_manual_has_the_problems_of_dmarc() {
    let section = section("DMARC");
    let source = read("src/auth/dmarc/outcome.rs");
    let texts = source.split("impl fmt::Display for Problem").nth(1).unwrap();
    let mut count = 0;
    for text in
        texts.lines().filter(|line| line.contains("=>")).filter_map(|line| line.split('"').nth(1))
    {
        let text = text.split('{').next().unwrap().trim();
        assert!(section.contains(text), "{text}");
        count += 1;
    }
    assert!(count >= 9, "{count}");
}

#[test]
fn the_manual_has_the_words_for_problems() {
    let pages = [PROGRAM_PAGE, CONFIG_PAGE]
        .map(|page| plain(&read(page).lines().collect::<Vec<_>>()))
        .concat();
    let source = read("src/auth/spf/outcome.rs");
    let texts: Vec<&str> = source
        .lines()
        .filter(|line| line.contains(" = \""))
        .map(|line| line.split('"').nth(1).unwrap())
        .collect();
    assert!(texts.len() >= 8, "{texts:?}");
    for text in texts {
        assert!(pages.contains(text), "{text}");
    }
}

//--- The unit ---

/// The settings of a unit, without comments.
fn settings(path: &str) -> Vec<String> {
    read(path)
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains('='))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_unit_takes_rights_away_that_a_drop_in_gives_back() {
    let unit = settings("etc/spf-milter.service");
    let reload: Vec<_> = unit.iter().filter_map(|line| line.strip_prefix("ExecReload=")).collect();
    assert_eq!(reload, ["/usr/sbin/spf-milter check-config", "/bin/kill -HUP $MAINPID"]);
    for name in ["MemoryMax=", "TasksMax=", "LimitCORE=0"] {
        assert!(unit.iter().any(|line| line.starts_with(name)), "{name}");
    }
    for (name, right) in
        [("RestrictAddressFamilies=", "AF_NETLINK"), ("SystemCallFilter=", "@chown")]
    {
        let gives = |unit: &[String]| {
            unit.iter().any(|line| line.starts_with(name) && line.contains(right))
        };
        assert!(!gives(&unit) && gives(&settings("etc/names-and-groups.conf")), "{right}");
    }
    // With Type=notify-reload systemd sends the signal.
    assert_eq!(
        settings("etc/notify-reload.conf"),
        ["Type=notify-reload", "ExecReload=", "ExecReload=/usr/sbin/spf-milter check-config"]
    );
    assert!(unit.iter().any(|line| line.starts_with("WatchdogSec=")));
    // Each file of the service is installed, and described.
    let makefile = read("Makefile");
    let page = read("docs/service.md") + &read("docs/monitoring.md");
    for entry in fs::read_dir(root().join("etc")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(makefile.contains(&name), "{name}");
        assert!(name == "spf-milter.conf" || page.contains(&format!("`{name}`")), "{name}");
    }
    // Where systemd is installed it says how much is left open: 1.2 of 10.
    let path = root().join("etc/spf-milter.service");
    let measure = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=12"])
        .arg(path)
        .output();
    assert!(measure.as_ref().map_or(true, |output| output.status.success()), "{measure:?}");
}

#[test]
fn the_page_on_the_service_has_the_status_line() {
    let page = read("docs/service.md");
    let line = page.lines().find_map(|line| line.strip_prefix("Status: \"serving")).unwrap();
    let line: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
    let source = read("src/daemon/report.rs");
    let source = source.replace("{failed}", " (a reload failed, see the log)").replace("{}", "");
    assert!(source.contains(line.trim_end_matches('"')), "{line}");
}

//--- Examples ---

/// The blocks of a Markdown file: language and text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut parts = text.split("```");
    parts.next();
    let mut blocks = Vec::new();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), text.to_owned()));
    }
    blocks
}

/// The Markdown files of the project, by their paths from its root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    // A package has no `fuzz/`.
    let folders = ["", "docs/", "examples/", "fuzz/"]
        .into_iter()
        .filter(|folder| root().join(folder).exists());
    for folder in folders {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found.sort_unstable();
    assert!(found.len() >= 15, "{found:?}");
    found
}

/// Every configuration in the documents, and where it comes from.
fn configurations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents() {
        for (language, text) in blocks(&read(&document)) {
            if language == "spf-milter" {
                found.push((document.clone(), text));
            }
        }
    }
    for page in [PROGRAM_PAGE, CONFIG_PAGE] {
        let page_text = read(page);
        for block in page_text.split(".\\\" configuration\n.Bd -literal -offset indent\n").skip(1) {
            found.push((page.to_owned(), block.split(".Ed").next().unwrap().to_owned()));
        }
    }
    found
}

#[test]
fn configurations_in_the_documents_load() {
    let configurations = configurations();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (origin, text) in configurations {
        *count.entry(origin.clone()).or_default() += 1;
        // An example in part has no socket; files that it names are not here.
        let text = text
            .lines()
            .filter(|line| !line.starts_with("skip_senders_file"))
            .collect::<Vec<_>>()
            .join("\n");
        let socket = if text.contains("socket =") { "" } else { "socket = inet:127.0.0.1:8890\n" };
        let loaded = load_text(
            format!("{socket}{text}").as_bytes(),
            Path::new(&origin),
            &Overrides::default(),
        );
        let loaded = loaded.unwrap_or_else(|errors| panic!("{origin}: {errors}\n{text}"));
        // Where a dry run is shown it is meant.
        let warnings: Vec<_> = loaded
            .warnings
            .iter()
            .map(ToString::to_string)
            .filter(|text| !text.contains(": dry_run: "))
            .collect();
        assert!(warnings.is_empty(), "{origin}: {warnings:?}");
    }
    let expected = [
        ("README.md", 1),
        ("docs/configurations.md", 4),
        ("docs/postfix.md", 1),
        ("docs/sendmail.md", 1),
        (CONFIG_PAGE, 3),
    ];
    for (origin, least) in expected {
        assert!(count[origin] >= least, "{count:?}");
    }
}

/// An administrator who installs from top to bottom must not refuse mail unawares.
#[test]
fn the_first_configuration_is_a_dry_run() {
    let readme = read("README.md");
    let first =
        blocks(&readme).into_iter().find(|(language, _)| language == "spf-milter").unwrap().1;
    assert!(first.lines().any(|line| line == "dry_run = yes"), "{first}");
    let after = readme.split(&first).nth(1).unwrap();
    assert!(
        after
            .trim_start_matches(['`', '\n'])
            .starts_with("**Without the line `dry_run = yes` mail is refused"),
        "{after:.200}"
    );
    let sample = read(SAMPLE);
    let top = sample.split("### ").next().unwrap();
    assert!(
        top.contains("WITHOUT \"dry_run = yes\" MAIL IS REFUSED")
            && top.contains("#   dry_run = yes\n"),
        "{top}"
    );
}

/// `definitive_helo_results = pass` lets anybody in who has a domain with an SPF record.
#[test]
fn no_configuration_in_the_documents_believes_any_helo_name() {
    for (origin, text) in configurations() {
        let line = text.lines().find(|line| line.starts_with("definitive_helo_results"));
        assert!(line.is_none_or(|line| !line.contains("pass")), "{origin}: {text}");
    }
}

/// The text of a Markdown file without its blocks of examples.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The relative links of a Markdown file: each as it is written, its file from the project's root,
/// and its anchor.
fn links(document: &str) -> Vec<(String, PathBuf, String)> {
    let text = prose(&read(document));
    let folder = Path::new(document).parent().unwrap();
    let written = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    written
        .filter(|link| !link.contains("://"))
        .map(|link| {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { PathBuf::from(document) } else { without_dots(folder, path) };
            (link.to_owned(), target, anchor.to_owned())
        })
        .collect()
}

/// A path beside a folder, without `..` in it.
fn without_dots(folder: &Path, path: &str) -> PathBuf {
    let mut target = folder.to_owned();
    for part in path.split('/') {
        match part {
            ".." => assert!(target.pop(), "{path}"),
            part => target.push(part),
        }
    }
    target
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        for (link, target, anchor) in links(&document) {
            assert!(root().join(&target).exists(), "{document}: {link}");
            assert!(
                anchor.is_empty() || headings(&read(&target)).contains(&anchor),
                "{document}: {link}"
            );
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

/// Every document that an administrator reads can be reached from the README.
#[test]
fn the_readme_leads_to_every_document() {
    let linked: BTreeSet<PathBuf> =
        links("README.md").into_iter().map(|(_, target, _)| target).collect();
    for document in documents() {
        let is_reached = document == "README.md"
            || document.starts_with("fuzz/")
            || linked.contains(Path::new(&document));
        assert!(is_reached, "{document}");
    }
}

/// A document that is installed links only to documents that are installed too.
#[test]
fn links_work_where_make_install_puts_the_documents() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents-install");
    let target = folder.join("target");
    fs::create_dir_all(target.join("release")).unwrap();
    // `make install` installs it, whatever it is.
    fs::copy(env!("CARGO_BIN_EXE_spf-milter"), target.join("release/spf-milter")).unwrap();
    let installed = folder.join("installed");
    let output = Command::new("make")
        .arg("install")
        .args([format!("DESTDIR={}", installed.display()), format!("TARGET={}", target.display())])
        .arg("STRIP=true")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let there = installed.join("usr/local/share/doc/spf-milter");
    let mut count = 0;
    for document in documents().iter().filter(|document| there.join(document).exists()) {
        assert_eq!(fs::read_to_string(there.join(document)).unwrap(), read(document));
        for (link, target, _) in links(document) {
            assert!(there.join(&target).exists(), "{document}: {link}");
            count += 1;
        }
    }
    fs::remove_dir_all(folder).unwrap();
    assert!(count > 60, "{count}");
}

#[test]
fn files_named_in_the_documents_are_there() {
    for document in documents() {
        let text = read(&document);
        for code in text.split('`').skip(1).step_by(2) {
            let inside =
                ["src/", "tests/", "testkit/", "man/", "etc/", "docs/", "examples/", "benches/"];
            let is_path = inside.iter().any(|folder| code.starts_with(folder))
                && !code.contains([' ', '*', '{', '<'])
                && !code.contains("TARGET");
            assert!(!is_path || root().join(code).exists(), "{document}: {code}");
        }
    }
}

/// Every kind of fault in the threat model has tests: files, names of tests in them, and cases of
/// `tests/chaos/` in asterisks.
#[test]
fn tests_named_in_the_threat_model_are_there() {
    let text = read("docs/security.md");
    let table = text.split("| fault |").nth(1).unwrap();
    let chaos = source(&root().join("tests/chaos"));
    let (mut count, mut without) = (0, 0);
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        without += usize::from(cell.is_empty());
        for part in cell.split("; ").filter(|part| !part.is_empty()) {
            let code: Vec<&str> = part.split('`').skip(1).step_by(2).collect();
            if code == ["make chaos"] {
                for case in part.split('*').skip(1).step_by(2) {
                    // Cases of one kind have the kind in one place.
                    let own = case.strip_prefix("name server: ").unwrap_or(case);
                    let is_there = [case, own].map(|name| chaos.contains(&format!("\"{name}\"")));
                    assert!(is_there.contains(&true), "no case {case}");
                    count += 1;
                }
                continue;
            }
            let names: Vec<&str> =
                code.iter().filter(|word| !word.contains('/')).copied().collect();
            for path in code.iter().filter(|word| word.contains('/')) {
                let text = read(path);
                assert!(path.ends_with(".scenario") || !names.is_empty(), "{path}");
                for name in &names {
                    assert!(text.contains(&format!("fn {name}(")), "{path} has no test {name}");
                }
                count += 1;
            }
        }
    }
    assert!(count > 60, "{count}");
    assert_eq!(without, 1, "all but reports, which nothing here reads, have tests");
}

#[test]
fn commands_in_the_documents_are_there() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> =
        makefile.split("\n.PHONY: ").nth(1).unwrap().lines().next().unwrap().split(' ').collect();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let blocks = blocks(&text).into_iter().filter(|(language, _)| language == "sh");
        let in_blocks = blocks.flat_map(|(_, block)| {
            let commands = block.lines().flat_map(|line| line.split(" && "));
            commands
                .map(|command| command.trim_start_matches("sudo ").to_owned())
                .collect::<Vec<_>>()
        });
        let prose = prose(&text);
        let in_prose = prose.split('`').skip(1).step_by(2).map(str::to_owned);
        for command in in_blocks.chain(in_prose) {
            let command = command.trim_start_matches("-u spf-milter ");
            let mut words = command.split_whitespace();
            let (program, word) = (words.next(), words.next());
            let is_known = match (program, word) {
                (Some("make"), Some(target)) => target.starts_with('#') || targets.contains(target),
                (Some("spf-milter"), Some(word)) => commands().contains(word),
                _ => continue,
            };
            assert!(is_known, "{document}: {command}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// The anchors of a Markdown file.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let heading = heading.to_lowercase().replace(' ', "-");
            heading.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

#[test]
fn parameters_named_in_the_documents_are_there() {
    let known: BTreeSet<_> = parameters().iter().map(|parameter| parameter.name).collect();
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        // In the tables of names of other programs ours are in the last column, where `=` follows
        // most of them.
        for code in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.contains(" = ") || code.ends_with(" ="))
        {
            let name = code.split(" =").next().unwrap();
            let is_name =
                name.contains('_') && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let of_postfix = name.starts_with("milter_")
                || name.starts_with("smtpd_")
                || name.starts_with("non_smtpd_");
            assert!(!is_name || of_postfix || known.contains(name), "{document}: {code}");
            count += usize::from(is_name && !of_postfix);
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn the_documents_name_the_version_of_rust() {
    let manifest = read("Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(read(document).contains(&format!("Rust {version} or later")), "{document}");
    }
}

#[test]
fn the_documents_have_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{version}] - ")));
    let page = read(PROGRAM_PAGE);
    for word in ["started", "stopped"] {
        assert!(page.contains(&format!("spf-milter {version} {word}")), "{word}");
    }
    for document in ["README.md", "docs/packages.md"] {
        let text = read(document);
        let mut packages = text
            .split("spf-milter_")
            .skip(1)
            .filter(|rest| rest.lines().next().is_some_and(|line| line.contains(".deb")));
        let is_current = |rest: &str| {
            rest.starts_with(&format!("{version}-0.1_amd64.deb")) || rest.starts_with("VERSION_")
        };
        assert!(packages.all(is_current), "{document}");
        assert!(text.contains(&format!("spf-milter_{version}-0.1_amd64.deb")), "{document}");
    }
}

/// All of the source.
fn source(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { source(&path) } else { fs::read_to_string(path).unwrap() })
        .collect()
}

#[test]
fn messages_to_look_up_are_those_of_the_program() {
    let text = read("docs/troubleshooting.md");
    let source = source(&root().join("src"));
    let mut count = 0;
    // Other tables have the messages of MTAs.
    let tables = text.split("\n\n").filter(|block| block.starts_with("| log |"));
    for row in tables.flat_map(str::lines).filter(|line| line.starts_with("| `")) {
        let message = row.split('`').nth(1).unwrap();
        // The values of the program are left out: values, and names of parameters and sockets.
        let fixed = [" socket ", "unix:", "inet:", "fd:"]
            .iter()
            .fold(message.to_owned(), |message, name| message.replace(name, "="));
        let parts = fixed
            .split(['=', ':', '"', '.'])
            .map(|part| part.trim().trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '));
        for part in parts.filter(|part| part.contains(' ') && !part.contains("example")) {
            let words: Vec<&str> = part.split(' ').filter(|word| !word.contains('-')).collect();
            // The system's words.
            let is_of_system =
                ["Too many open files", "Read-only file system", "Address already in use"]
                    .contains(&part);
            if words.len() > 2 && !is_of_system {
                assert!(source.contains(part), "{message:?}: {part:?}");
                count += 1;
            }
        }
    }
    assert!(count >= 18, "{count}");
}

/// The text of the blocks of examples: in Markdown in backquotes, in the manual without its
/// macros.
fn examples() -> Vec<String> {
    let markdown = documents()
        .into_iter()
        .flat_map(|document| blocks(&read(document)))
        .filter(|(language, _)| language == "text")
        .map(|(_, text)| text);
    let page = read(PROGRAM_PAGE);
    let literal = page
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|rest| rest.split(".Ed").next().unwrap().to_owned());
    markdown.chain(literal).collect()
}

#[test]
fn fields_in_the_documents_are_as_the_program_writes_them() {
    let mut count = 0;
    for example in examples() {
        let Some(value) = example.strip_prefix("Authentication-Results:") else { continue };
        let written = auth_results::read(value.as_bytes()).unwrap().write();
        assert_eq!(format!("Authentication-Results: {}\n", written.value), example);
        count += 1;
    }
    assert!(count >= 4, "{count}");
}

#[test]
fn log_lines_in_the_manual_have_its_keys() {
    let lists = documented_lists();
    let mut count = 0;
    for example in examples() {
        let line = example.split_whitespace().collect::<Vec<_>>().join(" ");
        let list = match line.split('=').next() {
            Some("identity") => &lists[0],
            Some("dmarc") => &lists[1],
            _ => continue,
        };
        let mut rest = list.iter();
        let mut last = String::new();
        for key in keys(&line) {
            assert!(key == last || rest.any(|other| *other == key), "{key} in {line}");
            last = key;
        }
        count += 1;
    }
    assert_eq!(count, 2);
}

//--- Limits ---

/// The rows of the limits: what is bounded, the bound, and the files that have it.
fn limits() -> Vec<(String, String, Vec<String>)> {
    let text = read("docs/limits.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| {
        let [what, bound, place] = row.split(" | ").collect::<Vec<_>>().try_into().ok()?;
        let files: Vec<_> = place.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        files.first()?.starts_with("src/").then(|| (what.to_owned(), bound.to_owned(), files))
    });
    rows.collect()
}

/// The numbers of a bound: octets and counts as they are, times in milliseconds. Names in
/// backquotes and sections of RFCs have none.
fn numbers(bound: &str) -> Vec<u64> {
    let bound = bound.split(" (RFC").next().unwrap();
    let mut words: Vec<&str> =
        bound.split('`').step_by(2).flat_map(str::split_whitespace).collect();
    words.push("");
    let mut numbers = Vec::new();
    for (word, unit) in words.iter().zip(&words[1..]) {
        let bare = word.trim_matches(['(', ')', ';', ',', '.', ':']);
        let number = match *word {
            "once" if bound.contains("once a second") => "1000".into(),
            "once" if bound.contains("once a minute") => "60000".into(),
            "once" if bound.contains("once an hour") => "3600000".into(),
            _ => bare.replace(',', ""),
        };
        let Ok(number) = number.parse::<f64>() else { continue };
        let factor = match unit.trim_matches(['(', ')', ';', ',', '.', ':']) {
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "s" => 1000.0,
            "h" => 3_600_000.0,
            _ => 1.0,
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        numbers.push((number * factor) as u64);
    }
    numbers
}

/// The value of an expression of constants: numbers, products and shifts of them, times in milliseconds;
/// nothing of other ones.
fn value(expression: &str) -> Option<u64> {
    let expression = expression.trim();
    let inner = |name: &str| expression.strip_prefix(name)?.strip_suffix(')');
    if let Some(seconds) = inner("Duration::from_secs(") {
        return Some(value(seconds)? * 1000);
    }
    if let Some(millis) = inner("Duration::from_millis(") {
        return value(millis);
    }
    if let Some((one, other)) = expression.split_once("<<") {
        return Some(value(one)? << value(other)?);
    }
    if let Some((one, other)) = expression.split_once('*') {
        return Some(value(one)? * value(other)?);
    }
    expression.replace('_', "").parse().ok()
}

/// The values of the constants in a file, the ends of ranges and the parts of tuples among them.
fn constants(path: &str) -> BTreeSet<u64> {
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut values = BTreeSet::new();
    for line in code.lines().map(str::trim_start).filter(|line| line.contains("const ")) {
        let Some((_, expression)) = line.split_once(" = ") else { continue };
        let expression = expression.trim_end_matches(';');
        let tuple = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let parts = tuple.map_or(vec![expression], |parts| parts.split(", ").collect());
        let found: Vec<_> =
            parts.iter().flat_map(|part| part.split("..=")).filter_map(value).collect();
        // Some count seconds.
        let is_time = ["SKEW", "TIMEOUT"].iter().any(|word| line.contains(word));
        values.extend(found.iter().map(|value| {
            if is_time && !line.contains("Duration") { value * 1000 } else { *value }
        }));
    }
    values
}

/// Numbers that are not constants, and why.
const OTHER_NUMBERS: [(&str, &[u64], &str); 12] = [
    ("a packet", &[1], "a packet has a command"),
    ("the same for a reply that has `%{p}`", &[11], "1 and the names of a client"),
    ("a record", &[662, 32], "measured"),
    ("text of `b=` that is written", &[8], "no bound"),
    ("author domains of all From fields", &[15], "all but one"),
    ("a tree walk", &[8], "RFC 9989"),
    ("a look-up", &[10_000], "the product of two parameters"),
    ("questions of one session", &[192], "a share of the permits, which their tests have"),
    ("a reply", &[65_535], "what a length of two octets can say"),
    ("targets of CNAMEs that answers leave out", &[7], "all questions but the first"),
    ("a line of a header field", &[998], "follows from the longest token"),
    (
        "descriptors that connections leave to other things",
        &[2048],
        "four times as many as queries",
    ),
];

#[test]
fn limits_are_those_of_the_program() {
    let rows = limits();
    assert!(rows.len() > 80, "{}", rows.len());
    let mut missing = Vec::new();
    for (what, bound, files) in &rows {
        let mut known: BTreeSet<u64> = files.iter().flat_map(|file| constants(file)).collect();
        for (row, numbers, _) in OTHER_NUMBERS {
            if row == what {
                known.extend(numbers);
            }
        }
        // Defaults of parameters.
        for name in format!("{what} {bound}").split('`').skip(1).step_by(2) {
            let parameter = parameters().iter().find(|parameter| parameter.name == name);
            if let Some(default) =
                parameter.and_then(|parameter| parameter.default.text()).and_then(value)
            {
                known.insert(if name.ends_with("_secs") { default * 1000 } else { default });
            }
        }
        let unknown = numbers(bound).into_iter().filter(|number| !known.contains(number));
        missing.extend(unknown.map(|number| format!("{what}: {number} is none of {known:?}")));
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn numbers_of_limits_are_read() {
    assert_eq!(numbers("`max`, 10; 4 KiB, 2.5 s (RFC 7208 §4.6.4)"), [10, 4096, 2500]);
    assert_eq!(numbers("once a minute; 1,048,576 octets"), [60_000, 1_048_576]);
    assert_eq!(value("Duration::from_secs(24 * 60 * 60)"), Some(86_400_000));
    assert_eq!(
        (value("1 << 20"), value("20_000"), value("4 * OTHER")),
        (Some(1 << 20), Some(20_000), None)
    );
}

//--- The status ---

/// The status that the manual shows, with a value for each key.
fn shown_status() -> Status {
    let counts = |counts: &[(&str, u64)]| {
        Counts(counts.iter().map(|(name, count)| (Shown::from(*name), *count)).collect())
    };
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        time: "2026-11-27T09:30:00+01:00".into(),
        started: "2026-11-24T05:00:00+01:00".into(),
        uptime_secs: 76 * 3600,
        configuration: Configuration {
            file: "/etc/spf-milter.conf".into(),
            generation: 2,
            loaded: "2026-11-27T08:00:01+01:00".into(),
            dry_run: false,
            failed: None,
        },
        sockets: vec!["unix:/run/spf-milter/spf-milter.sock".into()],
        connections: Connections { served: 12, limit: 1000 },
        dns: Dns {
            servers: vec![NameServer {
                address: "192.0.2.53".into(),
                answers: Some(true),
                answered_secs: Some(2),
            }],
            hits: 900,
            misses: 100,
            queries: 120,
            timeouts: 3,
            errors: 1,
        },
        messages: Messages {
            since: "2026-11-27T00:00:00+01:00".into(),
            total: 1234,
            verdicts: counts(&[("accept", 1200), ("reject", 34)]),
            refused: counts(&[("spf_mailfrom", 40), ("dmarc", 34)]),
            not_enforced: Counts::default(),
            methods: vec![Method {
                method: "spf_mailfrom".into(),
                count: 1274,
                p50_ms: Some(2.5),
                p99_ms: Some(2500.0),
            }],
        },
        status_refusals: 1,
        refusals: vec![ShownRefusal {
            time: "2026-11-27T09:12:03+01:00".into(),
            reply: 550,
            reason: "dmarc".into(),
            domain: "example.com".into(),
            client: "192.0.2.1".into(),
            queue_id: "4XQ".into(),
        }],
        ..Status::default()
    }
}

/// The keys of an object of JSON, and of all in it; verdicts and reasons are not keys of ours.
fn keys_of(value: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                keys.insert(key.clone());
                if !["verdicts", "refused", "not_enforced"].contains(&key.as_str()) {
                    keys_of(value, keys);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

#[test]
fn the_manual_shows_the_status_as_it_is() {
    let page = read(PROGRAM_PAGE);
    let section = page.split("\n.Sh STATUS\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let block = section.split(".Bd -literal -offset indent\n").nth(1).unwrap();
    assert_eq!(block.split(".Ed").next().unwrap(), shown_status().to_text(false));
    let mut status = shown_status();
    status.configuration.failed = Some(FailedReload::default());
    let mut real = BTreeSet::new();
    keys_of(&serde_json::from_str(&status.to_json().unwrap()).unwrap(), &mut real);
    let documented: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm ").or_else(|| line.strip_prefix(".Cm ")))
        .flat_map(|line| line.split(' '))
        .filter(|word| word.bytes().any(|octet| octet.is_ascii_alphanumeric()))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, real);
}
