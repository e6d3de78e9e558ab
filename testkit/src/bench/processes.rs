//! What processes take of the machine, those included that they started.

use std::{fs, io, process::Command, time::Duration};

use crate::process::send_signal;

const VARIABLE: &str = "SPF_MILTER_BENCHMARK";

/// How many of the units in which CPU time is counted make a second (`proc_pid_stat(5)`).
const TICKS: u32 = 100;

/// Marks a process that is to be started, and all that it will start. Some leave their parents, and
/// some write over their environment: both ways lead to them.
pub fn mark(command: &mut Command, mark: &str) {
    command.env(VARIABLE, mark);
}

/// What the system says of a process.
struct Stat {
    id: u32,
    parent: u32,
    /// CPU time, that of the kernel included, and of threads and children that have ended.
    cpu: Duration,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name, in parentheses, may contain anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
        let ticks: u32 = [11, 12, 13, 14].iter().filter_map(|index| number(*index)).sum();
        Some(Self { id, parent: number(1)?, cpu: Duration::from_secs(1) * ticks / TICKS })
    }
}

/// The first processes, those with the mark, and what they started.
fn marked(mark: &str, first: &[u32]) -> io::Result<Vec<Stat>> {
    let wanted = format!("{VARIABLE}={mark}");
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(stat) = name.to_str().and_then(|name| Stat::read(name.parse().ok()?)) else {
            continue;
        };
        let environment = fs::read(format!("/proc/{}/environ", stat.id)).unwrap_or_default();
        let is_marked =
            environment.split(|octet| *octet == 0).any(|entry| entry == wanted.as_bytes());
        if is_marked || first.contains(&stat.id) { found.push(stat) } else { others.push(stat) }
    }
    loop {
        let is_child = |stat: &mut Stat| found.iter().any(|parent| parent.id == stat.parent);
        let children: Vec<Stat> = others.extract_if(.., is_child).collect();
        if children.is_empty() {
            return Ok(found);
        }
        found.extend(children);
    }
}

/// Ends these processes at once.
pub fn kill(mark: &str, first: &[u32]) {
    for Stat { id, .. } in marked(mark, first).unwrap_or_default() {
        send_signal(id, "KILL");
    }
}

/// CPU time that these processes used so far, in steps of 10 ms.
pub fn cpu(mark: &str, first: &[u32]) -> io::Result<Duration> {
    Ok(marked(mark, first)?.iter().map(|stat| stat.cpu).sum())
}

/// Memory of these processes in KiB; what they share counts once (`Pss`).
pub fn memory(mark: &str, first: &[u32]) -> io::Result<u64> {
    let mut total = 0;
    for Stat { id, .. } in marked(mark, first)? {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        total += line
            .and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("no Pss"))?;
    }
    Ok(total)
}

/// CPU time that the threads of one process used so far, in nanoseconds; not that of threads that
/// have ended.
pub fn precise_cpu(id: u32) -> io::Result<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        // Nanoseconds on the CPU come first.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        total += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// A line of the status of a process, such as `VmRSS`, in KiB.
pub fn status(id: u32, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {name}")))
}
