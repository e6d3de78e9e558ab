//! Answers of DNS, recorded and given again.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use proptest::prelude::*;
use spf_milter::{
    config::{Config, Overrides, load_text},
    dns::{
        Dns,
        recorded::{Recording, Replay},
        zone::Zone,
    },
    query::{Finding, Question, RecordFile, ask},
    runtime::{Clock, Runtime},
};
use testkit::{
    daemon::program,
    drivers::query::questions,
    nameserver::NameServer,
    scenario::{HOST, Scenario},
    scratch::Scratch,
};

/// The time at which everything is asked.
const TIME: u64 = 1_795_770_000;

fn config(text: &str) -> Config {
    load_text(text.as_bytes(), Path::new("test"), &Overrides::default()).unwrap().config
}

/// Asks, with a clock that stands still while there is something to do.
fn find(question: &Question, config: Config, dns: Dns) -> Option<Finding> {
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    executor.block_on(async {
        let mut runtime = Runtime::new(config, dns, HOST.into(), 0);
        (runtime.clock, runtime.traces) = (Clock::Fixed(TIME), true);
        ask(question, &runtime).await.ok()
    })
}

/// Asks a zone, writes what it answered, reads it again, and asks that: the findings are the same.
/// Returns how many questions DNS had, where the question has an answer.
fn compare(question: &Question, text: &str, zone: &Arc<Zone>) -> Option<usize> {
    let recording = Arc::new(Recording::default());
    let dns = Dns::from_zone(Arc::clone(zone)).recording(&recording);
    let first = find(question, config(text), dns)?;
    let file = RecordFile {
        question: Question { message: None, ..question.clone() },
        time: TIME,
        host: HOST.into(),
        configuration: config(text).show(false),
        configuration_line: 0,
        files: Vec::new(),
        entries: recording.entries(),
    };
    let written = file.to_string();
    let read = RecordFile::parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    let replay = Arc::new(Replay::new(read.entries));
    let question = Question { message: question.message.clone(), ..read.question };
    let again = find(&question, config(&read.configuration), Dns::from_replay(&replay));
    assert_eq!(again.as_ref(), Some(&first), "{written}");
    assert_eq!(replay.missing(), [], "{written}");
    Some(file.entries.iter().count())
}

#[test]
fn scenarios_come_out_as_when_they_were_recorded() {
    let (mut asked, mut answers) = (0, 0);
    for scenario in Scenario::read_all(&testkit::root().join("tests/scenarios")) {
        let zone = Arc::new(Zone::parse(&scenario.zone).unwrap());
        for (lines, question) in questions(&scenario) {
            let config = format!("socket = unix:/nowhere\n{lines}");
            if let Some(count) = compare(&question, &config, &zone) {
                asked += 1;
                answers += count;
            }
        }
    }
    assert!(asked > 300 && answers > 300, "{asked} questions, {answers} answers");
}

