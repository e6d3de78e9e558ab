//! The daemon at work: starts it on loopback with a few example zones, plays SMTP sessions through
//! the milter protocol, and prints them with the answers of the daemon. Ends with an error if an
//! outcome is not as expected.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "it uses the support code of the tests"
)]

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::{Command, ExitCode},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::{Daemon, program},
    drivers::milter::observed,
    fields::{Field, matches},
    milter_client::{MilterClient, Socket, Stream},
    nameserver::NameServer,
};

const ZONE: &str = r#"
# This domain permits 192.0.2.0 to 192.0.2.15 and a network of IPv6:
pass.example            TXT  "v=spf1 include:_spf.pass.example -all"
_spf.pass.example       TXT  "v=spf1 ip4:192.0.2.0/28 ip6:2001:db8::/32 -all"
# This one permits only its MX, and has an explanation:
fail.example            TXT  "v=spf1 mx -all exp=why.fail.example"
fail.example            MX   10 mx.fail.example
mx.fail.example         A    198.51.100.25
why.fail.example        TXT  "%{i} is not one of our servers; see https://fail.example/?ip=%{i}&sender=%{S}"
# This one asks to accept mail from other hosts with suspicion:
softfail.example        TXT  "v=spf1 a:mx.fail.example ~all"
# The name server of this one has an error:
temperror.example       TXT  !servfail
"#;

const STRICT: &str = "header = Received-SPF, Authentication-Results\n";
const LENIENT: &str = "header = Received-SPF, Authentication-Results\nreject_results = permerror\n";

/// A session to print.
struct Session {
    title: &'static str,
    sender: &'static str,
    /// Header fields that the client sends.
    fields: &'static [&'static str],
    /// The reply to MAIL FROM or to the message, as a pattern.
    reply: &'static str,
    /// The fields that the message has afterwards, as patterns, from top to bottom.
    header: &'static [&'static str],
}

const SESSIONS: &[Session] = &[
    Session {
        title: "The client is one of the sender's servers: pass",
        sender: "alice@pass.example",
        fields: &["From: alice@pass.example", "Subject: Lunch?"],
        reply: "ok",
        header: &[
            "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=pass.example",
            "Received-SPF: pass (*client-ip=192.0.2.1; *mechanism=*",
            "From: alice@pass.example",
            "Subject: Lunch?",
        ],
    },
    Session {
        title: "The client is not one of them, and the domain has an explanation: fail",
        sender: "alice@fail.example",
        fields: &[],
        reply: "550 5.7.23 SPF validation failed: fail.example explains: 192.0.2.1 is not one of our servers; \
                see https://fail.example/?ip=192.0.2.1&sender=alice%40fail.example",
        header: &[],
    },
    Session {
        title: "The sender's domain asks for suspicion: softfail, recorded for the filters behind",
        sender: "alice@softfail.example",
        fields: &["From: alice@softfail.example", "Subject: Win!"],
        reply: "ok",
        header: &[
            "Authentication-Results: mta.example.org; spf=softfail smtp.mailfrom=softfail.example",
            "Received-SPF: softfail (*",
            "From: alice@softfail.example",
            "Subject: Win!",
        ],
    },
    Session {
        title: "The name server of the domain has an error: temperror, try again later",
        sender: "alice@temperror.example",
        fields: &[],
        reply: "451 4.7.24 SPF validation error: *",
        header: &[],
    },
    Session {
        title: "Results that are forged in our name are deleted, those of other hosts stay",
        sender: "alice@softfail.example",
        fields: &[
            "Authentication-Results: mta.example.org; spf=pass smtp.mailfrom=softfail.example",
            "Authentication-Results: relay.example.net; dkim=pass header.d=softfail.example",
            "authentication-results: (really) \"MTA.example.org\" 1;\n\tdmarc=pass header.from=softfail.example",
            "Subject: Trust me",
        ],
        reply: "ok",
        header: &[
            "Authentication-Results: mta.example.org; spf=softfail smtp.mailfrom=softfail.example",
            "Received-SPF: softfail (*",
            "Authentication-Results: relay.example.net; dkim=pass header.d=softfail.example",
            "Subject: Trust me",
        ],
    },
];

const AFTER_RELOAD: &[Session] = &[Session {
    title: "The same sender as before is now accepted, and the result is recorded",
    sender: "alice@fail.example",
    fields: &["Subject: Hello again"],
    reply: "ok",
    header: &[
        "Authentication-Results: mta.example.org; spf=fail smtp.mailfrom=fail.example",
        "Received-SPF: fail (*",
        "Subject: Hello again",
    ],
}];

