//! The texts that packages contain beside the files of the tree, made of them.
//!
//! A text that does not have the form that is expected here makes the build of the package fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

/// What stands on top of the configuration of packages, instead of the sample's warning.
const DRY_RUN: &str = "\
# *** \"dry_run = yes\" BELOW: everything is verified and logged, nothing is refused and no message is changed. To put the decisions into
# *** force, look at the log for some days (dry-run=yes), then write \"dry_run = no\": SPF fail and permerror are then refused, for HELO
# *** too; after temperror the client must try again later.
#
# This is the sample with three lines set: socket (where Postfix in its chroot sees it), socket_mode and dry_run.
";

/// The lines of the sample that packages set.
const SETTINGS: [(&str, &str); 3] = [
    (
        "\nsocket = unix:/run/spf-milter/spf-milter.sock\n",
        "\nsocket = unix:/var/spool/postfix/spf-milter/spf-milter.sock\n",
    ),
    ("\n#socket_mode =\n", "\nsocket_mode = 0660\n"),
    ("\n#dry_run = no\n", "\ndry_run = yes\n"),
];

/// The configuration of packages: the sample (`etc/spf-milter.conf`) as a dry run, with the socket
/// that Postfix on Debian can see.
pub fn configuration(sample: &str) -> String {
    let start = sample.find("# *** WITHOUT").expect("no warning on top of the sample");
    let end = sample.find("#\n# Write one").expect("no end of the warning on top of the sample");
    let mut text = format!("{}{DRY_RUN}{}", &sample[..start], &sample[end..]);
    for (there, here) in SETTINGS {
        assert_eq!(text.matches(there).count(), 1, "{there} in the sample");
        text = text.replace(there, here);
    }
    text
}

/// Debian's changelog, made of ours: one entry for each version. `revision` is Debian's, such as
/// `1`; `date` makes the date of an entry (RFC 5322) of `2026-11-27`, or of nothing for the version
/// that is not released.
pub fn debian_changelog(
    changelog: &str,
    revision: &str,
    maintainer: &str,
    date: impl Fn(Option<&str>) -> String,
) -> String {
    let mut text = String::new();
    for section in changelog.split("\n## [").skip(1) {
        let (heading, rest) = section.split_once('\n').expect("a heading without a section");
        let (version, day) = heading.split_once("] - ").expect("a heading: [VERSION] - DATE");
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("spf-milter ({version}-{revision}) unstable; urgency=medium\n\n");
        for item in items(rest) {
            text += &item;
        }
        let day = (day != "unreleased").then_some(day);
        text += &format!("\n -- {maintainer}  {}\n", date(day));
    }
    assert!(!text.is_empty(), "no version in the changelog");
    text
}

/// The headings and items of a section, as Debian writes them, in lines of at most 78 characters.
fn items(section: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item: Option<String> = None;
    for line in section.lines().chain([""]) {
        if let (Some(item), Some(more)) = (&mut item, line.strip_prefix("  ")) {
            let separator = if more.starts_with("- ") { "; " } else { " " };
            *item += separator;
            *item += more.trim_start_matches("- ");
            continue;
        }
        items.extend(item.take().map(|item| wrapped(&item)));
        if let Some(text) = line.strip_prefix("- ") {
            item = Some(text.to_owned());
        } else if let Some(heading) = line.strip_prefix("### ") {
            items.push(format!("  [ {heading} ]\n"));
        }
    }
    items
}

fn wrapped(item: &str) -> String {
    let mut text = String::new();
    let mut line = "  *".to_owned();
    for word in item.split_whitespace() {
        if line.len() + 1 + word.len() > 78 {
            text += &line;
            text.push('\n');
            line = "   ".to_owned();
        }
        line.push(' ');
        line += word;
    }
    text + &line + "\n"
}

