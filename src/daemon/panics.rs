//! Panics: faults of the program. Each ends the work on one message; the log has where it was.

use std::{backtrace::Backtrace, fs, ops::Range, time::Duration};

use crate::{
    log::{Log, RateLimit},
    observe::Metrics,
};

/// How often a backtrace is logged. To find the names of its functions takes time, and somebody who
/// found out how to provoke a panic must not make use of that.
const BACKTRACE_INTERVAL: Duration = Duration::from_secs(60);

/// Functions of a backtrace that are logged, from the panic outwards.
const MAX_FRAMES: usize = 32;

/// Characters of a function's name and place that are logged.
const MAX_FRAME: usize = 300;

/// Beginnings of the names of functions that are between the program's own: the standard library.
const LIBRARY: [&str; 7] =
    ["std::", "core::", "alloc::", "<std::", "<core::", "<alloc::", "__rust"];

/// Beginning of the places of its functions, which have short names where they are inlined.
const LIBRARY_PLACE: &str = "/rustc/";

/// Beginnings of the names of functions by which code panics.
const PANIC: [&str; 9] = [
    "rust_begin_unwind",
    "__rustc::rust_begin_unwind",
    "core::panicking::",
    // Not `std::panicking::catch_unwind`.
    "std::panicking::begin_panic",
    "std::panicking::panic",
    "std::panicking::rust_panic",
    "core::option::expect_failed",
    "core::option::unwrap_failed",
    "core::result::unwrap_failed",
];

/// Where a thread begins: what comes behind is the same for all.
const BEGIN_OF_THREAD: &str = "__rust_begin_short_backtrace";

/// Counts panics, and logs them instead of writing them to stderr, which may be gone or stuck: the log
/// never waits.
pub(super) fn log_panics(log: &Log, metrics: &Metrics) {
    let (log, metrics) = (log.clone(), metrics.clone());
    let backtraces = RateLimit::new(BACKTRACE_INTERVAL);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        log.error(|| format!("internal error: {}", panic.to_string().replace('\n', " ")));
        if backtraces.allow() {
            // In the long form, which has addresses.
            let backtrace = format!("{:#}", Backtrace::force_capture());
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            for frame in frames(&backtrace, program(&maps)) {
                log.error(|| format!("internal error: called by {frame}"));
            }
        }
    }));
}

/// The addresses of the program in memory: those of the first file in `/proc/self/maps`.
fn program(maps: &str) -> Range<u64> {
    let (mut all, mut program) = (0..0, None);
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let range = words.next().and_then(|range| range.split_once('-'));
        let path = words.nth(4);
        let (Some((start, end)), Some(_)) = (range, path) else { continue };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        else {
            continue;
        };
        if program.is_none() {
            (program, all.start) = (path, start);
        }
        if path == program {
            all.end = end;
        }
    }
    all
}

/// The functions of a backtrace, each with its place where that is known, from the panic outwards.
/// Of a function of the program that has no name there is the address in the file, from which
/// `addr2line` finds the name if it has the symbols.
///
/// What is left out: the work on the panic itself, which comes first, and functions of the standard
/// library.
fn frames(backtrace: &str, program: Range<u64>) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    // Whether the place that follows is that of the last one in the list.
    let mut is_listed = false;
    for line in backtrace.lines().map(str::trim) {
        if let Some((address, name)) = function(line) {
            let name = without_hashes(name);
            let begins = |beginnings: &[&str]| beginnings.iter().any(|word| name.starts_with(word));
            if name.contains(BEGIN_OF_THREAD) {
                break;
            }
            is_listed = false;
            if begins(&PANIC) {
                // Everything so far was called by the panic.
                frames.clear();
            } else if name == "<unknown>" {
                if let Some(address) = address.filter(|address| program.contains(address)) {
                    frames.push(format!("{:#x}", address.saturating_sub(program.start)));
                }
            } else if !begins(&LIBRARY) {
                is_listed = true;
                frames.push(name.chars().take(MAX_FRAME).collect());
            }
        } else if is_listed
            && let (Some(frame), Some(place)) = (frames.last_mut(), line.strip_prefix("at "))
        {
            is_listed = false;
            if place.starts_with(LIBRARY_PLACE) {
                frames.pop();
                continue;
            }
            let left = MAX_FRAME.saturating_sub(frame.chars().count());
            frame.extend(format!(" ({place})").chars().take(left));
        }
    }
    frames.truncate(MAX_FRAMES);
    frames
}

/// A name without the hashes by which the compiler tells versions of crates and functions apart:
/// `std[e28293b1aa0f68bd]::panic`, `main::f::h2281211566f7a22c`.
fn without_hashes(name: &str) -> String {
    let is_hash =
        |text: &str| text.len() > 8 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if is_hash(hash) => name,
        _ => name,
    };
    let mut parts = name.split('[');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => clean.push_str(rest),
            _ => clean.extend(["[", part]),
        }
    }
    clean
}

