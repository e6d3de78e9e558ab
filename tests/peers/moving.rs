//! `docs/moving.md` against the programs that people come from: their own documents, as Debian has
//! them, and ours.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use spf_milter::config::{Overrides, load_text, parameters};
use testkit::scratch::target_folder;

const DOCUMENT: &str = include_str!("../../docs/moving.md");

/// A row of a table: what is there, what is here.
struct Row {
    there: &'static str,
    here: &'static str,
}

/// The rows of the first table below a heading.
fn table(heading: &str) -> Vec<Row> {
    let section = DOCUMENT
        .split(&format!("\n{heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no section {heading}"));
    let lines = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    lines
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 2, "{line}");
            Row { there: cells[0], here: cells[1] }
        })
        .collect()
}

/// The texts in backquotes.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The settings in the left column, without their values.
fn settings(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter()
        .flat_map(|row| codes(row.there))
        .filter_map(|code| code.split([' ', '=']).next())
        .collect()
}

const OPENDKIM: &str = "### OpenDKIM";
const OPENDMARC: &str = "### OpenDMARC";
const PYSPF: &str = "## From pyspf-milter and policyd-spf";
const SMF_SPF: &str = "## From smf-spf";
const AUTH_MILTER: &str = "### Settings of the program";
const AUTH_MILTER_HANDLERS: &str = "### Handlers";

/// Every table of settings.
const TABLES: [&str; 6] = [OPENDKIM, OPENDMARC, PYSPF, SMF_SPF, AUTH_MILTER, AUTH_MILTER_HANDLERS];

//--- Our side ---

#[test]
fn the_lines_to_write_are_a_configuration() {
    let mut count = 0;
    for heading in TABLES {
        for row in table(heading) {
            let known = |name: &str| parameters().iter().any(|parameter| parameter.name == name);
            let lines: Vec<&str> =
                codes(row.here).filter(|code| code.split(" =").next().is_some_and(known)).collect();
            // Some go together; others are alternatives, with the same name.
            let mut together = String::new();
            for line in &lines {
                let Some((name, value)) = line.split_once(" =") else { continue };
                let base =
                    "verify_dkim = yes\nverify_dmarc = yes\nheader = Authentication-Results\n";
                let mut text: String = base
                    .lines()
                    .filter(|line| !line.starts_with(&format!("{name} ")))
                    .collect::<Vec<_>>()
                    .join("\n");
                text += &format!("\n{name} ={value}\n");
                if name == "fail_reply_code" || name == "fail_status_code" {
                    together += &format!("{line}\n");
                    continue;
                }
                check(&text, row.there);
                count += 1;
            }
            check(&together, row.there);
        }
    }
    assert!(count > 100, "{count}");
}

fn check(lines: &str, there: &str) {
    let socket = if lines.contains("socket =") { "" } else { "socket = unix:/nowhere/x.sock\n" };
    if let Err(errors) = load_text(
        format!("{socket}{lines}").as_bytes(),
        Path::new("moving.md"),
        &Overrides::default(),
    ) {
        panic!("{there}: {lines}{errors}");
    }
}

#[test]
fn every_name_here_is_a_parameter() {
    let known: BTreeSet<&str> = parameters().iter().map(|parameter| parameter.name).collect();
    // The parameters of others that the right column has to name.
    let foreign = [
        "milter_quarantine",
        "reject_rbl_client",
        "reject_unknown_sender_domain",
        "smtpd_milters",
        "smtpd_tls_received_header",
    ];
    for heading in TABLES {
        for row in table(heading) {
            for code in codes(row.here) {
                let name = code.split(" =").next().unwrap();
                let is_name = name.contains('_')
                    && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
                assert!(
                    !is_name || known.contains(name) || foreign.contains(&name),
                    "{}: {code}",
                    row.there
                );
            }
        }
    }
}

//--- The other side ---

/// A file of Debian's packages; compressed ones are read all the same.
fn debian(path: &str) -> String {
    let root: PathBuf = target_folder().join("moving");
    let path = root.join(path);
    assert!(path.exists(), "{} is missing; `make test` as root unpacks it", path.display());
    if path.extension().is_some_and(|extension| extension == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", path.display());
        return String::from_utf8_lossy(&output.stdout).into_owned();
    }
    fs::read_to_string(path).unwrap()
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'))
}

/// The entries of a manual page that are `.I NAME (type)`.
fn entries(page: &str) -> BTreeSet<String> {
    let heads = page
        .lines()
        .filter_map(|line| line.strip_prefix(".I "))
        .filter_map(|line| line.split_once(" ("));
    heads.map(|(name, _)| name.to_owned()).filter(|name| is_word(name)).collect()
}

/// The settings of a file of lines `NAME value`, commented out directly or not.
fn settings_of_lines(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter(|line| !line.starts_with([' ', '#']));
    let names = lines.filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| is_word(name)).map(str::to_owned).collect()
}

