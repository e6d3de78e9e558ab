//! The command line.

use std::{
    env,
    ffi::CString,
    io::{self, IsTerminal as _, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, error::ErrorKind};
use nix::unistd::{User, geteuid, initgroups, setegid, seteuid};
use terminal_size::terminal_size;

use crate::{
    config::{Errors, Loaded, Overrides, load},
    daemon::{Failure, Process, system_host_name},
    explain::{self, Source},
    query::{self, Answered, Inquiry, Question, Style, Wanted},
    status::{self, Question as StatusQuestion},
};

/// The exit code of a milter that is not healthy, or not ready.
const NOT_HEALTHY: u8 = 1;

/// Exit codes of sysexits.h.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const SYSTEM: u8 = 71;
const IO: u8 = 74;
const PROTOCOL: u8 = 76;
const NOT_PERMITTED: u8 = 77;
const CONFIGURATION: u8 = 78;

/// The configuration file, unless the command line names another.
const CONFIG_FILE: &str = "/etc/spf-milter.conf";

/// The user as whom the service runs.
const SERVICE_USER: &str = "spf-milter";

/// Verifies mail senders in front of Postfix and Sendmail. Without a command, runs the milter in
/// the foreground.
#[derive(Debug, Parser)]
#[command(name = "spf-milter", version, disable_help_subcommand = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of all commands. An option that stands for a parameter wins over the configuration file.
#[derive(Args, Debug)]
struct Options {
    /// Configuration file [default: /etc/spf-milter.conf]
    #[arg(short, long, value_name = "PATH", global = true)]
    config_file: Option<PathBuf>,
    /// Verify and log, but reject nothing and change nothing
    #[arg(short = 'n', long, global = true)]
    dry_run: bool,
    /// Where to log: syslog or stderr
    #[arg(short, long, value_name = "DESTINATION", global = true)]
    log_destination: Option<String>,
    /// What to log: error, warn, info or debug
    #[arg(short = 'L', long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    /// Where to listen, such as inet:localhost:3000 or unix:/run/spf-milter/spf-milter.sock
    #[arg(short = 'p', long, value_name = "SOCKET", global = true)]
    socket: Option<String>,
    /// Facility of syslog, such as mail
    #[arg(short, long, value_name = "NAME", global = true)]
    syslog_facility: Option<String>,
}

/// A command instead of running the milter.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and exit
    CheckConfig {
        /// User as whom the files are read for a second time, if root does this
        #[arg(long, value_name = "NAME", default_value = SERVICE_USER)]
        user: String,
    },
    /// Print the parameters that differ from their defaults, as a configuration file
    ShowConfig {
        /// Print all parameters
        #[arg(long)]
        all: bool,
        /// Print JSON: each parameter with its value and the place where it is set
        #[arg(long)]
        json: bool,
    },
    /// Ask what would become of a message or a client, and why, without an MTA
    Query(Box<Query>),
    /// Say what a line of the log means, and ask again today
    Explain(Explain),
    /// Ask the milter that runs, over its metrics socket, for its status
    Status(StatusOptions),
}

/// Options of the command `status`.
#[derive(Args, Debug)]
struct StatusOptions {
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
    /// Print whether the milter serves the MTA; exit with 0 if it does, with 1 otherwise
    #[arg(long, conflicts_with = "json")]
    health: bool,
    /// As --health, and name servers must answer
    #[arg(long, conflicts_with_all = ["json", "health"])]
    ready: bool,
    /// Where to ask, instead of metrics_socket in the configuration file
    #[arg(long, value_name = "SOCKET")]
    metrics_socket: Option<String>,
}

/// A question to the verifier. What is not given is taken from the fields of the message.
#[derive(Args, Debug)]
struct Query {
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// The client's name in HELO or EHLO
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The reverse-path, `<>` for none
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    rcpt: Vec<String>,
    /// The client authenticated
    #[arg(long)]
    authenticated: bool,
    /// File of the message; - for standard input
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    /// Name of the host whose Received field names the client; may be given several times
    #[arg(long, value_name = "NAME")]
    received_by: Vec<String>,
    /// Name server to ask, as ADDRESS or ADDRESS:PORT; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    nameserver: Vec<String>,
    /// What if: a parameter, or client, helo, mail-from or author-domain, with another value
    #[arg(long = "as", value_name = "NAME=VALUE")]
    changes: Vec<String>,
    /// Verify clients, senders and recipients that are exempt as all others
    #[arg(long)]
    ignore_exemptions: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write all answers of DNS to this file, with the question and the configuration
    #[arg(long, value_name = "FILE")]
    dns_record: Option<PathBuf>,
    /// Use the answers, the question and the configuration in this file, and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config_file", "nameserver"])]
    dns_replay: Option<PathBuf>,
    /// Show the steps of SPF, DKIM and DMARC
    #[arg(long, conflicts_with = "json")]
    trace: bool,
    /// Print a text for the sender about what is wrong, and nothing else
    #[arg(long, conflicts_with_all = ["json", "trace"])]
    for_sender: bool,
}

