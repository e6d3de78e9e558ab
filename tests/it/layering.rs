//! The code, held against the tables of `docs/architecture.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The table under a row of headings: the first column, and what is in backquotes in the second.
fn table(heading: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows =
        text.split(heading).nth(1).unwrap_or_else(|| panic!("no table {heading}")).lines().skip(1);
    let names =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.take_while(|row| row.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            (names(cells[1])[0].clone(), names(cells[2]).into_iter().collect())
        })
        .collect()
}

/// All source files, by their path from the root; comments and tests are left out.
pub(crate) fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code = code
                    .lines()
                    .map(|line| line.split("//").next().unwrap())
                    .collect::<Vec<_>>()
                    .join("\n");
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                // Not tests of the tree that a folder `tests` holds.
                if !path.contains("/tests/") {
                    found.push((path, code));
                }
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 20);
    found
}

/// The room of a file: `src/mail/domain.rs` is in `mail`.
fn room(path: &str) -> &str {
    path.strip_prefix("src/").unwrap().split('/').next().unwrap().trim_end_matches(".rs")
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first names behind each `crate::`, also those in braces.
fn used_rooms(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            used.insert(word(rest).to_owned());
            continue;
        };
        let (mut depth, mut at_start) = (0, true);
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && !c.is_whitespace() => {
                    used.insert(word(&group[index..]).to_owned());
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    used
}

#[test]
fn uses_are_found() {
    let code = "use crate::{\n  a::{b, c},\n  d,\n e::f as g,\n};\nuse crate::h::i; crate::j(x)";
    assert_eq!(used_rooms(code).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "h", "j"]);
}

/// The most lines of code of a file, without tests, comments and blank lines.
const MAX_LINES: usize = 400;

#[test]
fn no_file_is_too_long() {
    let lines = |code: &str| code.lines().filter(|line| !line.trim().is_empty()).count();
    let mut long: Vec<(String, usize)> =
        sources().into_iter().map(|(path, code)| (path, lines(&code))).collect();
    long.retain(|(_, lines)| *lines > MAX_LINES);
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn rooms_use_what_they_may() {
    let allowed = table("| room | may use |\n");
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let room = room(&path);
        if ["main", "lib"].contains(&room) {
            continue;
        }
        let may = allowed
            .get(room)
            .unwrap_or_else(|| panic!("{path}: docs/architecture.md has no room {room}"));
        for used in used_rooms(&code).into_iter().filter(|used| used != room && !may.contains(used))
        {
            wrong.push(format!("{path} uses {used}"));
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md does not allow: {wrong:#?}");
}

#[test]
fn the_table_of_rooms_is_that_of_the_crate() {
    let allowed = table("| room | may use |\n");
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|name| name.strip_suffix(';').map(str::to_owned))
        .collect();
    assert_eq!(allowed.keys().cloned().collect::<BTreeSet<_>>(), modules);
    // Downward only: a room that is used does not use back.
    let mut open: Vec<(&str, Vec<&str>)> =
        allowed.keys().map(|room| (room.as_str(), vec![room.as_str()])).collect();
    while let Some((room, way)) = open.pop() {
        for next in &allowed[room] {
            assert!(!way.contains(&next.as_str()), "the table has a circle: {way:?} {next}");
            open.push((next, [way.clone(), vec![next]].concat()));
        }
    }
}

#[test]
fn crates_are_named_in_their_places() {
    let places = table("| crate | is named in |\n");
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, places) in &places {
            let is_named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            }) || code.contains(&format!("use {name};"));
            let may = places.iter().any(|place| {
                path.strip_prefix(place.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
            });
            if is_named && !may {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md does not allow: {wrong:#?}");
}

#[test]
fn every_crate_has_its_place() {
    let places = table("| crate | is named in |\n");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies =
        manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let crates: BTreeSet<String> = dependencies
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    assert_eq!(places.into_keys().collect::<BTreeSet<_>>(), crates);
}