fn any_zone() -> impl Strategy<Value = String> {
    let name = "(_dmarc\\.)?([abc]\\.)?[abc]\\.example";
    let record = "v=spf1( (a|mx|ptr|a:[abc]\\.example|mx:[abc]\\.example|include:[abc]\\.example|\
                  exists:%\\{i\\}\\.[abc]\\.example|ip4:192\\.0\\.2\\.9|redirect=[abc]\\.example)){0,4}( [-~?+]all)?";
    let dmarc = "v=DMARC1; p=(none|quarantine|reject)(; sp=none)?(; np=reject)?(; psd=[yn])?";
    let line = prop_oneof![
        (name, record).prop_map(|(name, record)| format!("{name} TXT \"{record}\"")),
        (name, dmarc).prop_map(|(name, record)| format!("{name} TXT \"{record}\"")),
        (name, "192\\.0\\.2\\.[1-3]").prop_map(|(name, address)| format!("{name} A {address}")),
        (name, name).prop_map(|(name, host)| format!("{name} MX 10 {host}")),
        (name, name).prop_map(|(name, host)| format!("{name} CNAME {host}")),
        name.prop_map(|host| format!("192.0.2.1 PTR {host}")),
        (name, "(TXT|A|MX|\\*)", "!(timeout|servfail|refused|nxdomain|nodata|silence)")
            .prop_map(|(name, kind, failure)| format!("{name} {kind} {failure}")),
    ];
    prop::collection::vec(line, 0..16).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn findings_on_any_zone_come_out_as_when_they_were_recorded(
        zone in any_zone(),
        helo in "[abc]\\.example",
        sender in "<(u@([abc]\\.)?[abc]\\.example)?>",
        author in "([abc]\\.)?[abc]\\.example",
    ) {
        let config = "socket = unix:/nowhere\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n\
                      reject_results =\nreject_helo_results =\n";
        let message = format!("From: u@{author}\nList-Id: <l.a.example>\n\nText\n").into_bytes();
        let question = Question {
            ip: Some([192, 0, 2, 1].into()),
            helo: Some(helo),
            mail_from: Some(sender.into_bytes()),
            message: Some(message),
            ..Question::default()
        };
        let zone = Arc::new(Zone::parse(&zone).unwrap());
        prop_assert!(compare(&question, config, &zone).is_some_and(|count| count > 1));
    }
}

const ZONE: &str = r#"
fail.example         TXT "v=spf1 include:net.example mx:gone.example ~all"
net.example          TXT "v=spf1 ip4:203.0.113.0/24 ptr -all"
weak.example         TXT "v=spf1 +all"
twice.example        TXT "v=spf1 a"
twice.example        TXT "v=spf1 mx"
bad.example          TXT "v=spf1 ipv4:192.0.2.1 -all"
broken.example       TXT !servfail
_dmarc.fail.example  TXT "v=DMARC1; p=none"
1.2.0.192.in-addr.arpa PTR !servfail
"#;

const CONFIG: &str = "socket = unix:/nowhere\nverify_helo = no\nverify_dkim = yes\nverify_dmarc = yes\n\
                      reject_results = fail\nhostname = secret-host.example\nauthserv_id = secret-id.example\n";

