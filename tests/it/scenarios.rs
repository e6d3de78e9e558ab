//! Plays the files of `tests/scenarios` through several drivers, which must all see the same.
//!
//! A scenario is a text file of three sections. Blank lines and lines that begin with `#` mean
//! nothing.
//!
//! ```text
//! drivers milter                          only these drivers can play it (without the line: all)
//!
//! [zone]                                  DNS, as `spf_milter::dns::zone::Zone::parse` reads it
//! example.com TXT "v=spf1 ip4:192.0.2.1 -all"
//!
//! [config]                                lines of the configuration file; the driver adds sockets, log and name server
//! header = Authentication-Results
//!
//! [session]                               events, one a line, and what should come of them
//! connect 192.0.2.9 mail.example.com      client address (or `unknown`) and host name (may be left out)
//! helo mail.example.com
//! auth joe                                the client authenticates
//! mail <a@example.com> => 550 5.7.23 *    the reply that the SMTP client should see; nothing said means `ok`
//! rset
//! mail <a@example.org>
//! rcpt <b@rcpt.example.org>
//! message                                 DATA, a message of the fields below, and its end
//!   | Authentication-Results: mta.example.org; spf=pass
//!   | Subject: hello
//!   + Authentication-Results: mta.example.org; spf=none *
//!   - Authentication-Results: mta.example.org; spf=pass
//! reload                                  SIGHUP with these configuration lines
//!   | reject_results =
//! message => quarantine                   the MTA keeps the message back
//!   | From: a@example.com
//!   | Subject: hello
//!   sign d=example.com s=ed               a DKIM-Signature field with these tags (`testkit/src/signer.rs`)
//!   body Dear Bob                         the body, in place of `Hello`
//! ```
//!
//! In zones, `${ed25519}` and `${rsa}` stand for the records of the keys that messages are signed
//! with; in configurations, `${scenarios}` stands for the folder of the files.
//!
//! Indented lines belong to the event above them: `|` gives a line of the message or of a
//! configuration; `+` a field that should be at the very top afterwards, from top to bottom; `-` a
//! field sent that should be gone. All other fields sent must be there, in their order, and nothing
//! else. `log WORD WORD...` wants a log line that has all these words, `nolog TEXT` none that has
//! the text. Fields are compared unfolded, with single spaces; in replies and `+` lines, `*` stands
//! for any text. `\xHH`, `\n`, `\t` and `\\` are escapes in names, addresses and fields sent.
//!
//! `SCENARIO=name` in the environment plays only the files whose names have that in them.

use testkit::{
    drivers::{milter::MilterDriver, session::SessionDriver},
    fields::matches,
    scenario::{Driver as _, Scenario, play_all},
};

#[test]
fn through_the_session() {
    play_all(&SessionDriver);
}

#[test]
fn through_the_milter_protocol_like_postfix() {
    play_all(&MilterDriver::like_postfix());
}

#[test]
fn through_the_milter_protocol_like_sendmail() {
    play_all(&MilterDriver::like_sendmail());
}

#[test]
fn through_milter_manager() {
    play_all(&MilterDriver::like_milter_manager("milter_no_reply = no\n"));
}

/// Why the parameter is there: with the flags, milter-manager waits for an answer that never comes,
/// and then lets the mail through.
#[test]
fn milter_manager_loses_track_of_a_milter_that_does_not_answer() {
    for (name, refused) in
        [("dmarc-enforce-reject", "550 5.7.26 *"), ("reject-mailfrom-fail", "550 5.7.23 *")]
    {
        let path = testkit::root().join(format!("tests/scenarios/{name}.scenario"));
        let scenario = Scenario::parse(name, &std::fs::read_to_string(path).unwrap()).unwrap();
        let with =
            |settings| MilterDriver::like_milter_manager(settings).play(&scenario).unwrap().0;
        let expected = with("milter_no_reply = no\n");
        assert!(expected.iter().any(|seen| matches(refused, &seen.reply)), "{expected:?}");
        let lost = with("");
        assert!(lost.iter().all(|seen| seen.reply == "ok"), "{name}: {lost:?}");
    }
}

/// Whoever counts lines with `action=reject` counts refused messages, also where SPF refuses at the
/// end of the message.
#[test]
fn a_refusal_that_was_put_off_is_in_one_line() {
    let names = ["defer-spf-rejection-yes", "relays-reject"];
    let mut scenarios = Scenario::read_all(&testkit::root().join("tests/scenarios"));
    scenarios.retain(|scenario| names.contains(&&*scenario.name));
    assert_eq!(scenarios.len(), names.len());
    for scenario in scenarios {
        let (seen, log) = SessionDriver.play(&scenario).unwrap();
        let refused = seen.iter().filter(|seen| seen.reply.starts_with("550 ")).count();
        let lines = log.iter().filter(|line| line.contains("action=reject")).count();
        assert!(refused > 2, "{}", scenario.name);
        assert_eq!(lines, refused, "{}: {log:#?}", scenario.name);
    }
}
