//! The daemon as a child process.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
};

use super::{
    milter_client::{MilterClient, Socket},
    process::{Log, Process},
    root,
    scratch::Scratch,
};

/// The words of the log line that the daemon serves; its `socket=` words say where.
pub const STARTED: &str = " started ";

/// The words of the log line that a new configuration is in use.
pub const RELOADED: &str = "configuration reloaded";

/// The words of the log line that a new configuration was refused.
pub const RELOAD_FAILED: &str = "configuration not reloaded";

/// A running daemon with a configuration file of its own; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    folder: Scratch,
    base: String,
    /// Where it listens.
    pub sockets: Vec<Socket>,
    /// Where it can be monitored.
    pub metrics: Vec<Socket>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log().lines().join("\n"));
        }
    }
}

/// The remains of a daemon that did not start.
#[derive(Debug)]
pub struct NotStarted {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub output: String,
}

/// The program under test: `SPF_MILTER_BIN`, or what Cargo built.
pub fn program() -> PathBuf {
    if let Some(path) = env::var_os("SPF_MILTER_BIN") {
        return path.into();
    }
    // Tests and benchmarks are `TARGET/PROFILE/deps/NAME`, an example is `TARGET/PROFILE/examples/NAME`.
    env::current_exe().unwrap().ancestors().nth(2).unwrap().join("spf-milter")
}

/// The environment variables that the systemd unit sets.
pub fn unit_environment() -> Vec<(String, String)> {
    let unit = fs::read_to_string(root().join("etc/spf-milter.service")).unwrap();
    let settings = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let variables = settings.map(|setting| setting.split_once('=').unwrap());
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a configuration sets a parameter.
pub fn sets(config: &str, key: &str) -> bool {
    config.lines().any(|line| line.split('=').next().is_some_and(|name| name.trim() == key))
}

impl Daemon {
    /// Starts the daemon; lines for a loopback socket and a log on standard error are added where
    /// `config` has none.
    ///
    /// # Panics
    ///
    /// When it ends instead of serving.
    pub fn start(config: &str) -> Self {
        Self::try_start(config)
            .unwrap_or_else(|failure| panic!("the daemon did not start: {failure:?}"))
    }

    /// See [`Daemon::start`].
    ///
    /// # Errors
    ///
    /// The remains of the daemon where it ended instead of serving.
    pub fn try_start(config: &str) -> Result<Self, NotStarted> {
        Self::launch(config, |_| ())
    }

    /// See [`Daemon::try_start`]; `adapt` may add arguments and environment variables.
    ///
    /// # Errors
    ///
    /// The remains of the daemon where it ended instead of serving.
    pub fn launch(config: &str, adapt: impl FnOnce(&mut Command)) -> Result<Self, NotStarted> {
        let folder = Scratch::new("daemon");
        let mut base = String::new();
        for (key, value) in [("socket", "inet:127.0.0.1:0"), ("log_destination", "stderr")] {
            if !sets(config, key) {
                base += &format!("{key} = {value}\n");
            }
        }
        let path = folder.write("spf-milter.conf", format!("{base}{config}"));
        let mut command = Command::new(program());
        command.arg("-c").arg(path);
        adapt(&mut command);
        let mut process = Process::start(&mut command);
        let Some(line) = process.log.find(|line| line.contains(STARTED)) else {
            let output = process.log.to_end();
            return Err(NotStarted { status: process.wait(), output });
        };
        let named = |prefix: &str| -> Vec<Socket> {
            let words = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(prefix));
            words.flat_map(|list| list.split(',')).filter_map(Socket::parse).collect()
        };
        let (sockets, metrics) = (named("socket="), named("metrics-socket="));
        assert!(!sockets.is_empty(), "no socket in the start line: {line}");
        Ok(Self { process, folder, base, sockets, metrics })
    }

    /// Connects to its first socket as an MTA.
    pub fn client(&self) -> MilterClient {
        MilterClient::connect_to(&self.sockets[0]).unwrap()
    }

    /// The lines that it logged so far and logs from now on.
    pub fn log(&self) -> &Log {
        &self.process.log
    }

    /// Waits for a log line that has all these words in it.
    ///
    /// # Panics
    ///
    /// When there is none within a minute, or the daemon ends before.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        let line = self.log().find(|line| words.iter().all(|word| line.contains(word)));
        line.unwrap_or_else(|| {
            panic!("no log line with {words:?} in\n{}", self.log().lines().join("\n"))
        })
    }

    /// The folder with its configuration file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Its resident memory in KiB.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Writes a new configuration file, with the same additions as at the start; the daemon does
    /// not learn of it.
    pub fn write_config(&self, config: &str) {
        // By renaming, so that no reload sees half a file.
        let new = self.folder.write("spf-milter.conf.new", format!("{}{config}", self.base));
        fs::rename(new, self.folder.join("spf-milter.conf")).unwrap();
    }

    /// Gives it a new configuration with SIGHUP and waits until it says what became of it: whether
    /// it was taken.
    pub fn reload(&self, config: &str) -> bool {
        self.write_config(config);
        let mark = self.log().mark();
        self.signal("HUP");
        let line = self
            .log()
            .find_after(mark, |line| line.contains(RELOADED) || line.contains(RELOAD_FAILED));
        line.expect("no word about the reload").contains(RELOADED)
    }

    /// Sends a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end; answers with its exit status.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Ends it with SIGTERM; answers with its exit status and all that it logged.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.wait();
        (status, self.log().to_end())
    }
}
