//! The daemon as the one that is treated badly: started under limits, measured, killed, started
//! again.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Mutex,
};

use testkit::{
    daemon::{RELOAD_FAILED, RELOADED, program, unit_environment},
    milter_client::Socket,
    process::{Process, send_signal},
    scratch::Scratch,
    wait_for,
};

/// Daemons that were started and not dropped.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Kills all daemons that were started here, for an end without drops.
pub fn kill_all() {
    for id in RUNNING.lock().unwrap().drain(..) {
        send_signal(id, "KILL");
    }
}

/// Memory, descriptors and threads at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Resident, in KiB.
    pub memory: usize,
    pub descriptors: usize,
    pub threads: usize,
    /// The most memory so far, in KiB.
    pub peak: usize,
}

/// A daemon that listens on a socket in a folder of its own.
pub struct Subject {
    process: Process,
    folder: Scratch,
    surroundings: Surroundings,
}

/// What the daemon is started in.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// A command in which the shell runs that becomes the daemon, such as `unshare --mount`.
    pub wrapper: Vec<String>,
    /// What this shell does before.
    pub before: String,
}

impl Surroundings {
    pub fn after(before: impl Into<String>) -> Self {
        Self { wrapper: Vec::new(), before: before.into() }
    }

    pub fn within(wrapper: &[&str], before: impl Into<String>) -> Self {
        let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        Self { wrapper, before: before.into() }
    }
}

impl Subject {
    pub fn start(config: &str) -> Self {
        Self::start_in(Surroundings::default(), config)
    }

    /// `FOLDER` in the configuration and in the commands is the daemon's folder.
    pub fn start_in(surroundings: Surroundings, config: &str) -> Self {
        let folder = Scratch::new("chaos");
        let process = launch(&surroundings, &folder, config);
        let mut subject = Self { process, folder, surroundings };
        subject.wait_until_it_serves();
        subject
    }

    fn wait_until_it_serves(&mut self) {
        RUNNING.lock().unwrap().push(self.id());
        let path = self.folder.join("s");
        wait_for("the daemon to serve", || {
            if let Some(status) = self.process.ended() {
                panic!("the daemon ended at its start: {status}\n{}", self.process.log.to_end());
            }
            UnixStream::connect(&path).ok().map(drop)
        });
    }

    /// Starts it again after it has ended, with all that the last one left.
    pub fn restart(&mut self, config: &str) {
        let former = self.id();
        RUNNING.lock().unwrap().retain(|running| *running != former);
        self.process = launch(&self.surroundings, &self.folder, config);
        self.wait_until_it_serves();
    }

    pub fn socket(&self) -> Socket {
        Socket::Unix(self.folder.join("s"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn sample(&self) -> Sample {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let word = line.and_then(|line| line.split_ascii_whitespace().next());
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("the daemon is gone:\n{}", self.last_words()))
        };
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count();
        Sample {
            memory: number("VmRSS:"),
            descriptors,
            threads: number("Threads:"),
            peak: number("VmHWM:"),
        }
    }

    /// Processor time so far, in milliseconds.
    pub fn processor_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        let ticks = |at: usize| fields.split_ascii_whitespace().nth(at).unwrap().parse::<u64>();
        // In hundredths of a second, which Linux promises here.
        (ticks(11).unwrap() + ticks(12).unwrap()) * 10
    }

    pub fn log(&self) -> &testkit::process::Log {
        &self.process.log
    }

    fn last_words(&self) -> String {
        let lines = self.process.log.lines();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn write_config(&self, config: &str) {
        write_config(&self.folder, config);
    }

    /// Removes the configuration file, if it is there.
    pub fn remove_config(&self) {
        let _ = fs::remove_file(self.folder.join("c"));
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// A new configuration with SIGHUP: whether it was taken.
    pub fn reload(&self, config: &str) -> bool {
        self.write_config(config);
        let mark = self.log().mark();
        self.signal("HUP");
        let word = |line: &str| line.contains(RELOADED) || line.contains(RELOAD_FAILED);
        let line = self.log().find_after(mark, word);
        line.expect("no word about the reload").contains(RELOADED)
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Ends it with SIGTERM, which must go well; answers with all that it wrote.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.last_words());
        let log = self.process.log.to_end();
        assert!(!log.contains("internal error"), "{log}");
        log
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let id = self.id();
        RUNNING.lock().unwrap().retain(|running| *running != id);
        if std::thread::panicking() {
            eprintln!("the last lines of the daemon's log:\n{}", self.last_words());
        }
    }
}

fn write_config(folder: &Scratch, config: &str) {
    let path = folder.path().display().to_string();
    let config = config.replace("FOLDER", &path);
    let mut base = String::new();
    for (key, value) in [("socket", format!("unix:{path}/s")), ("log_destination", "stderr".into())]
    {
        if !testkit::daemon::sets(&config, key) {
            base += &format!("{key} = {value}\n");
        }
    }
    // By renaming, so that no reload sees half a file.
    let new = folder.write("c.new", format!("{base}{config}"));
    fs::rename(new, folder.join("c")).unwrap();
}

fn launch(surroundings: &Surroundings, folder: &Scratch, config: &str) -> Process {
    write_config(folder, config);
    let path = folder.path().display().to_string();
    let script = format!("{}\nexec \"$0\" -c \"$1\"", surroundings.before.replace("FOLDER", &path));
    let words = surroundings.wrapper.iter().map(String::as_str).chain(["sh", "-euc", &script]);
    let words: Vec<&str> = words.collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(program()).arg(folder.join("c")).envs(unit_environment());
    Process::start(&mut command)
}