fn main() -> ExitCode {
    println!("The records in DNS:\n{ZONE}");
    let nameserver = NameServer::start(Zone::parse(ZONE).expect("bad zone"));
    let config = |lines: &str| {
        format!(
            "hostname = mta.example.org\nnameservers = {}\nmetrics_socket = inet:127.0.0.1:0\nstatus_refusals = 5\n{lines}",
            nameserver.address()
        )
    };
    println!("The configuration:\n\n{}", config(STRICT));
    let daemon = Daemon::start(&config(STRICT));
    let mut wrong = 0;
    for session in SESSIONS {
        wrong += usize::from(!show(&daemon, session));
    }
    println!(
        "== The configuration changes, and the daemon is reloaded with SIGHUP\n\n{}",
        config(LENIENT)
    );
    wrong += usize::from(!daemon.reload(&config(LENIENT)));
    for session in AFTER_RELOAD {
        wrong += usize::from(!show(&daemon, session));
    }
    wrong += usize::from(!show_status(&daemon));
    let (status, log) = daemon.stop();
    println!("== The log of the daemon\n\n{log}\n");
    let refused = log.lines().find(|line| line.contains("result=fail action=reject"));
    let server = nameserver.address().to_string();
    println!("== Why was that refused? The same question without an MTA, step by step\n");
    let question = ["--ip", "192.0.2.1", "--mail-from", "alice@fail.example", "--trace"];
    wrong += usize::from(!run("query", &server, &question, "-all matches: fail", Some(1)));
    println!(
        "== What does the line in the log mean, and what would come of it once the client is permitted?\n"
    );
    let permitted = ZONE.replace("v=spf1 mx -all", "v=spf1 mx ip4:192.0.2.1 -all");
    nameserver.set_zone(Zone::parse(&permitted).expect("bad zone"));
    let line = [refused.unwrap_or_default()];
    wrong += usize::from(!run("explain", &server, &line, "then fail, now pass", Some(0)));
    if wrong == 0 && status.success() {
        println!("All outcomes are as expected.");
        ExitCode::SUCCESS
    } else {
        println!("NOT AS EXPECTED: {wrong} sessions; the daemon ended with {status}.");
        ExitCode::FAILURE
    }
}

/// Prints the status and some metrics; returns whether the status came.
fn show_status(daemon: &Daemon) -> bool {
    println!("== spf-milter status\n");
    let Socket::Inet(address) = daemon.metrics[0] else { return false };
    let socket = format!("inet:{address}");
    let asked = Command::new(program()).args(["status", "--metrics-socket", &socket]).status();
    println!("\n== Some of the metrics, for Prometheus\n");
    let mut answer = String::new();
    let read = Stream::connect(&daemon.metrics[0]).and_then(|mut stream| {
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    let names =
        ["spf_milter_messages_total", "spf_milter_replies_total", "spf_milter_results_total"];
    let is_shown =
        |line: &&str| names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
    answer.lines().filter(is_shown).for_each(|line| println!("  {line}"));
    println!();
    asked.is_ok_and(|status| status.success()) && read.is_ok()
}

/// Runs a command of the program and prints what it prints; returns whether that is as expected.
fn run(
    command: &str,
    server: &str,
    arguments: &[&str],
    expected: &str,
    status: Option<i32>,
) -> bool {
    let shown: Vec<String> = arguments
        .iter()
        .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
        .collect();
    println!("$ spf-milter {command} {}", shown.join(" "));
    let output = Command::new(program())
        .args([command, "-c", "/dev/null", "-p", "unix:/nowhere", "--nameserver", server])
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("the program");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let right = text.contains(expected) && output.status.code() == status;
    if !right {
        println!("  NOT AS EXPECTED: {expected}, status {status:?}\n");
    }
    right
}

/// Plays a session and prints it; returns whether its outcome is as expected.
fn show(daemon: &Daemon, session: &Session) -> bool {
    println!("== {}\n", session.title);
    let (reply, header) = play(daemon, session)
        .unwrap_or_else(|error| (format!("the daemon closed the connection: {error}"), Vec::new()));
    let lines: Vec<String> = header.iter().map(Field::unfolded).collect();
    let fits = lines.len() == session.header.len()
        && session.header.iter().zip(&lines).all(|(pattern, line)| matches(pattern, line));
    let right = fits && matches(session.reply, &reply);
    if !right {
        println!("  NOT AS EXPECTED: {} {:#?}", session.reply, session.header);
    }
    println!();
    right
}

fn play(daemon: &Daemon, session: &Session) -> std::io::Result<(String, Vec<Field>)> {
    let client = SocketAddr::from(([192, 0, 2, 1], 40025));
    let say = |line: &str| println!("  C: {line}");
    let answer = |reply: &str, positive: &str| {
        println!("  S: {}", if reply == "ok" { positive } else { reply })
    };
    let mut milter = MilterClient::connect_to(&daemon.sockets[0])?;
    println!("     (connection from mail.client.example [192.0.2.1])");
    milter.connect("mail.client.example", Some(client))?;
    say("EHLO mail.client.example");
    answer(&observed(&milter.helo("mail.client.example")?).reply, "250 mta.example.org");
    say(&format!("MAIL FROM:<{}>", session.sender));
    let reply = observed(&milter.mail(format!("<{}>", session.sender))?).reply;
    answer(&reply, "250 Ok");
    if reply != "ok" {
        milter.quit()?;
        return Ok((reply, Vec::new()));
    }
    say("RCPT TO:<bob@example.org>");
    milter.macros.insert("i".into(), "4Q1A2B3C4D".into());
    answer(&observed(&milter.rcpt("<bob@example.org>")?).reply, "250 Ok");
    say("DATA");
    answer("ok", "354 End data with <CR><LF>.<CR><LF>");
    let fields: Vec<Field> = session.fields.iter().map(|field| Field::parse(field)).collect();
    for field in &fields {
        format!("{field:?}").lines().for_each(say);
    }
    ["", "Hello", "."].iter().for_each(|line| say(line));
    let finished = milter.message(&fields, b"Hello\r\n")?;
    let reply = observed(&finished.reply).reply;
    answer(&reply, "250 Ok: queued");
    milter.quit()?;
    println!("\n     The header of the message afterwards (+ added, - deleted):");
    for field in &finished.fields {
        let mark = if fields.contains(field) { ' ' } else { '+' };
        format!("{field:?}").lines().for_each(|line| println!("   {mark} {line}"));
    }
    for field in fields.iter().filter(|field| !finished.fields.contains(field)) {
        format!("{field:?}").lines().for_each(|line| println!("   - {line}"));
    }
    Ok((reply, finished.fields))
}
