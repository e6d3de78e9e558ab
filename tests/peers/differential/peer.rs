//! Another implementation: a program that reads cases as JSON lines and writes results as JSON
//! lines.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

/// Lets a program of `testkit/peers` work on cases; one result for each.
pub(crate) fn ask(program: &str, cases: &[Value]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testkit/peers").join(program);
    let interpreter = if program.ends_with(".py") { "/usr/bin/python3" } else { "/usr/bin/perl" };
    let mut child = Command::new(interpreter)
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{interpreter}: {error}; make peers installs what is needed")
        });
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(ToString::to_string).collect();
    let writer = thread::spawn(move || {
        for line in lines {
            // A program that ended too early is noticed by its results.
            if writeln!(input, "{line}").is_err() {
                return;
            }
        }
    });
    let output = BufReader::new(child.stdout.take().unwrap());
    let results: Vec<Value> = output
        .lines()
        .map(|line| {
            let line = line.unwrap();
            serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("{program}: {error} in {line:?}"))
        })
        .collect();
    writer.join().unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.success() && results.len() == cases.len(),
        "{program}: {status}, {} results of {}",
        results.len(),
        cases.len()
    );
    results
}
