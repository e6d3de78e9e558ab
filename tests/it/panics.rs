//! A panic of the daemon: it costs one message, and the log has where it was.

use std::{
    backtrace::Backtrace,
    env,
    io::{Read as _, Write as _},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::{MilterClient, Reply, Stream},
    nameserver::NameServer,
    wait_for,
};

const ZONE: &str = r#"
    example.com TXT "v=spf1 ip4:192.0.2.1 -all"
    mail.example.com TXT "v=spf1 ip4:192.0.2.1 -all"
    panic-at-look-up.example TXT "v=spf1 -all"
"#;

/// An ordinary message, with one word of it replaced: the answers to MAIL FROM and to the end. An
/// error means that the connection was closed.
fn message(client: &mut MilterClient, event: &str) -> std::io::Result<(Reply, Option<Reply>)> {
    let word = |at: &str, usual: &str| {
        if at == event { format!("panic-at-{event}{usual}") } else { usual.to_owned() }
    };
    let address = Some("192.0.2.1:25000".parse().unwrap());
    client.macros.insert("i".into(), word("end", "4X"));
    client.macros.insert("j".into(), word("connect", "mx.example.org"));
    client.connect("mail.example.com", address)?;
    client.helo(word("helo", "mail.example.com"))?;
    let sender = match event {
        "look-up" => "<amy@panic-at-look-up.example>".to_owned(),
        _ => format!("<{}@example.com>", word("mail", "amy")),
    };
    let mail = client.mail(sender)?;
    if mail != Reply::Continue {
        return Ok((mail, None));
    }
    let fields = [
        Field::new("From", " amy@example.com"),
        Field::new("Subject", format!(" {}", word("header", "x"))),
    ];
    let end = client.message(&fields, format!("{}\r\n", word("body", "hello")).as_bytes())?;
    assert!(end.reply != Reply::Continue || !end.edits.is_empty());
    Ok((mail, Some(end.reply)))
}

/// Whether the program under test is one that panics where it is asked to.
fn can_panic() -> bool {
    cfg!(debug_assertions) && env::var_os("SPF_MILTER_BIN").is_none()
}

#[test]
fn a_panic_costs_one_message_and_is_logged_with_its_backtrace() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config =
        format!("nameservers = {}\nverify_dkim = yes\nverify_dmarc = yes\n", nameserver.address());
    for event in ["connect", "helo", "mail", "look-up", "header", "body", "end"] {
        // Each with a daemon of its own: backtraces are logged once in a while.
        let daemon = Daemon::launch(&config, |command| {
            command.env("SPF_MILTER_PANICS", "1");
        })
        .unwrap();
        let mut beside = daemon.client();
        beside.connect("mail.example.com", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
        beside.helo("mail.example.com").unwrap();
        assert_eq!(beside.mail("<amy@example.com>").unwrap(), Reply::Continue);
        let descriptors = daemon.descriptors();

        let mut client = daemon.client();
        let answers = message(&mut client, event).ok();
        if !can_panic() {
            let refused = event == "look-up";
            assert_eq!(answers.is_some_and(|answers| answers.1.is_none()), refused, "{event}");
            continue;
        }
        match event {
            // There is no session yet: the MTA does as when the milter is gone.
            "connect" => assert_eq!(answers, None),
            "helo" | "mail" => assert_eq!(answers, Some((Reply::Tempfail, None)), "{event}"),
            // The name is one without an answer.
            "look-up" => assert!(
                matches!(&answers, Some((Reply::Code(text), None)) if text.starts_with("451 ")),
                "{answers:?}"
            ),
            _ => assert_eq!(answers, Some((Reply::Continue, Some(Reply::Tempfail))), "{event}"),
        }
        let log = |words: &[&str]| daemon.wait_for_log(words);
        log(&["error: internal error: panicked at src/", &format!("provoked at {event}")]);
        // Names, or addresses where the program is without symbols, as the tests are then too.
        if Backtrace::force_capture().to_string().contains("it::panics::") {
            log(&["internal error: called by ", "panic_where_asked"]);
        } else {
            log(&["internal error: called by 0x"]);
        }
        // Nothing else: the same connection, if there still is one, and a session beside it.
        if event != "connect" {
            client.quit_for_next().unwrap();
            let answers = message(&mut client, "").unwrap();
            assert_eq!(answers, (Reply::Continue, Some(Reply::Continue)), "{event}");
        }
        assert_eq!(beside.message(&[], b"").unwrap().reply, Reply::Continue);
        drop(client);
        wait_for("descriptors", || (daemon.descriptors() <= descriptors + 2).then_some(()));

        // A panic again and again has one backtrace in a while.
        for _ in 0..20 {
            let _ = message(&mut daemon.client(), event);
        }
        let (status, log) = daemon.stop();
        assert!(status.success(), "{log}");
        let begins = |word: &str| -> Vec<usize> {
            let lines = log.lines().enumerate().filter(|(_, line)| line.contains(word));
            lines.map(|(number, _)| number).collect()
        };
        let (panics, functions) = (begins("panicked at"), begins("called by"));
        assert!(panics.len() >= 21 && (2..=32).contains(&functions.len()), "{log}");
        assert!(functions.iter().all(|line| (panics[0]..panics[1]).contains(line)), "{log}");
    }
}