/// Which lines are explained; without any, those on standard input.
#[derive(Args, Debug)]
struct Explain {
    /// The line, in single quotes for the shell
    line: Vec<String>,
    /// Find the lines with this queue id in the journal
    #[arg(long, value_name = "ID", conflicts_with = "line")]
    queue_id: Option<String>,
    /// Find them in this file instead
    #[arg(long, value_name = "FILE", requires = "queue_id")]
    log: Option<PathBuf>,
    /// Only explain, ask nothing
    #[arg(long)]
    no_ask: bool,
    /// Name server to ask, as ADDRESS or ADDRESS:PORT; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    nameserver: Vec<String>,
}

/// The definition of the command line: completions of shells are made from it.
#[cfg(feature = "testing")]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The program.
pub fn main() -> ExitCode {
    let process = match Process::start() {
        Ok(process) => process,
        Err(error) => return fail(&error),
    };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&error.to_string()),
                _ => {
                    write_stderr(&error.to_string());
                    USAGE.into()
                }
            };
        }
    };
    let given = cli.options.config_file;
    let path = given.clone().unwrap_or_else(|| CONFIG_FILE.into());
    let overrides = Overrides {
        log_destination: cli.options.log_destination,
        log_level: cli.options.log_level,
        socket: cli.options.socket,
        syslog_facility: cli.options.syslog_facility,
        dry_run: cli.options.dry_run,
        settings: Vec::new(),
    };
    let Some(command) = cli.command else { return run(process, &path, overrides) };
    if let Err(error) = process.release_signals() {
        return fail(&error);
    }
    let load = || load(&path, &overrides);
    match command {
        Command::Query(query) => ask(*query, given, overrides),
        Command::Explain(explain) => self::explain(explain, given, overrides),
        // The milter that runs may have had another configuration file than what is there now.
        Command::Status(options) => show_status(&options, &path),
        Command::CheckConfig { user } => match load() {
            Err(errors) => report(&errors),
            Ok(loaded) => check_config(&path, &overrides, &loaded, &user),
        },
        Command::ShowConfig { all, json } => match load() {
            Err(errors) => report(&errors),
            Ok(loaded) if json => print(&loaded.config.show_json(&loaded.places, all)),
            Ok(loaded) => print(&loaded.config.show(all)),
        },
    }
}

/// Asks the milter that runs.
fn show_status(options: &StatusOptions, path: &Path) -> ExitCode {
    let question = match options {
        StatusOptions { health: true, .. } => StatusQuestion::Health,
        StatusOptions { ready: true, .. } => StatusQuestion::Readiness,
        _ => StatusQuestion::Status,
    };
    let socket = status::find_socket(options.metrics_socket.as_deref(), path);
    if question != StatusQuestion::Status {
        // Those who only want to know this want one line, whatever happens.
        let answer = socket.and_then(|socket| status::ask_health(&socket, question));
        let (is_so, text) = answer.unwrap_or_else(|failure| (false, failure.to_string()));
        let printed = print(&format!("{}\n", text.lines().next().unwrap_or_default()));
        return if is_so { printed } else { NOT_HEALTHY.into() };
    }
    match socket.and_then(|socket| status::ask_status(&socket)) {
        Ok(status) if options.json => match status.to_json() {
            Ok(json) => print(&json),
            Err(problem) => fail(&anyhow::Error::msg(problem)),
        },
        Ok(status) => print(&status.to_text(style().has_colours)),
        Err(status::Failure::Configuration(errors)) => report(&errors),
        Err(failure) => {
            write_stderr(&format!("spf-milter: {failure}\n"));
            match failure {
                status::Failure::Option(_) => USAGE,
                status::Failure::Configuration(_) | status::Failure::Unknown(_) => CONFIGURATION,
                status::Failure::Unavailable(_) => UNAVAILABLE,
                status::Failure::NotPermitted(_) => NOT_PERMITTED,
                status::Failure::Protocol(_) => PROTOCOL,
            }
            .into()
        }
    }
}

fn run(process: Process, path: &Path, overrides: Overrides) -> ExitCode {
    match process.run_daemon(path, overrides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(errors)) => report(&errors),
        Err(Failure::Start(error)) => fail(&error),
    }
}