struct Site {
    scratch: Scratch,
    server: NameServer,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new("recorded");
        scratch.write("conf", CONFIG);
        Self { scratch, server: NameServer::start(Zone::parse(ZONE).unwrap()) }
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).to_str().unwrap().to_owned()
    }

    fn query(&self, arguments: &[&str]) -> Output {
        let (config, server) = (self.path("conf"), self.server.address().to_string());
        let asking = ["query", "-c", &config, "--nameserver", &server, "--ip", "192.0.2.1"];
        run(&[&asking, arguments].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).env("LC_ALL", "C.UTF-8").output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_record_takes_the_place_of_name_servers() {
    let mut site = Site::new();
    let record = site.path("record");
    let first = site.query(&["--mail-from", "a@fail.example", "--dns-record", &record]);
    let written = fs::read_to_string(&record).unwrap();
    assert!(written.starts_with("spf-milter dns-record 1\n"), "{written}");
    assert!(written.contains("\nip = 192.0.2.1\nhost = "), "{written}");
    assert!(written.contains("\nmail-from = \"<a@fail.example>\"\n[configuration]\n"), "{written}");
    assert!(written.contains("gone.example MX !NXDOMAIN\n"), "{written}");
    let server = format!("1.2.0.192.in-addr.arpa PTR !SERVFAIL ({})\n", site.server.address());
    assert!(written.contains(&server), "{written}");
    // No name server is left to be asked.
    site.server = NameServer::start(Zone::new());
    let again = run(&["query", "--dns-replay", &record]);
    assert_eq!(again.status.code(), first.status.code());
    // The place of the parameter that decides is another.
    let rest = |text: String| {
        let lines = text.lines().filter(|line| !line.contains("decided by"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rest(text(&again)), rest(text(&first)));
    assert_eq!(site.server.total(), 0);
    // What the record does not have is named.
    let other = run(&["query", "--dns-replay", &record, "--mail-from", "a@other.example"]);
    assert_eq!(other.status.code(), Some(69));
    let problem = String::from_utf8(other.stderr).unwrap();
    assert!(problem.contains("has no answer for TXT other.example\n"), "{problem}");
    // A line can be changed to ask what would be.
    let permitted = written.replace("ip4:203.0.113.0/24", "ip4:192.0.2.0/24");
    fs::write(&record, permitted).unwrap();
    assert!(text(&run(&["query", "--dns-replay", &record])).starts_with("accept"));
}

/// What a record repeats of a message is shown with its line in the message, as it was at first.
#[test]
fn a_message_has_its_lines_again() {
    let site = Site::new();
    let (record, config) = (site.path("record"), site.path("conf"));
    let message = site.scratch.write(
        "message",
        "Return-Path: <a@fail.example>\n\
         Received: from mail.example.com (unknown [192.0.2.1]) by mx.example.net (Postfix) with ESMTPSA id 4X;\n\
         \tFri, 27 Nov 2026 08:00:00 +0000\n\
         From: a@fail.example\n\nText\n",
    );
    let message = message.to_str().unwrap();
    fs::write(&config, format!("{CONFIG}trust_authenticated_senders = no\n")).unwrap();
    let server = site.server.address().to_string();
    let asking = ["query", "--message", message, "--received-by", "mx.example.net"];
    let first = [&asking, &["-c", &config, "--nameserver", &server, "--dns-record", &record][..]];
    let replay = ["query", "--message", message, "--dns-replay", &record];
    let shown = |arguments: &[&str]| {
        let text = text(&run(arguments));
        let lines = text.lines().filter(|line| line.contains("(line "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = shown(&first.concat());
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(shown(&replay), lines);
    // What is asked about instead is not in the message.
    let other = shown(&[&replay[..], &["--mail-from", "b@fail.example"]].concat());
    assert_eq!(other.len(), 4, "{other:?}");
}

/// A record is complete where the configuration names files, and gives no others to somebody who has
/// a record of a stranger.
#[test]
fn a_record_has_the_files_that_the_configuration_names() {
    let site = Site::new();
    let (record, config) = (site.path("record"), site.path("conf"));
    let file = |name: &str, content: &str| site.scratch.write(name, content).display().to_string();
    let networks = file("networks", "# Ours.\n\n198.51.100.0/24\n  192.0.2.0/24 \n");
    let senders = file("senders", "fail.example\n");
    let lists = |exempt: &str| {
        format!(
            "socket = unix:/nowhere\nspf_exempt_networks = {exempt}\nskip_senders_file = {senders}\n"
        )
    };
    fs::write(&config, lists(&format!("203.0.113.0/24, file:{networks}"))).unwrap();
    let ask = || site.query(&["--mail-from", "a@fail.example", "--dns-record", &record]);
    let first = ask();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let written = fs::read_to_string(&record).unwrap();
    let section = format!("[file \"{networks}\"]\n| 198.51.100.0/24\n| 192.0.2.0/24\n");
    assert!(written.contains(&section), "{written}");
    for path in [&networks, &senders] {
        fs::remove_file(path).unwrap();
    }
    let again = run(&["query", "--dns-replay", &record]);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(text(&again).lines().next(), text(&first).lines().next());
    // What is not in the record is not read.
    let other = file("secret", "root:x:0\n");
    fs::write(&record, written.replace(&format!("= {senders}"), &format!("= {other}"))).unwrap();
    let refused = run(&["query", "--dns-replay", &record]);
    let problem = String::from_utf8(refused.stderr).unwrap();
    assert!(problem.contains("not in the record") && !problem.contains("root:x"), "{problem}");
}

#[test]
fn bad_records_are_refused_at_their_line() {
    let scratch = Scratch::new("bad-record");
    let beginning =
        "spf-milter dns-record 1\n[question]\ntime = 1\nip = 192.0.2.1\n[configuration]\n";
    for (content, code, problem) in [
        ("", 64, "line 1: expected 'spf-milter dns-record 1'".to_owned()),
        (
            &*format!("{beginning}socket = unix:/x\n[dns]\na A x\n"),
            64,
            "line 8: 'x' is not an IPv4 address".into(),
        ),
        (&*format!("{beginning}socket = unix:/x\nverify = 1\n[dns]\n"), 78, "record:7:".into()),
    ] {
        let path = scratch.write("record", content);
        let output = run(&["query", "--dns-replay", path.to_str().unwrap()]);
        let found = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{found}");
        assert!(found.contains(&problem), "{problem}: {found}");
    }
    let missing = run(&["query", "--dns-replay", "/nowhere/record"]);
    assert_eq!(missing.status.code(), Some(64));
}

#[test]
fn steps_are_traced() {
    let site = Site::new();
    let trace = text(&site.query(&["--mail-from", "a@fail.example", "--trace"]));
    let lines: Vec<&str> =
        trace.lines().skip_while(|line| !line.starts_with("SPF of mailfrom")).collect();
    // Milliseconds differ.
    let lines: Vec<&str> = lines.iter().map(|line| line.split(" (0.").next().unwrap()).collect();
    for (line, expected) in lines.iter().zip([
        "SPF of mailfrom a@fail.example",
        "  fail.example: record v=spf1 include:net.example mx:gone.example ~all",
        "  fail.example: include:net.example (look-ups: 1 of 10, void: 0 of 2)",
        "    net.example: record v=spf1 ip4:203.0.113.0/24 ptr -all",
        "    net.example: ip4:203.0.113.0/24 does not match",
        "    net.example: PTR 1.2.0.192.in-addr.arpa: SERVFAIL",
        "    net.example: ptr does not match (look-ups: 2 of 10, void: 0 of 2)",
        "    net.example: -all matches: fail",
        "  fail.example: include:net.example does not match, its record gives fail",
        "  fail.example: MX gone.example: NXDOMAIN",
        "  fail.example: mx:gone.example does not match (look-ups: 3 of 10, void: 1 of 2)",
        "  fail.example: ~all matches: softfail",
        "  fail.example: result softfail",
    ]) {
        assert!(line.starts_with(expected), "{line}\n{expected}\n{trace}");
    }
    assert!(trace.contains(" ms)\n"), "{trace}");
    let message = site.scratch.write("message", "From: a@fail.example\n\nText\n");
    let message = message.to_str().unwrap();
    let trace =
        text(&site.query(&["--mail-from", "a@fail.example", "--message", message, "--trace"]));
    for line in [
        "DMARC of fail.example\n  asked TXT _dmarc.fail.example (",
        "\n    v=DMARC1; p=none\n  the record of fail.example applies, that of the author domain\n  policy none, of p=none\n",
        "\n  SPF fail.example: did not pass, aligned (relaxed)\n  result fail\n",
    ] {
        assert!(trace.contains(line), "{line}\n{trace}");
    }
}

#[test]
fn signatures_are_traced_and_explained_to_their_sender() {
    let site = Site::new();
    let keys = fs::read_to_string(testkit::root().join("tests/dkim/zone")).unwrap();
    site.server.set_zone(Zone::parse(&format!("{ZONE}{keys}")).unwrap());
    let good = testkit::root().join("tests/dkim/r2048-relaxed-relaxed.eml");
    let mut changed = fs::read(&good).unwrap();
    changed.extend_from_slice(b"-- \r\nfooter\r\n");
    let changed = site.scratch.write("changed", changed);
    let ask = |path: &Path, option| {
        let path = path.to_str().unwrap();
        text(&site.query(&["--mail-from", "a@weak.example", "--message", path, option]))
    };
    let trace = ask(&good, "--trace");
    for line in [
        "DKIM signature 1: example.com, selector r2048\n  v=1\n",
        "\n  key TXT r2048._domainkey.example.com (",
        "\n    v=DKIM1; k=rsa; p=MII",
        "\n  key of 2048 bits\n",
        ", as signed\n",
        "\n  the key verifies the signature of these fields\n  result pass\n",
    ] {
        assert!(trace.contains(line), "{line}\n{trace}");
    }
    let trace = ask(&changed, "--trace");
    for line in [
        ", signed was another\n",
        "\n  the key verifies the signature of these fields\n  result fail: body hash did not verify\n",
    ] {
        assert!(trace.contains(line), "{line}\n{trace}");
    }
    let paragraph = ask(&changed, "--for-sender").replace('\n', " ");
    assert!(
        paragraph.contains(
            "The DKIM signature of example.com (selector r2048) does not verify: \
             the body was changed after it was signed."
        ),
        "{paragraph}"
    );
    assert!(!ask(&good, "--for-sender").contains("signature"));
}

/// Each text has what is wrong, and nothing of this site.
#[test]
fn senders_are_told_what_is_wrong() {
    let site = Site::new();
    for (sender, expected, absent) in [
        (
            "a@fail.example",
            vec![
                "with the sender a@fail.example in MAIL FROM; DNS as of 20",
                "SPF gives softfail: the record of fail.example does not list 192.0.2.1 as a sender \
                 (no term before \"all\" matches).",
                "The SPF record leads to names that DNS has nothing for: gone.example (MX).",
            ],
            vec!["ptr", "DMARC", "DKIM", "look-ups"],
        ),
        (
            "a@weak.example",
            vec![
                "The SPF record of weak.example has \"+all\", which permits every host in the world.",
            ],
            vec!["fail", "nothing wrong"],
        ),
        (
            "a@twice.example",
            vec![
                "SPF of twice.example cannot be evaluated: more than one SPF record at twice.example.",
            ],
            vec![],
        ),
        ("a@bad.example", vec!["SPF of bad.example cannot be evaluated: "], vec!["permit"]),
        (
            "a@broken.example",
            vec![
                "SPF of broken.example could not be evaluated, because DNS gave: TXT broken.example: SERVFAIL.",
            ],
            vec!["127.0.0.1"],
        ),
        ("a@none.example", vec!["none.example has no SPF record."], vec![]),
    ] {
        let output = site.query(&["--mail-from", sender, "--for-sender"]);
        let written = text(&output);
        assert!(written.lines().all(|line| line.len() <= 72), "{written}");
        let paragraph = written.replace('\n', " ");
        for sentence in expected {
            assert!(paragraph.contains(sentence), "{sentence}\n{paragraph}");
        }
        for word in absent.into_iter().chain(["secret", "spf-milter", "_results", "/nowhere"]) {
            assert!(!paragraph.contains(word), "{word}\n{paragraph}");
        }
    }
    // Where nothing is wrong, nothing is made up.
    site.server.set_zone(Zone::parse("ok.example TXT \"v=spf1 ip4:192.0.2.1 -all\"").unwrap());
    let paragraph = text(&site.query(&["--mail-from", "a@ok.example", "--for-sender"]));
    assert!(
        paragraph.replace('\n', " ").ends_with(". We found nothing wrong with that. "),
        "{paragraph}"
    );
}

/// Names that are there for some clients only are none that the record leads to in vain.
#[test]
fn names_that_need_not_be_there_are_not_wrong() {
    let site = Site::new();
    let hosts = "six.example AAAA 2001:db8::1\n";
    for (record, names) in [
        ("exists:%{i}.d.example ?exists:%{l}.d.example", None),
        ("exists:%{i}.d.example a:gone.example", Some("gone.example (A)")),
        ("a:six.example", None),
        ("mx:six.example", Some("six.example (MX)")),
        (
            "exists:a.d.example exists:b.d.example a:six.example",
            Some("a.d.example (A), b.d.example (A), six.example (A)"),
        ),
    ] {
        let zone = format!("d.example TXT \"v=spf1 {record} -all\"\n{hosts}");
        site.server.set_zone(Zone::parse(&zone).unwrap());
        let asked = ["--mail-from", "a@d.example", "--for-sender"];
        let written = text(&site.query(&asked)).replace('\n', " ");
        let expected = names.map(|names| format!("that DNS has nothing for: {names}. "));
        assert_eq!(written.contains("has nothing for"), expected.is_some(), "{record}: {written}");
        assert!(expected.is_none_or(|names| written.ends_with(&names)), "{record}: {written}");
    }
}

/// A policy that nobody published is not said to be.
#[test]
fn an_assumed_policy_is_told_from_a_published_one() {
    let site = Site::new();
    for (record, trace, paragraph) in [
        (
            "p=none; rua=mailto:a@a.example",
            "policy none, of p=none\n",
            "of d.example is p=none: it asks",
        ),
        (
            "p=nothing; rua=mailto:a@a.example",
            "policy none, because p=, sp= or np= of the record cannot be used\n",
            "of d.example has no policy that can be used",
        ),
        (
            "p=reject; sp=x; rua=mailto:a@a.example",
            "policy none, because p=, sp= or np= of the record cannot be used\n",
            ", and counts as p=none. ",
        ),
        ("p=reject; sp=none", "policy reject, of p=reject\n", "DMARC fails for d.example"),
        ("p=none; sp=reject", "policy none, of p=none\n", "of d.example is p=none: it asks"),
    ] {
        let zone =
            format!("d.example TXT \"v=spf1 -all\"\n_dmarc.d.example TXT \"v=DMARC1; {record}\"");
        site.server.set_zone(Zone::parse(&zone).unwrap());
        let asked = [
            "--mail-from",
            "a@d.example",
            "--as",
            "reject_results=",
            "--as",
            "author-domain=d.example",
        ];
        let traced = text(&site.query(&[&asked[..], &["--trace"]].concat()));
        assert!(traced.contains(trace), "{traced}");
        let written =
            text(&site.query(&[&asked[..], &["--for-sender"]].concat())).replace('\n', " ");
        assert!(written.contains(paragraph), "{written}");
        assert_eq!(written.contains("is p=none"), paragraph.contains("is p=none"), "{written}");
    }
    let zone = "_dmarc.d.example TXT \"v=DMARC1; p=reject; sp=none\"\nb.d.example TXT \"x\"";
    site.server.set_zone(Zone::parse(zone).unwrap());
    let asked = ["--mail-from", "a@d.example", "--as", "author-domain=b.d.example", "--for-sender"];
    let written = text(&site.query(&asked)).replace('\n', " ");
    assert!(written.contains("The DMARC policy of d.example is sp=none: it asks"), "{written}");
}

/// Neither a relay nor an inner address is the sender's host.
#[test]
fn senders_are_told_of_the_client_that_was_verified() {
    let site = Site::new();
    let relayed = "Received: from away.example (away.example [198.51.100.7])\n by relay.example with ESMTP\n\
                   From: a@fail.example\n\n";
    let nobody = "Received: by relay.example (Postfix, from userid 0)\nFrom: a@fail.example\n\n";
    for (setting, message, client) in [
        (
            "trusted_relays=192.0.2.1",
            relayed,
            " from 198.51.100.7, which calls itself away.example,",
        ),
        ("trusted_relays=192.0.2.1", nobody, ","),
        (
            "client_map=192.0.2.1=198.51.100.7 out.example",
            relayed,
            " from 198.51.100.7, which calls itself out.example,",
        ),
    ] {
        let message = site.scratch.write("message", message);
        let message = message.to_str().unwrap();
        let client_said = ["--helo", "in.example", "--mail-from", "a@fail.example"];
        let asked = ["--message", message, "--as", setting, "--for-sender"];
        let written = text(&site.query(&[&client_said[..], &asked].concat())).replace('\n', " ");
        let begin = format!("We looked at mail{client} with the sender a@fail.example ");
        assert!(written.starts_with(&begin), "{written}");
        assert!(!written.contains("192.0.2.1 "), "{written}");
        let is_named = written.contains("does not list 198.51.100.7 as a sender");
        assert_eq!(is_named, client != ",", "{written}");
        assert!(!written.contains("no domain that could"), "{written}");
    }
}