/// The assignments `NAME = value` in a text, in comments too.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    pairs.filter(|(name, _)| is_word(name)).collect()
}

/// Says which settings the table lacks, and which of its settings there are not.
fn hold(heading: &str, documented: &BTreeSet<String>) {
    let rows = table(heading);
    let listed = settings(&rows);
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    let missing: Vec<_> = documented.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&documented).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{heading}: missing {missing:?}, unknown {unknown:?}"
    );
}

#[test]
#[ignore = "needs Debian's packages: make test"]
fn the_tables_have_every_setting_of_the_other_program() {
    let mut opendkim = entries(&debian("usr/share/man/man5/opendkim.conf.5.gz"));
    let in_file = settings_of_lines(&debian("etc/opendkim.conf"));
    assert!(opendkim.len() > 100 && in_file.len() > 10, "{} {}", opendkim.len(), in_file.len());
    opendkim.extend(in_file);
    hold(OPENDKIM, &opendkim);

    let mut opendmarc = entries(&debian("usr/share/man/man5/opendmarc.conf.5.gz"));
    let in_file = settings_of_lines(&debian("etc/opendmarc.conf"));
    assert!(opendmarc.len() > 30 && in_file.len() > 5, "{} {}", opendmarc.len(), in_file.len());
    opendmarc.extend(in_file);
    hold(OPENDMARC, &opendmarc);

    let page = debian("usr/share/man/man5/policyd-spf.conf.5.gz");
    let mut pyspf = entries(&page);
    let files = [
        page,
        debian("etc/pyspf-milter/pyspf-milter.conf"),
        debian("etc/postfix-policyd-spf-python/policyd-spf.conf"),
        debian("usr/share/doc/postfix-policyd-spf-python/policyd-spf.conf.commented.gz"),
    ];
    pyspf.extend(files.iter().flat_map(|file| assignments(file)).map(|(name, _)| name));
    // From an example for Postfix.
    pyspf.retain(|name| !["smtpd_recipient_restrictions", "user"].contains(&name.as_str()));
    assert!(pyspf.len() > 30, "{}", pyspf.len());
    hold(PYSPF, &pyspf);
}

/// The settings of Mail::Milter::Authentication 4.20260319, which is not in Debian: those that its
/// manual or its defaults have, and `auth_header_name` and `metric_umask`, which it only reads.
const AUTH_MILTER_SETTINGS: &str = "
    addheader_timeout auth_header_name authserv_id cache_dir cache_dns_timeouts check_for_dequeue
    chroot command_timeout connect_timeout connection connections content_timeout debug
    dequeue_timeout dns_resolvers dns_retry dns_servfail_timeout dns_timeout dryrun error_log
    errors_from errors_headers errors_to extended_log external_callback_processor handlers
    header_fold_at header_indent_by header_indent_style helo_map hide_none ip_map legacy_log lib_dir
    listen_backlog lock_file log_dispatchouli logtoerr max_children max_dequeue
    max_requests_per_child max_spare_children metric_basic_http metric_connection metric_host
    metric_port metric_tempfile metric_timeout metric_umask milter_quarantine min_children
    min_spare_children patch_net_server protocol rungroup runas smtp spool_dir tempfail_on_error
    tempfail_on_error_authenticated tempfail_on_error_local tempfail_on_error_trusted umask";

/// Its handlers, each with its settings.
const AUTH_MILTER_HANDLER_SETTINGS: &str = "
    ARC arcseal_algorithm arcseal_domain arcseal_headers arcseal_key arcseal_keyfile
        arcseal_selector hide_none no_strict rbl_whitelist trusted_domains
    AbusixDataFeed feed_dest feed_key feed_name listening_port
    AddID
    AlignedFrom
    Auth
    BIMI bimi_options rbl_allowlist rbl_blocklist rbl_no_evidence_allowlist
        sanitize_indicator_header sanitize_location_header timeout
    Blocker blocker_configs
    DKIM adsp_hide_none check_adsp extra_properties hide_domainkeys hide_none no_strict
        show_default_adsp
    DMARC arc_before_list config_file detect_list_id hard_reject hide_none hide_report_to
        no_list_reject no_list_reject_disposition no_reject_disposition no_report
        policy_rbl_lookup quarantine_on_multifrom reject_on_multifrom report_skip_to
        report_suppression_email_list report_suppression_list skip_on_multifrom strict_multifrom
        use_arc whitelisted
    IPRev
    LocalIP ignore_local_ip_list
    Logger connect envfrom envrcpt header helo
    PTR
    RBLDNS add_authresults add_header base_url default_state rbls sanitize_header states
    ReturnOK
    SPF best_guess helo_check hide_none hide_received-spf_header spfu_detection
    Sanitize extra_auth_results_types hosts_to_remove remove_headers
    SenderID hide_none
    Size
    TLS
    TestTimeout
    TrustedIP trusted_ip_list
    XGoogleDKIM hide_none";

