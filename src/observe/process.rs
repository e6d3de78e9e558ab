//! Figures of the process, as the system has them.

use std::{fs, time::Duration};

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeVal,
};

/// Figures of the process; `None` and 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// Time of processors, of the program and of the system for it.
    pub(super) cpu: Duration,
    /// Octets of memory that are in use.
    pub(super) resident: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Descriptors that are open.
    pub(super) open_descriptors: Option<u64>,
    /// Descriptors that may be open.
    pub(super) max_descriptors: Option<u64>,
}

impl Process {
    /// Reads the figures of this process.
    pub(super) fn read() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self {
            cpu: usage.map_or(Duration::ZERO, |usage| {
                duration(usage.user_time()) + duration(usage.system_time())
            }),
            resident: field(&status, "VmRSS:").map(|kilobytes| kilobytes.saturating_mul(1024)),
            threads: field(&status, "Threads:"),
            // Without the one by which they are counted.
            open_descriptors: open.and_then(|open| u64::try_from(open.saturating_sub(1)).ok()),
            max_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
}

/// The number behind a heading of proc_pid_status(5).
fn field(status: &str, heading: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(heading))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let Process { cpu, resident, threads, open_descriptors, max_descriptors } = Process::read();
        assert!(cpu > Duration::ZERO && cpu < Duration::from_secs(86_400));
        assert!((1 << 20..1 << 40).contains(&resident.unwrap()));
        assert!((1..10_000).contains(&threads.unwrap()));
        assert!((3..=max_descriptors.unwrap()).contains(&open_descriptors.unwrap()));
    }

    #[test]
    fn fields_are_found_by_their_headings() {
        let status = "Name:\tThreads: 7\nVmRSS:\t  1234 kB\nThreads:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "Threads:"), Some(3));
        assert_eq!(field(status, "VmHWM:"), None);
    }
}
