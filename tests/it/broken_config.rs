//! Configurations that are wrong, each for a known reason at a known place.
//!
//! `tests/broken_config/NAME.conf` goes with `NAME.errors`: every error, one in a line, complete or
//! up to `...`, without the directory of the file. Paths in the files are relative to that
//! directory.

use std::{fs, process::Command};

use testkit::daemon::program;

#[test]
fn broken_configurations_are_refused_for_the_expected_reasons() {
    let directory = testkit::root().join("tests/broken_config");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut problems = Vec::new();
    let mut count = 0;
    for name in names.iter().filter_map(|name| name.strip_suffix(".errors")) {
        count += 1;
        // Files that a configuration names are found from the working directory.
        let output = Command::new(program())
            .args(["check-config", "--user", "root", "-c", &format!("{name}.conf")])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{name} is valid");
        let found = String::from_utf8(output.stderr).unwrap();
        let expected = fs::read_to_string(directory.join(format!("{name}.errors"))).unwrap();
        let matches = expected.lines().count() == found.lines().count()
            && expected.lines().zip(found.lines()).all(|(expected, found)| {
                match expected.strip_suffix("...") {
                    Some(beginning) => found.starts_with(beginning),
                    None => found == expected,
                }
            });
        if !matches {
            problems.push(format!("{name}: expected\n{expected}found\n{found}\n"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 20, "only {count} configurations");
    let orphan = names.iter().find(|name| {
        name.strip_suffix(".conf").is_some_and(|name| !names.contains(&format!("{name}.errors")))
    });
    assert_eq!(orphan, None);
}
