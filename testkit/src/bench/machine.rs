//! The machine and the programs that figures are of.

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// Processor, kernel, distribution, compiler, and this program: each a name and a value.
pub fn description() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned());
    let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let system = read("/etc/os-release")
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| format!("{} ({})", name.trim_matches('"'), read("/etc/debian_version").trim()));
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let ours = output(Command::new(crate::daemon::program()).arg("--version"));
    [
        ("processor", format!("{processor}, {count} of them")),
        ("kernel", format!("Linux {kernel}")),
        ("system", system.unwrap_or_default()),
        ("rustc", output(Command::new("rustc").arg("--version"))),
        ("spf-milter", ours),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The versions of these Debian packages, as far as they are installed.
pub fn installed(packages: &[&str]) -> Vec<(String, String)> {
    let format = "${Package} ${Version}\n";
    let known = output(Command::new("dpkg-query").args(["-W", "-f", format]).args(packages));
    let pair =
        |line: &str| line.split_once(' ').map(|(name, version)| (name.into(), version.into()));
    known.lines().filter_map(pair).collect()
}

/// The versions of these Debian packages, of which the folder has the files.
pub fn unpacked(folder: &Path, packages: &[&str]) -> Vec<(String, String)> {
    let files = fs::read_dir(folder.join("packages")).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut found: Vec<_> = names
        .filter_map(|name| {
            let mut parts = name.split('_').map(|part| part.replace("%3a", ":"));
            let package = parts.next().filter(|package| packages.contains(&&**package))?;
            Some((package, parts.next()?))
        })
        .collect();
    found.sort();
    found
}

/// What a program prints, or nothing where it is not there.
pub fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