/// Address and name in a line of a backtrace, `NUMBER: 0xADDRESS - NAME`; the address is not always
/// there.
fn function(line: &str) -> Option<(Option<u64>, &str)> {
    let (number, rest) = line.split_once(':')?;
    if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    let (address, name) = match rest.strip_prefix("0x").and_then(|rest| rest.split_once(" - ")) {
        Some((address, name)) => (u64::from_str_radix(address, 16).ok(), name),
        None => (None, rest),
    };
    Some((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKTRACE: &str = "   0:     0x55d0000a1000 - spf_milter::daemon::panics::log_panics::{{closure}}
                               at /home/x/src/daemon/panics.rs:30:5
   1:     0x55d0000a2000 - std::panicking::rust_panic_with_hook
   2:     0x55d0000a2100 - __rustc[b7974e8690430dd9]::rust_begin_unwind
                               at /rustc/1/library/std/src/panicking.rs:698:5
   3:     0x55d0000a2200 - core[c1f1a4ba060b9bfa]::panicking::panic_fmt
   4:     0x55d0000b0000 - spf_milter::auth::spf::expand::expand::h2281211566f7a22c
                               at /home/x/src/auth/spf/expand.rs:7:9
   5:     0x55d0000b0010 - <core::panic::unwind_safe::AssertUnwindSafe<F> as core::ops::function::FnOnce<()>>::call_once
                               at /rustc/1/library/core/src/panic/unwind_safe.rs:272:9
   5:     0x55d0000b0012 - catch_unwind<u8, spf_milter::main::{closure_env#0}>
                               at /rustc/1/library/std/src/panic.rs:359:14
   5:     0x55d0000b0014 - std[e28293b1aa0f68bd]::panicking::catch_unwind
   6:     0x55d0000b0020 - <unknown>
   7:     0x7f00000b0020 - <unknown>
   8:                0x0 - <unknown>
   9: tokio::runtime::task::core::poll
  10:     0x55d0000b0030 - __rust_begin_short_backtrace<main::{closure_env#0}, ()>
  11:     0x7f0000001000 - start_thread
";

    const MAPS: &str = "55d000000000-55d000050000 r--p 00000000 fe:01 77 /usr/sbin/spf-milter
55d000050000-55d0000c0000 r-xp 00050000 fe:01 77 /usr/sbin/spf-milter
55d0000c0000-55d0000c1000 rw-p 00000000 00:00 0
55d0000d0000-55d0000e0000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 r-xp 00050000 fe:01 78 /usr/lib/libc.so.6
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
";

    #[test]
    fn frames_are_those_of_the_program() {
        let expand = "spf_milter::auth::spf::expand::expand (/home/x/src/auth/spf/expand.rs:7:9)";
        let poll = "tokio::runtime::task::core::poll";
        assert_eq!(program(MAPS), 0x55d0_0000_0000..0x55d0_000c_0000);
        assert_eq!(frames(BACKTRACE, program(MAPS)), [expand, "0xb0020", poll]);
        assert_eq!(frames(BACKTRACE, program("")), [expand, poll]);
        assert!(frames("disabled backtrace", 0..1).is_empty());
    }

    /// As a program has it that was built without debugging information, or stripped of it.
    #[test]
    fn frames_without_places() {
        let backtrace = "   0:     0x55aa6a676a85 - <std[e28293b1aa0f68bd]::backtrace::Backtrace>::force_capture
   1:     0x55aa6a659ee3 - spf_milter::daemon::panics::{{closure}}::hc2b81599019b80d6
   2:     0x55aa6a6830d2 - std[e28293b1aa0f68bd]::panicking::panic_with_hook
   3:     0x55aa6a67246d - __rustc[b7974e8690430dd9]::rust_begin_unwind
   4:     0x55aa6a698f1c - core[c1f1a4ba060b9bfa]::panicking::panic_bounds_check
   5:     0x55aa6a65a0b1 - spf_milter::evaluate::h1f40f4dc6b5e651f
   6:     0x55aa6a659ff0 - spf_milter::main::{{closure}}::{{closure}}::hcb595f01ec68ac29
   7:     0x55aa6a65a879 - __rust_try
   8:     0x55aa6a659f41 - spf_milter::main::{{closure}}::hc4fa58ab806e8281
   9:     0x55aa6a65a1f6 - std::sys::backtrace::__rust_begin_short_backtrace::h3ea246dbf62fe0dc
  10:     0x7fab2efee1f5 - start_thread
                               at ./nptl/pthread_create.c:442:8
";
        let expected = ["evaluate", "main::{{closure}}::{{closure}}", "main::{{closure}}"];
        assert_eq!(frames(backtrace, 0..0), expected.map(|name| format!("spf_milter::{name}")));
    }

    #[test]
    fn names_have_no_hashes() {
        for (name, clean) in [
            (
                "<std[e28293b1aa0f68bd]::a::B<[u8]>>::c::{closure#0}",
                "<std::a::B<[u8]>>::c::{closure#0}",
            ),
            ("a::b::h2281211566f7a22c", "a::b"),
            ("a::b::head", "a::b::head"),
            ("a[0", "a[0"),
            ("", ""),
        ] {
            assert_eq!(without_hashes(name), clean);
        }
    }

    #[test]
    fn frames_are_bounded() {
        for (count, kept) in [
            (MAX_FRAMES - 1, MAX_FRAMES - 1),
            (MAX_FRAMES, MAX_FRAMES),
            (MAX_FRAMES + 1, MAX_FRAMES),
        ] {
            let text: String = (0..count).map(|number| format!("{number}: f\n")).collect();
            assert_eq!(frames(&text, 0..0).len(), kept);
        }
        for length in [MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1] {
            let text = format!("0: {}\n   at src/x.rs:1:1\n", "é".repeat(length));
            let [frame] = frames(&text, 0..0).try_into().unwrap();
            assert_eq!(frame.chars().count(), MAX_FRAME);
        }
    }

    /// With symbols the names, without them addresses.
    #[test]
    fn own_backtraces_have_frames() {
        let backtrace = format!("{:#}", Backtrace::force_capture());
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let frames = frames(&backtrace, program(&maps));
        let own = |frame: &String| frame.contains("own_backtraces") || frame.starts_with("0x");
        assert!(frames.iter().any(own), "{backtrace}");
    }
}
