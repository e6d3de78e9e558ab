//! What the programs that measure have in common: arguments, helping processes, limits.

use std::{env, io, process::ExitCode, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{awake, floor};

/// Becomes the helping process that the first argument names, or measures with the sections that the
/// arguments name.
pub fn main(measure: impl FnOnce(&[String]) -> io::Result<()>) -> ExitCode {
    let arguments: Vec<String> =
        env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.split_first() {
        Some((mode, parent)) if mode == awake::ARGUMENT => {
            awake::stay_awake(parent.first().and_then(|id| id.parse().ok()));
            Ok(())
        }
        Some((mode, rest)) if mode == floor::ARGUMENT => floor::main(rest)
            .unwrap_or_else(|| Err(io::Error::other("bad arguments for the floor"))),
        _ => measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a section is wanted; none named means all.
pub fn is_wanted(sections: &[String], name: &str) -> bool {
    sections.is_empty() || sections.iter().any(|section| section == name)
}

/// How long each figure is measured: `BENCH_SECONDS`, or two seconds.
pub fn time() -> Duration {
    let seconds = env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.unwrap_or(Duration::from_secs(2))
}

/// Permits some thousand connections, to the processes that are started as well.
pub fn raise_limits() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard)?)
}