/// Licences of crates: the name, and its text or where Debian has it.
const LICENSES: [(&str, &str); 5] = [
    ("Apache-2.0", "On Debian systems the text is in /usr/share/common-licenses/Apache-2.0."),
    (
        "GPL-3.0-or-later",
        "This program is free software: you can redistribute it and/or modify it
under the terms of the GNU General Public License as published by the Free
Software Foundation, either version 3 of the License, or (at your option)
any later version.

This program is distributed in the hope that it will be useful, but WITHOUT
ANY WARRANTY; without even the implied warranty of MERCHANTABILITY or FITNESS
FOR A PARTICULAR PURPOSE. See the GNU General Public License for more
details.

On Debian systems the text is in /usr/share/common-licenses/GPL-3.",
    ),
    (
        "ISC",
        "Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY
AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM
LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR
OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE.",
    ),
    (
        "MIT",
        "Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the \"Software\"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in
all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.",
    ),
    (
        "Unicode-3.0",
        "Permission is hereby granted, free of charge, to any person obtaining a copy
of data files and any associated documentation (the \"Data Files\") or software
and any associated documentation (the \"Software\") to deal in the Data Files
or Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, and/or sell copies of the Data
Files or Software, and to permit persons to whom the Data Files or Software
are furnished to do so, provided that either (a) this copyright and
permission notice appear with all copies of the Data Files or Software, or
(b) this copyright and permission notice appear in associated Documentation.

THE DATA FILES AND SOFTWARE ARE PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY
KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF
THIRD PARTY RIGHTS.

IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN THIS NOTICE BE
LIABLE FOR ANY CLAIM, OR ANY SPECIAL INDIRECT OR CONSEQUENTIAL DAMAGES, OR
ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER
IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THE DATA FILES OR SOFTWARE.

Except as contained in this notice, the name of a copyright holder shall not
be used in advertising or otherwise to promote the sale, use or other
dealings in these Data Files or Software without prior written authorization
of the copyright holder.",
    ),
];

/// Debian's copyright file (DEP-5) for the program and the crates in it: `metadata` is of `cargo
/// metadata`, `crates` are their names and versions.
///
/// # Panics
///
/// When a crate has a licence whose text is not known here.
pub fn copyright(metadata: &Value, crates: &BTreeSet<(String, String)>) -> String {
    let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: spf-milter
Comment: The program contains the crates that are listed under vendor/ here.
 Of licenses to choose from, the one that is named here was chosen.

Files: *
Copyright: 2026 the maintainers of spf-milter
License: GPL-3.0-or-later
"
    .to_owned();
    let mut names = BTreeSet::from(["GPL-3.0-or-later".to_owned()]);
    let known: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| ((string(package, "name"), string(package, "version")), package))
        .collect();
    for (name, version) in crates.iter().filter(|(name, _)| name != "spf-milter") {
        let package = known[&(name.clone(), version.clone())];
        let licenses = chosen(&string(package, "license"));
        text += &format!("\nFiles: vendor/{name}-{version}/*\nCopyright:\n");
        let folder = string(package, "manifest_path");
        for notice in notices(Path::new(&folder).parent().unwrap(), package) {
            text += &format!(" {notice}\n");
        }
        text += &format!("License: {}\n", licenses.join(" and "));
        names.extend(licenses);
    }
    for name in names {
        let license = LICENSES.iter().find(|(known, _)| *known == name);
        let (_, license) = license.unwrap_or_else(|| panic!("no text of the license {name}"));
        text += &format!("\nLicense: {name}\n");
        for line in license.lines() {
            text += &format!(" {}\n", if line.is_empty() { "." } else { line });
        }
    }
    text
}

fn string(package: &Value, key: &str) -> String {
    package[key].as_str().unwrap_or_else(|| panic!("{}: no {key}", package["name"])).to_owned()
}

/// What applies of an SPDX expression: of alternatives one, MIT if it is among them.
fn chosen(expression: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in expression.split(" AND ") {
        let alternatives: Vec<_> = part
            .trim_matches(['(', ')'])
            .split(" OR ")
            .flat_map(|name| name.split('/'))
            .map(str::trim)
            .collect();
        let name = if alternatives.contains(&"MIT") { "MIT" } else { alternatives[0] };
        if !names.contains(&name.to_owned()) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Who has the rights: the notices in the licences of a crate, otherwise its authors.
fn notices(folder: &Path, package: &Value) -> BTreeSet<String> {
    let mut notices = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().to_uppercase();
        let is_license =
            ["LICENSE", "LICENCE", "COPYRIGHT", "NOTICE"].iter().any(|word| name.starts_with(word));
        if !is_license || !path.is_file() {
            continue;
        }
        for line in String::from_utf8_lossy(&fs::read(path).unwrap()).lines() {
            let line = line.trim().trim_start_matches("//").trim();
            // A notice has a year or the sign; other lines speak of copyright.
            let is_notice = line.starts_with("Copyright")
                && !line.contains(['[', '{'])
                && (line.contains("(c)")
                    || line.contains("(C)")
                    || line.contains('©')
                    || line.contains("20")
                    || line.contains("19"));
            if is_notice {
                notices.insert(line.to_owned());
            }
        }
    }
    if notices.is_empty() {
        let authors = package["authors"].as_array().into_iter().flatten();
        notices.extend(authors.filter_map(Value::as_str).map(str::to_owned));
    }
    if notices.is_empty() {
        notices.insert(format!("the authors of {}", string(package, "name")));
    }
    notices
}
