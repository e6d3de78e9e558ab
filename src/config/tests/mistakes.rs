//! Common mistakes in values: each is read as it was meant, or has an error that says the right
//! form.

use std::path::Path;

use super::*;

/// A value for each parameter that differs from its default, with blanks only where they are a part
/// of it.
pub(super) fn usual(name: &str) -> &'static str {
    match name {
        "socket" => "unix:/run/p.sock",
        "metrics_socket" => "unix:/run/m.sock",
        "socket_mode" => "0660",
        "socket_group" => "postfix",
        "max_connections" => "77",
        "error_action" => "accept",
        "log_destination" => "stderr",
        "log_format" => "json",
        "log_level" => "debug",
        "syslog_facility" => "daemon",
        "hostname" | "authserv_id" => "mx.example.com",
        "trusted_networks" | "trusted_authentication_results" => "loopback, 192.0.2.0/24",
        "skip_senders" => "example.com, .example.net, amy@example.org",
        "skip_senders_file" | "dmarc_override_file" => "/dev/null",
        "exempt_recipients" => "example.com, .example.net, postmaster@, amy@example.org",
        "client_map" => "10.0.0.0/8=192.0.2.1, 192.168.0.1=192.0.2.2",
        "definitive_helo_results" => "pass, fail",
        "reject_results" | "reject_helo_results" => "softfail, permerror",
        "header" => "Authentication-Results, Received-SPF",
        "delete_authserv_ids" => "a.example.com, .b.example.com",
        "dmarc_temperror_action" => "defer",
        "tag_header" => "X-Spam",
        name if name.ends_with("_action") => "reject",
        "nameservers" => "192.0.2.1, [2001:db8::1]:5353",
        name if name.ends_with("_networks") || name == "trusted_relays" => "loopback, 192.0.2.7",
        name if name.ends_with("_domains") => "example.com, example.net",
        name if name.ends_with("_reply_code") && name.starts_with("temperror") => "450",
        name if name.ends_with("_reply_code") => "554",
        name if name.ends_with("_status_code") && name.starts_with("temperror") => "4.7.1",
        name if name.ends_with("_status_code") => "5.7.1",
        name if name.contains("_reply_text") => "no",
        "min_dkim_key_bits" => "2048",
        "verify_dkim" => "yes",
        // verify_dkim must go with it.
        "verify_dmarc" => "no",
        name => match default_of(name) {
            "yes" => "no",
            "no" => "yes",
            number if number.parse::<u32>().is_ok() => "7",
            other => panic!("{name} = {other}: a value for the test is missing"),
        },
    }
}

fn default_of(name: &str) -> &'static str {
    parameters()
        .iter()
        .find(|parameter| parameter.name == name)
        .and_then(|parameter| parameter.default.text())
        .unwrap_or("")
}

fn read(name: &str, value: &str) -> Result<Loaded, Errors> {
    let socket = if name == "socket" { "" } else { "socket = inet:127.0.0.1:8890\n" };
    load_text(
        format!("{socket}{name} = {value}\n").as_bytes(),
        Path::new("a.conf"),
        &Overrides::default(),
    )
}

