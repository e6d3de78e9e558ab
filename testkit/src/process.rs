//! Child processes that end with their owner, and whose output can be waited for.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its standard error, and its standard output when that was not taken otherwise.
    pub log: Log,
}

/// Lines that a process wrote so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

impl Process {
    /// Starts a process with its input closed and its output collected.
    pub fn start(command: &mut Command) -> Self {
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let log = Log::default();
        log.lock().open = 2;
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Starts a process with its input closed, and its output lost: whoever reads output takes time of a
    /// processor and room in caches from what is measured.
    pub fn start_unheard(command: &mut Command) -> Self {
        let child = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        Self { child, log: Log::default() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        assert!(send_signal(self.id(), name), "kill -{name} {} failed", self.id());
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it is still there after a minute.
    pub fn wait(&mut self) -> ExitStatus {
        super::wait_for("the end of a process", || self.ended())
    }

    /// Asks it to end, and makes it when it does not within ten seconds.
    pub fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        send_signal(self.id(), "TERM");
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process with its input closed.
fn spawn(command: &mut Command) -> Child {
    let spawned = command.stdin(Stdio::null()).spawn();
    spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Sends a signal to a process; whether that worked.
pub fn send_signal(id: u32, name: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -\"$0\" \"$1\"", name, &id.to_string()]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap()
    }

    fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                log.lock().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                log.0.1.notify_all();
                line.clear();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The number of lines so far, a mark for [`Log::find_after`].
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// The first line that fits; `None` when the output ends, or a minute passes, without one.
    pub fn find(&self, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.find_after(0, fits)
    }

    /// The first line from the `mark`th on that fits; see [`Log::find`].
    pub fn find_after(&self, mark: usize, fits: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines.lines.iter().skip(mark).find(|line| fits(line)) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.open == 0 || left.is_zero() {
                return None;
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for the end of the output, and answers with all of it.
    pub fn to_end(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lock();
        while lines.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "output without an end");
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
        lines.lines.join("\n")
    }
}
