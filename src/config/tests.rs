mod files;
mod mistakes;

use std::{fs, path::Path};

use proptest::{
    prelude::{Strategy, any, prop, prop_assert_eq, proptest},
    sample::select,
};

use super::*;
use crate::mail::{domain::Domain, results::SpfResult};

const SOCKET: &str = "socket = inet:127.0.0.1:8890\n";

fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, Errors> {
    load_text(text.as_bytes(), Path::new("a.conf"), overrides)
}

fn config(text: &str) -> Config {
    load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap().config
}

fn errors(text: &str) -> Vec<String> {
    let errors = load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_valid_and_spelt_as_they_are_shown() {
    let default = config("");
    for parameter in parameters() {
        if let Some(text) = parameter.default.text() {
            assert_eq!((parameter.check)(text), [], "{}", parameter.name);
            assert_eq!((parameter.spell)(&default), text, "{}", parameter.name);
        }
        assert!(
            !parameter.doc().is_empty() && parameter.doc().ends_with('.'),
            "{}",
            parameter.name
        );
    }
    let mandatory: Vec<_> = parameters()
        .iter()
        .filter(|p| p.default == DefaultValue::Mandatory)
        .map(|p| p.name)
        .collect();
    assert_eq!(mandatory, ["socket"]);
    assert_eq!(default.show(false), "# Sockets and process\nsocket = inet:127.0.0.1:8890\n");
}

/// The `name = value` lines of a file in which defaults are commented out as `#name = value`.
fn sample_values(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.strip_suffix(' ').unwrap_or(name), value.trim()))
        .filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        })
        .collect()
}

#[test]
fn the_sample_file_has_every_parameter_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/spf-milter.conf");
    let text = fs::read_to_string(&path).unwrap();
    let in_file = sample_values(&text);
    let in_table: Vec<_> = parameters()
        .iter()
        .map(|p| (p.name, p.default.text().unwrap_or("unix:/run/spf-milter/spf-milter.sock")))
        .collect();
    assert_eq!(in_file, in_table);
    let groups: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut expected: Vec<_> = parameters().iter().map(|p| p.group).collect();
    expected.dedup();
    assert_eq!(groups, expected);
    let loaded = load(&path, &Overrides::default()).unwrap();
    assert!(loaded.warnings.is_empty());
    assert_eq!(
        loaded.config.show(false),
        "# Sockets and process\nsocket = unix:/run/spf-milter/spf-milter.sock\n"
    );
    let all_set: String = text
        .lines()
        .map(|line| {
            if in_file.iter().any(|(name, _)| line.starts_with(&format!("#{name} ="))) {
                line.trim_start_matches('#')
            } else {
                line
            }
            .to_owned()
                + "\n"
        })
        .collect();
    assert_eq!(load_with(&all_set, &Overrides::default()).unwrap().config, loaded.config);
}

#[test]
fn some_defaults_follow_other_parameters() {
    let one = config(
        "reject_results = softfail\nhostname = mail.example.com\nheader = Authentication-Results\n",
    );
    assert!(
        one.reject_helo_results.contains(&SpfResult::Softfail)
            && !one.reject_helo_results.contains(&SpfResult::Fail)
    );
    assert_eq!(one.authserv_id.as_deref(), Some("mail.example.com"));
    assert!(one.delete_incoming_authentication_results);
    assert_eq!(
        one.show(false),
        "# Sockets and process\nsocket = inet:127.0.0.1:8890\n\n# Host and exemptions\nhostname = mail.example.com\n\n\
         # SPF verification\nreject_results = softfail\n\n# Header fields\nheader = Authentication-Results\n"
    );
    let other = config(
        "reject_results = softfail\nreject_helo_results =\nhostname = mail.example.com\nauthserv_id =\n\
         header = Authentication-Results\ndelete_incoming_authentication_results = no\n",
    );
    assert!(other.reject_helo_results.is_empty() && !other.delete_incoming_authentication_results);
    assert_eq!(other.authserv_id.as_deref(), Some("mail.example.com"));
    assert!(other.show(false).contains("\nreject_helo_results =\n"));
}