/// The work beside that on a message: its record, its end without an answer, a page, the log.
#[test]
fn a_panic_beside_a_message_costs_no_message() {
    if !can_panic() {
        return;
    }
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config =
        format!("nameservers = {}\nmetrics_socket = inet:127.0.0.1:0\n", nameserver.address());
    for event in ["abort", "close", "record", "page", "write"] {
        let daemon = Daemon::launch(&config, |command| {
            command.env("SPF_MILTER_PANICS", "1");
        })
        .unwrap();
        let ask = |path: &str| {
            let mut stream = Stream::connect(&daemon.metrics[0]).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let address = Some("192.0.2.1:25000".parse().unwrap());
        let begin = |client: &mut MilterClient, helo: &str| {
            client.connect("mail.example.com", address).unwrap();
            assert_eq!(client.helo(helo).unwrap(), Reply::Continue);
            assert_eq!(client.mail("<amy@example.com>").unwrap(), Reply::Continue);
        };
        let word = format!("panic-at-{event}");
        let (mut client, mut beside) = (daemon.client(), daemon.client());
        begin(&mut beside, "mail.example.com");
        client.macros.insert("i".into(), word.clone());
        begin(&mut client, if event == "write" { &word } else { "mail.example.com" });
        match event {
            "abort" | "close" => client.abort().unwrap(),
            "page" => assert!(ask(&format!("/{word}")).is_ok_and(|answer| answer.is_empty())),
            _ => {
                let end = client.message(&[], b"").unwrap();
                assert!(end.reply == Reply::Continue && !end.edits.is_empty(), "{event}: {end:?}");
            }
        }
        daemon.wait_for_log(&["error: internal error: panicked at src/", "provoked at "]);
        client.macros.insert("i".into(), "4X".into());
        // A session that cannot even be ended ends with its connection.
        let left =
            client.quit_for_next().and_then(|()| client.connect("mail.example.com", address));
        assert_eq!(left.is_ok(), event != "close", "{event}");
        if event != "close" {
            client.quit_for_next().unwrap();
            begin(&mut client, "mail.example.com");
            assert_eq!(client.message(&[], b"").unwrap().reply, Reply::Continue);
        }
        assert_eq!(beside.message(&[], b"").unwrap().reply, Reply::Continue);
        assert!(ask("/metrics").unwrap().contains("spf_milter_panics_total "));
        let (status, log) = daemon.stop();
        assert!(status.success() && log.contains(" stopped "), "{log}");
        assert_eq!(log.contains("log lines dropped: "), event == "write", "{log}");
    }
}

/// Where HELO has no answer, the messages behind it would be verified without its name.
#[test]
fn a_panic_at_helo_without_an_answer_ends_the_connection() {
    let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
    let config = format!("nameservers = {}\nreject_helo_results =\n", nameserver.address());
    let daemon = Daemon::launch(&config, |command| {
        command.env("SPF_MILTER_PANICS", "1");
    })
    .unwrap();
    for event in ["helo", ""] {
        let answers = message(&mut daemon.client(), event).ok();
        let is_verified = event.is_empty() || !can_panic();
        assert_eq!(answers, is_verified.then_some((Reply::Continue, Some(Reply::Continue))));
    }
}
