//! `spf-milter explain`.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use spf_milter::dns::zone::Zone;
use testkit::{daemon::program, nameserver::NameServer, scratch::Scratch};

const LINE: &str = "identity=mailfrom result=fail action=reject client-ip=192.0.2.1 domain=a.example \
                    envelope-from=alice@a.example helo=mail.a.example mechanism=all lookups=1 \
                    reply=\"550 5.7.23\" queue-id=4XyZ12";

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .arg("explain")
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not read what is not asked for.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn lines_are_explained() {
    let json = r#"{"identity":"mailfrom","result":"fail","action":"reject","client-ip":"192.0.2.1","lookups":1}"#;
    for (arguments, input) in [
        (vec!["--no-ask", LINE], ""),
        (vec!["--no-ask"], LINE),
        (vec!["--no-ask"], json),
        (
            vec!["--no-ask"],
            "Nov 27 08:51:02 mail spf-milter[7]: identity=mailfrom result=fail lookups=1",
        ),
        (vec!["--no-ask", "identity=mailfrom", "result=fail", "lookups=1"], ""),
    ] {
        let output = run(&arguments, input);
        let explained = text(&output);
        assert_eq!(output.status.code(), Some(0), "{explained}");
        for sentence in [
            "identity=mailfrom\n    The sender in MAIL FROM was verified with SPF.\n",
            "result=fail\n    The domain does not permit this client.\n",
            "lookups=1\n    So many terms",
        ] {
            assert!(explained.contains(sentence), "{sentence}\n{explained}");
        }
    }
}

#[test]
fn other_lines_are_refused() {
    for (arguments, input, problem) in [
        (vec!["--no-ask", "hello"], "", "no key and = at 'hello'; expected key=value pairs"),
        (vec!["--no-ask"], "", "no line on standard input (expected a line of the log)"),
        (vec!["--no-ask"], "a=b\nx\u{1b}[2J\n", "no key and = at 'x\\u{1b}[2J'"),
        (
            vec!["--no-ask", "--queue-id", "4X", "--log", "/nowhere/log"],
            "",
            "/nowhere/log: No such file",
        ),
        (
            vec!["--no-ask", "--queue-id", "4X", "--log", "/dev/null"],
            "",
            "no line about mail with queue-id=4X in /dev/null",
        ),
        (vec!["--log", "/dev/null"], "", "--queue-id"),
    ] {
        let output = run(&arguments, input);
        let found = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{found}");
        assert!(found.contains(problem), "{problem}\n{found}");
        assert!(output.stdout.is_empty() && !found.contains('\u{1b}'));
    }
}