/// The value as it is spelt, and what is said about it.
fn outcome(name: &str, value: &str) -> Result<(String, Vec<String>), Vec<String>> {
    let parameter = parameters().iter().find(|parameter| parameter.name == name).unwrap();
    match read(name, value) {
        Ok(loaded) => {
            let about = format!(": {name}: ");
            let warnings = loaded
                .warnings
                .iter()
                .map(ToString::to_string)
                .filter(|warning| warning.contains(&about));
            Ok(((parameter.spell)(&loaded.config), warnings.collect()))
        }
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// Decorations before and behind a value, and a part of the error.
const DECORATIONS: [(&str, &str, &str); 24] = [
    ("", " # our value", "a comment in a line of its own"),
    ("", "\t# our value", "a comment in a line of its own"),
    ("", " #", "a comment in a line of its own"),
    ("# ", "", "a comment in a line of its own"),
    ("", "#our-value", "a comment needs a line of its own"),
    ("", " // our value", "a comment needs a line of its own"),
    ("", " /* our value */", "a comment needs a line of its own"),
    ("", " ; our value", ""),
    ("", ";", ""),
    ("", " ;", ""),
    ("", "; spf=pass", ""),
    ("", ",", ""),
    ("\"", "\"", ""),
    ("'", "'", ""),
    ("`", "`", ""),
    ("\u{201c}", "\u{201d}", ""),
    ("\"", "", ""),
    ("", "\"", ""),
    ("", " \\", ""),
    ("", "\\", ""),
    ("= ", "", ""),
    ("(", ")", ""),
    ("{", "}", ""),
    ("$", "", ""),
];

#[test]
fn nothing_around_a_value_becomes_a_part_of_it_in_silence() {
    let mut problems = Vec::new();
    for parameter in parameters() {
        let (name, value) = (parameter.name, usual(parameter.name));
        let (meant, _) =
            outcome(name, value).unwrap_or_else(|errors| panic!("{name} = {value}: {errors:?}"));
        let is_text = name.contains("_reply_text");
        for (before, behind, said) in DECORATIONS {
            let written = format!("{before}{value}{behind}");
            match outcome(name, &written) {
                Ok((read, _)) if read == meant => {}
                // A text is what is written, as in 0.7; what looks like something else is warned
                // about.
                Ok((read, warnings)) if is_text && read == written => {
                    let looks_odd = written.contains('#') && behind != "#our-value"
                        || written.ends_with('\\')
                        || before == behind && !before.is_empty() && before != "`";
                    if looks_odd && warnings.is_empty() {
                        problems.push(format!("{name} = {written}: no warning"));
                    }
                }
                // Files may have such names.
                Ok((read, warnings))
                    if behind == "#our-value"
                        && read == written
                        && warnings.iter().any(|warning| warning.contains("has a '#'")) => {}
                Ok((read, warnings)) => {
                    problems.push(format!("{name} = {written}: taken for {read}, {warnings:?}"))
                }
                Err(errors) => {
                    let about = format!(": {name}: ");
                    let place = errors
                        .iter()
                        .all(|error| error.starts_with("a.conf:") && error.contains(&about));
                    let no_file = errors.iter().any(|error| error.contains("No such file"));
                    if !place
                        || !no_file
                            && !errors.iter().any(|error| {
                                error.contains("(expected ") && (is_text || error.contains(said))
                            })
                    {
                        problems.push(format!("{name} = {written}: {errors:?}"));
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn blanks_and_semicolons_are_not_commas() {
    let mut problems = Vec::new();
    for parameter in parameters().iter().filter(|parameter| usual(parameter.name).contains(", ")) {
        for separator in [" ", ";", "; ", " | ", "\t"] {
            let written = usual(parameter.name).replace(", ", separator);
            match outcome(parameter.name, &written) {
                Err(errors)
                    if errors.len() == 1
                        && errors[0].contains("separate with commas; did you mean ") => {}
                other => problems.push(format!("{} = {written}: {other:?}", parameter.name)),
            }
        }
        for written in
            [format!("{},", usual(parameter.name)), usual(parameter.name).replace(", ", ",, ")]
        {
            match outcome(parameter.name, &written) {
                Err(errors) if errors[0].contains("nothing between commas") => {}
                other => problems.push(format!("{} = {written}: {other:?}", parameter.name)),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Mistakes, and a part of the error.
const WRITTEN: [(&str, &str, &str); 88] = [
    ("socket", "unix:/p.sock # comment", ":1:23: socket: '# comment' would be a part of the value"),
    ("socket", "unix:/p.sock;", "did you mean unix:/p.sock?"),
    ("socket", "\"unix:/p.sock\"", "a value has no quotes; did you mean unix:/p.sock?"),
    ("socket", "unix:\"/p.sock\"", "the path of one file"),
    (
        "socket",
        "unix:/p.sock inet:1@localhost",
        "separate with commas; did you mean unix:/p.sock, inet:1@localhost?",
    ),
    ("socket", "unix:/p.sock /q.sock", "the path of one file"),
    ("socket", "/p.sock", "did you mean unix:/p.sock?"),
    ("socket", "UNIX:/p.sock", "did you mean unix:/p.sock?"),
    ("socket", "inet:localhost", "lacks a host or a port"),
    ("socket", "127.0.0.1:8890", "did you mean inet:127.0.0.1:8890?"),
    ("socket", "localhost:8890", "did you mean inet:localhost:8890?"),
    ("socket", "inet:8890@localhost # x", "did you mean 'inet:8890@localhost'?"),
    ("socket_mode", "rw-rw----", "expected an octal number"),
    ("socket_mode", "0660 # for postfix", "did you mean '0660'?"),
    ("socket_group", "postfix, spf", "expected the name of one group"),
    ("socket_group", "\"postfix\"", "did you mean postfix?"),
    ("max_connections", "1k", "expected an integer"),
    ("max_connections", "1,000", "did you mean 1000?"),
    ("max_connections", "1000;", "did you mean 1000?"),
    ("max_connections", "10-20", "expected an integer"),
    ("max_connections", "unlimited", "expected an integer"),
    ("error_action", "Accept", "did you mean accept?"),
    ("error_action", "defer", "did you mean tempfail?"),
    ("log_level", "warning", "did you mean warn?"),
    ("log_level", "INFO", "did you mean info?"),
    ("log_destination", "Syslog", "did you mean syslog?"),
    ("syslog_facility", "LOG_MAIL", "did you mean mail?"),
    ("hostname", "HOSTNAME", "expected the name itself"),
    ("hostname", "mx.example.com # us", "did you mean 'mx.example.com'?"),
    ("hostname", "\"mx.example.com\"", "did you mean mx.example.com?"),
    (
        "authserv_id",
        "mx.example.com # our name",
        ":2:30: authserv_id: '# our name' would be a part of the value",
    ),
    ("authserv_id", "\"mx.example.com\"", "a value has no quotes; did you mean mx.example.com?"),
    ("authserv_id", "mx.example.com; spf=pass", "did you mean mx.example.com?"),
    ("authserv_id", "mx example", "it cannot have ' '"),
    ("authserv_id", "HOSTNAME", "expected the name itself"),
    ("authserv_id", ".", "expected a name such as mx.example.com"),
    ("authserv_id", "mx.example.com, mx2.example.com", "it cannot have ','"),
    ("trusted_networks", "10.0.0.0/8; 192.168.0.0/16", "did you mean 10.0.0.0/8, 192.168.0.0/16?"),
    ("trusted_networks", "loopback 10.0.0.0/8", "did you mean loopback, 10.0.0.0/8?"),
    ("trusted_networks", "loopback, \\", "a value cannot go on in the next line"),
    ("trusted_networks", "10.0.0.1-10.0.0.9", "a range is written as networks"),
    ("trusted_networks", "10.0.0.0/255.0.0.0", "did you mean 10.0.0.0/8?"),
    ("trusted_networks", "localhost", "did you mean loopback?"),
    ("trusted_networks", "10.*", "expected an address"),
    ("trusted_networks", "loopback,", "nothing between commas"),
    ("trusted_networks", "none", "leave the value empty"),
    ("trust_authenticated_senders", "on", "did you mean yes?"),
    ("skip_senders", "@example.com", "did you mean example.com?"),
    ("skip_senders", "*.example.com", "did you mean .example.com?"),
    ("skip_senders", "a@x.example b@x.example", "did you mean a@x.example, b@x.example?"),
    ("skip_senders", "<a@x.example>", "did you mean a@x.example?"),
    ("skip_senders", "a@x.example # partner", "did you mean 'a@x.example'?"),
    ("skip_senders", "example.com#partner", "did you mean example.com?"),
    ("skip_senders_file", "\"/dev/null\"", "did you mean /dev/null?"),
    ("skip_senders_file", "/dev/null # partners", "did you mean '/dev/null'?"),
    ("verify_helo", "Yes", "did you mean yes?"),
    ("verify_helo", "off", "did you mean no?"),
    ("verify_helo", "1", "did you mean yes?"),
    ("verify_helo", "no # for now", "did you mean 'no'?"),
    ("verify_helo", "\"no\"", "did you mean no?"),
    ("reject_results", "Fail", "did you mean fail?"),
    ("reject_results", "fail softfail", "separate with commas; did you mean fail, softfail?"),
    ("reject_results", "fail;softfail", "separate with commas; did you mean fail, softfail?"),
    ("reject_results", "soft_fail", "did you mean softfail?"),
    ("reject_results", "none", "leave the value empty"),
    ("max_lookups", "ten", "expected an integer"),
    ("timeout_secs", "20s", "without a unit; did you mean 20?"),
    ("timeout_secs", "1 min", "without a unit; did you mean 60?"),
    ("fail_reply_code", "\"550\"", "did you mean 550?"),
    ("fail_reply_code", "550 5.7.1", "expected 400 to 459 or 500 to 559"),
    ("fail_status_code", "5.7.1 # policy", "did you mean '5.7.1'?"),
    ("header", "Received_SPF", "did you mean received-spf?"),
    (
        "header",
        "Authentication-Results Received-SPF",
        "did you mean Authentication-Results, Received-SPF?",
    ),
    (
        "delete_authserv_ids",
        "a.example.com b.example.com",
        "did you mean a.example.com, b.example.com?",
    ),
    ("dmarc_reject_action", "Reject", "did you mean reject?"),
    ("dmarc_reject_action", "defer", "expected none, tag, quarantine or reject"),
    ("tag_header", "Subject", "messages have such fields for something else"),
    ("tag_header", "X-Auth-Action:", "it can have only letters"),
    ("nameservers", "192.0.2.1#5353", "did you mean 192.0.2.1:5353?"),
    ("dns_timeout_secs", "2147484", "expected an integer from 1 to 3600"),
    (
        "socket",
        "inet:8890",
        "lacks a host or a port (expected inet:HOST:PORT, inet:PORT@HOST, inet6:..., unix:PATH, local:PATH or fd:NAME)",
    ),
    (
        "hostname",
        "\u{2018}mx.example.com\u{2019}",
        "a value has no quotes; did you mean mx.example.com?",
    ),
    (
        "authserv_id",
        "mx.example.com mx2.example.com",
        "it cannot have ' ' (expected a name such as mx.example.com)",
    ),
    ("authserv_id", "*.example.com", "it cannot begin with '*.'"),
    ("delete_authserv_ids", "*.example.com", "did you mean .example.com?"),
    ("skip_senders", "a@x.example OK", "expected example.com, .example.com or user@example.com)"),
    ("timeout_secs", "20.0", "did you mean 20?"),
    ("timeout_secs", "2.5", "expected an integer from 1 to 3600)"),
];

#[test]
fn errors_suggest_the_right_form() {
    let mut problems = Vec::new();
    for (name, written, said) in WRITTEN {
        match outcome(name, written) {
            Err(errors) if errors.len() <= 2 && errors.iter().any(|error| error.contains(said)) => {
            }
            other => problems.push(format!("{name} = {written}: {said:?} is not in {other:?}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Values that can be read, but are hardly meant, and a part of the warning.
const WARNED: [(&str, &str, &str); 9] = [
    ("hostname", "192.0.2.1", "is an address, not a name"),
    ("hostname", "localhost.localdomain", "is not fully qualified"),
    ("nameservers", "192.0.2.1, ::1:53", "[::1]:53"),
    ("nameservers", "2001:db8::1:5353", "[2001:db8::1]:5353"),
    ("trusted_networks", "loopback, 0.0.0.0/0", "0.0.0.0/0 has every IPv4 client in it"),
    ("trusted_networks", "loopback, ::/0", "::/0 has every IPv6 client in it"),
    ("dmarc_exempt_networks", "0.0.0.0/0", "0.0.0.0/0 has every IPv4 client in it"),
    ("softfail_reply_text", "550 no", "begins with a code"),
    ("dmarc_fail_reply_text", "5.7.1 no", "begins with a code"),
];

#[test]
fn warnings_name_the_oddity() {
    for (name, written, said) in WARNED {
        let (_, warnings) = outcome(name, written).unwrap();
        assert!(
            warnings.iter().any(|warning| warning.contains(said)),
            "{name} = {written}: {warnings:?}"
        );
    }
    for (name, written) in [
        ("hostname", "mx.example.com"),
        ("nameservers", "2001:db8::53, [::1]:53, ::2, 2001:db8:1:2:3:4:5:53"),
        ("trusted_networks", "loopback, 10.0.0.0/8, 2001:db8::/32"),
        ("permerror_reply_text", "5 times no"),
    ] {
        let (_, warnings) = outcome(name, written).unwrap();
        assert!(warnings.is_empty(), "{name} = {written}: {warnings:?}");
    }
}

#[test]
fn lines_that_were_meant_to_go_on_are_reported() {
    let text = "socket = inet:127.0.0.1:8890\ntrusted_networks = loopback, \\\n  10.0.0.0/8\n; a comment\n[section]\n";
    let errors = load_text(text.as_bytes(), Path::new("a.conf"), &Overrides::default())
        .unwrap_err()
        .to_string();
    for said in [
        ":2:30: trusted_networks: '\\' is not a network",
        ":3:13: no '=' (expected name = value; a value cannot go on in the next line)",
        ":4:12: no '=' (expected name = value; a comment begins with #)",
        ":5:10: no '=' (expected name = value; there are no sections)",
    ] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
}
