//! The daemon as a child process, what it takes of the machine, and how it is measured.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::AtomicUsize,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use testkit::{
    bench::{
        load::{self, Figures, Mode, Rig},
        mta::{HOST, Message, Mta, Sender, Socket},
    },
    daemon,
    scratch::Scratch,
};

/// How long the daemon may take to start, and its memory to settle.
const LIMIT: Duration = Duration::from_secs(30);

/// How long its memory must stay the same.
const SETTLED: Duration = Duration::from_millis(200);

/// Subjects take turns, so that what else the machine does meets all of them.
const ROUNDS: u32 = 3;

/// A configuration in a folder of its own, with the files that it names.
pub(crate) struct Configuration {
    _folder: Scratch,
    path: PathBuf,
    socket: PathBuf,
}

impl Configuration {
    /// `extra` may name the file `entries`, which is in the folder `FOLDER`.
    pub(crate) fn new(nameserver: SocketAddr, extra: &str, entries: &str) -> Self {
        let folder = Scratch::new("growth");
        let socket = folder.join("milter");
        let extra = extra.replace("FOLDER", &folder.path().display().to_string());
        folder.write("entries", entries);
        let path = folder.write(
            "spf-milter.conf",
            format!(
                "socket = unix:{}\nlog_destination = stderr\nlog_level = info\nhostname = {HOST}\n\
                 nameservers = {nameserver}\n{extra}",
                socket.display()
            ),
        );
        Self { _folder: folder, path, socket }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(daemon::program());
        command.args(arguments).arg("-c").arg(&self.path).envs(daemon::unit_environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// CPU time that it takes to load it; the least of several times.
    pub(crate) fn loading(&self) -> io::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..3 {
            let before = children()?;
            // It exits with a failure where it warns.
            let output = self.command(&["check-config"]).output()?;
            if output.status.code().is_none() {
                return Err(io::Error::other("check-config was killed"));
            }
            times.push(children()?.saturating_sub(before));
        }
        times.into_iter().min().ok_or_else(|| io::Error::other("no time"))
    }

    /// Starts the daemon with it.
    pub(crate) fn start(self) -> io::Result<Milter> {
        // Lines of the log are made and written, to where nobody reads them.
        let child = self.command(&[]).spawn()?;
        let mut milter = Milter { child, socket: Socket::Unix(self.socket.clone()), _of: self };
        let deadline = Instant::now() + LIMIT;
        while Mta::connect(&milter.socket).is_err() {
            if Instant::now() > deadline || milter.child.try_wait()?.is_some() {
                return Err(io::Error::other("the daemon did not start"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(milter)
    }
}

/// CPU time of all children that have ended.
fn children() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = [usage.user_time(), usage.system_time()].into_iter().map(|time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    });
    Ok(time.sum())
}

/// A running daemon; killed when dropped.
pub(crate) struct Milter {
    child: Child,
    pub(crate) socket: Socket,
    _of: Configuration,
}

impl Drop for Milter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Milter {
    /// CPU time used so far, by all of its threads.
    fn cpu(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // Nanoseconds on the CPU come first.
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let own = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            total += own.unwrap_or(0);
        }
        Ok(Duration::from_nanos(total))
    }

    /// A line of its status, in octets.
    pub(crate) fn status(&self, name: &str) -> io::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u32>().ok());
        Ok(f64::from(kib.ok_or_else(|| io::Error::other("no such line"))?) * 1024.0)
    }

    /// Resident memory in octets, once it no longer changes.
    pub(crate) fn resident(&self) -> io::Result<f64> {
        let begin = Instant::now();
        let (mut figure, mut since) = (self.status("VmRSS")?, begin);
        while since.elapsed() < SETTLED && begin.elapsed() < LIMIT {
            sleep(SETTLED / 10);
            let now = self.status("VmRSS")?;
            if (now - figure).abs() > f64::EPSILON {
                (figure, since) = (now, Instant::now());
            }
        }
        Ok(figure)
    }
}

/// What is measured.
pub(crate) struct Subject<'a> {
    pub(crate) milter: &'a Milter,
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) senders: &'a [Sender],
    pub(crate) message: &'a Message,
}

/// Measures subjects in turn, each for so long in all.
pub(crate) fn measure(subjects: &[Subject<'_>], time: Duration) -> io::Result<Vec<Figures>> {
    let mut runs: Vec<Vec<Figures>> = subjects.iter().map(|_| Vec::new()).collect();
    let next: Vec<AtomicUsize> = subjects.iter().map(|_| AtomicUsize::new(0)).collect();
    for _ in 0..ROUNDS {
        for ((subject, next), runs) in subjects.iter().zip(&next).zip(&mut runs) {
            let Subject { milter, mode, connections, senders, message } = *subject;
            let sockets = std::slice::from_ref(&milter.socket);
            let rig = Rig { sockets, cpu: &|| milter.cpu() };
            let time = time / ROUNDS;
            runs.push(load::run(rig, mode, connections, senders, message, next, time)?);
        }
    }
    Ok(runs.into_iter().map(Figures::merge).collect())
}

/// Microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
