//! The command line.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{Errors, Loaded, Overrides, load},
    daemon,
};

/// Exit codes of sysexits.h.
const USAGE: u8 = 64;
const SYSTEM: u8 = 71;
const IO: u8 = 74;
const CONFIGURATION: u8 = 78;

/// The configuration file, unless the command line names another.
const CONFIG_FILE: &str = "/etc/spf-milter.conf";

/// Verifies mail senders in front of Postfix and Sendmail. Without a command, runs the milter in the foreground.
#[derive(Debug, Parser)]
#[command(name = "spf-milter", version, disable_help_subcommand = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options that hold for all commands; those that stand for a parameter win over the configuration file.
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

/// What to do instead of running the milter.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and exit
    CheckConfig,
    /// Print the parameters that differ from their defaults, as a configuration file
    ShowConfig {
        /// Print all parameters
        #[arg(long)]
        all: bool,
    },
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&error.to_string()),
                _ => {
                    say(&error.to_string());
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
    match load(&path, &overrides) {
        Err(errors) => complain(&errors),
        Ok(loaded) => match cli.command {
            None => run(&path, overrides, loaded),
            Some(Command::CheckConfig) => check_config(&path, &loaded),
            Some(Command::ShowConfig { all }) => print(&loaded.config.show(all)),
        },
    }
}

fn run(path: &Path, overrides: Overrides, loaded: Loaded) -> ExitCode {
    match daemon::run(path, overrides, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("spf-milter: {error:#}\n"));
            SYSTEM.into()
        }
    }
}

fn check_config(path: &Path, loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    // What the file cannot show, and the start would stumble over.
    if let Err(error) = daemon::check(&loaded.config) {
        say(&format!("{}: {error:#}\n", path.display()));
        return CONFIGURATION.into();
    }
    print(&format!("{}: configuration is valid\n", path.display()))
}

fn complain(errors: &Errors) -> ExitCode {
    say(&errors.render(io::stderr().is_terminal()));
    if errors.are_of_options() { USAGE.into() } else { CONFIGURATION.into() }
}

/// Writes to stderr. That nobody reads it does not change the exit code.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has gone, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("spf-milter: cannot write to standard output: {error}\n"));
            IO.into()
        }
    }
}
