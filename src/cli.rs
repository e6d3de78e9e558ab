//! The command line.

use std::{
    ffi::CString,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, error::ErrorKind};
use nix::unistd::{User, geteuid, initgroups, setegid, seteuid};

use crate::{
    config::{Errors, Loaded, Overrides, load},
    daemon::{Failure, Process},
    status::{self, Question},
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
    /// Configuration file
    #[arg(short, long, value_name = "PATH", default_value = CONFIG_FILE, global = true)]
    config_file: PathBuf,
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
    },
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
    let path = cli.options.config_file.clone();
    let overrides = Overrides {
        log_destination: cli.options.log_destination,
        log_level: cli.options.log_level,
        socket: cli.options.socket,
        syslog_facility: cli.options.syslog_facility,
        dry_run: cli.options.dry_run,
    };
    let Some(command) = cli.command else { return run(process, &path, overrides) };
    if let Err(error) = process.release_signals() {
        return fail(&error);
    }
    match command {
        Command::CheckConfig { user } => with_configuration(&path, &overrides, |loaded| {
            check_config(&path, &overrides, &loaded, &user)
        }),
        Command::ShowConfig { all } => {
            with_configuration(&path, &overrides, |loaded| print(&loaded.config.show(all)))
        }
        // The milter that runs may have had another configuration file than what is there now.
        Command::Status(options) => show_status(&options, &path),
    }
}

fn with_configuration(
    path: &Path,
    overrides: &Overrides,
    act: impl FnOnce(Loaded) -> ExitCode,
) -> ExitCode {
    match load(path, overrides) {
        Ok(loaded) => act(loaded),
        Err(errors) => report(&errors),
    }
}

/// Asks the milter that runs.
fn show_status(options: &StatusOptions, path: &Path) -> ExitCode {
    let question = match options {
        StatusOptions { health: true, .. } => Question::Health,
        StatusOptions { ready: true, .. } => Question::Readiness,
        _ => Question::Status,
    };
    let socket = status::find_socket(options.metrics_socket.as_deref(), path);
    if question != Question::Status {
        // Those who only want to know this want one line, whatever happens.
        let answer = socket.and_then(|socket| status::ask_health(&socket, question));
        let (is_so, text) = answer.unwrap_or_else(|failure| (false, failure.to_string()));
        let printed = print(&format!("{}\n", text.lines().next().unwrap_or_default()));
        return if is_so { printed } else { NOT_HEALTHY.into() };
    }
    match socket.and_then(|socket| status::ask_status(&socket)) {
        Ok(status) if options.json => print(&status.to_json()),
        Ok(status) => print(&status.to_text(has_looks())),
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

/// Whether standard output is a terminal that is to have colours (https://no-color.org).
fn has_looks() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

fn run(process: Process, path: &Path, overrides: Overrides) -> ExitCode {
    match process.run_daemon(path, overrides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(errors)) => report(&errors),
        Err(Failure::Start(error)) => fail(&error),
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