#[test]
fn the_same_is_asked_again() {
    let scratch = Scratch::new("explain");
    let path = scratch.write(
        "conf",
        "socket = unix:/nowhere\nverify_helo = no\nverify_dkim = yes\nverify_dmarc = yes\nverify_iprev = yes\n",
    );
    let server = NameServer::start(Zone::new());
    let address = server.address().to_string();
    let ask = |zone: &str, line: &str| {
        server.set_zone(Zone::parse(zone).unwrap());
        let output = run(&["-c", path.to_str().unwrap(), "--nameserver", &address, line], "");
        let explained = text(&output);
        let (_, again) = explained.split_once("\nAsked again today:\n").unwrap();
        (again.to_owned(), output.status.code().unwrap())
    };
    let message = "dmarc=fail iprev=fail action=accept author-domain=a.example policy=none \
                   policy-domain=a.example disposition=none spf=fail spf-domain=b.example \
                   envelope-from=u@b.example client-ip=192.0.2.1";
    let same = "a.example TXT \"v=spf1 -all\"";
    for (zone, line, expected, code) in [
        (
            same,
            LINE,
            "SPF of a.example: then fail, and the same now.\nThe term: then all, and the same now.\n",
            1,
        ),
        (
            "a.example TXT \"v=spf1 ip4:192.0.2.1 -all\"",
            LINE,
            "SPF of a.example: then fail, now pass: the record has changed, or what it leads to.\n\
             The term: then all, now ip4:192.0.2.1: the record has changed, or what it leads to.\n",
            0,
        ),
        (
            "",
            LINE,
            "SPF of a.example: then fail, now none: the domain has no record any more.\n",
            0,
        ),
        (
            "a.example TXT !servfail",
            LINE,
            "SPF of a.example: then fail, now temperror: DNS has trouble now, which may go away.\n",
            75,
        ),
        (
            "b.example TXT \"v=spf1 ~all\"\n_dmarc.a.example TXT \"v=DMARC1; p=reject\"\n192.0.2.1 PTR a.example\na.example A 192.0.2.1",
            message,
            "SPF of b.example: then fail, now softfail: the record has changed, or what it leads to.\n\
             DMARC: then fail, and the same now.\n\
             The DMARC policy: then none, now reject: the DMARC record has changed.\n\
             The client's name: then fail, now pass: the names of the client's address have changed, or DNS had trouble.\n",
            0,
        ),
        (
            same,
            "identity=helo result=none action=accept client-ip=192.0.2.1 domain=h.example helo=h.example",
            "SPF of h.example: then none; with today's configuration it is not verified.\n",
            0,
        ),
        (
            "192.0.2.1 PTR a.example\na.example A 192.0.2.1",
            "iprev=pass client-name=a.example action=accept client-ip=192.0.2.1",
            "The client's name: then pass; that cannot be asked again without the message.\n",
            0,
        ),
        (
            "b.example TXT \"v=spf1 ip4:192.0.2.1 -all\"",
            "dmarc=permerror action=accept spf=pass spf-domain=b.example envelope-from=u@b.example \
             problem=\"no From field\" client-ip=192.0.2.1 dkim=none",
            "SPF of b.example: then pass, and the same now.\n\
             DMARC: then permerror; that cannot be asked again without the message.\n",
            0,
        ),
        (
            same,
            "action=exempt reason=trusted-network client-ip=192.0.2.1",
            "Nothing was asked for this line.\n",
            0,
        ),
        (
            same,
            &format!(
                "identity=mailfrom result=none action=accept client-ip=192.0.2.1 domain=x envelope-from={}...",
                "x".repeat(512)
            ),
            "The value of envelope-from was cut, so that it cannot be asked again.\n",
            0,
        ),
    ] {
        let (again, found) = ask(zone, line);
        assert_eq!(again, expected, "{line}");
        assert_eq!(found, code, "{line}");
    }
    let signed = format!("{message} dkim=a.example/s:pass");
    assert!(ask(same, &signed).0.contains("cannot be verified without the message"));
}

#[test]
fn lines_are_found_by_their_queue_id() {
    let scratch = Scratch::new("log");
    let other = LINE.replace("4XyZ12", "4XyZ123");
    let log = [
        format!("2026-11-27T08:51:02.123456+00:00 mail spf-milter[7]: {LINE}"),
        format!("2026-11-27T08:51:02.123456+00:00 mail spf-milter[7]: {other}"),
        "2026-11-27T08:51:02.123456+00:00 mail postfix/smtpd[9]: 4XyZ12: client=x".to_owned(),
        "\u{fffd}4XyZ12".to_owned(),
        "Nov 27 08:51:02 mail spf-milter[7]: action=accept client-ip=192.0.2.1 queue-id=4XyZ12 dkim=none".to_owned(),
        format!("Nov 27 08:51:02 mail spf-milter[7]: helo=\"queue-id=4XyZ12\" {}", "x".repeat(400_000)),
    ];
    let path = scratch.write("log", log.join("\n"));
    let output = run(&["--no-ask", "--queue-id", "4XyZ12", "--log", path.to_str().unwrap()], "");
    let explained = text(&output);
    assert_eq!(explained.matches("queue-id=4XyZ12\n").count(), 2, "{explained}");
    assert_eq!(explained.matches("dkim=none\n").count(), 1);
    let many = vec![LINE; 30].join("\n");
    let path = scratch.write("log", many);
    let output = run(&["--no-ask", "--queue-id", "4XyZ12", "--log", path.to_str().unwrap()], "");
    let explained = text(&output);
    assert_eq!(explained.matches("queue-id=4XyZ12\n").count(), 20);
    assert!(explained.ends_with("There are more lines; these are the first 20.\n"));
}

#[test]
fn nothing_in_a_line_reaches_the_terminal() {
    let line = "identity=helo result=none action=accept helo=\"a\\u{1b}[31m\u{202e}\u{200b}b\"";
    let explained = text(&run(&["--no-ask", line], ""));
    assert!(explained.contains("helo=a\\u{1b}[31m\\u{202e}\\u{200b}b\n"), "{explained}");
}
