//! Writes what packages contain beside the files of the tree into a folder: see `packaging/build`.
//! `SOURCE_DATE_EPOCH` is the time of a version that is not released.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the build of a package fails by panicking"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap_complete::{Shell, generate_to};
use serde_json::Value;
use testkit::{packaging, root};

fn main() {
    let folder: PathBuf = env::args_os().nth(1).expect("usage: stage FOLDER").into();
    let metadata: Value =
        serde_json::from_str(&output("cargo", &["metadata", "--locked", "--format-version=1"]))
            .unwrap();
    let sample = read("etc/spf-milter.conf");
    write(&folder.join("spf-milter.conf"), &packaging::configuration(&sample));

    let completions = folder.join("completions");
    fs::create_dir_all(&completions).unwrap();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut spf_milter::command(), "spf-milter", &completions).unwrap();
    }

    let package = metadata["packages"].as_array().unwrap().iter();
    let package = package.clone().find(|package| package["name"] == "spf-milter").unwrap();
    let deb = |key: &str| package["metadata"]["deb"][key].as_str().unwrap();
    let epoch = env::var("SOURCE_DATE_EPOCH").expect("SOURCE_DATE_EPOCH is not set");
    let date = |day: Option<&str>| {
        let time = day.map_or_else(|| format!("@{epoch}"), |day| format!("{day} 12:00 UTC"));
        output("date", &["--utc", "--rfc-email", "--date", &time]).trim().to_owned()
    };
    let changelog = read("CHANGELOG.md");
    let debian = folder.join("debian");
    write(
        &debian.join("changelog.Debian"),
        &packaging::debian_changelog(&changelog, deb("revision"), deb("maintainer"), date),
    );
    write(&debian.join("copyright"), &packaging::copyright(&metadata, &linked_crates()));
}

/// Names and versions of the crates that are linked into the program.
fn linked_crates() -> BTreeSet<(String, String)> {
    let tree = output(
        "cargo",
        &[
            "tree",
            "--locked",
            "--package=spf-milter",
            "--edges=normal,no-proc-macro",
            "--prefix=none",
            "--format={p}",
        ],
    );
    tree.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let version = words.next().unwrap().trim_start_matches('v');
            (name.to_owned(), version.to_owned())
        })
        .collect()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