#[test]
fn settings_of_the_command_line_win_and_places_are_kept() {
    let with = |lines: &[&str]| {
        let setting = |line: &&str| Setting { option: "--as", line: (*line).to_owned() };
        let settings = lines.iter().map(setting).collect();
        let overrides = Overrides { settings, dry_run: true, ..Overrides::default() };
        load_with("socket = unix:/a\n\nlog_level = error\nmax_lookups = 3\n", &overrides)
    };
    let loaded = with(&["max_lookups=4", " max_lookups = 5 ", "dry_run = no"]).unwrap();
    assert_eq!((loaded.config.max_lookups, loaded.config.dry_run), (5, false));
    let place = |name| loaded.places.find(name).to_string();
    assert_eq!(place("log_level"), "a.conf:3");
    assert_eq!(place("max_lookups"), "command line");
    assert_eq!(place("max_void_lookups"), "default");
    assert_eq!(place("reject_helo_results"), "default: the value of reject_results");
    for (line, error) in [
        ("max_lookup=4", "--as: 'max_lookup' is not a parameter (did you mean max_lookups?)"),
        ("max_lookups", "--as max_lookups: no '=' (expected name = value)"),
        ("=4", "--as: no name before '=' (expected name = value)"),
        ("max_lookups=4\nx", "--as max_lookups: control character U+000A (expected text)"),
        (
            "fail_reply_code=450",
            "--as fail_reply_code: 450 contradicts fail_status_code = 5.7.23 (the default) (expected the same first digit)",
        ),
    ] {
        assert_eq!(with(&[line]).unwrap_err().to_string(), error);
    }
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        log_level: Some("debug".into()),
        log_destination: Some("stderr".into()),
        socket: Some("inet:127.0.0.1:0".into()),
        syslog_facility: Some("daemon".into()),
        dry_run: true,
        settings: Vec::new(),
    };
    let loaded = load_with("log_level = error\n", &overrides).unwrap().config;
    assert_eq!(loaded.log_level, LogLevel::Debug);
    assert_eq!(loaded.log_destination, LogDestination::Stderr);
    assert_eq!(loaded.syslog_facility, SyslogFacility::Daemon);
    assert_eq!(loaded.socket, [SocketSpec::Inet { host: "127.0.0.1".into(), port: 0 }]);
    assert!(loaded.dry_run);

    let overrides = Overrides {
        socket: Some("x".into()),
        log_level: Some("Info".into()),
        ..Overrides::default()
    };
    let errors = load_with("log_level = verbose\n", &overrides).unwrap_err().to_string();
    assert_eq!(
        errors,
        "a.conf:1:13: log_level: 'verbose' is unknown (expected error, warn, info or debug; did you mean info?)\n\
         --socket: 'x' is not a socket (expected inet:HOST:PORT, inet:PORT@HOST, inet6:..., unix:PATH, local:PATH or fd:NAME)\n\
         --log-level: 'Info' is unknown (expected error, warn, info or debug; did you mean info?)"
    );
    let sneaky =
        Overrides { socket: Some("unix:/a\nlog_level = debug".into()), ..Overrides::default() };
    assert_eq!(
        load_with("", &sneaky).unwrap_err().to_string(),
        "--socket: control character U+000A (expected text)"
    );
    let errors = load(Path::new("/nonexistent/a.conf"), &overrides).unwrap_err().to_string();
    assert!(
        errors.starts_with("/nonexistent/a.conf: No such file") && errors.contains("\n--socket: "),
        "{errors}"
    );
}

#[test]
fn fixed_values_stay() {
    let running = config("socket_mode = 0660\nmax_lookups = 5\n");
    let mut reloaded = config("socket_group = postfix\nmax_lookups = 6\nmax_connections = 5\n");
    assert_eq!(
        reloaded.changed(&running),
        ["socket_mode", "socket_group", "max_connections", "max_lookups"]
    );
    assert_eq!(reloaded.keep_fixed(&running), ["socket_mode", "socket_group"]);
    assert_eq!(reloaded.changed(&running), ["max_connections", "max_lookups"]);
    assert!(reloaded.keep_fixed(&running).is_empty());
    let fixed: Vec<_> = parameters().iter().filter(|p| p.fixed).map(|p| p.name).collect();
    assert_eq!(fixed, ["socket", "socket_mode", "socket_group", "metrics_socket"]);
}

