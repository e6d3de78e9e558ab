//! The packages: what they contain, and what they do in a clean Debian. `make test-packages` puts in
//! place what this needs, and builds the packages.
//!
//! It runs as root, on Debian, with its mirror at hand. Nothing on this machine is changed: all is
//! done in folders, and in namespaces of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Instant,
};

use testkit::{root, scratch::target_folder};

mod container;
mod contents;
mod debian;
mod machine;

/// The version of the packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where `make test-packages` has put them.
fn packages() -> PathBuf {
    target_folder().join("packages")
}

/// The package of Debian.
fn deb() -> PathBuf {
    only_file(&packages(), "deb")
}

/// The file with an ending.
fn only_file(folder: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; make deb rpm sbom", folder.display()));
    let files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(&format!(".{ending}")))
        .collect();
    assert_eq!(files.len(), 1, "one .{ending} in {}: {files:?}", folder.display());
    files[0].clone()
}

/// The time of the commit, which the packages bear.
fn epoch() -> String {
    env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| {
        let mut git = Command::new("git");
        finish(git.args(["log", "-1", "--format=%ct"]).current_dir(root())).trim().to_owned()
    })
}

/// Says what is done now: these tests take minutes.
fn say(what: &str) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    eprintln!("[{:4} s] {what}", START.elapsed().as_secs());
}

/// Runs a program; its standard output.
///
/// # Panics
///
/// When it fails.
fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    finish(Command::new(program).args(arguments))
}

fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// The lines of a text.
fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// The files of the tree, as Git has them or would have them: what a copy of the source is.
fn copy_tree(to: &Path) {
    let list = finish(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root()),
    );
    for name in list.lines().filter(|name| root().join(name).is_file()) {
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::copy(root().join(name), to.join(name)).unwrap();
    }
}
