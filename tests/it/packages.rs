//! What packages contain: the lists in `Cargo.toml`, and the texts that are made for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use spf_milter::config::{Overrides, load_text};
use testkit::packaging;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Files of the tree that no package has, and why.
const NOT_PACKAGED: [(&str, &str); 3] = [
    ("man/policy-table.in", "it is a part of a manual page and of docs/policy.md"),
    ("examples/demo.rs", "it is for those who have the source"),
    ("etc/spf-milter.conf", "packages have it under another name, as an example"),
];

/// What only one kind of package has: each distribution has its own form or place for it.
const ONLY_DEB: [&str; 4] = [
    "usr/share/doc/spf-milter/changelog.gz",
    "usr/share/doc/spf-milter/changelog.Debian.gz",
    "usr/share/doc/spf-milter/copyright",
    "usr/share/doc/spf-milter/LICENSE",
];
const ONLY_RPM: [&str; 2] =
    ["usr/share/doc/spf-milter/LICENSE", "usr/share/licenses/spf-milter/NOTICE"];

/// Source, destination and mode of the files of a package.
type Assets = BTreeMap<String, (String, String)>;

fn lists() -> (Assets, Assets) {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "spf-milter").unwrap();
    let assets = |name: &str, keys: [&str; 3]| {
        let list = package["metadata"][name]["assets"].as_array().unwrap();
        list.iter().map(|asset| read_asset(asset, keys)).collect::<Vec<_>>()
    };
    let deb = assets("deb", ["0", "1", "2"]);
    let rpm = assets("generate-rpm", ["source", "dest", "mode"]);
    (by_destination(deb), by_destination(rpm))
}

fn read_asset(asset: &Value, keys: [&str; 3]) -> [String; 3] {
    if let (Some(link), Some(place)) = (asset["link_name"].as_str(), asset["dest"].as_str()) {
        return [format!("target/{link}"), place.to_owned(), "link".to_owned()];
    }
    keys.map(|key| {
        let value = key.parse().map_or_else(|_| &asset[key], |index: usize| &asset[index]);
        value.as_str().unwrap_or_else(|| panic!("{asset}: no {key}")).to_owned()
    })
}

fn by_destination(list: Vec<[String; 3]>) -> Assets {
    let mut assets = Assets::new();
    for [source, destination, mode] in list {
        let mut place = destination
            .trim_start_matches('/')
            // Each distribution has its own folder for this.
            .replace("zsh/site-functions", "zsh/vendor-completions");
        if place.ends_with('/') {
            place += source.rsplit('/').next().unwrap();
        }
        let old = assets.insert(place.clone(), (source, mode));
        assert!(old.is_none(), "{place} is listed twice");
    }
    assets
}

#[test]
fn both_packages_have_the_same_files() {
    let (mut deb, mut rpm) = lists();
    for name in ONLY_DEB {
        assert!(deb.remove(name).is_some(), "{name}");
    }
    for name in ONLY_RPM {
        assert!(rpm.remove(name).is_some(), "{name}");
    }
    for (name, asset) in &deb {
        assert_eq!(rpm.get(name), Some(asset), "{name}: generate-rpm in Cargo.toml lacks it");
    }
    for name in rpm.keys() {
        assert!(deb.contains_key(name), "{name}: package.metadata.deb in Cargo.toml lacks it");
    }
}