#[test]
fn the_metrics_socket_is_read_alone() {
    let directory = std::env::temp_dir().join(format!("spf-milter-alone-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("a.conf");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        load_metrics_socket(&path).map_err(|errors| errors.to_string())
    };
    let unix = |path: &str| Ok(Some(SocketSpec::Unix(path.into())));
    // There is no socket, and nonsense besides.
    assert_eq!(read("metrics_socket = unix:/run/m\nnonsense\nlog_level = x\n"), unix("/run/m"));
    assert_eq!(read("socket = unix:/run/x\n"), Ok(None));
    assert_eq!(read("metrics_socket =\n"), Ok(None));
    let error = read("socket = unix:/run/x\nmetrics_socket = fd:\n").unwrap_err();
    assert!(
        error.ends_with(
            "a.conf:2:18: metrics_socket: 'fd:' stands for all sockets (expected fd:NAME)"
        ),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    assert!(load_metrics_socket(&path).unwrap_err().to_string().contains("No such file"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn entries_come_from_files() {
    let directory = std::env::temp_dir().join(format!("spf-milter-lists-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let networks =
        write("networks", "\u{feff}# ours\r\n\r\n 192.0.2.0/24 \r\n10.0.0.1\n10.0.0.1\n");
    let more = write("more", "198.51.100.1");
    let domains = write("domains", "a.example\nBücher.example\n");
    let senders = write("senders", ".b.example\nAmy@c.example\n");
    let text = format!(
        "trusted_networks = loopback, file:{networks}, 10.0.0.1, file:{more}\n\
         dmarc_exempt_dkim_domains = file:{domains}\nskip_senders = d.example, file:{senders}\n"
    );
    let before = config(&text);
    let trusts =
        |config: &Config, address: &str| config.trusted_networks.contains(address.parse().unwrap());
    for (address, is_trusted) in [
        ("127.0.0.1", true),
        ("192.0.2.77", true),
        ("198.51.100.1", true),
        ("10.0.0.1", true),
        ("10.0.0.2", false),
    ] {
        assert_eq!(trusts(&before, address), is_trusted, "{address}");
    }
    // What follows from a list follows from its files.
    assert_eq!(before.trusted_authentication_results, before.trusted_networks);
    let domain = |name| Domain::parse(name).unwrap();
    assert!(before.dmarc_exempt_dkim_domains.contains(&domain("bücher.example")));
    assert!(!before.dmarc_exempt_dkim_domains.contains(&domain("x.a.example")));
    assert!(before.skip_senders.matches(Some("amy"), &domain("c.example")));
    assert!(before.skip_senders.matches(None, &domain("x.b.example")));
    // It is shown as it was written, and reads back.
    assert!(before.show(false).contains(&format!(
        "\ntrusted_networks = loopback, file:{networks}, 10.0.0.1, file:{more}\n"
    )));
    assert_eq!(load_with(&before.show(true), &Overrides::default()).unwrap().config, before);

    write("networks", "192.0.2.1\n");
    write("senders", "amy@c.example\n");
    let after = config(&text);
    assert!(trusts(&after, "192.0.2.1") && !trusts(&after, "192.0.2.77"));
    assert_eq!(
        after.changed(&before),
        ["trusted_networks", "skip_senders", "trusted_authentication_results"]
    );

    write("networks", "10.0.0.1\n x\nfile:y\n");
    write("domains", "a..b\n");
    let found = errors(&format!(
        "{text}spf_exempt_networks = loopback, file:{networks}.not\nlog_level = x\n"
    ));
    let expected = [
        format!("a.conf:5:33: spf_exempt_networks: {networks}.not: No such file or directory"),
        "a.conf:6:13: log_level: ".to_owned(),
        format!("{domains}:1:1: dmarc_exempt_dkim_domains: 'a..b' is not a domain"),
        format!("{networks}:2:2: trusted_networks: 'x' is not a network"),
        format!("{networks}:3:1: trusted_networks: 'file:y' is not a network"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn senders_come_from_both_places() {
    let directory = std::env::temp_dir().join(format!("spf-milter-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("senders");
    let text = format!("skip_senders = a.example\nskip_senders_file = {}\n", file.display());
    let domain = |name| Domain::parse(name).unwrap();

    fs::write(&file, "\u{feff}# ours\r\n\r\n  b.example  \r\na.example\nb.example").unwrap();
    let before = config(&text);
    assert!(
        before.skip_senders.matches(None, &domain("a.example"))
            && before.skip_senders.matches(None, &domain("b.example"))
    );
    assert!(before.show(true).contains("\nskip_senders = a.example\n"));
    assert_eq!(load_with(&before.show(true), &Overrides::default()).unwrap().config, before);

    fs::write(&file, "c.example\n").unwrap();
    let after = config(&text);
    assert!(
        !after.skip_senders.matches(None, &domain("b.example"))
            && after.skip_senders.matches(None, &domain("c.example"))
    );
    assert_eq!(after.changed(&before), ["skip_senders_file"]);

    fs::write(&file, b"ok.example\n x y\n\xff\n").unwrap();
    let name = file.display();
    assert_eq!(
        errors(&format!("{text}log_level = x\n")),
        [
            "a.conf:4:13: log_level: 'x' is unknown (expected error, warn, info or debug)"
                .to_owned(),
            format!(
                "{name}:2:2: skip_senders_file: 'x y' is not a sender: character that a domain name cannot have \
                 (expected example.com, .example.com or user@example.com)"
            ),
            format!("{name}:3:1: skip_senders_file: not UTF-8 (expected UTF-8)"),
        ]
    );
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn contradictions_name_both_places() {
    assert_eq!(
        errors("fail_reply_code = 450\n"),
        [
            "a.conf:2:19: fail_reply_code: 450 contradicts fail_status_code = 5.7.23 (the default) (expected the same first digit)"
        ]
    );
    assert_eq!(
        errors("fail_status_code = 4.7.1\nmax_lookups = x\nfail_reply_code = 551\n"),
        [
            "a.conf:3:15: max_lookups: 'x' is not an integer (expected an integer from 0 to 4294967295)",
            "a.conf:4:19: fail_reply_code: 551 contradicts fail_status_code = 4.7.1 (line 2) (expected the same first digit)",
        ]
    );
    assert_eq!(
        errors("verify_dmarc = yes\n"),
        [
            "a.conf:2:16: verify_dmarc: yes contradicts verify_dkim = no (the default) (expected yes for both)"
        ]
    );
    assert_eq!(
        errors("verify_dkim = false\nverify_dmarc = true\n"),
        [
            "a.conf:3:16: verify_dmarc: true contradicts verify_dkim = false (line 2) (expected yes for both)"
        ]
    );
    config("verify_dkim = yes\nverify_dmarc = yes\n");
    config("permerror_reply_code = 451\npermerror_status_code = 4.7.24\n");
}

#[test]
fn settings_without_effect_are_warned_about() {
    let text = format!(
        "{SOCKET}socket_mode = 0660\nhide_none_results = yes\ninclude_mailfrom_local_part = no\n"
    );
    let warnings = load_with(&text, &Overrides::default()).unwrap().warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "a.conf:2:15: socket_mode: has no effect: there is no UNIX socket in socket",
            "a.conf:3:21: hide_none_results: has no effect: header lacks Authentication-Results",
        ]
    );
}

#[test]
fn settings_of_what_is_switched_off_are_warned_about() {
    let warnings = |text: &str| -> Vec<String> {
        let loaded = load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap();
        loaded
            .warnings
            .iter()
            .map(|warning| warning.to_string().split(": ").nth(1).unwrap().to_owned())
            .collect()
    };
    let helo = "reject_helo_results = fail\ndefinitive_helo_results = pass\n";
    assert_eq!(
        warnings(&format!("{helo}verify_helo = no\n")),
        ["reject_helo_results", "definitive_helo_results"]
    );
    assert_eq!(warnings(helo), [""; 0]);
    let texts =
        "helo_fail_reply_text = x\nhelo_softfail_reply_text = x\nhelo_temperror_reply_text =\n";
    assert_eq!(
        warnings(&format!("{texts}verify_helo = no\n")),
        ["helo_fail_reply_text", "helo_softfail_reply_text"]
    );
    assert_eq!(warnings(texts), ["helo_softfail_reply_text"]);
    let softfail = "reject_helo_results = fail, softfail\n";
    assert_eq!(warnings(&format!("{texts}{softfail}")), [""; 0]);
    let own = "fail_reply_text = x\nreject_results =\nreject_helo_results = fail\n";
    assert_eq!(warnings(own), ["fail_reply_text"]);
    assert_eq!(warnings(&format!("{own}{texts}")), ["helo_softfail_reply_text"]);
    let exempt = "spf_exempt_networks = 192.0.2.1\nreject_results =\n";
    assert_eq!(warnings(exempt), ["spf_exempt_networks"]);
    assert_eq!(warnings(&format!("{exempt}reject_helo_results = fail\n")), [""; 0]);
    assert_eq!(
        warnings(&format!("{exempt}reject_helo_results = fail\nverify_helo = no\n")),
        ["reject_helo_results", "spf_exempt_networks"]
    );
    assert_eq!(warnings("trusted_relays = 192.0.2.7/24\n"), ["trusted_relays"]);
    assert_eq!(warnings("authserv_id = a\n"), ["authserv_id"]);
    assert_eq!(
        warnings("authserv_id = a\ndelete_incoming_authentication_results = yes\n"),
        [""; 0]
    );
    assert_eq!(warnings("authserv_id = a\nheader = Authentication-Results\n"), [""; 0]);
    assert_eq!(warnings("dmarc_fail_reply_text = x\n"), ["dmarc_fail_reply_text"]);
    let dmarc = "header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\ndefer_spf_rejection = yes\n";
    assert_eq!(warnings(dmarc), [""; 0]);
    assert_eq!(warnings(&format!("{dmarc}reject_results =\n")), ["defer_spf_rejection"]);
}

#[test]
fn methods_without_a_record_or_an_effect_are_warned_about() {
    let text = format!(
        "{SOCKET}verify_dkim = yes\ndefer_spf_rejection = yes\ndmarc_reject_action = reject\nverify_iprev = no\n"
    );
    let warnings = load_with(&text, &Overrides::default()).unwrap().warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "a.conf:2:15: verify_dkim: is not recorded in the message: header lacks Authentication-Results",
            "a.conf:3:23: defer_spf_rejection: has no effect: verify_dmarc is no",
            "a.conf:4:23: dmarc_reject_action: has no effect: verify_dmarc is no",
        ]
    );
    let text = format!(
        "{SOCKET}header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = reject\n"
    );
    assert!(load_with(&text, &Overrides::default()).unwrap().warnings.is_empty());
}

#[test]
fn actions_that_contradict_other_settings_are_warned_about() {
    let warnings = |lines: &str| -> Vec<String> {
        let loaded = load_with(&format!("{SOCKET}{lines}"), &Overrides::default()).unwrap();
        loaded.warnings.iter().map(|warning| warning.to_string()).collect()
    };
    let dmarc = "verify_dkim = yes\nverify_dmarc = yes\nheader = Authentication-Results\n";
    let no_dmarc = "has no effect: verify_dmarc is no";
    let alone = "marks messages without the results: header is empty";
    for (lines, said) in [
        ("local_domains = example.org\n", no_dmarc),
        ("local_domain_action = reject\n", no_dmarc),
        ("malformed_author_action = tag\n", no_dmarc),
        ("unauthenticated_action = defer\n", no_dmarc),
        ("dmarc_override_file = /dev/null\n", no_dmarc),
        ("iprev_fail_action = reject\n", "has no effect: verify_iprev is no"),
        ("tag_header = X-Mark\n", "has no effect: no action is tag"),
        ("relay_action = none\n", "has no effect: trusted_relays is empty"),
        (
            "trusted_relays = 192.0.2.9\nrelay_action = none\nreject_results =\n",
            "has no effect: nothing is refused",
        ),
        (
            "header =\ntrusted_relays = 192.0.2.9\n",
            "trusted_relays: marks messages (relay_action) without the results: header is empty",
        ),
        ("header =\nverify_iprev = yes\niprev_fail_action = tag\n", alone),
    ] {
        let found = warnings(lines);
        assert!(found.iter().any(|warning| warning.ends_with(said)), "{lines}: {found:?}");
    }
    for (lines, said) in [
        ("local_domains = example.org\n", "has no effect: local_domain_action is none"),
        ("local_domain_action = reject\n", "has no effect: local_domains is empty"),
        ("dmarc_exempt_mailing_lists = yes\n", "and dmarc_exempt_dkim_domains)"),
    ] {
        let [found] = warnings(&format!("{dmarc}{lines}")).try_into().unwrap();
        assert!(found.ends_with(said), "{lines}: {found}");
    }
    let headless = dmarc.replace(" Authentication-Results", "");
    let found = warnings(&format!("{headless}dmarc_reject_action = tag\n"));
    assert!(found.iter().any(|warning| warning.ends_with(alone)), "{found:?}");
    for good in [
        "local_domains = example.org\nlocal_domain_action = tag\ntag_header = X-Mark\n",
        "dmarc_exempt_mailing_lists = authenticated\ndmarc_reject_action = quarantine\n",
        "verify_iprev = yes\niprev_fail_action = defer\n",
        "trusted_relays = 192.0.2.9\nrelay_action = quarantine\n",
        "trusted_relays = 192.0.2.9\ntag_header = X-Mark\n",
    ] {
        assert_eq!(warnings(&format!("{dmarc}{good}")), [""; 0]);
    }
}

#[test]
fn replies_that_are_never_sent_are_warned_about() {
    let warnings = |text: &str| -> Vec<String> {
        let loaded = load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        let short = |text: String| text.split_once(": ").unwrap().1.to_owned();
        warnings.map(short).collect()
    };
    let dmarc = "header = Authentication-Results\nverify_dkim = yes\nverify_dmarc = yes\n\
                 verify_iprev = yes\n";
    for (word, action, other) in [
        ("dmarc_fail", "dmarc_reject_action = reject", "quarantine"),
        ("dmarc_fail", "dmarc_quarantine_action = reject", "tag"),
        ("malformed_author", "malformed_author_action = reject", "tag"),
        ("unauthenticated", "unauthenticated_action = reject", "quarantine"),
        ("iprev_fail", "iprev_fail_action = reject", "tag"),
        ("local_domain", "local_domains = a.example\nlocal_domain_action = reject", "tag"),
    ] {
        let reply =
            format!("{word}_reply_code = 554\n{word}_status_code = 5.7.9\n{word}_reply_text = x\n");
        assert_eq!(warnings(&format!("{dmarc}{reply}{action}\n")), [""; 0], "{action}");
        let found = warnings(&format!(
            "{dmarc}{reply}{}\n",
            action.replace("= reject", &format!("= {other}"))
        ));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.iter().all(|text| text.starts_with(word) && text.contains(": has no effect: "))
        );
        // Without verification too, and not twice.
        assert!(warnings(&reply).len() == 3, "{:?}", warnings(&reply));
        // A default that is written down is none of these.
        assert_eq!(warnings(&format!("{dmarc}{word}_reply_code = 550\n")), [""; 0]);
    }
    let deferred = "unauthenticated_action = defer\nunauthenticated_reply_code = 554\nunauthenticated_reply_text = x\n";
    assert_eq!(
        warnings(&format!("{dmarc}{deferred}")),
        [
            "unauthenticated_reply_code: has no effect: unauthenticated_action is defer, whose code is 451"
        ]
    );
    for (word, code, status) in [
        ("fail", "554", "5.7.9"),
        ("softfail", "554", "5.7.9"),
        ("temperror", "450", "4.7.9"),
        ("permerror", "554", "5.7.9"),
    ] {
        let reply = format!(
            "{word}_reply_code = {code}\n{word}_status_code = {status}\n{word}_reply_text = x\n"
        );
        let found = warnings(&format!("{reply}reject_results =\n"));
        let expected = ["reply_code", "status_code", "reply_text"]
            .map(|part| format!("{word}_{part}: has no effect: {word} is not in reject_results"));
        assert_eq!(found, expected);
        for rejected in ["reject_results", "reject_helo_results"] {
            let exp = "fail_reply_text_exp = %{exp}\n";
            let exp = if word == "fail" { exp } else { "" };
            assert_eq!(warnings(&format!("{reply}{exp}{rejected} = {word}\n")), [""; 0]);
        }
    }
    // The configuration of SPF Milter 0.7 with all defaults written down.
    let written: String = parameters()
        .iter()
        .filter(|parameter| parameter.name != "socket")
        .filter_map(|parameter| {
            Some(format!("{} = {}\n", parameter.name, parameter.default.text()?))
        })
        .collect();
    assert_eq!(warnings(&written), [""; 0]);
}

#[test]
fn mappings_and_recipients_without_effect_are_warned_about() {
    let warnings = |text: &str| -> Vec<String> {
        let loaded = load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    let map = "trusted_networks = loopback, 10.0.0.0/8\n\
               client_map = 192.168.0.0/16=192.0.2.1, 10.1.0.0/16=192.0.2.1, 10.0.0.0/7=192.0.2.1, 127.0.0.1=::2\n";
    let why = "has no effect: trusted_networks has all these clients";
    assert_eq!(
        warnings(map),
        [
            format!("a.conf:3:40: client_map: 10.1.0.0/16=192.0.2.1 {why}"),
            format!("a.conf:3:85: client_map: 127.0.0.1=::2 {why}"),
        ]
    );
    let nothing = "reject_results =\nexempt_recipients = postmaster@\n";
    let said = "a.conf:3:21: exempt_recipients: has no effect: nothing is refused or kept back";
    assert_eq!(warnings(nothing), [said]);
    assert_eq!(warnings("exempt_recipients = postmaster@\n"), [""; 0]);
    let iprev = "header = Authentication-Results\nverify_iprev = yes\niprev_fail_action = defer\n";
    assert_eq!(warnings(&format!("{iprev}{nothing}")), [""; 0]);
}

#[test]
fn the_action_for_relays_counts_where_something_is_refused() {
    let may = |lines: &str| -> Vec<Action> {
        let config = load_with(&format!("{SOCKET}{lines}"), &Overrides::default()).unwrap().config;
        [Action::Tag, Action::Quarantine].into_iter().filter(|it| config.may(*it)).collect()
    };
    let relays = "trusted_relays = 192.0.2.9\n";
    let quarantines = format!("{relays}relay_action = quarantine\n");
    assert_eq!(may("relay_action = quarantine\n"), []);
    assert_eq!(may(relays), [Action::Tag]);
    // What would be deferred is marked.
    assert_eq!(may(&quarantines), [Action::Tag, Action::Quarantine]);
    assert_eq!(may(&format!("{relays}relay_action = none\n")), []);
    let nothing = "reject_results =\nverify_iprev = yes\niprev_fail_action = ";
    assert_eq!(may(&format!("{quarantines}{nothing}none\n")), []);
    assert_eq!(may(&format!("{quarantines}{nothing}reject\n")), [Action::Quarantine]);
    assert_eq!(may(&format!("{quarantines}{nothing}defer\n")), [Action::Tag]);
}

#[test]
fn unlikely_values_are_warned_about() {
    let warnings = |text: &str| -> Vec<String> {
        let loaded = load_with(text, &Overrides::default()).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    for (line, place, said) in [
        ("trusted_networks = 192.0.2.0/24", 20, "127.0.0.1 and ::1 is not in it (add loopback)"),
        ("trusted_networks =", 19, "127.0.0.1 and ::1 is not in it"),
        ("trusted_networks = 127.0.0.0/8", 20, "::1 is not in it"),
        (
            "trusted_networks = 127.0.0.0/8,::ffff:127.0.0.0/104,::1",
            32,
            "::ffff:127.0.0.0/104 is the same as 127.0.0.0/8",
        ),
        ("trusted_networks = loopback, 192.0.2.7/24", 30, "192.0.2.7/24 means all of 192.0.2.0/24"),
        ("timeout_secs = 30", 16, "Postfix waits 30 seconds"),
        ("timeout_secs = 200", 16, "Postfix waits 30 seconds"),
        ("hostname = mx", 12, "is not fully qualified"),
        ("dry_run = yes", 11, "nothing is refused and no message is changed"),
        ("softfail_reply_text =", 22, "the reply has no text"),
        ("softfail_reply_text = \"no\"", 23, "the quotes are sent"),
        ("softfail_reply_text = no # our text", 26, "what begins with '#' is sent"),
        ("softfail_reply_text = no \\", 26, "the backslash is sent"),
        ("fail_reply_text = no", 19, "fail_reply_text_exp is for that"),
    ] {
        let rejected =
            if line.starts_with("softfail") { "reject_results = softfail\n" } else { "" };
        let found = warnings(&format!("{SOCKET}{line}\n{rejected}"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(
            found[0].starts_with(&format!("a.conf:2:{place}: ")) && found[0].contains(said),
            "{line}: {found:?}"
        );
    }
    for fine in [
        "trusted_networks = loopback, 192.0.2.0/24",
        "trusted_networks = 127.0.0.0/8, ::1",
        "timeout_secs = 29",
        "hostname = mx.example.com",
        "dry_run = no",
        "softfail_reply_text = see example#1\nreject_results = softfail",
        "fail_reply_text = no\nfail_reply_text_exp = %{exp}",
        "skip_senders_file = /dev/null",
    ] {
        assert_eq!(warnings(&format!("{SOCKET}{fine}\n")), [""; 0]);
    }
    assert!(
        warnings("socket = unix:run/x.sock\n")[0]
            .starts_with("a.conf:1:10: socket: unix:run/x.sock is relative")
    );
    assert_eq!(warnings("socket = unix:/run/x.sock\n"), [""; 0]);
}

#[test]
fn a_group_is_looked_for_with_everything_else() {
    let folder = std::env::temp_dir().join(format!("spf-milter-group-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.conf");
    let errors = |text: &str| {
        fs::write(&path, text).unwrap();
        load(&path, &Overrides::default())
            .map_or_else(|errors| errors.iter().map(ToString::to_string).collect(), |_| Vec::new())
    };
    let found = errors("socket = unix:/x\nsocket_group = no-such-group\nlog_level = x\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].ends_with(
            "a.conf:2:16: socket_group: there is no group 'no-such-group' on this host (expected the name of a group)"
        )
    );
    // Where the sockets are unknown, it is looked for all the same; where none has a file, it
    // does not matter.
    assert_eq!(errors("socket = x\nsocket_group = no-such-group\n").len(), 2);
    assert_eq!(errors("socket = inet:127.0.0.1:1\nsocket_group = no-such-group\n"), [""; 0]);
    assert_eq!(errors("socket = unix:/x\nsocket_group = root\n"), [""; 0]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn policies_of_the_site_are_read_from_their_file() {
    let folder = std::env::temp_dir().join(format!("spf-milter-policies-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("policies");
    let text = format!("{SOCKET}dmarc_override_file = {}\n", path.display());
    let load = |policies: &str| {
        fs::write(&path, policies).unwrap();
        load_with(&text, &Overrides::default()).unwrap().config
    };
    let get = |config: &Config, domain| {
        config.dmarc_override_file.get(&crate::mail::domain::Domain::parse(domain).unwrap())
    };
    let before = load("# ours\nexample.org none\n.example.org quarantine\nexample.org none\n");
    assert_eq!(get(&before, "example.org"), Some(OwnPolicy::None));
    assert_eq!(get(&before, "a.b.example.org"), Some(OwnPolicy::Quarantine));
    assert_eq!(get(&before, "example.net"), None);
    let after = load("example.org reject\n");
    assert_eq!(get(&after, "example.org"), Some(OwnPolicy::Reject));
    assert_eq!(after.changed(&before), ["dmarc_override_file"]);
    assert!(load("").dmarc_override_file.is_empty());
    fs::remove_dir_all(&folder).unwrap();
}

/// Values for each parameter, in spellings that people use.
fn spellings(name: &str) -> Vec<&'static str> {
    match name {
        "socket" => vec![
            "inet:8890@localhost",
            "inet:::1:8890, unix:/a b",
            "fd:, fd:x, inet6:1@::1",
            "local:x",
        ],
        "socket_mode" => vec!["660", "0770", ""],
        "socket_group" => vec!["postfix", ""],
        "error_action" => vec!["accept", "tempfail"],
        "log_destination" => vec!["stderr", "syslog"],
        "log_format" => vec!["text", "json"],
        "log_level" => vec!["error", "warn", "info", "debug"],
        "syslog_facility" => vec!["kern", "authpriv", "local7"],
        "hostname" => vec!["", "Mail.Example.COM.", "bücher.example"],
        "trusted_networks" | "trusted_authentication_results" => {
            vec!["", "loopback", "10.1.2.3/8,::ffff:10.0.0.1 , 2001:db8::/32"]
        }
        "skip_senders" => vec![
            "",
            ".example.com,example.com",
            "\"a b\"@Example.COM, b#@x.example, Ü@bücher.example",
        ],
        "skip_senders_file" | "dmarc_override_file" => vec![""],
        "exempt_recipients" => vec!["", "Postmaster@,a@bücher.example , .example.com, x.example"],
        "client_map" => {
            vec!["", "10.1.2.3/8=192.0.2.1", "loopback=::1,::2=::ffff:192.0.2.1 Mail.example"]
        }
        "definitive_helo_results" => vec!["", "pass", "permerror,pass"],
        "reject_results" | "reject_helo_results" => vec!["", "softfail,fail", "temperror"],
        "fail_reply_code" | "softfail_reply_code" | "permerror_reply_code" => {
            vec!["550", "500", "559"]
        }
        "dmarc_fail_reply_code" => vec!["554"],
        "local_domain_reply_code"
        | "malformed_author_reply_code"
        | "unauthenticated_reply_code"
        | "iprev_fail_reply_code" => {
            vec!["554"]
        }
        "local_domain_status_code"
        | "malformed_author_status_code"
        | "unauthenticated_status_code"
        | "iprev_fail_status_code" => vec!["5.7.0"],
        "dmarc_fail_status_code" => vec!["5.7.1"],
        "dmarc_fail_reply_text" => vec!["", "%{author_domain}", "%{o}: %{author_domain}."],
        "dmarc_exempt_mailing_lists" => vec!["no", "authenticated", "yes"],
        "local_domains" => vec!["", ".example.com, Example.com", "bücher.example"],
        "local_domain_reply_text" => vec!["", "%{author_domain} is ours"],
        "local_domain_action"
        | "dmarc_quarantine_action"
        | "dmarc_reject_action"
        | "malformed_author_action"
        | "relay_action" => {
            vec!["none", "tag", "quarantine", "reject"]
        }
        "dmarc_temperror_action" => vec!["none", "tag", "defer"],
        "unauthenticated_action" => vec!["none", "tag", "quarantine", "defer", "reject"],
        "iprev_fail_action" => vec!["none", "tag", "defer", "reject"],
        "malformed_author_reply_text" => vec!["", "%{reason}", "%{i}: %{reason}."],
        "unauthenticated_reply_text" | "iprev_fail_reply_text" => vec!["", "%{c} %{h}"],
        "tag_header" => vec!["X-Spam", "x_1"],
        "min_dkim_key_bits" => vec!["1024", "2048"],
        "dmarc_exempt_networks" | "spf_exempt_networks" | "trusted_relays" => {
            vec!["", "loopback", "192.0.2.1"]
        }
        "dmarc_exempt_dkim_domains" => vec!["", "Example.com, bücher.example"],
        "verify_dkim" => vec!["yes"],
        "verify_dmarc" => vec!["no"],
        "fail_status_code" | "softfail_status_code" | "permerror_status_code" => {
            vec!["5.7.1", "5.999.0"]
        }
        "temperror_reply_code" => vec!["421", "459"],
        "temperror_status_code" => vec!["4.0.0", "4.7.24"],
        "fail_reply_text" | "softfail_reply_text" => vec!["", "a  b # c = %% %_%-", "%{d1r.}%{S}"],
        "fail_reply_text_exp" => vec!["", "%{exp}", "x %{exp}%{i} y", "%%{exp}"],
        "helo_fail_reply_text" | "helo_softfail_reply_text" => vec!["", "%{identity}: no"],
        "helo_temperror_reply_text" | "helo_permerror_reply_text" => vec!["", "%{reason}"],
        "temperror_reply_text" | "permerror_reply_text" => {
            vec!["%{reason}", "no", "%{h}: %{reason}!"]
        }
        "metrics_socket" => vec!["", "inet:[::1]:9", "local:/run/m", "fd:metrics"],
        "status_refusals" => vec!["1", "+7", "010", "1000"],
        "header" => vec!["", "received-spf", "Authentication-Results, Received-SPF"],
        "authserv_id" => vec!["", "mail.example.com", "Mail_Server+1", "ü"],
        "delete_authserv_ids" => vec!["", ".example.com", "A_B, mail.Example.com, bücher.example"],
        "nameservers" => vec!["", "192.0.2.1", "[::1]:5353, 192.0.2.1:54, ::2"],
        _ if config("").show(true).contains(&format!("\n{name} = yes\n")) => vec!["no", "true"],
        _ if config("").show(true).contains(&format!("\n{name} = no\n")) => vec!["yes", "false"],
        _ if name.ends_with("_secs") => vec!["1", "+7", "010", "3600"],
        _ => vec!["1", "+7", "010", "4294967295"],
    }
}

/// A valid configuration, in which any parameter may be set.
fn valid_text() -> impl Strategy<Value = String> {
    let settings: Vec<_> = parameters()
        .iter()
        .map(|parameter| {
            let is_mandatory = parameter.default == DefaultValue::Mandatory;
            let line = select(spellings(parameter.name))
                .prop_map(move |value| format!("{} = {value}\n", parameter.name));
            (any::<bool>(), line).prop_map(move |(is_set, line)| {
                if is_set || is_mandatory { line } else { String::new() }
            })
        })
        .collect();
    settings.prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_octets_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..500)) {
        if let Err(errors) = load_text(&text, Path::new("a.conf"), &Overrides::default()) {
            errors.render(true);
        }
    }

    #[test]
    fn any_value_is_read_without_a_panic(index in 0..parameters().len(), value in any::<String>()) {
        let name = parameters()[index].name;
        if !name.ends_with("_file")
            && let Err(errors) = load_with(&format!("{name} = {value}\n"), &Overrides::default())
        {
            errors.render(true);
        }
    }

    #[test]
    fn likely_values_are_read_without_a_panic(index in 0..parameters().len(), value in "[%{}a-z0-9:@\\[\\].,/ é\u{0}-]{0,40}") {
        let name = parameters()[index].name;
        if !name.ends_with("_file") {
            let text = format!("{name} = {value}\n");
            match load_text(format!("{SOCKET}{text}").as_bytes(), Path::new("a.conf"), &Overrides::default()) {
                Err(errors) => assert!(!errors.render(true).is_empty()),
                Ok(loaded) => assert_eq!(load_with(&loaded.config.show(true), &Overrides::default()).unwrap().config, loaded.config),
            }
        }
    }

    #[test]
    fn shown_configurations_read_back(text in valid_text()) {
        let config = load_with(&text, &Overrides::default()).unwrap().config;
        prop_assert_eq!(&load_with(&config.show(true), &Overrides::default()).unwrap().config, &config);
        prop_assert_eq!(&load_with(&config.show(false), &Overrides::default()).unwrap().config, &config);
    }
}