/// The names of handlers begin with a capital letter, those of settings do not.
fn is_handler(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Names of handlers and settings, each setting with the handler before it.
fn with_handlers<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut handler = "";
    names
        .map(|name| {
            if is_handler(name) {
                handler = name;
                return name.to_owned();
            }
            format!("{handler} {name}")
        })
        .collect()
}

#[test]
fn the_tables_have_every_setting_of_authentication_milter() {
    let documented = AUTH_MILTER_SETTINGS.split_whitespace().map(str::to_owned).collect();
    hold(AUTH_MILTER, &documented);

    let documented = with_handlers(AUTH_MILTER_HANDLER_SETTINGS.split_whitespace());
    let rows = table(AUTH_MILTER_HANDLERS);
    let listed = with_handlers(rows.iter().flat_map(|row| codes(row.there)));
    let missing: Vec<_> = documented.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&documented).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

/// The results that a sentence of theirs names, as words of ours.
fn results(sentence: &str) -> BTreeSet<String> {
    let words = sentence.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase);
    words
        .filter(|word| {
            ["fail", "softfail", "neutral", "permerror", "temperror"].contains(&word.as_str())
        })
        .collect()
}

#[test]
#[ignore = "needs Debian's packages: make test"]
fn results_that_pyspf_rejects_are_rejected_here() {
    let page = debian("usr/share/man/man5/policyd-spf.conf.5.gz");
    let text = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let helo = text.split("HELO check rejection policy options are:").nth(1).unwrap();
    let rows = table(PYSPF);
    let row = |setting: &str| {
        rows.iter()
            .find(|row| row.there == format!("`{setting}`"))
            .unwrap_or_else(|| panic!("{setting}"))
    };
    for (value, from, to) in [
        ("Fail", "Fail - (Default) Reject", "."),
        ("Softfail", "Softfail - Reject", "."),
        ("SPF_Not_Pass", "alternatively put, reject", ")"),
    ] {
        let sentence = helo.split(from).nth(1).unwrap().split(to).next().unwrap();
        let theirs = results(sentence);
        assert!(theirs.contains("fail"), "{value}: {sentence}");
        for (setting, parameter) in
            [("HELO_reject", "reject_helo_results"), ("Mail_From_reject", "reject_results")]
        {
            let row = row(&format!("{setting} = {value}"));
            let ours = codes(row.here)
                .find_map(|code| code.strip_prefix(&format!("{parameter} =")))
                .unwrap();
            let mut ours = results(ours);
            if row.here.contains("neutral cannot be rejected") {
                ours.insert("neutral".into());
            }
            assert_eq!(ours, theirs, "{setting} = {value}: {sentence}");
        }
    }
    // Each value that their commented file has is a row.
    let commented =
        debian("usr/share/doc/postfix-policyd-spf-python/policyd-spf.conf.commented.gz");
    for (name, value) in assignments(&commented) {
        if ["HELO_reject", "Mail_From_reject", "Header_Type"].contains(&name.as_str()) {
            let value = value.split_ascii_whitespace().next().unwrap();
            row(&format!("{name} = {value}"));
        }
    }
    // Their test mode writes its header, so ours is not the same.
    assert!(text.contains("TestOnly = 0") && text.contains("Headers are prepended in messages"));
    let test_only = row("TestOnly = 0").here;
    assert!(
        test_only.contains("`reject_results =`") && test_only.contains("`reject_helo_results =`"),
        "{test_only}"
    );
    assert!(
        test_only.find("Header_Type = None").unwrap() < test_only.find("dry_run = yes").unwrap(),
        "{test_only}"
    );
    // Debian's own list of addresses is what `loopback` means.
    let addresses = assignments(&debian("etc/pyspf-milter/pyspf-milter.conf"));
    let (_, addresses) = addresses.iter().find(|(name, _)| name == "skip_addresses").unwrap();
    for address in addresses.split(',') {
        assert!(row("skip_addresses").here.contains(&format!("`{address}`")), "{address}");
    }
    // A keyword of theirs that is not one here.
    assert!(text.contains("HOSTNAME"));
    assert!(row("Authserv_Id").here.contains("HOSTNAME"));
}

#[test]
#[ignore = "needs Debian's packages: make test"]
fn defaults_of_opendkim_are_as_the_table_says() {
    let page = debian("usr/share/man/man5/opendkim.conf.5.gz")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let about = |name: &str| {
        page.split(&format!(".I {name} ("))
            .nth(1)
            .unwrap()
            .split(" .TP ")
            .next()
            .unwrap()
            .to_owned()
    };
    assert!(about("Mode").replace(".I ", "").contains("default is sv"), "{}", about("Mode"));
    assert!(about("InternalHosts").contains("127.0.0.1"), "{}", about("InternalHosts"));
    assert!(
        about("MaximumSignaturesToVerify").contains("default is three"),
        "{}",
        about("MaximumSignaturesToVerify")
    );
    for name in ["AuthservID", "PeerList", "InternalHosts"] {
        assert!(settings(&table(OPENDKIM)).contains(name), "{name}");
    }
}
