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
};

/// Exit codes of sysexits.h.
const USAGE: u8 = 64;
const SYSTEM: u8 = 71;
const IO: u8 = 74;
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
    match load(&path, &overrides) {
        Err(errors) => report(&errors),
        Ok(loaded) => match command {
            Command::CheckConfig { user } => check_config(&path, &overrides, &loaded, &user),
            Command::ShowConfig { all } => print(&loaded.config.show(all)),
        },
    }
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
