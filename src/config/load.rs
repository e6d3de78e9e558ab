//! From files and the command line to a configuration.

use std::{path::Path, sync::Arc};

use nix::unistd::Group;

use super::{
    assignment::{Assignment, Assignments, ValueReader},
    check::contradictions,
    error::{ConfigError, Errors, Origin, Position, Warning},
    params::{Config, Parameter, parameters, read_values, sockets},
    parse::{check_name, parse},
    place::Places,
    source::{NamedFiles, control_character, read_entries, read_file},
    types::{
        domain_map::DomainMap,
        file::group_name,
        keyword::OwnPolicy,
        listed::{Entries as _, read_line},
        policy_overrides::override_line,
        skip_senders::SenderSet,
        socket::{SocketSpec, single_socket},
        value::{Parsed, quote, wrong},
    },
    warnings::warnings,
};

/// Options of the command line that win over the configuration file, in the same spelling.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// `--log-destination`.
    pub log_destination: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--socket`.
    pub socket: Option<String>,
    /// `--syslog-facility`.
    pub syslog_facility: Option<String>,
    /// `--dry-run`.
    pub dry_run: bool,
    /// Settings of any parameters, in the order in which the latter win.
    pub settings: Vec<Setting>,
}

/// A parameter that the command line sets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The option that says so, with its hyphens.
    pub option: &'static str,
    /// The line, as it may stand in a configuration file.
    pub line: String,
}

impl Setting {
    /// Reads the line, as one of a file is read.
    fn assignment(&self) -> Result<Assignment, ConfigError> {
        let (name, value) = match self.line.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value)),
            None => (self.line.trim(), None),
        };
        let parameter = Parameter::find(name);
        let origin = match parameter {
            Some(parameter) => format!("{} {}", self.option, parameter.name).into(),
            None => self.option.into(),
        };
        let value = value.map(str::trim);
        let source = Arc::from(value.unwrap_or_default());
        let position = Position::line(&Origin::Option(origin), 0, &source);
        match (parameter, check_name(name, value, parameter, false)) {
            (Some(parameter), Ok(())) => Ok(Assignment {
                name: parameter.name,
                value: value.map(str::to_owned),
                position,
                offset: 0,
            }),
            (_, Err((_, _, message))) => Err(ConfigError::new(position, None, message)),
            (None, Ok(())) => Err(ConfigError::new(position, None, "no parameter")),
        }
    }
}

impl Overrides {
    /// The options as if they were lines of a file.
    fn assignments(&self, errors: &mut Errors) -> Vec<Assignment> {
        let options = [
            ("log_destination", "--log-destination", self.log_destination.as_deref()),
            ("log_level", "--log-level", self.log_level.as_deref()),
            ("socket", "--socket", self.socket.as_deref()),
            ("syslog_facility", "--syslog-facility", self.syslog_facility.as_deref()),
            ("dry_run", "--dry-run", self.dry_run.then_some("yes")),
        ];
        let given = options.into_iter().filter_map(|(name, option, value)| {
            let (parameter, value) = (Parameter::find(name)?, value?);
            let position = Position::line(&Origin::Option(option.into()), 0, &Arc::from(value));
            let value = Some(value.trim().into());
            Some(Assignment { name: parameter.name, value, position, offset: 0 })
        });
        let mut all: Vec<Assignment> = given.collect();
        for setting in &self.settings {
            match setting.assignment() {
                Ok(assignment) => {
                    all.retain(|earlier| earlier.name != assignment.name);
                    all.push(assignment);
                }
                Err(error) => errors.push(error),
            }
        }
        all
    }
}

/// A configuration that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Settings that are not an error, but hardly meant.
    pub warnings: Vec<Warning>,
    /// The places where its values are set.
    pub places: Places,
}

/// Reads the configuration file, and the files that it names.
///
/// # Errors
///
/// Everything that is wrong with them and with the command line.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Errors> {
    load_with(path, overrides, &NamedFiles::System)
}

/// As [`load`], with the files that it names from there.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(path: &Path, overrides: &Overrides, files: &NamedFiles) -> Result<Loaded, Errors> {
    match read_file(path) {
        Ok(text) => load_on(&text, path, overrides, files, &find_group),
        Err(error) => {
            let mut errors = Errors::default();
            errors.push(ConfigError::new(
                Position::file(path),
                None,
                format!("{error} (expected a configuration file)"),
            ));
            let assignments = overrides.assignments(&mut errors);
            assignments.iter().for_each(|assignment| check_value(assignment, &mut errors));
            Err(errors)
        }
    }
}

/// Reads only the metrics socket that a configuration file names, whatever else is wrong with the
/// file: the daemon may run with what the file had before.
///
/// # Errors
///
/// The file cannot be read, or what it says about the socket is wrong.
pub fn load_metrics_socket(path: &Path) -> Result<Option<SocketSpec>, Errors> {
    const NAME: &str = "metrics_socket";
    let mut errors = Errors::default();
    let text = match read_file(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{error} (expected a configuration file)");
            errors.push(ConfigError::new(Position::file(path), None, message));
            return Err(errors);
        }
    };
    let (assignments, _) = parse(&text, path);
    let Some(assignment) = assignments.find(NAME) else { return Ok(None) };
    check_value(assignment, &mut errors);
    let text = assignment.value.as_deref().filter(|text| !text.is_empty());
    if errors.is_empty() { Ok(text.and_then(|text| single_socket(text).ok())) } else { Err(errors) }
}

/// Reads a metrics socket as the configuration file has it.
///
/// # Errors
///
/// What is wrong with it.
pub fn metrics_socket(text: &str) -> Result<SocketSpec, String> {
    single_socket(text).map_err(|errors| {
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; ")
    })
}

/// Makes a configuration of defaults and the command line, for commands that open no socket.
///
/// # Errors
///
/// Everything that is wrong with the command line.
pub fn load_defaults(overrides: &Overrides) -> Result<Loaded, Errors> {
    // There is none by default.
    let text = b"socket = unix:/run/spf-milter/spf-milter.sock";
    load_on(text, Path::new("defaults"), overrides, &NamedFiles::System, &find_group)
}

/// Reads a configuration file that is in memory; `path` is what errors call it. Files that it names
/// are read; it is not looked whether this host has the groups that it names.
///
/// # Errors
///
/// As [`load`].
#[cfg(any(test, feature = "testing"))]
pub fn load_text(text: &[u8], path: &Path, overrides: &Overrides) -> Result<Loaded, Errors> {
    load_text_with(text, path, overrides, &NamedFiles::System)
}

/// Reads a configuration file that is in memory, with the files that it names from there; it is not
/// looked whether this host has the groups that it names.
///
/// # Errors
///
/// As [`load`].
pub fn load_text_with(
    text: &[u8],
    path: &Path,
    overrides: &Overrides,
    files: &NamedFiles,
) -> Result<Loaded, Errors> {
    load_on(text, path, overrides, files, &|_| Ok(()))
}

/// As [`load_text_with`], on a host where a group is looked for in this way.
fn load_on(
    text: &[u8],
    path: &Path,
    overrides: &Overrides,
    files: &NamedFiles,
    find_group: &dyn Fn(&str) -> Result<(), String>,
) -> Result<Loaded, Errors> {
    let (mut assignments, mut errors) = parse(text, path);
    for mut option in overrides.assignments(&mut errors) {
        if let Some((_, problem)) = option.value.as_deref().and_then(control_character) {
            errors.push(ConfigError::new(option.position.clone(), None, problem));
            option.value = None;
        }
        if let Some(in_file) = assignments.remove(option.name) {
            // A value that does not count must be right all the same: the option may be missing the
            // next time.
            check_value(&in_file, &mut errors);
        }
        assignments.push(option);
    }
    let senders = assignments.find("skip_senders_file");
    let senders = senders.and_then(|assignment| read_senders(files, assignment, &mut errors));
    let overrides = assignments.find("dmarc_override_file");
    let overrides = overrides.and_then(|assignment| read_overrides(files, assignment, &mut errors));
    errors.extend(check_group(&assignments, find_group));
    let (file, read_errors) = (Position::file(path), Errors::default());
    let mut reader = ValueReader {
        assignments: &assignments,
        files,
        file,
        errors: read_errors,
        warnings: Vec::new(),
    };
    let config = read_values(&mut reader);
    let of_files = reader.warnings;
    errors.append(reader.errors);
    errors.sort(path);
    errors.append(contradictions(&assignments));
    match config {
        Some(mut config) if errors.is_empty() => {
            config.skip_senders.set_file(senders.unwrap_or_default());
            config.dmarc_override_file.set(overrides.unwrap_or_default());
            complete(&mut config, &assignments);
            let mut warnings = warnings(&config, &assignments);
            warnings.extend(of_files);
            Ok(Loaded { config, warnings, places: Places::new(&assignments) })
        }
        _ => Err(errors),
    }
}

/// Checks that there is the group that sockets are to be given to.
fn check_group(
    assignments: &Assignments,
    find_group: &dyn Fn(&str) -> Result<(), String>,
) -> Option<ConfigError> {
    let assignment = assignments.find("socket_group")?;
    let group = assignment
        .value
        .as_deref()
        .filter(|group| !group.is_empty() && group_name(group).is_ok())?;
    let sockets = assignments
        .find("socket")
        .and_then(|assignment| sockets(assignment.value.as_deref()?).ok());
    let metrics = assignments
        .find("metrics_socket")
        .and_then(|assignment| single_socket(assignment.value.as_deref()?).ok());
    let is_unix = |socket: &SocketSpec| matches!(socket, SocketSpec::Unix(_));
    if sockets.is_some_and(|sockets| !sockets.iter().chain(&metrics).any(is_unix)) {
        return None;
    }
    Some(assignment.error(0, find_group(group).err()?))
}

/// Checks that this host has a group.
fn find_group(name: &str) -> Result<(), String> {
    match Group::from_name(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!(
            "there is no group {} on this host (expected the name of a group)",
            quote(name)
        )),
        Err(error) => {
            Err(format!("cannot find out whether there is a group {}: {error}", quote(name)))
        }
    }
}

fn check_value(assignment: &Assignment, errors: &mut Errors) {
    // Where there is no value an error says why.
    let Some(value) = assignment.value.as_deref() else { return };
    let Some(parameter) = Parameter::find(assignment.name) else { return };
    errors.extend(assignment.errors((parameter.check)(value)));
}

/// Gives what is not set the defaults that depend on other parameters.
fn complete(config: &mut Config, assignments: &Assignments) {
    for parameter in parameters() {
        if assignments.find(parameter.name).is_none() {
            config.derive(parameter.name);
        }
    }
    // An empty one is as good as none.
    if config.authserv_id.is_none() {
        config.derive("authserv_id");
    }
}

/// Reads `skip_senders_file`.
fn read_senders(
    files: &NamedFiles,
    assignment: &Assignment,
    errors: &mut Errors,
) -> Option<SenderSet> {
    let mut set = SenderSet::default();
    read_lines(files, assignment, errors, |line| {
        set.insert(&read_line::<SenderSet>(line)?);
        Ok(None)
    })?;
    Some(set)
}

/// Reads `dmarc_override_file`. A domain that is there twice must have the same policy.
fn read_overrides(
    files: &NamedFiles,
    assignment: &Assignment,
    errors: &mut Errors,
) -> Option<DomainMap<OwnPolicy>> {
    let mut map = DomainMap::default();
    read_lines(files, assignment, errors, |line| {
        let (entry, policy) = override_line(line)?;
        match map.insert(&entry, policy) {
            Some(former) if former != policy => {
                wrong(format!("contradicts the policy {former} above (expected one policy)"))
            }
            _ => Ok(None),
        }
    })?;
    Some(map)
}

/// Reads the file that a parameter names: one entry in a line.
fn read_lines(
    files: &NamedFiles,
    assignment: &Assignment,
    errors: &mut Errors,
    read: impl FnMut(&str) -> Parsed<Option<String>>,
) -> Option<()> {
    let path = Path::new(assignment.value.as_deref().filter(|value| !value.is_empty())?);
    match read_entries(files, path, assignment.name, errors, &mut Vec::new(), read) {
        Ok(()) => Some(()),
        Err(message) => {
            errors.push(assignment.error(0, message));
            None
        }
    }
}
