//! What is in the packages, before they are installed.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use serde_json::Value;
use testkit::{root, scratch::Scratch};

use super::{VERSION, copy_tree, deb, epoch, finish, lines, only_file, packages, run, say};

/// The files of Debian's package.
fn deb_files() -> BTreeSet<String> {
    let script = "dpkg-deb --fsys-tarfile \"$0\" | tar -t";
    let list = finish(Command::new("sh").args(["-c", script]).arg(deb()));
    list.lines()
        .filter(|line| !line.ends_with('/'))
        .map(|line| line.trim_start_matches('.').to_owned())
        .collect()
}

#[test]
#[ignore = "needs the packages: make test-packages"]
fn lintian_finds_no_fault() {
    say("lintian");
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--tag-display-limit", "0"]).arg(deb());
    // It refuses to be root without being asked.
    lintian.arg("--allow-root");
    let output = lintian.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
#[ignore = "needs the packages: make test-packages"]
fn both_packages_have_the_files_of_the_list() {
    say("compare the files of the packages");
    let deb = deb_files();
    let rpm = lines(&run(
        "rpm",
        ["-qlp".as_ref(), "--nosignature".as_ref(), only_file(&packages(), "rpm").as_os_str()],
    ));
    let common = |path: &String| {
        // The copies of licence and changelog, which have a form and a place of their own.
        let own = ["/changelog", "/CHANGELOG.md", "/copyright", "/LICENSE", "/NOTICE"];
        let own = own.iter().any(|name| path.rsplit_once('/').unwrap().1.starts_with(&name[1..]));
        (!own).then(|| path.replace("zsh/site-functions", "zsh/vendor-completions"))
    };
    let one: BTreeSet<String> = deb.iter().filter_map(common).collect();
    let other: BTreeSet<String> = rpm.iter().filter_map(common).collect();
    assert_eq!(one, other);
    for path in
        ["/usr/sbin/spf-milter", "/etc/spf-milter.conf", "/usr/lib/tmpfiles.d/spf-milter.conf"]
    {
        assert!(one.contains(path), "{path}: {one:?}");
    }
    // Each document is there.
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(one.contains(&format!("/usr/share/doc/spf-milter/docs/{name}")), "{name}");
    }
    let configuration = run(
        "rpm",
        ["-qcp".as_ref(), "--nosignature".as_ref(), only_file(&packages(), "rpm").as_os_str()],
    );
    assert_eq!(configuration, "/etc/spf-milter.conf\n");
}

/// The name and version of each crate that is linked into the program or runs in the build of it.
fn crates() -> BTreeSet<(String, String)> {
    let tree = finish(Command::new(env!("CARGO")).current_dir(root()).args([
        "tree",
        "--locked",
        "--package=spf-milter",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ]));
    let crates: BTreeSet<_> = tree
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            (name, words.next().unwrap().trim_start_matches('v').to_owned())
        })
        .collect();
    assert!(crates.len() > 20, "{tree}");
    crates
}

#[test]
#[ignore = "needs the packages: make test-packages"]
fn the_bill_of_materials_has_every_crate() {
    say("compare the bill of materials with cargo tree");
    let text = fs::read_to_string(only_file(&packages(), "cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let pair = |component: &Value| {
        let word = |key: &str| component[key].as_str().unwrap().to_owned();
        (word("name"), word("version"))
    };
    let main = pair(&bill["metadata"]["component"]);
    assert_eq!(main, ("spf-milter".to_owned(), VERSION.to_owned()));
    let mut listed: BTreeSet<_> = bill["components"].as_array().unwrap().iter().map(pair).collect();
    listed.insert(main);
    let missing: Vec<_> = crates().difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Nothing of this machine.
    assert!(!text.contains(root().to_str().unwrap()) && !text.contains("/tmp/"), "{text}");
}

#[test]
#[ignore = "needs the packages: make test-packages"]
fn the_program_bears_the_list_of_its_crates_and_no_path_of_this_machine() {
    say("look into the program");
    let folder = Scratch::new("program");
    run("dpkg-deb", ["-x".as_ref(), deb().as_os_str(), folder.path().as_os_str()]);
    let program = folder.join("usr/sbin/spf-milter");
    let octets = fs::read(&program).unwrap();
    let home = env::var("HOME").unwrap();
    for path in [root().to_str().unwrap(), &home] {
        let found = octets.windows(path.len()).any(|window| window == path.as_bytes());
        // The home of a root user is too short a word.
        assert!(!found || path.len() < 6, "{path} is in the program");
    }
    let registry = b"/registry/src/";
    let mut places = octets.windows(40).filter(|window| window[26..].starts_with(registry));
    let own = |window: &&[u8]| window[..26].ends_with(b"/usr/src/cargo");
    assert!(places.all(|window| own(&window)), "a path of this machine is in the program");
    let list = folder.join("list");
    let mut dump = Command::new("objcopy");
    dump.args(["-O", "binary", "--only-section=.dep-v0", "--set-section-flags=.dep-v0=alloc"]);
    finish(dump.arg(&program).arg(&list));
    assert!(fs::metadata(&list).unwrap().len() > 500, "no list of crates: cargo auditable");
}

#[test]
#[ignore = "needs the packages: make test-packages"]
fn two_builds_in_two_folders_are_equal() {
    let folder = Scratch::new("again");
    let tree = folder.join("another/folder/tree");
    copy_tree(&tree);
    say("build the packages again in another folder");
    let mut build = Command::new("packaging/build");
    build.args(["deb", "rpm", "sbom"]).current_dir(&tree);
    build.env("SOURCE_DATE_EPOCH", epoch()).env("CARGO_TARGET_DIR", folder.join("out"));
    finish(&mut build);
    let again = folder.join("out/packages");
    for ending in ["deb", "rpm", "cdx.json"] {
        let (one, other) = (only_file(&packages(), ending), only_file(&again, ending));
        assert_eq!(one.file_name(), other.file_name());
        assert!(same(&one, &other), "{} differs from build to build", one.display());
    }
}

fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}
