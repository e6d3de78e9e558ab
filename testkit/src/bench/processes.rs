//! What processes take of the machine, those included that they started.

use std::{fs, io, time::Duration};

/// A process and all that it started, as far as they still run.
pub fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        // The name, in parentheses, may contain anything.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)?.parse::<u32>().ok());
        if let Some(parent) = parent {
            parents.push((id, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&process) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == process).map(|(id, _)| *id));
        at += 1;
    }
    Ok(found)
}

/// CPU time that a process and its children used so far, that of their user's and that of the
/// kernel's, of all threads that still run.
pub fn cpu(root: u32) -> io::Result<Duration> {
    let mut total = 0;
    for process in tree(root)? {
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            // Nanoseconds on the CPU come first. A thread may end meanwhile.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            total += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(total))
}

/// Memory of a process and its children in KiB; what they share counts once (`Pss`).
pub fn memory(root: u32) -> io::Result<u64> {
    let mut total = 0;
    for process in tree(root)? {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        total += line
            .and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("no Pss"))?;
    }
    Ok(total)
}