#[test]
fn every_file_of_the_tree_that_is_for_users_is_packaged() {
    let (deb, rpm) = lists();
    let sources: BTreeSet<&str> =
        deb.values().chain(rpm.values()).map(|(source, _)| source.as_str()).collect();
    let mut missing = Vec::new();
    for folder in ["etc", "man", "examples"] {
        for path in files(&root().join(folder)) {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let page = format!("target/release/staged/{name}.gz");
            let packaged = sources.contains(name.as_str()) || sources.contains(page.as_str());
            if !packaged && !NOT_PACKAGED.iter().any(|(there, _)| *there == name) {
                missing.push(name);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "add to both lists of assets in Cargo.toml, or to NOT_PACKAGED: {missing:?}"
    );
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let is_there = match source.split_once("/*") {
            Some((folder, suffix)) => files(&root().join(folder))
                .iter()
                .any(|path| path.to_str().is_some_and(|path| path.ends_with(suffix))),
            None => root().join(source).exists(),
        };
        assert!(is_there, "Cargo.toml lists {source}, which there is not");
    }
    for (name, _) in NOT_PACKAGED {
        assert!(root().join(name).exists(), "NOT_PACKAGED has {name}, which there is not");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn the_configuration_of_packages_is_the_sample_as_a_dry_run() {
    let sample = read("etc/spf-milter.conf");
    let ours = packaging::configuration(&sample);
    let show = |text: &str| -> BTreeSet<String> {
        let path = Path::new("spf-milter.conf");
        let loaded = load_text(text.as_bytes(), path, &Overrides::default());
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        loaded.config.show(true).lines().map(str::to_owned).collect()
    };
    let (before, after) = (show(&sample), show(&ours));
    let changed: Vec<&str> = after.difference(&before).map(String::as_str).collect();
    assert_eq!(
        changed,
        [
            "dry_run = yes",
            "socket = unix:/var/spool/postfix/spf-milter/spf-milter.sock",
            "socket_mode = 0660",
        ]
    );
    // It says so on top, and all else is the sample, word for word.
    let (top, rest) = ours.split_once("#\n# Write one").unwrap();
    assert!(top.contains("dry_run = yes") && top.contains("dry_run = no"), "{top}");
    let (_, there) = sample.split_once("#\n# Write one").unwrap();
    let different = there.lines().zip(rest.lines()).filter(|(there, here)| there != here);
    assert_eq!((different.count(), there.lines().count()), (3, rest.lines().count()));
}

#[test]
fn the_changelog_of_debian_has_every_item() {
    let changelog = read("CHANGELOG.md");
    let text = packaging::debian_changelog(&changelog, "1", "Somebody <a@example.org>", |day| {
        format!("date of {}", day.unwrap_or("the commit"))
    });
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with(&format!("spf-milter ({version}-1) unstable; ")), "{text}");
    let count = |text: &str, start: &str| text.lines().filter(|l| l.starts_with(start)).count();
    assert_eq!(count(&text, "  * "), count(&changelog, "- "), "{text}");
    assert_eq!(count(&text, "spf-milter ("), count(&changelog, "## ["));
    assert_eq!(count(&text, " -- Somebody <a@example.org>  date of "), count(&changelog, "## ["));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let words = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("  ["))
            .flat_map(str::split_whitespace)
            .filter(|word| *word != "*")
            .map(|word| word.trim_end_matches(';').to_owned())
            .collect()
    };
    let indented = changelog.replace("\n- ", "\n  * ");
    let indented = indented.replace("\n  - ", "\n  ");
    assert_eq!(words(&text), words(&indented));
}

#[test]
fn one_of_several_licenses_is_chosen() {
    let metadata = |license: &str| {
        serde_json::json!({ "packages": [{
            "name": "one", "version": "1.0.0", "license": license, "authors": ["Somebody"],
            "manifest_path": root().join("src/Cargo.toml"),
        }]})
    };
    let crates = BTreeSet::from([("one".to_owned(), "1.0.0".to_owned())]);
    for (license, chosen) in [
        ("MIT", "MIT"),
        ("Apache-2.0 OR MIT", "MIT"),
        ("Unlicense/MIT", "MIT"),
        ("Apache-2.0 AND ISC", "Apache-2.0 and ISC"),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", "MIT and Unicode-3.0"),
    ] {
        let text = packaging::copyright(&metadata(license), &crates);
        let stanza =
            format!("\n\nFiles: vendor/one-1.0.0/*\nCopyright:\n Somebody\nLicense: {chosen}\n\n");
        assert!(text.contains(&stanza), "{license}: {text}");
        for name in chosen.split(" and ") {
            assert!(text.contains(&format!("\n\nLicense: {name}\n ")), "{name}: {text}");
        }
    }
    let unknown = std::panic::catch_unwind(|| packaging::copyright(&metadata("Odd-1.0"), &crates));
    assert!(unknown.is_err());
}