fn ask(query: Query, config_file: Option<PathBuf>, overrides: Overrides) -> ExitCode {
    let question = Question {
        ip: query.ip,
        helo: query.helo,
        mail_from: query.mail_from.map(String::into_bytes),
        is_authenticated: query.authenticated,
        recipients: query.rcpt.into_iter().map(String::into_bytes).collect(),
        received_by: query.received_by,
        ..Question::default()
    };
    let wanted = Wanted {
        record: query.dns_record,
        replay: query.dns_replay,
        trace: query.trace,
        for_sender: query.for_sender,
    };
    answer(query::run(Inquiry {
        question,
        message: query.message,
        config_file,
        usual_file: CONFIG_FILE.into(),
        overrides,
        nameservers: query.nameserver,
        changes: query.changes,
        ignores_exemptions: query.ignore_exemptions,
        host_name: system_host_name(),
        is_json: query.json,
        style: style(),
        wanted,
    }))
}

fn explain(explain: Explain, config_file: Option<PathBuf>, overrides: Overrides) -> ExitCode {
    let Explain { line, queue_id, log, no_ask, nameserver } = explain;
    let source = match queue_id {
        Some(id) => Source::QueueId(id, log),
        None if line.is_empty() => Source::StandardInput,
        None => Source::Given(line.join(" ")),
    };
    let inquiry = Inquiry {
        question: Question::default(),
        message: None,
        config_file,
        usual_file: CONFIG_FILE.into(),
        overrides,
        nameservers: nameserver,
        changes: Vec::new(),
        ignores_exemptions: false,
        host_name: system_host_name(),
        is_json: false,
        style: style(),
        wanted: Wanted::default(),
    };
    answer(explain::run(&source, &inquiry, !no_ask))
}

/// Writes the answer to a question, or why there is none.
fn answer(answered: Result<Answered, query::Problem>) -> ExitCode {
    let (problem, code) = match answered {
        Ok(Answered { text, exit }) => {
            let written = print(&text);
            return if written == ExitCode::SUCCESS { exit.into() } else { written };
        }
        Err(query::Problem::Configuration(errors)) => return report(&errors),
        Err(query::Problem::Input(problem)) => (problem, USAGE),
        Err(query::Problem::System(problem)) => (problem, SYSTEM),
        Err(query::Problem::NotRecorded(problem)) => (problem, UNAVAILABLE),
    };
    write_stderr(&format!("spf-milter: {problem}\n"));
    code.into()
}

/// How standard output shows text.
fn style() -> Style {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let is_terminal = io::stdout().is_terminal();
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let columns =
        || terminal_size().map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0);
    Style {
        has_colours: is_terminal
            && set("NO_COLOR").is_none()
            && set("TERM").is_some_and(|terminal| terminal != "dumb"),
        width: is_terminal.then(columns).flatten(),
        is_utf8: locale.ends_with("utf-8") || locale.ends_with("utf8"),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    write_stderr(&format!("spf-milter: {error:#}\n"));
    SYSTEM.into()
}

fn check_config(path: &Path, overrides: &Overrides, loaded: &Loaded, user: &str) -> ExitCode {
    for warning in &loaded.warnings {
        write_stderr(&format!("warning: {warning}\n"));
    }
    // Root can read what the service cannot.
    match become_user(user) {
        Ok(false) => {}
        Ok(true) => {
            if let Err(errors) = load(path, overrides) {
                let code = report(&errors);
                write_stderr(&format!(
                    "the user {user}, as whom the service runs, cannot use the configuration; root can (--user root)\n"
                ));
                return code;
            }
        }
        Err(error) => return fail(&error),
    }
    print(&format!("{}: configuration is valid\n", path.display()))
}

/// Becomes another user, which only root can, and returns whether it did. Without a service user on
/// this host root stays root.
fn become_user(name: &str) -> anyhow::Result<bool> {
    if !geteuid().is_root() {
        return Ok(false);
    }
    let user = match User::from_name(name)
        .with_context(|| format!("cannot look for the user '{name}'"))?
    {
        Some(user) => user,
        None if name == SERVICE_USER => return Ok(false),
        None => bail!("there is no user '{name}'"),
    };
    let become_it = || {
        initgroups(&CString::new(name)?, user.gid)?;
        setegid(user.gid)?;
        seteuid(user.uid)?;
        anyhow::Ok(())
    };
    become_it().with_context(|| format!("cannot become the user '{name}'"))?;
    Ok(true)
}

fn report(errors: &Errors) -> ExitCode {
    write_stderr(&errors.render(io::stderr().is_terminal()));
    if errors.are_of_options() { USAGE.into() } else { CONFIGURATION.into() }
}

/// Writes to stderr. A stderr that is closed does not change the exit code.
fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            write_stderr(&format!("spf-milter: cannot write to standard output: {error}\n"));
            IO.into()
        }
    }
}
